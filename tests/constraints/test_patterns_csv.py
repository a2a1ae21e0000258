"""The patterns of a published benchmark: each compiles and agrees with its library, or is refused by name."""

from __future__ import annotations

import csv
import os
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import regex as unicode_regex
from constraints.random_patterns import random_strings
from constraints.test_regex import mismatches

from sentax.ppl.constraints import UnsupportedPattern, regex
from sentax.ppl.constraints.dfa import Dfa
from sentax.ppl.constraints.regex_partial import regex_partial

FEATURES = (
    "back-reference|lookahead|lookbehind|atomic group|conditional|definition of groups|call of a group|"
    "recursion|possessive repeat|word boundary|multi-line anchor|fuzzy match|backtracking verb|"
    "set .* with both flags|syntax of the regex package"
)


@pytest.fixture(scope="module")
def patterns():
    folder = os.environ.get("SENTAX_DATA")
    if not folder or not (path := Path(folder) / "patterns.csv").exists():
        pytest.skip("needs patterns.csv in the folder SENTAX_DATA")
    with path.open(newline="", encoding="utf-8") as file:
        return [row["regex"] for row in csv.DictReader(file)]


def library(pattern: str):
    """What defines a pattern: `re` if it takes it, else the `regex` package."""
    try:
        re.compile(pattern)
    except re.error:
        return unicode_regex
    return re


def accepted_texts(rng: random.Random, dfa: Dfa, count: int) -> list[str]:
    """Texts that the automaton accepts, by walks that end where they may after a while."""
    live = dfa.live()
    out = []
    for _ in range(count):
        state, text = 0, b""
        for _ in range(40):
            if dfa.accepting[state] and rng.random() < 0.2:
                break
            ways = np.flatnonzero(live[dfa.delta[state]])
            if not len(ways):
                break
            letter = rng.choice(ways.tolist())
            text += bytes([rng.choice(np.flatnonzero(dfa.classes == letter).tolist())])
            state = dfa.delta[state, letter]
        if dfa.accepting[state]:
            out.append(text.decode())
    return out


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_each_pattern_agrees_or_is_refused_by_name(patterns):
    rng = random.Random(0)
    refused: Counter[str] = Counter()
    agreed = 0
    for pattern in patterns:
        error: UnsupportedPattern | None
        try:
            dfa = regex(pattern).to_dfa()
        except UnsupportedPattern as e:
            error = e
        else:
            error = None
        if error is not None:
            assert re.fullmatch(FEATURES, re.sub(r" \(.*", "", error.feature)), (pattern, error.feature)
            assert f"at position {error.position} of" in str(error) and "regex_partial" in str(error)
            assert 0 <= error.position < len(pattern)
            regex_partial(pattern)  # takes it
            refused[error.feature] += 1
            continue
        own = accepted_texts(rng, dfa, 30)
        texts = [*own, *random_strings(rng, pattern, "", 100), *(t + "\n" for t in own), *(t[:-1] for t in own)]
        wrong, accepted = mismatches(pattern, "", texts, library(pattern))
        assert not wrong, (pattern, wrong)
        assert accepted, pattern
        agreed += 1
    print(f"{agreed} of {len(patterns)} agree; refused: {dict(refused)}")
    assert agreed + sum(refused.values()) == len(patterns)
    assert agreed >= 80
