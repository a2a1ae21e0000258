"""How many particles a question needs, and how many can be paid for."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jax import random

from sentax.inference.kernels.base import Kernel
from sentax.inference.results import Results
from sentax.inference.sampler import as_key
from sentax.inference.smc import SMC


@dataclasses.dataclass(frozen=True)
class Budget:
    """What a run may cost, its pilot included; None: any amount.

    :param tokens: drawn from a language model, over all particles.
    :param checks: of constraints, over all particles.
    :param seconds: of running; compilation is not counted.
    """

    tokens: float | None = None
    checks: float | None = None
    seconds: float | None = None


@dataclasses.dataclass(frozen=True)
class Pilot:
    """What some small runs showed.

    :param log_evidences: `[R]`, one a run.
    :param ess: `[R]`, effective sample sizes at their ends.
    :param cost: of all of them together.
    """

    num_particles: int
    log_evidences: np.ndarray
    ess: np.ndarray
    cost: Budget

    @property
    def relative_variance(self) -> float:
        """Of the evidence estimate of one particle's worth; infinite where no run survived."""
        peak = self.log_evidences.max()
        if np.isneginf(peak):
            return math.inf
        Z = np.exp(self.log_evidences - peak)
        return float(self.num_particles * Z.var(ddof=1) / Z.mean() ** 2)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The number of particles, and why.

    :param wanted: how many the targets need.
    :param affordable: how many the rest of the budget pays for; `limit`: the resource that says so, if any.
    :param expected_se: the standard error of the log evidence that the pilot lets expect.
    """

    num_particles: int
    wanted: float
    affordable: float
    limit: str | None
    expected_se: float

    @property
    def meets_targets(self) -> bool:
        """Whether the targets should be met."""
        return self.num_particles >= self.wanted


def make_plan(
    pilot: Pilot,
    *,
    target_se: float | None,
    target_ess: float | None,
    budget: Budget,
    max_particles: int,
) -> Plan:
    r"""The smallest number of particles that meets the targets, or the largest that can be paid for.

    The relative variance of the evidence estimate and the cost are taken to go like :math:`1/N` and
    :math:`N`. Numbers are 1, 2, 3, 4, 6, 8, 12, ...: each is compiled once.

    >>> pilot = Pilot(4, np.log([1.0, 3.0]), np.array([2.0, 2.0]), Budget(tokens=80))
    >>> make_plan(pilot, target_se=0.5, target_ess=None, budget=Budget(), max_particles=1000).num_particles
    8
    """
    wanted = 1.0
    variance = pilot.relative_variance
    if target_se is not None:
        wanted = max(wanted, variance / target_se**2)
    if target_ess is not None:
        share = float(pilot.ess.mean()) / pilot.num_particles
        wanted = max(wanted, target_ess / share if share > 0 else math.inf)
    particles = pilot.num_particles * len(pilot.log_evidences)
    affordable, limit = float(max_particles), None
    for field in dataclasses.fields(Budget):
        allowed, spent = getattr(budget, field.name), getattr(pilot.cost, field.name)
        if allowed is not None and spent:
            number = max(allowed - spent, 0.0) / (spent / particles)
            if number < affordable:
                affordable, limit = number, field.name
    # What only just fits is not enlarged by the rounding; what is needed is.
    num_particles = max(1, int(min(_sizes_up(wanted), _sizes_down(affordable))))
    expected = math.sqrt(variance / num_particles) if math.isfinite(variance) else math.inf
    return Plan(num_particles, wanted, affordable, limit, expected)


class BudgetedSMC(Results):
    r"""SMC with as many particles as its targets need and its budget allows.

    Some small pilot runs say how much the evidence estimate varies, how many effective samples there are to a
    particle, and what a particle costs. The number of particles is chosen from that, and a run of its own,
    with a key of its own, gives the results; the pilot is not part of them. So they are unbiased: whatever N
    the pilot has led to, :math:`E[\hat Z \mid N] = Z`. (Pooling both, or stopping when an estimate looks good,
    is not.)

    :param kernel: a model in its kernel.
    :param target_se: the relative standard error of the evidence (of its log, that is) to be reached.
    :param target_ess: the effective sample size to be reached.
    :param budget: what all of it may cost. The pilot is always run, and then at least one particle.
    :param pilot_particles: of each pilot run; `pilot_runs`: at least 2.
    :param max_particles: what memory allows.
    :param options: of :class:`SMC`, `num_particles` and `num_runs` apart.
    :raises ValueError: if there is neither a target nor a budget, or for numbers out of range.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=3, where=sx.regex("a*"))
    >>> smc = BudgetedSMC(sx.Prior(model), target_ess=20, budget=Budget(tokens=2000), pilot_particles=4)
    >>> smc.run(jax.random.key(0), lm.prompt())
    >>> smc.plan.num_particles >= 20, smc.ess > 5
    (True, True)
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        target_se: float | None = None,
        target_ess: float | None = None,
        budget: Budget | None = None,
        pilot_particles: int = 16,
        pilot_runs: int = 8,
        max_particles: int = 4096,
        **options: Any,
    ) -> None:
        if target_se is None and target_ess is None and budget is None:
            raise ValueError("BudgetedSMC needs target_se, target_ess or a budget")
        for name, value in (("target_se", target_se), ("target_ess", target_ess)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}")
        if pilot_runs < 2:
            raise ValueError(f"pilot_runs must be at least 2, to see how runs differ; got {pilot_runs!r}")
        if max_particles < 1:
            raise ValueError(f"max_particles must be at least 1, got {max_particles!r}")
        if reserved := {"num_particles", "num_runs"} & options.keys():
            raise ValueError(f"{sorted(reserved)[0]} is chosen by BudgetedSMC: leave it out")
        self.targets = {"target_se": target_se, "target_ess": target_ess}
        self.budget = budget or Budget()
        self.max_particles = max_particles
        self._kernel, self._options = kernel, options
        self._pilot = SMC(kernel, num_particles=pilot_particles, num_runs=pilot_runs, **options)
        # Bigger runs are kept compiled by their size.
        self._samplers: dict[int, SMC] = {}
        self.pilot: Pilot | None = None
        self.plan: Plan | None = None

    def run(self, rng_key: Any, *args: Any, **kwargs: Any) -> None:
        """Runs the pilot, chooses N, runs again and keeps the second run's results.

        See :meth:`SMC.run` for what it raises.
        """
        self._population = None
        key_pilot, key_run = random.split(as_key(rng_key))
        self._pilot.run(key_pilot, *args, **kwargs)
        self.pilot = _figures(self._pilot)
        # No target: all that the budget pays for.
        targets = self.targets
        if targets["target_se"] is None and targets["target_ess"] is None:
            targets = {"target_se": None, "target_ess": math.inf}
        self.plan = make_plan(self.pilot, **targets, budget=self.budget, max_particles=self.max_particles)
        N = self.plan.num_particles
        if N not in self._samplers:
            self._samplers[N] = SMC(self._kernel, num_particles=N, **self._options)
        smc = self._samplers[N]
        smc.run(key_run, *args, **kwargs)
        self.resampling = smc.resampling
        self._keep(smc.population, smc._sites, smc._rng_key, smc._times)


