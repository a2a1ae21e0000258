"""How much of the log-evidence gap does a learned twist close?

The embedded model, two families of prompts, two tasks; for each a twist is trained by contrastive twist
learning on some prompts, and judged on prompts that it has not seen:

* `infilling`: a hole of seven tokens in "Email=...@northwind.co", what follows scored by the model itself: the
  address must come to its "@" there and not before.
* `reward`: sentences of twelve tokens, with a reward for a question mark: the KL-regularised posterior
  p(x) exp(r(x) / beta).

The gap is log Z - E[log Z_hat] of a particle filter with few particles: 0 for an ideal sampler. E[log Z_hat]
is a mean over runs. log Z comes from long runs: the log of the mean of their unbiased estimates, half of them
with the twist, half without. Where rejection is cheap enough to give exact posterior samples, an upper bound
stands beside it (conditional SMC; Grosse et al. 2015). CPU seconds are this process's, compilation included::

    python benchmarks/learned_twists.py

`results/learned_twists.json` has what was seen.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from interleaved import ROOT, surroundings

PACKAGES = ("sentax", "jax", "jaxlib", "flax", "numpyro", "optax")
EMBEDDED = ROOT / "models" / "embedded"


@dataclasses.dataclass(frozen=True)
class Task:
    """A program and a family of prompts for it.

    :param model: takes a context and a twist.
    :param prompt: the `i`-th prompt of the family.
    :param log_bound: no text's log-weight is above: for rejection.
    """

    name: str
    model: Callable[..., Any]
    prompt: Callable[[int], str]
    log_bound: float


def infilling(lm: Any, tokens: int = 7) -> Task:
    """A hole before a fixed continuation."""
    import jax
    import jax.numpy as jnp
    import numpyro

    import sentax as sx
    from sentax.models.data.strings import email

    suffix = jnp.array(lm.vocabulary.encode("@northwind.co\n"))

    def model(context: Any, twist: Any = None) -> None:
        text = sx.generate("text", context, max_tokens=tokens, twist=twist)
        after = text.context.reserve(len(suffix))

        def read(carry: Any, token: Any) -> Any:
            context, total = carry
            return (context.extend(token), total + jax.nn.log_softmax(context.logits)[token]), None

        (_, log_likelihood), _ = jax.lax.scan(read, (after, jnp.float32(0.0)), suffix)
        numpyro.factor("suffix", log_likelihood)

    def prompt(i: int) -> str:
        return f"Email={email(Random(2 * i))}\nEmail={email(Random(2 * i + 1))}\nEmail="

    return Task("infilling", model, prompt, 0.0)


def reward(lm: Any, tokens: int = 12, scale: float = 6.0) -> Task:
    """Sentences that are rewarded for a question mark."""
    import jax.numpy as jnp
    import numpyro

    import sentax as sx
    from sentax.models.data.sentences import sentence

    asks = jnp.array([b"?" in token for token in lm.vocabulary.tokens])

    def model(context: Any, twist: Any = None) -> None:
        text = sx.generate("text", context, max_tokens=tokens, stop="\n", twist=twist)
        numpyro.factor("reward", scale * jnp.any(asks[text.tokens]))

    def prompt(i: int) -> str:
        return f"Sentence={sentence(Random(i))}\nSentence="

    return Task("reward", model, prompt, scale)


def prompts_of(lm: Any, task: Task, start: int, count: int) -> list[Any]:
    """Contexts of one size: the first prompts from a number on that fit."""
    found: list[Any] = []
    i = start
    while len(found) < count:
        context = lm.prompt(task.prompt(i))
        if context.past[0].positions.shape[-1] == 64:
            found.append(context)
        i += 1
    return found


def log_mean(values: Any) -> tuple[float, float]:
    """The log of the mean of exp(values), and its standard error (delta method)."""
    import numpy as np

    values = np.asarray(values, np.float64)
    w = np.exp(values - values.max())
    return float(np.log(w.mean()) + values.max()), float(w.std(ddof=1) / w.mean() / math.sqrt(len(w)))


def exact_samples(task: Task, context: Any, want: int, tries: int) -> Any:
    """Posterior texts by rejection from the prior, `[R, T]`; None if too few."""
    import jax
    import numpy as np

    import sentax as sx

    smc = sx.SMC(sx.Prior(task.model), num_particles=1024, ess_threshold=0.0)
    rng = np.random.default_rng(0)
    found = []
    for seed in range(tries):
        smc.run(jax.random.key(1000 + seed), context)
        samples, log_weights = smc.get_weighted_samples()
        kept = np.log(rng.uniform(size=len(log_weights))) < log_weights - task.log_bound
        found.extend(np.asarray(samples["text"])[kept])
        if len(found) >= want:
            return np.stack(found[:want])
    return None


def judge(task: Task, twist: Any, contexts: list[Any], options: Any) -> list[dict[str, Any]]:
    """The gaps on held-out prompts."""
    import jax
    import numpy as np

    import sentax as sx
    from sentax.inference.learning import evidence_bounds

    kernel = sx.Prior(task.model)
    rows = []
    for number, context in enumerate(contexts):
        key = jax.random.key(10_000 + number)
        few = {"num_particles": options.particles, "num_runs": options.runs}
        long = {"num_particles": options.long_particles, "num_runs": options.long_runs}
        posterior = exact_samples(task, context, options.runs, options.tries)
        exact = None if posterior is None else {"text": posterior}
        row: dict[str, Any] = {}
        estimates = []
        for name, guide in (("without", None), ("with", twist)):
            estimates.append(evidence_bounds(key, kernel, context, twist=guide, **long).lower_runs)
            bounds = evidence_bounds(key, kernel, context, twist=guide, posterior=exact, **few)
            row[name] = {
                "long_run": [round(x, 4) for x in log_mean(estimates[-1])],
                "lower": [round(bounds.lower, 4), round(bounds.lower_error, 4)],
                "upper": None if exact is None else [round(bounds.upper, 4), round(bounds.upper_error, 4)],
            }
        log_z, error = log_mean(np.concatenate(estimates))
        for name in ("without", "with"):
            row[name]["gap"] = round(log_z - row[name]["lower"][0], 4)
        row["log_evidence"] = [round(log_z, 4), round(error, 4)]
        rows.append(row)
        print(json.dumps(row), file=sys.stderr, flush=True)
    return rows


def measure(task: Task, lm: Any, options: Any) -> dict[str, Any]:
    """Train on some prompts, judge on others."""
    import jax
    import numpy as np
    import numpyro.optim

    import sentax as sx
    from sentax.inference.learning import LearnedTwist, train_twist

    started = time.process_time()
    train = prompts_of(lm, task, 0, options.train_prompts)
    held_out = prompts_of(lm, task, 100_000, options.test_prompts)
    twist = LearnedTwist.create(jax.random.key(0), train[0], hidden=options.hidden)
    training = train_twist(
        jax.random.key(1),
        sx.Prior(task.model),
        twist,
        [(context,) for context in train],
        num_steps=options.steps,
        num_particles=options.train_particles,
        num_updates=options.updates,
        optim=numpyro.optim.Adam(options.learning_rate),
        log=_progress,
    )
    trained = time.process_time()
    rows = judge(task, training.head, held_out, options)
    gaps = {name: float(np.mean([row[name]["gap"] for row in rows])) for name in ("without", "with")}
    return {
        "task": task.name,
        "prompt": task.prompt(0),
        "train_cpu_seconds": round(trained - started, 1),
        "total_cpu_seconds": round(time.process_time() - started, 1),
        "training": {
            "log_evidence": [round(float(x), 3) for x in _course(training.log_evidence)],
            "ess": [round(float(x), 2) for x in _course(training.ess)],
        },
        "mean_gap": {name: round(gap, 4) for name, gap in gaps.items()},
        "share_left": round(gaps["with"] / gaps["without"], 4),
        "held_out": rows,
    }


def _progress(step: int, figures: dict[str, float]) -> None:
    if step % 20 == 0:
        print(f"step {step}", {k: round(v, 3) for k, v in figures.items()}, file=sys.stderr, flush=True)


def _course(values: Any, parts: int = 10) -> Any:
    import numpy as np

    return [part.mean() for part in np.array_split(values, min(parts, len(values)))]


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--tasks", nargs="+", choices=["infilling", "reward"], default=["infilling", "reward"])
    add("--particles", type=int, default=8)
    add("--runs", type=int, default=64)
    add("--long-particles", type=int, default=256)
    add("--long-runs", type=int, default=8)
    add("--tries", type=int, default=4, help="thousands of prior texts for exact posterior samples")
    add("--train-prompts", type=int, default=32)
    add("--test-prompts", type=int, default=4)
    add("--steps", type=int, default=160)
    add("--train-particles", type=int, default=64)
    add("--updates", type=int, default=1)
    add("--hidden", type=int, default=64)
    add("--learning-rate", type=float, default=3e-3)
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "learned_twists.json")
    add("--quick", action="store_true", help="next to no training, one prompt: to see that it runs")
    options = parser.parse_args(arguments)
    if options.quick:
        options.tasks, options.runs, options.steps = ["infilling"], 2, 2
        options.long_particles, options.long_runs, options.tries = 8, 2, 0
        options.train_prompts, options.test_prompts, options.train_particles = 1, 1, 8

    import sentax as sx

    lm = sx.load()
    report = surroundings(EMBEDDED, PACKAGES)
    settings = {key: value for key, value in vars(options).items() if key not in ("out", "quick", "tasks")}
    results = []
    for name in options.tasks:
        results.append(measure({"infilling": infilling, "reward": reward}[name](lm), lm, options))
        print(
            json.dumps(
                {key: results[-1][key] for key in ("task", "mean_gap", "share_left", "total_cpu_seconds")}
            )
        )
    report |= {"load_at_end": round(os.getloadavg()[0], 2), "settings": settings, "results": results}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
