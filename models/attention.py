"""Grouped-query attention of a chunk against cached segments and itself, and the cache."""

from __future__ import annotations

import functools
import itertools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sentax.models.config import DecoderConfig, QKNorm
from sentax.models.layers import Linear, make_norm
from sentax.models.rotary import rotate

MASKED = -1e30
"""The score of a masked key. Finite: a softmax over a row of -inf is NaN."""

EMPTY = -1
"""The position of a cache slot that holds no token."""


class KV(NamedTuple):
    """Keys (already rotated) and values of L cache slots, for every layer.

    A layer with a sliding window need not keep what it cannot see any more: its slots may be fewer, R of them.
    In a segment that is written token by token they are a ring, in which position `p` has slot `p % R`.
    """

    keys: tuple[Float[Array, "K L Y"], ...]
    values: tuple[Float[Array, "K L Y"], ...]
    positions: Int[Array, " L"]
    """The position in its text of the token in each slot, -1 where there is none."""
    windows: dict[int, Int[Array, " R"]] = {}
    """The same for the layers of one sliding window, where they have slots of their own."""

    def of(self, window: int | None) -> Int[Array, " L"]:
        """The positions in the slots of the layers with this window (None: without)."""
        return self.positions if window is None else self.windows.get(window, self.positions)

    def ring(self, window: int | None) -> int | None:
        """The number of slots where the layers with this window keep a ring; else None."""
        return self.windows[window].shape[-1] if window in self.windows else None

    @property
    def mask(self) -> Bool[Array, " L"]:
        """The slots that hold a token."""
        return self.positions >= 0


class Visibility(NamedTuple):
    """What the tokens of a chunk may see, for one sliding window or none."""

    segments: tuple[Bool[Array, ...], ...]
    """The visible slots of each segment, [L] or [C, L]; the chunk's own segment last."""

    @classmethod
    def of(
        cls,
        positions: Int[Array, " C"],
        token_mask: Bool[Array, " C"],
        past: tuple[KV, ...],
        cache: KV | None,
        slot: Int[Array, " C"] | int | Int[Array, ""],
        window: int | None,
    ) -> Visibility:
        """
        :param positions: of the chunk's tokens.
        :param token_mask: false where the chunk is padding.
        :param past: cached segments, all their tokens before the chunk.
        :param cache: the segment that the chunk is written into, as it was before.
        :param slot: where in `cache` the chunk goes: its first slot, or in a ring [C] that of each token.
        :param window: a token sees keys at positions greater than its own minus this; None: all.
        """

        def seen(keys: Int[Array, " L"]) -> Bool[Array, ...]:
            tokens = keys >= 0
            return tokens if window is None else tokens & (keys > positions[:, None] - window)

        C = positions.shape[0]
        own = jnp.tril(token_mask | jnp.eye(C, dtype=bool))  # itself always: no row may be empty
        if window is not None:
            own &= positions > positions[:, None] - window
        if cache is not None:
            keys = cache.of(window)
            before = jnp.broadcast_to(seen(keys), (C, *keys.shape))
            if jnp.ndim(slot) == 0:
                own = jax.lax.dynamic_update_slice(before, own, (0, slot))
            else:
                own = before.at[:, slot].set(own, mode="drop")
        return cls((*(seen(segment.of(window)) for segment in past), own))


def write(cache: Array, chunk: Array, slot: Int[Array, " C"] | int | Int[Array, ""]) -> Array:
    """A cache [L] or [K, L, Y] with a chunk [C] or [K, C, Y] at `slot` (see :meth:`Visibility.of`)."""
    chunk = chunk.astype(cache.dtype)
    if jnp.ndim(slot) > 0:
        return (
            cache.at[slot].set(chunk, mode="drop")
            if cache.ndim == 1
            else cache.at[:, slot].set(chunk, mode="drop")
        )
    return jax.lax.dynamic_update_slice(cache, chunk, (slot,) if cache.ndim == 1 else (0, slot, 0))


