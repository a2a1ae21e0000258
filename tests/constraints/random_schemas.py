"""Random JSON schemas with random values near them."""

from __future__ import annotations

import json
import random
from typing import Any

NAMES = ["a", "b", "c", "dd"]
STRINGS = ["", "a", "ab", "abc", "é", "x\n", "2024-02-29", "2023-02-29"]
NUMBERS = [0, 1, 2, 3, -1, 10, 1.5, 0.5, -2.5]
PATTERNS = ["^a", "b$", "^[ab]+$", "^(a|ab)$", "."]


class RandomSchemas:
    """Draws small schemas of draft 2020-12 over all keywords, and values of the same few names and scalars."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def document(self) -> dict[str, Any]:
        """A schema with a definition that may refer to itself."""
        rng = self.rng
        schema = self.schema(3)
        schema = schema if isinstance(schema, dict) else {"not": {"const": 3}}
        if rng.random() < 0.3:
            schema["$defs"] = {"d": self.schema(1), "list": self._list()}
        else:
            schema = json.loads(json.dumps(schema).replace('{"$ref": "#/$defs/d"}', "true"))
            schema = json.loads(json.dumps(schema).replace('{"$ref": "#/$defs/list"}', "true"))
        return schema

    def _list(self) -> dict[str, Any]:
        return {
            "type": ["object", "null"],
            "properties": {"a": self.schema(0), "b": {"$ref": "#/$defs/list"}},
            "required": ["a"],
            "additionalProperties": False,
        }

    def schema(self, depth: int) -> Any:
        rng = self.rng
        kind = rng.random()
        if depth == 0 or kind < 0.15:
            return self._scalar()
        if kind < 0.2:
            return {"$ref": rng.choice(["#/$defs/d", "#/$defs/list"])}
        if kind < 0.24:
            return rng.choice([True, False, {}])
        if kind < 0.5:
            return self._object(depth) | self._applicators(depth)
        if kind < 0.65:
            return self._array(depth)
        if kind < 0.85:
            return self._applicators(depth, at_least=1) | (
                {"type": self._types()} if rng.random() < 0.4 else {}
            )
        return self._scalar() | self._applicators(0)

    def _types(self) -> Any:
        kinds = ["null", "boolean", "integer", "number", "string", "array", "object"]
        return self.rng.choice([self.rng.choice(kinds), sorted(self.rng.sample(kinds, 2))])

    def _scalar(self) -> dict[str, Any]:
        rng = self.rng
        choice = rng.randrange(9)
        if choice == 0:
            return {"enum": [self.value(1) for _ in range(rng.randint(1, 4))]}
        if choice == 1:
            return {"const": self.value(1)}
        if choice == 2:
            bounds = {"minimum": rng.choice(NUMBERS), "exclusiveMaximum": rng.choice(NUMBERS), "multipleOf": 2}
            return {"type": "integer"} | self._some(bounds)
        if choice == 3:
            bounds = {
                "exclusiveMinimum": rng.choice(NUMBERS),
                "maximum": rng.choice(NUMBERS),
                "multipleOf": 0.5,
            }
            return {"type": "number"} | self._some(bounds)
        if choice in (4, 5, 6):
            facets = {
                "minLength": rng.randrange(3),
                "maxLength": rng.randrange(4),
                "pattern": rng.choice(PATTERNS),
            }
            typed = {"type": "string"} if rng.random() < 0.8 else {}
            return typed | self._some(facets | {"format": rng.choice(["date", "colour"])})
        return {"type": self._types()}

    def _object(self, depth: int) -> dict[str, Any]:
        rng = self.rng
        names = rng.sample(NAMES, rng.randint(0, 3))
        parts = {
            "properties": {name: self.schema(depth - 1) for name in names},
            "required": rng.sample(NAMES, rng.randint(0, 2)),
            "additionalProperties": rng.choice([False, self.schema(depth - 1)]),
            "patternProperties": {rng.choice(PATTERNS): self.schema(depth - 1)},
            "minProperties": rng.randrange(3),
            "maxProperties": rng.randrange(4),
            "propertyNames": rng.choice([{"pattern": "^[a-c]$"}, {"enum": ["a", "b"]}, {"maxLength": 1}]),
            "dependentRequired": {rng.choice(NAMES): [rng.choice(NAMES)]},
            "dependentSchemas": {rng.choice(NAMES): self.schema(depth - 1)},
            "unevaluatedProperties": False,
        }
        rare = {"minProperties", "maxProperties", "propertyNames", "dependentSchemas", "unevaluatedProperties"}
        odds = {"properties": 0.9, "required": 0.6, "additionalProperties": 0.5, "dependentRequired": 0.15}
        kept = {k: v for k, v in parts.items() if rng.random() < odds.get(k, 0.08 if k in rare else 0.15)}
        return ({"type": "object"} if rng.random() < 0.8 else {}) | kept

    def _array(self, depth: int) -> dict[str, Any]:
        rng = self.rng
        parts = {
            "prefixItems": [self.schema(depth - 1) for _ in range(rng.randint(1, 2))],
            "items": self.schema(depth - 1),
            "minItems": rng.randrange(3),
            "maxItems": rng.randrange(4),
            "uniqueItems": True,
            "contains": self.schema(0),
            "unevaluatedItems": False,
        }
        odds = {"items": 0.7, "prefixItems": 0.3, "contains": 0.1, "unevaluatedItems": 0.05}
        return {"type": "array"} | {k: v for k, v in parts.items() if rng.random() < odds.get(k, 0.2)}

    def _applicators(self, depth: int, at_least: int = 0) -> dict[str, Any]:
        rng = self.rng
        below = max(depth - 1, 0)
        kinds = ["anyOf", "oneOf", "allOf", "not", "if"]
        out: dict[str, Any] = {}
        for kind in rng.sample(kinds, max(at_least, rng.random() < 0.25)):
            if kind == "not":
                out["not"] = self.schema(below)
            elif kind == "if":
                parts = {"if": self.schema(below), "then": self.schema(below), "else": self.schema(below)}
                out |= {k: v for k, v in parts.items() if k == "if" or rng.random() < 0.8}
            else:
                out[kind] = [self.schema(below) for _ in range(rng.randint(1, 3))]
        return out

    def _some(self, facets: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in facets.items() if self.rng.random() < 0.35}

    def value(self, depth: int = 3) -> Any:
        """A JSON value."""
        rng = self.rng
        kind = rng.random()
        if depth > 0 and kind < 0.35:
            return {name: self.value(depth - 1) for name in rng.sample([*NAMES, "e"], rng.randint(0, 3))}
        if depth > 0 and kind < 0.5:
            return [self.value(depth - 1) for _ in range(rng.randint(0, 3))]
        return rng.choice([None, True, False, rng.choice(STRINGS), rng.choice(STRINGS), *NUMBERS])
