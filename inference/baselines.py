"""The simple samplers that others are measured against: each runs the same program, and says what it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from sentax.inference.engine import Population
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.locally_constrained import LocallyConstrained
from sentax.inference.kernels.prior import Prior
from sentax.inference.resampling import Resampler, systematic
from sentax.inference.sampler import Sampler
from sentax.inference.sites import SiteNumbers
from sentax.inference.smc import SMC
from sentax.inference.state import VIOLATION


class BaseSampling(Sampler):
    """The language model alone: every factor of the program is ignored, hard ones too.

    N independent draws from the program's prior, equally weighted: samples of the prior, not of the posterior
    (:attr:`is_proper` is false), and :attr:`log_evidence` is 0, an estimate of nothing. What the factors
    would have said is kept in :attr:`log_factors`; their share above `-inf` is the rate at which the
    language model meets the constraint by itself.

    :param model: a NumPyro model.
    :param num_particles: N, at least 1.
    :param progress_bar: shows the steps on standard error while running.

    >>> import jax, numpy as np, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=1, where=sx.literal("a"))
    >>> base = BaseSampling(model, num_particles=300)
    >>> base.run(jax.random.key(0), lm.prompt())
    >>> sorted(base.posterior("text")), bool(abs(np.isfinite(base.log_factors).mean() - 1 / 3) < 0.1)
    (['', 'a', 'b'], True)
    """

    is_proper = False
    _log_factors: np.ndarray

    def __init__(
        self, model: Callable[..., Any], *, num_particles: int = 32, progress_bar: bool = False
    ) -> None:
        super().__init__(Prior(model), num_particles=num_particles, progress_bar=progress_bar)

    @property
    def _config(self) -> FilterConfig:
        return dataclasses.replace(super()._config, kills=False)

    @property
    def log_factors(self) -> np.ndarray:
        """`[N]`, each draw's log-factors summed; `-inf` where it violates a hard one."""
        _ = self.population  # or the error that there is none
        return self._log_factors

    def _keep(
        self, population: Population, sites: SiteNumbers, rng_key: Any, times: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        total = np.asarray(population.log_weights)
        self._log_factors = np.where(total <= VIOLATION / 2, -np.inf, total).astype(np.float32)
        population = population._replace(log_weights=jnp.asarray(self._weigh(population)))
        super()._keep(population, sites, rng_key, times)

    def _weigh(self, population: Population) -> np.ndarray:
        return np.zeros_like(self._log_factors)


class BestOfN(BaseSampling):
    r"""N draws from the program's prior, of which the best is kept.

    The best is the one whose log-factors sum to the most, or which has the largest reward; it takes all the
    weight. With a reward :math:`r` this approximates the KL-regularised posterior at a temperature that
    depends on N (Beirami et al. 2024), and never converges to the program's own posterior. A draw that
    violates a hard factor is never the best: if all do, there are no samples.

    :param model: a NumPyro model.
    :param num_particles: N, at least 1.
    :param reward: the name of a `sentax.reward` to choose by; by default all log-factors together.
    :param progress_bar: shows the steps on standard error while running.
    :raises KeyError: in :meth:`run`, if the program has no reward of that name.

    >>> import jax, numpyro, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     text = sx.generate("text", context, max_tokens=3)
    ...     numpyro.factor("long", 1.0 * text.length)
    >>> best = BestOfN(model, num_particles=64)
    >>> best.run(jax.random.key(0), lm.prompt())
    >>> [(len(text), probability) for text, probability in best.posterior("text").items()]
    [(3, 1.0)]
    """

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        num_particles: int = 32,
        reward: str | None = None,
        progress_bar: bool = False,
    ) -> None:
        super().__init__(model, num_particles=num_particles, progress_bar=progress_bar)
        self.reward = reward

    def _weigh(self, population: Population) -> np.ndarray:
        scores = self._log_factors
        if self.reward is not None:
            if self.reward not in population.rewards:
                known = ", ".join(sorted(population.rewards)) or "none"
                raise KeyError(f"no reward {self.reward!r}; the program has: {known}")
            rewards = np.asarray(population.rewards[self.reward])
            scores = np.where(np.isneginf(scores), -np.inf, rewards)
        weights = np.full_like(self._log_factors, -np.inf)
        best = int(np.argmax(scores))
        if scores[best] > -np.inf:
            weights[best] = 0.0
        return weights


