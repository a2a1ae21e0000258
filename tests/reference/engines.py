"""An engine on the host that counts what it is asked."""

from __future__ import annotations

import numpy as np

from sentax.ppl.constraints.engine import Engine


class Words(Engine):
    """At most `longest` bytes of a, b and c, no two b in a row; complete with an even number of a.

    It counts what it is asked and how far it must read.
    """

    has_mask = True

    def __init__(self, longest: int = 12, in_parallel: bool = False) -> None:
        self.longest = longest
        self.in_parallel = in_parallel
        self.asked: list[tuple[bytes, bool]] = []
        self.read = 0
        self.masked: list[bytes] = []

    def __reduce__(self):
        return type(self), (self.longest, self.in_parallel)

    def start(self) -> bytes:
        return b""

    def extend(self, session: bytes, piece: bytes) -> bytes:
        self.read += len(piece)
        return session + piece

    def alive(self, text: bytes) -> bool:
        return len(text) <= self.longest and b"bb" not in text and not text.strip(b"abc")

    def prefix(self, session: bytes, piece: bytes) -> bool:
        self.asked.append((session + piece, False))
        return self.alive(session + piece)

    def complete(self, session: bytes, piece: bytes) -> bool:
        self.asked.append((session + piece, True))
        return self.alive(session + piece) and (session + piece).count(b"a") % 2 == 0

    def mask(self, session: bytes, vocabulary) -> np.ndarray:
        self.masked.append(session)
        bits = np.zeros(-(-vocabulary.size // 32) * 32, bool)
        bits[: vocabulary.size] = [bool(t) and self.alive(session + t) for t in vocabulary.tokens]
        return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)
