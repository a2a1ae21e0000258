"""The exact local draw: every outcome is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from sentax.inference.kernels.base import Draw, Kernel
from sentax.inference.lanes import log_sum_exp
from sentax.ppl.race import draw


class LocallyConstrained(Kernel):
    r"""Locally constrained decoding: the draw from the renormalised product.

    .. math:: X \sim p(x)\phi(x) / Z,\qquad W = Z = \sum_x p(x)\phi(x).

    V checks a draw and no local variance: the weight does not depend on the draw. Dropping the
    weights is what constrained decoding does elsewhere, and what makes it biased; here they are
    kept.

    :param model: a NumPyro model.
    :param block_size: how many outcomes are checked at once (memory, not results).

    >>> LocallyConstrained(lambda: None)
    LocallyConstrained(...)
    """

    def __init__(self, model: Callable[..., Any], *, block_size: int = 4096) -> None:
        super().__init__(model)
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        self.block_size = block_size

    def __repr__(self) -> str:
        return "LocallyConstrained(...)"

    def draw(self, rng_key: Any, logits: Any, log_factor: Any, *, active: Any = True, **_: Any) -> Draw:
        V = logits.shape[0]
        outcomes = jnp.arange(V, dtype=jnp.int32)
        log_factors = jax.lax.map(log_factor, outcomes, batch_size=min(self.block_size, V))
        # -inf twice stays -inf; an impossible outcome is impossible whatever its factor says.
        log_target = jnp.where(jnp.isneginf(logits), -jnp.inf, logits + log_factors)
        checks = jnp.where(active, V, 0).astype(jnp.int32)
        return Draw(draw(rng_key, log_target), log_sum_exp(log_target) - log_sum_exp(logits), checks)
