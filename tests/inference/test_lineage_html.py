"""The lineage explorer: what it shows is what happened, whatever the texts say, and it works in a browser."""

import html.parser
import json
import shutil
import subprocess

import numpy as np
import pytest
from reference.runs import MAX_TOKENS, markup_run

from sentax.inference.lineage_html import LineageExplorer


@pytest.fixture(scope="module")
def smc():
    return markup_run().smc


@pytest.fixture(scope="module")
def page(smc):
    return smc.explorer().to_html()


class _Parser(html.parser.HTMLParser):
    """Tags with attributes, and the text of scripts by their type."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.scripts, self.titles, self.inside = [], [], [], None
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = (tag, dict(attrs))

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside and self.inside[0] == "script":
            self.scripts.append((self.inside[1].get("type"), data))
        if self.inside and self.inside[0] == "title":
            self.titles.append(data)


def end_living(smc):
    return np.flatnonzero(smc.log_weights > -np.inf)


@pytest.fixture(scope="module")
def data(page):
    (data,) = (text for kind, text in _Parser(page).scripts if kind == "application/json")
    return json.loads(data)


def texts(data, c, n, name="text"):
    """A particle's text as the page puts it together."""
    piece = data["columns"][c]["text"][name][n]
    if isinstance(piece, list):
        return piece[0]
    if c == 0 or name not in data["columns"][c - 1]["text"]:
        return piece
    return texts(data, c - 1, data["columns"][c]["parents"][n], name) + piece


def test_texts_are_the_run_s(data, smc):
    for c, column in enumerate(smc.lineage.columns[: MAX_TOKENS + 1]):
        assert [texts(data, c, n) for n in range(smc.num_particles)] == column.text["text"]
    second = np.asarray(smc.population.start[1])
    for n in np.flatnonzero(smc.log_weights > -np.inf):
        assert texts(data, MAX_TOKENS, second[n]) == smc.texts("text")[n]


def test_weights_parents_and_deaths_are_the_run_s(data, smc):
    population, names = smc.population, smc._sites.names
    scans = [(0, t) for t in range(MAX_TOKENS + 1)] + [(1, t) for t in range(4)]
    for column, (scan, t) in zip(data["columns"], scans):
        record = population.records[scan]
        if t:
            gains = [-np.inf if g is None else g for g in column["gains"]]
            np.testing.assert_allclose(gains, np.asarray(record.increments)[:, t - 1], rtol=1e-5, atol=1e-6)
        weights = [-np.inf if w is None else w for w in column["logWeights"]]
        np.testing.assert_allclose(weights, np.asarray(record.log_weights)[:, t], rtol=1e-5, atol=1e-6)
        assert sum(column["shares"]) == pytest.approx(1.0, abs=1e-2)
        if t:
            assert column["parents"] == np.asarray(population.ancestors[scan])[:, t - 1].tolist()
            assert column["resampled"] == bool(population.resampled[scan][t - 1])
        for n, cause in enumerate(np.asarray(record.causes)[:, t]):
            if cause >= 0:
                assert column["fates"][n].startswith(f"died of factor {names[cause]!r}")
            else:
                assert not column["fates"][n].startswith("died")
    end = data["columns"][-1]
    assert [n for n, fate in enumerate(end["fates"]) if fate == "survives"] == np.flatnonzero(
        smc.log_weights > -np.inf
    ).tolist()
    assert [texts(data, -1, n) for n in end_living(smc)] == [smc.texts("text")[n] for n in end_living(smc)]
    gates = np.asarray(population.records[1].draws["gate"].value)
    assert [column["values"]["gate"] for column in data["columns"][-4:-1]] == gates.T.tolist()


def test_no_text_becomes_markup(page, data):
    """The run's texts are full of `</script>`; the page has its own two scripts and no others."""
    assert any("</script>" in str(column["text"]) for column in data["columns"])
    parsed = _Parser(page)
    assert [kind for kind, _ in parsed.scripts] == ["application/json", None]
    assert page.count("</script>") == 2
    assert parsed.tags[0][0] == "html"


def test_titles_are_escaped(smc):
    page = LineageExplorer(smc.lineage, title="<script>alert(1)</script> & co").to_html()
    assert _Parser(page).titles == ["<script>alert(1)</script> & co: lineages"]
    assert page.count("</script>") == 2


