"""A model's tokens as bytes: one table for the device, and text in and out on the host."""

from __future__ import annotations

import functools
import hashlib
import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sentax.models.errors import ModelError
from sentax.models.tokenizer import Tokenizer
from sentax.ppl.constraints.base import PAD


class _Host:
    """What a vocabulary keeps off the device. Compared by content, so that it may key a jit cache."""

    def __init__(self, tokens: tuple[bytes, ...], ends: tuple[int, ...], tokenizer: Tokenizer | None):
        self.tokens, self.ends, self.tokenizer = tokens, ends, tokenizer
        digest = hashlib.blake2b(repr(ends).encode(), digest_size=16)
        for token in tokens:
            digest.update(len(token).to_bytes(4, "little") + token)
        if tokenizer is not None:
            digest.update(tokenizer.fingerprint)
        self.fingerprint = digest.digest()
        self._hash = hash(self.fingerprint)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Host) and self.fingerprint == other.fingerprint)

    @functools.cached_property
    def table(self) -> np.ndarray:
        table = np.full((len(self.tokens), max(1, *map(len, self.tokens))), PAD, np.int16)
        for row, token in zip(table, self.tokens):
            row[: len(token)] = np.frombuffer(token, np.uint8)
        return table

    @functools.cached_property
    def bytes_to_id(self) -> dict[int, int] | None:
        """The one token of each byte, if there are no other tokens."""
        ids = {token[0]: index for index, token in enumerate(self.tokens) if len(token) == 1}
        return ids if len(ids) == sum(map(bool, self.tokens)) else None


