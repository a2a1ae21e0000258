"""Sets of Unicode code points as sorted boundaries, and the coarsest partition that respects them."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
import regex as unicode_regex

END = 0x110000
SURROGATES = (0xD800, 0xE000)
"""Code points that no UTF-8 text contains."""

_CASED_END = 0x20000
"""Above this no code point has a case (checked by a test)."""

CodePoints = np.ndarray
"""A set: membership flips at each entry of a strictly increasing int32 array, from outside at -1."""


def spans(*pairs: tuple[int, int]) -> CodePoints:
    """The union of half-open intervals."""
    if not pairs:
        return np.zeros(0, np.int32)
    starts, stops = np.array(sorted(pairs), np.int32).T
    reach = np.maximum.accumulate(stops)
    # A new interval starts where everything before has ended.
    new = np.append(True, starts[1:] > reach[:-1])
    last = np.append(np.flatnonzero(new)[1:] - 1, len(starts) - 1)
    return np.column_stack([starts[new], reach[last]]).ravel()


def union(*sets: CodePoints) -> CodePoints:
    """The code points of any of the sets."""
    return spans(*(tuple(pair) for s in sets for pair in s.reshape(-1, 2).tolist()))


def complement(points: CodePoints) -> CodePoints:
    """All other code points."""
    return np.setxor1d(points, np.array([0, END], np.int32), assume_unique=True)


def contains(points: CodePoints, values: np.ndarray) -> np.ndarray:
    """Membership of each value, bool like `values`."""
    return np.searchsorted(points, values, side="right") % 2 == 1


@cache
def _all_text() -> str:
    return np.arange(END, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")


@cache
def category(name: str, ascii_only: bool) -> CodePoints:
    r"""`digit`, `space` or `word` exactly as CPython's `re` has them, found by asking it.

    :param ascii_only: the sets of the flag `a`.
    """
    escape = {"digit": r"\d+", "space": r"\s+", "word": r"\w+"}[name]
    text = _all_text()[:128] if ascii_only else _all_text()
    return spans(*(m.span() for m in re.finditer(escape, text)))


@cache
def found_by_regex(source: str, flags: str) -> CodePoints:
    r"""What one set such as `\p{Greek}` holds, by scanning all code points with the `regex` package.

    :param source: an expression of that package for one character.
    :param flags: those in force, of `i`, `a` and `s`.
    """
    bits = sum(getattr(unicode_regex, letter.upper()) for letter in flags)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what a set may mean one day
        runs = unicode_regex.compile(f"(?:{source})+", bits)
    return spans(*(m.span() for m in runs.finditer(_all_text())))


@cache
def _lower(ascii_only: bool) -> np.ndarray:
    if ascii_only:
        table = np.arange(_CASED_END)
        table[ord("A") : ord("Z") + 1] += 32
        return table
    # One code point has a lower case of two, and its simple mapping is the first of them.
    return np.array([ord(chr(c).lower()[0]) for c in range(_CASED_END)])


def fold(
    members: CodePoints, categories: CodePoints, ascii_only: bool, same: dict[int, tuple[int, ...]]
) -> CodePoints:
    """What a class matches where case is ignored, by the rule of CPython's compiler.

    A code point matches if its lower case is the lower case of a member, or equal to one by an
    extra equivalence, or in one of the categories, which are not folded.

    :param members: the literals and ranges of the class.
    :param categories: the union of its categories.
    :param same: the extra equivalences, lower case to lower cases.
    """
    lower = _lower(ascii_only)
    folded = np.zeros(_CASED_END, bool)
    folded[lower[_below_cased_end(members)]] = True
    if not ascii_only:
        for point, others in same.items():
            if folded[point]:
                folded[list(others)] = True
    folded |= _below_cased_end(categories)
    flips = np.flatnonzero(np.diff(folded[lower].astype(np.int8), prepend=0))
    if len(flips) % 2:
        flips = np.append(flips, _CASED_END)
    tail = union(members, categories)
    tail = tail[np.searchsorted(tail, _CASED_END, side="right") :]
    if len(tail) % 2:
        tail = np.append(np.int32(_CASED_END), tail)
    return union(flips.astype(np.int32), tail)


def _below_cased_end(points: CodePoints) -> np.ndarray:
    flips = np.zeros(_CASED_END, bool)
    flips[points[points < _CASED_END]] = True
    return np.logical_xor.accumulate(flips)


class Partition(NamedTuple):
    """Every code point's letter: those that no set of a pattern tells apart share one.

    :param starts: where each run of one letter begins, int [I], the first at 0.
    :param letters: the letter of each run, int [I]; -1 for code points in no set, and surrogates.
    :param holds: which sets contain each letter, bool [M, A].
    """

    starts: np.ndarray
    letters: np.ndarray
    holds: np.ndarray

    def at(self, points: np.ndarray) -> np.ndarray:
        """The letters of code points."""
        return self.letters[np.searchsorted(self.starts, points, side="right") - 1]


def partition(sets: list[CodePoints]) -> Partition:
    """The coarsest partition of the code points of which each set is a union."""
    starts = np.unique(np.concatenate([[0, *SURROGATES], *sets]))
    starts = starts[starts < END]
    holds = np.stack([contains(s, starts) for s in sets], axis=1)
    holds[(starts >= SURROGATES[0]) & (starts < SURROGATES[1])] = False
    _, first, letters = np.unique(np.packbits(holds, axis=1), axis=0, return_index=True, return_inverse=True)
    letters = letters.ravel()
    # The letter of no set sorts first, where it occurs, and needs no column: it leads nowhere.
    nowhere = int(not holds[first[0]].any())
    return Partition(starts, letters - nowhere, holds[first[nowhere:]])
