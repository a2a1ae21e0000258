"""JSON for schemas: labelled instances, another validator, hostile texts, layouts of the data set."""

import copy
import json
import pickle

import pytest

import sentax as sx
from sentax.domains.base import check_answers
from sentax.domains.json_schema import InvalidAnswer, JSONSchema, Schema, is_valid, read_json
from sentax.domains.json_schema.order import in_order
from sentax.jsonschema_bench import engine_of

DOMAIN = JSONSchema()
SAMPLE = {task.id: task for task in DOMAIN.sample()}
WRONG = {
    "person": ['{"name": "Ada"}', '{"name": "Ada", "age": 121}', '{"name": "Ada", "age": "36"}'],
    "contact": ['{"name": "A", "email": "a.b", "phone": "1"}', '{"name": "A", "email": "a@b.org", "phone": 1}'],
    "event": ['{"title": "A", "date": "2023-02-29", "start": "09:30:00Z"}'],
    "product": ['{"product": "lamp", "price": -1, "currency": "EUR"}', '{"product": "lamp", "price": 1}'],
    "order": ['{"id": 1.5, "items": []}', '{"id": 1, "items": [{"product": "chair", "quantity": 0}]}'],
    "user": ['{"id": 3, "active": "yes"}', '{"id": 3, "active": true, "notes": null}'],
    "location": ['{"location": {"city": "Paris", "country": "France"}, "zip": "7500"}'],
    "tags": ['{"title": "A", "tags": []}', '{"title": "A", "tags": ["a", "b", "c", "d", "e"]}'],
    "size": ['{"color": "green", "size": "m"}', '{"color": "green", "size": "M", "n": 1}'],
    "parent": ['{"name": "A", "parent": "B"}', '{"name": "A"}'],
    "pair": ["[1, 2, 3]", "[1]", "[1, null]"],
    "reading": ['{"temperature": 60, "unit": "C"}', '{"temperature": 20, "unit": "F"}'],
    "languages": ['{"name": "A", "languages": ["en", "en"]}', '{"name": "A", "languages": ["it"]}'],
    "payment": ['{"method": "card", "phone": "1"}', '{"method": "card", "number": "44170"}', "{}"],
    "id-or-name": ["0", '"R"', "1.5", "null"],
    "tree": ['{"name": "A", "children": [{"name": "B"}]}', '{"name": "A", "children": {}}'],
    "scores": ['{"results": [{"name": "A", "score": 1.5}]}', '{"results": {"name": "A", "score": 1}}'],
    "translations": ['{"eng": "Hello"}', '{"en": ""}', "[]"],
    "discount": ['{"total": 120, "percent": 10}', '{"total": 120, "percent": 0, "reason": "x"}'],
    "meeting": ['{"created": "2024-05-17", "url": "https://a.org", "public": true}'],
}


def accepts(constraint, text):
    """On the host, without compiling a program for each size of table."""
    engine = engine_of(constraint)
    return engine.complete(engine.start(), text.encode())


@pytest.mark.parametrize("id", SAMPLE)
def test_right_and_wrong_answers(id):
    task = SAMPLE[id]
    cheap, dear = DOMAIN.cheap(task), DOMAIN.dear(task)
    right = DOMAIN.gold(task)
    assert right == task.valid[0]  # the sample is written in its schemas' order
    assert DOMAIN.score(task, right) == 1
    assert accepts(cheap, right) and accepts(dear, right)
    for wrong in (*WRONG[id], right[:-1], right + "]", "", "null" if id != "parent" else "nul"):
        assert DOMAIN.score(task, wrong) == 0, wrong
        assert not accepts(cheap, wrong), wrong
        assert not accepts(dear, wrong), wrong


def test_the_law_on_the_device():
    check_answers(DOMAIN, [SAMPLE[id] for id in ("size", "person")])


def variants(value):
    """The value, and it with one part left out, repeated, or of another type."""
    yield value
    yield from (None, True, 0, -1, 1000, 0.5, "", "aaa", "12345", [], {}, [value], {"name": value})
    if isinstance(value, dict):
        for name, part in value.items():
            yield {other: value[other] for other in value if other != name}
            yield value | {name + "x": part}
            for other in variants(part):
                yield value | {name: other}
    if isinstance(value, list):
        yield value + value
        for at, part in enumerate(value):
            yield value[:at] + value[at + 1 :]
            for other in variants(part):
                yield [*value[:at], other, *value[at + 1 :]]


