"""JSON's texts as automata: strings by what they stand for, numbers by their digits, constants."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import cache, lru_cache, reduce
from typing import Any

import numpy as np

from sentax.ppl.constraints.assembly import Assembly
from sentax.ppl.constraints.dfa import Dfa, compress_classes, product
from sentax.ppl.constraints.ecma import search
from sentax.ppl.constraints.regex import regex
from sentax.ppl.constraints.strings import choice

_CONTROLS = (*range(0x20), 0x7F)
_SHORT = {ord('"'): '"', ord("\\"): "\\", 8: "b", 12: "f", 10: "n", 13: "r", 9: "t"}
_UNITS = 8  # states beside each: itself, after a backslash, `u`, `0`, `0`, and then `0`, `1` or `7`


def fixed(text: str) -> Dfa:
    """One text."""
    return choice([text]).to_dfa()


def nothing() -> Dfa:
    """No text at all."""
    return Dfa(np.zeros((1, 1), np.int32), np.zeros(256, np.int32), np.zeros(1, bool))


def union(parts: Sequence[Dfa], max_states: int) -> Dfa:
    """Any of several."""
    if len(parts) < 2:
        return parts[0] if parts else nothing()
    assembly = Assembly()
    for part in parts:
        assembly.read(assembly.start, assembly.final, part)
    return assembly.build(max_states)


@lru_cache(256)
def strings(patterns: tuple[str, ...], least: int, most: int | None, max_states: int) -> Dfa:
    """The JSON strings that stand for :func:`contents`, with their quotes."""
    return spelled(contents(patterns, least, most, max_states))


@lru_cache(256)
def contents(patterns: tuple[str, ...], least: int, most: int | None, max_states: int) -> Dfa:
    """What strings may stand for, in UTF-8: those in which all patterns are found, of bounded length.

    :param least: the least number of characters.
    :param most: the greatest, or `None`.
    :raises UnsupportedPattern: if a pattern is none for an automaton.
    """
    parts = [search(p) for p in patterns]
    if least or most is not None or not parts:
        bounds = "*" if (least, most) == (0, None) else f"{{{least},{'' if most is None else most}}}"
        parts.append(_length(bounds))
    return reduce(lambda a, b: product(a, b, np.logical_and, max_states), parts)


@cache
def _length(bounds: str) -> Dfa:
    return regex(f".{bounds}", "s").to_dfa()


def spelled(content: Dfa) -> Dfa:
    r"""The JSON strings that stand for some texts, with their quotes.

    Characters stand for themselves, but the quote, the backslash and control characters are escaped: `\"`,
    `\\`, `\n` and its like, and `\u00XX` for control characters alone.

    >>> from sentax.ppl.constraints.automaton import Automaton
    >>> strings = Automaton.from_dfa(spelled(choice(["a/b", "\n"]).to_dfa()), "strings")
    >>> [strings.matches(text) for text in ('"a/b"', r'"a\/b"', r'"\n"', r'"\u000A"')]
    [True, False, True, True]
    """
    states = len(content.delta)
    byte = content.delta[:, content.classes]  # by byte, [S, 256]
    close, sink = _UNITS * states, _UNITS * states + 1
    table = np.full((_UNITS, states, 256), sink, np.int32)
    table[0] = byte
    table[0][:, [*_CONTROLS, ord('"'), ord("\\")]] = sink
    table[0, content.accepting, ord('"')] = close

    def after(unit: int) -> np.ndarray:
        return unit * states + np.arange(states)

    table[0, :, ord("\\")] = after(1)
    for point, letter in _SHORT.items():
        table[1, :, ord(letter)] = byte[:, point]
    table[1, :, ord("u")] = after(2)
    table[2, :, ord("0")] = after(3)
    table[3, :, ord("0")] = after(4)
    for unit, digit in ((5, 0), (6, 1), (7, 7)):
        table[4, :, ord(str(digit))] = after(unit)
        for low in range(16):
            if 16 * digit + low in _CONTROLS:
                for spelling in {f"{low:x}", f"{low:X}"}:
                    table[unit, :, ord(spelling)] = byte[:, 16 * digit + low]
    # The opening quote comes first, so the start is a state of its own.
    rows = np.concatenate([table.reshape(-1, 256), np.full((2, 256), sink, np.int32)]) + 1
    first = np.full((1, 256), sink + 1, np.int32)
    first[0, ord('"')] = 1
    delta, classes = compress_classes(np.concatenate([first, rows]), np.arange(256))
    accepting = np.zeros(len(delta), bool)
    accepting[close + 1] = True
    return Dfa(delta, classes.astype(np.int32), accepting).minimise()


@cache
def any_number() -> Dfa:
    """Numbers without bounds; an exponent of three digits would be infinity to most readers."""
    return regex(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?").to_dfa()


@cache
def integers(least: int | None, most: int | None) -> Dfa:
    """The integers within bounds. Minus zero is among them where nothing, or both sides, speak for it."""
    if least is None and most is None:
        return regex("-?(0|[1-9][0-9]*)").to_dfa()
    ways = []
    if most is None or most >= 0:
        ways.append(_digits(max(least or 0, 0), most))
    if least is None or least < 0:
        negative = _digits(1 if most is None else max(-most, 1), None if least is None else -least)
        ways.append(f"-(?:{negative})" if negative else "")
    if least is not None and most is not None and least < 0 <= most:
        ways.append("-0")
    pattern = "|".join(w for w in ways if w)
    return regex(pattern).to_dfa() if pattern else nothing()


def _digits(low: int, high: int | None) -> str:
    """A pattern of the decimal numbers from `low` to `high`, both at least zero; `""` if there are none."""
    if high is not None and low > high:
        return ""
    ways = []
    size = len(str(low))
    if high is None:
        ways = [*_same_size(str(low), "9" * size), f"[1-9][0-9]{{{size},}}"]
    while high is not None and size <= len(str(high)):
        least = str(low) if size == len(str(low)) else "1" + "0" * (size - 1)
        most = str(high) if size == len(str(high)) else "9" * size
        ways += _same_size(least, most)
        size += 1
    return "|".join(ways)


def _same_size(low: str, high: str) -> list[str]:
    """Patterns of the numbers between two of the same number of digits."""
    if not low:
        return [""]
    if low[0] == high[0]:
        return [low[0] + rest for rest in _same_size(low[1:], high[1:])]
    zeros, nines = "0" * (len(low) - 1), "9" * (len(low) - 1)
    first, last = int(low[0]), int(high[0])
    ways = []
    if low[1:] != zeros:
        ways += [low[0] + rest for rest in _same_size(low[1:], nines)]
        first += 1
    if high[1:] != nines:
        ways += [high[0] + rest for rest in _same_size(zeros, high[1:])]
        last -= 1
    if first <= last:
        ways.append(f"[{first}-{last}]" + (f"[0-9]{{{len(zeros)}}}" if zeros else ""))
    return ways


def constant(value: Any, separators: tuple[str, str], max_states: int) -> Dfa:
    """One value, its members in their order, its numbers in their shortest form without exponent."""
    if isinstance(value, str):
        return spelled(fixed(value))
    if isinstance(value, bool) or value is None:
        return fixed(json.dumps(value))
    if isinstance(value, (int, float)):
        return fixed(_number(value))
    assembly = Assembly()
    parts: list[Dfa] = []
    between, colon = separators
    members = [(None, v) for v in value] if isinstance(value, list) else list(value.items())
    for i, (name, member) in enumerate(members):
        before = (between if i else "") + ("" if name is None else json.dumps(name, ensure_ascii=False) + colon)
        parts += [fixed(before), constant(member, separators, max_states)]
    opened, closed = "[]" if isinstance(value, list) else "{}"
    assembly.read(assembly.start, assembly.final, fixed(opened), *parts, fixed(closed))
    return assembly.build(max_states)


def _number(value: float) -> str:
    """The shortest decimal that is read as this number.

    >>> [_number(x) for x in (1, 1.0, 1.5, 1e-7, -0.0)]
    ['1', '1', '1.5', '0.0000001', '-0']
    """
    text = f"{Decimal(repr(value)):f}"
    return re.sub(r"\.0*$|(\.[0-9]*?)0+$", r"\1", text)
