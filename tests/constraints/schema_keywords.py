"""One row for each keyword of JSON Schema: schemas that use it, with values that are right and wrong."""

from __future__ import annotations

from typing import Any, NamedTuple


class Keyword(NamedTuple):
    """A keyword's examples.

    :param schemas: each with values that satisfy it and values that do not.
    """

    schemas: tuple[tuple[Any, list[Any], list[Any]], ...]


def _one(schema: Any, right: list[Any], wrong: list[Any]) -> Keyword:
    return Keyword(((schema, right, wrong),))


def _draft(number: int, schema: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": f"http://json-schema.org/draft-0{number}/schema#"} | schema


_NUMBERS = {"type": "array", "items": {"type": "integer"}}
_CLOSED = {"type": "object", "additionalProperties": False}
_AB = {"a": {"type": "integer"}, "b": {"type": "integer"}}
_OBJECT = _CLOSED | {"properties": _AB}

KEYWORDS: dict[str, Keyword] = {
    "type": _one({"type": ["string", "null"]}, ["a", None], [1, []]),
    "enum": _one({"enum": ["a", 1, None, {"b": [1]}]}, ["a", 1, None, {"b": [1]}], ["b", 2, {"b": [2]}]),
    "const": _one({"const": {"a": [1, "x"]}}, [{"a": [1, "x"]}], [{"a": [1]}, {}]),
    "minimum, maximum (integers)": _one(
        {"type": "integer", "minimum": -3, "maximum": 12}, [-3, 0, 12], [-4, 13]
    ),
    "minimum, maximum (numbers)": _one(
        {"type": "number", "minimum": -0.5, "maximum": 9.99}, [-0.5, 0, 9.9], [-0.6, 10]
    ),
    "exclusiveMinimum, exclusiveMaximum": Keyword(
        (
            ({"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3}, [1, 2], [0, 3]),
            (_draft(4, {"type": "integer", "minimum": 0, "exclusiveMinimum": True}), [1], [0]),
        )
    ),
    "multipleOf": _one({"type": "integer", "multipleOf": 3}, [0, 3, -6], [1, 4]),
    "minLength, maxLength": _one(
        {"type": "string", "minLength": 1, "maxLength": 2}, ["é", "日本"], ["", "abc"]
    ),
    "pattern": _one({"type": "string", "pattern": "^a+$"}, ["a", "aa"], ["", "ab"]),
    "pattern (lookaround, back-references)": _one(
        {"type": "string", "pattern": "^(?!ab)[a-c]{2}$"}, ["aa", "ca"], ["ab", "a"]
    ),
    "format (known to the draft)": Keyword(
        (
            ({"type": "string", "format": "date"}, ["2024-02-29"], ["2023-02-29", "x"]),
            ({"type": "string", "format": "time"}, ["23:59:59Z", "23:59:60Z"], ["23:60:00Z", "12:00:60Z"]),
        )
    ),
    "format: regex": _one({"type": "string", "format": "regex", "maxLength": 3}, ["a+"], ["(a"]),
    "format (unknown to the draft)": _one({"type": "string", "format": "colour"}, ["red", ""], [1]),
    "items": _one(_NUMBERS, [[], [1, 2]], [["a"], [1, None]]),
    "prefixItems": Keyword(
        (
            (
                {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "integer"}},
                [[None, 1]],
                [[1]],
            ),
            (
                _draft(7, {"type": "array", "items": [{"type": "null"}], "additionalItems": False}),
                [[None]],
                [[1]],
            ),
        )
    ),
    "minItems, maxItems": _one(_NUMBERS | {"minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
    "uniqueItems": _one(_NUMBERS | {"uniqueItems": True}, [[1, 2], []], [[1, 1], [1, 2, 1]]),
    "contains, minContains, maxContains": _one(
        _NUMBERS | {"contains": {"const": 7}, "maxContains": 2}, [[7], [1, 7, 7]], [[1], [7, 7, 7]]
    ),
    "unevaluatedItems": _one(
        {"type": "array", "prefixItems": [{"type": "null"}], "unevaluatedItems": False},
        [[], [None]],
        [[None, 1]],
    ),
    "properties": _one(_OBJECT, [{"a": 1}, {"b": 1, "a": 2}], [{"a": "x"}]),
    "required": _one(_OBJECT | {"required": ["b"]}, [{"b": 1}, {"b": 1, "a": 2}], [{"a": 1}, {}]),
    "additionalProperties": Keyword(
        (
            (_OBJECT, [{"a": 1}], [{"c": 1}]),
            ({"type": "object", "additionalProperties": {"type": "null"}}, [{"x": None}], [{"x": 1}]),
        )
    ),
    "patternProperties": _one(
        _CLOSED | {"patternProperties": {"^x": {"type": "null"}}}, [{"x1": None}], [{"x1": 1}, {"y": None}]
    ),
    "patternProperties (overlapping)": _one(
        _CLOSED | {"patternProperties": {"^x": {"type": ["null", "integer"]}, "y$": {"type": "null"}}},
        [{"x1": 1}, {"xy": None}],
        [{"xy": 1}],
    ),
    "propertyNames": _one(
        {"type": "object", "propertyNames": {"pattern": "^x"}, "additionalProperties": {"type": "null"}},
        [{"x1": None}],
        [{"y": None}],
    ),
    "minProperties, maxProperties": _one(
        _CLOSED | {"properties": _AB | {"c": {"type": "null"}}, "minProperties": 2, "maxProperties": 2},
        [{"a": 1, "b": 2}],
        [{"a": 1}, {"a": 1, "b": 1, "c": None}],
    ),
    "dependentRequired": Keyword(
        (
            (_OBJECT | {"dependentRequired": {"a": ["b"]}}, [{"b": 1}, {"a": 1, "b": 1}], [{"a": 1}]),
            (_draft(7, _OBJECT | {"dependencies": {"a": ["b"]}}), [{"b": 1}], [{"a": 1}]),
        )
    ),
    "dependentSchemas": _one(
        _OBJECT | {"dependentSchemas": {"a": {"properties": {"b": {"const": 7}}}}},
        [{"b": 1}, {"a": 1, "b": 7}],
        [{"a": 1, "b": 1}],
    ),
    "unevaluatedProperties (alone)": _one(
        {"type": "object", "properties": _AB, "unevaluatedProperties": False}, [{"a": 1}], [{"c": 1}]
    ),
    "unevaluatedProperties (beside applicators)": _one(
        {"type": "object", "allOf": [{"properties": _AB}], "unevaluatedProperties": False},
        [{"a": 1}],
        [{"c": 1}],
    ),
    "allOf": _one({"type": "integer", "allOf": [{"minimum": 2}, {"maximum": 4}]}, [2, 4], [1, 5]),
    "anyOf": _one({"anyOf": [{"type": "null"}, {"const": "a"}]}, [None, "a"], ["b"]),
    "oneOf (branches that exclude each other)": _one(
        _OBJECT | {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        [{"a": 1}, {"b": 1}],
        [{}, {"a": 1, "b": 1}],
    ),
    "oneOf (others)": _one(
        {"oneOf": [{"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}]},
        ["a", "b"],
        ["ab", "c"],
    ),
    "not": Keyword(
        (
            (_OBJECT | {"not": {"required": ["a"]}}, [{}, {"b": 1}], [{"a": 1}]),
            ({"type": "string", "not": {"enum": ["a", "ab"]}}, ["b", "", "abc"], ["a", "ab"]),
        )
    ),
    "not (of a pattern)": _one({"type": "string", "not": {"pattern": "^a"}}, ["b"], ["a", "ab"]),
    "if, then, else": _one(
        _OBJECT | {"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"maxProperties": 0}},
        [{"a": 1, "b": 1}, {}],
        [{"a": 1}, {"b": 1}],
    ),
    "$ref, $defs": _one(
        {"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer", "minimum": 2}}}, [2], [1, "x"]
    ),
    "$ref (recursive)": _one(
        {"$ref": "#/$defs/n", "$defs": {"n": _CLOSED | {"properties": {"n": {"$ref": "#/$defs/n"}}}}},
        [{}, {"n": {"n": {}}}],
        [{"n": 1}],
    ),
    "$ref (to another document)": _one({"$ref": "https://example.com/schema.json"}, [], []),
    "$dynamicRef": _one(
        {"$dynamicRef": "#n", "$defs": {"n": {"$dynamicAnchor": "n", "type": "integer"}}}, [1], ["x"]
    ),
    "contentEncoding, contentMediaType (drafts 6, 7)": _one(
        _draft(7, {"type": "string", "contentEncoding": "base64", "maxLength": 4}), ["YQ=="], ["é"]
    ),
    "annotations and unknown keywords": _one({"type": "integer", "title": "x", "x-unit": "m"}, [1], ["x"]),
}
