"""A shortest text of a chart."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from typing import Any

from sentax.ppl.holes.chart import Chart
from sentax.ppl.holes.grammar import ByteSet, bits
from sentax.ppl.holes.marks import marks
from sentax.ppl.holes.paths import Paths

Triple = tuple[int, int, int]
"""`(p, symbol, q)`: the symbol derives a path from state `p` to `q`."""


def shortest(chart: Chart, paths: Paths) -> bytes:
    """A shortest text of the grammar along the paths of an automaton that its chart accepts.

    By Knuth's (1977) generalisation of Dijkstra's algorithm to grammars: triples are settled in the order of
    their lengths. Of equally short texts it takes any, the same one each time.

    :param chart: of all of `paths`; it must accept.
    """
    rules, used = chart.rules, marks(chart, paths).columns
    order = itertools.count()
    heap: list[tuple[int, int, Triple, Any]] = [(0, next(order), (0, rules.begin, 1), b"")]
    for q in range(paths.first, paths.size):
        for source, members in paths.reading[q - paths.first]:
            for symbol, held in rules.terminals.items():
                if members & held and used[q].get(symbol, 0) >> source & 1:
                    byte = bytes([_readable(members & held)])
                    heapq.heappush(heap, (1, next(order), (source, symbol, q), byte))
    skips: dict[int, list[int]] = defaultdict(list)
    for q in range(paths.first, paths.size):
        for source in paths.empty[q - paths.first]:
            skips[source].append(q)

    settled: dict[Triple, tuple[int, Any]] = {}
    by_start: dict[tuple[int, int], list[int]] = defaultdict(list)
    by_end: dict[tuple[int, int], list[int]] = defaultdict(list)
    goal = (0, rules.root, len(chart.columns) - 1)

    def push(length: int, p: int, symbol: int, q: int, parts: Any) -> None:
        if used[q].get(symbol, 0) >> p & 1 and (p, symbol, q) not in settled:
            heapq.heappush(heap, (length, next(order), (p, symbol, q), parts))

    while goal not in settled:
        length, _, triple, parts = heapq.heappop(heap)
        if triple in settled:
            continue
        settled[triple] = length, parts
        p, symbol, q = triple
        by_start[symbol, p].append(q)
        by_end[symbol, q].append(p)
        for target in skips[q]:
            push(length, p, symbol, target, (triple,))
        for parent in rules.unit[symbol]:
            push(length, p, parent, q, (triple,))
        for parent, partner in rules.right[symbol]:
            for start in by_end[partner, p]:
                other = (start, partner, p)
                push(length + settled[other][0], start, parent, q, (other, triple))
        for parent, partner in rules.left[symbol]:
            for end in by_start[partner, q]:
                other = (q, partner, end)
                push(length + settled[other][0], p, parent, end, (triple, other))

    pieces, stack = [], [goal]
    while stack:
        parts = settled[stack.pop()][1]
        if isinstance(parts, bytes):
            pieces.append(parts)
        else:
            stack.extend(reversed(parts))
    return b"".join(pieces)


def _readable(members: ByteSet) -> int:
    """One of some bytes: the first printable one, if there is any."""
    printable = members >> 32 << 32
    return next(iter(bits(printable or members)))
