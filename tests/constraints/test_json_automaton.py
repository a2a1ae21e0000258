"""Automata of JSON schemas: byte by byte the language of llguidance, and nothing that a validator refuses."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from sentax.ppl.constraints import TooManyStates
from sentax.ppl.constraints.dfa import Dfa
from sentax.ppl.constraints.ecma import search
from sentax.ppl.constraints.json_automaton import schema_automaton
from sentax.ppl.constraints.json_text import constant, integers
from sentax.ppl.constraints.schema_draft import Translation
from sentax.ppl.constraints.schema_engine import SchemaEngine
from sentax.ppl.constraints.schema_errors import UnsupportedSchema
from sentax.ppl.constraints.schema_lower import lower

NULL, YES, WHOLE = {"type": "null"}, {"type": "boolean"}, {"type": "integer"}
LOOP = {"$ref": "#/$defs/a"}
CLOSED = {"type": "object", "additionalProperties": False}

SCHEMAS: list[Any] = [
    {"type": "string"},
    {"type": "number"},
    WHOLE,
    {"type": ["boolean", "null"]},
    *({"type": "integer", "minimum": a} for a in (7, 0, -3, -1.5)),
    *({"type": "integer", "maximum": a} for a in (0, -7, 23)),
    *(
        {"type": "integer", "minimum": a, "maximum": b}
        for a, b in ((-12, 345), (-5, -2), (0, 10), (98, 1003), (5, 5))
    ),
    {"type": "integer", "exclusiveMinimum": -3, "exclusiveMaximum": 4},
    {"enum": ["a\n", 'é"', 1, 1.5, None, True, [1, "x"], {"b": 1, "a": 2}, [], {}, -0.0, 12e20]},
    {"const": 1e-7},
    {"enum": [1, 2, "x"], "type": "integer"},
    {"type": "string", "minLength": 1, "maxLength": 3},
    {"type": "string", "minLength": 2},
    *(
        {"type": "string", "pattern": p}
        for p in (r"^[a-z]+\d$", "ab|^c|d$", r"^\s.\w$", r"^[^\w\-]\/\S$", "^$", "é")
    ),
    {"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^a*$"},
    {"type": "array", "items": WHOLE, "minItems": 1, "maxItems": 3},
    {"type": "array", "items": NULL},
    {"type": "array", "items": NULL, "minItems": 2},
    {"type": "array", "items": NULL, "maxItems": 0},
    {"type": "array", "prefixItems": [NULL, YES], "items": WHOLE, "minItems": 1},
    {"type": "array", "prefixItems": [NULL, YES], "items": WHOLE, "minItems": 3, "maxItems": 4},
    {"type": "array", "prefixItems": [NULL, YES], "items": False},
    {"type": "array", "prefixItems": [NULL, YES], "items": WHOLE, "maxItems": 1},
    {**CLOSED, "properties": {"a": NULL, "b": WHOLE, "c": NULL}, "required": ["b"]},
    {**CLOSED, "properties": {"a": NULL, "b": NULL}},
    {**CLOSED, "properties": {"a": NULL, "b": NULL}, "minProperties": 1},
    {
        **CLOSED,
        "properties": {"a\n\x7fé": NULL},
        "required": ["a\n\x7fé"],
        "minProperties": 1,
        "maxProperties": 1,
    },
    {**CLOSED, "properties": {"a": NULL, "b": False, "c": {"enum": []}}},
    CLOSED,
    {"type": "object", "additionalProperties": YES},
    {"type": "object", "patternProperties": {"^x": NULL}, "additionalProperties": False},
    {"anyOf": [{"type": "string", "maxLength": 2}, WHOLE]},
    {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 7}]},
    {
        "$defs": {"x": {"type": "string", "maxLength": 1}},
        "type": "array",
        "items": {"$ref": "#/$defs/x"},
        "maxItems": 2,
    },
    {"allOf": [{"type": "integer", "minimum": 3}, {"anyOf": [{"maximum": 7}, {"minimum": 20}]}]},
    {
        **CLOSED,
        "properties": {"p": {**CLOSED, "properties": {"q": {"type": "array", "items": {"enum": ["r", 2]}}}}},
    },
]

OTHERS: list[Any] = [
    {"type": "object", "properties": {"a": NULL, "b": NULL}, "additionalProperties": WHOLE},
    {"type": "object", "properties": {"b": NULL}, "required": ["z", "b"], "additionalProperties": YES},
    {"type": "object", "properties": {"a": NULL, "b": False}, "additionalProperties": YES},
    {
        "type": "object",
        "patternProperties": {"^x": NULL, "^y": YES},
        "additionalProperties": WHOLE,
        "properties": {"xa": {"type": ["null", "integer"]}},
    },
    {
        "allOf": [
            {
                "type": "object",
                "properties": {"a": NULL},
                "additionalProperties": {"type": ["null", "integer"]},
            },
            {"type": "object", "properties": {"b": WHOLE}, "required": ["b"], "additionalProperties": NULL},
        ]
    },
]
"""Objects that name some members and let others be: llguidance lets the names of these be written with any
escape, also `\\u0061` where `a` is a member already; the automaton does not."""


def random_schema(rng: random.Random, depth: int) -> Any:
    leaves = [s for s in SCHEMAS[:30] if s.get("type") != "number"]
    roll = rng.random()
    if depth == 0 or roll < 0.3:
        return rng.choice(leaves)
    if roll < 0.5:
        least = rng.randint(0, 2)
        most = {"maxItems": least + rng.randint(0, 2)} if rng.random() < 0.5 else {}
        return {"type": "array", "items": random_schema(rng, depth - 1), "minItems": least, **most}
    if roll < 0.6:
        prefix = [random_schema(rng, depth - 1) for _ in range(rng.randint(1, 3))]
        return {"type": "array", "prefixItems": prefix, "items": False, "minItems": rng.randint(0, len(prefix))}
    if roll < 0.75:
        return {"anyOf": [random_schema(rng, depth - 1) for _ in range(2)]}
    names = rng.sample(["a", "b", "ab", "é", "c d", '"'], k=rng.randint(1, 4))
    required = [n for n in names if rng.random() < 0.5]
    return {**CLOSED, "properties": {n: random_schema(rng, depth - 1) for n in names}, "required": required}


class Walker:
    """Random walks that try every kind of byte alike."""

    def __init__(self, dfa: Dfa) -> None:
        self.dfa = dfa
        self.live = dfa.live()
        self.table = dfa.delta[:, dfa.classes]

    def allowed(self, state: int) -> np.ndarray:
        return self.live[self.table[state]]

    def draw(self, rng: random.Random, state: int) -> int:
        ways = np.flatnonzero(self.allowed(state))
        kind = rng.choice(sorted(set(self.dfa.classes[ways].tolist())))
        return rng.choice(ways[self.dfa.classes[ways] == kind].tolist())


def agree(schema: Any, separators: tuple[str, str], seed: int, walks: int, ignored: bytes = b"") -> int:
    """Along random walks, whether both engines allow the same bytes and end at the same places.

    :param ignored: a walk stops where the text ends with this.
    """
    pytest.importorskip("llguidance")
    source = Translation(schema, 2020)
    engine = SchemaEngine(source, separators)
    assert engine.checks is None
    walker = Walker(schema_automaton(lower(source).schema, separators=separators).to_dfa())
    rng = random.Random(seed)
    compared = 0
    for _ in range(walks):
        state, session, text = 0, engine.start(), b""
        for _ in range(60):
            mine = walker.allowed(state)
            theirs = np.array([engine.prefix(session, bytes([byte])) for byte in range(256)])
            differ = bytes(np.flatnonzero(mine != theirs).tolist())
            assert not differ, (schema, text, differ)
            assert bool(walker.dfa.accepting[state]) == engine.complete(session, b""), (schema, text)
            compared += 1
            if not mine.any():
                break
            byte = walker.draw(rng, state)
            state, text = int(walker.table[state, byte]), text + bytes([byte])
            session = engine.extend(session, bytes([byte]))
            if ignored and text.endswith(ignored):
                break
    return compared


def is_valid(schema: Any, text: str) -> bool:
    jsonschema_rs = pytest.importorskip("jsonschema_rs")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return False
    return jsonschema_rs.validator_for(
        {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema
    ).is_valid(value)


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_the_language_is_that_of_llguidance(number):
    separators = [(", ", ": "), (",", ":")][number % 2]
    assert agree(SCHEMAS[number], separators, number, walks=4) > 3


@pytest.mark.parametrize("schema", OTHERS)
def test_other_members_are_those_of_llguidance_but_for_escapes(schema):
    assert agree(schema, (", ", ": "), 0, walks=6, ignored=b"\\u") > 3


@pytest.mark.parametrize("seed", range(3))
def test_random_schemas(seed):
    rng = random.Random(seed)
    for _ in range(5):
        assert agree(random_schema(rng, 3), (", ", ": "), seed, walks=2) > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_many_random_schemas(seed):
    rng = random.Random(seed)
    for _ in range(10):
        assert agree(random_schema(rng, 4), (",", ":"), seed, walks=4) > 0


def finished(walker: Walker, rng: random.Random, count: int) -> list[str]:
    """Texts that the automaton accepts; walks go the shortest way home after a while."""
    home = np.where(walker.dfa.accepting, 0, 10**6)
    for _ in range(len(home)):
        nearer = np.minimum(home, 1 + home[walker.dfa.delta].min(axis=1))
        if (nearer == home).all():
            break
        home = nearer
    out = []
    for _ in range(count):
        state, text = 0, b""
        while len(text) < 400 and not (walker.dfa.accepting[state] and rng.random() < 0.3):
            if not walker.allowed(state).any():
                break
            hurry = len(text) > 60
            byte = int(home[walker.table[state]].argmin()) if hurry else walker.draw(rng, state)
            state, text = int(walker.table[state, byte]), text + bytes([byte])
        assert walker.dfa.accepting[state]
        out.append(text.decode())
    return out


def test_texts_are_valid_values():
    rng = random.Random(0)
    schemas = [*SCHEMAS, *OTHERS, *(random_schema(rng, 3) for _ in range(10))]
    texts = 0
    for schema in schemas:
        walker = Walker(schema_automaton(schema).to_dfa())
        for text in finished(walker, rng, 10):
            assert is_valid(schema, text), (schema, text)
            texts += 1
    assert texts == 10 * len(schemas)


def accepts(dfa: Dfa, text: str) -> bool:
    state = 0
    for byte in text.encode():
        state = dfa.delta[state, dfa.classes[byte]]
    return bool(dfa.accepting[state])


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        (r"^\s$", ["\t", "\u00a0", "\ufeff", "\u2029"], ["\x85", "\x1c", "a", ""]),
        (r"^\S\d\w$", ["é0_", "x9Z"], ["é٣_", " 0_", "é0é"]),
        (r"^[\s\D]$", ["a", "\t", "٣"], ["1"]),
        (r"^[^\S1]$", ["\t"], ["1", "a"]),
        (r"^[\b\cA\x41\u0042\-\]a-c-]$", ["\b", "\x01", "A", "B", "-", "]", "b"], ["d", "C"]),
        (r"^(?<year>\d{4})-\u{1F600}?\ud83d\ude00$", ["2024-😀", "2024-😀😀"], ["2024-"]),
        (r"^[[&&~~|+--]$", ["[", "&", "~", "|", "+", ",", "-"], ["a", "."]),
        (r"^a\.b\/c\$$|^\p{Lu}$", ["a.b/c$", "É"], ["aXb/c$", "é"]),
        (r"a$|^b.", ["xa", "bc", "b\x85"], ["a\n", "b", "b\n", "b\u2028"]),
        (r"^[^]a$", ["\na", "ba"], ["a"]),
    ],
)
def test_patterns_are_those_of_ecma(pattern, inside, outside):
    dfa = search(pattern)
    assert [accepts(dfa, t) for t in [*inside, *outside]] == [True] * len(inside) + [False] * len(outside)


@pytest.mark.parametrize("pattern", [r"\1", "(?=a)", r"\ud800", "a{,3}", r"\bx", "[]", r"\Z", "[b-a]", "[a"])
def test_patterns_that_are_refused(pattern):
    with pytest.raises(ValueError, match="position"):
        search(pattern)


@pytest.mark.parametrize("seed", range(8))
def test_integers_within_bounds(seed):
    rng = random.Random(seed)
    bounds = sorted(rng.randint(-(10**k), 10**k) for k in rng.choices(range(1, 6), k=2))
    least, most = (None if rng.random() < 0.2 else b for b in bounds)
    dfa = integers(least, most)
    near = [b + d for b in bounds for d in range(-12, 13)] + [rng.randint(-(10**6), 10**6) for _ in range(300)]
    for value in near:
        expected = (least is None or least <= value) and (most is None or value <= most)
        assert accepts(dfa, str(value)) == expected, (least, most, value)
    assert not accepts(dfa, "007") and not accepts(dfa, "+7") and not accepts(dfa, "")


def test_constants_are_written_as_json_writes_them():
    for value in ('é\u2028\\"', [1, {"a": [], "b": {}}], {"ü": None, "\n": True}, -12, "", [[[]]], 0.25):
        assert accepts(constant(value, (", ", ": "), 1000), json.dumps(value, ensure_ascii=False))
        assert accepts(
            constant(value, (",", ":"), 1000), json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        )


@pytest.mark.parametrize(
    ("schema", "keyword", "path"),
    [
        (True, "type", ""),
        ({}, "type", ""),
        ({"minimum": 3}, "type", ""),
        ({"type": "array"}, "items", ""),
        ({"type": "object"}, "additionalProperties", ""),
        ({**CLOSED, "properties": {"a/b": {"type": "array", "items": True}}}, "items", "/properties/a~1b"),
        ({**CLOSED, "properties": {"a": {}}}, "properties", ""),
        ({"type": "array", "items": {"$ref": "#"}}, "$ref", "/items"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [NULL, LOOP]}}}, "$ref", "/$defs/a/anyOf/1"),
        ({"$ref": "other.json"}, "$ref", ""),
        ({"$ref": "#/$defs/none"}, "$ref", ""),
        ({"type": "array", "items": NULL, "uniqueItems": True}, "uniqueItems", ""),
        ({"anyOf": [NULL, {"type": "number", "minimum": 0}]}, "minimum", "/anyOf/1"),
        ({"type": "integer", "multipleOf": 3}, "multipleOf", ""),
        ({**CLOSED, "properties": {"a": {"type": "string", "pattern": "(?=a)"}}}, "pattern", "/properties/a"),
        ({"type": "string", "pattern": "a(b"}, "pattern", ""),
        ({**CLOSED, "properties": {"a": NULL, "b": NULL, "c": NULL}, "maxProperties": 2}, "maxProperties", ""),
        ({**CLOSED, "properties": {"a": NULL, "b": NULL, "c": NULL}, "minProperties": 2}, "minProperties", ""),
        ({"type": "string", "format": "date"}, "format", ""),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "schema", ""),
        (False, "schema", ""),
        ({**CLOSED, "properties": {"a": False}, "required": ["a"]}, "schema", ""),
    ],
)  # fmt: skip
def test_refusals_name_keyword_and_place(schema, keyword, path):
    with pytest.raises(UnsupportedSchema) as refused:
        schema_automaton(schema)
    assert (refused.value.keyword, refused.value.path) == (keyword, path)


def test_too_many_states_are_an_error():
    with pytest.raises(TooManyStates, match="more than 500"):
        schema_automaton({"type": "string", "maxLength": 200}, max_states=500)
    many = {"type": "string", "maxLength": 100}
    with pytest.raises(TooManyStates, match="more than 20000"):
        schema_automaton({**CLOSED, "properties": {f"p{i}": many for i in range(40)}})
    with pytest.raises(TooManyStates):
        schema_automaton({"type": "array", "items": {"type": "string"}, "maxItems": 10**6})
