"""What answers for a constraint on the host: the protocol between the memory of texts and a real engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt32

from sentax.ppl.language_model import VocabularyLike

Session = Any
"""What an engine keeps of one text: its bytes, a parser's state, a matcher. A question never changes it."""


class Engine:
    """A set of byte strings on the host, asked one piece at a time.

    The memory of texts (:class:`~sentax.ppl.constraints.trie.Trie`) asks each question once and keeps the
    answers; it keeps the sessions of recent texts and makes the others again with :meth:`start` and
    :meth:`extend`. So a question must not change its session, and its price should not grow with the
    text's length. Calls are serialised by the memory's lock. Nothing here may call JAX.

    An engine is pickled by what it was made of, never with its sessions.
    """

    has_mask: ClassVar[bool] = False
    """Whether :meth:`mask` is there, and cheaper than checking tokens one by one."""

    in_parallel: bool = False
    """Whether many questions together take less time than one after the other; see :meth:`ask_all`."""

    def start(self) -> Session:
        """The session of the empty text."""
        raise NotImplementedError

    def extend(self, session: Session, piece: bytes) -> Session:
        """The session of the text followed by a piece; `session` stays what it was.

        Asked only of pieces that are not known to be refused.
        """
        raise NotImplementedError

    def prefix(self, session: Session, piece: bytes) -> bool:
        """Whether the text followed by a piece may still be completed."""
        raise NotImplementedError

    def complete(self, session: Session, piece: bytes) -> bool:
        """Whether the text followed by a piece is in the set."""
        raise NotImplementedError

    def ask_all(self, questions: Sequence[tuple[Session, bytes, bool]]) -> list[bool]:
        """The verdicts on many texts, asked of engines that work :attr:`in_parallel`.

        :param questions: a session, a piece, and whether :meth:`complete` is asked, not :meth:`prefix`.
        """
        return [
            self.complete(session, piece) if at_end else self.prefix(session, piece)
            for session, piece, at_end in questions
        ]

    def mask(self, session: Session, vocabulary: VocabularyLike) -> UInt32[np.ndarray, " W"]:
        """The tokens that may come next, 32 to a word, least bit first: `W = ceil(V / 32)`.

        A token without bytes (a special, padding, every end of text) has bit 0 here: those are the caller's to
        set, end-of-text from :meth:`complete`.
        """
        raise NotImplementedError
