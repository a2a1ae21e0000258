"""What an evaluation's folder says: accuracies with intervals, differences, costs."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sentax.evaluation.bootstrap import DRAWS, LEVEL, bootstrap_interval
from sentax.evaluation.cell import Record
from sentax.evaluation.settings import PAPER
from sentax.evaluation.store import MANIFEST, Manifest, Store, write_atomically

OURS = "awrs-smc"
"""The method that the others are baselines of."""


class Interval(NamedTuple):
    """A mean over instances with its 95% bootstrap interval; without one where there is a single instance."""

    mean: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """:param values: one for each instance."""
        low, high = bootstrap_interval(values) if len(values) > 1 else (None, None)
        return cls(float(np.mean(values)), low, high)


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds, over the cells that did not fail.

    :param run_mean: a run of a method, inference alone; `run_median`: the same.
    :param compile_total: all compilations; `compilations`: how many cells had to compile.
    :param prompt_mean, constraint_mean, score_mean: before and after a run.
    """

    run_mean: float
    run_median: float
    compile_total: float
    compilations: int
    prompt_mean: float
    constraint_mean: float
    score_mean: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodReport:
    """A method on a domain. Averages of costs are over the runs that did not fail; None where all did.

    :param cells: how many runs are done, of `expected`.
    :param instances: how many instances they are of.
    :param failures: of each run that raised, the instance, the replicate, where and what.
    :param accuracy: mean over instances of the posterior's expected score, replicates averaged within;
        failures and runs without survivors score 0.
    :param difference: to the best baseline's accuracy on the instances that both have, paired; None for itself.
    :param nobody_alive: share of runs all of whose particles died.
    :param ess: mean effective sample size.
    :param checks_per_token: constraint checks of all runs over their LM tokens.
    :param lm_tokens: drawn in a run, of all particles; `emitted_tokens`: of those that are alive at the end.
    :param times: apart, as they differ from run to run.
    """

    particles: int
    ess_threshold: float | None
    cells: int
    expected: int
    instances: int
    failures: tuple[dict[str, Any], ...]
    accuracy: Interval
    difference: Interval | None
    nobody_alive: float | None
    ess: float | None
    checks_per_token: float | None
    lm_tokens: float | None
    emitted_tokens: float | None
    times: Timing | None


@dataclasses.dataclass(frozen=True)
class DomainReport:
    """The methods on a domain.

    :param settings: those of every method (:class:`~sentax.evaluation.settings.Settings`).
    :param baseline: the method with the best accuracy but AWRS-SMC, None if there is no other.
    :param versions: of sentax, JAX and so on, of all cells.
    """

    settings: Mapping[str, Any]
    baseline: str | None
    methods: Mapping[str, MethodReport]
    versions: Mapping[str, tuple[str, ...]]


@dataclasses.dataclass(frozen=True)
class Report:
    """What a folder holds, by domain."""

    domains: Mapping[str, DomainReport]

    def as_dict(self) -> dict[str, Any]:
        """Plain values; all that differs between two evaluations with the same settings is under `times`."""
        domains = {}
        for name, domain in self.domains.items():
            methods = {method: _plain(figures) for method, figures in domain.methods.items()}
            domains[name] = {
                "settings": dict(domain.settings),
                "baseline": domain.baseline,
                "methods": methods,
                "versions": {key: list(values) for key, values in domain.versions.items()},
            }
        return {"format": 1, "bootstrap": {"draws": DRAWS, "level": LEVEL}, "domains": domains}

    def markdown(self) -> str:
        """Tables in Markdown."""
        from sentax.evaluation.tables import markdown

        return markdown(self)

    def print(self) -> None:
        """Tables in the terminal."""
        from sentax.evaluation.tables import print_report

        print_report(self)

    @property
    def methods(self) -> list[str]:
        """Those of all domains, in the paper's order."""
        return sorted({method for domain in self.domains.values() for method in domain.methods}, key=_place)

    @property
    def num_failures(self) -> int:
        return sum(len(m.failures) for d in self.domains.values() for m in d.methods.values())


def read_report(out: str | Path) -> Report:
    """Reads an evaluation's folder, finished or not.

    :raises FileNotFoundError: if there is nothing in it.
    :raises ValueError: if a file in it is not what it should be.
    """
    out = Path(out)
    found: dict[str, list[tuple[Manifest, list[Record]]]] = {}
    for file in sorted(out.glob(f"*/*/{MANIFEST}")):
        manifest = Manifest.read(file)
        store = Store(out, manifest.domain, manifest.method.name)
        cells = [store.load(id, r) for id in manifest.instances for r in range(manifest.replicates)]
        done = [cell for cell in cells if cell is not None]
        found.setdefault(manifest.domain, []).append((manifest, done))
    if not any(done for methods in found.values() for _, done in methods):
        raise FileNotFoundError(
            f"no results of an evaluation in {out}: no DOMAIN/METHOD/INSTANCE-rREPLICATE.json"
        )
    domains = {}
    for name, methods in found.items():
        begun = sorted(((m, done) for m, done in methods if done), key=lambda pair: _place(pair[0].method.name))
        if begun:
            domains[name] = _domain(begun)
    return Report(domains)


