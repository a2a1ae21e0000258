"""Schemas of databases in Spider's layout, as prompts show them and as SQLite makes them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Column(NamedTuple):
    """A column.

    :param name: as queries write it.
    :param kind: the data set's own word for its type: `text`, `number`, `time`, ...
    :param natural: its name in words.
    """

    name: str
    kind: str
    natural: str


class Table(NamedTuple):
    """A table and its columns in order."""

    name: str
    columns: tuple[Column, ...]


class Reference(NamedTuple):
    """A foreign key: `table.column` refers to `to_table.to_column`."""

    table: str
    column: str
    to_table: str
    to_column: str


@dataclass(frozen=True)
class Schema:
    """The tables of one database.

    :param keys: `(table, column)` of the primary keys.

    >>> city = Table("city", (Column("name", "text", "name"), Column("size", "number", "population")))
    >>> print(Schema("towns", (city,)).card())
    city
    * name (text): name
    * size (number): population
    """

    id: str
    tables: tuple[Table, ...]
    keys: tuple[tuple[str, str], ...] = ()
    references: tuple[Reference, ...] = ()

    def card(self) -> str:
        """The schema as a prompt shows it: each table, then its columns as `* column (type): natural name`."""
        lines = []
        for table in self.tables:
            lines.append(table.name)
            lines += [f"* {column.name} ({column.kind}): {column.natural}" for column in table.columns]
        return "\n".join(lines)

    def ddl(self) -> str:
        """CREATE TABLE statements, without keys: what names mean is all that preparing a query asks."""
        statements = []
        for table in self.tables:
            if not table.columns:
                continue  # SQLite knows no such tables
            columns = ", ".join(f"{quote(c.name)} {_AFFINITY.get(c.kind, '')}".rstrip() for c in table.columns)
            statements.append(f"CREATE TABLE {quote(table.name)} ({columns});")
        return "\n".join(statements)


_AFFINITY = {
    "text": "TEXT",
    "date": "TEXT",
    "time": "TEXT",
    "integer": "INTEGER",
    "number": "NUMERIC",
    "real": "REAL",
    "boolean": "",
    "others": "",
}


def quote(name: str) -> str:
    """A name as SQL writes any name."""
    return '"' + name.replace('"', '""') + '"'


def read_schemas(file: Path) -> dict[str, Schema]:
    """Spider's `tables.json`: schemas by database id.

    :raises ValueError: if the file is not in that layout.
    """
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
        return {record["db_id"]: _schema(record) for record in records}
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is not in the layout of Spider's tables.json: {error!r}") from error


def _schema(record: dict[str, Any]) -> Schema:
    names = record["table_names_original"]
    columns: list[list[Column]] = [[] for _ in names]
    where: list[tuple[str, str]] = []
    parts = zip(record["column_names_original"], record["column_names"], record["column_types"], strict=True)
    for (table, name), (_, natural), kind in parts:
        where.append(("", name) if table < 0 else (names[table], name))
        if table >= 0:  # the first "column" is the star of no table
            columns[table].append(Column(name, kind, natural))
    flat = [k for key in record.get("primary_keys", ()) for k in (key if isinstance(key, list) else [key])]
    return Schema(
        record["db_id"],
        # SQLite keeps tables of its own under names that nobody else may use.
        tuple(Table(n, tuple(c)) for n, c in zip(names, columns) if not n.lower().startswith("sqlite_")),
        tuple(where[key] for key in flat),
        tuple(Reference(*where[a], *where[b]) for a, b in record.get("foreign_keys", ())),
    )


__all__ = ["Column", "Reference", "Schema", "Table", "quote", "read_schemas"]
