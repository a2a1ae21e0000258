"""Z scores of a particle system's weighted sums against an enumerated program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from reference.programs import Program
from reference.weighing import comparisons
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
    return max(abs(z) for *_, z in comparisons(program, samples, log_weights))
