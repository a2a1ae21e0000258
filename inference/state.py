"""The state of a particle filter: weights, what is between two steps, what a scan leaves."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sentax.inference.record import Record

VIOLATION = -1e30
"""A log-factor that stands for `-inf` where particles outlive it; sums of thousands stay finite in float32."""


class Retained(NamedTuple):
    """What a particle repeats of an earlier run, on the way to its own end.

    :param samples: of one particle of :class:`~sentax.inference.engine.Population`: every latent site.
    :param increments: for each scan `[T]`, what its steps multiplied the weight by. They are taken over with
        the values: a kernel whose weights are random (AWRS) has drawn them together. None: they are computed
        for the values, by a kernel whose weights are not (see :meth:`Kernel.log_weight_of`).
    :param cut: how many steps, over all scans, are repeated, and the latents of the program before them;
        -1: nothing is.
    """

    samples: dict[str, Any]
    increments: tuple[Float[Array, " T"], ...] | None
    cut: Int[Array, ""]


class Weight(NamedTuple):
    """A particle's weight and its life.

    :param log_weight: since the last resampling.
    :param log_evidence: of everything before it (the same for all particles).
    :param death: `[2]`: the scan (or -1 - stage outside of scans) and step where it died, or -1.
    :param cause: the number of the factor it died of, or -1.
    :param invalid: the number of the first factor that was NaN or +inf, or -1.
    :param log_soft: the sum of its finite log-factors, where tempering asks for it (else 0).
    """

    log_weight: Float[Array, ""]
    log_evidence: Float[Array, ""]
    death: Int[Array, " 2"]
    cause: Int[Array, ""]
    invalid: Int[Array, ""]
    log_soft: Float[Array, ""]

    @property
    def total(self) -> Float[Array, ""]:
        """The log-weight, the evidence included: over all particles its log-mean-exp estimates it."""
        return self.log_weight + self.log_evidence

    @classmethod
    def initial(cls) -> Weight:
        zero, nothing = jnp.float32(0), jnp.int32(-1)
        return cls(zero, zero, jnp.full(2, -1, jnp.int32), nothing, nothing, zero)

    def multiply(
        self, terms: Any, numbers: tuple[int, ...], place: tuple[Any, Any], kills: bool = True
    ) -> Weight:
        """The weight after some log-factors; the first that kills it is remembered.

        :param kills: see :class:`FilterConfig`.
        """
        new = self
        where = jnp.stack([jnp.asarray(p, jnp.int32) for p in place])
        for value, number in zip(terms, numbers, strict=True):
            wrong = jnp.isnan(value) | jnp.isposinf(value)
            alive = new.log_weight > -jnp.inf
            value = jnp.where(wrong, -jnp.inf, value)
            dies = alive & jnp.isneginf(value) & (new.cause < 0)
            value = value if kills else jnp.maximum(value, VIOLATION)
            new = new._replace(
                log_weight=jnp.where(alive, new.log_weight + value, -jnp.inf),
                death=jnp.where(dies, where, new.death),
                cause=jnp.where(dies, number, new.cause),
                invalid=jnp.where((new.invalid < 0) & alive & wrong, number, new.invalid),
            )
        return new


class ScanTrace(NamedTuple):
    """What a scan's filter leaves, trajectories rebuilt.

    :param carry: its leaves, None for those that never leave the start (see :class:`Finished`).
    :param start: the particle of the population before the scan that this one descends from.
    :param path: `[T]`, the particle it descends from at each step.
    :param increments: `[T]`, what each step of its path multiplied its weight by.
    :param live: `[T]`, whether its path was alive and had not finished before each step.
    :param ess, resampled: `[T]`, before each step, the same for all; ESS is 0 in steps not run.
    :param steps: how many steps were run.
    :param record: what every particle did, by place, not by lineage.
    """

    carry: list[Any]
    ys: Any
    sites: dict[str, Any]
    twists: dict[str, Array]
    kernel_state: Any
    start: Int[Array, ""]
    path: Int[Array, " T"]
    increments: Float[Array, " T"]
    live: Bool[Array, " T"]
    ancestors: Int[Array, " T"]
    ess: Float[Array, " T"]
    resampled: Bool[Array, " T"]
    steps: Int[Array, ""]
    checks: Int[Array, ""]
    tokens: Int[Array, ""]
    record: Record


class Loop(NamedTuple):
    """A filter between two steps: everything that is needed to go on.

    :param t: the step to come; `running`: whether any particle has something left to do.
    :param moving: of the program's state, what differs between particles.
    :param boundary: whether the particle is at the end of a unit (:attr:`Control.unit`).
    :param history: of each step so far, results, sites, increment, and whether it was alive and had not
        finished: of whoever was there (not yet by lineage), or of the particle itself (`FilterConfig.flat`).
    """

    t: Int[Array, ""]
    running: Bool[Array, ""]
    weight: Weight
    moving: Any
    twists: dict[str, Array]
    kernel_state: Any
    done: Bool[Array, ""]
    boundary: Bool[Array, ""]
    checks: Int[Array, ""]
    tokens: Int[Array, ""]
    history: Any
    ancestors: Int[Array, " T"]
    ess: Float[Array, " T"]
    resampled: Bool[Array, " T"]
    record: Record


__all__ = ["VIOLATION", "Loop", "Retained", "ScanTrace", "Weight"]