def test_it_needs_nothing_from_elsewhere(page):
    for tag, attributes in _Parser(page).tags:
        assert tag not in ("img", "iframe", "object", "embed", "form")
        for name in ("src", "href", "action"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, attributes)
    assert "http:" not in page
    assert "https:" not in page
    assert "default-src 'none'" in page


def test_everything_to_press_has_a_name(page):
    parsed = _Parser(page)
    assert parsed.tags[0] == ("html", {"lang": "en"})
    for tag, attributes in parsed.tags:
        if tag == "input" or (tag == "canvas"):
            assert attributes["aria-label"]
    assert (
        "table",
        {"role": "grid", "aria-labelledby": "table-title", "aria-describedby": "keys"},
    ) in parsed.tags


def test_a_notebook_gets_the_same_page(smc, page):
    ((tag, attributes),) = [t for t in _Parser(smc.explorer()._repr_html_()).tags if t[0] == "iframe"]
    assert tag == "iframe"
    assert attributes["srcdoc"] == page
    assert attributes["sandbox"] == "allow-scripts"


def test_saving(smc, page, tmp_path):
    smc.explorer().save(tmp_path / "run.html")
    assert (tmp_path / "run.html").read_text("utf-8") == page


# Runs in the page: keys, then what the page shows. Errors of any kind are collected from its beginning.
COLLECT = """<script>const errors = [];
addEventListener("error", e => errors.push(String(e.message)));
addEventListener("securitypolicyviolation", e => errors.push(e.violatedDirective));
for (const kind of ["error", "warn"]) console[kind] = (...all) => errors.push(all.join(" "));</script>"""
DRIVE = """<script>
const press = key => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}));
const shown = () => ({title: $("detail-title").textContent, row: document.activeElement.dataset.place,
  text: document.activeElement.children[1].textContent, parent: document.activeElement.children[4].textContent,
  fate: document.activeElement.children[5].textContent});
const seen = [];
document.querySelector('tr[tabindex="0"]').focus();
seen.push(shown());
for (let c = last; c > 0; c--) { press("ArrowLeft"); seen.push(shown()); }
press("End"); const ended = shown();
press("Home"); const home = shown();
press("ArrowDown"); const down = shown();
$("time").value = 2; $("time").dispatchEvent(new Event("input"));
const slid = $("table-title").textContent;
const out = document.createElement("pre");
out.id = "outcome";
out.textContent = JSON.stringify({errors, seen, ended, home, down, slid, rows: $("rows").children.length,
  focusable: $("rows").querySelectorAll('[tabindex="0"]').length, ink: $("map").toDataURL().length});
document.body.append(out);
</script>"""


def test_in_a_browser(smc, page, tmp_path):
    """Keys walk from a survivor to its first ancestor, each step as it was; nothing is on the console."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine")
    path = tmp_path / "run.html"
    path.write_text(page.replace("<title>", COLLECT + "<title>").replace("</body>", DRIVE + "</body>"), "utf-8")
    command = [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    done = subprocess.run(
        [*command, "--dump-dom", path.as_uri()], capture_output=True, encoding="utf-8", timeout=120, check=True
    )
    parsed = _Outcome(done.stdout)
    outcome = json.loads(parsed.text)
    assert outcome["errors"] == []
    assert outcome["rows"] == smc.num_particles
    assert outcome["focusable"] == 1
    assert outcome["ink"] > 5000  # a blank canvas of this size is smaller

    columns, n = smc.lineage.columns, int(np.argmax(smc.lineage.columns[-1].shares))
    assert len(outcome["seen"]) == len(columns)
    for c, seen in zip(reversed(range(len(columns))), outcome["seen"]):
        assert seen["title"] == f"Particle {n}, {smc.lineage.label(c)}"
        assert seen["row"] == str(n)
        assert seen["fate"] == smc.lineage.fates(c)[n]
        if columns[c].text and columns[c].text["text"][n]:
            assert seen["text"] == columns[c].text["text"][n]
        if c:
            assert seen["parent"] == str(columns[c].parents[n])
        n = columns[c].parents[n]
    assert outcome["ended"]["fate"] == "survives"
    assert outcome["home"]["title"].endswith("before 'text'")
    assert int(outcome["down"]["row"]) == int(outcome["home"]["row"]) + 1
    assert outcome["slid"] == "Particles, 'text', step 2"


class _Outcome(html.parser.HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.text, self.inside = "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.inside = dict(attrs).get("id") == "outcome"

    def handle_data(self, data):
        self.text += data if self.inside else ""

    def handle_endtag(self, tag):
        self.inside = False