def write_report(found: Report, out: str | Path, *, plots: bool = True) -> list[Path]:
    """Writes `report.md`, `report.json` and the pictures into the folder.

    :return: the files.
    :raises ImportError: for pictures without matplotlib: install `sentax[evaluate]`.
    """
    out = Path(out)
    texts = {
        "report.md": found.markdown(),
        "report.json": json.dumps(found.as_dict(), indent=1, allow_nan=False),
    }
    files = []
    for name, text in texts.items():
        write_atomically(out / name, text + "\n")
        files.append(out / name)
    if plots:
        from sentax.evaluation.plots import save_plots

        files += save_plots(found, out)
    return files


def _domain(methods: list[tuple[Manifest, list[Record]]]) -> DomainReport:
    accuracies = {manifest.method.name: _by_instance(done) for manifest, done in methods}
    candidates = [name for name in accuracies if name != OURS]
    means = {name: float(np.mean(list(accuracies[name].values()))) for name in candidates}
    baseline = max(candidates, key=lambda name: means[name], default=None)  # the first of equal ones
    settings = methods[0][0].settings.as_dict()
    versions: dict[str, set[str]] = {}
    for _, done in methods:
        for record in done:
            for key, value in record.versions.items():
                versions.setdefault(key, set()).add(value)
    return DomainReport(
        settings=settings,
        baseline=baseline,
        methods={
            manifest.method.name: _method(manifest, done, baseline, accuracies) for manifest, done in methods
        },
        versions={key: tuple(sorted(values)) for key, values in sorted(versions.items())},
    )


def _method(
    manifest: Manifest,
    done: list[Record],
    baseline: str | None,
    accuracies: dict[str, dict[str, float]],
) -> MethodReport:
    ran = [(record.figures, record.times) for record in done if record.figures is not None]
    figures = [f for f, _ in ran]
    accuracy = accuracies[manifest.method.name]
    difference = None
    if baseline is not None and baseline != manifest.method.name:
        other = accuracies[baseline]
        both = [value - other[id] for id, value in accuracy.items() if id in other]
        difference = Interval.of(both) if both else None
    tokens = sum(f.lm_tokens for f in figures)
    return MethodReport(
        particles=manifest.method.particles,
        ess_threshold=manifest.method.ess_threshold,
        cells=len(done),
        expected=len(manifest.instances) * manifest.replicates,
        instances=len(accuracy),
        failures=tuple(
            {
                "instance": record.instance,
                "replicate": record.replicate,
                "stage": record.failure.stage,
                "error": f"{record.failure.type}: {record.failure.message}",
            }
            for record in done
            if record.failure is not None
        ),
        accuracy=Interval.of(list(accuracy.values())),
        difference=difference,
        nobody_alive=_mean([not f.alive for f in figures]),
        ess=_mean([f.ess for f in figures]),
        checks_per_token=sum(f.checks for f in figures) / tokens if tokens else None,
        lm_tokens=_mean([f.lm_tokens for f in figures]),
        emitted_tokens=_mean([f.emitted_tokens for f in figures]),
        times=_timing(ran),
    )


def _timing(ran: list[Any]) -> Timing | None:
    if not ran:
        return None
    times = [t for _, t in ran]
    return Timing(
        run_mean=statistics.fmean(t.run for t in times),
        run_median=statistics.median(t.run for t in times),
        compile_total=sum(t.compile for t in times),
        compilations=sum(t.compile > 0 for t in times),
        prompt_mean=statistics.fmean(t.prompt for t in times),
        constraint_mean=statistics.fmean(t.constraint for t in times),
        score_mean=statistics.fmean(t.score for t in times),
    )


def _by_instance(done: list[Record]) -> dict[str, float]:
    """Accuracies, the replicates of an instance averaged."""
    values: dict[str, list[float]] = {}
    for record in done:
        values.setdefault(record.instance, []).append(record.accuracy)
    return {id: statistics.fmean(of) for id, of in values.items()}


def _place(method: str) -> tuple[int, str]:
    """The paper's order, then by name."""
    order = list(PAPER)
    return (order.index(method) if method in order else len(order) - 1, method)


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def _plain(figures: MethodReport) -> dict[str, Any]:
    plain = dataclasses.asdict(figures)
    for name in ("accuracy", "difference"):
        if plain[name] is not None:
            plain[name] = getattr(figures, name)._asdict()
    return plain | {"failures": list(figures.failures)}


__all__ = [
    "OURS",
    "DomainReport",
    "Interval",
    "MethodReport",
    "Report",
    "Timing",
    "read_report",
    "write_report",
]
