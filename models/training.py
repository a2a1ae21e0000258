"""Trains the embedded model: `python -m sentax.models.training`, one command, no network.

The texts come from :mod:`sentax.models.data`; the tokenizer is a byte-level BPE learned from them; the model
is the library's own :class:`~sentax.models.decoder.Decoder`, saved in Hugging Face's Llama format. The loss
is the mean over tokens of ``-log p(token | tokens before it)``.

Most of the run uses short rows, which are cheap on a CPU; its end uses rows as long as the context window, so
that long prompts are in distribution.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int
from tokenizers import Tokenizer

from sentax.models.config import DecoderConfig
from sentax.models.data.packing import END_OF_TEXT, HeldOut, held_out, rows, train_tokenizer
from sentax.models.decoder import KV, Decoder
from sentax.models.weights import Params, save_params

EMBEDDED = Path(__file__).parent / "embedded"
"""Where the model that the library loads by default lies."""

Record = dict[str, Any]
"""What `training.json` holds."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that determines a run; the defaults make the embedded model.

    :param steps: optimiser steps.
    :param batch: tokens a step, a multiple of both row lengths.
    :param row: tokens in a row, for most of the run.
    :param long_row: tokens in a row at the end of the run.
    :param long_share: share of the steps with long rows.
    :param seed: of parameters and data.
    :param learning_rate: reached by a linear warm-up, then constant until the decay.
    :param decay_share: share of the steps, at the end, over which a cosine brings the learning rate to zero.
        Until then a run does not depend on `steps`: a checkpoint can be continued with another number.
    :param early_steps: where a copy of the unfinished model is kept, for experiments with weaker models.
    :param tokenizer_documents: how many documents the tokenizer is learned from.
    :param held_out_documents: of each kind, for the recorded loss.
    :param steps_per_call: of the compiled function; the end of a call is where progress is logged.
    :param slice: tokens whose activations are alive at once; a step sums the gradients of its slices.
    """

    steps: int = 1600
    batch: int = 2048
    row: int = 512
    long_row: int = 1024
    long_share: float = 0.15
    seed: int = 0
    learning_rate: float = 2e-3
    warmup: int = 150
    decay_share: float = 0.3
    weight_decay: float = 0.05
    slice: int = 512
    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 704
    num_layers: int = 4
    num_heads: int = 8
    num_kv_heads: int = 4
    tokenizer_documents: int = 60_000
    held_out_documents: int = 128
    steps_per_call: int = 20
    early_steps: tuple[int, ...] = (80, 200, 640)

    @property
    def decoder(self) -> DecoderConfig:
        return DecoderConfig(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            max_positions=self.long_row,
        )


SMOKE = Settings(
    steps=24,
    batch=512,
    row=64,
    long_row=128,
    learning_rate=1e-2,
    warmup=4,
    slice=256,
    vocab_size=512,
    hidden_size=32,
    intermediate_size=64,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    tokenizer_documents=400,
    held_out_documents=16,
    steps_per_call=4,
    early_steps=(4,),
)
"""A run of seconds, for the test."""


def token_losses(decoder: Decoder, table: Int[Array, "B C+1"], chunk: int = 128) -> Float[Array, "B C"]:
    """Minus the log-probability of each token given those before it in its row.

    :param chunk: tokens that the decoder reads at once. A chunk sees the keys and values of those before
        it, so that scores are computed only where they are not masked, and stay in the processor's cache:
        six times faster for rows of 1,024 tokens, and twice for 256.
    """
    inputs, targets = table[:, :-1], table[:, 1:]

    def read(tokens: Int[Array, " C"]) -> Float[Array, "C V"]:
        past: tuple[KV, ...] = ()
        logits: list[Array] = []
        for start in range(0, len(tokens), chunk):
            part = tokens[start : start + chunk]
            some, kv = decoder(part, jnp.arange(start, start + len(part)), past=past)
            past, logits = (*past, kv), [*logits, some]
        return jnp.concatenate(logits)

    logits = jax.vmap(read)(inputs)
    # A comparison instead of a gather: the transpose of a gather is a scatter, which is serial on a CPU.
    hit = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 2) == targets[..., None]
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(hit, logits, 0.0), axis=-1)


class TrainState(NamedTuple):
    """What a step carries."""

    params: Params
    optimizer: optax.OptState


class Trainer:
    """The compiled steps of one run.

    :param settings: what to train and how.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        decay = round(settings.decay_share * settings.steps)
        schedule = optax.join_schedules(
            [
                optax.linear_schedule(0.0, settings.learning_rate, settings.warmup),
                optax.constant_schedule(settings.learning_rate),
                optax.cosine_decay_schedule(settings.learning_rate, decay),
            ],
            [settings.warmup, settings.steps - decay],
        )
        # Norm weights are vectors and keep their scale; only matrices decay.
        self.optimizer = optax.chain(
            optax.clip_by_global_norm(1.0),
            optax.adamw(
                schedule,
                b2=0.98,
                weight_decay=settings.weight_decay,
                mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
            ),
        )
        decoder = Decoder(settings.decoder, rngs=nnx.Rngs(settings.seed))
        self.graph, params = nnx.split(decoder, nnx.Param)
        self.params = nnx.to_pure_dict(params)
        self._abstract = params
        self.run = jax.jit(self._run, donate_argnums=0)
        self.losses = jax.jit(lambda params, table: token_losses(self.merge(params), table))

    def init(self) -> TrainState:
        params = jax.tree.map(jnp.copy, self.params)
        return TrainState(params, self.optimizer.init(params))

    def merge(self, params: Params) -> Decoder:
        """The decoder with these parameters."""
        state = jax.tree.map(lambda x: x, self._abstract)
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(self.graph, state)

    def _run(
        self, state: TrainState, batches: Int[Array, "steps slices B C+1"]
    ) -> tuple[TrainState, Float[Array, " steps"]]:
        """Optimiser steps under one scan; each sums the gradients of its slices under another."""
        slices = batches.shape[1]

        def mean_loss(params: Any, table: Int[Array, "B C+1"]) -> Float[Array, ""]:
            return token_losses(self.merge(params), table).mean()

        def accumulate(carry: Any, table: Int[Array, "B C+1"], params: Any) -> tuple[Any, Float[Array, ""]]:
            loss, gradient = jax.value_and_grad(mean_loss)(params, table)
            return jax.tree.map(lambda a, b: a + b / slices, carry, gradient), loss

        def step(state: TrainState, tables: Int[Array, "slices B C+1"]) -> tuple[TrainState, Float[Array, ""]]:
            zero = jax.tree.map(jnp.zeros_like, state.params)
            gradient, losses = jax.lax.scan(functools.partial(accumulate, params=state.params), zero, tables)
            updates, optimizer = self.optimizer.update(gradient, state.optimizer, state.params)
            return TrainState(optax.apply_updates(state.params, updates), optimizer), losses.mean()

        return jax.lax.scan(step, state, batches)


