"""The notebooks of `notebooks/` as pages of the tutorial, with the outputs that are committed in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "tutorials"

# What a cell prints stands below it, told apart by a class.
TEMPLATE = """
{%- extends 'markdown/index.md.j2' -%}
{% macro printed(text) %}
``````{ .text .output .no-copy }
{{ text | strip_ansi | trim('\\n') }}
``````
{% endmacro %}
{% block stream %}{{ printed(output.text) }}{% endblock stream %}
{% block data_text scoped %}{{ printed(output.data['text/plain']) }}{% endblock data_text %}
"""


def on_config(config: Any) -> Any:
    """MkDocs calls this first. The entry `Tutorial` of the navigation becomes the notebooks, in their order."""
    for entry in config.nav:
        if "Tutorial" in entry:
            entry["Tutorial"] = [{_title(path): f"{FOLDER}/{path.stem}.md"} for path in notebooks()]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Each notebook as a Markdown page, its pictures as files beside it; so MkDocs checks their links too."""
    exporter = MarkdownExporter(raw_template=TEMPLATE)
    for path in notebooks():
        notebook = nbformat.read(path, as_version=4)
        body, resources = exporter.from_notebook_node(notebook, resources={"unique_key": path.stem})
        files.append(File.generated(config, f"{FOLDER}/{path.stem}.md", content=_relinked(body)))
        for name, picture in resources["outputs"].items():
            files.append(File.generated(config, f"{FOLDER}/{name}", content=picture))
    return files


def notebooks() -> list[Path]:
    """The notebooks, in the order of the tutorial."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def _title(path: Path) -> str:
    first = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
    return first.removeprefix("# ")


def _relinked(markdown: str) -> str:
    """Links as they work in the repository (`../docs/a.md`, `01_b.ipynb`), as they work in the site."""
    markdown = re.sub(r"\]\(\.\./docs/", "](../", markdown)
    return re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.md", markdown)
