"""What does a token of AWRS-SMC cost here, in genlm-control 0.4.1, and in `generate` under an xgrammar mask?

One run, one machine, one checkpoint (the embedded model, float32 everywhere), the same prompt ids. Each
system lives in a process of its own and is warmed up (its first run, compilation included, is reported
apart); repeats are interleaved. A run goes from prompt ids to finished texts, the prompt's prefill
included for everyone. The figure is CPU time (user and system, all threads) and wall time per token per
particle; a token is one draw of one particle that is alive and not finished, end-of-text included. Every
text is checked against the pattern with Python's `re`, and the evidence estimates stand side by side.

* `sentax`: `sx.SMC(sx.AWRS(model))`.
* `unconstrained`: `sx.SMC(sx.Prior(model))` on the same program without `where`, cut after as many
  steps as AWRS ran. AWRS's overhead is its CPU time per loop step over this one's: both loops carry N
  particles through every step, finished ones too, so that a step is what compares; prefill is left out.
* `genlm-control`: its defaults (`AWRS(llm, fsa.coerce(llm))`, `hf` backend), but for float32: with the
  checkpoint's own bfloat16, its default, it is several times slower on this CPU. Its cache of answers is
  cleared between repeats, else it would not run the model; the automaton's cache stays.
* `genlm-control, tuned`: and the prompt's keys and values kept (`cache_kv`), and `timeout=0`.
* `generate + xgrammar`: `transformers` draws N sequences under the exact mask. No weights, no resampling,
  so less work than AWRS-SMC; but it reads the prompt N times.

Everything is measured twice: with the threads that each library takes by itself, and with one thread each,
which mostly costs less CPU time and more wall time, the peers above all: the stricter comparison.

Two installs, the CPU build of torch first; peers that do not fit into this environment can have their
own (`--peer-python PATH`). On a busy machine the figures mean nothing: the load is recorded::

    pip install torch==2.13.0
    pip install -e . genlm-control==0.4.1 xgrammar transformers
    python benchmarks/awrs_vs_genlm_control.py

Predicted, from a 4.5M-parameter Llama with V=4096, N=32, ISO dates: genlm-control 4.3 ms a token, tuned
1.13-1.40 ms, generate + xgrammar 0.59 ms; to be beaten 20, 6 and 2.5 times, with AWRS at most 1.15 times
unconstrained sampling. Seen at 45777d3 on two AVX2 cores, CPU time with own threads (with one): sentax 0.40
(0.33), genlm-control 4.31 (3.18), tuned 2.43 (1.41), generate + xgrammar 1.17 (0.82); 10.7, 6.0 and 2.9
times (9.6, 4.3 and 2.5); overhead 1.29 (1.21). `results/awrs_vs_genlm_control.json` has the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from interleaved import ROOT, Outcome, Run, Worker, outcome_of, serve, summarise, surroundings


class Case(NamedTuple):
    """A prompt, the pattern its continuation must match, and a cap on tokens that is hardly ever met."""

    prompt: str
    pattern: str
    max_tokens: int


CASES = {
    "ISO-8601": Case(
        "Date=2031-04-17\nDate=1998-11-02\nDate=",
        r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])",
        16,
    ),
    "e-mail": Case(
        "Email=ana.silva@example.org\nEmail=",
        r"[a-z0-9]+([._+-][a-z0-9]+)*@[a-z0-9]+([.-][a-z0-9]+)*\.[a-z]{2,}",
        32,
    ),
}
TARGETS = {"genlm-control": 20.0, "genlm-control, tuned": 6.0, "generate + xgrammar": 2.5}
TARGET_OVERHEAD = 1.15
TARGET_CASE = ("ISO-8601", 32)
PACKAGES = ("sentax", "jax", "numpyro", "torch", "transformers", "genlm-control", "genlm-backend", "xgrammar")


def prompt_ids(checkpoint: str, prompt: str) -> list[int]:
    """The prompt as every system gets it, with the token for the beginning of a text in front."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(f"{checkpoint}/tokenizer.json").encode(prompt).ids


def start_sentax(checkpoint: str) -> Callable[..., Run]:
    """AWRS-SMC here, and unconstrained sampling here."""
    import jax

    import sentax as sx

    lm = sx.load(checkpoint)

    def prepare(system: str, case: str, particles: int, max_tokens: int) -> Run:
        ids = prompt_ids(checkpoint, CASES[case].prompt)
        arguments = (sx.regex(CASES[case].pattern),) if system == "sentax" else ()

        def model(context: Any, where: Any = None) -> None:
            sx.generate("text", context, max_tokens=max_tokens, where=where)

        kernel = sx.AWRS(model) if system == "sentax" else sx.Prior(model)
        smc = sx.SMC(kernel, num_particles=particles)

        def run(seed: int) -> Callable[[], Outcome]:
            started = time.process_time()
            context = jax.block_until_ready(lm.prompt(ids))
            prefill = time.process_time() - started
            smc.run(jax.random.key(seed), context, *arguments)

            return lambda: outcome_of(smc, prefill)

        return run

    return prepare


