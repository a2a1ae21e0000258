"""A gridworld with keys and doors: a map, the graph of its states, and the objects that an agent may want."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from sentax.domains.goal_inference.bayesian.agents import Observations, follow
from sentax.domains.goal_inference.bayesian.planning import action_costs, value_iteration

MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
COLOURS = {"r": "red", "g": "green", "b": "blue", "y": "yellow"}
MAX_STATES = 1 << 20
_GOAL = re.compile(r" ?\(has ([a-z0-9-]+)\) ?\)\)")


class Gridworld:
    """A map in which gems lie behind locked doors (doors, keys and gems, Zhi-Xuan et al. 2020).

    A map is lines of: `#` wall, `.` floor, `@` where the agent starts (once), `1` to `9` gems, `r g b y` keys
    and `R G B Y` locked doors of four colours. An agent moves up, down, left and right; `take` picks up the key
    it stands on; moving into a locked door opens it and uses up a key of its colour. A state is a place, which
    keys were taken, and which doors are open. The agent has a gem when it stands on it, and a key from when
    it took it.

    Goals are texts like those of the blocks world, ` (has gem1)))` or ` (has red-key)))`: what follows
    `(:goal (and`.

    :param text: the map; spaces around lines do not count.
    :raises ValueError: if it is not one, with the line.

    >>> world = Gridworld('''
    ...     #######
    ...     #@.r#2#
    ...     #...R.#
    ...     #1#####''')
    >>> world.goals
    (' (has gem1)))', ' (has gem2)))', ' (has red-key)))')
    >>> costs = world.costs(world.goals)
    >>> [int(cost) for cost in costs[:, world.start].min(axis=1)]
    [2, 7, 3]
    """

    def __init__(self, text: str) -> None:
        self.rows = tuple(line.strip() for line in text.strip().splitlines())
        self._read()
        K, D, P = len(self.keys), len(self.doors), len(self.places)
        self.num_states = P << (K + D)
        if self.num_states > MAX_STATES:
            raise ValueError(f"the map has {self.num_states} states, more than {MAX_STATES}")
        self.transitions = self._graph()
        self.start = self.state(self._start)

    def _read(self) -> None:
        objects: dict[str, list[tuple[int, int]]] = {}
        self.places: list[tuple[int, int]] = []
        for i, row in enumerate(self.rows):
            if len(row) != len(self.rows[0]):
                raise ValueError(
                    f"line {i + 1} of the map has {len(row)} characters, the first {len(self.rows[0])}"
                )
            for j, mark in enumerate(row):
                if mark not in f"#.@123456789{''.join(COLOURS)}{''.join(COLOURS).upper()}":
                    raise ValueError(f"line {i + 1} of the map has a {mark!r}")
                if mark != "#":
                    self.places.append((i, j))
                objects.setdefault(mark, []).append((i, j))
        if len(starts := objects.get("@", [])) != 1:
            raise ValueError(f"a map has one @, this one {len(starts)}")
        self._start = starts[0]
        self.gems = {f"gem{mark}": objects[mark] for mark in sorted(objects) if mark.isdigit()}
        self.keys = [(colour, place) for colour in COLOURS for place in objects.get(colour, [])]
        self.doors = [(colour, place) for colour in COLOURS for place in objects.get(colour.upper(), [])]
        self._place = {place: i for i, place in enumerate(self.places)}

    @property
    def action_names(self) -> tuple[str, ...]:
        return (*MOVES, "take")

    def state(self, place: tuple[int, int], taken: int = 0, opened: int = 0) -> int:
        """The number of a state.

        :param place: line and column, from 0.
        :param taken: which keys, bit by bit; `opened`: which doors.
        """
        return ((opened << len(self.keys)) + taken) * len(self.places) + self._place[place]

    def place(self, state: int) -> tuple[int, int]:
        """Where the agent is."""
        return self.places[state % len(self.places)]

    def _graph(self) -> Int[np.ndarray, "S A"]:
        """Every state's successors, all states at once."""
        K, P = len(self.keys), len(self.places)
        number = np.arange(self.num_states)
        place, taken, opened = number % P, (number // P) % (1 << K), number // (P << K)
        held = {
            colour: sum((taken >> k & 1 for k, (c, _) in enumerate(self.keys) if c == colour), 0 * number)
            - sum((opened >> d & 1 for d, (c, _) in enumerate(self.doors) if c == colour), 0 * number)
            for colour in COLOURS
        }
        locked = {self._place[where]: (d, colour) for d, (colour, where) in enumerate(self.doors)}
        transitions = np.full((self.num_states, len(MOVES) + 1), -1, np.int32)
        for a, (down, right) in enumerate(MOVES.values()):
            after = np.array([self._place.get((i + down, j + right), -1) for i, j in self.places])[place]
            now = opened.copy()
            for there, (d, colour) in locked.items():
                here = (after == there) & (opened >> d & 1 == 0)
                now = np.where(here, opened | (1 << d), now)
                after = np.where(here & (held[colour] <= 0), -1, after)
            transitions[:, a] = np.where(after >= 0, ((now << K) + taken) * P + after, -1)
        for k, (_, where) in enumerate(self.keys):
            here = (place == self._place[where]) & (taken >> k & 1 == 0)
            transitions[here, -1] = number[here] + (P << k)
        return transitions

    @property
    def goals(self) -> tuple[str, ...]:
        """A goal for each gem, and for each colour of keys."""
        colours = dict.fromkeys(colour for colour, _ in self.keys)
        return tuple(f" (has {name})))" for name in (*self.gems, *(f"{COLOURS[c]}-key" for c in colours)))

    def satisfied(self, goals: Sequence[str]) -> Bool[np.ndarray, "G S"]:
        """In which states each goal holds.

        :raises ValueError: for a text that is no goal about this map.
        """
        P = len(self.places)
        number = np.arange(self.num_states)
        rows = []
        for text in goals:
            match = _GOAL.fullmatch(text)
            name = match.group(1) if match else ""
            keys = [k for k, (colour, _) in enumerate(self.keys) if f"{COLOURS[colour]}-key" == name]
            if name in self.gems:
                rows.append(np.isin(number % P, [self._place[place] for place in self.gems[name]]))
            elif keys:
                rows.append((number // P & sum(1 << k for k in keys)) > 0)
            else:
                raise ValueError(f"{text!r} is no goal about this map; those are {', '.join(self.goals)}")
        return np.stack(rows)

    def costs(self, goals: Sequence[str]) -> Float[np.ndarray, "G S A"]:
        """What every action costs an agent with each goal, by value iteration on the device."""
        values, _ = value_iteration(jnp.asarray(self.transitions), jnp.asarray(self.satisfied(goals)))
        return action_costs(self.transitions, np.asarray(values))

    def observe(self, actions: Iterable[str], start: int | None = None) -> Observations:
        """The observations of an agent that does these things, such as `["right", "take"]`.

        :raises ValueError: if one of them is no action, or cannot be carried out.
        """
        chosen = []
        for step, name in enumerate(actions, 1):
            if name not in self.action_names:
                raise ValueError(f"step {step}: {name!r} is none of {', '.join(self.action_names)}")
            chosen.append(self.action_names.index(name))
        return follow(self.transitions, self.start if start is None else start, chosen)

    def __repr__(self) -> str:
        return f"Gridworld({len(self.rows)} x {len(self.rows[0])}, {self.num_states} states)"


__all__ = ["COLOURS", "MOVES", "Gridworld"]
