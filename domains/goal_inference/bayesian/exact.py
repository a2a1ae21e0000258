"""The exact posterior over a finite set of goals: every goal, and a fine grid of rationalities."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Float

from sentax.domains.goal_inference.bayesian.programs import RATIONALITY
from sentax.domains.goal_inference.bayesian.scenes import Scene

NUM_NODES = 1000


class ExactPosterior(NamedTuple):
    r"""What is known of an agent after each observation; the first row is the prior, the instruction included.

    :param goals: `[T + 1, K]` probabilities, by the texts' numbers.
    :param nodes: `[M]`, values of :math:`\beta`; `rationality`: `[T + 1, M]` their probabilities.
    :param log_evidence: `[T + 1]`, of the observations so far, the language and the instruction.
    """

    goals: Float[np.ndarray, "T1 K"]
    nodes: Float[np.ndarray, " M"]
    rationality: Float[np.ndarray, "T1 M"]
    log_evidence: Float[np.ndarray, " T1"]


def enumerate_goals(
    log_prior: Float[Any, " K"],
    scene: Scene,
    rationality: dist.Distribution = RATIONALITY,
    *,
    num_nodes: int = NUM_NODES,
) -> ExactPosterior:
    r"""The posterior of :class:`~sentax.domains.goal_inference.bayesian.GoalProgram`, in double precision.

    :math:`\beta` is integrated by the midpoint rule in its prior's quantiles: nodes
    :math:`F^{-1}((m + 1/2) / M)` of weight :math:`1/M`.

    :param log_prior: log-probability of each text under the language model, its end included, as
        `lm.score(texts, prompt, end=True)` gives it; `-inf` for none.
    :param rationality: must have an inverse distribution function (`icdf`).
    """
    log_prior = np.asarray(log_prior, np.float64)
    K = len(log_prior)
    if log_prior.shape != (len(scene.language),):
        raise ValueError(
            f"a language of {len(scene.language)} texts needs as many log-priors, got {log_prior.shape}"
        )
    log_prior = log_prior + np.asarray(scene.log_instruction, np.float64)[:K]
    nodes = np.asarray(rationality.icdf((jnp.arange(num_nodes) + 0.5) / num_nodes), np.float64)
    log_joint = np.repeat(log_prior[:, None] - np.log(num_nodes), num_nodes, axis=1)
    rows = [log_joint]
    costs = np.asarray(scene.costs, np.float64)[:K]
    for state, action in zip(np.asarray(scene.states), np.asarray(scene.actions)):
        if action < 0:
            continue
        scores = -nodes[:, None] * costs[:, None, state]
        log_joint = log_joint + scores[..., action] - np.logaddexp.reduce(scores, axis=-1)
        rows.append(log_joint)
    joint = np.stack(rows)
    log_evidence = np.logaddexp.reduce(joint, axis=(1, 2))
    p = np.exp(joint - log_evidence[:, None, None])
    return ExactPosterior(p.sum(2), nodes, p.sum(1), log_evidence)


__all__ = ["NUM_NODES", "ExactPosterior", "enumerate_goals"]
