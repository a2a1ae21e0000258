"""When two goals of the blocks world are the same: implied facts, and renamed blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from sentax.domains.goal_inference.pddl import Atom, Problem


def complete(goal: Iterable[Atom], objects: Collection[str]) -> frozenset[Atom] | None:
    """The facts that hold in every state in which a goal holds; None if there is no such state.

    Two goals hold in the same states if and only if this set is the same. It is what Planetarium (Zuo et al.
    2025, arXiv 2407.03321) calls the fully specified goal: the "trivial" propositions are added, those that
    hold in any state that satisfies it. (Its code differs in one case: where nothing is said of a block and of
    the arm, the block may be held, so neither `clear` nor `on-table` follows for it.)

    :param objects: all blocks.

    >>> sorted(complete([("on", "b1", "b2")], ["b1", "b2"]))
    [('arm-empty',), ('clear', 'b1'), ('on', 'b1', 'b2'), ('on-table', 'b2')]
    >>> sorted(complete([("on", "b1", "b2")], ["b1", "b2", "b3"]))  # b3 may be anywhere, even in the hand
    [('on', 'b1', 'b2')]
    >>> complete([("on", "b1", "b2"), ("clear", "b2")], ["b1", "b2"]) is None
    True
    """
    facts = set(goal)
    below = {a[1]: a[2] for a in facts if a[0] == "on"}
    above = {a[2]: a[1] for a in facts if a[0] == "on"}
    held = {a[1] for a in facts if a[0] == "holding"}
    on_table = {a[1] for a in facts if a[0] == "on-table"}
    clear = {a[1] for a in facts if a[0] == "clear"}
    arm_empty = ("arm-empty",) in facts
    number_of_on = sum(a[0] == "on" for a in facts)
    if (
        len(below) != number_of_on  # a block on two blocks
        or len(above) != number_of_on  # two blocks on one
        or len(held) + arm_empty > 1
        or held & (below.keys() | above.keys() | on_table | clear)
        or on_table & below.keys()
        or clear & above.keys()
    ):
        return None
    bottoms = {}
    for block in objects:
        bottom, steps = block, 0
        while bottom in below:
            bottom, steps = below[bottom], steps + 1
            if steps > number_of_on:
                return None  # a circle
        bottoms[block] = bottom

    # What may still be chosen: what a tower stands on, and what stands on a tower.
    loose = {b for b in objects if b not in below and b not in on_table and b not in held}
    open_tops = {b for b in objects if b not in above and b not in clear and b not in held}
    may_be_held = set() if held or arm_empty else loose & open_tops
    if not held and not may_be_held:
        facts.add(("arm-empty",))
    for block in open_tops - may_be_held:
        if not loose - {bottoms[block]}:
            facts.add(("clear", block))
    for block in loose - may_be_held:
        if all(bottoms[top] == block for top in open_tops):
            facts.add(("on-table", block))
    return frozenset(facts)


def equivalent(problem: Problem, goal: Iterable[Atom], *, placeholder: bool = False) -> bool:
    """Whether a goal is the problem's goal, by Planetarium's definition.

    Both goals are completed (:func:`complete`). They are the same if some renaming of the blocks turns one into
    the other and the initial state into itself: blocks that nothing tells apart may change places. With
    `placeholder` the renaming need not respect the initial state: a description such as "stack the blocks into
    towers of heights 1 and 2" does not say which block goes where.

    :param goal: facts about the problem's objects; one that cannot be reached is never the same.

    >>> from sentax.domains.goal_inference.pddl import read_problem
    >>> problem = read_problem(
    ...     "(define (problem p) (:domain blocksworld) (:objects b1 b2 b3)"
    ...     "(:init (arm-empty) (on-table b1) (on-table b2) (on b3 b2) (clear b1) (clear b3))"
    ...     "(:goal (and (on b1 b3))))"
    ... )
    >>> equivalent(problem, [("on", "b1", "b3"), ("on-table", "b2")])
    False
    >>> equivalent(problem, [("on", "b1", "b2")]), equivalent(problem, [("on", "b1", "b2")], placeholder=True)
    (False, True)
    """
    true, other = complete(problem.goal, problem.objects), complete(goal, problem.objects)
    if true is None or other is None:
        return False
    init = frozenset() if placeholder else problem.init
    return _canonical(problem.objects, init, true) == _canonical(problem.objects, init, other)


def _canonical(objects: Collection[str], init: Collection[Atom], goal: Collection[Atom]) -> Any:
    """A value that two pairs of scenes share exactly if they are isomorphic.

    In either scene a block stands on at most one other and carries at most one, so a walk over a connected
    component along these relations, in a fixed order, is determined by where it begins: the least of its
    descriptions over all beginnings is the same for isomorphic components, and for no others.
    """
    labels: dict[str, list[tuple[str, str]]] = {block: [] for block in objects}
    steps: dict[str, dict[tuple[str, str], str]] = {block: {} for block in objects}
    flags = []
    for scene, atoms in (("init", init), ("goal", goal)):
        for predicate, *blocks in atoms:
            if len(blocks) == 2:
                steps[blocks[0]][scene, "below"] = blocks[1]
                steps[blocks[1]][scene, "above"] = blocks[0]
            elif blocks:
                labels[blocks[0]].append((scene, predicate))
            else:
                flags.append((scene, predicate))

    def describe(start: str) -> tuple[tuple, set[str]]:
        order = {start: 0}
        lines = []
        for block in (queue := [start]):
            line: list[tuple[tuple[str, str], int]] = []
            for step, other in sorted(steps[block].items()):
                if other not in order:
                    order[other] = len(order)
                    queue.append(other)
                line.append((step, order[other]))
            lines.append((tuple(sorted(labels[block])), tuple(line)))
        return tuple(lines), set(order)

    components: Counter[tuple] = Counter()
    seen: set[str] = set()
    for block in objects:
        if block not in seen:
            _, component = describe(block)
            seen |= component
            components[min(describe(start)[0] for start in component)] += 1
    return sorted(flags), components


__all__ = ["complete", "equivalent"]
