"""How well JSON schemas are enforced: coverage, wrong verdicts, and what compiling, checks and masks cost."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sentax.jsonschema_data import BenchSchema, Instance, load
from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.host import HostConstraint
from sentax.ppl.constraints.json_schema import CompiledSchema, compile_schema
from sentax.ppl.constraints.schema_errors import UnsupportedSchema

SEPARATORS = (", ", ": ")
_MAX_STEPS = 5_000
"""How long another order of names is looked for."""
_TIMED_TEXTS = 2
COUNTS = (
    *("schemas", "compiled", "refused", "checked", "on_device"),
    *("valid", "valid_rejected", "valid_reordered", "invalid", "invalid_accepted", "failed"),
)


@dataclass
class Tally:
    """Figures of many schemas; :meth:`as_dict` is what the report shows of them.

    :param counts: by :data:`COUNTS`. `checked`: compiled, with keywords left to a check at the end of a value.
        `valid_reordered`: valid instances accepted only with their names in the schema's order (counted as
        accepted). `failed`: instances on which the engine raised an error.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    compile_ms: list[float] = field(default_factory=list)
    check_us: list[float] = field(default_factory=list)
    mask_us: list[float] = field(default_factory=list)

    def add(self, name: str, count: int = 1) -> None:
        self.counts[name] += count

    def merge(self, other: Tally) -> None:
        for name, count in other.counts.items():
            self.counts[name] += count
        self.compile_ms += other.compile_ms
        self.check_us += other.check_us
        self.mask_us += other.mask_us

    def as_dict(self) -> dict[str, Any]:
        """Counts, and times as medians and 95% quantiles; times are None where nothing was timed."""
        times = {}
        for name in ("compile_ms", "check_us", "mask_us"):
            values = getattr(self, name)
            times[f"{name}_p50"] = round(statistics.median(values), 3) if values else None
            times[f"{name}_p95"] = round(float(np.quantile(values, 0.95)), 3) if values else None
        return self.counts | times


