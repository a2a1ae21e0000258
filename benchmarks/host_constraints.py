"""What do constraints on the host cost against our own unconstrained decoding?

The embedded model (4.5M parameters, V=4096) with N=32 particles, in one process per number of threads, warmed
up, repeats interleaved, medians:

* `unconstrained`: `Prior`, no constraint; as many steps as the schema's texts have;
* `schema`: AWRS under a JSON schema, by llguidance; `schema, no masks`: the same, token by token;
* `predicate`: AWRS under a Python function of about a microsecond that refuses little.

Every repeat gets a new constraint with an empty memory, compiled outside the clock as users do, so nothing has
been checked before. Beside them: what a check costs after 40 bytes and after 4 kB of text, through the memory
of texts and by the engine alone; the time to compile a schema; and whether a second schema of similar size
recompiles the program::

    pip install -e .
    python benchmarks/host_constraints.py

Wanted, by the step: a schema at most 1.5 times unconstrained decoding, a predicate at most 1.3 times; a check
after 4 kB at most twice one after 40 bytes; no recompilation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interleaved import ROOT, Outcome, Run, Worker, outcome_of, serve, summarise, surroundings

SYSTEMS = ("schema", "schema, no masks", "predicate", "unconstrained")
TARGETS = {"schema": 1.5, "predicate": 1.3, "check": 2.0}
PACKAGES = ("sentax", "jax", "numpyro", "llguidance", "jsonschema-rs")
PROMPT = 'JSON={"name": "Ana Silva", "age": 41}\nJSON='
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 24},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["new", "old", "red", "blue"]}, "maxItems": 4},
        "address": {"type": "object", "properties": {"city": {"type": "string", "maxLength": 16}}},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
MAX_TOKENS = 48


def calm(text: bytes) -> bool:
    """About a microsecond of Python; refuses little."""
    return not (text.endswith(b"!!") or b"\x00" in text or text.count(b"\n\n") > 3 or text.isspace())


def schema_number(number: int) -> dict[str, Any]:
    """The schema with another name in it, so that nothing is remembered of an earlier one."""
    properties = {(f"name{number}" if k == "name" else k): v for k, v in SCHEMA["properties"].items()}
    return SCHEMA | {"properties": properties, "required": [f"name{number}", "age"]}


def start(checkpoint: str) -> Callable[..., Run]:
    """All systems in one process: the model is theirs in common."""
    import jax

    import sentax as sx
    from sentax.ppl.constraints.json_schema import json_schema

    lm = sx.load(checkpoint)

    def prepare(system: str, particles: int, max_tokens: int) -> Run:
        def model(context: Any, where: Any = None) -> None:
            sx.generate("text", context, max_tokens=max_tokens, where=where)

        options = {"use_masks": False} if system == "schema, no masks" else {}
        smc = sx.SMC(
            sx.Prior(model) if system == "unconstrained" else sx.AWRS(model, **options), num_particles=particles
        )

        def where(seed: int) -> tuple[Any, ...]:
            if system == "unconstrained":
                return ()
            if system == "predicate":
                return (sx.predicate(lambda text: calm(text)),)
            return (json_schema(schema_number(seed), engine="llguidance"),)

        made: dict[int, tuple[Any, ...]] = {}  # ahead of time: compiling a schema is not on the clock

        def run(seed: int) -> Callable[[], Outcome]:
            arguments = made.pop(seed, None) or where(seed)
            started = time.process_time()
            context = jax.block_until_ready(lm.prompt(PROMPT))
            prefill = time.process_time() - started
            smc.run(jax.random.key(seed), context, *arguments)

            def read() -> Outcome:
                made[seed + 1] = where(seed + 1)  # after the clock has stopped
                return outcome_of(smc, prefill)

            return read

        return run

    return prepare


def measure(worker: Worker, particles: int, repeats: int) -> dict[str, Any]:
    """Every system warmed up, then the repeats, interleaved."""
    limits = dict.fromkeys(SYSTEMS, MAX_TOKENS)

    def ask(system: str, seed: int) -> dict[str, Any]:
        return worker.run(seed, system=system, particles=particles, max_tokens=limits[system])

    first = {}
    for system in SYSTEMS:
        first[system] = ask(system, 1000)["wall"]
        steps = [ask(system, 1001 + i)["steps"] for i in range(min(repeats, 3))]
        if system == "schema":
            limits["unconstrained"] = limits["predicate"] = round(statistics.median(steps))
    samples: dict[str, list[dict[str, Any]]] = {system: [] for system in SYSTEMS}
    for seed in range(repeats):
        for system in SYSTEMS:
            samples[system].append(ask(system, seed))
    return {name: summarise(runs) | {"first_run_s": round(first[name], 2)} for name, runs in samples.items()}


def checks(repeats: int) -> dict[str, Any]:
    """One check, in microseconds: after 40 bytes and after 4 kB; by the engine and through the memory."""
    from sentax.ppl.constraints.json_schema import compile_schema
    from sentax.ppl.constraints.trie import MOVE, PREFIX, ROOT, Trie

    long_name = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    started = time.perf_counter()
    for number in range(20):
        compile_schema(schema_number(number), engine="llguidance")
    compile_ms = 50 * (time.perf_counter() - started)
    engine = compile_schema(long_name, engine="llguidance").constraint.keeper.trie.engine
    figures: dict[str, Any] = {"compile_ms": round(compile_ms, 3)}
    starts = {40: b'{"name": "'.ljust(40, b"x"), 4000: b'{"name": "'.ljust(4000, b"x")}
    times: dict[str, list[float]] = {}
    for repeat in range(repeats):
        for size, text in starts.items():
            session = engine.extend(engine.start(), text)
            trie = Trie(engine)
            node = trie.answer(ROOT, text, MOVE)[0]
            pieces = [b"%d" % i for i in range(1000 * repeat, 1000 * repeat + 500)]
            begun = time.perf_counter()
            for piece in pieces:
                engine.prefix(session, piece)
            middle = time.perf_counter()
            for piece in pieces:
                trie.answer(node, piece, PREFIX)
            ended = time.perf_counter()
            times.setdefault(f"engine, {size} bytes", []).append(2e3 * (middle - begun))
            times.setdefault(f"memory, {size} bytes", []).append(2e3 * (ended - middle))
    figures |= {name: round(statistics.median(values), 3) for name, values in times.items()}
    begun = time.perf_counter()
    for _ in range(20_000):
        calm(b'{"name": "Ana Silva", "age": 41}')
    figures["predicate_us"] = round(50 * (time.perf_counter() - begun), 3)
    figures["ratio"] = round(figures["memory, 4000 bytes"] / figures["memory, 40 bytes"], 3)
    return figures


def recompilations(checkpoint: str) -> int:
    """How often a second, third and fourth schema of similar size compile the program again."""
    import jax

    import sentax as sx
    from sentax.ppl.constraints.json_schema import json_schema

    def model(context: Any, where: Any) -> None:
        sx.generate("text", context, max_tokens=8, where=where)

    smc = sx.SMC(sx.AWRS(model), num_particles=4)
    context = sx.load(checkpoint).prompt(PROMPT)
    count = -1
    for number in range(4):
        smc.run(jax.random.key(0), context, json_schema(schema_number(number), engine="llguidance"))
        count += smc.diagnostics.compile_time > 0
    return count


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--particles", type=int, default=32)
    add("--repeats", type=int, default=11)
    add("--threads", type=int, nargs="+", default=[0, 1], help="0: as JAX likes")
    add("--checkpoint", default=str(ROOT / "models" / "embedded"), help="a directory in Hugging Face layout")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "host_constraints.json")
    add("--quick", action="store_true", help="four particles, one repeat: to see that it runs")
    add("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        return serve(lambda: start(options.checkpoint))
    if options.quick:
        options.particles, options.repeats, options.threads = 4, 1, options.threads[-1:]

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    report = surroundings(Path(options.checkpoint), PACKAGES)
    if report["load"] > 1:
        log(f"the machine is busy (load {report['load']}): the figures will not be good")
    results = []
    for threads in options.threads:
        worker = Worker([sys.executable, __file__, "--worker", "--checkpoint", options.checkpoint], threads)
        try:
            systems = measure(worker, options.particles, options.repeats)
        finally:
            worker.close()
        base = systems["unconstrained"]["cpu_ms_per_step"]["median"]
        ratios = {
            name: round(systems[name]["cpu_ms_per_step"]["median"] / base, 3)
            for name in SYSTEMS
            if name != "unconstrained"
        }
        results.append(
            {"threads": threads, "particles": options.particles, "ratios": ratios, "systems": systems}
        )
        for name, ratio in ratios.items():
            goal = f", wanted at most {TARGETS[name]}" if name in TARGETS else ""
            log(f"threads {threads or 'own'}; {name}: {ratio} times unconstrained{goal}")
    figures = checks(3 if options.quick else 21)
    again = recompilations(options.checkpoint)
    log(f"a check after 4 kB: {figures['ratio']} times one after 40 bytes, wanted at most {TARGETS['check']}")
    log(f"recompilations for three more schemas: {again}, wanted 0")
    log(json.dumps(figures))
    report |= {
        "load_at_end": round(os.getloadavg()[0], 2),
        "repeats": options.repeats,
        "results": results,
        "checks": figures,
        "recompilations": again,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    log(f"written to {options.out}")


if __name__ == "__main__":
    main()
