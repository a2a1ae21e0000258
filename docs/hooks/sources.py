"""Gives mkdocstrings the package as it installs: `ppl/`, `models/` and the others inside `sentax`.

In the repository they stand at the root (see `pyproject.toml`), where a tool that reads sources without
importing them does not find `sentax.ppl`. An editable install changes nothing about that.
"""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority

ROOT = Path(__file__).resolve().parents[2]
TREE = tempfile.TemporaryDirectory(prefix="sentax-docs-")


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: Any) -> Any:
    """MkDocs calls this before each build; while serving, the sources may have changed since the last one."""
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    for name, folder in sorted(packages.items()):
        place = Path(TREE.name, *name.split("."))
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(ROOT / folder, place, ignore=lambda _, names: [n for n in names if _is_data(n)])
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [TREE.name]
    return config


def _is_data(name: str) -> bool:
    return "." in name and not name.endswith(".py")
