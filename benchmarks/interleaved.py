"""Systems side by side in one run: a process each, warmed up, repeats interleaved, medians.

What the benchmarks of this folder share. A worker process prepares runs on request and times them; it
answers in JSON lines, so that systems whose dependencies do not fit together can have interpreters of
their own. Idle workers take no CPU time. Only the standard library is imported here.
"""

from __future__ import annotations

import datetime
import gc
import importlib.metadata
import json
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Outcome(NamedTuple):
    """What one run left, read after the clock has stopped.

    :param tokens: draws of living, unfinished particles; what a cost is divided by.
    :param texts: the finished texts of living particles.
    :param steps: how often the model was asked for all particles at once.
    :param checks: constraint checks.
    :param prefill: CPU seconds spent on the prompt, where they can be told apart.
    """

    tokens: int
    texts: list[str]
    steps: int
    checks: int = 0
    log_evidence: float | None = None
    prefill: float = 0.0


def outcome_of(smc: Any, prefill: float) -> Outcome:
    """What a run of ours left.

    :param smc: a `sentax.SMC` that has run a program with one text, `text`.
    """
    figures = smc.diagnostics
    texts = [t for t, w in zip(smc.texts("text"), smc.log_weights, strict=True) if math.isfinite(w)]
    return Outcome(figures.tokens, texts, figures.steps[0], figures.checks, smc.log_evidence, prefill)


Run = Callable[[int], Callable[[], Outcome]]
"""`run(seed)` does the work, all of it, and returns how to read what it left."""


def serve(start: Callable[[], Callable[..., Run]]) -> None:
    """A worker process: a request a line on standard input, a reply a line on what was standard output.

    :param start: imports and loads, and returns `prepare(**what) -> Run`, called once for each `what`.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print too
    warnings.simplefilter("ignore")

    def reply(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=replies, flush=True)

    try:
        prepare = start()
    except ImportError as error:
        return reply({"missing": str(error)})
    reply({})
    ready: dict[str, Run] = {}
    for line in sys.stdin:
        request = json.loads(line)
        key = json.dumps(request["what"])
        wall, cpu = time.perf_counter(), time.process_time()
        if key in ready:
            # The timed part must not pay for the garbage of what came before it.
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
        else:
            ready[key] = prepare(**request["what"])
        read = ready[key](request["seed"])
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        reply({"wall": wall, "cpu": cpu} | read()._asdict())


class Worker:
    """A worker process, seen from the parent.

    :param command: of a process that calls :func:`serve`.
    :param threads: that OpenMP, MKL and JAX may use on a CPU; 0 leaves it to them.
    """

    def __init__(self, command: list[str], threads: int = 0) -> None:
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}
        if threads:
            quiet |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PJRT_NPROC"), str(threads))
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=os.environ | quiet,
            text=True,
        )
        self.missing = self._read().get("missing")

    def run(self, seed: int, **what: Any) -> dict[str, Any]:
        """One timed run; the first for each `what` prepares it, on the clock."""
        self.process.stdin.write(json.dumps({"seed": seed, "what": what}) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError("a worker died:\n" + self.errors.read().decode(errors="replace")[-3000:])
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def summarise(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and quartiles of repeats; times in milliseconds."""

    def spread(values: Iterable[float]) -> dict[str, Any]:
        values = list(values)
        low, mid, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
        return {"median": round(mid, 4), "quartiles": [round(low, 4), round(high, 4)]}

    total = {name: sum(s[name] for s in samples) for name in ("tokens", "checks")}
    return {
        "cpu_ms_per_token": spread(1e3 * s["cpu"] / s["tokens"] for s in samples),
        "wall_ms_per_token": spread(1e3 * s["wall"] / s["tokens"] for s in samples),
        "cpu_ms_per_step": spread(1e3 * (s["cpu"] - s["prefill"]) / s["steps"] for s in samples),
        "prefill_cpu_ms": round(1e3 * statistics.median(s["prefill"] for s in samples), 3),
        "tokens": statistics.median(s["tokens"] for s in samples),
        "steps": statistics.median(s["steps"] for s in samples),
        "checks_per_token": round(total["checks"] / total["tokens"], 2),
        "log_evidence": [round(s["log_evidence"], 3) for s in samples if s["log_evidence"] is not None],
        "example": next((text for s in samples for text in s["texts"]), None),
    }


def surroundings(checkpoint: Path, packages: Iterable[str], python: str = sys.executable) -> dict[str, Any]:
    """What figures depend on: date, commit, device, load, checkpoint, versions.

    :param python: an interpreter whose packages are asked for too.
    """

    def output(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    git = ("git", "-C", str(ROOT))
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    training = checkpoint / "training.json"
    record = json.loads(training.read_text()) if training.is_file() else {}
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            code = f"import importlib.metadata as m; print(m.version({name!r}))"
            versions[name] = output(python, "-c", code) or None
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": output(*git, "rev-parse", "--short", "HEAD"),
        "uncommitted_changes": bool(output(*git, "status", "--porcelain")),
        "device": f"{model.group(1) if model else platform.processor()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 2),
        "checkpoint": {key: record.get(key) for key in ("parameters", "steps")},
        "versions": {"python": platform.python_version()} | versions,
    }


__all__ = ["ROOT", "Outcome", "Run", "Worker", "outcome_of", "serve", "summarise", "surroundings"]
