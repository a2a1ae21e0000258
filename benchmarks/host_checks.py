"""What does a check on the host cost: known, new, after 40 bytes and after 4 kB, and in worker processes?

Four questions, answered in one run; only the standard library's clock and NumPy, no model.

* `dispatch`: microseconds a lane of the one callback, 32 particles x 8 candidates: all answers known; all lanes
  passed over; and what a call with a single lane takes.
* `length`: microseconds for a new text after 40 and after 4,096 bytes, by engine: one of constant price
  (what the memory itself costs), predicates of bytes and str, `regex_partial`, `python_syntax`.
* `workers`: checks a second of a predicate that computes for 20 ms, with one and two processes, 32 texts at a
  time, and milliseconds until the first answers of new worker processes.

Wanted: known answers 1 us a lane; at constant price 4 kB within twice 40 bytes; two workers 1.7 times one.

    python benchmarks/host_checks.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sentax.ppl.constraints import predicate
from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.host import HostConstraint, dispatch
from sentax.ppl.constraints.python_syntax import python_syntax
from sentax.ppl.constraints.regex_partial import regex_partial
from sentax.ppl.constraints.trie import PREFIX, ROOT, SKIP

RESULTS = Path(__file__).resolve().parent / "results" / "host_checks.json"
N, K = 32, 8
SHORT, LONG = 40, 4096


class Constant(Engine):
    """Everything goes; the price does not depend on the text."""

    def start(self) -> int:
        return 0

    def extend(self, session: int, piece: bytes) -> int:
        return session + len(piece)

    def prefix(self, session: int, piece: bytes) -> bool:
        return True

    complete = prefix


def questions(constraint: HostConstraint, node: int, pieces: list[bytes], action: int = PREFIX) -> np.ndarray:
    """Packed as the compiled program does it, [N, K, W], every lane asked."""
    width = -(-max(map(len, pieces)) // 4)
    packed = np.zeros((len(pieces), 6 + width), np.int32)
    packed[:, 0], packed[:, 3], packed[:, 5] = int(constraint.handle), action, node
    for row, piece in zip(packed, pieces):
        row[4] = len(piece)
        row[6:].view(np.uint8)[: len(piece)] = np.frombuffer(piece, np.uint8)
    return packed.reshape(-1, K if len(pieces) % K == 0 else 1, packed.shape[1])


def best(run: Callable[[], object], repeats: int) -> float:
    """Microseconds of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e6 * min(times)


def known_answers(repeats: int) -> dict[str, float]:
    constraint = HostConstraint.of(Constant())
    packed = questions(constraint, ROOT, [b" word%d" % i for i in range(N * K)])
    dispatch(packed)
    skipped = packed.copy()
    skipped[..., 3] = SKIP
    return {
        "known_us_per_lane": best(lambda: dispatch(packed), repeats) / (N * K),
        "skipped_us_per_lane": best(lambda: dispatch(skipped), repeats) / (N * K),
        "one_lane_us": best(lambda: dispatch(packed[0, 0]), repeats),
    }


ENGINES: dict[str, tuple[Callable[[], HostConstraint], bytes]] = {
    "constant": (lambda: HostConstraint.of(Constant()), b"a line\n"),
    "predicate": (lambda: predicate(lambda text: True), b"a line\n"),
    "predicate_str": (lambda: predicate(lambda text: True, text="str"), b"a line\n"),
    "regex_partial": (lambda: regex_partial(r"(?:(\w+) (?!\1)\w+\n)*"), b"a line\n"),
    "python_syntax": (python_syntax, b"x = f(a, 'b')\n"),
}


def after(make: Callable[[], HostConstraint], line: bytes, size: int, repeats: int) -> float:
    """Microseconds for one new text with a piece more after so many bytes."""
    constraint = make()
    memory = constraint.keeper.trie
    node = ROOT
    for _ in range(max(1, size // len(line))):
        node, verdict = memory.answer(node, line, PREFIX)
        assert verdict
    times = []
    for repeat in range(repeats):
        pieces = [b"v%d" % (repeat * 64 + i) for i in range(64)]
        packed = questions(constraint, node, pieces)
        times.append(best(lambda: dispatch(packed), 1) / 64)  # noqa: B023
    return statistics.median(times)


def busy(text: bytes) -> bool:
    """20 ms of computing."""
    import time

    end = time.process_time() + 0.02
    while time.process_time() < end:
        pass
    return True


def workers(rounds: int) -> dict[str, float]:
    report = {}
    for size in (1, 2):
        constraint = predicate(busy, workers=size)
        start = time.perf_counter()
        dispatch(questions(constraint, ROOT, [b"first%d" % i for i in range(16)]))
        report[f"start_ms_{size}"] = 1e3 * (time.perf_counter() - start)
        start = time.perf_counter()
        for number in range(rounds):
            dispatch(questions(constraint, ROOT, [b"%d %d" % (number, i) for i in range(32)]))
        report[f"checks_per_s_{size}"] = 32 * rounds / (time.perf_counter() - start)
    return report | {"speedup": report["checks_per_s_2"] / report["checks_per_s_1"]}


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    report: dict[str, object] = {
        "load": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
        "dispatch": known_answers(options.repeats),
        "workers": workers(options.rounds),
    }
    lengths = {}
    for name, (make, line) in ENGINES.items():
        short, long = (after(make, line, size, options.repeats) for size in (SHORT, LONG))
        lengths[name] = {"us_at_40": short, "us_at_4096": long, "ratio": long / short}
    report["length"] = lengths
    text = json.dumps(report, indent=1, default=float)
    text = json.dumps(json.loads(text, parse_float=lambda x: round(float(x), 3)), indent=1)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
