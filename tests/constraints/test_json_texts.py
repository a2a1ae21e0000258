"""JSON schemas as sets of texts: laws, whitespace, numbers, masks, dead ends, memory, failures."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from constraints.json_oracle import PERSON, UNIQUE, dumps, parser, validator

from sentax.jsonschema_bench import accepts, engine_of
from sentax.ppl.constraints.guidance import GuidanceError
from sentax.ppl.constraints.json_schema import compile_schema, json_schema
from sentax.ppl.constraints.trie import ROOT, Trie
from sentax.testing import check_constraint

TEXTS = [
    '{"name": "a", "tags": ["x", "yz"]}',
    '{"name": "a", "tags": ["x", "x"]}',
    '{"name": "é\\n"}',
    '{"name": ""}',
    '{"tags": [], "name": "a"}',
    '{"name":"a"}',
    '{"name": "abcd"}',
    ' {"name": "a"}',
    '{"name": "a"} ',
    '{"name": "a", }',
    '{"name": "a", "name": "b"}',
    '{"name": "\\u0061"}',
    "",
    "null",
    b'{"name": "\xff"}',
    b'{"name": "\xc3',
]


def text_oracle(schema):
    """Texts that `json.dumps` writes of a right value whose names are in order."""
    judge = validator(schema)
    names = list(schema["properties"])

    def oracle(text):
        try:
            value = json.loads(text.decode())
        except ValueError:
            return False
        in_order = isinstance(value, dict) and list(value) == sorted(value, key=names.index)
        return in_order and judge.is_valid(value) and dumps(value) == text

    return oracle


def test_laws():
    check_constraint(json_schema(UNIQUE), texts=TEXTS, oracle=text_oracle(UNIQUE))


@pytest.mark.parametrize("engine", ["device", "llguidance"])
@pytest.mark.parametrize("text", TEXTS)
def test_texts(engine, text):
    raw = text if isinstance(text, bytes) else text.encode()
    constraint = compile_schema(PERSON, engine=engine).constraint
    assert accepts(engine_of(constraint), raw) == text_oracle(PERSON)(raw)


@pytest.mark.parametrize("engine", ["device", "llguidance"])
@pytest.mark.parametrize(
    ("separators", "text"),
    [((", ", ": "), '{"name": "a", "tags": ["x"]}'), ((",", ":"), '{"name":"a","tags":["x"]}')],
)
def test_separators(separators, text, engine):
    constraint = json_schema(PERSON, separators=separators, engine=engine)
    assert constraint.matches(text)
    assert not constraint.matches(text.replace('":', '" :'))


def test_free_whitespace():
    constraint = json_schema(PERSON, separators=None)
    assert constraint.matches('{\n  "name" :\t"a","tags":[ ]}')
    assert not constraint.matches('{"name": "a"')


@pytest.mark.parametrize("separators", [(",",), ", ", (";", ":"), ("", ":")])
def test_bad_separators(separators):
    with pytest.raises(ValueError, match="separator"):
        json_schema(PERSON, separators=separators)


def test_exponents_stay_finite():
    engine = parser({"type": "array", "items": {"type": ["number", "string"]}})
    for text, right in (("[1e99, -1.5E-07]", True), ("[1e100]", False), ('["1e100"]', True), ("[1e9", None)):
        assert engine.prefix(engine.start(), text.encode()) == (right is not False)
        assert engine.complete(engine.start(), text.encode()) == bool(right)


class Vocabulary:
    """Tokens with repetitions, specials, single bytes, no UTF-8, and pieces of JSON."""

    def __init__(self):
        pieces = [
            '{"',
            '"name',
            '": "',
            '", "',
            '"}',
            '"]}',
            "[",
            "e1",
            "00",
            "12345",
            "1e5",
            '"x"',
            '", "x"',
            "yz",
        ]
        self.tokens = (
            b"",
            *(bytes([b]) for b in range(32, 127)),
            *(p.encode() for p in pieces),
            b"{",
            b"\xff",
            b"\xc3",
        )
        self.tokens += (b"\xa9", "é".encode(), b"", b'"name', b"\xffab")
        self.size = len(self.tokens)
        self.end_of_text = 0


MASKED = {
    "person": PERSON,
    "numbers": {"type": "array", "items": {"type": "number"}},
    "any": {},
    "dates": {"type": "string", "format": "date-time"},
    "choice": {"oneOf": [{"const": "x"}, {"type": "array", "items": {"const": "yz"}, "minItems": 1}]},
}


@pytest.mark.parametrize("name", MASKED)
def test_mask_is_what_checks_say(name):
    engine, vocabulary, rng = parser(MASKED[name]), Vocabulary(), random.Random(7)
    seen = 0
    for _ in range(6):
        session = engine.start()
        for _ in range(25):
            bits = np.unpackbits(engine.mask(session, vocabulary).view(np.uint8), bitorder="little")
            checked = [bool(token) and engine.prefix(session, token) for token in vocabulary.tokens]
            assert bits[: vocabulary.size].astype(bool).tolist() == checked, session.grammar.text
            assert not bits[vocabulary.size :].any()
            if not any(checked):
                assert engine.complete(session, b""), session.grammar.text
                break
            session = engine.extend(session, rng.choice([t for t, ok in zip(vocabulary.tokens, checked) if ok]))
            seen += 1
    assert seen > 10


def test_masks_follow_sessions_made_before_them():
    """The first mask changes the vocabulary under sessions that have read bytes already."""
    engine, vocabulary = parser(PERSON), Vocabulary()
    old = engine.extend(engine.start(), b'{"name": "a')
    fresh = parser(PERSON)
    row = engine.mask(old, vocabulary)
    assert (row == fresh.mask(fresh.extend(fresh.start(), b'{"name": "a'), vocabulary)).all()
    assert engine.prefix(old, b'"}') and engine.complete(old, b'"}')
    other = Vocabulary()
    other.tokens = tuple(reversed(vocabulary.tokens))
    assert engine.mask(old, other).any()
    assert (engine.mask(old, vocabulary) == row).all()


WALKED = {
    **{name: schema for name, schema in MASKED.items() if name != "any"},
    "unique": UNIQUE,
    "dates that exist": {"type": "array", "items": {"type": "string", "format": "date"}, "minItems": 1},
    "closed names": {
        "type": "object",
        "properties": {"a": {"const": 1}},
        "patternProperties": {"^(a|b)$": {"type": "integer"}},
        "additionalProperties": False,
    },
    "discriminated": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"k": {"const": k}, "v": v},
                "required": ["k", "v"],
                "additionalProperties": False,
            }
            for k, v in (("a", {"type": "integer"}), ("b", {"type": "null"}))
        ]
    },
    "optional and impossible": {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/endless"}, "b": {"type": "null"}},
        "additionalProperties": False,
        "$defs": {
            "endless": {"type": "object", "required": ["a"], "properties": {"a": {"$ref": "#/$defs/endless"}}}
        },
    },
}


@pytest.mark.parametrize("name", WALKED)
def test_walks_meet_no_dead_ends(name):
    """Byte by byte, as long as a byte is allowed: every walk ends in a right value or is cut."""
    schema = WALKED[name]
    engine, judge, rng = parser(schema), validator(schema), random.Random(3)
    finished = 0
    for _ in range(25):
        session = engine.start()
        for _ in range(150):
            allowed = [b for b in range(256) if engine.prefix(session, bytes([b]))]
            complete = engine.complete(session, b"")
            assert allowed or complete, session.grammar.text
            if complete and (not allowed or rng.random() < 0.5):
                assert judge.is_valid(json.loads(session.grammar.text)), session.grammar.text
                finished += 1
                break
            closing = [b for b in allowed if b in b'"]}']
            few = closing if closing and rng.random() < 0.5 else [b for b in allowed if b < 128] or allowed
            session = engine.extend(session, bytes([rng.choice(few)]))
    assert finished > 5


def test_memory_equals_a_fresh_matcher():
    rng = random.Random(5)
    for schema in (PERSON, UNIQUE):
        trie, engine = Trie(parser(schema)), parser(schema)
        for _ in range(40):
            text = rng.choice(TEXTS)
            text = text.encode() if isinstance(text, str) else text
            node, read = ROOT, b""
            while text:
                size = rng.randint(1, 7)
                piece, text = text[:size], text[size:]
                assert trie.answer(node, piece, 3)[1] == engine.complete(engine.start(), read + piece)
                alive = engine.prefix(engine.start(), read + piece)
                node, _ = trie.answer(node, piece, rng.choice([1, 2]))
                read += piece
                assert trie.answer(node, b"", 2)[1] == alive
                if not alive:
                    break


def test_failure_of_the_engine_is_no_refusal(monkeypatch):
    """A parser that gives up is an error with the text, and the constraint stays usable."""
    from sentax.ppl.constraints import guidance

    monkeypatch.setitem(guidance._LIMITS, "max_items_in_row", 40)
    ways = [{"properties": {f"p{i}": {"type": "array", "items": {"const": i}}}} for i in range(60)]
    constraint = json_schema({"type": "object", "anyOf": ways}, engine="llguidance")
    with pytest.raises(GuidanceError, match=r"llguidance failed after .*items") as caught:
        constraint.matches('{"q": 1')
    assert caught.value.text.startswith(b"{")
    with pytest.raises(GuidanceError):
        constraint.matches('{"q": 1')
