"""Products, mixtures and ratios of models: against the formulas, and as programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sentax as sx
from sentax.models import ModelError, TableLM, Vocabulary, load
from sentax.models.ngram import NGramLM
from sentax.models.products import check_same_vocabulary, mixture, product, ratio
from sentax.ppl.language_model import Context, LanguageModel

TOKENS = [b"a", b"b", b"c", b""]
RNG = np.random.default_rng(0)


def table(holes=()):
    probs = RNG.dirichlet(np.ones(4), 4)
    for row, column in holes:
        probs[row, column] = 0.0
    probs /= probs.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        return probs, TableLM(np.log(probs), None, TOKENS, end_of_text=3)


P, A = table([(0, 1)])
Q, B = table([(0, 2), (3, 0)])
R, C = table()


def normalised(x):
    return x / x.sum(axis=-1, keepdims=True)


def cutoff(p, q, alpha, beta):
    with np.errstate(divide="ignore"):
        score = np.where((p >= beta * p.max(axis=1, keepdims=True)) & (p > 0) & (q > 0), p / q**alpha, 0.0)
    return normalised(np.where(np.isfinite(score), score, 0.0))


CASES = {
    "product": (lambda: product(A, B), lambda: normalised(P * Q)),
    "powers": (lambda: product(A, B, C, weights=(0.5, 2, 0.1)), lambda: normalised(P**0.5 * Q**2 * R**0.1)),
    "one left out": (lambda: product(A, B, weights=(1, 0)), lambda: P),
    "one alone": (lambda: product(C), lambda: R),
    "mixture": (lambda: mixture(A, B), lambda: (P + Q) / 2),
    "weighted mixture": (lambda: mixture(A, B, C, weights=(1, 0, 3)), lambda: (P + 3 * R) / 4),
    "ratio": (lambda: ratio(A, C), lambda: cutoff(P, R, 1.0, 0.1)),
    "ratio, cutoff": (lambda: ratio(C, B, 0.5, cutoff=0.4), lambda: cutoff(R, Q, 0.5, 0.4)),
    "ratio, no cutoff": (lambda: ratio(A, B, 2.0, cutoff=0.0), lambda: cutoff(P, Q, 2.0, 0.0)),
    "nested": (lambda: product(mixture(A, B), C), lambda: normalised((P + Q) / 2 * R)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_formulas(case):
    lm, expected = case[0](), case[1]()
    assert isinstance(lm, LanguageModel)
    context = lm.prompt().reserve(4)
    assert isinstance(context, Context)
    assert int(context.room) == 2**31 - 1
    for token in range(3):
        np.testing.assert_allclose(jax.nn.softmax(context.logits), expected[3], atol=1e-6)
        after = context.extend(token)
        np.testing.assert_allclose(jax.nn.softmax(after.logits), expected[token], atol=1e-6)
        np.testing.assert_array_equal(context.extend(token, False).logits, context.logits)
    logits = jax.vmap(lambda t: context.extend(t).logits)(jnp.arange(3))
    np.testing.assert_allclose(jax.nn.softmax(logits), expected[:3], atol=1e-6)


def test_broken_logits_stay_broken():
    for rule in (product(A, C).rule, mixture(A, C).rule, ratio(A, C).rule):
        log_probs = jax.nn.log_softmax(jnp.log(jnp.array([[0.5, 0.5], [0.2, 0.8]])))
        assert np.isnan(rule(log_probs.at[1, 0].set(jnp.nan))).any()


def test_programs():
    """A product's evidence by enumeration: the local normalisation is part of the model."""
    lm = product(A, C).top_k(3)

    def model(context):
        sx.generate("text", context, max_tokens=1, where=sx.regex("[ac]"))

    probs = normalised(P * R)[3]
    probs[np.argmin(probs)] = 0.0
    smc = sx.SMC(sx.LocallyConstrained(model), num_particles=4)
    smc.run(jax.random.key(0), lm.prompt())
    np.testing.assert_allclose(np.exp(smc.log_evidence), normalised(probs)[[0, 2]].sum(), rtol=1e-5)
    np.testing.assert_allclose(np.exp(lm.score([[1]])), normalised(probs)[1], rtol=1e-5)


def test_two_prompts():
    tokens = [b"a", b"b", b"c", b""]
    lm = product(TableLM(np.log(P + 0.1), None, tokens, end_of_text=3), C)
    one = lm.prompt(("a", "c"))
    np.testing.assert_allclose(jax.nn.softmax(one.logits), normalised(normalised(P + 0.1)[0] * R[2]), atol=1e-6)
    with pytest.raises(ValueError, match="a tuple of 3 prompts for 2 models"):
        lm.prompt(("a", "b", "c"))


def test_prompts_that_end_in_different_words():
    lm = load()
    both = product(lm, NGramLM.train(["a text about hello"], lm.vocabulary, order=2))
    context = both.prompt("She said hel")
    assert int(context.seam) == int(lm.prompt("She said hel").seam) > 0
    assert int(context.room) == int(lm.prompt("She said hel").room)
    assert int(both.prompt(("He said hel", "hel")).seam) > 0
    for prompts in [("She said hel", "She said a"), ("She said hel", [5, 6])]:
        with pytest.raises(ValueError, match="prompt with heal=False"):
            both.prompt(prompts)
    assert int(both.prompt(("She said hel", "She said a"), heal=False).seam) == 0
    two = product(lm, lm, weights=(0.5, 0.5)).prompt("She said")
    plain = lm.prompt("She said")
    for change in (lambda c: c, lambda c: c.append_text(" hello"), lambda c: c.append([5, 6])):
        np.testing.assert_allclose(
            jax.nn.log_softmax(change(two).logits), jax.nn.log_softmax(change(plain).logits), atol=1e-3
        )


def test_errors():
    with pytest.raises(ModelError, match="token 1 is b'b', but b'x' in model 2"):
        product(A, B, TableLM.uniform([b"a", b"x", b"c"]))
    with pytest.raises(ModelError, match="4 tokens, but 2 in model 1"):
        mixture(A, TableLM.uniform([b"a"]))
    with pytest.raises(ModelError, match="3 ends a text, but 0 in the other"):
        check_same_vocabulary(A.vocabulary, Vocabulary([b"", *TOKENS[1:]], end_of_text=0))
    # The same tokens with more ways to end are the same vocabulary: the model has summed them.
    check_same_vocabulary(Vocabulary([b"a", b"", b""], [1]), Vocabulary([b"a", b"", b""], [1, 2]))
    with pytest.raises(ValueError, match="2 models need as many weights"):
        product(A, B, weights=(1, 2, 3))
    with pytest.raises(ValueError, match="weights must be at least 0"):
        product(A, B, weights=(1, -1))
    with pytest.raises(ValueError, match="all 0"):
        mixture(A, B, weights=(0, 0))
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        ratio(A, B, -1.0)
    with pytest.raises(ValueError, match="cutoff must lie between"):
        ratio(A, B, cutoff=1.5)
    with pytest.raises(ValueError, match="no language model"):
        product()
