"""Contrastive twist learning: a look-ahead that knows what a program will weigh its text with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sentax.inference.kernels.base import Kernel
from sentax.inference.learning.heads import HeadShape, LearnedTwist, Params, head_of
from sentax.inference.learning.training import Batch, Training, train
from sentax.inference.learning.trajectories import Recorder, Trajectories, sample_trajectories


def contrastive_loss(
    shape: HeadShape,
    params: Params,
    positives: Trajectories,
    negatives: Trajectories,
    log_base: Float[Array, "N T"],
) -> Float[Array, ""]:
    r"""The mean over places of :math:`KL(\sigma(x_{1:t}) \,\|\, \pi_t^\psi(x_{1:t}))`, up to a constant.

    With :math:`\pi_t^\psi \propto p_t\, \psi_t`, where :math:`p_t` is the program's own weight up to the t-th
    token, and N texts drawn from a proposal :math:`q` with :math:`r_t = p_t / q`,

    .. math:: L = \frac1T \sum_t \Big( \log \sum_i r_t^i \psi_t(x^i_{1:t})
        - \sum_j \bar w^j \log \psi_t(x^j_{1:t}) \Big),

    whose gradient is the negative of Zhao et al. 2024, eq. 18: positives are weighted towards the posterior,
    negatives towards the twisted target, and neither set of weights has a gradient. As :math:`r` does not
    depend on the twist, texts drawn under an earlier one serve as well.

    :param positives: weighted by their `log_weights`.
    :param negatives: drawn without resampling.
    :param log_base: :math:`\log r_t^i` of the negatives.
    """
    log_w = jax.lax.stop_gradient(positives.log_weights)
    # Where nobody lived there is nothing to learn: the weights must not become NaN.
    some = jnp.any(log_w > -jnp.inf)
    weights = jnp.where(some, jax.nn.softmax(jnp.where(some, log_w, 0.0)), 0.0)
    pull = weights @ log_psi(shape, params, positives)
    log_r = jax.lax.stop_gradient(log_base)
    alive = jnp.any(log_r > -jnp.inf, axis=0)
    push = jax.nn.logsumexp(jnp.where(alive, log_r, 0.0) + log_psi(shape, params, negatives), axis=0)
    return jnp.where(some, jnp.mean(jnp.where(alive, push - pull, 0.0)), 0.0)


def log_psi(shape: HeadShape, params: Params, texts: Trajectories) -> Float[Array, "N T"]:
    """What the twist says of each text after each of its tokens."""
    head = head_of(shape, params)
    over_places = jax.vmap(head.at, in_axes=(0, 0, 0))
    values = jax.vmap(over_places, in_axes=(0, None, 0))(texts.features, texts.remaining, texts.tokens)
    return jnp.take_along_axis(values, texts.last, axis=1)


def train_twist(
    rng_key: Any,
    kernel: Kernel,
    twist: LearnedTwist,
    prompts: Sequence[tuple],
    *,
    num_steps: int,
    num_particles: int = 64,
    site: str = "text",
    optim: Any = None,
    ess_threshold: float = 0.0,
    num_updates: int = 1,
    exact: Callable[..., Any] | None = None,
    checkpoint: str | Path | None = None,
    save_every: int = 50,
    log: Callable[[int, dict[str, float]], None] | None = None,
) -> Training[LearnedTwist]:
    r"""Learns a twist by contrasting posterior texts with texts of the twisted targets.

    A step runs the program for one of the prompts with the twist as it is, and takes the gradient of
    :func:`contrastive_loss`. What the program's factors after the text say (a reward, a test, the likelihood
    of what must follow) flows back into the twist; factors inside the text's own steps are already in the
    weights, and the twist learns the rest.

    :param rng_key: `jax.random.key(seed)`.
    :param kernel: the program in its kernel, such as `Prior(model)`; it is called as
        `model(*prompt, twist=twist)`, and passes the twist on to `sentax.generate`.
    :param twist: where to begin: `LearnedTwist.create(rng_key, context)`.
    :param prompts: the program's arguments for each prompt of the family, all of the same structure and
        shapes; a step takes one at random.
    :param num_particles: N, texts a step.
    :param site: the name of the text that the twist is for.
    :param optim: of `numpyro.optim`, or of optax, as :class:`numpyro.infer.SVI` takes it; `Adam(3e-3)`
        unless given.
    :param ess_threshold: above 0 the posterior texts come from a run of their own, with resampling; at 0 they
        are the same texts as the negatives, which halves the work.
    :param num_updates: gradient steps for each batch of texts.
    :param exact: a function `(rng_key, *prompt) -> tokens [N, T]` that draws exact posterior texts, where
        there is one; end-of-text fills up each row.
    :param checkpoint: a file that keeps the state of the training every `save_every` steps and at the end. If
        it is there already, training goes on from it, with the result that it would have had.
    :param log: called as `log(step, figures)` after each step.
    :return: the twist, and the course of the training.
    :raises ValueError: if there are no prompts, numbers are out of range, or the checkpoint is of another
        training.

    >>> import jax, numpyro, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context, twist=None):
    ...     text = sx.generate("text", context, max_tokens=3, twist=twist)
    ...     sx.constrain("ends in b", text.matches(sx.regex("a*b")))
    >>> twist = LearnedTwist.create(jax.random.key(0), lm.prompt(), hidden=8)
    >>> training = train_twist(jax.random.key(1), sx.Prior(model), twist, [(lm.prompt(),)], num_steps=3)
    >>> training.losses.shape
    (3,)
    """

    def sample(params: Params, rng_key: Array, args: tuple) -> Batch:
        recorder = Recorder(LearnedTwist(params, twist.shape), site)
        key_negative, key_positive, key_exact = jax.random.split(rng_key, 3)
        negatives = sample_trajectories(kernel, recorder, key_negative, args, num_particles=num_particles)
        log_base = jnp.cumsum(negatives.log_increments, axis=1) - log_psi(twist.shape, params, negatives)
        positives = negatives
        if exact is not None:
            given = jnp.asarray(exact(key_exact, *args), jnp.int32)
            positives = sample_trajectories(
                kernel, recorder, key_positive, args, num_particles=given.shape[0], given=given
            )
            positives = positives._replace(log_weights=jnp.zeros(given.shape[0]))
        elif ess_threshold > 0:
            positives = sample_trajectories(
                kernel,
                recorder,
                key_positive,
                args,
                num_particles=num_particles,
                ess_threshold=ess_threshold,
            )
        return Batch((positives, negatives, log_base), negatives.log_weights)

    def loss(params: Params, data: Any) -> Float[Array, ""]:
        return contrastive_loss(twist.shape, params, *data)

    return train(
        rng_key,
        twist,
        prompts,
        sample,
        loss,
        num_steps=num_steps,
        num_updates=num_updates,
        optim=optim,
        checkpoint=checkpoint,
        save_every=save_every,
        log=log,
    )


__all__ = ["contrastive_loss", "log_psi", "train_twist"]
