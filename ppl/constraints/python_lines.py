"""Python source cut into logical lines, the last of which may end anywhere, also inside a token."""

from __future__ import annotations

import re
import sys
import token
from typing import NamedTuple

_OPERATORS = sorted((o for o in token.EXACT_TOKEN_TYPES if o != "!"), key=len, reverse=True)
_NAME = r"[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*"  # the compiler decides which letters there are
_TOKEN = re.compile(
    rf"""
    (?P<newline> \n )
  | (?P<space> (?:[ \t\f]|\\\n)+ )
  | (?P<comment> \#[^\n]* )
  | (?P<string> (?P<prefix> [bB][rR]?|[rR][bB]?|[uU]|[fFtT][rR]?|[rR][fFtT]|) (?P<quote> \"{{3}}|'{{3}}|["']) )
  | (?P<number> 0[xX][0-9a-fA-F_]* | 0[oO][0-7_]* | 0[bB][01_]*
              | (?: [0-9][0-9_]*(?:\.[0-9_]*)? | \.[0-9][0-9_]* ) (?:[eE](?:[+-]?[0-9][0-9_]*|[+-]?\Z))? [jJ]? )
  | (?P<name> {_NAME} )
  | (?P<operator> \.\.(?!\.) | {"|".join(map(re.escape, _OPERATORS))} | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_FIRST = re.compile(rf"[ \t\f]*({_NAME}|@)?")
_CLOSERS = {quote: re.compile(rf"(?:[^\\]|\\.)*?{quote}", re.DOTALL) for quote in ("'''", '"""')} | {
    quote: re.compile(rf"(?:[^\\\n{quote}]|\\.)*+{quote}", re.DOTALL) for quote in "'\""
}
_UNCLOSED = {quote: re.compile(rf"(?:[^\\\n{quote}]|\\.)*+\\?\Z", re.DOTALL) for quote in "'\""}


class Token(NamedTuple):
    """A token of the last line.

    :param kind: a group of the scanner: `name`, `number`, `operator`, `string`, `space`, `comment`, `newline`.
    :param text: as it stands there, perhaps not finished.
    :param closed: of a string, whether it has ended.
    """

    kind: str
    text: str
    closed: bool = True


class Scan(NamedTuple):
    """How far a logical line goes.

    :param end: where it ends in the text, behind its newline; None if it goes on.
    :param tokens: its tokens, if it goes on.
    :param blank: whether it holds nothing but space and comments.
    """

    end: int | None
    tokens: list[Token]
    blank: bool


def scan(text: str) -> Scan | None:
    """The first logical line of a text; None if a string in it breaks off at the end of a line."""
    tokens: list[Token] = []
    at = depth = 0
    blank = True
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found is not None
        kind = str(found.lastgroup)
        closed, end = True, found.end()
        if found["quote"] is not None:
            kind = "string"
            after = _string_end(text, end, found["prefix"], found["quote"])
            if after is None:
                return None
            closed, end = after <= len(text), min(after, len(text))
        elif kind == "operator":
            depth += (found[0] in "([{") - (found[0] in ")]}")
        tokens.append(Token(kind, text[at:end], closed))
        at = end
        if kind == "newline" and depth <= 0:
            return Scan(at, tokens, blank)
        blank = blank and kind in ("space", "comment", "newline")
    return Scan(None, tokens, blank)


def indentation(line: str) -> tuple[int, str]:
    """The column in which a logical line starts, as the compiler counts it, and its first name or `@`."""
    column = 0
    for char in line:
        if char == " ":
            column += 1
        elif char == "\t":
            column = column // 8 * 8 + 8
        elif char == "\f":
            column = 0
        else:
            break
    found = _FIRST.match(line)
    assert found is not None
    return column, found[1] or ""


def _string_end(text: str, at: int, prefix: str, quote: str) -> int | None:
    """Where a string ends; beyond the text if it does not; None if a line ends before it."""
    if sys.version_info >= (3, 12) and prefix and set(prefix) & set("fFtT"):
        return _nested_end(text, at, quote)
    found = _CLOSERS[quote].match(text, at)
    if found:
        return found.end()
    if len(quote) == 1 and not _UNCLOSED[quote].match(text, at):
        return None
    return len(text) + 1


def _nested_end(text: str, at: int, quote: str) -> int | None:
    """Where an f-string ends whose fields hold any expression, other strings with the same quotes too."""
    fields: list[int] = []  # by open field, how many brackets are open in it, or -1 in its format
    while at < len(text):
        if not fields or fields[-1] < 0:
            if text.startswith(quote, at):
                # In a format too: the compiler will say what is wrong.
                return at + len(quote)
            if text[at] == "\n" and len(quote) == 1:
                return None
            if text[at] == "\\":
                at += 1 if text.startswith(("{", "}"), at + 1) else 2
            elif text.startswith("{{", at) and not fields:
                at += 2
            else:
                if text[at] == "{":
                    fields.append(0)
                elif text[at] == "}" and fields:
                    fields.pop()
                at += 1
            continue
        found = _TOKEN.match(text, at)
        assert found is not None
        at = found.end()
        if found["quote"] is not None:
            end = _string_end(text, at, found["prefix"], found["quote"])
            if end is None or end > len(text):
                return end
            at = end
        elif found[0] in "([{":
            fields[-1] += 1
        elif found[0] in ")]}":
            if fields[-1] == 0:
                fields.pop()
            else:
                fields[-1] -= 1
        elif found[0][0] == ":" and fields[-1] == 0:
            at = found.start() + 1
            fields[-1] = -1
    return len(text) + 1
