"""Goal inference as a NumPyro program: a text that somebody wants, seen through what they do."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.contrib.control_flow import scan

from sentax.domains.goal_inference.bayesian.agents import log_policy
from sentax.domains.goal_inference.bayesian.scenes import Scene
from sentax.ppl.language_model import Context
from sentax.ppl.primitives import generate

RATIONALITY = dist.LogNormal(0.0, 0.5)
r"""The prior of :math:`\beta` unless one is given: half of all agents lie between 0.7 and 1.4."""


@dataclasses.dataclass(frozen=True)
class GoalProgram:
    r"""A Bayesian theory of mind (Baker, Saxe and Tenenbaum 2009) whose goals are text.

    .. math::
        g \sim p_{\text{LM}}(\cdot \mid \text{prompt})\,1[g \in \text{language}],\qquad
        \beta \sim \text{rationality},\qquad
        p(a_t \mid s_t, g, \beta) \propto e^{-\beta Q^*(s_t, a_t, g)},

    and, where there is one, :math:`p_{\text{LM}}(\text{instruction} \mid g)`. Observations arrive one a step of
    a `scan`, so that a particle filter weighs after each of them.

    A NumPyro program of a context and a :class:`Scene`, which knows the instruction's probability if there was
    one. Its sites are `goal` (a text), `beta`, and in the scan `action`, observed, and `rationality`, which is
    `beta` again, so that streams show it by lineage; `instruction` is a factor.

    :param max_tokens: the most tokens a goal may have.
    :param rationality: the prior of :math:`\beta`, over positive numbers.
    :param num_strata: draw :math:`\beta` by :func:`stratified` among so many strata; 1: from its prior as it
        is. The distribution is the same. A kernel that spreads its draws (`ArithmeticSampling`) then covers
        :math:`\beta` evenly for each goal.
    :param stop: as of :func:`sentax.generate`.

    >>> import jax, sentax as sx
    >>> from sentax.domains.goal_inference.bayesian import Gridworld, Scene
    >>> world = Gridworld("1..@..2")
    >>> scene = Scene.of(world, world.goals, world.observe(["left", "left"]))
    >>> lm = sx.TableLM.uniform([text.encode() for text in world.goals])
    >>> smc = sx.SMC(sx.LocallyConstrained(GoalProgram(max_tokens=2)), num_particles=64)
    >>> smc.run(jax.random.key(0), lm.prompt(), scene)
    >>> next(iter(smc.posterior("goal")))
    ' (has gem1)))'
    """

    max_tokens: int
    rationality: dist.Distribution = dataclasses.field(default=RATIONALITY, repr=False, compare=False)
    num_strata: int = 1
    stop: str | None = None

    def __call__(self, context: Context, scene: Scene) -> None:
        text = generate("goal", context, self.max_tokens, where=scene.language.automaton, stop=self.stop)
        goal = scene.language.number(text)
        if self.num_strata == 1:
            beta = numpyro.sample("beta", self.rationality)
        else:
            beta = stratified("beta", self.rationality, self.num_strata)
        numpyro.factor("instruction", scene.log_instruction[goal])

        def observe(carry: Any, now: Any) -> Any:
            state, action = now
            numpyro.deterministic("rationality", beta)
            # A step without an action says nothing: it has probability one.
            with numpyro.handlers.mask(mask=action >= 0):
                policy = dist.Categorical(logits=log_policy(beta, scene.costs[goal, state]))
                numpyro.sample("action", policy, obs=jnp.maximum(action, 0))
            return carry, None

        scan(observe, (), (scene.states, scene.actions))

    @property
    def observing(self) -> int:
        """The number of the scan in which observations arrive, from 0."""
        return 1 if self.num_strata == 1 else 2


def stratified(name: str, distribution: dist.Distribution, num_strata: int) -> Float[Array, ""]:
    """A latent of one dimension, as one of equally likely strata and a place in it.

    The same as `numpyro.sample(name, distribution)` in law, but the stratum, `name/stratum`, is a site of
    finite support in a scan: a sampler's kernel draws it as it draws tokens, and may do so evenly.

    :param distribution: continuous, with an inverse distribution function (`icdf`).
    :param num_strata: how many.
    """

    def choose(carry: Any, _: Any) -> Any:
        return carry, numpyro.sample(f"{name}/stratum", dist.Categorical(logits=jnp.zeros(num_strata)))

    _, stratum = scan(choose, (), None, length=1)
    within = numpyro.sample(f"{name}/within", dist.Uniform(0.0, 1.0))
    return numpyro.deterministic(name, distribution.icdf((stratum[0] + within) / num_strata))


__all__ = ["RATIONALITY", "GoalProgram", "stratified"]