def start_genlm(checkpoint: str) -> Callable[..., Run]:
    """AWRS-SMC in genlm-control."""
    import numpy as np
    import torch
    from genlm.control import AWRS, BoolFSA, PromptedLLM
    from genlm.control.constant import EndOfSequence

    class Counting(AWRS):
        """Counts draws and checks: the final population does not know the particles resampled away."""

        draws = checks = 0

        async def sample(self, *args: Any, **kwargs: Any) -> Any:
            self.draws += 1
            return await super().sample(*args, **kwargs)

        async def _accept(self, *args: Any, **kwargs: Any) -> Any:
            self.checks += 1
            return await super()._accept(*args, **kwargs)

    def prepare(system: str, case: str, particles: int, max_tokens: int) -> Run:
        tuned = system == "genlm-control, tuned"
        options = {"timeout": 0} if tuned else {}
        lm = PromptedLLM.from_name(checkpoint, backend="hf", hf_opts={"dtype": torch.float32}, **options)
        lm.prompt_ids = prompt_ids(checkpoint, CASES[case].prompt)
        sampler = Counting(lm, BoolFSA.from_regex(CASES[case].pattern).coerce(lm, f=b"".join))

        def run(seed: int) -> Callable[[], Outcome]:
            torch.manual_seed(seed)
            np.random.seed(seed)
            sampler.rng, sampler.draws, sampler.checks = np.random.default_rng(seed), 0, 0
            prefill = 0.0
            if tuned:
                started = time.process_time()
                lm.model.cache_kv(lm.prompt_ids)
                prefill = time.process_time() - started
            # Its last token is a forced end-of-text, beyond the cap on ours.
            done = asyncio.run(sampler.smc(particles, ess_threshold=0.5, max_tokens=max_tokens + 1))

            def read() -> Outcome:
                lm.model.clear_cache()
                alive = [tokens for tokens, weight in done if weight > float("-inf")]
                texts = [b"".join(t for t in x if not isinstance(t, EndOfSequence)).decode() for x in alive]
                steps = max(map(len, done.contexts))
                return Outcome(sampler.draws, texts, steps, sampler.checks, float(done.log_ml), prefill)

            return read

        return run

    return prepare


def start_xgrammar(checkpoint: str) -> Callable[..., Run]:
    """`transformers` generate, masked by xgrammar."""
    import torch
    import xgrammar
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from xgrammar.contrib.hf import LogitsProcessor

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    lm = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    info = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=lm.config.vocab_size)
    compiler = xgrammar.GrammarCompiler(info)
    end = tokenizer.eos_token_id

    def prepare(system: str, case: str, particles: int, max_tokens: int) -> Run:
        ids = torch.tensor([prompt_ids(checkpoint, CASES[case].prompt)])
        grammar = compiler.compile_regex(CASES[case].pattern)
        sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        limits = {"max_new_tokens": max_tokens, "pad_token_id": end, "eos_token_id": end}

        def run(seed: int) -> Callable[[], Outcome]:
            torch.manual_seed(seed)
            rows = lm.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                num_return_sequences=particles,
                logits_processor=[LogitsProcessor(grammar)],
                **sampling,
                **limits,
            )

            def read() -> Outcome:
                new = rows[:, ids.shape[1] :].tolist()
                finished = [row[: row.index(end)] for row in new if end in row]
                tokens = sum(row.index(end) + 1 if end in row else len(row) for row in new)
                return Outcome(tokens, [tokenizer.decode(row) for row in finished], len(new[0]))

            return read

        return run

    return prepare


SYSTEMS = {
    "sentax": start_sentax,
    "unconstrained": start_sentax,
    "genlm-control": start_genlm,
    "genlm-control, tuned": start_genlm,
    "generate + xgrammar": start_xgrammar,
}


def measure(workers: dict[str, Worker], case: str, particles: int, repeats: int) -> dict[str, Any]:
    """One case at one N: every system warmed up, then the repeats, interleaved."""
    limits = dict.fromkeys(workers, CASES[case].max_tokens)

    def ask(system: str, seed: int) -> dict[str, Any]:
        what = {"system": system, "case": case, "particles": particles, "max_tokens": limits[system]}
        answer = workers[system].run(seed, **what)
        wrong = [text for text in answer["texts"] if not re.fullmatch(CASES[case].pattern, text)]
        if wrong and system != "unconstrained":
            raise AssertionError(f"{system} let {wrong[0]!r} through")
        return answer

    first: dict[str, float] = {}
    for system in workers:
        first[system] = ask(system, 1000)["wall"]
        steps = [ask(system, 1001 + i)["steps"] for i in range(min(repeats, 3))]
        if system == "sentax":  # before "unconstrained"
            limits["unconstrained"] = round(statistics.median(steps))
    samples: dict[str, list[dict[str, Any]]] = {system: [] for system in workers}
    for seed in range(repeats):
        for system in workers:
            samples[system].append(ask(system, seed))
    return {name: summarise(runs) | {"first_run_s": round(first[name], 2)} for name, runs in samples.items()}


