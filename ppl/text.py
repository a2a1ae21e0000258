"""The value of a generated text."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from sentax.ppl.constraints.base import PAD, Constraint
from sentax.ppl.language_model import Context, VocabularyLike
from sentax.ppl.pytree import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class Text:
    """What :func:`sentax.generate` returns: a pytree of one text (or of many, with leading axes).

    :param tokens: `[T]` token ids; from `length` on, all are the end-of-text id.
    :param length: number of tokens before the end.
    :param finished: whether the model ended the text itself (false: cut at `max_tokens`).
    :param seam: how many leading bytes repeat the end of the prompt (see :class:`Context`).
    :param context: the language model after this text, to go on from.
    """

    tokens: Int[Array, "*batch T"]
    length: Int[Array, "*batch"]
    finished: Bool[Array, "*batch"]
    seam: Int[Array, "*batch"]
    vocabulary: VocabularyLike
    context: Context | None = None
    stop: int | None = dataclasses.field(default=None, metadata={"static": True})

    def matches(self, constraint: Constraint) -> Bool[Array, ""]:
        """Whether the whole text is in the constraint's set; traceable, one text at a time."""

        def step(carry: Any, token: Array) -> Any:
            state, done, seam = carry
            row, ends = token_bytes(self.vocabulary, token, seam, self.stop)
            row = jnp.where(done, PAD, row)
            return (constraint.step(state, row), done | ends, jnp.zeros_like(seam)), None

        start = (constraint.init(), jnp.asarray(False), jnp.asarray(self.seam))
        (state, _, _), _ = lax.scan(step, start, self.tokens)
        return constraint.accepts(state)

    def decode(self) -> Any:
        """The text as `str` on the host; a list of them if there is a leading axis.

        Bytes that are not UTF-8 (a text cut inside a character) are shown as escapes, so that
        different texts stay different.
        """
        return decode(self.vocabulary, np.asarray(self.tokens), np.asarray(self.seam), self.stop)


def token_bytes(
    vocabulary: VocabularyLike, token: Int[Array, ""], seam: Int[Array, ""], stop: int | None
) -> tuple[Int[Array, " L"], Bool[Array, ""]]:
    """The bytes a token adds to a text, padded, and whether the text ends with it.

    The first `seam` bytes repeat the prompt and are dropped; a stop byte ends the text before it.
    """
    row = vocabulary.table[token].astype(jnp.int32)
    position = jnp.arange(row.shape[0])
    shifted = jnp.take(row, position + seam, mode="fill", fill_value=PAD)
    row = jnp.where(seam > 0, shifted, row)
    ends = token == vocabulary.end_of_text
    if stop is not None:
        stopped = jnp.cumsum(row == stop) > 0
        ends = ends | stopped[-1]
        row = jnp.where(stopped, PAD, row)
    return row, ends


def decode(vocabulary: VocabularyLike, tokens: np.ndarray, seam: np.ndarray, stop: int | None) -> Any:
    """Host-side decoding of `[..., T]` tokens, without the seam and from the stop byte on."""
    if tokens.ndim > 1:
        seam = np.broadcast_to(seam, tokens.shape[:-1])
        return [decode(vocabulary, t, s, stop) for t, s in zip(tokens, seam, strict=True)]
    data = vocabulary.decode(tokens)[int(seam) :]
    if stop is not None:
        data = data.split(bytes([stop]), 1)[0]
    return data.decode("utf-8", errors="backslashreplace")


__all__ = ["Text", "decode", "token_bytes"]
