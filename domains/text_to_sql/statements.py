"""Which part of an unfinished query can be judged already, as a statement of its own.

Parsers answer for whole statements, and a query under way is none. But where a clause has ended, what stands
before it is: after `SELECT T1.name FROM students AS T1 WHERE` nothing can change what the tables are, so
`SELECT T1.name FROM students AS T1` is right or wrong for good.
"""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|\w+|[();,'\"`]")
_ENDS_FROM = {"WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION", "INTERSECT", "EXCEPT"}
_ENDS_TEST = {"AND", "OR"}


@dataclass
class _Level:
    """What stands in one pair of parentheses, or outside all.

    :param start: where its text begins.
    :param is_query: whether it holds a SELECT.
    :param in_from: whether the text so far ends in the FROM clause of that SELECT.
    :param in_on: whether it ends in the condition of a join.
    :param has_tables: whether all tables of that SELECT have been named.
    """

    start: int
    is_query: bool = False
    in_from: bool = False
    in_on: bool = False
    has_tables: bool = False


def settled(text: str) -> list[str]:
    """The beginnings of a query whose names can be judged now, completed to statements.

    :param text: a beginning of a SELECT statement.
    :return: statements, each of which is wrong (in its names, not in its syntax) only if every continuation of
        the text is; a longer text has the same and perhaps more. A subquery in a FROM clause stands for itself
        while that clause is open.

    >>> settled("SELECT name FROM students WHE")
    []
    >>> settled("SELECT name FROM students WHERE age > (SELECT avg(age) FROM students WHERE city")
    ['SELECT name FROM students', 'SELECT name FROM students WHERE age > (SELECT avg(age) FROM students)']
    """
    levels = [_Level(0)]
    found: list[str | None] = []
    for match in _TOKEN.finditer(text):
        token, word = match.group(), match.group().upper()
        if token in "'\"`":
            break  # inside a string that has not been closed
        level = levels[-1]
        if token == "(":
            levels.append(_Level(match.end()))
        elif token == ")":
            if len(levels) == 1:
                break
            inner = levels.pop()
            if inner.is_query and (inner.in_from or inner.has_tables):
                found.append(_statement(text, match.start(), [*levels, inner]))
        elif token == ";":
            if len(levels) == 1:
                found.append(text[: match.start()].strip())
            break
        elif match.end() == len(text):
            break  # the word may go on
        elif word == "SELECT":
            level.is_query, level.in_from, level.in_on, level.has_tables = True, False, False, False
        elif word == "FROM" and level.is_query:
            level.in_from = True
        elif level.in_from and word in ("ON", "JOIN"):
            level.in_on = word == "ON"
        elif level.in_from and token == ",":
            level.in_on = False
        elif word in _ENDS_FROM and level.is_query and (level.in_from or level.has_tables):
            level.in_from, level.in_on, level.has_tables = False, False, True
            found.append(_statement(text, match.start(), levels))
        elif word in _ENDS_TEST and _query(levels).has_tables:
            found.append(_statement(text, match.start(), levels))
    return [statement for statement in found if statement]


def _query(levels: list[_Level]) -> _Level:
    return next((level for level in reversed(levels) if level.is_query), levels[0])


def _statement(text: str, end: int, levels: list[_Level]) -> str | None:
    """What stands before `end`, with its parentheses closed; the innermost query's tables are known.

    None where the names of a query inside depend on tables that have not been named.
    """
    queries = [i for i, level in enumerate(levels) if level.is_query]
    if not queries:
        return None
    first = 0
    for outer in queries[:-1]:
        if levels[outer].has_tables:
            continue
        # A query in the FROM clause of the outermost one sees nothing of it, and stands for itself. Others
        # may refer to what follows.
        if outer != queries[0] or not levels[outer].in_from or levels[outer].in_on:
            return None
        first = outer + 1
    return text[levels[first].start : end].strip() + ")" * (len(levels) - 1 - first)


def finished(text: str) -> str | None:
    """The statement of a text that is one statement and its semicolon; None for other texts.

    >>> finished("SELECT ';' FROM t; ")
    "SELECT ';' FROM t"
    >>> finished("SELECT 1; SELECT 2;") is None
    True
    """
    end = _semicolon(text)
    return text[:end] if end is not None and not text[end + 1 :].strip() else None


def overrun(text: str) -> bool:
    """Whether something follows a text's first semicolon."""
    end = _semicolon(text)
    return end is not None and bool(text[end + 1 :].strip())


def _semicolon(text: str) -> int | None:
    for match in _TOKEN.finditer(text):
        if match.group() in "'\"`":
            return None
        if match.group() == ";":
            return match.start()
    return None


class Fault(NamedTuple):
    """What is wrong with a statement.

    :param in_names: whether it is wrong for good; what is wrong in its syntax, a continuation may mend.
    """

    why: str
    in_names: bool = True


class StatementCheck(ABC):
    """A judge of statements as the two functions that :func:`sentax.predicate` wants, of `str`.

    Subclasses say what is wrong with one statement; each statement is judged once.
    """

    def __init__(self) -> None:
        self._judged = functools.lru_cache(4096)(self.judge)

    @abstractmethod
    def judge(self, statement: str) -> Fault | None:
        """What is wrong with a statement without its semicolon; None if nothing."""

    def prefix_ok(self, text: str) -> bool:
        """Whether a beginning of a query may still become right: false only if no continuation is."""
        if overrun(text):
            return False
        faults = (self._judged(statement) for statement in settled(text))
        return not any(fault is not None and fault.in_names for fault in faults)

    def complete_ok(self, text: str) -> bool:
        """Whether a text is one right statement and its semicolon."""
        statement = finished(text)
        return statement is not None and self._judged(statement) is None


__all__ = ["Fault", "StatementCheck", "finished", "overrun", "settled"]
