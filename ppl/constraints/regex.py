"""Regular expressions: Python's own syntax, compiled to a minimal automaton over UTF-8 bytes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from sentax.ppl.constraints import codepoints, syntax, utf8
from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.codepoints import CodePoints
from sentax.ppl.constraints.dfa import TooManyStates
from sentax.ppl.constraints.nfa import DOLLAR, START, STOP, Nfa
from sentax.ppl.constraints.syntax import UnsupportedPattern

__all__ = ["UnsupportedPattern", "regex"]

_NEWLINE = codepoints.spans((10, 11))


def regex(pattern: str, flags: str = "") -> Automaton:
    r"""The texts that match a regular expression from end to end, as `re.fullmatch` has it.

    The syntax is that of Python's :mod:`re`, parsed by Python itself. An expression that `re` refuses and
    the `regex` package accepts, as for `\p{Lu}`, `[[:alpha:]]` or `(?<name>...)`, is read as that package
    reads it (also its `\w`, which holds combining marks, and its rules of case). Greedy and lazy repeats
    describe the same language. The automaton reads bytes: a text that ends inside a character is alive but
    not accepted.

    :param pattern: the expression.
    :param flags: any of `i` (ignore case), `s` (`.` matches newlines too), `x` (verbose), `a`
        (`\d \w \s` and case are ASCII's) and `m` (with which `^` and `$` are refused). Inline flags work
        too.
    :raises ValueError: if the expression is invalid (with the position), matches nothing, or needs
        more than 65536 states.
    :raises UnsupportedPattern: if it uses what no automaton of this kind expresses, such as a
        back-reference; the message names the feature and its position, and `regex_partial` serves it.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import regex
        >>> name = regex(r"\p{Lu}\w+( \p{Lu}\w+)*")
        >>> name.matches("Émilie du Châtelet"), name.matches("Émilie Châtelet")
        (False, True)
    """
    unknown = set(flags) - set("isxam")
    if unknown:
        raise ValueError(f"flags of a regex are i, s, x, a and m, not {''.join(sorted(unknown))!r}")
    tree = syntax.parse(pattern, flags)
    builder = _Builder(pattern, tree)
    start, final = builder.nfa.state(), builder.nfa.state()
    label = f"regex({pattern!r}{f', {flags!r}' if flags else ''})"
    try:
        builder.sequence(tree.nodes, tree.flags, start, final)
        alphabet = codepoints.partition([*builder.atoms.values(), _NEWLINE])
        newline = int(alphabet.at(np.array([10]))[0])
        chars = builder.nfa.determinise(start, final, alphabet.holds[:, :-1], newline)
        return Automaton.from_dfa(utf8.encode(chars, alphabet), label)
    except TooManyStates as e:
        raise TooManyStates(f"{label} is too large an automaton: {e}") from None


class _Builder:
    """Thompson's construction, from the nodes of CPython's parser."""

    def __init__(self, pattern: str, tree: syntax.Tree) -> None:
        self.pattern = pattern
        self.tree = tree
        self.nfa = Nfa()
        self.atoms: dict[bytes, CodePoints] = {}
        self.numbers: dict[bytes, int] = {}
        self.sets: dict[tuple, CodePoints] = {}

    def sequence(self, nodes: Any, flags: int, start: int, final: int) -> None:
        """Paths from `start` to `final` that read what the nodes match one after another."""
        for op, value in nodes:
            after = self.nfa.state()
            self.node(op, value, flags, start, after)
            start = after
        self.nfa.link(start, final)

    def node(self, op: Any, value: Any, flags: int, start: int, final: int) -> None:
        nfa = self.nfa
        match str(op):
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "IN":
                self.read(self.charset(op, value, flags), start, final)
            case "BRANCH":
                for branch in value[1]:
                    self.sequence(branch, flags, start, final)
            case "SUBPATTERN":
                _, added, removed, nodes = value
                self.sequence(nodes, syntax.combine(flags, added, removed), start, final)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, nodes = value
                self.repeat(least, most, nodes, flags, start, final)
            case "AT":
                assertion = {
                    "AT_BEGINNING": START,
                    "AT_BEGINNING_STRING": START,
                    "AT_END": DOLLAR,
                    "AT_END_STRING": STOP,
                }[str(value)]
                nfa.link(start, final, assertion)
            case _:  # pragma: no cover - the scanner of syntax.parse names these with their position
                raise UnsupportedPattern(f"no automaton expresses {op}")

    def repeat(self, least: int, most: Any, nodes: Any, flags: int, start: int, final: int) -> None:
        """Copies in a chain; every copy beyond the least may be left out with all that follow."""
        nfa = self.nfa
        for _ in range(least):
            after = nfa.state()
            self.sequence(nodes, flags, start, after)
            start = after
        if most is syntax.MAXREPEAT:
            # A state of its own: what leads to `start` from elsewhere must not enter the loop's middle.
            loop = nfa.state()
            nfa.link(start, loop)
            self.sequence(nodes, flags, loop, loop)
            nfa.link(loop, final)
            return
        for _ in range(most - least):
            nfa.link(start, final)
            after = nfa.state()
            self.sequence(nodes, flags, start, after)
            start = after
        nfa.link(start, final)

    def read(self, points: CodePoints, start: int, final: int) -> None:
        if len(points):
            key = points.tobytes()
            self.atoms.setdefault(key, points)
            self.nfa.read(start, final, self.numbers.setdefault(key, len(self.numbers)))

    def charset(self, op: Any, value: Any, flags: int) -> CodePoints:
        name = str(op)
        items = value if name == "IN" else [(op, value)]
        relevant = flags & (re.IGNORECASE | re.ASCII | re.DOTALL)
        key = (name, relevant, *((str(kind), str(what)) for kind, what in items))
        if key not in self.sets:
            charset = self._foreign_charset if self.tree.foreign else self._charset
            self.sets[key] = charset(name, items, flags)
        return self.sets[key]

    def _foreign_charset(self, name: str, items: Any, flags: int) -> CodePoints:
        """The union of what the `regex` package says of each item. Sets are placeholders, never negated."""
        sources = []
        for kind, what in items:
            match str(kind):
                case "ANY":
                    sources.append(".")
                case "LITERAL" if what in self.tree.sets:
                    source = self.tree.sets[what]
                    if flags & re.IGNORECASE and flags & re.ASCII:
                        # The package's answers for one character and for a run of them differ here.
                        raise syntax.refusal(
                            f"set {source} with both flags i and a", self.pattern.index(source), self.pattern
                        )
                    sources.append(source)
                case "LITERAL":
                    sources.append(f"\\U{what:08x}")
                case "CATEGORY":
                    _, *no, category = str(what).lower().split("_")
                    sources.append("\\" + (category[0].upper() if no else category[0]))
                case "RANGE":
                    sources.append(f"[\\U{what[0]:08x}-\\U{what[1]:08x}]")
                case _:  # pragma: no cover - no other item exists
                    raise UnsupportedPattern(f"no automaton expresses {name} {kind}")
        letters = "".join(f for f, bit in zip("ias", (re.I, re.A, re.S)) if flags & bit)
        return codepoints.union(*(codepoints.found_by_regex(source, letters) for source in sources))

    def _charset(self, name: str, items: Any, flags: int) -> CodePoints:
        if name == "ANY":
            return codepoints.complement(codepoints.spans() if flags & re.DOTALL else _NEWLINE)
        ascii_only = bool(flags & re.ASCII)
        negated = name == "NOT_LITERAL"
        members: list[CodePoints] = []
        categories: list[CodePoints] = []
        for kind, what in items:
            match str(kind):
                case "NEGATE":
                    negated = True
                case "LITERAL" | "NOT_LITERAL":
                    members.append(codepoints.spans((what, what + 1)))
                case "RANGE":
                    members.append(codepoints.spans((what[0], what[1] + 1)))
                case "CATEGORY":
                    _, *no, category = str(what).lower().split("_")
                    points = codepoints.category(category, ascii_only)
                    categories.append(codepoints.complement(points) if no else points)
                case _:  # pragma: no cover - no other item exists
                    raise UnsupportedPattern(f"no automaton expresses {kind}")
        inside, classes = codepoints.union(*members), codepoints.union(*categories)
        if flags & re.IGNORECASE:
            points = codepoints.fold(inside, classes, ascii_only, syntax.EXTRA_CASES)
        else:
            points = codepoints.union(inside, classes)
        return codepoints.complement(points) if negated else points
