"""Rewards against closed forms: of a memoryless language model with a linear reward the posterior factorises.

Statistics have fixed seeds and a false-alarm rate of 2e-6 for each entry (|z| < 4.75).
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro.contrib.control_flow import scan
from reference.texts import Markov
from scipy.optimize import brentq

import sentax as sx
from sentax.inference.control import Control
from sentax.inference.engine import SiteNumbers, run_particles
from sentax.inference.expectations import (
    InfeasibleExpectation,
    lineages,
    meet_expectation,
    standard_error,
)
from sentax.inference.filter import FilterConfig
from sentax.ppl.constraints.predicate import host_errors
from sentax.ppl.rewards import (
    RewardError,
    classifier_reward,
    cost,
    lm_ratio_reward,
    outlook,
    reward,
    unit_test_reward,
)

P = np.array([0.5, 0.3, 0.2])
R = np.array([0.0, 1.0, -1.0])
S = np.array([1.0, 0.0, 0.5])
T, BETA, WEIGHT = 3, 0.8, 0.5
with np.errstate(divide="ignore"):
    ROW = np.log([*P, 0.0])
MEMORYLESS = sx.TableLM([ROW] * 4, ROW, [b"a", b"b", b"c", b""], end_of_text=3)
TEXTS = list(itertools.product(range(3), repeat=T))
LINEAR, SECOND = jnp.array([*R, 0.0]), jnp.array([*S, 0.0])

SKEWED = np.log([[0.5, 0.2, 0.3], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])


def whole(context, beta):
    """Two rewards of the finished text."""
    text = sx.generate("text", context, max_tokens=T)
    reward("first", classifier_reward(text, LINEAR), beta)
    reward("second", classifier_reward(text, SECOND), beta / WEIGHT)


def guided(context, beta):
    """The same, with the sum so far as what is to be expected."""

    def step(carry, _):
        context, first, second = carry
        token = numpyro.sample("text", sx.TokenDistribution(context.logits))
        first, second = first + LINEAR[token], second + SECOND[token]
        outlook("first", first, beta)
        outlook("second", second, beta / WEIGHT)
        return (context.extend(token), first, second), token

    (_, first, second), _ = scan(step, (context, jnp.float32(0), jnp.float32(0)), None, length=T)
    reward("first", first, beta)
    reward("second", second, beta / WEIGHT)


def many(kernel, num_particles, runs, *args, seed=0, threshold=0.7):
    config = FilterConfig(num_particles, Control(threshold, sx.systematic))

    @jax.jit
    def run(keys):
        return jax.vmap(lambda key: run_particles(kernel, config, SiteNumbers(), key, args, {}))(keys)

    return jax.device_get(run(jax.random.split(jax.random.key(seed), runs)))


@pytest.mark.parametrize(
    ("kernel", "model"),
    [(sx.Prior, whole), (sx.LocallyConstrained, guided), pytest.param(sx.AWRS, guided, marks=pytest.mark.slow)],
)
def test_the_posterior_factorises(kernel, model):
    runs, N = 4000, 6
    tilted = P * np.exp((R + WEIGHT * S) / BETA)
    q, Z = tilted / tilted.sum(), tilted.sum() ** T
    population = many(kernel(model), N, runs, MEMORYLESS.prompt(), jnp.float32(BETA))
    weights = np.exp(population.log_weights.astype(np.float64)) / N
    if kernel is sx.LocallyConstrained:  # exact draws with the exact normaliser: no variance at all
        np.testing.assert_allclose(weights * N, Z, rtol=1e-5)
    tokens = population.samples["text"]
    truth = Z * np.array([np.prod(q[list(text)]) for text in TEXTS])
    sums = np.stack([(weights * (tokens == text).all(-1)).sum(1) for text in TEXTS], axis=1)
    z = (sums.mean(0) - truth) / (sums.std(0) / np.sqrt(runs))
    assert np.abs(z).max() < 4.75
    np.testing.assert_allclose(population.rewards["first"], R[tokens].sum(-1), atol=1e-6)
    np.testing.assert_allclose(population.rewards["second"], S[tokens].sum(-1), atol=1e-6)


def best_of(n, values, p):
    """The exact law of the best of n draws, ties broken by chance."""
    below = np.array([p[values < v].sum() for v in values])
    equal = np.array([p[values == v].sum() for v in values])
    return p / equal * ((below + equal) ** n - below**n)


def divergence(q, p):
    return float(np.sum(np.where(q > 0, q * np.log(np.where(q > 0, q, 1) / p), 0)))


def test_best_of_n_beside_the_posterior():
    """Best-of-N has a KL of at most log N - (N-1)/N (Beirami et al. 2024), and no more reward than the
    posterior of the same KL, which is what that posterior is for."""
    p = np.array([np.prod(P[list(text)]) for text in TEXTS])
    values = np.array([R[list(text)].sum() for text in TEXTS])
    n, runs = 4, 20_000

    def model(context):
        text = sx.generate("text", context, max_tokens=T)
        reward("r", classifier_reward(text, LINEAR), jnp.inf)  # a reward that is only kept

    population = many(sx.Prior(model), n, runs, MEMORYLESS.prompt(), threshold=0.0)
    np.testing.assert_allclose(population.log_weights, 0.0, atol=1e-6)
    best = population.rewards["r"].max(1)
    chosen = best_of(n, values, p)
    exact = chosen @ values
    assert abs(best.mean() - exact) / (best.std() / np.sqrt(runs)) < 4.75

    kl = divergence(chosen, p)
    assert 0 < kl <= np.log(n) - (n - 1) / n

    def posterior(beta):
        q = p * np.exp(values / beta)
        return q / q.sum()

    beta = brentq(lambda beta: divergence(posterior(beta), p) - kl, 0.05, 50)
    assert posterior(beta) @ values > exact


def one_reward(context, beta):
    def step(carry, _):
        context, total = carry
        token = numpyro.sample("text", sx.TokenDistribution(context.logits))
        total = total + LINEAR[token]
        outlook("r", total, beta)
        return (context.extend(token), total), token

    (_, total), _ = scan(step, (context, jnp.float32(0)), None, length=T)
    reward("r", total, beta)


def test_a_ratio_of_language_models():
    """Every text's, with its end where the model said it, against the product of its tokens' ratios."""
    tokens = [b"a", b"b", b""]
    lm = sx.TableLM(SKEWED, None, tokens, end_of_text=2)
    a, b = lm.prompt("a"), lm.prompt("b")
    rows = np.exp(SKEWED)
    score = jax.jit(
        lambda ids, n, end: lm_ratio_reward(sx.Text(ids, n, end, jnp.int32(0), lm.vocabulary), a, b)
    )
    for text in Markov(SKEWED, SKEWED[0], tokens).texts(2):
        ids = jnp.array((*text.tokens, 2, 2)[:2])
        value = score(ids, jnp.int32(len(text.tokens)), jnp.asarray(text.finished))
        first = text.tokens[0] if text.tokens else 2
        np.testing.assert_allclose(value, np.log(rows[0, first] / rows[1, first]), rtol=1e-5)


def test_a_ratio_forbids_what_the_preferred_model_does():
    tokens = [b"a", b"b", b""]
    with np.errstate(divide="ignore"):
        lm = sx.TableLM(np.log([[0.0, 0.5, 0.5], [0.0, 0.5, 0.5], [1, 1, 1]]), None, tokens, end_of_text=2)
    text = sx.Text(jnp.array([0, 2]), jnp.int32(1), jnp.asarray(True), jnp.int32(0), lm.vocabulary)
    assert lm_ratio_reward(text, lm.prompt("a"), lm.prompt("b")) == -jnp.inf
    assert lm_ratio_reward(text, lm.prompt(), lm.prompt("b")) == jnp.inf


def test_unit_tests_run_once_for_each_text_and_say_what_failed():
    asked = []

    def test(text):
        asked.append(text)
        return [text.startswith("a"), text.endswith("b"), len(text) == 2]

    def model(context):
        text = sx.generate("text", context, max_tokens=2)
        reward("passed", unit_test_reward(text, test), beta=0.5)

    smc = sx.SMC(sx.Prior(model), num_particles=300, ess_threshold=0.0)
    for seed in (0, 1):
        smc.run(jax.random.key(seed), MEMORYLESS.prompt())
        fractions = [(t[0] == "a") / 3 + (t[-1] == "b") / 3 + 1 / 3 for t in smc.texts("text")]
        np.testing.assert_allclose(smc.population.rewards["passed"], fractions, rtol=1e-6)
    assert sorted(asked) == sorted(map("".join, itertools.product("abc", repeat=2)))


def test_a_failing_reward_names_the_text():
    def model(context):
        text = sx.generate("text", context, max_tokens=1)
        reward("passed", unit_test_reward(text, lambda text: 1 / 0), beta=0.5)

    smc = sx.SMC(sx.Prior(model), num_particles=2)
    with pytest.raises(RewardError, match=r"raised on '[abc]': ZeroDivisionError") as error:
        smc.run(jax.random.key(0), MEMORYLESS.prompt())
    assert error.value.text in ("a", "b", "c")


@pytest.mark.parametrize("answer", [None, "many", [], np.nan, np.inf])
def test_a_reward_that_is_no_number(answer):
    text = sx.Text(jnp.array([0]), jnp.int32(1), jnp.asarray(False), jnp.int32(0), MEMORYLESS.vocabulary)
    with host_errors(), pytest.raises(Exception, match="not a number or verdicts"):
        jax.block_until_ready(unit_test_reward(text, lambda text: answer))


def test_errors():
    for word in (reward, outlook):
        with pytest.raises(ValueError, match=r"the value must be a scalar, got shape \(2,\)"):
            word("r", jnp.zeros(2), 1.0)
        with pytest.raises(ValueError, match="the beta must be a scalar"):
            word("r", 0.0, jnp.ones(1))
        for beta in (0.0, -1.0, np.nan):
            with pytest.raises(ValueError, match="beta must be above 0"):
                word("r", 0.0, beta)
    with pytest.raises(ValueError, match="multiplier must be at least 0, got -1"):
        cost("c", 1.0, -1.0)
    text = sx.Text(jnp.array([0]), jnp.int32(1), jnp.asarray(False), jnp.int32(0), MEMORYLESS.vocabulary)
    with pytest.raises(ValueError, match=r"one for each of 4 tokens, got shape \(3,\)"):
        classifier_reward(text, jnp.zeros(3))
    with pytest.raises(ValueError, match="must give a scalar"):
        classifier_reward(text, lambda tokens, mask: tokens)
    with pytest.raises(ValueError, match="they must be the same"):
        lm_ratio_reward(text, MEMORYLESS.prompt(), sx.TableLM.uniform([b"a"]).prompt())
    with pytest.raises(TypeError, match="a function of the text"):
        unit_test_reward(text, "x")


def test_a_traced_beta_under_zero_and_a_reward_in_a_scan():
    smc = sx.SMC(sx.Prior(one_reward), num_particles=2)
    with pytest.raises(sx.InvalidWeight, match="'r"):
        smc.run(jax.random.key(0), MEMORYLESS.prompt(), jnp.float32(-1.0))

    def inside(context):
        def step(context, _):
            token = numpyro.sample("text", sx.TokenDistribution(context.logits))
            reward("r", LINEAR[token], 1.0)
            return context.extend(token), token

        scan(step, context, None, length=2)

    with pytest.raises(sx.UnsupportedProgram, match="carry the sum out of the scan"):
        sx.SMC(sx.Prior(inside), num_particles=2).run(jax.random.key(0), MEMORYLESS.prompt())


# Expectations.


@functools.cache
def lengths():
    """The exact law of the number of a's in a text of a chain."""
    law = np.zeros(5)
    for text in Markov(SKEWED, SKEWED[2], [b"a", b"b", b""]).texts(4):
        law[text.tokens.count(0)] += text.probability
    return law


