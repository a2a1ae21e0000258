"""What a program needs to know of an agent and its world: arrays of a few sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sentax.domains.goal_inference.bayesian.agents import Observations
from sentax.domains.goal_inference.bayesian.languages import FiniteLanguage
from sentax.ppl.pytree import pytree

_LEAST = {"K": 32, "S": 512, "A": 32}
_GRAIN = 16


class World(Protocol):
    """A finite world in which every goal has a price for every action everywhere."""

    def costs(self, goals: tuple[str, ...]) -> Float[np.ndarray, "G S A"]: ...


@pytree
@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """Goals that an agent may have, what its actions cost it under each, and what it was seen to do.

    Arrays are padded (goals, states and actions to powers of two, time to multiples of 16), so that scenes of
    similar size run through one compiled program: another agent, another map, another world.

    :param language: the goals, as texts.
    :param costs: `[K, S, A]`, by the texts' numbers; see :func:`.planning.action_costs`. A padded action
        costs `inf`.
    :param log_instruction: `[K]`, log-probability of what the agent was told, by goal: see :meth:`told`.
    :param states: `[T]`, before each action; `actions`: `[T]`, -1 where nothing was seen: in the first
        place, where nothing has happened yet, and in padding.
    """

    language: FiniteLanguage
    costs: Float[Array, "K S A"]
    log_instruction: Float[Array, " K"]
    states: Int[Array, " T"]
    actions: Int[Array, " T"]

    @classmethod
    def of(cls, world: World, goals: Iterable[str] | FiniteLanguage, observations: Observations) -> Scene:
        """The scene of one agent.

        :param goals: the texts that its goal may be, or their language.
        :raises ValueError: if a goal can be reached from nowhere on the agent's way: no agent has it.
        """
        language = goals if isinstance(goals, FiniteLanguage) else FiniteLanguage.of_texts(goals)
        costs = world.costs(language.texts)
        (K, S, A), start = costs.shape, observations.states[0]
        if hopeless := [text for text, row in zip(language.texts, costs) if row[start].min() > S]:
            raise ValueError(
                f"from where the agent starts there is no way to {', '.join(map(repr, hopeless))}: "
                "leave such goals out (`reachable` lists the others)"
            )
        sizes = {n: max(_LEAST[n], 1 << (size - 1).bit_length()) for n, size in (("K", K), ("S", S), ("A", A))}
        padded = np.full(tuple(sizes.values()), np.inf, np.float32)
        padded[..., 0] = 0.0  # one action is possible everywhere: a policy is never 0/0
        padded[:K, :S, :A] = costs
        T = -(-len(observations.actions) // _GRAIN) * _GRAIN
        states, actions = np.zeros(T, np.int32), np.full(T, -1, np.int32)
        states[: len(observations.states)] = observations.states
        actions[: len(observations.actions)] = observations.actions
        nothing = jnp.zeros(sizes["K"], jnp.float32)
        return cls(language, jnp.asarray(padded), nothing, jnp.asarray(states), jnp.asarray(actions))

    def told(self, lm: Any, instruction: str, template: str = "{goal}\n{instruction}") -> Scene:
        r"""The scene in which the agent was heard to be told something, before it did anything.

        Its probability given the goal, :math:`p_{\text{LM}}(\text{instruction} \mid g)`, is that of a language
        model which reads the goal first.

        :param lm: any model; it need not be the one that goals come from.
        :param template: what it reads: a `{goal}`, and at the end an `{instruction}`.
        :raises ValueError: if the template is not like that.
        """
        if not template.endswith("{instruction}") or "{goal}" not in template:
            raise ValueError(f"a template says {{goal}} and ends with {{instruction}}, not {template!r}")
        before = template.removesuffix("{instruction}")
        scores = [lm.score(instruction, before.replace("{goal}", text)) for text in self.language.texts]
        padded = np.zeros(self.log_instruction.shape, np.float32)
        padded[: len(scores)] = scores
        return dataclasses.replace(self, log_instruction=self.log_instruction + padded)

    @property
    def num_steps(self) -> int:
        """How many actions were seen."""
        return int(np.sum(np.asarray(self.actions) >= 0))


def reachable(world: World, goals: Iterable[str], state: int) -> list[str]:
    """Those of some goals that can be reached from a state."""
    goals = tuple(goals)
    costs = world.costs(goals)
    return [text for text, row in zip(goals, costs) if row[state].min() <= row.shape[0]]


__all__ = ["Scene", "World", "reachable"]
