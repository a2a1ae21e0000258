"""An expectation held to a bound: the multiplier of a cost, found by reweighting one run to the next."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sentax.inference.engine import Population
from sentax.inference.errors import NoSurvivingParticles
from sentax.inference.sampler import Sampler

Vector = Float[np.ndarray, " N"]


class Met(NamedTuple):
    """A bound that is met.

    :param multiplier: what the cost is multiplied by, per unit of it; 0 where the bound did not bind.
    :param expectation: E[cost] at that multiplier, estimated by the run the sampler keeps.
    :param standard_error: of `expectation`: over lineages, NaN if all particles descend from one.
    :param num_runs: how many runs it took.
    """

    multiplier: float
    expectation: float
    standard_error: float
    num_runs: int


class InfeasibleExpectation(ValueError):
    """No multiplier in bounds meets the expectation.

    :param expectation: the least that was reached, and `multiplier`: where.
    """

    def __init__(self, message: str, expectation: float, multiplier: float) -> None:
        super().__init__(message)
        self.expectation, self.multiplier = expectation, multiplier


def meet_expectation(
    sampler: Sampler,
    rng_key: Any,
    *args: Any,
    cost: str,
    at_most: float,
    max_multiplier: float = 1e3,
    tolerance: float | None = None,
    max_runs: int = 20,
    **kwargs: Any,
) -> Met:
    r"""Runs a sampler at the least multiplier of a cost at which its expectation is within a bound.

    The posterior then is the projection of the program :math:`p` on the bound,

    .. math:: \arg\min_q \{ \mathrm{KL}(q \,\|\, p) : E_q[c] \le b \} = p(x)\, e^{-\lambda c(x)} / Z_\lambda,

    with :math:`\lambda = 0`, or :math:`\lambda > 0` and :math:`E[c] = b` (Csiszár 1975; Ganchev et al. 2010,
    "Posterior regularization", section 2). :math:`E_\lambda[c]` falls as :math:`\lambda` grows (its slope is
    minus the variance), so there is one root. Each run's particles, reweighted by
    :math:`e^{-(\lambda' - \lambda) c}`, say where it lies, and the next run goes there: as far as half of the
    run's effective sample size bears it, and within the bracket that all runs so far have left. All runs take
    the same key (common random numbers), so they differ by the multiplier alone.

    The model takes the keyword `multiplier`, an array, so that runs share one compiled program, and gives it to
    :func:`sentax.cost` and to nothing else. Afterwards the sampler keeps the results of the last run, at the
    multiplier that is returned.

    :param sampler: any sampler of sentax. Its estimates, and so the multiplier, have the error that comes with
        its number of particles.
    :param rng_key: the key of every run; `args` and `kwargs`: the model's other arguments.
    :param cost: the name of the cost.
    :param at_most: the bound b, in the cost's units.
    :param max_multiplier: the largest multiplier to try, above 0.
    :param tolerance: how far from b a bound that binds may be met, in the cost's units; by default one standard
        error of the run.
    :param max_runs: how many runs there may be.
    :raises InfeasibleExpectation: if the cost stays above the bound at the largest multiplier.
    :raises NoSurvivingParticles: if in a run every particle died.
    :raises RuntimeError: if `max_runs` do not reach the tolerance.
    :raises KeyError: if the program has no such cost; ValueError for settings out of range.

    >>> import jax, sentax as sx
    >>> from sentax.ppl.rewards import cost
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context, multiplier):
    ...     text = sx.generate("text", context, max_tokens=4)
    ...     cost("length", text.length, multiplier)
    >>> smc = sx.SMC(sx.Prior(model), num_particles=2000)
    >>> met = meet_expectation(smc, jax.random.key(0), lm.prompt(), cost="length", at_most=1.0)
    >>> abs(met.expectation - 1.0) <= met.standard_error, 0.3 < met.multiplier < 0.7
    (True, True)
    """
    _check(at_most, max_multiplier, tolerance, max_runs)
    low, high, multiplier = 0.0, math.inf, 0.0
    for run in range(1, max_runs + 1):
        sampler.run(rng_key, *args, multiplier=np.float32(multiplier), **kwargs)
        values, weights, error = _costs(sampler, cost)
        expectation = float(weights @ values)
        met = Met(multiplier, expectation, error, run)
        if multiplier == 0 and expectation <= at_most:
            return met
        if abs(expectation - at_most) <= _allowed(error if tolerance is None else tolerance):
            return met
        if expectation > at_most:
            low = multiplier
            if multiplier >= max_multiplier:
                raise InfeasibleExpectation(
                    f"E[{cost}] is {expectation:.6g} at the largest multiplier, {max_multiplier:g}, above "
                    f"{at_most:g}, and the cheapest particle costs {values.min():.6g}: "
                    "raise max_multiplier, the bound, or the number of particles",
                    expectation,
                    multiplier,
                )
        else:
            high = multiplier
        multiplier = _next(values, weights, at_most, met.multiplier, low, high, max_multiplier)
        if multiplier in (low, high):
            break
    raise RuntimeError(
        f"E[{cost}] is {expectation:.6g} +- {error:.2g} at multiplier {met.multiplier:.6g} after {run} runs, "
        f"not {at_most:g}: use more particles (resampling makes the estimate jump), "
        "or a larger tolerance or max_runs"
    )


def _allowed(tolerance: float) -> float:
    if math.isnan(tolerance):
        raise RuntimeError(
            "all particles descend from one, so the expectation's standard error is unknown: "
            "use more particles, or give a tolerance"
        )
    return tolerance


def _check(at_most: float, max_multiplier: float, tolerance: float | None, max_runs: int) -> None:
    if not math.isfinite(at_most):
        raise ValueError(f"at_most must be finite, got {at_most}")
    if not 0 < max_multiplier < math.inf:
        raise ValueError(f"max_multiplier must be above 0 and finite, got {max_multiplier}")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, got {tolerance}")
    if isinstance(max_runs, bool) or not isinstance(max_runs, int) or max_runs < 1:
        raise ValueError(f"max_runs must be an integer of at least 1, got {max_runs!r}")


def _costs(sampler: Sampler, name: str) -> tuple[Vector, Vector, float]:
    """The costs of the particles that live, their probabilities, and the standard error of the mean."""
    population = sampler.population
    if name not in population.rewards:
        known = ", ".join(sorted(population.rewards)) or "none"
        raise KeyError(f"no cost {name!r}; the program's rewards: {known}")
    log_weights = np.asarray(population.log_weights, np.float64)
    if np.isneginf(log_weights).all():
        raise NoSurvivingParticles(f"every particle died: E[{name}] is not known")
    values = -np.asarray(population.rewards[name], np.float64)
    alive = ~np.isneginf(log_weights)
    roots = lineages(population)[alive]
    values, log_weights = values[alive], log_weights[alive]
    if not np.isfinite(values).all():
        raise ValueError(f"cost {name!r} is infinite for a particle that lives: its expectation has no root")
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    return values, weights, standard_error(values, weights, roots)


def lineages(population: Population) -> Int[np.ndarray, " N"]:
    """The particle that each descends from, before the first resampling."""
    roots = np.arange(np.shape(population.log_weights)[-1])
    for start in reversed(population.start):
        roots = np.asarray(start)[roots]
    return roots


def standard_error(values: Vector, weights: Vector, roots: Int[np.ndarray, " N"]) -> float:
    r"""Of a weighted mean, by lineage: :math:`\sqrt{\sum_r (\sum_{i \in r} w_i (v_i - \bar v))^2}`.

    Descendants of one particle are not independent, families are (Chan and Lai 2013, eq. 2.15). Without
    resampling it is the delta method's for self-normalised weights. Stratified ways of resampling do better
    than it says. NaN where one family is left: it knows nothing of the others.

    >>> round(standard_error(np.array([0.0, 1.0]), np.array([0.5, 0.5]), np.array([0, 1])), 4)
    0.3536
    """
    families, index = np.unique(roots, return_inverse=True)
    if len(families) < 2:
        return math.nan
    deviations = np.bincount(index, weights * (values - weights @ values))
    return float(np.sqrt(deviations @ deviations))


def _next(
    values: Vector,
    weights: Vector,
    at_most: float,
    multiplier: float,
    low: float,
    high: float,
    max_multiplier: float,
) -> float:
    """The root of the reweighted expectation, as far as the particles bear it, else the bracket's middle."""
    rising = bool(weights @ values > at_most)

    def beyond(other: float) -> bool:
        """Whether `other` is further than the particles bear, or than the root."""
        exponent = -(other - multiplier) * values
        new = weights * np.exp(exponent - exponent.max())
        new /= new.sum()
        return bool(new @ new > 2 * (weights @ weights)) or (new @ values > at_most) != rising

    near, far = multiplier, min(high, max_multiplier) if rising else low
    if beyond(far):
        for _ in range(100):  # the interval is down to a float's precision long before
            middle = 0.5 * (near + far)
            near, far = (near, middle) if beyond(middle) else (middle, far)
    # An end of the bracket was run before, and lies further from the bound than is allowed.
    target = 0.5 * (low + high) if far in (low, high) else far
    return float(np.float32(target))


__all__ = ["InfeasibleExpectation", "Met", "lineages", "meet_expectation", "standard_error"]
