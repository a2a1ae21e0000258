"""Patterns that no automaton expresses: no prefix of a match is lost, and the full match is `regex`'s."""

from __future__ import annotations

import csv
import itertools
import os
import pickle
import random
from pathlib import Path

import pytest
import regex

from sentax.ppl.constraints import PredicateError, UnsupportedPattern
from sentax.ppl.constraints.regex_partial import RegexEngine, regex_partial
from sentax.testing import check_constraint


def texts_over(alphabet: str, longest: int) -> list[str]:
    """All texts, shorter ones first."""
    return ["".join(t) for n in range(longest + 1) for t in itertools.product(alphabet, repeat=n)]


def alive(engine: RegexEngine, text: str) -> bool:
    return engine.prefix(engine.start(), text.encode())


def check_against_enumeration(pattern: str, texts: list[str], flags: str = "") -> int:
    """Every prefix of a match is alive, whatever follows a dead text is dead, and the match is the package's.

    :return: how many of the texts match.
    """
    engine = RegexEngine(pattern, flags, 5.0)
    full = {t for t in texts if engine.whole.fullmatch(t)}
    verdicts = {t: alive(engine, t) for t in texts}
    for text in texts:
        what = f"{pattern!r} on {text!r}"
        assert (engine.partial.fullmatch(text) is not None) == (text in full), f"another language: {what}"
        assert engine.complete(engine.start(), text.encode()) == (text in full), what
        if text in full:
            assert all(verdicts[text[:n]] for n in range(len(text) + 1)), f"a prefix of it is lost: {what}"
        assert not text or verdicts[text[:-1]] or not verdicts[text], f"alive again: {what}"
    return len(full)


LEAVES = ["a", "b", "[ab]", ".", "", r"\b", r"\B", r"\m", r"\M", "^", "$", r"\A", r"\Z"]
AROUND = ["(?={})", "(?!{})", "(?<={})", "(?<!{})"]
WRAPPED = ["(?:{})", "(?>{})", "(?s:{})", "(?i:{})"]
REPEATS = ["*", "+", "?", "{2}", "{1,3}", "{0,2}", "*?", "+?", "??", "{1,2}?", "*+", "++", "?+"]


def random_pattern(rng: random.Random, depth: int, groups: list[int]) -> str:
    part = lambda: random_pattern(rng, depth - 1, groups)
    kind = rng.random() if depth else 0.0
    if kind < 0.25:
        if groups and rng.random() < 0.3:
            return rf"\{rng.choice(groups)}"
        return rng.choice(LEAVES[:4]) if rng.random() < 0.75 else rng.choice(LEAVES)
    if kind < 0.45:
        return part() + part()
    if kind < 0.55:
        return f"(?:{part()}|{part()})"
    if kind < 0.7:
        return f"(?:{part()}){rng.choice(REPEATS)}"
    if kind < 0.8:
        return part() + rng.choice(AROUND).format(part()) + part()
    if kind < 0.88:
        inner = part()
        groups.append(len(groups) + 1)
        return f"({inner})"
    if kind < 0.92 and groups:
        return f"(?({rng.choice(groups)}){part()}|{part()})"
    if kind < 0.95:
        return rng.choice(["a(?R)?b", "(?:b(?R)?a|a)"])
    return rng.choice(WRAPPED).format(part())


def check_random_patterns(seed: int, count: int) -> None:
    rng = random.Random(seed)
    alphabets = {alphabet: texts_over(alphabet, n) for alphabet, n in (("ab", 6), ("a\nb", 4), ("a b", 4))}
    checked = matching = 0
    while checked < count:
        pattern = random_pattern(rng, 3, [])
        flags = "".join(rng.sample("mfi", rng.choice([0, 0, 1])))
        try:
            regex.compile(pattern)
        except regex.error:
            continue  # a group that does not exist, or nothing to repeat
        matching += check_against_enumeration(pattern, alphabets[rng.choice(list(alphabets))], flags) > 0
        checked += 1
    assert matching > count // 2  # not vacuous


def test_random_patterns_lose_nothing():
    check_random_patterns(0, 150)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_many_random_patterns_lose_nothing(seed):
    check_random_patterns(seed, 500)


