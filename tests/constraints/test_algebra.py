"""Automata as sets: minimal, canonical, closed under &, | and ~; lists of strings; lengths."""

from __future__ import annotations

import itertools
import random
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sentax.ppl.constraints import (
    Automaton,
    Both,
    Either,
    Length,
    Not,
    TooManyStates,
    choice,
    complement,
    intersection,
    length,
    literal,
    regex,
    union,
)
from sentax.ppl.constraints.dfa import Dfa, coarsest_partition, product


def random_dfa(rng: np.random.Generator, states: int, letters: int) -> Dfa:
    classes = rng.integers(0, letters, 256).astype(np.int32)
    classes[:letters] = np.arange(letters)
    delta = rng.integers(0, states, (states, letters)).astype(np.int32)
    return Dfa(delta, classes, rng.random(states) < 0.3)


def runs(dfa: Dfa, letters: int, longest: int) -> list[bool]:
    """Acceptance of all words over the first letters, shortest first."""
    out = []
    for size in range(longest + 1):
        for word in itertools.product(range(letters), repeat=size):
            state = 0
            for byte in word:
                state = dfa.delta[state, dfa.classes[byte]]
            out.append(bool(dfa.accepting[state]))
    return out


def distinguishable(dfa: Dfa) -> np.ndarray:
    """The textbook's table filling, pair by pair."""
    apart = dfa.accepting[:, None] != dfa.accepting[None]
    while True:
        further = apart | apart[dfa.delta[:, None], dfa.delta[None]].any(axis=-1)
        if (further == apart).all():
            return apart
        apart = further


@pytest.mark.parametrize("seed", range(40))
def test_minimise_against_table_filling(seed):
    rng = np.random.default_rng(seed)
    dfa = random_dfa(rng, int(rng.integers(1, 30)), int(rng.integers(1, 4)))
    block = coarsest_partition(dfa.delta, dfa.accepting)
    assert np.array_equal(block[:, None] != block[None], distinguishable(dfa))
    small = dfa.minimise()
    apart = distinguishable(small)
    assert (apart | np.eye(len(apart), dtype=bool)).all()
    assert runs(small, 3, 5) == runs(dfa, 3, 5)
    # Canonical: any other automaton of the language gives the same arrays.
    order = np.append(0, 1 + rng.permutation(len(dfa.delta) - 1)).astype(np.int32)
    shuffled = Dfa(np.argsort(order).astype(np.int32)[dfa.delta[order]], dfa.classes, dfa.accepting[order])
    for ours, theirs in zip(small, shuffled.minimise()):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("seed", range(10))
def test_products_and_complements(seed):
    rng = np.random.default_rng(seed)
    a, b = random_dfa(rng, 7, 3), random_dfa(rng, 5, 3)
    for combine in (np.logical_and, np.logical_or, np.logical_xor):
        expected = combine(runs(a, 3, 5), runs(b, 3, 5)).tolist()
        assert runs(product(a, b, combine), 3, 5) == expected
    assert runs(a.complement(), 3, 5) == (~np.array(runs(a, 3, 5))).tolist()
    # Live: some word leads to acceptance, and with 7 states one of at most 6 letters does.
    reach = a.accepting.copy()
    for _ in range(7):
        reach |= reach[a.delta].any(axis=1)
    assert np.array_equal(a.live(), reach)


@pytest.mark.parametrize("pattern", ["abc", "é+|日", r"\w+", ".{1,9}", "(?i:straße)", r"[^\d]*x"])
def test_regex_tables_are_minimal_and_live(pattern):
    automaton = regex(pattern)
    dfa = automaton.to_dfa()
    states = len(dfa.delta)
    # The only dead state is the sink.
    assert np.asarray(automaton.live).sum() == dfa.live().sum() == states - 1
    # to_dfa minimises; the tables on the device had nothing to lose.
    reached, frontier = {0}, [0]
    transitions = np.asarray(automaton.transitions)
    while frontier:
        new = set(transitions[frontier].ravel().tolist()) - reached
        reached |= new
        frontier = list(new)
    assert len(reached) == states