class Attention(nnx.Module):
    """Grouped-query attention.

    :param config: the decoder's shape.
    :param layer: which layer this is.
    """

    def __init__(self, config: DecoderConfig, layer: int, *, rngs: nnx.Rngs):
        D, H, K, Y = config.hidden_size, config.num_heads, config.num_kv_heads, config.head_dim
        self.q_proj = Linear(D, H * Y, config.qkv_bias, rngs=rngs)
        self.k_proj = Linear(D, K * Y, config.qkv_bias, rngs=rngs)
        self.v_proj = Linear(D, K * Y, config.qkv_bias, rngs=rngs)
        self.o_proj = Linear(H * Y, D, config.o_bias, rngs=rngs, scale=0.02 / (2 * config.num_layers) ** 0.5)
        self.qk_norm = config.qk_norm
        if self.qk_norm is not QKNorm.NONE:
            heads = (1, 1) if self.qk_norm is QKNorm.HEAD else (H, K)
            self.q_norm, self.k_norm = (make_norm(config, count * Y) for count in heads)
        self.num_kv_heads, self.head_dim = K, Y
        self.scale, self.softcap = config.scale(layer), config.attention_softcap

    def __call__(self, x, rotation, segments, visible: Visibility, slot):
        """
        :param x: normed activations [C, D].
        :param rotation: cosine and sine [C, half], or None.
        :param segments: keys and values [K, L, Y] of each cached segment; the last is the one to write,
            None where the chunk is its own segment.
        :param visible: what the chunk sees of each segment.
        :param slot: where the chunk goes in the last segment, as in :meth:`Visibility.of`.
        :return: activations [C, D] and the last segment's keys and values.
        """
        C, K, Y = x.shape[0], self.num_kv_heads, self.head_dim
        dtype = self.k_proj.weight.dtype
        query, key = self.q_proj(x), self.k_proj(x)
        if self.qk_norm is QKNorm.WHOLE:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key = query.reshape(C, -1, Y), key.reshape(C, K, Y)
        if self.qk_norm is QKNorm.HEAD:
            query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        query = (query * self.scale).astype(dtype).reshape(C, K, -1, Y).swapaxes(0, 1).reshape(K, -1, Y)
        key = key.astype(dtype).swapaxes(0, 1)
        value = self.v_proj(x).reshape(C, K, Y).astype(dtype).swapaxes(0, 1)
        *past, own = segments
        if own is not None:
            # Written before it is read: nothing reads the old cache after the write, so XLA updates it in
            # place. Read first and written afterwards, a loop copied every layer's cache twice a step.
            key, value = (write(c, x, slot) for c, x in zip(own, (key, value)))
        own = key, value

        # One softmax over every segment, but the caches themselves are never concatenated: under `vmap` a
        # shared prefix stays unbatched, and its scores are one matrix product for all particles.
        scores = [
            self._scores(query, keys, mask)
            for (keys, _), mask in zip((*past, own), visible.segments, strict=True)
        ]
        weights = jax.nn.softmax(jnp.concatenate(scores, axis=-1), axis=-1).astype(dtype)
        ends = list(itertools.accumulate(s.shape[-1] for s in scores))
        parts = [
            jnp.einsum("kal,kly->kay", weights[..., a:b], values, preferred_element_type=jnp.float32)
            for (_, values), a, b in zip((*past, own), [0, *ends], ends)
        ]
        out = functools.reduce(operator.add, parts)
        out = out.reshape(K, C, -1, Y).swapaxes(0, 1).reshape(C, -1)
        return self.o_proj(out), own

    def _scores(
        self, query: Float[Array, "K A Y"], keys: Float[Array, "K L Y"], mask: Bool[Array, ...]
    ) -> Float[Array, "K A L"]:
        """Scores of the A = C x G queries of each key-value head; the mask is [L], or [C, L] over groups."""
        scores = jnp.einsum("kay,kly->kal", query, keys, preferred_element_type=jnp.float32)
        if self.softcap is not None:
            scores = self.softcap * jnp.tanh(scores / self.softcap)
        if mask.ndim == 2 and mask.shape[0] > 1:
            mask = jnp.repeat(mask, scores.shape[1] // mask.shape[0], axis=0)
        return jnp.where(mask, scores, MASKED)
