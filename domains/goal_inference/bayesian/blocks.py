"""The blocks world as a graph: every state, every action, and the goals that can be written about it."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from sentax.domains.goal_inference.bayesian.agents import Observations, follow
from sentax.domains.goal_inference.bayesian.planning import action_costs, shortest_paths
from sentax.domains.goal_inference.pddl import ARITIES, Atom, read_goal, write_goal
from sentax.domains.goal_inference.strips import OPERATORS, State, actions

MAX_BLOCKS = 5
"""The most blocks whose states are listed: six have 7057, seven 65990."""


class BlocksWorld:
    """Some blocks, their states and what leads from one to another.

    :param blocks: names, at most five.
    :raises ValueError: if there are none, too many, or two of a name.

    >>> world = BlocksWorld(["b1", "b2", "b3"])
    >>> len(world.states), len(world.action_names)
    (22, 18)
    >>> start = world.state([("on", "b1", "b2"), ("on-table", "b2"), ("on-table", "b3"), ("clear", "b1")])
    >>> costs = world.costs([" (on b3 b1)))"])
    >>> int(costs[0, start].min())
    2
    """

    def __init__(self, blocks: Sequence[str]) -> None:
        if not 1 <= len(blocks) <= MAX_BLOCKS or len(set(blocks)) != len(blocks):
            raise ValueError(
                f"a blocks world has 1 to {MAX_BLOCKS} blocks with different names, got {blocks!r}"
            )
        self.blocks = tuple(blocks)
        self.actions: tuple[Atom, ...] = tuple(
            (name, *chosen)
            for name, (_, arity) in OPERATORS.items()
            for chosen in itertools.permutations(self.blocks, arity)
        )
        self.states, self.transitions = self._explore()
        self._number = {state: i for i, state in enumerate(self.states)}

    def _explore(self) -> tuple[tuple[State, ...], Int[np.ndarray, "S A"]]:
        number = {action: i for i, action in enumerate(self.actions)}
        start: State = frozenset(
            {("arm-empty",), *((p, b) for b in self.blocks for p in ("on-table", "clear"))}
        )
        found, states, rows = {start: 0}, [start], []
        for state in states:
            row = np.full(len(self.actions), -1, np.int32)
            for action in actions(state):
                after = action.apply(state)
                if after not in found:
                    found[after] = len(states)
                    states.append(after)
                row[number[action.name]] = found[after]
            rows.append(row)
        return tuple(states), np.stack(rows)

    @property
    def action_names(self) -> tuple[str, ...]:
        return tuple(" ".join(action) for action in self.actions)

    def state(self, facts: Iterable[Atom]) -> int:
        """The number of the one state in which these facts hold.

        :raises ValueError: if they hold in none, or in several.
        """
        wanted = frozenset(facts)
        found = [i for i, state in enumerate(self.states) if wanted <= state]
        if len(found) != 1:
            raise ValueError(f"{sorted(wanted)} hold in {len(found)} states, not in one")
        return found[0]

    def observe(self, start: int, plan: Iterable[str]) -> Observations:
        """The observations of an agent that carries out a plan, such as `["(pickup b1)", "stack b1 b2"]`.

        :raises ValueError: if a step is no action of this world, or cannot be carried out.
        """
        names = self.action_names
        chosen = []
        for step, text in enumerate(plan, 1):
            name = text.strip().strip("()").lower()
            if name not in names:
                raise ValueError(f"step {step}: {text!r} is no action of this world")
            chosen.append(names.index(name))
        return follow(self.transitions, start, chosen)

    def satisfied(self, goals: Sequence[str]) -> Bool[np.ndarray, "G S"]:
        """In which states each goal holds.

        :param goals: what follows `(:goal (and`; see :func:`~sentax.domains.goal_inference.pddl.read_goal`.
        :raises PDDLError: if a text is none.
        """
        wanted = [frozenset(read_goal(text, self.blocks)) for text in goals]
        return np.array([[goal <= state for state in self.states] for goal in wanted])

    def costs(self, goals: Sequence[str]) -> Float[np.ndarray, "G S A"]:
        """What every action costs an agent with each goal, by exact planning."""
        satisfied = self.satisfied(goals)
        different, row = np.unique(satisfied, axis=0, return_inverse=True)
        values = shortest_paths(self.transitions, different)
        return action_costs(self.transitions, values)[row.ravel()]

    @functools.cached_property
    def facts(self) -> tuple[Atom, ...]:
        """Everything that can be said of the blocks and may be true."""
        every = set().union(*self.states)
        order = {name: i for i, name in enumerate(ARITIES)}
        return tuple(sorted(every, key=lambda atom: (order[atom[0]], atom)))

    def goals(self, max_facts: int = 2, *, predicates: Iterable[str] = tuple(ARITIES)) -> tuple[str, ...]:
        """Every goal of up to so many different facts, in any order, that some state satisfies.

        :param predicates: which the facts may have.

        >>> BlocksWorld(["b1", "b2"]).goals(2, predicates=["on", "clear"])
        (' (clear b1)))', ' (clear b2)))', ' (on b1 b2)))', ' (on b2 b1)))', ' (clear b1) (clear b2)))', ...)
        """
        allowed = [fact for fact in self.facts if fact[0] in set(predicates)]
        return tuple(
            write_goal(goal)
            for length in range(1, max_facts + 1)
            for goal in itertools.permutations(allowed, length)
            if any(state.issuperset(goal) for state in self.states)
        )

    def meaning(self, goals: Sequence[str]) -> list[str]:
        """A name for each goal that it shares with those that hold in the same states: the first of them."""
        names: dict[bytes, str] = {}
        return [names.setdefault(row.tobytes(), text) for row, text in zip(self.satisfied(goals), goals)]


__all__ = ["MAX_BLOCKS", "BlocksWorld"]
