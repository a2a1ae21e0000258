"""Thompson's construction with automata as letters: parts joined by empty edges, made deterministic."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sentax.ppl.constraints.dfa import MAX_STATES, Dfa, TooManyStates, unique_rows


class Assembly:
    """Places joined by parts; the language is what is read on the ways from `start` to `final`.

    A part is an automaton between two places. Its states are copied in, so one part may stand in many spots.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Dfa, int]] = []  # each with the number of its first state
        self._states = 0
        self._empty: dict[int, list[int]] = {}
        self.start = self.place()
        self.final = self.place()
        self.anything = self.place()
        """Where all that follows is allowed; joining nothing else to it keeps the automaton small."""
        self.skip(self.anything, self.final)

    def place(self) -> int:
        """A new place."""
        self._states += 1
        return self._states - 1

    def skip(self, source: int, target: int) -> None:
        """Allow to go from one place to another without reading."""
        self._empty.setdefault(source, []).append(target)

    def read(self, source: int, target: int, *parts: Dfa) -> None:
        """Allow to go from one place to another by texts of the parts' languages, one after another."""
        for part in parts:
            base = self._states
            self._states += len(part.delta)
            self._parts.append((part, base))
            self.skip(source, base)
            source = self.place()
            for state in np.flatnonzero(part.accepting).tolist():
                self.skip(base + state, source)
        self.skip(source, target)

    def build(self, max_states: int = MAX_STATES) -> Dfa:
        """The minimal automaton of the language, by subset construction.

        Where the parts are joined without ambiguity nearly all subsets hold one state; the rows of those are
        copied in bulk.

        :raises TooManyStates: if it needs more subsets than `max_states`.
        """
        delta, classes = self._table()
        reads = (delta != self._states).any(axis=1)
        numbers: dict[tuple[tuple[int, ...], bool], int] = {}
        subsets: list[tuple[int, ...]] = []

        def number(states: Iterable[int]) -> int:
            closure = self._closure(states)
            if self.anything in closure:
                closure = {self.anything, self.final}
            key = tuple(sorted(s for s in closure if reads[s])), self.final in closure
            if key not in numbers:
                if len(numbers) >= max_states:
                    raise TooManyStates(f"more than {max_states} states")
                numbers[key] = len(subsets)
                subsets.append(key[0])
            return numbers[key]

        number([self.start])
        alone = np.full(self._states + 1, -1, np.int32)  # the subset that follows each state alone
        rows: list[np.ndarray] = []
        while len(rows) < len(subsets):
            batch = subsets[len(rows) :]
            targets = delta[[states[0] if states else self._states for states in batch]]
            single = np.array([len(states) < 2 for states in batch])
            for state in np.unique(targets[single]).tolist():
                if alone[state] < 0:
                    alone[state] = number([state])
            block = alone[targets]
            for i in np.flatnonzero(~single).tolist():
                columns = delta[list(batch[i])].T
                first, column = unique_rows(columns)
                block[i] = np.array([number(s) for s in columns[first].tolist()], np.int32)[column]
            rows.extend(block)
        accepting = np.array([final for _, final in numbers])
        return Dfa(np.stack(rows), classes, accepting).minimise()

    def _closure(self, states: Iterable[int]) -> set[int]:
        """What can be reached without reading."""
        closure = set(states)
        stack = list(closure)
        while stack:
            for target in self._empty.get(stack.pop(), ()):
                if target not in closure:
                    closure.add(target)
                    stack.append(target)
        return closure

    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Successors over the byte classes that no part tells apart; the last row, and target, is nowhere."""
        distinct = {id(part): part for part, _ in self._parts}
        columns = [part.classes for part in distinct.values()] or [np.zeros(256, np.int32)]
        first, classes = unique_rows(np.column_stack(columns))
        rows = {key: np.where(p.live()[p.delta], p.delta, -1) for key, p in distinct.items()}
        rows = {key: row[:, distinct[key].classes[first]] for key, row in rows.items()}
        delta = np.full((self._states + 1, len(first)), self._states, np.int32)
        delta[self.anything] = self.anything
        for part, base in self._parts:
            row = rows[id(part)]
            delta[base : base + len(row)] = np.where(row < 0, self._states, row + base)
        return delta, classes.astype(np.int32)
