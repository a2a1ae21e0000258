"""A finite language whose texts are numbered on the device: what an agent may want, as rows of a table."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int

from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.base import PAD
from sentax.ppl.constraints.strings import choice
from sentax.ppl.pytree import pytree
from sentax.ppl.text import Text, token_bytes

MAX_TEXTS = 1 << 16
"""The most texts a language may have: each is a row of every table that is looked up by number."""

_LEAST_STATES = 256


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class FiniteLanguage:
    r"""The texts of an acyclic automaton, in byte order, and the number of each.

    An automaton counts what it accepts: with :math:`c(s)` the number of texts that lead from state :math:`s` to
    an accepting one, the number of a text :math:`b_1 \dots b_n` is how many come before it,

    .. math:: \sum_i \Big( 1[s_{i-1} \text{ accepts}] + \sum_{b < b_i} c(\delta(s_{i-1}, b)) \Big),

    a perfect hash by one table look-up a byte (Lucchesi and Kowaltowski 1993). A program can so look up what it
    knows of a text (a row of a cost table, a likelihood) without leaving the device.

    :param automaton: the constraint, for `where=`.
    :param offsets: `[S, 257]`: how many texts go another, earlier way at each state and byte.

    >>> from sentax.ppl.constraints import regex
    >>> language = FiniteLanguage.of(regex("(red|blue)( red)?"))
    >>> language.texts
    ('blue', 'blue red', 'red', 'red red')
    """

    automaton: Automaton
    offsets: Int[Array, "S 257"]

    @classmethod
    def of(cls, automaton: Automaton) -> FiniteLanguage:
        """All texts of an automaton.

        :raises ValueError: if they are infinitely many, or more than :data:`MAX_TEXTS`.
        """
        table, accepting = _tables(automaton)
        order = _leaves_first(table, np.asarray(automaton.live))
        if order is None:
            raise ValueError(f"{automaton!r} has infinitely many texts: bound it, as in regex('(ab){{1,3}}')")
        counts = np.zeros(len(table), np.int64)
        for state in order:
            counts[state] = int(accepting[state]) + counts[table[state]].sum()
            if counts[state] > MAX_TEXTS:
                raise ValueError(f"{automaton!r} has more than {MAX_TEXTS} texts")
        before = np.cumsum(counts[table], axis=1) - counts[table] + accepting[:, None]
        offsets = np.append(before, np.zeros((len(table), 1), np.int64), axis=1).astype(np.int32)
        states = max(_LEAST_STATES, len(table))
        return cls(_padded(automaton, states), jnp.asarray(np.pad(offsets, ((0, states - len(table)), (0, 0)))))

    @classmethod
    def of_texts(cls, texts: Iterable[str]) -> FiniteLanguage:
        """The language of some texts; repetitions do no harm."""
        return cls.of(choice(texts))

    @functools.cached_property
    def texts(self) -> tuple[str, ...]:
        """All K texts, in the order of their numbers, which is that of their bytes."""
        # Read off the tables: kept beside them, they would be part of what a program is compiled for.
        return tuple(_words(*_tables(self.automaton), np.asarray(self.automaton.live)))

    def __len__(self) -> int:
        return len(self.texts)

    def number(self, text: Text) -> Int[Array, ""]:
        """The place of a generated text among :attr:`texts`, -1 if it is none of them; traceable.

        :param text: one text, as :func:`sentax.generate` returns it.
        """
        automaton = self.automaton
        width = automaton.transitions.shape[1]
        transitions, offsets = automaton.transitions.reshape(-1), self.offsets.reshape(-1)

        def read(carry: Any, byte: Array) -> Any:
            state, number = carry
            number = number + offsets[state * (PAD + 1) + byte]
            return (transitions[state * width + automaton.classes[byte]], number), None

        def step(carry: Any, token: Array) -> Any:
            (state, number), done, seam = carry
            row, ends = token_bytes(text.vocabulary, token, seam, text.stop)
            place, _ = lax.scan(read, (state, number), jnp.where(done, PAD, row))
            return (place, done | ends, jnp.zeros_like(seam)), None

        start = ((automaton.init(), jnp.int32(0)), jnp.asarray(False), jnp.asarray(text.seam, jnp.int32))
        ((state, number), _, _), _ = lax.scan(step, start, text.tokens)
        return jnp.where(automaton.accepts(state), number, -1)

    def __repr__(self) -> str:
        return f"FiniteLanguage({self.automaton!r})"


def _padded(automaton: Automaton, states: int) -> Automaton:
    """With more states, which nothing leads to."""

    def grown(table: Array) -> Array:
        return jnp.asarray(np.pad(table, [(0, states - len(table)), *[(0, 0)] * (table.ndim - 1)]))

    return dataclasses.replace(
        automaton,
        transitions=grown(automaton.transitions),
        accepting=grown(automaton.accepting),
        live=grown(automaton.live),
    )


def _leaves_first(table: np.ndarray, live: np.ndarray) -> list[int] | None:
    """The live states that the start leads to, each after all that it leads to; None if there is a cycle."""
    order: list[int] = []
    entered: dict[int, bool] = {}  # whether all that follows is done
    stack = [(0, False)]
    while stack:
        state, leaving = stack.pop()
        if leaving:
            entered[state] = True
            order.append(state)
            continue
        if state in entered:
            if not entered[state]:
                return None
            continue
        entered[state] = False
        stack.append((state, True))
        for after in np.unique(table[state]).tolist():
            if live[after] and not entered.get(after, False):
                if after in entered:
                    return None
                stack.append((after, False))
    return order


def _tables(automaton: Automaton) -> tuple[np.ndarray, np.ndarray]:
    """Successors by state and byte, and the accepting states."""
    transitions, classes = np.asarray(automaton.transitions), np.asarray(automaton.classes)
    return transitions[:, classes[:PAD]], np.asarray(automaton.accepting)


def _words(table: np.ndarray, accepting: np.ndarray, live: np.ndarray) -> list[str]:
    words: list[str] = []
    stack = [(0, b"")]
    while stack:
        state, word = stack.pop()
        if accepting[state]:
            words.append(word.decode("utf-8", errors="backslashreplace"))
        # The last pushed is the first read: byte order.
        for byte in np.flatnonzero(live[table[state]])[::-1].tolist():
            stack.append((int(table[state, byte]), word + bytes([byte])))
    return words


__all__ = ["MAX_TEXTS", "FiniteLanguage"]
