"""What is evaluated and how: all that a result depends on but the instance and the replicate."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

from sentax.inference.methods import METHODS
from sentax.inference.results import Results


class ConstraintChoice(str, Enum):
    """Which of a domain's constraints a text must satisfy."""

    cheap = "cheap"
    dear = "dear"
    both = "both"


@dataclasses.dataclass(frozen=True)
class Settings:
    """An evaluation of one domain under one model; results of different ones must not be mixed.

    :param domain: for :func:`~sentax.evaluation.specs.make_domain`; `model`: for
        :func:`~sentax.evaluation.specs.make_model`.
    :param data: the folder that the instances are read from; None for those that ship.
    :param max_tokens: the domain's.
    """

    domain: str
    model: str | None
    data: str | None
    chat: bool
    constraint: ConstraintChoice
    seed: int
    max_tokens: int

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"constraint": self.constraint.value}


@dataclasses.dataclass(frozen=True)
class MethodSettings:
    """A method of :data:`sentax.METHODS` with its size.

    :param ess_threshold: see :class:`sentax.SMC`; None where the method does not resample.
    :raises ValueError: for a method that there is not, or a number out of range.
    """

    name: str
    particles: int
    ess_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise ValueError(f"no method {self.name!r}; there are: {', '.join(METHODS)}")
        if isinstance(self.particles, bool) or not isinstance(self.particles, int) or self.particles < 1:
            raise ValueError(f"particles of {self.name} must be at least 1, got {self.particles!r}")
        if self.ess_threshold is None:
            if self.name in RESAMPLING:
                raise ValueError(f"{self.name} resamples: it needs an ess_threshold")
        elif self.name not in RESAMPLING:
            raise ValueError(
                f"{self.name} does not resample by effective sample size: only {' and '.join(RESAMPLING)} "
                "take an ess_threshold"
            )
        elif not 0 <= self.ess_threshold <= 1:
            raise ValueError(f"ess_threshold of {self.name} must be between 0 and 1, got {self.ess_threshold}")

    @property
    def constrained(self) -> bool:
        """Whether the constraint takes part; the base model never hears of it."""
        return self.name != "base"

    def sampler(self, program: Any) -> Results:
        """The method around a program."""
        options = {} if self.ess_threshold is None else {"ess_threshold": self.ess_threshold}
        return METHODS[self.name](program, self.particles, **options)


RESAMPLING = ("twisted-smc", "awrs-smc")
"""Methods with an `ess_threshold`."""

PAPER = {
    "base": (1, None),
    "lcd": (1, None),
    "sample-rerank": (10, None),
    "twisted-smc": (10, 0.9),
    "awrs-smc": (5, 0.5),
}
"""Particles and `ess_threshold` of Lipkin et al. (2025, arXiv 2504.05410)."""

_PARTICLES = 5  # of methods that the paper has not


def paper(name: str) -> MethodSettings:
    """A method as in the paper; those that it has not get as many particles as AWRS-SMC.

    >>> paper("awrs-smc"), paper("beam").particles
    (MethodSettings(name='awrs-smc', particles=5, ess_threshold=0.5), 5)
    """
    particles, ess_threshold = PAPER.get(name, (_PARTICLES, None))
    return MethodSettings(name, particles, ess_threshold)


def resized(
    methods: list[MethodSettings],
    particles: int | Mapping[str, int] | None = None,
    ess_threshold: float | Mapping[str, float] | None = None,
) -> list[MethodSettings]:
    """Methods with other sizes.

    :param particles: for all of them, or by method.
    :param ess_threshold: the same; one number is for those methods that resample.
    :raises ValueError: for a method that is not among them, or a threshold that none of them takes.

    >>> resized([paper("base"), paper("awrs-smc")], {"awrs-smc": 8}, 0.7)[1]
    MethodSettings(name='awrs-smc', particles=8, ess_threshold=0.7)
    """
    names = [method.name for method in methods]
    for option, value in (("particles", particles), ("ess_threshold", ess_threshold)):
        if isinstance(value, Mapping) and (unknown := [name for name in value if name not in names]):
            raise ValueError(f"{option} of {unknown[0]!r}: evaluated are only {', '.join(names)}")
    if isinstance(ess_threshold, int | float):
        if not set(names) & set(RESAMPLING):
            raise ValueError(f"an ess_threshold is for {' and '.join(RESAMPLING)}, which are not evaluated")
        ess_threshold = {name: ess_threshold for name in names if name in RESAMPLING}
    sizes = dict.fromkeys(names, particles) if isinstance(particles, int) else dict(particles or {})
    thresholds = dict(ess_threshold or {})
    return [
        MethodSettings(
            method.name,
            sizes.get(method.name, method.particles),
            thresholds.get(method.name, method.ess_threshold),
        )
        for method in methods
    ]


__all__ = ["PAPER", "RESAMPLING", "ConstraintChoice", "MethodSettings", "Settings", "paper", "resized"]
