"""Every constraint with texts and an independent oracle: a new one is one line, and gets all the laws."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import NamedTuple

from sentax.ppl import constraints as sc
from sentax.ppl.constraints import Constraint
from sentax.ppl.constraints.json_automaton import schema_automaton
from sentax.ppl.constraints.python_syntax import python_syntax
from sentax.ppl.constraints.regex_partial import regex_partial


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


def _is_text(text: bytes) -> bool:
    return text == text.decode(errors="ignore").encode()


def parses(text: bytes) -> bool:
    """Whether Python does; it decodes by itself, but by what the text declares."""
    try:
        ast.parse(text.decode())
    except (SyntaxError, ValueError):
        return False
    return True


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
    "predicate_in_threads": Case(
        lambda: sc.predicate(lambda t: len(t) < 5, _short_and_even, workers=2, executor="thread"),
        WORDS,
        _short_and_even,
    ),
    "regex_partial": Case(
        lambda: regex_partial(r"(\w)(?!\1).?\1|(?<!é)t*"), WORDS, full(r"(\w)(?!\1).?\1|(?<!é)t*")
    ),
    "keywords": Case(
        lambda: sc.keywords(any_of=["ab", "日"], none_of=["aab", "é"]),
        WORDS,
        lambda t: (b"ab" in t or "日".encode() in t) and b"aab" not in t and "é".encode() not in t,
    ),
    "keywords_whole": Case(
        lambda: sc.keywords(any_of=["ÉTÉ", "ab"], ignore_case=True, whole_words=True),
        [*WORDS, "l'été", "AB.", "abé", "ab ab"],
        full(r"(?i)(?s:.*)(?<!\w)(été|ab)(?!\w)(?s:.*)"),
    ),
    "length_words": Case(
        lambda: sc.length(1, 2, unit="words"),
        ["a b", " a\nb ", "a b c", "", "\u3000", "é"],
        full(r"\s*\S+(\s+\S+)?\s*"),
    ),
    "length_sentences": Case(
        lambda: sc.length(max=1, unit="sentences"),
        ["A b.", "A. B", "3.1 a.", "A!” ", "?"],
        full(r"(?s:(?!.*[.!?…][\"')\]}»’”›」』）】]*\s+\S).*)"),
    ),
    "length_many_words": Case(
        lambda: sc.length(2, 10**6, unit="words"),
        ["a b", " a\nb ", "a", "", "é\u2003é"],
        lambda t: len(t.decode().split()) > 1,
    ),
    "substring": Case(
        lambda: sc.substring_of("étés aab"), WORDS, lambda t: _is_text(t) and t.decode() in "étés aab"
    ),
    "sequence": Case(lambda: sc.sequence("a", sc.regex("a?b*"), sc.choice(["b", ""])), WORDS, full("aa?b*b?")),
    "repeat": Case(lambda: sc.repeat("a", 1, 3, separator=sc.regex("b?")), WORDS, full("a(b?a){0,2}")),
    "schema_automaton": Case(
        lambda: schema_automaton({"type": "array", "items": {"type": "integer", "minimum": -3}, "maxItems": 2}),
        ["[]", "[1, -3]", "[1,2]", "[-4]", "[1, 2, 3]", "[0", "[10, 20]"],
        full(r"\[((-[1-3]|0|[1-9]\d*)(, (-[1-3]|0|[1-9]\d*))?)?\]", re.ASCII),
    ),
    "python_syntax": Case(python_syntax, [*WORDS, "a\n b", "if a:\n b\n", "'é'"], parses),
    "json_schema": Case(
        lambda: sc.json_schema({"type": "array", "items": {"type": "boolean"}}, engine="llguidance"),
        [*WORDS, "[]", "[true]", "[true, false]", "[true,false]", "[tru", "[true, ]"],
        full(r"\[((true|false)(, (true|false))*)?\]"),
    ),
    "lark": Case(
        lambda: sc.lark('start: "a" start? "b"'),
        [*WORDS, "aabb", "aaabbb", "abab", "abb"],
        lambda t: len(t) > 0 and t == b"a" * (len(t) // 2) + b"b" * (len(t) // 2),
    ),
}
