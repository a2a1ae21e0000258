"""One battery for every method of the registry, on programs with dead ends that are enumerated exactly.

Proper methods: weighted sums are unbiased for the unnormalised posterior, entry by entry, and the evidence
with them (|z| < 4.75, a false alarm in 2e-6 an entry). Exact ones: the frequencies of their draws are the
posterior's. Methods that converge in particles: the bias of their mean posterior falls as 1/N. What a method
cannot run it refuses with a reason. In CI each method meets one of the programs and each program a method;
`pytest -m slow` has them all.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
import pytest
from reference.dead_ends import DEAD_ENDS
from reference.narrow import NARROW
from reference.programs import Program
from reference.weighing import assert_unbiased

import sentax as sx
from sentax.inference.methods import METHODS
from sentax.inference.sampler import Sampler

NUM_PARTICLES = 4
LOG_BOUND = {"rewarded": 1.0}
OPTIONS: dict[str, Any] = {"rejection": {"max_trials": 40, "batch_size": 40}, "cars": {"num_batches": 2}}
BOUNDED = ("rejection", "asap", "cars")
TOKENS_ONLY = ("asap", "cars", "beam", "stochastic-beam")
"""Methods for programs whose only latent sites are tokens."""


def sampler_of(method: str, program: str, model: Any, num_particles: int = NUM_PARTICLES) -> Any:
    options = OPTIONS.get(method, {})
    if method in BOUNDED:
        options = options | {"log_bound": LOG_BOUND.get(program, 0.0)}
    return METHODS[method](model, num_particles, **options)


def vectorises(sampler: Any) -> bool:
    """Whether its runs are one compiled program each, with nothing learned in between."""
    return type(sampler).run is Sampler.run or isinstance(sampler, sx.SMC)


def runs_of(sampler: Any, program: Program, runs: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Samples and log-weights of independent runs, `[R, N, ...]`."""
    keys = jax.random.split(jax.random.key(seed), runs)
    if vectorises(sampler):
        # Tables of masks are filled as states are met, which an outer vmap turns into always.
        sampler.kernel.use_masks = False

        @jax.jit
        def many(keys):
            def one(key):
                population, _ = sampler._particles(key, program.args, {})
                return population.samples, population.log_weights

            return jax.vmap(one)(keys)

        return jax.device_get(many(keys))
    populations = []
    for key in keys:
        if hasattr(sampler, "forget"):
            sampler.forget()
        sampler.run(key, *program.args)
        populations.append(jax.device_get(sampler.get_weighted_samples()))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *populations)


def refuses(method: str, program: str) -> bool:
    return method in TOKENS_ONLY and program == "latent"


PROPER = [name for name, method in METHODS.items() if method.proper]
ALL = list(itertools.product(PROPER, DEAD_ENDS))
ROTA = [(method, list(DEAD_ENDS)[(i + 2) % len(DEAD_ENDS)]) for i, method in enumerate(PROPER)]


def check(method: str, program: str, seed: int) -> None:
    case = DEAD_ENDS[program]()
    sampler = sampler_of(method, program, case.model)
    if refuses(method, program):
        with pytest.raises(sx.UnsupportedProgram):
            sampler.run(jax.random.key(0), *case.args)
        return
    assert_unbiased(case, *runs_of(sampler, case, 4_000 if vectorises(sampler) else 150, seed))


@pytest.mark.parametrize(("method", "program"), ROTA)
def test_proper(method, program):
    check(method, program, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "program"), ALL)
def test_proper_everywhere(method, program):
    check(method, program, seed=2)


def slow_but(*names: str) -> list[Any]:
    return [name if name in names else pytest.param(name, marks=pytest.mark.slow) for name in NARROW]


@pytest.mark.parametrize("program", slow_but("rare_pair", "ascending"))
def test_proper_with_few_right_texts(program):
    case = NARROW[program]()
    sampler = sampler_of("awrs-smc", program, case.model)
    assert_unbiased(case, *runs_of(sampler, case, 8_000, seed=4))


def test_every_method_and_program_is_in_the_rota():
    methods, programs = map(set, zip(*ROTA, strict=True))
    assert methods == set(PROPER)
    assert programs == set(DEAD_ENDS)


@pytest.mark.parametrize("method", ["awrs-smc", pytest.param("twisted-smc", marks=pytest.mark.slow)])
def test_bias_falls_as_one_over_the_particles(method):
    """The mean posterior's distance to the exact one: between N and 16 N it must fall by about 16.

    Of runs without a survivor nothing is averaged. The noise of the mean is far below the distances compared
    (40,000 particles); a factor of 6 is asked for.
    """
    case = DEAD_ENDS["rare_continuation"]()
    exact = {key: p / case.evidence for key, p in case.table.items()}
    distances = []
    for num_particles in (4, 64):
        samples, log_weights = runs_of(
            sampler_of(method, "rare_continuation", case.model, num_particles), case, 40_000 // num_particles, 3
        )
        peak = log_weights.max(1, keepdims=True)
        living = np.isfinite(peak[:, 0])
        weights = np.exp(log_weights[living].astype(np.float64) - peak[living])
        weights /= weights.sum(1, keepdims=True) * len(weights)
        mean = dict.fromkeys(exact, 0.0)
        samples = {name: value[living] for name, value in samples.items()}
        for i in zip(*np.nonzero(weights)):
            mean[case.key(samples, i)] += weights[i]
        distances.append(0.5 * sum(abs(mean[key] - exact[key]) for key in exact))
    assert distances[1] < distances[0] / 6, distances


@pytest.mark.parametrize(
    "program",
    ["rare_continuation", *slow_but("rare_second_letter")],
)
def test_base_sampling_and_lcd_are_biased_here(program):
    """What the programs are for: each has a dead end that locally constrained decoding over-counts."""
    case = (DEAD_ENDS | NARROW)[program]()
    exact = {key: p / case.evidence for key, p in case.table.items()}
    sampler = METHODS["lcd"](case.model, 20_000)
    sampler.run(jax.random.key(0), *case.args)
    assert not sampler.is_proper
    samples, log_weights = sampler.get_weighted_samples()
    samples = {name: np.asarray(value) for name, value in samples.items()}
    found = dict.fromkeys(exact, 0.0)
    alive = np.flatnonzero(np.isfinite(log_weights))
    for i in alive:
        found[case.key(samples, (i,))] += 1 / len(alive)
    assert 0.5 * sum(abs(found[key] - exact[key]) for key in exact) > 0.2
