r"""Reading regular expressions: CPython's private parser behind one door, and what it does not tell: positions.

Two dialects are read. What :mod:`re` accepts means what `re` says. What it refuses and the `regex` package
accepts (`\p{Lu}`, `[[:alpha:]]`, `(?<name>...)`) means what that package says, in its default version 0:
the text is rewritten to one that CPython parses, and each set of characters is left to the package.
"""

from __future__ import annotations

import re
import re._casefix as _casefix  # type: ignore[import-not-found]
import re._constants as _constants  # type: ignore[import-not-found]
import re._parser as _parser  # type: ignore[import-not-found]
import warnings
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

import regex as unicode_regex

MAXREPEAT = _constants.MAXREPEAT
EXTRA_CASES: dict[int, tuple[int, ...]] = _casefix._EXTRA_CASES
"""Lower-case letters that are equal without case though their lower cases differ, such as long s."""

_TYPES = re.ASCII | re.LOCALE | re.UNICODE
_LETTERS = {"i": re.I, "s": re.S, "x": re.X, "a": re.A, "m": re.M}
_PLACEHOLDERS = range(0x10FFFD, 0x100000, -1)  # private use: no pattern means one of these literally
_BRACES = re.compile(r"\{(?:\d+(?:,\d*)?|,\d*)\}")
_FUZZY = re.compile(r"\{[^{}]*[eisd<=][^{}]*\}")
_PROPERTY = re.compile(r"\\[pP](?:\{[^{}]*\}|.)", re.DOTALL)
_NAMED_CHARACTER = re.compile(r"\\N\{[^{}]*\}")
# A bracket that comes first, perhaps after the negation, is a member.
_SET = re.compile(r"\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_POSIX_SET = re.compile(r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", re.DOTALL)
_GROUP_FLAGS = re.compile(r"\(\?([aiLmsux]*)(?:-([imsx]+))?([:)])")
_OPENINGS: list[tuple[re.Pattern[str], str | None]] = [
    (re.compile(opening), feature)
    for opening, feature in (
        (r"\(\?[=!]", "lookahead"),
        (r"\(\?<[=!]", "lookbehind"),
        (r"\(\?>", "atomic group"),
        (r"\(\?\(DEFINE\)", "definition of groups"),
        (r"\(\?\((?=\?)", "conditional"),
        (r"\(\?\([^()]*\)", "conditional"),
        (r"\(\?\|", None),
        (r"\(\?P?<[^<>()=!]+>", None),
    )
]
_CLOSED: list[tuple[re.Pattern[str], str | None]] = [
    (re.compile(form), feature)
    for form, feature in (
        (r"\(\?#[^)]*\)", None),
        (r"\(\?P=[^()]*\)", "back-reference"),
        (r"\(\?(?:R|0)\)", "recursion"),
        (r"\(\?(?:&|P>|P&|[+-]?\d)[^()]*\)", "call of a group"),
        (r"\(\*[A-Z]+[^()]*\)", "backtracking verb"),
    )
]


class UnsupportedPattern(ValueError):
    """A regular expression uses a feature that the automaton does not express.

    :param message: names the feature and its position.
    :param feature: such as `lookahead`.
    :param position: where it stands in the pattern, from 0.
    """

    def __init__(self, message: str, feature: str = "", position: int = 0) -> None:
        super().__init__(message)
        self.feature = feature
        self.position = position

    def __reduce__(self) -> tuple:
        return type(self), (self.args[0], self.feature, self.position)


class Tree(NamedTuple):
    """A parsed expression.

    :param nodes: CPython's nodes, pairs of an opcode and its argument.
    :param flags: the flags of the whole expression.
    :param foreign: whether the `regex` package says what a set of characters holds.
    :param sets: the source, such as `\\p{Lu}` or `[[:alpha:]]`, for which each placeholder stands.
    """

    nodes: Any
    flags: int
    foreign: bool
    sets: dict[int, str]


def combine(flags: int, added: int, removed: int) -> int:
    """The flags inside a group `(?added-removed:...)`."""
    if added & _TYPES:
        flags &= ~_TYPES
    return (flags | added) & ~removed


def parse(pattern: str, flags: str) -> Tree:
    """Parse with CPython's parser; refuse, with its position, what an automaton cannot do.

    :param flags: any of `isxam`.
    :raises ValueError: if the expression is invalid.
    :raises UnsupportedPattern: if it uses an unsupported feature.
    """
    if not isinstance(pattern, str):
        raise TypeError(f"a regular expression is a str, not {type(pattern).__name__}")
    bits = sum(int(_LETTERS[letter]) for letter in set(flags))
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # raised again below, where the pattern is read this way
            nodes = _parser.parse(pattern, bits)
    except re.error as e:
        own = e
    else:
        for warning in caught:
            warnings.warn(warning.message, warning.category, stacklevel=4)
        for piece in _scan(pattern, nodes.state.flags, foreign=False):
            if piece.feature:
                raise refusal(piece.feature, piece.start, pattern)
        return Tree(nodes, nodes.state.flags, False, {})

    bits = _require_foreign(pattern, bits, own)
    text, sets, origin = _rewrite(pattern, bits)
    try:
        nodes = _parser.parse(text, bits)
    except re.error as e:
        reason = e.msg
        for placeholder, source in sets.items():
            reason = reason.replace(chr(placeholder), source)
        raise refusal(f"syntax of the regex package ({reason})", origin[e.pos or 0], pattern) from None
    return Tree(nodes, nodes.state.flags, True, sets)