@pytest.mark.parametrize(
    ("pattern", "flags", "alphabet"),
    [
        # What the package's own partial match loses.
        (r"(?:[ab][ab])+(?<=.a).", "", "ab"),
        (r"(?:..)*(?<=a)c", "", "abc"),
        (r"\b.", "", "a "),
        (r"(?:a\B){1,3}(?:(?:\B|a))*", "", "a "),
        (r"a(?!$)b", "", "ab"),
        (r"a(?!$)\nb", "", "a\nb"),
        (r"a(?!\Z)b", "", "ab"),
        (r"a(?!$)b", "m", "ab\n"),
        (r"\X(?<=" + "\u0301)", "", "e\u0301"),
        (r"\X+e", "", "e\u0301\u200d"),
        # What a rewriting could spoil.
        (r"(?V1)[[a-z]--[b]]+\b.", "", "ab ["),
        (r"[]a]+?b|[^]a]*b", "", "a]b"),
        (r"[a\]*]+b?", "", "a]*b"),
        (r"a(?#x*)b+", "", "ab"),
        ("(?x) a* # (comment \\b [\n b", "", "ab"),
        (r"(?x: a +  b )c*", "", "abc "),
        (r"a{,2}b\{2}", "", "ab{2}"),
        (r"(?|(a)|(b))\1", "", "ab"),
        (r"(?P<x>a|b(?&x)?)(?P=x)+", "", "ab"),
        (r"(?(DEFINE)(?<e>a(?&e)?b))(?&e)(?&e)?", "", "ab"),
        (r"(?(?=a)ab|ba)+(?(?<!a)a|b)", "", "ab"),
        (r"(a)?(?(1)\1b|c)+", "", "abc"),
        (r"a(*SKIP)b|ac|(*FAIL)|a(*PRUNE)c?", "", "abc"),
        (r"\R(?<=\n)a?|\p{Lu}+", "", "a\r\nA"),
        (r"ß+s", "if", "sSß"),
        (r"(ß)\1", "if", "sß"),
    ],
)
def test_features_one_by_one(pattern, flags, alphabet):
    longest = 6 if len(alphabet) < 3 else 5 if len(alphabet) < 4 else 4
    assert check_against_enumeration(pattern, texts_over(alphabet, longest), flags) > 0


def test_the_laws_with_pieces_that_split_characters():
    constraint = regex_partial(r"(\p{L}+)-\1(?!x)")
    texts = ["été-été", "ét-étx", "a-a", "ab-a", "日本-日本", "", b"\xc3", b"a-\xc3", "-"]
    oracle = lambda raw: regex.fullmatch(r"(\p{L}+)-\1(?!x)", raw.decode(errors="surrogateescape")) is not None
    check_constraint(constraint, texts=texts, oracle=oracle)


def test_an_unfinished_character_is_alive_only_if_one_of_its_completions_is():
    engine = RegexEngine("[a-zé日]+", "", None)
    alive = lambda raw: engine.prefix(engine.start(), raw)
    assert alive("é".encode()[:1])
    assert not alive("ü".encode()[:1] + b"\xbc")
    assert not alive(b"\xc4")
    assert alive("日".encode()[:1])
    assert alive("日".encode()[:2])
    assert not alive("本".encode()[:2])
    assert not alive(b"\xff")
    assert not engine.complete(engine.start(), "é".encode()[:1])
    # Too many to try: alive if the text before it is.
    assert alive(b"a\xf0")


def test_recursion_and_back_references():
    palindrome = regex_partial(r"(\w)(?:(?R)|\w?)\1|\w")
    assert palindrome.matches("abcba")
    assert not palindrome.matches("abcab")
    assert regex_partial(r"(<[a-z]+>)(?:\w|(?R))*\1").matches("<a><b>x<b><a>")


def test_catastrophic_backtracking_is_a_clear_error():
    constraint = regex_partial(r"(a|aa)+\1b", time_limit=0.05)
    with pytest.raises(
        PredicateError, match=r"took longer than 0.05 s on 'aaaa.*backtracks too much"
    ) as caught:
        constraint.matches("a" * 200 + "!")
    assert caught.value.text == b"a" * 200 + b"!"
    assert constraint.matches("aaab")


def test_errors_name_the_pattern_and_the_position():
    with pytest.raises(ValueError, match=r"invalid regular expression '\(a': missing \) at position 2"):
        regex_partial("(a")
    with pytest.raises(UnsupportedPattern, match=r"fuzzy match at position 2 of 'ba\{e<=1\}'") as caught:
        regex_partial("ba{e<=1}")
    assert (caught.value.feature, caught.value.position) == ("fuzzy match", 2)
    for letter, name in (("w", "WORD"), ("r", "REVERSE"), ("p", "POSIX"), ("b", "BESTMATCH")):
        with pytest.raises(UnsupportedPattern, match=f"the {name} flag"):
            regex_partial(f"(?{letter})a")
    with pytest.raises(ValueError, match=r"flags of regex_partial are .*, not 'q'"):
        regex_partial("a", "q")
    with pytest.raises(TypeError, match="a regular expression is a str"):
        regex_partial(b"a")
    with pytest.raises(ValueError, match="positive number of seconds"):
        regex_partial("a", time_limit=0)


def test_it_shows_and_pickles_its_source():
    constraint = regex_partial(r"(.)\1", "is")
    assert repr(constraint) == r"regex_partial('(.)\\1', 'is')"
    assert pickle.loads(pickle.dumps(constraint)).matches("aA")


def test_all_patterns_of_the_collection_compile():
    data = os.environ.get("SENTAX_DATA")
    if not data or not (Path(data) / "patterns.csv").is_file():
        pytest.skip("needs patterns.csv in the folder SENTAX_DATA")
    with open(Path(data) / "patterns.csv", encoding="utf-8") as file:
        patterns = [row["regex"] for row in csv.DictReader(file)]
    for pattern in patterns:
        engine = RegexEngine(pattern, "", 1.0)
        for text in ("", "a", "abc", "2024-01-02", "aa bb", "été"):
            assert engine.complete(engine.start(), text.encode()) == (
                regex.fullmatch(pattern, text) is not None
            )
            if engine.complete(engine.start(), text.encode()):
                assert all(alive(engine, text[:n]) for n in range(len(text) + 1))
