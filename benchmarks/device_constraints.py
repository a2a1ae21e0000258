"""What do constraints on the device cost: a check of a token, a mask not seen before, a mask seen before?

No model, no network: automata over synthetic vocabularies whose tokens grow like those of byte-pair
encoding (bytes, then pairs of common tokens; words with a space, digits, other scripts, runs of
spaces up to 128), seeded. Each figure is the slope between a short and a long program of one shape,
everything in one `jit` as in a run, so that dispatch is not in it; medians of interleaved repeats.

* `check`: `advance` for 32 particles x 4 candidates, token bytes gathered from the vocabulary's table.
* `first mask`: one lookup in a state not met before: a walk over the vocabulary's trie, and the row kept.
* `mask`: one lookup in a state met before; `32 masks`: for 32 particles at once.

Beside them what is paid once: the trie on the host, the compilation of a program with lookups, and the
bytes of the table, cleared at the start of a run. One thread unless told otherwise. On a busy machine
only `--cpu-time` means something, which leaves out the time that others had::

    pip install -e .
    python benchmarks/device_constraints.py

Wanted on a CPU: checks under 150 us, a first mask under 3 ms at V=128k, a mask under 50 us.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interleaved import ROOT, surroundings

_STRING = r'"([^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4}){0,4}"'
_NUMBER = r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?"
_VALUE = f"({_STRING}|{_NUMBER}|true|false|null)"
PATTERNS = {
    "ISO date": r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
    "e-mail": r"[a-z0-9]+([._+-][a-z0-9]+)*@[a-z0-9]+([.-][a-z0-9]+)*\.[a-z]{2,}",
    ".{1,200}": ".{1,200}",
    "JSON": rf'\{{"name": {_STRING}, "age": (0|[1-9][0-9]{{0,2}}), '
    rf'"tags": \[({_VALUE}(, {_VALUE}){{0,3}})?\], "active": (true|false)\}}',
}
PARTICLES, CANDIDATES = 32, 4
TARGETS = {"check_us": 150.0, "mask_us": 50.0, "first_mask_us": 3000.0}
PACKAGES = ("sentax", "jax", "jaxlib", "numpy")


def synthetic_tokens(size: int, seed: int = 0) -> list[bytes]:
    """Tokens of about the lengths, and with about the shared prefixes, of byte-pair encodings of their size."""
    rng = random.Random(seed)
    tokens = [bytes([b]) for b in range(256)]
    known = set(tokens)
    words = [bytes([b]) for b in b"etaoinshrdlucmfwypvbgkjqxz"]
    scripts = (0xE0, 0x3B1, 0x430, 0x3040, 0x4E00)
    runs = [b" " * n for n in (32, 48, 64, 96, 128)]

    def common() -> bytes:
        return words[int(len(words) ** rng.random()) - 1]

    while len(tokens) < size - 16 - len(runs):
        kind = rng.random()
        if kind < 0.04:
            token = rng.choice((b" ", b"=", b"-", b"*", b"#", b"\n", b"\t")) * rng.randint(2, 24)
        elif kind < 0.08:
            token = bytes(rng.choices(b"0123456789", k=rng.randint(2, 3)))
        elif kind < 0.2:
            script = rng.choice(scripts)
            token = "".join(chr(script + rng.randrange(40)) for _ in range(rng.randint(1, 4))).encode()
        elif kind < 0.44:
            token = rng.choice((b" ", b"_", b".", b"(", b"\n", b"-")) + common()
        else:
            token = common() + common()
            if len(token) > 16 and rng.random() < 0.9:
                continue
            words.append(token)
        if token not in known:
            known.add(token)
            tokens.append(token)
    return tokens + runs + [b""] * (size - len(tokens) - len(runs))


def medians(
    programs: dict[str, Callable[[], Any]], repeats: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Seconds of each program, warmed up, repeats interleaved."""
    import jax

    samples: dict[str, list[float]] = {name: [] for name in programs}
    for program in programs.values():
        jax.block_until_ready(program())
    for _ in range(repeats):
        for name, program in programs.items():
            started = clock()
            jax.block_until_ready(program())
            samples[name].append(clock() - started)
    return {name: statistics.median(times) for name, times in samples.items()}


def slope(seconds: dict[str, float], long: str, short: str, times: int) -> float:
    """Microseconds of each of the times that the long program does more."""
    return round(1e6 * (seconds[long] - seconds[short]) / times, 2)


