"""Constraints one after another, and over again."""

from __future__ import annotations

from sentax.ppl.constraints.assembly import Assembly
from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.dfa import MAX_STATES, Dfa, TooManyStates
from sentax.ppl.constraints.strings import literal

_MAX_COPIES = 1 << 20
"""Bound on the states written out before they are made deterministic."""


def sequence(*parts: Constraint | str | bytes) -> Automaton:
    """A text of each part in turn.

    :param parts: automata (of :func:`regex`, :func:`choice`, ...), or strings, which stand for themselves.
    :raises TypeError: if a part is no automaton.
    :raises TooManyStates: if the result would have more than 65536 states: where a part ends must mostly be
        plain from what follows.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import choice, regex, sequence
        >>> price = sequence(regex("[0-9]+"), " ", choice(["EUR", "USD"]))
        >>> price.matches("12 EUR"), price.matches("12EUR")
        (True, False)
    """
    dfas = [_dfa(part, "sequence") for part in parts]
    assembly = Assembly()
    assembly.read(assembly.start, assembly.final, *dfas)
    return _build(assembly, f"sequence({', '.join(map(repr, parts))})")


def repeat(
    item: Constraint | str | bytes,
    min: int = 0,
    max: int | None = None,
    separator: Constraint | str | bytes | None = None,
) -> Automaton:
    """At least `min` and at most `max` texts of one constraint in turn, perhaps with something between them.

    :param item: an automaton, or a string.
    :param min: the least number of texts.
    :param max: the greatest number; `None` for no bound.
    :param separator: what stands between two texts, an automaton or a string.
    :raises TypeError: if the item or the separator is no automaton.
    :raises ValueError: if `0 <= min <= max` does not hold.
    :raises TooManyStates: if the result would have more than 65536 states.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import regex, repeat
        >>> numbers = repeat(regex("[0-9]+"), min=1, max=3, separator=", ")
        >>> numbers.matches("1, 22, 3"), numbers.matches("1, 2, 3, 4"), numbers.matches("1, ")
        (True, False, False)
    """
    if min < 0 or (max is not None and max < min):
        raise ValueError(f"repeat(min={min}, max={max}) matches nothing")
    one = _dfa(item, "repeat")
    between = None if separator is None else _dfa(separator, "repeat")
    bounds = f"{', min=' + str(min) if min else ''}{'' if max is None else f', max={max}'}"
    label = f"repeat({item!r}{bounds}{'' if separator is None else f', separator={separator!r}'})"
    size = len(one.delta) + (0 if between is None else len(between.delta))
    if size * ((max or min) + 1) > _MAX_COPIES:
        raise TooManyStates(f"{label} writes out more than {_MAX_COPIES} states: ask for fewer repetitions")
    assembly = Assembly()
    read_repeated(assembly, assembly.start, assembly.final, one, min, max, between)
    return _build(assembly, label)


def read_repeated(
    assembly: Assembly, source: int, target: int, item: Dfa, least: int, most: int | None, between: Dfa | None
) -> None:
    """Add the ways that read an item `least` to `most` times (`None`: any number of times more)."""
    if least == 0:
        assembly.skip(source, target)
    count = 0
    while most is None or count < most:
        # Before the item that makes it `count + 1`.
        parts = [item] if count == 0 or between is None else [between, item]
        after = assembly.place()
        assembly.read(source, after, *parts)
        source, count = after, count + 1
        if count >= least:
            assembly.skip(source, target)
            if most is None:
                again = assembly.place()
                assembly.read(source, again, *([item] if between is None else [between, item]))
                assembly.skip(again, source)
                return


def _dfa(part: Constraint | str | bytes, where: str) -> Dfa:
    if isinstance(part, (str, bytes)):
        part = literal(part)
    if not isinstance(part, Automaton):
        raise TypeError(
            f"{where} joins automata (regex, choice, literal, and what &, | and ~ make of them) and strings; "
            f"{part!r} is a {type(part).__name__}, whose texts it cannot tell where to end"
        )
    if not part.is_concrete:
        raise TypeError(f"{where} reads the tables of its parts: make it outside the traced function")
    return part.to_dfa()


def _build(assembly: Assembly, label: str) -> Automaton:
    try:
        return Automaton.from_dfa(assembly.build(), label)
    except TooManyStates:
        raise TooManyStates(
            f"{label if len(label) < 200 else label[:197] + '...'} has more than {MAX_STATES} states: end the "
            f"parts with something that they do not hold, or bound their lengths"
        ) from None
