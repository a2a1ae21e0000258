"""Uniform numbers for races: JAX's own generator, unrolled, so that it fuses into what consumes it."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import random
from jaxtyping import Array, Float, Int

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
# Streams lie apart from the counters that `jax.random.fold_in` and `split` use under the same key.
_STREAMS = 0x80000000


def threefry(key: tuple[Any, Any], high: Array, low: Array) -> tuple[Array, Array]:
    """Threefry-2x32, 20 rounds (Salmon et al. 2011): two random words from two counter words.

    `jax.random` lowers it to a loop over arrays on a CPU (13 ns a word, and 80 us a call at least);
    written out it is one fused pass (3 ns a word).
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    x, y = high + keys[0], low + keys[1]
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x = x + y
            y = x ^ ((y << jnp.uint32(r)) | (y >> jnp.uint32(32 - r)))
        x = x + keys[(i + 1) % 3]
        y = y + keys[(i + 2) % 3] + jnp.uint32(i + 1)
    return x, y


def open_uniform(
    rng_key: Array, shape: tuple[int, ...] = (), stream: Int[Array, ""] | int = 0
) -> Float[Array, ...]:
    """Uniform numbers in the open interval (0, 1), dense towards 0 (64 random bits each).

    :param rng_key: a typed key; its streams do not meet the keys that are split or folded off it.
    :param stream: one key has 2**31 streams of such numbers.
    :return: float32; at least 2**-65 and at most 1 - 2**-24, so that neither `log(u)` nor
        `log1p(-u)` is infinite, and an event of probability 1e-12 happens that often.

    >>> import jax
    >>> bool((open_uniform(jax.random.key(0), (1000,)) < 0.5).sum() in range(400, 600))
    True
    """
    words = random.key_data(rng_key)
    count = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    stream = jnp.asarray(stream).astype(jnp.uint32) | jnp.uint32(_STREAMS)
    high, low = threefry((words[0], words[-1]), count, jnp.broadcast_to(stream, shape))
    u = high.astype(jnp.float32) * 2.0**-32 + (low.astype(jnp.float32) + 0.5) * 2.0**-64
    return jnp.minimum(u, 1.0 - 2.0**-24)


def exponential(
    rng_key: Array, shape: tuple[int, ...] = (), stream: Int[Array, ""] | int = 0
) -> Float[Array, ...]:
    """Standard exponential numbers, accurate near zero, where races are decided; at most 16.6.

    >>> import jax
    >>> bool((exponential(jax.random.key(0), (1000,)) < 0.6931).sum() in range(400, 600))
    True
    """
    return -jnp.log1p(-open_uniform(rng_key, shape, stream))


__all__ = ["exponential", "open_uniform", "threefry"]
