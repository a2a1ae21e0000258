"""Independent draws of a program, made in batches and judged on the host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from sentax.inference.engine import SHARED, Population

EXCESS = 1e-4
"""How far (relative to 1 or the bound) a sum of float32 log-factors may exceed a bound by rounding alone."""


def on_host(population: Population) -> Any:
    """A :class:`Population` with NumPy leaves; what a kernel carried is left out."""
    return jax.device_get(population._replace(kernel_state=()))


def rows(populations: Sequence[Any], chosen: Sequence[np.ndarray]) -> Any:
    """Some particles of several batches of independent draws, one batch behind the other, on the host.

    What is shared by the particles of a batch (its steps, its trace of the effective sample size) is the
    last batch's.

    :param populations: on the host; `chosen`: of each the particles.
    """

    def join(*leaves: np.ndarray) -> np.ndarray:
        return np.concatenate([leaf[i] for leaf, i in zip(leaves, chosen, strict=True)])

    def field(name: str) -> Any:
        values = [getattr(population, name) for population in populations]
        return values[-1] if name in SHARED else jax.tree.map(join, *values)

    joined: Any = Population(**{name: field(name) for name in Population._fields})
    # A draw descends from itself, wherever it stood in its batch.
    place = np.arange(len(joined.log_weights), dtype=np.int32)
    return joined._replace(
        ancestors=tuple(np.repeat(place[:, None], a.shape[1], 1) for a in joined.ancestors),
        start=tuple(place for _ in joined.start),
        records=tuple(
            r._replace(parents=np.repeat(place[:, None], r.parents.shape[1], 1)) for r in joined.records
        ),
    )


def check_bound(log_factors: np.ndarray, log_bound: float, who: str) -> None:
    """Whether no draw's factors exceed their bound.

    :raises ValueError: if one does, since then rejection would cut the posterior off there.
    """
    worst = float(np.max(log_factors, initial=-np.inf))
    if worst > log_bound + EXCESS * (1.0 + abs(log_bound)):
        raise ValueError(
            f"{who}: a draw's log-factors sum to {worst:.6g}, above log_bound={log_bound:.6g}. A draw is "
            "accepted with probability exp(sum - log_bound), so the bound must hold for every text: give "
            f"{who}(..., log_bound=...) an upper bound on the sum of all log-factors"
        )


__all__ = ["check_bound", "on_host", "rows"]
