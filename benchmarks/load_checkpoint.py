"""What does it take to load a checkpoint: how long, and how much host memory beside the model itself?

A random checkpoint of Llama 3.2 1B's shape (1.24 billion parameters, bfloat16 in shards of about 0.5 GB) is
written to a temporary folder, loaded by a fresh process for each dtype, and deleted. The process reads the
files once before the clock starts, so that what is timed is loading and not the disk.

Memory is read from /proc/self/status every 2 ms: anonymous memory, which must exist somewhere, and resident
memory, which counts the mapped pages of the file being read too; the kernel may drop those at any time. On a
CPU the model itself is host memory, so the least possible peak is the model's size: wanted is a peak well
under twice it. On an accelerator the peak is what loading needs::

    python benchmarks/load_checkpoint.py            # 1B-shaped; about 10 GB of memory, 2.5 GB of disk
    python benchmarks/load_checkpoint.py --quick    # 30M-shaped
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from interleaved import ROOT, surroundings

SHAPES = {
    "1B": {
        **{"vocab_size": 128_256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16},
        **{"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64},
    },
    "30M": {
        **{"vocab_size": 32_000, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 6},
        **{"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64},
    },
}
SHARD_BYTES = 2**29
PACKAGES = ("sentax", "jax", "jaxlib", "safetensors", "numpy")


def config_json(shape: str) -> dict[str, Any]:
    return {
        "model_type": "llama",
        **SHAPES[shape],
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "max_position_embeddings": 131_072,
        "tie_word_embeddings": True,
    }


def write(directory: Path, shape: str) -> int:
    """A random checkpoint, shard by shard; the number of its parameters."""
    import ml_dtypes
    from safetensors.numpy import save_file

    from sentax.models import DecoderConfig
    from sentax.models.weights import key_table

    raw = config_json(shape)
    (directory / "config.json").write_text(json.dumps(raw))
    block = (0.02 * np.random.default_rng(0).standard_normal(2**22, np.float32)).astype(ml_dtypes.bfloat16)
    shard: dict[str, np.ndarray] = {}
    weight_map: dict[str, str] = {}
    parameters, files = 0, 0

    def flush() -> None:
        nonlocal files
        name = f"model-{files:05}.safetensors"
        save_file(shard, directory / name)
        weight_map.update(dict.fromkeys(shard, name))
        shard.clear()
        files += 1

    for source in key_table(DecoderConfig.from_hf(raw)).values():
        shard[source.name] = np.resize(block, source.shape)
        parameters += shard[source.name].size
        if sum(tensor.nbytes for tensor in shard.values()) > SHARD_BYTES:
            flush()
    flush()
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return parameters


class Memory(threading.Thread):
    """The highest anonymous and resident memory of this process, in bytes, sampled from its start."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = dict.fromkeys(("RssAnon", "VmRSS"), 0)
        self._done = threading.Event()

    @staticmethod
    def now() -> dict[str, int]:
        status = Path("/proc/self/status").read_text()
        return {
            name: int(kib) * 1024 for name, kib in re.findall(r"^(RssAnon|VmRSS):\s+(\d+) kB", status, re.M)
        }

    def run(self) -> None:
        while not self._done.wait(0.002):
            self.peak = {name: max(value, self.peak[name]) for name, value in self.now().items()}

    def stop(self) -> dict[str, int]:
        self._done.set()
        self.join()
        return self.peak


def measure(directory: Path, dtype: str) -> dict[str, Any]:
    """Loads in this process and reports."""
    import jax

    from sentax.models import DecoderConfig, load_params

    config = DecoderConfig.from_hf(json.loads((directory / "config.json").read_text()))
    jax.block_until_ready(jax.numpy.zeros(1))
    read_files(directory)
    before = Memory.now()
    memory = Memory()
    memory.start()
    wall, cpu = time.perf_counter(), time.process_time()
    params = jax.block_until_ready(load_params(directory, config, dtype=dtype))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = memory.stop()
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return {
        "dtype": dtype,
        "device": jax.default_backend(),
        "model_bytes": size,
        "seconds": round(wall, 3),
        "cpu_seconds": round(cpu, 3),
        "bytes_per_second": round(size / wall),
        "peak_anonymous_bytes": peak["RssAnon"] - before["RssAnon"],
        "peak_resident_bytes": peak["VmRSS"] - before["VmRSS"],
        "peak_anonymous_over_model": round((peak["RssAnon"] - before["RssAnon"]) / size, 3),
        "peak_resident_over_model": round((peak["VmRSS"] - before["VmRSS"]) / size, 3),
    }


def read_files(directory: Path) -> None:
    """Brings the files into the page cache, a piece at a time."""
    for file in sorted(directory.glob("*.safetensors")):
        with file.open("rb") as stream:
            while stream.read(2**24):
                pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a 30M-shaped checkpoint")
    parser.add_argument("--dtypes", nargs="+", default=["bfloat16", "float32"])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "load_checkpoint.json")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.dtypes[0])))
        return
    shape = "30M" if options.quick else "1B"
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        # In a process of its own: what writing leaves behind is no part of loading.
        script = f"import load_checkpoint as b, pathlib; print(b.write(pathlib.Path({folder!r}), {shape!r}))"
        run = lambda *command: (
            subprocess.run(
                [sys.executable, *command],
                check=True,
                capture_output=True,
                text=True,
                cwd=Path(__file__).parent,
            ).stdout
        )
        parameters = int(run("-c", script).split()[-1])
        rows = []
        for dtype in options.dtypes:
            rows.append(json.loads(run(__file__, "--measure", folder, "--dtypes", dtype).splitlines()[-1]))
            print(rows[-1], flush=True)
        result = {
            "question": "load time and host peak memory",
            "shape": shape,
            "parameters": parameters,
            "stored": "bfloat16",
            "results": rows,
            "surroundings": surroundings(directory, PACKAGES),
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
