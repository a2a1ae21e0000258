"""Texts that are JSON and satisfy a schema."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.dfa import TooManyStates
from sentax.ppl.constraints.host import HostConstraint
from sentax.ppl.constraints.json_automaton import schema_automaton
from sentax.ppl.constraints.schema_draft import DRAFTS, Translation
from sentax.ppl.constraints.schema_engine import SchemaEngine, Separators
from sentax.ppl.constraints.schema_errors import UnsupportedSchema
from sentax.ppl.constraints.schema_lower import lower
from sentax.ppl.constraints.schema_types import schema_of_type

_MAX_STATES = 2_000
ENGINES = ("auto", "device", "llguidance")


class CompiledSchema(NamedTuple):
    """A schema as a constraint, and how it is enforced.

    :param engine: `"device"` or `"llguidance"`.
    :param checked: what is checked when a value is closed, because the engine has no way to say it, as
        `(keyword, JSON pointer)`.
    :param annotations: keywords that say nothing about which values are right, unknown ones above all.
    """

    constraint: Constraint
    engine: str
    checked: tuple[tuple[str, str], ...]
    annotations: tuple[tuple[str, str], ...]


def json_schema(
    schema: Any,
    *,
    separators: Separators = (", ", ": "),
    engine: str = "auto",
    formats: bool = True,
    check: bool = True,
    max_states: int = _MAX_STATES,
) -> Constraint:
    """Texts that are JSON and satisfy a schema.

    The text is the one that `json.dumps(value, ensure_ascii=False, separators=separators)` writes, up to the
    spelling of numbers and of control characters. *The order of names is fixed*: that of `properties`, then
    that of `required`, then any others. So this conditions on a subset of the schema's texts, one order of
    each value; `docs/json_schema.md` has a table of all keywords.

    Keywords that the engine's grammars cannot express are checked by jsonschema-rs as soon as the value that
    they speak of is closed. Such a check is exact, but it cannot look ahead: a text may be led to where no
    continuation is right, and its particle then dies. There is no mask for such a schema.
    :func:`compile_schema` tells which keywords these are.

    :param schema: a schema (a dictionary, a bool, or JSON text) of draft 4 to 2020-12, a pydantic model, a
        dataclass or another type that has a schema. Objects of types have no members but their fields.
    :param separators: between items and after names, as for :func:`json.dumps`; `None` allows any JSON
        whitespace inside the text.
    :param engine: `"device"` for an automaton on the device, `"llguidance"` for a parser on the host,
        `"auto"` for the automaton where it has no more than `max_states` states.
    :param formats: whether `format` is asserted; formats that the schema's draft does not know never are.
    :param check: whether keywords may be left to a check; otherwise they are refused.
    :raises UnsupportedSchema: if the schema cannot be enforced or nothing satisfies it.
    :raises ValueError: if it is no schema.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints.json_schema import json_schema
        >>> tags = json_schema({"type": "array", "items": {"enum": ["red", "blue"]}, "uniqueItems": True})
        >>> tags.matches('["red", "blue"]'), tags.matches('["red", "red"]')
        (True, False)
        >>> tags
        json_schema({"type": "array", "items": {"enum": [..., checked: uniqueItems)
    """
    compiled = compile_schema(
        schema, separators=separators, engine=engine, formats=formats, check=check, max_states=max_states
    )
    return compiled.constraint


def compile_schema(
    schema: Any,
    *,
    separators: Separators = (", ", ": "),
    engine: str = "auto",
    formats: bool = True,
    check: bool = True,
    max_states: int = _MAX_STATES,
) -> CompiledSchema:
    """As :func:`json_schema`, with an account of how the schema is enforced.

    >>> compiled = compile_schema({"type": "string", "format": "date", "x-note": "local time"})
    >>> compiled.checked, compiled.annotations
    ((), (('x-note', ''),))
    """
    if engine not in ENGINES:
        raise ValueError(f"an engine is one of {', '.join(ENGINES)}, not {engine!r}")
    _check_separators(separators)
    root = _schema(schema)
    source = Translation(root, draft_of(root), formats=formats)
    annotations = tuple(dict.fromkeys(source.annotations))
    if engine != "llguidance":
        try:
            return CompiledSchema(_on_device(source, separators, max_states), "device", (), annotations)
        except UnsupportedSchema:
            if engine == "device":
                raise
    on_host = SchemaEngine(source, separators)
    checked = tuple((word, path) for path, words in on_host.lowered.checks.items() for word in sorted(words))
    if checked and not check:
        raise UnsupportedSchema(*checked[0], "a grammar cannot express it, and check=False")
    return CompiledSchema(HostConstraint.of(on_host), "llguidance", checked, annotations)


def _on_device(source: Translation, separators: Separators, max_states: int) -> Constraint:
    lowered = lower(source)
    for path, words in lowered.checks.items():
        raise UnsupportedSchema(min(words), path, "an automaton cannot express it")
    if separators is None:
        raise UnsupportedSchema("separators", "", "free whitespace is left to llguidance")
    try:
        return schema_automaton(lowered.schema, separators=separators, max_states=max_states)
    except TooManyStates as error:
        raise UnsupportedSchema("schema", "", str(error)) from None


def _schema(schema: Any) -> Any:
    """The schema itself, from whatever stands for it."""
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except json.JSONDecodeError as error:
            raise ValueError(f"the schema is not JSON: {error}") from None
    if isinstance(schema, dict | bool):
        return schema
    if schema is None or isinstance(schema, int | float | list | bytes):
        raise TypeError(f"a schema is a dictionary, a bool, JSON text or a type, not {schema!r}")
    return schema_of_type(schema)


def draft_of(root: dict[str, Any] | bool) -> int:
    """The draft that a schema names; else the newest whose rules for schemas it keeps.

    :raises ValueError: if it keeps none.
    """
    import jsonschema_rs

    if isinstance(root, bool):
        return 2020
    named = str(root.get("$schema", "")).rstrip("#")
    order = [d for d, uri in DRAFTS.items() if uri.rstrip("#") == named] or [2020, 7, 4]
    problem = ""
    for draft in order:
        try:
            jsonschema_rs.meta.validate(root | {"$schema": DRAFTS[draft]})
        except jsonschema_rs.ValidationError as error:
            where = "".join(f"/{step}" for step in error.instance_path)
            problem = problem or f"{error.message} at {where or 'the top'}"
        else:
            return draft
    raise ValueError(f"this is no JSON schema: {problem}")


def _check_separators(separators: Any) -> None:
    if separators is None:
        return
    if isinstance(separators, str) or len(separators) != 2:
        raise ValueError(f"separators are a pair such as (', ', ': '), or None, not {separators!r}")
    for text, sign in zip(separators, ",:", strict=True):
        if text.strip(" \t\r\n") != sign:
            raise ValueError(f"a separator is {sign!r} with whitespace around it, not {text!r}")
