"""JSON schemas with labelled instances, in the layouts in which they are published.

* `*.jsonl`: one object a line, `{"id", "split", "schema", "tests": [{"data", "valid", "description"}]}`;
  `jsonschemabench.jsonl` in the folder is read alone.
* JSONSchemaBench: `<split>/*.json`, one bare schema a file; and its MaskBench, `<split>---<name>.json`,
  `{"schema", "tests", "meta"}`.
* The official JSON Schema Test Suite: `<draft>/*.json`, lists of `{"description", "schema", "tests"}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sentax.ppl.constraints.schema_draft import DRAFTS

_OWN_FILE = "jsonschemabench.jsonl"
_SUITE_DRAFTS = {
    "draft4": 4,
    "draft6": 6,
    "draft7": 7,
    "draft2019-09": 2019,
    "draft2020-12": 2020,
}

_SIGNS = frozenset(
    (
        "$schema",
        "type",
        "properties",
        "$ref",
        "anyOf",
        "oneOf",
        "allOf",
        "enum",
        "items",
        "$defs",
        "definitions",
    )
)


class Instance(NamedTuple):
    """A value and whether it satisfies the schema."""

    data: Any
    valid: bool
    description: str


class BenchSchema(NamedTuple):
    """A schema with labelled instances."""

    id: str
    split: str
    schema: Any
    tests: tuple[Instance, ...]


class BenchData(NamedTuple):
    """What was found in a folder.

    :param skipped: files that are in none of the layouts.
    """

    schemas: list[BenchSchema]
    skipped: list[str]


def load(where: Path) -> BenchData:
    """Schemas of a folder and what is below it, or of one file.

    :raises FileNotFoundError: if there is no such place.
    :raises ValueError: if there are no schemas, or a file is not JSON.
    """
    if not where.exists():
        raise FileNotFoundError(f"no such file or folder: {where}")
    files = [where] if where.is_file() else sorted(p for p in where.rglob("*.json*") if p.is_file())
    if (where / _OWN_FILE).is_file():
        files = [where / _OWN_FILE]
    schemas: list[BenchSchema] = []
    skipped = []
    for file in files:
        found = list(_read(file, where if where.is_dir() else where.parent))
        schemas += found
        if not found:
            skipped.append(str(file))
    if not schemas:
        raise ValueError(f"no JSON schemas in {where}: {len(skipped)} files are in none of the known layouts")
    return BenchData(schemas, skipped)


def _read(file: Path, root: Path) -> Iterator[BenchSchema]:
    text = file.read_text(encoding="utf-8")
    try:
        if file.suffix == ".jsonl":
            for number, line in enumerate(text.splitlines(), 1):
                if line.strip():
                    yield from _record(json.loads(line), f"{file.stem}:{number}", file.stem)
        elif file.suffix == ".json":
            yield from _document(json.loads(text), file, root)
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None


def _document(content: Any, file: Path, root: Path) -> Iterator[BenchSchema]:
    split, dashes, _ = file.stem.partition("---")
    if not dashes:
        split = file.parent.name if file.parent != root else root.name
    if isinstance(content, list):
        draft = next((_SUITE_DRAFTS[part] for part in file.parts if part in _SUITE_DRAFTS), 2020)
        for number, case in enumerate(content):
            if isinstance(case, dict) and "schema" in case and "tests" in case:
                schema = case["schema"]
                if isinstance(schema, dict):
                    schema = {"$schema": DRAFTS[draft]} | schema
                name = f"{file.stem}:{number} {case.get('description', '')}".strip()
                yield BenchSchema(name, file.stem, schema, _tests(case["tests"]))
    elif isinstance(content, dict) and "schema" in content and ("tests" in content or "meta" in content):
        yield from _record(content, file.stem, split)
    elif isinstance(content, bool) or (isinstance(content, dict) and _looks_like_schema(content)):
        yield BenchSchema(file.stem, split, content, ())


def _record(content: Any, name: str, split: str) -> Iterator[BenchSchema]:
    if not isinstance(content, dict):
        return
    schema = content.get("schema", content.get("json_schema"))
    if isinstance(schema, str):
        schema = json.loads(schema)
    if isinstance(schema, dict | bool):
        name = str(content.get("id", content.get("unique_id", name)))
        yield BenchSchema(name, str(content.get("split", split)), schema, _tests(content.get("tests", ())))


def _tests(tests: Any) -> tuple[Instance, ...]:
    return tuple(Instance(t["data"], bool(t["valid"]), str(t.get("description", ""))) for t in tests)


def _looks_like_schema(content: dict[str, Any]) -> bool:
    return not _SIGNS.isdisjoint(content)
