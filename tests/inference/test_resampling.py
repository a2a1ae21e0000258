"""Resamplers: unbiased offspring numbers, no dead parents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sentax as sx

RESAMPLERS = {f.__name__: f for f in (sx.systematic, sx.stratified, sx.multinomial, sx.residual)}


@pytest.mark.parametrize("name", RESAMPLERS)
def test_expected_offspring(name):
    """|z| < 4.75 for each of the 10 parents: false alarms 2e-5."""
    w = np.array([0.3, 0.0, 0.05, 0.2, 0.0, 0.15, 0.1, 0.12, 0.08, 0.0])
    n = 20_000
    keys = jax.random.split(jax.random.key(0), n)
    ancestors = np.asarray(jax.vmap(lambda k: RESAMPLERS[name](k, jnp.log(jnp.asarray(w))))(keys))
    counts = (ancestors[..., None] == np.arange(10)).sum(1)
    z = (counts.mean(0) - 10 * w) / np.maximum(counts.std(0) / np.sqrt(n), 1e-6)
    assert np.abs(z).max() < 4.75


@pytest.mark.parametrize("name", RESAMPLERS)
def test_dead_particles_have_no_offspring(name):
    """400 weight vectors, most of them mostly dead, of every scale: `searchsorted` alone fails on these."""
    rng = np.random.default_rng(1)
    resample = jax.jit(RESAMPLERS[name])
    for i in range(400):
        w = rng.dirichlet(np.full(64, 0.05)) * (rng.random(64) < 0.4)
        w[rng.integers(64)] += 1e-6
        log_weights = jnp.log(jnp.asarray(w, jnp.float32)) + rng.normal() * 30
        ancestors = np.asarray(resample(jax.random.key(i), log_weights))
        assert (np.asarray(log_weights)[ancestors] > -np.inf).all()


@pytest.mark.parametrize("name", RESAMPLERS)
def test_one_survivor_takes_all(name):
    log_weights = jnp.full(17, -jnp.inf).at[16].set(-400.0)
    assert RESAMPLERS[name](jax.random.key(3), log_weights).tolist() == [16] * 17


def test_systematic_offspring_within_one_of_expected():
    w = np.random.default_rng(2).dirichlet(np.ones(50))
    ancestors = np.asarray(sx.systematic(jax.random.key(0), jnp.log(jnp.asarray(w))))
    assert np.abs(np.bincount(ancestors, minlength=50) - 50 * w).max() < 1.0 + 1e-4
