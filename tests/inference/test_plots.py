"""Pictures have in them what the run has: lines, crosses, texts, figures."""

import numpy as np
import pytest
from reference.runs import markup_run

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")


@pytest.fixture(scope="module")
def smc():
    return markup_run().smc


@pytest.fixture(autouse=True)
def _close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_lineage(smc):
    figure = smc.plot_lineage()
    figure.canvas.draw()
    (ax,) = figure.axes
    lineage = smc.lineage
    lost, kept = (len(collection.get_segments()) for collection in ax.collections[:2])
    survives = lineage.survives()
    assert kept == sum(int(s.sum()) for s in survives[1:])
    living = sum(
        int(np.isfinite(before.log_weights[after.parents]).sum())
        for before, after in zip(lineage.columns, lineage.columns[1:])
    )
    assert lost == living - kept
    crosses = sum(
        len(c.get_offsets()) for c in ax.collections[2:] if np.allclose(c.get_edgecolor(), _rgba("#b3261e"))
    )
    assert crosses == sum(int(lineage.died(c).sum()) for c in range(len(lineage.columns)))
    shown = [text.get_text() for text in ax.texts]
    assert len(shown) == int(survives[-1].sum())
    assert [t for t in shown if t] == [
        smc.texts("text")[n] for n in np.flatnonzero(survives[-1]) if smc.texts("text")[n]
    ]


def _rgba(colour):
    return matplotlib.colors.to_rgba(colour)


def test_weights(smc):
    figure = smc.plot_weights()
    figure.canvas.draw()
    left, right = figure.axes[:2]
    shares = np.asarray(left.images[0].get_array().filled(0))
    np.testing.assert_allclose(shares, np.stack([c.shares for c in smc.lineage.columns], 1))
    heights = [bar.get_height() for bar in right.patches]
    np.testing.assert_allclose(heights, np.sort(shares[:, -1])[::-1])
    assert f"ESS {smc.ess:.1f} of 40" in right.get_title()


def test_trace(smc):
    figure = smc.plot_trace()
    figure.canvas.draw()
    size, ancestors, evidence, cost = figure.axes
    columns = smc.lineage.columns
    np.testing.assert_allclose(size.lines[0].get_ydata(), [column.ess for column in columns])
    assert ancestors.lines[0].get_ydata()[0] == smc.diagnostics.surviving_lineages
    assert evidence.lines[0].get_ydata()[-1] == pytest.approx(smc.log_evidence)
    assert [bar.get_height() for bar in cost.patches] == [1.0] * 8  # the prior asks once a draw
    assert cost.get_xlabel() == "steps of text, then scan 2"


def test_without_matplotlib_it_says_what_to_install(smc, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"sentax\[plots\]"):
        smc.plot_trace()
