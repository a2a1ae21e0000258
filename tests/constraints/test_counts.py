"""Lengths in characters, words and sentences, as automata and with counters."""

from __future__ import annotations

import random
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from constraints.test_regex import walk

from sentax.ppl.constraints import PAD, Automaton, length, regex
from sentax.ppl.constraints.counts import Count, scanner
from sentax.testing import check_constraint

STOPS, FULL_STOPS, CLOSERS = ".!?…", "。！？", "\"')]}»’”›」』）】"
PIECES = [
    "a", "été", "日", " ", "  ", "\n", "\u3000", "\u2003", "\x85", ".", "...", "!", "?!", "…", "。", "！",
    "”", ")", "’", "3.1", "—", "(", "」", "\x1c", "\u200b",
]  # fmt: skip


def sentence_end(text: str) -> int:
    """Where the first sentence ends, looking at one place after another."""
    for stop in range(1, len(text)):
        head, following = text[:stop], text[stop]
        body = head.rstrip(CLOSERS)
        if body and body[-1] in STOPS and following.isspace():
            return stop
        ended = re.search(rf"[{FULL_STOPS}][{FULL_STOPS}{STOPS}{re.escape(CLOSERS)}]*\Z", head)
        if ended and following not in FULL_STOPS + STOPS + CLOSERS:
            return stop
    return len(text)


def sentences(text: str) -> int:
    count, rest = 0, text.lstrip()
    while rest:
        count += 1
        rest = rest[sentence_end(rest) :].lstrip()
    return count


ORACLES = {"characters": len, "words": lambda text: len(text.split()), "sentences": sentences}
units = pytest.mark.parametrize("unit", ORACLES)


def texts(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(PIECES, k=rng.randint(0, 9))) for _ in range(count)]


def test_the_oracle_on_known_texts():
    known = {
        "It is 3.1. Yes": 2,
        "“Go!” he said.": 2,
        "": 0,
        " a ": 1,
        "e.g. this": 2,
        "一。二！」三": 3,
        "x?!) y": 2,
    }
    assert {text: sentences(text) for text in known} == known


@units
@pytest.mark.parametrize("bounds", [(0, 2), (2, 3), (1, 1), (3, None), (0, 0)])
def test_automata_count(unit, bounds):
    least, most = bounds
    automaton = length(*bounds, unit=unit)
    assert isinstance(automaton, Automaton)
    probes = texts(0, 400)
    counts = [ORACLES[unit](t) for t in probes]
    expected = [least <= c <= (c if most is None else most) for c in counts]
    assert walk(automaton, [t.encode() for t in probes]).tolist() == expected
    assert 0 < sum(expected) < len(probes)


@units
def test_counters_agree_with_automata(unit):
    """The same bounds in both forms; a counter is chosen where an automaton would be large."""
    table = scanner(unit)
    automaton, large = length(2, 3, unit=unit), length(2, 10**6, unit=unit)
    assert isinstance(large, Count)
    small = Count(*map(jnp.asarray, (*table, np.int32(2), np.int32(4), np.bool_(False))))
    probes = [t.encode() for t in texts(1, 60)]
    tokens = np.full((len(probes), max(map(len, probes)) + 1), PAD, np.int32)
    for row, text in zip(tokens, probes):
        row[: len(text)] = np.frombuffer(text, np.uint8)

    @jax.jit
    @jax.vmap
    def along(token):
        """After every byte: alive and accepts of both."""

        def step(states, byte):
            states = small.step(states[0], byte[None]), automaton.step(states[1], byte[None])
            verdicts = [(c.alive(s), c.accepts(s)) for c, s in zip((small, automaton), states)]
            return states, verdicts

        return jax.lax.scan(step, (small.init(), automaton.init()), token)[1]

    counter, exact = along(tokens)
    for mine, theirs in zip(counter, exact):
        assert np.array_equal(mine, theirs)
    expected = [ORACLES[unit](t.decode()) >= 2 for t in probes]
    got = jax.vmap(lambda t: large.accepts(large.step(large.init(), t)))(tokens)
    assert got.tolist() == expected


@units
def test_counter_keeps_the_laws(unit):
    def oracle(text: bytes) -> bool:
        try:
            return ORACLES[unit](text.decode()) >= 2
        except UnicodeDecodeError:
            return ORACLES[unit](text.decode(errors="replace")) >= 2

    check_constraint(length(2, 10**6, unit=unit), texts=texts(2, 20), oracle=oracle)


def test_products_with_automata_are_exact():
    """Two words of one letter and no space at the end leave nothing after three bytes."""
    both = regex("[a-z](.*[a-z])?") & length(2, 2, unit="words") & length(max=3, unit="characters")
    assert isinstance(both, Automaton)
    assert walk(both, [b"a b", b"ab", b"a  b", b"ab c"]).tolist() == [True, False, False, False]
    with pytest.raises(ValueError, match="matches nothing"):
        regex("[a-z]+") & length(2, 2, unit="words")


def test_bytes_that_are_no_text_are_words():
    words = length(1, 1, unit="words")
    assert walk(words, [b"\xff", b"\xe2\x80", b"\xff \xff", b"\xe2\x80\x83", b"\xe2\xe2\x80\x83"]).tolist() == [
        True, True, False, False, True,
    ]  # fmt: skip
