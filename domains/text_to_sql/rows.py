"""Rows for databases whose own are not at hand."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from random import Random

from sentax.domains.text_to_sql.schema import Column, Schema, quote

_COMPARED = re.compile(
    r"(\w+)\s*(?:=|!=|<>|<=|>=|<|>|\blike\b)\s*(?:'([^']*)'|\"([^\"]*)\"|(-?\d+(?:\.\d+)?))", re.I
)
_NUMBERS = ("integer", "number", "real")


def invent(schema: Schema, queries: Iterable[str] = (), rows: int = 24) -> str:
    """A script that makes a database and fills it, so that queries have results that tell them apart.

    In the spirit of Zhong, Yu and Klein (2020): values that the queries compare a column with occur in it, and
    so do their neighbours; keys are unique, references refer to rows that there are. The same schema and
    queries give the same rows. An execution match on them is not Spider's own number: two different queries may
    agree by chance, and not as they would on the real rows.

    :param queries: what will be run, for the values that they mention.
    :param rows: how many each table gets.

    >>> from sentax.domains.text_to_sql import TextToSQL
    >>> script = invent(TextToSQL().sample()[0].database.schema, ["SELECT 1 FROM students WHERE age > 20"])
    >>> script.count("INSERT INTO")
    3
    """
    rng = Random(f"rows of {schema.id}")
    mentioned: dict[str, list[str | float]] = defaultdict(list)
    for query in queries:
        for name, single, double, number in _COMPARED.findall(query):
            value = single or double
            if number:
                mentioned[name.lower()] += [float(number) + d for d in (-1, 0, 1)]
            elif value:
                mentioned[name.lower()].append(value.replace("%", "a"))
    keys = {(t.lower(), c.lower()) for t, c in schema.keys}
    references = {(r.table.lower(), r.column.lower()) for r in schema.references}
    parts = [schema.ddl()]
    for table in schema.tables:
        # Of a key with several columns none is unique by itself.
        own = {c.name.lower() for c in table.columns} & {c for t, c in keys if t == table.name.lower()}
        lines = []
        for i in range(rows):
            values = []
            for column in table.columns:
                name = column.name.lower()
                if (table.name.lower(), name) in references:
                    values.append(_literal(i + 1 if len(own) == 1 and name in own else rng.randint(1, rows)))
                elif name in own:
                    values.append(_literal(i + 1 if len(own) == 1 else rng.randint(1, rows)))
                else:
                    values.append(_literal(_value(rng, column, sorted(set(mentioned[name]), key=str))))
            lines.append(f"({', '.join(values)})")
        if table.columns:
            parts.append(f"INSERT INTO {quote(table.name)} VALUES {', '.join(lines)};")
    return "\n".join(parts)


def _value(rng: Random, column: Column, mentioned: list[str | float]) -> str | float:
    if mentioned and rng.random() < 0.6:
        return rng.choice(mentioned)
    if column.kind in _NUMBERS:
        return rng.randint(0, 40)
    return f"{column.natural} {rng.randint(1, 8)}"


def _literal(value: str | float) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(int(value)) if value == int(value) else str(value)


__all__ = ["invent"]
