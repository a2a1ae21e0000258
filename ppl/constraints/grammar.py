"""Texts of a context-free grammar."""

from __future__ import annotations

import functools
import re

from sentax.ppl.constraints.guidance import NO_FORCING, GuidanceEngine, llguidance
from sentax.ppl.constraints.host import HostConstraint


class LarkEngine(GuidanceEngine):
    """The texts of a Lark grammar; make a constraint with :func:`lark`."""

    def __init__(self, source: str, start: str) -> None:
        self.source = source
        self.start_rule = start
        # What is added stands behind the grammar, so that errors count the user's lines.
        added = "" if start == "start" else f"start: {start}\n"
        super().__init__(f"{source}\n{added}{NO_FORCING}\n", _slices())

    def __reduce__(self) -> tuple:
        return type(self), (self.source, self.start_rule)

    def __repr__(self) -> str:
        text = " ".join(self.source.split())
        return f"lark({text if len(text) <= 60 else text[:57] + '...'!r})"


def lark(grammar: str, start: str = "start") -> HostConstraint:
    """Texts that a context-free grammar derives, by llguidance's incremental parser.

    The notation is Lark's: rules in lower case, terminals in upper case, strings and regular expressions,
    `| * + ? ~`, `%ignore`, `%import common.NUMBER`. Two things differ from Lark's Earley parser with its
    dynamic lexer. A *terminal takes as much as it can*, as in a compiler: `start: A "a"` with `A: /a+/` has no
    text. And `%ignore` counts between terminals, not at the beginning or the end. Texts are UTF-8.

    :param grammar: the grammar.
    :param start: the rule to begin with.
    :raises GrammarError: with line and column, if llguidance refuses the grammar.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints.grammar import lark
        >>> total = lark('start: NUMBER ("+" NUMBER)*' + chr(10) + 'NUMBER: /[0-9]+/')
        >>> total.matches("1+22+333"), total.matches("1++2")
        (True, False)
    """
    for name, value in (("grammar", grammar), ("start", start)):
        if not isinstance(value, str):
            raise TypeError(f"lark: {name} is a string, not {value!r}")
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", start):
        raise ValueError(f"lark: a rule has a name in lower case, not {start!r}")
    if start != "start" and re.search(r"^\s*start\s*:", grammar, re.MULTILINE):
        raise ValueError(
            f"lark: the grammar has a rule 'start' besides {start!r}; give the former another name"
        )
    return HostConstraint.of(LarkEngine(grammar, start))


@functools.cache
def _slices() -> tuple[str, ...]:
    return () if llguidance is None else tuple(llguidance.LLTokenizer.general_slices())
