"""The process in which candidates run: SQLite behind every lock that it has. Standard library alone.

It reads requests from its standard input and answers on its standard output, each a line of JSON; see
:class:`~sentax.domains.text_to_sql.sandbox.Sandbox`, which ends it when a request takes too long.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from typing import Any
from urllib.parse import quote

# fmt: off
FUNCTIONS = frozenset((
    "abs", "avg", "coalesce", "count", "date", "datetime", "group_concat", "ifnull", "iif", "instr",
    "julianday", "length", "like", "lower", "ltrim", "max", "min", "nullif", "replace", "round",
    "rtrim", "strftime", "substr", "substring", "sum", "time", "total", "trim", "typeof", "unicode",
    "upper",
))
# fmt: on
"""Functions that a candidate may call: none reads a file, loads code, or makes much of little."""

_LIMITS = {
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
_STEP = 1000
_SQLITE_RECURSIVE = 33
"""The authorizer's code for a recursive SELECT, which Python's module does not name."""


def confine(connection: sqlite3.Connection) -> None:
    """Lets a connection do nothing but SELECT, from its own tables and with harmless functions.

    Refused are writes, ATTACH, PRAGMA, transactions, and functions outside :data:`FUNCTIONS` (`load_extension`,
    `randomblob`, `zeroblob`, `writefile`, ...); strings over a million bytes fail. Recursion is allowed: what
    bounds it is the count of instructions.
    """
    connection.execute("PRAGMA temp_store = MEMORY")  # what is sorted goes to no file
    connection.execute("PRAGMA query_only = ON")
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    connection.set_authorizer(_authorize)


def _authorize(action: int, table: str | None, name: str | None, database: str | None, _: str | None) -> int:
    if action in (sqlite3.SQLITE_SELECT, _SQLITE_RECURSIVE):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_READ and database in ("main", None, ""):
        # SQLite's own tables say nothing about the data.
        return sqlite3.SQLITE_DENY if (table or "").lower().startswith("sqlite_") else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and name is not None and name.lower() in FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def connect(database: dict[str, Any]) -> sqlite3.Connection:
    """A confined connection to a file, read-only, or to a script's database in memory."""
    if database["file"] is not None:
        # Immutable: no lock or journal file is looked for beside it.
        uri = f"file:{quote(database['file'])}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    else:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        connection.executescript(database["script"])
    connection.text_factory = lambda raw: raw.decode(errors="ignore")  # as Spider's evaluation reads it
    confine(connection)
    return connection


def run(connection: sqlite3.Connection, sql: str, instructions: int, max_rows: int) -> list[list[Any]]:
    """The rows of one query.

    :raises sqlite3.Error, MemoryError, ValueError: why there are none.
    """
    left = [instructions // _STEP]

    def tick() -> bool:
        left[0] -= 1
        return left[0] < 0

    connection.set_progress_handler(tick, _STEP)
    cursor = connection.execute(sql)
    try:
        if cursor.description is None:
            raise ValueError("not a query")
        rows = cursor.fetchmany(max_rows + 1)
    finally:
        cursor.close()
    if len(rows) > max_rows:
        raise ValueError(f"more than {max_rows} rows")
    return [[{"bytes": v.hex()} if isinstance(v, bytes) else v for v in row] for row in rows]


def _restrict(memory: int) -> None:
    """No more memory than this, and no file written, whatever SQLite is made to do (where the system can)."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return
    for limit, value in (
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_AS, memory),  # macOS refuses this one
    ):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (value, value))


def main() -> None:
    """Answers requests until the input ends."""
    _restrict(int(sys.argv[1]))
    connections: dict[str, sqlite3.Connection] = {}
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            key = json.dumps(request["database"])
            if key not in connections:
                while len(connections) >= 8:
                    connections.pop(next(iter(connections))).close()
                connections[key] = connect(request["database"])
        except (sqlite3.Error, OSError) as error:
            answer = {"broken": str(error)}
        else:
            try:
                rows = run(connections[key], request["sql"], request["instructions"], request["max_rows"])
                answer = {"rows": rows}
            except (sqlite3.Error, sqlite3.Warning, MemoryError, ValueError, OverflowError) as error:
                answer = {"refused": str(error) or type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
