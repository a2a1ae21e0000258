"""Results as text and as a notebook's table."""

import html.parser

import pytest
from reference.runs import markup_run

import sentax as sx


@pytest.fixture(scope="module")
def smc():
    return markup_run().smc


def test_text_has_every_figure(smc, capsys):
    smc.print_summary()
    out = capsys.readouterr().out
    d = smc.diagnostics
    for text, p in smc.posterior("text").items():
        assert f"{text!r}" in out
        assert f"{p:.4f}" in out
    assert f"{smc.log_evidence:.4f} +- {d.evidence_error.std:.4f} (within the run, by its genealogy)" in out
    assert (
        f"ESS             {smc.ess:.1f} of 40 particles ({d.dead} dead, {d.surviving_lineages} lineage" in out
    )
    assert f"Pareto k: {d.pareto.reading}" in out or f"Pareto k {d.pareto.k:.2f}" in out
    assert f"drawn           text: one check a draw; {d.sites['text'].acceptance:.3f} accepted a check" in out
    assert f"resampled       {sum(map(len, d.resampling_steps))} times in {sum(d.steps)} steps" in out
    assert f"checks / token  {d.checks_per_token:.2f}  ({d.checks} / {d.tokens})" in out


def test_without_posteriors(smc, capsys):
    smc.print_summary(top=0)
    assert capsys.readouterr().out.startswith("log evidence")


class _Cells(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.cells, self.open = set(), [], False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag in ("td", "th"):
            self.cells.append("")
            self.open = True

    def handle_endtag(self, tag):
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data):
        if self.open:
            self.cells[-1] += data


def test_a_notebook_s_table_shows_texts_as_they_are(smc):
    parsed = _Cells(smc._repr_html_())
    assert "script" not in parsed.tags
    for text, p in smc.posterior("text").items():
        assert repr(text) in parsed.cells
        assert f"{p:.4f} " in parsed.cells
    assert any(cell.startswith(f"{smc.log_evidence:.4f}") for cell in parsed.cells)
    assert {"text", "gate", "probability", "mean", "ESS"} <= set(parsed.cells)


def test_a_sampler_that_has_not_run_has_no_table():
    assert sx.SMC(sx.Prior(lambda: None))._repr_html_() is None
