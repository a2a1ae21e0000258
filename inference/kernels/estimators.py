r"""How a rejection loop's course is turned into a weight.

A loop draws outcomes from the not yet rejected ones; accepted outcomes go back (except for
:class:`Recursive`), rejected ones do not. Let :math:`K_i` be the mass not rejected before the
`i`-th draw (*kept*) and :math:`R_i` the mass rejected; both are carried, :math:`K_i` summed afresh
from what is left, since :math:`1 - \sum` of what was rejected loses every accepted mass under 1e-7.
The mean of each weight is the accepted mass; given that, the first accepted outcome is distributed
as the constrained model wants it, independently enough for the kernel law to hold per outcome.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Tally(NamedTuple):
    """What a rejection loop knows of its course.

    :param accepts: accepted draws so far, repeats included.
    :param rejects: rejected outcomes so far.
    :param kept: mass not rejected when the first outcome was accepted.
    :param mass: the mass of the first accepted outcome.
    :param next_accepted: whether the draw after the first acceptance was accepted too.
    :param log_phantoms: see :class:`Geometric`.
    """

    accepts: Int[Array, ""]
    rejects: Int[Array, ""]
    kept: Float[Array, ""]
    mass: Float[Array, ""]
    next_accepted: Array
    log_phantoms: Float[Array, " Q"]


@dataclasses.dataclass(frozen=True)
class TwoRound:
    r"""The paper's estimator (Lipkin et al. 2025, algorithm 2): :math:`W = K / (1 + n)`.

    After the first acceptance a second round draws from what was not rejected until it accepts;
    :math:`K` is the mass kept in the first round, :math:`n` the rejections in both.
    """

    max_accepts: int = 2
    returns_accepted: bool = True
    num_nodes: int = 0

    def log_weight(self, tally: Tally) -> Float[Array, ""]:
        return jnp.log(tally.kept) - jnp.log1p(tally.rejects.astype(jnp.float32))


@dataclasses.dataclass(frozen=True)
class Recursive:
    r"""One more draw, without the accepted outcome: :math:`W = K` if it is accepted, else :math:`p(x)`.

    Fewest checks, most variance. With mass :math:`a` accepted out of :math:`K`, and `x` drawn: the
    next draw is accepted with probability :math:`(a - p_x)/(K - p_x)`, so that
    :math:`E[W \mid x] = p_x + (a - p_x) = a`.
    """

    max_accepts: int = 2
    returns_accepted: bool = False
    num_nodes: int = 0

    def log_weight(self, tally: Tally) -> Float[Array, ""]:
        return jnp.log(jnp.where(tally.next_accepted, tally.kept, tally.mass))


@dataclasses.dataclass(frozen=True)
class Geometric:
    r"""Draws *with* replacement until `max_accepts` (M) acceptances, the repeats of rejections imagined.

    The minimum-variance unbiased estimate of the accepted mass from `n` draws with replacement is
    :math:`(M-1)/(n-1)` (Haldane 1945). A rejected outcome need not be checked again: how often they
    would have come up (phantoms) is a geometric variable, and its mean can be taken:

    .. math:: E\!\left[\frac{M-1}{n-1}\right] = (M-1) \int_0^1 \prod_i
        \frac{t K_i}{1 - R_i t}\, \frac{dt}{t^2},

    one factor for each real draw. The integral runs over :math:`-\log(1-t)`, by Gauss-Legendre panels
    fine enough for accepted masses down to 1e-12 and for thousands of rejections.

    :param max_accepts: M, at least 2; more checks, less variance.
    """

    max_accepts: int = 5

    def __post_init__(self) -> None:
        if self.max_accepts < 2:
            raise ValueError(f"geometric: max_accepts must be at least 2, got {self.max_accepts}")

    @property
    def returns_accepted(self) -> bool:
        return True

    @property
    def num_nodes(self) -> int:
        return len(_NODES)

    def log_weight(self, tally: Tally) -> Float[Array, ""]:
        # A loop that was given up counts one acceptance more than it saw.
        accepts = jnp.minimum(tally.accepts, self.max_accepts - 1).astype(jnp.float32)
        # A draw's factor is accumulated as log(t K / (K + R (1 - t))); dt / t^2 is in the nodes' weights.
        terms = tally.log_phantoms + _LOG_WEIGHTS
        peak = terms.max()
        return jnp.log(accepts) + peak + jnp.log(jnp.exp(terms - peak).sum())


def log_phantom(kept: Float[Array, ""], rejected: Float[Array, ""], repeats: Any = 1) -> Float[Array, " Q"]:
    """The log-factor of `repeats` draws made while `kept` was left and `rejected` was gone."""
    return repeats * (_LOG_T - jnp.log1p(rejected * _ONE_MINUS_T / kept))


def _quadrature() -> tuple[np.ndarray, ...]:
    # t = 1 - exp(-y): the integrand's scale near t = 1 is the kept mass, which may be 1e-12 (y = 28, and the
    # tail counts up to y = 50); with many rejections it sits near t = 1 - 1/n. Panels of width 1.5, finer
    # where t is small and its powers steep; 6 nodes each: within 2e-7 of a quadrature 20 times as fine.
    nodes, weights = np.polynomial.legendre.leggauss(6)
    edges = np.concatenate([[0.0, 0.125, 0.25, 0.5, 1.0], np.arange(2.0, 51.0, 1.5)])
    left, right = edges[:-1, None], edges[1:, None]
    y = ((right - left) * nodes / 2 + (right + left) / 2).ravel()
    w = ((right - left) * weights / 2).ravel()
    t = -np.expm1(-y)
    return t, np.exp(-y), np.log(t), np.log(w) - y - 2 * np.log(t)


_NODES, *_tables = _quadrature()
_ONE_MINUS_T, _LOG_T, _LOG_WEIGHTS = (table.astype(np.float32) for table in _tables)

Estimator = TwoRound | Recursive | Geometric

two_round = TwoRound()
recursive = Recursive()


def geometric(max_accepts: int = 5) -> Geometric:
    """See :class:`Geometric`."""
    return Geometric(max_accepts)


__all__ = ["Estimator", "Geometric", "Recursive", "Tally", "TwoRound", "geometric", "recursive", "two_round"]
