"""Whether a text with holes can be completed to a text of a context-free grammar, and how."""

from __future__ import annotations

from sentax.ppl.holes.chart import Chart
from sentax.ppl.holes.grammar import ContextFreeGrammar
from sentax.ppl.holes.paths import Partial, Paths
from sentax.ppl.holes.shortest import shortest


def completable(partial: Partial, grammar: ContextFreeGrammar) -> bool:
    """Whether the holes of a text can be filled so that the whole is in a grammar's language.

    That is, whether the language and the regular language of all fillings have a text in common: decided
    exactly, in time at most cubic in the length of the text and the states of the holes (see
    :mod:`sentax.ppl.holes.chart`). It is what constrained decoding of diffusion models rests on (Mündler,
    Dekoninck and Vechev 2025, arXiv 2508.10111).

    :param partial: pieces of known text and holes.
    :param grammar: the language.
    :raises TypeError: if a part is neither text nor a :class:`Hole`.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import regex
        >>> from sentax.ppl.holes import Hole
        >>> sums = ContextFreeGrammar('start: term ("+" term)*' + chr(10) + 'term: /[0-9]+/ | "(" start ")"')
        >>> completable(["1+(2", Hole(), "3)"], sums), completable(["1+(2)", Hole(regex("[0-9]*")), ")"], sums)
        (True, False)
    """
    return _chart(partial, grammar)[0].accepts


def shortest_completion(partial: Partial, grammar: ContextFreeGrammar) -> bytes | None:
    """A shortest text of a grammar's language that fills the holes of a text, or None if there is none.

    :param partial: as for :func:`completable`.
    :param grammar: the language.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.holes import Hole
        >>> sums = ContextFreeGrammar('start: term ("+" term)*' + chr(10) + 'term: /[1-9]+/ | "(" start ")"')
        >>> shortest_completion(["((", Hole(), "2+", Hole()], sums)
        b'((2+1))'
    """
    chart, paths = _chart(partial, grammar)
    return shortest(chart, paths) if chart.accepts else None


def _chart(partial: Partial, grammar: ContextFreeGrammar) -> tuple[Chart, Paths]:
    if not isinstance(grammar, ContextFreeGrammar):
        raise TypeError(f"expected a ContextFreeGrammar, got {grammar!r}")
    paths = Paths()
    paths.add(partial)
    chart = Chart(grammar.rules)
    chart.extend(paths)
    return chart, paths
