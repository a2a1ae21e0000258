"""The report of files made by hand, whose figures are worked out here."""

import json

import pytest
from typer.testing import CliRunner

from sentax.cli import app
from sentax.evaluation import (
    Answer,
    Failure,
    Figures,
    Manifest,
    MethodSettings,
    Record,
    Settings,
    Store,
    Times,
    paper,
    read_report,
    write_report,
)
from sentax.evaluation.plots import plot_accuracy, plot_cost
from sentax.evaluation.settings import ConstraintChoice


def settings(domain="made", **changes):
    common = {"model": None, "data": None, "chat": False, "constraint": ConstraintChoice.both, "seed": 0}
    return Settings(**({"domain": domain, "max_tokens": 9} | common | changes))


def record(method, instance, replicate, accuracy=None, *, domain="made", run=1.0, dead=0, **figures):
    """With an accuracy of None, a failure."""
    failure = None
    made = None
    if accuracy is None:
        failure = Failure("run", "ZeroDivisionError", "oh | no", "Traceback: oh no")
    else:
        numbers = {"ess": 2.0, "particles": 5, "checks": 6, "lm_tokens": 4, "emitted_tokens": 3} | figures
        answers = (Answer("yes", accuracy, 1.0), Answer("no", 1 - accuracy, 0.0)) if dead < 5 else ()
        made = Figures(
            posterior=answers,
            accuracy=accuracy,
            log_evidence=-1.5 if dead < 5 else None,
            dead=dead,
            **numbers,
        )
    return Record(
        domain=domain,
        method=method,
        instance=instance,
        replicate=replicate,
        seed=0,
        figures=made,
        failure=failure,
        times=Times(0.5, 0.25, 2.0 if replicate == 0 else 0.0, run, 0.125),
        versions={"sentax": "0"},
    )


def fill(out, method, records, *, domain="made", ids=("1", "2"), replicates=2):
    store = Store(out, domain, method)
    manifest = Manifest(domain, settings(domain), paper(method), replicates, dict.fromkeys(ids, "digest"))
    store.open(store.joined(manifest))
    for each in records:
        store.save(each)


@pytest.fixture
def out(tmp_path):
    """Two instances, two replicates: AWRS-SMC has 0.25 more than LCD on each; the base model fails once."""
    lcd = [("1", 0, 0.0), ("1", 1, 0.0), ("2", 0, 0.5), ("2", 1, 0.75)]
    fill(tmp_path, "lcd", [record("lcd", *cell, run=run) for cell, run in zip(lcd, (1.0, 2.0, 3.0, 10.0))])
    awrs = [("1", 0, 0.5), ("1", 1, 0.0), ("2", 0, 1.0), ("2", 1, 0.75)]
    more = [{}, {"dead": 5, "ess": 0.0}, {"checks": 26}, {"lm_tokens": 10}]
    fill(tmp_path, "awrs-smc", [record("awrs-smc", *c, **m) for c, m in zip(awrs, more)])
    fill(
        tmp_path,
        "base",
        [record("base", "1", 0, 0.25), record("base", "1", 1, None), record("base", "2", 0, 0.25)],
    )
    return tmp_path


def test_figures(out):
    found = read_report(out)
    (domain,) = found.domains.values()
    assert list(domain.methods) == ["base", "lcd", "awrs-smc"]
    assert domain.baseline == "lcd"
    awrs, lcd, base = (domain.methods[m] for m in ("awrs-smc", "lcd", "base"))
    # Two values x < y: a resampling has mean x or y with probability 1/4 each.
    assert lcd.accuracy == (0.3125, 0.0, 0.625)
    assert awrs.accuracy == (0.5625, 0.25, 0.875)
    assert awrs.difference == (0.25, 0.25, 0.25)
    assert lcd.difference is None
    assert base.accuracy == (0.1875, 0.125, 0.25)
    assert base.difference == (-0.125, -0.375, 0.125)
    assert (base.cells, base.expected, base.instances) == (3, 4, 2)
    assert base.failures == (
        {"instance": "1", "replicate": 1, "stage": "run", "error": "ZeroDivisionError: oh | no"},
    )
    assert (awrs.nobody_alive, awrs.ess) == (0.25, 1.5)
    assert awrs.checks_per_token == (6 + 6 + 26 + 6) / (4 + 4 + 4 + 10)
    assert (awrs.lm_tokens, awrs.emitted_tokens) == (5.5, 3.0)
    assert (lcd.times.run_mean, lcd.times.run_median) == (4.0, 2.5)
    assert (lcd.times.compile_total, lcd.times.compilations) == (4.0, 2)
    assert base.times.run_mean == 1.0  # of the two runs that did not fail
    assert found.num_failures == 1


