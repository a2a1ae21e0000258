r"""Moves of particles inside SMC: ends of their trajectories are drawn again.

Resampling copies; moves make the copies different again (resample-move, Gilks and Berzuini 2001). A particle
that is properly weighted for its trajectory's target stays so under every Markov kernel that leaves the target
invariant:

.. math:: E[W f(x)] = \gamma(f)\ \forall f \;\Rightarrow\; E[W f(x')] = \gamma(K f) = \gamma(f),

and :class:`~sentax.inference.suffix_mh.SuffixMH` says why suffix-resampling Metropolis-Hastings does, on the
extended space of values and weights. So the weights stay as they are, and the evidence estimate unbiased.

When particles move must not depend on where they are. Moves "after each resampling", with resampling by
need, would be made where weights differ and left out where they agree: each kernel is invariant, the choice
between it and standing still is not, and few particles show a bias (half of some probabilities, for five).
Hence a fixed schedule, which goes on when all texts have ended.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax, random
from jaxtyping import Array, Bool, Int

from sentax.inference import lanes
from sentax.inference.errors import UnsupportedProgram

if TYPE_CHECKING:
    from sentax.inference.filter import ScanFilter
from sentax.inference.state import Weight

_STREAM = 2_000_003


class Moved(NamedTuple):
    """What moves may change of a particle between its resampling and its next step; see `filter.Loop`."""

    moving: Any
    twists: dict[str, Array]
    kernel_state: Any
    done: Bool[Array, ""]
    weight: Weight
    history: Any
    checks: Int[Array, ""]
    tokens: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class SuffixMoves:
    """Before every so many steps, each particle makes suffix-resampling Metropolis-Hastings moves.

    A move goes back to one of the steps of the current scan that the particle has behind it (up to the end of
    its text), draws everything from there to the present again, and takes it in place of the old with
    probability `min(1, w' / w)` times the ratio of the numbers of steps that could have been chosen. Latents
    before the scan, and earlier scans, stay as they are.

    The step function is run again from the scan's start: no states are stored, and a move before step `t`
    costs `t` steps of every particle. A scan is run to its end, also when all texts have ended before.
    Genealogies are flattened: `ancestors` tells, for the first step of a scan, from whom a particle descends;
    after that it is its own ancestor.

    :param num_moves: moves each time, at least 1.
    :param every: before steps whose number in the scan is a multiple of it, the first left out.

    >>> SuffixMoves(2)
    SuffixMoves(num_moves=2, every=8)
    """

    num_moves: int = 1
    every: int = 8

    def __post_init__(self) -> None:
        for name in ("num_moves", "every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")

    def apply(self, filter: ScanFilter, t: Int[Array, ""], origin: Int[Array, ""], state: Moved) -> Moved:
        """The particle after its moves before step `t`.

        :param origin: the particle before the scan that this one descends from.
        """
        if jax.tree.leaves(filter.kernel_state):
            raise UnsupportedProgram(
                f"{type(filter.kernel).__name__} carries a state from draw to draw, which steps that are "
                "repeated would change: leave rejuvenate out, or use AWRS, LocallyConstrained or Prior"
            )
        key = random.fold_in(random.fold_in(filter.rng_key, _STREAM), t)

        def moves(state: Moved) -> Moved:
            begin = lanes.take((filter.carried, filter.twists, filter.kernel_state), origin)

            def move(number: Int[Array, ""], state: Moved) -> Moved:
                return _move(filter, t, random.fold_in(key, number), begin, state)

            return lax.fori_loop(0, self.num_moves, move, state)

        return lax.cond((t > 0) & (t % self.every == 0), moves, lambda state: state, state)


def _move(filter: ScanFilter, t: Int[Array, ""], rng_key: Array, begin: Any, state: Moved) -> Moved:
    key_cut, key_accept, key_steps = random.split(rng_key, 3)
    _, old_sites, old_increments, old_live = state.history
    past = jnp.arange(old_live.shape[0]) < t
    cut = choose_cut(key_cut, old_live & past)
    captured = state.moving[1]
    initial = type(state.weight).initial()

    def step(s: Int[Array, ""], course: Any) -> Any:
        changing, twists, kernel_state, done, weight, history, checks, tokens = course
        carry, consts = filter.assemble((changing, captured))
        x = jax.tree.map(lambda leaf: leaf[s], filter.xs)
        keep = s < cut
        alive = weight.log_weight > -jnp.inf
        given = (jax.tree.map(lambda leaf: leaf[s], old_sites), keep)
        key = random.fold_in(key_steps, s)
        out = filter.steps(consts, carry, x, s, key, twists, alive, kernel_state, given)
        after = weight.multiply(out.terms, filter.factors, (filter.place, s), filter.config.kills)
        weight = jax.tree.map(lambda w, a: jnp.where(keep, w, a), weight, after)
        increment = jnp.where(keep, old_increments[s], sum(out.terms, jnp.float32(0.0)))
        drew = alive & ~done & ~keep
        live = jnp.where(keep, old_live[s], alive & ~done)
        new = (out.y, out.sites, increment, live)
        return (
            [leaf for leaf, c in zip(jax.tree.leaves(out.carry), filter.constant, strict=True) if not c],
            out.twists,
            out.kernel_state,
            out.done,
            weight,
            jax.tree.map(lambda h, v: h.at[s].set(v), history, new),
            checks + jnp.where(drew, out.checks, 0),
            tokens + jnp.where(drew, out.tokens, 0),
        )

    carried, twists, kernel_state = begin
    start = (
        carried,
        twists,
        kernel_state,
        jnp.asarray(False),
        initial,
        state.history,
        state.checks,
        state.tokens,
    )
    changing, twists, kernel_state, done, weight, history, checks, tokens = lax.fori_loop(0, t, step, start)

    steps = jnp.arange(old_live.shape[0])
    log_old = jnp.where((steps >= cut) & past, old_increments, 0.0).sum()
    log_choices = log_count(old_live & past) - log_count(history[3] & past)
    log_ratio = weight.log_weight - jnp.where(jnp.isneginf(log_old), 0.0, log_old) + log_choices
    accepted = jnp.log(random.uniform(key_accept, minval=jnp.finfo(jnp.float32).tiny)) < log_ratio

    def chosen(old: Any, new: Any) -> Any:
        return jax.tree.map(lambda a, b: jnp.where(accepted, b, a), old, new)

    # A factor that was NaN is an error, whether its proposal would have been accepted or not.
    invalid = jnp.where(state.weight.invalid < 0, weight.invalid, state.weight.invalid)
    return Moved(
        moving=(chosen(state.moving[0], changing), captured),
        twists=chosen(state.twists, twists),
        kernel_state=chosen(state.kernel_state, kernel_state),
        done=chosen(state.done, done),
        weight=state.weight._replace(invalid=invalid),
        history=chosen(state.history, history),
        checks=checks,
        tokens=tokens,
    )


def choose_cut(rng_key: Array, choices: Bool[Array, " T"]) -> Int[Array, ""]:
    """One of the steps that are chosen from, each with the same probability; 0 if there is none."""
    number = choices.sum()
    rank = jnp.minimum((random.uniform(rng_key) * number).astype(jnp.int32), number - 1)
    return jnp.argmax(jnp.cumsum(choices) > rank).astype(jnp.int32)


def log_count(choices: Bool[Array, " T"]) -> Array:
    """The log of how many there are, or of 1."""
    return jnp.log(jnp.maximum(choices.sum(), 1).astype(jnp.float32))


__all__ = ["Moved", "SuffixMoves", "choose_cut", "log_count"]
