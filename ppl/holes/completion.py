"""Infilling from left to right: what may stand in a hole, given the text behind it."""

from __future__ import annotations

from typing import NamedTuple

from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.host import HostConstraint
from sentax.ppl.holes.chart import Chart
from sentax.ppl.holes.grammar import ContextFreeGrammar
from sentax.ppl.holes.paths import Hole, Partial, Paths


class Session(NamedTuple):
    """What is known of a place that is filled: columns that no later byte changes, and the bytes in it."""

    chart: Chart
    length: int


class CompletionEngine(Engine):
    """The texts that complete a text with one open place; make a constraint with :func:`completion_of`.

    A session is the chart of what stands before the place and of the text in it so far. A question adds the
    columns of the piece, of the rest of the place, and of what follows.
    """

    def __init__(
        self, grammar: ContextFreeGrammar, before: tuple, after: tuple, max_bytes: int | None = None
    ) -> None:
        self.grammar, self.before, self.after, self.max_bytes = grammar, before, after, max_bytes
        # Behind known text, and with nothing to follow, every beginning of a text will do.
        has_holes = any(isinstance(part, Hole) for part in before)
        self.is_open = max_bytes is None and not any(after) and not has_holes
        _added(Chart(grammar.rules), (*before, Hole(max_bytes=max_bytes), *after))

    def __reduce__(self) -> tuple:
        return type(self), (self.grammar, self.before, self.after, self.max_bytes)

    def __repr__(self) -> str:
        bound = "" if self.max_bytes is None else f", max_bytes={self.max_bytes}"
        return f"completion_of({self.grammar!r}{bound})"

    def start(self) -> Session:
        return Session(_added(Chart(self.grammar.rules), self.before), 0)

    def extend(self, session: Session, piece: bytes) -> Session:
        chart = session.chart.branch()
        for byte in piece:
            chart.read(byte)
        return Session(chart, session.length + len(piece))

    def prefix(self, session: Session, piece: bytes) -> bool:
        left = None if self.max_bytes is None else self.max_bytes - session.length - len(piece)
        if left is not None and left < 0:
            return False
        chart = session.chart.branch()
        for byte in piece:
            chart.read(byte)
            if not chart.is_alive:
                return False
        return chart.is_alive and (self.is_open or _added(chart, (Hole(max_bytes=left), *self.after)).accepts)

    def complete(self, session: Session, piece: bytes) -> bool:
        chart, length = self.extend(session, piece)
        return (self.max_bytes is None or length <= self.max_bytes) and _added(chart, self.after).accepts


def _added(chart: Chart, parts: Partial) -> Chart:
    """A chart, gone on with some parts."""
    paths = Paths(len(chart.columns))
    paths.add(parts)
    chart.extend(paths)
    return chart


def completion_of(
    grammar: ContextFreeGrammar, *, before: Partial = (), after: Partial = (), max_bytes: int | None = None
) -> HostConstraint:
    """The texts that make a whole text of a grammar's language between what stands before and behind them.

    A text is alive if and only if `before`, the text, any bytes and `after` have a common completion: particles
    that fill a hole from left to right are given up as soon as what follows the hole can no longer be reached.
    `before` and `after` may have holes of their own.

    :param grammar: the language.
    :param before: pieces of text and holes in front of the place, or one text.
    :param after: the same behind it.
    :param max_bytes: the most bytes the text may have. A text is then given up as soon as the bytes that are
        left do not suffice, where it would otherwise run into `max_tokens` unfinished.
    :raises TypeError: if a part is neither text nor a :class:`~sentax.ppl.holes.paths.Hole`.
    :raises ValueError: if `max_bytes` is negative.

    **Example**

    .. code-block:: python

        >>> sums = ContextFreeGrammar('start: term ("+" term)*' + chr(10) + 'term: /[1-9]+/ | "(" start ")"')
        >>> middle = completion_of(sums, before="(1+(", after="+3)")
        >>> middle.matches("2)"), middle.matches("2))"), middle.matches("2")
        (True, False, False)
    """
    if not isinstance(grammar, ContextFreeGrammar):
        raise TypeError(f"completion_of: expected a ContextFreeGrammar, got {grammar!r}")
    first, last = ((part,) if isinstance(part, str | bytes) else tuple(part) for part in (before, after))
    return HostConstraint.of(CompletionEngine(grammar, first, last, max_bytes))
