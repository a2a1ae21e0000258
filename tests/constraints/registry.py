"""Every constraint with texts and an independent oracle: a new one is one line, and gets all the laws."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from sentax.ppl import constraints as sc
from sentax.ppl.constraints import Constraint


class Case(NamedTuple):
    """A constraint to make, texts in it or nearly in it, and what says whether a text is in it."""

    make: Callable[[], Constraint]
    texts: list[str | bytes]
    oracle: Callable[[bytes], bool]


def full(pattern: str, flags: int = 0) -> Callable[[bytes], bool]:
    """The oracle of a regular expression; what is not UTF-8 matches none."""
    compiled = re.compile(pattern, flags)

    def oracle(text: bytes) -> bool:
        try:
            return compiled.fullmatch(text.decode()) is not None
        except UnicodeDecodeError:
            return False

    return oracle


def _even(text: bytes) -> bool:
    return text.count(b"a") % 2 == 0


def _short_and_even(text: bytes) -> bool:
    return len(text) < 5 and _even(text)


def _side_by_side(left: Constraint, right: Constraint) -> Constraint:
    return sc.Both(left, right)


WORDS = ["", "a", "ab", "abc", "b", "été", "étés", "日本", "日", "aab", "aaaa", b"\xc3", b"\xff", "ab\n"]

CASES = {
    "regex": Case(lambda: sc.regex("(ab|é+t)*c?"), WORDS, full("(ab|é+t)*c?")),
    "regex_unicode": Case(lambda: sc.regex(r"\w{2,3}"), WORDS, full(r"\w{2,3}")),
    "regex_dot": Case(lambda: sc.regex(".*"), WORDS, full(".*")),
    "literal": Case(lambda: sc.literal("été"), WORDS, lambda t: t == "été".encode()),
    "literal_bytes": Case(lambda: sc.literal(b"\xff\x00"), [*WORDS, b"\xff\x00"], lambda t: t == b"\xff\x00"),
    "literal_empty": Case(lambda: sc.literal(""), WORDS, lambda t: t == b""),
    "choice": Case(lambda: sc.choice(["ab", "abc", "日本", ""]), WORDS, full("ab|abc|日本|")),
    "length_bytes": Case(lambda: sc.length(2, 3, unit="bytes"), WORDS, lambda t: 2 <= len(t) <= 3),
    "length_tokens": Case(lambda: sc.length(max=2), WORDS, lambda t: len(t) <= 2),
    "and": Case(lambda: sc.regex("a*b?") & ~sc.regex("aab?"), WORDS, full("(?!aab?$)a*b?")),
    "or": Case(lambda: sc.regex("a*") | sc.literal("日"), WORDS, full("a*|日")),
    "not": Case(lambda: ~sc.regex("a*"), WORDS, lambda t: not full("a*")(t)),
    "both": Case(lambda: _side_by_side(sc.regex("[ab]*"), sc.regex(".{2}")), WORDS, full("[ab]{2}")),
    "either": Case(
        lambda: sc.literal("b") | sc.length(3, unit="bytes"), WORDS, lambda t: len(t) > 2 or t == b"b"
    ),
    "not_length": Case(lambda: ~sc.length(max=2, unit="bytes"), WORDS, lambda t: len(t) > 2),
    "predicate": Case(lambda: sc.predicate(lambda t: len(t) < 5, _short_and_even), WORDS, _short_and_even),
    "predicate_str": Case(lambda: sc.predicate(lambda t: len(t) < 3, text="str"), WORDS, full("(?s).{0,2}")),
    "predicate_end": Case(lambda: sc.predicate(None, _even), WORDS, _even),
    "regex_and_predicate": Case(
        lambda: sc.regex("[a-z]+") & sc.predicate(None, _even),
        WORDS,
        lambda t: full("[a-z]+")(t) and _even(t),
    ),
    "not_predicate": Case(lambda: ~sc.predicate(None, _even), WORDS, lambda t: not _even(t)),
    "predicate_or_literal": Case(
        lambda: sc.predicate(lambda t: len(t) < 2) | sc.literal("aab"),
        WORDS,
        lambda t: len(t) < 2 or t == b"aab",
    ),
}
