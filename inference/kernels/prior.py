"""Draw from the model, weigh by the factors."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from sentax.inference.kernels.base import Draw, Kernel
from sentax.ppl.race import draw


class Prior(Kernel):
    r"""Bootstrap proposals: :math:`X \sim p`, :math:`W = \phi(X)`.

    One check a draw, and all the variance: a constrained text dies at its first wrong token. With
    resampling and prefix checks this is the bootstrap filter, or twisted SMC.

    >>> Prior(lambda: None)
    Prior(...)
    """

    def __repr__(self) -> str:
        return "Prior(...)"

    def draw(self, rng_key: Any, logits: Any, log_factor: Any, *, active: Any = True, **_: Any) -> Draw:
        outcome = draw(rng_key, logits)
        return Draw(outcome, log_factor(outcome), jnp.asarray(active, jnp.int32))

    def log_weight_of(self, outcome: Any, log_factor: Any, draw: Draw) -> Any:
        return jnp.asarray(log_factor(outcome), jnp.float32)
