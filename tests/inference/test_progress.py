"""The progress bar: what the compiled loop sends, and what is shown of it."""

import sys
import types

import numpy as np
import pytest
from reference.runs import MAX_TOKENS, NUM_GATES, markup_run

from sentax.inference.progress import Figures, Progress, in_notebook


def test_figures_sent_are_those_of_the_run():
    """ESS and evidence after every step, as the lineages have them."""
    smc, reports = markup_run()
    columns = [column for column in smc.lineage.columns if column.step]
    assert [report[:3] for report in reports] == [
        (column.scan, column.step - 1, (MAX_TOKENS, NUM_GATES)[column.scan]) for column in columns
    ]
    for (*_, ess, log_evidence), column in zip(reports, columns):
        assert ess == pytest.approx(column.ess, rel=1e-4)
        assert log_evidence == pytest.approx(column.log_evidence, abs=1e-4)


def test_a_terminal_shows_bars(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Progress() as progress:
        progress.step(np.int32(0), np.int32(2), np.int32(9), np.float32(3.26), np.float32(-1.5))
        (task,) = (t for t in progress._screen.bar.tasks if t.total == 9)
        assert (task.description, task.completed) == ("scan 1", 3)
        assert task.fields["figures"] == "ESS 3.3  log evidence -1.50"
        progress._screen.bar.refresh()
    assert capsys.readouterr().out == ""


def test_nothing_is_shown_after_the_run():
    progress = Progress()
    with progress:
        pass
    progress.step(0, 1, 2, 1.0, 0.0)


class _Handle:
    def __init__(self):
        self.shown = []

    def update(self, html):
        self.shown.append(html)


@pytest.fixture
def notebook(monkeypatch):
    """As much of IPython as the bar needs."""
    handle = _Handle()
    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(config={"IPKernelApp": {}})
    display.HTML = lambda text: text
    display.display = lambda html, display_id: handle
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return handle


def test_a_notebook_gets_one_output_that_is_replaced(notebook):
    assert in_notebook()
    with Progress() as progress:
        for step in range(4):
            progress.step(0, step, 4, 2.0, -0.25)
    assert 'value="4" max="4"' in notebook.shown[-1]
    assert "scan 1: 4 of 4 steps" in notebook.shown[-1]
    assert "ESS 2.0  log evidence -0.25" in notebook.shown[-1]
    assert len(notebook.shown) <= 4


def test_outside_of_a_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not in_notebook()


def test_figures_of_a_dead_run_are_text_too():
    assert str(Figures(1, 2, 0.0, -np.inf)) == "ESS 0.0  log evidence -inf"
