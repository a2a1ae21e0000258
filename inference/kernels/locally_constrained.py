"""The exact local draw: every outcome is checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sentax.inference.kernels.base import Draw, Factor, Kernel, as_factor
from sentax.inference.lanes import PARTICLES, any_of, log_sum_exp
from sentax.ppl.race import draw


class LocallyConstrained(Kernel):
    r"""Locally constrained decoding: the draw from the renormalised product.

    .. math:: X \sim p(x)\phi(x) / Z,\qquad W = Z = \sum_x p(x)\phi(x).

    No local variance: the weight does not depend on the draw. Dropping the weights is what constrained
    decoding does elsewhere, and what makes it biased; here they are kept. Where a constraint has a mask
    over the vocabulary, only what the mask leaves open is checked, of the tokens that it lets through;
    elsewhere all V outcomes are.

    :param model: a NumPyro model.
    :param block_size: how many outcomes are checked at once (memory, not results).
    :param use_masks: whether to ask constraints for masks; without, each outcome is checked by itself.

    >>> LocallyConstrained(lambda: None)
    LocallyConstrained(...)
    """

    method = "every outcome checked"
    uses_proposals = False  # the draw is exact: another distribution could only add noise

    def __init__(self, model: Callable[..., Any], *, block_size: int = 4096, use_masks: bool = True) -> None:
        super().__init__(model)
        if block_size < 1:
            raise ValueError(f"block_size must be at least 1, got {block_size}")
        self.block_size = block_size
        self.use_masks = use_masks

    def __repr__(self) -> str:
        return "LocallyConstrained(...)"

    def draw(
        self,
        rng_key: Any,
        logits: Any,
        log_factor: Any,
        *,
        active: Any = True,
        mask: Any = None,
        axis_name: str | None = PARTICLES,
        **_: Any,
    ) -> Draw:
        V = logits.shape[0]
        factor = as_factor(log_factor)
        active = jnp.asarray(active)
        checks = jnp.int32(0)
        # -inf twice stays -inf; an impossible outcome is impossible whatever its factor says.
        possible = ~jnp.isneginf(logits) if mask is None else ~jnp.isneginf(logits) & mask
        if not factor.varies:
            log_factors = factor(jnp.int32(0))
        elif mask is None:
            outcomes = jnp.arange(V, dtype=jnp.int32)
            log_factors = lax.map(factor, outcomes, batch_size=min(self.block_size, V))
            checks = jnp.where(active, V, 0).astype(jnp.int32)
        else:
            log_factors = _on(possible & active, factor, min(self.block_size, V), axis_name)
            checks = (possible & active).sum(dtype=jnp.int32)
        log_target = jnp.where(possible, logits + log_factors, -jnp.inf)
        return Draw(draw(rng_key, log_target), log_sum_exp(log_target) - log_sum_exp(logits), checks)

    def log_weight_of(self, outcome: Any, log_factor: Any, draw: Draw) -> Any:
        # The weight is the same whatever is drawn; what cannot be drawn is the caller's mistake.
        return draw.log_weight


def _on(
    wanted: Bool[Array, " V"], factor: Factor, block_size: int, axis_name: str | None
) -> Float[Array, " V"]:
    """The factors of the wanted outcomes, in as few blocks as hold them; `-inf` elsewhere."""
    (V,) = wanted.shape
    count = wanted.sum()
    outcomes = jnp.nonzero(wanted, size=-(-V // block_size) * block_size, fill_value=V)[0].astype(jnp.int32)

    def more(carry: tuple[Int[Array, ""], Any]) -> Bool[Array, ""]:
        return any_of(carry[0] * block_size < count, axis_name)

    def block(carry: tuple[Int[Array, ""], Any]) -> tuple[Int[Array, ""], Any]:
        number, found = carry
        chosen = lax.dynamic_slice(outcomes, (number * block_size,), (block_size,))
        values = jax.vmap(factor)(jnp.minimum(chosen, V - 1))
        return number + 1, found.at[chosen].set(values, mode="drop")

    start = (jnp.int32(0), jnp.full(V, -jnp.inf, jnp.float32))
    return lax.while_loop(more, block, start)[1]
