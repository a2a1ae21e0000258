"""The enumerable model."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sentax.models import TableLM
from sentax.ppl.language_model import Context, LanguageModel

TABLE = np.log(np.array([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3], [0.25, 0.25, 0.5]]))
INITIAL = np.log(np.array([0.7, 0.3, 1e-30]))
TOKENS = [b"a", b"bc", b""]


def test_probabilities_by_enumeration():
    lm = TableLM(TABLE, INITIAL, TOKENS, end_of_text=2)
    assert isinstance(lm, LanguageModel)
    assert isinstance(lm.prompt(), Context)
    total = 0.0
    for text in itertools.product(range(3), repeat=3):
        context, log_prob, expected = lm.prompt().reserve(3), 0.0, INITIAL[text[0]]
        for token in text:
            log_prob += context.logits[token]
            context = context.extend(token)
        expected += TABLE[text[0], text[1]] + TABLE[text[1], text[2]]
        np.testing.assert_allclose(log_prob, expected, rtol=1e-6)
        total += np.exp(log_prob)
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_contexts():
    lm = TableLM(TABLE, INITIAL, TOKENS, end_of_text=2)
    for empty in (None, "", b""):
        np.testing.assert_array_equal(lm.prompt(empty).logits, lm.initial)
    for start in ("bc", b"bc", 1, np.int64(1)):
        np.testing.assert_allclose(lm.prompt(start).logits, TABLE[1], rtol=1e-6)
    np.testing.assert_array_equal(lm.prompt(1).extend(0, False).logits, lm.prompt(1).logits)
    np.testing.assert_allclose(TableLM(TABLE, None, TOKENS, end_of_text=2).prompt().logits, TABLE[2], rtol=1e-6)
    assert int(lm.prompt().seam) == 0
    logits = jax.vmap(lambda t: lm.prompt().extend(t).logits)(jnp.arange(3))
    np.testing.assert_allclose(logits, TABLE, rtol=1e-6)
    assert lm.vocabulary.decode([0, 1, 2, 0]) == b"abc"


def test_errors():
    lm = TableLM(TABLE, INITIAL, TOKENS, end_of_text=2)
    with pytest.raises(ValueError, match="not one token"):
        lm.prompt("ab")
    with pytest.raises(ValueError, match="token 3 is not below 3"):
        lm.prompt(3)
    with pytest.raises(ValueError, match=r"2 tokens need log_probs \[2, 2\]"):
        TableLM(TABLE, INITIAL, [b"a", b""], end_of_text=1)
    with pytest.raises(ValueError, match="initial has a row"):
        TableLM(TABLE, np.full(3, -np.inf), TOKENS, end_of_text=2)
    with pytest.raises(ValueError, match="log_probs has a row"):
        TableLM(np.full((3, 3), np.nan), INITIAL, TOKENS, end_of_text=2)
