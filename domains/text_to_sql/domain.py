"""Questions about databases, answered in SQL."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import ClassVar

from sentax.domains.base import Domain, Message
from sentax.domains.text_to_sql.columns import ColumnCheck
from sentax.domains.text_to_sql.data import SAMPLE, Question, read
from sentax.domains.text_to_sql.explain import ExplainCheck
from sentax.domains.text_to_sql.grammar import grammar
from sentax.domains.text_to_sql.match import same_result
from sentax.domains.text_to_sql.sandbox import Database, QueryRefused, Row, Sandbox
from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.grammar import lark
from sentax.ppl.constraints.predicate import predicate

_SYSTEM = (
    "You answer questions about a database with one SQLite query. You write the query in one line, end it with "
    "a semicolon, and write nothing else."
)


class TextToSQL(Domain[Question]):
    """Spider (Yu et al. 2018, arXiv 1809.08887) as Loula et al. (2025) and Lipkin et al. (2025) use it.

    :param sandbox: where queries run; by default one process with the limits of
        :class:`~sentax.domains.text_to_sql.sandbox.Sandbox`.

    >>> domain = TextToSQL()
    >>> question = domain.sample()[0]
    >>> print(domain.prompt(question)[-61:])
    Question: How many students are there with age above 20?
    SQL:
    >>> domain.score(question, " SELECT COUNT(id) FROM students WHERE NOT (age <= 20);")
    1.0
    >>> domain.score(question, " SELECT COUNT(*) FROM students;")
    0.0
    >>> domain.score(question, " DROP TABLE students;")
    0.0
    """

    name: ClassVar[str] = "text_to_sql"
    max_tokens: ClassVar[int] = 100
    stop: ClassVar[str | None] = "\n"

    def __init__(self, sandbox: Sandbox | None = None) -> None:
        self.sandbox = Sandbox() if sandbox is None else sandbox
        self._gold = functools.lru_cache(4096)(self._run_gold)

    def __reduce__(self) -> tuple:
        return type(self), (self.sandbox,)

    def load(self, directory: str | Path) -> list[Question]:
        """Spider's development questions; see :func:`~sentax.domains.text_to_sql.data.read` for the layout."""
        return read(directory)

    def sample(self) -> list[Question]:
        """Twenty questions about three small databases, in words that the embedded model knows."""
        return read(SAMPLE)

    def prompt(self, instance: Question) -> str:
        """Examples, then the question: each schema (:meth:`Schema.card`) before the first question about it."""
        lines: list[str] = []
        schema = None
        for shot in instance.shots:
            if shot.schema != schema:
                lines += [*([""] if lines else []), shot.schema.card()]
                schema = shot.schema
            lines += [f"Question: {shot.question}", f"SQL: {shot.query}"]
        if instance.database.schema != schema:
            lines += [*([""] if lines else []), instance.database.schema.card()]
        return "\n".join([*lines, f"Question: {instance.question}", "SQL:"])

    def chat(self, instance: Question) -> list[Message]:
        """An instruction, then the examples as turns, then the question."""
        messages = [{"role": "system", "content": _SYSTEM}]
        for shot in instance.shots:
            messages.append({"role": "user", "content": f"{shot.schema.card()}\n\n{shot.question}"})
            messages.append({"role": "assistant", "content": shot.query})
        content = f"{instance.database.schema.card()}\n\n{instance.question}"
        return [*messages, {"role": "user", "content": content}]

    def cheap(self, instance: Question) -> Constraint:
        """Queries over the database's names, see :func:`~sentax.domains.text_to_sql.grammar.grammar`."""
        return lark(grammar(instance.database.schema))

    def columns(self, instance: Question) -> Constraint:
        """Columns belong to tables in scope, see :class:`~sentax.domains.text_to_sql.columns.ColumnCheck`."""
        check = ColumnCheck(instance.database.schema)
        return predicate(check.prefix_ok, check.complete_ok, text="str")

    def dear(self, instance: Question) -> Constraint:
        """SQLite can prepare the query, see :class:`~sentax.domains.text_to_sql.explain.ExplainCheck`."""
        check = ExplainCheck(instance.database.schema)
        return predicate(check.prefix_ok, check.complete_ok, text="str")

    def score(self, instance: Question, answer: str) -> float:
        """1 if the answer's result on the database is the gold query's, else 0.

        See :func:`~sentax.domains.text_to_sql.match.same_result`; order matters where the gold query asks for
        one. DISTINCT counts (Spider's test suite leaves it out unless told to keep it).

        :raises ValueError: if the gold query itself has no result.
        """
        gold = self._gold(instance.database, instance.query)
        try:
            rows = self.sandbox.run(instance.database, answer.strip())
        except QueryRefused:
            return 0.0
        return float(same_result(gold, rows, ordered="order by" in instance.query.lower()))

    def gold(self, instance: Question) -> str:
        """The gold query, after the space that follows `SQL:`."""
        return f" {instance.query}"

    def _run_gold(self, database: Database, query: str) -> list[Row]:
        try:
            return self.sandbox.run(database, query)
        except QueryRefused as error:
            raise ValueError(f"{database.schema.id}: the gold query {query!r} has no result: {error}") from None


__all__ = ["TextToSQL"]
