"""Context-free grammars over bytes, in the form that a chart wants: at most two symbols to a rule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from sentax.ppl.constraints.dfa import Dfa
from sentax.ppl.constraints.regex import regex
from sentax.ppl.holes import notation
from sentax.ppl.holes.notation import Choice, Expression, Name, Pattern, Repeat, Sequence, Text, is_terminal

ByteSet = int
"""A set of bytes: bit `b` is byte `b`."""

ALL_BYTES: ByteSet = (1 << 256) - 1
_MAX_SYMBOLS = 20_000


class Rules(NamedTuple):
    """A grammar without empty rules, indexed the way a chart is filled. Symbols are `0 .. size - 1`.

    The root derives :attr:`begin`, a mark before the first byte, followed by a text of the language, so that
    the empty text needs no rule of its own.

    :param terminals: the bytes that a symbol stands for, for those that stand for one byte.
    :param unit: by symbol `X`, the `A` of rules `A -> X`; `unit_of`: by `A`, its `X`.
    :param right: by symbol `C`, the pairs `(A, B)` of rules `A -> B C`; `left`: by `B`, the pairs `(A, C)`.
    :param pairs: by symbol `A`, the pairs `(B, C)`.
    :param first: by symbol, a bitset of the symbols that what it derives may begin with, itself among them.
    """

    size: int
    root: int
    begin: int
    terminals: dict[int, ByteSet]
    unit: list[tuple[int, ...]]
    unit_of: list[tuple[int, ...]]
    right: list[tuple[tuple[int, int], ...]]
    left: list[tuple[tuple[int, int], ...]]
    pairs: list[tuple[tuple[int, int], ...]]
    first: list[int]


@dataclass(frozen=True, eq=False)
class ContextFreeGrammar:
    r"""A set of byte strings, given by a context-free grammar.

    The notation is a subset of Lark's: rules `name: ...`, terminals `NAME: ...`, strings (`"if"`, `"if"i`),
    regular expressions (`/[a-z]+/`, what :func:`~sentax.ppl.constraints.regex.regex` reads), ranges
    (`"a".."z"`), groups `( )`, optional parts `[ ]`, `|`, `? * +`, `~ 2` and `~ 2..5`, `%ignore`, and comments.
    `%import`, priorities and templates are refused.

    There is no lexer: a terminal matches any text that it can, and all ways of cutting a text count, as in
    Lark's Earley parser with `lexer="dynamic_complete"`. What is ignored may stand before, between and behind
    the terminals of rules (not inside of terminals).

    :param source: the grammar.
    :param start: the rule to begin with.
    :raises GrammarSyntaxError: if the text is not in the notation, with line and column.
    :raises ValueError: if a name has no definition, the language is empty, or a regular expression is refused.

    **Example**

    .. code-block:: python

        >>> sums = ContextFreeGrammar('start: term ("+" term)*' + chr(10) + 'term: /[0-9]+/ | "(" start ")"')
        >>> sums.accepts("1+(22+3)"), sums.accepts("1+(22+3")
        (True, False)
    """

    source: str
    start: str = "start"
    rules: Rules = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, value in (("source", self.source), ("start", self.start)):
            if not isinstance(value, str):
                raise TypeError(f"ContextFreeGrammar: {name} is a string, not {value!r}")
        definitions = notation.read(self.source)
        if self.start not in definitions.rules:
            known = ", ".join(definitions.rules) or "none"
            raise ValueError(f"ContextFreeGrammar: no rule {self.start!r} to begin with; rules: {known}")
        builder = _Builder(definitions)
        object.__setattr__(self, "rules", _normal_form(builder, builder.start(self.start), repr(self)))

    def accepts(self, text: str | bytes) -> bool:
        """Whether a whole text is in the language."""
        from sentax.ppl.holes.completable import completable

        return completable([text], self)

    def __repr__(self) -> str:
        text = " ".join(self.source.split())
        return f"ContextFreeGrammar({text if len(text) <= 50 else text[:47] + '...'!r})"

    def __reduce__(self) -> tuple:
        return type(self), (self.source, self.start)


class _Builder:
    """From expressions to productions of any length. Symbols are integers; terminals are sets of bytes."""

    def __init__(self, definitions: notation.Definitions) -> None:
        self.definitions = definitions
        self.productions: list[list[tuple[int, ...]]] = []
        self.terminals: dict[ByteSet, int] = {}
        self.named: dict[str, int] = {}
        self.shared: dict[tuple, int] = {}
        self.ignored: int | None = None
        if definitions.ignored:
            item = self.symbol(Choice(definitions.ignored), in_rule=False)
            self.ignored = self.new()
            self.productions[self.ignored] = [(), (self.ignored, item)]

    def new(self) -> int:
        if len(self.productions) >= _MAX_SYMBOLS:
            raise ValueError(
                f"the grammar has more than {_MAX_SYMBOLS} symbols once its repeats are written out"
            )
        self.productions.append([])
        return len(self.productions) - 1

    def terminal(self, members: ByteSet) -> int:
        if members not in self.terminals:
            self.terminals[members] = self.new()
        return self.terminals[members]

    def start(self, name: str) -> int:
        symbol = self.name(name)
        if self.ignored is None:
            return symbol
        padded = self.new()
        self.productions[padded] = [(self.ignored, symbol)]
        return padded

    def name(self, name: str) -> int:
        if name not in self.named:
            self.named[name] = symbol = self.new()
            rule = self.definitions.rules[name]
            options = rule.options if isinstance(rule, Choice) else (rule,)
            self.productions[symbol] = [self.body(option, not is_terminal(name)) for option in options]
        return self.named[name]

    def body(self, expression: Expression, in_rule: bool) -> tuple[int, ...]:
        if isinstance(expression, Sequence):
            return tuple(symbol for item in expression.items for symbol in self.body(item, in_rule))
        if isinstance(expression, Text) and not (in_rule and self.ignored is not None):
            return self.text(expression)
        return (self.symbol(expression, in_rule),)

    def symbol(self, expression: Expression, in_rule: bool) -> int:
        """A symbol that derives what the expression describes; equal expressions share one."""
        if isinstance(expression, Name):
            if expression.value not in self.definitions.rules:
                notation.fail(f"{expression.value!r} has no definition", expression)
            symbol = self.name(expression.value)
            return self.padded(symbol) if in_rule and is_terminal(expression.value) else symbol
        key = (expression, in_rule)
        if key not in self.shared:
            self.shared[key] = self._symbol(expression, in_rule)
        return self.shared[key]

    def padded(self, symbol: int) -> int:
        """A terminal of a rule, and what is ignored behind it."""
        if self.ignored is None:
            return symbol
        key = ("padded", symbol)
        if key not in self.shared:
            self.shared[key] = self.new()
            self.productions[self.shared[key]] = [(symbol, self.ignored)]
        return self.shared[key]

    def _symbol(self, expression: Expression, in_rule: bool) -> int:
        match expression:
            case Text():
                return (
                    self.padded(self.one(self.text(expression))) if in_rule else self.one(self.text(expression))
                )
            case Pattern(source, flags):
                symbol = self.pattern(source, flags)
                return self.padded(symbol) if in_rule else symbol
            case Choice(options):
                symbol = self.new()
                self.productions[symbol] = [self.body(option, in_rule) for option in options]
                return symbol
            case Repeat(item, least, most):
                return self.repeat(self.symbol(item, in_rule), least, most)
            case _:
                return self.one(self.body(expression, in_rule))

    def one(self, symbols: tuple[int, ...]) -> int:
        if len(symbols) == 1:
            return symbols[0]
        symbol = self.new()
        self.productions[symbol] = [symbols]
        return symbol

    def repeat(self, item: int, least: int, most: int | None) -> int:
        symbol = self.new()
        needed = (item,) * least
        if most is None:
            # To the left: a chart that is filled from left to right then does one thing for each item.
            first = needed if least else ()
            self.productions[symbol] = [first, (symbol, item)]
            return symbol
        rest: tuple[int, ...] = ()
        for _ in range(most - least):
            option = self.new()
            self.productions[option] = [(), (item, *rest)]
            rest = (option,)
        self.productions[symbol] = [needed + rest]
        return symbol

    def text(self, text: Text) -> tuple[int, ...]:
        symbols: list[int] = []
        for letter in text.value:
            if text.ignore_case and letter.lower() != letter.upper():
                symbols.append(self.pattern(f"(?i:\\U{ord(letter):08x})", ""))
            else:
                symbols.extend(self.terminal(1 << byte) for byte in letter.encode())
        return tuple(symbols)

    def pattern(self, source: str, flags: str) -> int:
        key = ("pattern", source, flags)
        if key not in self.shared:
            try:
                dfa = regex(source, flags).to_dfa()
            except ValueError as error:
                raise ValueError(f"/{source}/{flags} in a grammar: {error}") from None
            self.shared[key] = self.automaton(dfa)
        return self.shared[key]

    def automaton(self, dfa: Dfa) -> int:
        """A symbol of what an automaton accepts, state by state: `state -> earlier byte`."""
        states = [self.new() for _ in range(len(dfa.delta))]
        live = dfa.live()
        for (source, target), members in edges_of(dfa):
            if live[target]:
                self.productions[states[target]].append((states[source], self.terminal(members)))
        self.productions[states[0]].append(())
        symbol = self.new()
        self.productions[symbol] = [(states[s],) for s in dfa.accepting.nonzero()[0]]
        return symbol


def edges_of(dfa: Dfa) -> list[tuple[tuple[int, int], ByteSet]]:
    """The edges of an automaton as `((source, target), bytes)`, parallel ones joined."""
    members: dict[int, ByteSet] = {}
    for byte, letter in enumerate(dfa.classes.tolist()):
        members[letter] = members.get(letter, 0) | 1 << byte
    joined: dict[tuple[int, int], ByteSet] = {}
    for source, row in enumerate(dfa.delta.tolist()):
        for letter, target in enumerate(row):
            joined[source, target] = joined.get((source, target), 0) | members.get(letter, 0)
    return [(ends, found) for ends, found in joined.items() if found]


def _normal_form(builder: _Builder, start: int, name: str) -> Rules:
    """Rules of one or two symbols, without empty ones, of what the start reaches and can finish."""
    builder.productions.append([])
    builder.productions.append([])
    begin, root = len(builder.productions) - 2, len(builder.productions) - 1
    builder.productions[root] = [(begin, start)]
    is_terminal_symbol = {symbol: members for members, symbol in builder.terminals.items()} | {begin: 0}

    # Two symbols at most: what begins alike shares its rules.
    joint: dict[tuple[int, ...], int] = {}
    bodies: list[set[tuple[int, ...]]] = [set() for _ in builder.productions]
    for symbol, productions in enumerate(builder.productions):
        for body in productions:
            while len(body) > 2:
                pair = body[:2]
                if pair not in joint:
                    joint[pair] = len(bodies)
                    bodies.append({pair})
                body = (joint[pair], *body[2:])
            bodies[symbol].add(body)

    empty = _closure(bodies, set())
    full: list[set[tuple[int, ...]]] = []
    for symbol, options in enumerate(bodies):
        kept: set[tuple[int, ...]] = set()
        for body in options:
            kept.add(body)
            if len(body) == 2:
                kept.update((one,) for one, other in (body, body[::-1]) if other in empty)
        full.append({body for body in kept if body and body != (symbol,)})

    finished = _closure(full, set(is_terminal_symbol))
    if root not in finished:
        raise ValueError(f"{name} derives no text at all")
    full = [{b for b in options if finished.issuperset(b)} for options in full]
    reached, frontier = {root}, [root]
    while frontier:
        for body in full[frontier.pop()]:
            frontier += [s for s in body if s not in reached]
            reached.update(body)
    number = {symbol: i for i, symbol in enumerate(sorted(reached))}
    return _index(
        [(number[s], tuple(number[x] for x in body)) for s in sorted(reached) for body in sorted(full[s])],
        {number[s]: members for s, members in is_terminal_symbol.items() if s in reached},
        number[root],
        number[begin],
        len(number),
    )


def _closure(bodies: list[set[tuple[int, ...]]], known: set[int]) -> set[int]:
    """The symbols with a body all of known symbols, over and over."""
    known = set(known)
    users: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
    frontier = list(known)
    for symbol, options in enumerate(bodies):
        for body in options:
            for part in body:
                users.setdefault(part, []).append((symbol, body))
            if not body and symbol not in known:
                known.add(symbol)
                frontier.append(symbol)
    while frontier:
        for symbol, body in users.get(frontier.pop(), ()):
            if symbol not in known and known.issuperset(body):
                known.add(symbol)
                frontier.append(symbol)
    return known


def _index(
    rules: list[tuple[int, tuple[int, ...]]],
    terminals: dict[int, ByteSet],
    root: int,
    begin: int,
    size: int,
) -> Rules:
    unit: list[list[int]] = [[] for _ in range(size)]
    unit_of: list[list[int]] = [[] for _ in range(size)]
    right: list[list[tuple[int, int]]] = [[] for _ in range(size)]
    left: list[list[tuple[int, int]]] = [[] for _ in range(size)]
    pairs: list[list[tuple[int, int]]] = [[] for _ in range(size)]
    first = [1 << symbol for symbol in range(size)]
    for symbol, body in rules:
        first[symbol] |= 1 << body[0]
        if len(body) == 1:
            unit[body[0]].append(symbol)
            unit_of[symbol].append(body[0])
        else:
            right[body[1]].append((symbol, body[0]))
            left[body[0]].append((symbol, body[1]))
            pairs[symbol].append(body)  # type: ignore[arg-type]
    # What a symbol may begin with, by Warshall's closure on bitsets.
    for via in range(size):
        for symbol in range(size):
            if first[symbol] >> via & 1:
                first[symbol] |= first[via]
    freeze = lambda lists: [tuple(x) for x in lists]
    return Rules(
        size,
        root,
        begin,
        {symbol: members for symbol, members in terminals.items() if symbol != begin},
        freeze(unit),
        freeze(unit_of),
        freeze(right),
        freeze(left),
        freeze(pairs),
        first,
    )


def bits(number: int) -> Iterable[int]:
    """The positions of the bits that are set, least first.

    >>> list(bits(0b1010))
    [1, 3]
    """
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low
