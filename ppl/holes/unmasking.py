"""Which tokens may go into which slot of a canvas, so that it can still become a text of a grammar."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import jax
import numpy as np
from jaxtyping import UInt32

from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.host import HostConstraint
from sentax.ppl.holes.canvas import FIXED, Canvas
from sentax.ppl.holes.chart import Chart
from sentax.ppl.holes.grammar import ByteSet, ContextFreeGrammar
from sentax.ppl.holes.marks import marks
from sentax.ppl.holes.paths import Paths
from sentax.ppl.language_model import VocabularyLike

WORD = 2
"""Bytes of a word: a position, or a token's id."""

_MAX_SHEETS = 1 << 15


def words(*numbers: int) -> bytes:
    """What an :class:`UnmaskingEngine` reads: positions and tokens in turn.

    >>> words(3, 258)
    b'\\x03\\x00\\x02\\x01'
    """
    return b"".join(n.to_bytes(WORD, "little") for n in numbers)


class Sheet:
    """A canvas on the host, and what was found out about it.

    :param tokens: ids; `len(engine.tokens)` where a slot is open.
    :param awaiting: the slot whose token comes next, if one was named.
    """

    def __init__(self, engine: UnmaskingEngine, tokens: tuple[int, ...], awaiting: int | None = None) -> None:
        self.engine, self.tokens, self.awaiting = engine, tokens, awaiting

    def then(self, piece: bytes) -> Sheet:
        """After some words more."""
        sheet = self
        for at in range(0, len(piece), WORD):
            word = int.from_bytes(piece[at : at + WORD], "little")
            if sheet.awaiting is None:
                sheet = Sheet(self.engine, sheet.tokens, word)
            else:
                sheet = self.engine.sheet(self.engine.filled(sheet.tokens, sheet.awaiting, word))
        return sheet

    @property
    def canvas(self) -> Sheet:
        """The sheet before a slot was named: what is found out about a canvas is kept there."""
        return self if self.awaiting is None else self.engine.sheet(self.tokens)

    @cached_property
    def is_completable(self) -> bool:
        """Whether the open slots can be filled so that the text parses."""
        self.engine.checks += 1
        drawing = self.engine.draw(self.tokens)
        if drawing is None:
            return False
        chart = Chart(self.engine.grammar.rules)
        chart.extend(drawing.paths)
        return chart.accepts

    @cached_property
    def allowed(self) -> dict[int, np.ndarray]:
        """For each open slot the tokens that may go there, bool [V]: one pass inside, one outside, for all."""
        self.engine.passes += 1
        drawing = self.engine.draw(self.tokens)
        if drawing is None:
            return {}
        chart = Chart(self.engine.grammar.rules)
        chart.extend(drawing.paths)
        found = marks(chart, drawing.paths)
        result = {}
        for position, slot in drawing.slots.items():
            row = np.zeros(self.engine.mask_id, bool)
            for (source, byte), tokens in slot.last.items():
                if found.bytes.get((source, slot.target), 0) >> byte & 1:
                    row[tokens] = True
            row[self.engine.end] = any(exit in found.skips for exit in slot.exits)
            result[position] = row
        return result


@dataclass(frozen=True)
class _Slot:
    """An open slot in an automaton.

    :param last: the tokens that end with a byte read from a state to `target`.
    :param exits: the empty edges by which a text leaves the hole at the latest in front of this slot.
    """

    target: int
    last: dict[tuple[int, int], list[int]]
    exits: list[tuple[int, int]]


@dataclass(frozen=True)
class _Drawing:
    paths: Paths
    slots: dict[int, _Slot]


