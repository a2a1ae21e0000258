"""Goals of the blocks world, from English to PDDL."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from sentax.domains.base import Domain, Message
from sentax.domains.goal_inference.data import Task, generate, read
from sentax.domains.goal_inference.goals import equivalent
from sentax.domains.goal_inference.pddl import ARITIES, Atom, PDDLError, read_goal, write_goal
from sentax.domains.goal_inference.strips import PlanError, State, find_plan, simulate
from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.predicate import predicate
from sentax.ppl.constraints.regex import regex

EXPERT = (
    "You are an expert of PDDL. You write valid PDDL code for planning problems that are described to you, "
    "directly, without explanations."
)
_FACT = re.compile(r"\(([^()]*)\)")


class GoalInference(Domain[Task]):
    """Planetarium's blocks world (Zuo et al. 2025, arXiv 2407.03321) as Lipkin et al. (2025) use it.

    An answer is what follows `(:goal (and`: facts, and the two parentheses that close.

    :param max_objects: problems with more blocks are not loaded.
    :param explicit: whether only problems described fact by fact are loaded, as in the paper.
    :param unique: whether only the first of problems with the same description is loaded, as in the paper.
    :param instruction: what prompts begin with; empty for none.

    >>> domain = GoalInference()
    >>> task = domain.sample()[1]
    >>> domain.gold(task)
    ' (on b1 b2) (arm-empty) (clear b3) (on b3 b1)))'
    >>> domain.score(task, " (on b3 b1) (on b1 b2)))")  # the rest follows: there are three blocks
    1.0
    >>> domain.score(task, " (on b1 b2)))")
    0.0
    >>> domain.cheap(task).matches(" (on b1 b2)))"), domain.cheap(task).matches(" (on b1 table)))")
    (True, False)
    """

    name: ClassVar[str] = "goal_inference"
    max_tokens: ClassVar[int] = 150
    stop: ClassVar[str | None] = "\n"
    chat_stop: ClassVar[str | None] = "\n"

    def __init__(
        self,
        *,
        max_objects: int = 9,
        explicit: bool = True,
        unique: bool = True,
        instruction: str = EXPERT,
    ) -> None:
        self.max_objects = max_objects
        self.explicit = explicit
        self.unique = unique
        self.instruction = instruction

    def load(self, directory: str | Path) -> list[Task]:
        """Planetarium's problems; see :func:`~sentax.domains.goal_inference.data.read` for the layouts."""
        return read(directory, max_objects=self.max_objects, explicit=self.explicit, unique=self.unique)

    def sample(self) -> list[Task]:
        """Twenty generated problems, in words that the embedded model knows."""
        return generate(20)

    def prompt(self, instance: Task) -> str:
        """The instruction, the description, and the problem cut just after `(:goal (and`."""
        head = f"{self.instruction}\n\n" if self.instruction else ""
        return f"{head}{instance.description}\n{instance.beginning}"

    def chat(self, instance: Task) -> list[Message]:
        """The same as messages. The user gives the beginning of the problem and asks for what follows it."""
        content = (
            f"{instance.description}\n\nThe problem begins as follows. Write only what follows its last line, "
            f"up to the two parentheses that close the goal, in one line.\n\n{instance.beginning}"
        )
        messages = [{"role": "system", "content": self.instruction}] if self.instruction else []
        return [*messages, {"role": "user", "content": content}]

    def cheap(self, instance: Task) -> Constraint:
        """The grammar of goals over the problem's objects. It nests to a fixed depth, so it is an automaton."""
        blocks = "(" + "|".join(re.escape(name) for name in instance.problem.objects) + ")"
        facts = "|".join(predicate + f" {blocks}" * arity for predicate, arity in ARITIES.items())
        return regex(rf"( ?\(({facts})\))+ ?\)\)")

    def dear(self, instance: Task) -> Constraint:
        """Every fact so far holds at the end of a plan for the true problem."""
        check = PlanCheck(instance)
        return predicate(check.prefix_ok, check.complete_ok, text="str")

    def score(self, instance: Task, answer: str) -> float:
        """1 for the true goal (:func:`~sentax.domains.goal_inference.goals.equivalent`), else 0."""
        try:
            goal = read_goal(answer, instance.problem.objects)
        except PDDLError:
            return 0.0
        return float(equivalent(instance.problem, goal, placeholder=instance.placeholder))

    def gold(self, instance: Task) -> str:
        """The true goal as the problem writes it."""
        return write_goal(instance.problem.goal)


class PlanCheck:
    """Whether the facts of a goal hold after a plan for the true problem.

    The test of a plan by Loula et al. (2025): it does not know the true goal, but a state in which it holds.
    A plan of the task is carried out; if it has none, a shortest one is found.

    :raises PlanError: if the plan does not reach the true goal, or none is found.

    >>> check = PlanCheck(GoalInference().sample()[1])
    >>> check.prefix_ok(" (on b1 b2) (on b2"), check.prefix_ok(" (on b2 b1)")
    (True, False)
    """

    def __init__(self, task: Task) -> None:
        problem = task.problem
        plan: Iterable = find_plan(problem.init, problem.goal) if task.plan is None else task.plan
        self.final: State = simulate(problem.init, plan)
        if missing := set(problem.goal) - self.final:
            raise PlanError(f"task {task.id}: its plan does not reach {sorted(missing)}")

    def prefix_ok(self, text: str) -> bool:
        """Whether the facts that have been closed hold."""
        return all(self._fact(match.group(1)) in self.final for match in _FACT.finditer(text))

    def complete_ok(self, text: str) -> bool:
        """Whether the goal is closed, and all of its facts hold."""
        return text.rstrip().endswith("))") and self.prefix_ok(text)

    @staticmethod
    def _fact(words: str) -> Atom:
        return tuple(words.lower().split())


__all__ = ["EXPERT", "GoalInference", "PlanCheck"]
