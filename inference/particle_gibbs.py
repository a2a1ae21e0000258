"""Particle Gibbs: conditional SMC around one text after another."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Int

from sentax.inference.chains import ChainSampler, Spent, Trajectories, dead, trajectories
from sentax.inference.control import Control
from sentax.inference.engine import Population, run_particles
from sentax.inference.errors import UnsupportedProgram
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.base import Kernel
from sentax.inference.resampling import multinomial
from sentax.inference.sites import SiteNumbers
from sentax.inference.state import Retained


def gibbs_sweep(
    kernel: Kernel,
    config: FilterConfig,
    numbers: SiteNumbers,
    rng_key: Array,
    state: Trajectories,
    args: tuple,
    kwargs: dict[str, Any],
) -> tuple[Trajectories, Int[Array, ""], Trajectories, Spent]:
    """One sweep; see :class:`ParticleGibbs`. A pure function.

    :param config: of N particles with a conditional control.
    :param state: the retained text, leaves `[1, ...]`; without a weight none is retained.
    :return: the next retained text, its place among the particles, all of them `[N, ...]`, the cost.
    """
    key_run, key_choice = random.split(rng_key)
    N = config.num_particles
    total = sum(x.shape[1] for x in state.increments)
    kept = (jnp.arange(N) == 0) & (state.log_weight[0] > -jnp.inf)
    samples, increments = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (N, *leaf.shape[1:])), (state.samples, state.increments)
    )
    # With another past the weights are others: those kernels that can compute them do so.
    retained = Retained(samples, None if config.ancestor_sampling else increments, jnp.where(kept, total, -1))
    population = run_particles(kernel, config, numbers, key_run, args, kwargs, retained)
    everyone = trajectories(population)
    alive = jnp.max(everyone.log_weight) > -jnp.inf
    chosen = random.categorical(key_choice, jnp.where(alive, everyone.log_weight, 0.0))
    following = jax.tree.map(lambda leaf: leaf[chosen][None], everyone)
    return following, chosen, everyone, Spent.of(population)


class ParticleGibbs(ChainSampler):
    r"""Particle Gibbs (Andrieu, Doucet and Holenstein 2010, section 2.4.3).

    A sweep is an SMC run in which particle 0 repeats the retained text, with the weights it came with, and is
    never replaced; the others' ancestors are drawn independently, the retained one among the candidates. At
    the end one particle is drawn by weight: the next retained text.

    **What is exact.** With any number of particles from two on and any kernel that keeps the
    :class:`~sentax.inference.kernels.base.Kernel` law, the sweep leaves the program's posterior invariant, on
    the space of texts and of the weights drawn with them (see :class:`~sentax.inference.suffix_mh.SuffixMH`).
    Write :math:`\psi` for the law of a whole SMC run. Under :math:`\psi\,\hat Z` times the choice of a
    particle by weight, each resampling contributes :math:`\bar w \cdot w_b / \sum w = w_b / N` along the chosen
    lineage, so that the lineage has the posterior's density, its places are uniform, and everything else
    follows the conditional run. That holds for resampling by need too: whether to resample is a function
    of the weights. Latents of the program outside of its scans are retained and redrawn with the rest.

    **Ancestor sampling** (Lindsten, Jordan and Schön 2014) lets the retained text change its past at each
    resampling, so that it mixes with few particles where plain sweeps degenerate: then early tokens seldom
    change. It needs the density of a text's rest given another beginning, so it works with kernels whose
    weights are not random (`Prior`, `LocallyConstrained`), for programs with one scan; a resampling before step
    `t` costs the `T - t` steps to the end for every particle.

    The results are all sweeps' particles, by weight within a sweep, sweeps equally (a Rao-Blackwellised
    average); :meth:`get_chain` gives the retained texts.

    :param kernel: a model in its kernel; with AWRS's `max_rejects` the target is that kernel's.
    :param num_particles: N of a sweep, at least 2.
    :param num_sweeps: sweeps kept, after `num_warmup`. The first is an SMC run, until one leaves a survivor.
    :param ess_threshold: as of :class:`~sentax.inference.smc.SMC`.
    :raises UnsupportedProgram: for kernels and programs as of `SuffixMH`; with ancestor sampling for kernels
        with random weights, and for programs of several scans.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=3, where=sx.regex("(ab)*|b"))
    >>> gibbs = ParticleGibbs(sx.AWRS(model), num_particles=4, num_sweeps=50)
    >>> gibbs.run(jax.random.key(0), lm.prompt())
    >>> sorted(gibbs.posterior("text")), gibbs.get_chain()["text"].shape
    (['', 'ab', 'b'], (50, 3))
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        num_particles: int = 16,
        num_sweeps: int = 100,
        num_warmup: int = 10,
        ess_threshold: float = 0.5,
        ancestor_sampling: bool = False,
    ) -> None:
        super().__init__(
            kernel, num_particles=num_particles, num_samples=num_sweeps, num_warmup=num_warmup, thinning=1
        )
        if num_particles < 2:
            raise ValueError("ParticleGibbs needs at least 2 particles: alone, the retained text never changes")
        if not 0.0 <= ess_threshold <= 1.0:
            raise ValueError(f"ess_threshold must lie between 0 and 1, got {ess_threshold!r}")
        if ancestor_sampling and type(kernel).log_weight_of is Kernel.log_weight_of:
            raise UnsupportedProgram(
                f"{type(kernel).__name__} draws weights that are random: ancestor sampling weighs a text's end "
                "against other beginnings, for which others would have been drawn; use LocallyConstrained or "
                "Prior, or ancestor_sampling=False"
            )
        self.ess_threshold = float(ess_threshold)
        self.ancestor_sampling = bool(ancestor_sampling)
        self._chosen: Any = None

    @property
    def _control(self) -> Control:
        return Control(self.ess_threshold, multinomial, conditional=True)

    @property
    def _config(self) -> FilterConfig:
        return dataclasses.replace(super()._config, ancestor_sampling=self.ancestor_sampling)

    def run(self, rng_key: Any, *args: Any, **kwargs: Any) -> None:
        """Runs the sweeps and keeps their particles; see :meth:`Sampler.run`."""
        super().run(rng_key, *args, **kwargs)
        self._chosen = np.asarray(self.population.kernel_state)
        self._population = self.population._replace(kernel_state=())

    def _particles(self, rng_key: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Population, SiteNumbers]:
        numbers = SiteNumbers()
        N, S = self.num_particles, self.num_samples
        plain = FilterConfig(N, self._control)

        def fresh(key: Array) -> Population:
            return run_particles(self.kernel, plain, numbers, key, args, kwargs)

        shapes = dead(jax.eval_shape(fresh, rng_key))
        start = jax.tree.map(lambda leaf: leaf[:1], shapes)

        def step(key: Array, state: Trajectories) -> tuple[Trajectories, Any, Spent]:
            state, chosen, everyone, spent = gibbs_sweep(
                self.kernel, self._config, numbers, key, state, args, kwargs
            )
            return state, (chosen, everyone), spent

        _, (chosen, everyone), spent = self._collect(rng_key, start, step)
        # Every sweep weighs the same, whatever its estimate of the evidence.
        sums = jax.nn.logsumexp(everyone.log_weight, axis=1, keepdims=True)
        log_weights = jnp.where(
            jnp.isneginf(sums), -jnp.inf, everyone.log_weight - sums + jnp.log(jnp.float32(N))
        )
        places = jnp.arange(S) * N + chosen
        return self._pool(everyone, log_weights, spent)._replace(kernel_state=places), numbers

    def get_chain(self) -> dict[str, np.ndarray]:
        """The retained texts' sites, `[num_sweeps, ...]`: a Markov chain, for `numpyro.diagnostics`.

        :raises RuntimeError: before a run.
        """
        return jax.tree.map(lambda leaf: np.asarray(leaf)[self._chosen], dict(self.population.samples))


__all__ = ["ParticleGibbs", "gibbs_sweep"]
