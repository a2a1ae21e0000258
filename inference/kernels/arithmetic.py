"""Local draws that are spread evenly over the particles which stand at the same place."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sentax.inference.kernels.base import Draw
from sentax.inference.kernels.locally_constrained import LocallyConstrained
from sentax.inference.lanes import PARTICLES
from sentax.ppl.race import draw
from sentax.ppl.uniform import open_uniform


class ArithmeticSampling(LocallyConstrained):
    r"""Locally constrained draws on a randomly shifted lattice, for many particles of one text.

    The n particles whose draws so far agree share one uniform shift :math:`U`; the r-th of them takes the
    outcome in whose interval of the distribution function its point :math:`(r / n + U) \bmod 1` lies. Each
    point is uniform, so each particle keeps the law of :class:`LocallyConstrained`,

    .. math:: X \sim p(x)\phi(x) / Z,\qquad W = Z,

    and the evidence stays unbiased; but of n particles, :math:`n\,p\phi(x)/Z` to within one draw :math:`x`,
    where independent draws scatter by its square root. Texts of few likely values, such as labels or an
    agent's goals, are so counted with an error of order 1/N. It does nothing for a particle that stands alone.

    Vilnis et al. 2023, "Arithmetic sampling: parallel diverse decoding for large language models", with one
    lattice for each prefix in place of one for all texts, which would run out of digits after some tokens.
    Distribution functions are float32 sums: an outcome's probability is met to about 1e-6.

    Particles that are resampled keep their place; the lattice follows from who stands where. Several sites
    count as one sequence of draws; latents outside of scans are drawn independently as ever.

    :param model: a NumPyro model; `block_size`, `use_masks`: as of :class:`LocallyConstrained`.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b", b"c"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=1)
    >>> smc = sx.SMC(ArithmeticSampling(model), num_particles=8)
    >>> smc.run(jax.random.key(0), lm.prompt())
    >>> sorted(smc.posterior("text").values())
    [0.25, 0.25, 0.25, 0.25]
    """

    def __repr__(self) -> str:
        return "ArithmeticSampling(...)"

    def start(self) -> Int[Array, ""]:
        """The particle's place: the same number for all that have drawn the same so far."""
        return jnp.int32(0)

    def draw(
        self,
        rng_key: Any,
        logits: Any,
        log_factor: Any,
        *,
        active: Any = True,
        mask: Any = None,
        state: Any = (),
        axis_name: str | None = PARTICLES,
        **_: Any,
    ) -> Draw:
        alive = jnp.asarray(active)
        log_target, log_weight, checks = self._target(logits, log_factor, alive, mask, axis_name)
        own = draw(rng_key, log_target)
        if axis_name is None:
            return Draw(own, log_weight, checks, state)
        together, rank, leader = _companions(state, alive, axis_name)
        count = together.sum()
        shift = lax.all_gather(open_uniform(rng_key, (), stream=_SHIFT), axis_name)[leader]
        point = (rank / jnp.maximum(count, 1) + shift) % 1.0
        # Alone, the race is exact however unlikely an outcome is.
        outcome = jnp.where(count > 1, _invert(log_target, point), own)
        drawn = lax.all_gather(outcome, axis_name)
        return Draw(outcome, log_weight, checks, jnp.argmax(together & (drawn == outcome)).astype(jnp.int32))


_SHIFT = 1
"""The stream of the particle's key that shifts come from; races use stream 0."""


def _companions(
    place: Int[Array, ""], alive: Bool[Array, ""], axis_name: str
) -> tuple[Bool[Array, " N"], Int[Array, ""], Int[Array, ""]]:
    """Who stands where this particle stands, how many of them come before it, and who comes first."""
    places, living = lax.all_gather((place, alive), axis_name)
    here = lax.axis_index(axis_name)
    # A dead particle is its own company: it takes no place in anybody's lattice.
    together = jnp.where(alive, (places == place) & living, jnp.arange(places.shape[0]) == here)
    rank = (together & (jnp.arange(places.shape[0]) < here)).sum()
    return together, rank, jnp.argmax(together)


def _invert(log_target: Float[Array, " V"], point: Float[Array, ""]) -> Int[Array, ""]:
    """The outcome in whose interval of the distribution function a point lies; never one of mass zero."""
    peak = jnp.max(log_target)
    mass = jnp.exp(log_target - jnp.where(jnp.isfinite(peak), peak, 0.0))
    above = jnp.cumsum(mass)
    last = jnp.max(jnp.where(mass > 0, jnp.arange(mass.shape[0]), 0))
    inside = (above > point * above[-1]) & (mass > 0)
    return jnp.where(inside.any(), jnp.argmax(inside), last).astype(jnp.int32)


__all__ = ["ArithmeticSampling"]
