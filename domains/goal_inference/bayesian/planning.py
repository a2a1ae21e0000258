"""Cost-to-go on a finite graph of states: how many steps a goal is away, from everywhere."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int


def shortest_paths(
    transitions: Int[np.ndarray, "S A"], satisfied: Bool[np.ndarray, "G S"]
) -> Float[np.ndarray, "G S"]:
    """Steps to the nearest state in which a goal holds, exactly, by breadth-first search from those states.

    :param transitions: the state after each action; -1 where it cannot be carried out.
    :param satisfied: in which states each goal holds.
    :return: `inf` where no path leads to the goal.

    >>> import numpy as np
    >>> shortest_paths(np.array([[1], [2], [-1]]), np.array([[False, False, True]]))
    array([[2., 1., 0.]])
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import dijkstra

    states = len(transitions)
    source, action = np.nonzero(transitions >= 0)
    target = transitions[source, action]
    backwards = coo_array((np.ones(len(source)), (target, source)), shape=(states, states)).tocsr()
    rows = []
    for goal in satisfied:
        places = np.flatnonzero(goal)
        if not places.size:
            rows.append(np.full(states, np.inf))
            continue
        rows.append(dijkstra(backwards, indices=places, unweighted=True, min_only=True))
    return np.stack(rows)


@jax.jit
def value_iteration(
    transitions: Int[Array, "S A"], satisfied: Bool[Array, "G S"]
) -> tuple[Float[Array, "G S"], Int[Array, ""]]:
    r"""The same by value iteration, for all goals at once.

    Bellman's equation for a cost of one a step and none once the goal holds,

    .. math:: V_g(s) = 0 \text{ if } g \text{ holds in } s, \qquad V_g(s) = 1 + \min_a V_g(\delta(s, a)),

    is iterated from :math:`V = \infty`: after :math:`k` sweeps every state within :math:`k` steps of the goal
    has its value, so the sweep in which nothing changes is the last (Bertsekas 2012, section 3.2).

    :return: values, and the number of sweeps.
    """
    possible = transitions >= 0

    def sweep(values: Array, goal: Array) -> Array:
        after = jnp.where(possible, values[transitions], jnp.inf).min(axis=1)
        return jnp.where(goal, 0.0, 1.0 + after)

    def more(course: tuple[Array, Array, Array]) -> Array:
        return course[1]

    def body(course: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        values, _, sweeps = course
        new = jax.vmap(sweep)(values, satisfied)
        return new, jnp.any(new != values), sweeps + 1

    start = jnp.full(satisfied.shape, jnp.inf)
    values, _, sweeps = lax.while_loop(more, body, (start, jnp.asarray(True), jnp.int32(0)))
    return values, sweeps


def action_costs(
    transitions: Int[np.ndarray, "S A"], values: Float[np.ndarray, "G S"]
) -> Float[np.ndarray, "G S A"]:
    r"""The cost of taking an action and then the shortest way: :math:`Q^*(s, a, g) = 1 + V_g(\delta(s, a))`.

    An action after which the goal is out of reach costs as much as there are states, more than any plan. It
    is finite, so that an agent who has lost its goal is one to whom all actions are the same, not an impossible
    one (the finite penalty of a dead end, Kolobov, Mausam and Weld 2012).

    :return: float32, `inf` where an action cannot be carried out.
    """
    values = np.asarray(values, np.float32)
    penalised = np.where(np.isfinite(values), values, np.float32(len(transitions)))
    return np.where(transitions >= 0, 1 + penalised[:, np.maximum(transitions, 0)], np.inf).astype(np.float32)


__all__ = ["action_costs", "shortest_paths", "value_iteration"]
