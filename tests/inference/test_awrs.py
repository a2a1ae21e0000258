"""AWRS: proper weighting, exactly, over the whole tree of the kernel's choices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.rejection_tree import courses

import sentax as sx
from sentax.inference.kernels.awrs import rejection_loop
from sentax.inference.kernels.base import Factor
from sentax.ppl.race import masses

ESTIMATORS = {
    "two_round": sx.two_round,
    "recursive": sx.recursive,
    "geometric2": sx.geometric(2),
    "geometric3": sx.geometric(3),
    "geometric5": sx.geometric(5),
}

TARGETS = {
    "all": ([0.2, 0.5, 0.3], [0.0, 0.0, 0.0]),
    "soft": ([0.2, 0.5, 0.3], [-0.3, 1.2, 0.1]),
    "one of two": ([0.9, 0.1], [-np.inf, 0.0]),
    "one": ([0.4, 0.3, 0.2, 0.1], [-np.inf, -np.inf, -np.inf, 0.4]),
    "mixed": ([0.35, 0.25, 0.2, 0.15, 0.05], [-np.inf, 0.0, -np.inf, -0.7, 0.3]),
    "head rejected": ([0.96, 0.01, 0.01, 0.01, 0.01], [-np.inf, 0.0, 0.5, -np.inf, 0.0]),
    "impossible token": ([0.0, 0.6, 0.4], [0.0, -np.inf, 0.0]),
    "dead end": ([0.5, 0.3, 0.2], [-np.inf, -np.inf, -np.inf]),
    "single outcome": ([1.0], [0.2]),
}


CHUNK = 256


@functools.cache
def compiled(estimator, batch_size, max_rejects, lazy):
    @jax.jit
    def run(p, factor, orders, coins):
        prior = masses(jnp.log(p))

        def one(order, coins):
            def randomness(batch, left):
                # The next candidates in the course's order: those that are not gone, each with its coin.
                del batch
                row, column = order // left.table.shape[1], order % left.table.shape[1]
                gone = (left.gone[row, column // 32] >> (column % 32).astype(jnp.uint32)) & 1
                there = (order >= 0) & (gone == 0)
                at = jnp.nonzero(there, size=batch_size, fill_value=-1)[0]
                return jnp.maximum(order[at], 0), at >= 0, coins[at]

            return rejection_loop(
                prior,
                Factor(lambda i: factor[i], _as_python_looks(factor) if lazy else None),
                randomness=(randomness, randomness),
                estimator=estimator,
                max_rejects=max_rejects,
            )

        return jax.lax.map(lambda x: one(*x), (orders, coins))

    return run


def _as_python_looks(factor):
    """Candidates looked at in order, up to the patience: what the host does, on the device."""

    @jax.custom_batching.custom_vmap
    def ordered(outcome, patience, worth):
        return factor[outcome], (patience >= 0) & (worth >= 0)

    @ordered.def_vmap
    def _(axis_size, in_batched, outcome, patience, worth):
        del axis_size
        assert in_batched == [True, False, True]
        value = factor[outcome]
        stop = (worth < 0) | (patience < 0)
        enough = jnp.cumsum(jnp.where(value > -jnp.inf, worth, 0)) >= patience
        behind = jnp.concatenate([jnp.zeros(1, bool), enough[:-1]])
        asked = jnp.cumsum(stop | behind) == 0
        # What was not looked at has a factor that means nothing.
        return (jnp.where(asked, value, jnp.nan), asked), (True, True)

    return ordered


def run_courses(p, log_factor, estimator, *, batch_size=2, max_rejects=None, lazy=False):
    """The kernel on each course of its tree: (probabilities, outcomes, weights, leaves)."""
    p, log_factor = np.asarray(p, np.float64), np.asarray(log_factor, np.float64)
    if len(p) < 5:
        p, log_factor = (
            np.pad(x, (0, 5 - len(x)), constant_values=v) for x, v in ((p, 0.0), (log_factor, 0.0))
        )
    leaves = courses(p, log_factor > -np.inf, estimator.max_accepts, estimator.returns_accepted, max_rejects)
    size = -(-len(leaves) // CHUNK) * CHUNK
    order, coins = np.full((size, 8), -1, np.int32), np.full((size, 8), 0.5, np.float32)
    for i, leaf in enumerate(leaves):
        # What comes after the loop's end must not matter: any order will do.
        rest = [j for j in np.flatnonzero(p > 0) if j not in leaf.order]
        order[i, : len(leaf.order) + len(rest)] = [*leaf.order, *rest]
        coins[i, : len(leaf.coins)] = -np.log(leaf.coins)
    run = compiled(estimator, batch_size, max_rejects, lazy)
    args = jnp.asarray(p, jnp.float32), jnp.asarray(log_factor, jnp.float32)
    draws = [run(*args, order[i : i + CHUNK], coins[i : i + CHUNK]) for i in range(0, size, CHUNK)]
    outcome = np.concatenate([d.outcome for d in draws])[: len(leaves)]
    weight = np.exp(np.concatenate([d.log_weight for d in draws])[: len(leaves)].astype(np.float64))
    return np.array([leaf.probability for leaf in leaves]), outcome, weight, leaves


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("batch_size", "lazy"), [(1, False), (2, False), (4, False), (2, True), (4, True)])
def test_proper_weighting_is_exact(estimator, batch_size, lazy):
    for name, (p, log_factor) in TARGETS.items():
        probability, outcome, weight, _ = run_courses(
            p, log_factor, ESTIMATORS[estimator], batch_size=batch_size, lazy=lazy
        )
        assert probability.sum() == pytest.approx(1.0, abs=1e-12)
        mean = np.bincount(outcome, weights=probability * weight, minlength=len(p))[: len(p)]
        np.testing.assert_allclose(mean, np.asarray(p) * np.exp(log_factor), atol=1e-6, rtol=0, err_msg=name)


@pytest.mark.parametrize("accepted_mass", [1.0, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize("V", [16, 200, 50_000])
def test_weights_hold_for_small_accepted_masses(V, accepted_mass):
    """E[W] / Z = 1 in float32, over the whole tree: half of it sits in courses of probability 1e-12.

    (No simulation sees them: the relative variance of such a draw is of the order 1/Z.)
    """
    p = np.zeros(V)
    where = np.linspace(0, V - 1, 5).astype(int)
    p[where] = np.concatenate(
        [np.array([0.7, 0.3]) * (1 - accepted_mass), np.array([0.5, 0.3, 0.2]) * accepted_mass]
    )
    log_factor = np.full(V, -np.inf)
    log_factor[where[2:]] = 0.0
    for name, estimator in ESTIMATORS.items():
        probability, _, weight, _ = run_courses(p, log_factor, estimator, batch_size=4)
        assert (probability * weight).sum() / accepted_mass == pytest.approx(1.0, abs=2e-5), name


@pytest.mark.parametrize("accepted_mass", [1.0, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize("V", [16, 200, 50_000])
def test_locally_constrained_weight_is_exact(V, accepted_mass):
    rng = np.random.default_rng(V)
    accepted = np.arange(V) % 5 == 3
    p = rng.dirichlet(np.ones(V)) + 1e-9
    p = np.where(accepted, p / p[accepted].sum() * accepted_mass, p / p[~accepted].sum() * (1 - accepted_mass))
    factor = jnp.where(jnp.asarray(accepted), 0.0, -jnp.inf)
    draw = sx.LocallyConstrained(lambda: None).draw(
        jax.random.key(0), jnp.log(jnp.asarray(p, jnp.float32)), lambda i: factor[i], axis_name=None
    )
    assert np.exp(np.float64(draw.log_weight)) / accepted_mass == pytest.approx(1.0, abs=2e-5)
    assert accepted[int(draw.outcome)]
    assert int(draw.checks) == V


@pytest.mark.parametrize(
    ("V", "estimator"),
    [
        (16, "two_round"),
        (16, "geometric2"),
        *((200, e) for e in ESTIMATORS),
        (50_000, "two_round"),
        (50_000, "geometric3"),
    ],
)
def test_unbiased_with_its_own_randomness(V, estimator):
    """The kernel as it is used, race and coins included. |z| < 4.75: false alarms 2e-6 a test."""
    rng = np.random.default_rng(V)
    p = np.sort(rng.dirichlet(np.full(V, 0.2)))[::-1]
    # Reject the head, accept a third of the tail.
    ok = (np.arange(V) > 2) & (rng.random(V) < 0.34)
    log_factor = jnp.where(jnp.asarray(ok), jnp.asarray(rng.normal(size=V) * 0.3, jnp.float32), -jnp.inf)
    log_probs = jnp.log(jnp.asarray(p, jnp.float32))
    target = np.sum(np.asarray(p) * np.exp(np.asarray(log_factor, np.float64)))
    kernel = sx.AWRS(lambda: None, estimator=ESTIMATORS[estimator])
    n = 1_000 if V == 50_000 else 8_000

    def one(key):
        return kernel.draw(key, log_probs, lambda i: log_factor[i])

    run = jax.jit(lambda keys: jax.lax.map(jax.vmap(one, axis_name="particles"), keys))
    draw = run(jax.random.split(jax.random.key(5), (n // 500, 500)))
    weight = np.exp(np.asarray(draw.log_weight, np.float64)).ravel()
    z = (weight.mean() - target) / (weight.std() / np.sqrt(n))
    assert abs(z) < 4.75, f"E[W] = {weight.mean():.5f}, exactly {target:.5f}, z = {z:.1f}"
    assert ok[np.asarray(draw.outcome)].all()


def test_max_rejects_is_biased_as_documented():
    p, log_factor = TARGETS["mixed"]
    for limit in (1, 2):
        probability, _, weight, leaves = run_courses(p, log_factor, sx.two_round, max_rejects=limit)
        stated = [leaf.kept / (1 + leaf.rejects) if leaf.accepts else 0.0 for leaf in leaves]
        factor = np.where(
            weight > 0, [np.exp(_first(leaf, log_factor)) if leaf.accepts else 1 for leaf in leaves], 1
        )
        np.testing.assert_allclose(weight, np.array(stated) * factor, rtol=1e-5)
        assert all(leaf.rejects <= limit for leaf in leaves)
        assert probability.sum() == pytest.approx(1.0)
    # A limit that cannot be reached changes nothing.
    probability, outcome, weight, _ = run_courses(p, log_factor, sx.geometric(3), max_rejects=3)
    mean = np.bincount(outcome, weights=probability * weight, minlength=len(p))[: len(p)]
    np.testing.assert_allclose(mean, np.asarray(p) * np.exp(log_factor), atol=1e-6)


def _first(leaf, log_factor):
    return next(log_factor[i] for i in leaf.order if log_factor[i] > -np.inf)


def test_dead_particles_and_dead_ends_cost_no_nan():
    kernel = sx.AWRS(lambda: None)
    log_probs = jnp.log(jnp.array([0.5, 0.3, 0.2]))
    dead = kernel.draw(jax.random.key(0), log_probs, lambda i: 0.0 * i, active=False, axis_name=None)
    assert float(dead.log_weight) == -np.inf
    assert int(dead.checks) == 0
    end = kernel.draw(jax.random.key(0), log_probs, lambda i: -jnp.inf + 0.0 * i, axis_name=None)
    assert float(end.log_weight) == -np.inf
    assert int(end.checks) == 3


def test_checks_grow_with_rejections_not_with_the_vocabulary():
    V = 20_000
    kernel = sx.AWRS(lambda: None)
    log_probs = jax.nn.log_softmax(jnp.linspace(0.0, -20.0, V))
    run = jax.jit(
        jax.vmap(
            lambda key: kernel.draw(key, log_probs, lambda i: jnp.where(i % 2, 0.0, -jnp.inf)),
            axis_name="particles",
        )
    )
    draw = run(jax.random.split(jax.random.key(0), 2000))
    # Half the mass is accepted: one round needs 2 draws on average, the second no more than that.
    assert 2.0 < float(draw.checks.mean()) < 4.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rejects": 0}, "max_rejects"),
        ({"batch_size": 0}, "batch_size"),
        ({"estimator": "two_round"}, "estimator"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sx.AWRS(lambda: None, **options)


def test_kernel_wants_a_model():
    with pytest.raises(TypeError, match="model"):
        sx.AWRS(3)
    with pytest.raises(ValueError, match="max_accepts"):
        sx.geometric(1)
