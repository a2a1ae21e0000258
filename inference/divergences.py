"""How far an estimated posterior is from a reference that can be enumerated."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Divergences:
    r"""Distances between an estimate q and a reference p over the same values, in nats.

    :param total_variation: :math:`\tfrac12 \sum |q - p|`, between 0 and 1.
    :param kl: :math:`\sum q \log (q / p)`: infinite where q has a value that p has not.
    :param reverse_kl: :math:`\sum p \log (p / q)`: infinite where q lacks a value of p, as a small sample does.
    :param chi_square: :math:`\sum (q - p)^2 / p`: infinite where `kl` is.
    :param jensen_shannon: the mean of both divergences to the midpoint, between 0 and log 2.
    """

    total_variation: float
    kl: float
    reverse_kl: float
    chi_square: float
    jensen_shannon: float


def divergences(estimate: Mapping[Hashable, float], reference: Mapping[Hashable, float]) -> Divergences:
    """Compares two tables of probabilities.

    :param estimate: value -> probability, such as :meth:`~sentax.inference.results.Results.posterior` gives;
        `reference`: the exact table. Neither needs to be normalised; a value that is missing has probability 0.
    :raises ValueError: for a probability that is negative, NaN or infinite, or a table that sums to 0.
    :raises TypeError: if the tables' keys are of different types, so that no two of them could be equal.

    >>> d = divergences({"a": 0.5, "b": 0.5}, {"a": 3, "b": 1})
    >>> round(d.total_variation, 4), round(d.kl, 4), round(d.chi_square, 4)
    (0.25, 0.1438, 0.3333)
    >>> divergences({"a": 1.0}, {"a": 0.5, "b": 0.5}).reverse_kl
    inf
    """
    values = list({**estimate, **reference})
    q, p = _table(estimate, values, "estimate"), _table(reference, values, "reference")
    kinds = [{type(value).__name__ for value in table} for table in (estimate, reference)]
    if not kinds[0] & kinds[1] and not set(estimate) & set(reference):
        raise TypeError(
            f"the estimate's values are of type {', '.join(sorted(kinds[0]))}, the reference's of type "
            f"{', '.join(sorted(kinds[1]))}: no two can be equal (texts are str, sites of a scan are tuples)"
        )
    middle = 0.5 * (q + p)
    with np.errstate(divide="ignore"):
        chi_square = float(np.sum(np.divide((q - p) ** 2, p, out=np.where(q > 0, np.inf, 0.0), where=p > 0)))
    return Divergences(
        total_variation=float(0.5 * np.abs(q - p).sum()),
        kl=_kl(q, p),
        reverse_kl=_kl(p, q),
        chi_square=chi_square,
        jensen_shannon=0.5 * (_kl(q, middle) + _kl(p, middle)),
    )


def _table(table: Mapping[Hashable, float], values: list[Hashable], name: str) -> np.ndarray:
    for value, probability in table.items():
        if not (np.isfinite(probability) and probability >= 0):
            raise ValueError(f"the {name} gives {value!r} the probability {probability!r}")
    weights = np.array([float(table.get(value, 0.0)) for value in values])
    if not weights.sum() > 0:
        raise ValueError(f"the {name} has no value of positive probability")
    return weights / weights.sum()


def _kl(q: np.ndarray, p: np.ndarray) -> float:
    some = q > 0
    if (p[some] == 0).any():
        return float("inf")
    # Rounding may leave a sum a little under zero, which no divergence is.
    return max(float(np.sum(q[some] * np.log(q[some] / p[some]))), 0.0)


__all__ = ["Divergences", "divergences"]
