"""Masks of a count with bounds: rows by what is left of them, made on the host."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from sentax.ppl.constraints.masks import Masker, pack, pack_on_host
from sentax.ppl.constraints.token_extents import TokenExtents, at_seam, extents_on_host
from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree


@pytree
@dataclass(frozen=True, eq=False)
class LengthMasker(Masker):
    """The masks of a :class:`~sentax.ppl.constraints.strings.Length` of tokens or bytes, exact.

    Which tokens a count allows depends on how much the bounds leave, and tokens add one of A amounts:
    that makes A + 1 rows for each bound, and nothing to remember.

    :param amounts: what tokens may add to the count, ascending.
    :param fits: row `i` has the tokens that add no more than the first `i` amounts.
    :param reaches: row `i` has the tokens that do not end the text, or add none of the first `i` amounts.
    :param by_token: whether a token counts as one, and not by its bytes.
    """

    least: Int[Array, ""]
    most: Int[Array, ""]
    extents: TokenExtents
    amounts: Int[Array, " A"]
    fits: UInt32[Array, "A+1 W"]
    reaches: UInt32[Array, "A+1 W"]
    by_token: bool = field(metadata={"static": True})

    @classmethod
    def of(
        cls,
        least: Int[Array, ""],
        most: Int[Array, ""],
        by_token: bool,
        vocabulary: VocabularyLike,
        stop: int | None,
    ) -> LengthMasker:
        """The masker of two bounds, which may be traced."""
        added, ends = extents_on_host(vocabulary, stop)
        amounts, ranks = np.unique(np.minimum(added, 1) if by_token else added, return_inverse=True)
        rows = np.arange(len(amounts) + 1)[:, None]
        with jax.ensure_compile_time_eval():
            amounts = jax.device_put(amounts.astype(np.int32))
        fits, reaches = pack_on_host(ranks < rows), pack_on_host(~ends | (ranks >= rows))
        return cls(least, most, TokenExtents.of(vocabulary, stop), amounts, fits, reaches, by_token)

    def lookup(
        self, state: Int[Array, ""], seam: Int[Array, ""], needed: Bool[Array, ""] | bool
    ) -> tuple[LengthMasker, UInt32[Array, " W"]]:
        del needed
        left, missing = self.most - state, self.least - state

        def read() -> UInt32[Array, " W"]:
            return self.fits[(self.amounts <= left).sum()] & self.reaches[(self.amounts < missing).sum()]

        def count() -> UInt32[Array, " W"]:
            added, ends = self.extents.behind(seam)
            added = jnp.minimum(added, 1) if self.by_token else added
            return pack((added <= left) & (~ends | (added >= missing)))

        return self, at_seam(seam, read, count)
