"""Writes the tables of `docs/benchmarks.md` from `benchmarks/results/*.json` while the site is built.

On that page `{{ name }}` on a line of its own becomes the tables of `name.json`, and `{{ others }}` those of
all results that have no place of their own, so that a committed result is never left out.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PLACE = re.compile(r"\{\{ *(\w+) *\}\}")

# Where and how a result was made, as opposed to what came out.
SURROUNDINGS = (
    *("date", "commit", "uncommitted_changes", "device", "accelerator", "cores", "load", "load_at_end"),
    *("versions", "checkpoint", "surroundings"),
)

log = logging.getLogger("mkdocs.hooks.benchmarks")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """MkDocs calls this for each page."""
    if page.file.src_uri != "benchmarks.md":
        return markdown
    placed = set(PLACE.findall(markdown))
    lines: list[str] = []
    for line in markdown.splitlines():
        match = PLACE.fullmatch(line.strip())
        if match is None:
            lines.append(line)
        elif match[1] == "others":
            for path in sorted(RESULTS.glob("*.json")):
                if path.stem not in placed:
                    lines += [f"## {_words(path.stem)}", "", *section(path.stem)]
        else:
            lines += section(match[1])
    return "\n".join(lines)


def section(name: str) -> list[str]:
    """A result file as Markdown: the command, where it was run, its tables. Absence is shown."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return [f'!!! note "Not measured"\n    There is no `benchmarks/results/{name}.json` yet.', ""]
    try:
        report = json.loads(path.read_text())
    except ValueError as error:
        log.warning("%s: %s", path, error)
        return [f'!!! failure "Not readable"\n    `benchmarks/results/{name}.json`: {error}', ""]
    if isinstance(report, list):
        report = {"results": report}
    return [_made_by(name, report), "", *_tables(report)]


def _made_by(name: str, report: Mapping[str, Any]) -> str:
    place = {**report.get("surroundings", {}), **report}
    script = next(_scripts(name), None)
    facts = [f"`benchmarks/results/{name}.json`"]
    if script is not None:
        # What the name goes on with is the script's argument: `claims.py accuracy`.
        argument = name.removeprefix(script.stem).replace("_", " ")
        facts = [f"`python benchmarks/{script.name}{argument}`"]
    facts += [str(place[key])[:10] for key in ("date",) if key in place]
    if "commit" in place:
        changed = " and what was not committed" if place.get("uncommitted_changes") else ""
        facts.append(f"commit `{place['commit']}`{changed}")
    facts += [str(place[key]) for key in ("device", "accelerator") if place.get(key)]
    if "device" not in place:
        facts.append(f"{place['cores']} cores" if "cores" in place else "machine not recorded")
    if "load" in place:
        facts.append(f"load {place['load']}")
    facts += [f"{library} {version}" for library, version in place.get("versions", {}).items()]
    return ", ".join(facts) + "."


def _scripts(name: str) -> Iterator[Path]:
    """The scripts that a result's name begins with, the longest first (`claims_accuracy`: `claims.py`)."""
    parts = name.split("_")
    for size in range(len(parts), 0, -1):
        path = ROOT / "benchmarks" / f"{'_'.join(parts[:size])}.py"
        if path.is_file():
            yield path


def _tables(report: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    single: dict[str, str] = {}
    for key, value in report.items():
        if key in SURROUNDINGS:
            continue
        title = "" if key == "results" else _words(key)
        if _is_rows(value):
            lines += _rows(title, value)
        elif _is_grouped(value):
            lines += _rows(title, [{title or "case": name, **row} for name, row in value.items()])
        elif isinstance(value, dict):
            lines += _rows(title, [value])
        elif isinstance(value, list) and all(isinstance(line, str) for line in value):
            lines = [*(f"* {line}" for line in value), "", *lines]
        else:
            single |= _flat({key: value})
    settings = "; ".join(f"{key} {value}" for key, value in single.items())
    return [*([f"{settings}.", ""] if settings else []), *lines]


def _rows(title: str, rows: list[dict[str, Any]]) -> list[str]:
    """A table, and one more for each field that holds figures by name, such as of systems: names are rows."""
    lines = _table([_flat({k: v for k, v in row.items() if not _is_grouped(v)}) for row in rows])
    if lines and title:
        lines = [f"**{title}**", "", *lines]
    for group in dict.fromkeys(k for row in rows for k, v in row.items() if _is_grouped(v)):
        inner = []
        for row in rows:
            of = {k: v for k, v in row.items() if isinstance(v, str | int)}
            inner += [{**of, group: name, **figures} for name, figures in (row.get(group) or {}).items()]
        lines += _rows(_words(group), inner)
    return lines


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _is_grouped(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(row, dict) for row in value.values())


def _table(rows: list[dict[str, str]]) -> list[str]:
    """Rows may lack columns; a single wide row stands upright."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    if not columns:
        return []
    if len(rows) == 1 and len(columns) > 6:
        rows, columns = [{"figure": key, "value": value} for key, value in rows[0].items()], ["figure", "value"]
    head = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return [*head, *("| " + " | ".join(row.get(key, "") for key in columns) + " |" for row in rows), ""]


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested figures as columns `a: b`; short lists as they are; long ones and prose by their size."""
    flat: dict[str, str] = {}
    for key, value in row.items():
        name = f"{prefix}{_words(str(key))}"
        if isinstance(value, dict):
            flat |= _flat(value, f"{name}: ")
        elif isinstance(value, list):
            short = len(value) <= 4 and not any(isinstance(item, dict | list) for item in value)
            flat[name] = ", ".join(_cell(item) for item in value) if short else f"{len(value)} values"
        else:
            flat[name] = _cell(value)
    return flat


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    text = value.replace("\n", " ↵ ")
    text = text if len(text) <= 60 else text[:57] + "..."
    return re.sub(r"[\\`*_|<>$\[\]&]", lambda match: f"&#{ord(match[0])};", text)


def _words(key: str) -> str:
    return key.replace("_", " ")
