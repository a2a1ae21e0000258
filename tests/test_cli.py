"""The command line: its tables, its JSON, and one clear line for each kind of bad input."""

import json

import pytest
from typer.testing import CliRunner

from sentax.cli import app

PROMPT = "Date=2031-04-17\nDate=1998-11-02\nDate="


def call(*arguments):
    return CliRunner().invoke(app, ["generate", *arguments])


@pytest.fixture(scope="module")
def predicates(tmp_path_factory):
    file = tmp_path_factory.mktemp("predicates") / "mine.py"
    file.write_text(
        "def even(text):\n    return len(text) % 2 == 0 or len(text) < 9\n"
        "def raises(text):\n    raise ZeroDivisionError('oh')\n"
        "def vague(text):\n    return 'maybe'\n"
        "def never(text):\n    return text == ''\n"
        "def done(text):\n    return False\n"
    )
    return file


def test_json_is_one_object():
    result = call(PROMPT, "--regex", "[0-9]{4}-[01][0-9]-[0-3][0-9]", "--particles", "8", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert set(report) == {"posterior", "log_evidence", "ess", "diagnostics"}
    assert sum(entry["probability"] for entry in report["posterior"]) == pytest.approx(1.0)
    assert all(len(entry["text"]) == 10 for entry in report["posterior"])
    assert report["log_evidence"] < 0
    assert report["diagnostics"]["num_particles"] == 8
    assert report["diagnostics"]["methods"] == {"text": "exact masked draw"}


def test_table():
    result = call(
        "Color=red\nColor=",
        "--choice",
        "blue,green",
        "--particles",
        "8",
        "--method",
        "lcd",
        "--max-tokens",
        "6",
    )
    assert result.exit_code == 0, result.output
    assert "blue" in result.stdout or "green" in result.stdout
    for word in ("probability", "log evidence", "ESS", "checks / token", "to compile", "to run"):
        assert word in result.stdout


def test_predicate(predicates):
    result = call(
        PROMPT, "--predicate", f"{predicates}:even", "--particles", "4", "--max-tokens", "4", "--json"
    )
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "/no/such/model"], "/no/such/model"),
        (["--regex", "a(b"], "position"),
        (["--regex", r"(a)\1"], "back-reference"),
        (["--regex", r"a[^\x00-\U0010ffff]"], "matches nothing"),
        (["--max-tokens", "0"], "--max-tokens must be at least 1"),
        (["--particles", "0"], "--particles must be at least 1"),
        (["--regex", "a", "--choice", "b"], "one constraint at most"),
        (["--predicate", "nowhere.py:f"], "no file"),
        (["--predicate", "f"], "FILE.py:FUNCTION"),
        (["--predicate", "{file}:absent"], "no function 'absent'"),
        (["--predicate", "{file}:raises", "--particles", "2", "--max-tokens", "3"], "ZeroDivisionError"),
        pytest.param(
            ["--predicate", "{file}:vague", "--particles", "2", "--max-tokens", "3"],
            "bool",
            marks=pytest.mark.slow,  # another run of the model, for what test_predicate.py knows
        ),
        pytest.param(
            ["--regex", "x{90}", "--particles", "2", "--max-tokens", "2"],
            "all 2 particles died",
            marks=pytest.mark.slow,
        ),
        (["--stop", "ab"], "one ASCII character"),
    ],
)
def test_bad_input(arguments, message, predicates):
    result = call(PROMPT, *[a.replace("{file}", str(predicates)) for a in arguments])
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""


def test_prompt_longer_than_the_context():
    result = call("word " * 5000)
    assert result.exit_code == 2
    assert "context" in result.stderr or "1024" in result.stderr


def test_prompt_and_answer_longer_than_the_context():
    result = call("word " * 900, "--max-tokens", "500", "--particles", "2")
    assert result.exit_code == 2
    assert "context window" in result.stderr