def measure(pattern: str, size: int, repeats: int, clock: Callable[[], float]) -> dict[str, Any]:
    """All figures of one pattern and one vocabulary."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    from sentax.models.vocabulary import Vocabulary
    from sentax.ppl.constraints import regex
    from sentax.ppl.constraints.masks import NoMask
    from sentax.ppl.constraints.token_trie import TokenTrie

    tokens = synthetic_tokens(size)
    vocabulary = Vocabulary(tokens, end_of_text=size - 1)
    automaton = regex(pattern)
    started = time.perf_counter()
    trie = TokenTrie.of(vocabulary)
    result: dict[str, Any] = {
        "states": automaton.to_dfa().delta.shape[0],
        "rows": automaton.transitions.shape[0],
        "mean_bytes": round(statistics.mean(map(len, tokens)), 2),
        "trie_nodes": int(trie.parents.shape[0]),
        "trie_s": round(time.perf_counter() - started, 3),
    }
    rng = np.random.default_rng(0)
    drawn = jnp.asarray(rng.integers(0, size, (256, PARTICLES, CANDIDATES)))

    @jax.jit
    def check(automaton: Any, table: Any, times: Any) -> Any:
        advance = jax.vmap(jax.vmap(automaton.advance, (None, 0, None)), (0, 0, None))

        def body(i: Any, carry: Any) -> Any:
            states, allowed = carry
            rows = table[drawn[i % len(drawn)]].astype(jnp.int32)
            states_next, verdicts = advance(states, rows, False)
            # Each round starts where the first candidates led, dead or not.
            return states_next[:, 0], allowed + verdicts.sum()

        return lax.fori_loop(0, times, body, (jnp.zeros(PARTICLES, jnp.int32), 0))

    def lookups(automaton: Any, states: Any, times: Any) -> Any:
        """Rounds of lookups: text `k` is in state `states[t, k]` in round `t`, and begins again at the end."""

        def text(mine: Any) -> Any:
            def body(i: Any, carry: Any) -> Any:
                masker, seen = carry
                masker, row = masker.lookup(mine[i % len(mine)], jnp.int32(0), True)
                # Of every row all bits are used, in every round differently.
                return masker, seen + (row ^ i.astype(jnp.uint32))

            start = (automaton.masker(vocabulary), jnp.zeros(-(-size // 32), jnp.uint32))
            return lax.fori_loop(0, times, body, start)[1]

        return jax.vmap(text, in_axes=1)(states)

    met = min(result["states"], 65)
    order = rng.permutation(result["states"])[:met].astype(np.int32)
    one = order[:, None]
    # All texts meet the same eight states, each in an order of its own.
    many = order[(np.arange(8)[:, None] + np.arange(PARTICLES)) % min(met, 8)]
    with_lookups = jax.jit(lookups)
    programs = {
        "check, short": lambda: check(automaton, vocabulary.table, 16),
        "check, long": lambda: check(automaton, vocabulary.table, 272),
    }
    maskable = not isinstance(automaton.masker(vocabulary), NoMask)
    if maskable:
        started = time.perf_counter()
        with_lookups.lower(automaton, many, 1).compile()
        result["compile_s"] = round(time.perf_counter() - started, 2)
        result["table_mib"] = result["rows"] * -(-size // 32) * 4 / 2**20
        programs |= {
            "one state": lambda: with_lookups(automaton, one, 1),
            "all states": lambda: with_lookups(automaton, one, met),
            "eight states": lambda: with_lookups(automaton, one[:8], 8),
            "eight states, long": lambda: with_lookups(automaton, one[:8], 8 + 2048),
            "texts": lambda: with_lookups(automaton, many, 8),
            "texts, long": lambda: with_lookups(automaton, many, 8 + 256),
        }
    seconds = medians(programs, repeats, clock)
    result["check_us"] = slope(seconds, "check, long", "check, short", 256)
    if maskable:
        result["first_mask_us"] = slope(seconds, "all states", "one state", met - 1)
        result["mask_us"] = slope(seconds, "eight states, long", "eight states", 2048)
        result["masks_32_us"] = slope(seconds, "texts, long", "texts", 256)
        result["run_of_one_mask_ms"] = round(1e3 * seconds["one state"], 2)
    return result


def print_results(results: list[dict[str, Any]]) -> None:
    """A table, and what missed its target."""
    from rich.console import Console
    from rich.table import Table

    columns = {"check_us": "check", "first_mask_us": "first mask", "mask_us": "mask", "masks_32_us": "32 masks"}
    rest = {"states": "states", "table_mib": "table, MiB", "trie_s": "trie, s", "compile_s": "compile, s"}
    table = Table(title="microseconds")
    table.add_column("pattern")
    for column in ("V", *columns.values(), *rest.values()):
        table.add_column(column, justify="right")
    for result in results:
        figures = (result.get(name) for name in (*columns, *rest))
        shown = ("check only" if x is None else f"{x:.4g}" for x in figures)
        table.add_row(result["pattern"], str(result["vocabulary"]), *shown)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for result in results:
        for name, most in TARGETS.items():
            if result.get(name, 0.0) > most:
                where = f"{result['pattern']}, V={result['vocabulary']}"
                console.print(f"{where}: {name} {result[name]:g}, wanted at most {most:g}: MISSED")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--vocabulary", type=int, nargs="+", default=[4096, 32000, 128000])
    add("--patterns", nargs="+", choices=list(PATTERNS), default=list(PATTERNS))
    add("--repeats", type=int, default=11)
    add("--threads", type=int, default=1, help="on a CPU; 0: as JAX likes")
    add("--cpu-time", action="store_true", help="of all threads, in place of wall time")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "device_constraints.json")
    add("--quick", action="store_true", help="one pattern, the smallest vocabulary: to see that it runs")
    options = parser.parse_args(arguments)
    if options.quick:
        options.vocabulary, options.patterns, options.repeats = [1024], options.patterns[:1], 1
    if options.threads:
        os.environ |= {"NPROC": str(options.threads), "PJRT_NPROC": str(options.threads)}

    import jax

    report = surroundings(ROOT, PACKAGES)
    if report["load"] > 1 and not options.cpu_time:
        print(f"the machine is busy (load {report['load']}): the figures will not be good", file=sys.stderr)
    clock = time.process_time if options.cpu_time else time.perf_counter
    report["accelerator"] = f"{jax.default_backend()}: {jax.devices()[0].device_kind}"
    results = []
    for size in options.vocabulary:
        for name in options.patterns:
            print(f"{name}, V = {size}", file=sys.stderr, flush=True)
            what = {"pattern": name, "vocabulary": size, "threads": options.threads}
            results.append(what | measure(PATTERNS[name], size, options.repeats, clock))
    print_results(results)
    report |= {"load_at_end": round(os.getloadavg()[0], 2), "repeats": options.repeats}
    report |= {"clock": "CPU" if options.cpu_time else "wall", "results": results}
    del report["checkpoint"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"written to {options.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
