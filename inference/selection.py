r"""Populations whose steps choose children jointly.

In an ordinary particle filter each particle draws its own next outcome. Here every particle offers some
children, a rule chooses N of all of them, and each place of the population goes on from the parent of the child
it got. A rule is a kernel: it offers, it chooses, and its draw is what was chosen.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sentax.inference.errors import UnsupportedProgram
from sentax.inference.kernels.base import Draw, Factor, Kernel, as_factor
from sentax.inference.kernels.locally_constrained import local_factors
from sentax.inference.lanes import PARTICLES
from sentax.ppl.uniform import open_uniform


class Children(NamedTuple):
    """What a particle may do next; M of them.

    :param log_weights: what each would multiply the particle's weight by; `-inf`: it is none.
    :param ranks: what they are compared by, where that is something else.
    :param states: what each would carry on, with a leading axis M.
    :param checks: outcomes whose factors were asked for.
    """

    outcomes: Int[Array, " M"]
    log_weights: Float[Array, " M"]
    ranks: Float[Array, " M"]
    states: Any
    checks: Int[Array, ""]


class Choice(NamedTuple):
    """The child that a place of the population goes on as.

    :param log_weight: what its parent's weight is multiplied by; `-inf`: the place stays empty.
    """

    outcome: Int[Array, ""]
    log_weight: Float[Array, ""]
    state: Any
    checks: Int[Array, ""]


class JointKernel(Kernel):
    """A kernel that chooses for the whole population.

    The engine calls :meth:`draw` twice a step with a state `(own, choice)`: before the choice for the children,
    after it, in the parent's place, for everything else. What each call leaves unused is not computed.
    """

    takes_latents: bool = False
    """Whether particles may differ in what they drew outside of scans."""

    def root(self, index: Int[Array, ""]) -> Float[Array, ""]:
        """The log-weight of each particle at the program's beginning."""
        raise NotImplementedError

    def children(
        self,
        rng_key: Array,
        logits: Float[Array, " V"],
        factor: Factor,
        *,
        active: Bool[Array, ""],
        mask: Bool[Array, " V"] | None,
        state: Any,
        axis_name: str | None,
    ) -> Children:
        """One particle's; see :meth:`Kernel.draw` for the parameters."""
        raise NotImplementedError

    def select(
        self, rng_key: Array, log_weights: Float[Array, " N"], children: Children
    ) -> tuple[Int[Array, " N"], Choice]:
        """The parent and the child that each place gets.

        :param rng_key: the same for all particles; `children`: with a leading axis N.
        :return: parents `[N]`, and choices with a leading axis N (their `checks` are not read).
        """
        raise NotImplementedError

    def undecided(self, state: Any) -> Choice:
        """A choice's structure, for a particle that carries `state`."""
        return Choice(jnp.int32(0), jnp.float32(0), state, jnp.int32(0))

    def draw(
        self,
        rng_key: Any,
        logits: Any,
        log_factor: Any,
        *,
        active: Any = True,
        mask: Any = None,
        state: Any = (),
        axis_name: str | None = PARTICLES,
    ) -> Draw:
        own, choice = state
        if isinstance(own, Children):
            raise UnsupportedProgram(
                "where particles choose their children jointly, each step of a scan must draw exactly one "
                "site, of finite support; this program draws another one after it. Use SMC"
            )
        children = self.children(
            rng_key,
            logits,
            as_factor(log_factor),
            active=jnp.asarray(active),
            mask=mask,
            state=own,
            axis_name=axis_name,
        )
        return Draw(choice.outcome, choice.log_weight, choice.checks, (children, choice.state))


def local_target(
    logits: Float[Array, " V"],
    factor: Factor,
    mask: Bool[Array, " V"] | None,
    active: Bool[Array, ""],
    axis_name: str | None,
) -> tuple[Float[Array, " V"], Int[Array, ""]]:
    r""":math:`\log p(x)\phi(x)` of every outcome, and how many were checked."""
    possible, log_factors, checks = local_factors(logits, factor, mask, active, axis_name)
    return jnp.where(possible, jax.nn.log_softmax(logits) + log_factors, -jnp.inf), checks


def pick(children: Children, flat: Int[Array, " N"], exists: Bool[Array, " N"]) -> tuple[Array, Choice]:
    """Parents and choices, from numbers among all N * M children; a place without a child stays as it is."""
    N, M = children.outcomes.shape
    own = jnp.arange(N, dtype=jnp.int32)
    flat = jnp.where(exists, flat, own * M)
    parents = jnp.where(exists, flat // M, own).astype(jnp.int32)
    chosen = Choice(
        outcome=children.outcomes.reshape(-1)[flat],
        log_weight=jnp.where(exists, children.log_weights.reshape(-1)[flat], -jnp.inf),
        state=jax.tree.map(lambda leaf: leaf.reshape(N * M, *leaf.shape[2:])[flat], children.states),
        checks=children.checks,
    )
    return parents, chosen


def optimal_resampling(
    rng_key: Array, log_weights: Float[Array, " K"], num: int
) -> tuple[Int[Array, " N"], Float[Array, " N"]]:
    r"""N of K weighted candidates without replacement, unbiased and with the least squared error.

    With :math:`c` the root of :math:`\sum_i \min(1, w_i / c) = N`, those above :math:`c` are kept as they are,
    each other is taken with probability :math:`w_i / c`, by stratified sampling, and then weighs :math:`c`. If
    at most N have any weight, all of them are kept.

    Fearnhead and Clifford 2003, "On-line inference for hidden Markov models via particle filters", section 3.

    :param num: N.
    :return: candidates (K where there is none) and their new log-weights.

    >>> import jax, jax.numpy as jnp
    >>> chosen, log_weights = optimal_resampling(jax.random.key(0), jnp.log(jnp.array([6., 1., 1., 1.])), 2)
    >>> int(chosen[0]), jnp.exp(log_weights).round(4).tolist()
    (0, [6.0, 3.0])
    """
    log_weights = jnp.pad(log_weights, (0, max(0, num - log_weights.shape[0])), constant_values=-jnp.inf)
    (K,) = log_weights.shape
    peak = jnp.max(log_weights)
    peak = jnp.where(jnp.isfinite(peak), peak, 0.0)
    w = jnp.exp(log_weights - peak)
    # With the a largest kept, c is what is left over N - a places: the first a with nobody left above it.
    descending = -jnp.sort(-w)
    left = jnp.cumsum(descending[::-1])[::-1][:num]
    places = num - jnp.arange(num)
    a = jnp.argmax(descending[:num] * places <= left)
    c = left[a] / places[a]
    kept = w > c
    cumulative = jnp.cumsum(jnp.where(kept | (c <= 0), 0.0, w / jnp.where(c > 0, c, 1.0)))
    passed = jnp.floor(cumulative - open_uniform(rng_key))
    taken = jnp.diff(passed, prepend=-1.0) > 0
    chosen = jnp.nonzero(kept | (taken & (w > 0)), size=num, fill_value=K)[0]
    last = jnp.minimum(chosen, K - 1)
    after = jnp.where(kept[last], log_weights[last], jnp.log(c) + peak)
    return chosen.astype(jnp.int32), jnp.where(chosen < K, after, -jnp.inf)


__all__ = ["Children", "Choice", "JointKernel", "local_target", "optimal_resampling", "pick"]
