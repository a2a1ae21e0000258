"""What a domain is: instances, what a model is asked, what an answer must satisfy, what it is worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Bool, Int

from sentax.ppl.constraints.base import PAD, Constraint
from sentax.ppl.constraints.predicate import host_errors
from sentax.ppl.language_model import Context
from sentax.ppl.primitives import generate
from sentax.ppl.text import Text

Message = dict[str, str]
"""One turn of a conversation: ``{"role": ..., "content": ...}``."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One thing asked of a model; domains add what they need.

    :param id: tells it from the others of its set; the same in every run.
    """

    id: str


I = TypeVar("I", bound=Instance)  # noqa: E741


class Domain(ABC, Generic[I]):
    """A task with its data, as the evaluation harness sees it. A subclass is one file in its own package.

    The law that :func:`check_answers` checks: an answer that is known to be right satisfies both constraints,
    and its score is 1.

    The *cheap* constraint is a grammar: it has masks, or costs about a microsecond a check. The *dear* one runs
    something (a database, a planner, a chemistry toolkit) and is asked about what the grammar lets through:
    ``cheap(instance) & dear(instance)`` does that.
    """

    name: ClassVar[str]
    """As on the command line."""

    max_tokens: ClassVar[int]
    """The most tokens an answer may have."""

    stop: ClassVar[str | None] = None
    """The character that ends an answer to :meth:`prompt` as end-of-text does."""

    chat_stop: ClassVar[str | None] = None
    """The same for :meth:`chat`."""

    @abstractmethod
    def load(self, directory: str | Path) -> list[I]:
        """The instances of the real data set, in the layout in which it is published.

        :param directory: where the user put it, or a folder that holds it under its usual name.
        :raises FileNotFoundError: which file is missing.
        :raises ValueError: if a file is not what it should be.
        """

    @abstractmethod
    def sample(self) -> list[I]:
        """A few instances that ship with sentax, in the same form."""

    @abstractmethod
    def prompt(self, instance: I) -> str:
        """A text that a base model continues with its answer."""

    @abstractmethod
    def chat(self, instance: I) -> list[Message]:
        """The same as messages for an instruction-tuned model."""

    @abstractmethod
    def cheap(self, instance: I) -> Constraint:
        """The grammar of answers."""

    @abstractmethod
    def dear(self, instance: I) -> Constraint:
        """What a grammar cannot say of them."""

    @abstractmethod
    def score(self, instance: I, answer: str) -> float:
        """What an answer is worth, between 0 and 1. Never raises for what a model wrote."""

    def gold(self, instance: I) -> str | None:
        """An answer that is known to be right, as :meth:`prompt` would be continued; None if there is none."""
        del instance
        return None

    def program(self, *, chat: bool = False) -> Callable[[Context, Constraint | None], Text]:
        """The domain as a NumPyro program of a context and a constraint, with one text, `answer`."""
        stop = self.chat_stop if chat else self.stop

        def program(context: Context, where: Constraint | None = None) -> Text:
            return generate("answer", context, self.max_tokens, where=where, stop=stop)

        return program


def expected_score(domain: Domain[I], instance: I, posterior: Mapping[str, float]) -> float:
    """The accuracy of a posterior over answers: the sum of probability times score (Loula et al. 2025).

    :param posterior: answers and their probabilities, as :meth:`sentax.SMC.posterior` gives them.
    """
    return sum(p * domain.score(instance, answer) for answer, p in posterior.items())


def check_answers(domain: Domain[I], instances: list[I]) -> None:
    """Check :class:`Domain`'s law on instances that have a right answer.

    :raises AssertionError: with the instance and the answer that break it.
    :raises ValueError: if no instance has a right answer.
    """
    checked = 0
    for instance in instances:
        answer = domain.gold(instance)
        if answer is None:
            continue
        checked += 1
        for kind, constraint in (("cheap", domain.cheap(instance)), ("dear", domain.dear(instance))):
            if not _matches(constraint, answer):
                raise AssertionError(f"{instance.id}: the {kind} constraint refuses right answer {answer!r}")
        if (score := domain.score(instance, answer)) != 1:
            raise AssertionError(f"{instance.id}: right answer {answer!r} scores {score}, not 1")
    if not checked:
        raise ValueError("none of these instances has a right answer to check")


@jax.jit
def _accepts(constraint: Constraint, token: Int[Array, " L"]) -> Bool[Array, ""]:
    return constraint.accepts(constraint.step(constraint.init(), token))


def _matches(constraint: Constraint, text: str) -> bool:
    """:meth:`Constraint.matches`, compiled once for all constraints of a kind: there are many to check."""
    raw = text.encode()
    token = np.full(max(256, 1 << (len(raw) - 1).bit_length()), PAD, np.int32)
    token[: len(raw)] = np.frombuffer(raw, np.uint8)
    with host_errors():
        return bool(_accepts(constraint, token))


def find_folder(directory: str | Path, name: str) -> Path:
    """A data set's folder: the given one, or the one of that name in it.

    :raises FileNotFoundError: if there is no such folder.
    """
    root = Path(directory)
    if not root.is_dir():
        raise FileNotFoundError(f"no such folder: {root}")
    return root / name if (root / name).is_dir() else root


def find_file(folder: Path, *names: str) -> Path:
    """The first of some files that is there.

    :raises FileNotFoundError: if none is.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has none of: {', '.join(names)}")


__all__ = ["Domain", "Instance", "Message", "check_answers", "expected_score", "find_file", "find_folder"]
