"""A text with slots for tokens: what a masked language model fills in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree

FIXED = -1
"""The hole of a position that belongs to none."""


@dataclass(frozen=True)
class Slots:
    """A hole of a canvas.

    :param size: the most tokens it may hold, at least 1. Where a text in it is shorter, end-of-text fills the
        rest.
    """

    size: int

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"Slots: the size is an integer of at least 1, not {self.size!r}")


@pytree
@dataclass(frozen=True)
class Canvas:
    """Known tokens and slots, in order.

    :param tokens: `[L]` token ids; :attr:`mask` where a slot is open, end-of-text where it is empty.
    :param holes: `[L]` the number of each slot's hole, :data:`FIXED` where the text is given.
    :param num_slots: how many positions are slots.

    **Example**

    .. code-block:: python

        >>> import sentax as sx
        >>> canvas = Canvas.of(sx.TableLM.uniform([b"a", b"b"]).vocabulary, "ab", Slots(2), "b")
        >>> canvas.tokens.tolist(), canvas.holes.tolist()
        ([0, 1, 3, 3, 1], [-1, -1, 0, 0, -1])
    """

    tokens: Int[Array, " L"]
    holes: Int[Array, " L"]
    vocabulary: VocabularyLike
    num_slots: int = dataclasses.field(metadata={"static": True})

    @classmethod
    def of(cls, vocabulary: Any, *parts: str | bytes | Slots) -> Canvas:
        """The canvas of known pieces and holes.

        :param vocabulary: of the model; its `encode` cuts the known pieces into tokens.
        :param parts: texts and :class:`Slots`, with at least one of these.
        :raises TypeError: if a part is neither.
        :raises ValueError: if there is no slot, or the vocabulary cannot write a text.
        """
        tokens: list[int] = []
        holes: list[int] = []
        count = 0
        for part in parts:
            if isinstance(part, Slots):
                tokens += [vocabulary.size] * part.size
                holes += [count] * part.size
                count += 1
            elif isinstance(part, str | bytes):
                known = vocabulary.encode(part)
                tokens += known
                holes += [FIXED] * len(known)
            else:
                raise TypeError(f"a canvas consists of str, bytes and Slots, not {type(part).__name__}")
        if not count:
            raise ValueError("a canvas without Slots has nothing to fill")
        where = np.array(holes, np.int32)
        return cls(
            jnp.asarray(np.array(tokens, np.int32)), jnp.asarray(where), vocabulary, int((where != FIXED).sum())
        )

    @property
    def mask(self) -> int:
        """The id of an open slot, behind the vocabulary's own."""
        return self.vocabulary.size

    @property
    def open(self) -> Bool[Array, " L"]:
        """The slots that are still to be filled."""
        return self.tokens == self.mask

    def fill(self, position: Int[Array, ""], token: Int[Array, ""], active: Bool[Array, ""] | bool) -> Canvas:
        """The canvas with a token in a slot; an end-of-text closes what is open of the hole behind it.

        :param position: of an open slot.
        :param active: where false, the canvas stays what it is.
        """
        place = jnp.arange(self.tokens.shape[0])
        rest = (place > position) & (self.holes == self.holes[position]) & self.open
        filled = (place == position) | (rest & (token == self.vocabulary.end_of_text))
        return dataclasses.replace(self, tokens=jnp.where(filled & active, token, self.tokens))

    def may_end(self, position: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether a hole may end with a slot: whether none behind it holds a text."""
        place = jnp.arange(self.tokens.shape[0])
        behind = (place > position) & (self.holes == self.holes[position])
        return ~jnp.any(behind & ~self.open & (self.tokens != self.vocabulary.end_of_text))

    def text(self) -> Int[Array, " L"]:
        """The tokens of the whole text, the empty slots moved to its end."""
        empty = self.tokens == self.vocabulary.end_of_text
        return self.tokens[jnp.argsort(empty, stable=True)]
