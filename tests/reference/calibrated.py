"""Z scores of a particle system's weighted sums against an enumerated program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from reference.programs import Program
from sentax.inference.control import Control
from sentax.inference.engine import run_particles
from sentax.inference.filter import FilterConfig
from sentax.inference.resampling import multinomial
from sentax.inference.sites import SiteNumbers


def compiled(kernel: Any, num_particles: int, runs: int, ess_threshold: float = 0.7) -> Callable[..., Any]:
    """`(seed, *args) -> (samples, log_weights)` of independent runs, compiled once."""
    config = FilterConfig(num_particles, Control(ess_threshold, multinomial))

    @jax.jit
    def many(keys: Any, args: Any) -> Any:
        def one(key: Any) -> Any:
            population = run_particles(kernel, config, SiteNumbers(), key, args, {})
            return population.samples, population.log_weights

        return jax.vmap(one)(keys)

    return lambda seed, *args: jax.device_get(many(jax.random.split(jax.random.key(seed), runs), args))


def largest_z(program: Program, samples: Any, log_weights: Any) -> float:
    """Of the evidence and of every entry of the table (the rare ones pooled): calibrated as N(0, 1) each."""
    runs, num_particles = log_weights.shape
    weights = np.exp(log_weights.astype(np.float64)) / num_particles
    index = {key: i for i, key in enumerate(program.table)}
    sums = np.zeros((runs, len(index)))
    for i in zip(*np.nonzero(weights > 0)):
        key = program.key(samples, i)
        assert key in index, f"{key} has probability 0 but was drawn with weight {weights[i]}"
        sums[i[0], index[key]] += weights[i]
    truth = np.array(list(program.table.values()))
    # An entry met in a handful of runs has no normal theory.
    rare = (sums > 0).sum(0) < 50
    columns = [sums[:, ~rare], sums.sum(1, keepdims=True)]
    truths = [truth[~rare], [program.evidence]]
    if rare.any():
        columns.append(sums[:, rare].sum(1, keepdims=True))
        truths.append([truth[rare].sum()])
    values, expected = np.concatenate(columns, 1), np.concatenate(truths)
    error = np.maximum(values.std(0) / np.sqrt(runs), 1e-6 * expected + 1e-9)
    return float(np.abs((values.mean(0) - expected) / error).max())
