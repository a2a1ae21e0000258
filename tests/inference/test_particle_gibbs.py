"""Particle Gibbs and ancestor sampling: sweeps leave the posterior invariant."""

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import cond
from reference.moves import KERNELS, assert_moved_unbiased, suffix_mover
from reference.programs import LM, PROGRAMS

import sentax as sx
from sentax.inference.control import Control
from sentax.inference.filter import FilterConfig
from sentax.inference.particle_gibbs import ParticleGibbs, gibbs_sweep
from sentax.inference.resampling import multinomial
from sentax.inference.sites import SiteNumbers


def invariant(name, kernel, *, ancestor_sampling=False, num_particles=3, runs=4_000, sweeps=2, threshold=0.9):
    """Properly weighted single runs, then sweeps of each: see `reference.moves`."""
    program = PROGRAMS[name]()
    model = KERNELS[kernel](program.model)
    move, nothing = suffix_mover(program, model, runs)
    first, _ = move(jax.random.key(0), nothing)
    config = FilterConfig(
        num_particles, Control(threshold, multinomial, conditional=True), ancestor_sampling=ancestor_sampling
    )

    @jax.jit
    def sweep(keys, states):
        def one(key, state):
            return gibbs_sweep(model, config, SiteNumbers(), key, state, program.args, {})[:2]

        return jax.vmap(one)(keys, states)

    states = jax.tree.map(lambda leaf: leaf[:, None], first)
    changed = np.zeros(runs, bool)
    for k in range(sweeps):
        states, chosen = sweep(jax.random.split(jax.random.key(1 + k), runs), states)
        changed |= np.asarray(chosen) != 0
    samples = jax.tree.map(lambda leaf: leaf[:, 0], dict(states.samples))
    assert_moved_unbiased(program, samples, first.log_weight)
    alive = np.asarray(first.log_weight) > -np.inf
    assert changed[alive].mean() > 0.3


def test_sweeps_leave_the_posterior_invariant():
    invariant("two_texts", "prior")


@pytest.mark.slow
def test_ancestor_sampling_leaves_the_posterior_invariant():
    invariant("mixed_sites", "prior", ancestor_sampling=True)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 1.0])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_sweeps_leave_every_posterior_invariant(name, kernel, threshold):
    invariant(name, kernel, threshold=threshold, runs=20_000)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 1.0])
@pytest.mark.parametrize("kernel", ["prior", "lcd"])
@pytest.mark.parametrize("name", [n for n in PROGRAMS if n not in ("two_texts", "handlers_around")])
def test_ancestor_sampling_leaves_every_posterior_invariant(name, kernel, threshold):
    invariant(name, kernel, ancestor_sampling=True, threshold=threshold, runs=20_000)


def test_results_are_the_sweeps_particles():
    program = PROGRAMS["captured_latent"]()
    gibbs = ParticleGibbs(sx.LocallyConstrained(program.model), num_particles=4, num_sweeps=300, num_warmup=5)
    gibbs.run(jax.random.key(0), *program.args)
    samples, log_weights = gibbs.get_weighted_samples()
    assert samples["text"].shape == (1200, 3)
    np.testing.assert_allclose(np.exp(log_weights).reshape(300, 4).sum(1), 4.0, rtol=1e-5)
    chain = gibbs.get_chain()
    assert chain["text"].shape == (300, 3) and chain["z"].shape == (300,)
    assert not gibbs.is_proper
    gibbs.run(jax.random.key(0), *program.args)
    assert gibbs.diagnostics.compile_time == 0.0
    assert (gibbs.get_chain()["text"] == chain["text"]).all()
    # Batch means of 30 sweeps: z over 10 batches, |z| < 7.0 for Student's t with 9 degrees is 6e-5.
    truth = sum(p for (z, _), p in program.table.items() if z == 1) / program.evidence
    batches = chain["z"].reshape(10, 30).mean(1)
    assert abs(batches.mean() - truth) < 7.0 * batches.std(ddof=1) / np.sqrt(10)


def test_what_has_no_density_is_refused():
    def model(context):
        sx.generate("text", context, max_tokens=2)

    with pytest.raises(sx.UnsupportedProgram, match="weights that are random"):
        ParticleGibbs(sx.AWRS(model), ancestor_sampling=True)
    with pytest.raises(ValueError, match="at least 2"):
        ParticleGibbs(sx.Prior(model), num_particles=1)

    def two(context):
        text = sx.generate("one", context, max_tokens=2)
        sx.generate("two", text.context, max_tokens=2)

    gibbs = ParticleGibbs(sx.Prior(two), num_sweeps=2, ancestor_sampling=True)
    with pytest.raises(sx.UnsupportedProgram, match="second scan"):
        gibbs.run(jax.random.key(0), LM.prompt())

    def branching(context):
        def branch(_):
            return numpyro.sample("z", dist.Normal())

        cond(context.logits[0] > 0, branch, branch, None)
        sx.generate("text", context, max_tokens=2)

    with pytest.raises(sx.UnsupportedProgram, match="cond"):
        ParticleGibbs(sx.Prior(branching), num_sweeps=2).run(jax.random.key(0), LM.prompt())