@pytest.mark.parametrize("id", [id for id in SAMPLE if "format" not in SAMPLE[id].schema])
def test_against_another_validator(id):
    """The Python package jsonschema shares no code with jsonschema-rs. Formats it mostly leaves out."""
    jsonschema = pytest.importorskip("jsonschema")
    task = SAMPLE[id]
    validator = jsonschema.Draft202012Validator(json.loads(task.schema))
    cheap = DOMAIN.cheap(task)
    verdicts = {True: 0, False: 0}
    for value in variants(json.loads(task.valid[0])):
        text = json.dumps(value)
        valid = validator.is_valid(value)
        assert DOMAIN.score(task, text) == valid, text
        # Every value has a text for the constraint if it is valid, and none if it is not.
        assert (in_order(cheap, text) is not None) == valid, text
        verdicts[valid] += 1
    assert verdicts[True] > 0 and verdicts[False] > 5, verdicts


def test_labels_of_real_schemas(data):
    """Every labelled instance of JSONSchemaBench gets the score of its label."""
    from sentax.jsonschema_data import load

    tasks = JSONSchema(splits=None).load(data)
    assert len(tasks) == len({task.id for task in tasks}) == 150
    assert {task.split for task in DOMAIN.load(data)} == {"Github_trivial", "Github_easy", "Github_medium"}
    assert len(DOMAIN.load(data)) == 15 + 25 + 26
    counts = {True: 0, False: 0}
    for task, item in zip(tasks, load(data).schemas, strict=True):
        for test in item.tests:
            assert DOMAIN.score(task, json.dumps(test.data)) == test.valid, (task.id, test.description)
            counts[test.valid] += 1
    assert counts == {True: 229, False: 419}


def assert_gold_is_right(tasks):
    reordered = 0
    for task in tasks:
        gold = DOMAIN.gold(task)
        assert DOMAIN.score(task, gold) == 1, task.id
        assert "\n" not in gold
        assert accepts(DOMAIN.cheap(task), gold), task.id
        assert accepts(DOMAIN.dear(task), gold), task.id
        assert json.loads(gold) == json.loads(task.valid[0])
        reordered += gold != task.valid[0]
    return reordered


def test_gold_of_real_schemas(data):
    assert_gold_is_right(JSONSchema(splits=None).load(data)[::10])


@pytest.mark.slow
def test_gold_of_all_real_schemas(data):
    """All compile; in some the labelled value has its names in another order than the schema."""
    tasks = JSONSchema(splits=None).load(data)
    assert 0 < assert_gold_is_right(tasks) < 12
    on_device = sum(sx.compile_schema(task.schema).engine == "device" for task in tasks)
    assert on_device == 22


