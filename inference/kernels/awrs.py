"""Adaptive weighted rejection sampling: a few checks a token, an unbiased weight with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sentax.inference.kernels.base import Draw, Factor, Kernel, LogFactor, as_factor
from sentax.inference.kernels.estimators import Estimator, Tally, log_phantom, two_round
from sentax.inference.lanes import PARTICLES, any_of, log_sum_exp
from sentax.ppl.race import Masses, draw, masses, noise_size, race
from sentax.ppl.uniform import exponential

Randomness = Callable[[Int[Array, ""], Masses], tuple[Int[Array, " k"], Bool[Array, " k"], Float[Array, " k"]]]


_GROWTH = 4
"""Python's later batches are so many times the first."""

_UNROLLED = 8
"""Larger batches are gone through in a loop: unrolled they take long to compile."""


class Course(NamedTuple):
    """Where a rejection loop stands: one particle's state.

    :param left: masses of what was neither rejected nor accepted.
    :param accepted: mass of the accepted outcomes, which may come again.
    :param rejected: mass of the rejected ones.
    :param outcome: the first accepted outcome, and `log_factor` its factor.
    :param running: whether this particle still draws; `any_running`: whether any does.
    :param batch: batches of candidates drawn so far.
    """

    left: Masses
    accepted: Float[Array, ""]
    rejected: Float[Array, ""]
    outcome: Int[Array, ""]
    log_factor: Float[Array, ""]
    tally: Tally
    checks: Int[Array, ""]
    running: Bool[Array, ""]
    any_running: Bool[Array, ""]
    batch: Int[Array, ""]


