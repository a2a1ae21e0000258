"""Proposals: evidence and posterior stay what they are, whatever the tokens are drawn from.

Statistics have fixed seeds and |z| < 4.75 for each entry of an enumerated table: 2e-6 false alarms an entry.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from reference.calibrated import compiled, largest_z
from reference.programs import LM, MARKOV, TOKENS, Program, T

import sentax as sx
from sentax.inference.control import Control
from sentax.inference.engine import run_particles
from sentax.inference.filter import FilterConfig
from sentax.inference.learning import sampler_divergences
from sentax.inference.sites import SiteNumbers
from sentax.inference.step import DEFENSIVE

WHERE = "(ab)*a?b?"
_rng = np.random.default_rng(3)
OTHER = sx.TableLM(_rng.normal(size=(4, 4)), _rng.normal(size=4), TOKENS, end_of_text=3)
# Neither an `a` at all nor an end after `b`: the defensive share has to bring both back.
FORBIDDING = _rng.normal(size=(4, 4))
FORBIDDING[:, 0] = FORBIDDING[1, 3] = -np.inf
FORBIDDING = sx.TableLM(FORBIDDING, np.array([-np.inf, 0.0, 0.0, 0.0]), TOKENS, end_of_text=3)
NGRAM = sx.NGramLM.train([[0, 1, 2], [2, 1], [0], [1, 0]], LM.vocabulary, order=2)

# By structure: those of one group run one compiled program.
GROUPS = {
    "tables": {"other": OTHER.prompt(), "prompt": LM.prompt("b"), "forbidding": FORBIDDING.prompt()},
    "temperature": {"cool": LM.temperature(0.4).prompt(), "hot": LM.temperature(3.0).prompt()},
    "ngram": {"ngram": NGRAM.prompt()},
}
KERNELS = {
    "prior": sx.Prior,
    "awrs": lambda model: sx.AWRS(model, use_masks=False),
    "masks": sx.AWRS,
}


def model(context, where, proposal):
    text = sx.generate("text", context, max_tokens=T, where=where, proposal=proposal)
    numpyro.factor("brevity", -0.4 * text.length)


def program() -> Program:
    table = {}
    for text in MARKOV.texts(T):
        p = text.probability * bool(re.fullmatch(WHERE.encode(), text.data)) * np.exp(-0.4 * len(text.tokens))
        if p > 0:
            key = text.tokens + (3,) * (T - len(text.tokens))
            table[key] = table.get(key, 0.0) + p
    return Program(model, (), lambda samples, i: tuple(samples["text"][i].tolist()), table)


# Every group with every kernel is `slow`.
ROTA = [("tables", "awrs", 3)]
REST = [(g, k, 4) for g in GROUPS for k in KERNELS if (g, k) not in {(a, b) for a, b, _ in ROTA}]


@pytest.mark.parametrize(
    ("group", "kernel", "num_particles"),
    [*ROTA, *(pytest.param(*row, marks=pytest.mark.slow) for row in REST)],
)
def test_unbiased(group, kernel, num_particles):
    run = compiled(KERNELS[kernel](model), num_particles, 8_000 // num_particles)
    for seed, (name, proposal) in enumerate(GROUPS[group].items()):
        z = largest_z(program(), *run(seed, LM.prompt(), sx.regex(WHERE), proposal))
        assert z < 4.75, f"{name}: z = {z:.1f}"


def soft(context, proposal):
    text = sx.generate("text", context, max_tokens=2, proposal=proposal)
    numpyro.factor("likes b", 1.5 * jnp.sum(text.tokens == 1))


def test_the_weight_variance_is_that_of_the_proposal():
    """Draws have the density that the formula says, so the variance of a weight is known exactly.

    A proposal that leans where the factor does must reduce it, one that leans away raise it.
    """
    texts = list(MARKOV.texts(2))
    support = jnp.array([t.tokens + (3,) * (2 - len(t.tokens)) for t in texts])
    likes = np.array([t.tokens.count(1) for t in texts])
    log_joint = np.log([t.probability for t in texts]) + 1.5 * likes
    joint = np.exp(log_joint)

    def mixed(p, q):
        return (1 - DEFENSIVE) * q + DEFENSIVE * p

    def normalised(x):
        return np.exp(x) / np.exp(x).sum(-1, keepdims=True)

    kernel, variances = sx.Prior(soft), {}
    for lean in (-1.5, 0.0, 1.2):
        shift = lean * np.array([0.0, 1.0, 0.0, 0.0])
        logits = [np.log(MARKOV.rows) + shift, np.log(MARKOV.first) + shift]
        proposal = sx.TableLM(logits[0], logits[1], TOKENS, end_of_text=3).prompt()
        rows = mixed(MARKOV.rows, normalised(logits[0]))
        first = mixed(MARKOV.first, normalised(logits[1]))
        expected = []
        for text in texts:
            q = first[text.tokens[0] if text.tokens else 3]
            if len(text.tokens) == 1:
                q *= rows[text.tokens[0], 3]
            elif len(text.tokens) == 2:
                q *= rows[text.tokens[0], text.tokens[1]]
            expected.append(q)
        found = sampler_divergences(kernel, {"text": support}, log_joint, LM.prompt(), proposal)
        np.testing.assert_allclose(np.exp(found.log_q), expected, rtol=1e-5)
        assert found.coverage == pytest.approx(1.0, abs=1e-5)
        variances[lean] = joint @ (joint / np.exp(found.log_q)) - joint.sum() ** 2
    assert variances[1.2] < 0.2 * variances[0.0] < 0.1 * variances[-1.5]


def test_only_engines_that_draw_from_a_proposal_pay_for_it():
    """Under plain NumPyro, and in the exact local draw, a proposal that would fail is never asked."""

    def broken(context, remaining):
        raise AssertionError("asked")

    numpyro.handlers.seed(soft, 0)(LM.prompt(), broken)
    config = FilterConfig(2, Control(0.5, sx.systematic))
    exact = sx.LocallyConstrained(soft)
    jax.eval_shape(
        lambda key: run_particles(exact, config, SiteNumbers(), key, (LM.prompt(), broken), {}),
        jax.random.key(0),
    )


def test_wrong_proposals_are_refused():
    with pytest.raises(ValueError, match="vocabulary has 3 tokens"):
        numpyro.handlers.seed(soft, 0)(LM.prompt(), sx.TableLM.uniform([b"a", b"b"]).prompt())
    smc = sx.SMC(sx.Prior(soft), num_particles=2)
    with pytest.raises(ValueError, match="gave shape"):
        smc.run(jax.random.key(0), LM.prompt(), lambda context, remaining: jnp.zeros(3))
