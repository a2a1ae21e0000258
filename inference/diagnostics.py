"""What a run cost and how its particles fared."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter

import numpy as np

from sentax.inference.engine import Population
from sentax.inference.evidence import EvidenceError, error_within_run, log_mean_exp
from sentax.inference.lineage import origins_of
from sentax.inference.pareto import ParetoShape, pareto_shape
from sentax.inference.record import Record
from sentax.inference.sites import SiteNumbers


@dataclasses.dataclass(frozen=True)
class SiteFigures:
    """One kernel site's, over all steps and all particles, resampled-away ones included.

    :param draws: how often it was drawn by a living, unfinished particle.
    :param accepted: how many of the draws had a positive weight.
    :param checks: outcomes whose factors were asked for.
    """

    draws: int
    accepted: int
    checks: int

    @property
    def acceptance(self) -> float | None:
        """Accepted draws per outcome that was checked; None where a mask left nothing to check.

        An estimator that goes on after its first accepted outcome (AWRS's second round) is under 1 even where
        nothing is rejected.
        """
        return self.accepted / self.checks if self.checks else None

    @property
    def checks_per_draw(self) -> float:
        return self.checks / self.draws if self.draws else 0.0


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Figures of one run.

    Traces are tuples of one tuple for each scan, with one figure for each step that was run. They are empty for
    samplers that keep no records of their steps.

    :param checks: constraint checks (outcomes whose factors decided something), over all particles.
    :param tokens: tokens drawn from a language model, over all particles, resampled-away ones included.
    :param resampling_steps: for each scan, the steps before which the particles were resampled.
    :param ess_trace: the effective sample size before each step.
    :param weight_variance_trace: after each step, the variance of the weights over their squared mean: 0 where
        they are equal, N - 1 where one is left.
    :param unique_ancestors: how many different particles of each step those alive at the end descend from.
    :param log_normalisers: what each step multiplied the evidence estimate by, in logs: the weighted mean of
        its local normalisers.
    :param log_evidences: the running estimate after each step, whose differences those are.
    :param steps: for each scan, the steps run before every particle was done.
    :param sites: by kernel site, draws, acceptances and checks.
    :param surviving_lineages: particles of the beginning that a living particle descends from.
    :param dead: particles of weight zero at the end.
    :param weight_variance: of the final weights, over their squared mean.
    :param pareto: the shape of the final weights' tail.
    :param evidence_error: the standard error of the log-evidence.
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
    weight_variance_trace: tuple[tuple[float, ...], ...]
    unique_ancestors: tuple[tuple[int, ...], ...]
    log_normalisers: tuple[tuple[float, ...], ...]
    log_evidences: tuple[tuple[float, ...], ...]
    steps: tuple[int, ...]
    sites: dict[str, SiteFigures]
    surviving_lineages: int
    dead: int
    weight_variance: float
    pareto: ParetoShape
    evidence_error: EvidenceError
    methods: dict[str, str]
    compile_time: float
    run_time: float

    @property
    def checks_per_token(self) -> float:
        """Constraint checks per token drawn; 0 where nothing was drawn."""
        return self.checks / self.tokens if self.tokens else 0.0

    def as_dict(self) -> dict[str, object]:
        """Plain Python values, for JSON."""
        plain = dataclasses.asdict(self) | {"checks_per_token": self.checks_per_token}
        return plain | {
            "pareto": self.pareto._asdict(),
            "evidence_error": self.evidence_error._asdict(),
            "sites": {
                name: dataclasses.asdict(site)
                | {"acceptance": site.acceptance, "checks_per_draw": site.checks_per_draw}
                for name, site in self.sites.items()
            },
        }


def diagnose(
    population: Population,
    sites: SiteNumbers,
    compile_time: float,
    run_time: float,
    *,
    multinomial: bool = False,
    evidence_error: EvidenceError | None = None,
) -> Diagnostics:
    """Reads a population's figures off.

    :param multinomial: whether the particles were resampled independently.
    :param evidence_error: known from elsewhere (between runs); else the run's own genealogy gives it.
    """
    log_weights = np.asarray(population.log_weights)
    alive = log_weights > -np.inf
    origins = origins_of(population)
    steps = tuple(int(s) for s in population.steps)
    resampling_steps = tuple(tuple(np.flatnonzero(r).tolist()) for r in population.resampled)
    if evidence_error is None:
        evidence_error = error_within_run(
            log_weights, origins, sum(map(len, resampling_steps)), multinomial=multinomial
        )
    running = [_running(record, n) for record, n in zip(population.records, steps)]
    return Diagnostics(
        num_particles=len(alive),
        checks=int(np.asarray(population.checks, np.int64).sum()),
        tokens=int(np.asarray(population.tokens, np.int64).sum()),
        resampling_steps=resampling_steps,
        ess_trace=tuple(tuple(np.asarray(e)[:n].astype(float).tolist()) for e, n in zip(population.ess, steps)),
        weight_variance_trace=tuple(
            tuple(relative_variance(column) for column in np.asarray(record.log_weights).T[1 : n + 1])
            for record, n in zip(population.records, steps)
        ),
        unique_ancestors=_unique_ancestors(population, steps),
        log_normalisers=tuple(tuple(_differences(log_z)) for log_z in running),
        log_evidences=tuple(tuple(log_z[1:].tolist()) for log_z in running),
        steps=steps,
        sites=_site_figures(population),
        surviving_lineages=len(set(origins[alive].tolist())),
        dead=int((~alive).sum()),
        weight_variance=relative_variance(log_weights),
        pareto=pareto_shape(log_weights),
        evidence_error=evidence_error,
        methods={
            name: f"{method} ({sites.unmasked[name]})" if name in sites.unmasked else method
            for name, method in sites.methods.items()
        },
        compile_time=compile_time,
        run_time=run_time,
    )


def relative_variance(log_weights: np.ndarray) -> float:
    """The variance of the weights over their squared mean, which is N / ESS - 1; 0 if all are 0.

    >>> round(relative_variance(np.log([1.0, 3.0])), 6)
    0.25
    """
    peak = log_weights.max()
    if np.isneginf(peak):
        return 0.0
    weights = np.exp(log_weights.astype(np.float64) - peak)
    return float(weights.var() / weights.mean() ** 2)


def _running(record: Record, steps: int) -> np.ndarray:
    """`[steps + 1]`, the log-evidence estimate before the first step and after each."""
    return np.array([log_mean_exp(column) for column in np.asarray(record.log_weights).T[: steps + 1]])


def _differences(log_z: np.ndarray) -> list[float]:
    """Of successive estimates; `-inf` from where all are dead."""
    return [float(b - a) if np.isfinite(b) else -np.inf for a, b in itertools.pairwise(log_z)]


def _unique_ancestors(population: Population, steps: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Walking back from those alive at the end."""
    current = np.flatnonzero(np.asarray(population.log_weights) > -np.inf)
    traces = []
    for record, n in zip(reversed(population.records), reversed(steps)):
        parents = np.asarray(record.parents)
        trace = []
        for t in reversed(range(n)):
            trace.append(len(current))
            current = np.unique(parents[current, t])
        traces.append(tuple(reversed(trace)))
    return tuple(reversed(traces))


def _site_figures(population: Population) -> dict[str, SiteFigures]:
    figures = {}
    for record in population.records:
        drew = np.asarray(record.drew)
        for name, draw in record.draws.items():
            figures[name] = SiteFigures(
                draws=int(drew.sum()),
                accepted=int((drew & (np.asarray(draw.log_weight) > -np.inf)).sum()),
                checks=int(np.where(drew, np.asarray(draw.checks), 0).sum()),
            )
    return figures


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
