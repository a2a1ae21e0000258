"""JSON objects as automata: members in the order of the schema, then others."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple, Protocol

import numpy as np

from sentax.ppl.constraints.assembly import Assembly
from sentax.ppl.constraints.dfa import Dfa, TooManyStates, product
from sentax.ppl.constraints.json_text import contents, fixed, nothing, spelled
from sentax.ppl.constraints.schema_errors import UnsupportedSchema
from sentax.ppl.constraints.strings import choice
from sentax.ppl.constraints.syntax import UnsupportedPattern

ANNOTATIONS = frozenset(
    (
        "$schema", "$id", "id", "$anchor", "$comment", "$defs", "definitions", "title", "description",
        "default", "examples", "deprecated", "readOnly", "writeOnly", "contentMediaType", "contentEncoding",
        "contentSchema",
    )
)  # fmt: skip
"""Keywords that say nothing about which values are right."""


@functools.cache
def small() -> Dfa:
    """What stands for any automaton where only refusals are looked for.

    Not made when the module is imported: that would start JAX's devices before anybody could set them up.
    """
    return fixed("")


class At(NamedTuple):
    """A subschema and where it stands."""

    schema: Any
    path: str


class Values(Protocol):
    """What makes the automata of members' values."""

    separators: tuple[str, str]
    max_states: int
    dry: bool

    def value(self, schemas: tuple[At, ...]) -> Dfa: ...


def says_nothing(schema: Any) -> bool:
    """Whether every value satisfies a schema, as can be seen at once."""
    return schema is True or (isinstance(schema, dict) and schema.keys() <= ANNOTATIONS)


def object_texts(compiler: Values, schemas: Sequence[At]) -> Dfa:
    """The objects that satisfy subschemas without `$ref`, `allOf` and `anyOf`.

    :param schemas: at least one.
    """
    fields = list(dict.fromkeys(n for s, _ in schemas for n in s.get("properties", ())))
    required = dict.fromkeys(n for s, _ in schemas for n in s.get("required", ()))
    fields += [n for n in required if n not in fields]
    least = max((s.get("minProperties", 0) for s, _ in schemas), default=0)
    most = min((s["maxProperties"] for s, _ in schemas if "maxProperties" in s), default=None)

    others = _others(compiler, schemas, fields)
    members: dict[str, Dfa] = {}
    for name in fields:
        values = _member(compiler, schemas, name)
        if values is not None:
            members[name] = values
            # Members share no states, so they need about as many together.
            if sum(len(v.delta) for v in members.values()) > 2 * compiler.max_states:
                raise TooManyStates("many members")
        elif name in required:
            return nothing()

    if most is not None and len(required) > most:
        return nothing()
    if most is not None and (others or len(members) > most):
        if len(required) < most:
            raise UnsupportedSchema("maxProperties", schemas[0].path, "automata do not count members")
        members, others = {name: members[name] for name in members if name in required}, []
    if least > max(1, len(required)):
        raise UnsupportedSchema("minProperties", schemas[0].path, "automata do not count members")
    if compiler.dry:
        return small()
    return _assembled(compiler, members, required, others, may_be_empty=least == 0)


def _assembled(
    compiler: Values,
    members: Mapping[str, Dfa],
    required: Mapping[str, None],
    others: Sequence[tuple[Dfa, Dfa]],
    may_be_empty: bool,
) -> Dfa:
    # Places come in pairs, before the first member and after one; a value stands in one spot for both.
    assembly = Assembly()
    between, colon = compiler.separators
    empty, some = assembly.place(), assembly.place()
    assembly.read(assembly.start, empty, fixed("{"))
    for name, values in members.items():
        key = json.dumps(name, ensure_ascii=False) + colon
        named, next_empty, next_some = assembly.place(), assembly.place(), assembly.place()
        assembly.read(empty, named, fixed(key))
        assembly.read(some, named, fixed(between + key))
        assembly.read(named, next_some, values)
        if name not in required:
            assembly.skip(empty, next_empty)
            assembly.skip(some, next_some)
        empty, some = next_empty, next_some
    if others:
        before, after = assembly.place(), assembly.place()
        for names, values in others:
            assembly.read(before, after, names, fixed(colon), values)
        assembly.skip(empty, before)
        assembly.read(some, before, fixed(between))
        assembly.skip(after, some)
    closing = assembly.place()
    if may_be_empty:
        assembly.skip(empty, closing)
    assembly.skip(some, closing)
    assembly.read(closing, assembly.final, fixed("}"))
    return assembly.build(compiler.max_states)


