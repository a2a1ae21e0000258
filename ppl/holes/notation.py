"""Reads the notation of context-free grammars: a subset of Lark's."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import NamedTuple, NoReturn


class GrammarSyntaxError(ValueError):
    """A grammar's text is not in the notation; the message says what, and at which line and column."""


@dataclass(frozen=True)
class Text:
    """A string in quotation marks."""

    value: str
    ignore_case: bool = False


@dataclass(frozen=True)
class Pattern:
    """A regular expression between slashes."""

    source: str
    flags: str = ""


@dataclass(frozen=True)
class Name:
    """A rule or a terminal by its name."""

    value: str
    line: int
    column: int


@dataclass(frozen=True)
class Sequence:
    """One after the other; the empty text if there are none."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Choice:
    """One of some."""

    options: tuple[Expression, ...]


@dataclass(frozen=True)
class Repeat:
    """So many times in a row; `most` is None where there is no bound."""

    item: Expression
    least: int
    most: int | None


Expression = Text | Pattern | Name | Sequence | Choice | Repeat


class Definitions(NamedTuple):
    """What a grammar's text defines.

    :param rules: by name; a name in upper case is a terminal.
    :param ignored: what may stand between terminals.
    """

    rules: dict[str, Expression]
    ignored: tuple[Expression, ...]


def is_terminal(name: str) -> bool:
    """Whether a name is a terminal's: its letters are in upper case."""
    return name.lstrip("_").isupper()


_TOKENS = re.compile(
    r"""(?P<space>[ \t\f\r]+|//[^\n]*|\#[^\n]*)
    |(?P<newline>\n)
    |(?P<string>"(?:\\.|[^"\\\n])*"i?)
    |(?P<pattern>/(?!/)(?:\\.|[^/\\\n])+/[a-z]*)
    |(?P<name>[?!]*_*[A-Za-z][A-Za-z0-9_]*)
    |(?P<number>[0-9]+)
    |(?P<directive>%[a-z]+)
    |(?P<arrow>->)
    |(?P<range>\.\.)
    |(?P<operator>[:|()\[\]?*+~.{},])
    """,
    re.VERBOSE,
)
_ESCAPES = re.compile(r"\\(?:[\\\"nrtf]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})")


class _Token(NamedTuple):
    kind: str
    value: str
    line: int
    column: int


def read(text: str) -> Definitions:
    """The definitions in a grammar's text.

    :param text: rules `name: ...`, a line or more each, terminals `NAME: ...`, `%ignore ...`, and comments
        behind `//` or `#`.
    :raises GrammarSyntaxError: with line and column.
    """
    return _Reader(text).definitions()


class _Reader:
    """Recursive descent over the tokens, with one token of look-ahead."""

    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.at = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.at]

    def definitions(self) -> Definitions:
        rules: dict[str, Expression] = {}
        ignored: list[Expression] = []
        while self.next.kind != "end":
            token = self.take()
            if token.kind == "newline":
                continue
            if token.kind == "directive":
                if token.value != "%ignore":
                    fail(f"{token.value} is not read here: write the definition out", token)
                ignored.append(self.choice())
            elif token.kind == "name":
                name = token.value.lstrip("?!")
                if self.next.value in (".", "{"):
                    what = "priorities" if self.next.value == "." else "templates"
                    fail(f"{what} of rules are not read here", self.next)
                self.take(":")
                if name in rules:
                    fail(f"{name!r} is defined twice", token)
                rules[name] = self.choice()
            else:
                fail(f"expected a rule, found {_shown(token)}", token)
            if self.next.kind not in ("newline", "end"):
                fail(f"expected the end of the definition, found {_shown(self.next)}", self.next)
        return Definitions(rules, tuple(ignored))

    def take(self, value: str | None = None) -> _Token:
        token = self.next
        if value is not None and token.value != value:
            fail(f"expected {value!r}, found {_shown(token)}", token)
        self.at += 1
        return token

    def choice(self, inside: bool = False) -> Expression:
        options = [self.sequence(inside)]
        while self.continues(inside):
            self.take("|")
            options.append(self.sequence(inside))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def continues(self, inside: bool) -> bool:
        """Whether another option follows: a definition goes on where the next line begins with a bar."""
        ahead = self.at
        while self.tokens[ahead].kind == "newline":
            ahead += 1
        if self.tokens[ahead].value == "|" or inside:
            self.at = ahead
        return self.next.value == "|"

    def sequence(self, inside: bool) -> Expression:
        items = []
        while True:
            while inside and self.next.kind == "newline":
                self.take()
            if self.next.kind == "arrow":
                self.take()
                if self.take().kind != "name":
                    fail("expected a name behind '->'", self.tokens[self.at - 1])
            elif self.next.kind in ("string", "pattern", "name") or self.next.value in ("(", "["):
                items.append(self.repeated())
            else:
                break
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def repeated(self) -> Expression:
        item = self.atom()
        match self.next.value:
            case "?":
                self.take()
                return Repeat(item, 0, 1)
            case "*":
                self.take()
                return Repeat(item, 0, None)
            case "+":
                self.take()
                return Repeat(item, 1, None)
            case "~":
                sign = self.take()
                least = most = self.number()
                if self.next.kind == "range":
                    self.take()
                    most = self.number()
                if most < least:
                    fail(f"nothing is repeated {least} to {most} times", sign)
                return Repeat(item, least, most)
        return item

    def number(self) -> int:
        token = self.take()
        if token.kind != "number":
            fail(f"expected a number, found {_shown(token)}", token)
        return int(token.value)

    def atom(self) -> Expression:
        token = self.take()
        if token.value in ("(", "["):
            inner = self.choice(inside=True)
            self.take(")" if token.value == "(" else "]")
            return inner if token.value == "(" else Repeat(inner, 0, 1)
        if token.kind == "name":
            return Name(token.value.lstrip("?!"), token.line, token.column)
        if token.kind == "pattern":
            source, flags = token.value[1:].rsplit("/", 1)
            return Pattern(source, flags)
        text = _string(token)
        if self.next.kind != "range":
            return text
        self.take()
        last = _string(self.take())
        if len(text.value) != 1 or len(last.value) != 1 or last.value < text.value:
            fail('a range is "a".."z", from one character to one that is not before it', token)
        return Pattern(f"[\\U{ord(text.value):08x}-\\U{ord(last.value):08x}]")


def _string(token: _Token) -> Text:
    if token.kind != "string":
        fail(f"expected a string, found {_shown(token)}", token)
    literal = token.value.removesuffix("i")
    if bad := re.search(r"\\.", _ESCAPES.sub("", literal)):
        fail(f"{bad.group()} is no escape of a string: a backslash is written \\\\", token)
    return Text(ast.literal_eval(literal), token.value.endswith("i"))


def _tokens(text: str):
    line, start, at = 1, 0, 0
    while at < len(text):
        match = _TOKENS.match(text, at)
        if match is None:
            fail(f"unexpected {text[at]!r}", _Token("", "", line, at - start + 1))
        kind = str(match.lastgroup)
        if kind != "space":
            yield _Token(kind, match.group(), line, at - start + 1)
        at = match.end()
        if kind == "newline":
            line, start = line + 1, at
    yield _Token("end", "", line, at - start + 1)


def _shown(token: _Token) -> str:
    return {"newline": "the end of the line", "end": "the end of the grammar"}.get(
        token.kind, repr(token.value)
    )


def fail(what: str, where: _Token | Name) -> NoReturn:
    """Refuse a grammar.

    :raises GrammarSyntaxError: always.
    """
    raise GrammarSyntaxError(f"line {where.line}, column {where.column}: {what}")
