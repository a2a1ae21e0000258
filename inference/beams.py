"""Beams: populations of different texts, grown together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, Int

from sentax.inference.kernels.base import Factor, Kernel
from sentax.inference.lanes import log_sum_exp
from sentax.inference.sampler import Sampler
from sentax.inference.selection import Children, Choice, JointKernel, local_target, optimal_resampling, pick
from sentax.ppl.uniform import exponential


class _Table(JointKernel):
    """What both beams share: all outcomes of a particle are known with their probabilities."""

    use_masks = True
    uses_proposals = False
    method = "every outcome checked"

    def __init__(self, model: Callable[..., Any], num_beams: int) -> None:
        super().__init__(model)
        self.num_beams = num_beams


class _BestFirst(_Table):
    """The N best by their own weight."""

    def root(self, index: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.where(index == 0, 0.0, -jnp.inf)

    def children(self, rng_key: Any, logits: Any, factor: Factor, **given: Any) -> Children:
        del rng_key
        log_target, checks = local_target(logits, factor, given["mask"], given["active"], given["axis_name"])
        # No more than N of one particle's can be among the N best of all.
        best, outcomes = lax.top_k(log_target, min(self.num_beams, log_target.shape[0]))
        return Children(outcomes.astype(jnp.int32), best, best, (), checks)

    def select(self, rng_key: Any, log_weights: Any, children: Children) -> tuple[Array, Choice]:
        del rng_key
        scores = (log_weights[:, None] + children.log_weights).reshape(-1)
        best, flat = lax.top_k(scores, log_weights.shape[0])
        return pick(children, flat, best > -jnp.inf)


class BeamSearch(Sampler):
    r"""The N texts found most probable under the program, by beam search: no sampling, and no posterior.

    At each step every text in the beam is extended by every outcome, and of all these the N with the
    largest :math:`\log p(x_{\le t}) + \log \phi(x_{\le t})` are kept. A text that has ended stays as it is.
    Twists count like factors on the way, and are settled.

    The programs are those whose scans have exactly one site of finite support in each step, a token, and no
    other latent sites anywhere.

    Results are different texts; :attr:`log_weights` are their own unnormalised log posterior probabilities,
    `-inf` where there are fewer than N. :meth:`posterior` is normalised among them: it is biased towards what
    was found, as is everything else that averages.

    :param model: a NumPyro model.
    :param num_beams: N, at least 1.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=4, where=sx.regex("(ab)*"))
    >>> beam = BeamSearch(model, num_beams=8)
    >>> beam.run(jax.random.key(0), lm.prompt())
    >>> beam.texts("text")[:3]
    ['', 'ab', 'abab']
    """

    is_proper = False

    def __init__(self, model: Callable[..., Any], *, num_beams: int = 8, progress_bar: bool = False) -> None:
        super().__init__(_BestFirst(model, num_beams), num_particles=num_beams, progress_bar=progress_bar)

    @property
    def log_evidence(self) -> float:
        """Log of the sum of the weights: a lower bound on the evidence, exact if nothing was dropped."""
        return super().log_evidence + float(np.log(self.num_particles))


class _PerturbedBest(_Table):
    """The N largest perturbed log-probabilities; see :class:`StochasticBeam`.

    A particle carries the log-probability of its text, its perturbed value (`+inf` before the first draw), the
    largest perturbed value dropped so far (the same for all), and the log of its probability to be above that.
    """

    def root(self, index: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.where(index == 0, jnp.log(jnp.float32(self.num_beams)), -jnp.inf)

    def start(self) -> Any:
        return jnp.float32(0), jnp.float32(jnp.inf), jnp.float32(-jnp.inf), jnp.float32(0)

    def children(self, rng_key: Any, logits: Any, factor: Factor, **given: Any) -> Children:
        log_q, perturbed, threshold, log_included = given["state"]
        log_target, checks = local_target(logits, factor, given["mask"], given["active"], given["axis_name"])
        total = log_sum_exp(log_target)
        log_q = log_q + jnp.where(jnp.isneginf(log_target), -jnp.inf, log_target - total)
        values = _below(perturbed, log_q - jnp.log(exponential(rng_key, log_q.shape)))
        ranks, outcomes = lax.top_k(values, min(self.num_beams + 1, values.shape[0]))
        shared = jax.tree.map(lambda x: jnp.full(ranks.shape, x), (threshold, log_included))
        states = (log_q[outcomes], ranks, *shared)
        return Children(outcomes.astype(jnp.int32), log_target[outcomes], ranks, states, checks)

    def select(self, rng_key: Any, log_weights: Any, children: Children) -> tuple[Array, Choice]:
        del rng_key
        N = log_weights.shape[0]
        threshold = children.states[2][0, 0]
        # A dead text's children do not compete, and what is not above the threshold has no weight for ever.
        ranks = jnp.where(
            (log_weights[:, None] > -jnp.inf) & (children.ranks > threshold), children.ranks, -jnp.inf
        )
        ranks = jnp.pad(ranks.reshape(-1), (0, 1), constant_values=-jnp.inf)
        best, flat = lax.top_k(ranks, N + 1)
        threshold = jnp.maximum(threshold, best[N])
        parents, choice = pick(children, flat[:N], best[:N] > -jnp.inf)
        log_q, perturbed, _, before = choice.state
        exists = choice.log_weight > -jnp.inf
        after = jnp.where(exists, _log_included(log_q, threshold), 0.0)
        state = (log_q, perturbed, jnp.full(N, threshold), after)
        log_weight = jnp.where(exists, choice.log_weight + before - after, -jnp.inf)
        return parents, choice._replace(log_weight=log_weight, state=state)


class StochasticBeam(Sampler):
    r"""N different texts, drawn without replacement, with unbiased weights.

    Texts are drawn from the locally constrained distribution :math:`q(x) = \prod_t p\phi(x_t) / Z_t` by the
    Gumbel-top-k trick, run down the tree of texts: with independent Gumbel noise on every text's
    log-probability, the N largest perturbed values are a sample without replacement, and the largest below a
    node is enough to go on with. Let :math:`\kappa` be the largest perturbed value that was dropped. It does
    not depend on the noise of a text above it, and with its own noise a text is above it with probability
    :math:`q_\kappa(x) = 1 - \exp(-\exp(\log q(x) - \kappa))`. So

    .. math:: \sum_{x \in \text{beam}} \frac{\gamma(x)}{q_\kappa(x)} f(x)

    is unbiased for :math:`\sum_x \gamma(x) f(x)`, with :math:`\gamma` the program's unnormalised posterior:
    :attr:`log_weights` are :math:`\log N \gamma(x) / q_\kappa(x)`. Where the beam holds all texts nothing was
    dropped, and everything is exact. Dead ends free their places, but not for texts below a value that was
    dropped before them: these would not have entered, had the threshold been known.

    The programs are those of :class:`BeamSearch`.

    Kool, van Hoof and Welling 2019, "Stochastic beams and where to find them", sections 4.1 and 4.2.

    :param model: a NumPyro model.
    :param num_beams: N, at least 1.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=3, where=sx.regex("a*"))
    >>> beam = StochasticBeam(model, num_beams=8)
    >>> beam.run(jax.random.key(0), lm.prompt())
    >>> sorted((text, round(p, 3)) for text, p in beam.posterior("text").items())
    [('', 0.643), ('a', 0.214), ('aa', 0.071), ('aaa', 0.071)]
    """

    def __init__(self, model: Callable[..., Any], *, num_beams: int = 8, progress_bar: bool = False) -> None:
        super().__init__(_PerturbedBest(model, num_beams), num_particles=num_beams, progress_bar=progress_bar)


class _Offspring(JointKernel):
    """Several draws of another kernel for each particle."""

    takes_latents = True

    def __init__(self, kernel: Kernel, beam_factor: int) -> None:
        super().__init__(kernel.model)
        self.kernel, self.beam_factor = kernel, beam_factor
        self.use_masks, self.uses_proposals = kernel.use_masks, kernel.uses_proposals
        self.method = kernel.method  # type: ignore[misc]

    def start(self) -> Any:
        return self.kernel.start()

    def root(self, index: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.zeros_like(index, jnp.float32)

    def children(self, rng_key: Any, logits: Any, factor: Factor, **given: Any) -> Children:
        draws = jax.vmap(lambda key: self.kernel.draw(key, logits, factor, **given))(
            random.split(rng_key, self.beam_factor)
        )
        # The same outcome drawn twice is one child: the first of them carries the weight of all.
        same = draws.outcome[:, None] == draws.outcome
        log_weights = jax.vmap(lambda row: log_sum_exp(jnp.where(row, draws.log_weight, -jnp.inf)))(same)
        first = jnp.argmax(same, axis=1) == jnp.arange(self.beam_factor)
        log_weights = jnp.where(first, log_weights - jnp.log(jnp.float32(self.beam_factor)), -jnp.inf)
        return Children(draws.outcome, log_weights, log_weights, draws.state, draws.checks.sum())

    def select(self, rng_key: Any, log_weights: Any, children: Children) -> tuple[Array, Choice]:
        N = log_weights.shape[0]
        candidates = (log_weights[:, None] + children.log_weights).reshape(-1)
        flat, after = optimal_resampling(rng_key, candidates, N)
        exists = after > -jnp.inf
        parents, choice = pick(children, flat, exists)
        before = jnp.where(exists, log_weights[parents], 0.0)
        return parents, choice._replace(log_weight=jnp.where(exists, after - before, -jnp.inf))


class SMCSteering(Sampler):
    r"""SMC in which every particle proposes several continuations, thinned without replacement.

    At each step every particle makes `beam_factor` properly weighted draws of the kernel, those with the
    same outcome are put together, and N of all are kept by Fearnhead and Clifford's optimal resampling: heavy
    ones as they are, of the light ones some, at a common weight. The evidence estimate stays unbiased, and
    there are no two copies of one continuation of one particle.

    The programs are those whose scans have exactly one site of finite support in each step and no other
    latent sites in it. Outside of scans anything goes.

    Lew, Zhi-Xuan, Grand and Mansinghka 2023, "Sequential Monte Carlo steering of large language models",
    section 3.

    :param kernel: a model in its kernel: `AWRS(model)`, `Prior(model)`. (`LocallyConstrained` draws exactly:
        its draws differ in their outcomes alone.)
    :param num_particles: N, at least 1.
    :param beam_factor: M, draws of each particle, at least 1.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=4, where=sx.regex("(ab)*"))
    >>> smc = SMCSteering(sx.AWRS(model), num_particles=16, beam_factor=3)
    >>> smc.run(jax.random.key(0), lm.prompt())
    >>> set(smc.posterior("text")) <= {'', 'ab', 'abab'}
    True
    """

    def __init__(
        self, kernel: Kernel, *, num_particles: int = 8, beam_factor: int = 3, progress_bar: bool = False
    ) -> None:
        if isinstance(beam_factor, bool) or not isinstance(beam_factor, int) or beam_factor < 1:
            raise ValueError(f"beam_factor must be an integer of at least 1, got {beam_factor!r}")
        if not isinstance(kernel, Kernel):
            raise TypeError(f"SMCSteering runs a kernel around a model, got {type(kernel).__name__}")
        joint = _Offspring(kernel, beam_factor)
        super().__init__(joint, num_particles=num_particles, progress_bar=progress_bar)
        self.beam_factor = beam_factor


def _below(maximum: Float[Array, ""], values: Float[Array, " V"]) -> Float[Array, " V"]:
    """Perturbed values, given that their largest is `maximum` (`+inf`: given nothing).

    Kool et al. 2019, appendix B.3: a shift of the exponentials' times, in a form that does not cancel.
    """
    peak = jnp.max(values)
    peak = jnp.where(jnp.isfinite(peak), peak, 0.0)
    finite = jnp.where(jnp.isposinf(maximum), 0.0, maximum)
    v = finite - values + _log1mexp(jnp.minimum(values - peak, 0.0))
    below = finite - jnp.maximum(v, 0.0) - jnp.log1p(jnp.exp(-jnp.abs(v)))
    return jnp.where(jnp.isposinf(maximum) | jnp.isneginf(values), values, below)


def _log1mexp(x: Array) -> Array:
    """`log(1 - exp(x))` for `x <= 0`."""
    near = x > -0.6931472
    return jnp.where(
        near, jnp.log(-jnp.expm1(jnp.where(near, x, -1.0))), jnp.log1p(-jnp.exp(jnp.where(near, -1.0, x)))
    )


def _log_included(log_q: Array, threshold: Array) -> Array:
    r""":math:`\log q_\kappa`, the log-probability that a text's perturbed value is above the threshold."""
    log_rate = jnp.where(jnp.isneginf(log_q), -jnp.inf, log_q - threshold)  # +inf: nothing was dropped
    rate = jnp.exp(jnp.minimum(log_rate, 80.0))
    return jnp.where(log_rate < -15.0, log_rate, jnp.log(-jnp.expm1(-rate)))


__all__ = ["BeamSearch", "SMCSteering", "StochasticBeam"]
