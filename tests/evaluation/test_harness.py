"""Evaluations of a tiny domain: what is run, what is kept, what is refused."""

import concurrent.futures as cf
import json
import os
from pathlib import Path

import pytest
from reference.reports import same
from typer.testing import CliRunner

from sentax.cli import app
from sentax.evaluation import MethodSettings, Mismatch, Store, cell_key, evaluate, read_report
from sentax.evaluation.specs import make_domain, make_model

FILE = Path(__file__).parent / "tiny.py"
DOMAIN, MODEL = f"{FILE}:Tiny", f"{FILE}:model"
METHODS = ("base", "sample-rerank", "lcd")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished evaluation, which tests only read."""
    out = tmp_path_factory.mktemp("done")
    evaluate(DOMAIN, METHODS, model=MODEL, out=out, replicates=2)
    return out


@pytest.fixture
def executor():
    with cf.ThreadPoolExecutor(1) as threads:
        yield threads


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """The ids of the cells that are begun, as they are."""
    log = tmp_path / "log"
    monkeypatch.setenv("TINY_LOG", str(log))
    return lambda: log.read_text().split() if log.exists() else []


def results(out):
    """All of the files that must be equal."""
    plain = {str(f.relative_to(out)): json.loads(f.read_text()) for f in out.rglob("*-r*.json")}
    for record in plain.values():
        del record["times"]
    return plain


def test_files(done):
    """One for each cell, with the figures of the run."""
    found = results(done)
    assert set(found) == {
        f"tiny/{method}/{start}%2F{n}-r{replicate}.json"
        for method in METHODS
        for start in ("-", "a", "b")
        for n in (0, 1)
        for replicate in (0, 1)
    }
    for record in found.values():
        assert record["failure"] is None
        figures = record["figures"]
        assert all(set(answer["text"]) <= {"a", "b"} for answer in figures["posterior"])
        scores = [answer["text"].count("b") / 4 for answer in figures["posterior"]]
        assert [answer["score"] for answer in figures["posterior"]] == scores
        total = sum(answer["probability"] for answer in figures["posterior"])
        assert total == pytest.approx(1.0 if figures["posterior"] else 0.0)
        assert figures["accuracy"] == pytest.approx(
            sum(a["probability"] * a["score"] for a in figures["posterior"])
        )
        assert (figures["log_evidence"] is None) == (
            record["method"] != "sample-rerank" or not figures["posterior"]
        )
        assert figures["particles"] == (10 if record["method"] == "sample-rerank" else 1)
        assert 0 < figures["lm_tokens"] <= 4 * figures["particles"]
        assert figures["emitted_tokens"] <= figures["lm_tokens"]
        # Base has no constraint, and LCD draws from this one's mask.
        assert (figures["checks"] > 0) == (record["method"] == "sample-rerank")
    methods = read_report(done).domains["tiny"].methods
    assert [methods[m].times.compilations for m in METHODS] == [1, 1, 1]  # of twelve runs each


def test_what_is_done_is_not_done_again(done, begun):
    before = {file: file.stat().st_mtime_ns for file in done.rglob("*-r*.json")}
    again = evaluate(DOMAIN, METHODS, model=MODEL, out=done, replicates=2)
    assert begun() == []
    assert {file: file.stat().st_mtime_ns for file in done.rglob("*-r*.json")} == before
    assert again == read_report(done)


def test_an_executor_gives_the_same(done, tmp_path, begun):
    """Threads take turns. Results are of the cell, not of the order, so two steps leave what one leaves."""
    out, alone = tmp_path / "out", _only(done, tmp_path, "lcd")
    with cf.ThreadPoolExecutor(3) as executor:
        options = {"model": MODEL, "out": out, "executor": executor}
        evaluate(DOMAIN, ["lcd"], **options, instances=["b/0", "a/1"])
        assert sorted(begun()) == ["a/1", "b/0"]
        report = evaluate(DOMAIN, ["lcd"], **options, replicates=2)
    assert len(begun()) == 12
    assert results(out) == results(alone)
    assert same(report) == same(read_report(alone))


@pytest.mark.slow
def test_worker_processes_give_the_same(done, tmp_path, begun):
    report = evaluate(DOMAIN, METHODS, model=MODEL, out=tmp_path / "out", replicates=2, workers=2)
    assert len(begun()) == 24  # not the base model's, which knows of no constraint
    assert same(report) == same(read_report(done))
    assert results(tmp_path / "out") == results(done)
    assert sum(m.times.compilations for m in report.domains["tiny"].methods.values()) <= 2 * len(METHODS)


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same(done, tmp_path, begun):
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client:
        report = evaluate(
            DOMAIN, METHODS, model=MODEL, out=tmp_path / "out", replicates=2, executor=client.get_executor()
        )
    assert len(begun()) == 24  # not the base model's, which knows of no constraint
    assert same(report) == same(read_report(done))
    assert results(tmp_path / "out") == results(done)


def test_a_failure_is_kept_and_can_be_retried(done, tmp_path, begun, monkeypatch, executor):
    monkeypatch.setenv("TINY_FAILS", "a/1")
    # A worker's, which is compiled already.
    options = {"model": MODEL, "out": tmp_path / "out", "instances": ["a/1"], "executor": executor}
    report = evaluate(DOMAIN, ["lcd"], **options)
    (failure,) = report.domains["tiny"].methods["lcd"].failures
    assert failure["stage"] == "constraint" and failure["error"] == "ZeroDivisionError: no grammar for a/1"
    assert report.domains["tiny"].methods["lcd"].accuracy.mean == 0
    record = Store(tmp_path / "out", "tiny", "lcd").load("a/1", 0)
    assert "tiny.py" in record.failure.traceback and "in cheap" in record.failure.traceback
    monkeypatch.delenv("TINY_FAILS")
    assert evaluate(DOMAIN, ["lcd"], **options).num_failures == 1
    assert begun() == []
    assert evaluate(DOMAIN, ["lcd"], **options, retry_failed=True).num_failures == 0
    (result,) = results(tmp_path / "out").values()
    assert result == results(done)["tiny/lcd/a%2F1-r0.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 now"),
        ({"constraint": "cheap"}, "constraint is 'both' there and 'cheap' now"),
        ({"chat": True}, "chat is False there and True now"),
        ({"model": None}, r"model is .*tiny.py:model' there and the embedded model now"),
        ({"methods": [MethodSettings("lcd", 3)]}, "particles is 1 there and 3 now"),
        ({"methods": ["beam"], "seed": 1}, "seed is 0 there and 1 now"),
        ({"methods": ["beam", MethodSettings("lcd", 3)], "replicates": 9}, "particles is 1 there and 3 now"),
    ],
)
def test_other_settings_are_refused(done, changes, message):
    before = results(done)
    options = {"domain": DOMAIN, "methods": METHODS, "model": MODEL, "out": done} | changes
    with pytest.raises(Mismatch, match=message):
        evaluate(**options)
    assert results(done) == before
    assert not (done / "tiny" / "beam").exists()


def test_other_data_are_refused(done, tmp_path):
    (tmp_path / "ids.txt").write_text("a/1")
    with pytest.raises(Mismatch, match=r"data is what ships there and .* now"):
        evaluate(DOMAIN, METHODS, model=MODEL, out=done, data=tmp_path)


def test_changed_prompts_are_refused(done, tmp_path):
    changed = tmp_path / "tiny.py"
    changed.write_text(FILE.read_text().replace("        return instance.start\n", '        return "a"\n'))
    manifest = done / "tiny" / "lcd" / "manifest.json"
    kept = manifest.read_text()
    manifest.write_text(kept.replace(json.dumps(DOMAIN), json.dumps(f"{changed}:Tiny")))
    try:
        with pytest.raises(Mismatch, match=r"prompts of 4 of 6 instances \('-/0', '-/1', 'b/0', ...\)"):
            evaluate(f"{changed}:Tiny", ["lcd"], model=MODEL, out=_only(done, tmp_path, "lcd"))
    finally:
        manifest.write_text(kept)


def _only(done, folder, method):
    """A copy of one method's results."""
    for file in (done / "tiny" / method).iterdir():
        copy = folder / "copy" / "tiny" / method / file.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return folder / "copy"


