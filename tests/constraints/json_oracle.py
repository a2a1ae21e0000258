"""jsonschema-rs as the oracle of JSON schemas, and how both sides are asked."""

from __future__ import annotations

import json

import jsonschema_rs

from sentax.jsonschema_bench import accepts, accepts_reordered, engine_of
from sentax.ppl.constraints.json_schema import compile_schema
from sentax.ppl.constraints.schema_draft import DRAFTS


def parser(schema, **options):
    """llguidance's engine of a schema."""
    return engine_of(compile_schema(schema, engine="llguidance", **options).constraint)


def validator(schema):
    root = schema if isinstance(schema, bool) else {"$schema": DRAFTS[2020]} | schema
    return jsonschema_rs.validator_for(root, validate_formats=True, offline=True)


def dumps(value):
    return json.dumps(value, ensure_ascii=False).encode()


def takes(engine, value):
    """Whether a value is accepted in some order of names."""
    return accepts(engine, dumps(value)) or accepts_reordered(engine, value)


PERSON_TAGS = {"type": "array", "items": {"enum": ["x", "yz"]}}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 3}, "tags": PERSON_TAGS},
    "required": ["name"],
    "additionalProperties": False,
}
UNIQUE = PERSON | {"properties": {**PERSON["properties"], "tags": PERSON_TAGS | {"uniqueItems": True}}}
"""The same with a keyword that is checked."""
