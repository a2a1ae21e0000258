"""Masks over a vocabulary from engines on the host."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from sentax.ppl.constraints.base import State
from sentax.ppl.constraints.engine import Session
from sentax.ppl.constraints.host import recorded_failures, trie_of
from sentax.ppl.constraints.masks import Masker
from sentax.ppl.constraints.trie import COMPLETE, DEAD, PREFIX, Trie
from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree

_MAX_ROW_BYTES = 1 << 26
_numbers: dict[tuple[Any, int, int | None], int] = {}
_readers: list[_Reader] = []
_numbering = threading.Lock()


@pytree
@dataclass(frozen=True)
class HostMasker(Masker):
    """Masks that an engine makes on the host: one callback for all particles, one mask for each text met.

    :param handle: the constraint's number.
    :param number: of the vocabulary and the stop byte.
    :param width: 32-bit words of a row.
    """

    handle: Int[Array, ""]
    number: int = field(metadata={"static": True})
    width: int = field(metadata={"static": True})

    exact = True

    @classmethod
    def of(cls, handle: Int[Array, ""], vocabulary: VocabularyLike, stop: int | None) -> HostMasker:
        """The masker of a constraint's handle, which may be traced."""
        # A program that was traced with this number serves other constraints: it belongs to no trie.
        # Vocabularies are few, and equal ones share a number for good.
        key = (vocabulary.tokens, vocabulary.end_of_text, stop)
        with _numbering:
            number = _numbers.setdefault(key, len(_readers))
            if number == len(_readers):
                _readers.append(_Reader(vocabulary, stop))
        return cls(handle, number, -(-vocabulary.size // 32))

    def lookup(
        self, state: State, seam: Int[Array, ""], needed: Bool[Array, ""] | bool
    ) -> tuple[Masker, UInt32[Array, " W"]]:
        question = [jnp.asarray(x, jnp.int32) for x in (self.handle, self.number, state, seam, needed)]
        shape = jax.ShapeDtypeStruct((self.width,), jnp.uint32)
        return self, jax.pure_callback(masks, shape, jnp.stack(question), vmap_method="broadcast_all")


def masks(packed: Any) -> np.ndarray:
    """The callback of all masks on the host.

    :param packed: constraint, vocabulary, node, seam and whether it is needed, int32 [..., 5].
    :return: uint32 [..., W].
    """
    with recorded_failures():
        packed = np.asarray(packed)
        questions, lanes = np.unique(packed.reshape(-1, 5), axis=0, return_inverse=True)
        width = _readers[int(questions[0, 1])].width
        rows = np.zeros((len(questions), width), np.uint32)
        for row, (handle, number, node, seam, needed) in zip(rows, questions.tolist()):
            if needed and node != DEAD:
                trie = trie_of(handle)
                with trie.lock:
                    row[:] = _row(trie, number, node, seam)
        return rows[lanes.reshape(-1)].reshape(*packed.shape[:-1], width)


def _row(trie: Trie, number: int, node: int, seam: int) -> UInt32[np.ndarray, " W"]:
    key = (number, node, seam)
    row = trie.rows.get(key)
    if row is None:
        reader = _readers[number]
        if trie.answer(node, b"", PREFIX)[1]:
            row = reader.read(trie, node, seam)
            trie.masks += 1
        else:
            row = np.zeros(reader.width, np.uint32)
        while trie.rows and (len(trie.rows) + 1) * row.nbytes > _MAX_ROW_BYTES:
            trie.rows.popitem(last=False)
        trie.rows[key] = row
    else:
        trie.rows.move_to_end(key)
    return row


class _Reader:
    """How the masks over one vocabulary are read: what the stop byte and a seam do to its tokens."""

    def __init__(self, vocabulary: VocabularyLike, stop: int | None) -> None:
        # The table may be traced, so an engine is shown the host side alone.
        self.vocabulary = cast(VocabularyLike, _HostSide(vocabulary.tokens, vocabulary.end_of_text))
        self.width = -(-vocabulary.size // 32)
        self.stop = None if stop is None else bytes([stop])
        self.stopped = self._stopped(0)
        # What adds nothing to a text that may go on is allowed, as it is where tokens are checked.
        self.silent = [v for v, token in enumerate(vocabulary.tokens) if not token]

    def _stopped(self, seam: int) -> dict[bytes, list[int]]:
        """The tokens that hold the stop byte, by what they add to the text before it."""
        stopped: dict[bytes, list[int]] = {}
        if self.stop is not None:
            for v, token in enumerate(self.vocabulary.tokens):
                before, found, _ = token[seam:].partition(self.stop)
                if found:
                    stopped.setdefault(before, []).append(v)
        return stopped

    def read(self, trie: Trie, node: int, seam: int) -> UInt32[np.ndarray, " W"]:
        """The mask after a text that is alive."""
        session = trie.session(node)
        stopped = self._stopped(seam) if seam else self.stopped
        if seam:
            bits = self._behind_seam(trie, session, seam)
        else:
            row = np.asarray(trie.engine.mask(session, self.vocabulary), np.uint32)
            if row.shape != (self.width,):
                raise RuntimeError(
                    f"{trie.engine!r} made a mask of shape {row.shape}; {self.width} words were asked for"
                )
            bits = np.unpackbits(row.astype("<u4").view(np.uint8), bitorder="little")
        for piece, tokens in stopped.items():
            bits[tokens] = trie.engine.complete(session, piece)
        bits[self.silent] = True
        bits[self.vocabulary.end_of_text] = trie.answer(node, b"", COMPLETE)[1]
        return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)

    def _behind_seam(self, trie: Trie, session: Session, seam: int) -> np.ndarray:
        """Bits, token by token: only the engine's own masks know the whole vocabulary at once."""
        groups: dict[bytes, list[int]] = {}
        for v, token in enumerate(self.vocabulary.tokens):
            if token and (self.stop is None or self.stop not in token[seam:]):
                groups.setdefault(token[seam:], []).append(v)
        bits = np.zeros(32 * self.width, np.uint8)
        for piece, tokens in groups.items():
            bits[tokens] = trie.engine.prefix(session, piece)
        return bits


@dataclass(frozen=True)
class _HostSide:
    """What an engine may ask of a vocabulary."""

    tokens: tuple[bytes, ...]
    end_of_text: int

    @property
    def size(self) -> int:
        return len(self.tokens)
