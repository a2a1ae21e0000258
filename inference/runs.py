"""Several independent runs as one population, and what their spread says of the evidence."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Float

from sentax.inference.engine import Population
from sentax.inference.evidence import log_mean_exp


def run_keys(rng_key: Array, num_runs: int) -> tuple[Array, Array]:
    """The keys of some runs, and that of the results.

    Run `r` of several is bit for bit the run that `random.split(rng_key, num_runs)[r]` gives by itself, but for
    what XLA may round otherwise in products over a larger batch.

    :return: a key, or `[R]` of them where there are several.
    """
    if num_runs == 1:
        run, results = random.split(rng_key)
        return run, results
    keys = jax.vmap(random.split)(random.split(rng_key, num_runs))
    return keys[:, 0], keys[0, 1]


def pool(runs: Population) -> Population:
    """The particles of R runs as one population of R * N; traced.

    Weights stay what they are: with `[R, N]` log-weights, `logsumexp - log(R N)` is the log of the mean of the
    runs' evidences. Ancestors count on from run to run. Of what a run has once for all its particles,
    the effective sample sizes are added, a step was resampled if any run was, and the steps are those of
    the longest run.

    :param runs: leaves have a leading axis R.
    """
    R, N = runs.log_weights.shape
    first = N * jnp.arange(R, dtype=jnp.int32)

    def onward(indices: Array) -> Array:
        return indices + first.reshape(R, *(1,) * (indices.ndim - 1))

    runs = runs._replace(
        ancestors=tuple(map(onward, runs.ancestors)),
        start=tuple(onward(start) for start in runs.start),
        records=tuple(record._replace(parents=onward(record.parents)) for record in runs.records),
    )
    shared: dict[str, Any] = {
        "ess": tuple(ess.sum(0) for ess in runs.ess),
        "resampled": tuple(resampled.any(0) for resampled in runs.resampled),
        "steps": tuple(steps.max(0) for steps in runs.steps),
    }
    nothing: dict[str, Any] = dict.fromkeys(shared, ())
    particles = runs._replace(**nothing)
    pooled = jax.tree.map(lambda leaf: leaf.reshape(R * N, *leaf.shape[2:]), particles)
    return pooled._replace(**shared)


def log_evidences(log_weights: np.ndarray, num_runs: int) -> Float[np.ndarray, " R"]:
    """Each run's own log-evidence, from the pooled log-weights `[R * N]`; `-inf` where all died."""
    return np.array([log_mean_exp(own) for own in log_weights.reshape(num_runs, -1)])


__all__ = ["log_evidences", "pool", "run_keys"]
