"""A program is an ordinary NumPyro model: handlers, Predictive, log_density, NUTS, with no engine at all."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.handlers import condition, replay, seed, substitute, trace
from numpyro.infer import MCMC, NUTS, Predictive
from numpyro.infer.util import log_density
from reference.programs import LM, MARKOV

import sentax as sx


def model(context, where=None):
    s = numpyro.sample("s", dist.Normal(0.0, 1.0))
    text = sx.generate("text", context, max_tokens=4, where=where)
    numpyro.factor("tilt", s * jnp.sum(text.tokens == 1))
    return text


def log_p(tokens):
    """Of a padded text, in float64."""
    p, row = 0.0, MARKOV.first
    for token in tokens:
        p += np.log(row[token])
        if token == 3:
            break
        row = MARKOV.rows[token]
    return p


@pytest.mark.parametrize("tokens", [(0, 2, 3, 3), (1, 1, 0, 2), (3, 3, 3, 3)])
def test_log_density_is_the_engines_target(tokens):
    tokens = jnp.array(tokens)
    density, _ = log_density(model, (LM.prompt(),), {}, {"s": 0.7, "text": tokens})
    expected = log_p(tokens.tolist()) + dist.Normal(0, 1).log_prob(0.7) + 0.7 * float(jnp.sum(tokens == 1))
    assert float(density) == pytest.approx(float(expected), abs=1e-5)
    # The engine, with everything given, has nothing to draw: its evidence is the density.
    given = condition(model, {"s": jnp.float32(0.7), "text": tokens})
    smc = sx.SMC(sx.AWRS(given), num_particles=3)
    smc.run(jax.random.key(0), LM.prompt())
    assert smc.log_evidence == pytest.approx(float(expected), abs=1e-5)


def test_log_density_sees_the_constraint():
    where = sx.regex("(ab)*a?")
    for tokens, ok in [
        ((0, 1, 0, 3), True),
        ((0, 0, 3, 3), False),
        ((0, 1, 2, 0), True),
        ((1, 3, 3, 3), False),
    ]:
        density, _ = log_density(model, (LM.prompt(), where), {}, {"s": 0.0, "text": jnp.array(tokens)})
        assert np.isfinite(float(density)) == ok


def test_trace_replay_substitute():
    recorded = trace(seed(model, 3)).get_trace(LM.prompt())
    assert recorded["text"]["value"].shape == (4,)
    again = trace(replay(seed(model, 9), recorded)).get_trace(LM.prompt())
    np.testing.assert_array_equal(again["text"]["value"], recorded["text"]["value"])
    given = jnp.array([2, 0, 3, 3])
    fixed = trace(seed(substitute(model, {"text": given}), 1)).get_trace(LM.prompt())
    np.testing.assert_array_equal(fixed["text"]["value"], given)
    assert float(fixed["text"]["fn"].log_prob(given).sum()) == pytest.approx(log_p(given.tolist()), abs=1e-5)


def test_trace_carries_no_logits():
    """A token site is O(1) a step in a trace, drawn or given."""
    big = sx.TableLM.uniform([bytes([i]) for i in range(200)])

    def program(context):
        sx.generate("text", context, max_tokens=50)

    for handler in (lambda f: f, lambda f: condition(f, {"text": jnp.zeros(50, jnp.int32)})):
        site = trace(seed(handler(program), 0)).get_trace(big.prompt())["text"]
        assert sum(np.size(leaf) for leaf in jax.tree.leaves(site["fn"])) <= 2 * 50


def test_predictive_follows_the_model():
    """Against enumeration: |z| < 4.75 on the frequency of the most frequent texts."""
    n = 4000
    draws = Predictive(model, num_samples=n, parallel=True)(jax.random.key(0), LM.prompt())
    texts = np.asarray(draws["text"])
    for text in sorted(MARKOV.texts(4), key=lambda t: -t.probability)[:5]:
        padded = [*text.tokens, *[3] * (4 - len(text.tokens))]
        p = text.probability
        z = ((texts == padded).all(1).mean() - p) / np.sqrt(p * (1 - p) / n)
        assert abs(z) < 4.75


def test_nuts_over_a_continuous_latent_with_the_text_given():
    """s ~ N(0, 1) with a factor exp(2 s): the posterior is N(2, 1)."""
    tokens = jnp.array([1, 1, 0, 3])
    mcmc = MCMC(NUTS(condition(model, {"text": tokens})), num_warmup=300, num_samples=1500, progress_bar=False)
    mcmc.run(jax.random.key(0), LM.prompt())
    s = np.asarray(mcmc.get_samples()["s"])
    assert s.mean() == pytest.approx(2.0, abs=0.2)
    assert s.std() == pytest.approx(1.0, abs=0.15)


def test_twist_is_silent_without_an_engine():
    def twisted():
        sx.twist("t", jnp.float32(3.0))
        numpyro.sample("x", dist.Normal(0, 1))

    density, _ = log_density(twisted, (), {}, {"x": 0.0})
    assert float(density) == pytest.approx(float(dist.Normal(0, 1).log_prob(0.0)))
    with pytest.raises(ValueError, match="scalar"):
        sx.twist("t", jnp.zeros(2))


def test_stop_character():
    lm = sx.TableLM.uniform([b"a", b"b\n", b"\na"])

    def program(context, where):
        return sx.generate("text", context, max_tokens=3, where=where, stop="\n")

    smc = sx.SMC(sx.AWRS(program), num_particles=512)
    smc.run(jax.random.key(0), lm.prompt(), sx.regex("[ab]*"))
    texts = smc.posterior("text")
    assert all("\n" not in text for text in texts)
    assert {"", "b", "a", "ab"} <= set(texts)
    # P("") = P(end) + P("\na"): each 1/4.
    assert texts[""] == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_tokens": 0}, "max_tokens must be an integer of at least 1"),
        ({"max_tokens": 3, "stop": "ab"}, "one ASCII character"),
        ({"max_tokens": 3, "where": "a+"}, "must be a sentax constraint"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        seed(lambda: sx.generate("text", LM.prompt(), **arguments), 0)()


def test_constrain_wants_a_boolean():
    with pytest.raises(TypeError, match="boolean"):
        sx.constrain("c", jnp.float32(1.0))


def test_matches_agrees_with_the_pattern():
    import re

    where = sx.regex("(ab)*a?")
    text = seed(lambda: model(LM.prompt()), 0)()
    for outcome in MARKOV.texts(4):
        padded = jnp.array([*outcome.tokens, *[3] * (4 - len(outcome.tokens))])
        import dataclasses

        got = bool(dataclasses.replace(text, tokens=padded).matches(where))
        assert got == bool(re.fullmatch(rb"(ab)*a?", outcome.data))
        if len(outcome.tokens) == 2:
            break