# A run that continues another in the same process finds its steps compiled.
_trainer = functools.lru_cache(maxsize=1)(Trainer)


def evaluate(trainer: Trainer, params: Params, sets: dict[str, HeldOut]) -> dict[str, dict[str, float]]:
    """Held-out loss of each kind, of the parameters as they are saved, in bfloat16.

    :return: for each kind nats a token and bits a byte, end-of-text included.
    """
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), params)
    result = {}
    for kind, (table, lengths, num_bytes) in sets.items():
        width = min(table.shape[1] - 1, -(-int(lengths.max()) // 128) * 128)
        total = 0.0
        for start in range(0, len(table), 4):
            losses = np.asarray(trainer.losses(params, table[start : start + 4, : width + 1]))
            real = np.arange(width) < lengths[start : start + 4, None] - 1
            total += float(losses[real].sum())
        result[kind] = {
            "nats_per_token": round(total / int((lengths - 1).sum()), 4),
            "bits_per_byte": round(total / math.log(2) / num_bytes, 4),
        }
    return result


def save(directory: Path, settings: Settings, tokenizer: Tokenizer, params: Params, record: Record) -> None:
    """Write a directory that transformers loads; each file appears whole or not at all.

    :param record: what goes into `training.json`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "model_max_length": settings.decoder.max_positions,
        "clean_up_tokenization_spaces": False,
    }
    end = tokenizer.token_to_id(END_OF_TEXT)
    # A folder inside the directory is on the same file system, so that a file can be moved in one step.
    with tempfile.TemporaryDirectory(dir=directory, prefix=".partial-") as folder:
        partial = Path(folder)
        save_params(partial, settings.decoder, params, dtype=jnp.bfloat16, bos_token_id=end, eos_token_id=end)
        tokenizer.save(str(partial / "tokenizer.json"), pretty=False)
        for name, content in (("tokenizer_config.json", tokenizer_config), ("training.json", record)):
            (partial / name).write_text(json.dumps(content, indent=1) + "\n")
        for file in partial.iterdir():
            file.chmod(0o644)  # safetensors makes files that only their owner reads
            os.replace(file, directory / file.name)


def _batches(settings: Settings, tokenizer: Tokenizer, step: int, count: int) -> np.ndarray:
    """The tables of `count` steps from `step` on: a function of the settings and the step alone."""
    length = settings.row if step < round((1 - settings.long_share) * settings.steps) else settings.long_row
    at_once = max(1, settings.slice // length)
    slices = settings.batch // (at_once * length)
    tables = [
        rows(Random(f"rows {settings.seed} {i}"), tokenizer, slices * at_once, length)
        for i in range(step, step + count)
    ]
    return np.stack(tables).reshape(count, slices, at_once, length + 1)


def _pieces(settings: Settings, start: int) -> Iterator[tuple[int, int]]:
    """`(step, count)` of each compiled call; a call ends where something is saved or the rows get longer."""
    stops = {*settings.early_steps, round((1 - settings.long_share) * settings.steps), settings.steps}
    step, most = start, settings.steps_per_call
    while step < settings.steps:
        end = min(s for s in (*stops, (step // most + 1) * most) if s > step)
        yield step, end - step
        step = end


def train(
    settings: Settings,
    out: Path,
    checkpoints: Path | None = None,
    resume: bool = False,
    save_every: int = 200,
    log: Any = print,
) -> Record:
    """Train a model and write it to a directory.

    :param out: where the model goes; until the end it holds the model as it is so far.
    :param checkpoints: where early copies and the state to continue from go.
    :param resume: continue from the state in `checkpoints`.
    :param save_every: steps between saves.
    :param log: called with each line of progress.
    :return: the record that is written to `training.json`.
    """
    trainer = _trainer(settings)
    state, start, history, before = trainer.init(), 0, [], 0.0
    kept = checkpoints / "state.npz" if checkpoints else None
    if resume and checkpoints is not None and kept is not None and kept.exists():
        tokenizer = Tokenizer.from_file(str(checkpoints / "tokenizer.json"))
        with np.load(kept) as file:
            leaves = [jnp.asarray(file[str(i)]) for i in range(len(jax.tree.leaves(state)))]
            start, before = int(file["step"]), float(file["seconds"])
            history = json.loads(str(file["history"]))
        state = jax.tree.unflatten(jax.tree.structure(state), leaves)
    else:
        tokenizer = train_tokenizer(settings.vocab_size, settings.tokenizer_documents, settings.seed)
    size = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    log(f"{size:,} parameters, {settings.vocab_size} tokens, {settings.steps} steps of {settings.batch}")
    few, many = (
        held_out(tokenizer, settings.seed, count, settings.long_row // 2)
        for count in (16, settings.held_out_documents)
    )
    record: Record = {}
    began = time.monotonic() - before
    for step, count in _pieces(settings, start):
        state, losses = trainer.run(state, jnp.asarray(_batches(settings, tokenizer, step, count)))
        loss, done = float(losses.mean()), step + count
        seconds = time.monotonic() - began
        history.append([done, round(loss, 4)])
        speed = (done - start) * settings.batch / (seconds - before)
        log(f"step {done} loss {loss:.4f} {seconds:.0f} s {speed:.0f} tokens/s")
        last = done == settings.steps
        if not last and done not in settings.early_steps and done % save_every:
            continue
        kinds = evaluate(trainer, state.params, many if last else few)
        record = {
            "parameters": size,
            "settings": dataclasses.asdict(settings),
            "steps": done,
            "tokens": done * settings.batch,
            "seconds": round(time.monotonic() - began),
            "held_out": kinds,
            "training_loss": history[:: max(1, len(history) // 100)],
            "versions": {module.__name__: module.__version__ for module in (jax, optax, np)},
        }
        log(json.dumps({kind: values["nats_per_token"] for kind, values in kinds.items()}))
        save(out, settings, tokenizer, state.params, record)
        if checkpoints is not None and kept is not None:
            checkpoints.mkdir(parents=True, exist_ok=True)
            if done in settings.early_steps:
                save(checkpoints / f"step-{done:05}", settings, tokenizer, state.params, record)
            tokenizer.save(str(checkpoints / "tokenizer.json"))
            numbered: dict[str, Any] = {
                str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))
            }
            partial = kept.with_name("partial.npz")
            np.savez(
                partial, step=done, seconds=time.monotonic() - began, history=json.dumps(history), **numbered
            )
            os.replace(partial, kept)
    return record


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sentax.models.training", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="directory of the model (%(default)s)")
    sizes = {"steps": "optimiser steps", "batch": "tokens a step", "seed": "of parameters and data"}
    for name, meaning in sizes.items():
        default = getattr(Settings, name)
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} (%(default)s)")
    parser.add_argument(
        "--checkpoints", type=Path, help="directory of early copies and of the state to continue from"
    )
    parser.add_argument("--resume", action="store_true", help="continue from the state in --checkpoints")
    parser.add_argument(
        "--smoke", action="store_true", help="a tiny model and a few steps; the other sizes are ignored"
    )
    options = parser.parse_args(arguments)
    settings = Settings(steps=options.steps, batch=options.batch, seed=options.seed)
    if options.smoke:
        settings = dataclasses.replace(SMOKE, seed=options.seed)
    train(settings, options.out, options.checkpoints, options.resume, log=functools.partial(print, flush=True))


if __name__ == "__main__":
    main()