def test_a_language_has_one_table():
    same = [
        regex("(a|b)*abb"),
        regex("[ab]*?(?:abb)"),
        ~(~regex("[ba]*abb")),
        regex("[ab]*") & regex(".*abb"),
    ]
    dfas = [a.to_dfa() for a in same]
    assert all(np.array_equal(x, y) for d in dfas[1:] for x, y in zip(dfas[0], d))


def test_empty_languages_are_refused():
    for make in (
        lambda: choice([]),
        lambda: regex("a+") & regex("b+"),
        lambda: ~(regex("(?s).*") | ~regex("(?s).*")),
        lambda: length(3, 2),
        lambda: length(max=-1),
    ):
        with pytest.raises(ValueError, match="matches nothing"):
            make()


def test_choice_of_thousands_is_minimal_and_quick():
    rng = random.Random(0)
    words = sorted({"".join(rng.choices("abcdeé", k=rng.randint(1, 8))) for _ in range(5000)})
    before = time.process_time()
    many = choice(words)
    assert time.process_time() - before < 2.0
    dfa = many.to_dfa()
    assert len(dfa.delta) <= many.transitions.shape[0] <= 2 * len(dfa.delta)
    # `to_dfa` minimises: as many states as were built, counted on the device's tables.
    assert np.asarray(many.live).sum() == len(dfa.delta) - 1
    probe = [*rng.sample(words, 50), *("".join(rng.choices("abé", k=5)) for _ in range(50))]
    assert [many.matches(w) for w in probe] == [w in set(words) for w in probe]


def test_strings_may_be_bytes_and_repeat():
    assert choice([b"\xff", "a", "a"]).matches(b"\xff")
    with pytest.raises(TypeError, match="list of strings"):
        choice("abc")
    with pytest.raises(TypeError, match="str or bytes"):
        choice(["a", 1])
    with pytest.raises(ValueError, match=r"'tokens', 'bytes', .* or 'sentences'"):
        length(1, unit="lines")


def test_operators_choose_the_exact_form():
    a, b, counted = regex("a+"), literal("aa"), length(max=2)
    assert isinstance(a & b, Automaton)
    assert isinstance(intersection(a, b), Automaton)
    assert isinstance(union(a, b), Automaton)
    assert isinstance(complement(a), Automaton)
    assert isinstance(a & counted, Both)
    assert isinstance(a | counted, Either)
    assert isinstance(~counted, Not)
    assert ~~counted is counted
    assert (a & counted).counts_tokens
    assert not (a | b).counts_tokens
    assert isinstance(counted, Length)
    assert repr(~(a & counted)) == "~(regex('a+') & length(unit='tokens'))"


def test_a_product_beyond_its_bound_runs_side_by_side():
    left, right = regex(".*a.{11}"), regex(".*b.{11}.?")
    pair = left & right
    assert isinstance(pair, Both)
    text = "a" + "b" * 11
    assert not pair.matches(text)
    assert pair.matches("b" + text)
    with pytest.raises(TooManyStates, match="more than 100"):
        product(left.to_dfa(), right.to_dfa(), np.logical_and, 100)


def test_traced_tables_run_side_by_side():
    @jax.jit
    def accepts(a, b, token):
        pair = a & b
        assert isinstance(pair, Both)
        assert isinstance(~a, Not)
        return pair.accepts(pair.step(pair.init(), token))

    assert accepts(regex("[ab]+"), regex("[bc]+"), jnp.array([98, 98]))
    assert not accepts(regex("[ab]+"), regex("[bc]+"), jnp.array([98, 97]))


def test_product_alive_is_exact():
    """Each side can be completed, but no text completes both."""
    exact = regex("a(b|c)") & regex("(a|x)c") & ~literal("zz")
    pair = Both(regex("a(b|c)"), regex("ad|xc"))
    token = jnp.array([ord("a")])
    assert bool(exact.alive(exact.step(exact.init(), token)))
    assert bool(pair.alive(pair.step(pair.init(), token)))
    with pytest.raises(ValueError, match="matches nothing"):
        intersection(pair.left, pair.right)
