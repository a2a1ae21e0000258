"""What every particle did at every step of a scan, those that were resampled away included."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class SiteDraw(NamedTuple):
    """What a kernel drew at one site of a step, or, in a :class:`Record`, of every step (`[T]`).

    :param value: the site's value; `log_weight`: the draw's, its factors included; `checks`: how many
        outcomes' factors were asked for.
    """

    value: Any
    log_weight: Float[Array, ...]
    checks: Int[Array, ...]


class Record(NamedTuple):
    """One scan, in order of execution (whatever the scan's direction) and by place, not by lineage.

    The leading axis N of a :class:`~sentax.inference.engine.Population` is left out here.

    :param parents: `[T]`, the place in the step before that the particle was copied from.
    :param increments: `[T]`, what the step multiplied its weight by.

    :param log_weights: `[T + 1]`, before each step (before it is resampled) and at the end, the evidence so far
        included, so that the log-mean-exp over particles estimates the evidence at that time. Steps that were
        not run repeat the last.
    :param causes: `[T + 1]`, at the same times: the number of the factor it is dead of, -1 if it lives.
    :param drew: `[T]`, whether the particle was alive, had not finished and drew afresh.
    :param draws: by kernel site, what it drew; means nothing where it did not.
    """

    parents: Int[Array, ...]
    increments: Float[Array, ...]
    log_weights: Float[Array, ...]
    causes: Int[Array, ...]
    drew: Bool[Array, ...]
    draws: dict[str, SiteDraw]

    @classmethod
    def blank(cls, draws: dict[str, SiteDraw], T: int, place: Any, log_weight: Any, cause: Any) -> Record:
        """Before the first step.

        :param draws: shapes and dtypes of one step's.
        :param place: the particle's; `log_weight`, `cause`: its weight so far, and what it is dead of.
        """
        return cls(
            parents=jnp.full(T, place, jnp.int32),
            increments=jnp.zeros(T, jnp.float32),
            log_weights=jnp.full(T + 1, log_weight, jnp.float32),
            causes=jnp.full(T + 1, cause, jnp.int32),
            drew=jnp.zeros(T, bool),
            draws=jax.tree.map(lambda leaf: jnp.zeros(T, leaf.dtype), draws),
        )

    def write(
        self,
        t: Any,
        *,
        parent: Any,
        increment: Any,
        log_weight: Any,
        cause: Any,
        drew: Any,
        draws: dict[str, SiteDraw],
    ) -> Record:
        """After step `t`; `log_weight` and `cause` are those behind it."""
        later = jnp.arange(self.log_weights.shape[0]) > t
        return Record(
            parents=self.parents.at[t].set(parent),
            increments=self.increments.at[t].set(increment),
            log_weights=jnp.where(later, log_weight, self.log_weights),
            causes=jnp.where(later, cause, self.causes),
            drew=self.drew.at[t].set(drew),
            draws=jax.tree.map(lambda all, new: all.at[t].set(new), self.draws, draws),
        )
