"""JSON schemas of Python types: dataclasses, typed dictionaries, pydantic models."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sentax.ppl.constraints.schema_draft import DRAFTS

_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    decimal.Decimal: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    datetime.date: {"type": "string", "format": "date"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.time: {"type": "string", "format": "time"},
    uuid.UUID: {"type": "string", "format": "uuid"},
}


def schema_of_type(kind: Any) -> dict[str, Any] | bool:
    """The JSON schema of the values of a Python type, without members that the type does not name.

    pydantic models say themselves what their schema is. The rest is read from annotations: dataclasses and
    `TypedDict`s (fields with a default may be missing), `Literal`, enumerations, `list`, `tuple`, `dict`,
    unions, numbers, `str`, `bool`, `None`, dates and UUIDs.

    :raises TypeError: for a type that has no schema, with the field in which it occurs.

    >>> @dataclasses.dataclass
    ... class Point:
    ...     x: int
    ...     label: str | None = None
    >>> schema_of_type(Point)["$defs"]["Point"]["required"]
    ['x']
    """
    own = getattr(kind, "model_json_schema", None)
    if own is not None:
        return _closed(own())
    definitions: dict[str, Any] = {}
    schema = _schema(kind, definitions, getattr(kind, "__name__", repr(kind)))
    if definitions and isinstance(schema, dict):
        schema = {"$schema": DRAFTS[2020]} | schema | {"$defs": definitions}
    return schema


def _closed(schema: Any) -> Any:
    """A model's schema, in which objects with named properties have no others."""
    if isinstance(schema, list):
        return [_closed(v) for v in schema]
    if not isinstance(schema, dict):
        return schema
    out = {k: _closed(v) if k not in ("enum", "const", "default", "examples") else v for k, v in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        out.setdefault("additionalProperties", False)
    return out


def _schema(kind: Any, definitions: dict[str, Any], where: str) -> Any:
    if kind in (Any, object):
        return True
    if isinstance(kind, type | None) and kind in _SCALARS:
        return dict(_SCALARS[kind])
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _schema(arguments[0], definitions, where)
    if origin in (typing.Required, typing.NotRequired):
        return _schema(arguments[0], definitions, where)
    if origin is typing.Literal:
        return {"enum": [a.value if isinstance(a, enum.Enum) else a for a in arguments]}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema(a, definitions, where) for a in arguments]}
    if kind in (list, tuple, set, frozenset) or origin in (list, set, frozenset, Sequence):
        items = {"items": _schema(arguments[0], definitions, f"{where}[]")} if arguments else {}
        unique = {"uniqueItems": True} if (origin or kind) in (set, frozenset) else {}
        return {"type": "array"} | items | unique
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return {"type": "array", "items": _schema(arguments[0], definitions, f"{where}[]")}
        each = [_schema(a, definitions, f"{where}[{i}]") for i, a in enumerate(arguments)]
        bounds = {"minItems": len(each), "maxItems": len(each)}
        return {"type": "array", "prefixItems": each, "items": False} | bounds
    if kind is dict or origin in (dict, Mapping):
        if arguments and arguments[0] is not str:
            raise TypeError(f"{where}: the keys of a JSON object are strings, not {arguments[0]!r}")
        return {"type": "object"} | (
            {"additionalProperties": _schema(arguments[1], definitions, f"{where}[]")} if arguments else {}
        )
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return _object(kind, definitions, where)
    own = getattr(kind, "model_json_schema", None)
    if own is not None:
        raise TypeError(f"{where}: a pydantic model inside another type; make the outer one a model as well")
    raise TypeError(f"{where}: {kind!r} has no JSON schema")


def _object(kind: Any, definitions: dict[str, Any], where: str) -> dict[str, Any]:
    name = kind.__name__
    taken = [n for n, d in definitions.items() if d.get("title") == kind.__qualname__]
    if taken:
        return {"$ref": f"#/$defs/{taken[0]}"}
    while name in definitions:
        name += "_"
    definition = definitions[name] = {"type": "object", "title": kind.__qualname__}
    hints = typing.get_type_hints(kind, include_extras=True)
    if typing.is_typeddict(kind):
        required = [field for field in hints if field in kind.__required_keys__]
    else:
        fields = [f for f in dataclasses.fields(kind) if f.init]
        hints = {f.name: hints[f.name] for f in fields}
        missing = dataclasses.MISSING
        required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    properties = {field: _schema(hint, definitions, f"{where}.{field}") for field, hint in hints.items()}
    definition |= {"properties": properties, "required": required, "additionalProperties": False}
    return {"$ref": f"#/$defs/{name}"}
