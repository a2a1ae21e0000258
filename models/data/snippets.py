"""Short texts of two context-free languages: statements in the manner of C++, and JSON."""

from __future__ import annotations

from random import Random

from sentax.models.data.draws import chance, listed, tail
from sentax.models.vocabulary import Vocabulary

STATEMENTS = r"""
start: statement+
statement: [TYPE " "] NAME assign expr ";" | "return " expr ";" | expr ";"
         | ("if" | "while") "(" expr ")" (block | statement)
block: "{" statement* "}"
assign: "=" | "+=" | "-="
expr: operand (operator operand)*
operand: NAME | NUMBER | "-" operand | "(" expr ")" | NAME "(" [expr ("," expr)*] ")" | NAME "[" expr "]"
operator: "+" | "-" | "*" | "/" | "<" | ">" | "==" | "&&"
TYPE: "int" | "auto"
NAME: /[a-z]+/
NUMBER: /0|[1-9][0-9]*/
"""
"""The grammar of :func:`statements`, in Lark's notation."""

JSON = r"""
start: value
value: object | array | STRING | NUMBER | "true" | "false" | "null"
object: "{" [pair ("," pair)*] "}"
pair: STRING ":" value
array: "[" [value ("," value)*] "]"
STRING: /"[a-z]*"/
NUMBER: /-?(0|[1-9][0-9]*)/
"""
"""The grammar of :func:`json`: no white space, and strings of small letters."""

_NAMES = listed("x i n f y sum g a max p")
_KEYS = listed("id name x tags n ok age")
_WORDS = listed("ann bo eve red sky up")


def statements(rng: Random) -> str:
    """One to three statements, of at most 32 characters."""
    while True:
        text = "".join(_statement(rng, 2) for _ in range(1 + chance(rng, 0.5) + chance(rng, 0.2)))
        if len(text) <= 32:
            return text


def json(rng: Random) -> str:
    """A JSON value, mostly an object or an array, of at most 32 characters."""
    while True:
        text = _object(rng, 2) if chance(rng, 0.7) else _array(rng, 2)
        if len(text) <= 32:
            return text


def vocabulary() -> Vocabulary:
    """A token for each character of both languages, and one for the end."""
    letters = 'abcdefghijklmnopqrstuvwxyz0123456789+-*/<>=&()[]{},;:" '
    return Vocabulary([*(letter.encode() for letter in letters), b""], end_of_text=len(letters))


def _statement(rng: Random, depth: int) -> str:
    kind = rng.random()
    if kind < 0.5:
        target = f"{'auto ' if chance(rng, 0.2) else 'int '}" if chance(rng, 0.4) else ""
        return f"{target}{tail(rng, _NAMES)}{'=' if chance(rng, 0.7) else '+='}{_expression(rng, depth)};"
    if kind < 0.65:
        return f"return {_expression(rng, depth)};"
    if kind < 0.8 or not depth:
        return f"{tail(rng, _NAMES)}({_arguments(rng, depth)});"
    body = _statement(rng, depth - 1)
    word = "if" if chance(rng, 0.7) else "while"
    return f"{word}({_expression(rng, depth - 1)}){'{' + body + '}' if chance(rng, 0.7) else body}"


def _expression(rng: Random, depth: int) -> str:
    text = _operand(rng, depth)
    while chance(rng, 0.35):
        text += rng.choice(("+", "-", "*", "/", "<", ">", "==", "&&")) + _operand(rng, depth)
    return text


def _operand(rng: Random, depth: int) -> str:
    kind = rng.random()
    if kind < 0.45 or not depth:
        return tail(rng, _NAMES)
    if kind < 0.65:
        return str(rng.choice((0, 1, 1, 2, 10, 42)))
    if kind < 0.8:
        return f"({_expression(rng, depth - 1)})"
    if kind < 0.92:
        return f"{tail(rng, _NAMES)}({_arguments(rng, depth)})"
    return f"{tail(rng, _NAMES)}[{_expression(rng, depth - 1)}]"


def _arguments(rng: Random, depth: int) -> str:
    return ",".join(_expression(rng, max(0, depth - 1)) for _ in range(rng.randint(0, 2)))


def _value(rng: Random, depth: int) -> str:
    kind = rng.random()
    if depth and kind < 0.2:
        return _object(rng, depth - 1)
    if depth and kind < 0.45:
        return _array(rng, depth - 1)
    if kind < 0.65:
        return f'"{tail(rng, _WORDS)}"'
    return str(rng.randint(-3, 20)) if kind < 0.85 else rng.choice(("true", "false", "null"))


def _object(rng: Random, depth: int) -> str:
    return "{" + ",".join(f'"{tail(rng, _KEYS)}":{_value(rng, depth)}' for _ in range(rng.randint(0, 3))) + "}"


def _array(rng: Random, depth: int) -> str:
    return "[" + ",".join(_value(rng, depth) for _ in range(rng.randint(0, 3))) + "]"
