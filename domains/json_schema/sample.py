"""Schemas written for sentax, of records that the embedded model knows, each with a value that satisfies it."""

from __future__ import annotations

from typing import Any

from sentax.domains.json_schema.data import Schema, one_line


def _string(**keywords: Any) -> dict[str, Any]:
    return {"type": "string", **keywords}


def _integer(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


def _record(
    properties: dict[str, Any], *, required: list[str] | None = None, **keywords: Any
) -> dict[str, Any]:
    """Everything is required unless said otherwise."""
    required = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": required, **keywords}


def _list(items: Any, **keywords: Any) -> dict[str, Any]:
    return {"type": "array", "items": items, **keywords}


_TEXT = _string()
_NUMBER = {"type": "number"}
_CLOSED: dict[str, Any] = {"additionalProperties": False}

_SAMPLE: dict[str, tuple[Any, Any]] = {
    "person": (
        _record({"name": _TEXT, "age": _integer(0, 120)}),
        {"name": "Ada Lovelace", "age": 36},
    ),
    "contact": (
        _record({"name": _TEXT, "email": _string(format="email"), "phone": _TEXT}, **_CLOSED),
        {"name": "Grace Hopper", "email": "grace.hopper@example.org", "phone": "212-555-0147"},
    ),
    "event": (
        _record({"title": _TEXT, "date": _string(format="date"), "start": _string(format="time")}, **_CLOSED),
        {"title": "Annual meeting", "date": "2024-05-17", "start": "09:30:00Z"},
    ),
    "product": (
        _record(
            {"product": _TEXT, "price": {"type": "number", "minimum": 0}, "currency": {"enum": ["EUR", "USD"]}}
        ),
        {"product": "lamp", "price": 19.5, "currency": "EUR"},
    ),
    "order": (
        _record(
            {
                "id": {"type": "integer"},
                "items": _list(_record({"product": _TEXT, "quantity": _integer(1, 100)})),
            }
        ),
        {"id": 17, "items": [{"product": "chair", "quantity": 4}, {"product": "table", "quantity": 1}]},
    ),
    "user": (
        _record(
            {"id": {"type": "integer"}, "active": {"type": "boolean"}, "notes": _TEXT},
            required=["id", "active"],
        ),
        {"id": 3, "active": True},
    ),
    "location": (
        _record({"location": _record({"city": _TEXT, "country": _TEXT}), "zip": _string(pattern="^[0-9]{5}$")}),
        {"location": {"city": "Paris", "country": "France"}, "zip": "75005"},
    ),
    "tags": (
        _record({"title": _TEXT, "tags": _list(_string(minLength=1), minItems=1, maxItems=4)}, **_CLOSED),
        {"title": "Green lamp", "tags": ["small", "bright"]},
    ),
    "size": (
        _record(
            {"color": {"enum": ["red", "green", "blue"]}, "size": {"enum": ["S", "M", "L", "XL"]}}, **_CLOSED
        ),
        {"color": "green", "size": "M"},
    ),
    "parent": (
        _record({"name": _TEXT, "parent": {"type": ["integer", "null"]}}),
        {"name": "Marie Curie", "parent": None},
    ),
    "pair": (
        {"type": "array", "prefixItems": [_NUMBER, _NUMBER], "items": False, "minItems": 2},
        [12.5, -3.25],
    ),
    "reading": (
        _record(
            {"temperature": {"type": "number", "minimum": -90, "exclusiveMaximum": 60}, "unit": {"const": "C"}}
        ),
        {"temperature": 21.5, "unit": "C"},
    ),
    "languages": (
        _record({"name": _TEXT, "languages": _list({"enum": ["en", "de", "fr", "es"]}, uniqueItems=True)}),
        {"name": "Niels Bohr", "languages": ["de", "en"]},
    ),
    "payment": (
        {
            "oneOf": [
                _record({"method": {"const": "card"}, "number": _string(pattern="^[0-9]{4}$")}, **_CLOSED),
                _record({"method": {"const": "phone"}, "phone": _TEXT}, **_CLOSED),
            ]
        },
        {"method": "card", "number": "4417"},
    ),
    "id-or-name": (
        {"anyOf": [{"type": "integer", "minimum": 1}, _string(minLength=2, maxLength=20)]},
        "Rome",
    ),
    "tree": (
        {
            "$defs": {"node": _record({"name": _TEXT, "children": _list({"$ref": "#/$defs/node"})})},
            "$ref": "#/$defs/node",
        },
        {"name": "Anna", "children": [{"name": "Tom", "children": []}]},
    ),
    "scores": (
        _record(
            {
                "results": _list(
                    _record({"name": _TEXT, "score": {"type": "number", "minimum": 0, "maximum": 1}})
                )
            }
        ),
        {"results": [{"name": "Emma Brown", "score": 0.75}, {"name": "John Smith", "score": 0.5}]},
    ),
    "translations": (
        {"type": "object", "patternProperties": {"^[a-z]{2}$": _string(minLength=1)}, **_CLOSED},
        {"en": "Hello", "fr": "Bonjour"},
    ),
    "discount": (
        _record({"total": {"type": "integer"}, "percent": _integer(1, 99), "reason": _TEXT}, required=["total"])
        | {"dependentRequired": {"percent": ["reason"]}},
        {"total": 120, "percent": 10, "reason": "first order"},
    ),
    "meeting": (
        _record(
            {
                "created": _string(format="date-time"),
                "url": _string(format="uri"),
                "public": {"type": "boolean"},
            }
        ),
        {"created": "2024-05-17T09:30:00Z", "url": "https://www.example.org/docs", "public": False},
    ),
}

SHOTS = (
    (one_line(_record({"city": _TEXT, "year": _integer(1900, 2100)})), '{"city": "Rome", "year": 1960}'),
    (one_line(_list(_string(format="email"))), '["ann.lee@example.com", "info@example.org"]'),
)
"""The two examples of prompts: schemas and records in one line each."""


def sample() -> list[Schema]:
    """Twenty schemas, each with a value that satisfies it."""
    return [
        Schema(id=id, schema=one_line(schema), valid=(one_line(value),))
        for id, (schema, value) in _SAMPLE.items()
    ]


__all__ = ["SHOTS", "sample"]
