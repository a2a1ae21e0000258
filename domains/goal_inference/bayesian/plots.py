"""Pictures of goal inference, by matplotlib: the map, and what is believed over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sentax.domains.goal_inference.bayesian.agents import Observations
from sentax.domains.goal_inference.bayesian.beliefs import Belief
from sentax.domains.goal_inference.bayesian.exact import ExactPosterior
from sentax.domains.goal_inference.bayesian.gridworld import COLOURS, Gridworld

_INKS = {"r": "#c8372d", "g": "#3a923a", "b": "#1f5fbf", "y": "#d9a400"}
_WALL, _FLOOR, _INK = "#5b616b", "#f4f5f7", "#23272e"


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'sentax[plots]'") from error
    return plt


def plot_gridworld(world: Gridworld, observations: Observations | None = None, ax: Any = None) -> Any:
    """The map: walls, doors (filled), keys (rings with a bit), gems (diamonds), and the agent's way.

    :param ax: where to draw; None: a new figure.
    :return: a `matplotlib.figure.Figure`.
    :raises ImportError: without matplotlib: install `sentax[plots]`.
    """
    plt = _pyplot()
    height, width = len(world.rows), len(world.rows[0])
    if ax is None:
        _, ax = plt.subplots(figsize=(0.42 * width, 0.42 * height), layout="constrained")
    for i, row in enumerate(world.rows):
        for j, mark in enumerate(row):
            tile = _WALL if mark == "#" else _INKS.get(mark.lower(), _FLOOR) if mark.isupper() else _FLOOR
            ax.add_patch(plt.Rectangle((j, i), 1, 1, facecolor=tile, edgecolor="white", lw=0.6))
            if mark.isupper():
                ax.plot(j + 0.72, i + 0.5, "o", color="white", ms=3)
            elif mark in COLOURS:
                ax.plot(j + 0.38, i + 0.5, "o", mfc="none", mec=_INKS[mark], mew=2, ms=6)
                ax.plot([j + 0.52, j + 0.84, j + 0.84], [i + 0.5, i + 0.5, i + 0.68], color=_INKS[mark], lw=2)
            elif mark.isdigit():
                ax.plot(j + 0.5, i + 0.5, "D", color="#8be0d4", mec=_INK, mew=0.8, ms=11)
                ax.text(j + 0.5, i + 0.52, mark, ha="center", va="center", fontsize=8, color=_INK)
            elif mark == "@":
                ax.plot(j + 0.5, i + 0.5, "o", color=_INK, ms=8)
    if observations is not None:
        way = np.array([world.place(int(state)) for state in _states(world, observations)], float) + 0.5
        # Ways there and back lie side by side.
        way += np.linspace(-0.14, 0.14, len(way))[:, None]
        ax.plot(way[:, 1], way[:, 0], color=_INK, lw=1.2, marker=".", ms=4, alpha=0.8)
    ax.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
    ax.axis("off")
    return ax.figure


def _states(world: Gridworld, observations: Observations) -> list[int]:
    """The states on the way, the last one included."""
    seen = [(int(s), int(a)) for s, a in zip(*observations) if a >= 0]
    start = int(observations.states[0])
    return [start, *(int(world.transitions[state, action]) for state, action in seen)]


def _without_end(goal: str) -> str:
    return goal.removesuffix("))").strip()


def plot_beliefs(
    beliefs: Sequence[Belief],
    exact: ExactPosterior | None = None,
    texts: Sequence[str] = (),
    *,
    actions: Sequence[str] = (),
    label: Callable[[str], str] = _without_end,
    most: int = 8,
    ax: Any = None,
) -> Any:
    """The posterior over goals after each action: particles as dots, the exact one as lines.

    :param exact: of the same scene; `texts`: its language's, in their order.
    :param actions: names, written under the steps.
    :param label: what a goal is called; goals of one name are added up.
    :param most: only so many goals, those that were ever most probable.
    :param ax: where to draw; None: a new figure.
    :return: a `matplotlib.figure.Figure`.
    :raises ImportError: without matplotlib: install `sentax[plots]`.
    """
    plt = _pyplot()
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
    steps = [belief.step for belief in beliefs]
    dots = _by_label([list(belief.goals.items()) for belief in beliefs], label)
    lines = {}
    if exact is not None:
        lines = _by_label([list(zip(texts, row)) for row in exact.goals], label)
    peak = {name: max(max(row) for row in (dots.get(name), lines.get(name)) if row) for name in {*dots, *lines}}
    names = sorted(peak, key=lambda name: -peak[name])[:most]
    for i, name in enumerate(sorted(names)):
        colour = plt.get_cmap("tab10")(i % 10)
        if name in lines:
            ax.plot(range(len(lines[name])), lines[name], color=colour, lw=1.3)
        values = dots.get(name, [0.0] * len(steps))
        ax.plot(steps, values, "o" if lines else "o-", color=colour, ms=4.5, label=name)
    ax.set(ylim=(-0.02, 1.02), ylabel="probability", xlabel="" if actions else "actions seen")
    if actions:
        ax.set_xticks(range(len(actions) + 1), ["", *actions], rotation=60, ha="right", fontsize=8)
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.spines[["top", "right"]].set_visible(False)
    return ax.figure


def _by_label(rows: list[list[tuple[str, float]]], label: Callable[[str], str]) -> dict[str, list[float]]:
    table: dict[str, list[float]] = {}
    for step, row in enumerate(rows):
        for text, p in row:
            table.setdefault(label(text), [0.0] * len(rows))[step] += float(p)
    return table


def plot_rationality(
    beliefs: Sequence[Belief], exact: ExactPosterior | None = None, *, ax: Any = None, bins: int = 16
) -> Any:
    r"""The last belief about :math:`\beta`: particles as bars, the prior and the exact posterior as lines.

    :param exact: of the same scene; its first row is the prior.
    :return: a `matplotlib.figure.Figure`.
    :raises ImportError: without matplotlib: install `sentax[plots]`.
    """
    plt = _pyplot()
    if ax is None:
        _, ax = plt.subplots(figsize=(4.5, 2.8), layout="constrained")
    last = beliefs[-1]
    high = float(np.quantile(last.rationality if exact is None else exact.nodes, 0.99))
    edges = np.linspace(0.0, high, bins + 1)
    heights, _ = np.histogram(last.rationality, edges, weights=last.weights)
    width = edges[1]
    ax.bar(edges[:-1], heights / width, width=width, align="edge", color="#c3d4ee", label="particles")
    if exact is not None:
        middles = (edges[1:] + edges[:-1]) / 2
        for row, style, name in ((0, "--", "prior"), (len(beliefs) - 1, "-", "exact")):
            density, _ = np.histogram(exact.nodes, edges, weights=exact.rationality[row])
            ax.plot(middles, density / width, style, color=_INK, lw=1.3, label=name)
    ax.set(xlabel=r"rationality $\beta$", ylabel="density", xlim=(0, high))
    ax.legend(frameon=False, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    return ax.figure


__all__ = ["plot_beliefs", "plot_gridworld", "plot_rationality"]
