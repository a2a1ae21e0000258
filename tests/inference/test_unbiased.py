"""The particle system against enumeration: evidence and unnormalised posterior are unbiased.

For every value of a program's results, the mean over independent runs of (1/N) sum_i w_i 1{value_i} is its
unnormalised posterior probability, whatever N. Each test compares the whole table at once: the largest z
score over its entries, each with a false-alarm rate of 2e-6 (|z| < 4.75), and the evidence likewise.
"""

import itertools

import numpy as np
import pytest
from reference.programs import PROGRAMS, Program
from reference.weighing import independent_runs, sums_by_run

import sentax as sx
from sentax.inference.control import Control

KERNELS = {
    "prior": sx.Prior,
    "lcd": lambda m: sx.LocallyConstrained(m, use_masks=False),
    "two_round": lambda m: sx.AWRS(m, use_masks=False),
    "recursive": lambda m: sx.AWRS(m, estimator=sx.recursive, use_masks=False),
    "geometric": lambda m: sx.AWRS(m, estimator=sx.geometric(3), use_masks=False),
    "masks": sx.AWRS,
}
# Tables of masks are filled as states are met, which an outer vmap turns into always: fewer draws.
DRAWS = {"masks": 8_000}
RESAMPLERS = [sx.systematic, sx.stratified, sx.multinomial, sx.residual]
NUM_PARTICLES = [1, 2, 5, 64]


def check(program: Program, kernel: str, num_particles: int, resampler, seed: int, draws: int = 40_000) -> None:
    runs = max(draws // num_particles, 1000)
    population = independent_runs(
        program, KERNELS[kernel](program.model), num_particles, Control(0.7, resampler), runs, seed
    )
    sums = sums_by_run(program, population.samples, population.log_weights)
    truth = np.array(list(program.table.values()))
    error = sums.std(0) / np.sqrt(runs)
    # An entry met in a handful of runs has no normal theory: pool the rare ones.
    rare = (sums > 0).sum(0) < 50
    columns = [*np.flatnonzero(~rare)]
    z = (sums.mean(0) - truth)[columns] / error[columns]
    pooled = sums.sum(1)
    z_all = (pooled.mean() - program.evidence) / max(pooled.std() / np.sqrt(runs), 1e-6 * program.evidence)
    if rare.any():
        rest = sums[:, rare].sum(1)
        z = np.append(z, (rest.mean() - truth[rare].sum()) / max(rest.std() / np.sqrt(runs), 1e-9))
    assert abs(z_all) < 4.75, f"evidence {pooled.mean():.6f}, exactly {program.evidence:.6f}, z = {z_all:.1f}"
    assert np.abs(z).max() < 4.75, f"largest z of {len(z)} entries: {np.abs(z).max():.1f}"


# In CI every program once, with every kernel, size and resampler among them; the rest with `-m slow`.
ROTA = [
    (name, list(KERNELS)[i % 6], NUM_PARTICLES[(i + i // 4) % 4], RESAMPLERS[(i + i // 4 * 2) % 4])
    for i, name in enumerate([*list(PROGRAMS)[:-2], "hard", "captured_latent", "two_texts", "soft_and_hard"])
] + [
    ("python", "two_round", 5, sx.systematic),
    ("python", "recursive", 64, sx.residual),
    ("python", "geometric", 2, sx.stratified),
    ("mixed", "masks", 5, sx.systematic),
    ("mixed", "lcd", 2, sx.multinomial),
    ("mixed", "two_round", 64, sx.stratified),
]


@pytest.mark.parametrize(("name", "kernel", "num_particles", "resampler"), ROTA)
def test_unbiased(name, kernel, num_particles, resampler):
    check(PROGRAMS[name](), kernel, num_particles, resampler, seed=1, draws=DRAWS.get(kernel, 40_000))


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    ("kernel", "num_particles", "resampler"),
    list(itertools.product(["two_round"], NUM_PARTICLES, RESAMPLERS)),
)
def test_unbiased_everywhere(name, kernel, num_particles, resampler):
    check(PROGRAMS[name](), kernel, num_particles, resampler, seed=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_unbiased_every_kernel(name, kernel):
    check(PROGRAMS[name](), kernel, 5, sx.systematic, seed=3)
