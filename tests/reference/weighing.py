"""Whether weighted particles of many runs are unbiased for a program's exact table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import random

from reference.programs import Program
from sentax.inference.control import Control
from sentax.inference.engine import Population, SiteNumbers, run_particles
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels import Kernel


def independent_runs(
    program: Program, kernel: Kernel, num_particles: int, control: Control, runs: int, seed: int = 0
) -> Population:
    """Many runs at once, on the host; leaves have a leading axis R."""
    config = FilterConfig(num_particles, control)

    @jax.jit
    def many(keys: Any) -> Population:
        def one(key: Any) -> Population:
            return run_particles(kernel, config, SiteNumbers(), key, program.args, {})._replace(texts={})

        return jax.vmap(one)(keys)

    population = jax.device_get(many(random.split(random.key(seed), runs)))
    assert (population.weight.invalid < 0).all(), "a weight was NaN or +inf"
    return population


def sums_by_run(program: Program, samples: Any, log_weights: np.ndarray) -> np.ndarray:
    """`(1/N) sum_i w_i 1{value_i}` of each run, for every value of the program's table: `[R, values]`.

    :param samples: leaves `[R, N, ...]`; `log_weights` `[R, N]`.
    """
    runs, N = log_weights.shape
    weights = np.exp(log_weights.astype(np.float64)) / N
    index = {key: i for i, key in enumerate(program.table)}
    sums = np.zeros((runs, len(index)))
    for i in zip(*np.nonzero(weights > 0)):
        key = program.key(samples, i)
        assert key in index, f"{key} has probability 0 but was drawn with weight {weights[i]}"
        sums[i[0], index[key]] += weights[i]
    return sums


def comparisons(
    program: Program, samples: Any, log_weights: np.ndarray
) -> Iterator[tuple[str, float, float, float]]:
    """Each entry of the table and the evidence: its name, mean over runs, exact value, and z score.

    Entries met in fewer than 50 runs have no normal theory: they are pooled.
    """
    sums = sums_by_run(program, samples, log_weights)
    truth = np.array(list(program.table.values()))
    rare = (sums > 0).sum(0) < 50
    columns = [(f"entry {i}", sums[:, i], truth[i]) for i in np.flatnonzero(~rare)]
    columns.append(("evidence", sums.sum(1), program.evidence))
    if rare.any():
        columns.append(("rare entries", sums[:, rare].sum(1), truth[rare].sum()))
    for name, column, exactly in columns:
        error = max(column.std() / np.sqrt(len(column)), 1e-6 * exactly, 1e-9)
        yield name, column.mean(), exactly, (column.mean() - exactly) / error


def assert_unbiased(program: Program, samples: dict[str, np.ndarray], log_weights: np.ndarray) -> None:
    """Compares the mean over runs of `(1/N) sum_i w_i 1{value_i}` with the table, entry by entry.

    Each comparison has a false-alarm rate of 2e-6 (|z| < 4.75).

    :param samples: leaves `[R, N, ...]`; `log_weights` `[R, N]`.
    """
    assert not np.isnan(log_weights).any()
    for name, mean, exactly, z in comparisons(program, samples, log_weights):
        assert abs(z) < 4.75, f"{name}: {mean:.6f}, exactly {exactly:.6f}, z = {z:.1f}"
