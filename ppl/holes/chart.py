r"""Charts: which symbols of a grammar derive a path between which states of an automaton.

Bar-Hillel, Perles and Shamir (1961) intersect a context-free grammar with an automaton: the symbols of the
intersection are triples :math:`(p, A, q)`, and those that derive something form the least set with

.. math:: (p, t, q) \text{ if an edge from } p \text{ to } q \text{ reads a byte of } t, \qquad
          (p, A, q) \text{ if } A \to B\, C,\ (p, B, r),\ (r, C, q).

Here that set is found from left to right, as Earley (1970) reads a text: for each state `q` and symbol `A` a
bitset of the states `p`, so that a rule is applied to all origins in one operation on integers. A symbol is
looked for only where some beginning of the text predicts it. Over a text without holes this is a parser; the
time is at most cubic in the states, and linear in the rules.
"""

from __future__ import annotations

from collections.abc import Sequence

from sentax.ppl.holes.grammar import ByteSet, Rules, bits
from sentax.ppl.holes.paths import Group, Paths

Column = dict[int, int]
"""The triples that end in one state: by symbol, a bitset of the states in which they begin."""


class Chart:
    """The triples over an automaton's states.

    The mark :attr:`Rules.begin` leads from state 0 to state 1, with which the text begins; an automaton's own
    states come behind these (:class:`~sentax.ppl.holes.paths.Paths`). Columns are only ever added;
    :meth:`branch` is a copy that shares them.

    :param rules: of the grammar.
    """

    __slots__ = ("begun", "columns", "predicted", "rules", "waiting")

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.columns: list[Column] = [{}]
        # By state, a bitset of the symbols that may begin there; and by symbol, of the states where it may.
        self.predicted = [1 << rules.root | 1 << rules.begin]
        self.begun = [int(symbol in (rules.root, rules.begin)) for symbol in range(rules.size)]
        # By symbol, a bitset of the states that it leads to.
        self.waiting = [0] * rules.size
        self.columns.append({})
        self.predicted.append(0)
        self._close(1, {rules.begin: 1})

    def branch(self) -> Chart:
        """A chart that goes on from here by itself."""
        other = object.__new__(Chart)
        other.rules = self.rules
        other.columns, other.predicted = self.columns.copy(), self.predicted.copy()
        other.waiting, other.begun = self.waiting.copy(), self.begun.copy()
        return other

    @property
    def is_alive(self) -> bool:
        """Whether a text of the grammar begins with what leads to the last state.

        Exact behind known text; behind a hole that a text may go around in it errs on the side of true.
        """
        return bool(self.columns[-1])

    @property
    def accepts(self) -> bool:
        """Whether a text of the grammar leads to the last state."""
        return bool(self.columns[-1].get(self.rules.root, 0) & 1)

    def read(self, byte: int) -> None:
        """One more state, behind one more known byte."""
        self._single(((len(self.columns) - 1, 1 << byte),), ())

    def extend(self, paths: Paths) -> None:
        """All the states of an automaton that continues this one."""
        assert paths.first == len(self.columns)
        for group in paths.groups:
            if not group.is_cyclic:
                at = group.states[0] - paths.first
                self._single(paths.reading[at], paths.empty[at])
            else:
                self._cycle(group, paths)

    def _single(self, edges: Sequence[tuple[int, ByteSet]], empty: Sequence[int]) -> None:
        """A state that no path comes back to: every column that it needs is complete."""
        column: Column = {}
        state = len(self.columns)
        self.columns.append(column)
        self.predicted.append(0)
        for source in empty:
            # What ends where an empty edge begins ends here too, with all that follows from it.
            for symbol, origins in self.columns[source].items():
                column[symbol] = column.get(symbol, 0) | origins
        for symbol, origins in column.items():
            self.waiting[symbol] |= 1 << state
            self._predict(symbol, origins, state)
        agenda: Column = {}
        for source, members in edges:
            for symbol in self._scan(source, members):
                agenda[symbol] = agenda.get(symbol, 0) | 1 << source
        self._close(state, agenda)

    def _scan(self, source: int, members: ByteSet) -> list[int]:
        """The terminals that may begin in a state and hold one of some bytes."""
        predicted, terminals = self.predicted[source], self.rules.terminals
        return [symbol for symbol, held in terminals.items() if held & members and predicted >> symbol & 1]

    def _predict(self, symbol: int, origins: int, state: int, anywhere: int = 0) -> None:
        """What may begin in a state to which a symbol leads from some origins.

        :param anywhere: states of which it is not known yet what may begin there.
        """
        begun, predicted = self.begun, self.predicted[state]
        for parent, partner in self.rules.left[symbol]:
            if not predicted >> partner & 1 and origins & (begun[parent] | anywhere):
                new = self.rules.first[partner] & ~predicted
                predicted |= new
                for other in bits(new):
                    begun[other] |= 1 << state
        self.predicted[state] = predicted

    def _close(self, state: int, agenda: Column) -> None:
        """Everything that follows from triples that end in a state."""
        columns, waiting, begun = self.columns, self.waiting, self.begun
        column, unit, right = columns[state], self.rules.unit, self.rules.right
        while agenda:
            symbol, origins = agenda.popitem()
            known = column.get(symbol, 0)
            origins &= ~known
            if not origins:
                continue
            if not known:
                waiting[symbol] |= 1 << state
            column[symbol] = known | origins
            self._predict(symbol, origins, state)
            for parent in unit[symbol]:
                if found := origins & begun[parent]:
                    agenda[parent] = agenda.get(parent, 0) | found
            for parent, partner in right[symbol]:
                found = 0
                rest = origins & waiting[partner]
                while rest:
                    low = rest & -rest
                    found |= columns[low.bit_length() - 1][partner]
                    rest ^= low
                if found := found & begun[parent]:
                    agenda[parent] = agenda.get(parent, 0) | found

    def _cycle(self, group: Group, paths: Paths) -> None:
        """States that paths may go around in: everything is applied until nothing is new."""
        columns, rules, first = self.columns, self.rules, group.states[0]
        for _ in group.states:
            columns.append({})
            self.predicted.append(0)
        agenda: dict[tuple[int, int], int] = {}
        # What begins in these states comes to light bit by bit: until then anything may.
        own = sum(1 << state for state in group.states)

        def add(state: int, symbol: int, origins: int) -> None:
            origins &= (self.begun[symbol] | own) & ~columns[state].get(symbol, 0)
            if origins:
                agenda[state, symbol] = agenda.get((state, symbol), 0) | origins

        inside: dict[int, list[int]] = {state: [] for state in group.states}
        for state in group.states:
            for source in paths.empty[state - paths.first]:
                if source < first:
                    for symbol, origins in columns[source].items():
                        add(state, symbol, origins)
                else:
                    inside[source].append(state)
        scanned: dict[tuple[int, int], int] = {}
        while True:
            for state in group.states:
                for source, members in paths.reading[state - paths.first]:
                    # Again if the source has come to predict more.
                    if scanned.get((source, state)) != self.predicted[source]:
                        scanned[source, state] = self.predicted[source]
                        for symbol in self._scan(source, members):
                            add(state, symbol, 1 << source)
            if not agenda:
                return
            while agenda:
                (state, symbol), origins = agenda.popitem()
                column = columns[state]
                origins &= ~column.get(symbol, 0)
                if not origins:
                    continue
                self.waiting[symbol] |= 1 << state
                column[symbol] = column.get(symbol, 0) | origins
                self._predict(symbol, origins, state, own)
                for target in inside[state]:
                    add(target, symbol, origins)
                for parent in rules.unit[symbol]:
                    add(state, parent, origins)
                for parent, partner in rules.right[symbol]:
                    for r in bits(origins & self.waiting[partner]):
                        add(state, parent, columns[r][partner])
                # What stands to its right was perhaps there before.
                for parent, partner in rules.left[symbol]:
                    for target in group.states:
                        if columns[target].get(partner, 0) >> state & 1:
                            add(target, parent, origins)
