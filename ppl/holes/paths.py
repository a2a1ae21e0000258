"""Texts with holes as automata: the regular language of all the ways to fill them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.dfa import Dfa
from sentax.ppl.holes.grammar import ALL_BYTES, ByteSet, edges_of


@dataclass(frozen=True, eq=False)
class Hole:
    """A place in a text that is not written yet.

    :param where: the texts that may fill it, an automaton (:func:`~sentax.ppl.constraints.regex.regex`,
        :func:`~sentax.ppl.constraints.strings.choice`, ... and what `&`, `|`, `~` make of them); None
        for any bytes at all.
    :param max_bytes: without `where`, the most bytes that may fill it; None for any number.
    :raises TypeError: if `where` is no automaton.
    :raises ValueError: if both are given, or `max_bytes` is negative.
    """

    where: Automaton | None = None
    max_bytes: int | None = None
    dfa: Dfa | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.max_bytes is not None and self.max_bytes < 0:
            raise ValueError(f"Hole: max_bytes must be at least 0, got {self.max_bytes}")
        if self.where is None:
            return
        if self.max_bytes is not None:
            raise ValueError("Hole: give `where` or `max_bytes`; an automaton bounds its texts itself")
        if not isinstance(self.where, Automaton):
            kind = type(self.where).__name__
            raise TypeError(
                f"Hole: `where` is an automaton such as regex('[0-9]*'), or regex('.{{2,9}}', 's') for a "
                f"length, not a {kind}"
            )
        object.__setattr__(self, "dfa", self.where.to_dfa())


Partial = Sequence[str | bytes | Hole]
"""A text with holes: its known pieces and its holes, in order."""


class Edge(NamedTuple):
    """A way from a state to the next that reads one of some bytes."""

    source: int
    members: ByteSet


class Group(NamedTuple):
    """States that are looked at together: one, or some that a text may go around in."""

    states: range
    is_cyclic: bool


class Paths:
    """A nondeterministic automaton that is grown from left to right.

    :attr:`end` is the state at the end of what was added so far. No edge leads back from a later group of
    states to an earlier one.

    :param first: the number of the first state to be made. Earlier ones belong to what this automaton
        continues; a chart begins with two (:class:`~sentax.ppl.holes.chart.Chart`).
    """

    def __init__(self, first: int = 2) -> None:
        self.first = first
        self.reading: list[list[Edge]] = []
        self.empty: list[list[int]] = []
        self.groups: list[Group] = []
        self.end = first - 1

    @property
    def size(self) -> int:
        """The number of states, those before :attr:`first` included."""
        return self.first + len(self.reading)

    def state(self) -> int:
        """One more state, a group of its own."""
        self.reading.append([])
        self.empty.append([])
        self.groups.append(Group(range(self.size - 1, self.size), False))
        return self.size - 1

    def read(self, source: int, target: int, members: ByteSet) -> None:
        """An edge that reads a byte."""
        self.reading[target - self.first].append(Edge(source, members))

    def skip(self, source: int, target: int) -> None:
        """An edge that reads nothing."""
        self.empty[target - self.first].append(source)

    def add(self, partial: Partial) -> None:
        """The text goes on with known pieces and holes.

        :raises TypeError: if a part is neither text nor a :class:`Hole`.
        """
        if isinstance(partial, str | bytes | Hole):
            raise TypeError(f"a text with holes is a list of pieces, not {partial!r}")
        for part in partial:
            if isinstance(part, Hole):
                self.add_hole(part)
            elif isinstance(part, str | bytes):
                self.add_text(part.encode() if isinstance(part, str) else part)
            else:
                raise TypeError(f"a text with holes consists of str, bytes and Hole, not {type(part).__name__}")

    def add_text(self, text: bytes) -> None:
        """The text goes on with known bytes."""
        for byte in text:
            source, self.end = self.end, self.state()
            self.read(source, self.end, 1 << byte)

    def add_hole(self, hole: Hole) -> None:
        """The text goes on with any text of a hole."""
        if hole.max_bytes is not None:
            self._add_at_most(hole.max_bytes)
            return
        if hole.dfa is None:
            # A state of its own, so that what leads to this one from elsewhere need not be looked at again.
            source, self.end = self.end, self.state()
            self.skip(source, self.end)
            self.read(self.end, self.end, ALL_BYTES)
            self.groups[-1] = Group(range(self.end, self.end + 1), True)
            return
        live = hole.dfa.live()
        number = {s: self.size + i for i, s in enumerate(live.nonzero()[0].tolist())}
        block = len(self.groups)
        for _ in number:
            self.state()
        self.skip(self.end, number[0])
        backward: dict[int, int] = {}
        for (source, target), members in edges_of(hole.dfa):
            if live[source] and live[target]:
                self.read(number[source], number[target], members)
                if target <= source:
                    low = number[target]
                    backward[low] = max(backward.get(low, 0), number[source])
        self.groups[block:] = _joined(number.values(), backward)
        self.end = self.state()
        for s in hole.dfa.accepting.nonzero()[0].tolist():
            self.skip(number[s], self.end)

    def _add_at_most(self, count: int) -> None:
        """The text goes on with any bytes, so many at most."""
        ends = [self.end]
        for _ in range(count):
            self.end = self.state()
            self.read(ends[-1], self.end, ALL_BYTES)
            ends.append(self.end)
        self.end = self.state()
        for end in ends:
            self.skip(end, self.end)


def _joined(states: Iterable[int], backward: dict[int, int]) -> list[Group]:
    """Groups of neighbours, such that every edge back stays in its group.

    :param backward: for the targets of edges back, their last source.
    """
    groups: list[Group] = []
    start, last = None, -1
    for state in states:
        if start is None:
            start, last = state, -1
        last = max(last, backward.get(state, -1))
        if last <= state:
            groups.append(Group(range(start, state + 1), last >= start))
            start = None
    return groups
