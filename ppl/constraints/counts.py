"""Counts of characters, words and sentences: scanners that count, as automata or beside a counter."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sentax.ppl.constraints.automaton import Automaton, Label
from sentax.ppl.constraints.base import PAD, Constraint
from sentax.ppl.constraints.dfa import Dfa, unique_rows
from sentax.ppl.pytree import pytree

_MAX_STATES = 1 << 13
"""Beyond this many states a counter is cheaper than a table, and products are no longer worth having."""

_OTHER = "other"
_STOPS = {
    ".": "stop",
    "!": "stop",
    "?": "stop",
    "…": "stop",
    "。": "full stop",
    "！": "full stop",
    "？": "full stop",
}
_CLOSERS = dict.fromkeys("\"')]}»’”›」』）】", "closer")

# Modes and what each kind of character does in them: the next mode, and whether a new unit starts.
_WORDS = {
    "between": {"space": ("between", 0), _OTHER: ("inside", 1)},
    "inside": {"space": ("between", 0), _OTHER: ("inside", 0)},
}
_SENTENCES: dict[str, dict[str, tuple[str, int]]] = {
    "inside": {
        "space": ("inside", 0),
        "stop": ("stopped", 0),
        "full stop": ("ended", 0),
        "closer": ("inside", 0),
        _OTHER: ("inside", 0),
    }
}
_SENTENCES["stopped"] = _SENTENCES["inside"] | {"space": ("between", 0), "closer": ("stopped", 0)}
_SENTENCES["between"] = {kind: (mode, 1) for kind, (mode, _) in _SENTENCES["inside"].items()} | {
    "space": ("between", 0)
}
_SENTENCES["ended"] = _SENTENCES["between"] | dict.fromkeys(("stop", "full stop", "closer"), ("ended", 0))


class Scanner(NamedTuple):
    """A deterministic automaton that counts as it reads; state 0 starts.

    :param delta: successors by state and byte class, int32 [S, C].
    :param classes: the class of each byte, int32 [256].
    :param adds: what reading a byte adds to the count, int32 [S, C].
    :param at_end: what the end of the text adds, int32 [S]: an unfinished character counts as one.
    :param still: the least that any way to go on adds, int32 [S].
    """

    delta: np.ndarray
    classes: np.ndarray
    adds: np.ndarray
    at_end: np.ndarray
    still: np.ndarray


@cache
def scanner(unit: str) -> Scanner:
    """What counts `characters`, `words` or `sentences`."""
    if unit == "characters":
        adds = np.array([[1, 0]], np.int32)
        classes = ((np.arange(256) & 0xC0) == 0x80).astype(np.int32)
        zero = np.zeros(1, np.int32)
        return Scanner(np.zeros_like(adds), classes, adds, zero, zero)
    modes = _WORDS if unit == "words" else _SENTENCES
    kinds = {chr(c): "space" for c in range(sys.maxunicode + 1) if chr(c).isspace()}
    if unit == "sentences":
        kinds |= _STOPS | _CLOSERS
    return _scanner(modes, {char.encode(): kind for char, kind in kinds.items()})


def _scanner(modes: dict[str, dict[str, tuple[str, int]]], kinds: dict[bytes, str]) -> Scanner:
    """Read bytes until they are a character with a kind of its own, or cannot become one: any other.

    Bytes that are no valid text count as other characters.
    """
    prefixes = {code[:n] for code in kinds for n in range(1, len(code))}

    def read(mode: str, pending: bytes, byte: int) -> tuple[str, bytes, int]:
        added = 0
        code = pending + bytes([byte])
        if pending and code not in kinds and code not in prefixes:
            mode, added = modes[mode][_OTHER]
            code = code[-1:]
        if code in prefixes:
            return mode, code, added
        mode, more = modes[mode][kinds.get(code, _OTHER)]
        return mode, b"", added + more

    start = ("between", b"")
    numbers = {start: 0}
    order = [start]
    delta, adds = [], []
    for mode, pending in order:
        row = [read(mode, pending, byte) for byte in range(256)]
        for after in row:
            if after[:2] not in numbers:
                numbers[after[:2]] = len(order)
                order.append(after[:2])
        delta.append([numbers[after[:2]] for after in row])
        adds.append([after[2] for after in row])
    table, added = np.array(delta, np.int32), np.array(adds, np.int32)
    at_end = np.array([modes[mode][_OTHER][1] if pending else 0 for mode, pending in order], np.int32)
    still = at_end.copy()
    while True:
        less = np.minimum(still, (added + still[table]).min(axis=1))
        if (less == still).all():
            break
        still = less
    first, classes = unique_rows(np.concatenate([table, added]).T)
    return Scanner(table[:, first], classes.astype(np.int32), added[:, first], at_end, still)


def counted(unit: str, least: int, most: int | None) -> Constraint:
    """Texts of `least` to `most` units: an automaton where it is small, else a :class:`Count`."""
    table = scanner(unit)
    states = len(table.delta)
    cap = least if most is None else most + 1  # counts beyond are all alike
    label = f"length({least}, {most}, unit={unit!r})"
    if states * (cap + 1) > _MAX_STATES:
        with jax.ensure_compile_time_eval():
            delta, classes, adds, at_end, still = jax.device_put(tuple(table))
            low, high, unbounded = jax.device_put((np.int32(least), np.int32(cap), np.bool_(most is None)))
        return Count(delta, classes, adds, at_end, still, low, high, unbounded, Label(label))
    count = np.minimum(np.arange(cap + 1)[:, None, None] + table.adds, cap)
    rows = (count * states + table.delta).reshape(-1, table.delta.shape[1])
    total = np.minimum(np.arange(cap + 1)[:, None] + table.at_end, cap)
    accepting = (total >= least) & ((total < cap) | (most is None))
    return Automaton.from_dfa(Dfa(rows.astype(np.int32), table.classes, accepting.ravel()).minimise(), label)


@pytree
@dataclass(frozen=True, eq=False, repr=False)
class Count(Constraint):
    """Texts of bounded length in units that a scanner counts. Make one with :func:`length`.

    The state is the scanner's state and the count, which stops at `cap`.
    """

    delta: Int[Array, "S C"]
    classes: Int[Array, " 256"]
    adds: Int[Array, "S C"]
    at_end: Int[Array, " S"]
    still: Int[Array, " S"]
    least: Int[Array, ""]
    cap: Int[Array, ""]
    unbounded: Bool[Array, ""]
    label: Any = field(default=Label("length"), metadata={"static": True})

    def init(self) -> Int[Array, " 2"]:
        return jnp.zeros(2, jnp.int32)

    def step(self, state: Int[Array, " 2"], token: Int[Array, " L"]) -> Int[Array, " 2"]:
        width = self.delta.shape[1]

        def more(carry):
            i, _, _ = carry
            return (i < len(token)) & (token.at[i].get(mode="clip") != PAD)

        def read(carry):
            i, at, count = carry
            place = at * width + self.classes[token[i]]
            return i + 1, self.delta.reshape(-1)[place], count + self.adds.reshape(-1)[place]

        _, at, count = jax.lax.while_loop(more, read, (jnp.zeros((), jnp.int32), state[0], state[1]))
        return jnp.stack([at, jnp.minimum(count, self.cap)])

    def alive(self, state: Int[Array, " 2"]) -> Bool[Array, ""]:
        return self.unbounded | (state[1] + self.still[state[0]] < self.cap)

    def accepts(self, state: Int[Array, " 2"]) -> Bool[Array, ""]:
        total = jnp.minimum(state[1] + self.at_end[state[0]], self.cap)
        return (self.least <= total) & (self.unbounded | (total < self.cap))

    def __repr__(self) -> str:
        return repr(self.label)
