"""The shape of a decoder, read from and written to a Hugging Face ``config.json``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np


@dataclasses.dataclass(frozen=True)
class LinearRope:
    """Position interpolation: every rotary frequency divided by one factor."""

    rope_type: ClassVar[str] = "linear"
    factor: float

    def scale(self, frequencies: np.ndarray) -> np.ndarray:
        return frequencies / self.factor

    @classmethod
    def from_hf(cls, scaling: Mapping[str, Any], max_positions: int) -> LinearRope:
        return cls(float(scaling["factor"]))

    def to_hf(self) -> dict[str, Any]:
        return {"rope_type": self.rope_type, "factor": self.factor}


@dataclasses.dataclass(frozen=True)
class Llama3Rope:
    """Llama 3.1's scaling: long wavelengths divided by ``factor``, short ones kept, a ramp between.

    With ``cycles`` the number of turns that a frequency makes in ``original_max_positions``,
    the kept share is ``clip((cycles - low) / (high - low), 0, 1)``.
    """

    rope_type: ClassVar[str] = "llama3"
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int

    def scale(self, frequencies: np.ndarray) -> np.ndarray:
        cycles = self.original_max_positions * frequencies / (2 * math.pi)
        low, high = self.low_freq_factor, self.high_freq_factor
        kept = np.clip((cycles - low) / (high - low), 0.0, 1.0)
        return frequencies * (kept + (1.0 - kept) / self.factor)

    @classmethod
    def from_hf(cls, scaling: Mapping[str, Any], max_positions: int) -> Llama3Rope:
        return cls(
            float(scaling["factor"]),
            float(scaling["low_freq_factor"]),
            float(scaling["high_freq_factor"]),
            int(scaling.get("original_max_position_embeddings") or max_positions),
        )

    def to_hf(self) -> dict[str, Any]:
        return {
            "rope_type": self.rope_type,
            "factor": self.factor,
            "low_freq_factor": self.low_freq_factor,
            "high_freq_factor": self.high_freq_factor,
            "original_max_position_embeddings": self.original_max_positions,
        }


RopeScaling = LinearRope | Llama3Rope

_ROPE_SCALINGS: dict[str, type[LinearRope] | type[Llama3Rope]] = {
    cls.rope_type: cls for cls in (LinearRope, Llama3Rope)
}

# What a Llama-family file may say that this decoder does not do: the field, and the values that mean "off".
_OFF: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "quantization_config": (None,),
    "sliding_window": (None,),
    "partial_rotary_factor": (None, 1.0),
}


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """The static shape of a :class:`~sentax.models.decoder.Decoder`; hashable, so it may key a jit cache.

    :param vocab_size: rows of the embedding, padding rows included.
    :param hidden_size: width D of the residual stream.
    :param intermediate_size: width of the gated feed-forward layer.
    :param num_layers: decoder blocks.
    :param num_heads: query heads H.
    :param num_kv_heads: key-value heads K, a divisor of `num_heads`; as many as `num_heads` unless given.
    :param head_dim: head size Y; ``hidden_size // num_heads`` unless given.
    :param norm_eps: added to the mean square in every RMS norm.
    :param rope_theta: base of the rotary frequencies.
    :param rope_scaling: :class:`LinearRope`, :class:`Llama3Rope` or None.
    :param tie_embeddings: whether the head is the embedding itself.
    :param attention_bias: biases on the four attention projections.
    :param mlp_bias: biases on the three feed-forward projections.
    :param max_positions: the context window in tokens.
    :raises ValueError: for sizes that do not fit together.

        >>> config = DecoderConfig(
        ...     vocab_size=64, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4
        ... )
        >>> config.num_kv_heads, config.head_dim
        (4, 8)
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
    norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    tie_embeddings: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    max_positions: int = 2048

    def __post_init__(self) -> None:
        if self.num_kv_heads is None:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        if self.head_dim is None:
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_heads)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and value < 1:
                raise ValueError(f"{field.name} must be positive, got {value}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) is not a multiple of num_kv_heads ({self.num_kv_heads})"
            )
        if self.head_dim % 2:
            raise ValueError(f"head_dim ({self.head_dim}) must be even: rotary embeddings turn pairs")

    @property
    def rope_frequencies(self) -> np.ndarray:
        """Radians per position of each rotary pair, float32 [Y / 2]."""
        exponents = np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim
        frequencies = self.rope_theta**-exponents
        if self.rope_scaling is not None:
            frequencies = self.rope_scaling.scale(frequencies)
        return frequencies.astype(np.float32)

    def check_window(self, num_tokens: int) -> None:
        """Raises ValueError if a text of so many tokens does not fit in the context window."""
        if num_tokens > self.max_positions:
            raise ValueError(
                f"{num_tokens} tokens do not fit in the model's context window of {self.max_positions}"
            )

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> DecoderConfig:
        """Reads a parsed ``config.json`` of the Llama family.

        Both spellings of the rotary parameters are read: ``rope_parameters`` (transformers 5) and
        ``rope_theta`` with ``rope_scaling`` (most files on the hub).

        :param config: the parsed file.
        :raises ValueError: for a field that is missing, or asks for what the decoder does not do.
        """
        family = config.get("model_type")
        if family != "llama":
            raise ValueError(f"model_type is {family!r}; supported: 'llama'")
        for field, off in _OFF.items():
            if config.get(field, off[0]) not in off:
                raise ValueError(f"{field} is {config[field]!r}; supported: {off[0]!r}")
        sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        if missing := [field for field in sizes if config.get(field) is None]:
            raise ValueError(f"the config lacks {', '.join(missing)}")
        max_positions = int(config.get("max_position_embeddings", 2048))
        theta, scaling = _rope_from_hf(config, max_positions)
        return cls(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            num_kv_heads=config.get("num_key_value_heads") or config["num_attention_heads"],
            head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
            norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            rope_theta=theta,
            rope_scaling=scaling,
            tie_embeddings=bool(config.get("tie_word_embeddings", False)),
            attention_bias=bool(config.get("attention_bias", False)),
            mlp_bias=bool(config.get("mlp_bias", False)),
            max_positions=max_positions,
        )

    def to_hf(self) -> dict[str, Any]:
        """A ``config.json`` that transformers 4 and 5 load as ``LlamaForCausalLM``."""
        return {
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
            "rope_theta": self.rope_theta,
            "rope_scaling": None if self.rope_scaling is None else self.rope_scaling.to_hf(),
            "tie_word_embeddings": self.tie_embeddings,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "max_position_embeddings": self.max_positions,
        }


def _rope_from_hf(config: Mapping[str, Any], max_positions: int) -> tuple[float, RopeScaling | None]:
    # The precedence of transformers 5: the legacy `rope_scaling` wins where a file has both.
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    theta = float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    rope_type = rope.get("rope_type", rope.get("type", "default"))
    if rope.get("partial_rotary_factor", 1.0) not in _OFF["partial_rotary_factor"]:
        raise ValueError(f"partial_rotary_factor is {rope['partial_rotary_factor']!r}; supported: 1.0")
    if rope_type == "default":
        return theta, None
    if rope_type not in _ROPE_SCALINGS:
        supported = ", ".join(repr(name) for name in ("default", *_ROPE_SCALINGS))
        raise ValueError(f"rope_type is {rope_type!r}; supported: {supported}")
    try:
        return theta, _ROPE_SCALINGS[rope_type].from_hf(rope, max_positions)
    except KeyError as error:
        raise ValueError(f"the {rope_type} rope scaling lacks {error.args[0]!r}") from None
