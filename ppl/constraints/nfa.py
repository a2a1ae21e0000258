"""Nondeterministic automata over letters: a builder by fragments, and subset construction on bitsets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sentax.ppl.constraints.dfa import MAX_STATES, TooManyStates

_MAX_EDGES = 20_000
_MAX_WORK = 4_000_000
"""Bits visited while follow sets are united: about two seconds."""

START, DOLLAR, STOP = "start", "dollar", "stop"
"""Assertions on empty edges: nothing read yet; nothing left but perhaps one newline; nothing left."""

_OPEN, _BEFORE_NEWLINE, _CLOSED = range(3)


class CharDfa(NamedTuple):
    """A deterministic automaton over letters; its empty state, if any, is an ordinary row."""

    delta: np.ndarray
    accepting: np.ndarray


class Nfa:
    """States joined by empty edges (perhaps asserting where in the text we are) and consuming edges.

    A consuming edge carries a set of letters by number (see :class:`~.codepoints.Partition`).
    """

    def __init__(self) -> None:
        self.empty: list[list[tuple[int, str | None]]] = []
        self.consuming: list[list[int]] = []
        self.atoms: list[int] = []
        self.targets: list[int] = []

    def state(self) -> int:
        self.empty.append([])
        self.consuming.append([])
        return len(self.empty) - 1

    def link(self, source: int, target: int, assertion: str | None = None) -> None:
        self.empty[source].append((target, assertion))

    def read(self, source: int, target: int, atom: int) -> None:
        if len(self.atoms) >= _MAX_EDGES:
            raise TooManyStates(f"more than {_MAX_EDGES} characters once repeats are written out")
        self.consuming[source].append(len(self.atoms))
        self.atoms.append(atom)
        self.targets.append(target)

    def _closure(self, start: int, final: int, mode: int, at_start: bool) -> int:
        """The edges that can come next, as a bitset, without reading.

        Bit 0 says that the text may end here; bit 1+e is edge `e`. After a dollar only a newline
        may still be read, and nothing after it: those readings are bits of their own, from 1+E.
        """
        count = len(self.atoms)
        bits = 0
        seen = {(start, mode)}
        stack = [(start, mode)]
        while stack:
            state, mode = stack.pop()
            if state == final:
                bits |= 1
            if mode != _CLOSED:
                base = 1 if mode == _OPEN else 1 + count
                for edge in self.consuming[state]:
                    bits |= 1 << (base + edge)
            for target, assertion in self.empty[state]:
                if assertion == START and not at_start:
                    continue
                after = mode
                if assertion == STOP:
                    after = _CLOSED
                elif assertion == DOLLAR:
                    after = max(mode, _BEFORE_NEWLINE)
                if (target, after) not in seen:
                    seen.add((target, after))
                    stack.append((target, after))
        return bits

    def determinise(
        self, start: int, final: int, holds: np.ndarray, newline: int, max_states: int = MAX_STATES
    ) -> CharDfa:
        """Subset construction. A state is the bitset of what can come next, so that sets which
        differ only in how they were reached are one state.

        :param holds: which atoms contain each letter, bool [M, A].
        :param newline: the letter of the newline, or -1.
        :raises TooManyStates: beyond `max_states`, or an equivalent amount of work.
        """
        count = len(self.atoms)
        follow: dict[int, int] = {}
        by_atom: dict[int, int] = {}
        for edge, atom in enumerate(self.atoms):
            by_atom[atom] = by_atom.get(atom, 0) | 1 << (1 + edge)
        masks = []
        for letter, held in enumerate(holds):
            mask = 0
            for atom in np.flatnonzero(held).tolist():
                mask |= by_atom.get(atom, 0)
            masks.append(mask | (mask << count) if letter == newline else mask)

        work = 0
        united: dict[int, int] = {0: 0}

        def after(matched: int) -> int:
            nonlocal work
            if matched in united:
                return united[matched]
            rest, out = matched, 0
            while rest:
                low = rest & -rest
                rest ^= low
                if low not in follow:
                    edge = low.bit_length() - 2
                    mode = _OPEN if edge < count else _CLOSED
                    follow[low] = self._closure(self.targets[edge % count], final, mode, at_start=False)
                out |= follow[low]
                work += 1
            if work > _MAX_WORK:
                raise TooManyStates("too many ways to match at once")
            united[matched] = out
            return out

        first = self._closure(start, final, _OPEN, at_start=True)
        index = {first: 0}
        order = [first]
        rows = []
        for bits in order:
            row = []
            for mask in masks:
                target = after(bits & mask)
                number = index.get(target)
                if number is None:
                    if len(order) >= max_states:
                        raise TooManyStates(f"more than {max_states} states")
                    number = index[target] = len(order)
                    order.append(target)
                row.append(number)
            rows.append(row)
        delta = np.array(rows, np.int32).reshape(len(order), len(masks))
        return CharDfa(delta, np.array([bool(bits & 1) for bits in order]))
