"""What does one prompt cache for all particles save, in memory and in time?

One run, one machine, a Llama with random weights (width 256, 4 layers, vocabulary 32,000, float32), a prompt
of 512 tokens, 32 particles, 64 new tokens, resampling on demand. The same program and the same engine twice:

* `shared`: as it is. Keys and values of the prompt have no particle axis.
* `replicated`: the prompt's keys and values are made to depend on the particle, as in an engine that has
  a cache for each sequence: every particle has a copy, and a resampling moves it.

Bytes are XLA's own account of the compiled program (`memory_analysis`): arguments without the weights, and
temporaries at their peak. Times are of whole runs without the prefill, repeats interleaved::

    python benchmarks/cache_memory.py

`results/cache_memory.json` has what was seen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from interleaved import ROOT, surroundings

WIDTH, LAYERS, VOCABULARY = 256, 4, 32_000
PACKAGES = ("sentax", "jax", "jaxlib", "flax", "numpyro")


def make_model() -> Any:
    """A language model with random weights, whose tokens are made up."""
    import jax
    from flax import nnx

    from sentax.models import Decoder, DecoderConfig, TransformerLM, Vocabulary

    config = DecoderConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_layers=LAYERS,
        num_heads=WIDTH // 64,
        max_positions=4096,
    )
    params = nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(0))))
    tokens = [f"<{i}>".encode() for i in range(VOCABULARY - 1)]
    return TransformerLM(config, jax.block_until_ready(params), Vocabulary([*tokens, b""], VOCABULARY - 1))


def make_program(new_tokens: int, replicated: bool) -> Any:
    """A text whose tokens weigh differently, so that particles are resampled now and then."""
    import dataclasses

    import jax
    import numpyro
    from numpyro.contrib.control_flow import scan

    import sentax as sx

    def model(context: Any) -> None:
        context = context.reserve(new_tokens)
        if replicated:
            # Not zero for all XLA knows: it has to keep N caches.
            nothing = 0.0 * numpyro.sample("z", numpyro.distributions.Normal())
            context = dataclasses.replace(
                context, past=jax.tree.map(lambda x: (x + nothing).astype(x.dtype), context.past)
            )

        def step(context: Any, _: None) -> Any:
            token = numpyro.sample("token", sx.TokenDistribution(context.logits))
            numpyro.factor("weight", 0.1 * (token % 8))
            return context.extend(token), None

        scan(step, context, None, length=new_tokens)

    return model


def measure(prompt_tokens: int, particles: int, new_tokens: int, repeats: int) -> dict[str, Any]:
    """Both programs, by name."""
    import jax
    import numpy as np

    import sentax as sx

    lm = make_model()
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(lm.params))
    context = jax.block_until_ready(lm.prompt(np.arange(prompt_tokens)))
    filters = {
        name: sx.SMC(sx.Prior(make_program(new_tokens, name == "replicated")), num_particles=particles)
        for name in ("shared", "replicated")
    }
    times: dict[str, list[float]] = {name: [] for name in filters}
    for seed in range(repeats + 1):
        for name, smc in filters.items():
            started = time.perf_counter()
            smc.run(jax.random.key(seed), context)
            if seed:  # the first compiles
                times[name].append(time.perf_counter() - started)
    systems = {}
    for name, smc in filters.items():
        memory = smc._executable.latest.memory_analysis()
        systems[name] = {
            "arguments_mb": round((memory.argument_size_in_bytes - weights) / 1e6, 2),
            "temporaries_mb": round(memory.temp_size_in_bytes / 1e6, 2),
            "ms_per_step": round(1e3 * statistics.median(times[name]) / new_tokens, 3),
            "resampled": int(smc.population.resampled[0].sum()),
        }
    shared, replicated = (
        {key: systems[name][key] for key in ("temporaries_mb", "ms_per_step")} for name in filters
    )
    cache = 2 * LAYERS * WIDTH * 4 / 1e6
    return {
        "prompt": prompt_tokens,
        "particles": particles,
        "new_tokens": new_tokens,
        "prompt_cache_mb": round(cache * prompt_tokens, 2),
        "suffix_caches_mb": round(cache * new_tokens * particles, 2),
        "weights_mb": round(weights / 1e6, 2),
        "systems": systems,
        "ratios": {key: round(replicated[key] / shared[key], 2) for key in shared},
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--prompts", type=int, nargs="+", default=[512, 2048])
    add("--particles", type=int, default=32)
    add("--new-tokens", type=int, default=64)
    add("--repeats", type=int, default=5)
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "cache_memory.json")
    add("--quick", action="store_true", help="one small case, one repeat: to see that it runs")
    options = parser.parse_args(arguments)
    if options.quick:
        options.prompts, options.particles, options.new_tokens, options.repeats = [64], 2, 16, 1

    report = surroundings(ROOT, PACKAGES)
    del report["checkpoint"]
    results = []
    for prompt in options.prompts:
        results.append(measure(prompt, options.particles, options.new_tokens, options.repeats))
        print(json.dumps(results[-1], indent=1))
    report |= {"load_at_end": round(os.getloadavg()[0], 2), "repeats": options.repeats, "results": results}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
