"""Tasks with data, prompts, constraints and scores, all of one form: see :class:`~sentax.domains.base.Domain`.

>>> import sentax.domains
>>> domain = sentax.domains.get("goal_inference")
>>> instance = domain.sample()[0]
>>> domain.score(instance, domain.gold(instance))
1.0
"""

from __future__ import annotations

import importlib
from typing import Any

from sentax.domains.base import Domain, Instance, check_answers, expected_score

DOMAINS = {
    "text_to_sql": "TextToSQL",
    "goal_inference": "GoalInference",
    "molecules": "Molecules",
    "patterns": "Patterns",
    "json_schema": "JSONSchema",
}
"""The class of each domain; it lies in the package of the domain's name, which is imported when asked for."""


def get(name: str) -> Domain[Any]:
    """A domain by name.

    :raises ValueError: if there is none of that name.
    """
    if name not in DOMAINS:
        raise ValueError(f"no domain {name!r}; there are: {', '.join(sorted(DOMAINS))}")
    return getattr(importlib.import_module(f"{__name__}.{name}"), DOMAINS[name])()


__all__ = ["DOMAINS", "Domain", "Instance", "check_answers", "expected_score", "get"]
