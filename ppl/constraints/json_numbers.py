"""Keeps the exponents of JSON's numbers within two digits.

JSON allows `2e636`, which is a number to a grammar and infinity to every reader with doubles, Python's
included. An automaton over bytes, which knows strings from numbers, refuses the third digit.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt32

START = 0
_OUTSIDE, _STRING, _ESCAPE, _NUMBER, _EXPONENT, _ONE_DIGIT, _TWO_DIGITS, _DEAD = range(8)


def _table() -> np.ndarray:
    table = np.empty((8, 256), np.uint8)
    table[:] = _OUTSIDE
    digits = list(b"0123456789")
    table[_STRING:_NUMBER] = _STRING
    table[_STRING, ord("\\")] = _ESCAPE
    table[_STRING, ord('"')] = _OUTSIDE
    table[[_OUTSIDE, *range(_NUMBER, _DEAD)], ord('"')] = _STRING
    table[_OUTSIDE, [*digits, ord("-")]] = _NUMBER
    table[_NUMBER, [*digits, ord(".")]] = _NUMBER
    table[_NUMBER, [ord("e"), ord("E")]] = _EXPONENT
    table[_EXPONENT, [ord("+"), ord("-")]] = _EXPONENT
    table[_EXPONENT, digits] = _ONE_DIGIT
    table[_ONE_DIGIT, digits] = _TWO_DIGITS
    table[_TWO_DIGITS, digits] = _DEAD
    table[_DEAD] = _DEAD
    return table


_TABLE = _table()
_ROWS = [bytes(row) for row in _TABLE]


def advance(state: int, piece: bytes) -> int | None:
    """The state after more bytes of a text; `None` where an exponent is too long.

    >>> advance(START, b"[1.5e-10, 'true', 1e99"), advance(START, b"2e636")
    (6, None)
    """
    for byte in piece:
        state = _ROWS[state][byte]
    return None if state == _DEAD else state


class NumberMasks:
    """By state, the tokens of a vocabulary that do not lengthen an exponent too far."""

    def __init__(self, tokens: tuple[bytes, ...]) -> None:
        longest = max(map(len, tokens), default=0)
        self._bytes = np.zeros((longest, len(tokens)), np.uint8)
        self._lengths = np.fromiter(map(len, tokens), np.int32, len(tokens))
        for i, token in enumerate(tokens):
            self._bytes[: len(token), i] = np.frombuffer(token, np.uint8)
        self._rows: dict[int, UInt32[np.ndarray, " W"]] = {}

    def row(self, state: int) -> UInt32[np.ndarray, " W"]:
        """32 tokens to a word, least bit first."""
        if state not in self._rows:
            states = np.full(len(self._lengths), state, np.uint8)
            for at, column in enumerate(self._bytes):
                states = np.where(at < self._lengths, _TABLE[states, column], states)
            bits = np.zeros(-(-len(states) // 32) * 32, np.uint8)
            bits[: len(states)] = states != _DEAD
            self._rows[state] = np.packbits(bits, bitorder="little").view("<u4")
        return self._rows[state]
