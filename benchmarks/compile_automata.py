"""How long does it take to make an automaton: of an expression, a list, a corpus, a schema?

CPU milliseconds, the median of some makings after one to warm up, which leaves behind the sets of characters
that Unicode defines. With `--data DIR` (or SENTAX_DATA) also all expressions of `patterns.csv` and all schemas
of `jsonschemabench.jsonl` that an automaton takes, each made once: how many, median and worst.

Wanted: half of the expressions under 50 ms; `.{1,200}` under 300 ms; 10,000 strings under a second; a quotation
from 100 kB in about a second.

    python benchmarks/compile_automata.py --data DIR
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from sentax.ppl.constraints import choice, json_schema, keywords, length, regex, repeat, substring_of

RESULTS = Path(__file__).resolve().parent / "results" / "compile_automata.json"


def words(count: int) -> list[str]:
    rng = random.Random(0)
    return ["".join(rng.choices("etaoinshrdlucmfwyp", k=rng.randint(3, 12))) for _ in range(count)]


def corpus(size: int) -> str:
    rng = random.Random(1)
    vocabulary = words(5000)
    text = " ".join(rng.choices(vocabulary, k=size // 6))
    return text[:size]


def cases(corpus_size: int) -> dict[str, Callable[[], Any]]:
    many, text = words(10_000), corpus(corpus_size)
    return {
        r"regex [a-z]+": lambda: regex("[a-z]+"),
        r"regex date": lambda: regex(r"\d{4}-\d{2}-\d{2}"),
        r"regex .{1,200}": lambda: regex(".{1,200}"),
        r"regex \w{1,50}": lambda: regex(r"\w{1,50}"),
        r"regex (?i:\p{L}{1,20})": lambda: regex(r"(?i:\p{L}{1,20})"),
        "choice of 10,000": lambda: choice(many),
        "keywords, any of 1,000": lambda: keywords(any_of=many[:1000]),
        "keywords, none of 100 without case": lambda: keywords(none_of=many[:100], ignore_case=True),
        "length, 200 words": lambda: length(max=200, unit="words"),
        "repeat, 50 words": lambda: repeat(regex("[a-z]+"), max=50, separator=", "),
        f"substring of {corpus_size} bytes": lambda: substring_of(text),
    }


def milliseconds(make: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        make()
        times.append(1e3 * (time.process_time() - start))
    return round(statistics.median(times[1:]), 2)


def many(makes: Iterable[Callable[[], Any]]) -> dict[str, float]:
    """Of those that can be made: how many, and their times."""
    times, refused = [], 0
    for make in makes:
        start = time.process_time()
        try:
            make()
        except ValueError:
            refused += 1
        else:
            times.append(round(1e3 * (time.process_time() - start), 2))
    return {
        "made": len(times),
        "refused": refused,
        "median_ms": round(statistics.median(times), 2),
        "worst_ms": max(times),
    }


def from_data(folder: Path) -> dict[str, dict[str, float]]:
    with (folder / "patterns.csv").open(newline="", encoding="utf-8") as file:
        patterns = [row["regex"] for row in csv.DictReader(file)]
    with (folder / "jsonschemabench.jsonl").open(encoding="utf-8") as file:
        schemas = [json.loads(line)["schema"] for line in file]
    return {
        "patterns.csv": many(lambda p=p: regex(p) for p in patterns),
        "jsonschemabench.jsonl": many(lambda s=s: json_schema(s, engine="device") for s in schemas),
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SENTAX_DATA"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--corpus", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", FutureWarning)  # of `re`, about what sets may mean one day
    report: dict[str, Any] = {
        "load": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
        "milliseconds": {
            name: milliseconds(make, options.repeats) for name, make in cases(options.corpus).items()
        },
    }
    if options.data:
        report["data"] = from_data(Path(options.data))
    options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
