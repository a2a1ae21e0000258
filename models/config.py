"""The shape of a decoder: everything about it that is static, whatever family it comes from."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Collection, Mapping
from typing import Any

from sentax.models.rotary import Rope, write_scaling


class Norm(enum.Enum):
    """The normalisation in front of, or behind, a residual branch."""

    RMS = "root mean square"
    RMS_OFFSET = "root mean square, the weight stored minus one"
    LAYER = "mean and variance, with a bias"


class QKNorm(enum.Enum):
    """The RMS norm of queries and keys."""

    NONE = "none"
    HEAD = "of each head"
    WHOLE = "of all heads together"


class Activation(enum.Enum):
    """The nonlinearity of the feed-forward layer."""

    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu, by the tanh approximation"
    RELU = "relu"


@dataclasses.dataclass(frozen=True)
class LayerSpec:
    """What may differ from layer to layer.

    :param window: a token sees so many tokens, itself included; None: all before it.
    :param rope: the rotary embedding, None for none.
    :param attention_scale: what scores are multiplied by; ``head_dim ** -0.5`` unless given.
    """

    window: int | None = None
    rope: Rope | None = Rope()  # noqa: RUF009 (frozen)
    attention_scale: float | None = None


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The static shape of a :class:`~sentax.models.decoder.Decoder`; hashable, so it may key a jit cache.

    The defaults are Llama's.

    :param vocab_size: rows V of the embedding, padding rows included.
    :param hidden_size: width D of the residual stream.
    :param intermediate_size: width of the feed-forward layer.
    :param num_layers: decoder blocks.
    :param num_heads: query heads H.
    :param num_kv_heads: key-value heads K, a divisor of `num_heads`; as many as `num_heads` unless given.
    :param head_dim: head size Y; ``hidden_size // num_heads`` unless given.
    :param layers: a :class:`LayerSpec` for each block; all as by default unless given.
    :param max_positions: the context window in tokens.
    :param rope_length: take the rotary factors of a text of so many tokens, whatever its length. None: those of
        the text's own length, for the scalings that have several sets (see :meth:`with_window`).
    :param learned_positions: rows of a trained embedding of positions, None for none.
    :param norm: which normalisation.
    :param norm_eps: added to the mean square or variance.
    :param pre_norm: normalise what enters a residual branch.
    :param post_norm: normalise what leaves it.
    :param qk_norm: normalise queries and keys.
    :param parallel: attention and feed-forward read the same input and are added together.
    :param activation: of the feed-forward layer.
    :param gated: ``down(act(gate(x)) * up(x))`` rather than ``down(act(up(x)))``.
    :param qkv_bias: biases on the query, key and value projections.
    :param o_bias: a bias on attention's output projection.
    :param mlp_bias: biases on the feed-forward projections.
    :param tie_embeddings: whether the head is the embedding itself.
    :param embedding_scale: what embedded tokens are multiplied by.
    :param embedding_scale_rounded: round that factor to the parameters' dtype first, as Gemma was trained.
    :param residual_scale: what a residual branch is multiplied by before it is added.
    :param logit_scale: what logits are multiplied by.
    :param attention_softcap: ``c`` in ``c tanh(score / c)``, if any.
    :param logit_softcap: the same for logits.
    :param family: the declared family whose names the checkpoint has.
    :raises ValueError: for sizes that do not fit together.

        >>> config = DecoderConfig(
        ...     vocab_size=64, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4
        ... )
        >>> config.num_kv_heads, config.head_dim, len(config.layers)
        (4, 8, 2)
        >>> DecoderConfig.from_hf(config.to_hf()) == config
        True
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int = None  # type: ignore[assignment]  # filled in below
    head_dim: int = None  # type: ignore[assignment]
    layers: tuple[LayerSpec, ...] = ()
    max_positions: int = 2048
    rope_length: int | None = None
    learned_positions: int | None = None
    norm: Norm = Norm.RMS
    norm_eps: float = 1e-5
    pre_norm: bool = True
    post_norm: bool = False
    qk_norm: QKNorm = QKNorm.NONE
    parallel: bool = False
    activation: Activation = Activation.SILU
    gated: bool = True
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    tie_embeddings: bool = True
    embedding_scale: float = 1.0
    embedding_scale_rounded: bool = False
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    family: str = "llama"

    def __post_init__(self) -> None:
        if self.num_kv_heads is None:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        if self.head_dim is None:
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_heads)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{field.name} must be a positive integer, got {value!r}")
        if not self.layers:
            object.__setattr__(self, "layers", (LayerSpec(),) * self.num_layers)
        if len(self.layers) != self.num_layers:
            raise ValueError(f"layers describes {len(self.layers)} layers, num_layers is {self.num_layers}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads ({self.num_kv_heads})"
            )
        for layer in self.layers:
            if layer.rope is not None and (size := layer.rope.size(self.head_dim)) % 2:
                raise ValueError(
                    f"head_dim ({self.head_dim}) must be even, got {size} features to turn: "
                    "rotary embeddings turn pairs"
                )
            if layer.window is not None and (type(layer.window) is not int or layer.window < 1):
                raise ValueError(
                    f"sliding_window is {layer.window!r}; supported: a positive whole number, or null"
                )

    def __hash__(self) -> int:
        # A key of every jit cache it passes: cheap, and equality tells apart what the sizes do not.
        return hash((self.family, self.vocab_size, self.hidden_size, self.num_layers, self.max_positions))

    def scale(self, layer: int) -> float:
        """What the attention scores of a layer are multiplied by."""
        scale = self.layers[layer].attention_scale
        return self.head_dim**-0.5 if scale is None else scale

    @property
    def rope_switch(self) -> int | None:
        """The length of text beyond which the rotary factors change, if they do and are not fixed."""
        if self.rope_length is not None:
            return None
        scalings = [layer.rope.scaling for layer in self.layers if layer.rope and layer.rope.scaling]
        return min((s.switch for s in scalings if s.switch is not None), default=None)

    def check_window(self, num_tokens: int, start: int = 0) -> None:
        """Raises ValueError if a text of so many tokens does not fit in the context window.

        :param num_tokens: the length of the text.
        :param start: how many of them are in a cache already. Keys in a cache were turned by the factors
            of a shorter text: where the two lengths have different factors, the cache is void.
        """
        if num_tokens > self.max_positions:
            raise ValueError(
                f"{num_tokens} tokens do not fit in the model's context window of {self.max_positions}"
            )
        switch = self.rope_switch
        if switch is not None and 0 < start <= switch < num_tokens:
            raise ValueError(
                f"a text of {start} tokens cannot grow to {num_tokens}: beyond {switch} tokens this model has "
                f"other rotary factors. Stay within {switch}, or fix the factors with "
                f"load(..., context_window={num_tokens})"
            )

    def with_window(self, context_window: int) -> DecoderConfig:
        """The same decoder for texts up to a given length.

        A model with length-dependent rotary factors (LongRoPE, dynamic NTK) then uses those of this length
        for every text, so that a text may grow across the border.

        :param context_window: the longest text, in tokens; at most the model's own window, or the longer one
            that its rotary scaling opens.
        :raises ValueError: if the model has no such window.
        """
        reach = [layer.rope.scaling.reach for layer in self.layers if layer.rope and layer.rope.scaling]
        longest = max([self.max_positions, *reach])
        if not 1 <= context_window <= longest:
            raise ValueError(f"context_window is {context_window}; this model has 1 to {longest}")
        length = context_window if self.rope_switch is not None else None
        return dataclasses.replace(self, max_positions=context_window, rope_length=length)

    @classmethod
    def from_hf(cls, config: Mapping[str, Any], *, ignore_fields: Collection[str] = ()) -> DecoderConfig:
        """Reads a parsed ``config.json`` of any of the :data:`~sentax.models.families.FAMILIES`.

        Both spellings of the rotary parameters are read: ``rope_parameters`` (transformers 5) and
        ``rope_theta`` with ``rope_scaling`` (most files on the hub).

        :param config: the parsed file.
        :param ignore_fields: names of fields to pass over, unread.
        :raises ValueError: naming every field that is missing, unknown, or asks for what the decoder does
            not do.
        """
        from sentax.models.families import read_config  # the families are written in terms of this class

        return read_config(config, ignore_fields=ignore_fields)

    def to_hf(self) -> dict[str, Any]:
        """A ``config.json`` that transformers 4 and 5 load as ``LlamaForCausalLM``.

        :raises ValueError: if this is no Llama.
        """
        rope = self.layers[0].rope or Rope()
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.norm_eps,
            "rope_theta": rope.theta,
            "rope_scaling": None if rope.scaling is None else write_scaling(rope.scaling),
            "tie_word_embeddings": self.tie_embeddings,
            "attention_bias": self.qkv_bias,
            "mlp_bias": self.mlp_bias,
            "max_position_embeddings": self.max_positions,
        }
        written = DecoderConfig.from_hf(config)
        if lost := [
            f.name for f in dataclasses.fields(self) if getattr(self, f.name) != getattr(written, f.name)
        ]:
            raise ValueError(f"a Llama file cannot say what this config does: {', '.join(lost)}")
        return config