class AWRS(Kernel):
    r"""Adaptive weighted rejection sampling (Lipkin et al. 2025, arXiv 2504.05410).

    Draw without replacement until an outcome is accepted (its factor is not `-inf`); draw on a little
    to estimate the accepted mass; see :mod:`sentax.inference.kernels.estimators` for the weights. Soft
    factors multiply in after acceptance: :math:`W = \hat Z\, \phi(X)`, so the kernel law holds for any
    mix of hard and soft factors. Accepted masses down to 1e-12 are resolved in float32.

    Where a constraint has a mask over the vocabulary (an automaton whose table fits, an engine that
    makes masks), the draw is from the masked distribution, with the mask's mass in the weight; if
    nothing is left to check, that is the exact local draw. `use_masks=False` forces rejection.

    Outcomes are drawn in batches of `batch_size`, in draw order, and checked together; what a batch holds
    behind the loop's end was asked in vain and is not counted in `checks`. Python is asked about a
    batch in one call and in draw order, and stops where the estimator does; the candidates it did not
    look at go back. For the particles that need a longer search its later batches are four times as large: a
    call has a fixed price.

    :param model: a NumPyro model.
    :param estimator: :data:`two_round` (default), :data:`recursive`, or `geometric(max_accepts)`.
    :param max_rejects: give up a loop after so many rejections. The only bias there is: before
        any acceptance the particle dies (texts that need a longer search are lost), after the first the
        weight is taken as if the next draw were accepted (too large). None: never; at worst all V
        outcomes are checked.
    :param batch_size: candidates checked at once.
    :param use_masks: whether to ask constraints for masks.

    >>> AWRS(lambda: None, max_rejects=100)
    AWRS(..., estimator=TwoRound, max_rejects=100)
    """

    method = "rejection"

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        estimator: Estimator = two_round,
        max_rejects: int | None = None,
        batch_size: int = 4,
        use_masks: bool = True,
    ) -> None:
        super().__init__(model)
        if max_rejects is not None and max_rejects < 1:
            raise ValueError(f"max_rejects must be at least 1 or None, got {max_rejects}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not hasattr(estimator, "log_weight"):
            raise TypeError(f"estimator must be two_round, recursive or geometric(...), got {estimator!r}")
        self.estimator = estimator
        self.max_rejects = max_rejects
        self.batch_size = batch_size
        self.use_masks = use_masks

    def __repr__(self) -> str:
        limit = "" if self.max_rejects is None else f", max_rejects={self.max_rejects}"
        masks = "" if self.use_masks else ", use_masks=False"
        return f"AWRS(..., estimator={type(self.estimator).__name__}{limit}{masks})"

    def draw(
        self,
        rng_key: Array,
        logits: Float[Array, " V"],
        log_factor: LogFactor | Factor,
        *,
        active: Bool[Array, ""] | bool = True,
        mask: Bool[Array, " V"] | None = None,
        state: Any = (),
        axis_name: str | None = PARTICLES,
    ) -> Draw:
        del state
        factor = as_factor(log_factor)
        log_mass = jnp.float32(0.0)
        if mask is not None:
            allowed = jnp.where(mask, logits, -jnp.inf)
            log_mass = log_sum_exp(allowed) - log_sum_exp(logits)
            logits = allowed
        if not factor.varies:
            # Every outcome that is left weighs the same: no check could change anything.
            return Draw(draw(rng_key, logits), log_mass + factor(jnp.int32(0)), jnp.int32(0))

        def randomness(k: int) -> Randomness:
            def batch_of(batch: Int[Array, ""], left: Masses) -> tuple[Any, Any, Any]:
                noise = exponential(rng_key, (k + noise_size(left, k),), batch)
                return *race(noise[k:], left, k), noise[:k]

            return batch_of

        first = randomness(min(self.batch_size, logits.shape[0]))
        later = first
        if factor.ordered is not None:
            later = randomness(min(_GROWTH * self.batch_size, logits.shape[0]))
        result = rejection_loop(
            masses(logits),
            factor,
            randomness=(first, later),
            estimator=self.estimator,
            max_rejects=self.max_rejects,
            active=active,
            axis_name=axis_name,
        )
        return result._replace(log_weight=result.log_weight + log_mass)


def rejection_loop(
    prior: Masses,
    log_factor: LogFactor | Factor,
    *,
    randomness: tuple[Randomness, Randomness],
    estimator: Estimator,
    max_rejects: int | None = None,
    active: Bool[Array, ""] | bool = True,
    axis_name: str | None = None,
) -> Draw:
    """AWRS given its randomness: a pure function, so that the whole tree of its choices can be enumerated.

    :param prior: masses that sum to one.
    :param randomness: for the first batch, and for those that follow: `(batch number, what is left) ->
        (outcomes in draw order, which exist, coins)`; the coins are standard exponentials, one for each
        candidate, that decide how often an accepted outcome comes again before the next candidate does.
    """
    factor = as_factor(log_factor)
    zero = jnp.float32(0.0)
    active = jnp.asarray(active)
    start = Course(
        left=prior,
        accepted=zero,
        rejected=zero,
        outcome=jnp.int32(0),
        log_factor=jnp.float32(-jnp.inf),
        tally=Tally(
            jnp.int32(0),
            jnp.int32(0),
            zero,
            zero,
            jnp.asarray(False),
            jnp.zeros(estimator.num_nodes, jnp.float32),
        ),
        checks=jnp.int32(0),
        running=active,
        any_running=any_of(active, axis_name),
        batch=jnp.int32(0),
    )

    def body(course: Course, draws: Randomness) -> Course:
        outcomes, exist, coins = draws(course.batch, course.left)
        mass = jnp.where(exist, course.left.of(outcomes), 0.0)
        if factor.ordered is None:
            log_factors, looked = jax.vmap(factor)(outcomes), jnp.ones(outcomes.shape, bool)
        else:
            patience, worth = _priorities(course, mass, exist, coins, estimator)
            log_factors, asked = jax.vmap(factor.in_order, (0, None, 0))(outcomes, patience, worth)
            # What Python did not look at was not drawn: it goes back, with all that came after it.
            looked = jnp.cumsum(exist & ~asked) == 0
            mass = jnp.where(looked, mass, 0.0)
        left = course.left.remove(outcomes, course.running & exist & looked)
        # Mass left after each candidate: what remains after all of them, plus those not yet drawn.
        # Sums of positive numbers only: nothing cancels.
        after = left.total + jnp.cumsum(jnp.pad(mass[1:], (0, 1))[::-1])[::-1]

        def candidate(before: Course, j: Any) -> Course:
            new = _candidate(
                before,
                outcomes[j],
                exist[j],
                mass[j],
                log_factors[j],
                after[j],
                coins[j],
                estimator,
                max_rejects,
            )
            if factor.ordered is None:
                return new
            return jax.tree.map(lambda old, now: jnp.where(looked[j], now, old), before, new)

        # The masses do not change from candidate to candidate: the loop leaves them out.
        new = course._replace(left=())  # type: ignore[arg-type]
        k = outcomes.shape[0]
        if k <= _UNROLLED:
            for j in range(k):
                new = candidate(new, j)
        else:
            new = lax.fori_loop(0, k, lambda j, before: candidate(before, j), new)
        new = new._replace(left=left)
        return new._replace(any_running=any_of(new.running, axis_name), batch=course.batch + 1)

    first, later = randomness
    if first is not later:
        start = body(start, first)
    end = lax.while_loop(lambda course: course.any_running, lambda course: body(course, later), start)
    log_weight = jnp.where(
        end.tally.accepts > 0, estimator.log_weight(_guarded(end.tally)) + end.log_factor, -jnp.inf
    )
    return Draw(end.outcome, log_weight, end.checks)


def _priorities(
    course: Course,
    mass: Float[Array, " k"],
    exist: Bool[Array, " k"],
    coins: Float[Array, " k"],
    estimator: Estimator,
) -> tuple[Int[Array, ""], Int[Array, " k"]]:
    """How far Python should look: `(patience, worth)` of :class:`Factor`. Only a matter of cost.

    The loop ends after so many acceptances, counting how often each comes again at once.
    """
    if estimator.returns_accepted:
        patience = estimator.max_accepts - course.tally.accepts
        after = jnp.maximum(course.left.total - jnp.cumsum(mass), 0.0)
        pool = course.accepted + mass
        rate = jnp.log1p(after / jnp.where(pool > 0, pool, 1.0))
        repeats = jnp.where(rate > 0, coins / jnp.where(rate > 0, rate, 1.0), jnp.inf)
        worth = 1 + jnp.minimum(repeats, float(estimator.max_accepts)).astype(jnp.int32)
    else:
        # After an acceptance exactly one more candidate is wanted, whatever becomes of it.
        patience = jnp.int32(1)
        worth = jnp.where((course.tally.accepts > 0) & (jnp.arange(mass.shape[0]) > 0), -1, 1)
    return jnp.where(course.running, patience, -1), jnp.where(exist, worth, -1)


def _candidate(
    course: Course,
    outcome: Array,
    exists: Array,
    mass: Array,
    log_factor: Array,
    after: Array,
    coin: Array,
    estimator: Estimator,
    max_rejects: int | None,
) -> Course:
    """One candidate of a particle that is still running, then the repeats of accepted outcomes after it."""
    tally = course.tally
    drawn = course.running & exists
    ok = drawn & (log_factor > -jnp.inf)
    refused = drawn & ~ok
    first = ok & (tally.accepts == 0)
    second = drawn & (tally.accepts > 0)
    kept = course.accepted + mass + after
    accepted = course.accepted + jnp.where(ok, mass, 0.0)
    rejected = course.rejected + jnp.where(refused, mass, 0.0)
    accepts = tally.accepts + ok
    rejects = tally.rejects + refused

    log_phantoms = tally.log_phantoms
    if estimator.num_nodes:
        log_phantoms += log_phantom(jnp.where(drawn, kept, 1.0), course.rejected, jnp.where(drawn, 1, 0))

    # Without a candidate and without an acceptance the particle is dead; with one, nothing else was left.
    running = drawn & ~second if not estimator.returns_accepted else drawn & (accepts < estimator.max_accepts)
    if max_rejects is not None:
        given_up = running & (rejects >= max_rejects)
        running = running & ~given_up
        if estimator.num_nodes:  # as if the next draw were accepted
            kept_after = jnp.where(given_up, accepted + after, 1.0)
            log_phantoms += log_phantom(kept_after, rejected, jnp.where(given_up, 1, 0))

    if estimator.returns_accepted:
        # The next draw meets an accepted outcome with probability r = accepted / (accepted + after);
        # P(repeats >= n) = r**n = P(coin >= -n log r). With nothing else left, r = 1: endless repeats.
        some = running & (accepts > 0)
        minus_log_ratio = jnp.log1p(after / jnp.where(some, accepted, 1.0))
        left = estimator.max_accepts - accepts
        endless = minus_log_ratio <= 0
        repeats = jnp.where(endless, jnp.inf, coin / jnp.where(endless, 1.0, minus_log_ratio))
        repeats = jnp.minimum(repeats, left.astype(jnp.float32)).astype(jnp.int32)
        repeats = jnp.where(some, repeats, 0)
        if estimator.num_nodes:
            log_phantoms += log_phantom(jnp.where(some, accepted + after, 1.0), rejected, repeats)
        accepts = accepts + repeats
        running = running & (accepts < estimator.max_accepts)

    return course._replace(
        accepted=accepted,
        rejected=rejected,
        outcome=jnp.where(first, outcome, course.outcome),
        log_factor=jnp.where(first, log_factor, course.log_factor),
        tally=Tally(
            accepts=accepts,
            rejects=rejects,
            kept=jnp.where(first, kept, tally.kept),
            mass=jnp.where(first, mass, tally.mass),
            next_accepted=tally.next_accepted | (second & ok),
            log_phantoms=log_phantoms,
        ),
        checks=course.checks + drawn,
        running=running,
    )


def _guarded(tally: Tally) -> Tally:
    """No `log(0)` where nothing was accepted and the weight is not used."""
    some = tally.accepts > 0
    return tally._replace(kept=jnp.where(some, tally.kept, 1.0), mass=jnp.where(some, tally.mass, 1.0))
