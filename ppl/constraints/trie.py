"""The memory of a predicate: a trie of the texts met on the host, and what is known of each."""

from __future__ import annotations

import codecs
import itertools
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

ROOT, DEAD = 0, 1
SKIP, MOVE, PREFIX, COMPLETE = range(4)
"""What is asked of a text: nothing at all, nothing but its node, or one of the two verdicts."""

_CACHED_TEXTS = 4096


class PredicateError(RuntimeError):
    """A predicate raised, or returned something other than a bool; the message holds the text.

    :param text: the text on which it happened.
    """

    def __init__(self, message: str, text: bytes) -> None:
        super().__init__(message)
        self.text = text

    def __reduce__(self) -> tuple:
        return type(self), (self.args[0], self.text)


class PredicateStats(NamedTuple):
    """What a predicate has cost so far.

    :param calls: calls of the Python functions.
    :param memo_hits: questions answered without a call.
    :param nodes: texts remembered.
    """

    calls: int
    memo_hits: int
    nodes: int


class Trie:
    """The host side of a predicate: an append-only trie of the texts met, with what is known of each.

    A node is an integer, so it travels through compiled programs as a particle's state; particles
    that a resampling has copied share it. Node 1 stands for every text that can no longer be
    completed. Callers hold the lock, so one Python function runs at a time.
    """

    def __init__(
        self, prefix_ok: Callable[[Any], bool] | None, complete_ok: Callable[[Any], bool], as_str: bool
    ) -> None:
        self.prefix_ok = prefix_ok
        self.complete_ok = complete_ok
        self.as_str = as_str
        self.lock = threading.RLock()
        self.calls = 0
        self.questions = 0
        self.children: dict[tuple[int, bytes], int] = {}
        # By node: where it came from, and the two verdicts (None where not asked yet).
        self.origin: list[tuple[int, bytes]] = [(ROOT, b""), (DEAD, b"")]
        self.prefix: list[bool | None] = [None, False]
        self.complete: list[bool | None] = [None, False]
        self.texts: dict[int, bytes] = {ROOT: b"", DEAD: b""}

    def answer(self, node: int, piece: bytes, action: int) -> tuple[int, bool]:
        """The node of `node`'s text followed by `piece`, and the verdict that `action` asks for."""
        if action == SKIP:
            return node, False
        if action != MOVE:
            self.questions += 1
        if self.prefix[node] is False:
            return DEAD, False
        child = self.children.get((node, piece)) if piece else node
        verdicts = self.complete if action == COMPLETE else self.prefix
        if child is not None:
            known = True if action == MOVE else verdicts[child]
            if known is not None:
                return (DEAD if action == PREFIX and not known else child), known
        text = self.text(node) + piece
        verdict: bool | None = None
        if action == PREFIX:
            verdict = self._ask_prefix(node, text, piece)
        elif action == COMPLETE:
            verdict = self._ask_complete(text)
        if child is None:
            # Most texts that a sampler tries are refused: they share one node.
            child = DEAD if action == PREFIX and not verdict else self._grow(node, piece, text)
            self.children[node, piece] = child
        if child != DEAD and verdict is not None:
            verdicts[child] = verdict
        return child, bool(verdict)

    def _grow(self, node: int, piece: bytes, text: bytes) -> int:
        child = len(self.origin)
        self.origin.append((node, piece))
        self.prefix.append(None)
        self.complete.append(None)
        self._remember(child, text)
        return child

    def text(self, node: int) -> bytes:
        """The bytes of a node; near the frontier they are at hand, so a check does not cost the length."""
        pieces: list[bytes] = []
        at = node
        while at not in self.texts:
            at, piece = self.origin[at]
            pieces.append(piece)
        text = b"".join([self.texts[at], *reversed(pieces)])
        if pieces:
            self._remember(node, text)
        return text

    def _remember(self, node: int, text: bytes) -> None:
        if len(self.texts) > _CACHED_TEXTS:
            # The oldest texts are those that particles have left behind; the first two are constants.
            for old in list(itertools.islice(self.texts, 2, _CACHED_TEXTS // 2)):
                del self.texts[old]
        self.texts[node] = text

    def _ask_prefix(self, node: int, text: bytes, piece: bytes) -> bool:
        if self.prefix_ok is None:
            return True
        if not self.as_str:
            return self._call(self.prefix_ok, text, text)
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoded = decoder.decode(text)
        except UnicodeDecodeError:
            return False
        pending = len(decoder.getstate()[0])
        if pending >= len(piece) > 0 and self.prefix[node]:
            return True  # no character was completed since the last question
        return self._call(self.prefix_ok, decoded, text)

    def _ask_complete(self, text: bytes) -> bool:
        if not self.as_str:
            return self._call(self.complete_ok, text, text)
        try:
            return self._call(self.complete_ok, text.decode(), text)
        except UnicodeDecodeError:
            return False

    def _call(self, function: Callable[[Any], bool], argument: bytes | str, text: bytes) -> bool:
        self.calls += 1
        name = getattr(function, "__qualname__", repr(function))
        shown = repr(argument)
        shown = shown if len(shown) <= 80 else shown[:50] + "..." + shown[-27:]
        try:
            verdict = function(argument)
        except Exception as cause:
            raise PredicateError(f"predicate {name} raised on {shown}: {cause!r}", text) from cause
        if not isinstance(verdict, (bool, np.bool_)):
            raise PredicateError(f"predicate {name} returned {verdict!r:.80} on {shown}, not a bool", text)
        return bool(verdict)
