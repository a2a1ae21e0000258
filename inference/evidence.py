"""Error bars of an evidence estimate."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np


class EvidenceError(NamedTuple):
    """The standard error of a log-evidence, by the delta method: that of the evidence over the evidence.

    :param std: None where it cannot be told.
    :param source: where it comes from, or why there is none, in words.
    """

    std: float | None
    source: str


def log_mean_exp(log_weights: np.ndarray) -> float:
    """On the host and in double precision; `-inf` if all are."""
    peak = float(log_weights.max())
    if np.isneginf(peak):
        return peak
    return peak + float(np.log(np.mean(np.exp(log_weights.astype(np.float64) - peak))))


def error_between_runs(log_evidences: Any) -> EvidenceError:
    r"""Of the mean of R independent estimates: their sample standard deviation over :math:`\sqrt R`.

    :param log_evidences: `[R]`, R at least 2.

    >>> error_between_runs([0.0, 0.1, -0.1, 0.0]).source
    'between 4 runs'
    """
    log_evidences = np.asarray(log_evidences, np.float64)
    R = len(log_evidences)
    peak = log_evidences.max()
    if np.isneginf(peak):
        return EvidenceError(None, "every particle of every run died")
    scaled = np.exp(log_evidences - peak)
    return EvidenceError(float(scaled.std(ddof=1) / math.sqrt(R) / scaled.mean()), f"between {R} runs")


def error_within_run(
    log_weights: Any, origins: Any, num_resampled: int, *, multinomial: bool = False
) -> EvidenceError:
    r"""Of one run, from its genealogy: how the final weight is spread over the particles of the beginning.

    With :math:`S_j` the share of the final weight that descends from particle j of the beginning, the relative
    variance of the evidence estimate is estimated by

    .. math:: V = 1 - \Big(\frac{N}{N-1}\Big)^{n+1} \Big(1 - \sum_j S_j^2\Big)

    (Chan and Lai 2013; Lee and Whiteley 2018, theorem 1), where n is the number of multinomial resamplings:
    the factor takes back the lines that they would lose of equal weights. At fixed times :math:`\hat Z^2 V` is
    then an unbiased estimate of the variance of :math:`\hat Z`. Other resamplers lose fewer lines; n is 0 for
    them, which errs on the side of too large a variance. Without resampling V is the sample variance of the
    weights. Once all descend from one particle there is nothing left to estimate it from.

    :param log_weights: `[N]`, final; `origins`: `[N]`, the particle of the beginning that each descends from.
    :param num_resampled: how often the particles were resampled; `multinomial`: whether independently.

    >>> import numpy as np
    >>> log_weights = np.log([1.0, 2.0, 3.0, 2.0])
    >>> error = error_within_run(log_weights, np.arange(4), 0)
    >>> bool(np.isclose(error.std, np.std([1, 2, 3, 2], ddof=1) / 2 / 2))
    True
    """
    log_weights = np.asarray(log_weights, np.float64)
    origins = np.asarray(origins)
    N = len(log_weights)
    peak = log_weights.max()
    if np.isneginf(peak):
        return EvidenceError(None, "every particle died")
    if N == 1:
        return EvidenceError(None, "one particle has no spread")
    weights = np.exp(log_weights - peak)
    shares = np.bincount(origins, weights / weights.sum(), minlength=N)
    if num_resampled and np.count_nonzero(shares) == 1:
        return EvidenceError(None, "all descend from one particle; use several runs")
    exponent = 1 + (num_resampled if multinomial else 0)
    variance = 1.0 - (N / (N - 1)) ** exponent * (1.0 - float(shares @ shares))
    if variance < -1e-6:
        return EvidenceError(None, "too small for one run's genealogy to tell; use several runs")
    return EvidenceError(math.sqrt(max(variance, 0.0)), "within the run, by its genealogy")


__all__ = ["EvidenceError", "error_between_runs", "error_within_run", "log_mean_exp"]
