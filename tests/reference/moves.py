"""Markov moves against enumeration, without samples of the posterior to start from.

A run `u` of a particle is properly weighted: `E[w(u) f(u)] = Z E_posterior[f]`. A kernel leaves the posterior
(on the extended space of `u`) invariant only if the moved run with the *old* weight is properly weighted too:
`E[w(u) f(u')] = Z E_posterior[f]`. That is a mean of independent draws: each entry of the table is a z-test.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import sentax as sx
from reference.programs import Program
from reference.weighing import assert_unbiased
from sentax.inference.chains import Trajectories, dead
from sentax.inference.control import Control
from sentax.inference.engine import run_particles
from sentax.inference.filter import FilterConfig
from sentax.inference.resampling import systematic
from sentax.inference.sites import SiteNumbers
from sentax.inference.suffix_mh import suffix_step

KERNELS: dict[str, Any] = {
    "prior": sx.Prior,
    "lcd": sx.LocallyConstrained,
    "two_round": lambda model: sx.AWRS(model, use_masks=False),
    "recursive": lambda model: sx.AWRS(model, estimator=sx.recursive, use_masks=False),
    "geometric": lambda model: sx.AWRS(model, estimator=sx.geometric(3), use_masks=False),
    "masks": sx.AWRS,
}


def suffix_mover(program: Program, kernel: Any, num_chains: int) -> tuple[Any, Trajectories]:
    """A compiled `(key, state) -> (state, info)`, and a state of no weight: from it a move is a first run."""
    config = FilterConfig(num_chains, Control(0.0, systematic))

    def fresh(key: Any) -> Any:
        return run_particles(kernel, config, SiteNumbers(), key, program.args, {})

    @jax.jit
    def move(key: Any, state: Trajectories) -> Any:
        state, info, _ = suffix_step(kernel, config, SiteNumbers(), key, state, program.args, {})
        return state, info

    return move, dead(jax.eval_shape(fresh, jax.random.key(0)))


def assert_moved_unbiased(program: Program, samples: Any, log_weight: Any) -> None:
    """The z-tests, for moved samples `[R, ...]` with the weights `[R]` of before."""
    single = jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], dict(samples))
    assert_unbiased(program, single, np.asarray(log_weight)[:, None])
