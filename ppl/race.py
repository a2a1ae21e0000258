"""Draws without replacement from a large categorical, as an exponential race run lazily in blocks.

Give token `i` of mass `p_i` the arrival time `E_i / p_i`, `E_i ~ Exp(1)`: arrivals come in the order
of draws without replacement (the Gumbel-top-k order). Noise for every token is dear (at V = 32k it
costs more than a small model's forward pass), and inverse-CDF draws round the tail away: in float32
an outcome of mass under 2**-24 can no longer be met at its own rate. So the race runs on two levels.
A block's first arrival is `E / (mass of the block)`; the first `k` arrivals of all lie in the `k`
blocks that arrive first; within a block, given its first arrival, the others follow at the
differences of the tokens' own exponentials (memorylessness). That is about `sqrt(V) (1 + k)`
exponentials for `k` draws, each resolved down to 2**-64, and no sums that cancel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from sentax.ppl.uniform import open_uniform


class Masses(NamedTuple):
    """Unnormalised masses of a categorical over V outcomes, in blocks, and what is left of them.

    What is removed is a bit in a small table: in a loop that table is copied, not the masses.

    :param blocks: `blocks[b, j]` is the mass of outcome `b * W + j`; padding has mass 0.
    :param gone: the outcomes removed, 32 to a word.
    :param sums: the mass left in each block.
    """

    blocks: Float[Array, "B W"]
    gone: UInt32[Array, "B C"]
    sums: Float[Array, " B"]

    @property
    def total(self) -> Float[Array, ""]:
        """The mass that is left: summed from what is left, never 1 minus what is gone."""
        return self.sums.sum()

    def rows(self, chosen: Int[Array, " k"]) -> Float[Array, "k W"]:
        """The masses left in some blocks."""
        W = self.blocks.shape[1]
        bits = self.gone[chosen][..., None] >> jnp.arange(32, dtype=jnp.uint32)
        left = (bits & 1).reshape(*chosen.shape, -1)[..., :W] == 0
        return jnp.where(left, self.blocks[chosen], 0.0)

    def remove(self, outcomes: Int[Array, " k"], where: Bool[Array, ...] | bool = True) -> Masses:
        """Without some outcomes, each still there and named once where `where` holds.

        Their blocks are summed afresh. O(k sqrt V).
        """
        row, column = outcomes // self.blocks.shape[1], outcomes % self.blocks.shape[1]
        bit = jnp.where(where, jnp.uint32(1) << (column % 32).astype(jnp.uint32), jnp.uint32(0))
        new = self._replace(gone=self.gone.at[row, column // 32].add(bit))
        return new._replace(sums=self.sums.at[row].set(new.rows(row).sum(-1)))

    def __getitem__(self, outcomes: Int[Array, ...]) -> Float[Array, ...]:
        """Masses of outcomes, removed or not."""
        return self.blocks[outcomes // self.blocks.shape[1], outcomes % self.blocks.shape[1]]


def masses(log_masses: Float[Array, " V"]) -> Masses:
    """Masses that sum to one, from log-masses up to a constant.

    Outcomes more than 87 nats under the mode have mass 0 in float32.

    >>> import jax.numpy as jnp
    >>> m = masses(jnp.log(jnp.array([1., 2., 1.])))
    >>> m[jnp.arange(3)]
    Array([0.25, 0.5 , 0.25], dtype=float32)
    """
    (V,) = log_masses.shape
    width = math.ceil(math.sqrt(V))
    num_blocks = math.ceil(V / width)
    peak = jnp.max(log_masses)
    # All -inf would give NaN: with a peak of zero it gives no mass, which callers can see.
    peak = jnp.where(jnp.isfinite(peak), peak, 0.0)
    p = jnp.exp(log_masses - peak)
    p = jnp.pad(p, (0, num_blocks * width - V)).reshape(num_blocks, width)
    scale = 1.0 / jnp.maximum(p.sum(-1).sum(), jnp.finfo(jnp.float32).tiny)
    p = p * scale
    return Masses(p, jnp.zeros((num_blocks, math.ceil(width / 32)), jnp.uint32), p.sum(-1))


def noise_size(left: Masses, k: int) -> int:
    """How many uniforms :func:`race` needs for `k` draws."""
    B, W = left.blocks.shape
    return B + min(k, B) * W


def race(uniforms: Float[Array, " M"], left: Masses, k: int = 1) -> tuple[Int[Array, " k"], Bool[Array, " k"]]:
    """The first `k` draws without replacement.

    :param uniforms: `noise_size(left, k)` numbers from :func:`sentax.ppl.uniform.open_uniform`.
    :param left: what may be drawn; outcomes of mass zero never are.
    :param k: static; at most the number of outcomes.
    :return: outcomes in draw order, and which of them exist (fewer than `k` may have mass).

    >>> import jax
    >>> left = masses(jax.numpy.array([0., -jax.numpy.inf, 1.]))
    >>> uniforms = open_uniform(jax.random.key(0), (noise_size(left, 3),))
    >>> outcomes, exist = race(uniforms, left, 3)
    >>> sorted(outcomes[exist].tolist())
    [0, 2]
    """
    B, W = left.blocks.shape
    exponentials = -jnp.log1p(-uniforms)
    # Relative to the largest block, so that a nearly exhausted race does not overflow.
    scale = 1.0 / jnp.maximum(left.sums.max(), jnp.finfo(jnp.float32).tiny)
    arrival = _over(exponentials[:B], left.sums * scale)
    neg_arrival, chosen = lax.top_k(-arrival, min(k, B))
    rows = left.rows(chosen)
    own = _over(exponentials[B:].reshape(rows.shape), rows * scale)
    own_first = own.min(-1, keepdims=True)
    behind = jnp.where(jnp.isfinite(own), own - jnp.where(jnp.isfinite(own_first), own_first, 0.0), jnp.inf)
    time = (behind - neg_arrival[:, None]).reshape(-1)
    neg_time, flat = lax.top_k(-time, min(k, time.shape[0]))
    outcomes = chosen[flat // W] * W + flat % W
    exist = jnp.isfinite(neg_time)
    if outcomes.shape[0] < k:
        short = k - outcomes.shape[0]
        outcomes, exist = jnp.pad(outcomes, (0, short)), jnp.pad(exist, (0, short))
    return outcomes.astype(jnp.int32), exist


def _over(numerator: Array, denominator: Array) -> Array:
    return jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1.0), jnp.inf)


def draw(rng_key: Array, log_masses: Float[Array, " V"]) -> Int[Array, ""]:
    """One draw from a categorical over V outcomes given by its log-masses."""
    left = masses(log_masses)
    outcomes, _ = race(open_uniform(rng_key, (noise_size(left, 1),)), left, 1)
    return outcomes[0]


__all__ = ["Masses", "draw", "masses", "noise_size", "race"]
