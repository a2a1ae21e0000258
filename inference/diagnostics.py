"""What a run cost and how its particles fared."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from sentax.inference.engine import Population
from sentax.inference.sites import SiteNumbers


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Figures of one run.

    :param checks: constraint checks (outcomes whose factors decided something), over all particles.
    :param tokens: tokens drawn from a language model, over all particles, resampled-away ones included.
    :param checks_per_token: their ratio; NaN-free: 0 where nothing was drawn.
    :param resampling_steps: for each scan, the steps before which the particles were resampled.
    :param ess_trace: for each scan, the effective sample size before each step that was run.
    :param steps: for each scan, the steps run before every particle was done.
    :param surviving_lineages: particles of the beginning that a living particle descends from.
    :param dead: particles of weight zero at the end.
    :param methods: by kernel site, how its outcomes were drawn; with the reason where masks were wanted
        and the constraint has none.
    :param compile_time: seconds to trace and compile, 0 if the program was there already.
    :param run_time: seconds to run.
    """

    num_particles: int
    checks: int
    tokens: int
    resampling_steps: tuple[tuple[int, ...], ...]
    ess_trace: tuple[tuple[float, ...], ...]
    steps: tuple[int, ...]
    surviving_lineages: int
    dead: int
    methods: dict[str, str]
    compile_time: float
    run_time: float

    @property
    def checks_per_token(self) -> float:
        return self.checks / self.tokens if self.tokens else 0.0

    def as_dict(self) -> dict[str, object]:
        """Plain Python values, for JSON."""
        return dataclasses.asdict(self) | {"checks_per_token": self.checks_per_token}


def diagnose(population: Population, sites: SiteNumbers, compile_time: float, run_time: float) -> Diagnostics:
    """Reads a population's figures off."""
    alive = np.asarray(population.log_weights) > -np.inf
    origin = np.arange(len(alive))
    # From the last scan back: whom each living particle descends from at the beginning.
    for start in reversed(population.start):
        origin = np.asarray(start)[origin]
    steps = tuple(int(s) for s in population.steps)
    return Diagnostics(
        num_particles=len(alive),
        checks=int(np.asarray(population.checks, np.int64).sum()),
        tokens=int(np.asarray(population.tokens, np.int64).sum()),
        resampling_steps=tuple(tuple(np.flatnonzero(r).tolist()) for r in population.resampled),
        ess_trace=tuple(tuple(np.asarray(e)[:n].astype(float).tolist()) for e, n in zip(population.ess, steps)),
        steps=steps,
        surviving_lineages=len(set(origin[alive].tolist())),
        dead=int((~alive).sum()),
        methods={
            name: f"{method} ({sites.unmasked[name]})" if name in sites.unmasked else method
            for name, method in sites.methods.items()
        },
        compile_time=compile_time,
        run_time=run_time,
    )


def deaths(population: Population, names: list[str]) -> str:
    """Why nobody survived: where the last particles died, and of which factors."""
    death = np.asarray(population.weight.death)
    cause = np.asarray(population.weight.cause)
    place, step = max(
        (tuple(d) for d in death.tolist()), key=lambda d: (d[0] if d[0] >= 0 else -d[0] - 1.5, d[1])
    )
    last = [c for c, d in zip(cause, death.tolist()) if tuple(d) == (place, step)]
    blame = Counter(names[c] for c in last if c >= 0).most_common()
    factors = ", ".join(f"{name!r} ({count} particles)" for name, count in blame)
    if place >= 0:
        where = f"step {step} of scan {place + 1}"
    elif place == -1:
        where = "the program before any scan"
    else:
        where = f"the program after scan {-place - 1}"
    return (
        f"all {len(cause)} particles died; the last {len(last)} in {where}, of {factors}. The constraint "
        "may be unreachable from this prompt within max_tokens; try more particles, more tokens, or a looser "
        "constraint"
    )
