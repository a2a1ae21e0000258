"""Sequential Monte Carlo: the front of the engine, and its results."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jax.sharding import Mesh

from sentax.inference.diagnostics import Diagnostics, deaths, diagnose
from sentax.inference.engine import Population, SiteNumbers, run_particles
from sentax.inference.errors import InvalidWeight, NoSurvivingParticles
from sentax.inference.executable import Executable
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.base import Kernel
from sentax.inference.lanes import PARTICLES, effective_sample_size, mesh_of
from sentax.inference.progress import Progress
from sentax.inference.resampling import Resampler, systematic
from sentax.inference.summary import format_summary
from sentax.ppl.constraints.predicate import host_errors


class SMC:
    r"""Sequential Monte Carlo over a NumPyro program.

    Each particle runs the program: latent sites are drawn from their prior (inside scans, those of
    finite support by the kernel), factors multiply its weight. Before a step of a scan the particles are
    resampled if their effective sample size is under `ess_threshold * num_particles`. With a proper kernel

    .. math:: E[\hat Z] = Z = \int \prod_{\text{sites}} p \prod_{\text{factors}} \phi,

    for every number of particles, and weighted averages converge to the posterior's as it grows
    (Del Moral 2004; Naesseth et al. 2019). The target is the density that
    :func:`numpyro.infer.util.log_density` gives; a latent site under `handlers.mask` keeps its prior.

    :param kernel: a model in its kernel: `AWRS(model)`, `LocallyConstrained(model)`, `Prior(model)`.
    :param num_particles: N, at least 1.
    :param ess_threshold: between 0 (never resample: importance sampling) and 1.
    :param resampling: `systematic` (default), `stratified`, `multinomial`, `residual`, or any
        function `(rng_key, log_weights) -> ancestors` with their law.
    :param progress_bar: shows the steps on standard error while running.
    :raises ValueError: for a number of particles or a threshold out of range.

    >>> import jax, numpyro, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=4, where=sx.regex("(ab)*"))
    >>> smc = SMC(sx.AWRS(model), num_particles=64)
    >>> smc.run(jax.random.key(0), lm.prompt())
    >>> sorted(smc.posterior("text"))
    ['', 'ab', 'abab']
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        num_particles: int = 32,
        ess_threshold: float = 0.5,
        resampling: Resampler = systematic,
        progress_bar: bool = False,
    ) -> None:
        if not isinstance(kernel, Kernel):
            raise TypeError(
                f"SMC runs a kernel around a model, such as SMC(AWRS(model)); got {type(kernel).__name__}"
            )
        if isinstance(num_particles, bool) or not isinstance(num_particles, int) or num_particles < 1:
            raise ValueError(f"num_particles must be an integer of at least 1, got {num_particles!r}")
        if not 0.0 <= ess_threshold <= 1.0:
            raise ValueError(f"ess_threshold must lie between 0 and 1, got {ess_threshold!r}")
        if not callable(resampling):
            raise TypeError(
                f"resampling must be a function (rng_key, log_weights) -> ancestors, got {resampling!r}"
            )
        self.kernel = kernel
        self.num_particles = num_particles
        self.ess_threshold = float(ess_threshold)
        self.resampling = resampling
        self.progress = Progress() if progress_bar else None
        self._executable = Executable(self._particles)
        self._population: Population | None = None
        self._sites = SiteNumbers()
        self._rng_key: Any = None
        self._times = (0.0, 0.0)
        self._mesh: Mesh | None = None

    def _particles(self, rng_key: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Population, SiteNumbers]:
        config = FilterConfig(
            self.num_particles,
            self.ess_threshold,
            self.resampling,
            self.progress.step if self.progress else None,
            self._mesh,
        )
        numbers = SiteNumbers()
        return run_particles(self.kernel, config, numbers, rng_key, args, kwargs), numbers

    def run(self, rng_key: Any, *args: Any, **kwargs: Any) -> None:
        """Runs the program and keeps the results.

        Arrays in the arguments may change from run to run without recompilation as long as their
        shapes do not; other arguments are static.

        :param rng_key: `jax.random.key(seed)`; the same key gives the same results.
        :raises PredicateError: if a Python predicate raised or returned no bool.
        :raises ValueError: if a prompt leaves no room for `max_tokens` in the model's context window.
        :raises InvalidWeight: if a factor was NaN or +inf.
        :raises UnsupportedProgram: for what the engine cannot run; the message says what to do.
        """
        if not (isinstance(rng_key, jax.Array) and jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key)):
            rng_key = random.wrap_key_data(jnp.asarray(rng_key, jnp.uint32))
        self._population = None
        self._mesh = mesh_of((args, kwargs))
        if self._mesh is not None and self.num_particles % self._mesh.shape[PARTICLES]:
            raise ValueError(
                f"num_particles={self.num_particles} is not a multiple of the {self._mesh.shape[PARTICLES]} "
                "devices along the mesh's particle axis"
            )
        key_run, self._rng_key = random.split(rng_key)
        started = time.perf_counter()
        with host_errors(), self.progress or contextlib.nullcontext():
            population, self._sites = self._executable(key_run, args, kwargs)
            population = jax.block_until_ready(population)
        self._times = (
            self._executable.compile_time,
            time.perf_counter() - started - self._executable.compile_time,
        )
        for message, ok in population.required.items():
            if not np.all(ok):
                raise ValueError(message)
        self._population = population
        invalid = np.asarray(population.weight.invalid)
        if (invalid >= 0).any():
            name = self._sites.names[int(invalid[invalid >= 0][0])]
            self._population = None
            raise InvalidWeight(
                f"factor {name!r} was NaN or +inf in {int((invalid >= 0).sum())} of "
                f"{self.num_particles} particles; "
                "a log-factor must be finite or -inf"
            )

    @property
    def population(self) -> Population:
        """Everything the run left, unprocessed."""
        if self._population is None:
            raise RuntimeError("no results yet: call run(rng_key, ...) first")
        return self._population

    @property
    def log_weights(self) -> np.ndarray:
        """`[N]` log-weights; `logsumexp(log_weights) - log N == log_evidence`."""
        return np.asarray(self.population.log_weights)

    @property
    def log_evidence(self) -> float:
        """Log of an unbiased estimate of the program's normalising constant; `-inf` if all died."""
        log_weights = self.log_weights.astype(np.float64)
        peak = log_weights.max()
        return float(peak if np.isneginf(peak) else peak + np.log(np.mean(np.exp(log_weights - peak))))

    @property
    def ess(self) -> float:
        """Effective sample size of the final weights, between 1 and N; 0 if all died."""
        return float(effective_sample_size(self.population.log_weights))

    @property
    def ancestors(self) -> tuple[np.ndarray, ...]:
        """For each scan `[T, N]`: the particle that each was copied from before each step."""
        return tuple(np.asarray(a).T for a in self.population.ancestors)

    @property
    def diagnostics(self) -> Diagnostics:
        """What the run cost and how the particles fared."""
        return diagnose(self.population, self._sites, *self._times)

    def get_weighted_samples(self) -> tuple[dict[str, Any], np.ndarray]:
        """Sites with a leading particle axis (`[N, T, ...]` inside a scan), and log-weights `[N]`."""
        return dict(self.population.samples), self.log_weights

    def get_samples(self) -> dict[str, Any]:
        """N equally weighted samples of every site, by resampling with the run's own key.

        :raises NoSurvivingParticles: if every particle died.
        """
        chosen = self.resampling(self._rng_key, jnp.asarray(self._surviving()))
        return jax.tree.map(lambda leaf: leaf[chosen], dict(self.population.samples))

    def posterior(self, site: str) -> dict[Any, float]:
        """Posterior probabilities of the values of a text or of a discrete site, most probable first.

        :param site: a name given to :func:`sentax.generate` (keys are strings), or a discrete site.
        :raises NoSurvivingParticles: if every particle died.
        :raises KeyError: for a site the program does not have.
        """
        weights = self._probabilities()
        population = self.population
        keys: list[Any]
        if site in population.texts:
            keys = population.texts[site].decode()
        elif site in population.samples:
            values = np.asarray(population.samples[site])
            if not (np.issubdtype(values.dtype, np.integer) or values.dtype == bool):
                raise ValueError(f"site {site!r} is continuous: use get_weighted_samples() and average")
            keys = [v.item() if v.ndim == 0 else tuple(v.ravel().tolist()) for v in values]
        else:
            known = ", ".join(sorted({*population.texts, *population.samples}))
            raise KeyError(f"no site {site!r}; the program has: {known}")
        table: dict[Any, float] = {}
        for key, weight in zip(keys, weights, strict=True):
            if weight > 0:
                table[key] = table.get(key, 0.0) + float(weight)
        return dict(sorted(table.items(), key=lambda item: -item[1]))

    def texts(self, site: str) -> list[str]:
        """The N particles' texts, decoded, in the order of :attr:`log_weights`."""
        return self.population.texts[site].decode()

    def print_summary(self, *, top: int = 10) -> None:
        """Prints the posterior of every site (`top` values; 0: none), the evidence and the diagnostics."""
        print(format_summary(self, top=top))

    def _surviving(self) -> np.ndarray:
        log_weights = self.log_weights
        if np.isneginf(log_weights).all():
            raise NoSurvivingParticles(deaths(self.population, self._sites.names))
        return log_weights

    def _probabilities(self) -> np.ndarray:
        log_weights = self._surviving().astype(np.float64)
        weights = np.exp(log_weights - log_weights.max())
        return weights / weights.sum()


__all__ = ["SMC"]