def _figures(smc: SMC) -> Pilot:
    weights = smc.log_weights.astype(np.float64).reshape(smc.num_runs, -1)
    peak = weights.max(1, keepdims=True)
    w = np.exp(weights - np.where(np.isfinite(peak), peak, 0.0))
    squares = (w**2).sum(1)
    ess = np.where(squares > 0, w.sum(1) ** 2 / np.where(squares > 0, squares, 1.0), 0.0)
    population = smc.population
    cost = Budget(
        tokens=float(np.asarray(population.tokens, np.int64).sum()),
        checks=float(np.asarray(population.checks, np.int64).sum()),
        seconds=smc._times[1],
    )
    return Pilot(smc.num_particles, smc.run_log_evidences, ess, cost)


def _sizes_down(number: float) -> int:
    """The largest of 1, 2, 3, 4, 6, 8, 12, ... that is not above the number; 0 below 1."""
    if number < 1:
        return 0
    power = 1 << (int(number).bit_length() - 1)
    return power + power // 2 if power > 1 and number >= power + power // 2 else power


def _sizes_up(number: float) -> float:
    """The smallest of these numbers that is not below it, up to rounding; infinite if it is."""
    if math.isinf(number):
        return math.inf
    size = _sizes_down(number * (1 + 1e-9))
    if size >= number * (1 - 1e-9):
        return size
    # 2^k is followed by 3 2^(k-1), that by 2^(k+1); 1 by 2.
    power = 1 << (size.bit_length() - 1)
    return size + max(1, power // 2)


__all__ = ["Budget", "BudgetedSMC", "Pilot", "Plan", "make_plan"]