class SampleRerank(Sampler):
    r"""Importance sampling: draws from the program's prior, weighed by all its factors.

    .. math:: X_i \sim p,\qquad W_i = \prod \phi(X_i),\qquad \hat Z = \tfrac1N \sum_i W_i.

    Proper for every N. A draw is left where its first hard factor fails, which changes no weight.

    :param model: a NumPyro model.
    :param num_particles: N, at least 1.
    :param progress_bar: shows the steps on standard error while running.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=1, where=sx.literal("a"))
    >>> sampler = SampleRerank(model, num_particles=300)
    >>> sampler.run(jax.random.key(0), lm.prompt())
    >>> list(sampler.posterior("text")), bool(abs(jax.numpy.exp(sampler.log_evidence) - 1 / 3) < 0.1)
    (['a'], True)
    """

    def __init__(
        self, model: Callable[..., Any], *, num_particles: int = 32, progress_bar: bool = False
    ) -> None:
        super().__init__(Prior(model), num_particles=num_particles, progress_bar=progress_bar)


class TwistedSMC(SMC):
    """Sequential Monte Carlo with prior proposals: each step's factors are the weight of that step.

    Where a factor asks whether a prefix may still be completed this is a twist by an indicator, the
    "twisted SMC" (or bootstrap filter) that others compare with. :class:`~sentax.inference.smc.SMC` with
    :class:`~sentax.inference.kernels.prior.Prior`; proper for every number of particles.

    :param model: a NumPyro model.
    :param num_particles, ess_threshold, resampling, progress_bar: see :class:`~sentax.inference.smc.SMC`.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=4, where=sx.regex("(ab)+"))
    >>> sampler = TwistedSMC(model, num_particles=256)
    >>> sampler.run(jax.random.key(0), lm.prompt())
    >>> sorted(sampler.posterior("text"))
    ['ab', 'abab']
    """

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        num_particles: int = 32,
        ess_threshold: float = 0.5,
        resampling: Resampler = systematic,
        progress_bar: bool = False,
    ) -> None:
        super().__init__(
            Prior(model),
            num_particles=num_particles,
            ess_threshold=ess_threshold,
            resampling=resampling,
            progress_bar=progress_bar,
        )


class LCD(Sampler):
    r"""Locally constrained decoding as it is done elsewhere: the weights are dropped.

    Each token is drawn from the language model's distribution, renormalised over what its factors allow.
    A text's probability is then :math:`\prod_t p(x_t)\phi(x_t)/Z_t`, which is not the posterior wherever
    the normalisers :math:`Z_t` differ between texts (Park et al. 2024, section 2): more draws do not help,
    :attr:`is_proper` is false, and :attr:`log_evidence` is the share of survivors, no estimate. Factors
    outside of the steps only kill. For the same draws with their weights use
    `SMC(LocallyConstrained(model))`.

    :param model: a NumPyro model.
    :param num_particles: N, at least 1.
    :param progress_bar: shows the steps on standard error while running.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=3, where=sx.regex("a?b"))
    >>> lcd = LCD(model, num_particles=400)
    >>> lcd.run(jax.random.key(0), lm.prompt())
    >>> {text: round(p, 1) for text, p in sorted(lcd.posterior("text").items())}  # in truth 1/4 and 3/4
    {'ab': 0.5, 'b': 0.5}
    """

    is_proper = False

    def __init__(
        self, model: Callable[..., Any], *, num_particles: int = 32, progress_bar: bool = False
    ) -> None:
        super().__init__(LocallyConstrained(model), num_particles=num_particles, progress_bar=progress_bar)

    def _particles(self, rng_key: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Population, SiteNumbers]:
        population, numbers = super()._particles(rng_key, args, kwargs)
        dropped = jnp.where(jnp.isneginf(population.log_weights), -jnp.inf, 0.0)
        return population._replace(log_weights=dropped), numbers


__all__ = ["LCD", "BaseSampling", "BestOfN", "SampleRerank", "TwistedSMC"]
