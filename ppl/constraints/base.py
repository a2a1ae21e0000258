"""The constraint protocol: an immutable value with an incremental, byte-level face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

if TYPE_CHECKING:
    from sentax.ppl.constraints.masks import Masker, NoMask
    from sentax.ppl.language_model import VocabularyLike

PAD = 256
"""The value that pads a token's bytes to the vocabulary's common length; every constraint skips it."""

State = Any


class Constraint:
    """A set of byte strings that can be checked one token at a time.

    A constraint is an immutable pytree. Its methods are pure JAX functions of one text
    (batch with :func:`jax.vmap`). A *token* is the array of its bytes, ``Int[Array, "L"]``
    with values 0..255, padded at the end with :data:`PAD`; a token of padding alone (end of
    text) leaves every state as it is.

    Laws, checked by :func:`sentax.testing.check_constraint`:

    * not ``alive(s)`` implies that no extension of ``s`` is alive or accepted;
    * ``accepts(s)`` implies ``alive(s)``;
    * ``step`` depends on the bytes alone, not on how they are cut into tokens (constraints
      that count tokens say so with :attr:`counts_tokens`);
    * ``step`` keeps the structure, shapes and dtypes of the state, so that a loop can carry it;
    * ``advance(s, token, end)`` equals ``step`` followed by ``accepts`` (at the end of the
      text) or ``alive`` (elsewhere).
    """

    on_host: ClassVar[bool] = False
    """Whether a check calls Python, so that cheaper constraints should be asked first."""

    counts_tokens: ClassVar[bool] = False
    """Whether the verdict depends on how the text is cut into tokens."""

    def init(self) -> State:
        """The state of the empty text."""
        raise NotImplementedError

    def step(self, state: State, token: Int[Array, " L"]) -> State:
        """The state after the bytes of one more token.

        :param state: what :meth:`init` or an earlier :meth:`step` returned.
        :param token: the token's bytes, padded with :data:`PAD`.
        """
        raise NotImplementedError

    def alive(self, state: State) -> Bool[Array, ""]:
        """Whether the text so far may still be completed. May err on the side of true."""
        raise NotImplementedError

    def accepts(self, state: State) -> Bool[Array, ""]:
        """Whether the text so far, ended here, is in the set."""
        raise NotImplementedError

    def advance(
        self,
        state: State,
        token: Int[Array, " L"],
        end: Bool[Array, ""] | bool,
        needed: Bool[Array, ""] | bool = True,
    ) -> tuple[State, Bool[Array, ""]]:
        """One token and its verdict: the text so far is accepted (at its end) or alive (elsewhere).

        Constraints whose two questions have different prices (a Python predicate) override this,
        so that only the one that is asked is answered.

        :param end: whether the text ends after these bytes.
        :param needed: where false, neither the new state nor the verdict will be used (the token
            is already refused), and a constraint on the host runs no Python for it.
        :return: the new state and whether the token is allowed.
        """
        del needed
        state = self.step(state, token)
        return state, jnp.where(end, self.accepts(state), self.alive(state))

    def masker(self, vocabulary: VocabularyLike, stop: int | None = None) -> Masker | NoMask:
        """The memory for masks over a vocabulary, or why there are none.

        :param vocabulary: the tokens.
        :param stop: a byte that ends a text like end-of-text does; it and what follows it in its token
            are not part of the text.
        """
        from sentax.ppl.constraints.masks import NoMask

        del vocabulary, stop
        return NoMask(f"{type(self).__name__} has no mask")

    def matches(self, text: bytes | str) -> bool:
        """Whether a whole text, taken as one token, is in the set: a check by hand, outside `jit`.

        :param text: the text; `str` is encoded as UTF-8.
        :raises PredicateError: if a predicate in it fails.
        """
        from sentax.ppl.constraints.predicate import host_errors

        raw = text.encode() if isinstance(text, str) else text
        # Lengths in powers of two, so that checks by hand compile a handful of programs.
        token = np.full(max(16, 1 << (len(raw) - 1).bit_length()), PAD, np.int32)
        token[: len(raw)] = np.frombuffer(raw, np.uint8)
        with host_errors():
            return bool(self.accepts(self.step(self.init(), jnp.asarray(token))))

    def __and__(self, other: Constraint) -> Constraint:
        from sentax.ppl.constraints.combinators import intersection

        return intersection(self, other)

    def __or__(self, other: Constraint) -> Constraint:
        from sentax.ppl.constraints.combinators import union

        return union(self, other)

    def __invert__(self) -> Constraint:
        from sentax.ppl.constraints.combinators import complement

        return complement(self)
