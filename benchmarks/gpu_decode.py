"""How near does decoding come to the memory bandwidth of an accelerator?

A step of N particles has to read every weight once (but for the embedding, of which it reads N rows), the
prompt's keys and values once for all particles, and each particle's own suffix. Those bytes, over the
bandwidth that a plain copy reaches on the same device in the same run, are the floor of a step's time; the
figure is that floor over the time a step takes. Weights are random, in bfloat16, the prompt has 512
tokens, 256 new ones are drawn, with and without resampling; prefill and compilation are left out::

    python benchmarks/gpu_decode.py
    python benchmarks/gpu_decode.py --shape tiny --quick    # anywhere, to see that it runs

Wanted: at least 0.6 for a model of Llama 3's 8B shape at N = 64. `results/gpu_decode.json` has what was
seen, if a device was at hand.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interleaved import ROOT, surroundings

# Vocabulary, width, feed-forward width, layers, heads, key-value heads.
SHAPES = {
    "8b": (128_256, 4096, 14_336, 32, 32, 8),  # Llama 3.1
    "1b": (128_256, 2048, 8192, 16, 32, 8),  # Llama 3.2, but with a head of its own
    "tiny": (512, 64, 128, 2, 4, 2),
}
GOAL = 0.6
PACKAGES = ("sentax", "jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "flax", "numpyro")


def make_model(shape: str) -> Any:
    """A language model with random bfloat16 weights, made on the device leaf by leaf."""
    import jax
    import jax.numpy as jnp

    from sentax.models import DecoderConfig, TransformerLM, Vocabulary
    from sentax.models.weights import abstract

    config = DecoderConfig(*SHAPES[shape], max_positions=8192, tie_embeddings=False)
    leaves, treedef = jax.tree.flatten(abstract(config)[1])
    draw = jax.jit(lambda key, shape: 0.02 * jax.random.normal(key, shape, jnp.bfloat16), static_argnums=1)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    # Norms have ones: vectors of small numbers would let the activations vanish.
    made = [
        draw(key, leaf.shape) if leaf.ndim > 1 else jnp.ones(leaf.shape, jnp.bfloat16)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    tokens = [f"<{i}>".encode() for i in range(config.vocab_size - 1)]
    vocabulary = Vocabulary([*tokens, b""], config.vocab_size - 1)
    return TransformerLM(config, jax.tree.unflatten(treedef, made), vocabulary)


def copy_bandwidth(gigabytes: float) -> float:
    """Bytes read and written in a second by a copy."""
    import jax
    import jax.numpy as jnp

    x = jnp.zeros(int(gigabytes * 1e9) // 4, jnp.float32)
    # Every element changes, so that nothing is aliased or skipped.
    copy = jax.jit(lambda x, y: x + y)
    jax.block_until_ready(copy(x, jnp.float32(0)))
    times = []
    for i in range(10):
        started = time.perf_counter()
        jax.block_until_ready(copy(x, jnp.float32(i)))
        times.append(time.perf_counter() - started)
    return 2 * x.nbytes / min(times)


def measure(
    lm: Any, particles: int, prompt: int, new_tokens: int, repeats: int, bandwidth: float
) -> dict[str, Any]:
    """Milliseconds a step, and the floor's share of it."""
    import jax
    import numpy as np

    import sentax as sx

    config = lm.config
    size = next(iter(jax.tree.leaves(lm.params))).dtype.itemsize
    embedding = math.prod(lm.params["embed_tokens"]["weight"].shape) * size
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(lm.params)) - embedding
    token = 2 * config.num_layers * config.num_kv_heads * config.head_dim * size
    # A suffix is half full on average.
    least = weights + token * (prompt + particles * new_tokens / 2)
    context = jax.block_until_ready(lm.prompt(np.arange(prompt)))

    def model(context: Any) -> None:
        sx.generate("text", context, max_tokens=new_tokens)

    systems = {}
    for name, threshold in (("drawn", 0.0), ("with resampling at hand", 0.5)):
        smc = sx.SMC(sx.Prior(model), num_particles=particles, ess_threshold=threshold)
        times = []
        for seed in range(repeats + 1):
            started = time.perf_counter()
            smc.run(jax.random.key(seed), context)
            if seed:  # the first compiles
                times.append((time.perf_counter() - started) / int(smc.population.steps[0]))
        step = statistics.median(times)
        memory = smc._executable.latest.memory_analysis()
        systems[name] = {
            "ms_per_step": round(1e3 * step, 3),
            "tokens_per_second": round(particles / step, 1),
            "bandwidth_fraction": round(least / bandwidth / step, 3),
            "temporaries_gb": round(memory.temp_size_in_bytes / 1e9, 3),
        }
    return {
        "particles": particles,
        "prompt": prompt,
        "new_tokens": new_tokens,
        "floor_ms": round(1e3 * least / bandwidth, 3),
        "weights_gb": round(weights / 1e9, 3),
        "cache_gb": round((least - weights) / 1e9, 3),
        "systems": systems,
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--shape", choices=list(SHAPES), default="8b")
    add("--particles", type=int, nargs="+", default=[1, 16, 64])
    add("--prompt", type=int, default=512)
    add("--new-tokens", type=int, default=256)
    add("--repeats", type=int, default=5)
    add("--copy-gb", type=float, default=4.0, help="how much a copy moves when bandwidth is measured")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "gpu_decode.json")
    add("--quick", action="store_true", help="two particles, few tokens: to see that it runs")
    options = parser.parse_args(arguments)
    if options.quick:
        options.particles, options.prompt, options.new_tokens = [2], 16, 16
        options.repeats, options.copy_gb = 1, 0.01

    import jax

    log: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
    device = jax.devices()[0]
    report = surroundings(ROOT, PACKAGES) | {"device": f"{device.device_kind} ({device.platform})"}
    del report["checkpoint"]
    bandwidth = copy_bandwidth(options.copy_gb)
    log(f"{report['device']}: a copy moves {bandwidth / 1e9:.0f} GB/s")
    lm = make_model(options.shape)
    results = []
    for particles in options.particles:
        what = (particles, options.prompt, options.new_tokens, options.repeats)
        results.append(measure(lm, *what, bandwidth))
        log(json.dumps(results[-1]))
    for result in results:
        if (options.shape, result["particles"]) == ("8b", 64):
            fraction = result["systems"]["drawn"]["bandwidth_fraction"]
            print(f"8B, N = 64: {fraction:.2f} of the bandwidth, {'met' if fraction >= GOAL else 'MISSED'}")
    report |= {"shape": options.shape, "copy_gb_per_second": round(bandwidth / 1e9, 1), "results": results}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    log(f"written to {options.out}")


if __name__ == "__main__":
    main()
