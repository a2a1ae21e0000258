"""Every course a rejection loop can take, with its probability: the whole tree of its random choices.

Written from the description of the algorithm, in float64, apart from the kernel. A choice is which of
the remaining outcomes is drawn next (proportionally to mass), and how often an accepted outcome comes
again before that (a geometric number). The kernel is then run on each course.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass
class Course:
    """One leaf: candidates in draw order, a coin after each of them, and the leaf's probability."""

    order: list[int]
    coins: list[float]
    probability: float
    accepts: int
    rejects: int
    kept: float


def courses(
    p: np.ndarray,
    accepted: np.ndarray,
    max_accepts: int,
    returns_accepted: bool,
    max_rejects: int | None = None,
) -> list[Course]:
    """All courses over the outcomes of positive mass."""
    leaves: list[Course] = []

    def after(order, coins, probability, remaining, pool, accepts, rejects, kept):
        """Draw the next candidate, or end for want of one."""
        mass = sum(p[i] for i in remaining)
        if not remaining:
            leaves.append(Course(order, coins, probability, accepts, rejects, kept))
            return
        for i in remaining:
            rest = [j for j in remaining if j != i]
            chance = probability * p[i] / mass
            if accepted[i]:
                new_kept = kept if accepts else mass + pool
                new_pool, n, r = pool + p[i], accepts + 1, rejects
            else:
                new_kept, new_pool, n, r = kept, pool, accepts, rejects + 1
            done = n >= max_accepts if returns_accepted else accepts > 0
            if done or (max_rejects is not None and r >= max_rejects):
                leaves.append(Course([*order, i], [*coins, 0.5], chance, n, r, new_kept))
                continue
            if not returns_accepted or n == 0:
                after([*order, i], [*coins, 0.5], chance, rest, new_pool, n, r, new_kept)
                continue
            left = sum(p[j] for j in rest)
            ratio = new_pool / (new_pool + left)
            for repeats in range(max_accepts - n):
                if left == 0:
                    break  # certain to come again, for ever
                exactly = ratio**repeats * (1 - ratio)
                coin = ratio ** (repeats + 0.5)
                after([*order, i], [*coins, coin], chance * exactly, rest, new_pool, n + repeats, r, new_kept)
            coin = 0.5 if left == 0 else ratio ** (max_accepts - n + 0.5)
            leaves.append(
                Course(
                    [*order, i], [*coins, coin], chance * ratio ** (max_accepts - n), max_accepts, r, new_kept
                )
            )

    after([], [], 1.0, [int(i) for i in np.flatnonzero(p > 0)], 0.0, 0, 0, 1.0)
    return leaves
