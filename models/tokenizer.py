"""The exact bytes of every token of a fast tokenizer, and text to ids."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
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
    for special tokens. Three styles have an exact map. Byte-level (GPT-2, Llama 3, Qwen, whatever was
    converted from tiktoken): each character of a token is a byte. SentencePiece with byte fallback (Llama 2,
    Gemma): U+2581 is a space and ``<0x41>`` a byte. WordPiece (BERT): a token that begins a word stands
    for a *space and its text*, and ``##ing`` for ``ing``; so ``["hello", ",", "wor", "##ld"]`` is the text
    ``" hello , world"``, as its own decoder has it, but for the first space. An added token stands for its
    own text. Several ids may have the same bytes.

    :param spec: the parsed ``tokenizer.json``.
    :return: bytes of every ordinary token by id, and the ids of special tokens by content.
    :raises ModelError: for a tokenizer of another style.
    """
    model = spec["model"]
    vocab = model.get("vocab") or {}
    # Unigram lists (piece, score) by id, in which a piece may occur twice.
    pairs = [(piece, i) for i, (piece, _) in enumerate(vocab)] if isinstance(vocab, list) else vocab.items()
    spell = _spelling(spec)
    ordinary = {index: spell(piece) for piece, index in pairs}
    special: dict[str, int] = {}
    for token in spec.get("added_tokens") or ():
        content, index = token["content"], token["id"]
        if token["special"]:
            special[content] = index
        elif index not in ordinary:
            space = b" " if model.get("type") == "WordPiece" else b""
            ordinary[index] = space + content.encode()
    unknown = model.get("unk_id")
    for piece, index in pairs:
        if index == unknown or (unknown is None and piece == model.get("unk_token")):
            special.setdefault(piece, index)
    for index in special.values():
        ordinary.pop(index, None)
    return ordinary, special


