"""Rejection sampling of whole executions, with a budget."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax import random

from sentax.inference.errors import NoSurvivingParticles
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.prior import Prior
from sentax.inference.sampler import Sampler, as_key
from sentax.inference.trials import check_bound, on_host, rows
from sentax.ppl.constraints.predicate import host_errors


class RejectionSampling(Sampler):
    r"""Draws from the program's prior until enough are accepted: exact samples of the posterior.

    A draw is accepted with probability :math:`\prod \phi(x) / e^{b}`, where the log-bound :math:`b` holds for
    the sum of all log-factors of every text. Trials are made in batches, and gone through in order until the
    k-th acceptance, k = `num_particles`, at trial n, or until `max_trials` = M are spent with :math:`a < k`
    accepted. The evidence estimate

    .. math:: \hat Z = e^{b}\,\frac{k-1}{n-1}\quad\text{or}\quad e^{b}\,\frac{a}{M}

    is unbiased for this stopping rule (Girshick, Mosteller and Savage 1946, for any closed sampling plan).
    The accepted draws come first and weigh the same; places that were not filled have weight 0.

    :param model: a NumPyro model.
    :param num_particles: how many draws to accept, at least 2 (with 1 the only unbiased estimate is 0 or 1).
    :param max_trials: the budget, M.
    :param log_bound: an upper bound on the sum of a text's log-factors; 0 where all of them are hard.
    :param batch_size: trials run together, at least `num_particles` (the default). Of the last batch
        some may be run in vain.
    :param progress_bar: shows the steps on standard error while running.
    :raises ValueError: for a number out of range, or in :meth:`run` if a draw exceeds the bound.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=3, where=sx.regex("a?b"))
    >>> sampler = RejectionSampling(model, num_particles=400, max_trials=10_000)
    >>> sampler.run(jax.random.key(0), lm.prompt())
    >>> posterior = sampler.posterior("text")
    >>> sorted(posterior), abs(posterior["ab"] - 1 / 4) < 0.1
    (['ab', 'b'], True)
    >>> sampler.num_accepted, 0.1 < sampler.num_accepted / sampler.num_trials < 0.2  # 4/27
    (400, True)
    """

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        num_particles: int = 32,
        max_trials: int = 10_000,
        log_bound: float = 0.0,
        batch_size: int | None = None,
        progress_bar: bool = False,
    ) -> None:
        super().__init__(Prior(model), num_particles=num_particles, progress_bar=progress_bar)
        if num_particles < 2:
            raise ValueError(
                "RejectionSampling needs num_particles of at least 2: stopped at the first acceptance, no "
                f"unbiased estimate of the evidence is left but 0 or 1; got {num_particles}"
            )
        batch_size = num_particles if batch_size is None else batch_size
        if batch_size < num_particles:
            raise ValueError(f"batch_size={batch_size} must be at least num_particles={num_particles}")
        if max_trials < 1:
            raise ValueError(f"max_trials must be at least 1, got {max_trials}")
        if not np.isfinite(log_bound):
            raise ValueError(f"log_bound must be finite, got {log_bound}")
        self.max_trials, self.log_bound, self.batch_size = max_trials, float(log_bound), batch_size
        self.num_trials = 0
        """Trials of the latest run, up to the last one that counts."""
        self.num_accepted = 0
        """How many of them were accepted, at most `num_particles`."""

    @property
    def _config(self) -> FilterConfig:
        return dataclasses.replace(super()._config, num_particles=self.batch_size)

    def run(self, rng_key: Any, *args: Any, **kwargs: Any) -> None:
        """Runs trials and keeps those that are accepted; see :meth:`Sampler.run` for the rest.

        :raises ValueError: if a draw's log-factors exceed `log_bound`.
        """
        self._population = None
        self._place((args, kwargs))
        key_run, key_results = random.split(as_key(rng_key))
        started, compile_time = time.perf_counter(), 0.0
        kept: list[Any] = []
        population: Any
        accepted: list[np.ndarray] = []
        costs: list[np.ndarray] = []
        trials = found = 0
        with host_errors(), self.progress or contextlib.nullcontext():
            while trials < self.max_trials and found < self.num_particles:
                key_draw, key_accept = random.split(random.fold_in(key_run, len(costs)))
                population, sites = self._executable(key_draw, args, kwargs)
                compile_time += self._executable.compile_time
                self._keep(population, sites, key_results)  # or the error that it must not be kept
                population = on_host(population)
                check_bound(population.log_weights, self.log_bound, "RejectionSampling")
                uniform = np.asarray(random.uniform(key_accept, (self.batch_size,)))
                yes = uniform < np.exp(population.log_weights.astype(np.float64) - self.log_bound)
                yes[self.max_trials - trials :] = False
                here = np.flatnonzero(yes)[: self.num_particles - found]
                found += len(here)
                kept.append(rows([population], [here]))
                accepted.append(trials + here)
                costs.append(np.stack([population.checks, population.tokens], 1).astype(np.int64))
                trials += self.batch_size
        self._population = None
        positions = np.concatenate(accepted)
        enough = found == self.num_particles
        self.num_accepted = found
        self.num_trials = int(positions[-1]) + 1 if enough else self.max_trials
        share = unbiased_share(found, self.num_trials, self.num_particles)
        # Places that were not filled are taken by draws of the last batch that were not accepted.
        spare = np.setdiff1d(np.arange(self.batch_size), positions - (trials - self.batch_size))
        kept.append(rows([population], [spare[: self.num_particles - found]]))
        whole = rows(kept, [np.arange(len(k.log_weights)) for k in kept])
        weights = np.full(self.num_particles, -np.inf, np.float32)
        if found:
            weights[:found] = self.log_bound + np.log(share * self.num_particles / found)
        checks, tokens = _spread(np.concatenate(costs), positions, self.num_particles)
        whole = whole._replace(log_weights=weights, checks=checks, tokens=tokens)
        times = compile_time, time.perf_counter() - started - compile_time
        self._keep(jax.device_put(whole), sites, key_results, times)

    def _surviving(self) -> np.ndarray:
        if np.isneginf(self.log_weights).all():
            raise NoSurvivingParticles(
                f"none of {self.num_trials} trials was accepted: the constraint is improbable under the model "
                "alone. Raise max_trials, or use a sampler that looks ahead: SMC(AWRS(model)), CARS(model)"
            )
        return self.log_weights


def unbiased_share(accepted: int, trials: int, wanted: int) -> float:
    """The unbiased estimate of an acceptance rate where trials stop at the `wanted`-th acceptance.

    (Girshick, Mosteller and Savage 1946: the share of the ways to that stop that begin with an
    acceptance.)

    :param wanted: at least 2.

    >>> unbiased_share(2, 11, 2), unbiased_share(1, 20, 2)
    (0.1, 0.05)
    """
    return (accepted - 1) / (trials - 1) if accepted == wanted else accepted / trials


def _spread(costs: np.ndarray, positions: np.ndarray, num_particles: int) -> Any:
    """What each accepted draw cost, the trials since the one before it included; the last bears the rest."""
    total = np.zeros((num_particles, 2), np.int64)
    cumulative = np.cumsum(costs, 0)
    total[: len(positions)] = np.diff(cumulative[positions], axis=0, prepend=0)
    total[-1] += cumulative[-1] - total.sum(0)
    return total[:, 0], total[:, 1]


__all__ = ["RejectionSampling", "unbiased_share"]
