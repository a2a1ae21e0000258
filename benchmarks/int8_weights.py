"""Would int8 weights pay? The head's product alone, with weights in float32, bfloat16 and int8.

Weight-only quantisation keeps one int8 a weight and a float32 scale a row, and converts on the way into the
product, as kept libraries (qwix, AQT) do under XLA. It pays where the conversion is fused into the product
and the product waits for memory. Medians, in one process, interleaved::

    python benchmarks/int8_weights.py

`results/int8_weights.json` has what was seen: on CPU it does not pay.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from interleaved import ROOT, surroundings

D, V = 768, 32_000


def product(x: jax.Array, weight: jax.Array, scale: jax.Array | None, dtype: jnp.dtype) -> jax.Array:
    """`[N, D] x [V, D]`, summed in float32."""
    y = jnp.einsum("nd,vd->nv", x.astype(dtype), weight.astype(dtype), preferred_element_type=jnp.float32)
    return y if scale is None else y * scale


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "int8_weights.json")
    options = parser.parse_args()
    weight = jax.random.normal(jax.random.key(0), (V, D))
    scale = jnp.abs(weight).max(1) / 127
    quantised = jnp.round(weight / scale[:, None]).astype(jnp.int8)
    kinds = {
        "float32": (weight, None, jnp.float32),
        "bfloat16": (weight.astype(jnp.bfloat16), None, jnp.bfloat16),
        "int8 to float32": (quantised, scale, jnp.float32),
        "int8 to bfloat16": (quantised, scale, jnp.bfloat16),
    }
    run = jax.jit(product, static_argnums=3)
    report = surroundings(ROOT, ("jax", "jaxlib"))
    del report["checkpoint"]
    results = []
    for num_texts in (1, 8, 32):
        x = jax.random.normal(jax.random.key(1), (num_texts, D))
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(options.repeats + 1):
            for kind, (w, s, dtype) in kinds.items():
                started = time.process_time()
                jax.block_until_ready(run(x, w, s, dtype))
                times[kind].append(time.process_time() - started)
        medians = {kind: round(1e3 * statistics.median(seen[1:]), 3) for kind, seen in times.items()}
        results.append({"texts": num_texts, "cpu_ms": medians})
        best = min(medians["float32"], medians["bfloat16"])
        int8 = min(medians["int8 to float32"], medians["int8 to bfloat16"])
        print(f"N={num_texts}: {medians}; int8 takes {int8 / best:.1f} times the best float")
    report |= {"repeats": options.repeats, "results": results}
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
