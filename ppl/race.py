"""Draws without replacement from a large categorical, as an exponential race run lazily down a tree.

Give token `i` of mass `p_i` the arrival time `E_i / p_i`, `E_i ~ Exp(1)`: arrivals come in the order
of draws without replacement (the Gumbel-top-k order). Noise for every token is dear (at V = 32k it
costs more than a small model's forward pass), and inverse-CDF draws round the tail away: in float32
an outcome of mass under 2**-24 can no longer be met at its own rate. So the race runs on three
levels, of cbrt(V) branches each. A branch's first arrival is `E / (mass of the branch)`; the first `k`
arrivals of all lie in the `k` branches that arrive first; within a branch, given its first arrival,
its members follow at the differences of their own exponentials (memorylessness). That is about
`(1 + 2 k) cbrt(V)` exponentials for `k` draws, each resolved down to 2**-64, and no sums that cancel.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, UInt32

from sentax.ppl.uniform import exponential


class Masses(NamedTuple):
    """Unnormalised masses of a categorical over V outcomes, in rows of W, B rows to a branch.

    What is removed is a bit in a small table: in a loop that table is copied, not the masses.

    :param table: `table[r, j]` is the mass of outcome `r * W + j`; padding has mass 0.
    :param gone: the outcomes removed, 32 to a word.
    :param sums: the mass left in each row, `sums[a, b]` that of row `a * B + b`.
    """

    table: Float[Array, "R W"]
    gone: UInt32[Array, "R C"]
    sums: Float[Array, "A B"]

    @property
    def total(self) -> Float[Array, ""]:
        """The mass that is left: summed from what is left, never 1 minus what is gone."""
        return self.sums.sum()

    def rows(self, chosen: Int[Array, " k"]) -> Float[Array, "k W"]:
        """The masses left in some rows."""
        W = self.table.shape[1]
        bits = self.gone[chosen][..., None] >> jnp.arange(32, dtype=jnp.uint32)
        left = (bits & 1).reshape(*chosen.shape, -1)[..., :W] == 0
        return jnp.where(left, self.table[chosen], 0.0)

    def remove(self, outcomes: Int[Array, " k"], where: Bool[Array, ...] | bool = True) -> Masses:
        """Without some outcomes, each still there and named once where `where` holds.

        Their rows are summed afresh.
        """
        W, B = self.table.shape[1], self.sums.shape[1]
        row, column = outcomes // W, outcomes % W
        bit = jnp.where(where, jnp.uint32(1) << (column % 32).astype(jnp.uint32), jnp.uint32(0))
        new = self._replace(gone=self.gone.at[row, column // 32].add(bit))
        return new._replace(sums=self.sums.at[row // B, row % B].set(new.rows(row).sum(-1)))

    def of(self, outcomes: Int[Array, ...]) -> Float[Array, ...]:
        """Masses of outcomes, removed or not."""
        W = self.table.shape[1]
        return self.table[outcomes // W, outcomes % W]


def masses(log_masses: Float[Array, " V"]) -> Masses:
    """Masses that sum to one, from log-masses up to a constant.

    Outcomes more than 87 nats under the mode have mass 0 in float32.

    >>> import jax.numpy as jnp
    >>> m = masses(jnp.log(jnp.array([1., 2., 1.])))
    >>> m.of(jnp.arange(3))
    Array([0.25, 0.5 , 0.25], dtype=float32)
    """
    (V,) = log_masses.shape
    A, B, W = _shape(V)
    p = jnp.exp(log_masses - _peak(log_masses))
    p = jnp.pad(p, (0, A * B * W - V)).reshape(A, B, W)
    # Summed level by level: no long sum in which the tail is lost.
    scale = 1.0 / jnp.maximum(p.sum(-1).sum(-1).sum(), jnp.finfo(jnp.float32).tiny)
    p = p * scale
    gone = jnp.zeros((A * B, math.ceil(W / 32)), jnp.uint32)
    return Masses(p.reshape(A * B, W), gone, p.sum(-1))


def noise_size(left: Masses, k: int) -> int:
    """How many exponentials :func:`race` needs for `k` draws."""
    (A, B), W = left.sums.shape, left.table.shape[1]
    return A + min(k, A) * B + min(k, A * B) * W


def race(noise: Float[Array, " M"], left: Masses, k: int = 1) -> tuple[Int[Array, " k"], Bool[Array, " k"]]:
    """The first `k` draws without replacement.

    :param noise: `noise_size(left, k)` numbers from :func:`sentax.ppl.uniform.exponential`.
    :param left: what may be drawn; outcomes of mass zero never are.
    :param k: static; at most the number of outcomes.
    :return: outcomes in draw order, and which of them exist (fewer than `k` may have mass).

    >>> import jax
    >>> left = masses(jax.numpy.array([0., -jax.numpy.inf, 1.]))
    >>> outcomes, exist = race(exponential(jax.random.key(0), (noise_size(left, 3),)), left, 3)
    >>> sorted(outcomes[exist].tolist())
    [0, 2]
    """
    (A, B), _W = left.sums.shape, left.table.shape[1]
    # Relative to the largest row, so that a nearly exhausted race does not overflow.
    scale = 1.0 / jnp.maximum(left.sums.max(), jnp.finfo(jnp.float32).tiny)
    sums = left.sums * scale
    time, branch = _earliest(_over(noise[:A], sums.sum(-1)), k)
    used = A + branch.shape[0] * B
    time, row = _descend(time, branch, sums[branch], noise[A:used], k)
    time, outcome = _descend(time, row, left.rows(row) * scale, noise[used:], k)
    exist = jnp.isfinite(time)
    short = k - outcome.shape[0]
    return jnp.pad(outcome, (0, short)).astype(jnp.int32), jnp.pad(exist, (0, short))


def _earliest(time: Array, k: int) -> tuple[Array, Array]:
    negative, index = lax.top_k(-time, min(k, time.shape[0]))
    return -negative, index


def _descend(time: Array, parent: Array, mass: Array, noise: Array, k: int) -> tuple[Array, Array]:
    """The first `k` members of some branches, given when each branch first arrives.

    :param time: `[j]` first arrivals; `parent` `[j]` the branches' numbers; `mass` `[j, F]` of their members.
    :return: arrivals and numbers of the members.
    """
    own = _over(noise.reshape(mass.shape), mass)
    first = own.min(-1, keepdims=True)
    behind = jnp.where(jnp.isfinite(own), own - jnp.where(jnp.isfinite(first), first, 0.0), jnp.inf)
    arrival, flat = _earliest((time[:, None] + behind).reshape(-1), k)
    F = mass.shape[1]
    return arrival, parent[flat // F] * F + flat % F


def _over(numerator: Array, denominator: Array) -> Array:
    return jnp.where(denominator > 0, numerator / jnp.where(denominator > 0, denominator, 1.0), jnp.inf)


def draw(rng_key: Array, log_masses: Float[Array, " V"]) -> Int[Array, ""]:
    """One draw from a categorical over V outcomes given by its log-masses.

    The same race as :func:`race` with `k = 1`, with nothing built that only later draws need: no sums are
    scaled, only the row that is met is read.
    """
    (V,) = log_masses.shape
    A, B, W = _shape(V)
    peak = _peak(log_masses)
    logs = jnp.pad(log_masses, (0, A * B * W - V), constant_values=-jnp.inf).reshape(A, B, W)
    sums = jnp.exp(logs - peak).sum(-1)
    noise = exponential(rng_key, (A + B + W,))
    branch = jnp.argmin(_over(noise[:A], sums.sum(-1)))
    row = jnp.argmin(_over(noise[A : A + B], sums[branch]))
    outcome = jnp.argmin(_over(noise[A + B :], jnp.exp(logs[branch, row] - peak)))
    return ((branch * B + row) * W + outcome).astype(jnp.int32)


def _shape(V: int) -> tuple[int, int, int]:
    """Branches, rows in a branch, outcomes in a row."""
    W = max(1, round(V ** (1 / 3)))
    return math.ceil(V / (W * W)), W, W


def _peak(log_masses: Float[Array, " V"]) -> Float[Array, ""]:
    """The largest log-mass; zero where there is no mass, which callers can then see (-inf would give NaN)."""
    peak = jnp.max(log_masses)
    return jnp.where(jnp.isfinite(peak), peak, 0.0)


__all__ = ["Masses", "draw", "masses", "noise_size", "race"]
