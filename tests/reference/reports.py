"""Reports of evaluations, to be compared."""

from __future__ import annotations

from typing import Any

from sentax.evaluation import Report


def same(report: Report) -> dict[str, Any]:
    """All of a report that must be equal in every evaluation with the same settings."""
    plain = report.as_dict()
    for domain in plain["domains"].values():
        for method in domain["methods"].values():
            del method["times"]
    return plain
