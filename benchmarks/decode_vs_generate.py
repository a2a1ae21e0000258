"""How fast are N texts drawn from a language model here, and by `generate` of transformers?

One run, one machine, one Llama checkpoint with random weights (made on the spot, vocabulary 32,000, untied
head), the same 64 prompt ids, 64 new tokens by plain sampling (no top-k, no top-p), N texts at once. Each
system lives in a process of its own with the threads it takes by itself, and is warmed up; repeats are
interleaved.

* `sentax`: `sx.SMC(sx.Prior(model), ess_threshold=0)` over `sx.generate`, the engine with nothing to weigh.
* `generate`: `AutoModelForCausalLM.generate` with its key-value cache.

Both with float32 and with bfloat16 parameters. A run of one new token is measured too, and taken off: what
is compared is the time of a decoding step, prefill apart (which the other side does N times). The ratio of
whole runs stands beside it. The share of the head is that of a product [N, D] x [V, D] alone, measured in
the same process, over the step. On a busy machine the figures mean nothing: the load is recorded::

    pip install torch==2.13.0 transformers==5.23.0
    python benchmarks/decode_vs_generate.py

Wanted at N = 32: at least 3 times `generate` at width 256, 4 layers; 1.1 times at width 768, 12 layers; and
nowhere under 1.0. `results/decode_vs_generate.json` has what was seen.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from interleaved import ROOT, Outcome, Run, Worker, serve, surroundings

PROMPT, NEW, VOCABULARY = 64, 64, 32_000
SHAPES = {"256x4": (256, 4), "768x12": (768, 12)}
DTYPES = ("float32", "bfloat16")
GOALS = {("256x4", 32): 3.0, ("768x12", 32): 1.1}
LEAST = 1.0
PACKAGES = ("sentax", "jax", "jaxlib", "flax", "torch", "transformers")


def make_checkpoint(directory: Path, width: int, layers: int) -> None:
    """A Llama with random weights and a byte-level tokenizer without merges, as Hugging Face stores them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=VOCABULARY - 1,
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = itertools.islice(map("".join, itertools.product(alphabet, repeat=2)), VOCABULARY - 257)
    vocab = {piece: i for i, piece in enumerate([*alphabet, *pieces])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')


def start_sentax(checkpoint: str) -> Callable[..., Run]:
    """The engine, drawing from the model alone."""
    import jax
    import numpy as np

    import sentax as sx

    loaded: dict[str, Any] = {}

    def prepare(dtype: str, num_texts: int, new_tokens: int, head: bool = False) -> Run:
        lm = loaded.get(dtype) or loaded.setdefault(dtype, sx.load(checkpoint, dtype=dtype))
        if head:
            return _head(lm, num_texts)

        def model(context: Any) -> None:
            sx.generate("text", context, max_tokens=new_tokens)

        smc = sx.SMC(sx.Prior(model), num_particles=num_texts, ess_threshold=0)

        def run(seed: int) -> Callable[[], Outcome]:
            smc.run(jax.random.key(seed), lm.prompt(np.arange(PROMPT)))
            steps = int(np.asarray(smc.population.steps[0]))
            return lambda: Outcome(num_texts * steps, smc.texts("text")[:1], steps)

        return run

    return prepare


def _head(lm: Any, num_texts: int) -> Run:
    """The head alone: NEW products of fresh activations with it."""
    import jax
    import jax.numpy as jnp

    weight = lm.params["lm_head"]["weight"]
    x = jax.random.normal(jax.random.key(0), (num_texts, weight.shape[1]))

    @jax.jit
    def products(weight: Any, x: Any) -> Any:
        def step(x: Any, _: None) -> Any:
            logits = jnp.einsum("nd,vd->nv", x.astype(weight.dtype), weight, preferred_element_type=jnp.float32)
            # The next input hangs on this output, so that nothing is hoisted out of the loop.
            return x + 1e-20 * logits[:, : x.shape[1]], logits.max()

        return jax.lax.scan(step, x, None, length=NEW)

    def run(seed: int) -> Callable[[], Outcome]:
        jax.block_until_ready(products(weight, x + seed))
        return lambda: Outcome(num_texts * NEW, [], NEW)

    return run


def start_generate(checkpoint: str) -> Callable[..., Run]:
    """The other side."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded: dict[str, Any] = {}

    def prepare(dtype: str, num_texts: int, new_tokens: int) -> Run:
        model = loaded.get(dtype) or loaded.setdefault(
            dtype, AutoModelForCausalLM.from_pretrained(checkpoint, dtype=getattr(torch, dtype)).eval()
        )
        model.generation_config.eos_token_id = None  # nothing ends early
        ids = torch.arange(PROMPT)[None].repeat(num_texts, 1)
        options = {"do_sample": True, "top_k": 0, "top_p": 1.0, "max_new_tokens": new_tokens, "pad_token_id": 0}

        def run(seed: int) -> Callable[[], Outcome]:
            torch.manual_seed(seed)
            with torch.inference_mode():
                out = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
            steps = out.shape[1] - PROMPT
            return lambda: Outcome(num_texts * steps, [], steps)

        return run

    return prepare


SYSTEMS = {"sentax": start_sentax, "generate": start_generate}


def measure(workers: dict[str, Worker], dtype: str, num_texts: int, repeats: int) -> dict[str, Any]:
    """Milliseconds a step, wall and CPU, and tokens a second; the head's share of our step."""
    jobs = {
        (name, new): (worker, {"dtype": dtype, "num_texts": num_texts, "new_tokens": new})
        for name, worker in workers.items()
        for new in (1, NEW + 1)
    }
    if "sentax" in workers:
        what = {"dtype": dtype, "num_texts": num_texts, "new_tokens": NEW, "head": True}
        jobs["head", NEW] = workers["sentax"], what
    first = {key: worker.run(1000, **what)["wall"] for key, (worker, what) in jobs.items()}
    samples: dict[Any, list[dict[str, Any]]] = {key: [] for key in jobs}
    for seed in range(repeats):
        for key, (worker, what) in jobs.items():
            samples[key].append(worker.run(seed, **what))

    def median(key: Any, clock: str) -> float:
        return statistics.median(sample[clock] for sample in samples[key])

    systems = {}
    for name in workers:
        step = {}
        for clock in ("wall", "cpu"):
            # Differences of neighbours in time, so that a slow spell of the machine hits both.
            pairs = zip(samples[name, NEW + 1], samples[name, 1], strict=True)
            steps = [1e3 * (long[clock] - short[clock]) / (long["steps"] - 1) for long, short in pairs]
            step[f"{clock}_ms_per_step"] = round(statistics.median(steps), 3)
        systems[name] = step | {
            "tokens_per_second": round(1e3 * num_texts / step["wall_ms_per_step"], 1),
            "whole_run_ms": round(1e3 * median((name, NEW + 1), "wall"), 1),
            "first_run_s": round(first[name, NEW + 1], 2),
        }
    if "sentax" in workers:
        head = round(1e3 * median(("head", NEW), "wall") / NEW, 3)
        ours = systems["sentax"]
        ours |= {"head_ms": head, "head_share": round(head / ours["wall_ms_per_step"], 3)}
    result: dict[str, Any] = {"systems": systems}
    if len(systems) == 2:
        result["ratio"] = round(
            systems["generate"]["wall_ms_per_step"] / systems["sentax"]["wall_ms_per_step"], 3
        )
        result["cpu_ratio"] = round(
            systems["generate"]["cpu_ms_per_step"] / systems["sentax"]["cpu_ms_per_step"], 3
        )
        result["whole_run_ratio"] = round(
            systems["generate"]["whole_run_ms"] / systems["sentax"]["whole_run_ms"], 3
        )
    return result


def run(
    options: argparse.Namespace, known: list[dict[str, Any]], log: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Every shape, dtype and number of texts that is not known yet."""
    done = {(result["shape"], result["dtype"], result["texts"]) for result in known}
    for shape in options.shapes:
        cases = [c for c in itertools.product(options.dtypes, options.texts) if (shape, *c) not in done]
        if not cases:
            continue
        with tempfile.TemporaryDirectory() as directory:
            make_checkpoint(Path(directory), *SHAPES[shape])
            workers: dict[str, Worker] = {}
            try:
                for name in options.systems:
                    command = [sys.executable, __file__, "--worker", name, "--checkpoint", directory]
                    workers[name] = Worker(command)
                    if workers[name].missing:
                        raise SystemExit(f"{name} is missing: {workers[name].missing}")
                for dtype, num_texts in cases:
                    measured = measure(workers, dtype, num_texts, options.repeats)
                    load = round(os.getloadavg()[0], 2)
                    result = {"shape": shape, "dtype": dtype, "texts": num_texts, "load": load} | measured
                    log(json.dumps(result))
                    yield result
            finally:
                for worker in workers.values():
                    worker.close()


def verdicts(results: list[dict[str, Any]]) -> list[str]:
    """Each ratio against its goal."""
    lines = []
    for result in results:
        if "ratio" in result:
            goal = GOALS.get((result["shape"], result["texts"]), LEAST)
            verdict = "met" if result["ratio"] >= goal else "MISSED"
            what = f"{result['shape']} {result['dtype']} N={result['texts']}"
            lines.append(f"{what}: {result['ratio']:.2f} times generate, wanted {goal:g}: {verdict}")
    return lines


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--shapes", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    add("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    add("--texts", type=int, nargs="+", default=[1, 8, 32])
    add("--repeats", type=int, default=7)
    add("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "decode_vs_generate.json")
    add("--go-on", action="store_true", help="measure only what is not in the --out file yet")
    add("--quick", action="store_true", help="one small case, one repeat: to see that it runs")
    add("--worker", choices=list(SYSTEMS), help=argparse.SUPPRESS)
    add("--checkpoint", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        return serve(lambda: SYSTEMS[options.worker](options.checkpoint))
    if options.quick:
        options.shapes, options.dtypes, options.texts, options.repeats = ["256x4"], ["float32"], [2], 1

    def log(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    started = time.time()
    report = surroundings(ROOT, PACKAGES)
    del report["checkpoint"]
    if report["load"] > 1:
        log(f"the machine is busy (load {report['load']}): the figures will not be good")
    results = json.loads(options.out.read_text())["results"] if options.go_on else []
    report |= {"prompt_tokens": PROMPT, "new_tokens": NEW, "vocabulary": VOCABULARY, "repeats": options.repeats}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for result in run(options, results, log):
        results.append(result)
        minutes = round((time.time() - started) / 60, 1)
        options.out.write_text(json.dumps(report | {"minutes": minutes, "results": results}, indent=1) + "\n")
    print(*verdicts(results), sep="\n")
    log(f"written to {options.out}")


if __name__ == "__main__":
    main()
