"""What the papers claim of AWRS and SMC, at the scale of our own models: one command each.

`accuracy`
    Posterior-weighted accuracy in the five domains, of the methods and with the particles of the AWRS paper:
    `sentax evaluate` on samples that ship. Stopped and begun again it goes on (`--folder`).
`vocabulary`
    Checks a token against the size of the vocabulary, next to the V checks of a mask.
`divergence`
    Checks and time against the divergence of the constrained from the unconstrained model, over checkpoints
    from weak to strong. For hard constraints that divergence is exact knowledge: with p the model, C what the
    constraint allows and q = p(. | C), KL(q || p) = -log p(C), minus the log-evidence.
`bias`
    Distance to the exact posterior against particles, on programs that are enumerated.

::

    python benchmarks/claims.py accuracy
    python benchmarks/claims.py vocabulary
    python -m sentax.models.training --checkpoints DIR    # about an hour: the weaker checkpoints
    python benchmarks/claims.py divergence --checkpoints DIR
    python benchmarks/claims.py bias

Each prints a table and writes `results/claims_NAME.json`.
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
import jax.numpy as jnp
import methods
import numpy as np
from interleaved import ROOT, surroundings
from jaxtyping import Array
from methods import rounded
from rich.console import Console
from rich.table import Table
from scipy import stats

import sentax as sx
from sentax import domains, evaluation
from sentax.inference.lanes import PARTICLES
from sentax.inference.methods import METHODS

RESULTS = ROOT / "benchmarks" / "results"

Row = dict[str, Any]

# Accuracy in the five domains.


def accuracy(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """The methods of the AWRS paper on the domains' samples, under the embedded model."""
    rows, lines, met = [], [], 0
    for domain in options.domains:
        found = evaluation.evaluate(
            domain,
            out=options.folder,
            instances=options.instances,
            replicates=options.replicates,
            workers=options.workers,
        ).domains[domain]
        for name, method in found.methods.items():
            times = method.times
            row = {
                "domain": domain,
                "method": name,
                "particles": method.particles,
                "accuracy": rounded(method.accuracy.mean),
                "low": rounded(method.accuracy.low, 3),
                "high": rounded(method.accuracy.high, 3),
                "instances": method.instances,
                "failures": len(method.failures),
                "nobody_alive": rounded(method.nobody_alive, 3),
                "checks_per_token": rounded(method.checks_per_token, 2),
                "lm_tokens": rounded(method.lm_tokens, 1),
                "ess": rounded(method.ess, 2),
                "seconds": rounded(times.run_median, 3) if times else None,
            }
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
        ours, best = found.methods[evaluation.report.OURS], found.methods[found.baseline]
        gap = ours.accuracy.mean - best.accuracy.mean
        met += gap >= 0
        low, high = ours.difference[1:]
        lines.append(
            f"{domain}: AWRS-SMC {ours.accuracy.mean:.3f}, best baseline {found.baseline} "
            f"{best.accuracy.mean:.3f}, difference {gap:+.3f} (95%: {low:+.3f} to {high:+.3f})"
        )
    lines.append(f"AWRS-SMC is at least as accurate as every baseline in {met} of {len(options.domains)}")
    return rows, lines


# Checks against the vocabulary.

SIZES = [2**k for k in range(8, 18)]
SHARES = [0.5, 0.1, 0.01]
EXPONENT = 1.1
"""Of Zipf's law for the probabilities of tokens: next tokens of language models fall off about so fast."""

CONTEXTS = 32
DRAWS = 64


