r"""When particles are resampled, who takes part, and what their weights are after it.

Every rule here keeps the target. Draw ancestors in proportion to any positive preference
:math:`v_i = w_i g_i`, give each offspring the weight :math:`\bar v / g_a` of its ancestor :math:`a`, and for
every function :math:`f` of a particle

.. math:: E\Big[\tfrac1N \sum_i \tfrac{\bar v}{g_{a_i}} f(x_{a_i})\Big] = \tfrac1N \sum_i w_i f(x_i).

With :math:`g = 1` this is ordinary resampling. Among a subset alone, with :math:`\bar v` its own mean, it is
partial resampling: the subset's total weight stays what it was, and so do all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Bool, Float, Int

from sentax.inference import lanes
from sentax.inference.resampling import Resampler, multinomial
from sentax.ppl.uniform import open_uniform

Schedule = Callable[[Int[Array, ""]], Any]
"""A number for each step; steps are counted from 0 over all scans of the program."""


class Decision(NamedTuple):
    """One particle's part in a resampling.

    :param need: whether any particle is replaced; the same for all.
    :param ancestor: whom this particle is replaced by, itself where it stays.
    :param log_weight: its weight afterwards, since this resampling; `log_evidence`: of what came before.
    :param ess: the effective sample size of all particles before it, the same for all.
    """

    need: Bool[Array, ""]
    ancestor: Int[Array, ""]
    log_weight: Float[Array, ""]
    log_evidence: Float[Array, ""]
    ess: Float[Array, ""]


class Control(NamedTuple):
    """How a particle filter resamples; static.

    :param ess_threshold: resample before a step when the effective sample size is under this
        fraction of the number of particles; 0 never does. A number, or one for each step.
    :param resampler: see :mod:`sentax.inference.resampling`.
    :param conditional: whether particle 0 stays itself (conditional SMC; Andrieu et al. 2010). The others'
        ancestors are then drawn independently.
    :param at: whether there may be a resampling before a step at all; None: before any.
    :param unit: only particles at the end of such a unit (see :func:`sentax.unit`) take part, dead ones and
        those whose text has ended too; the threshold is about the effective sample size among them.
    :param tempering: see :class:`~sentax.inference.smc.SMC`.
    """

    ess_threshold: float | Schedule
    resampler: Resampler
    conditional: bool = False
    at: Schedule | None = None
    unit: str | None = None
    tempering: Schedule | None = None

    def decide(
        self,
        rng_key: Array,
        t: Int[Array, ""],
        log_weight: Float[Array, ""],
        log_evidence: Float[Array, ""],
        *,
        step: Int[Array, ""] | None = None,
        boundary: Bool[Array, ""] | bool = True,
        log_soft: Float[Array, ""] | float = 0.0,
    ) -> Decision:
        """Before step `t`; call it under `vmap` over the particle axis.

        :param rng_key: the same for all particles of a scan.
        :param step: the number of the step over all scans, if that is another one.
        :param boundary: whether this particle is at the end of a unit.
        :param log_soft: the sum of its finite log-factors so far.
        """
        step = t if step is None else step
        log_tilt = jnp.float32(0.0)
        if self.tempering is not None:
            log_tilt = (1.0 - jnp.asarray(self.tempering(step), jnp.float32)) * log_soft
        preference = log_weight - log_tilt
        taking_part = jnp.asarray(boundary) | jnp.isneginf(log_weight)
        if self.unit is not None:
            preference = jnp.where(taking_part, preference, -jnp.inf)
        preferences = lanes.gather(preference)
        (N,) = preferences.shape
        count = jnp.float32(N) if self.unit is None else lanes.gather(taking_part).sum().astype(jnp.float32)
        ess = lanes.effective_sample_size(preferences)
        threshold = self.ess_threshold(step) if callable(self.ess_threshold) else self.ess_threshold
        need = (ess < threshold * count) & (ess > 0)
        if self.at is not None:
            need = need & self.at(step)
        ancestors = lax.cond(
            need,
            lambda: self._ancestors(random.fold_in(rng_key, t), preferences, taking_part),
            lambda: jnp.arange(N, dtype=jnp.int32),
        )
        ancestor = ancestors[lanes.index()]
        # What the ancestor was held back by, or pushed, is made up for.
        owed = jnp.float32(0.0) if self.tempering is None else lanes.gather(log_tilt)[ancestor]
        if self.unit is None:
            log_mean = lanes.log_mean_exp(preferences)
            after = jnp.where(need, owed, log_weight)
            log_evidence = log_evidence + jnp.where(need, log_mean, 0.0)
        else:
            log_mean = lanes.log_sum_exp(preferences) - jnp.log(jnp.maximum(count, 1.0))
            after = jnp.where(need & taking_part, log_mean + owed, log_weight)
        plain = self.unit is None and self.tempering is None
        whole = ess if plain else lanes.effective_sample_size(lanes.gather(log_weight))
        return Decision(need, ancestor, after, log_evidence, whole)

    def _ancestors(self, rng_key: Array, preferences: Float[Array, " N"], taking_part: Any) -> Any:
        if self.unit is not None:
            if self.conditional:
                raise ValueError("conditional SMC resamples all particles: leave resample_at out")
            draw, order = random.split(rng_key)
            return _among(order, self.resampler(draw, preferences), lanes.gather(taking_part))
        if not self.conditional:
            return self.resampler(rng_key, preferences)
        draw, order = random.split(rng_key)
        # Sorted as they come, so that only a shuffle makes the others' law the same for each place.
        return random.permutation(order, multinomial(draw, preferences)).at[0].set(0)


def _among(rng_key: Array, ancestors: Int[Array, " N"], members: Bool[Array, " N"]) -> Int[Array, " N"]:
    """Ancestors for the members alone, out of a resampler's N.

    Every `N / n`-th of the sorted ancestors, from a random start: each is met with probability `n / N`, so
    that a particle's expected number of offspring is `n` times its share, whatever the resampler; and what
    was spread evenly stays spread evenly.
    """
    (N,) = ancestors.shape
    rank = jnp.cumsum(members) - 1
    slot = jnp.floor((rank + open_uniform(rng_key)) * (N / jnp.maximum(members.sum(), 1)))
    chosen = jnp.sort(ancestors)[jnp.clip(slot.astype(jnp.int32), 0, N - 1)]
    return jnp.where(members, chosen, jnp.arange(N)).astype(jnp.int32)


def as_schedule(name: str, value: Any) -> float | Schedule:
    """A number, or a function of the step, from what a user gives: a number, an array by step, a function.

    The last entry of an array holds for all later steps. All numbers lie between 0 and 1.

    >>> as_schedule("ess_threshold", 0.5)
    0.5
    >>> float(as_schedule("tempering", [0.0, 0.5, 1.0])(7))
    1.0

    :raises ValueError: for numbers out of range or an array that is not one-dimensional.
    """
    if callable(value):
        return value
    table = np.asarray(value, np.float32)
    if table.ndim > 1 or table.size == 0:
        raise ValueError(
            f"{name} must be a number, one for each step, or a function of the step; got {value!r}"
        )
    if not ((table >= 0) & (table <= 1)).all():
        raise ValueError(f"{name} must lie between 0 and 1, got {value!r}")
    if table.ndim == 0:
        return float(value)
    return lambda step: jnp.asarray(table)[jnp.minimum(step, len(table) - 1)]


def steps_of(every: int | None, steps: Sequence[int] | None) -> Schedule | None:
    """Whether a step is one of those before which there may be a resampling; None: each is.

    :raises ValueError: for numbers out of range, or if both are given.
    """
    if every is not None and steps is not None:
        raise ValueError("give resample_every or resample_steps, not both")
    if every is not None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"resample_every must be an integer of at least 1, got {every!r}")
        return lambda step: (step > 0) & (step % every == 0)
    if steps is None:
        return None
    chosen = np.asarray(steps, np.int64)
    if chosen.ndim != 1 or (chosen != np.asarray(steps)).any() or (chosen < 0).any():
        raise ValueError(f"resample_steps must be step numbers of at least 0, got {steps!r}")
    # A table, not `isin`: one lookup a step.
    table = np.zeros(int(chosen.max(initial=0)) + 2, bool)
    table[chosen] = True
    return lambda step: jnp.asarray(table)[jnp.minimum(step, len(table) - 1)]


__all__ = ["Control", "Decision", "Schedule", "as_schedule", "steps_of"]
