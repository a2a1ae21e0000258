"""JSON: records over a vocabulary of typed fields, and JSON schemas with records that conform to them."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from sentax.models.data import strings
from sentax.models.data.draws import chance, tail
from sentax.models.data.words import (
    ADJECTIVES,
    ANIMALS,
    CITIES,
    COLORS,
    COUNTRIES,
    FAMILY,
    FOODS,
    GIVEN,
    HOBBIES,
    JOBS,
    OBJECTS,
    SUBJECTS,
)

Schema = dict[str, Any]

_STATUS = ("active", "pending", "done", "open", "closed", "failed", "new", "archived", "draft", "paid")
_LANGUAGES = ("en", "de", "fr", "es", "it", "pt", "ja", "nl", "sv", "pl")
_CURRENCIES = ("EUR", "USD", "GBP", "JPY", "CHF", "SEK", "INR")
_UNITS = ("kg", "g", "m", "cm", "l", "ml", "s", "km")


def _integer(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _word(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


FIELDS: dict[str, Schema] = {
    "id": {"type": "integer"},
    "name": {"type": "string"},
    "age": _integer(0, 120),
    "email": {"type": "string", "format": "email"},
    "city": {"type": "string"},
    "active": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "price": {"type": "number"},
    "title": {"type": "string"},
    "tags": {"type": "array", "items": {"type": "string"}},
    "status": _word(*_STATUS[:5]),
    "country": {"type": "string"},
    "count": _integer(0, 1000),
    "quantity": _integer(1, 100),
    "color": {"type": "string"},
    "phone": {"type": "string"},
    "url": {"type": "string", "format": "uri"},
    "score": {"type": "number", "minimum": 0, "maximum": 1},
    "year": _integer(1900, 2100),
    "language": _word(*_LANGUAGES[:6]),
    "currency": _word(*_CURRENCIES[:4]),
    "verified": {"type": "boolean"},
    "first_name": {"type": "string"},
    "last_name": {"type": "string"},
    "job": {"type": "string"},
    "product": {"type": "string"},
    "animal": {"type": "string"},
    "hobbies": {"type": "array", "items": {"type": "string"}},
    "scores": {"type": "array", "items": {"type": "number"}},
    "values": {"type": "array", "items": {"type": "integer"}},
    "created": {"type": "string", "format": "date-time"},
    "start": {"type": "string", "format": "time"},
    "weight": {"type": "number"},
    "height": {"type": "number"},
    "unit": _word(*_UNITS[:4]),
    "rating": _integer(1, 5),
    "notes": {"type": "string"},
    "address": {"type": "string"},
    "temperature": {"type": "number"},
    "subject": {"type": "string"},
    "level": _word("low", "medium", "high"),
    "x": {"type": "number"},
    "y": {"type": "number"},
    "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
    "parent": {"type": ["integer", "null"]},
    "ingredients": {"type": "array", "items": {"type": "string"}},
    "size": _word("S", "M", "L", "XL"),
    "public": {"type": "boolean"},
    "version": {"type": "string"},
    "total": {"type": "number"},
}
"""The vocabulary of fields: a name and the JSON schema of its values."""

_STRINGS = {
    "name": strings.name,
    "email": strings.email,
    "city": lambda rng: tail(rng, CITIES),
    "date": strings.iso_date,
    "title": lambda rng: f"{tail(rng, ADJECTIVES)} {tail(rng, OBJECTS)}".capitalize(),
    "country": lambda rng: tail(rng, COUNTRIES),
    "color": lambda rng: tail(rng, COLORS),
    "phone": strings.phone,
    "url": strings.url,
    "first_name": lambda rng: tail(rng, GIVEN),
    "last_name": lambda rng: tail(rng, FAMILY),
    "job": lambda rng: tail(rng, JOBS),
    "product": lambda rng: tail(rng, OBJECTS),
    "animal": lambda rng: tail(rng, ANIMALS),
    "created": lambda rng: strings.iso_date(rng) + "T" + strings.clock(rng, True) + "Z",
    "start": lambda rng: strings.clock(rng, True),
    "address": strings.address,
    "subject": lambda rng: tail(rng, SUBJECTS),
    "notes": lambda rng: tail(
        rng,
        ("", "none", "call back", "in stock", 'see "terms"', "first visit", "n/a", "fragile", "paid in cash"),
    ),
    "zip": lambda rng: f"{rng.randint(0, 99999):05}",
    "tags": lambda rng: tail(rng, ADJECTIVES),
    "hobbies": lambda rng: tail(rng, HOBBIES),
    "ingredients": lambda rng: tail(rng, FOODS),
    "version": lambda rng: f"{rng.randint(0, 4)}.{rng.randint(0, 12)}.{rng.randint(0, 9)}",
}

_OBJECTS: dict[str, tuple[str, ...]] = {
    "user": ("id", "name", "email"),
    "owner": ("name", "age"),
    "location": ("city", "country"),
    "position": ("x", "y"),
    "item": ("product", "price"),
    "contact": ("phone", "email"),
    "customer": ("first_name", "last_name", "city"),
    "author": ("name", "country"),
    "pet": ("animal", "name", "age"),
    "range": ("start", "count"),
}
_ARRAYS: dict[str, tuple[str, ...]] = {
    "items": ("product", "price", "quantity"),
    "users": ("id", "name"),
    "points": ("x", "y"),
    "events": ("title", "date"),
    "orders": ("id", "total"),
    "results": ("name", "score"),
}


def value(rng: Random, name: str, schema: Schema) -> Any:
    """A value that conforms to a schema, in the taste of the field's name."""
    kind = schema["type"]
    if "enum" in schema:
        return tail(rng, schema["enum"])
    if isinstance(kind, list):
        kind = rng.choice(kind)
    if kind == "object":
        optional = [key for key in schema["properties"] if key not in schema["required"]]
        left_out = {key for key in optional if chance(rng, 0.25)}
        return {key: value(rng, key, part) for key, part in schema["properties"].items() if key not in left_out}
    if kind == "array":
        return [value(rng, name, schema["items"]) for _ in range(rng.choice((1, 2, 2, 3, 3, 4, 0)))]
    if kind == "string":
        return _STRINGS.get(name, strings.name)(rng)
    if kind == "integer":
        low, high = schema.get("minimum", 1), schema.get("maximum", rng.choice((9, 99, 999, 9999)))
        return rng.randint(18, 80) if name == "age" else rng.randint(low, high)
    if kind == "number":
        if name in ("score", "scores"):
            return round(rng.random(), rng.choice((1, 2, 2, 3)))
        return round(
            rng.expovariate(0.03) * rng.choice((1, 1, 1, -1 if name in "xytemperature" else 1)),
            rng.choice((1, 2, 2)),
        )
    return None if kind == "null" else chance(rng, 0.6)


