"""Planning problems of the blocks world in PDDL: reading and writing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Atom = tuple[str, ...]
"""A fact: a predicate and its blocks, such as `("on", "b1", "b2")`."""

ARITIES = {"arm-empty": 0, "clear": 1, "holding": 1, "on-table": 1, "on": 2}
"""The predicates of Planetarium's blocks world, with the number of their blocks."""

_OTHER_NAMES = {"handempty": "arm-empty", "hand-empty": "arm-empty", "ontable": "on-table"}
_TOKEN = re.compile(r"[()]|[^\s()]+")


class PDDLError(ValueError):
    """A text is not the PDDL that was expected; the message says where."""


@dataclass(frozen=True)
class Problem:
    """A problem of the blocks world.

    :param init: the facts at the start, all of them.
    :param goal: the facts that must hold at the end, in the order of the text.
    """

    name: str
    objects: tuple[str, ...]
    init: frozenset[Atom]
    goal: tuple[Atom, ...]


def read_problem(text: str) -> Problem:
    """A problem from its PDDL.

    :raises PDDLError: if it is not a problem of the blocks world.

    >>> problem = read_problem(
    ...     "(define (problem p) (:domain blocksworld) (:objects b1 b2)"
    ...     "(:init (arm-empty) (on-table b1) (on b2 b1) (clear b2)) (:goal (and (holding b2))))"
    ... )
    >>> problem.objects, problem.goal
    (('b1', 'b2'), (('holding', 'b2'),))
    """
    tree = _read(text)
    if not isinstance(tree, list) or tree[:1] != ["define"]:
        raise PDDLError("a problem begins with (define")
    parts = {part[0]: part[1:] for part in tree[1:] if isinstance(part, list) and part}
    for key in ("problem", ":objects", ":init", ":goal"):
        if key not in parts:
            raise PDDLError(f"the problem has no ({key} ...)")
    objects = tuple(parts[":objects"])
    if not all(isinstance(name, str) for name in objects):
        raise PDDLError("objects are names")
    goal = parts[":goal"]
    if len(goal) != 1 or not isinstance(goal[0], list) or goal[0][:1] != ["and"]:
        raise PDDLError("the goal is not (:goal (and ...))")
    init = frozenset(_atom(item, objects) for item in parts[":init"])
    return Problem(str(parts["problem"][0]), objects, init, tuple(_atom(a, objects) for a in goal[0][1:]))


def read_goal(text: str, objects: Iterable[str]) -> tuple[Atom, ...]:
    """The facts of `(:goal (and ...))` from what follows `(and`.

    :param text: facts, then the two parentheses that close the conjunction and the goal.
    :raises PDDLError: if that is not what it is, or an object is unknown.

    >>> read_goal(" (on b1 b2) (clear b1)))", ["b1", "b2"])
    (('on', 'b1', 'b2'), ('clear', 'b1'))
    """
    tree = _read(f"((and{text}")
    if len(tree) != 1 or not tree[0][1:]:
        raise PDDLError("a goal has one conjunction, which is not empty")
    return tuple(_atom(item, tuple(objects)) for item in tree[0][1:])


def write_goal(atoms: Iterable[Atom]) -> str:
    """The inverse of :func:`read_goal`.

    >>> write_goal([("on", "b1", "b2"), ("arm-empty",)])
    ' (on b1 b2) (arm-empty)))'
    """
    return "".join(f" ({' '.join(atom)})" for atom in atoms) + "))"


def _read(text: str) -> Any:
    """The one nested list of a text, in lower case as PDDL has no case."""
    text = re.sub(r";[^\n]*", "", text).lower()
    tokens = iter([match.group() for match in _TOKEN.finditer(text)])
    if next(tokens, None) != "(":
        raise PDDLError("expected (")
    tree = _list(tokens)
    rest = next(tokens, None)
    if rest is not None:
        raise PDDLError(f"the text goes on after its end, with {rest!r}")
    return tree


def _list(tokens: Iterator[str]) -> list[Any]:
    # Without recursion: a model may write any number of parentheses.
    stack: list[list[Any]] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            if not stack:
                return done
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    raise PDDLError(f"{len(stack)} parentheses are not closed")


def _atom(item: Any, objects: tuple[str, ...]) -> Atom:
    if not isinstance(item, list) or not item or not all(isinstance(word, str) for word in item):
        raise PDDLError(f"not a fact: {item!r}")
    name, blocks = str(item[0]), item[1:]
    predicate = _OTHER_NAMES.get(name, name)
    if ARITIES.get(predicate) != len(blocks):
        raise PDDLError(f"not a fact of the blocks world: ({' '.join(item)})")
    for block in blocks:
        if block not in objects:
            raise PDDLError(f"({' '.join(item)}): there is no object {block!r}")
    return (predicate, *blocks)


__all__ = ["ARITIES", "Atom", "PDDLError", "Problem", "read_goal", "read_problem", "write_goal"]
