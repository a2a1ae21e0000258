"""Finite automata over byte classes on the host: minimisation and Boolean algebra in NumPy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MAX_STATES = 1 << 16
"""The bound on the states of a compiled constraint: beyond it, tables cost more than they save."""


class TooManyStates(ValueError):
    """An automaton would exceed its bound on states."""


class Dfa(NamedTuple):
    """A complete deterministic automaton: state 0 starts, every state has a successor everywhere.

    :param delta: successors by state and byte class, int32 [S, C].
    :param classes: the class of each byte, int32 [256].
    :param accepting: the states that end a text of the language, bool [S].
    """

    delta: np.ndarray
    classes: np.ndarray
    accepting: np.ndarray

    def live(self) -> np.ndarray:
        """The states from which an accepting one can be reached, bool [S]."""
        predecessors = _Predecessors(self.delta)
        live = self.accepting.copy()
        frontier = np.flatnonzero(live)
        while frontier.size:
            found = predecessors(frontier)
            frontier = found[~live[found]]
            live[frontier] = True
        return live

    def complement(self) -> Dfa:
        """The byte strings that are not in the language; minimal where this automaton is."""
        return self._replace(accepting=~self.accepting)

    def minimise(self) -> Dfa:
        """The smallest automaton of the language, canonical: equal languages give equal arrays."""
        # A state that nothing reaches would survive as a block of its own.
        delta, accepting = _explore(self.delta, self.accepting)
        block = coarsest_partition(delta, accepting)
        number, representative = np.unique(block, return_index=True)
        dense = np.empty(block.max() + 1, np.int32)
        dense[number] = np.arange(len(number), dtype=np.int32)
        delta, accepting = dense[block[delta[representative]]], accepting[representative]
        delta, classes = compress_classes(delta, self.classes)
        # Classes now come in a fixed order, and so does the exploration from the start state's block.
        delta, accepting = _explore(delta, accepting, start=int(dense[block[0]]))
        return Dfa(delta, classes, accepting)


def _explore(delta: np.ndarray, accepting: np.ndarray, start: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Keep what `start` reaches, numbered in order of first discovery, level by level."""
    rank = np.full(len(delta), -1, np.int32)
    rank[start], count = 0, 1
    levels = [np.array([start])]
    while levels[-1].size:
        seen = delta[levels[-1]].ravel()
        seen = seen[rank[seen] < 0]
        found, first = np.unique(seen, return_index=True)
        found = found[np.argsort(first)]
        rank[found] = np.arange(count, count + found.size, dtype=np.int32)
        count += found.size
        levels.append(found)
    order = np.concatenate(levels)
    return rank[delta[order]], accepting[order]


class _Predecessors:
    """Sources of the edges into a set of states, by one counting sort of all edges."""

    def __init__(self, delta: np.ndarray) -> None:
        states, classes = delta.shape
        targets = delta.ravel()
        self.sources = np.argsort(targets, kind="stable") // classes
        self.ends = np.cumsum(np.bincount(targets, minlength=states))
        self.degree = np.diff(self.ends, prepend=0)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        degree = self.degree[states]
        # Concatenated ranges ends-degree .. ends, without a Python loop.
        offsets = np.repeat(self.ends[states] - np.cumsum(degree), degree)
        return np.unique(self.sources[offsets + np.arange(degree.sum())])


def unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact distinct rows by comparing their bytes: first occurrences, and each row's number."""
    rows = np.ascontiguousarray(rows)
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    # Number rows by first occurrence, so that the result does not depend on byte order.
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.ravel()]


