"""A Gaussian random walk that learns its covariance and its scale."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import random
from jaxtyping import Array, Float, Int

_WIDEST = math.log(10.0)
_RIDGE = 1e-6


class RandomWalk(NamedTuple):
    r"""Adaptive Metropolis (Haario, Saksman and Tamminen 2001) with a learned scale (Andrieu and Thoms 2008,
    algorithm 4).

    Steps are :math:`\lambda L \varepsilon` with :math:`L L^\top` the covariance seen so far. A chain is exact
    only while this stays as it is: learn in warm-up, and not after it.

    :param log_scale: :math:`\log \lambda`; `first`: where it began.
    :param mean, covariance: of the chain so far.
    :param sqrt: the lower Cholesky factor of the covariance.
    """

    log_scale: Float[Array, ""]
    first: Float[Array, ""]
    mean: Float[Array, " D"]
    covariance: Float[Array, "D D"]
    sqrt: Float[Array, "D D"]

    @classmethod
    def start(cls, z: Float[Array, " D"], step_size: float) -> RandomWalk:
        r"""At `z`, with steps of `step_size` times :math:`2.38/\sqrt{D}` in every direction."""
        (D,) = z.shape
        log_scale = jnp.float32(math.log(2.38 / math.sqrt(D)))
        sqrt = jnp.float32(step_size) * jnp.eye(D, dtype=jnp.float32)
        return cls(log_scale, log_scale, z.astype(jnp.float32), sqrt @ sqrt.T, sqrt)

    def propose(self, rng_key: Array, z: Float[Array, " D"]) -> Float[Array, " D"]:
        return z + jnp.exp(self.log_scale) * (self.sqrt @ random.normal(rng_key, z.shape))

    def learn(
        self,
        z: Float[Array, " D"],
        accept_prob: Float[Array, ""],
        i: Int[Array, ""],
        target: float,
        scale: bool = True,
        covariance: bool = True,
    ) -> RandomWalk:
        """After iteration `i` (from 1) ended at `z`.

        :param accept_prob: of its proposal; the scale follows it to `target`.
        """
        rate = (i.astype(jnp.float32) + 1.0) ** -0.6
        new = self
        if scale:
            log_scale = self.log_scale + rate * (accept_prob - target)
            # Noise in a density keeps the acceptance rate down at every scale, down to 0.
            new = new._replace(log_scale=jnp.clip(log_scale, self.first - _WIDEST, self.first + _WIDEST))
        if covariance:
            away = z - self.mean
            seen = self.covariance + rate * (jnp.outer(away, away) - self.covariance)
            ridge = _RIDGE * (1.0 + jnp.trace(seen) / z.shape[0])
            sqrt = jnp.linalg.cholesky(seen + ridge * jnp.eye(z.shape[0]))
            # A matrix that float32 cannot factor teaches nothing.
            new = new._replace(
                mean=self.mean + rate * away,
                covariance=seen,
                sqrt=jnp.where(jnp.isfinite(sqrt).all(), sqrt, self.sqrt),
            )
        return new


__all__ = ["RandomWalk"]
