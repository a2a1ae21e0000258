"""Goals of the blocks world in PDDL, with the English that describes them and the problem around them."""

from __future__ import annotations

import itertools
from random import Random

from sentax.models.data.draws import chance, tail

Atom = tuple[str, ...]
Towers = list[list[int]]
"""Each tower from the table upwards."""


def towers(rng: Random, blocks: list[int]) -> Towers:
    """Blocks dealt onto towers at random."""
    order = blocks[:]
    rng.shuffle(order)
    result: Towers = []
    join = rng.choice((0.0, 0.3, 0.5, 0.7, 1.0))
    for block in order:
        if result and chance(rng, join):
            rng.choice(result).append(block)
        else:
            result.append([block])
    return result


def facts(state: Towers, holding: int | None) -> list[Atom]:
    """All that is true of a state, in the order arm, then tower by tower from below."""
    atoms: list[Atom] = [("arm-empty",)] if holding is None else [("holding", f"b{holding}")]
    for tower in state:
        atoms.append(("on-table", f"b{tower[0]}"))
        atoms += [("on", f"b{upper}", f"b{lower}") for lower, upper in itertools.pairwise(tower)]
        atoms.append(("clear", f"b{tower[-1]}"))
    return atoms


def _state(rng: Random, blocks: list[int]) -> list[Atom]:
    holding = rng.choice(blocks) if len(blocks) > 1 and chance(rng, 0.12) else None
    return facts(towers(rng, [b for b in blocks if b != holding]), holding)


def _english(rng: Random, atom: Atom) -> str:
    if atom[0] == "arm-empty":
        return tail(rng, ("your arm should be empty", "the arm is empty", "your arm holds nothing"))
    if atom[0] == "holding":
        return tail(rng, ("you should be holding {}", "the arm is holding {}", "{} is in your hand")).format(
            atom[1]
        )
    if atom[0] == "clear":
        return tail(rng, ("{} should be clear", "{} is clear", "nothing is on top of {}")).format(atom[1])
    if atom[0] == "on-table":
        return tail(rng, ("{} should be on the table", "{} is on the table", "{} rests on the table")).format(
            atom[1]
        )
    return tail(rng, ("{} should be on {}", "{} is on top of {}", "{} is on {}")).format(*atom[1:])


def _capital(text: str) -> str:
    return text if text[0] == "b" and text[1].isdigit() else text[0].upper() + text[1:]


def _sentence(rng: Random, atoms: list[Atom]) -> str:
    clauses = [_english(rng, atom) for atom in atoms]
    if chance(rng, 0.35):
        return " ".join(_capital(clause) + "." for clause in clauses)
    text = clauses[0] if len(clauses) == 1 else ", ".join(clauses[:-1]) + " and " + clauses[-1]
    return _capital(text) + "."


def _conjunction(atoms: list[Atom]) -> str:
    return "(and " + " ".join("(" + " ".join(atom) + ")" for atom in atoms) + ")"


def _atoms(rng: Random, blocks: list[int]) -> list[Atom]:
    """Some facts of one possible state: most goals are partial, all can be reached."""
    atoms = _state(rng, blocks)
    if chance(rng, 0.5):
        atoms = rng.sample(atoms, rng.randint(1, min(len(atoms), 5)))
    elif chance(rng, 0.3):
        rng.shuffle(atoms)
    return atoms


def _blocks(rng: Random, most: int = 6) -> list[int]:
    return list(range(1, 1 + rng.choice((2, 3, 3, 3, 4, 4, 5, most))))


def goal(rng: Random) -> str:
    """A goal such as `(:goal (and (on b1 b2) (clear b1)))`."""
    return f"(:goal {_conjunction(_atoms(rng, _blocks(rng)))})"


def described_goal(rng: Random) -> str:
    """An English description and the goal that it describes."""
    atoms = _atoms(rng, _blocks(rng))
    label = rng.choice(("Goal: ", "Goal: ", "PDDL: ", ""))
    intro = tail(rng, ("", "Your goal is to have the following: ", "Description: ", "Task: ", "In words: "))
    return f"{intro}{_sentence(rng, atoms)}\n{label}(:goal {_conjunction(atoms)})"


def problem(rng: Random) -> str:
    """A description of start and goal, and the whole problem in PDDL; the goal comes last."""
    blocks = _blocks(rng, most=5)
    start, end = _state(rng, blocks), _atoms(rng, blocks)
    names = " ".join(f"b{b}" for b in blocks)
    numbers = f"You have {len(blocks)} blocks, b1 through b{len(blocks)}"
    situation = "." if chance(rng, 0.5) else ". " + _sentence(rng, start)
    name = tail(rng, ("towers", "stack", "blocks", "swap", "table", "tidy")) + f"-{rng.randint(1, 99)}"
    newline = "\n    " if chance(rng, 0.8) else "\n  "
    return (
        f"{numbers}{situation}\nYour goal is to have the following: {_sentence(rng, end)}\n"
        f"(define (problem {name}){newline}(:domain blocksworld){newline}(:objects {names}){newline}"
        f"(:init {_conjunction(start)[5:-1]}){newline}(:goal {_conjunction(end)})\n)"
    )