def _require_foreign(pattern: str, bits: int, own: re.error) -> int:
    """The flags with which the `regex` package reads what CPython refuses; an error if it does not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Its flags have the names of CPython's, not their values.
            given = sum(
                getattr(unicode_regex, letter.upper()) for letter in _LETTERS if bits & _LETTERS[letter]
            )
            compiled = unicode_regex.compile(pattern, given)
    except unicode_regex.error as theirs:
        error: Any = theirs if "bad escape \\p" in own.msg.lower() else own
        where = f" at position {error.pos}" if error.pos is not None else ""
        raise ValueError(f"invalid regular expression {pattern!r}: {error.msg}{where}") from None
    return sum(
        ours for letter, ours in _LETTERS.items() if compiled.flags & getattr(unicode_regex, letter.upper())
    )


def refusal(feature: str, position: int, pattern: str) -> UnsupportedPattern:
    """The error for a feature that no automaton expresses."""
    return UnsupportedPattern(
        f"no automaton is made for the {feature} at position {position} of {pattern!r}: sentax.regex_partial "
        f"checks such patterns on the host, and &, | and ~ combine simpler ones",
        feature,
        position,
    )


class _Piece(NamedTuple):
    """A stretch of a pattern: an unsupported feature, or what stands for it in CPython's syntax."""

    start: int
    stop: int
    feature: str | None = None
    replacement: str | None = None
    characters: bool = False


def _rewrite(pattern: str, bits: int) -> tuple[str, dict[int, str], list[int]]:
    """Put a private code point in place of each set of characters, and plain groups for special ones.

    :return: the new pattern, the set for which each private code point stands, and the old position of
        each new character.
    :raises UnsupportedPattern: at the first unsupported feature.
    """
    unused = (c for c in _PLACEHOLDERS if chr(c) not in pattern)
    placeholders: dict[str, int] = {}
    out: list[str] = []
    origin: list[int] = []
    at = 0
    for piece in chain(_scan(pattern, bits, True), [_Piece(len(pattern), len(pattern))]):
        if piece.feature:
            raise refusal(piece.feature, piece.start, pattern)
        out.append(pattern[at : piece.start])
        origin.extend(range(at, piece.start))
        source = pattern[piece.start : piece.stop]
        if piece.characters and source not in placeholders:
            placeholders[source] = next(unused)
        new = chr(placeholders[source]) if piece.characters else piece.replacement or ""
        out.append(new)
        origin.extend([piece.start] * len(new))
        at = piece.stop
    return "".join(out), {c: s for s, c in placeholders.items()}, [*origin, len(pattern)]


def _scan(text: str, bits: int, foreign: bool) -> Iterator[_Piece]:
    """The pieces of a valid expression that need something, in order.

    :param foreign: whether the `regex` package's syntax is meant; otherwise nothing is rewritten.
    """
    scopes = [(bool(bits & re.VERBOSE), bool(bits & re.MULTILINE))]
    i = 0
    while i < len(text):
        verbose, multiline = scopes[-1]
        start, char = i, text[i]
        i += 1
        if char == "\\":
            i, piece = _escape(text, start, foreign)
            if piece:
                yield piece
        elif char == "[":
            found = (_POSIX_SET if foreign else _SET).match(text, start)
            i = found.end() if found else i
            if found and foreign:
                yield _Piece(start, i, characters=True)
        elif char == "#" and verbose:
            end = text.find("\n", i)
            i = len(text) if end < 0 else end + 1
        elif char in "*+?" or (char == "{" and _BRACES.match(text, start)):
            if char == "{":
                i = _BRACES.match(text, start).end()  # type: ignore[union-attr]
            if text.startswith("+", i):
                yield _Piece(start, i, "possessive repeat")
            i += text.startswith(("?", "+"), i)
        elif char == "{" and foreign and _FUZZY.match(text, start):
            yield _Piece(start, i, "fuzzy match")
        elif char in "^$" and multiline:
            yield _Piece(start, i, "multi-line anchor")
        elif char == ")":
            scopes.pop()
        elif char == "(":
            i, piece, scope, is_group = _group(text, start, scopes[-1])
            if piece.feature or (foreign and piece.replacement):
                yield piece
            if is_group:
                scopes.append(scope)
            else:
                scopes[-1] = scope


def _escape(text: str, start: int, foreign: bool) -> tuple[int, _Piece | None]:
    """What a backslash starts, and where it ends."""
    following = text[start + 1]
    stop = start + 2
    if following in "bB":
        return stop, _Piece(start, stop, "word boundary")
    if following in "123456789" and not re.match(r"[0-3][0-7][0-7]", text[start + 1 :]):
        return stop, _Piece(start, stop, "back-reference")
    if following == "N":
        found = _NAMED_CHARACTER.match(text, start)
        return found.end() if found else stop, None
    found = _PROPERTY.match(text, start) if foreign else None
    if found:
        return found.end(), _Piece(start, found.end(), characters=True)
    return stop, None


def _group(text: str, start: int, scope: tuple[bool, bool]) -> tuple[int, _Piece, tuple, bool]:
    """What a parenthesis opens: where its content starts, a piece, its flags, whether it closes later."""
    for form, feature in _CLOSED:
        found = form.match(text, start)
        if found:
            return found.end(), _Piece(start, found.end(), feature), scope, False
    for form, feature in _OPENINGS:
        found = form.match(text, start)
        if found:
            # Names and numbers serve references alone, which are refused.
            return found.end(), _Piece(start, found.end(), feature, "(?:"), scope, True
    flags = _GROUP_FLAGS.match(text, start)
    if flags:
        added, removed, close = flags.groups("")
        inner = tuple((on or f in added) and f not in removed for on, f in zip(scope, "xm"))
        return flags.end(), _Piece(start, flags.end()), inner, close == ":"
    return start + 1, _Piece(start, start + 1), scope, True
