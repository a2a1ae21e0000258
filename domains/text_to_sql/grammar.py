"""The queries over one database's names, as a context-free grammar."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sentax.domains.text_to_sql.schema import Schema

_RULES = r"""
start: W? query W? ";"
query: core (W compound W core)* (W order)? (W limit)?
compound: UNION (W ALL)? | INTERSECT | EXCEPT
core: SELECT W (DISTINCT W)? results W FROM W source (W WHERE W condition)? (W grouping)?
results: result (W? "," W? result)*
result: "*" | ALIAS "." "*" | operand
source: item (W join W item (W ON W condition)?)* | item (W? "," W? item)+
join: JOIN | INNER W JOIN | LEFT (W OUTER)? W JOIN
item: (table | "(" W? query W? ")") (W (AS W)? ALIAS)?
grouping: GROUP W BY W column (W? "," W? column)* (W HAVING W condition)?
order: ORDER W BY W ordering (W? "," W? ordering)*
ordering: operand (W (ASC | DESC))?
limit: LIMIT W COUNT
condition: test (W (AND | OR) W test)*
test: (NOT W)? "(" W? condition W? ")"
    | operand W? COMPARE W? operand
    | operand W (NOT W)? LIKE W STRING
    | operand W (NOT W)? IN W? "(" W? (query | literal (W? "," W? literal)*) W? ")"
    | operand W (NOT W)? BETWEEN W operand W AND W operand
    | operand W IS W (NOT W)? NULL
    | (NOT W)? EXISTS W? "(" W? query W? ")"
operand: term (W? ARITHMETIC W? term)*
term: column | literal | "(" W? query W? ")"
    | FUNCTION W? "(" W? ("*" | (DISTINCT W)? operand) W? ")"
literal: NUMBER | STRING
column: COLUMN | ALIAS "." COLUMN | OWNED
table: TABLE

W: /[ \t\r\n]{1,4}/
ALIAS: /[Tt][1-9]/
COMPARE: "=" | "!=" | "<>" | "<" | "<=" | ">" | ">="
ARITHMETIC: "+" | "-" | "*" | "/"
FUNCTION: "COUNT"i | "SUM"i | "AVG"i | "MIN"i | "MAX"i
COUNT: /[1-9][0-9]{0,5}/
NUMBER: /-?[0-9]{1,12}(\.[0-9]{1,6})?/
STRING: /'([^'\r\n]|''){0,80}'/ | /"[^"\r\n]{0,80}"/
"""

# fmt: off
_KEYWORDS = (
    "SELECT", "DISTINCT", "FROM", "WHERE", "GROUP", "BY", "HAVING", "ORDER", "LIMIT",
    "AS", "ON", "JOIN", "INNER", "LEFT", "OUTER", "AND", "OR", "NOT",
    "IN", "LIKE", "BETWEEN", "IS", "NULL", "EXISTS", "UNION", "ALL", "INTERSECT",
    "EXCEPT", "ASC", "DESC",
)
# fmt: on


def grammar(schema: Schema) -> str:
    """A grammar, for :func:`sentax.lark`, of the queries over a database's tables and columns.

    What it derives: SELECT statements that end with a semicolon, with joins, subqueries in FROM and in
    conditions, set operations, grouping, ordering, limits, the five aggregates of the SQL standard and
    arithmetic; tables by their names or as `T1` to `T9`; names in upper or lower case; white space of at most
    four characters, so that a model cannot go on with it for ever. What it leaves to others: that a column
    belongs to a table in scope (except in `table.column`), and that an alias was given.

    It is Spider's subset of SQLite's language, so a conditioned model never renames a result (`AS total`) or
    calls another function.

    :raises ValueError: if the schema has no columns.

    >>> import sentax as sx
    >>> from sentax.domains.text_to_sql import TextToSQL
    >>> school = TextToSQL().sample()[0].database.schema
    >>> queries = sx.lark(grammar(school))
    >>> queries.matches("SELECT name FROM students WHERE age > 20;")
    True
    >>> queries.matches("SELECT surname FROM students;")
    False
    """
    tables = [table for table in schema.tables if table.columns]
    if not tables:
        raise ValueError(f"database {schema.id!r} has no columns")
    table_names = [_spellings(table.name) for table in tables]
    owned = [
        f"({name})\\.({_either(column.name for column in table.columns)})"
        for name, table in zip(table_names, tables)
    ]
    every = dict.fromkeys(column.name.lower() for table in tables for column in table.columns)
    names = f"TABLE: /{'|'.join(table_names)}/i\nCOLUMN: /{_either(every)}/i\nOWNED: /{'|'.join(owned)}/i\n"
    return _RULES + "".join(f'{word}: "{word}"i\n' for word in _KEYWORDS) + names


def _either(names: Iterable[str]) -> str:
    return "|".join(_spellings(name) for name in names)


def _spellings(name: str) -> str:
    """How a query may write a name, as a regular expression: odd ones and keywords stand in quotes."""
    escaped = re.sub(r"([^\w ])", r"\\\1", name)
    if re.fullmatch(r"[A-Za-z_]\w*", name) and name.upper() not in _KEYWORDS:
        return escaped
    return f'"{escaped}"|`{escaped}`'


__all__ = ["grammar"]
