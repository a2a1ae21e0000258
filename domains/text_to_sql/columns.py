"""Whether every column of a query belongs to a table in scope."""

from __future__ import annotations

from collections.abc import Iterator

from sentax.domains.text_to_sql.schema import Schema
from sentax.domains.text_to_sql.statements import Fault, StatementCheck

try:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
except ImportError as missing:  # pragma: no cover - exercised without the extra
    raise ImportError("text-to-SQL reads queries with sqlglot: pip install 'sentax[domains]'") from missing

_Columns = frozenset[str] | None
"""Names in lower case; None where they are not known."""


class ColumnCheck(StatementCheck):
    """The column/table check of Loula et al. (2025): tables exist, and columns are those of tables in scope.

    >>> from sentax.domains.text_to_sql import TextToSQL
    >>> check = ColumnCheck(TextToSQL().sample()[0].database.schema)
    >>> check.prefix_ok("SELECT mark FROM students ")  # a join may follow
    True
    >>> check.prefix_ok("SELECT mark FROM students WHERE ")
    False
    >>> check.judge("SELECT mark FROM students").why
    'no table in scope has a column mark'
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.schema = schema
        self._tables = {t.name.lower(): frozenset(c.name.lower() for c in t.columns) for t in schema.tables}

    def __reduce__(self) -> tuple:
        return type(self), (self.schema,)

    def judge(self, statement: str) -> Fault | None:
        tree = _parse(statement)
        if tree is None:
            return Fault("not a SELECT statement", in_names=False)
        for table in tree.find_all(exp.Table):
            if table.name.lower() not in self._tables:
                return Fault(f"no table {table.name}")
        for column in tree.find_all(exp.Column):
            if why := self._column_fault(column):
                return Fault(why)
        return None

    def _column_fault(self, column: exp.Column) -> str | None:
        select = column.find_ancestor(exp.Select, exp.SetOperation)
        if not isinstance(select, exp.Select):
            return None  # the ordering of a set operation is by its results
        name, owner = column.name.lower(), column.table.lower()
        outside = owned = False
        while isinstance(select, exp.Select):
            for alias, columns in self._sources(select):
                if owner and alias != owner:
                    continue
                owned = True
                if columns is None or name in columns or isinstance(column.this, exp.Star):
                    return None
            if not owner and not outside and name in _results(select):
                return None
            outside = True
            select = select.find_ancestor(exp.Select)
        if owner:
            if owned:
                return f"{column.table} has no column {column.name}"
            return f"no table {column.table} in scope"
        if column.this.args.get("quoted"):
            return None  # SQLite takes a name that names nothing for a string
        return f"no table in scope has a column {column.name}"

    def _sources(self, select: exp.Select) -> Iterator[tuple[str, _Columns]]:
        """What a SELECT draws from: names in scope, each with its columns."""
        clauses = [select.args.get("from_"), *(select.args.get("joins") or ())]
        for clause in clauses:
            source = None if clause is None else clause.this
            if isinstance(source, exp.Table):
                yield source.alias_or_name.lower(), self._tables.get(source.name.lower())
            elif isinstance(source, exp.Subquery):
                yield source.alias_or_name.lower(), self._derived(source.unnest())
            elif source is not None:  # pragma: no cover - not in the grammar
                yield source.alias_or_name.lower(), None

    def _derived(self, query: exp.Expr) -> _Columns:
        """The columns of a subquery: those of its first SELECT."""
        while isinstance(query, exp.SetOperation):
            query = query.this.unnest()
        if not isinstance(query, exp.Select) or query.is_star:
            return None
        return frozenset(query_name.lower() for query_name in query.named_selects)


def _results(select: exp.Select) -> set[str]:
    return {e.alias.lower() for e in select.expressions if isinstance(e, exp.Alias)}


def _parse(statement: str) -> exp.Query | None:
    try:
        trees = sqlglot.parse(statement, read="sqlite")
    except SqlglotError:
        return None
    return trees[0] if len(trees) == 1 and isinstance(trees[0], exp.Query) else None


__all__ = ["ColumnCheck"]
