"""Regular expressions that stand for other keywords of JSON Schema, and what some of them match."""

from __future__ import annotations

import re
import re._constants as constants  # type: ignore[import-not-found]
import re._parser as sre_parse  # type: ignore[import-not-found]
from typing import Any

from sentax.ppl.constraints.schema_draft import POINTER
from sentax.ppl.constraints.schema_formats import patterns_of

MAX_WORDS = 32


def excluding(words: list[str]) -> str:
    """A regular expression of all strings but these.

    >>> import re
    >>> [w for w in ("", "a", "ab", "abc", "b") if re.search(excluding(["ab", "b"]), w)]
    ['', 'a', 'abc']
    """

    def rest(suffixes: list[str]) -> str:
        """What may follow where these suffixes, and no others, must not."""
        heads: dict[str, list[str]] = {}
        for word in suffixes:
            if word:
                heads.setdefault(word[0], []).append(word[1:])
        ways = [] if "" in suffixes else [""]
        ways.append(f"[^{''.join(map(_escaped, heads))}][\\s\\S]*" if heads else r"[\s\S]+")
        ways += [_escaped(head) + rest(tails) for head, tails in heads.items()]
        return "(?:" + "|".join(ways) + ")"

    return f"^{rest(words)}$"


_SPACES = r"\t\n\x0b\x0c\r \x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}"
"""What `\\s` matches by ECMA 262."""


def in_rust(pattern: str) -> str:
    r"""A regular expression of ECMA 262 in the dialect of Rust, where these differ.

    Spaces and line ends are other sets there, and in a class `[`, `&&`, `~~` have a meaning.

    >>> in_rust(r"^[[a].\/[^]$")
    '^[\\[a][^\\n\\r\\x{2028}\\x{2029}]/[\\x{0}-\\x{10ffff}]$'
    """
    out, at, in_class = "", 0, False
    while at < len(pattern):
        char = pattern[at]
        following = pattern[at + 1 : at + 2]
        at += 1
        if char == "\\":
            at += 1
            if following in ("s", "S") and following:
                inside = _SPACES if following == "s" else f"[^{_SPACES}]"
                out += inside if in_class or following == "S" else f"[{inside}]"
            else:
                out += "/" if following == "/" else char + following
        elif in_class:
            in_class = char != "]"
            out += "\\" + char if char in "[&~" else char
        elif pattern.startswith("[^]", at - 1):
            at += 2
            out += r"[\x{0}-\x{10ffff}]"
        elif char == "[":
            in_class = True
            at += following == "^"
            out += "[^" if following == "^" else "["
        else:
            out += r"[^\n\r\x{2028}\x{2029}]" if char == "." else char
    return out


def few_words(pattern: str) -> list[str] | None:
    """The strings that a regular expression matches, if there are no more than 32; `None` otherwise.

    >>> few_words("^(?:https?|ftp)$"), few_words("^x-")
    (['ftp', 'http', 'https'], None)
    """
    try:
        tree = list(sre_parse.parse(pattern))
    except (re.error, RecursionError):
        return None
    anchors = [(constants.AT, constants.AT_BEGINNING), (constants.AT, constants.AT_END)]
    if len(tree) < 2 or [tree[0], tree[-1]] != anchors:
        return None
    words = _words(tree[1:-1])
    return None if words is None else sorted(words)


def _words(tree: Any) -> set[str] | None:
    """The strings of a part of a parsed expression; `None` if they are many, or not found."""
    words = {""}
    for kind, argument in tree:
        ways: set[str] | None = None
        if kind is constants.LITERAL:
            ways = {chr(argument)}
        elif kind is constants.IN and all(k is constants.LITERAL for k, _ in argument):
            ways = {chr(code) for _, code in argument}
        elif kind is constants.SUBPATTERN and not argument[1] and not argument[2]:
            ways = _words(argument[3])
        elif kind is constants.BRANCH:
            parts = [_words(branch) for branch in argument[1]]
            ways = None if None in parts else {word for part in parts if part is not None for word in part}
        elif kind is constants.MAX_REPEAT and argument[1] <= 8:
            inner = _words(argument[2])
            if inner is not None and len(inner) ** argument[1] <= MAX_WORDS:
                ways, power = set(), {""}
                for count in range(argument[1] + 1):
                    ways |= power if count >= argument[0] else set()
                    power = {left + right for left in power for right in inner}
        if ways is None or len(words) * len(ways) > MAX_WORDS:
            return None
        words = {left + right for left in words for right in ways}
    return words


def _escaped(text: str) -> str:
    """A literal in a regular expression, also within a class."""
    return re.sub(r"[\\.^$|?*+()\[\]{}\-&~#/]", r"\\\g<0>", text)


def name_pattern(names: Any) -> str | list[str] | None:
    """The names that `propertyNames` allows, or a pattern of them (`""`: all); `None` if there is neither."""
    if isinstance(names, bool):
        return "" if names else []
    said = {k: v for k, v in names.items() if k != POINTER and (k, v) != ("type", "string")}
    if not said:
        return ""
    if set(said) <= {"minLength", "maxLength"}:
        return rf"^[\s\S]{{{said.get('minLength', 0)},{said.get('maxLength', '')}}}$"
    keyword, value = next(iter(said.items()))
    if len(said) > 1:
        return None
    if keyword == "pattern":
        return value
    if keyword in ("enum", "const"):
        return [word for word in (value if keyword == "enum" else [value]) if isinstance(word, str)]
    if keyword == "format" and len(patterns_of(value)) == 1:
        return patterns_of(value)[0]
    return None
