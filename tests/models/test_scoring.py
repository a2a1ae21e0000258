"""Scores of texts and plain samples."""

import jax
import numpy as np
import pytest

from sentax.models import TableLM, load
from sentax.models.ngram import NGramLM
from sentax.models.scoring import _sample, _score, sample, score

TOKENS = [b"a", b"b", b""]
PROBS = np.array([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3], [0.7, 0.25, 0.05]])


@pytest.fixture(scope="module")
def lm():
    return load()


def table():
    return TableLM(np.log(PROBS), None, TOKENS, end_of_text=2)


def test_scores_by_hand():
    lm = table()
    expected = [PROBS[2, 0] * PROBS[0, 1] * PROBS[1, 1], PROBS[2, 1], 1.0]
    np.testing.assert_allclose(np.exp(lm.score(["abb", b"b", ""])), expected, rtol=1e-6)
    np.testing.assert_allclose(
        np.exp(lm.score([[0, 1, 1], [1], np.array([1])])), [*expected[:2], 0.25], rtol=1e-6
    )
    np.testing.assert_allclose(np.exp(lm.score("abb", end=True)), expected[0] * PROBS[1, 2], rtol=1e-6)
    np.testing.assert_allclose(np.exp(lm.score(["b"], "a")), [PROBS[0, 1]], rtol=1e-6)
    assert isinstance(lm.score("a"), float) and isinstance(lm.score([0]), float)
    scores = lm.score(["ab", ""], end=True, per_token=True)
    assert scores.tokens.tolist() == [[0, 1, 2], [2, -1, -1]]
    np.testing.assert_allclose(np.exp(scores.log_probs), [[0.7, 0.2, 0.3], [0.05, 1, 1]], rtol=1e-6)
    assert lm.score([]).shape == (0,)
    impossible = TableLM(
        np.log([[0.5, 0.5], [1.0, 1e-30]]), np.array([0.0, -np.inf]), [b"a", b""], end_of_text=1
    )
    assert impossible.score([[1], [0]]).tolist() == [-np.inf, 0.0]


def test_all_texts_sum_to_one():
    """Every text of at most two tokens, and the texts that go on."""
    ended = table().score(["", *"ab", *(a + b for a in "ab" for b in "ab")], end=True)
    cut = table().score([a + b + c for a in "ab" for b in "ab" for c in "ab"])
    np.testing.assert_allclose(np.exp(ended).sum() + np.exp(cut).sum(), 1.0, rtol=1e-6)


def test_canonical_tokens_over_a_healed_prompt(lm):
    """The text is cut as it would be behind the prompt; its score is that of the whole text's tokens."""
    prompt, text = "She said to the old s", "ailor."
    scores = score(lm, [text], prompt, per_token=True)
    context = lm.prompt(prompt)
    whole = lm.vocabulary.encode(prompt + text)
    assert int(context.seam) > 0
    ids = scores.tokens[0][scores.tokens[0] >= 0].tolist()
    assert lm.vocabulary.decode(ids).decode()[int(context.seam) :] == text
    assert whole[-len(ids) :] == ids
    log_probs = []
    for token in ids:
        log_probs.append(float(jax.nn.log_softmax(context.logits)[token]))
        context = context.extend(token)
    np.testing.assert_allclose(scores.log_probs[0, : len(ids)], log_probs, atol=1e-4)
    np.testing.assert_allclose(score(lm, text, prompt), sum(log_probs), atol=1e-3)
    # A text whose canonical cut goes through the taken bytes: those are a token by themselves.
    (held, *rest) = score(lm, ["\n\n x"], prompt, per_token=True).tokens[0].tolist()
    assert lm.vocabulary.decode([held, *[i for i in rest if i >= 0]]).endswith(b"\n\n x")
    naive = score(lm, text, prompt, heal=False)
    assert naive != score(lm, text, prompt)


def test_batches_share_programs(lm):
    ngrams = NGramLM.train(["abc"], order=2)
    before = _score._cache_size()
    for texts in (["a"], ["b" * 16], ["bc"], [[97] * 16]):
        score(ngrams, texts)
    assert _score._cache_size() == before + 1
    score(ngrams, ["a"] * 3)
    score(ngrams, ["a"] * 4)
    score(ngrams, ["a" * 20] * 4)
    assert _score._cache_size() == before + 3
    alone = [score(lm, [text], "She")[0] for text in (" said hello", " a", "")]
    np.testing.assert_allclose(score(lm, [" said hello", " a", ""], "She"), alone, atol=1e-4)


def test_samples_follow_the_law():
    """Frequencies of all texts of at most two tokens; |z| < 4.75 for each of 10."""
    N = 4000
    texts = table().sample(jax.random.key(0), max_tokens=2, num_samples=N)
    assert texts.tokens.shape == (N, 2) and texts.context is None
    decoded = texts.decode()
    cut = ~np.asarray(texts.finished)
    names = [text + "..." * int(end) for text, end in zip(decoded, cut)]
    expected = {"": 0.05}
    for i, a in enumerate("ab"):
        expected[a] = PROBS[2, i] * PROBS[i, 2]
        for j, b in enumerate("ab"):
            expected[a + b + "..."] = PROBS[2, i] * PROBS[i, j]
    assert set(names) <= set(expected)
    for name, p in expected.items():
        assert abs(names.count(name) / N - p) < 4.75 * np.sqrt(p * (1 - p) / N)


def test_samples_of_a_transformer(lm):
    texts = sample(lm, jax.random.key(1), "She said", max_tokens=8, num_samples=3)
    before = _sample._cache_size()
    again = sample(lm, jax.random.key(1), "She said", max_tokens=8, num_samples=3)
    np.testing.assert_array_equal(texts.tokens, again.tokens)
    assert len(set(texts.decode())) == 3
    sample(lm, jax.random.key(2), "He said", max_tokens=8, num_samples=3)
    assert _sample._cache_size() == before


def test_samples_stop():
    texts = table().sample(jax.random.key(0), max_tokens=3, num_samples=50, stop="b")
    assert set(texts.decode()) == {"", "a", "aa", "aaa"}
    greedy = table().top_k(1).sample(jax.random.key(0), max_tokens=3, num_samples=5)
    assert greedy.decode() == ["aaa"] * 5


def test_errors(lm):
    with pytest.raises(ValueError, match="3 is no token id below 3"):
        table().score([[3]])
    with pytest.raises(ValueError, match="no tokenizer"):
        TableLM.uniform([b"ab"]).score("ab")
    with pytest.raises(ValueError, match="no token of this vocabulary has the byte b'x'"):
        table().score("x")
    with pytest.raises(ValueError, match="num_samples must be an integer of at least 1, got 0"):
        table().sample(jax.random.key(0), max_tokens=1, num_samples=0)
    with pytest.raises(ValueError, match="max_tokens must be an integer"):
        table().sample(jax.random.key(0), max_tokens=0)
    room = int(lm.prompt("She").room)
    with pytest.raises(ValueError, match=f"a text of {room + 1} tokens does not fit .* room for {room}"):
        score(lm, [[5] * (room + 1)], "She")
    with pytest.raises(ValueError, match=f"max_tokens={room + 1} does not fit"):
        sample(lm, jax.random.key(0), "She", max_tokens=room + 1)
