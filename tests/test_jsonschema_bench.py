"""The harness for JSON schemas: its layouts, its figures, its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentax.cli import app
from sentax.jsonschema_bench import COUNTS, run
from sentax.jsonschema_data import load

FIXTURES = Path(__file__).parent / "fixtures"
SUITE = FIXTURES / "json_schema_test_suite"
BENCH = FIXTURES / "jsonschemabench"
MASKBENCH = FIXTURES / "maskbench"
OWN = FIXTURES / "own.jsonl"


def call(*arguments):
    return CliRunner().invoke(app, ["jsonschema-bench", *map(str, arguments)])


def test_own_layout():
    schemas = load(OWN).schemas
    assert [(s.id, s.split, len(s.tests)) for s in schemas] == [
        ("a", "first", 2),
        ("b", "second", 0),
        ("c", "second", 2),
    ]
    assert schemas[0].tests[1].valid is False
    assert schemas[0].tests[1].data == [1, 2, 3]


def test_own_file_is_read_alone(tmp_path):
    (tmp_path / "jsonschemabench.jsonl").write_text(OWN.read_text())
    (tmp_path / "other.json").write_text('{"type": "null"}')
    assert len(load(tmp_path).schemas) == 3


def test_jsonschemabench_layout():
    schemas = load(BENCH).schemas
    assert [(s.id, s.split, s.tests) for s in schemas] == [
        ("point", "Github_easy", ()),
        ("event_Normalized", "Snowplow", ()),
    ]


def test_maskbench_layout():
    schemas = load(MASKBENCH).schemas
    assert [(s.id, s.split, len(s.tests)) for s in schemas] == [
        ("Github_easy---person", "Github_easy", 4),
        ("Snowplow---sp_empty", "Snowplow", 0),
    ]


def test_test_suite_layout():
    schemas = {s.id: s for s in load(SUITE).schemas}
    assert len(schemas) == 5
    assert schemas["uniqueItems:0 integers that differ"].split == "uniqueItems"
    # The draft is the folder's where the schema names none.
    assert (
        schemas["dependencies:0 one needs another"].schema["$schema"]
        == "http://json-schema.org/draft-07/schema#"
    )
    assert schemas["ref:1 true"].schema is True


def test_files_of_no_layout_are_counted(tmp_path):
    (tmp_path / "schema.json").write_text('{"type": "null"}')
    (tmp_path / "tables.json").write_text('[{"db_id": "x"}]')
    data = load(tmp_path)
    assert (len(data.schemas), [Path(f).name for f in data.skipped]) == (1, ["tables.json"])


@pytest.fixture(scope="module")
def suite():
    return run(SUITE)


def test_figures(suite):
    total = suite["total"]
    assert {name: total[name] for name in COUNTS} == {
        "schemas": 5,
        "compiled": 4,
        "refused": 1,
        "checked": 1,
        "on_device": 0,
        "valid": 5,
        "valid_rejected": 0,
        "valid_reordered": 1,
        "invalid": 3,
        "invalid_accepted": 0,
        "failed": 0,
    }
    assert suite["splits"]["uniqueItems"]["schemas"] == 2
    assert [r["id"] for r in suite["refusals"]] == ["ref:0 another document"]
    assert "'http://localhost:1234/integer.json' points to another document" in suite["refusals"][0]["reason"]
    assert suite["wrong"] == []
    assert total["compile_ms_p50"] > 0
    assert total["check_us_p50"] > 0
    assert total["mask_us_p50"] > 0


def test_order_of_names_is_told_apart():
    report = run(MASKBENCH, engine="llguidance")
    assert (
        report["total"]["valid"],
        report["total"]["valid_rejected"],
        report["total"]["valid_reordered"],
    ) == (2, 0, 1)
    assert (report["total"]["invalid"], report["total"]["invalid_accepted"]) == (2, 0)
    assert "no JSON text satisfies it" in report["refusals"][0]["reason"]


def test_wrong_labels_are_found(tmp_path):
    """The harness can fail: an instance with the opposite label counts as a wrong verdict."""
    record = {
        "id": "x",
        "schema": {"type": "integer"},
        "tests": [{"valid": True, "data": "a"}, {"valid": False, "data": 1}],
    }
    (tmp_path / "x.jsonl").write_text(json.dumps(record))
    report = run(tmp_path)
    assert (report["total"]["valid_rejected"], report["total"]["invalid_accepted"]) == (1, 1)
    assert {w["problem"] for w in report["wrong"]} == {"valid_rejected", "invalid_accepted"}


def test_engines_and_checks():
    on_device = run(OWN, engine="device")["total"]
    assert (on_device["compiled"], on_device["on_device"], on_device["mask_us_p50"]) == (2, 2, None)
    strict = run(SUITE, check=False)
    assert "uniqueItems" in " ".join(r["reason"] for r in strict["refusals"])


def test_command_prints_one_json_object():
    result = call("--data", OWN, "--json", "--engine", "llguidance")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["total"]["schemas"] == 3
    assert set(report) >= {"total", "splits", "refusals"}
    assert set(report["refusals"][0]) == {"id", "split", "reason"}


def test_command_prints_a_table():
    result = call("--data", OWN, "--limit", "2")
    assert result.exit_code == 0, result.output
    for word in ("split", "compiled", "total", "refused b:", "first", "second"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "/no/such/place"], "no such file or folder: /no/such/place"),
        (["--data", str(OWN), "--limit", "0"], "--limit must be at least 1, got 0"),
        (["--data", str(OWN), "--generate", "-1"], "--generate must not be negative"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    result = call(*arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_bad_files(tmp_path):
    (tmp_path / "empty.json").write_text("[]")
    result = call("--data", tmp_path)
    assert (result.exit_code, "1 files are in none of the known layouts" in result.output) == (2, True)
    (tmp_path / "bad.json").write_text("{")
    result = call("--data", tmp_path)
    assert (result.exit_code, "bad.json is not JSON" in result.output) == (2, True)


def test_generation():
    generation = run(OWN, engine="llguidance", generate=2, particles=4, max_tokens=24)["generation"]
    assert (generation["schemas"], generation["texts"]) == (2, 8)
    assert generation["invalid"] == generation["dead"] == generation["failed"] == 0
    assert generation["problems"] == []
    assert generation["finished"] > 0
