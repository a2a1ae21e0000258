"""The site builds without a warning, names everything public, has no broken links, and its code runs."""

import importlib
import os
import pkgutil
import re
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import sentax as sx
import sentax.domains
import sentax.inference
import sentax.models
import sentax.ppl

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROLE = re.compile(r":(class|func|meth|attr|data|mod|exc|math):(`|<code>)")
# Each by itself: in an editable install the packages lie beside `sentax`, not in it.
ROOTS = [sentax, sentax.domains, sentax.inference, sentax.models, sentax.ppl]


class Page(HTMLParser):
    """What a page links to, loads, is called at, and says outside of code."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.prose, self._code = set(), [], [], [], 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[key] for key in ("id", "name") if attrs.get(key)}
        self._code += tag in ("pre", "code", "script", "style")
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag in ("script", "img", "iframe") and attrs.get("src"):
            self.loads.append(attrs["src"])
        if tag == "link" and attrs.get("rel") in ("stylesheet", "icon", "preconnect"):
            self.loads.append(attrs["href"])

    def handle_endtag(self, tag):
        self._code -= tag in ("pre", "code", "script", "style")

    def handle_data(self, data):
        if not self._code:
            self.prose.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="needs `pip install 'sentax[docs]'`")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-8000:]
    return folder


def test_site(site):
    """One test, so that however tests are spread over processes the site is built once."""
    pages = {path: Page(path) for path in site.rglob("*.html")}

    for markdown in DOCS.rglob("*.md"):
        name = markdown.relative_to(DOCS).with_suffix("")
        assert (site / ("" if name.name == "index" else name) / "index.html") in pages
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        page = pages[site / "tutorials" / notebook.stem / "index.html"]
        assert any(f"{notebook.stem[:2]} · " in text for text in page.prose)

    for path, page in pages.items():
        where = path.relative_to(site)
        prose = "".join(page.prose)
        assert not ROLE.search(path.read_text(encoding="utf-8")), where
        assert ">>> " not in prose and ".. math" not in prose and "{{" not in prose, where
        # Readable without a network: nothing but links leads out.
        assert not [url for url in page.loads if urlsplit(url).netloc], where
        assert not broken_links(path, page, pages, site), where

    benchmarks = (site / "benchmarks" / "index.html").read_text(encoding="utf-8")
    for result in (ROOT / "benchmarks" / "results").glob("*.json"):
        words = result.stem.replace("_", " ")
        argument = result.stem.replace("_", ".py ", 1)  # `claims.py accuracy`
        assert re.search(rf"{result.stem}\.(py|json)|>{words}<|{argument}<", benchmarks), result.name

    anchors = set().union(*(page.ids for path, page in pages.items() if "api" in path.parts))
    assert not undocumented(anchors)


def broken_links(path, page, pages, site):
    broken = []
    for link in page.links:
        url = urlsplit(link)
        if url.scheme or url.netloc or path.name == "404.html":
            continue
        target = (path.parent / unquote(url.path)).resolve() if url.path else path
        target = target / "index.html" if target.is_dir() else target
        inside = target.is_relative_to(site.resolve()) and target.is_file()
        if not inside or (url.fragment and unquote(url.fragment) not in pages[target].ids):
            broken.append(link)
    return broken


def undocumented(anchors):
    """Public names that stand on no page of the API, under this path or another one of the same thing."""
    paths = defaultdict(set)
    for package in public_packages():
        for name in package.__all__:
            value = getattr(package, name)
            ours = hasattr(value, "__qualname__") or type(value).__module__.startswith("sentax")
            same = id(value) if ours else f"{package.__name__}.{name}"
            paths[same] |= {f"{package.__name__}.{name}"}
            if hasattr(value, "__qualname__"):
                paths[same].add(f"{value.__module__}.{value.__qualname__}")
    return sorted(min(names) for names in paths.values() if not names & anchors)


def public_packages():
    yield sx
    for root in ROOTS:
        inner = pkgutil.walk_packages(root.__path__, f"{root.__name__}.")
        for module in [root.__name__, *(m.name for m in inner)]:
            package = importlib.import_module(module)
            if hasattr(package, "__path__") and hasattr(package, "__all__") and package is not sx:
                yield package


def test_unknown_names_are_found():
    assert undocumented({"sentax.SMC"})
    assert "sentax.SMC" not in undocumented({"sentax.inference.smc.SMC"})


# What stands for the embedded model, so that a page compiles in a second: any vocabulary that can say it.
PAGES = {
    "index.md": [b"My favourite physicist is", b" A", b"da", b" L", b"ove", b"lace", b"."],
    "how_to/constraint.md": None,
    "how_to/kernel.md": None,
    "how_to/moving.md": [b"Date: ", *(b"%d" % digit for digit in range(10)), b"20"],
}


@pytest.mark.parametrize("name", PAGES)
def test_code_runs(name, monkeypatch):
    """From top to bottom as one module; blocks of other libraries have their names for titles."""
    tokens = PAGES[name]
    if tokens:
        monkeypatch.setattr(sx, "load", lambda: sx.TableLM.uniform(tokens))
    text = (DOCS / name).read_text(encoding="utf-8")
    blocks = re.findall(r'^```python(?: title="sentax")?\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), name, "exec"), {"__name__": "page"})
