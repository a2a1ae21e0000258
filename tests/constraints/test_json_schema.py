"""JSON schemas against jsonschema-rs: keywords, random schemas and values, types, bad input."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import os
import pickle
import random
import re
import typing
from pathlib import Path

import jsonschema_rs
import pytest
from constraints.json_oracle import UNIQUE, dumps, engine_of, parser, takes, validator
from constraints.random_schemas import RandomSchemas
from constraints.random_strings import matching
from constraints.schema_keywords import KEYWORDS

from sentax.ppl.constraints import schema_formats
from sentax.ppl.constraints.json_schema import compile_schema, json_schema
from sentax.ppl.constraints.schema_draft import DRAFTS
from sentax.ppl.constraints.schema_errors import UnsupportedSchema

ROOT_FOLDER = Path(__file__).resolve().parents[2]


# --- keywords -------------------------------------------------------------------------------------------------


def documented():
    text = (ROOT_FOLDER / "docs" / "json_schema.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")
    ]
    return {row[0]: {"device": row[1], "llguidance": row[2]} for row in rows if row[0] != "keyword"}


def test_every_keyword_is_documented():
    assert list(documented()) == list(KEYWORDS)
    named = set(re.findall(r"\$?[a-zA-Z]+", " ".join(documented())))
    standard = jsonschema_rs.meta  # the meta-schema of 2020-12 names them
    assert standard.is_valid({"$schema": DRAFTS[2020]})
    applicators = "allOf anyOf oneOf not if then else dependentSchemas prefixItems items contains properties"
    objects = "patternProperties additionalProperties propertyNames unevaluatedItems unevaluatedProperties"
    validation = (
        "type enum const multipleOf maximum exclusiveMaximum minimum exclusiveMinimum maxLength minLength"
    )
    counts = (
        "pattern maxItems minItems uniqueItems maxContains minContains maxProperties minProperties required"
    )
    rest = "dependentRequired format contentEncoding contentMediaType $ref $defs $dynamicRef"
    assert set(f"{applicators} {objects} {validation} {counts} {rest}".split()) <= named


@pytest.mark.parametrize("engine", ["device", "llguidance"])
@pytest.mark.parametrize("name", KEYWORDS)
def test_keyword_is_enforced_as_documented(name, engine):
    verdicts = []
    for schema, right, wrong in KEYWORDS[name].schemas:
        try:
            compiled = compile_schema(schema, engine=engine)
        except UnsupportedSchema as error:
            verdicts.append("refused" if error.keyword and error.reason else "unexplained")
            continue
        judge = validator(schema)
        assert all(map(judge.is_valid, right)) and not any(map(judge.is_valid, wrong))
        asked = engine_of(compiled.constraint)
        assert [value for value in wrong if takes(asked, value)] == []
        missed = [value for value in right if not takes(asked, value)]
        verdicts.append("stricter" if missed else "checked" if compiled.checked else "exact")
    worst = max(verdicts, key=["exact", "checked", "stricter", "refused"].index)
    assert worst == documented()[name][engine]


# --- random schemas -------------------------------------------------------------------------------------------


def compare(seed, engine):
    """Both sides on 40 random values of a random schema; what was compared."""
    draw = RandomSchemas(seed)
    schema = draw.document()
    judge = validator(schema)
    values = [draw.value() for _ in range(40)]
    try:
        compiled = compile_schema(schema, engine=engine)
    except UnsupportedSchema as error:
        if "no JSON text satisfies it" in error.reason:
            assert not any(map(judge.is_valid, values)), (seed, schema)
        return 0
    asked = engine_of(compiled.constraint)
    for value in values:
        assert takes(asked, value) == judge.is_valid(value), (seed, schema, value, compiled.checked)
    return 1


@pytest.mark.parametrize("block", range(4))
def test_random_schemas_agree_with_a_validator(block):
    assert sum(compare(seed, "llguidance") for seed in range(40 * block, 40 * block + 40)) > 25


def test_random_schemas_agree_on_either_engine():
    assert sum(compare(seed, "auto") for seed in range(1000, 1030)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_many_random_schemas_agree_with_a_validator(block):
    for seed in range(10_000 + 500 * block, 10_500 + 500 * block):
        compare(seed, "llguidance")


def test_number_bounds_agree_with_arithmetic():
    """llguidance alone takes `{"exclusiveMinimum": 0, "maximum": 0.5}` to hold 0, and 9.9 to be above 9.99."""
    bounds = [None, -10, -0.5, -0.25, 0, 0.05, 0.5, 1, 1.5, 9.99, 10]
    numbers = [0, 0.01, 0.04, 0.05, 0.06, 0.2, 0.5, 0.51, 1, 1.2, 1.5, 2, 9.9, 9.98, 9.99, 10, 10.5, 100]
    numbers += [-x for x in numbers if x]
    for low in bounds:
        for high in bounds:
            for keys in (("minimum", "maximum"), ("exclusiveMinimum", "exclusiveMaximum")):
                limits = {k: v for k, v in zip(keys, (low, high), strict=True) if v is not None}
                if low is not None and high is not None and low + 0.2 > high:
                    continue
                engine = parser({"type": "number"} | limits)
                judge = validator({"type": "number"} | limits)
                for number in numbers:
                    assert engine.complete(engine.start(), dumps(number)) == judge.is_valid(number), (
                        limits,
                        number,
                    )


# --- what schemas are made of ---------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Branch:
    colour: Colour
    leaves: list[Branch]
    born: datetime.date | None = None


class Options(typing.TypedDict):
    size: typing.Literal["s", "l"]
    extra: typing.NotRequired[dict[str, tuple[int, float]]]


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        (
            Branch,
            '{"colour": "red", "leaves": [{"colour": "blue", "leaves": [], "born": "2024-02-29"}]}',
            '{"leaves": []}',
        ),
        (Branch, '{"colour": "red", "leaves": []}', '{"colour": "red", "leaves": [], "age": 1}'),
        (Options, '{"size": "s", "extra": {"x": [1, 0.5]}}', '{"size": "m"}'),
        (list[int | None], "[1, null]", '["a"]'),
        (bool, "true", "1"),
    ],
)
def test_types(kind, right, wrong):
    constraint = json_schema(kind)
    assert constraint.matches(right)
    assert not constraint.matches(wrong)


def test_pydantic_models():
    pydantic = pytest.importorskip("pydantic")

    class Model(pydantic.BaseModel):
        name: str = pydantic.Field(min_length=1)
        age: int = 0

    constraint = json_schema(Model)
    assert constraint.matches('{"name": "a", "age": 3}')
    assert not constraint.matches('{"name": ""}')
    assert not constraint.matches('{"name": "a", "more": 3}')


def test_json_text_is_a_schema():
    assert json_schema('{"const": 1}').matches("1")


@pytest.mark.parametrize(
    ("schema", "error", "message"),
    [
        (3, TypeError, "a schema is a dictionary, a bool, JSON text or a type, not 3"),
        ("{", ValueError, "the schema is not JSON: .* line 1 column 2"),
        ({"type": "strin"}, ValueError, "no JSON schema: .* at /type"),
        ({"properties": {"a": {"minLength": -1}}}, ValueError, "at /properties/a/minLength"),
        (complex, TypeError, "has no JSON schema"),
        (dict[int, str], TypeError, "the keys of a JSON object are strings"),
        (False, UnsupportedSchema, "no JSON text satisfies it"),
        ({"type": "string", "const": 1}, UnsupportedSchema, "no JSON text satisfies it"),
        ({"$ref": "#", "type": "object"}, UnsupportedSchema, "'\\$ref' at the top: it leads back to itself"),
        (
            {"items": {"$ref": "#/nowhere"}},
            UnsupportedSchema,
            "'\\$ref' at /items: it points to nothing: '/nowhere'",
        ),
        (
            {"items": {"$ref": "a.json#/b"}},
            UnsupportedSchema,
            "at /items: 'a.json#/b' points to another document",
        ),
    ],
)
def test_bad_schemas(schema, error, message):
    with pytest.raises(error, match=message):
        json_schema(schema)


def test_checks_can_be_refused():
    schema = {"properties": {"a": {"items": {"uniqueItems": True}}}}
    with pytest.raises(UnsupportedSchema, match="'uniqueItems' at /properties/a/items") as caught:
        json_schema(schema, check=False)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.keyword, again.path, str(again)) == ("uniqueItems", "/properties/a/items", str(caught.value))
    assert compile_schema(schema).checked == (("uniqueItems", "/properties/a/items"),)


def test_unknown_engine():
    with pytest.raises(ValueError, match="one of auto, device, llguidance, not 'gpu'"):
        json_schema({}, engine="gpu")


def test_checks_reach_through_references_and_alternatives():
    schema = {
        "properties": {
            "a": {"$ref": "#/$defs/set"},
            "b": {"anyOf": [{"$ref": "#/$defs/set"}, {"type": "null"}]},
        },
        "$defs": {"set": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}},
    }
    engine = parser(schema)
    for text, right in (
        ('{"a": [1, 2]', True),
        ('{"a": [1, 1', True),  # it may become 11
        ('{"a": [1, 1,', False),
        ('{"b": [1, 1,', True),  # known only where the alternatives are decided
        ('{"b": [1, 1]', False),
        ('{"b": [1, 11], "c": [1, 1]}', True),
    ):
        assert engine.prefix(engine.start(), text.encode()) == right, text


def test_pickle_and_repr():
    constraint = json_schema(UNIQUE, separators=(",", ":"))
    copy = pickle.loads(pickle.dumps(constraint))
    assert repr(copy) == repr(constraint)
    assert "checked: uniqueItems" in repr(copy)
    assert [copy.matches(t) for t in ('{"name":"a","tags":["x"]}', '{"name": "a"}')] == [True, False]


def test_formats_match_no_more_than_a_validator():
    """Random strings of each expression, some with an edit: what matches all of them must be valid."""
    rng = random.Random(11)
    for name, patterns in schema_formats.FORMATS.items():
        judge = validator({"format": name})
        whole = [re.compile(p) for p in schema_formats.patterns_of(name)]
        matched = 0
        for _ in range(150):
            text = matching(patterns[0], rng)
            if rng.random() < 0.5 and text:
                at = rng.randrange(len(text))
                text = text[:at] + rng.choice("0159-.:%/Zz@a{}~ é") + text[at + rng.randint(0, 1) :]
            if all(p.search(text) for p in whole) and not text.endswith("\n"):
                matched += 1
                assert judge.is_valid(text), (name, text)
        assert matched > 50, name


@pytest.mark.skipif(
    "SENTAX_DATA" not in os.environ, reason="SENTAX_DATA names no folder with jsonschemabench.jsonl"
)
def test_jsonschemabench_sample():
    from sentax.jsonschema_bench import run

    total = run(Path(os.environ["SENTAX_DATA"]), engine="llguidance")["total"]
    assert total["invalid_accepted"] == total["failed"] == 0
    assert total["compiled"] >= 0.95 * total["schemas"]
