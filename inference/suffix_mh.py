"""Suffix-resampling Metropolis-Hastings: chains of whole texts whose ends are drawn again."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from jaxtyping import Array, Bool, Int

from sentax.inference.chains import ChainSampler, Spent, Trajectories, dead, trajectories
from sentax.inference.control import Control
from sentax.inference.engine import Population, run_particles
from sentax.inference.errors import UnsupportedProgram
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.base import Kernel
from sentax.inference.resampling import systematic
from sentax.inference.results import Results
from sentax.inference.sites import SiteNumbers
from sentax.inference.suffix_moves import choose_cut, log_count


class SuffixInfo(NamedTuple):
    """One step of N chains.

    :param cut: `[N]`, how many steps were kept, over all scans; -1: nothing was, latents before them neither.
    :param accepted: `[N]`.
    """

    cut: Int[Array, " N"]
    accepted: Bool[Array, " N"]


def suffix_step(
    kernel: Kernel,
    config: FilterConfig,
    numbers: SiteNumbers,
    rng_key: Array,
    state: Trajectories,
    args: tuple,
    kwargs: dict[str, Any],
    whole: Bool[Array, ""] | bool = False,
) -> tuple[Trajectories, SuffixInfo, Spent]:
    """One move of every chain; see :class:`SuffixMH`. A pure function.

    A chain whose state has no weight is run from scratch, and takes whatever has one.

    :param config: of N particles that are never resampled.
    :param whole: states without a weight are repeated instead, which finds it: for runs of another sampler.
    """
    key_cut, key_run, key_accept = random.split(rng_key, 3)
    live = jnp.concatenate(state.live, axis=1)
    N, T = live.shape
    weighed = state.log_weight > -jnp.inf
    drawn = jax.vmap(choose_cut)(random.split(key_cut, N), _choices(live)) - 1
    cut = jnp.where(weighed, drawn, jnp.where(whole, T, -1))
    population = run_particles(kernel, config, numbers, key_run, args, kwargs, state.repeat(cut))
    new = trajectories(population)
    log_choices = [jax.vmap(log_count)(_choices(steps)) for steps in (live, jnp.concatenate(new.live, axis=1))]
    change = jnp.where(weighed, new.log_weight - state.log_weight, jnp.inf)
    log_ratio = change + log_choices[0] - log_choices[1]
    log_u = jnp.log(random.uniform(key_accept, (N,), minval=jnp.finfo(jnp.float32).tiny))
    accepted = (new.log_weight > -jnp.inf) & (log_u < log_ratio)
    return state.choose(accepted, new), SuffixInfo(cut, accepted), Spent.of(population)


def _choices(live: Bool[Array, "N T"]) -> Bool[Array, "N T+1"]:
    """Where a text may be cut: before everything, and before each step that draws something."""
    return jnp.pad(live, ((0, 0), (1, 0)), constant_values=True)


class SuffixMH(ChainSampler):
    r"""Independent chains of suffix-resampling Metropolis-Hastings.

    A step cuts a text at one of its tokens, draws everything from there to the program's end again with the
    kernel, and accepts the new text with probability

    .. math:: \min\Big(1, \frac{w'}{w} \cdot \frac{n}{n'}\Big),

    where :math:`w` is the weight of the whole run and :math:`n` the number of places where it could have been
    cut: before everything (latents before the first scan are then drawn again too), and before each step of a
    scan that comes before its text's end. Latents after the last scan are always drawn again, and those
    between two scans with the step before them.

    **Why it is exact.** Let :math:`u` be all that one run of a particle draws, :math:`q(u)` its law and
    :math:`w(u)` its weight. By the kernel's law :math:`\tilde\pi(u) \propto q(u)\, w(u)` has the program's
    posterior as the marginal of its values, for every kernel that keeps the law: where the weights
    themselves are random (AWRS), what they were drawn with is part of :math:`u`. Given a cut :math:`c`, the
    proposal is :math:`q(u'_{>c} \mid u_{\le c})` with :math:`u'_{\le c} = u_{\le c}`, so that

    .. math:: \frac{\tilde\pi(u')\, \tfrac{1}{n(u')}\, q(u_{>c} \mid u_{\le c})}
                   {\tilde\pi(u)\, \tfrac{1}{n(u)}\, q(u'_{>c} \mid u'_{\le c})}
              = \frac{w(u')\, n(u)}{w(u)\, n(u')},

    and accepting with that ratio leaves :math:`\tilde\pi` invariant (a cut of :math:`u` is always one of
    :math:`u'`: whether a text has ended before step :math:`c` is decided by what is kept). What a step must
    remember of :math:`u` is its values and the weights that came with them, not how these were found: the
    future depends on no more. Chains are reversible, and aperiodic and irreducible as everything may be drawn
    again. What is approximate is only what is approximate in every chain: warm-up and autocorrelation.

    :param kernel: a model in its kernel; with AWRS's `max_rejects` the target is that kernel's.
    :param num_chains: chains run side by side, at least 1.
    :param num_steps: states kept of each; `thinning` steps apart, after `num_warmup` steps.
    :param start: the results of another sampler of the same program (an SMC run, say): chains start from its
        particles, by their weights. Otherwise each starts from its first run of positive weight, and steps
        before that are spent looking for one.
    :raises UnsupportedProgram: for kernels that carry a state, and programs with `numpyro`'s `cond`, `prng_key`
        or subsampling: what those draw cannot be kept.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=3, where=sx.regex("(ab)*|b"))
    >>> chains = SuffixMH(sx.AWRS(model), num_chains=8, num_steps=50)
    >>> chains.run(jax.random.key(0), lm.prompt())
    >>> sorted(chains.posterior("text")), chains.get_chains()["text"].shape
    (['', 'ab', 'b'], (8, 50, 3))
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        num_chains: int = 8,
        num_steps: int = 100,
        num_warmup: int = 20,
        thinning: int = 1,
        start: Results | None = None,
    ) -> None:
        super().__init__(
            kernel, num_particles=num_chains, num_samples=num_steps, num_warmup=num_warmup, thinning=thinning
        )
        if start is not None and not isinstance(start, Results):
            raise TypeError(f"start must be a sampler that has run, got {type(start).__name__}")
        self.num_chains = num_chains
        self.start = start
        self.acceptance_rate = float("nan")
        """Of the kept steps of all chains, those that moved."""

    @property
    def _control(self) -> Control:
        return Control(0.0, systematic)

    def run(self, rng_key: Any, *args: Any, **kwargs: Any) -> None:
        """Runs the chains and keeps their states; see :meth:`Sampler.run`."""
        if self.start is not None:
            # Beside the model's own arguments, so that another start compiles nothing anew.
            samples, log_weights = self.start.get_weighted_samples()
            increments = self.start.population.increments
            kwargs = kwargs | {_START: (samples, increments, jnp.asarray(log_weights))}
        super().run(rng_key, *args, **kwargs)
        self.acceptance_rate = float(np.mean(np.asarray(self.population.kernel_state)))
        self._population = self.population._replace(kernel_state=())

    def _particles(self, rng_key: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Population, SiteNumbers]:
        numbers = SiteNumbers()
        given = kwargs.get(_START)
        kwargs = {name: value for name, value in kwargs.items() if name != _START}
        key_start, key_chains = random.split(rng_key)

        def fresh(key: Array) -> Population:
            return run_particles(self.kernel, self._config, numbers, key, args, kwargs)

        state = dead(jax.eval_shape(fresh, key_start))
        if not state.live:
            raise UnsupportedProgram("the program has no scan: there is no text whose end could be drawn again")
        if given is not None:
            state = self._from(key_start, state, *given)

        def step(key: Array, state: Trajectories) -> tuple[Trajectories, Array, Spent]:
            state, info, spent = suffix_step(
                self.kernel, self._config, numbers, key, state, args, kwargs, whole=given is not None
            )
            return state, info.accepted, spent

        states, accepted, spent = self._collect(key_chains, state, step)
        log_weights = jnp.where(states.log_weight > -jnp.inf, 0.0, -jnp.inf)
        return self._pool(states, log_weights, spent)._replace(kernel_state=accepted), numbers

    def _from(
        self, rng_key: Array, state: Trajectories, samples: dict[str, Any], increments: Any, log_weights: Array
    ) -> Trajectories:
        """The chains' states from another sampler's particles, still without their weights."""
        wanted = {name: leaf.shape[1:] for name, leaf in state.samples.items()}
        if {name: leaf.shape[1:] for name, leaf in samples.items()} != wanted:
            raise ValueError(
                "start has other sites, or other shapes, than this program: it must be of the same"
            )
        chosen = random.categorical(rng_key, log_weights, shape=(self.num_chains,))
        return state._replace(
            samples={name: leaf[chosen] for name, leaf in samples.items()},
            increments=tuple(leaf[chosen] for leaf in increments),
        )

    def get_chains(self) -> dict[str, np.ndarray]:
        """Sites by chain, `[num_chains, num_steps, ...]`, for `numpyro.diagnostics`."""
        return self._by_chain(self.num_chains)


_START = "_sentax_start"

__all__ = ["SuffixInfo", "SuffixMH", "suffix_step"]
