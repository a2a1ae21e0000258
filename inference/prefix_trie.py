"""Upper bounds on what a text can still come to, by prefix, learned from finished texts."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from sentax.inference.kernels.trie_guided import TrieArrays

UNOPENED = -1
"""Of :attr:`PrefixTrie.left`: no outcome has been drawn at this node."""

FLOOR = 1e-5
"""What remains, at least, of a node's unvisited mass while unvisited outcomes are left: a difference of float32
sums is no bound by itself. The next visit sums it afresh."""

FOREIGN = 0.05
"""How far a node's unvisited mass may lie from what the trie remembers before it is another program's."""


class Paths(NamedTuple):
    """The ways of N particles through a trie; see :class:`~sentax.inference.kernels.trie_guided.Walk`.

    :param values: `[N]`, what each came to: its factors multiplied, in units of the bound (0 to 1).
    """

    lengths: np.ndarray
    nodes: np.ndarray
    tokens: np.ndarray
    probabilities: np.ndarray
    rest: np.ndarray
    left: np.ndarray
    values: np.ndarray


@dataclasses.dataclass(frozen=True)
class PrefixTrie:
    r"""The prefixes that finished texts have shown, each with an upper bound on what a text that begins so
    comes to: an immutable value; :meth:`learn` gives the next one.

    A text comes to the product of its factors, scaled to at most 1 (1 or 0 where all are hard). The bound of a
    node :math:`y` is

    .. math:: c(y) = \sum_{x \text{ visited}} p(x \mid y)\, c(yx)
              + \sum_{x \text{ allowed, not visited}} p(x \mid y)

    (Park et al. 2024, section 3.2: the over-approximation of expected future grammaticality), 1 where nobody
    has been, and what the text came to at its end. It is at least the conditional expectation, and equal to it
    where everything below has been visited. The root's bound bounds the evidence.

    All arrays are `[M]`; node 0 is the root, children come after their parents.

    :param parent: -1 at the root; `token`: the outcome that leads here; `depth`: how many did.
    :param probability: of that outcome, given the parent.
    :param bound: c.
    :param rest: mass of the allowed outcomes that nobody has drawn here; `left`: their number.
    :param num_draws: texts learned from.

    >>> trie = PrefixTrie.empty()
    >>> trie.num_nodes, trie.bound.tolist()
    (1, [1.0])
    """

    parent: np.ndarray
    token: np.ndarray
    depth: np.ndarray
    probability: np.ndarray
    bound: np.ndarray
    rest: np.ndarray
    left: np.ndarray
    num_draws: int = 0

    @classmethod
    def empty(cls) -> PrefixTrie:
        """Nothing is known: the root alone."""
        integer, real = (lambda x: np.array([x], np.int32)), (lambda x: np.array([x], np.float64))
        return cls(integer(-1), integer(-1), integer(0), real(1), real(1), real(1), integer(UNOPENED))

    @property
    def num_nodes(self) -> int:
        """M, the root included."""
        return len(self.parent)

    def children(self, node: int) -> dict[int, int]:
        """The node that each visited outcome leads to."""
        found = np.flatnonzero(self.parent == node)
        return dict(zip(self.token[found].tolist(), found.tolist(), strict=True))

    def learn(self, paths: Paths) -> PrefixTrie:
        """With some more texts, all drawn under the guidance of this trie.

        :raises ValueError: if they come from a program with other probabilities than the trie's.
        """
        M = self.num_nodes
        parent, token, depth, probability = (
            list(x.tolist()) for x in (self.parent, self.token, self.depth, self.probability)
        )
        rest, left = self.rest.tolist(), self.left.tolist()
        ends: dict[int, float] = {}
        born: dict[tuple[int, int], int] = {}
        opened: dict[int, float] = {}
        for i, length in enumerate(paths.lengths.tolist()):
            node = 0
            for t in range(length):
                if node not in opened:
                    fresh = float(paths.rest[i, t])
                    if left[node] != UNOPENED and abs(fresh - rest[node]) > FOREIGN:
                        raise ValueError(
                            f"the trie was learned from another program: at a prefix of {depth[node]} draws it "
                            f"remembers an unvisited mass of {rest[node]:.4g} where this one has {fresh:.4g}; "
                            "forget() it, or use a sampler of its own for each program, prompt and constraint"
                        )
                    opened[node] = rest[node] = fresh
                    left[node] = int(paths.left[i, t])
                drawn = int(paths.tokens[i, t])
                if drawn < 0:
                    break
                following = int(paths.nodes[i, t])
                if following < 0:
                    following = born.get((node, drawn), -1)
                if following < 0:
                    following = born[node, drawn] = len(parent)
                    parent.append(node)
                    token.append(drawn)
                    depth.append(depth[node] + 1)
                    probability.append(float(paths.probabilities[i, t]))
                    rest[node] -= probability[-1]
                    left[node] -= 1
                    rest.append(1.0)
                    left.append(UNOPENED)
                node = following
            if left[node] == UNOPENED:
                ends[node] = float(paths.values[i])
        for node, fresh in opened.items():
            rest[node] = max(rest[node], FLOOR * fresh) if left[node] > 0 else 0.0
        bound = np.concatenate([self.bound, np.ones(len(parent) - M)])
        bound[list(ends)] = list(ends.values())
        learned = PrefixTrie(
            np.array(parent, np.int32),
            np.array(token, np.int32),
            np.array(depth, np.int32),
            np.array(probability, np.float64),
            bound,
            np.array(rest, np.float64),
            np.array(left, np.int32),
            self.num_draws + len(paths.lengths),
        )
        learned._settle()
        return learned

    def _settle(self) -> None:
        """Bounds from the leaves to the root, level by level; they never rise."""
        M = self.num_nodes
        by_depth = np.argsort(self.depth, kind="stable")
        starts = np.searchsorted(self.depth[by_depth], np.arange(int(self.depth.max()) + 2))
        total = self.rest.copy()
        for low, high in zip(starts[-2::-1], starts[:0:-1], strict=True):
            level = by_depth[low:high]
            inner = level[self.left[level] != UNOPENED]
            self.bound[inner] = np.minimum(self.bound[inner], total[inner])
            if low > 0:
                mass = self.probability[level] * self.bound[level]
                total += np.bincount(self.parent[level], mass, minlength=M)

    def arrays(self) -> TrieArrays:
        """For the device. Sizes go up by factors of four, so that a growing trie seldom compiles anew."""
        M = self.num_nodes
        order = np.argsort(self.parent[1:], kind="stable") + 1
        count = np.bincount(self.parent[1:], minlength=M) if M > 1 else np.zeros(1, np.int64)
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        size, window = _bucket(M, 4096), _bucket(int(count.max()), 64)

        def padded(values: Any, dtype: Any) -> Any:
            return np.pad(np.asarray(values, dtype), (0, size - len(values)))

        with np.errstate(divide="ignore"):
            log_bound = np.log(self.bound)
        return TrieArrays(
            padded(log_bound, np.float32),
            padded(first, np.int32),
            padded(count, np.int32),
            padded(self.token[order], np.int32),
            padded(order, np.int32),
            np.arange(window, dtype=np.int32),
        )

    def as_dict(self) -> dict[str, np.ndarray]:
        """Arrays to save; `PrefixTrie(**arrays)` gives the same trie back."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)}


def _bucket(size: int, least: int) -> int:
    while least < size:
        least *= 4
    return least


__all__ = ["Paths", "PrefixTrie"]
