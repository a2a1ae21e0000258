"""Trains a masked language model on texts: the objective of masked diffusion."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from sentax.models.masked import MaskedConfig, MaskedLM, denoiser_of
from sentax.models.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class MaskedSettings:
    """How to train.

    :param steps: optimiser steps.
    :param batch: rows a step.
    :param learning_rate: reached by a linear warm-up over a tenth of the steps, then decayed by a cosine.
    :param seed: of parameters, rows and masks.
    :param steps_per_call: of the compiled function.
    """

    steps: int = 1000
    batch: int = 32
    learning_rate: float = 3e-3
    seed: int = 0
    steps_per_call: int = 50


def bound(
    config: MaskedConfig, params: Any, rows: Int[Array, "B L"], rng_key: Array, mask: int
) -> Float[Array, ""]:
    r"""An unbiased estimate of the bound on the mean negative log-likelihood, in nats a row.

    A row is masked position by position with probability `t`, uniform over a batch (stratified), and

    .. math:: -\log p(x) \le E_{t \sim U(0, 1)}\, \frac1t\,
              E \sum_{i \text{ masked}} -\log p_\theta(x_i \mid x_t)

    (Sahoo et al. 2024, "Simple and effective masked diffusion language models", equation 10, for the linear
    schedule).
    """
    key_time, key_mask = jax.random.split(rng_key)
    B, L = rows.shape
    t = (jnp.arange(B) + jax.random.uniform(key_time, (B,), minval=1e-3)) / B
    masked = jax.random.uniform(key_mask, (B, L)) < t[:, None]
    logits = jax.vmap(denoiser_of(config, params))(jnp.where(masked, mask, rows))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, rows)
    return (jnp.where(masked, losses, 0.0).sum(axis=1) / t).mean()


def make_rows(
    texts: Callable[[Random], str], vocabulary: Vocabulary, length: int, count: int, rng: Random
) -> Int[np.ndarray, "B L"]:
    """Texts as rows of tokens, what is left of a row filled with end-of-text.

    In half of the rows the filling stands behind the text; in the others at a random place in it, as in a
    canvas whose hole is larger than what it holds.

    :raises ValueError: if no text in a hundred fits.
    """
    rows = np.full((count, length), vocabulary.end_of_text, np.int32)
    for row in rows:
        for _ in range(100):
            tokens = vocabulary.encode(texts(rng))
            if len(tokens) <= length:
                break
        else:
            raise ValueError(f"the last hundred texts have more than {length} tokens")
        cut = len(tokens) if rng.random() < 0.5 else rng.randint(0, len(tokens))
        row[:cut] = tokens[:cut]
        row[length - len(tokens) + cut :] = tokens[cut:]
    return rows


def train(
    texts: Callable[[Random], str],
    vocabulary: Vocabulary,
    config: MaskedConfig,
    settings: MaskedSettings = MaskedSettings(),
) -> tuple[MaskedLM, Float[np.ndarray, " steps"]]:
    """A masked language model of generated texts.

    :param texts: makes a text from a seeded source of randomness.
    :param vocabulary: of the tokens that texts are cut into.
    :param config: of the network.
    :return: the model, and the bound (:func:`bound`) that each step saw.
    """
    lm = MaskedLM.init(vocabulary, config, seed=settings.seed)
    warmup = max(1, settings.steps // 10)
    schedule = optax.warmup_cosine_decay_schedule(0.0, settings.learning_rate, warmup, settings.steps + 1)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.01))

    def step(carry: Any, data: Any) -> Any:
        params, state = carry
        rows, rng_key = data
        loss, gradient = jax.value_and_grad(lambda p: bound(config, p, rows, rng_key, lm.mask))(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), loss

    run = jax.jit(lambda carry, *data: jax.lax.scan(step, carry, data), donate_argnums=0)
    carry = (lm.params, optimizer.init(lm.params))
    rng = Random(f"masked {settings.seed}")
    keys = jax.random.split(jax.random.key(settings.seed), settings.steps)
    losses = []
    for start in range(0, settings.steps, settings.steps_per_call):
        count = min(settings.steps_per_call, settings.steps - start)
        rows = make_rows(texts, vocabulary, config.max_positions, count * settings.batch, rng)
        batches = jnp.asarray(rows.reshape(count, settings.batch, -1))
        carry, part = run(carry, batches, keys[start : start + count])
        losses.append(np.asarray(part))
    return dataclasses.replace(lm, params=carry[0]), np.concatenate(losses)
