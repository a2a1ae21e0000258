"""Do runs with callbacks to Python end on one core? A thousand in a row, each with hundreds of callbacks.

A callback waits for its arguments while the program waits for the callback; where both need the same
thread, nothing moves any more. This happens on few cores, now and then, so it is looked for where it is
likeliest: the process binds itself to one core before JAX starts (as `taskset -c 0` does), with no settings
but JAX's own. A second thread looks on; if no run ends for `--patience` seconds, it prints where every
thread stands, and the process ends with status 1.

Two programs take turns: rejection by a predicate (AWRS, candidates in order), and exact masks of a predicate.

    python benchmarks/callbacks_one_core.py
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "callbacks_one_core.json"


def programs():
    """The programs to run, by name: functions of a seed."""
    import jax
    import numpy as np

    import sentax as sx

    words = [b"a", b"b", b"c", b" ", b"ab", b"ba", b"cab", b"abc"]
    lm = sx.TableLM.uniform(words)

    def sparse(text: bytes) -> bool:
        return b"aa" not in text and b"bb" not in text and text.count(b" ") < 3

    def mask(text: bytes, tokens: list[bytes]) -> np.ndarray:
        return np.array([sparse(text + token) for token in tokens])

    def model(context, where):
        return sx.generate("text", context, max_tokens=12, where=where)

    def program(kernel, where):
        smc = sx.SMC(kernel, num_particles=16)

        def run(seed: int) -> None:
            smc.run(jax.random.key(seed), lm.prompt(), where)
            assert np.isfinite(smc.log_evidence)

        return run

    return {
        "rejection": program(sx.AWRS(model), sx.predicate(sparse)),
        "masks": program(sx.LocallyConstrained(model), sx.predicate(sparse, mask=mask)),
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--core", type=int, default=0, help="-1: all of them")
    parser.add_argument(
        "--patience", type=float, default=120.0, help="seconds without a run's end that mean a deadlock"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.core >= 0:
        os.sched_setaffinity(0, {options.core})

    faulthandler.dump_traceback_later(options.patience, exit=True)
    ready = programs()
    seconds = dict.fromkeys(ready, 0.0)
    for seed in range(options.runs):
        name = list(ready)[seed % len(ready)]
        start = time.perf_counter()
        ready[name](seed)
        seconds[name] += time.perf_counter() - start
        faulthandler.dump_traceback_later(options.patience, exit=True)
        if sys.stderr.isatty() and seed % 100 == 99:
            print(f"{seed + 1} runs", file=sys.stderr)
    faulthandler.cancel_dump_traceback_later()

    import jax

    report = {
        "runs": options.runs,
        "cores": len(os.sched_getaffinity(0)),
        "seconds": {name: round(total, 1) for name, total in seconds.items()},
        "jax": jax.__version__,
        "ended": True,
    }
    print(json.dumps(report))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
