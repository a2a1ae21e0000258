"""A run's particles as a graph: who came from whom, with what text and weight, and what ended it."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from sentax.inference.engine import Population
from sentax.inference.evidence import log_mean_exp
from sentax.inference.record import Record
from sentax.ppl.text import Text, decode


@dataclasses.dataclass(frozen=True)
class Column:
    """All particles at one time: before a scan, after one of its steps, or at the program's end.

    :param scan: the scan's number, or that of the scans before it at the program's end; `step`: how many of its
        steps have been run.
    :param parents: `[N]`, whom each is a copy of in the column before.
    :param log_weights: `[N]`, the evidence so far included.
    :param causes: `[N]`, the number of the factor it is dead of, -1 while it lives.
    :param resampled: whether the particles were resampled on the way here.
    :param text: `[N]`, the text that grows in this scan, as far as it is (or was, when it died), by its site's
        name; at the program's end, all texts. Moves (rejuvenation) show there only: steps have what was drawn.
    :param values: `[N]`, what was drawn in this step at sites that are no text, by name.
    :param drew: `[N]`, whether it drew afresh in this step (it was alive, and not finished); `checks`: `[N]`,
        outcomes whose factors were asked for in it; `increments`: `[N]`, what it multiplied the weight by, in
        logs. None where the column is no step.
    """

    scan: int
    step: int
    parents: np.ndarray
    log_weights: np.ndarray
    causes: np.ndarray
    resampled: bool = False
    text: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    values: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    increments: np.ndarray | None = None
    drew: np.ndarray | None = None
    checks: np.ndarray | None = None

    @property
    def shares(self) -> np.ndarray:
        """`[N]`, normalised weights; zeros if all are dead."""
        peak = self.log_weights.max()
        if np.isneginf(peak):
            return np.zeros(len(self.log_weights))
        weights = np.exp(self.log_weights.astype(np.float64) - peak)
        return weights / weights.sum()

    @property
    def log_evidence(self) -> float:
        """Log of the estimate of the evidence so far."""
        return log_mean_exp(self.log_weights)

    @property
    def ess(self) -> float:
        """Effective sample size; 0 if all are dead."""
        shares = self.shares
        return float(1.0 / (shares @ shares)) if shares.any() else 0.0


@dataclasses.dataclass(frozen=True)
class Lineage:
    """The columns of a run in order of time, the last one the program's end.

    :param columns: at least one.
    :param names: factors' names, by number.
    """

    columns: tuple[Column, ...]
    names: tuple[str, ...]

    @property
    def num_particles(self) -> int:
        return len(self.columns[-1].log_weights)

    def died(self, c: int) -> np.ndarray:
        """`[N]`, whether each particle of a column died on the way there."""
        column = self.columns[c]
        dead = np.isneginf(column.log_weights)
        return dead if c == 0 else dead & ~np.isneginf(self.columns[c - 1].log_weights[column.parents])

    def children(self, c: int) -> np.ndarray:
        """`[N]`, how many of the next column are copies of each particle; for the last, 1 for the living."""
        if c == len(self.columns) - 1:
            return (~np.isneginf(self.columns[c].log_weights)).astype(int)
        return np.bincount(self.columns[c + 1].parents, minlength=self.num_particles)

    def survives(self) -> list[np.ndarray]:
        """By column `[N]`: whether some particle that lives at the end descends from it."""
        alive = ~np.isneginf(self.columns[-1].log_weights)
        found = [alive]
        for column in reversed(self.columns[1:]):
            before = np.zeros(self.num_particles, bool)
            before[column.parents[found[-1]]] = True
            found.append(before)
        return found[::-1]

    @functools.cached_property
    def deaths(self) -> tuple[np.ndarray, ...]:
        """By column `[N]`: the column on the way to which each of the dead died, -1 for the living."""
        deaths: list[np.ndarray] = []
        for c, column in enumerate(self.columns):
            before = deaths[-1][column.parents] if deaths else np.full(self.num_particles, -1)
            deaths.append(np.where(self.died(c), c, before))
        return tuple(deaths)

    def fates(self, c: int) -> list[str]:
        """`[N]`: what became of each particle after column `c`, in words."""
        column, deaths, children = self.columns[c], self.deaths[c], self.children(c)
        last = c == len(self.columns) - 1
        fates = []
        for n, (log_weight, cause) in enumerate(zip(column.log_weights, column.causes)):
            if np.isneginf(log_weight):
                blame = f"of factor {self.names[cause]!r}" if cause >= 0 else "when its twists were settled"
                since = "" if deaths[n] == c else f" (at {self.label(deaths[n])})"
                fates.append(f"died {blame}{since}")
            elif last:
                fates.append("survives")
            elif not children[n]:
                fates.append("resampled away")
            else:
                fates.append("goes on" if children[n] == 1 else f"goes on as {children[n]} copies")
        return fates

    def label(self, c: int) -> str:
        """A column's name."""
        column = self.columns[c]
        if c == len(self.columns) - 1:
            return "end of the program"
        where = " and ".join(map(repr, column.text)) or f"scan {column.scan + 1}"
        return f"{where}, step {column.step}" if column.step else f"before {where}"


