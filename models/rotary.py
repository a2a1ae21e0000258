"""Rotary position embeddings: a base, the share of a head that turns, and the scaling of frequencies.

Su et al., *RoFormer*, arXiv 2104.09864. The scalings have the names and parameters of Hugging Face's
``rope_type``, and their dataclasses have the file's own field names.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How a model's frequencies are changed for texts longer than those it was first trained on."""

    rope_type: ClassVar[str]

    @property
    def amplitude(self) -> float:
        """What cosine and sine are multiplied by."""
        return 1.0

    @property
    def switch(self) -> int | None:
        """The length of text, in tokens, beyond which the frequencies depend on the length."""
        return None

    @property
    def reach(self) -> int:
        """A context window that the scaling opens beyond the model's own, in tokens."""
        return 0

    def frequencies(self, theta: float, size: int, length: Any) -> Any:
        """Radians per position of each turning pair, [size / 2].

        :param theta: the base.
        :param size: features of a head that turn.
        :param length: tokens of the whole text, an integer or a traced scalar; read only by the scalings
            that have a :attr:`switch`.
        """
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class LinearRope(Scaling):
    """Position interpolation: every rotary frequency divided by one factor (Chen et al., arXiv 2306.15595)."""

    rope_type: ClassVar[str] = "linear"
    factor: float

    def frequencies(self, theta: float, size: int, length: Any) -> np.ndarray:
        return _plain(theta, size) / self.factor


@dataclasses.dataclass(frozen=True)
class DynamicRope(Scaling):
    """A base that grows with the text, once it is longer than the model's own window (NTK-aware)."""

    rope_type: ClassVar[str] = "dynamic"
    factor: float
    max_positions: int
    """The model's own window, ``max_position_embeddings``."""

    @property
    def switch(self) -> int:
        return self.max_positions

    @property
    def reach(self) -> int:
        return int(self.factor * self.max_positions)

    def frequencies(self, theta: float, size: int, length: Any) -> Any:
        numpy = np if isinstance(length, int) else jnp
        growth = self.factor * numpy.maximum(length, self.max_positions) / self.max_positions - (
            self.factor - 1
        )
        base = theta * growth ** (size / (size - 2))
        return base ** -(np.arange(0, size, 2) / size)


@dataclasses.dataclass(frozen=True)
class Llama3Rope(Scaling):
    """Llama 3.1's scaling: long wavelengths divided by ``factor``, short ones kept, a ramp between.

    With ``cycles`` the number of turns that a frequency makes in ``original_max_position_embeddings``,
    the kept share is ``clip((cycles - low) / (high - low), 0, 1)``.
    """

    rope_type: ClassVar[str] = "llama3"
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def frequencies(self, theta: float, size: int, length: Any) -> np.ndarray:
        plain = _plain(theta, size)
        cycles = self.original_max_position_embeddings * plain / (2 * math.pi)
        low, high = self.low_freq_factor, self.high_freq_factor
        kept = np.clip((cycles - low) / (high - low), 0.0, 1.0)
        return plain * (kept + (1.0 - kept) / self.factor)