class UnmaskingEngine(Engine):
    """The courses by which a canvas is filled; make a constraint with :func:`filling_of`.

    A course is a text of 16-bit words: a slot's position, the token that goes there, the next position, and so
    on. It is alive while the canvas is completable, and complete once no slot is open and the text parses. So
    the memory of texts serves for canvases too: no partial filling is checked twice, whatever the number of
    particles and runs.

    :param grammar: of the whole text.
    :param tokens: the bytes of each token.
    :param end: the token that fills what a hole leaves empty.
    :param canvas: token ids, `len(tokens)` in open slots.
    :param holes: the hole of each position, -1 where there is none.
    """

    has_mask = True

    def __init__(
        self,
        grammar: ContextFreeGrammar,
        tokens: tuple[bytes, ...],
        end: int,
        canvas: tuple[int, ...],
        holes: tuple[int, ...],
    ) -> None:
        self.grammar, self.tokens, self.end = grammar, tokens, end
        self.initial, self.holes, self.mask_id = canvas, holes, len(tokens)
        self.sheets: dict[tuple[int, ...], Sheet] = {}
        self.checks = 0
        self.passes = 0
        # Tokens as a trie: what is read before the last byte, and the tokens behind that one.
        inner = {token[:n] for v, token in enumerate(tokens) if v != end for n in range(1, len(token))}
        self.inner = sorted(inner, key=lambda prefix: (len(prefix), prefix))
        self.last: dict[bytes, dict[int, list[int]]] = defaultdict(dict)
        for v, token in enumerate(tokens):
            if token and v != end:
                self.last[token[:-1]].setdefault(token[-1], []).append(v)

    def __reduce__(self) -> tuple:
        return type(self), (self.grammar, self.tokens, self.end, self.initial, self.holes)

    def __repr__(self) -> str:
        return f"filling_of({self.grammar!r})"

    def start(self) -> Sheet:
        return self.sheet(self.initial)

    def sheet(self, canvas: tuple[int, ...]) -> Sheet:
        """The one sheet of a canvas, in whatever order it was filled, as long as it is remembered."""
        if canvas not in self.sheets:
            if len(self.sheets) >= _MAX_SHEETS:
                for old in list(self.sheets)[: _MAX_SHEETS // 2]:
                    del self.sheets[old]
            self.sheets[canvas] = Sheet(self, canvas)
        return self.sheets[canvas]

    def extend(self, session: Sheet, piece: bytes) -> Sheet:
        return session.then(piece)

    def prefix(self, session: Sheet, piece: bytes) -> bool:
        sheet = session.then(piece)
        slot = session.awaiting
        if slot is not None and len(piece) == WORD and "allowed" in vars(session.canvas):
            # A mask was made here: it knows.
            sheet.is_completable = bool(session.canvas.allowed[slot][int.from_bytes(piece, "little")])
        return sheet.canvas.is_completable

    def complete(self, session: Sheet, piece: bytes) -> bool:
        sheet = session.then(piece)
        is_full = sheet.awaiting is None and self.mask_id not in sheet.tokens
        return is_full and sheet.is_completable

    def mask(self, session: Sheet, vocabulary: VocabularyLike) -> UInt32[np.ndarray, " W"]:
        bits = np.zeros(-(-vocabulary.size // 32) * 32, bool)
        if session.awaiting is not None:
            row = session.canvas.allowed[session.awaiting]
            bits[: len(row)] = row
        return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)

    def filled(self, canvas: tuple[int, ...], position: int, token: int) -> tuple[int, ...]:
        """A canvas with a token in a slot; the end closes the rest of its hole."""
        result = list(canvas)
        result[position] = token
        if token == self.end:
            for behind in range(position + 1, len(canvas)):
                if self.holes[behind] == self.holes[position] and canvas[behind] == self.mask_id:
                    result[behind] = token
        return tuple(result)

    def draw(self, canvas: tuple[int, ...]) -> _Drawing | None:
        """The automaton of all fillings; None if a hole has a text behind its end."""
        paths, slots = Paths(), {}
        at = 0
        while at < len(canvas):
            if self.holes[at] == FIXED:
                paths.add_text(self.tokens[canvas[at]])
                at += 1
                continue
            size = next((n for n, h in enumerate(self.holes[at:]) if h != self.holes[at]), len(canvas) - at)
            hole = range(at, at + size)
            first_end = next((n for n, p in enumerate(hole) if canvas[p] == self.end), size)
            texts = [n for n, p in enumerate(hole) if canvas[p] not in (self.end, self.mask_id)]
            least = texts[-1] + 1 if texts else 0
            if least > first_end:
                return None
            exits: list[tuple[int, int]] = []
            ends = [paths.end]
            opened = []
            for n in range(first_end):
                if canvas[at + n] == self.mask_id:
                    target, last = self._slot(paths)
                    opened.append((n, target, last))
                else:
                    paths.add_text(self.tokens[canvas[at + n]])
                ends.append(paths.end)
            if least < size:
                # A text may end early: exits in order, so that a slot knows those in front of it.
                joined = paths.state()
                for end in ends[least:]:
                    paths.skip(end, joined)
                    exits.append((end, joined))
                paths.end = joined
            for n, target, last in opened:
                slots[at + n] = _Slot(target, last, exits[: max(0, n + 1 - least)])
            at += size
        return _Drawing(paths, slots)

    def _slot(self, paths: Paths) -> tuple[int, dict[tuple[int, int], list[int]]]:
        """An open slot: any token."""
        nodes = {b"": paths.end}
        for prefix in self.inner:
            nodes[prefix] = paths.state()
            paths.read(nodes[prefix[:-1]], nodes[prefix], 1 << prefix[-1])
        target = paths.end = paths.state()
        last = {}
        for prefix, by_byte in self.last.items():
            members: ByteSet = 0
            for byte, tokens in by_byte.items():
                members |= 1 << byte
                last[nodes[prefix], byte] = tokens
            paths.read(nodes[prefix], target, members)
        return target, last


def filling_of(grammar: ContextFreeGrammar, canvas: Canvas) -> HostConstraint:
    """The ways to fill a canvas so that the whole text is in a grammar's language.

    A constraint on courses, not on texts: see :class:`UnmaskingEngine` for what it reads, and
    :func:`~sentax.inference.diffusion.denoise` for the program that it is made for.

    :param grammar: of the whole text, the known pieces included.
    :param canvas: with concrete tokens.
    :raises TypeError: if the grammar is none, or the canvas is traced.
    :raises ValueError: if no filling is in the language.
    """
    if not isinstance(grammar, ContextFreeGrammar):
        raise TypeError(f"filling_of: expected a ContextFreeGrammar, got {grammar!r}")
    if isinstance(canvas.tokens, jax.core.Tracer):
        raise TypeError("filling_of: the canvas is traced: make the constraint outside of the program")
    vocabulary = canvas.vocabulary
    engine = UnmaskingEngine(
        grammar,
        vocabulary.tokens,
        vocabulary.end_of_text,
        tuple(np.asarray(canvas.tokens).tolist()),
        tuple(np.asarray(canvas.holes).tolist()),
    )
    if not engine.start().is_completable:
        raise ValueError(f"{grammar!r} has no text that fills this canvas")
    return HostConstraint.of(engine)
