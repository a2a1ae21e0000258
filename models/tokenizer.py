"""The exact bytes of every token of a fast tokenizer, and text to ids."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from sentax.models.errors import ModelError

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "\u2581"  # SentencePiece's visible space


@functools.cache
def _byte_of_char() -> dict[str, int]:
    """GPT-2's byte-level alphabet: printable Latin-1 stands for itself, other bytes for U+0100 upwards."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in set(plain)]
    return {chr(byte): byte for byte in plain} | {chr(0x100 + i): byte for i, byte in enumerate(rest)}


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every component of a tokenizer's JSON, sequences opened."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _nodes(item)


def token_bytes(spec: dict[str, Any]) -> tuple[dict[int, bytes], dict[str, int]]:
    """What each token stands for, from the JSON of a fast tokenizer.

    ``decode([i])`` is no substitute: it is wrong for parts of a character, for spaces at the start and
    for special tokens. Two styles have an exact map. Byte-level (GPT-2, Llama 3, Qwen): each character
    of a token is a byte. SentencePiece with byte fallback (Llama 2, Gemma): U+2581 is a space and
    ``<0x41>`` a byte. An added token stands for its own text. Several ids may have the same bytes.

    :param spec: the parsed ``tokenizer.json``.
    :return: bytes of every ordinary token by id, and the ids of special tokens by content.
    :raises ModelError: for a tokenizer that is neither.
    """
    model = spec["model"]
    vocab = model.get("vocab") or {}
    if isinstance(vocab, list):  # Unigram: (piece, score) by id
        vocab = {piece: index for index, (piece, _) in enumerate(vocab)}
    parts = [spec.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")]
    byte_level = any(node.get("type") == "ByteLevel" for node in _nodes(parts))
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ModelError(
            "the tokenizer marks parts of words (continuing_subword_prefix or end_of_word_suffix): "
            "its tokens have no exact bytes"
        )
    if not byte_level and not model.get("byte_fallback"):
        raise ModelError(
            f"the tokenizer ({model.get('type')}) is neither byte-level nor has byte fallback: "
            "its tokens have no exact bytes"
        )
    ordinary: dict[int, bytes] = {}
    special: dict[str, int] = {}
    for piece, index in vocab.items():
        ordinary[index] = _byte_level(piece) if byte_level else _sentencepiece(piece)
    for token in spec.get("added_tokens") or ():
        content, index = token["content"], token["id"]
        if token["special"]:
            special[content] = index
        elif content not in vocab:
            ordinary[index] = content.encode()
    if (unknown := model.get("unk_token")) in vocab:
        special.setdefault(unknown, vocab[unknown])
    if isinstance(index := model.get("unk_id"), int):
        special.setdefault(next(piece for piece, i in vocab.items() if i == index), index)
    for index in special.values():
        ordinary.pop(index, None)
    return ordinary, special


def _byte_level(piece: str) -> bytes:
    alphabet = _byte_of_char()
    if all(char in alphabet for char in piece):
        return bytes(alphabet[char] for char in piece)
    return piece.encode()


def _sentencepiece(piece: str) -> bytes:
    if match := _BYTE_PIECE.fullmatch(piece):
        return bytes([int(match[1], 16)])
    return piece.replace(_SPACE, " ").encode()


class Tokenizer:
    """A fast tokenizer with two ways in: whole prompts as the model was trained, and exact fragments.

    :param text: the content of ``tokenizer.json``.
    :param bos_token: put this token in front of a prompt where the tokenizer itself puts none.
    :raises ModelError: if the content is no fast tokenizer, or its tokens have no exact bytes.
    """

    def __init__(self, text: str, bos_token: str | None = None):
        try:
            self._fast = FastTokenizer.from_str(text)
        except Exception as error:  # the library raises bare exceptions
            raise ModelError(f"not a fast tokenizer: {error}") from None
        # The library's own rendering: it fills in what older files leave out.
        self._spec = json.loads(self._fast.to_str())
        self.fingerprint = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self._fast.no_padding()
        self._fast.no_truncation()
        self.bytes, self.special = token_bytes(self._spec)
        example = self._fast.encode("a", add_special_tokens=True)
        ordinary = example.special_tokens_mask.index(0) if 0 in example.special_tokens_mask else 0
        self.prefix: tuple[int, ...] = tuple(example.ids[:ordinary])
        """The special tokens in front of every prompt."""
        if not self.prefix and bos_token in self.special:
            self.prefix = (self.special[bos_token],)

    @classmethod
    def from_file(cls, path: str | Path, bos_token: str | None = None) -> Tokenizer:
        return cls(Path(path).read_text(encoding="utf-8"), bos_token)

    @functools.cached_property
    def _exact(self) -> FastTokenizer:
        """The same merges without a space in front of the text, and blind to special tokens."""
        spec = json.loads(json.dumps(self._spec))
        if (spec.get("normalizer") or {}).get("type") == "Prepend":
            spec["normalizer"] = None
        for node in _nodes([spec.get("normalizer"), spec.get("pre_tokenizer")]):
            if node.get("type") == "Sequence":
                for steps in (s for s in ("normalizers", "pretokenizers") if s in node):
                    node[steps] = [step for step in node[steps] if step["type"] != "Prepend"]
            if node.get("type") == "Metaspace":
                node["prepend_scheme"] = "never"
            if node.get("type") == "ByteLevel":
                node["add_prefix_space"] = False
        spec["padding"] = spec["truncation"] = None
        fast = FastTokenizer.from_str(json.dumps(spec))
        fast.encode_special_tokens = True
        return fast

    def encode(self, text: str) -> list[int]:
        """Ids of a fragment of text: nothing is added, and the names of special tokens are plain text."""
        return self._exact.encode(text, add_special_tokens=False).ids

    def encode_prompt(self, text: str, *, prefix: bool = True) -> list[int]:
        """Ids of a whole prompt, special tokens by name and the tokenizer's own first space included.

        :param text: the prompt.
        :param prefix: whether to put the special tokens in front (a chat template does it itself).
        """
        ids = self._fast.encode(text, add_special_tokens=False).ids
        return [*self.prefix, *ids] if prefix else ids
