"""Kernels and masks: which draws are made how, and that the weights do not care."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.programs import LM, MARKOV, T

import sentax as sx
from sentax.inference.kernels.base import Factor
from sentax.inference.summary import format_summary


def run(kernel, where, *, num_particles=64, max_tokens=T, stop=None, **options):
    def model(context, where):
        sx.generate("text", context, max_tokens=max_tokens, where=where, stop=stop)

    smc = sx.SMC(kernel(model, **options), num_particles=num_particles)
    smc.run(jax.random.key(0), LM.prompt(), where)
    return smc


CASES = {
    "automaton": (lambda: sx.regex("(ab)*a?"), "exact masked draw"),
    "lengths": (lambda: sx.length(2, 3) & sx.regex("[ab]*"), "exact masked draw"),
    "mixed": (lambda: sx.regex("[ab]*b") & sx.predicate(lambda t: len(t) < 4), "masked draw, then rejection"),
}


@pytest.mark.parametrize(
    "name", ["automaton", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lengths", "mixed"))]
)
def test_diagnostics_say_how_a_site_was_drawn(name):
    make, method = CASES[name]
    smc = run(sx.AWRS, make())
    assert smc.diagnostics.methods == {"text": method}
    assert f"drawn           text: {method}" in format_summary(smc, top=3)
    assert (smc.diagnostics.checks == 0) == (method == "exact masked draw")
    forced = run(sx.AWRS, make(), use_masks=False)
    assert forced.diagnostics.methods == {"text": "rejection"}
    assert forced.diagnostics.checks > 0
    assert run(sx.Prior, make()).diagnostics.methods == {"text": "one check a draw"}


def test_without_a_mask_the_reason_is_given():
    smc = run(sx.AWRS, sx.predicate(lambda t: True))
    (method,) = smc.diagnostics.methods.values()
    assert method.startswith("rejection (predicate(")
    assert "no mask" in method


@pytest.mark.parametrize("kernel", [sx.AWRS, sx.LocallyConstrained])
@pytest.mark.parametrize("accepted_mass", [1.0, 1e-4, 1e-12])
def test_a_mask_that_decides_leaves_no_variance(kernel, accepted_mass):
    V = 500
    rng = np.random.default_rng(3)
    mask = np.arange(V) % 7 == 2
    p = rng.dirichlet(np.ones(V)) + 1e-9
    p = np.where(mask, p / p[mask].sum() * accepted_mass, p / p[~mask].sum() * (1 - accepted_mass))
    logits = jnp.log(jnp.asarray(p, jnp.float32))
    factor = Factor(lambda i: jnp.float32(-0.5), varies=False)

    def one(key):
        return kernel(lambda: None).draw(key, logits, factor, mask=jnp.asarray(mask), axis_name=None)

    draws = jax.vmap(one)(jax.random.split(jax.random.key(0), 200))
    weights = np.exp(np.asarray(draws.log_weight, np.float64))
    np.testing.assert_allclose(weights, accepted_mass * np.exp(-0.5), rtol=2e-5)
    assert mask[np.asarray(draws.outcome)].all()
    assert int(draws.checks.sum()) == 0


@pytest.mark.parametrize("kernel", [sx.AWRS, sx.LocallyConstrained])
def test_what_a_mask_leaves_open_is_weighed(kernel):
    """|z| < 4.75: false alarms 2e-6 a test."""
    V, n = 40, 20_000
    rng = np.random.default_rng(4)
    p, mask = rng.dirichlet(np.ones(V)), rng.random(V) < 0.5
    log_factor = np.where(rng.random(V) < 0.3, -np.inf, rng.normal(size=V))
    target = np.where(mask, p * np.exp(log_factor), 0.0)
    logits, factors = jnp.log(jnp.asarray(p, jnp.float32)), jnp.asarray(log_factor, jnp.float32)

    def one(key):
        return kernel(lambda: None).draw(key, logits, lambda i: factors[i], mask=jnp.asarray(mask))

    draws = jax.jit(jax.vmap(one, axis_name="particles"))(jax.random.split(jax.random.key(0), n))
    weights = np.exp(np.asarray(draws.log_weight, np.float64))
    outcome = np.asarray(draws.outcome)
    first, second = (np.bincount(outcome, weights**k, V) / n for k in (1, 2))
    error = np.sqrt(np.maximum(second - first**2, 1e-12) / n)
    seen = target > 0
    assert first[~seen].sum() == 0
    assert np.abs((first - target)[seen] / error[seen]).max() < 4.75
    if kernel is sx.LocallyConstrained:
        np.testing.assert_allclose(weights, target.sum(), rtol=1e-5)


@pytest.mark.slow
def test_mask_of_a_stop_byte():
    """A token that holds the stop byte ends the text: its bit asks whether the text is complete."""
    where = sx.regex("a+")
    texts = {}
    for text in MARKOV.texts(T):
        # Reference: cut at the first "b"; every token from there on is free.
        head = text.data.split(b"b", 1)[0]
        stopped = b"b" in text.data
        texts.setdefault((head, stopped), 0.0)
        texts[head, stopped] += text.probability
    exact = sum(p for (head, _), p in texts.items() if head and set(head) == {97})
    masked = run(sx.AWRS, where, stop="b", num_particles=4096)
    checked = run(sx.AWRS, where, stop="b", num_particles=4096, use_masks=False)
    assert masked.diagnostics.methods == {"text": "exact masked draw"}
    # About 4 standard errors of a mean over 4,096 weights below 1: false alarms 1e-4, with a fixed seed.
    for smc in (masked, checked):
        assert np.exp(smc.log_evidence) == pytest.approx(exact, abs=4 / np.sqrt(4096) * 0.5)
        assert all(set(text) == {"a"} for text in smc.posterior("text"))


def test_dead_end_masks_kill_without_nan():
    smc = run(sx.AWRS, sx.regex("a{5}b{4,}") & sx.length(max=2))
    assert smc.log_evidence == -np.inf
    with pytest.raises(sx.NoSurvivingParticles, match="text/"):
        smc.get_samples()


def test_one_program_for_masks_of_similar_constraints():
    def model(context, where):
        sx.generate("text", context, max_tokens=T, where=where)

    smc = sx.SMC(sx.AWRS(model), num_particles=8)
    for pattern in ("a*", "(ab)*", "b+a?", "[ab]{2,3}"):
        smc.run(jax.random.key(1), LM.prompt(), sx.regex(pattern))
    assert len(smc._executable.compiled) == 1


@pytest.mark.slow
def test_lcd_checks_only_what_the_mask_lets_through():
    asked = []
    where = sx.regex("a[ab]*") & sx.predicate(lambda t: asked.append(t) or True)
    smc = run(sx.LocallyConstrained, where)
    assert smc.diagnostics.methods == {"text": "masked draw, then every outcome checked"}
    assert asked
    assert all(t.startswith(b"a") for t in asked if t)
    plain = run(sx.LocallyConstrained, where, use_masks=False)
    assert smc.diagnostics.checks < plain.diagnostics.checks


@pytest.mark.parametrize(
    "estimator",
    [sx.two_round, *(pytest.param(e, marks=pytest.mark.slow) for e in (sx.recursive, sx.geometric(3)))],
)
def test_python_is_asked_no_more_than_the_estimator_needs(estimator):
    """One particle, one token: Python looks at candidates in draw order and stops where the loop does."""
    calls = []

    def odd(text: bytes) -> bool:
        calls.append(text)
        return len(text) == 0 or text[-1] % 2 == 1

    V = 60
    lm = sx.TableLM.uniform([bytes([65 + i]) for i in range(V)])

    def model(context, where):
        sx.generate("text", context, max_tokens=1, where=where)

    smc = sx.SMC(sx.AWRS(model, estimator=estimator, batch_size=8), num_particles=1)
    total = checks = 0
    for seed in range(40):
        calls.clear()
        smc.run(jax.random.key(seed), lm.prompt(), sx.predicate(odd))
        checks += smc.diagnostics.checks
        total += len(calls)
    # Beside the checks: the text of the step itself and of its end, both remembered.
    assert checks <= total <= checks + 2 * 40


def test_a_soft_factor_on_top_of_a_mask():
    def model(context, where):
        text = sx.generate("text", context, max_tokens=2, where=where)
        sx.constrain("not empty", text.length > 0)

    smc = sx.SMC(sx.AWRS(model), num_particles=4096)
    smc.run(jax.random.key(0), LM.prompt(), sx.regex("a*"))
    exact = sum(t.probability for t in MARKOV.texts(2) if t.data and set(t.data) == {97})
    assert np.exp(smc.log_evidence) == pytest.approx(exact, abs=4 / np.sqrt(4096) * 0.5)
    assert jnp.isfinite(smc.log_evidence)
