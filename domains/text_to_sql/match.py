"""Whether two results are the same answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sentax.domains.text_to_sql.sandbox import Row


def same_result(gold: Sequence[Row], other: Sequence[Row], *, ordered: bool) -> bool:
    """Execution match as in Spider's test suite (Zhong, Yu and Klein 2020, arXiv 2010.02840).

    Two results are the same if some order of the second one's columns gives the first one's rows, with as many
    of each; in the same order, where order was asked for. Two empty results are the same.

    :param gold, other: rows; numbers are compared as numbers (`1 == 1.0`).
    :param ordered: whether the order of the rows matters: whether the gold query has an ORDER BY.

    >>> same_result([("Ada", 3), ("Bo", 2)], [(2, "Bo"), (3, "Ada")], ordered=False)
    True
    >>> same_result([("Ada", 3), ("Bo", 2)], [(2, "Bo"), (3, "Ada")], ordered=True)
    False
    """
    if len(gold) != len(other):
        return False
    if not gold:
        return True
    width = len(gold[0])
    if len(other[0]) != width:
        return False

    def same(rows: list[Row], others: list[Row]) -> bool:
        return rows == others if ordered else Counter(rows) == Counter(others)

    # Columns are assigned from the left, each to one with the same values; what does not agree on the first
    # ones is given up with all that follows, and of equal columns one is tried.
    columns = list(zip(*other))
    fits = [
        [c for c, column in enumerate(columns) if same(list(zip(wanted)), list(zip(column)))]
        for wanted in zip(*gold)
    ]
    if not all(fits):
        return False

    def assign(chosen: tuple[int, ...]) -> bool:
        rows = [row[: len(chosen)] for row in gold]
        if not same(rows, [tuple(row[c] for c in chosen) for row in other]):
            return False
        if len(chosen) == width:
            return True
        free = {columns[c]: c for c in fits[len(chosen)] if c not in chosen}
        return any(assign((*chosen, c)) for c in free.values())

    return assign(())


__all__ = ["same_result"]