def lineage_of(population: Population, names: list[str]) -> Lineage:
    """Reads the graph off a run's records.

    :param names: factors' names by number.
    :raises ValueError: for a run that keeps no records: that of a sampler which has no steps.
    """
    log_weights = np.asarray(population.log_weights)
    N = len(log_weights)
    if len(population.records) != len(population.steps):
        raise ValueError("this sampler keeps no record of its steps, so it has no lineages to show")
    columns: list[Column] = []
    for scan, (record, steps) in enumerate(zip(population.records, population.steps)):
        columns += _scan_columns(population, scan, record, int(steps))
    columns.append(
        Column(
            scan=len(population.steps),
            step=0,
            parents=np.arange(N),
            log_weights=log_weights,
            causes=np.asarray(population.weight.cause),
            text={
                name: _but_the_dead(text.decode(), name, columns, log_weights)
                for name, text in population.texts.items()
            },
        )
    )
    return Lineage(tuple(columns), tuple(names))


def origins_of(population: Population, scan: int = 0) -> np.ndarray:
    """`[N]`: which particle before a scan each of the results descends from."""
    origins = np.arange(len(np.asarray(population.log_weights)))
    for start in reversed(population.start[scan:]):
        origins = np.asarray(start)[origins]
    return origins


def _scan_columns(population: Population, scan: int, record: Record, steps: int) -> list[Column]:
    log_weights, causes = np.asarray(record.log_weights), np.asarray(record.causes)
    parents, resampled = np.asarray(record.parents), np.asarray(population.resampled[scan])
    N = len(log_weights)
    texts = {
        name: _texts(population, scan, population.texts[name], np.asarray(draw.value), steps)
        for name, draw in record.draws.items()
        if name in population.texts
    }
    checks = np.zeros((N, record.drew.shape[1]), int)
    for draw in record.draws.values():
        checks += np.where(record.drew, draw.checks, 0)
    columns = [
        Column(scan, 0, np.arange(N), log_weights[:, 0], causes[:, 0], text={name: [""] * N for name in texts})
    ]
    for t in range(steps):
        columns.append(
            Column(
                scan=scan,
                step=t + 1,
                parents=parents[:, t],
                increments=np.asarray(record.increments)[:, t],
                log_weights=log_weights[:, t + 1],
                causes=causes[:, t + 1],
                resampled=bool(resampled[t]),
                text={name: rows[t] for name, rows in texts.items()},
                values={
                    name: np.asarray(d.value)[:, t] for name, d in record.draws.items() if name not in texts
                },
                drew=np.asarray(record.drew)[:, t],
                checks=checks[:, t],
            )
        )
    return columns


def _but_the_dead(texts: list[str], name: str, columns: list[Column], log_weights: np.ndarray) -> list[str]:
    """The results' texts; of the dead, what they were when they died."""
    texts = list(texts)
    for n in np.flatnonzero(np.isneginf(log_weights)):
        place = n
        for column in reversed(columns):
            if name in column.text:
                texts[n] = column.text[name][place]
                break
            place = column.parents[place]
    return texts


def _texts(population: Population, scan: int, text: Text, tokens: np.ndarray, steps: int) -> list[list[str]]:
    """By step, the N texts so far, each grown from its parent's."""
    N = len(tokens)
    record = population.records[scan]
    # A text's seam is known of those that the results descend from; the others' prompts ended like theirs.
    final, origins = np.broadcast_to(np.asarray(text.seam), N), origins_of(population, scan)
    seams = np.full(N, final[0])
    seams[origins] = final
    histories = np.empty((N, 0), tokens.dtype)
    log_weights = np.asarray(record.log_weights)
    rows: list[list[str]] = []
    for t in range(steps):
        parents = np.asarray(record.parents)[:, t]
        histories = np.concatenate([histories[parents], tokens[:, t : t + 1]], axis=1)
        seams = seams[parents]
        decoded = decode(text.vocabulary, histories, seams, text.stop)
        if rows:  # What the dead go on to draw means nothing.
            dead = np.isneginf(log_weights[parents, t])
            decoded = [rows[-1][p] if dead[n] else decoded[n] for n, p in enumerate(parents)]
        rows.append(decoded)
    return rows


__all__ = ["Column", "Lineage", "lineage_of", "origins_of"]
