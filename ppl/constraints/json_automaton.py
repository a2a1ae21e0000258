"""JSON schemas without recursion as automata over their texts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from sentax.ppl.constraints.assembly import Assembly
from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.dfa import Dfa, TooManyStates
from sentax.ppl.constraints.json_objects import ANNOTATIONS, At, object_texts, says_nothing, small
from sentax.ppl.constraints.json_text import (
    any_number,
    constant,
    fixed,
    integers,
    nothing,
    spelled,
    strings,
    union,
)
from sentax.ppl.constraints.schema_errors import UnsupportedSchema
from sentax.ppl.constraints.sequences import read_repeated
from sentax.ppl.constraints.strings import choice
from sentax.ppl.constraints.syntax import UnsupportedPattern

MAX_STATES = 20_000

_STRUCTURE = frozenset(("$ref", "allOf", "anyOf", "type", "enum", "const"))
_OF_TYPE = {
    "string": frozenset(("minLength", "maxLength", "pattern")),
    "integer": frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
    "array": frozenset(("items", "prefixItems", "minItems", "maxItems")),
    "object": frozenset(
        (
            "properties",
            "required",
            "additionalProperties",
            "patternProperties",
            "minProperties",
            "maxProperties",
        )
    ),
}
_OF_TYPE["number"] = _OF_TYPE["integer"]
_KNOWN = ANNOTATIONS | _STRUCTURE | frozenset().union(*_OF_TYPE.values())
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_MAX_ALTERNATIVES = 256


def schema_automaton(
    schema: dict[str, Any] | bool,
    *,
    separators: tuple[str, str] = (", ", ": "),
    max_states: int = MAX_STATES,
) -> Automaton:
    """The JSON texts of a schema, in the form that `json.dumps(value, ensure_ascii=False)` writes.

    The language is that of :func:`sentax.json_schema` with llguidance: names in the order of `properties`, then
    of `required`, then others; control characters by any of their escapes; numbers in constants by their
    shortest decimal. One thing that llguidance lets through is not in it: escapes in the names of members
    beside named ones, such as `\\u0061` for a member `a` that is there already.

    :param schema: of draft 2020-12. References must lead into it and not be recursive; objects must say what
        other members they have (`additionalProperties`), arrays what items.
    :param separators: what stands between items and after names.
    :param max_states: bound on the states of the automaton, and of every part of it.
    :raises UnsupportedSchema: for what no automaton expresses, or this one does not, with the place.
    :raises TooManyStates: beyond the bound.

    **Example**

    .. code-block:: python

        >>> point = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
        >>> automaton = schema_automaton(point)
        >>> automaton.matches("[3, -14]"), automaton.matches("[3, 1.5]"), automaton.matches("[3]")
        (True, False, False)
    """
    root = (At(schema, ""),)
    # What is refused is found before anything large is made.
    Compiler(schema, separators, max_states, dry=True).value(root)
    compiler = Compiler(schema, separators, max_states)
    shown = json.dumps(schema, ensure_ascii=False)
    label = f"schema_automaton({shown if len(shown) < 60 else shown[:57] + '...'})"
    try:
        dfa = compiler.value(root)
    except TooManyStates:
        raise TooManyStates(f"{label} needs more than {max_states} states") from None
    if not dfa.accepting.any():
        raise UnsupportedSchema("schema", "", "no JSON text satisfies it")
    if len(dfa.delta) > max_states:
        raise TooManyStates(f"{label} needs {len(dfa.delta)} states, more than {max_states}")
    return Automaton.from_dfa(dfa, label)


class Compiler:
    """Automata of the values to which several subschemas apply at once.

    :param dry: whether to look for refusals alone; the automata are then all the same small one.
    """

    def __init__(self, root: Any, separators: tuple[str, str], max_states: int, dry: bool = False) -> None:
        self.root = root
        self.separators = separators
        self.max_states = max_states
        self.dry = dry
        self.known: dict[tuple[int, ...], Dfa] = {}
        self.open: set[tuple[int, ...]] = set()

    def value(self, schemas: tuple[At, ...]) -> Dfa:
        """The texts of the values that satisfy all of some subschemas."""
        schemas = tuple({id(s.schema): s for s in schemas if not says_nothing(s.schema)}.values())
        if not schemas:
            raise UnsupportedSchema("type", "", "any JSON value is recursive")
        key = tuple(sorted(id(s.schema) for s in schemas))
        if key in self.open:
            raise UnsupportedSchema("$ref", schemas[0].path, "it is recursive")
        if key not in self.known:
            self.open.add(key)
            self.known[key] = self._value(schemas)
            self.open.discard(key)
        return self.known[key]

    def _value(self, schemas: tuple[At, ...]) -> Dfa:
        ways = list(self._alternatives(list(schemas)))
        if self.dry:
            return [small(), *map(self._conjunction, ways)][-1]
        return union([self._conjunction(way) for way in ways], self.max_states)

    def _alternatives(self, pending: list[At]) -> Iterator[list[At]]:
        """Without `$ref`, `allOf` and `anyOf`: each a list of subschemas that apply together."""
        count = 0
        stack: list[tuple[list[At], list[At], frozenset[str]]] = [(pending, [], frozenset())]
        while stack:
            todo, done, seen = stack.pop()
            if not todo:
                count += 1
                if count > _MAX_ALTERNATIVES:
                    raise UnsupportedSchema(
                        "anyOf", pending[0].path, f"more than {_MAX_ALTERNATIVES} combinations"
                    )
                yield done
                continue
            (schema, path), todo = todo[0], todo[1:]
            if schema is False:
                continue
            if schema is True:
                stack.append((todo, done, seen))
                continue
            self._check_keywords(schema, path)
            more = [At(part, f"{path}/allOf/{i}") for i, part in enumerate(schema.get("allOf", ()))]
            if "$ref" in schema:
                reference = schema["$ref"]
                if reference in seen:
                    raise UnsupportedSchema("$ref", path, f"{reference!r} leads back to itself")
                seen = seen | {reference}
                more.insert(0, At(self._resolve(reference, path), reference.removeprefix("#")))
            own = {
                k: v for k, v in schema.items() if k not in ("$ref", "allOf", "anyOf") and k not in ANNOTATIONS
            }
            done = [*done, At(own, path)] if own else done
            if "anyOf" in schema:
                for i, part in reversed(list(enumerate(schema["anyOf"]))):
                    stack.append(([*more, At(part, f"{path}/anyOf/{i}"), *todo], done, seen))
            else:
                stack.append(([*more, *todo], done, seen))

    def _check_keywords(self, schema: dict[str, Any], path: str) -> None:
        for keyword in schema:
            if keyword not in _KNOWN:
                raise UnsupportedSchema(keyword, path, "automata are not made for it")

    def _resolve(self, reference: str, path: str) -> Any:
        if not reference.startswith("#"):
            raise UnsupportedSchema("$ref", path, f"{reference!r} points to another document")
        node = self.root
        for token in reference[1:].split("/")[1:]:
            token = token.replace("~1", "/").replace("~0", "~")
            try:
                node = node[int(token) if isinstance(node, list) else token]
            except (KeyError, IndexError, ValueError, TypeError):
                raise UnsupportedSchema("$ref", path, f"{reference!r} points to nothing") from None
        return node

    def _conjunction(self, schemas: list[At]) -> Dfa:
        """The texts of values that satisfy subschemas without `$ref`, `allOf` and `anyOf`."""
        for schema, path in schemas:
            if "enum" in schema or "const" in schema:
                return self._constants(schemas, schema, path)
        types = set(_TYPES)
        for schema, _ in schemas:
            if "type" in schema:
                named = {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
                types &= named | ({"integer"} if "number" in named else set())
        types -= {"integer"} if "number" in types else set()
        path = schemas[0].path if schemas else ""
        if {"array", "object"} <= types and not any("type" in schema for schema, _ in schemas):
            raise UnsupportedSchema("type", path, "without it a value may be any JSON, which is recursive")
        make = {
            "null": lambda s: fixed("null"),
            "boolean": lambda s: union([fixed("true"), fixed("false")], self.max_states),
            "integer": self._integer,
            "number": self._number,
            "string": self._string,
            "array": self._array,
            "object": lambda s: object_texts(self, s),
        }
        return union([make[t](schemas) for t in _TYPES if t in types], self.max_states)

    def _constants(self, schemas: list[At], chosen: dict[str, Any], path: str) -> Dfa:
        values = chosen["enum"] if "enum" in chosen else [chosen["const"]]
        if len(schemas) > 1 or len(chosen) > 1:
            import jsonschema_rs

            document = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
            if isinstance(self.root, dict) and "$defs" in self.root:
                document["$defs"] = self.root["$defs"]
            validator = jsonschema_rs.validator_for(document | {"allOf": [s for s, _ in schemas]}, offline=True)
            values = [v for v in values if validator.is_valid(v)]
        words = [v for v in values if isinstance(v, str)]
        parts = [constant(v, self.separators, self.max_states) for v in values if not isinstance(v, str)]
        if words:
            parts.append(spelled(choice(words).to_dfa()))
        return union(parts, self.max_states)

    def _integer(self, schemas: list[At]) -> Dfa:
        least, most = _bounds(schemas)
        for schema, path in schemas:
            if schema.get("multipleOf", 1) != 1:
                raise UnsupportedSchema("multipleOf", path, "automata are not made for it")
        return integers(least, most)

    def _number(self, schemas: list[At]) -> Dfa:
        for schema, path in schemas:
            for keyword in sorted(_OF_TYPE["number"] & schema.keys()):
                raise UnsupportedSchema(keyword, path, "automata bound integers alone")
        return any_number()

    def _string(self, schemas: list[At]) -> Dfa:
        patterns = [At(s["pattern"], p) for s, p in schemas if "pattern" in s]
        least = max((s.get("minLength", 0) for s, _ in schemas), default=0)
        most = min((s["maxLength"] for s, _ in schemas if "maxLength" in s), default=None)
        if most is not None and most < least:
            return nothing()
        if self.dry:
            return small()
        if max(least, most or 0) > self.max_states:
            raise TooManyStates("long strings")
        try:
            return strings(tuple(p.schema for p in patterns), least, most, self.max_states)
        except UnsupportedPattern as e:
            raise UnsupportedSchema("pattern", patterns[0].path, str(e)) from None
        except ValueError as e:
            if isinstance(e, TooManyStates):
                raise
            if "matches nothing" in str(e):
                return nothing()
            raise UnsupportedSchema("pattern", patterns[0].path, str(e)) from None

    def _array(self, schemas: list[At]) -> Dfa:
        least = max((s.get("minItems", 0) for s, _ in schemas), default=0)
        most = min((s["maxItems"] for s, _ in schemas if "maxItems" in s), default=None)
        first = max((len(s.get("prefixItems", ())) for s, _ in schemas), default=0)
        if self.dry:
            for index in range(first + (most is None or most > first)):
                self._item(schemas, index)
            return small()
        assembly = Assembly()
        between = fixed(self.separators[0])
        opened, closing = assembly.place(), assembly.place()
        assembly.read(assembly.start, opened, fixed("["))
        assembly.read(closing, assembly.final, fixed("]"))
        here, count = opened, 0
        while count < first and (most is None or count < most):
            if count >= least:
                assembly.skip(here, closing)
            item = self._item(schemas, count)
            after = assembly.place()
            assembly.read(here, after, *([between, item] if count else [item]))
            here, count = after, count + 1
        rest = None if most is None else most - count
        if rest == 0:
            if count >= least:
                assembly.skip(here, closing)
            return assembly.build(self.max_states)
        item = self._item(schemas, first)
        if max(least, most or 0) * len(item.delta) > 64 * self.max_states:
            raise TooManyStates("many items")
        if not item.accepting.any():
            if count >= least:
                assembly.skip(here, closing)
        elif count == 0:
            read_repeated(assembly, here, closing, item, least, most, between)
        else:
            member = Assembly()
            member.read(member.start, member.final, between, item)
            read_repeated(
                assembly, here, closing, member.build(self.max_states), max(least - count, 0), rest, None
            )
        return assembly.build(self.max_states)

    def _item(self, schemas: list[At], index: int) -> Dfa:
        parts = []
        for schema, path in schemas:
            prefix = schema.get("prefixItems", ())
            if index < len(prefix):
                parts.append(At(prefix[index], f"{path}/prefixItems/{index}"))
            elif "items" in schema:
                parts.append(At(schema["items"], f"{path}/items"))
        if all(says_nothing(part.schema) for part in parts):
            raise UnsupportedSchema("items", schemas[0].path, "any JSON value is recursive")
        return self.value(tuple(parts))


def _bounds(schemas: Sequence[At]) -> tuple[int | None, int | None]:
    least = [math.ceil(s["minimum"]) for s, _ in schemas if "minimum" in s]
    least += [math.floor(s["exclusiveMinimum"]) + 1 for s, _ in schemas if "exclusiveMinimum" in s]
    most = [math.floor(s["maximum"]) for s, _ in schemas if "maximum" in s]
    most += [math.ceil(s["exclusiveMaximum"]) - 1 for s, _ in schemas if "exclusiveMaximum" in s]
    return max(least, default=None), min(most, default=None)