def _member(compiler: Values, schemas: Sequence[At], name: str) -> Dfa | None:
    """The values of a member, or `None` where there are none."""
    parts: list[At] = []
    for schema, path in schemas:
        found = []
        if name in schema.get("properties", {}):
            found.append(At(schema["properties"][name], f"{path}/properties/{_escape(name)}"))
        for pattern, below in schema.get("patternProperties", {}).items():
            if _accepts(_names(compiler, pattern, path), name.encode()):
                found.append(At(below, f"{path}/patternProperties/{_escape(pattern)}"))
        if not found and "additionalProperties" in schema:
            found.append(At(schema["additionalProperties"], f"{path}/additionalProperties"))
        parts += found
    if any(part.schema is False for part in parts):
        return None
    if all(says_nothing(part.schema) for part in parts):
        path = next((p for s, p in schemas if name in s.get("properties", {})), schemas[0].path)
        raise UnsupportedSchema("properties", path, f"{name!r} may be any JSON value, which is recursive")
    values = compiler.value(tuple(parts))
    return values if values.accepting.any() else None


def _others(compiler: Values, schemas: Sequence[At], fields: Sequence[str]) -> list[tuple[Dfa, Dfa]]:
    """Kinds of members without a place of their own: the names and the values of each."""
    everything = contents((), 0, None, compiler.max_states)
    kinds: list[tuple[Dfa, list[At]]] = [(everything, [])]
    for schema, path in schemas:
        patterns = schema.get("patternProperties", {})
        rest = everything
        split: list[tuple[Dfa, list[At]]] = []
        for pattern, below in patterns.items():
            names = _names(compiler, pattern, path)
            if not _same(product(rest, names, np.logical_and, compiler.max_states), names):
                raise UnsupportedSchema("patternProperties", path, f"{pattern!r} overlaps with another pattern")
            rest = _minus(compiler, rest, names)
            split.append((names, [At(below, f"{path}/patternProperties/{_escape(pattern)}")]))
        split.append((rest, [At(schema.get("additionalProperties", True), f"{path}/additionalProperties")]))
        kinds = [
            (product(names, more, np.logical_and, compiler.max_states), [*parts, *further])
            for names, parts in kinds
            for more, further in split
        ]
    kept = [kind for kind in kinds if not any(part.schema is False for part in kind[1])]
    taken = choice(fields).to_dfa() if fields and kept else nothing()
    out = []
    for names, parts in kept:
        names = _minus(compiler, names, taken)
        if not names.accepting.any():
            continue
        if all(says_nothing(part.schema) for part in parts):
            path = schemas[0].path
            raise UnsupportedSchema(
                "additionalProperties", path, "other members may be any JSON value: recursive"
            )
        values = compiler.value(tuple(parts))
        if values.accepting.any():
            out.append((spelled(names), values))
    return out


def _names(compiler: Values, pattern: str, path: str) -> Dfa:
    try:
        return contents((pattern,), 0, None, compiler.max_states)
    except UnsupportedPattern as e:
        raise UnsupportedSchema("patternProperties", path, str(e)) from None


def _minus(compiler: Values, names: Dfa, others: Dfa) -> Dfa:
    return product(names, others, lambda a, b: a & ~b, compiler.max_states)


def _same(left: Dfa, right: Dfa) -> bool:
    # Minimal automata are canonical.
    return all(np.array_equal(x, y) for x, y in zip(left.minimise(), right.minimise()))


def _accepts(dfa: Dfa, text: bytes) -> bool:
    return bool(dfa.accepting[reduce(lambda state, byte: dfa.delta[state, dfa.classes[byte]], text, 0)])


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")
