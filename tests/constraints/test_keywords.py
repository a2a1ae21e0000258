"""Keywords against plain searches."""

from __future__ import annotations

import itertools
import random
import re

import numpy as np
import pytest
from constraints.test_regex import walk

from sentax.ppl.constraints import TooManyStates
from sentax.ppl.constraints.keywords import keywords


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_a_search(seed):
    rng = random.Random(seed)

    def some(least: int) -> list[str]:
        return ["".join(rng.choices("abc", k=rng.randint(1, 4))) for _ in range(rng.randint(least, 3))]

    any_of, all_of, none_of = some(1), some(0), some(0)
    texts = ["".join(t) for n in range(7) for t in itertools.product("abcd", repeat=n)]
    expected = [
        any(w in t for w in any_of) and all(w in t for w in all_of) and not any(w in t for w in none_of)
        for t in texts
    ]
    if not any(expected):
        with pytest.raises(ValueError, match="matches nothing"):
            keywords(any_of, all_of, none_of)
        return
    automaton = keywords(any_of, all_of, none_of)
    assert walk(automaton, [t.encode() for t in texts]).tolist() == expected
    dfa = automaton.to_dfa()
    # Alive is exact: of a minimal automaton's states only one cannot accept any more.
    assert np.asarray(automaton.live).sum() == dfa.live().sum() >= len(dfa.delta) - 1


WORDS = ["cat", "Straße", "C++", "kiss"]
TEXTS = [
    "cat", "CAT", "a cat.", "scat", "cats", "é cat", "écat", "caté", "cat_", "—cat—", "日cat", "cat日", "CaT!",
    "\u3000cat\u3000", "C++", "x C++y", "c++ ", "C+++", "STRASSE", "STRAßE", "straße", "Straẞe", "KIſS",
    "\u212aiss", "kissing", "", "ca t",
]  # fmt: skip


@pytest.mark.parametrize("whole_words", [False, True])
@pytest.mark.parametrize("ignore_case", [False, True])
def test_case_and_whole_words_are_those_of_re(ignore_case, whole_words):
    inner = "|".join(map(re.escape, WORDS))
    pattern = re.compile(rf"(?<!\w)(?:{inner})(?!\w)" if whole_words else inner, re.I if ignore_case else 0)
    automaton = keywords(any_of=WORDS, ignore_case=ignore_case, whole_words=whole_words)
    expected = [pattern.search(t) is not None for t in TEXTS]
    assert walk(automaton, [t.encode() for t in TEXTS]).tolist() == expected
    without = keywords(none_of=WORDS, ignore_case=ignore_case, whole_words=whole_words)
    assert walk(without, [t.encode() for t in TEXTS]).tolist() == [not e for e in expected]
    assert 5 < sum(expected) < len(TEXTS)


def test_bytes_and_overlaps():
    both = keywords(all_of=[b"\xff\x00", b"\x00\xff"])
    assert walk(both, [b"\xff\x00\xff", b"\xff\x00", b"\x00\xff\xff\x00"]).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "at least one keyword"),
        ({"any_of": "please"}, TypeError, r"write \['please'\]"),
        ({"none_of": [""]}, ValueError, "in every text"),
        ({"all_of": [3]}, TypeError, "str or bytes, not int"),
        ({"all_of": ["cats"], "none_of": ["at"]}, ValueError, r"no text holds \['cats'\] .* none of \['at'\]"),
        ({"any_of": ["at", "bat"], "none_of": ["a"]}, ValueError, "matches nothing"),
        ({"any_of": [b"a"], "ignore_case": True}, TypeError, "bytes have no letters"),
    ],
)
def test_contradictions_and_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        keywords(**arguments)


def test_too_many_keywords_say_why():
    with pytest.raises(TooManyStates, match="each of the 20 keywords in all_of may double"):
        keywords(all_of=[f"word {i:02}" for i in range(20)])
