"""Questions about databases, in Spider's own layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sentax.domains.base import Instance, find_file, find_folder
from sentax.domains.text_to_sql.rows import invent
from sentax.domains.text_to_sql.sandbox import Database
from sentax.domains.text_to_sql.schema import Schema, read_schemas

SAMPLE = Path(__file__).parent / "sample"
"""Three small databases, twenty questions and nine examples, written for sentax, in Spider's layout."""

_SHOTS = 10, 100, 1000
"""The examples of Spider's training part that Loula et al. (2025) show."""


class Shot(NamedTuple):
    """A question with its answer, for a prompt.

    :param query: ends with a semicolon.
    """

    schema: Schema
    question: str
    query: str


@dataclass(frozen=True, kw_only=True)
class Question(Instance):
    """A question about a database.

    :param query: the gold query; ends with a semicolon.
    :param shots: examples that a prompt shows first.
    """

    question: str
    query: str
    database: Database
    shots: tuple[Shot, ...]


def read(directory: str | Path) -> list[Question]:
    """The questions of a folder in Spider's layout.

    * `tables.json` (or `tables_dev20.json`): the schemas;
    * `dev.json` (or `questions.jsonl`): questions with gold queries;
    * `database/ID/ID.sqlite`, or `database/ID/schema.sql` with the rows in it. A database that is not there
      gets invented rows (:func:`~sentax.domains.text_to_sql.rows.invent`), and says so (`database.invented`);
    * `train_spider.json` (or none): examples. A question's are three of its own database if there are so many
      (Spider's parts share none), else those that Loula et al. (2025) take, entries 10, 100 and 1000. Without
      the file they are sentax's own.

    :param directory: the folder, or one that holds it as `spider`.
    :raises FileNotFoundError: if the schemas or the questions are missing.
    :raises ValueError: if a file is in another layout, or a question is about a database without schema.
    """
    folder = find_folder(directory, "spider")
    schemas = read_schemas(find_file(folder, "tables.json", "tables_dev20.json"))
    file = find_file(folder, "dev.json", "questions.jsonl")
    records = _records(file)
    queries: dict[str, list[str]] = {}
    for number, record in enumerate(records):
        if record["db_id"] not in schemas:
            raise ValueError(f"{file}: question {number} is about {record['db_id']!r}, which has no schema")
        queries.setdefault(record["db_id"], []).append(record["query"])
    databases = {id: _database(folder, schemas[id], of) for id, of in queries.items()}
    shots_of = _shots(folder, schemas)
    return [
        Question(
            id=str(record.get("id", number)),
            question=record["question"].strip(),
            query=statement(record["query"]),
            database=databases[record["db_id"]],
            shots=shots_of(record["db_id"]),
        )
        for number, record in enumerate(records)
    ]


def statement(query: str) -> str:
    """A query with one semicolon at its end."""
    return query.strip().rstrip(";").rstrip() + ";"


def _records(file: Path) -> list[dict[str, Any]]:
    text = file.read_text(encoding="utf-8")
    try:
        records = (
            [json.loads(line) for line in text.splitlines() if line.strip()]
            if file.suffix == ".jsonl"
            else json.loads(text)
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(records, list):
        raise ValueError(f"{file} holds no list of questions")
    for number, record in enumerate(records):
        if not isinstance(record, dict) or not {"db_id", "question", "query"} <= record.keys():
            raise ValueError(f"{file}: entry {number} has not the keys db_id, question and query")
    return records


def _database(folder: Path, schema: Schema, queries: Sequence[str]) -> Database:
    place = folder / "database" / schema.id
    file, script = place / f"{schema.id}.sqlite", place / "schema.sql"
    if file.is_file():
        return Database(schema, file=file)
    if script.is_file() and "insert into" in (text := script.read_text(encoding="utf-8")).lower():
        return Database(schema, script=text)
    return Database(schema, script=invent(schema, queries), invented=True)


def _shots(folder: Path, schemas: dict[str, Schema]) -> Callable[[str], tuple[Shot, ...]]:
    """The examples for a database."""
    file = folder / "train_spider.json"
    if not file.is_file():
        own = _shots(SAMPLE, read_schemas(SAMPLE / "tables.json"))
        one_each = tuple(own(id)[0] for id in ("school", "music", "pets"))
        return lambda _: one_each
    examples: dict[str, list[Shot]] = {}
    every: list[Shot | None] = []
    for record in _records(file):
        schema = schemas.get(record["db_id"])
        shot = None if schema is None else Shot(schema, record["question"], statement(record["query"]))
        every.append(shot)
        if shot is not None:
            examples.setdefault(record["db_id"], []).append(shot)

    def of(id: str) -> tuple[Shot, ...]:
        if len(examples.get(id, ())) >= 3:
            return tuple(examples[id][:3])
        chosen = [every[i] for i in _SHOTS if i < len(every)]
        if len(chosen) < 3 or None in chosen:
            raise ValueError(f"{file} has no examples {_SHOTS} with schemas in tables.json")
        return tuple(shot for shot in chosen if shot is not None)

    return of


__all__ = ["SAMPLE", "Question", "Shot", "read", "statement"]
