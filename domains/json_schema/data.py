"""JSON schemas with values that satisfy them, in JSONSchemaBench's own layouts, and some that ship."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentax.domains.base import Instance, find_folder
from sentax.jsonschema_data import load

FOLDER = "JSONSchemaBench"


@dataclass(frozen=True, kw_only=True)
class Schema(Instance):
    """A schema.

    :param schema: its JSON text, in one line.
    :param split: the part of the data set that it is from.
    :param valid: JSON texts of values that are known to satisfy it, each in one line.
    """

    schema: str
    split: str = "sample"
    valid: tuple[str, ...] = ()


def one_line(value: Any) -> str:
    """JSON as the constraint writes it."""
    return json.dumps(value, ensure_ascii=False)


def read(directory: str | Path, splits: Iterable[str] | None) -> list[Schema]:
    """The schemas of JSONSchemaBench (Geng et al. 2025, arXiv 2501.10868), in any of its forms.

    * `SPLIT/*.parquet`: the data set on Hugging Face, with columns `json_schema` and `unique_id`; needs
      `pyarrow`;
    * the layouts of :mod:`sentax.jsonschema_data`: bare schemas (`SPLIT/*.json`), those of its MaskBench
      (`SPLIT---NAME.json`, with labelled values), and one `jsonschemabench.jsonl`.

    Files in none of these are left out.

    :param directory: the folder, or one that holds it as `JSONSchemaBench`.
    :param splits: the parts that are wanted, or None for all.
    :raises FileNotFoundError: if there is no such folder.
    :raises ValueError: if there are no schemas in it, or none of these parts.
    """
    folder = find_folder(directory, FOLDER)
    found = list(_parquet(folder)) or _labelled(folder)
    wanted = None if splits is None else set(splits)
    chosen = [task for task in found if wanted is None or task.split in wanted]
    if not chosen:
        there = ", ".join(sorted({task.split for task in found}))
        raise ValueError(f"{folder} has no schemas of {', '.join(sorted(wanted or ()))}, but of: {there}")
    return chosen


def _labelled(folder: Path) -> list[Schema]:
    return [
        Schema(
            id=item.id,
            schema=one_line(item.schema),
            split=item.split,
            valid=tuple(one_line(test.data) for test in item.tests if test.valid),
        )
        for item in load(folder).schemas
    ]


def _parquet(folder: Path) -> Iterator[Schema]:
    files = sorted(folder.glob("*/*.parquet"))
    if not files:
        return
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(f"{files[0]} is read with pyarrow: pip install pyarrow") from error
    for file in files:
        table = parquet.read_table(file)
        if missing := {"json_schema", "unique_id"} - set(table.column_names):
            raise ValueError(f"{file} has no column {' and no '.join(sorted(missing))}")
        for row in table.to_pylist():
            try:
                schema = json.loads(row["json_schema"])
            except (TypeError, json.JSONDecodeError) as error:
                raise ValueError(f"{file}: the schema of {row['unique_id']} is not JSON: {error}") from None
            yield Schema(id=str(row["unique_id"]), schema=one_line(schema), split=file.parent.name)


__all__ = ["FOLDER", "Schema", "one_line", "read"]
