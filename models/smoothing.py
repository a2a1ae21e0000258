"""Counts of n-grams, and the smoothing that turns them into probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int


class Level(NamedTuple):
    """The distinct k-grams of a corpus, sorted; those of one token (k = 1) are all V tokens.

    :param parent: [M], the number (in the level above) of the gram without its last token.
    :param token: [M], its last token.
    :param suffix: [M], the number (in the level above) of the gram without its first token.
    :param occurrences: [M], at least 1 for k > 1.
    :param begins: [M], whether it starts at the beginning of a text.
    """

    parent: Int[np.ndarray, " M"]
    token: Int[np.ndarray, " M"]
    suffix: Int[np.ndarray, " M"]
    occurrences: Int[np.ndarray, " M"]
    begins: Bool[np.ndarray, " M"]


class Smoothed(NamedTuple):
    """A level's probabilities: ``p(w | h) = share(h w) + backoff(h) p(w | h')``.

    :param share: [M], of each gram.
    :param backoff: of each gram of the level above, 1 where nothing followed it.
    """

    share: Float[np.ndarray, " M"]
    backoff: Float[np.ndarray, " P"]


class Smoothing(Protocol):
    """A way to keep mass for what was not seen; a frozen dataclass."""

    def __call__(self, level: Level, longer: Level | None, num_parents: int) -> Smoothed:
        """
        :param level: the grams of this length.
        :param longer: those one token longer, None for the longest.
        :param num_parents: how many grams the level above has.
        """
        ...


@dataclasses.dataclass(frozen=True)
class KneserNey:
    r"""Interpolated Kneser-Ney (Kneser and Ney 1995; Chen and Goodman 1999, eq. 4.18).

    .. math:: p(w \mid h) = \frac{\max(c(h w) - D, 0)}{\sum_v c(h v)}
        + \frac{D \, |\{v : c(h v) > 0\}|}{\sum_v c(h v)} \, p(w \mid h')

    Below the longest grams, :math:`c` counts the different tokens seen in front of a gram, not its
    occurrences (but for grams at the beginning of a text, which have nothing in front).

    :param discount: D, between 0 and 1; :math:`n_1 / (n_1 + 2 n_2)` of each length unless given, from
        the numbers of grams counted once and twice (0.5 where one of them is 0).
    """

    discount: float | None = None

    def __post_init__(self) -> None:
        if self.discount is not None and not 0 < self.discount < 1:
            raise ValueError(f"a discount lies between 0 and 1, got {self.discount}")

    def __call__(self, level: Level, longer: Level | None, num_parents: int) -> Smoothed:
        count = level.occurrences
        if longer is not None:
            kinds = np.bincount(longer.suffix, minlength=len(count))
            count = np.where(level.begins, count, kinds)
        discount = self.discount
        if discount is None:
            once, twice = int((count == 1).sum()), int((count == 2).sum())
            discount = once / (once + 2 * twice) if once and twice else 0.5
        total, followers = _by_parent(level, count, num_parents)
        share = np.where(count > 0, count - discount, 0.0) / total[level.parent]
        backoff = np.where(followers > 0, discount * followers / total, 1.0)
        return Smoothed(share, backoff)


@dataclasses.dataclass(frozen=True)
class WittenBell:
    r"""Interpolated Witten-Bell (1991): as much mass for new followers as there were different ones.

    .. math:: p(w \mid h) = \frac{c(h w) + T(h)\, p(w \mid h')}{\sum_v c(h v) + T(h)},\quad
        T(h) = |\{v : c(h v) > 0\}|
    """

    def __call__(self, level: Level, longer: Level | None, num_parents: int) -> Smoothed:
        del longer
        total, followers = _by_parent(level, level.occurrences, num_parents)
        share = level.occurrences / (total + followers)[level.parent]
        return Smoothed(share, np.where(followers > 0, followers / (total + followers), 1.0))


def _by_parent(level: Level, count: np.ndarray, num_parents: int) -> tuple[np.ndarray, np.ndarray]:
    """The sum of counts and the number of different followers of each context; sums of nothing are 1."""
    total = np.bincount(level.parent, count, num_parents)
    followers = np.bincount(level.parent, count > 0, num_parents)
    return np.where(followers > 0, total, 1.0), followers


def count_ngrams(texts: Sequence[Sequence[int]], order: int, size: int, end_of_text: int) -> list[Level]:
    """The levels 1 to `order` of some texts, each between two end-of-text tokens; the first is not counted.

    :param texts: token ids.
    :param order: the longest grams.
    :param size: V.
    """
    lengths = np.array([len(text) + 2 for text in texts], np.int64)
    tokens = np.concatenate([[end_of_text, *text, end_of_text] for text in texts]).astype(np.int64)
    text_of = np.repeat(np.arange(len(texts)), lengths)
    first = np.diff(text_of, prepend=-1) > 0

    # `number[i]` is the number, in its level, of the gram of the current length that starts at i.
    number = tokens
    zeros = np.zeros(size, np.int64)
    levels = [Level(zeros, np.arange(size), zeros, np.bincount(tokens[~first], minlength=size), zeros > 0)]
    for length in range(2, order + 1):
        start = np.arange(max(len(tokens) - length + 1, 0))
        start = start[text_of[start] == text_of[start + length - 1]]
        # Grams in the order of (prefix, last token) are in alphabetical order, as the prefixes are.
        key = number[start] * size + tokens[start + length - 1]
        grams, example, inverse, count = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
        parent, token = grams // size, grams % size
        levels.append(Level(parent, token, number[start[example] + 1], count, first[start[example]]))
        number = np.full(len(tokens), -1)
        number[start] = inverse
    return levels


__all__ = ["KneserNey", "Level", "Smoothed", "Smoothing", "WittenBell", "count_ngrams"]
