"""The generators: deterministic, never empty, and valid where they promise to be."""

from __future__ import annotations

import datetime
import json
import re
import sqlite3
from random import Random

import pytest

from sentax.models import data
from sentax.models.data import goals, molecules, queries, records, strings


@pytest.mark.parametrize("kind", data.KINDS)
def test_a_seed_determines_the_documents_of_every_kind(kind):
    first, second = ([data.document(rng, kind) for _ in range(40)] for rng in (Random(7), Random(7)))
    assert first == second
    assert first != [data.document(Random(8), kind) for _ in range(40)]
    assert all(text.strip() for text in first)
    assert len(set(first)) > 10


def test_documents_hold_every_kind_by_its_share():
    kinds = [kind for kind, _ in data.documents(Random(0), 4000)]
    assert set(kinds) == set(data.KINDS)
    for kind, share in data.SHARES.items():
        assert abs(kinds.count(kind) / 4000 - share) < 5 * (share / 4000) ** 0.5
    assert sum(data.SHARES.values()) == pytest.approx(1)


def test_few_shot_lines_carry_a_label_and_often_end_after_a_value():
    texts = [data.few_shot(Random(seed), "date") for seed in range(2000)]
    assert sum(text.startswith("Date=") for text in texts) > 600
    lines = sum(text.rstrip("\n").count("\n") + 1 for text in texts)
    ends = sum(not text.endswith("\n") for text in texts)
    assert 0.10 < ends / lines < 0.25


def test_some_dates_are_iso_and_all_of_those_exist():
    rng = Random(0)
    for _ in range(2000):
        datetime.date.fromisoformat(strings.iso_date(rng))
        datetime.datetime.fromisoformat(strings.iso_datetime(rng))
    dates = [strings.date(rng) for _ in range(2000)]
    iso = sum(re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None for text in dates)
    assert 0.4 < iso / 2000 < 0.65


def test_addresses_and_telephone_numbers_have_their_shape():
    rng = Random(0)
    for _ in range(3000):
        assert re.fullmatch(r"[a-z0-9._+-]+@[a-z0-9-]+(\.[a-z0-9-]+)+", strings.email(rng))
        assert re.fullmatch(r"[+(]?\d[\d ().-]+( ext\. \d+)?", strings.phone(rng))


def test_json_parses_and_records_conform_to_their_schema():
    rng = Random(0)
    for _ in range(1500):
        line = records.json_line(rng)
        assert "\n" not in line
        json.loads(line)
        schema = records.schema(rng)
        assert conforms(records.value(rng, "", schema), schema)
        first, *rest = records.schema_and_record(rng).split("\n")
        schema = json.loads(first.removeprefix("Schema: "))
        assert rest
        assert all(conforms(json.loads(line.removeprefix("JSON: ")), schema) for line in rest)


def conforms(value, schema) -> bool:
    """The keywords that the generator uses; formats aside."""
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
    }
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if value is None:
        return "null" in kinds
    if not any(kind != "null" and isinstance(value, types[kind]) for kind in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return False
    if isinstance(value, dict):
        return set(schema["required"]) <= set(value) <= set(schema["properties"]) and all(
            conforms(part, schema["properties"][name]) for name, part in value.items()
        )
    if isinstance(value, list):
        return all(conforms(part, schema["items"]) for part in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return True


@pytest.mark.parametrize("schema", queries.SCHEMAS)
def test_every_query_runs_on_its_schema(schema):
    rng = Random(0)
    with sqlite3.connect(":memory:") as database:
        database.executescript(queries.ddl(schema))
        for _ in range(300):
            tables = queries.vary(rng, queries.SCHEMAS[schema])
            question, sql = queries.question_and_query(rng, tables)
            assert question[-1] in "?."
            database.execute(f"EXPLAIN {sql}")
    database.close()


def test_a_query_names_only_columns_that_its_prompt_shows():
    rng = Random(0)
    for _ in range(300):
        tables = queries.vary(rng, queries.SCHEMAS["school"])
        _, sql = queries.question_and_query(rng, tables)
        shown = {word for table in tables for word in (table.name, *table.columns)}
        hidden = {word for table in queries.SCHEMAS["school"] for word in table.columns} - shown
        assert not hidden & set(re.findall(r"[a-z_]+", re.sub(r"'[^']*'", "", sql)))


def test_smiles_are_balanced_and_their_rings_close():
    rng = Random(0)
    molecules_ = [molecules.smiles(rng) for _ in range(4000)]
    assert len(set(molecules_)) > 2000
    for smiles in molecules_:
        depth, rings = 0, set()
        for part in re.findall(r"\[[^\]]*\]|%\d\d|.", smiles):
            depth += (part == "(") - (part == ")")
            assert depth >= 0, smiles
            if part.isdigit() or part[0] == "%":
                rings ^= {part}
        assert (depth, rings) == (0, set()), smiles
        assert re.fullmatch(r"(Cl|Br|\[[A-Za-z0-9@+-]+\]|[BCNOPSFIcnos]|[()=#/.1-9-])+", smiles), smiles


def test_smiles_have_sensible_valences():
    chem = pytest.importorskip("rdkit.Chem")
    rng = Random(1)
    assert all(chem.MolFromSmiles(molecules.smiles(rng)) is not None for _ in range(2000))


def test_goals_are_facts_of_one_state():
    rng = Random(0)
    for _ in range(1000):
        goal = goals.goal(rng)
        inner = re.fullmatch(r"\(:goal \(and (\(.+\))\)\)", goal).group(1)
        atoms = [tuple(atom.split()) for atom in re.findall(r"\(([^()]*)\)", inner)]
        assert inner == " ".join("(" + " ".join(atom) + ")" for atom in atoms)
        arity = {"on": 3, "clear": 2, "on-table": 2, "holding": 2, "arm-empty": 1}
        assert all(arity[atom[0]] == len(atom) for atom in atoms)
        on = [atom[1:] for atom in atoms if atom[0] == "on"]
        below = [lower for _, lower in on]
        assert len(set(below)) == len(below)
        assert not {atom[1] for atom in atoms if atom[0] == "clear"} & set(below)
        assert sum(atom[0] in ("holding", "arm-empty") for atom in atoms) <= 1


def test_problems_end_with_their_goal_and_balance():
    rng = Random(0)
    for _ in range(200):
        problem = goals.problem(rng)
        assert problem.count("(") == problem.count(")")
        assert problem.rstrip().endswith(")))\n)")
        assert "(:goal (and (" in problem
