"""Every method on every program with dead ends: how far is its posterior from the exact one, at what cost?

The programs are those of `tests/reference/dead_ends.py`, whose posteriors are spread over many texts, and those
of `tests/reference/narrow.py`, which leave a few texts of thousands; all are small enough to enumerate. The
methods are those of `sentax.inference.methods.METHODS`. Two settings:

* `papers`: as many particles as the AWRS paper gives each (AWRS-SMC 5, LCD, sample-rerank and twisted SMC 10).
* `budget`: as many particles as `--tokens` language-model tokens a run pay for, found in pilot runs.

Of each, over independent runs: total variation between a run's posterior and the exact one (1 if nobody
survived), and its standard error; `tv_exact_draws`, what as many independent exact draws would have; total
variation of the runs' mean posterior, which is the bias that more runs do not cure (with a floor from their
number); the evidence over the exact one, where it is an estimate of it; language-model tokens, constraint
checks, and the share of runs without a survivor::

    python benchmarks/methods.py

`results/methods.json` has what was seen.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from interleaved import ROOT, surroundings

import sentax as sx
from sentax.inference.methods import METHODS, Method

sys.path.append(str(ROOT / "tests"))

from reference.dead_ends import DEAD_ENDS
from reference.narrow import NARROW
from reference.programs import Program

PROGRAMS = DEAD_ENDS | NARROW

PAPERS = {"awrs-smc": 5, "lcd": 10, "sample-rerank": 10, "twisted-smc": 10, "base": 10}
PILOT = 16
LOG_BOUND = {"rewarded": 1.0}
"""The largest sum of a text's log-factors, where it is not 0."""

NEEDS_BOUND = ("rejection", "asap", "cars")
BATCHES = 4
"""The adaptive methods learn between the batches of a run."""


def make(name: str, program_name: str, program: Program, num_particles: int) -> Any:
    """A sampler of one run."""
    options: dict[str, Any] = {}
    if name in NEEDS_BOUND:
        options["log_bound"] = LOG_BOUND.get(program_name, 0.0)
    if name == "rejection":
        options["max_trials"] = num_particles
    if name in ("asap", "cars"):
        options["num_batches"] = BATCHES
        num_particles = max(1, round(num_particles / BATCHES))
    if name == "rejection":
        num_particles = max(num_particles, 2)
    return METHODS[name](program.model, num_particles, **options)


def total_variation(one: dict[Any, float], other: dict[Any, float]) -> float:
    """Half the absolute differences."""
    return 0.5 * sum(abs(one.get(key, 0.0) - other.get(key, 0.0)) for key in {*one, *other})


def tv_of_exact_draws(exact: dict[Any, float], num_particles: int, runs: int = 2000) -> float:
    """The mean total variation between a distribution and the frequencies of so many draws from it."""
    p = np.array(list(exact.values()))
    counts = np.random.default_rng(0).multinomial(num_particles, p / p.sum(), size=runs)
    return float(0.5 * np.abs(counts / num_particles - p).sum(1).mean())


def posterior(sampler: Any, program: Program) -> dict[Any, float]:
    """By the program's key; empty if nobody survived."""
    samples, log_weights = sampler.get_weighted_samples()
    samples = {name: np.asarray(value) for name, value in samples.items()}
    if np.isneginf(log_weights).all():
        return {}
    weights = np.exp(log_weights.astype(np.float64) - log_weights.max())
    weights /= weights.sum()
    table: dict[Any, float] = {}
    for i in np.flatnonzero(weights):
        key = program.key(samples, (i,))
        table[key] = table.get(key, 0.0) + weights[i]
    return table


def one_run(sampler: Any, seed: int, program: Program) -> None:
    if hasattr(sampler, "forget"):
        sampler.forget()
    sampler.run(jax.random.key(seed), *program.args)


def afford(name: str, program_name: str, program: Program, tokens: int) -> int:
    """How many particles so many tokens pay for."""
    sampler = make(name, program_name, program, PILOT)
    spent = []
    for seed in range(5):
        one_run(sampler, 1_000_000 + seed, program)
        spent.append(sampler.diagnostics.tokens)
    return max(1, round(tokens * PILOT / max(np.mean(spent), 1)))