def test_files(out):
    files = write_report(read_report(out), out)
    assert [file.name for file in files] == ["report.md", "report.json", "accuracy.png", "cost.png"]
    plain = json.loads((out / "report.json").read_text())
    method = plain["domains"]["made"]["methods"]["awrs-smc"]
    assert method["difference"] == {"mean": 0.25, "low": 0.25, "high": 0.25}
    assert method["times"]["run_mean"] == 1.0
    text = (out / "report.md").read_text()
    row = (
        "| awrs-smc | 5 | 0.562 [0.25, 0.88] | +0.250 [+0.25, +0.25] | 25% | 1.50 | 2.00 | 6 | 1 | 4 | 0 | 4 |"
    )
    assert row in text
    assert (
        "| base | 1 | 0.188 [0.12, 0.25] | -0.125 [-0.38, +0.12] | 0% | 2.00 | 1.50 | 4 | 1 | 4 | 1 | 3 of 4 |"
        in text
    )
    assert r"* base failed on '1' (replicate 1), run: ZeroDivisionError: oh \| no" in text
    assert (out / "accuracy.png").read_bytes().startswith(b"\x89PNG")


def test_the_order_of_writing_does_not_matter(out, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for method in ("awrs-smc", "base", "lcd"):
        store = Store(out, "made", method)
        done = [store.load(id, r) for id in ("2", "1") for r in (1, 0)]
        fill(other, method, [r for r in done if r is not None])
    assert read_report(other).as_dict() == read_report(out).as_dict()


def test_several_domains_and_a_single_instance(out):
    fill(out, "lcd", [record("lcd", "x", 0, 0.75, domain="b/c")], domain="b/c", ids=["x"], replicates=1)
    found = read_report(out)
    assert list(found.domains) == ["b/c", "made"]
    lonely = found.domains["b/c"].methods["lcd"]
    assert lonely.accuracy == (0.75, None, None)
    assert found.domains["b/c"].baseline == "lcd"
    text = found.markdown()
    assert "## All domains" in text
    assert "| lcd | 0.750 | 0.312 [0.00, 0.62] |" in text
    assert "| awrs-smc |  | 0.562 [0.25, 0.88] |" in text


def test_instances_that_the_baseline_has_not_are_left_out_of_the_difference(tmp_path):
    fill(tmp_path, "lcd", [record("lcd", "1", 0, 0.5)], replicates=1)
    fill(tmp_path, "base", [record("base", "1", 0, 0.25), record("base", "2", 0, 0.25)], replicates=1)
    methods = read_report(tmp_path).domains["made"].methods
    assert methods["base"].difference == (-0.25, None, None)


def test_pictures_show_the_figures(out):
    found = read_report(out)
    (ax,) = plot_accuracy(found).axes
    points = {(x, y) for line in ax.lines if line.get_marker() == "o" for x, y in line.get_xydata().tolist()}
    assert points == {(0.1875, 0.0), (0.3125, 1.0), (0.5625, 2.0)}
    left, right = plot_cost(found).axes
    assert {tuple(line.get_xydata()[0].tolist()) for line in left.lines if line.get_label() == "lcd"} == {
        (4.0, 0.3125)
    }
    assert {tuple(line.get_xydata()[0].tolist()) for line in right.lines if line.get_label() == "awrs-smc"} == {
        (2.0, 0.5625)
    }


def test_only_failures(tmp_path):
    fill(tmp_path, "lcd", [record("lcd", "1", 0), record("lcd", "2", 0)], replicates=1)
    found = read_report(tmp_path)
    figures = found.domains["made"].methods["lcd"]
    assert figures.accuracy == (0.0, 0.0, 0.0)
    assert figures.ess is None and figures.times is None and figures.checks_per_token is None
    write_report(found, tmp_path)


def test_command_line(out):
    result = CliRunner().invoke(app, ["report", str(out), "--no-plots"])
    assert result.exit_code == 0, result.output
    for text in ("made", "0.562 [0.25, 0.88]", "to lcd", "3 of 4", "base failed on '1'"):
        assert text in result.stdout
    assert not (out / "accuracy.png").exists()


def test_nothing_to_report(tmp_path):
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert result.exit_code == 2
    assert "no results of an evaluation" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "no JSON object"),
        ("{}", "is no result"),
        ('{"figures": 1}', "is no result"),
    ],
)
def test_a_spoilt_file_is_named(out, text, message):
    file = Store(out, "made", "lcd").path("1", 0)
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_report(out)
    assert str(file) in str(error.value)


def test_a_file_of_another_instance_is_named(out):
    store = Store(out, "made", "lcd")
    store.path("2", 0).write_bytes(store.path("1", 0).read_bytes())
    with pytest.raises(ValueError, match="is the result of instance '1', replicate 0"):
        read_report(out)


def test_method_settings():
    assert [paper(m) for m in ("base", "lcd", "sample-rerank")] == [
        MethodSettings("base", 1),
        MethodSettings("lcd", 1),
        MethodSettings("sample-rerank", 10),
    ]
    for bad, message in [
        (("nobody", 1), "no method"),
        (("lcd", 0), "at least 1"),
        (("lcd", 1, 0.5), "does not resample"),
        (("awrs-smc", 5), "needs an ess_threshold"),
        (("awrs-smc", 5, 1.5), "between 0 and 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            MethodSettings(*bad)