def _spelling(spec: dict[str, Any]) -> Callable[[str], bytes]:
    """The function from a piece of the vocabulary to its bytes."""
    model = spec["model"]
    parts = [spec.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")]
    if model.get("type") == "WordPiece":
        prefix, decoder = model["continuing_subword_prefix"], spec.get("decoder") or {}
        if prefix and decoder.get("prefix", prefix) == prefix:
            return functools.partial(_wordpiece, prefix)
        raise ModelError(
            f"the tokenizer's WordPiece model marks the inside of words by {prefix!r}, "
            f"its decoder by {decoder.get('prefix')!r}: its tokens have no exact bytes"
        )
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ModelError(
            "the tokenizer marks parts of words (continuing_subword_prefix or end_of_word_suffix): "
            "its tokens have no exact bytes"
        )
    if any(node.get("type") == "ByteLevel" for node in _nodes(parts)):
        return _byte_level
    if model.get("byte_fallback"):
        return _sentencepiece
    raise ModelError(
        f"the tokenizer ({model.get('type')}) is neither byte-level nor WordPiece, nor has it byte fallback: "
        "its tokens have no exact bytes"
    )


def _wordpiece(prefix: str, piece: str) -> bytes:
    return (piece[len(prefix) :] if piece.startswith(prefix) else " " + piece).encode()


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
        self.added: dict[str, int] = {t["content"]: t["id"] for t in self._spec.get("added_tokens") or ()}
        """The added tokens by content, special or not: what is recognised before a text is cut."""
        self.added |= self.special
        example = self._fast.encode("a", add_special_tokens=True)
        ordinary = example.special_tokens_mask.index(0) if 0 in example.special_tokens_mask else 0
        self.prefix: tuple[int, ...] = tuple(example.ids[:ordinary])
        """The special tokens in front of every prompt."""
        if not self.prefix and bos_token in self.special:
            self.prefix = (self.special[bos_token],)

    @classmethod
    def from_file(cls, path: str | Path, bos_token: str | None = None) -> Tokenizer:
        return cls(Path(path).read_text(encoding="utf-8"), bos_token)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """What :meth:`to_json` gave."""
        saved = json.loads(text)
        tokenizer = cls(json.dumps(saved["tokenizer"], ensure_ascii=False))
        tokenizer.prefix = tuple(saved["prefix"])
        return tokenizer

    def to_json(self) -> str:
        """Everything about this tokenizer as one text."""
        return json.dumps({"tokenizer": self._spec, "prefix": self.prefix}, ensure_ascii=False)

    @functools.cached_property
    def _exact(self) -> FastTokenizer:
        """The same merges, blind to special tokens, without whatever changes a text before it is cut."""
        spec = json.loads(json.dumps(self._spec))
        # Unicode normal forms, lower case, collapsed and added spaces; what is left makes spaces visible.
        spaces = [node for node in _nodes(spec.get("normalizer")) if node.get("pattern") == {"String": " "}]
        spec["normalizer"] = {"type": "Sequence", "normalizers": spaces} if spaces else None
        nodes = list(_nodes(spec.get("pre_tokenizer")))
        for node in nodes:
            if node.get("type") == "Sequence" and any(other.get("type") == "Metaspace" for other in nodes):
                steps = node["pretokenizers"]
                node["pretokenizers"] = [step for step in steps if step["type"] != "WhitespaceSplit"]
            if node.get("type") == "Metaspace":
                node["prepend_scheme"] = "never"
            if node.get("type") == "ByteLevel":
                node["add_prefix_space"] = False
        for token in spec.get("added_tokens") or ():
            token["lstrip"] = token["rstrip"] = False
        spec["padding"] = spec["truncation"] = None
        fast = FastTokenizer.from_str(json.dumps(spec))
        fast.encode_special_tokens = True
        return fast

    def encode(self, text: str) -> list[int]:
        """Ids of a fragment of text: nothing is added, and the names of special tokens are plain text.

        :raises ValueError: if no tokens have exactly the bytes of the text: WordPiece cannot write
            two spaces, or a comma without one in front.
        """
        for cut in (self._cut, self._cut_apart):
            ids = cut(text)
            spelled = b"".join(self.bytes.get(index, b"") for index in ids)
            if spelled == text.encode():
                return ids
        raise ValueError(f"this tokenizer cannot write {text!r}: its tokens spell {spelled!r}")

    def _cut(self, text: str) -> list[int]:
        if self._spec["model"]["type"] != "WordPiece":
            return self._exact.encode(text, add_special_tokens=False).ids
        # Up to the first space a word that has begun already goes on.
        head, _, rest = text.partition(" ")
        return self._inside_of_word(head) + self._exact.encode(rest, add_special_tokens=False).ids

    def _cut_apart(self, text: str) -> list[int]:
        """With the names of pieces that mean something else cut in two, and U+2581 in bytes: it is no space."""
        names = "|".join([r"<0x[0-9A-Fa-f]{2}>", *map(re.escape, self.special)])
        ids: list[int] = []
        for part in re.split(f"({_SPACE})", text):
            if part == _SPACE:
                spelled = [self._fast.token_to_id(f"<0x{byte:02X}>") for byte in _SPACE.encode()]
                ids += [index for index in spelled if index is not None]
                continue
            starts = [0, *(match.start() + 1 for match in re.finditer(f"(?={names})", part)), len(part)]
            for start, stop in itertools.pairwise(starts):
                ids += self._cut(part[start:stop])
        return ids

    def _inside_of_word(self, text: str) -> list[int]:
        """The longest pieces first, as WordPiece does; as far as they reach."""
        model = self._spec["model"]
        ids = []
        while text:
            for stop in range(len(text), 0, -1):
                index = model["vocab"].get(model["continuing_subword_prefix"] + text[:stop])
                if index is not None:
                    break
            else:
                break
            ids.append(index)
            text = text[stop:]
        return ids

    def encode_prompt(self, text: str, *, prefix: bool = True) -> list[int]:
        """Ids of a whole prompt, special tokens by name and the tokenizer's own first space included.

        :param text: the prompt.
        :param prefix: whether to put the special tokens in front (a chat template does it itself).
        """
        ids = self._fast.encode(text, add_special_tokens=False).ids
        return [*self.prefix, *ids] if prefix else ids
