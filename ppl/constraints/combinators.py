"""Boolean combinations of constraints: exact automata where possible, pairs side by side elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.base import PAD, Constraint, State
from sentax.ppl.constraints.combined_masks import BothMasker, EitherMasker, NotMasker
from sentax.ppl.constraints.dfa import TooManyStates, product
from sentax.ppl.constraints.masks import Masker, NoMask
from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree

_MAX_PRODUCT = 1 << 14
"""Beyond this many states two tables are cheaper than one: a product can be as large as S times S."""


def intersection(left: Constraint, right: Constraint) -> Constraint:
    """The texts in both sets; `left & right`.

    Two automata give their product, which is exact: `alive` is false as soon as no text can be in both.
    Other pairs run side by side (:class:`Both`), where `alive` asks each side alone. Constraints on
    the device are asked first, those on the host only about the tokens that are left.

    :raises ValueError: if two automata have no text in common.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import length, regex
        >>> word = regex("[a-z]+") & ~regex("(no|never)")
        >>> word.matches("now"), word.matches("no")
        (True, False)
        >>> (word & length(max=4, unit="bytes")).matches("nobody")
        False
    """
    both = _product(left, right, np.logical_and, "&")
    if both is not None:
        return both
    if left.on_host and not right.on_host:
        left, right = right, left
    # A further automaton joins the automaton that is there already: one walk instead of two.
    if isinstance(left, Both):
        for inner, other in ((left.left, left.right), (left.right, left.left)):
            both = _product(inner, right, np.logical_and, "&")
            if both is not None:
                return intersection(both, other)
    return Both(left, right)


def union(left: Constraint, right: Constraint) -> Constraint:
    """The texts in either set; `left | right`. Exact for two automata, else :class:`Either`.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import literal, regex
        >>> (regex("[0-9]+") | literal("none")).matches("none")
        True
    """
    either = _product(left, right, np.logical_or, "|")
    return Either(left, right) if either is None else either


def complement(inner: Constraint) -> Constraint:
    """The byte strings that are not in the set; `~inner`. Exact for automata, else :class:`Not`.

    :raises ValueError: if the set is that of all byte strings.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import length, literal
        >>> (~literal("no")).matches("yes")
        True
        >>> (~length(max=2, unit="bytes")).matches("yes")
        True
    """
    if isinstance(inner, Not):
        return inner.inner
    if isinstance(inner, Automaton) and inner.is_concrete:
        return Automaton.from_dfa(inner.to_dfa().complement(), f"~({inner!r})")
    return Not(inner)


def _product(left: Constraint, right: Constraint, accept: Any, sign: str) -> Automaton | None:
    if not (isinstance(left, Automaton) and isinstance(right, Automaton)):
        return None
    if not (left.is_concrete and right.is_concrete):
        return None
    try:
        pairs = product(left.to_dfa(), right.to_dfa(), accept, _MAX_PRODUCT)
    except TooManyStates:
        return None
    return Automaton.from_dfa(pairs, f"({left!r} {sign} {right!r})")


class _Pair(Constraint):
    """Two constraints side by side; the state is the pair of their states."""

    left: Constraint
    right: Constraint

    @property
    def on_host(self) -> bool:  # type: ignore[override]
        return self.left.on_host or self.right.on_host

    @property
    def counts_tokens(self) -> bool:  # type: ignore[override]
        return self.left.counts_tokens or self.right.counts_tokens

    def init(self) -> tuple[State, State]:
        return self.left.init(), self.right.init()

    def step(self, state: tuple[State, State], token: Int[Array, " L"]) -> tuple[State, State]:
        return self.left.step(state[0], token), self.right.step(state[1], token)


@pytree
@dataclass(frozen=True, eq=False, repr=False)
class Both(_Pair):
    """The intersection of any two constraints.

    `alive` may be true where each side can be completed but no text completes both.
    """

    left: Constraint
    right: Constraint

    def alive(self, state: tuple[State, State]) -> Bool[Array, ""]:
        return self.left.alive(state[0]) & self.right.alive(state[1])

    def accepts(self, state: tuple[State, State]) -> Bool[Array, ""]:
        return self.left.accepts(state[0]) & self.right.accepts(state[1])

    def advance(
        self,
        state: tuple[State, State],
        token: Int[Array, " L"],
        end: Bool[Array, ""] | bool,
        needed: Bool[Array, ""] | bool = True,
    ) -> tuple[tuple[State, State], Bool[Array, ""]]:
        left, allowed = self.left.advance(state[0], token, end, needed)
        # What the left refuses is refused: the right, perhaps a call of Python, may skip it.
        right, agreed = self.right.advance(state[1], token, end, jnp.asarray(needed) & allowed)
        return (left, right), allowed & agreed

    def masker(self, vocabulary: VocabularyLike, stop: int | None = None) -> Masker | NoMask:
        return BothMasker.of(self.left.masker(vocabulary, stop), self.right.masker(vocabulary, stop))

    def __repr__(self) -> str:
        return f"({self.left!r} & {self.right!r})"


@pytree
@dataclass(frozen=True, eq=False, repr=False)
class Either(_Pair):
    """The union of any two constraints. Both sides are asked about every token: a side that is not
    needed for this verdict is needed for its state, and for the verdicts to come."""

    left: Constraint
    right: Constraint

    def alive(self, state: tuple[State, State]) -> Bool[Array, ""]:
        return self.left.alive(state[0]) | self.right.alive(state[1])

    def accepts(self, state: tuple[State, State]) -> Bool[Array, ""]:
        return self.left.accepts(state[0]) | self.right.accepts(state[1])

    def advance(
        self,
        state: tuple[State, State],
        token: Int[Array, " L"],
        end: Bool[Array, ""] | bool,
        needed: Bool[Array, ""] | bool = True,
    ) -> tuple[tuple[State, State], Bool[Array, ""]]:
        left, allowed = self.left.advance(state[0], token, end, needed)
        right, agreed = self.right.advance(state[1], token, end, needed)
        return (left, right), allowed | agreed

    def masker(self, vocabulary: VocabularyLike, stop: int | None = None) -> Masker | NoMask:
        return EitherMasker.of(self.left.masker(vocabulary, stop), self.right.masker(vocabulary, stop))

    def __repr__(self) -> str:
        return f"({self.left!r} | {self.right!r})"


@pytree
@dataclass(frozen=True, eq=False, repr=False)
class Not(Constraint):
    """The complement of any constraint. `alive` is always true: that a text and all its extensions
    are in the inner set is more than a constraint can say."""

    inner: Constraint

    @property
    def on_host(self) -> bool:  # type: ignore[override]
        return self.inner.on_host

    @property
    def counts_tokens(self) -> bool:  # type: ignore[override]
        return self.inner.counts_tokens

    def init(self) -> State:
        return self.inner.init()

    def step(self, state: State, token: Int[Array, " L"]) -> State:
        return self.inner.step(state, token)

    def alive(self, state: State) -> Bool[Array, ""]:
        return jnp.ones((), bool)

    def accepts(self, state: State) -> Bool[Array, ""]:
        return ~self.inner.accepts(state)

    def advance(
        self,
        state: State,
        token: Int[Array, " L"],
        end: Bool[Array, ""] | bool,
        needed: Bool[Array, ""] | bool = True,
    ) -> tuple[State, Bool[Array, ""]]:
        state = self.inner.step(state, token)
        # Only the end of a text has a question; asked with a token of padding, it moves nothing.
        asked = jnp.asarray(needed) & jnp.asarray(end)
        _, inside = self.inner.advance(state, jnp.full_like(token[:1], PAD), True, asked)
        return state, ~(inside & jnp.asarray(end))

    def masker(self, vocabulary: VocabularyLike, stop: int | None = None) -> Masker | NoMask:
        return NotMasker.of(self.inner.masker(vocabulary, stop), vocabulary, stop)

    def __repr__(self) -> str:
        return f"~{self.inner!r}"
