"""Draws without replacement: the generator, the order's law, the tails."""

import itertools

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest

from sentax.ppl.race import draw, masses, noise_size, race
from sentax.ppl.uniform import exponential, open_uniform, threefry


def test_threefry_is_jaxs_own():
    key = jnp.array([0x13198A2E, 0x03707344], jnp.uint32)
    count = jnp.arange(64, dtype=jnp.uint32) * jnp.uint32(2654435761)
    ours = jnp.concatenate(threefry((key[0], key[1]), count[:32], count[32:]))
    np.testing.assert_array_equal(ours, jax.extend.random.threefry_2x32(key, count))


def test_uniforms_are_open_and_dense_near_zero():
    u = np.asarray(open_uniform(jax.random.key(0), (1_000_000,)), np.float64)
    assert u.min() > 0.0
    assert u.max() < 1.0
    # Kolmogorov-Smirnov: false alarms 1e-6.
    grid = np.sort(u)
    assert np.abs(grid - (np.arange(1_000_000) + 0.5) / 1_000_000).max() < 2.7e-3
    assert len(np.unique(u)) > 990_000 * 0.97
    # The finest numbers: no high bits at all.
    assert float(jnp.float32(0) * 2.0**-32 + jnp.float32(0.5) * 2.0**-64) >= 2.0**-65
    assert np.isfinite(np.log(u)).all()
    assert np.isfinite(np.log1p(-u)).all()
    other = np.asarray(open_uniform(jax.random.key(0), (1_000_000,), stream=1))
    assert abs(np.corrcoef(u, other)[0, 1]) < 5e-3


@pytest.mark.parametrize("k", [1, 2, 4])
def test_order_is_plackett_luce(k):
    """Chi-square over all orders of the first k: false alarms 1e-5 each."""
    p = np.array([0.45, 0.25, 0.15, 0.1, 0.05])
    left = masses(jnp.log(jnp.asarray(p, jnp.float32)))
    n = 60_000

    def one(key):
        outcomes, exist = race(exponential(key, (noise_size(left, k),)), left, k)
        return outcomes, exist

    outcomes, exist = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(k), n))
    assert bool(exist.all())
    counts = dict.fromkeys(itertools.permutations(range(5), k), 0)
    for row in np.asarray(outcomes):
        counts[tuple(row.tolist())] += 1
    expected = {}
    for order in counts:
        probability, rest = 1.0, 1.0
        for i in order:
            probability *= p[i] / rest
            rest -= p[i]
        expected[order] = n * probability
    chi2 = sum((counts[o] - e) ** 2 / e for o, e in expected.items())
    degrees = len(counts) - 1
    # Wilson-Hilferty: the cube root of a chi-square is nearly normal.
    z = ((chi2 / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / np.sqrt(2 / (9 * degrees))
    assert z < 4.3


def test_tail_outcomes_come_at_their_rate():
    """Mass 2e-5 next to a mode of nearly one: expected 80 in 4 million draws; |z| < 4.75."""
    V = 300
    p = np.full(V, 1e-12)
    p[7], p[133] = 1.0, 2e-5
    left = masses(jnp.log(jnp.asarray(p, jnp.float32)))
    n = 4_000_000
    size = noise_size(left, 1)

    def chunk(key):
        one = lambda key: race(exponential(key, (size,)), left, 1)[0][0] == 133
        return jax.vmap(one)(jax.random.split(key, 20_000)).sum()

    hits = int(
        jax.jit(lambda keys: jax.lax.map(chunk, keys))(jax.random.split(jax.random.key(0), n // 20_000)).sum()
    )
    assert abs(hits - n * 2e-5) / np.sqrt(n * 2e-5) < 4.75


@pytest.mark.parametrize("V", [1, 2, 3, 5, 16, 17, 100])
def test_every_outcome_comes_once(V):
    left = masses(jnp.zeros(V))
    outcomes, exist = race(exponential(jax.random.key(V), (noise_size(left, V),)), left, V)
    assert sorted(outcomes[exist].tolist()) == list(range(V))


def test_impossible_outcomes_never_come():
    log_p = jnp.array([-jnp.inf, 0.0, -jnp.inf, -200.0])
    keys = jax.random.split(jax.random.key(0), 1000)
    assert set(np.asarray(jax.vmap(lambda k: draw(k, log_p))(keys)).tolist()) == {1}
    _, exist = race(
        jnp.full(noise_size(masses(jnp.full(4, -jnp.inf)), 2), 0.5), masses(jnp.full(4, -jnp.inf)), 2
    )
    assert not bool(exist.any())


def test_removal_sums_afresh():
    p = jnp.array([1.0, 1e-12, 2e-12, 3e-13, 0.5])
    left = masses(jnp.log(p)).remove(jnp.array([0, 4]))
    assert float(left.total * 1.5) == pytest.approx(3.3e-12, rel=1e-5)
    kept = masses(jnp.log(p)).remove(jnp.array([0, 4]), where=False)
    assert float(kept.total) == pytest.approx(1.0)
