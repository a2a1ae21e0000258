"""Bootstrap intervals of a mean over instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

DRAWS = 10_000
LEVEL = 0.95
_CHUNK = 1 << 20  # indices at a time


def bootstrap_means(
    values: Sequence[float] | Float[np.ndarray, " n"], *, draws: int = DRAWS, seed: int = 0
) -> Float[np.ndarray, " draws"]:
    """Means of samples of n values drawn from n values with replacement (Efron 1979).

    Which values are drawn depends on the seed and on n alone: with the same seed, methods on the same
    instances are resampled together.

    :param values: `[n]`.
    :raises ValueError: if there are none, or one is not finite.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"values must be a list of finite numbers, at least one; got shape {values.shape}")
    rng = np.random.default_rng(seed)
    n = len(values)
    rows = max(1, _CHUNK // n)
    return np.concatenate(
        [
            values[rng.integers(0, n, (min(rows, draws - start), n))].mean(axis=1)
            for start in range(0, draws, rows)
        ]
    )


def bootstrap_interval(
    values: Sequence[float] | Float[np.ndarray, " n"],
    *,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile interval of the mean (Efron and Tibshirani 1993, section 13.3).

    :param values: `[n]`, independent; at least two, as one says nothing of how values vary.
    :raises ValueError: for fewer.

    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least two values, got {len(values)}")
    tail = (1 - level) / 2
    low, high = np.quantile(bootstrap_means(values, draws=draws, seed=seed), (tail, 1 - tail))
    return float(low), float(high)


__all__ = ["DRAWS", "LEVEL", "bootstrap_interval", "bootstrap_means"]
