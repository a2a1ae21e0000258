"""How many texts parse when a model fills holes: under the grammar and without, by diffusion and from left to
right?

Two languages, statements in the manner of C++ and JSON, and for each two kinds of canvas: one hole for the
whole text, and infilling between known pieces. A small masked model is trained on texts of each language
first (`--steps`); from left to right an n-gram of the same texts fills the hole. Everything is counted per
text:

* `parses`: the share of texts in the grammar's language. Without the grammar (`free`) this is the model's own;
with
  it (`rejection`, `masks`) it has to be 1.
* `ms`: of wall time, model included, compilation not.
* `checks`: candidates that were asked about, for each slot that was filled; `charts` and `passes`: of them
those that
  no memory answered, and the inside-outside passes for masks.
* `particles`, from left to right: how many were started. Those that were cut before they were complete weigh
nothing,
  and are not among the `texts`.
* `evidence`: the estimated share of the model's own texts that parse, from the weights.

Wanted: every constrained text parses.

    python benchmarks/holes.py
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import jax
import numpy as np

import sentax as sx
from sentax.inference.diffusion import MostConfident, RandomOrder, denoise
from sentax.models.data import snippets
from sentax.models.masked import MaskedConfig, MaskedLM
from sentax.models.masked_training import MaskedSettings, train
from sentax.ppl.holes import ContextFreeGrammar, completion_of
from sentax.ppl.holes.canvas import Canvas, Slots
from sentax.ppl.holes.unmasking import filling_of

RESULTS = Path(__file__).resolve().parent / "results" / "holes.json"
LENGTH = 32
Parts = tuple[str | Slots, ...]
LANGUAGES: dict[str, tuple[Callable[[Random], str], str, dict[str, Parts]]] = {
    "statements": (
        snippets.statements,
        snippets.STATEMENTS,
        {
            "whole": (Slots(24),),
            "between": ("if(x<", Slots(8), "){", Slots(8), ";}"),
        },
    ),
    "json": (
        snippets.json,
        snippets.JSON,
        {
            "whole": (Slots(24),),
            "between": ('["a",', Slots(8), ",[", Slots(8), "]]"),
        },
    ),
}
ORDERS = {"random": RandomOrder(), "confident": MostConfident()}
KERNELS: dict[str, Callable[[Any], Any]] = {
    "free": sx.Prior,
    "rejection": lambda model: sx.AWRS(model, use_masks=False),
    "masks": sx.LocallyConstrained,
}


PLANS = {
    "whole": [("random", kernel) for kernel in KERNELS] + [("confident", "free"), ("confident", "masks")],
    "between": [("random", kernel) for kernel in KERNELS],
}


@functools.cache
def filler(order: str, kernel: str, num_particles: int) -> sx.SMC:
    """One sampler for all canvases: those of a size share what is compiled.

    Without resampling: the texts are then the locally constrained draws, and every one counts.
    """

    def model(lm: Any, canvas: Any, where: Any) -> Any:
        return denoise("text", lm, canvas, where, order=ORDERS[order])

    return sx.SMC(KERNELS[kernel](model), num_particles=num_particles, ess_threshold=0.0)


def timed(
    sampler: Any, keys: list[Any], *args: Any, ready: Callable[[], None] = lambda: None
) -> tuple[float, list[str], list[float], int]:
    """Seconds, texts, log-evidences and candidates of some runs, after one that compiles.

    :param ready: called behind that one.
    """
    sampler.run(jax.random.key(99), *args)
    ready()
    texts: list[str] = []
    evidence: list[float] = []
    checks = 0
    # A particle without weight is no output: its text was cut before it was complete.
    start = time.perf_counter()
    for key in keys:
        sampler.run(key, *args)
        texts += [t for t, w in zip(sampler.texts("text"), sampler.log_weights) if np.isfinite(w)]
        evidence.append(sampler.log_evidence)
        checks += int(np.sum(sampler.population.checks))
    return time.perf_counter() - start, texts, evidence, checks


def summary(grammar: ContextFreeGrammar, seconds: float, texts: list[str], evidence: list[float]) -> dict:
    return {
        "texts": len(texts),
        "parses": sum(map(grammar.accepts, texts)) / len(texts),
        "distinct": len(set(texts)),
        "ms": 1e3 * seconds / len(texts),
        "evidence": float(np.mean(np.exp(evidence))),
        "examples": texts[:4],
    }


def diffusion(
    lm: MaskedLM, grammar: ContextFreeGrammar, parts: Parts, order: str, kernel: str, N: int, runs: int
) -> dict[str, Any]:
    canvas = Canvas.of(lm.vocabulary, *parts)
    where = None if kernel == "free" else filling_of(grammar, canvas)

    engine: Any = None if where is None else where.keeper.trie.engine

    def ready() -> None:
        if engine is not None:
            engine.checks = engine.passes = 0

    keys = list(jax.random.split(jax.random.key(0), runs))
    sampler = filler(order, kernel, N)
    seconds, texts, evidence, checks = timed(sampler, keys, lm, canvas, where, ready=ready)
    report = summary(grammar, seconds, texts, evidence)
    if engine is not None:
        slots = canvas.num_slots * len(texts)
        report |= {
            "checks_per_slot": checks / slots,
            "charts_per_slot": engine.checks / slots,
            "passes_per_slot": engine.passes / slots,
        }
    else:
        report["evidence"] = report["parses"]
    return report


def left_to_right(
    texts: list[str], grammar: ContextFreeGrammar, parts: Parts, kernel: str, N: int, runs: int
) -> dict[str, Any]:
    """An n-gram fills the first hole; behind it stand the other known pieces, with a 1 in each other hole."""
    lm = sx.NGramLM.train(texts, order=4, vocabulary=snippets.vocabulary())
    before = parts[0] if isinstance(parts[0], str) else ""
    after = "".join(p if isinstance(p, str) else "1" for p in parts[2:] if before)
    size = next(p.size for p in parts if isinstance(p, Slots))
    where = None if kernel == "free" else completion_of(grammar, before=before, after=after, max_bytes=size)

    def model(context: Any, where: Any) -> Any:
        return sx.generate("text", context, max_tokens=size, where=where)

    smc = sx.SMC(KERNELS[kernel](model), num_particles=N, ess_threshold=0.5 if where is not None else 0.0)
    keys = list(jax.random.split(jax.random.key(1), runs))
    seconds, holes, evidence, checks = timed(smc, keys, lm.prompt(before), where)
    alive = [f"{before}{hole}{after}" for hole in holes]
    report = summary(grammar, seconds, alive, evidence)
    if where is not None:
        report["checks_per_slot"] = checks / (sum(len(hole) + 1 for hole in holes) or 1)
        report["questions"] = where.stats.calls
    else:
        report["evidence"] = report["parses"]
    report["particles"] = N * runs
    return report


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(x) for key, x in value.items()}
    if isinstance(value, float) and math.isfinite(value) and value:
        return float(f"{value:.4g}")
    return value


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="of training, for each language (%(default)s)")
    parser.add_argument("--particles", type=int, default=16)
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--languages", nargs="*", default=list(LANGUAGES), choices=LANGUAGES)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    N, runs = options.particles, options.runs
    report: dict[str, Any] = {"load": round(os.getloadavg()[0], 2), "cores": os.cpu_count(), "languages": {}}
    vocabulary = snippets.vocabulary()
    for language in options.languages:
        generator, source, canvases = LANGUAGES[language]
        grammar = ContextFreeGrammar(source)
        start = time.process_time()
        config = MaskedConfig(vocabulary.size, max_positions=LENGTH)
        lm, losses = train(generator, vocabulary, config, MaskedSettings(steps=options.steps))
        part: dict[str, Any] = {
            "training_cpu_s": time.process_time() - start,
            "bound_nats": float(losses[-20:].mean()),
            "diffusion": {},
            "left_to_right": {},
        }
        corpus_rng = Random("corpus")
        corpus = [generator(corpus_rng) for _ in range(2000)]
        for name, parts in canvases.items():
            for order, kernel in PLANS[name]:
                key = f"{name}, {order}, {kernel}"
                part["diffusion"][key] = diffusion(lm, grammar, parts, order, kernel, N, runs)
                print(language, key, rounded(part["diffusion"][key]), flush=True)
            for kernel in ("free", "rejection"):
                key = f"{name}, {kernel}"
                part["left_to_right"][key] = left_to_right(corpus, grammar, parts, kernel, N, runs)
                print(language, key, rounded(part["left_to_right"][key]), flush=True)
        report["languages"][language] = part
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(rounded(report), indent=1) + "\n")


if __name__ == "__main__":
    main()
