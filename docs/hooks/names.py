"""Lists a package's public names on an API page, so that a new one cannot be forgotten.

On a line of its own, `{{ names sentax.evaluation }}` becomes the package's docstring and all of its `__all__`,
and `{{ packages sentax.domains }}` does so for each package inside it, under a heading.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PLACE = re.compile(r"\{\{ *(names|packages) +([\w.]+) *\}\}")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """MkDocs calls this for each page."""
    if not page.file.src_uri.startswith("api/"):
        return markdown
    lines: list[str] = []
    for line in markdown.splitlines():
        match = PLACE.fullmatch(line.strip())
        if match is None:
            lines.append(line)
        elif match[1] == "names":
            lines += _names(match[2])
        else:
            for package in _packages(match[2]):
                title = package.removeprefix(f"{match[2]}.").replace(".", ", ").replace("_", " ")
                lines += [f"## {title[0].upper()}{title[1:]}", "", *_names(package), ""]
    return "\n".join(lines)


def folder(package: str) -> Path:
    """Where a package of `sentax` lies in the repository."""
    return ROOT.joinpath(*package.split(".")[1:])


def _names(package: str) -> list[str]:
    hidden = ["members: false", "show_root_heading: false", "show_root_toc_entry: false"]
    intro = [f"::: {package}", "    options:", *(f"      {option}" for option in hidden), ""]
    return intro + [f"::: {package}.{name}" for name in _public(folder(package) / "__init__.py")]


def _public(path: Path) -> list[str]:
    """`__all__`, without importing what may need optional libraries."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return list(ast.literal_eval(statement.value))
    return []


def _packages(package: str) -> Iterator[str]:
    for path in sorted(folder(package).rglob("__init__.py")):
        inner = path.parent.relative_to(folder(package))
        if inner.parts and _public(path):
            yield ".".join([package, *inner.parts])
