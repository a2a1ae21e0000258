"""The n-gram model against the textbook's recursion in plain Python."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.checkpoints import TEXTS, byte_level_tokenizer
from reference.ngram import plain_ngram

from sentax.models import ModelError, Tokenizer, Vocabulary
from sentax.models.ngram import CHUNK, NGramLM, byte_vocabulary
from sentax.models.smoothing import KneserNey, WittenBell
from sentax.ppl.language_model import Context, LanguageModel

V, END, PADDING = 7, 6, 5
VOCABULARY = Vocabulary([b"a", b"b", b"c", b"d", b"ab", b"", b""], end_of_text=END)
SMOOTHINGS = {
    "Kneser-Ney": KneserNey(),
    "Kneser-Ney, D = 0.3": KneserNey(0.3),
    "Witten-Bell": WittenBell(),
}


def corpus(seed=0, texts=12):
    """Skewed, so that counts of one, two and many occur at every length; one empty text; no token 3."""
    rng = np.random.default_rng(seed)
    sizes = [0, *rng.integers(1, 30, texts - 1)]
    return [rng.choice([0, 1, 2, 4], size, p=[0.6, 0.2, 0.15, 0.05]).tolist() for size in sizes]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("smoothing", SMOOTHINGS.values(), ids=SMOOTHINGS)
def test_equals_the_recursion(order, smoothing):
    texts = corpus()
    lm = NGramLM.train(texts, VOCABULARY, order=order, smoothing=smoothing)
    probability = plain_ngram(texts, order, smoothing, V, END, drawable=[0, 1, 2, 3, 4, END])
    logits = jax.jit(lambda context: context.logits)
    # Contexts that were seen, that were not, and shorter ones at the beginning.
    rng = np.random.default_rng(1)
    contexts = [[], [0], [3], [0, 0], [0, 1], [3, 0], [0, 3], *texts[1:6]]
    contexts += [rng.integers(0, 5, rng.integers(1, 7)).tolist() for _ in range(30)]
    for ids in contexts:
        probs = np.exp(logits(lm.prompt(ids)))
        expected = [0.0 if token == PADDING else probability([END, *ids], token) for token in range(V)]
        np.testing.assert_allclose(probs, expected, rtol=2e-6)
        np.testing.assert_allclose(probs.sum(), 1.0, atol=1e-6)
        assert (probs > 0).tolist() == [token != PADDING for token in range(V)]


def test_steps_equal_prompts():
    lm = NGramLM.train(corpus(), VOCABULARY, order=4)
    assert isinstance(lm, LanguageModel)
    context = lm.prompt()
    assert isinstance(context, Context)
    assert context.reserve(5) is context
    ids = [0, 0, 1, 4, 2, 0, 3, 0]
    for index, token in enumerate(ids):
        np.testing.assert_array_equal(context.logits, lm.prompt(ids[:index]).logits)
        np.testing.assert_array_equal(context.extend(token, False).logits, context.logits)
        context = context.extend(token)


def test_lanes_of_different_lengths():
    """Contexts with many followers and with none, in one batch and in a batch of batches."""
    rng = np.random.default_rng(2)
    texts = [np.stack([np.zeros(30, int), rng.integers(1, 200, 30)], 1).reshape(-1).tolist() for _ in range(40)]
    lm = NGramLM.train(texts, byte_vocabulary(), order=3)
    followers = np.diff(lm.table.start)[:257]
    assert (followers[0] > 2 * CHUNK, followers[1], followers[201]) == (True, 1, 0)
    contexts = jnp.array([[0, 1], [5, 0], [201, 0], [0, 201], [201, 202], [0, 0]])
    start = lm.prompt()
    logits = lambda ids: start.extend(ids[0]).extend(ids[1]).logits
    batched = jax.jit(jax.vmap(logits))(contexts)
    for row, ids in zip(batched, contexts):
        np.testing.assert_allclose(row, lm.prompt(ids.tolist()).logits, rtol=1e-6)
    twice = jax.jit(jax.vmap(jax.vmap(logits)))(contexts.reshape(2, 3, 2))
    np.testing.assert_allclose(twice.reshape(batched.shape), batched, rtol=1e-6)
    # A batch of tables is no use, but no error either.
    tables = jax.tree.map(lambda x: jnp.stack([x, x]), lm.table)
    step = lambda table, token: dataclasses.replace(start, table=table).extend(token).logits
    stacked = jax.jit(jax.vmap(step))(tables, jnp.array([1, 2]))
    np.testing.assert_allclose(stacked[1], lm.prompt([2]).logits, rtol=1e-6)


def test_text_over_a_tokenizer(tmp_path):
    tokenizer = Tokenizer(byte_level_tokenizer().to_str())
    vocabulary = Vocabulary.from_tokenizer(tokenizer, 340, [0, 1])
    lm = NGramLM.train(TEXTS, vocabulary, order=3)
    context = lm.prompt("She said hello to the old sail")  # healed: "sailor" is a token
    *ids, held = vocabulary.encode("She said hello to the old sail")
    taken = vocabulary.tokens[held]
    assert int(context.seam) == len(taken)
    starts = [token.startswith(taken) for token in vocabulary.tokens]
    assert np.isfinite(context.logits).tolist() == starts
    best = int(context.logits.argmax())
    naive = lm.prompt([*ids, best])
    assert int(context.extend(best).seam) == 0
    np.testing.assert_array_equal(context.extend(best).logits, naive.logits)
    assert np.isneginf(naive.logits[1])  # the second way to end a text is counted in the first

    lm.save(tmp_path / "lm.npz")
    again = NGramLM.load(tmp_path / "lm.npz")
    assert repr(again) == repr(lm)
    assert again.vocabulary.tokenizer.prefix == tokenizer.prefix
    assert (again.vocabulary.tokens, again.vocabulary.ends) == (vocabulary.tokens, vocabulary.ends)
    for text in ["", *TEXTS, "sail"]:
        np.testing.assert_array_equal(again.prompt(text).logits, lm.prompt(text).logits)


def test_bytes():
    lm = NGramLM.train(["caf\u00e9", b"\xff\x00", "caf\u00e9"], order=4)
    assert lm.vocabulary.decode(np.argmax(lm.prompt("caf").logits)[None]) == b"\xc3"
    assert int(np.argmax(lm.prompt("caf\u00e9").logits)) == lm.vocabulary.end_of_text
    assert int(np.argmax(lm.prompt(b"\xff").logits)) == 0
    text = lm.sample(jax.random.key(0), "caf", max_tokens=3, num_samples=20)
    assert "\u00e9" in text.decode()
    a = NGramLM.train(["ab"], order=2, smoothing=WittenBell())
    # p(b|a) = (1 + 1 p(b)) / 2, p(b) = (1 + 3 / 257) / 6, by hand.
    np.testing.assert_allclose(np.exp(a.score("ab")), (1 + (1 + 3 / 257) / 6) ** 2 / 4, rtol=1e-6)


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="no texts"):
        NGramLM.train([])
    with pytest.raises(ValueError, match="single text"):
        NGramLM.train("abc")
    with pytest.raises(ValueError, match="token 5 is no text"):
        NGramLM.train([[0, 5]], VOCABULARY)
    with pytest.raises(ValueError, match="token 6 is no text"):
        NGramLM.train([[0, END]], VOCABULARY)
    with pytest.raises(ValueError, match="7 is no token id below 7"):
        NGramLM.train([[7]], VOCABULARY)
    with pytest.raises(ValueError, match="no tokenizer"):
        NGramLM.train(["x"], VOCABULARY)
    with pytest.raises(ValueError, match="order must be at least 1"):
        NGramLM.train(["a"], order=0)
    with pytest.raises(ValueError, match="discount"):
        KneserNey(1.0)
    np.savez(tmp_path / "other.npz", a=1)
    (tmp_path / "text.npz").write_text("hello")
    for name in ("other.npz", "text.npz", "missing.npz"):
        with pytest.raises(ModelError, match="no saved n-gram model"):
            NGramLM.load(tmp_path / name)
