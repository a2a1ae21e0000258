"""CARS: accepted draws are exactly the posterior's, whatever the trie has learned.

z tests as in `test_unbiased`: a false-alarm rate of 2e-6 an entry (|z| < 4.75), fixed seeds.
"""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from reference.programs import LM, PROGRAMS
from reference.tries import TREES, largest_z

import sentax as sx
from sentax.inference.cars import CARS

N = 64


@functools.cache
def sampler(name):
    """One for each program, compiled once: forget() before use."""
    return CARS(TREES[name]().program.model, num_particles=N)


def run(cars, tree, seed):
    """The accepted draws of one run, and its evidence estimate."""
    cars.run(jax.random.key(seed), *tree.program.args)
    samples, log_weights = jax.device_get(cars.get_weighted_samples())
    accepted = Counter(tree.program.key(samples, (i,)) for i in np.flatnonzero(log_weights > -np.inf))
    return accepted, np.exp(cars.log_evidence)


# In CI masks with soft factors, and ends that no token's check sees; others with `-m slow`.
IN_CI = ("soft_and_hard", "dead_ends")
EVERY = [pytest.param(name, marks=[] if name in IN_CI else [pytest.mark.slow], id=name) for name in TREES]


@pytest.mark.parametrize("name", EVERY)
def test_accepted_draws_are_exact(name):
    """With an empty trie, with those that know 64 texts, and with one that knows 2000."""
    tree = TREES[name]()
    cars = sampler(name)
    posterior = {key: p / tree.program.evidence for key, p in tree.program.table.items()}
    repeats = 40 if name == "several_sites" else 24  # its many values need more draws each
    fresh, learned, late = Counter(), Counter(), Counter()
    evidence = []
    for seed in range(0, 2 * repeats, 2):
        cars.forget()
        for counts in (fresh, learned):
            accepted, estimate = run(cars, tree, seed + (counts is learned))
            counts += accepted
            evidence.append(estimate)
    for stage in np.array(evidence).reshape(repeats, 2).T:
        z = (stage.mean() - tree.program.evidence) / (stage.std() / np.sqrt(repeats))
        assert abs(z) < 4.75
    for seed in range(1000, 1030):
        late += run(cars, tree, seed)[0]
    for counts in (fresh, learned, late):
        assert largest_z(counts, posterior) < 4.75
    rates = fresh.total() / (repeats * N), learned.total() / (repeats * N), late.total() / (30 * N)
    assert rates[0] < rates[1] < rates[2] and rates[2] > 0.8

    bounds = [batch.log_bound for batch in cars.convergence]
    assert bounds == sorted(bounds, reverse=True)
    futures = tree.futures()
    for prefix, bound in tree.bounds(cars.trie).items():
        assert bound >= futures.get(prefix, 0.0) - 1e-6
    assert tree.program.evidence - 1e-6 < np.exp(cars.log_evidence_bound) < tree.program.evidence / 0.8


def test_batches_of_one_run():
    """A run of several batches is several runs, and its evidence estimate their mean."""
    tree, cars = TREES["dead_ends"](), sampler("dead_ends")
    cars.forget()
    cars.num_batches = 3
    cars.run(jax.random.key(0), *tree.program.args)
    cars.num_batches = 1
    assert cars.log_weights.shape == (3 * N,) and len(cars.convergence) == 3
    assert cars.get_samples()["text"].shape == (3 * N, 4)
    assert cars.ancestors[0].shape == (4, 3 * N)
    kept = np.isfinite(cars.log_weights).reshape(3, N).mean(1)
    np.testing.assert_allclose(kept, [batch.kept for batch in cars.convergence])
    scale = np.exp([0.0] + [batch.log_bound for batch in cars.convergence[:-1]])
    assert np.exp(cars.log_evidence) == pytest.approx(np.mean(kept * scale), rel=1e-5)
    cars.print_summary()


def test_factors_above_the_bound():
    def model(context):
        text = sx.generate("text", context, max_tokens=2)
        numpyro.factor("long", 0.5 * text.length)

    cars = CARS(model, num_particles=64)
    with pytest.raises(ValueError, match=r"sum to 1, above log_bound=0.*CARS\(\.\.\., log_bound"):
        cars.run(jax.random.key(0), LM.prompt())
    cars.log_bound = 1.0
    for seed in range(30):
        cars.run(jax.random.key(seed), LM.prompt())
    row = np.exp(np.asarray(LM.initial, np.float64))
    stop = row[3] / row.sum()
    rows = np.exp(np.asarray(LM.log_probs, np.float64))
    second = (row / row.sum())[:3] @ (rows[:, 3] / rows.sum(1))[:3]
    exact = stop + second * np.exp(0.5) + (1 - stop - second) * np.e
    assert cars.log_evidence_bound == pytest.approx(np.log(exact), abs=1e-5)
    with pytest.raises(ValueError, match="finite"):
        CARS(model, log_bound=jnp.inf)


def test_no_text_satisfies():
    cars = sampler("soft_and_hard")
    cars.forget()
    for seed in range(2):
        cars.run(jax.random.key(seed), LM.prompt(), sx.regex("x"))
        assert cars.log_evidence == -np.inf
        with pytest.raises(sx.NoSurvivingParticles, match="the trie has found that no text satisfies"):
            cars.posterior("text")


@pytest.mark.parametrize(("name", "site"), [("captured_latent", "'z'"), ("mixed_sites", "'noise'")])
def test_other_latents_are_refused(name, site):
    program = PROGRAMS[name]()
    with pytest.raises(sx.UnsupportedProgram, match=rf"also draws {site}.*every latent site must have finite"):
        CARS(program.model, num_particles=2).run(jax.random.key(0), *program.args)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_batches": 0}, "num_batches must be an integer of at least 1"),
        ({"num_particles": 0}, "num_particles"),
        ({"log_bound": float("nan")}, "log_bound must be finite"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        CARS(lambda: None, **options)