HOSTILE = {
    "NaN": "NaN",
    "Infinity": "[-Infinity]",
    "infinite": "[1e999]",
    "digits": "1" * 5_000,
    "long": json.dumps(["a" * 1_000_000]),
    "deep": "[" * 30_000 + "]" * 30_000,
    "deep object": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "half a pair": '"\\ud800"',
    "half a pair in a name": '{"\\udc00": 1}',
    "surrogate": '"\ud800"',
    "nothing": "",
    "blank": " \n",
    "two": "1 2",
    "fence": '```json\n{"a": 1}\n```',
    "Python": "{'a': None}",
    "comment": "{} // nothing",
    "comma": '{"a": 1,}',
    "control": '"\x00"',
    "mark": "\ufeff{}",
    "leading zero": "01",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_texts_score_nothing(kind):
    """For the schema of everything: what is refused here is refused as no JSON."""
    anything = Schema(id="", schema="{}")
    assert DOMAIN.score(anything, HOSTILE[kind]) == 0
    with pytest.raises(InvalidAnswer):
        read_json(HOSTILE[kind])


def test_texts_that_are_json():
    anything = Schema(id="", schema="true")
    for text in (' {"a": 1, "a": 2}\n', "1E2", "-0.0", '"\\ud83d\\ude00"', "[" * 500 + "]" * 500, "9" * 4_000):
        assert DOMAIN.score(anything, text) == 1, text
    assert DOMAIN.score(Schema(id="", schema="false"), "1") == 0


def test_names_that_repeat():
    """The last one counts, for the score as for the constraint."""
    task = Schema(id="", schema='{"type": "object", "additionalProperties": {"maximum": 2}}')
    assert DOMAIN.score(task, '{"a": 9, "a": 1}') == 1
    assert DOMAIN.score(task, '{"a": 1, "a": 9}') == 0


def test_hostile_schemas():
    backtracking = Schema(id="", schema=json.dumps({"type": "string", "pattern": r"^(?=(a+)+$)(a|aa)+\1$"}))
    assert DOMAIN.score(backtracking, json.dumps("a" * 60 + "!")) == 0
    remote = Schema(id="", schema='{"$ref": "https://example.org/schema.json"}')
    with pytest.raises(ValueError, match=r"example\.org"):
        DOMAIN.score(remote, "1")  # the data is at fault, not the answer, and nothing is fetched


def test_drafts():
    """A schema that only draft 4 allows is one of draft 4, for the score as for the constraint."""
    task = Schema(id="", schema='{"type": "integer", "minimum": 3, "maximum": 9, "exclusiveMinimum": true}')
    for value in range(12):
        assert DOMAIN.score(task, str(value)) == (3 < value <= 9)
        assert accepts(DOMAIN.cheap(task), str(value)) == (3 < value <= 9)
    ipv4 = Schema(id="", schema='{"$schema": "http://json-schema.org/draft-04/schema#", "format": "ipv4"}')
    assert [DOMAIN.score(ipv4, text) for text in ('"10.0.0.1"', '"10.0.0.256"', "7")] == [1, 0, 1]


def test_order():
    task = SAMPLE["order"]
    cheap = DOMAIN.cheap(task)
    value = json.loads(task.valid[0])
    turned = {name: value[name] for name in reversed(value)}
    turned["items"] = [{name: item[name] for name in reversed(item)} for item in turned["items"]]
    assert json.dumps(turned) != task.valid[0]
    assert in_order(cheap, json.dumps(turned)) == task.valid[0]
    assert in_order(cheap, '{"items": []}') is None
    wrong = copy.deepcopy(turned) | {"id": "x"}
    # No text of the constraint: gold shows the value as the data set has it, and the law fails aloud.
    broken = Schema(id="", schema=task.schema, valid=(json.dumps(wrong),))
    assert DOMAIN.gold(broken) == json.dumps(wrong)
    with pytest.raises(AssertionError, match="refuses right answer"):
        check_answers(DOMAIN, [broken])
    assert DOMAIN.gold(Schema(id="", schema="{}")) is None


def test_the_check_travels():
    dear = DOMAIN.dear(SAMPLE["person"])
    copied = pickle.loads(pickle.dumps(dear))
    assert accepts(copied, '{"name": "Ada", "age": 36}') and not accepts(copied, '{"name": "Ada"}')


PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def test_bare_files(tmp_path):
    for split in ("Github_easy", "Kubernetes"):
        (tmp_path / "JSONSchemaBench" / split).mkdir(parents=True)
        (tmp_path / "JSONSchemaBench" / split / "o1.json").write_text(json.dumps(PERSON))
    [task] = DOMAIN.load(tmp_path)
    assert (task.id, task.split, json.loads(task.schema)) == ("o1", "Github_easy", PERSON)
    assert len(JSONSchema(splits=None).load(tmp_path)) == 2
    with pytest.raises(ValueError, match="no schemas of Snowplow, but of: Github_easy, Kubernetes"):
        JSONSchema(splits=["Snowplow"]).load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        DOMAIN.load(tmp_path / "missing")


def test_labelled_files(tmp_path):
    tests = [{"data": {"name": 1}, "valid": False}, {"data": {"name": "Ada"}, "valid": True}]
    file = tmp_path / "Github_trivial---o7.json"
    file.write_text(json.dumps({"schema": PERSON, "tests": tests, "meta": {}}, indent=1))
    [task] = DOMAIN.load(tmp_path)
    assert task.valid == ('{"name": "Ada"}',)
    assert "\n" not in task.schema
    assert DOMAIN.gold(task) == '{"name": "Ada"}'


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    (tmp_path / "Github_easy").mkdir()
    rows = {"json_schema": [json.dumps(PERSON, indent=1)], "unique_id": ["o9"]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "Github_easy" / "test-00000-of-00001.parquet")
    [task] = DOMAIN.load(tmp_path)
    assert (task.id, task.split) == ("o9", "Github_easy")
    assert task.schema == json.dumps(PERSON)
    rows["json_schema"] = ["{"]
    parquet.write_table(pyarrow.table(rows), tmp_path / "Github_easy" / "test-00000-of-00001.parquet")
    with pytest.raises(ValueError, match="the schema of o9 is not JSON"):
        DOMAIN.load(tmp_path)
    del rows["unique_id"]
    parquet.write_table(pyarrow.table(rows), tmp_path / "Github_easy" / "test-00000-of-00001.parquet")
    with pytest.raises(ValueError, match="no column unique_id"):
        DOMAIN.load(tmp_path)


def test_prompts():
    task = SAMPLE["tree"]
    assert DOMAIN.prompt(task).endswith(f"\n\nSchema: {task.schema}\nJSON: ")
    assert [message["role"] for message in DOMAIN.chat(task)] == ["system", *["user", "assistant"] * 2, "user"]
    shots = DOMAIN.chat(task)[1:-1]
    for schema, record in zip(shots[::2], shots[1::2]):
        assert is_valid(schema["content"], record["content"])
        assert in_order(sx.json_schema(schema["content"]), record["content"]) == record["content"]
        assert f"Schema: {schema['content']}\nJSON: {record['content']}\n" in DOMAIN.prompt(task)
