"""One cell of an evaluation: a method on an instance, once; what it gave, what it cost, or why it failed."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any, NamedTuple

import jax


class Answer(NamedTuple):
    """A text with its posterior probability and its score."""

    text: str
    probability: float
    score: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What a run gave; the same in every process on the same machine with the same versions.

    :param posterior: different answers, most probable first; empty if every particle died.
    :param accuracy: the posterior's expected score, 0 if every particle died.
    :param log_evidence: None if every particle died, or if the method's weights estimate nothing.
    :param ess: effective sample size of the final weights, 0 if every particle died.
    :param particles: those of the run's result; `dead`: how many of them have weight 0.
    :param checks: constraint checks, over all particles.
    :param lm_tokens: tokens drawn from the language model, those of particles that died or were resampled away
        included.
    :param emitted_tokens: those in the texts of particles that are alive at the end.
    """

    posterior: tuple[Answer, ...]
    accuracy: float
    log_evidence: float | None
    ess: float
    particles: int
    dead: int
    checks: int
    lm_tokens: int
    emitted_tokens: int

    @property
    def alive(self) -> bool:
        return self.dead < self.particles


@dataclasses.dataclass(frozen=True)
class Failure:
    """An exception in place of a result.

    :param stage: what was being done: `prompt`, `constraint`, `run` or `score`.
    """

    stage: str
    type: str
    message: str
    traceback: str


@dataclasses.dataclass
class Times:
    """Seconds, apart from all that must be equal when a run is repeated.

    :param prompt: to read the prompt; `constraint`: to build the constraint; `compile`: to trace and compile
        the program, 0 where it was there already; `run`: inference alone; `score`: to score the answers.
    """

    prompt: float = 0.0
    constraint: float = 0.0
    compile: float = 0.0
    run: float = 0.0
    score: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A cell that is done: what its file holds. One of `figures` and `failure` is None."""

    domain: str
    method: str
    instance: str
    replicate: int
    seed: int
    figures: Figures | None
    failure: Failure | None
    times: Times
    versions: dict[str, str]

    @property
    def accuracy(self) -> float:
        """The posterior's expected score; a failure is worth 0."""
        return 0.0 if self.figures is None else self.figures.accuracy

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = dataclasses.asdict(self)
        if self.figures is not None:
            plain["figures"]["posterior"] = [answer._asdict() for answer in self.figures.posterior]
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Record:
        """The inverse of :meth:`as_dict`.

        :raises TypeError, KeyError: if it is no record's.
        """
        figures, failure = plain["figures"], plain["failure"]
        if figures is not None:
            posterior = tuple(Answer(**answer) for answer in figures["posterior"])
            figures = Figures(**(figures | {"posterior": posterior}))
        parts = {
            "figures": figures,
            "failure": None if failure is None else Failure(**failure),
            "times": Times(**plain["times"]),
        }
        return cls(**(plain | parts))


def cell_key(seed: int, method: str, instance: str, replicate: int) -> jax.Array:
    """The random key of a cell: of what it is, not of when it is run.

    >>> a, b = cell_key(0, "lcd", "7", 0), cell_key(0, "lcd", "7", 1)
    >>> bool((jax.random.key_data(a) == jax.random.key_data(b)).all())
    False
    """
    name = "\0".join((str(seed), method, instance, str(replicate))).encode()
    digest = hashlib.blake2b(name, digest_size=8).digest()
    key = jax.random.key(0)
    for half in (digest[:4], digest[4:]):
        key = jax.random.fold_in(key, int.from_bytes(half, "little"))
    return key


__all__ = ["Answer", "Failure", "Figures", "Record", "Times", "cell_key"]
