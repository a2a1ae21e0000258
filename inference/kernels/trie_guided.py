"""Draws guided by what earlier draws have shown: a prefix trie of upper bounds on what is still to come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jax import lax, nn
from jaxtyping import Array, Float, Int

from sentax.inference.kernels.base import Draw, Kernel, as_factor
from sentax.inference.kernels.locally_constrained import factors_where
from sentax.inference.lanes import PARTICLES, log_sum_exp
from sentax.ppl.race import draw


class TrieArrays(NamedTuple):
    """A :class:`~sentax.inference.prefix_trie.PrefixTrie` for the device; padded, M nodes.

    The children of node `n` are entries `first[n]` to `first[n] + count[n]` of `token` and `child`.

    :param log_bound: `[M]`, log of the upper bound at each node.
    :param window: `[W]`, `0, 1, ..., W - 1`: its length is the most children that a node may have.
    """

    log_bound: Float[Any, " M"]
    first: Int[Any, " M"]
    count: Int[Any, " M"]
    token: Int[Any, " M"]
    child: Int[Any, " M"]
    window: Int[Any, " W"]


class Walk(NamedTuple):
    """What a particle notes on its way, and carries from draw to draw.

    Draws that had one possible outcome only (the steps after a text's end) are no part of it.

    :param node: where it is in the trie; -1: where nobody has been.
    :param length: draws noted so far, at most D.
    :param log_correction: log of its weight, the program's factors left out.
    :param nodes: `[D]`, where each draw led to; -1 if nobody had been there.
    :param tokens: `[D]`, the outcome; -1 if none was left to draw.
    :param log_probs: `[D]`, the outcome's log-probability under the program.
    :param rest: `[D]`, the mass of outcomes that may be drawn and nobody has; `left`: their number.
    """

    node: Int[Array, ""]
    length: Int[Array, ""]
    log_correction: Float[Array, ""]
    nodes: Int[Array, " D"]
    tokens: Int[Array, " D"]
    log_probs: Float[Array, " D"]
    rest: Float[Array, " D"]
    left: Int[Array, " D"]


class TrieGuided(Kernel):
    r"""Draws from the model's distribution times the bounds of a prefix trie.

    With :math:`c(y)` the trie's upper bound on the expected factors of a text that begins with :math:`y`
    (1 where nothing is known) and :math:`\phi` the outcome's own factors,

    .. math:: X \sim p(x)\, a(x)\, c(yx) / S,\qquad S = \sum_x p(x)\, a(x)\, c(yx),
              \qquad W = \frac{S}{c(yX)}\, \phi(X),

    where :math:`a(x)` is false where the mask, or a check of every outcome, says that :math:`\phi(x) = 0`.
    The kernel law holds for any positive :math:`c`, right or wrong. Over a whole text the weight comes to
    :math:`c(\text{root}) \frac{\phi(x)}{c(x)} \prod_t \frac{S_t}{c(x_{<t})}`: if the :math:`c` are bounds, each
    of the fractions is at most 1.

    :param model: a NumPyro model whose only latent sites are drawn by this kernel.
    :param trie: a guide; None draws from the model.
    :param num_draws: D, room for a walk.
    :param check_all: whether all outcomes are checked where there is no mask, or where a mask leaves
        something open.

    >>> TrieGuided(lambda: None)
    TrieGuided(...)
    """

    method: ClassVar[str] = "guided by a prefix trie"
    use_masks = True
    uses_proposals = False  # the bounds hold for the program's own distribution

    def __init__(
        self,
        model: Callable[..., Any],
        trie: TrieArrays | None = None,
        num_draws: int = 0,
        *,
        check_all: bool = False,
    ) -> None:
        super().__init__(model)
        self.trie, self.num_draws, self.check_all = trie, num_draws, check_all

    def __repr__(self) -> str:
        return "TrieGuided(...)"

    def start(self) -> Walk:
        integers = jnp.full(self.num_draws, -1, jnp.int32)
        zeros = jnp.zeros(self.num_draws, jnp.float32)
        return Walk(jnp.int32(0), jnp.int32(0), jnp.float32(0), integers, integers, zeros, zeros, integers)

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
    ) -> Draw:
        (V,) = logits.shape
        assert self.trie is not None
        factor = as_factor(log_factor)
        active = jnp.asarray(active)
        possible = ~jnp.isneginf(logits)
        chosen_freely = possible.sum() > 1
        allowed = possible if mask is None else possible & mask
        checks = active.astype(jnp.int32)
        if self.check_all and factor.varies:
            checks = (allowed & active).sum(dtype=jnp.int32)
            allowed = allowed & ~jnp.isneginf(factors_where(allowed & active, factor, axis_name))

        # The node's children, spread over the vocabulary. A forced outcome is not a branching: it has none.
        here = jnp.maximum(state.node, 0)
        count = jnp.where((state.node >= 0) & chosen_freely, self.trie.count[here], 0)
        entry = jnp.minimum(self.trie.first[here] + self.trie.window, self.trie.token.shape[0] - 1)
        is_child = self.trie.window < count
        token = jnp.where(is_child, self.trie.token[entry], V)
        child = self.trie.child[entry]
        log_bound = jnp.zeros(V, jnp.float32).at[token].set(self.trie.log_bound[child], mode="drop")
        visited = jnp.zeros(V, bool).at[token].set(True, mode="drop")

        log_probs = nn.log_softmax(logits)
        log_target = jnp.where(allowed, log_probs + log_bound, -jnp.inf)
        outcome = draw(rng_key, log_target)
        log_total = log_sum_exp(log_target)
        stuck = jnp.isneginf(log_total)
        log_correction = jnp.where(stuck, 0.0, log_total - jnp.where(stuck, 0.0, log_bound[outcome]))
        log_weight = jnp.where(stuck, -jnp.inf, log_correction + factor(outcome))

        unseen = allowed & ~visited
        noted = active & chosen_freely
        place = jnp.where(noted, state.length, self.num_draws)
        follows = is_child & (token == outcome) & ~stuck
        next_node = jnp.where(follows.any(), child[jnp.argmax(follows)], -1)

        def note(record: Array, value: Any) -> Array:
            return record.at[place].set(value, mode="drop")

        walk = Walk(
            node=jnp.where(noted, next_node, state.node),
            length=state.length + noted,
            log_correction=state.log_correction + jnp.where(active, log_correction, 0.0),
            nodes=note(state.nodes, next_node),
            tokens=note(state.tokens, jnp.where(stuck, -1, outcome)),
            log_probs=note(state.log_probs, log_probs[outcome]),
            rest=note(state.rest, jnp.where(unseen, jnp.exp(log_probs), 0.0).sum()),
            left=note(state.left, unseen.sum(dtype=jnp.int32)),
        )
        return Draw(outcome, log_weight, checks, lax.stop_gradient(walk))
