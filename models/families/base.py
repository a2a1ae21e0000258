"""What a family declares: where a decoder's settings stand in config.json, and its tensors in the files."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from sentax.models.config import Activation, DecoderConfig
from sentax.models.families.fields import HARMLESS, OFF, REQUIRED, Fields

_ACTIVATIONS = {
    "silu": Activation.SILU,
    "swish": Activation.SILU,
    "gelu": Activation.GELU,
    "gelu_python": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "relu": Activation.RELU,
}


def activation(value: Any) -> Activation:
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        raise ValueError(", ".join(map(repr, _ACTIVATIONS)))
    return _ACTIVATIONS[value]


def count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError("a positive whole number")
    return value


def number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError("a number")
    return float(value)


def flag(value: Any) -> bool:
    if value not in (True, False, None):
        raise ValueError("true or false")
    return bool(value)


class Use(NamedTuple):
    """A field of config.json that sets a field of :class:`~sentax.models.config.DecoderConfig`."""

    to: str | tuple[str, ...]
    default: Any = REQUIRED
    """What transformers' class takes where the file lacks the field."""
    read: Callable[[Any], Any] = count
    """From the file's value to ours; its ValueError says what is supported."""
    nullable: bool = False
    """Whether null has a meaning although it is not the default. Where it is the default, it has."""


class Stored(NamedTuple):
    """Where a module's weight and bias stand in the files.

    :param name: the module's name in the file, with ``{}`` for the number of the layer.
    :param rows: which output features of a fused tensor are this module's; None: all.
    :param transposed: whether the weight is stored [in, out].
    """

    name: str
    rows: Callable[[DecoderConfig], np.ndarray] | None = None
    transposed: bool = False


@dataclasses.dataclass(frozen=True)
class Family:
    """One ``model_type``.

    :param model_type: as the file says it.
    :param members: models that people know it by.
    :param fields: fields of config.json, each setting one of the decoder's.
    :param derive: the settings that take more than one field, those of the single layers above all, given the
        settings so far.
    :param names: from a module of the decoder to its name in the files.
    :param fixed: settings that all members share.
    :param off: fields that must have one of these values, the default first.
    :param harmless: fields that no output depends on, and why.
    :param aliases: rewrites of tensors' names, as pattern and replacement, for files written by others.
    :param unread: tensors that no decoder reads, as a pattern.
    """

    model_type: str
    members: str
    fields: Mapping[str, Use]
    derive: Callable[[Fields, Mapping[str, Any]], Mapping[str, Any]]
    names: Mapping[str, str | Stored]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    off: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    harmless: Mapping[str, str] = dataclasses.field(default_factory=dict)
    aliases: tuple[tuple[str, str], ...] = ()
    unread: str | None = None
    nested: str | None = None
    """Where the file of a larger model keeps the text model's fields."""

    def read(self, raw: Mapping[str, Any], ignore_fields: Collection[str] = ()) -> DecoderConfig:
        """The decoder that a parsed config.json describes.

        :raises ValueError: naming every field at fault.
        """
        if self.nested is not None:
            raw = self._unwrap(Fields(raw, ignore_fields), self.nested)
        fields = Fields(raw, ignore_fields)
        values: dict[str, Any] = {"family": self.model_type, **self.fixed}
        for name, use in self.fields.items():
            value = _value(fields, name, use)
            values.update(dict.fromkeys((use.to,) if isinstance(use.to, str) else use.to, value))
        for name, expected in {**OFF, **self.off}.items():
            fields.expect(name, *expected)
        fields.check()
        values.update(self.derive(fields, values))
        self._account(fields)
        return DecoderConfig(**values)

    def _unwrap(self, outer: Fields, nested: str) -> dict[str, Any]:
        inner = outer.take(nested)
        for name, expected in OFF.items():
            outer.expect(name, *expected)
        # The class around the text model is the one that ties its head.
        tied = outer.take("tie_word_embeddings", default=True)
        self._account(outer)
        return {**inner, "tie_word_embeddings": tied}

    def _account(self, fields: Fields) -> None:
        unknown = [name for name in fields.unread() if name not in HARMLESS and name not in self.harmless]
        for name in unknown:
            fields.fault(name, f"no such field in the {self.model_type} family")
        if unknown:
            fields.faults.append(f"pass ignore_fields={unknown!r} if no output depends on them")
        fields.check()


def _value(fields: Fields, name: str, use: Use) -> Any:
    value = fields.take(name, use.default)
    if value is None and use.default is REQUIRED:
        fields.faults.append(f"the config lacks {name}")
        return None
    if value is None and (use.nullable or use.default is None):
        return None
    try:
        return use.read(value)
    except ValueError as error:
        fields.fault(name, str(error))
        return None


SIZES: dict[str, Use] = {
    "vocab_size": Use("vocab_size"),
    "hidden_size": Use("hidden_size"),
    "intermediate_size": Use("intermediate_size"),
    "num_hidden_layers": Use("num_layers"),
    "num_attention_heads": Use("num_heads"),
    "num_key_value_heads": Use("num_kv_heads", None),
    "max_position_embeddings": Use("max_positions", 2048),
}
"""The sizes that most families name alike; a missing one that has no default is an error."""

GATED: dict[str, Use] = {
    "hidden_act": Use("activation", "silu", activation),
    "rms_norm_eps": Use("norm_eps", 1e-6, number),
    "tie_word_embeddings": Use("tie_embeddings", False, flag),
}

NAMES: dict[str, str | Stored] = {
    "embed_tokens": "model.embed_tokens",
    "layers.{}.pre_attention_norm": "model.layers.{}.input_layernorm",
    "layers.{}.self_attn.q_proj": "model.layers.{}.self_attn.q_proj",
    "layers.{}.self_attn.k_proj": "model.layers.{}.self_attn.k_proj",
    "layers.{}.self_attn.v_proj": "model.layers.{}.self_attn.v_proj",
    "layers.{}.self_attn.o_proj": "model.layers.{}.self_attn.o_proj",
    "layers.{}.pre_feedforward_norm": "model.layers.{}.post_attention_layernorm",
    "layers.{}.mlp.gate_proj": "model.layers.{}.mlp.gate_proj",
    "layers.{}.mlp.up_proj": "model.layers.{}.mlp.up_proj",
    "layers.{}.mlp.down_proj": "model.layers.{}.mlp.down_proj",
    "norm": "model.norm",
    "lm_head": "lm_head",
}
"""Llama's names, which most families share."""

QK_NAMES: dict[str, str | Stored] = {
    f"layers.{{}}.self_attn.{x}_norm": f"model.layers.{{}}.self_attn.{x}_norm" for x in "qk"
}
"""The norms of queries and keys."""
