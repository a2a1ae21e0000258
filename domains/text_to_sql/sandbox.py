"""Running a candidate without letting it do anything but answer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentax.domains.text_to_sql import worker
from sentax.domains.text_to_sql.schema import Schema

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Database:
    """A schema with rows: an SQLite file, or a script that makes it.

    :param file: an SQLite database; or
    :param script: SQL statements, trusted, that create tables and fill them.
    :param invented: whether the rows are not the data set's own, but of
        :func:`~sentax.domains.text_to_sql.rows.invent`.
    """

    schema: Schema
    file: Path | None = None
    script: str | None = None
    invented: bool = False

    def __post_init__(self) -> None:
        if (self.file is None) == (self.script is None):
            raise ValueError("a database is a file or a script, one of them")


class QueryRefused(Exception):
    """A query has no result: it is wrong, forbidden, or too dear. The message says which."""


class Sandbox:
    """Runs queries in a process of its own, one at a time.

    Inside it SQLite opens files read-only, and an authorizer lets nothing through but SELECT, columns and
    harmless functions (:func:`~sentax.domains.text_to_sql.worker.confine`); instructions, rows and the lengths
    of strings are counted. Around it the operating system bounds memory and forbids to write files (on POSIX),
    and after `time_limit` the process is ended and a new one takes its place.

    :param time_limit: seconds for one query.
    :param instructions: steps of SQLite's virtual machine for one query; twenty million take about a second.
    :param max_rows: the most rows of a result.
    :param memory: bytes of address space of the process.

    >>> from sentax.domains.text_to_sql import TextToSQL
    >>> with Sandbox() as sandbox:
    ...     database = TextToSQL().sample()[0].database
    ...     print(sandbox.run(database, "SELECT COUNT(*) FROM courses"))
    ...     sandbox.run(database, "DELETE FROM courses")
    Traceback (most recent call last):
    sentax.domains.text_to_sql.sandbox.QueryRefused: not authorized
    """

    def __init__(
        self,
        time_limit: float = 5.0,
        instructions: int = 20_000_000,
        max_rows: int = 100_000,
        memory: int = 512 << 20,
    ) -> None:
        self.time_limit = time_limit
        self.instructions = instructions
        self.max_rows = max_rows
        self.memory = memory
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._end: weakref.finalize | None = None

    def __reduce__(self) -> tuple:
        # A copy in another process has a process of its own.
        return type(self), (self.time_limit, self.instructions, self.max_rows, self.memory)

    def run(self, database: Database, sql: str) -> list[Row]:
        """The rows of one SELECT statement.

        :raises QueryRefused: if there are none to be had.
        :raises ValueError: if the database itself cannot be opened.
        """
        request = {
            "database": {
                "file": None if database.file is None else str(database.file.resolve()),
                "script": database.script,
            },
            "sql": sql,
            "instructions": self.instructions,
            "max_rows": self.max_rows,
        }
        with self._lock:
            answer = self._ask(json.dumps(request))
        if "broken" in answer:
            raise ValueError(f"database {database.schema.id!r} cannot be opened: {answer['broken']}")
        if "refused" in answer:
            raise QueryRefused(answer["refused"])
        return [
            tuple(bytes.fromhex(v["bytes"]) if isinstance(v, dict) else v for v in row)
            for row in answer["rows"]
        ]

    def _ask(self, request: str) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None and process.stdout is not None
        timer = threading.Timer(self.time_limit, process.kill)
        timer.start()
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
            timer.join()
        if line.endswith("\n"):
            return json.loads(line)
        code = process.wait()
        self.close()
        return {"refused": f"ended after at most {self.time_limit:g} s (exit status {code})"}

    def _running(self) -> subprocess.Popen[str]:
        """The process; a new one after the first call, and after one that had to be ended."""
        if self._process is not None and self._process.poll() is not None:
            self.close()
        if self._process is None:
            # Isolated and without site-packages: it starts in some 20 ms and imports nothing of the user's.
            command = [sys.executable, "-I", "-S", worker.__file__, str(self.memory)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
            self._end = weakref.finalize(self, _end, self._process)
        return self._process

    def close(self) -> None:
        """Ends the process; the next :meth:`run` starts another."""
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


__all__ = ["Database", "QueryRefused", "Row", "Sandbox"]
