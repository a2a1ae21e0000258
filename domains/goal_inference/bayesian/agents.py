"""Boltzmann-rational agents: what they do when they want something, and how to watch them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Observations(NamedTuple):
    """What was seen of an agent. The first entry says where it was before it did anything.

    :param states: `[T + 1]`, the state before each action.
    :param actions: `[T + 1]`, what it did there; -1 for nothing seen, as in the first entry.
    """

    states: Int[np.ndarray, " T1"]
    actions: Int[np.ndarray, " T1"]


def follow(transitions: Int[np.ndarray, "S A"], start: int, actions: Sequence[int]) -> Observations:
    """The observations of an agent that takes these actions.

    :raises ValueError: if one of them cannot be carried out, with its place.
    """
    states = [start, start]
    for step, action in enumerate(actions, 1):
        after = int(transitions[states[-1], action])
        if after < 0:
            raise ValueError(f"step {step}: action {action} cannot be carried out in state {states[-1]}")
        states.append(after)
    return Observations(np.array(states[:-1], np.int32), np.array([-1, *actions], np.int32))


def log_policy(beta: Float[Array, ""], costs: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
    r"""Log-probabilities of actions, :math:`\log p(a) = -\beta Q(a) - \log \sum_{a'} e^{-\beta Q(a')}`.

    (Baker, Saxe and Tenenbaum 2009, equation 1.) With a large :math:`\beta` an agent takes a shortest path,
    with a small one it does anything that is possible.

    :param costs: :math:`Q`; `inf` for what cannot be done. At least one must be finite.
    """
    possible = jnp.isfinite(costs)
    logits = jnp.where(possible, -beta * jnp.where(possible, costs, 0.0), -jnp.inf)
    peak = logits.max(-1, keepdims=True)
    return logits - peak - jnp.log(jnp.exp(logits - peak).sum(-1, keepdims=True))


def act(
    rng: np.random.Generator,
    transitions: Int[np.ndarray, "S A"],
    costs: Float[np.ndarray, "S A"],
    start: int,
    *,
    beta: float,
    satisfied: Bool[np.ndarray, " S"],
    num_steps: int = 100,
) -> Observations:
    """A simulated agent: it acts until its goal holds, or for so many steps.

    :param costs: :math:`Q` of its goal; `satisfied`: in which states that holds.
    """
    actions: list[int] = []
    state = start
    policy = np.exp(np.asarray(log_policy(jnp.float32(beta), jnp.asarray(costs))).astype(np.float64))
    while not satisfied[state] and len(actions) < num_steps:
        p = policy[state]
        actions.append(int(rng.choice(len(p), p=p / p.sum())))
        state = int(transitions[state, actions[-1]])
    return follow(transitions, start, actions)


__all__ = ["Observations", "act", "follow", "log_policy"]
