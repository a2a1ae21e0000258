"""Which edges of an automaton take part in a text of the grammar: the other half of the intersection."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from sentax.ppl.holes.chart import Chart, Column
from sentax.ppl.holes.grammar import ByteSet, bits
from sentax.ppl.holes.paths import Group, Paths


class Marks(NamedTuple):
    """What an automaton's edges can still contribute.

    :param bytes: by edge `(source, target)`, the bytes with which it lies on the path of some text of the
        grammar; edges without any are missing.
    :param skips: the empty edges `(source, target)` that lie on such a path.
    :param columns: the triples that a derivation of such a text uses, by state.
    """

    bytes: dict[tuple[int, int], ByteSet]
    skips: set[tuple[int, int]]
    columns: list[Column]


def marks(chart: Chart, paths: Paths) -> Marks:
    """What is used of a chart, from its last state's root down: the outside pass to the chart's inside pass.

    An edge with a byte is marked if and only if some text of the grammar goes through it there: one pass
    answers
    :func:`~sentax.ppl.holes.completable.completable` for every byte of every edge.

    :param chart: of all of `paths`.
    """
    rules, columns = chart.rules, chart.columns
    used: list[Column] = [{} for _ in columns]
    marked: dict[tuple[int, int], ByteSet] = defaultdict(int)
    skips: set[tuple[int, int]] = set()
    if chart.accepts:
        used[-1][rules.root] = 1
    for group in (*reversed(paths.groups), Group(range(1, 2), False)):
        first = group.states[0]
        agenda = {(q, symbol): origins for q in group.states for symbol, origins in used[q].items()}
        for q in group.states:
            used[q] = {}

        def add(q: int, symbol: int, origins: int) -> None:
            origins &= columns[q].get(symbol, 0)
            if q < first:  # noqa: B023
                if origins:
                    used[q][symbol] = used[q].get(symbol, 0) | origins
            elif origins := origins & ~used[q].get(symbol, 0):
                agenda[q, symbol] = agenda.get((q, symbol), 0) | origins  # noqa: B023

        while agenda:
            (q, symbol), origins = agenda.popitem()
            known = used[q].get(symbol, 0)
            origins &= ~known
            if not origins:
                continue
            used[q][symbol] = known | origins
            column = columns[q]
            for source in paths.empty[q - paths.first] if q >= paths.first else ():
                if origins & columns[source].get(symbol, 0):
                    skips.add((source, q))
                    add(source, symbol, origins)
            for child in rules.unit_of[symbol]:
                add(q, child, origins)
            for left, right in rules.pairs[symbol]:
                rest = column.get(right, 0) & chart.waiting[left]
                split = 0
                for r in bits(rest):
                    if found := origins & columns[r][left]:
                        add(r, left, found)
                        split |= 1 << r
                if split:
                    add(q, right, split)
            if symbol in rules.terminals:
                held = rules.terminals[symbol]
                for source, members in paths.reading[q - paths.first]:
                    if origins >> source & 1 and members & held:
                        marked[source, q] |= members & held
    return Marks(dict(marked), skips, used)