def run(
    data: Path,
    *,
    engine: str = "auto",
    check: bool = True,
    limit: int | None = None,
    generate: int = 0,
    particles: int = 32,
    max_tokens: int = 256,
    seed: int = 0,
) -> dict[str, Any]:
    """The whole benchmark; what `sentax jsonschema-bench --json` prints.

    :param data: a folder or file in one of the layouts of :mod:`sentax.jsonschema_data`.
    :param check: whether keywords that no grammar expresses may be checked when a value is closed.
    :param limit: so many schemas at most, spread evenly.
    :param generate: texts are generated for so many of the compiled schemas.
    """
    found = load(data)
    schemas = found.schemas
    if limit is not None and limit < len(schemas):
        schemas = [schemas[i * len(schemas) // limit] for i in range(limit)]
    vocabulary = _vocabulary()
    splits: dict[str, Tally] = {}
    refusals, wrong, compiled = [], [], []
    for item in schemas:
        tally = splits.setdefault(item.split, Tally())
        tally.add("schemas")
        started = time.perf_counter()
        try:
            result = compile_schema(item.schema, separators=SEPARATORS, engine=engine, check=check)
        except (UnsupportedSchema, ValueError) as error:
            tally.add("refused")
            refusals.append({"id": item.id, "split": item.split, "reason": _line(error)})
            continue
        tally.compile_ms.append(1e3 * (time.perf_counter() - started))
        tally.add("compiled")
        tally.add("on_device", result.engine == "device")
        tally.add("checked", bool(result.checked))
        compiled.append((item, result))
        asked = engine_of(result.constraint)
        for test in item.tests:
            problem = _judge(asked, test, tally)
            if problem:
                wrong.append({"id": item.id, "split": item.split, "description": test.description} | problem)
        if result.engine != "device":  # whose checks run in batches, inside a compiled program
            _time(asked, item, vocabulary, tally)
    total = Tally()
    for tally in splits.values():
        total.merge(tally)
    report = {
        "total": total.as_dict(),
        "splits": {name: tally.as_dict() for name, tally in sorted(splits.items())},
        "refusals": refusals,
        "wrong": wrong,
        "skipped_files": found.skipped,
        "engine": engine,
    }
    if generate:
        chosen = [compiled[i * len(compiled) // generate] for i in range(min(generate, len(compiled)))]
        report["generation"] = _generate(chosen, particles, max_tokens, seed)
    return report


def _judge(engine: Engine, test: Instance, tally: Tally) -> dict[str, str] | None:
    """Counts one instance; what to report of it if the verdict is wrong."""
    label = "valid" if test.valid else "invalid"
    tally.add(label)
    try:
        text = json.dumps(test.data, ensure_ascii=False, separators=SEPARATORS).encode()
        own_order = accepts(engine, text)
        accepted = own_order or accepts_reordered(engine, test.data)
    except Exception as error:
        tally.add("failed")
        return {"problem": "failed", "reason": _line(error)}
    if test.valid and accepted:
        tally.add("valid_reordered", not own_order)
    elif test.valid:
        tally.add("valid_rejected")
        return {"problem": "valid_rejected"}
    elif accepted:
        tally.add("invalid_accepted")
        return {"problem": "invalid_accepted"}
    return None


class _Tables(Engine):
    """An automaton of the device, asked on the host."""

    def __init__(self, automaton: Automaton) -> None:
        self.transitions = np.asarray(automaton.transitions)
        self.classes = np.asarray(automaton.classes)
        self.live, self.accepting = np.asarray(automaton.live), np.asarray(automaton.accepting)

    def start(self) -> int:
        return 0

    def extend(self, session: int, piece: bytes) -> int:
        for letter in self.classes[np.frombuffer(piece, np.uint8)]:
            session = self.transitions[session, letter]
        return int(session)

    def prefix(self, session: int, piece: bytes) -> bool:
        return bool(self.live[self.extend(session, piece)])

    def complete(self, session: int, piece: bytes) -> bool:
        return bool(self.accepting[self.extend(session, piece)])


def engine_of(constraint: Constraint) -> Engine:
    """What answers for a compiled schema, outside compiled programs."""
    if isinstance(constraint, HostConstraint):
        return constraint.keeper.trie.engine
    assert isinstance(constraint, Automaton)
    return _Tables(constraint)


def accepts(engine: Engine, text: bytes) -> bool:
    """Whether a whole text is in the set."""
    return engine.complete(engine.start(), text)


class _Walk:
    """A text written piece by piece, with a bound on the pieces."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.steps = 0

    def extend(self, state: Any, piece: str) -> Any:
        """The state after a piece, `None` if no completion is left."""
        self.steps += 1
        raw = piece.encode()
        return self.engine.extend(state, raw) if self.engine.prefix(state, raw) else None

    def readings(self, value: Any, state: Any) -> Iterator[Any]:
        """The states after a value, for every order of its names that stays alive."""
        if self.steps > _MAX_STEPS:
            return
        if isinstance(value, dict):
            after = self.extend(state, "{")
            if after is not None:
                yield from self._members(dict(value), after, first=True)
        elif isinstance(value, list):
            after = self.extend(state, "[")
            if after is not None:
                yield from self._items(value, 0, after)
        else:
            after = self.extend(state, json.dumps(value, ensure_ascii=False))
            if after is not None:
                yield after

    def _members(self, left: dict[str, Any], state: Any, first: bool) -> Iterator[Any]:
        if not left:
            after = self.extend(state, "}")
            if after is not None:
                yield after
        for name in list(left):
            key = ("" if first else SEPARATORS[0]) + json.dumps(name, ensure_ascii=False) + SEPARATORS[1]
            after = self.extend(state, key)
            if after is not None:
                rest = {n: v for n, v in left.items() if n != name}
                for state_after in self.readings(left[name], after):
                    yield from self._members(rest, state_after, first=False)

    def _items(self, value: list[Any], index: int, state: Any) -> Iterator[Any]:
        if index == len(value):
            after = self.extend(state, "]")
            if after is not None:
                yield after
            return
        after = self.extend(state, SEPARATORS[0]) if index else state
        if after is not None:
            for state_after in self.readings(value[index], after):
                yield from self._items(value, index + 1, state_after)


def accepts_reordered(engine: Engine, data: Any) -> bool:
    """Whether a value is accepted with its names in some order, as far as 5,000 pieces of text can tell."""
    if not isinstance(data, dict | list):
        return False
    walk = _Walk(engine)
    return any(engine.complete(state, b"") for state in walk.readings(data, engine.start()))


def _time(engine: Engine, item: BenchSchema, vocabulary: _Pieces, tally: Tally) -> None:
    """Checks and masks along valid instances, cut into the vocabulary's tokens."""
    pieces = vocabulary.pieces
    for test in [t for t in item.tests if t.valid][:_TIMED_TEXTS]:
        text = json.dumps(test.data, ensure_ascii=False, separators=SEPARATORS).encode()
        session = engine.start()
        at = 0
        while at < len(text) and at < 2000:
            lengths = range(vocabulary.longest, 0, -1)
            piece = next(text[at : at + n] for n in lengths if text[at : at + n] in pieces)
            started = time.perf_counter()
            allowed = engine.prefix(session, piece)
            checked = time.perf_counter()
            tally.check_us.append(1e6 * (checked - started))
            if engine.has_mask:
                engine.mask(session, vocabulary.vocabulary)
                tally.mask_us.append(1e6 * (time.perf_counter() - checked))
            if not allowed:
                break
            session = engine.extend(session, piece)
            at += len(piece)


@dataclass(frozen=True)
class _Pieces:
    """A vocabulary, and the bytes of its tokens with the single bytes, for a greedy tokenizer."""

    vocabulary: Any
    pieces: frozenset[bytes]
    longest: int


def _vocabulary() -> _Pieces:
    import sentax as sx

    vocabulary = sx.load().vocabulary
    pieces = frozenset(t for t in vocabulary.tokens if t) | {bytes([b]) for b in range(256)}
    return _Pieces(vocabulary, pieces, max(map(len, pieces)))


def _generate(
    chosen: list[tuple[BenchSchema, CompiledSchema]], particles: int, max_tokens: int, seed: int
) -> dict[str, Any]:
    """AWRS-SMC under the embedded model; every finished text is validated."""
    import jax
    import jsonschema_rs

    import sentax as sx

    context = sx.load().prompt("JSON: ")

    def program(context: Any, where: Any) -> None:
        sx.generate("text", context, max_tokens=max_tokens, where=where)

    # Without resampling a particle's death stays on record.
    smc = sx.SMC(sx.AWRS(program), num_particles=particles, ess_threshold=0.0)
    figures = {"schemas": 0, "texts": 0, "finished": 0, "invalid": 0, "dead": 0, "tokens": 0, "failed": 0}
    per_token, problems = [], []
    for item, result in chosen:
        figures["schemas"] += 1
        try:
            smc.run(jax.random.key(seed), context, result.constraint)
        except sx.PredicateError as error:
            figures["failed"] += 1
            problems.append({"id": item.id, "problem": _line(error)})
            continue
        diagnostics = smc.diagnostics
        validator = jsonschema_rs.validator_for(item.schema, validate_formats=True, offline=True)
        finished = np.isfinite(smc.log_weights)
        died = np.asarray(smc.population.weight.death)[:, 0] >= 0  # within the text, not at its cut
        figures["texts"] += particles
        figures["finished"] += int(finished.sum())
        figures["dead"] += int((died & ~finished).sum())
        figures["tokens"] += diagnostics.tokens
        texts = smc.texts("text")
        for text, is_finished, is_dead in zip(texts, finished, died, strict=True):
            if is_finished and not validator.is_valid(json.loads(text)):
                figures["invalid"] += 1
                problems.append({"id": item.id, "problem": f"invalid: {text[:200]}"})
            elif is_dead and not is_finished:
                problems.append({"id": item.id, "problem": f"dead: {text[-200:]}"})
        if not diagnostics.compile_time and diagnostics.tokens:
            per_token.append(1e3 * diagnostics.run_time / diagnostics.tokens)
    median = round(statistics.median(per_token), 4) if per_token else None
    return figures | {"ms_per_token_p50": median, "problems": problems}


def print_report(report: dict[str, Any]) -> None:
    """The report as tables."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"JSON schemas, engine: {report['engine']}")
    table.add_column("split")
    columns = {
        "schemas": "schemas",
        "compiled": "compiled",
        "checked": "with checks",
        "valid": "valid",
        "valid_rejected": "rejected",
        "valid_reordered": "reordered",
        "invalid": "invalid",
        "invalid_accepted": "accepted",
        "failed": "failed",
        "compile_ms_p50": "compile ms",
        "check_us_p50": "check us",
        "mask_us_p50": "mask us",
    }
    for title in columns.values():
        table.add_column(title, justify="right")
    rows = [*report["splits"].items(), ("total", report["total"])]
    for name, figures in rows:
        shown = ["" if figures[key] is None else f"{figures[key]:,.4g}" for key in columns]
        table.add_row(name, *shown, end_section=name == rows[-2][0], style="bold" if name == "total" else None)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for refusal in report["refusals"]:
        console.print(f"refused {refusal['id']}: {refusal['reason']}", markup=False, highlight=False)
    for case in report["wrong"]:
        console.print(f"{case['problem']} {case['id']}: {case['description']}", markup=False, highlight=False)
    if report["skipped_files"]:
        console.print(f"{len(report['skipped_files'])} files in no known layout were not read", highlight=False)
    if "generation" in report:
        figures = {k: v for k, v in report["generation"].items() if k != "problems"}
        console.print("generation: " + ", ".join(f"{k} {v}" for k, v in figures.items()), highlight=False)
        for problem in report["generation"]["problems"]:
            console.print(f"{problem['id']}: {problem['problem']}", markup=False, highlight=False)


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