def _nested(rng: Random, parts: tuple[str, ...]) -> Schema:
    properties = {part: FIELDS[part] for part in parts}
    return {"type": "object", "properties": properties, "required": list(parts)}


def schema(rng: Random, annotate: bool = True) -> Schema:
    """A JSON schema of an object with one to seven fields, some of them nested.

    :param annotate: whether to add the keywords that do not change the layout of a record.
    """
    names = list(FIELDS)
    properties: Schema = {}
    for _ in range(rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 7))):
        style = rng.random()
        if style < 0.10:
            name = tail(rng, list(_OBJECTS))
            properties[name] = _nested(rng, _OBJECTS[name])
        elif style < 0.16:
            name = tail(rng, list(_ARRAYS))
            properties[name] = {"type": "array", "items": _nested(rng, _ARRAYS[name])}
        else:
            name = tail(rng, names) if chance(rng, 0.7) else rng.choice(names)
            properties[name] = FIELDS[name]
    if not annotate:
        return {"type": "object", "properties": properties, "required": list(properties)}
    required = [name for name in properties if chance(rng, 0.75)] if chance(rng, 0.6) else list(properties)
    result: Schema = {"type": "object", "properties": properties, "required": required}
    if chance(rng, 0.4):
        result["additionalProperties"] = False
    return result


def write(rng: Random, record: Any) -> str:
    """A JSON text: usually with spaces after separators, sometimes compact, seldom indented."""
    style = rng.random()
    if style < 0.72:
        return json.dumps(record, ensure_ascii=chance(rng, 0.5))
    if style < 0.95:
        return json.dumps(record, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(record, ensure_ascii=False, indent=2)


def json_line(rng: Random) -> str:
    """A JSON text on one line: mostly an object, seldom an array or a scalar."""
    style = rng.random()
    if style < 0.06:
        record: Any = [rng.randint(0, 99) for _ in range(rng.randint(0, 5))]
    elif style < 0.09:
        record = [tail(rng, FOODS) for _ in range(rng.randint(1, 4))]
    elif style < 0.11:
        record = rng.choice((True, False, None, rng.randint(0, 999), tail(rng, CITIES)))
    else:
        form = schema(rng, annotate=False)
        record = value(rng, "", form)
    return (
        write(rng, record).replace("\n", " ")
        if chance(rng, 0.05)
        else json.dumps(
            record, ensure_ascii=False, separators=(",", ":") if chance(rng, 0.25) else (", ", ": ")
        )
    )


def schema_and_record(rng: Random) -> str:
    """A schema on one line, then records that conform to it, one or two with a heading."""
    form = schema(rng)
    lines = [json.dumps(form)]
    heading = rng.choice(("", "", "JSON: "))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        lines.append(heading + json.dumps(value(rng, "", form), ensure_ascii=False))
    return ("Schema: " if heading or chance(rng, 0.3) else "") + "\n".join(lines)
