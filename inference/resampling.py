r"""Resampling schemes: `(rng_key, log_weights [N]) -> ancestors [N]`.

Law: :math:`E[\#\{i : a_i = j\}] = N w_j / \sum w`, and a particle of weight zero is never chosen.
The second half is work: `searchsorted(cumsum(w), u)` meets dead particles at the float32 edges (a `u`
that rounds up to the sum lands behind the last living one). Here whoever is met gives way to the
last living particle before it.

See Douc, Cappé and Moulines 2005, "Comparison of resampling schemes for particle filtering".
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax, random
from jaxtyping import Array, Float, Int

from sentax.ppl.uniform import open_uniform

Resampler = Callable[[Array, Float[Array, " N"]], Int[Array, " N"]]


def systematic(rng_key: Array, log_weights: Float[Array, " N"]) -> Int[Array, " N"]:
    """One uniform for all: least noise; offspring numbers within one of `N w`. The default.

    >>> import jax
    >>> systematic(jax.random.key(0), jnp.log(jnp.array([0.5, 0., 0.5, 0.]))).tolist()
    [0, 0, 2, 2]
    """
    N = log_weights.shape[0]
    return _invert(log_weights, (jnp.arange(N) + open_uniform(rng_key)) / N)


def stratified(rng_key: Array, log_weights: Float[Array, " N"]) -> Int[Array, " N"]:
    """A uniform for each of N equal strata."""
    N = log_weights.shape[0]
    return _invert(log_weights, (jnp.arange(N) + open_uniform(rng_key, (N,))) / N)


def multinomial(rng_key: Array, log_weights: Float[Array, " N"]) -> Int[Array, " N"]:
    """N independent draws: most noise; simplest to reason about."""
    return _invert(log_weights, jnp.sort(open_uniform(rng_key, log_weights.shape)))


def residual(rng_key: Array, log_weights: Float[Array, " N"]) -> Int[Array, " N"]:
    """`floor(N w)` copies for certain, the rest multinomially from what is left over."""
    N = log_weights.shape[0]
    expected = N * _normalise(log_weights)
    copies = jnp.floor(expected)
    left = jnp.maximum(expected - copies, 0.0)
    certain = jnp.repeat(jnp.arange(N), copies.astype(jnp.int32), total_repeat_length=N)
    num_certain = copies.sum().astype(jnp.int32)
    # Where nothing is left over, `certain` is complete and these draws go unused.
    log_left = jnp.log(jnp.where(left.sum() > 0, left, expected))
    drawn = _invert(log_left, random.permutation(rng_key, jnp.sort(open_uniform(rng_key, (N,)))))
    return jnp.where(jnp.arange(N) < num_certain, certain, drawn).astype(jnp.int32)


def _normalise(log_weights: Float[Array, " N"]) -> Float[Array, " N"]:
    w = jnp.exp(log_weights - jnp.max(log_weights))
    return w / w.sum()


def _invert(log_weights: Float[Array, " N"], u: Float[Array, " N"]) -> Int[Array, " N"]:
    w = _normalise(log_weights)
    cumulative = jnp.cumsum(w)
    chosen = jnp.searchsorted(cumulative / cumulative[-1], u, side="right")
    # A parallel prefix sum is not monotone to the last bit, and u may round up to the end: whoever
    # was met, the offspring is that of the last living particle up to there (or of the first one).
    living = jnp.where(w > 0, jnp.arange(w.shape[0]), -1)
    chosen = lax.cummax(living)[jnp.minimum(chosen, w.shape[0] - 1)]
    return jnp.where(chosen < 0, jnp.argmax(w > 0), chosen).astype(jnp.int32)


__all__ = ["Resampler", "multinomial", "residual", "stratified", "systematic"]