def test_results_without_a_manifest_are_refused(done, tmp_path):
    copy = _only(done, tmp_path, "lcd")
    (copy / "tiny" / "lcd" / "manifest.json").unlink()
    with pytest.raises(Mismatch, match="no manifest"):
        evaluate(DOMAIN, ["lcd"], model=MODEL, out=copy)


def test_left_over_parts_are_removed(done, tmp_path):
    copy = _only(done, tmp_path, "lcd")
    part = copy / "tiny" / "lcd" / ".x-r0.json.1.part"
    part.write_text("{")
    evaluate(DOMAIN, ["lcd"], model=MODEL, out=copy)
    assert not part.exists()


def test_a_broken_model_is_no_failure_of_the_instances(tmp_path, executor):
    """It ends the evaluation, in this process and in another's."""
    for each in (None, executor):
        with pytest.raises(ValueError, match="not a language model"):
            evaluate(DOMAIN, ["base"], model=f"{FILE}:Tiny", out=tmp_path, executor=each)
    assert not list(tmp_path.rglob("*-r*.json"))


@pytest.mark.parametrize(
    ("make", "spec", "message"),
    [
        (make_domain, "nothing", "no domain 'nothing'; there are: "),
        (make_domain, "no.such.module:Class", "no module 'no'"),
        (make_domain, "missing.py:Class", "no file"),
        (make_domain, f"{FILE}:Absent", "has no 'Absent'"),
        (make_domain, f"{FILE}:Item", "wants id, start"),
        (make_domain, f"{FILE}:model", "gives a TableLM, not a sentax.domains.Domain"),
        (make_domain, "json:__name__", "is a str, not a class or a function"),
        (make_model, f"{FILE}:wants_an_argument", "wants argument"),
        (make_model, f"{FILE}:Tiny", "not a language model"),
    ],
)
def test_bad_specs(make, spec, message):
    with pytest.raises(ValueError, match=message):
        make(spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["nobody"]}, "no method 'nobody'; there are: base"),
        ({"methods": ["lcd", "lcd"]}, "different"),
        ({"methods": []}, "at least one"),
        ({"instances": ["x"]}, "no instance 'x' among 6: -/0, -/1"),
        ({"instances": 0}, "at least 1"),
        ({"replicates": 0}, "at least 1"),
        ({"constraint": "none"}, "none"),
        ({"workers": 2, "executor": cf.ThreadPoolExecutor(1)}, "either"),
    ],
)
def test_bad_options(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(**({"domain": DOMAIN, "model": MODEL, "out": tmp_path, "methods": ["lcd"]} | options))
    assert not os.listdir(tmp_path)


def call(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_command_line(done, tmp_path):
    """On results that are there: the options arrive, and the report is printed and written."""
    copy = _only(done, tmp_path, "lcd")
    result = call(
        DOMAIN,
        "--model",
        MODEL,
        "--method",
        "lcd",
        "--out",
        copy,
        "--instances",
        "6",
        "--replicates",
        "2",
        "--particles",
        "lcd=1",
    )
    assert result.exit_code == 0, result.output
    assert "tiny" in result.stdout and "lcd" in result.stdout
    assert "| lcd | 1 |" in (copy / "report.md").read_text()
    result = call(DOMAIN, "--model", MODEL, "--method", "lcd", "--out", copy, "--particles", "7")
    assert result.exit_code == 2
    assert "particles is 1 there and 7 now" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no domain 'nothing'"),
        ([DOMAIN, "--method", "lcd,nobody"], "no method 'nobody'"),
        ([DOMAIN, "--particles", "few"], "--particles 'few': expected a number, or METHOD=NUMBER,..."),
        ([DOMAIN, "--particles", "beam=3"], "particles of 'beam'"),
        ([DOMAIN, "--method", "lcd", "--ess-threshold", "0.5"], "an ess_threshold is for twisted-smc"),
        ([DOMAIN, "--instances", "x,"], "no instance 'x'"),
        ([DOMAIN, "--data", "/no/such/folder"], "/no/such/folder"),
        ([DOMAIN, "--replicates", "0"], "--replicates must be at least 1"),
        ([DOMAIN, "--workers", "0"], "--workers must be at least 1"),
    ],
)
def test_bad_command_lines(tmp_path, arguments, message):
    result = call(*arguments, "--out", tmp_path)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not os.listdir(tmp_path)


def test_keys_are_of_what_a_cell_is():
    """All different, and none of them made by gluing names together."""
    cells = [
        (0, "lcd", "1", 0),
        (1, "lcd", "1", 0),
        (0, "base", "1", 0),
        (0, "lcd", "11", 0),
        (0, "lcd", "1", 1),
    ]
    assert len({str(cell_key(*cell)) for cell in cells}) == len(cells)
