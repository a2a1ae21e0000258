"""All texts of a Markov-table language model, with their probabilities."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class EnumeratedText:
    """One outcome of `generate`: the tokens before the end, whether the model ended it, its probability."""

    tokens: tuple[int, ...]
    finished: bool
    probability: float
    data: bytes


class Markov:
    """A table in float64, independent of `sentax.TableLM` but made from the same numbers."""

    def __init__(self, logits: np.ndarray, initial: np.ndarray, tokens: list[bytes]) -> None:
        def normalise(x: np.ndarray) -> np.ndarray:
            p = np.exp(x.astype(np.float64))
            return p / p.sum(-1, keepdims=True)

        self.rows, self.first = normalise(logits), normalise(initial)
        self.tokens = tokens
        self.end = len(tokens) - 1

    def texts(self, max_tokens: int, row: np.ndarray | None = None) -> Iterator[EnumeratedText]:
        """Every text of at most `max_tokens` tokens; those that long are cut, not ended."""
        yield from self._extend((), 1.0, self.first if row is None else row, max_tokens)

    def _extend(
        self, tokens: tuple[int, ...], p: float, row: np.ndarray, left: int
    ) -> Iterator[EnumeratedText]:
        if p == 0.0:
            return
        if left == 0:
            yield EnumeratedText(tokens, False, p, self.join(tokens))
            return
        yield EnumeratedText(tokens, True, p * row[self.end], self.join(tokens))
        for token in range(self.end):
            yield from self._extend((*tokens, token), p * row[token], self.rows[token], left - 1)

    def join(self, tokens: tuple[int, ...]) -> bytes:
        return b"".join(self.tokens[t] for t in tokens)