def compress_classes(delta: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge the byte classes that no state tells apart; classes come in order of their first byte."""
    _, merged = unique_rows(delta.T)
    by_byte = merged[classes]
    used, first = np.unique(by_byte, return_index=True)
    order = used[np.argsort(first)]
    rank = np.full(merged.max() + 1, -1, np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    columns = np.array([np.flatnonzero(merged == k)[0] for k in order])
    return np.ascontiguousarray(delta[:, columns]), rank[by_byte]


def coarsest_partition(delta: np.ndarray, accepting: np.ndarray) -> np.ndarray:
    """Blocks of states with the same language: Hopcroft's refinement, one vectorised round a time.

    Invariant: within a block all successors lie in the same blocks, as numbered before the last
    round. A round looks at the states with an edge into a block that has just got its number;
    the others of their block have no such edge, so the two never fall together. Of each split the
    largest part keeps the old number, so a state is renumbered at most log2(S) times.

    :param delta: successors, int [S, C].
    :param accepting: bool [S].
    :return: the block of each state, int64 [S].
    """
    block = accepting.astype(np.int64)
    sizes = np.zeros(len(block) + 2, np.int64)  # of the blocks; there are never more than states
    sizes[:2] = np.bincount(block, minlength=2)
    if sizes[:2].min() == 0:
        return np.zeros_like(block)
    blocks = 2
    predecessors = _Predecessors(delta)
    changed = np.flatnonzero(block == int(np.argmin(sizes[:2])))
    while changed.size:
        dirty = predecessors(changed)
        own = block[dirty]
        first, group = unique_rows(np.column_stack([own, block[delta[dirty]]]))
        counts = np.bincount(group)
        parent = own[first]
        rest = sizes[parent] - np.bincount(parent, weights=counts)[parent].astype(np.int64)
        # One part of each parent keeps its number: the untouched rest or the largest group.
        order = np.lexsort((-counts, parent))
        leads = np.zeros(len(parent), bool)
        leads[order[np.flatnonzero(np.diff(parent[order], prepend=-1))]] = True
        keeps = leads & (counts >= rest)
        fresh = blocks + np.cumsum(~keeps) - 1
        number = np.where(keeps, parent, fresh)
        # Where the largest group takes the old number, an untouched rest needs a new one.
        moved = keeps & (rest > 0)
        touched = np.zeros(len(block), bool)
        touched[dirty] = True
        sizes[fresh[~keeps]] = counts[~keeps]
        blocks += int((~keeps).sum())
        pieces = []
        if moved.any():
            renamed = np.full(blocks, -1, np.int64)
            renamed[parent[moved]] = blocks + np.arange(moved.sum())
            states = np.flatnonzero((renamed[block] >= 0) & ~touched)
            block[states] = renamed[block[states]]
            pieces.append(states)
            sizes[renamed[parent[moved]]] = rest[moved]
            blocks += int(moved.sum())
        sizes[parent[leads]] = np.where(keeps, counts, rest)[leads]
        block[dirty] = number[group]
        pieces.append(dirty[~keeps[group]])
        changed = np.concatenate(pieces)
    return block


def product(a: Dfa, b: Dfa, accept, max_states: int = MAX_STATES) -> Dfa:
    """The reachable part of two automata run side by side, minimised.

    :param accept: combines the two acceptances, e.g. :func:`numpy.logical_and`.
    :param max_states: raise :class:`TooManyStates` once more pairs than this are reached.
    """
    first, classes = unique_rows(np.column_stack([a.classes, b.classes]))
    columns_a, columns_b = a.classes[first], b.classes[first]
    width = len(b.delta)
    # A pair is the number left * width + right; `known` is sorted, `order` is by discovery.
    known = order = frontier = np.zeros(1, np.int64)
    rows = []
    while frontier.size:
        left, right = np.divmod(frontier, width)
        row = a.delta[left][:, columns_a].astype(np.int64) * width + b.delta[right][:, columns_b]
        rows.append(row)
        reached = np.unique(row)
        place = np.searchsorted(known, reached)
        new = known[np.minimum(place, len(known) - 1)] != reached
        frontier = reached[new]
        known = np.insert(known, place[new], frontier)
        order = np.concatenate([order, frontier])
        if len(order) > max_states:
            raise TooManyStates(f"the product of two automata has more than {max_states} states")
    rank = np.empty(len(known), np.int32)
    rank[np.searchsorted(known, order)] = np.arange(len(order), dtype=np.int32)
    delta = rank[np.searchsorted(known, np.concatenate(rows))]
    left, right = np.divmod(order, width)
    return Dfa(delta, classes.astype(np.int32), accept(a.accepting[left], b.accepting[right])).minimise()