def vocabulary(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """AWRS draws from Zipf's law over V tokens, each allowed with some probability, at random.

    The accepted mass does not depend on V but for chance, so neither should the checks.
    """
    del options
    kernel = sx.AWRS(lambda: None, use_masks=False)
    rng = np.random.default_rng(0)
    rows = []
    for V in SIZES:

        @jax.jit
        def many(keys: Array, logits: Array, allowed: Array) -> tuple[Array, Array]:
            def one(key: Array) -> tuple[Array, Array]:
                drawn = kernel.draw(key, logits, lambda x: jnp.where(allowed[x], 0.0, -jnp.inf))
                return drawn.checks, drawn.log_weight

            return jax.vmap(one, axis_name=PARTICLES)(keys)

        for share in SHARES:
            checks, ratios, mass = [], [], []
            for context in range(CONTEXTS):
                logits = -EXPONENT * np.log(rng.permutation(V) + 1.0)
                allowed = rng.random(V) < share
                allowed[rng.integers(V)] = True
                p = np.exp(logits - np.logaddexp.reduce(logits))
                keys = jax.random.split(jax.random.key(context), DRAWS)
                drawn, log_weights = jax.device_get(many(keys, logits.astype(np.float32), allowed))
                checks.append(drawn)
                ratios.append(np.exp(log_weights.astype(np.float64)).mean() / p[allowed].sum())
                mass.append(p[allowed].sum())
            rows.append(
                {
                    "vocabulary": V,
                    "allowed_share": share,
                    "accepted_mass": rounded(np.mean(mass)),
                    "checks": rounded(np.mean(checks), 2),
                    "checks_p99": rounded(np.quantile(checks, 0.99), 1),
                    "mask_over_checks": rounded(V / np.mean(checks), 1),
                    "weight_over_mass": rounded(np.mean(ratios)),
                }
            )
    largest = [row for row in rows if row["vocabulary"] == SIZES[-1]]
    return rows, [
        f"V = {row['vocabulary']:,}, {row['allowed_share']:.0%} of tokens allowed: {row['checks']} checks "
        f"a token, {row['mask_over_checks']:,.0f} times fewer than a mask"
        for row in largest
    ]


# Checks against the divergence of the constrained model.


def divergence(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """AWRS-SMC by rejection on the domains' samples, under each checkpoint."""
    models = (
        {path.name: path for path in sorted(options.checkpoints.glob("step-*"))} if options.checkpoints else {}
    )
    models |= {"embedded": None}
    rows = []
    for domain_name in options.domains:
        domain = domains.get(domain_name)
        # Without masks every outcome is asked for, which is what the claim is about.
        sampler = sx.SMC(sx.AWRS(domain.program(), use_masks=False), num_particles=options.particles)
        instances = domain.sample()[: options.instances]
        for model_name, path in models.items():
            lm = sx.load(path)
            for instance in instances:
                context, where = lm.prompt(domain.prompt(instance)), domain.cheap(instance)
                sampler.run(jax.random.key(options.repeats), context, where)  # compiles, where it has to
                for seed in range(options.repeats):
                    cpu = time.process_time()
                    sampler.run(jax.random.key(seed), context, where)
                    cpu = time.process_time() - cpu
                    figures = sampler.diagnostics
                    row = {
                        "domain": domain_name,
                        "model": model_name,
                        "instance": instance.id,
                        "seed": seed,
                        "divergence": rounded(-sampler.log_evidence, 3) if sampler.ess else None,
                        "tokens": figures.tokens,
                        "checks_per_token": rounded(figures.checks_per_token, 3),
                        "cpu_ms_per_token": rounded(1e3 * cpu / max(figures.tokens, 1), 4),
                    }
                    rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    return rows, _correlations(rows)


def _correlations(rows: list[Row]) -> list[str]:
    """Within each instance, over checkpoints: does what costs more checks diverge more?"""
    lines = []
    for what in ("checks_per_token", "cpu_ms_per_token"):
        signs, cells = [], {}
        for row in rows:
            if row["divergence"] is not None:
                cells.setdefault((row["domain"], row["instance"]), {}).setdefault(row["model"], []).append(row)
        for by_model in cells.values():
            if len(by_model) > 2:
                x = [np.mean([r["divergence"] for r in own]) for own in by_model.values()]
                y = [np.median([r[what] for r in own]) for own in by_model.values()]
                signs.append(stats.spearmanr(x, y).statistic)
        alive = [row for row in rows if row["divergence"] is not None]
        pooled = stats.spearmanr([r["divergence"] / r["tokens"] for r in alive], [r[what] for r in alive])
        lines.append(
            f"{what}: Spearman {np.nanmean(signs):+.2f} with the divergence within an instance, mean over "
            f"{len(signs)} instances and their checkpoints; {pooled.statistic:+.2f} over all {len(alive)} runs"
        )
    return lines


# The distance to the exact posterior against particles.


def bias(options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """Total variation of one run's posterior, and of the mean posterior of many runs."""
    rows = []
    for program_name in options.programs:
        program = methods.PROGRAMS[program_name]()
        for name in ("lcd", "sample-rerank", "twisted-smc", "awrs-smc"):
            for num_particles in options.sizes:
                sampler = methods.make(name, program_name, program, num_particles)
                figures = methods.measure(METHODS[name], sampler, program, options.replicates)
                row = {"program": program_name, "method": name, "particles": num_particles} | figures
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
    lines = []
    for program_name in options.programs:
        own = [row for row in rows if row["program"] == program_name]
        falls = {
            name: " ".join(f"{row['tv']:.3f}" for row in own if row["method"] == name)
            for name in ("lcd", "awrs-smc")
        }
        lines.append(
            f"{program_name}: over particles {options.sizes} LCD {falls['lcd']}; AWRS-SMC {falls['awrs-smc']}"
        )
    return rows, lines


def show(rows: list[Row]) -> None:
    """The rows as a table."""
    columns = list(rows[0])
    table = Table(*columns)
    for row in rows:
        table.add_row(*(str(row.get(column, "")) for column in columns))
    Console(width=160).print(table)


CLAIMS: dict[str, Callable[[argparse.Namespace], tuple[list[Row], list[str]]]] = {
    "accuracy": accuracy,
    "vocabulary": vocabulary,
    "divergence": divergence,
    "bias": bias,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("claim", choices=list(CLAIMS))
    add("--checkpoints", type=Path, help="folder with step-* checkpoints (divergence)")
    add("--domains", nargs="+", default=list(domains.DOMAINS), choices=list(domains.DOMAINS))
    add("--instances", type=int, help="of each domain (accuracy: all; divergence: 4)")
    add("--folder", type=Path, default=ROOT / "build" / "claims", help="of the evaluations (accuracy)")
    add("--workers", type=int, default=1, help="processes (accuracy)")
    add("--particles", type=int, default=16, help="(divergence)")
    add("--repeats", type=int, default=3, help="runs of each instance (divergence)")
    add("--programs", nargs="+", default=list(methods.PROGRAMS), choices=list(methods.PROGRAMS))
    add("--sizes", type=int, nargs="+", default=[1, 4, 16, 64, 256], help="numbers of particles (bias)")
    add("--replicates", type=int, help="runs of each method (accuracy: 3 an instance; bias: 100)")
    add("--out", type=Path, help="where the JSON goes; results/claims_NAME.json by default")
    options = parser.parse_args()
    options.replicates = options.replicates or {"accuracy": 3, "bias": 100}.get(options.claim)
    if options.claim == "divergence":
        options.instances = options.instances or 4
    started = time.time()
    report = surroundings(ROOT / "models" / "embedded", ("sentax", "jax", "jaxlib", "numpyro"))
    if options.claim in ("vocabulary", "bias"):
        del report["checkpoint"]  # tables are asked there
    rows, lines = CLAIMS[options.claim](options)
    show(rows)
    print(*lines, sep="\n")
    settings = {
        "accuracy": ("replicates",),
        "divergence": ("instances", "particles", "repeats"),
        "bias": ("replicates",),
    }
    report |= {name: getattr(options, name) for name in settings.get(options.claim, ())}
    report |= {"minutes": rounded((time.time() - started) / 60, 1), "verdicts": lines, "results": rows}
    out = options.out or RESULTS / f"claims_{options.claim}.json"
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {out}", file=sys.stderr)


if __name__ == "__main__":
    main()