def measure(method: Method, sampler: Any, program: Program, replicates: int) -> dict[str, Any]:
    """Figures over independent runs."""
    exact = {key: p / program.evidence for key, p in program.table.items()}
    distances, evidences, tokens, checks = [], [], [], []
    mean: dict[Any, float] = {}
    survived = 0
    for seed in range(replicates):
        one_run(sampler, seed, program)
        table = posterior(sampler, program)
        distances.append(total_variation(table, exact) if table else 1.0)
        survived += bool(table)
        for key, p in table.items():
            mean[key] = mean.get(key, 0.0) + p
        evidences.append(np.exp(sampler.log_evidence) / program.evidence)
        tokens.append(sampler.diagnostics.tokens)
        checks.append(sampler.diagnostics.checks)
    mean = {key: p / max(survived, 1) for key, p in mean.items()}
    figures: dict[str, Any] = {
        "tv": rounded(np.mean(distances)),
        "tv_se": rounded(np.std(distances) / np.sqrt(replicates)),
        "tv_exact_draws": rounded(tv_of_exact_draws(exact, sampler.num_particles)),
        "tv_of_mean": rounded(total_variation(mean, exact)),
        "tokens": rounded(np.mean(tokens), 1),
        "checks": rounded(np.mean(checks), 1),
        "no_survivor": rounded(1 - survived / replicates, 3),
    }
    if method.proper:
        figures["evidence_ratio"] = rounded(np.mean(evidences))
        figures["evidence_ratio_se"] = rounded(np.std(evidences) / np.sqrt(replicates))
    return figures


def rounded(x: Any, digits: int = 4) -> Any:
    """For the file; what is not known stays None."""
    return None if x is None else round(float(x), digits)


def run(options: argparse.Namespace, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """All rows."""
    rows = []
    for program_name in options.programs:
        program = PROGRAMS[program_name]()
        for name in options.methods:
            settings = {"papers": PAPERS.get(name), "budget": 0}
            for setting, num_particles in settings.items():
                if num_particles is None or setting not in options.settings:
                    continue
                row: dict[str, Any] = {"program": program_name, "method": name, "setting": setting}
                try:
                    N = num_particles or afford(name, program_name, program, options.tokens)
                    sampler = make(name, program_name, program, N)
                    row |= {"particles": N, "replicates": options.replicates}
                    row |= measure(METHODS[name], sampler, program, options.replicates)
                except sx.UnsupportedProgram as error:
                    row["unsupported"] = str(error)
                rows.append(row)
                log(json.dumps(row))
    return rows


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """AWRS-SMC with 5 particles against the others with 10, in total variation."""
    table = {(r["program"], r["method"]): r for r in rows if r["setting"] == "papers" and "tv" in r}
    lines = []
    for (program, method), row in table.items():
        ours = table.get((program, "awrs-smc"))
        if method in ("lcd", "sample-rerank", "twisted-smc") and ours:
            gap = row["tv"] - ours["tv"]
            error = float(np.hypot(row["tv_se"], ours["tv_se"]))
            verdict = "met" if gap > 2 * error else "MISSED" if gap < -2 * error else "a tie"
            lines.append(
                f"{program}: AWRS-SMC at 5 {ours['tv']:.3f}, {method} at 10 {row['tv']:.3f} "
                f"(difference {gap:+.3f} +- {error:.3f}): {verdict}"
            )
    return lines


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--programs", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS))
    add("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    add("--replicates", type=int, default=200)
    add("--tokens", type=int, default=100, help="language-model tokens a run, in the setting `budget`")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "methods.json")
    add("--settings", nargs="+", choices=["papers", "budget"], default=["papers", "budget"])
    add("--keep", action="store_true", help="keep the rows of other programs that are in the file")
    add("--quick", action="store_true", help="two methods, one program, few runs: to see that it runs")
    options = parser.parse_args()
    if options.quick:
        options.programs, options.methods, options.replicates = ["cut"], ["awrs-smc", "lcd"], 5

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    started = time.time()
    report = surroundings(ROOT, ("sentax", "jax", "jaxlib", "numpyro"))
    del report["checkpoint"]
    rows = run(options, log)
    if options.keep and options.out.exists():
        kept = json.loads(options.out.read_text())["results"]
        rows = [row for row in kept if row["program"] not in options.programs] + rows
    print(*verdicts(rows), sep="\n")
    report |= {
        "minutes": round((time.time() - started) / 60, 1),
        "replicates": options.replicates,
        "tokens": options.tokens,
        "verdicts": verdicts(rows),
        "results": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    log(f"written to {options.out}")


if __name__ == "__main__":
    main()
