"""Distributional policy gradient: a proposal that imitates a program's posterior, for any f-divergence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sentax.inference.kernels.base import Factor, Kernel
from sentax.inference.kernels.prior import Prior
from sentax.inference.lanes import log_mean_exp
from sentax.inference.learning.heads import HeadShape, LearnedProposal, Params, head_of
from sentax.inference.learning.training import LOWER, Batch, Training, train
from sentax.inference.learning.trajectories import Recorder, Trajectories, sample_trajectories
from sentax.inference.step import propose

Divergence = Callable[[Float[Array, " N"]], Float[Array, " N"]]
r"""The derivative :math:`f'(t)` of a divergence :math:`D_f(\pi \| p) = E_{x \sim p}[f(\pi(x) / p(x))]`, as a
function of :math:`\log t`; `+inf` where the posterior is 0."""


_INFINITE = (
    "KL(pi || p) is infinite once a text is drawn that the program gives weight 0: use forward_kl, "
    "jensen_shannon or total_variation, or try a lower learning rate"
)


def forward_kl(log_ratio: Float[Array, " N"]) -> Float[Array, " N"]:
    r""":math:`KL(p \| \pi)`, :math:`f = -\log t`: covers all of the posterior (Khalifa et al. 2021).

    >>> import jax.numpy as jnp
    >>> forward_kl(jnp.log(jnp.array([0.5, 2.0]))).tolist()
    [-2.0, -0.5]
    """
    return -jnp.exp(-log_ratio)


def reverse_kl(log_ratio: Float[Array, " N"]) -> Float[Array, " N"]:
    r""":math:`KL(\pi \| p)`, :math:`f = t \log t`: stays inside the posterior; infinite where that is 0."""
    return log_ratio + 1.0


def jensen_shannon(log_ratio: Float[Array, " N"]) -> Float[Array, " N"]:
    r"""Twice Jensen and Shannon's, :math:`f = t \log t - (t + 1) \log \frac{t + 1}{2}`: bounded.

    >>> import jax.numpy as jnp
    >>> round(float(jensen_shannon(jnp.float32(0.0))), 6), round(float(jensen_shannon(jnp.inf)), 4)
    (0.0, 0.6931)
    """
    return jnp.log(2.0) - jax.nn.softplus(-log_ratio)


def total_variation(log_ratio: Float[Array, " N"]) -> Float[Array, " N"]:
    r"""Total variation, :math:`f = |t - 1| / 2`: only on which side a text lies counts."""
    return 0.5 * jnp.sign(log_ratio)


def policy_gradient_loss(
    shape: HeadShape,
    params: Params,
    texts: Trajectories,
    log_q: Float[Array, " N"],
    divergence: Divergence,
    *,
    baseline: bool = True,
) -> Float[Array, ""]:
    r"""A number whose gradient estimates that of :math:`D_f(\pi_\theta \| p)`.

    .. math:: \nabla D_f = E_{x \sim \pi_\theta}\big[ f'(\pi_\theta(x) / p(x))\, \nabla \log \pi_\theta(x) \big]

    (Go et al. 2023, theorem 1), with the texts' own proposal corrected for, a baseline of the batch's mean
    (of the others', so that it adds no bias), and :math:`p = P / Z` with the batch's estimate of Z.

    :param log_q: of the texts, under what they were drawn from.
    :param baseline: without, the gradient has the same mean and more variance.
    """
    log_pi = log_policy(shape, params, texts)
    log_now = jax.lax.stop_gradient(log_pi)
    log_z = log_mean_exp(texts.log_weights)
    log_target = texts.log_weights + log_q  # the program's own weight of each text, P(x)
    dead = jnp.isneginf(log_z)  # no text lived: there is no target yet
    cost = divergence(jnp.where(dead, 0.0, log_now + log_z - log_target))
    importance = jnp.exp(log_now - log_q)
    N = cost.shape[0]
    mine = importance * cost
    others = (jnp.sum(mine) - mine) / max(N - 1, 1) if baseline else 0.0
    return jnp.where(dead, 0.0, jnp.mean(importance * (cost - others) * log_pi))


def log_policy(shape: HeadShape, params: Params, texts: Trajectories) -> Float[Array, " N"]:
    r""":math:`\log \pi_\theta(x)` of the texts: under the model's logits plus the head's values."""
    assert texts.logits is not None
    head = head_of(shape, params)
    values = jax.vmap(jax.vmap(head), in_axes=(0, None))(texts.features, texts.remaining)
    log_probs = jax.nn.log_softmax(texts.logits + values)
    return _of_texts(texts, log_probs)


def log_drawn(shape: HeadShape, params: Params, texts: Trajectories) -> Float[Array, " N"]:
    """The texts' log-probabilities under what an engine draws from: the proposal with its defensive share."""
    assert texts.logits is not None
    head = head_of(shape, params)
    values = jax.vmap(jax.vmap(head), in_axes=(0, None))(texts.features, texts.remaining)
    nothing = Factor(lambda outcome: jnp.float32(0.0))
    log_q = jax.vmap(jax.vmap(lambda p, v: propose(p, p + v, nothing)[0]))(texts.logits, values)
    return _of_texts(texts, log_q)


def _of_texts(texts: Trajectories, log_probs: Float[Array, "N T V"]) -> Float[Array, " N"]:
    each = jnp.take_along_axis(log_probs, texts.tokens[..., None], axis=-1)[..., 0]
    return jnp.sum(jnp.where(texts.active, each, 0.0), axis=1)


def train_proposal(
    rng_key: Any,
    kernel: Kernel,
    proposal: LearnedProposal,
    prompts: Sequence[tuple],
    *,
    num_steps: int,
    divergence: Divergence = forward_kl,
    num_particles: int = 64,
    site: str = "text",
    optim: Any = None,
    num_updates: int = 1,
    checkpoint: str | Path | None = None,
    save_every: int = 50,
    log: Callable[[int, dict[str, float]], None] | None = None,
) -> Training[LearnedProposal]:
    """Learns a proposal by distributional policy gradient, towards the program's posterior.

    The recorded logits take `num_particles * max_tokens * V` numbers. The other parameters are those of
    :func:`~sentax.inference.learning.contrastive.train_twist`, with `proposal=` in the place of `twist=`.

    :param kernel: `Prior(model)`: the density of what it draws is known.
    :param divergence: `forward_kl`, `reverse_kl`, `jensen_shannon`, `total_variation`, or any function
        with their law.
    :raises FloatingPointError: also where the divergence is infinite: `reverse_kl` once a text of weight zero
        was drawn.

    >>> import jax, numpyro, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context, proposal=None):
    ...     text = sx.generate("text", context, max_tokens=3, proposal=proposal)
    ...     numpyro.factor("short", -1.0 * text.length)
    >>> proposal = LearnedProposal.create(jax.random.key(0), lm.prompt(), hidden=8)
    >>> def learn(num_steps):
    ...     prompts = [(lm.prompt(),)]
    ...     return train_proposal(jax.random.key(1), sx.Prior(model), proposal, prompts, num_steps=num_steps)
    >>> learn(0)
    Traceback (most recent call last):
    ValueError: num_steps must be at least 1, got 0
    """
    if not isinstance(kernel, Prior):
        raise TypeError(f"a proposal is trained under Prior(model), got {type(kernel).__name__}")

    def sample(params: Params, rng_key: Array, args: tuple) -> Batch:
        recorder = Recorder(LearnedProposal(params, proposal.shape), site, logits=True)
        texts = sample_trajectories(kernel, recorder, rng_key, args, num_particles=num_particles)
        return Batch((texts, log_drawn(proposal.shape, params, texts)), texts.log_weights)

    def loss(params: Params, data: Any) -> Float[Array, ""]:
        texts, log_q = data
        return policy_gradient_loss(proposal.shape, params, texts, log_q, divergence)

    return train(
        rng_key,
        proposal,
        prompts,
        sample,
        loss,
        num_steps=num_steps,
        num_updates=num_updates,
        optim=optim,
        checkpoint=checkpoint,
        save_every=save_every,
        log=log,
        hint=_INFINITE if divergence is reverse_kl else LOWER,
    )


__all__ = [
    "Divergence",
    "forward_kl",
    "jensen_shannon",
    "log_drawn",
    "log_policy",
    "policy_gradient_loss",
    "reverse_kl",
    "total_variation",
    "train_proposal",
]
