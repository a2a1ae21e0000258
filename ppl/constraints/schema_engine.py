"""JSON schemas by llguidance, with what its grammars cannot say checked while the text is written."""

from __future__ import annotations

import functools
import json
import re
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt32

from sentax.ppl.constraints import json_numbers
from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.guidance import (
    NO_FORCING,
    GrammarError,
    GuidanceEngine,
    GuidanceSession,
    PerVocabulary,
    llguidance,
)
from sentax.ppl.constraints.json_numbers import NumberMasks
from sentax.ppl.constraints.json_reader import Reading, ends_well, read
from sentax.ppl.constraints.schema_checks import Checks
from sentax.ppl.constraints.schema_draft import Translation
from sentax.ppl.constraints.schema_errors import UnsupportedSchema
from sentax.ppl.constraints.schema_lower import Lowered, Relax, lower
from sentax.ppl.constraints.schema_patterns import in_rust
from sentax.ppl.constraints.schema_references import alternatives
from sentax.ppl.language_model import VocabularyLike

Separators = tuple[str, str] | None

_MAX_ATTEMPTS = 8
_MAX_ALTERNATIVES = 256
_DEFINITION = re.compile(r"while processing json-schema:///#/\$defs/(\w+)")


class SchemaSession(NamedTuple):
    """A text.

    :param number: the state of the automaton that watches exponents, `None` where one is too long.
    :param reading: how far values have been checked; `None` where one is wrong, or none is to be checked.
    """

    grammar: GuidanceSession
    number: int | None = json_numbers.START
    reading: Reading | None = None


class SchemaEngine(Engine):
    """The JSON texts of a schema.

    :param source: the translated schema.
    :param separators: between items and after names; `None` for any JSON whitespace.
    :raises UnsupportedSchema: if llguidance refuses what is left of it.
    """

    def __init__(self, source: Translation, separators: Separators) -> None:
        self.source = source
        self.separators = separators
        self.lowered, self.grammar = _compiled(source, separators)
        left = self.lowered.checks
        self.checks = Checks(source, left) if left else None
        self.has_mask = self.checks is None  # type: ignore[misc]

    def __reduce__(self) -> tuple:
        return _again, (self.source.root, self.source.draft, self.source.formats, self.separators)

    def __repr__(self) -> str:
        text = json.dumps(self.source.root, ensure_ascii=False)
        left = sorted({word for words in self.lowered.checks.values() for word in words})
        checked = f", checked: {' '.join(left)}" if left else ""
        return f"json_schema({_short(text, 40)}{_short(checked, 40)})"

    def start(self) -> SchemaSession:
        reading = None if self.checks is None else Reading(None, self.checks.root)
        return SchemaSession(self.grammar.start(), reading=reading)

    def extend(self, session: SchemaSession, piece: bytes) -> SchemaSession:
        grammar = self.grammar.extend(session.grammar, piece)
        number = None if session.number is None else json_numbers.advance(session.number, piece)
        reading = session.reading
        if reading is not None:
            reading = None if grammar.dead else read(reading, grammar.text, len(session.grammar.text))
        return SchemaSession(grammar, number, reading)

    def _dead(self, session: SchemaSession) -> bool:
        checked = self.checks is None or session.reading is not None
        return session.grammar.dead or session.number is None or not checked

    def prefix(self, session: SchemaSession, piece: bytes) -> bool:
        if self._dead(session) or not self.grammar.prefix(session.grammar, piece):
            return False
        assert session.number is not None
        if json_numbers.advance(session.number, piece) is None:
            return False
        if self.checks is None:
            return True
        after = self.extend(session, piece)
        # What must follow may close a wrong value: the text is dead now, not when it does.
        while not self._dead(after) and (forced := self.grammar.forced(after.grammar)):
            after = self.extend(after, forced)
        if self._dead(after):
            return False
        return not self.grammar.finished(after.grammar) or self._ends_well(after)

    def complete(self, session: SchemaSession, piece: bytes) -> bool:
        after = self.extend(session, piece) if piece else session
        if self._dead(after) or not self.grammar.complete(after.grammar, b""):
            return False
        return self.checks is None or self._ends_well(after)

    def _ends_well(self, session: SchemaSession) -> bool:
        assert session.reading is not None
        return ends_well(session.reading, session.grammar.text)

    def mask(self, session: SchemaSession, vocabulary: VocabularyLike) -> UInt32[np.ndarray, " W"]:
        row = self.grammar.mask(session.grammar, vocabulary)
        if session.number is None:
            return np.zeros_like(row)
        return row & _number_masks.get(vocabulary.tokens).row(session.number)


_number_masks = PerVocabulary(NumberMasks)


