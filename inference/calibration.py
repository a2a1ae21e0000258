"""Simulation-based calibration: whether a posterior is what it claims to be, over the prior."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax import random

Simulate = Callable[[Any], tuple[Mapping[str, Any], Any]]
Infer = Callable[[Any, Any], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The ranks of true values among posterior draws; uniform if inference is right.

    :param ranks: by quantity, `[S]`: how many of the `num_draws` posterior draws are smaller than the truth,
        from 0 to `num_draws`; ties are broken at random.
    :param positions: by quantity, `[S]`: the rank with a uniform number added, over `num_draws + 1`: uniform
        between 0 and 1.
    """

    ranks: dict[str, np.ndarray]
    positions: dict[str, np.ndarray]
    num_draws: int

    @property
    def p_values(self) -> dict[str, float]:
        """By quantity, of the hypothesis that its ranks are uniform.

        Two exact Kolmogorov-Smirnov tests, the smaller p-value twice: one of the positions (a biased
        posterior), one of their distance from the middle (one too narrow, whose ranks pile up at both ends, or
        too wide).
        """
        return {
            name: min(1.0, 2.0 * min(_uniform(u), _uniform(np.abs(2.0 * u - 1.0))))
            for name, u in self.positions.items()
        }

    def is_uniform(self, false_alarm: float = 1e-3) -> bool:
        """Whether no quantity's ranks are found not to be uniform.

        :param false_alarm: the probability, at most, that correct inference is found wrong, over all quantities
            (Bonferroni).
        """
        return min(self.p_values.values()) >= false_alarm / len(self.ranks)


def calibrate(
    rng_key: jax.Array, simulate: Simulate, infer: Infer, *, num_simulations: int = 200
) -> Calibration:
    r"""Simulation-based calibration (Talts et al. 2018, algorithm 1).

    If a truth is drawn from the prior and data from the truth, then the truth and L independent draws from the
    posterior given the data are exchangeable: the truth's rank among them is uniform on 0, ..., L.

    The draws of one run of a particle filter are neither exact nor independent: their ranks become uniform as
    its particles become many, and pile up at the ends where there are too few. The states of a Markov chain
    must be far apart. Samplers that are exact (whole-sequence rejection) pass as they are.

    :param simulate: `rng_key -> (truth, data)`: a dict of quantities drawn from the prior, and data given
        them. A quantity is a number, or an array whose elements are ranked one by one.
    :param infer: `(rng_key, data) -> draws`: for each of those quantities `[L, ...]`, equal-weight draws from
        its posterior.
    :param num_simulations: S; each runs `infer` once.
    :raises ValueError: if the draws lack a quantity or have another shape, or any value is NaN.

    >>> import jax, numpy as np
    >>> def simulate(rng_key):
    ...     truth, noise = jax.random.normal(rng_key, (2,))
    ...     return {"mean": truth}, truth + noise
    >>> def infer(rng_key, seen):  # the exact posterior
    ...     return {"mean": seen / 2 + jax.random.normal(rng_key, (19,)) / np.sqrt(2)}
    >>> calibration = calibrate(jax.random.key(0), simulate, infer, num_simulations=100)
    >>> calibration.is_uniform()
    True
    >>> def infer(rng_key, seen):  # too sure of itself
    ...     return {"mean": seen / 2 + jax.random.normal(rng_key, (19,)) / 4}
    >>> calibrate(jax.random.key(0), simulate, infer, num_simulations=100).is_uniform()
    False
    """
    if num_simulations < 1:
        raise ValueError(f"num_simulations must be at least 1, got {num_simulations}")
    ranks: dict[str, list[int]] = {}
    lengths: set[int] = set()
    rng = np.random.default_rng(np.asarray(random.bits(random.fold_in(rng_key, num_simulations), (4,))))
    for key in random.split(rng_key, num_simulations):
        key_truth, key_infer = random.split(key)
        truth, data = simulate(key_truth)
        draws = infer(key_infer, data)
        for name, value in truth.items():
            for label, rank, length in _ranks(name, np.asarray(value), draws, rng):
                ranks.setdefault(label, []).append(rank)
                lengths.add(length)
    if len(lengths) != 1:
        raise ValueError(f"every simulation must give the same number of draws, got {sorted(lengths)}")
    (L,) = lengths
    arrays = {name: np.array(values) for name, values in ranks.items()}
    positions = {name: (values + rng.random(len(values))) / (L + 1) for name, values in arrays.items()}
    return Calibration(arrays, positions, L)


def _ranks(
    name: str, truth: np.ndarray, draws: Mapping[str, Any], rng: np.random.Generator
) -> list[tuple[str, int, int]]:
    """Of each element of a quantity: its label, rank, and the number of draws."""
    if name not in draws:
        raise ValueError(f"infer gave no draws of {name!r}; it gave: {', '.join(sorted(draws)) or 'nothing'}")
    sample = np.asarray(draws[name])
    if sample.ndim != truth.ndim + 1 or sample.shape[1:] != truth.shape or not len(sample):
        raise ValueError(
            f"the draws of {name!r} must have shape [L, {', '.join(map(str, truth.shape))}], "
            f"got {list(sample.shape)}"
        )
    if np.isnan(truth).any() or np.isnan(sample).any():
        raise ValueError(f"{name!r} is NaN in a simulation or in its draws")
    found = []
    for index in np.ndindex(truth.shape):
        column = sample[:, *index]
        ties = int((column == truth[index]).sum())
        rank = int((column < truth[index]).sum()) + int(rng.integers(ties + 1))
        found.append((name + "".join(f"[{i}]" for i in index), rank, len(sample)))
    return found


def _uniform(u: np.ndarray) -> float:
    from scipy import stats  # slow to import

    return float(stats.kstest(u, "uniform", method="exact").pvalue)


__all__ = ["Calibration", "calibrate"]
