"""STRIPS (Fikes and Nilsson 1971): actions that add and delete facts, and the blocks world's four."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from sentax.domains.goal_inference.pddl import Atom

State = frozenset[Atom]


class PlanError(ValueError):
    """A plan cannot be carried out, or there is none."""


class Action(NamedTuple):
    """A ground action.

    :param name: the operator and its blocks, such as `("stack", "b1", "b2")`.
    """

    name: Atom
    needs: State
    adds: State
    deletes: State

    def apply(self, state: State) -> State:
        """The state after the action.

        :raises PlanError: if something it needs does not hold.
        """
        if missing := self.needs - state:
            raise PlanError(f"({' '.join(self.name)}) needs {sorted(missing)}")
        return (state - self.deletes) | self.adds


def pickup(block: str) -> Action:
    """From the table into the hand."""
    free = frozenset({("clear", block), ("on-table", block), ("arm-empty",)})
    return Action(("pickup", block), free, frozenset({("holding", block)}), free)


def putdown(block: str) -> Action:
    """From the hand onto the table."""
    up = pickup(block)
    return Action(("putdown", block), up.adds, up.needs, up.adds)


def unstack(block: str, under: str) -> Action:
    """From another block into the hand."""
    free = frozenset({("on", block, under), ("clear", block), ("arm-empty",)})
    return Action(("unstack", block, under), free, frozenset({("holding", block), ("clear", under)}), free)


def stack(block: str, under: str) -> Action:
    """From the hand onto another block."""
    up = unstack(block, under)
    return Action(("stack", block, under), up.adds, up.needs, up.adds)


OPERATORS: dict[str, tuple[Callable[..., Action], int]] = {
    "pickup": (pickup, 1),
    "putdown": (putdown, 1),
    "stack": (stack, 2),
    "unstack": (unstack, 2),
}
"""The four operators with the number of their blocks, as in Planetarium's `blocksworld.pddl`."""


def read_action(text: str) -> Action:
    """An action of a plan, such as `(unstack b3 b2)`.

    :raises PlanError: if there is no such action.
    """
    name, *blocks = text.strip().strip("()").lower().split() or [""]
    if name not in OPERATORS or OPERATORS[name][1] != len(blocks):
        raise PlanError(f"not an action of the blocks world: {text!r}")
    return OPERATORS[name][0](*blocks)


def simulate(state: Iterable[Atom], plan: Iterable[str | Action]) -> State:
    """The state that a plan leads to.

    :raises PlanError: if an action cannot be carried out, with its place in the plan.

    >>> state = {("on-table", "b1"), ("on", "b2", "b1"), ("clear", "b2"), ("arm-empty",)}
    >>> sorted(simulate(state, ["(unstack b2 b1)", "(putdown b2)", "(pickup b1)"]))
    [('clear', 'b2'), ('holding', 'b1'), ('on-table', 'b2')]
    """
    current = frozenset(state)
    for step, item in enumerate(plan, 1):
        action = read_action(item) if isinstance(item, str) else item
        try:
            current = action.apply(current)
        except PlanError as error:
            raise PlanError(f"step {step}: {error}") from None
    return current


def actions(state: State) -> list[Action]:
    """Every action that can be carried out in a state of the blocks world."""
    held = next((atom[1] for atom in state if atom[0] == "holding"), None)
    clear = sorted(atom[1] for atom in state if atom[0] == "clear")
    if held is not None:
        return [putdown(held), *(stack(held, under) for under in clear)]
    below = {atom[1]: atom[2] for atom in state if atom[0] == "on"}
    return [unstack(block, below[block]) if block in below else pickup(block) for block in clear]


def find_plan(state: Iterable[Atom], goal: Sequence[Atom], max_states: int = 200_000) -> list[Action]:
    """A shortest plan, by A*.

    The estimate, two actions for each block that must be moved, never exceeds what is needed. A block must be
    moved if what the goal wants under it is not there, or if it stands where a block must go or leave.

    :param state: a whole state of the blocks world.
    :param max_states: how many states may be looked at.
    :raises PlanError: if there is no plan, or none was found among so many states.

    >>> state = {("on-table", "b1"), ("on", "b2", "b1"), ("clear", "b2"), ("arm-empty",)}
    >>> [" ".join(action.name) for action in find_plan(state, [("on", "b1", "b2")])]
    ['unstack b2 b1', 'putdown b2', 'pickup b1', 'stack b1 b2']
    """
    start, wanted = frozenset(state), frozenset(goal)
    numbers = itertools.count()  # of equal estimates the latest state first, never a comparison of states
    queue = [(_distance(start, wanted), 0, start)]
    came: dict[State, tuple[int, State | None, Action | None]] = {start: (0, None, None)}
    while queue:
        _, _, current = heapq.heappop(queue)
        cost = came[current][0]
        if wanted <= current:
            return _walk_back(came, current)
        if len(came) > max_states:
            raise PlanError(f"no plan among {max_states} states")
        for action in actions(current):
            after = action.apply(current)
            if after not in came or cost + 1 < came[after][0]:
                came[after] = (cost + 1, current, action)
                heapq.heappush(queue, (cost + 1 + _distance(after, wanted), -next(numbers), after))
    raise PlanError(f"no plan leads to {sorted(wanted)}")


def _walk_back(came: dict[State, tuple[int, State | None, Action | None]], state: State) -> list[Action]:
    plan: list[Action] = []
    while True:
        _, before, action = came[state]
        if before is None or action is None:
            return plan[::-1]
        plan.append(action)
        state = before


def _distance(state: State, goal: State) -> int:
    """At least so many actions are needed.

    Each block to be moved must be taken up (unless it is held) and put somewhere (unless it shall be held).
    """
    above = {atom[2]: atom[1] for atom in state if atom[0] == "on"}
    to_move: set[str] = set()
    for atom in goal - state:
        if atom[0] == "clear" and atom[1] in above:
            to_move.add(above[atom[1]])
        elif atom[0] in ("on", "on-table", "holding"):
            to_move.add(atom[1])
            if atom[0] == "on" and atom[2] in above:
                to_move.add(above[atom[2]])
    for block in list(to_move):
        while (block := above.get(block, "")) and block not in to_move:
            to_move.add(block)
    held = {atom[1] for atom in state if atom[0] == "holding"}
    hold = {atom[1] for atom in goal if atom[0] == "holding"}
    return len(to_move - held) + len(to_move - hold)


__all__ = ["OPERATORS", "Action", "PlanError", "State", "actions", "find_plan", "read_action", "simulate"]
