"""Masks of combinations, from the masks of their parts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from sentax.ppl.constraints.base import State
from sentax.ppl.constraints.masks import Masker, NoMask, pack, pack_on_host
from sentax.ppl.constraints.token_extents import TokenExtents, at_seam, extents_on_host
from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree

if TYPE_CHECKING:
    from sentax.ppl.constraints.combinators import Both, Either


@pytree
@dataclass(frozen=True, eq=False)
class BothMasker(Masker):
    """The masks of an intersection: those of its parts that have one; the others are left to ask.

    :param left, right: None where a part has no mask.
    """

    left: Masker | None
    right: Masker | None

    @classmethod
    def of(cls, left: Masker | NoMask, right: Masker | NoMask) -> BothMasker | NoMask:
        """The masker of the parts' maskers; none if neither part has one."""
        if isinstance(left, NoMask) and isinstance(right, NoMask):
            return NoMask(_reasons(left, right))
        return cls(*(None if isinstance(part, NoMask) else part for part in (left, right)))

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return all(part is not None and part.exact for part in (self.left, self.right))

    def lookup(
        self, state: tuple[State, State], seam: Int[Array, ""], needed: Bool[Array, ""] | bool
    ) -> tuple[BothMasker, UInt32[Array, " W"]]:
        if self.left is None:
            assert self.right is not None  # see `of`
            right, row = self.right.lookup(state[1], seam, needed)
            return replace(self, right=right), row
        left, row = self.left.lookup(state[0], seam, needed)
        if self.right is None:
            return replace(self, left=left), row
        right, other = self.right.lookup(state[1], seam, needed)
        return BothMasker(left, right), row & other

    def residual(
        self,
        constraint: Both,  # type: ignore[override]
        state: tuple[State, State],
        token: Int[Array, " L"],
        end: Bool[Array, ""] | bool,
        needed: Bool[Array, ""] | bool = True,
    ) -> Bool[Array, ""]:
        allowed = jnp.ones((), bool)
        parts = ((self.left, constraint.left, state[0]), (self.right, constraint.right, state[1]))
        for masker, part, its_state in parts:
            # What the first part refuses is refused: the second, perhaps a call of Python, may skip it.
            asked = jnp.asarray(needed) & allowed
            if masker is None:
                allowed = allowed & part.advance(its_state, token, end, asked)[1]
            else:
                allowed = allowed & masker.residual(part, its_state, token, end, asked)
        return allowed


@pytree
@dataclass(frozen=True, eq=False)
class EitherMasker(Masker):
    """The masks of a union whose parts both have them; where one is not exact, the whole is asked again."""

    left: Masker
    right: Masker

    @classmethod
    def of(cls, left: Masker | NoMask, right: Masker | NoMask) -> EitherMasker | NoMask:
        """The masker of the parts' maskers; none unless both have one."""
        if isinstance(left, NoMask) or isinstance(right, NoMask):
            return NoMask(_reasons(left, right))
        return cls(left, right)

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return self.left.exact and self.right.exact

    def lookup(
        self, state: tuple[State, State], seam: Int[Array, ""], needed: Bool[Array, ""] | bool
    ) -> tuple[EitherMasker, UInt32[Array, " W"]]:
        left, row = self.left.lookup(state[0], seam, needed)
        right, other = self.right.lookup(state[1], seam, needed)
        return EitherMasker(left, right), row | other

    def residual(
        self,
        constraint: Either,  # type: ignore[override]
        state: tuple[State, State],
        token: Int[Array, " L"],
        end: Bool[Array, ""] | bool,
        needed: Bool[Array, ""] | bool = True,
    ) -> Bool[Array, ""]:
        return jnp.ones((), bool) if self.exact else constraint.advance(state, token, end, needed)[1]


@pytree
@dataclass(frozen=True, eq=False)
class NotMasker(Masker):
    """The masks of a complement: all tokens but those that end a text of the inner set.

    :param tokens: which bits of a row are tokens.
    :param goes_on: the tokens that do not end a text, where it has no seam.
    """

    inner: Masker
    extents: TokenExtents
    tokens: UInt32[Array, " W"]
    goes_on: UInt32[Array, " W"]

    @classmethod
    def of(cls, inner: Masker | NoMask, vocabulary: VocabularyLike, stop: int | None) -> NotMasker | NoMask:
        """The masker of the inner one; none unless that is exact: its surplus would be missing here."""
        if isinstance(inner, NoMask):
            return inner
        if not inner.exact:
            return NoMask(f"~: the mask of the inner constraint is not exact ({type(inner).__name__})")
        _, ends = extents_on_host(vocabulary, stop)
        return cls(
            inner, TokenExtents.of(vocabulary, stop), *pack_on_host(np.stack([np.ones_like(ends), ~ends]))
        )

    def lookup(
        self, state: State, seam: Int[Array, ""], needed: Bool[Array, ""] | bool
    ) -> tuple[NotMasker, UInt32[Array, " W"]]:
        inner, row = self.inner.lookup(state, seam, needed)
        goes_on = at_seam(seam, lambda: self.goes_on, lambda: pack(~self.extents.behind(seam)[1]))
        return replace(self, inner=inner), goes_on | (self.tokens & ~row)


def _reasons(*parts: Masker | NoMask) -> str:
    return "; ".join(dict.fromkeys(part.reason for part in parts if isinstance(part, NoMask)))
