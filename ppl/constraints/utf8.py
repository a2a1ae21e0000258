"""From an automaton over code points to the minimal automaton over the bytes of UTF-8."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sentax.ppl.constraints.codepoints import END, Partition
from sentax.ppl.constraints.dfa import (
    MAX_STATES,
    Dfa,
    TooManyStates,
    coarsest_partition,
    compress_classes,
    unique_rows,
)
from sentax.ppl.constraints.nfa import CharDfa

_TAIL = 64  # continuation bytes 80..BF
_DEAD = -1


def encode(chars: CharDfa, alphabet: Partition, max_states: int = MAX_STATES) -> Dfa:
    """The byte automaton of a code point automaton, minimal by construction.

    A code point's bytes are a lead and up to three continuations, so all code points form a tree of
    fixed shape: blocks of 64 (one byte to go), of 64 such blocks (two), and of 64 again (three).
    Inside a character a byte automaton is at a node of that tree in some character state, and two
    such positions have the same future exactly where their blocks send the remaining bytes to the
    same states. So three rounds of merging equal rows, one for each number of bytes to go, give the
    minimal automaton: states between characters differ because the character automaton is minimal,
    and differ from states inside one because the two continue with different bytes.

    :param chars: over the letters of `alphabet`; need not be minimal.
    :param max_states: the bound; :class:`TooManyStates` beyond it.
    """
    delta, accepting = _minimal(chars)
    dead = len(delta)
    # One more column: letter -1 leads nowhere.
    delta = np.pad(delta, ((0, 0), (0, 1)), constant_values=dead)

    tree = _tree(alphabet)
    to_one, rows_one = _merge(delta, tree.one, dead, max_states)
    to_two, rows_two = _merge(to_one, tree.two, _DEAD, max_states)
    to_three, rows_three = _merge(to_two, tree.three, _DEAD, max_states)

    # States in order: between characters, then one, two and three bytes to go, then the sink.
    bases = np.cumsum([0, dead, len(rows_one), len(rows_two), len(rows_three)])
    sink = int(bases[-1])
    if sink >= max_states:
        raise TooManyStates(f"more than {max_states} states")

    def at(base: int, targets: np.ndarray, nowhere: int = _DEAD) -> np.ndarray:
        return np.where(targets == nowhere, sink, targets + base)

    table = np.full((sink + 1, 256), sink, np.int32)
    table[:dead, :0x80] = at(0, delta[:, alphabet.at(np.arange(0x80))], dead)
    # C0, C1 would be overlong and F5.. beyond the last code point: they stay dead.
    table[:dead, 0xC2:0xE0] = at(bases[1], to_one[:, tree.lead_one])
    table[:dead, 0xE0:0xF0] = at(bases[2], to_two[:, tree.lead_two])
    table[:dead, 0xF0:0xF5] = at(bases[3], to_three[:, tree.lead_three])
    table[bases[1] : bases[2], 0x80:0xC0] = at(0, rows_one, dead)
    table[bases[2] : bases[3], 0x80:0xC0] = at(bases[1], rows_two)
    table[bases[3] : bases[4], 0x80:0xC0] = at(bases[2], rows_three)
    compressed, classes = compress_classes(table, np.arange(256))
    return Dfa(compressed, classes, np.pad(accepting, (0, sink + 1 - dead)))


def _minimal(chars: CharDfa) -> tuple[np.ndarray, np.ndarray]:
    """The minimal automaton without its dead state; transitions there lead to number len(result)."""
    block = coarsest_partition(chars.delta, chars.accepting)
    _, state, block = np.unique(block, return_index=True, return_inverse=True)
    # Number blocks by their first state, so that the start is 0.
    order = np.argsort(state)
    state = state[order]
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    delta, accepting = rank[block.ravel()[chars.delta[state]]], chars.accepting[state]
    alive = accepting | (delta != np.arange(len(delta))[:, None]).any(axis=1)
    keep = np.flatnonzero(alive)
    moved = np.full(len(delta), len(keep), np.int32)
    moved[keep] = np.arange(len(keep), dtype=np.int32)
    return moved[delta[keep]], accepting[keep]


class _Tree(NamedTuple):
    """The distinct blocks of code points, int [Q, 64], and those to which each lead byte goes.

    `one` holds letters, `two` numbers of rows of `one`, and `three` numbers of rows of `two`.
    """

    one: np.ndarray
    two: np.ndarray
    three: np.ndarray
    lead_one: np.ndarray
    lead_two: np.ndarray
    lead_three: np.ndarray


def _tree(alphabet: Partition) -> _Tree:
    # Row 0 is nowhere and row 1+m is letter m throughout: nearly all blocks, found by their start alone.
    constant = np.arange(-1, len(alphabet.holds))
    one = np.repeat(constant[:, None], _TAIL, axis=1)
    one_at = alphabet.at(np.arange(0, END, _TAIL)) + 1
    mixed = np.unique(alphabet.starts[alphabet.starts % _TAIL != 0] // _TAIL)
    if mixed.size:
        rows = alphabet.at(mixed[:, None] * _TAIL + np.arange(_TAIL))
        first, group = unique_rows(rows)
        one_at[mixed] = len(one) + group
        one = np.concatenate([one, rows[first]])

    grid = one_at.reshape(-1, _TAIL).copy()
    grid[0, : 0x800 // _TAIL] = 0  # overlong: two bytes suffice below 0x800
    grid = np.concatenate([grid, np.zeros((1, _TAIL), grid.dtype)])
    # Blocks of one letter throughout may not occur, and would be states that nothing reaches.
    used, places = np.unique(np.append(grid, one_at[2:32]), return_inverse=True)
    one, grid, lead_one = one[used], places[: grid.size].reshape(grid.shape), places[grid.size :]
    first, two_at = unique_rows(grid)
    two, nowhere = grid[first], two_at[-1]

    supplementary = np.full(5 * _TAIL, nowhere)
    supplementary[16 : END >> 12] = two_at[16:-1]  # overlong below 0x10000, and nothing from END on
    planes = supplementary.reshape(5, _TAIL)
    first, three_at = unique_rows(planes)
    return _Tree(one, two, planes[first], lead_one, two_at[:16], three_at)


def _merge(
    targets: np.ndarray, nodes: np.ndarray, nowhere: int, max_states: int
) -> tuple[np.ndarray, np.ndarray]:
    """Positions with equal futures: what each (character state, block) is called, and their rows.

    :param targets: where a character state goes on each entry of a node, [S, K].
    :param nodes: entries of each block, [Q, 64].
    :param nowhere: the target that stands for the sink.
    :return: the number of each pair, [S, Q] (:data:`_DEAD` where all entries lead to the sink), and
        the row of targets of each number, [R, 64].
    """
    used = np.zeros((targets.shape[1], len(nodes)), np.float32)
    used[nodes, np.arange(len(nodes))[:, None]] = 1
    states, blocks = np.nonzero((targets != nowhere).astype(np.float32) @ used)
    if len(states) > 4 * max_states:
        raise TooManyStates(f"about {len(states)} positions inside characters")
    numbers = np.full((len(targets), len(nodes)), _DEAD, np.int32)
    if not len(states):
        return numbers, np.zeros((0, _TAIL), np.int32)
    rows = targets[states[:, None], nodes[blocks]]
    first, group = unique_rows(rows)
    numbers[states, blocks] = group
    return numbers, rows[first]
