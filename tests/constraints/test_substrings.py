"""Quotations against `in`."""

from __future__ import annotations

import random
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from constraints.test_regex import walk

from sentax.ppl.constraints import Automaton, regex
from sentax.ppl.constraints.substrings import (
    Quotation,
    _dense,
    _displaced,
    _suffix_automaton,
    _whole_words,
    substring_of,
)
from sentax.testing import check_constraint


def sparse(edges) -> Quotation:
    return Quotation.from_edges(edges, "test")


def verdicts(quotation: Quotation, texts: list[bytes]) -> list[bool]:
    base, owner, target = (np.asarray(x) for x in (quotation.base, quotation.owner, quotation.target))
    accepting = np.asarray(quotation.accepting)

    def accepts(text: bytes) -> bool:
        state = 0
        for byte in text:
            place = base[state] + byte
            if owner[place] != state:
                return False
            state = target[place]
        return bool(accepting[state])

    return [accepts(t) for t in texts]


@pytest.mark.parametrize("seed", range(12))
def test_pieces_are_pieces(seed):
    rng = random.Random(seed)
    alphabet = ["ab", "abcdé", "aé日 ,"][seed % 3]
    corpus = "".join(rng.choices(alphabet, k=rng.randint(0, 60)))
    probes = ["".join(rng.choices(alphabet, k=rng.randint(0, 6))) for _ in range(300)]
    probes += [corpus[i : i + rng.randint(0, 20)] for i in range(len(corpus))]
    expected = [p in corpus for p in probes]
    raw = [p.encode() for p in probes]
    edges = _suffix_automaton(corpus)
    assert len(edges.accepting) <= 2 * len(corpus.encode()) + 1
    assert walk(substring_of(corpus), raw).tolist() == expected
    assert verdicts(sparse(edges), raw) == expected
    as_bytes = corpus.encode()
    cut = [t[rng.randint(0, 1) :][: rng.randint(0, 9)] for t in raw]
    assert verdicts(sparse(_suffix_automaton(as_bytes)), cut) == [t in as_bytes for t in cut]


def is_whole(piece: str, corpus: str) -> bool:
    """Whether some occurrence cuts no word of the corpus."""

    def cuts(at: int) -> bool:
        word = [c.isalnum() or c == "_" for c in corpus[max(at - 1, 0) : at + 1]]
        return 0 < at < len(corpus) and all(word)

    starts = [i for i in range(len(corpus) + 1) if corpus.startswith(piece, i)]
    return any(not cuts(i) and not cuts(i + len(piece)) for i in starts)


@pytest.mark.parametrize("seed", range(6))
def test_whole_words_are_not_cut(seed):
    rng = random.Random(seed)
    corpus = "".join(rng.choices(["ab", "b", "é", "日_", " ", ", ", "—"], k=rng.randint(1, 40)))
    probes = [corpus[i:j] for i in range(len(corpus)) for j in range(i, min(i + 12, len(corpus)) + 1)]
    probes += ["".join(rng.choices(["a", "b", "é", " "], k=3)) for _ in range(100)]
    expected = [is_whole(p, corpus) for p in probes]
    raw = [p.encode() for p in probes]
    assert walk(substring_of(corpus, whole_words=True), raw).tolist() == expected
    assert verdicts(sparse(_whole_words(corpus)), raw) == expected
    assert 0 < sum(expected) < len(probes)


def test_the_sparse_form_keeps_the_laws_and_agrees_with_the_dense_one():
    corpus = "to be, or not to be: that is the été"
    for edges in (_suffix_automaton(corpus), _whole_words(corpus)):
        quotation = sparse(edges)
        texts = ["to be", "not to", "été", "ét", "or  not", "", "o b", "is the é", corpus, corpus + "!"]
        dense = Automaton.from_dfa(_dense(edges), "dense")
        check_constraint(quotation, texts=texts, oracle=lambda t, d=dense: bool(walk(d, [t])[0]))
        assert len(quotation.init().shape) == 0


def test_alive_is_exact_where_characters_are_whole():
    quote = substring_of("aéb")
    state = quote.step(quote.init(), jnp.array([ord("a"), 0xC3]))
    assert bool(quote.alive(state)) and not bool(quote.accepts(state))
    assert not bool(quote.alive(quote.step(quote.init(), jnp.array([0xA9]))))


@pytest.mark.parametrize("corpus", ["a" * 20000, "ab" * 10000, "".join(map(chr, range(33, 9000)))])
def test_large_and_repetitive_corpora(corpus):
    """Sparse tables of states with thousands of edges in all, and chains."""
    quote = substring_of(corpus)
    assert isinstance(quote, Quotation)
    assert len(quote.owner) <= 16 * len(corpus.encode()) + 2048
    pieces = [corpus[:50], corpus[-50:], corpus[100:103], corpus]
    assert verdicts(quote, [p.encode() for p in pieces]) == [True] * 4
    assert verdicts(quote, [(p + "~!").encode() for p in pieces]) == [False] * 4


def test_every_edge_has_a_place_of_its_own():
    rng = random.Random(0)
    edges = _suffix_automaton("".join(rng.choices("abcdefgh", k=30000)))
    base, owner, target = _displaced(edges, 1 << 16)
    place = base[edges.source] + edges.byte
    assert len(np.unique(place)) == len(place) == (owner >= 0).sum()
    assert (owner[place] == edges.source).all() and (target[place] == edges.target).all()
    assert base.min() >= 0 and base.max() + 255 < len(owner)


def test_a_hundred_kilobytes_are_quick():
    rng = random.Random(1)
    words = ["".join(rng.choices("etaoinshrdlu", k=rng.randint(1, 8))) for _ in range(2000)]
    corpus = " ".join(rng.choices(words, k=20000))
    before = time.process_time()
    quote = substring_of(corpus)
    assert time.process_time() - before < 10  # a second; quadratic construction would take hours
    piece = corpus[5000:5040]
    assert verdicts(quote, [piece.encode(), piece[::-1].encode()]) == [True, False]


def test_products_of_small_ones_are_exact():
    question = substring_of("Is it? It is.") & regex(r"[^.]+\?")
    assert isinstance(question, Automaton)
    assert walk(question, [b"Is it?", b"It is.", b"?"]).tolist() == [True, False, False]


def test_bad_arguments():
    with pytest.raises(TypeError, match="str or bytes, not list"):
        substring_of(["a"])
    with pytest.raises(TypeError, match="bytes have no letters"):
        substring_of(b"a", whole_words=True)


def test_a_state_is_one_number_in_a_batch():
    quote = sparse(_suffix_automaton("abcabd"))
    tokens = jnp.array([[97, 98, 256], [98, 99, 97], [100, 97, 256], [256, 256, 256]])
    states = jax.vmap(lambda t: quote.step(quote.init(), t))(tokens)
    assert jax.vmap(quote.alive)(states).tolist() == [True, True, False, True]
