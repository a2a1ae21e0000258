r"""The one place that touches CPython's private regex parser, and what it does not tell: positions."""

from __future__ import annotations

import re
import re._casefix as _casefix  # type: ignore[import-not-found]
import re._constants as _constants  # type: ignore[import-not-found]
import re._parser as _parser  # type: ignore[import-not-found]
from collections.abc import Iterator
from typing import Any, NamedTuple

import regex as unicode_regex

from sentax.ppl.constraints import codepoints

MAXREPEAT = _constants.MAXREPEAT
EXTRA_CASES: dict[int, tuple[int, ...]] = _casefix._EXTRA_CASES
"""Lower-case letters that are equal without case though their lower cases differ, such as long s."""

_TYPES = re.ASCII | re.LOCALE | re.UNICODE
_PROPERTY = re.compile(r"\\[pP](?:\{\^?[\w :=.&-]+\}|[A-Z])")
_PLACEHOLDERS = range(0x10FFFD, 0x100000, -1)  # private use: no pattern means one of these literally
_BRACES = re.compile(r"\{(?:\d+(?:,\d*)?|,\d*)\}")
_GROUP_FLAGS = re.compile(r"\(\?([aiLmsux]*)(?:-([imsx]+))?([:)])")


class UnsupportedPattern(ValueError):
    """A regular expression uses a feature that the automaton does not express."""


class Tree(NamedTuple):
    """A parsed expression.

    :param nodes: CPython's nodes, pairs of an opcode and its argument.
    :param flags: the flags of the whole expression.
    :param properties: the escape, such as `\\p{Lu}`, for which each placeholder literal stands.
    """

    nodes: Any
    flags: int
    properties: dict[int, str]


def combine(flags: int, added: int, removed: int) -> int:
    """The flags inside a group `(?added-removed:...)`."""
    if added & _TYPES:
        flags &= ~_TYPES
    return (flags | added) & ~removed


def parse(pattern: str, flags: str) -> Tree:
    """Parse with CPython's parser; refuse, with its position, what an automaton cannot do.

    :raises ValueError: if the expression is invalid.
    :raises UnsupportedPattern: if it uses an unsupported feature.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"a regular expression is a str, not {type(pattern).__name__}")
    bits = 0
    for letter in flags:
        bits |= {"i": re.IGNORECASE, "s": re.DOTALL, "x": re.VERBOSE, "a": re.ASCII}[letter]
    text, properties, origin = _substitute_properties(pattern)
    try:
        nodes = _parser.parse(text, bits)
    except re.error as e:
        reason, position = e.msg, origin[e.pos or 0]
        for placeholder, escape in properties.items():
            reason = reason.replace(chr(placeholder), escape)
        if _only_the_regex_package_reads(pattern):
            raise _refusal(f"syntax of the regex package ({reason})", position, pattern) from None
        raise ValueError(f"invalid regular expression {pattern!r}: {reason} at position {position}") from None
    for feature, at in _unsupported(text, bool(nodes.state.flags & re.VERBOSE), multiline=False):
        raise _refusal(feature, origin[at], pattern)
    for escape in properties.values():
        try:
            codepoints.unicode_property(escape)
        except ValueError as e:
            raise ValueError(
                f"invalid regular expression {pattern!r}: {e} at position {pattern.index(escape)}"
            ) from None
    return Tree(nodes, nodes.state.flags, properties)


def _refusal(feature: str, position: int, pattern: str) -> UnsupportedPattern:
    return UnsupportedPattern(
        f"no automaton is made for the {feature} at position {position} of {pattern!r}: check it in "
        f"Python with sentax.predicate, or write it with &, | and ~ of simpler patterns"
    )


def _only_the_regex_package_reads(pattern: str) -> bool:
    try:
        unicode_regex.compile(pattern)
    except unicode_regex.error:
        return False
    return True


def _substitute_properties(pattern: str) -> tuple[str, dict[int, str], list[int]]:
    r"""Put a private code point in place of each `\p{...}`, which CPython does not parse.

    :return: the new pattern, what each placeholder means, and the old position of each character.
    """
    unused = (c for c in _PLACEHOLDERS if chr(c) not in pattern)
    placeholders: dict[str, int] = {}
    out: list[str] = []
    origin: list[int] = []
    i = 0
    while i < len(pattern):
        size, piece = 1, pattern[i]
        if piece == "\\":
            found = _PROPERTY.match(pattern, i)
            if found:
                escape = found.group()
                size = len(escape)
                if escape not in placeholders:
                    placeholders[escape] = next(unused)
                piece = chr(placeholders[escape])
            else:
                piece = pattern[i : i + 2]
                size = len(piece)
        out.append(piece)
        origin.extend(range(i, i + len(piece)))
        i += size
    return "".join(out), {c: e for e, c in placeholders.items()}, [*origin, len(pattern)]


def _unsupported(text: str, verbose: bool, multiline: bool) -> Iterator[tuple[str, int]]:
    """The unsupported features of a valid expression with their positions, in order."""
    scopes = [(verbose, multiline)]
    i = 0
    while i < len(text):
        verbose, multiline = scopes[-1]
        start, char = i, text[i]
        i += 1
        if char == "\\":
            following = text[i]
            i += 1
            if following in "bB":
                yield "word boundary", start
            elif following in "123456789" and not re.match(r"[0-3][0-7][0-7]", text[start + 1 :]):
                yield "back-reference", start
        elif char == "[":
            # A bracket that comes first, perhaps after the negation, is a member.
            i = re.compile(r"\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL).match(text, i).end()  # type: ignore[union-attr]
        elif char == "#" and verbose:
            end = text.find("\n", i)
            i = len(text) if end < 0 else end + 1
        elif char in "*+?" or (char == "{" and _BRACES.match(text, start)):
            if char == "{":
                i = _BRACES.match(text, start).end()  # type: ignore[union-attr]
            if text.startswith("+", i):
                yield "possessive repeat", start
            i += text.startswith(("?", "+"), i)
        elif char in "^$" and multiline:
            yield "multi-line anchor", start
        elif char == ")":
            scopes.pop()
        elif char == "(":
            feature, i, scope, is_group = _group(text, start, scopes[-1])
            if feature:
                yield feature, start
            if is_group:
                scopes.append(scope)
            else:
                scopes[-1] = scope


def _group(text: str, start: int, scope: tuple[bool, bool]) -> tuple[str | None, int, tuple, bool]:
    """What opens at a parenthesis: feature, where its content starts, its flags, whether it closes later."""
    for opening, feature in (
        ("(?=", "lookahead"),
        ("(?!", "lookahead"),
        ("(?<=", "lookbehind"),
        ("(?<!", "lookbehind"),
        ("(?>", "atomic group"),
        ("(?(", "conditional"),
    ):
        if text.startswith(opening, start):
            return feature, start + len(opening), scope, True
    if text.startswith("(?P=", start):
        return "back-reference", text.index(")", start) + 1, scope, False
    if text.startswith("(?#", start):
        return None, text.index(")", start) + 1, scope, False
    if text.startswith("(?P<", start):
        return None, text.index(">", start) + 1, scope, True
    flags = _GROUP_FLAGS.match(text, start)
    if flags:
        added, removed, close = flags.groups("")
        inner = tuple((on or f in added) and f not in removed for on, f in zip(scope, "xm"))
        return None, flags.end(), inner, close == ":"
    return None, start + 1, scope, True
