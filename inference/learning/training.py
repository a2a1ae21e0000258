"""The loop that trains learned heads: sampling and gradient steps in one compiled program, stop and resume."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.optim
import optax
from jax import random
from jaxtyping import Array, Float
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sentax.inference.executable import Executable
from sentax.inference.lanes import effective_sample_size, log_mean_exp
from sentax.inference.learning.heads import LearnedHead, Params
from sentax.inference.sampler import as_key
from sentax.ppl.constraints.predicate import host_errors

H = TypeVar("H", bound=LearnedHead)


LOWER = "try a lower learning rate"


class Batch(NamedTuple):
    """What a step learns from.

    :param data: for the loss.
    :param log_weights: `[N]`, of texts drawn without resampling; for the record.
    """

    data: Any
    log_weights: Float[Array, " N"]


@dataclasses.dataclass(frozen=True)
class Training(Generic[H]):
    """A finished training.

    :param head: what was learned.
    :param losses: `[S]`, before each step's last update. They compare with one another only in expectation.
    :param log_evidence: `[S]`, each step's estimate without resampling: what rises as the head gets better.
    :param ess: `[S]`, the effective sample sizes of those estimates.
    """

    head: H
    losses: np.ndarray
    log_evidence: np.ndarray
    ess: np.ndarray


def train(
    rng_key: Any,
    head: H,
    prompts: Sequence[tuple],
    sample: Callable[[Params, Array, tuple], Batch],
    loss: Callable[[Params, Any], Float[Array, ""]],
    *,
    num_steps: int,
    num_updates: int,
    optim: Any,
    checkpoint: str | Path | None,
    save_every: int,
    log: Callable[[int, dict[str, float]], None] | None,
    hint: str = LOWER,
) -> Training[H]:
    """Gradient steps on batches that the head itself takes part in drawing; see :func:`train_twist`.

    The optimisers are NumPyro's, which wrap optax; its `SVI` itself does not fit: the expectations are over
    texts that particle filters draw, not over a guide's traces, and the weights carry no gradient.

    :param sample: `(params, rng_key, prompt) -> Batch`; `loss`: `(params, data) -> scalar`. Both pure.
    :param hint: what to do where the loss is not finite.
    :raises FloatingPointError: there.
    """
    if not prompts:
        raise ValueError("no prompts to train on")
    for name, number in (("num_steps", num_steps), ("num_updates", num_updates), ("save_every", save_every)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    rng_key = as_key(rng_key)
    optimiser = _optimiser(optim)

    def step(state: Any, rng_key: Array, args: tuple) -> tuple[Any, None]:
        batch = sample(optimiser.get_params(state), rng_key, args)
        for _ in range(num_updates):
            (value, _), state = optimiser.eval_and_update(lambda p: (loss(p, batch.data), None), state)
        figures = jnp.stack([value, log_mean_exp(batch.log_weights), effective_sample_size(batch.log_weights)])
        return (state, figures), None

    run = Executable(step)
    state = optimiser.init(head.params)
    course = np.zeros((0, 3), np.float32)
    if checkpoint is not None and Path(checkpoint).is_file():
        state, course = _restore(Path(checkpoint), state, rng_key, num_steps)
    while len(course) < num_steps:
        at = len(course)
        key_prompt, key_step = random.split(random.fold_in(rng_key, at))
        args = prompts[int(random.randint(key_prompt, (), 0, len(prompts)))]
        with host_errors():
            (state, figures), _ = run(state, key_step, args)
            figures = np.asarray(figures)
        if not np.isfinite(figures[0]):
            raise FloatingPointError(f"step {at} of the training: the loss is {figures[0]}; {hint}")
        course = np.concatenate([course, figures[None]])
        if log is not None:
            log(at, dict(zip(("loss", "log_evidence", "ess"), figures.tolist())))
        if checkpoint is not None and (len(course) % save_every == 0 or len(course) == num_steps):
            _save(Path(checkpoint), state, course, rng_key)
    trained = dataclasses.replace(head, params=optimiser.get_params(state))
    return Training(trained, *course.T)


def _optimiser(optim: Any) -> Any:
    if optim is None:
        return numpyro.optim.Adam(3e-3)
    if isinstance(optim, numpyro.optim._NumPyroOptim):
        return optim
    if isinstance(optim, optax.GradientTransformation):
        return numpyro.optim.optax_to_numpyro(optim)
    raise TypeError(f"optim must be an optimiser of numpyro.optim or of optax, got {type(optim).__name__}")


def _save(path: Path, state: Any, course: np.ndarray, rng_key: Array) -> None:
    tensors = {f"state.{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    tensors |= {"course": np.ascontiguousarray(course), "rng_key": np.asarray(random.key_data(rng_key))}
    # A run that is killed here must leave a whole file behind.
    unfinished = path.with_name(path.name + ".unfinished")
    save_file(tensors, unfinished, metadata={"format": "sentax training"})
    os.replace(unfinished, path)


def _restore(path: Path, state: Any, rng_key: Array, num_steps: int) -> tuple[Any, np.ndarray]:
    leaves, treedef = jax.tree.flatten(state)
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: unreadable ({error})") from None
    found = [tensors.get(f"state.{i}") for i in range(len(leaves))]
    shapes = [None if leaf is None else (leaf.shape, leaf.dtype) for leaf in found]
    if "course" not in tensors or shapes != [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]:
        raise ValueError(f"{path} is a checkpoint of another head or another optimiser")
    if not np.array_equal(tensors["rng_key"], np.asarray(random.key_data(rng_key))):
        raise ValueError(f"{path} is a checkpoint of a training with another rng_key")
    if len(tensors["course"]) > num_steps:
        raise ValueError(
            f"{path} has {len(tensors['course'])} steps behind it, more than num_steps={num_steps}"
        )
    # Python numbers among the leaves (optimisers' counters) are arrays after the first step anyway.
    return jax.tree.unflatten(treedef, [jnp.asarray(leaf) for leaf in found]), tensors["course"]


__all__ = ["Batch", "Training", "train"]