@dataclasses.dataclass(frozen=True)
class YarnRope(Scaling):
    """YaRN (Peng et al., arXiv 2309.00071): interpolates the pairs that turn less than ``beta_slow`` times in
    the original window, keeps those that turn more than ``beta_fast`` times, and scales attention."""

    rope_type: ClassVar[str] = "yarn"
    factor: float
    original_max_position_embeddings: int
    attention_factor: float | None = None
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    @property
    def amplitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        scale = lambda m: 1.0 if self.factor <= 1 else 0.1 * m * math.log(self.factor) + 1.0
        if self.mscale and self.mscale_all_dim:
            return scale(self.mscale) / scale(self.mscale_all_dim)
        return scale(1.0)

    def frequencies(self, theta: float, size: int, length: Any) -> np.ndarray:
        plain = _plain(theta, size)

        def pair(turns: float) -> float:
            """The pair, as a real number, that makes so many turns in the original window."""
            return (
                size
                * math.log(self.original_max_position_embeddings / (turns * 2 * math.pi))
                / (2 * math.log(theta))
            )

        low, high = pair(self.beta_fast or 32.0), pair(self.beta_slow or 1.0)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, size - 1)
        # The reference's guard against a ramp of no width.
        ramp = np.clip((np.arange(size // 2) - low) / ((high - low) or 0.001), 0.0, 1.0)
        return plain * (1.0 - ramp) + plain / self.factor * ramp


@dataclasses.dataclass(frozen=True)
class LongRope(Scaling):
    """LongRoPE (Ding et al., arXiv 2402.13753): a divisor for each pair, one set for texts up to
    ``original_max_position_embeddings`` tokens and one for longer ones."""

    rope_type: ClassVar[str] = "longrope"
    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_max_position_embeddings: int
    factor: float
    attention_factor: float | None = None

    @property
    def amplitude(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.factor <= 1:
            return 1.0
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_max_position_embeddings))

    @property
    def switch(self) -> int:
        return self.original_max_position_embeddings

    def frequencies(self, theta: float, size: int, length: Any) -> Any:
        plain = _plain(theta, size)
        for name in ("short_factor", "long_factor"):
            if len(getattr(self, name)) != size // 2:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries; expected {size // 2}")
        short, long = plain / np.asarray(self.short_factor), plain / np.asarray(self.long_factor)
        if isinstance(length, int):
            return long if length > self.switch else short
        return jnp.where(length > self.switch, jnp.float32(long), jnp.float32(short))


SCALINGS: dict[str, type[Scaling]] = {
    cls.rope_type: cls for cls in (LinearRope, DynamicRope, Llama3Rope, YarnRope, LongRope)
}


@dataclasses.dataclass(frozen=True)
class Rope:
    """The rotary embedding of a layer.

    :param theta: base of the frequencies ``theta^(-2i / size)``.
    :param scaling: what is done to them for long texts, if anything.
    :param fraction: share of a head's features that turn; the rest carry no position.

        >>> Rope(theta=100.0).frequencies(head_dim=4).tolist()
        [1.0, 0.10000000149011612]
        >>> Rope(theta=100.0, scaling=LinearRope(factor=2.0)).frequencies(head_dim=4).tolist()
        [0.5, 0.05000000074505806]
    """

    theta: float = 10_000.0
    scaling: Scaling | None = None
    fraction: float = 1.0

    def size(self, head_dim: int) -> int:
        """Features of a head that turn."""
        return int(head_dim * self.fraction)

    def frequencies(
        self, head_dim: int, length: int | Int[Array, ""] = 0
    ) -> Float[Array | np.ndarray, " half"]:
        """Radians per position of each turning pair, float32 [size / 2]; in a text of so many tokens."""
        if self.scaling is None:
            return _plain(self.theta, self.size(head_dim)).astype(np.float32)
        return self.scaling.frequencies(self.theta, self.size(head_dim), length).astype(np.float32)

    def rotation(
        self, positions: Int[Array, " C"], head_dim: int, length: int | Int[Array, ""]
    ) -> tuple[Float[Array, "C half"], Float[Array, "C half"]]:
        """Cosine and sine of each token's angles.

        :param positions: position of each token in its text.
        :param head_dim: head size Y.
        :param length: tokens of the whole text.
        """
        angles = positions[:, None].astype(jnp.float32) * self.frequencies(head_dim, length)
        amplitude = 1.0 if self.scaling is None else self.scaling.amplitude
        cos, sin = jnp.cos(angles), jnp.sin(angles)
        return (cos, sin) if amplitude == 1.0 else (cos * amplitude, sin * amplitude)


def rotate(
    x: Float[Array, "C heads Y"], rotation: tuple[Float[Array, "C half"], Float[Array, "C half"]]
) -> Float[Array, "C heads Y"]:
    """Turns the pairs (i, i + size/2), Hugging Face's layout, and leaves the features beyond `size`."""
    cos, sin = (r[:, None] for r in rotation)
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin, rest], axis=-1)


def read_scaling(parameters: Mapping[str, Any], max_positions: int) -> tuple[Scaling | None, set[str]]:
    """The scaling that a file's rotary parameters ask for, and the names of those it read.

    :param parameters: what ``rope_scaling`` or ``rope_parameters`` holds.
    :param max_positions: the model's context window, which stands in for what the file leaves out.
    :raises ValueError: naming the ``rope_type`` or the missing field.
    """
    rope_type = parameters.get("rope_type", parameters.get("type", "default"))
    if rope_type == "default":
        return None, set()
    if rope_type not in SCALINGS:
        supported = ", ".join(repr(name) for name in ("default", *SCALINGS))
        raise ValueError(f"rope_type is {rope_type!r}; supported: {supported}")
    cls = SCALINGS[rope_type]
    original = parameters.get("original_max_position_embeddings")
    values: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        value = max_positions if field.name == "max_positions" else parameters.get(field.name)
        if value is None and field.name == "original_max_position_embeddings":
            value = max_positions
        if value is None and field.name == "factor" and cls in (YarnRope, LongRope):
            value = max_positions / (original or max_positions)
        if value is None and field.default is dataclasses.MISSING:
            raise ValueError(f"the {rope_type} rope scaling lacks {field.name!r}")
        if value is not None:
            values[field.name] = tuple(map(float, value)) if isinstance(value, list | tuple) else value
    return cls(**values), {field.name for field in dataclasses.fields(cls)} - {"max_positions"}


def write_scaling(scaling: Scaling) -> dict[str, Any]:
    """The ``rope_scaling`` of a file; the inverse of :func:`read_scaling`."""
    values = dataclasses.asdict(scaling)
    values.pop("max_positions", None)
    return {"rope_type": scaling.rope_type, **{k: v for k, v in values.items() if v is not None}}


def _plain(theta: float, size: int) -> np.ndarray:
    return np.float64(theta) ** -(np.arange(0, size, 2) / size)
