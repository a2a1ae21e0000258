"""Infilling from left to right: what may stand in a hole, given the text behind it."""

from __future__ import annotations

from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.host import HostConstraint
from sentax.ppl.holes.chart import Chart
from sentax.ppl.holes.grammar import ContextFreeGrammar
from sentax.ppl.holes.paths import Hole, Partial, Paths


class CompletionEngine(Engine):
    """The texts that complete a text with one open place; make a constraint with :func:`completion_of`.

    A session is the chart of what stands before the place and of the text in it so far: columns that no later
    byte changes. A question adds the columns of the piece, of the rest of the place, and of what follows.
    """

    def __init__(self, grammar: ContextFreeGrammar, before: tuple, after: tuple) -> None:
        self.grammar, self.before, self.after = grammar, before, after
        # Behind known text, and with nothing to follow, every beginning of a text will do.
        self.is_open = not any(after) and not any(isinstance(part, Hole) for part in before)
        _added(Chart(grammar.rules), (*before, Hole(), *after))

    def __reduce__(self) -> tuple:
        return type(self), (self.grammar, self.before, self.after)

    def __repr__(self) -> str:
        return f"completion_of({self.grammar!r})"

    def start(self) -> Chart:
        return _added(Chart(self.grammar.rules), self.before)

    def extend(self, session: Chart, piece: bytes) -> Chart:
        chart = session.branch()
        for byte in piece:
            chart.read(byte)
        return chart

    def prefix(self, session: Chart, piece: bytes) -> bool:
        chart = session.branch()
        for byte in piece:
            chart.read(byte)
            if not chart.is_alive:
                return False
        return chart.is_alive and (self.is_open or _added(chart, (Hole(), *self.after)).accepts)

    def complete(self, session: Chart, piece: bytes) -> bool:
        return _added(self.extend(session, piece), self.after).accepts


def _added(chart: Chart, parts: Partial) -> Chart:
    """A chart, gone on with some parts."""
    paths = Paths(len(chart.columns))
    paths.add(parts)
    chart.extend(paths)
    return chart


def completion_of(grammar: ContextFreeGrammar, *, before: Partial = (), after: Partial = ()) -> HostConstraint:
    """The texts that make a whole text of a grammar's language between what stands before and behind them.

    A text is alive if and only if `before`, the text, any bytes and `after` have a common completion: particles
    that fill a hole from left to right are given up as soon as what follows the hole can no longer be reached.
    `before` and `after` may have holes of their own.

    :param grammar: the language.
    :param before: pieces of text and holes in front of the place, or one text.
    :param after: the same behind it.
    :raises TypeError: if a part is neither text nor a :class:`~sentax.ppl.holes.paths.Hole`.

    **Example**

    .. code-block:: python

        >>> sums = ContextFreeGrammar('start: term ("+" term)*' + chr(10) + 'term: /[1-9]+/ | "(" start ")"')
        >>> middle = completion_of(sums, before="(1+(", after="+3)")
        >>> middle.matches("2)"), middle.matches("2))"), middle.matches("2")
        (True, False, False)
    """
    if not isinstance(grammar, ContextFreeGrammar):
        raise TypeError(f"completion_of: expected a ContextFreeGrammar, got {grammar!r}")
    sides = ((part,) if isinstance(part, str | bytes) else tuple(part) for part in (before, after))
    return HostConstraint.of(CompletionEngine(grammar, *sides))
