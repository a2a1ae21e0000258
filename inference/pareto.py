"""How heavy the tail of the weights is: the Pareto shape of Pareto-smoothed importance sampling."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

SMALLEST_TAIL = 5
_PRIOR_DRAWS = 10  # The shape's prior is worth ten draws ...
_PRIOR_K = 0.5  # ... at one half, where the variance of the weights ceases to be finite.


class ParetoShape(NamedTuple):
    r"""The shape :math:`\hat k` of a generalised Pareto distribution fitted to the largest weights.

    Weights with shape k have finite moments up to 1/k: an estimate made of them converges at the usual rate for
    k < 1/2, slowly up to 0.7, and not in practice above.

    :param k: the shape; None where it cannot be told: fewer than 25 weights, or too many of them equal.
    :param limit: :math:`\min(1 - 1 / \log_{10} N, 0.7)`: above it, N weights are too few for a shape of k.
    :param reading: what that means, in words.
    """

    k: float | None
    limit: float
    reading: str


def pareto_shape(log_weights: Any) -> ParetoShape:
    r"""Whether an average with these importance weights can be relied on.

    A generalised Pareto distribution is fitted to the largest :math:`\lfloor \min(N/5, 3 \sqrt N) \rfloor`
    weights by the empirical Bayes estimate of Zhang and Stephens (2009), with the weak prior on k of Vehtari et
    al. (2024, section 3.2 and appendix G), whose reading it is. It speaks of the weights it is given: those of
    a particle filter since its last resampling.

    :param log_weights: `[N]`, unnormalised; `-inf` is a weight of 0.
    :raises ValueError: for NaN or `+inf`, or another shape.

    >>> import numpy as np
    >>> quantiles = (np.arange(1000) + 0.5) / 1000
    >>> shape = pareto_shape(-0.2 * np.log1p(-quantiles))  # Pareto weights with k = 0.2
    >>> round(shape.k, 1), shape.reading
    (0.2, 'good')
    >>> pareto_shape(-1.5 * np.log1p(-quantiles)).reading
    'unreliable: a few weights carry the result, and more particles hardly help'
    """
    log_weights = np.asarray(log_weights, np.float64)
    if log_weights.ndim != 1 or not len(log_weights):
        raise ValueError(f"log_weights must have shape [N], got {list(log_weights.shape)}")
    if np.isnan(log_weights).any() or np.isposinf(log_weights).any():
        raise ValueError("log_weights must be finite or -inf")
    N = len(log_weights)
    limit = min(1.0 - 1.0 / math.log10(N), 0.7) if N > 10 else 0.0
    tail = int(min(N / 5, 3 * math.sqrt(N)))
    if np.isneginf(log_weights).all():
        return ParetoShape(None, limit, "every weight is zero")
    if np.ptp(log_weights) == 0:
        return ParetoShape(None, limit, "the weights are equal")
    if tail < SMALLEST_TAIL:
        return ParetoShape(None, limit, f"cannot be told from fewer than {5 * SMALLEST_TAIL} particles")
    weights = np.sort(np.exp(log_weights - log_weights.max()))
    exceedances = weights[-tail:] - weights[-tail - 1]
    if exceedances[_quartile(tail)] <= 0:
        return ParetoShape(None, limit, "cannot be told: too many of the largest weights are equal")
    k = _shape(exceedances)
    if k < limit:
        return ParetoShape(k, limit, "good")
    if k < 0.7:
        return ParetoShape(k, limit, "too few particles for weights as uneven as these")
    return ParetoShape(k, limit, "unreliable: a few weights carry the result, and more particles hardly help")


def _quartile(n: int) -> int:
    return int(n / 4 + 0.5) - 1


def _shape(x: np.ndarray) -> float:
    """The shape of ordered exceedances: Zhang and Stephens (2009), equations 6 to 9, k of the other sign."""
    n = len(x)
    candidates = 30 + int(math.sqrt(n))
    grid = 1.0 - np.sqrt(candidates / (np.arange(1, candidates + 1) - 0.5))
    theta = 1.0 / x[-1] + grid / (3.0 * x[_quartile(n)])
    k = np.log1p(-theta[:, None] * x).mean(1)
    log_profile = n * (np.log(-theta / k) - k - 1.0)
    posterior = np.exp(log_profile - log_profile.max())
    mean = float(theta @ (posterior / posterior.sum()))
    fitted = float(np.log1p(-mean * x).mean())
    return (n * fitted + _PRIOR_DRAWS * _PRIOR_K) / (n + _PRIOR_DRAWS)


__all__ = ["ParetoShape", "pareto_shape"]
