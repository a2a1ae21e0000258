"""Particle-marginal Metropolis-Hastings: continuous latents by MCMC, the text summed out by SMC."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
import numpyro.handlers as handlers
from jax import lax, random
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int
from numpyro.distributions import MaskedDistribution
from numpyro.distributions.transforms import biject_to
from numpyro.distributions.util import sum_rightmost
from numpyro.infer.initialization import init_to_sample
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import is_prng_key

from sentax.inference.control import Control
from sentax.inference.engine import Population, run_particles
from sentax.inference.errors import InvalidWeight, NoSurvivingParticles, UnsupportedProgram
from sentax.inference.executable import Executable
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.awrs import AWRS
from sentax.inference.kernels.base import Kernel
from sentax.inference.lanes import log_mean_exp
from sentax.inference.random_walk import RandomWalk
from sentax.inference.resampling import Resampler, systematic
from sentax.inference.sites import SiteNumbers

_VALUE = "_{}_value"
_PARTICLE = "_particle"


class PMMHState(NamedTuple):
    """One chain between two iterations.

    :param i: iterations done.
    :param z: the latents that are moved, in unconstrained space.
    :param particle: all sites of the program, constrained, of one particle drawn by weight.
    :param log_evidence: the estimate at `z` that was made when `z` was proposed, the prior density of `z`
        and the Jacobian of its transform included. It is kept, never made anew: that is what keeps the chain
        exact.
    :param accept_prob: of the last proposal; `mean_accept_prob`: since the beginning of warm-up or of sampling.
    :param adapt_state: see :class:`~sentax.inference.random_walk.RandomWalk`; frozen after warm-up.
    :param num_warmup: how many of the iterations adapt.
    """

    i: Int[Array, ""]
    z: dict[str, Any]
    particle: dict[str, Any]
    log_evidence: Float[Array, ""]
    accept_prob: Float[Array, ""]
    mean_accept_prob: Float[Array, ""]
    adapt_state: RandomWalk
    num_warmup: Int[Array, ""]
    rng_key: Array

    @property
    def sample(self) -> dict[str, Any]:
        """What :meth:`numpyro.infer.MCMC.get_samples` is made of."""
        # Under the names of the latents that are moved: what `MCMC.print_summary` shows by default.
        return {**self.z, _PARTICLE: self.particle}


class PMMH(MCMCKernel):
    r"""Particle-marginal Metropolis-Hastings (Andrieu, Doucet and Holenstein 2010, section 2.4.2).

    A random walk over the continuous latents :math:`\theta` outside of scans, in which each proposal's
    density is the evidence estimate :math:`\hat Z(\theta)` of an SMC run with the latents set to
    :math:`\theta`. With :math:`u` all of that run's randomness, the chain is an ordinary Metropolis-Hastings
    chain on :math:`(\theta, u)` with the target :math:`\hat Z(\theta, u)\, q(u)`. As
    :math:`E_q[\hat Z(\theta, u)] = Z(\theta)`, its marginal in :math:`\theta` is the exact posterior, for every
    number of particles and every kernel that keeps the :class:`~sentax.inference.kernels.base.Kernel` law. A
    particle drawn by weight from the run is a draw of everything else given :math:`\theta` (theorem 4), so
    that `get_samples()` holds the joint posterior: latents, discrete sites, tokens.

    What is moved: latents outside of scans of continuous support and not under `handlers.mask` (those keep
    their prior in the particle system), or those of them that `sites` names. All else, discrete latents outside
    of scans included, is drawn and summed out by SMC.

    The number of particles decides only how fast the chain mixes: a noisy estimate that came out too large
    is hard to leave. A standard deviation of :math:`\log \hat Z` between 1 and 1.8 is about right (Doucet et
    al. 2015; Sherlock et al. 2015).

    During warm-up the proposal's covariance learns that of the chain (Haario et al. 2001) and its scale an
    acceptance rate; both stay as they are afterwards, so that what is collected comes from one fixed
    kernel. Warm-up draws are not from the posterior.

    :param model: a NumPyro model.
    :param kernel: how token sites are drawn: a kernel class, or a function `model -> Kernel`
        (`lambda m: AWRS(m, estimator=recursive)`).
    :param num_particles: N of each SMC run, at least 1.
    :param ess_threshold, resampling: as of :class:`~sentax.inference.smc.SMC`.
    :param sites: the names of the latents to move; None: all that can be.
    :param step_size: the initial standard deviation of a step along each direction, times
        :math:`2.38/\sqrt{d}`, in unconstrained space.
    :param target_accept_prob: what the scale aims at during warm-up. Noise in the estimate alone can keep the
        acceptance rate below it; the scale is therefore held within a factor of ten of :math:`2.38/\sqrt d`
        standard deviations.
    :param adapt_step_size, adapt_covariance: whether warm-up changes them.
    :param init_strategy: one of NumPyro's per-site initialisations; a draw from the prior by default.
    :param max_attempts: how many starting points may have an estimate of 0.
    :raises ValueError: at the start of a run, if there is no latent to move, or no start of positive evidence.

    >>> import jax, numpyro, sentax as sx
    >>> import numpyro.distributions as dist
    >>> from numpyro.infer import MCMC
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     taste = numpyro.sample("taste", dist.Normal(0, 1))
    ...     text = sx.generate("text", context, max_tokens=3, where=sx.regex("[ab]+"))
    ...     numpyro.factor("likes", taste * (text.tokens == 0).sum())
    >>> mcmc = MCMC(PMMH(model, num_particles=4), num_warmup=50, num_samples=100, progress_bar=False)
    >>> mcmc.run(jax.random.key(0), lm.prompt())
    >>> {name: value.shape for name, value in sorted(mcmc.get_samples().items())}
    {'taste': (100,), 'text': (100, 3)}
    """

    def __init__(
        self,
        model: Callable[..., Any],
        kernel: Callable[[Callable[..., Any]], Kernel] = AWRS,
        *,
        num_particles: int = 16,
        ess_threshold: float = 0.5,
        resampling: Resampler = systematic,
        sites: tuple[str, ...] | list[str] | None = None,
        step_size: float = 1.0,
        target_accept_prob: float = 0.234,
        adapt_step_size: bool = True,
        adapt_covariance: bool = True,
        init_strategy: Callable[..., Any] = init_to_sample,
        max_attempts: int = 100,
    ) -> None:
        if isinstance(model, Kernel) or not callable(model):
            raise TypeError(
                "PMMH takes a NumPyro model, and a kernel for it beside: PMMH(model, AWRS); "
                f"got {type(model).__name__}"
            )
        if not isinstance(kernel(model), Kernel):
            raise TypeError(f"kernel must make a sentax kernel of a model, such as AWRS; got {kernel!r}")
        if isinstance(num_particles, bool) or not isinstance(num_particles, int) or num_particles < 1:
            raise ValueError(f"num_particles must be an integer of at least 1, got {num_particles!r}")
        if not 0.0 <= ess_threshold <= 1.0:
            raise ValueError(f"ess_threshold must lie between 0 and 1, got {ess_threshold!r}")
        if not 0.0 < target_accept_prob < 1.0:
            raise ValueError(f"target_accept_prob must lie between 0 and 1, got {target_accept_prob!r}")
        if not (step_size > 0 and math.isfinite(step_size)):
            raise ValueError(f"step_size must be positive, got {step_size!r}")
        if max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, got {max_attempts}")
        self._model = model
        self._kernel = kernel
        self._config = FilterConfig(num_particles, Control(float(ess_threshold), resampling))
        self._names = None if sites is None else tuple(sites)
        self._step_size = float(step_size)
        self._target_accept_prob = float(target_accept_prob)
        self._adapt = (bool(adapt_step_size), bool(adapt_covariance))
        self._init_strategy = init_strategy
        self._max_attempts = max_attempts
        self._compiled = Executable(self._first_states)

    @property
    def model(self) -> Callable[..., Any]:
        return self._model

    @property
    def sample_field(self) -> str:
        return "sample"

    def get_diagnostics_str(self, state: PMMHState) -> str:
        return (
            f"scale={float(jnp.exp(state.adapt_state.log_scale)):.2f}. "
            f"acc. prob={float(state.mean_accept_prob):.2f}"
        )

    def postprocess_fn(
        self, model_args: tuple, model_kwargs: dict
    ) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """All sites of the particle; they are constrained already."""
        return lambda sample: sample[_PARTICLE]

    def init(
        self,
        rng_key: Array,
        num_warmup: int,
        init_params: dict[str, Any] | None = None,
        model_args: tuple = (),
        model_kwargs: dict[str, Any] | None = None,
    ) -> PMMHState:
        """The first state: of prior draws, the first with a positive evidence estimate.

        :param rng_key: of one chain, or of several (`[num_chains]`).
        :param init_params: where to start instead, in unconstrained space, by site; with several chains they
            have a leading axis.
        """
        kwargs = {} if model_kwargs is None else model_kwargs
        names = self._find_sites(model_args, kwargs)
        if init_params is not None and set(init_params) != set(names):
            raise ValueError(
                f"init_params are for {sorted(init_params)}; the latents that move are {list(names)}"
            )
        init = self._first_states if isinstance(rng_key, jax.core.Tracer) else self._compiled
        (state, account), numbers = init(rng_key, init_params, num_warmup, names, model_args, kwargs)
        self._check_start(state, account, numbers)
        return state

    def sample(self, state: PMMHState, model_args: tuple, model_kwargs: dict[str, Any] | None) -> PMMHState:
        """One iteration: a proposal, an SMC run at it, a decision."""
        kwargs = {} if model_kwargs is None else model_kwargs
        numbers: list[SiteNumbers] = []

        def one(state: PMMHState) -> tuple[PMMHState, Array]:
            state, invalid, seen = self._step(state, model_args, kwargs)
            numbers.append(seen)
            return state, invalid

        state, invalid = one(state) if is_prng_key(state.rng_key) else jax.vmap(one)(state)
        # MCMC gives no other way out of a compiled chain. Where all is well nothing is called.
        report = functools.partial(_refuse, numbers[-1])
        lax.cond(
            jnp.max(invalid) >= 0, lambda n: jax.debug.callback(report, n), lambda n: None, jnp.max(invalid)
        )
        return state

    def _step(
        self, state: PMMHState, args: tuple, kwargs: dict[str, Any]
    ) -> tuple[PMMHState, Array, SiteNumbers]:
        key_next, key_walk, key_run, key_accept = random.split(state.rng_key, 4)
        z, unravel = ravel_pytree(state.z)
        proposal = unravel(state.adapt_state.propose(key_walk, z))
        log_evidence, particle, population, numbers = self._estimate(key_run, proposal, args, kwargs)
        # A state of evidence 0 (none after a proper start) is left for any other.
        ratio = jnp.where(jnp.isneginf(state.log_evidence), jnp.inf, log_evidence - state.log_evidence)
        accept_prob = jnp.where(jnp.isneginf(log_evidence), 0.0, jnp.exp(jnp.minimum(ratio, 0.0)))
        accepted = random.uniform(key_accept) < accept_prob
        kept = (state.z, state.particle, state.log_evidence)
        moved = (proposal, particle, log_evidence)
        z_new, particle, log_evidence = jax.tree.map(lambda a, b: jnp.where(accepted, b, a), kept, moved)

        i = state.i + 1
        warming = i <= state.num_warmup
        learned = state.adapt_state.learn(
            ravel_pytree(z_new)[0], accept_prob, i, self._target_accept_prob, *self._adapt
        )
        adapt_state = jax.tree.map(lambda old, new: jnp.where(warming, new, old), state.adapt_state, learned)
        n = jnp.where(warming, i, i - state.num_warmup).astype(jnp.float32)
        before = jnp.where(n == 1, 0.0, state.mean_accept_prob)
        new = PMMHState(
            i=i,
            z=z_new,
            particle=particle,
            log_evidence=log_evidence,
            accept_prob=accept_prob,
            mean_accept_prob=before + (accept_prob - before) / n,
            adapt_state=adapt_state,
            num_warmup=state.num_warmup,
            rng_key=key_next,
        )
        return new, jnp.max(population.weight.invalid), numbers

    def _first_states(
        self, rng_key: Array, params: Any, num_warmup: int, names: tuple[str, ...], args: tuple, kwargs: dict
    ) -> tuple[tuple[PMMHState, Any], SiteNumbers]:
        numbers: list[SiteNumbers] = []

        def one(key: Array, params: Any) -> tuple[PMMHState, Any]:
            state, account, seen = self._init_one(key, params, num_warmup, names, args, kwargs)
            numbers.append(seen)
            return state, account

        return (one if is_prng_key(rng_key) else jax.vmap(one))(rng_key, params), numbers[-1]

    def _init_one(
        self, rng_key: Array, params: Any, num_warmup: int, names: tuple[str, ...], args: tuple, kwargs: dict
    ) -> tuple[PMMHState, Any, SiteNumbers]:
        """A state, what :meth:`_check_start` looks at, and the numbers of factors."""
        key_next, key_start = random.split(rng_key)
        numbers: list[SiteNumbers] = []

        def attempt(number: Int[Array, ""]) -> Any:
            key_prior, key_run = random.split(random.fold_in(key_start, number))
            z = self._draw_start(key_prior, names, args, kwargs) if params is None else dict(params)
            z = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), z)
            log_evidence, particle, population, seen = self._estimate(key_run, z, args, kwargs)
            numbers.append(seen)
            return log_evidence, z, particle, (population.required, jnp.max(population.weight.invalid))

        def unlucky(course: Any) -> Any:
            return jnp.isneginf(course[1][0]) & (course[0] < self._max_attempts)

        shapes = jax.eval_shape(attempt, jnp.int32(0))
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        _, (log_evidence, z, particle, account) = lax.while_loop(
            unlucky,
            lambda course: (course[0] + 1, attempt(course[0])),
            (jnp.int32(0), (jnp.float32(-jnp.inf), *nothing[1:])),
        )
        state = PMMHState(
            i=jnp.int32(0),
            z=z,
            particle=particle,
            log_evidence=log_evidence,
            accept_prob=jnp.float32(0),
            mean_accept_prob=jnp.float32(0),
            adapt_state=RandomWalk.start(ravel_pytree(z)[0], self._step_size),
            num_warmup=jnp.int32(num_warmup),
            rng_key=key_next,
        )
        return state, account, numbers[-1]

    def _estimate(
        self, rng_key: Array, z: dict[str, Any], args: tuple, kwargs: dict[str, Any]
    ) -> tuple[Float[Array, ""], dict[str, Any], Population, SiteNumbers]:
        """The evidence estimate at `z`, and one particle of the run by its weight."""
        key_run, key_choice = random.split(rng_key)
        numbers = SiteNumbers()
        model = handlers.substitute(self._model, substitute_fn=functools.partial(_constrained, z))
        population = run_particles(self._kernel(model), self._config, numbers, key_run, args, kwargs)
        log_weights = population.log_weights
        alive = jnp.max(log_weights) > -jnp.inf
        chosen = random.categorical(key_choice, jnp.where(alive, log_weights, 0.0))
        particle = {name: value[chosen] for name, value in population.samples.items()}
        moved = {name: particle.pop(_VALUE.format(name)) for name in z}
        return log_mean_exp(log_weights), particle | moved, population, numbers

    def _find_sites(self, args: tuple, kwargs: dict[str, Any]) -> tuple[str, ...]:
        """The latents to move, in program order. The program is traced, not run."""
        found: dict[str, bool] = {}

        def look() -> None:
            trace = handlers.trace(handlers.seed(self._model, random.key(0))).get_trace(*args, **kwargs)
            for name, site in trace.items():
                if site["type"] == "sample" and not site["is_observed"] and "_control_flow_done" not in site:
                    discrete = site["fn"].support is None or site["fn"].support.is_discrete
                    found[name] = not discrete and not isinstance(site["fn"], MaskedDistribution)

        jax.eval_shape(look)
        able = tuple(name for name, can in found.items() if can)
        if self._names is None:
            if not able:
                raise ValueError(
                    "the program has no continuous latent outside of scans (and of handlers.mask): there is "
                    "nothing for PMMH to move; use SMC"
                )
            return able
        if not self._names:
            raise ValueError("sites is empty: there is nothing for PMMH to move; use SMC")
        for name in self._names:
            if name not in found:
                raise ValueError(
                    f"site {name!r} is not a latent outside of scans of the program; those are {list(found)}"
                )
            if not found[name]:
                raise UnsupportedProgram(
                    f"site {name!r} is discrete or under handlers.mask: PMMH leaves it to the particles; "
                    "take it out of `sites`"
                )
        return tuple(name for name in able if name in self._names)

    def _draw_start(self, rng_key: Array, names: tuple[str, ...], args: tuple, kwargs: dict) -> dict[str, Any]:
        """A start in unconstrained space by the initialisation strategy."""

        def strategy(site: Any) -> Any:
            return self._init_strategy(site) if site["name"] in names else None

        model = handlers.substitute(handlers.seed(self._model, rng_key), substitute_fn=strategy)
        trace = handlers.trace(model).get_trace(*args, **kwargs)
        # What these values do not depend on, above all the language model, is never executed: XLA removes it.
        return {n: biject_to(trace[n]["fn"].support).inv(trace[n]["value"]) for n in names}

    def _check_start(self, state: PMMHState, account: Any, numbers: SiteNumbers) -> None:
        if isinstance(state.log_evidence, jax.core.Tracer):
            return  # chain_method="parallel": nothing can be known yet
        required, invalid = account
        for message, ok in required.items():
            if not jnp.all(ok):
                raise ValueError(message)
        if (worst := int(jnp.max(invalid))) >= 0:
            _refuse(numbers, worst)
        if bool(jnp.any(jnp.isneginf(state.log_evidence))):
            raise NoSurvivingParticles(
                f"none of {self._max_attempts} starting points left a living particle among "
                f"{self._config.num_particles}: give init_params, or more particles"
            )


def _refuse(numbers: SiteNumbers, factor: Any) -> None:
    raise InvalidWeight(
        f"factor {numbers.names[int(factor)]!r} was NaN or +inf; a log-factor must be finite or -inf"
    )


def _constrained(z: dict[str, Any], site: Any) -> Any:
    """The value of a site that is moved; the transform's Jacobian enters the program as a factor.

    NumPyro's own substitution differs in one place: it lets `handlers.scale` scale the Jacobian, which the
    density of a transformed variable does not.
    """
    name = site["name"]
    if site["type"] != "sample" or name not in z:
        return None
    transform = biject_to(site["fn"].support)
    value = transform(z[name])
    log_det = transform.log_abs_det_jacobian(z[name], value)
    log_det = sum_rightmost(log_det, jnp.ndim(log_det) - jnp.ndim(value) + len(site["fn"].event_shape))
    if site["scale"] is not None:
        log_det = log_det / site["scale"]  # the factor is under the same handlers, and scaled again
    numpyro.factor(f"_{name}_log_det", log_det)
    numpyro.deterministic(_VALUE.format(name), value)
    return value


__all__ = ["PMMH", "PMMHState"]
