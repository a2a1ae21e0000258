"""How good a sampler is, in nats: two-sided bounds on the log-evidence, and exact divergences."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float

from sentax.inference.control import Control
from sentax.inference.engine import run_particles
from sentax.inference.executable import Executable
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.base import Kernel
from sentax.inference.lanes import log_mean_exp
from sentax.inference.resampling import systematic
from sentax.inference.sampler import as_key
from sentax.inference.sites import SiteNumbers
from sentax.inference.state import Retained
from sentax.ppl.constraints.predicate import host_errors

_ALL = np.iinfo(np.int32).max
_AT_ONCE = 1024  # particles, over all runs


class EvidenceBounds(NamedTuple):
    r"""Stochastic bounds on :math:`\log Z`, each a mean over independent runs with its standard error.

    :param lower: the mean of :math:`\log \hat Z`; `upper` that with an exact posterior sample among the
        particles, None without such samples.
    :param lower_runs, upper_runs: the values themselves, `[R]`.
    """

    lower: float
    lower_error: float
    upper: float | None
    upper_error: float | None
    lower_runs: np.ndarray
    upper_runs: np.ndarray | None


def evidence_bounds(
    rng_key: Any,
    kernel: Kernel,
    *args: Any,
    posterior: Mapping[str, Any] | None = None,
    num_particles: int = 32,
    num_runs: int = 64,
    ess_threshold: float = 0.5,
    **kwargs: Any,
) -> EvidenceBounds:
    r"""Bounds on the log-evidence of a program from below and, given exact posterior samples, from above.

    With :math:`\hat Z` the estimate of a particle filter of N particles, and :math:`\hat Z^\ast` that of one
    in which particle 0 repeats an exact posterior sample (conditional SMC),

    .. math:: E[\log \hat Z] \;\le\; \log Z \;\le\; E[\log \hat Z^\ast].

    The first is Jensen's inequality; the second follows as :math:`E[1 / \hat Z^\ast] = 1 / Z` (bidirectional
    Monte Carlo: Grosse et al. 2015; for twisted SMC Zhao et al. 2024, section 5). The gaps are the KL
    divergences, in either direction, between what the filter draws in all and what an ideal one would, so they
    bound the sampler's own: for N = 1 they are :math:`KL(q \| \sigma)` and :math:`KL(\sigma \| q)`.

    :param rng_key: `jax.random.key(seed)`.
    :param kernel: the program in its kernel. For the upper bound one whose weights are not random, given
        the values: `Prior`, `LocallyConstrained`.
    :param args, kwargs: the program's.
    :param posterior: R *exact* posterior samples of every latent site, `[R, ...]` (in a scan `[R, T, ...]`):
        by rejection, by enumeration, or simulated where the evidence is a simulated observation. A run each.
    :param num_particles: N. Both gaps shrink with it, in the end as 1/N.
    :param num_runs: R for the lower bound.
    :param ess_threshold: as in :class:`~sentax.inference.smc.SMC`.
    :raises UnsupportedProgram: for an upper bound with a kernel whose weights are random.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a"])
    >>> def model(context):
    ...     text = sx.generate("text", context, max_tokens=2)
    ...     sx.constrain("one", text.length == 1)
    >>> only_one = {"text": jax.numpy.array([[0, 1]] * 8)}  # the posterior is this text
    >>> bounds = evidence_bounds(
    ...     jax.random.key(0), sx.Prior(model), lm.prompt(), posterior=only_one, num_particles=64
    ... )
    >>> round(bounds.lower, 1), round(bounds.upper, 1), round(float(jax.numpy.log(0.25)), 1)
    (-1.4, -1.4, -1.4)
    """
    if num_runs < 2:
        raise ValueError(f"num_runs must be at least 2, got {num_runs}")
    key_lower, key_upper = random.split(as_key(rng_key))
    run = _runner(kernel, num_particles, float(ess_threshold))
    with host_errors():
        lower = np.asarray(run(random.split(key_lower, num_runs), None, args, kwargs)[0], np.float64)
        upper = None
        if posterior is not None:
            samples = {name: jnp.asarray(value) for name, value in posterior.items()}
            lengths = {value.shape[0] for value in samples.values()}
            if len(lengths) != 1 or min(lengths) < 2:
                raise ValueError(
                    f"posterior samples need one leading axis of at least 2, got {sorted(lengths)}"
                )
            keys = random.split(key_upper, lengths.pop())
            upper = np.asarray(run(keys, samples, args, kwargs)[0], np.float64)
    above = (None, None) if upper is None else _mean(upper)
    return EvidenceBounds(*_mean(lower), above[0], above[1], lower, upper)


@functools.lru_cache(maxsize=16)
def _runner(kernel: Kernel, num_particles: int, ess_threshold: float) -> Executable:
    """Estimates of the log-evidence for many keys, with or without a sample for each; compiled once."""

    def many(keys: Array, samples: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Array, None]:
        def one(given: tuple[Array, Any]) -> Float[Array, ""]:
            key, sample = given
            retained = None if sample is None else _first_of(num_particles, sample)
            control = Control(ess_threshold, systematic, conditional=sample is not None)
            config = FilterConfig(num_particles, control)
            population = run_particles(kernel, config, SiteNumbers(), key, args, kwargs, retained)
            return log_mean_exp(population.log_weights)

        # A remainder would be compiled once more.
        most = max(1, _AT_ONCE // num_particles)
        batch_size = max(size for size in range(1, most + 1) if len(keys) % size == 0)
        return lax.map(one, (keys, samples), batch_size=batch_size), None

    return Executable(many)


def _first_of(num_particles: int, sample: Any) -> Retained:
    """Particle 0 repeats a sample; the others are free."""
    first = jnp.arange(num_particles) == 0
    everyone = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_particles, *leaf.shape)), sample)
    return Retained(everyone, None, jnp.where(first, _ALL, -1))


def _mean(runs: np.ndarray) -> tuple[float, float]:
    if np.isneginf(runs).any():  # a run in which all died: the bound is as low as bounds get
        return float("-inf"), 0.0
    return float(runs.mean()), float(runs.std(ddof=1) / np.sqrt(len(runs)))


class SamplerDivergences(NamedTuple):
    r"""How far what one particle draws, q, is from the posterior :math:`\sigma`; exact.

    :param reverse: :math:`KL(q \| \sigma)`, infinite where q draws what the posterior excludes.
    :param forward: :math:`KL(\sigma \| q)`: what decides about importance weights.
    :param coverage: the mass of q on the values listed; under 1, texts of weight zero are drawn.
    :param log_q: `[M]`, of each value.
    """

    reverse: float
    forward: float
    coverage: float
    log_q: np.ndarray


def sampler_divergences(
    kernel: Kernel,
    support: Mapping[str, Any],
    log_joint: Any,
    *args: Any,
    **kwargs: Any,
) -> SamplerDivergences:
    r"""Both KL divergences between a kernel's draws and the posterior of a program whose values can be listed.

    As :math:`w(x) = P(x) / q(x)` for a particle that is never resampled, the weight that each value would
    have had tells its probability, :math:`\log q(x) = \log P(x) - \log w(x)`.

    :param kernel: whose weights are not random, given the values: `Prior`, `LocallyConstrained`.
    :param support: every value of the latent sites that the posterior allows, `[M, ...]` for each site.
    :param log_joint: `[M]`, the program's unnormalised log-posterior of each.
    :param args, kwargs: the program's, a twist or a proposal among them.
    :raises UnsupportedProgram: for a kernel whose weights are random.

    >>> import jax.numpy as jnp, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a"])
    >>> def model(context):
    ...     text = sx.generate("text", context, max_tokens=1)
    ...     sx.constrain("not empty", text.length > 0)
    >>> only_a = {"text": jnp.array([[0]])}
    >>> found = sampler_divergences(sx.Prior(model), only_a, jnp.log(jnp.array([0.5])), lm.prompt())
    >>> round(found.forward, 4), found.reverse, round(found.coverage, 4)
    (0.6931, inf, 0.5)
    """
    samples = {name: jnp.asarray(value) for name, value in support.items()}
    log_p = np.asarray(log_joint, np.float64)
    (M,) = log_p.shape
    if any(value.shape[0] != M for value in samples.values()):
        raise ValueError(
            f"log_joint lists {M} values, the sites {sorted({v.shape[0] for v in samples.values()})}"
        )
    if not np.isfinite(log_p).all():
        raise ValueError("log_joint must be finite: list only what the posterior allows")

    with host_errors():
        log_w = np.asarray(_weigher(kernel, M)(samples, args, kwargs)[0], np.float64)
    log_q = log_p - log_w
    log_posterior = log_p - np.logaddexp.reduce(log_p)
    coverage = float(np.exp(log_q).sum())
    q = np.exp(log_q)
    inside = coverage > 1 - 1e-4  # float32 weights
    return SamplerDivergences(
        reverse=float(q @ (log_q - log_posterior)) if inside else float("inf"),
        forward=float(np.exp(log_posterior) @ (log_posterior - log_q)),
        coverage=coverage,
        log_q=log_q,
    )


@functools.lru_cache(maxsize=16)
def _weigher(kernel: Kernel, num_particles: int) -> Executable:
    """The log-weights that values would have had; compiled once."""

    def weigh(samples: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Array, None]:
        retained = Retained(samples, None, jnp.full(num_particles, _ALL))
        config = FilterConfig(num_particles, Control(0.0, systematic))
        numbers = SiteNumbers()
        return run_particles(kernel, config, numbers, random.key(0), args, kwargs, retained).log_weights, None

    return Executable(weigh)


__all__ = ["EvidenceBounds", "SamplerDivergences", "evidence_bounds", "sampler_divergences"]
