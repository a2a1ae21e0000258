"""How a generator draws: long-tailed choices from lists, and templates with named slots."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeVar

Item = TypeVar("Item")
Generator = Callable[[Random], str]
"""Makes one text of some kind from a seeded source of randomness."""

_SLOT = re.compile(r"\{(\w+)\}")


def listed(text: str, separator: str | None = None) -> list[str]:
    """The items of a text that names them in order, between white space unless a separator is given."""
    return text.split(separator)


def tail(rng: Random, items: Sequence[Item]) -> Item:
    """Draw an item with probability about proportional to the inverse of its rank.

    The logarithm of the rank is uniform, so every list has a head that a small model learns and a tail that
    it only half learns: a constraint on such a model has something to do.

    :param rng: source of randomness.
    :param items: candidates, the most probable first.
    """
    return items[int((len(items) + 1) ** rng.random()) - 1]


def fill(rng: Random, template: str, slots: Mapping[str, Sequence[str] | Generator]) -> str:
    """Replace each `{slot}` of a template, again inside what was put in, until no slot is left.

    :param rng: source of randomness.
    :param template: text with `{slot}` names.
    :param slots: for each name a list to draw from, or a generator.
    """

    def draw(match: re.Match[str]) -> str:
        source = slots[match.group(1)]
        return source(rng) if callable(source) else tail(rng, source)

    while _SLOT.search(template):
        template = _SLOT.sub(draw, template)
    return template


def chance(rng: Random, probability: float) -> bool:
    """True with the given probability."""
    return rng.random() < probability
