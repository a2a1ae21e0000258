r"""Ancestor sampling: a retained particle's future is given another past.

Particle Gibbs keeps one trajectory :math:`x'`. At a resampling before step `t` its past may be replaced by that
of any particle `i`, drawn in proportion to

.. math:: w_i\, \frac{\gamma(x^i_{<t}, x'_{\ge t})}{\gamma_{<t}(x^i_{<t})}

(Lindsten, Jordan and Schön 2014, equation 3), where :math:`\gamma` is the program's density of everything to
its end and :math:`\gamma_{<t}` that of what lies behind. The ratio is found by running the rest of the program,
from each particle's state, on the retained values. It is a density of values: a kernel whose weights are
random (AWRS) has more in its extended space than those, and no such ratio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import lax, random
from jaxtyping import Array, Float, Int

from sentax.inference import lanes
from sentax.inference.errors import UnsupportedProgram
from sentax.inference.messengers import Finished, Given, OuterListener, ScanReached, fresh_stack

if TYPE_CHECKING:
    from sentax.inference.control import Decision
    from sentax.inference.engine import ParticleRun, Past
    from sentax.inference.filter import ScanFilter
from sentax.inference.state import Loop

_STREAM = 3_000_017


def sample_ancestor(filter: ScanFilter, loop: Loop, decision: Decision) -> Decision:
    """The decision before a step, with a new ancestor for the retained particle 0.

    Every particle must hold the retained values, whether it repeats them or not.
    """

    def draw() -> Int[Array, ""]:
        log_weights = lanes.gather(loop.weight.log_weight + _log_future(filter, loop))
        key = random.fold_in(random.fold_in(filter.shared_key, _STREAM), loop.t)
        possible = jnp.max(log_weights) > -jnp.inf
        chosen = random.categorical(key, jnp.where(possible, log_weights, 0.0)).astype(jnp.int32)
        return jnp.where(possible, chosen, 0)

    chosen = lax.cond(decision.need, draw, lambda: jnp.int32(0))
    return decision._replace(ancestor=jnp.where(lanes.index() == 0, chosen, decision.ancestor))


def _log_future(filter: ScanFilter, loop: Loop) -> Float[Array, ""]:
    """The log-density of the retained values from step `loop.t` on, given this particle's past."""
    assert filter.retained is not None and filter.remainder is not None
    retained = filter.retained

    def step(s: Int[Array, ""], state: Any) -> Any:
        changing, twists, kernel_state, ys, total = state
        carry, consts = filter.assemble((changing, loop.moving[1]))
        x = jax.tree.map(lambda leaf: leaf[s], filter.xs)
        given = (filter.sites_at(retained, s), jnp.asarray(True))
        out = filter.steps(consts, carry, x, s, filter.keys[s], twists, jnp.asarray(True), kernel_state, given)
        changing = [leaf for leaf, c in zip(jax.tree.leaves(out.carry), filter.constant, strict=True) if not c]
        ys = jax.tree.map(lambda all, y: all.at[s].set(y), ys, out.y)
        # Where it has become impossible it stays so: no NaN from factors that then mean nothing.
        total = jnp.where(jnp.isneginf(total), -jnp.inf, total + out.log_density)
        return changing, out.twists, out.kernel_state, ys, jnp.where(jnp.isnan(total), -jnp.inf, total)

    start = (loop.moving[0], loop.twists, loop.kernel_state, loop.history[0], jnp.float32(0.0))
    changing, twists, _, ys, total = lax.fori_loop(loop.t, filter.scan.length, step, start)
    if filter.scan.reverse:
        ys = jax.tree.map(lambda y: y[::-1], ys)
    finished = Finished(filter.carry_leaves((changing, loop.moving[1])), ys)
    rest = filter.remainder(finished, twists, loop.ancestors[0])
    total = jnp.where(jnp.isneginf(total), -jnp.inf, total + rest)
    return jnp.where(jnp.isnan(total), -jnp.inf, total)


def log_remainder(
    run: ParticleRun, past: Past, finished: Finished, twists: dict[str, Any], origin: Int[Array, ""]
) -> Float[Array, ""]:
    """The log-density of what the program does after a scan, on retained values; twists are settled.

    :param past: before the scan, of whoever stands here; `origin`: the particle there that this one descends
        from.
    :raises UnsupportedProgram: if there is another scan.
    """
    assert run.retained is not None
    values, conds, scans = lanes.take((past.values, past.conds, past.scans), origin)
    given = Given(run.retained.samples, jnp.asarray(True))
    listener = OuterListener(run.rng_key, values, conds, [*scans, finished], None, given)
    listener.twists = dict(twists)
    try:
        with fresh_stack(), listener:
            run.kernel.model(*run.args, **run.kwargs)
    except ScanReached:
        raise UnsupportedProgram(
            "ancestor sampling needs the density of everything after a step, and that of a second scan cannot "
            "be had while the first one runs: put the two into one scan, or use ancestor_sampling=False"
        ) from None
    total = sum((*listener.log_priors, *(term.value for term in listener.terms)), jnp.float32(0.0))
    for value in listener.twists.values():
        total = jnp.where(jnp.isneginf(value), -jnp.inf, total - value)
    return total


__all__ = ["log_remainder", "sample_ancestor"]
