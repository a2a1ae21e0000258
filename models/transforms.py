"""Changes to a next-token distribution: temperature, top-k, top-p, min-p."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sentax.ppl.pytree import pytree


class Transform(Protocol):
    """A pytree that maps logits to logits, both unnormalised log-probabilities of one particle.

    Impossible tokens (`-inf`) stay impossible and NaN stays NaN, so that a broken model is still seen.
    """

    def __call__(self, logits: Float[Array, " V"]) -> Float[Array, " V"]: ...


@pytree
@dataclasses.dataclass(frozen=True)
class Temperature:
    """Log-probabilities divided by `value`; see :meth:`LanguageModelMethods.temperature`."""

    value: Float[Array, ""] | float

    def __post_init__(self) -> None:
        _check("temperature", self.value, lambda t: 0.0 < t < np.inf, "above 0; top_k(1) is the greedy choice")

    def __call__(self, logits: Float[Array, " V"]) -> Float[Array, " V"]:
        # From the peak: a low temperature must not overflow logits that are merely large.
        peak = jnp.max(logits)
        possible = ~jnp.isneginf(logits)
        # The inner `where` keeps 0 * inf out of the gradient with respect to the temperature.
        return jnp.where(possible, jnp.where(possible, logits - peak, 0.0) / self.value, -jnp.inf)


@pytree
@dataclasses.dataclass(frozen=True)
class TopK:
    """The `k` most probable tokens; see :meth:`LanguageModelMethods.top_k`.

    >>> import jax.numpy as jnp
    >>> TopK(2)(jnp.array([1.0, 3.0, 2.0, 2.0])).tolist()
    [-inf, 3.0, 2.0, 2.0]
    """

    k: Int[Array, ""] | int

    def __post_init__(self) -> None:
        _check("top_k", self.k, lambda k: k >= 1 and k == int(k), "an integer of at least 1")

    def __call__(self, logits: Float[Array, " V"]) -> Float[Array, " V"]:
        # float32 counts are exact below 2**24, and their sum is six times as fast as an integer one.
        def enough(threshold: Float[Array, ""]) -> Bool[Array, ""]:
            return jnp.sum(jnp.where(logits > threshold, 1.0, 0.0)) < self.k

        return _at_least(logits, logits, enough)


@pytree
@dataclasses.dataclass(frozen=True)
class TopP:
    """The nucleus of mass `p`; see :meth:`LanguageModelMethods.top_p`.

    >>> import jax.numpy as jnp
    >>> TopP(0.6)(jnp.log(jnp.array([0.5, 0.1, 0.2, 0.2]))).round(2).tolist()
    [-0.6..., -inf, -1.6..., -1.6...]
    """

    p: Float[Array, ""] | float

    def __post_init__(self) -> None:
        _check("top_p", self.p, lambda p: 0.0 < p <= 1.0, "above 0 and at most 1")

    def __call__(self, logits: Float[Array, " V"]) -> Float[Array, " V"]:
        peak = jnp.max(logits)
        mass = jnp.exp(logits - jnp.where(jnp.isneginf(peak), 0.0, peak))
        target = self.p * jnp.sum(mass)

        def enough(threshold: Float[Array, ""]) -> Bool[Array, ""]:
            return jnp.sum(jnp.where(mass > threshold, mass, 0.0)) < target

        # At p = 1 rounding would drop the far tail.
        return jnp.where(jnp.asarray(self.p) >= 1.0, logits, _at_least(logits, mass, enough))


@pytree
@dataclasses.dataclass(frozen=True)
class MinP:
    """Tokens not much less probable than the mode; see :meth:`LanguageModelMethods.min_p`.

    >>> import jax.numpy as jnp
    >>> MinP(0.3)(jnp.log(jnp.array([0.5, 0.1, 0.2, 0.2]))).round(2).tolist()
    [-0.6..., -inf, -1.6..., -1.6...]
    """

    p: Float[Array, ""] | float

    def __post_init__(self) -> None:
        _check("min_p", self.p, lambda p: 0.0 <= p <= 1.0, "between 0 and 1")

    def __call__(self, logits: Float[Array, " V"]) -> Float[Array, " V"]:
        return jnp.where(logits < jnp.max(logits) + jnp.log(self.p), -jnp.inf, logits)


def _at_least(
    logits: Float[Array, " V"], keys: Float[Array, " V"], enough: Callable[[Array], Array]
) -> Float[Array, " V"]:
    """The logits of the tokens whose key reaches the least threshold at which `enough` holds.

    `enough(t)` looks at the tokens with a key above `t`, is monotone in `t`, and holds at the largest
    key. Bisection over the bits of the threshold, which are ordered as float32 numbers are: at most 32
    passes of compare and sum, exact, and 30 times as fast as a sort at V = 32,000.
    """

    def step(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low >> 1) + (high >> 1) + (low & high & 1)  # the sum of two int32 may overflow
        holds = enough(_from_order(middle))
        return jnp.where(holds, low, middle), jnp.where(holds, middle, high)

    start = _order(jnp.float32(-jnp.inf)), _order(jnp.max(keys))
    _, threshold = lax.while_loop(lambda bounds: bounds[0] + 1 < bounds[1], step, start)
    # Not `keys >= threshold`: a comparison with NaN is false.
    return jnp.where(keys < _from_order(threshold), -jnp.inf, logits)


def _order(x: Float[Array, ""]) -> Int[Array, ""]:
    """Integers in the order of float32 numbers."""
    bits = lax.bitcast_convert_type(x, jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _from_order(key: Int[Array, ""]) -> Float[Array, ""]:
    return lax.bitcast_convert_type(jnp.where(key < 0, key ^ 0x7FFFFFFF, key), jnp.float32)


def _check(name: str, value: Any, holds: Callable[[Any], bool], expected: str) -> None:
    """Refuses a number out of range. Arrays pass: they may be traced, and JAX rebuilds pytrees all the time."""
    if isinstance(value, int | float | np.generic) and not holds(value):
        raise ValueError(f"{name} must be {expected}, got {value}")


__all__ = ["MinP", "Temperature", "TopK", "TopP", "Transform"]