def run(options: argparse.Namespace, threads: int, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """All cases and numbers of particles, in processes with so many threads."""
    processes: dict[str, Worker] = {}
    workers: dict[str, Worker] = {}
    results = []
    try:
        for system in (name for name in SYSTEMS if name in options.systems):
            serving = "sentax" if system == "unconstrained" else system  # one process for both of ours
            if serving not in processes:
                python = sys.executable if serving == "sentax" else options.peer_python
                command = [python, __file__, "--worker", serving, "--checkpoint", options.checkpoint]
                processes[serving] = Worker(command, threads)
            if processes[serving].missing:
                log(f"{system} is left out: {processes[serving].missing}")
            else:
                workers[system] = processes[serving]
        for case in options.cases:
            for particles in options.particles:
                log(f"{case}, N = {particles}, threads: {threads or 'own'}")
                systems = measure(workers, case, particles, options.repeats)
                what = {"case": case, "particles": particles, "threads": threads}
                results.append(what | {"ratios": compare(systems), "systems": systems})
    finally:
        for process in processes.values():
            process.close()
    return results


def compare(systems: dict[str, Any]) -> dict[str, float]:
    """CPU time of each peer over ours by the token, and of AWRS over unconstrained sampling by the step."""
    if "sentax" not in systems:
        return {}

    def ratio(name: str, base: str, figure: str) -> float:
        return round(systems[name][figure]["median"] / systems[base][figure]["median"], 3)

    ratios = {name: ratio(name, "sentax", "cpu_ms_per_token") for name in systems if name in TARGETS}
    if "unconstrained" in systems:
        ratios["overhead"] = ratio("sentax", "unconstrained", "cpu_ms_per_step")
    return ratios


def print_results(results: list[dict[str, Any]]) -> None:
    """A table, and the ratios against the targets."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="milliseconds per token per particle")
    for column in ("threads", "case", "N", "system"):
        table.add_column(column)
    for column in ("CPU", "quartiles", "wall", "CPU / sentax", "CPU a step", "checks", "first run, s"):
        table.add_column(column, justify="right")
    lines = []
    for result in results:
        threads = str(result["threads"] or "own")
        for name, entry in result["systems"].items():
            cpu, ratio = entry["cpu_ms_per_token"], result["ratios"].get(name)
            table.add_row(
                threads,
                result["case"],
                str(result["particles"]),
                name,
                f"{cpu['median']:.3f}",
                "{:.3f}-{:.3f}".format(*cpu["quartiles"]),
                f"{entry['wall_ms_per_token']['median']:.3f}",
                f"{ratio:.1f}" if ratio else "",
                f"{entry['cpu_ms_per_step']['median']:.2f}",
                f"{entry['checks_per_token']:.1f}" if entry["checks_per_token"] else "",
                f"{entry['first_run_s']:.1f}",
            )
        table.add_section()
        if (result["case"], result["particles"]) == TARGET_CASE:
            for name, ratio in result["ratios"].items():
                least = TARGETS.get(name)
                met = ratio >= least if least else ratio <= TARGET_OVERHEAD
                goal = f"at least {least:g}" if least else f"at most {TARGET_OVERHEAD}"
                verdict = "met" if met else "MISSED"
                lines.append(f"threads: {threads}; {name}: {ratio:.2f} times, wanted {goal}: {verdict}")
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for line in lines:
        console.print(line)


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--particles", type=int, nargs="+", default=[1, 10, 32])
    add("--repeats", type=int, default=11)
    add("--threads", type=int, nargs="+", default=[0, 1], help="0: as each library likes")
    add("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    add("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    add("--checkpoint", default=str(ROOT / "models" / "embedded"), help="a directory in Hugging Face layout")
    add("--peer-python", default=sys.executable, help="an interpreter that has the peers")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "awrs_vs_genlm_control.json")
    add("--quick", action="store_true", help="one case, four particles, one repeat: to see that it runs")
    add("--worker", choices=list(SYSTEMS), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        return serve(lambda: SYSTEMS[options.worker](options.checkpoint))
    if options.quick:
        options.particles, options.repeats = [4], 1
        options.cases, options.threads = options.cases[:1], options.threads[-1:]

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    report = surroundings(Path(options.checkpoint), PACKAGES, options.peer_python)
    if report["load"] > 1:
        log(f"the machine is busy (load {report['load']}): the figures will not be good")
    results = [result for threads in options.threads for result in run(options, threads, log)]
    print_results(results)
    report |= {"load_at_end": round(os.getloadavg()[0], 2), "repeats": options.repeats, "results": results}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    log(f"written to {options.out}")


if __name__ == "__main__":
    main()