def _again(root: Any, draft: int, formats: bool, separators: Separators) -> SchemaEngine:
    return SchemaEngine(Translation(root, draft, formats=formats), separators)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _compiled(source: Translation, separators: Separators) -> tuple[Lowered, GuidanceEngine]:
    """The grammar of as much of a schema as llguidance takes.

    llguidance names what it does not take but not where; so that is taken out everywhere, and left to checks.
    """
    relax = Relax(patterns=frozenset(p for p in _patterns(source) if not _takes_pattern(p)))
    for _ in range(_MAX_ATTEMPTS + len(source.definitions)):
        lowered = lower(source, relax)
        if not relax.alternatives and alternatives(lowered.schema, _MAX_ALTERNATIVES) >= _MAX_ALTERNATIVES:
            relax = relax._replace(alternatives=True)
            lowered = lower(source, relax)
        if lowered.schema is False:
            break
        try:
            grammar = _grammar(lowered.schema, separators)
            # Without masks, what must follow is worth knowing; with them it must not be asked.
            return lowered, GuidanceEngine(grammar if lowered.checks else f"{NO_FORCING}\n{grammar}", _slices())
        except GrammarError as error:
            weaker = _relaxed(relax, str(error))
            if weaker == relax:
                raise _refusal(str(error)) from None
            relax = weaker
    raise _refusal("Unsatisfiable schema")


def _grammar(schema: Any, separators: Separators) -> str:
    options: dict[str, Any] = {"whitespace_flexible": True}
    if separators is not None:
        item, key = (_literal(text) for text in separators)
        options = {"whitespace_flexible": False, "item_separator": item, "key_separator": key}
    translated = {} if schema is True else _with_rust_patterns(schema)
    return "start: %json " + json.dumps(translated | {"x-guidance": options}) + "\n"


def _with_rust_patterns(schema: Any) -> Any:
    """A lowered schema with its regular expressions in llguidance's dialect."""
    if isinstance(schema, list):
        return [_with_rust_patterns(v) for v in schema]
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword == "pattern" and isinstance(value, str):
            out[keyword] = in_rust(value)
        elif keyword == "patternProperties":
            out[keyword] = {in_rust(p): _with_rust_patterns(v) for p, v in value.items()}
        elif keyword in ("properties", "$defs"):
            out[keyword] = {name: _with_rust_patterns(v) for name, v in value.items()}
        else:
            out[keyword] = value if keyword in ("enum", "const") else _with_rust_patterns(value)
    return out


def _literal(text: str) -> str:
    return "".join("\\" + c if c in r"\.+*?()|[]{}^$#&-~" else c for c in text)


@functools.cache
def _slices() -> tuple[str, ...]:
    return tuple(llguidance.LLTokenizer.json_slices())


def _relaxed(relax: Relax, error: str) -> Relax:
    """What to try after an error of llguidance: what the error speaks of, then more and more."""
    fewer = relax.keywords
    if "min/maxProperties only supported" in error:
        return relax._replace(keywords=fewer | {"minProperties", "maxProperties"})
    if "multipleOf" in error:
        return relax._replace(keywords=fewer | {"multipleOf"})
    if "are not disjoint" in error and not relax.overlaps:
        return relax._replace(overlaps=True)
    if "Unsatisfiable" in error:
        # Where a definition has no value, a schema may still have some without it.
        return relax._replace(empty=relax.empty | set(_DEFINITION.findall(error)))
    if "circular references" in error and not relax.references:
        return relax._replace(references=True)
    if not relax.alternatives:
        return relax._replace(alternatives=True)
    if "patternProperties" not in fewer:
        return relax._replace(keywords=fewer | {"patternProperties"})
    return relax._replace(keywords=fewer | {"pattern", "format", "propertyNames"})


def _refusal(error: str) -> UnsupportedSchema:
    line = error.partition("\n")[0].removeprefix("at 2(8): ").removeprefix("at 1(8): ")
    if "Unsatisfiable" in line:
        return UnsupportedSchema("schema", "", f"no JSON text satisfies it ({line})")
    return UnsupportedSchema("schema", "", f"llguidance refuses it: {line}")


def _patterns(source: Translation) -> set[str]:
    """Every regular expression in a schema."""
    found: set[str] = set()
    pending: list[Any] = [source.schema, *source.definitions.values()]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if isinstance(node.get("pattern"), str):
                found.add(node["pattern"])
            if isinstance(node.get("patternProperties"), dict):
                found |= set(node["patternProperties"])
            pending += node.values()
        elif isinstance(node, list):
            pending += node
    return found


@functools.lru_cache(4096)
def _takes_pattern(pattern: str) -> bool:
    """Whether llguidance takes a regular expression, for a string and for names."""
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}}
    schema["patternProperties"] = {pattern: True}
    try:
        GuidanceEngine(_grammar(schema, (",", ":")))
    except GrammarError as error:
        return "Unsatisfiable" in str(error)
    return True