def expectation(multiplier):
    tilted = lengths() * np.exp(-multiplier * np.arange(5))
    return tilted @ np.arange(5) / tilted.sum()


def test_the_multiplier_that_meets_a_bound():
    traces = []

    def model(context, multiplier):
        traces.append(None)
        text = sx.generate("text", context, max_tokens=4)
        cost("count", jnp.sum(text.tokens == 0), multiplier)

    context = sx.TableLM(SKEWED, None, [b"a", b"b", b""], end_of_text=2).prompt()
    free, N = expectation(0.0), 20_000
    smc = sx.SMC(sx.Prior(model), num_particles=N)
    meet = functools.partial(meet_expectation, smc, jax.random.key(1), context, cost="count")

    slack = meet(at_most=2.0 * free)
    assert slack.multiplier == 0 and slack.num_runs == 1
    assert abs(slack.expectation - free) < 4.75 * slack.standard_error
    traced = len(traces)

    for bound in (0.8 * free, 0.4 * free):
        exact = brentq(lambda multiplier, bound=bound: expectation(multiplier) - bound, 0.0, 10.0)
        met = meet(at_most=bound)
        assert abs(met.expectation - bound) <= met.standard_error
        # Within the multiplier's own error: that of the expectation over the slope. (What is left
        # of the tolerance is one of these standard errors more.)
        slope = (expectation(exact + 1e-4) - expectation(exact - 1e-4)) / 2e-4
        assert abs(met.multiplier - exact) < 5.75 * met.standard_error / abs(slope)
        # The sampler keeps the run at the solution.
        weights = np.exp(smc.log_weights - smc.log_evidence) / N
        np.testing.assert_allclose(
            weights @ -np.asarray(smc.population.rewards["count"]), met.expectation, rtol=1e-4
        )
    exact = meet(at_most=0.5 * free, tolerance=1e-4)
    assert abs(exact.expectation - 0.5 * free) <= 1e-4
    assert len(traces) == traced, "a new multiplier must not compile anew"

    with pytest.raises(InfeasibleExpectation, match=r"at the largest multiplier, 0\.1") as error:
        meet(at_most=0.1 * free, max_multiplier=0.1)
    assert error.value.multiplier == pytest.approx(0.1) and error.value.expectation > 0.1 * free
    with pytest.raises(InfeasibleExpectation, match="the cheapest particle costs 0"):
        meet(at_most=-0.5)
    with pytest.raises(RuntimeError, match="after 1 runs"):
        meet(at_most=0.5 * free, max_runs=1)
    with pytest.raises(KeyError, match="no cost 'length'; the program's rewards: count"):
        meet(cost="length", at_most=1.0)


