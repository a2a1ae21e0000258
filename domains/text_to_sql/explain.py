"""SQLite itself as the judge of a query: whether it can be prepared on the empty database."""

from __future__ import annotations

import re
import sqlite3
import threading
import weakref

from sentax.domains.text_to_sql.schema import Schema
from sentax.domains.text_to_sql.statements import Fault, StatementCheck
from sentax.domains.text_to_sql.worker import confine

_SYNTAX = re.compile(r"near .*: syntax error|incomplete input|unrecognized token")


class ExplainCheck(StatementCheck):
    """`EXPLAIN` on a database of the schema without rows: names, arity, aggregates, ambiguities, functions.

    Nothing is executed. The connection has no file, and its authorizer refuses all that is not a SELECT over
    the schema's tables (:func:`~sentax.domains.text_to_sql.worker.confine`).

    >>> from sentax.domains.text_to_sql import TextToSQL
    >>> check = ExplainCheck(TextToSQL().sample()[0].database.schema)
    >>> check.judge("SELECT name FROM students JOIN courses ON id = id").why
    'ambiguous column name: id'
    >>> check.judge("ATTACH 'x' AS y").why
    'not authorized'
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.schema = schema
        # Constraints are asked from whatever thread runs the program's callbacks.
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        self._connection.executescript(schema.ddl())
        confine(self._connection)

    def __reduce__(self) -> tuple:
        return type(self), (self.schema,)

    def judge(self, statement: str) -> Fault | None:
        try:
            with self._lock:
                self._connection.execute(f"EXPLAIN {statement}").close()
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            return Fault(str(error), in_names=not _SYNTAX.search(str(error)))
        return None


__all__ = ["ExplainCheck"]