@jax.tree_util.register_pytree_node_class
class Vocabulary:
    """The bytes of every token.

    A pytree with one leaf, :attr:`table`; everything else is static and compared by a fingerprint of the
    bytes, so two vocabularies of the same tokens share compiled programs.

    One id ends a text, :attr:`end_of_text`. A model may have several such tokens (a chat model's end of
    turn beside the end of the document): their probabilities are summed into that one id by the model's
    context. They, the other special tokens and the padding rows of an embedding have no bytes.

    :param tokens: bytes of each id; empty where a token is no text. Duplicates are allowed.
    :param end_of_text: the id, or all the ids, that end a text; the first one stands for all.
    :param tokenizer: what :meth:`encode` uses.
    :raises ValueError: if `end_of_text` is empty or out of range.

        >>> vocabulary = Vocabulary([b"a", b"bc", b""], end_of_text=2)
        >>> vocabulary.size, vocabulary.table.tolist()
        (3, [[97, 256], [98, 99], [256, 256]])
        >>> vocabulary.decode([1, 0, 2, 0])
        b'bca'
    """

    table: Int[Array, "V L"]
    """Row ``i`` holds the bytes of token ``i``, padded with 256; int16."""

    def __init__(
        self, tokens: Iterable[bytes], end_of_text: int | Sequence[int], tokenizer: Tokenizer | None = None
    ):
        tokens = list(tokens)
        ends = tuple(dict.fromkeys([end_of_text] if isinstance(end_of_text, int) else end_of_text))
        if not ends or not all(0 <= index < len(tokens) for index in ends):
            raise ValueError(f"end_of_text is {end_of_text}; expected ids below {len(tokens)}")
        for index in ends:
            tokens[index] = b""
        self._host = _Host(tuple(tokens), ends, tokenizer)
        self.table = jnp.asarray(self._host.table)

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer, size: int, end_of_text: Sequence[int]) -> Vocabulary:
        """The vocabulary of a model with so many embedding rows.

        :param tokenizer: gives the bytes.
        :param size: rows of the embedding; rows without a token are padding, never drawn.
        :param end_of_text: every id that ends a text, the chosen one first.
        :raises ModelError: if the tokenizer has a token beyond the embedding, or nothing ends a text.
        """
        if (last := max(tokenizer.bytes, default=-1)) >= size:
            raise ModelError(f"the tokenizer has token {last}, but the model has only {size} embedding rows")
        ends = [index for index in end_of_text if index < size]
        if not ends:
            raise ModelError(
                "no token ends a text: neither the configs nor the tokenizer name an end-of-text token"
            )
        return cls((tokenizer.bytes.get(index, b"") for index in range(size)), ends, tokenizer)

    @property
    def size(self) -> int:
        return len(self._host.tokens)

    @property
    def end_of_text(self) -> int:
        """The one id that ends a text."""
        return self._host.ends[0]

    @property
    def ends(self) -> tuple[int, ...]:
        """Every id of the model that ends a text, :attr:`end_of_text` first."""
        return self._host.ends

    @property
    def tokens(self) -> tuple[bytes, ...]:
        """The bytes of every token; empty for end-of-text, specials and padding."""
        return self._host.tokens

    @property
    def tokenizer(self) -> Tokenizer | None:
        return self._host.tokenizer

    def encode(self, text: str | bytes) -> list[int]:
        """Ids whose bytes are exactly this text: nothing is added, no special token is recognised.

        Without a tokenizer this works where a text can be cut in one way only: where every token is a
        single byte, each its own.

        :raises ValueError: if the vocabulary has no tokenizer where it needs one, or cannot write the text.

            >>> Vocabulary([b"a", b"b", b""], end_of_text=2).encode("abba")
            [0, 1, 1, 0]
        """
        if not text:
            return []
        if self.tokenizer is not None:
            return self.tokenizer.encode(text if isinstance(text, str) else _decode(text))
        ids = self._host.bytes_to_id
        if ids is None:
            raise ValueError("this vocabulary has no tokenizer: give token ids")
        raw = text.encode() if isinstance(text, str) else text
        if unknown := set(raw) - ids.keys():
            raise ValueError(f"no token of this vocabulary has the byte {bytes([min(unknown)])!r}")
        return [ids[byte] for byte in raw]

    def check_ids(self, ids: Iterable[Any]) -> list[int]:
        """Ids given by hand, as integers.

        :raises ValueError: if one is not below :attr:`size`.
        """
        checked = [operator.index(i) for i in ids]
        if bad := [i for i in checked if not 0 <= i < self.size]:
            raise ValueError(f"{bad[0]} is no token id below {self.size}")
        return checked

    def decode(self, tokens: Any) -> bytes:
        """The bytes of a host-side sequence of ids, up to (not with) the first end-of-text.

        Bytes, not text: a sequence may end inside a character.
        """
        ids = map(int, np.asarray(tokens).reshape(-1))
        return b"".join(self.tokens[i] for i in itertools.takewhile(lambda i: i != self.end_of_text, ids))

    def drawable(self) -> Bool[np.ndarray, " V"]:
        """The ids that may be drawn: those with bytes, and end-of-text."""
        drawable = self._host.table[:, 0] != PAD
        drawable[self.end_of_text] = True
        return drawable

    def starting_with(self, prefix: bytes) -> Bool[np.ndarray, " V"]:
        """The ids whose bytes start with these."""
        table = self._host.table
        if len(prefix) > table.shape[1]:
            return np.zeros(self.size, bool)
        return (table[:, : len(prefix)] == np.frombuffer(prefix, np.uint8)).all(axis=1)

    def completions(self, index: int) -> Bool[np.ndarray, " V"] | None:
        """The ids whose bytes start with those of one token; None if it is special or there is no longer one.

        What token healing may put in its place.

            >>> vocabulary = Vocabulary([b"http", b":", b"://", b""], end_of_text=3)
            >>> vocabulary.completions(1), vocabulary.completions(0)
            (array([False,  True,  True, False]), None)
        """
        token = self.tokens[index]
        if not token:
            return None
        matches = self.starting_with(token)
        longer = any(len(self.tokens[other]) > len(token) for other in np.flatnonzero(matches))
        return matches if longer else None

    def tree_flatten(self) -> tuple[tuple[Any], _Host]:
        return (self.table,), self._host

    @classmethod
    def tree_unflatten(cls, host: _Host, children: tuple[Any]) -> Vocabulary:
        self = object.__new__(cls)
        (self.table,), self._host = children, host
        return self

    def __repr__(self) -> str:
        return f"Vocabulary(size={self.size}, end_of_text={self.end_of_text})"


def end_of_text_ids(
    tokenizer: Tokenizer, *configs: Mapping[str, Any], eos_token: str | None = None
) -> list[int]:
    """Every id that ends a text: the union over configs in their order, then the tokenizer's own.

    :param tokenizer: turns `eos_token` into an id.
    :param configs: parsed files that may hold ``eos_token_id``, a number or a list.
    :param eos_token: the tokenizer's end-of-text token.
    """
    ids: list[int] = []
    for config in configs:
        value = config.get("eos_token_id")
        ids.extend(value if isinstance(value, list) else [] if value is None else [value])
    if eos_token is not None and (index := tokenizer.special.get(eos_token)) is not None:
        ids.append(index)
    return list(dict.fromkeys(ids))


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{text!r} is not UTF-8, so a tokenizer cannot cut it: give token ids") from None
