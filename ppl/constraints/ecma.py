r"""Patterns of JSON schemas: ECMA-262's regular expressions, searched for anywhere in a string.

They are rewritten to the syntax of :func:`sentax.regex`: sets are written out, `\d`, `\w` are ASCII's, `\s` and
`.` are those of that standard, and `$` is the very end.
"""

from __future__ import annotations

import re
from functools import cache

from sentax.ppl.constraints.dfa import Dfa
from sentax.ppl.constraints.regex import regex
from sentax.ppl.constraints.syntax import UnsupportedPattern

_END = 0x10FFFF
_SPACES = ((0x09, 0x0D), (0x20, 0x20), (0xA0, 0xA0), (0x1680, 0x1680), (0x2000, 0x200A), (0x2028, 0x2029),
           (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF))  # fmt: skip
_CLASSES = {
    "d": ((0x30, 0x39),),
    "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "s": _SPACES,
}
_CONTROLS = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "0": 0}
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]+)\}|c([a-zA-Z])")
_LOW_SURROGATE = re.compile(r"\\u([dD][c-fC-F][0-9a-fA-F]{2})")
_PROPERTY = re.compile(r"[pP]\{[^{}]*\}")

Spans = tuple[tuple[int, int], ...]


@cache
def search(pattern: str) -> Dfa:
    """The strings in which a pattern matches somewhere, in UTF-8.

    :raises UnsupportedPattern: if no automaton expresses it.
    :raises ValueError: if it is invalid.
    """
    return regex(rf"(?s:.*)(?:{translate(pattern)})(?s:.*)").to_dfa()


def translate(pattern: str) -> str:
    r"""An ECMA-262 pattern in Python's syntax.

    :raises UnsupportedPattern: for what only one of the two has.

    **Example**

    .. code-block:: python

        >>> print(translate(r"^\d+[a-f\-]$"))
        ^[\U00000030-\U00000039]+[\U00000061-\U00000066\U0000002d]\Z
    """
    out: list[str] = []
    i = 0
    while i < len(pattern):
        char = pattern[i]
        if char == "\\":
            what, i = _escape(pattern, i)
            out.append(what if isinstance(what, str) else f"[{_members(what)}]")
        elif pattern.startswith("[^]", i):
            out.append("(?s:.)")
            i += 3
        elif char == "[":
            text, i = _class(pattern, i)
            out.append(text)
        elif char == ".":
            out.append(r"[^\n\r\u2028\u2029]")
            i += 1
        elif char == "$":
            out.append(r"\Z")
            i += 1
        elif pattern.startswith("(?<", i) and pattern[i + 3 : i + 4] not in ("=", "!", ""):
            out.append("(?:")
            i = pattern.find(">", i) + 1
        elif pattern.startswith("{,", i):
            raise _unsupported("repeat without a lower bound", i, pattern)
        else:
            out.append(char)
            i += 1
    return "".join(out)


def _escape(pattern: str, i: int) -> tuple[str | Spans, int]:
    """What an escape stands for, characters or text to pass on; and where it ends."""
    following = pattern[i + 1 : i + 2]
    if following.lower() in _CLASSES:
        spans = _CLASSES[following.lower()]
        return (spans if following.islower() else _complement(spans)), i + 2
    if following in _CONTROLS and not (following == "0" and pattern[i + 2 : i + 3].isdigit()):
        return _one(_CONTROLS[following]), i + 2
    found = _HEX.match(pattern, i + 1)
    if found:
        two, four, braces, control = found.groups()
        if control:
            return _one(ord(control) % 32), found.end()
        point = int(two or four or braces, 16)
        low = _LOW_SURROGATE.match(pattern, found.end())
        if 0xD800 <= point < 0xDC00 and low:
            return _one(0x10000 + ((point - 0xD800) << 10) + int(low[1], 16) - 0xDC00), low.end()
        if 0xD800 <= point < 0xE000 or point > _END:
            raise _unsupported("surrogate", i, pattern)
        return _one(point), found.end()
    found = _PROPERTY.match(pattern, i + 1)
    if found:
        return pattern[i : found.end()], found.end()
    if following in ("b", "B") or following.isdigit():
        return pattern[i : i + 2], i + 2  # the compiler refuses these by name
    if following.isalpha() or not following:
        raise _unsupported(f"escape \\{following}", i, pattern)
    return _one(ord(following)), i + 2


def _class(pattern: str, start: int) -> tuple[str, int]:
    """A set between brackets, and where it ends."""
    i = start + 1
    negated = pattern.startswith("^", i)
    i += negated
    members: list[str] = []
    pending: tuple[int, bool] | None = None  # the last character, and whether a hyphen follows it
    while i < len(pattern) and pattern[i] != "]":
        if pattern[i] == "-" and pending is not None and not pending[1] and pattern[i + 1 : i + 2] != "]":
            pending, i = (pending[0], True), i + 1
            continue
        what: str | Spans
        if pattern.startswith(r"\b", i):
            what, i = _one(8), i + 2
        elif pattern[i] == "\\":
            what, i = _escape(pattern, i)
        else:
            what, i = _one(ord(pattern[i])), i + 1
        single = not isinstance(what, str) and len(what) == 1 and what[0][0] == what[0][1]
        if single and pending is not None and pending[1]:
            if what[0][0] < pending[0]:  # type: ignore[operator]
                raise ValueError(f"invalid pattern {pattern!r}: bad character range before position {i}")
            members.append(_members(((pending[0], what[0][0]),)))  # type: ignore[arg-type]
            pending = None
            continue
        if pending is not None:
            members.append(_members(_one(pending[0])) + (_members(_one(0x2D)) if pending[1] else ""))
            pending = None
        if single:
            pending = (what[0][0], False)  # type: ignore[assignment]
        else:
            members.append(what if isinstance(what, str) else _members(what))
    if i >= len(pattern):
        raise ValueError(f"invalid pattern {pattern!r}: the set at position {start} has no end")
    if pending is not None:
        members.append(_members(_one(pending[0])))
    if not members:
        raise _unsupported("empty set", start, pattern)
    return f"[{'^' if negated else ''}{''.join(members)}]", i + 1


def _one(point: int) -> Spans:
    return ((point, point),)


def _complement(spans: Spans) -> Spans:
    edges = [-1, *(e for span in spans for e in span), _END + 1]
    return tuple((edges[k] + 1, edges[k + 1] - 1) for k in range(0, len(edges), 2))


def _members(spans: Spans) -> str:
    return "".join(f"\\U{a:08x}" if a == b else f"\\U{a:08x}-\\U{b:08x}" for a, b in spans)


def _unsupported(feature: str, position: int, pattern: str) -> UnsupportedPattern:
    return UnsupportedPattern(
        f"no automaton is made for the {feature} at position {position} of {pattern!r}", feature, position
    )
