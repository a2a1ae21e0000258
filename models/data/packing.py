"""From texts to tables of token ids: the tokenizer, packed rows for training, and held-out documents."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

import numpy as np
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from sentax.models.data.forms import KINDS, document, documents

END_OF_TEXT = "<|endoftext|>"
_WORDS = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where the tokenizer may not merge: Llama 3's pattern, with digits in groups of at most three."""


def train_tokenizer(vocab_size: int, num_documents: int, seed: int = 0) -> Tokenizer:
    """A byte-level BPE in the style of Llama 3, learned from generated documents.

    End-of-text is also the beginning of a text, as in GPT-2: encoding puts it in front unless told not to.

    :param vocab_size: tokens, the 256 bytes and end-of-text among them.
    :param num_documents: how many documents it is learned from.
    :raises ValueError: where the documents do not hold so many tokens.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_WORDS, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        (text for _, text in documents(Random(f"tokenizer {seed}"), num_documents)), trainer
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A",
        pair=f"{END_OF_TEXT} $A $B",
        special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))],
    )
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(f"only {tokenizer.get_vocab_size()} tokens could be learned, not {vocab_size}")
    return tokenizer


def rows(rng: Random, tokenizer: Tokenizer, count: int, length: int) -> Int[np.ndarray, "count length+1"]:
    """Rows that begin with end-of-text and hold documents, each closed by end-of-text, until a row is full.

    What does not fit is dropped, so that position 0 always holds what it holds before a prompt.

    :param count: how many rows.
    :param length: tokens that the model reads; a row has one more, which is only predicted.
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    table = np.full((count, length + 1), end, np.int32)
    row, filled = 0, 1
    while row < count:
        texts = [text for _, text in documents(rng, 256)]
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            ids = encoding.ids
            table[row, filled : filled + len(ids)] = ids[: max(0, length + 1 - filled)]
            filled += len(ids) + 1
            if filled > length:
                row, filled = row + 1, 1
                if row == count:
                    break
    return table


class HeldOut(NamedTuple):
    """Documents of one kind that training draws from another seed; short ones may occur in both."""

    table: np.ndarray
    """Token ids, one document a row between end-of-text on both sides, padded with end-of-text."""
    lengths: np.ndarray
    """Tokens of each row, both ends included."""
    num_bytes: int
    """Bytes of all documents."""


def held_out(tokenizer: Tokenizer, seed: int, count: int, length: int) -> dict[str, HeldOut]:
    """Documents of each kind, cut where they are longer than `length` tokens."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    assert end is not None
    result = {}
    for kind in KINDS:
        rng = Random(f"held out {kind} {seed}")
        texts = [document(rng, kind) for _ in range(count)]
        ids = [
            [end, *e.ids, end][: length + 1] for e in tokenizer.encode_batch(texts, add_special_tokens=False)
        ]
        table = np.full((count, length + 1), end, np.int32)
        for row, line in zip(table, ids):
            row[: len(line)] = line
        num_bytes = sum(len(tokenizer.decode(line).encode()) for line in ids)
        result[kind] = HeldOut(table, np.array([len(line) for line in ids]), num_bytes)
    return result