def test_settings_of_a_bound():
    smc = sx.SMC(sx.Prior(lambda multiplier: None), num_particles=2)
    for settings, why in [
        ({"at_most": np.nan}, "at_most must be finite"),
        ({"at_most": 1.0, "max_multiplier": 0.0}, "max_multiplier must be above 0"),
        ({"at_most": 1.0, "tolerance": 0.0}, "tolerance must be above 0"),
        ({"at_most": 1.0, "max_runs": 0}, "max_runs must be an integer"),
    ]:
        with pytest.raises(ValueError, match=why):
            meet_expectation(smc, jax.random.key(0), cost="c", **settings)


def test_a_standard_error_by_lineage_covers_the_error():
    """Over independent runs the error, in standard errors, has a variance of about one: systematic
    resampling makes it less, a standard error that took descendants for independent would make it more."""
    runs, N = 400, 64
    population = many(sx.Prior(guided), N, runs, MEMORYLESS.prompt(), jnp.float32(BETA), threshold=0.9)
    tilted = P * np.exp((R + WEIGHT * S) / BETA)
    truth = T * tilted @ R / tilted.sum()
    z = []
    for i in range(runs):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], population)
        weights = np.exp(one.log_weights - one.log_weights.max(), dtype=np.float64)
        weights /= weights.sum()
        z.append(
            (weights @ one.rewards["first"] - truth)
            / standard_error(one.rewards["first"], weights, lineages(one))
        )
    assert 0.5 < np.var(z) < 1.3
