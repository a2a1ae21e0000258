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

BLOCK_SIZE = 4096
"""How many outcomes are checked at once, unless somebody says otherwise."""


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

    def __init__(
        self, model: Callable[..., Any], *, block_size: int = BLOCK_SIZE, use_masks: bool = True
    ) -> None:
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
        log_target, log_weight, checks = self._target(logits, log_factor, active, mask, axis_name)
        return Draw(draw(rng_key, log_target), log_weight, checks)

    def _target(
        self, logits: Any, log_factor: Any, active: Any, mask: Any, axis_name: str | None
    ) -> tuple[Float[Array, " V"], Float[Array, ""], Int[Array, ""]]:
        """What is drawn from, up to a constant; the weight of every draw; how many outcomes were checked."""
        possible, log_factors, checks = local_factors(
            logits, as_factor(log_factor), mask, jnp.asarray(active), axis_name, self.block_size
        )
        log_target = jnp.where(possible, logits + log_factors, -jnp.inf)
        return log_target, log_sum_exp(log_target) - log_sum_exp(logits), checks

    def log_weight_of(self, outcome: Any, log_factor: Any, draw: Draw) -> Any:
        # The weight is the same whatever is drawn; what cannot be drawn is the caller's mistake.
        return draw.log_weight


def local_factors(
    logits: Float[Array, " V"],
    factor: Factor,
    mask: Bool[Array, " V"] | None,
    active: Bool[Array, ""],
    axis_name: str | None,
    block_size: int = BLOCK_SIZE,
) -> tuple[Bool[Array, " V"], Float[Array, ...], Int[Array, ""]]:
    """Every outcome's log-factor; where a mask is given only what it leaves open is checked.

    :return: which outcomes may be drawn at all: an impossible one is impossible whatever its factor says;
        log-factors, `[V]` or one for all, which mean nothing for the others; and how many were checked.
    """
    (V,) = logits.shape
    possible = ~jnp.isneginf(logits) if mask is None else ~jnp.isneginf(logits) & mask
    if not factor.varies:
        return possible, factor(jnp.int32(0)), jnp.int32(0)
    if mask is None:
        outcomes = jnp.arange(V, dtype=jnp.int32)
        log_factors = lax.map(factor, outcomes, batch_size=min(block_size, V))
        return possible, log_factors, jnp.where(active, V, 0).astype(jnp.int32)
    wanted = possible & active
    return possible, factors_where(wanted, factor, axis_name, block_size), wanted.sum(dtype=jnp.int32)


def factors_where(
    wanted: Bool[Array, " V"], factor: Factor, axis_name: str | None, block_size: int = BLOCK_SIZE
) -> Float[Array, " V"]:
    """The factors of the wanted outcomes, in as few blocks as hold them; `-inf` elsewhere."""
    (V,) = wanted.shape
    block_size = min(block_size, V)
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
