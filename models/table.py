"""A Markov chain over a handful of tokens: a language model small enough to enumerate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sentax.models.methods import LanguageModelMethods
from sentax.models.vocabulary import Vocabulary
from sentax.ppl.pytree import pytree


@pytree
@dataclasses.dataclass(frozen=True)
class TableContext:
    """A :class:`TableLM` after some tokens."""

    log_probs: Float[Array, "V V"]
    vocabulary: Vocabulary
    logits: Float[Array, " V"]
    features: Float[Array, " V"]
    """Which token was the last (one-hot; zeros before the first): all that the chain remembers."""
    seam: Int[Array, ""]

    @property
    def room(self) -> Int[Array, ""]:
        """A table has no window."""
        return jnp.int32(2**31 - 1)

    def reserve(self, num_tokens: int) -> TableContext:
        """Nothing to reserve: there is no cache."""
        return self

    def extend(self, token: Int[Array, ""] | int, active: Bool[Array, ""] | bool = True) -> TableContext:
        """The context after one more token; unchanged where `active` is false."""
        logits = jnp.where(active, self.log_probs[token], self.logits)
        last = (jnp.arange(logits.shape[0]) == token).astype(jnp.float32)
        return dataclasses.replace(self, logits=logits, features=jnp.where(active, last, self.features))


class TableLM(LanguageModelMethods):
    """A language model given by its transition table: the oracle of every exact test.

    ``P(t_1 ... t_n) = initial[t_1] * prod_i exp(log_probs[t_{i-1}, t_i])``, ended by end-of-text.

    :param log_probs: [V, V], unnormalised log-probabilities of the next token (column) after each
        token (row). `-inf` is impossible.
    :param initial: [V], the same for the first token; the row of end-of-text unless given.
    :param tokens: the bytes of each token; those of end-of-text do not matter.
    :param end_of_text: the id that ends a text.
    :raises ValueError: if the shapes disagree, or a row is NaN, +inf or has no possible token.

        >>> import jax.numpy as jnp
        >>> lm = TableLM(jnp.zeros((3, 3)), jnp.array([0.0, 0.0, -jnp.inf]), [b"a", b"b", b""], end_of_text=2)
        >>> context = lm.prompt()
        >>> context.logits.tolist(), context.extend(0).logits.tolist()
        ([0.0, 0.0, -inf], [0.0, 0.0, 0.0])
    """

    def __init__(
        self,
        log_probs: Float[Any, "V V"],
        initial: Float[Any, " V"] | None = None,
        tokens: Sequence[bytes] = (),
        *,
        end_of_text: int,
    ):
        V = len(tokens)
        rows = np.asarray(log_probs, np.float32)
        if initial is None:
            initial = rows[end_of_text]
        initial = np.asarray(initial, np.float32)
        if rows.shape != (V, V) or initial.shape != (V,):
            raise ValueError(
                f"{V} tokens need log_probs [{V}, {V}] and initial [{V}], got {rows.shape} and {initial.shape}"
            )
        for name, table in (("initial", initial), ("log_probs", rows)):
            if not np.isfinite(table.max(axis=-1)).all():
                raise ValueError(f"{name} has a row that is NaN, +inf or without a possible token")
        self.vocabulary = Vocabulary(tokens, end_of_text)
        self.log_probs = jnp.asarray(rows)
        self.initial = jnp.asarray(initial)

    @classmethod
    def uniform(cls, tokens: Sequence[bytes]) -> TableLM:
        """Every token, and the end of the text, equally likely everywhere.

        :param tokens: the tokens' bytes; end-of-text is added behind them.
        """
        V = len(tokens) + 1
        return cls(np.zeros((V, V)), None, [*tokens, b""], end_of_text=V - 1)

    def prompt(self, text: int | np.integer | str | bytes | None = None) -> TableContext:
        """The context before the first token, or after one start token.

        :param text: nothing (None or empty), or a start token by id or by its bytes.
        :raises ValueError: for a text that is not one token.
        """
        start = TableContext(
            self.log_probs, self.vocabulary, self.initial, jnp.zeros_like(self.initial), jnp.int32(0)
        )
        token = self._first(text)
        return start if token is None else start.extend(token)

    def _first(self, text: int | np.integer | str | bytes | None) -> int | None:
        if text is None or text in ("", b""):
            return None
        if isinstance(text, str | bytes):
            token = text.encode() if isinstance(text, str) else text
            if token not in self.vocabulary.tokens:
                raise ValueError(f"{text!r} is not one token of this table")
            return self.vocabulary.tokens.index(token)
        if not 0 <= text < self.vocabulary.size:
            raise ValueError(f"token {text} is not below {self.vocabulary.size}")
        return int(text)

    def __repr__(self) -> str:
        return f"TableLM({self.vocabulary!r})"
