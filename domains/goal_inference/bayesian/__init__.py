"""Bayesian goal inference: what an agent wants is a text, what it does tells.

.. code-block:: python

    import jax, sentax as sx
    from sentax.domains.goal_inference.bayesian import BlocksWorld, GoalProgram, Scene, beliefs

    world = BlocksWorld(["b1", "b2", "b3"])
    lm = sx.NGramLM.train([...])  # how goals of this kind are written
    start = world.state([("on", "b1", "b2"), ("on-table", "b2"), ("on-table", "b3"), ("clear", "b1")])
    seen = world.observe(start, ["unstack b1 b2", "stack b1 b3"])
    scene = Scene.of(world, world.goals(max_facts=2, predicates=["on"]), seen)
    smc = sx.SMC(sx.ArithmeticSampling(GoalProgram(max_tokens=32, num_strata=64)), num_particles=256)
    for belief in beliefs(smc, jax.random.key(0), lm.prompt(), scene):
        print(belief.step, belief.goals)
"""

from sentax.domains.goal_inference.bayesian.agents import Observations, act, follow, log_policy
from sentax.domains.goal_inference.bayesian.beliefs import Belief, beliefs
from sentax.domains.goal_inference.bayesian.blocks import BlocksWorld
from sentax.domains.goal_inference.bayesian.exact import ExactPosterior, enumerate_goals
from sentax.domains.goal_inference.bayesian.gridworld import Gridworld
from sentax.domains.goal_inference.bayesian.languages import FiniteLanguage
from sentax.domains.goal_inference.bayesian.planning import action_costs, shortest_paths, value_iteration
from sentax.domains.goal_inference.bayesian.plots import plot_beliefs, plot_gridworld, plot_rationality
from sentax.domains.goal_inference.bayesian.programs import (
    RATIONALITY,
    GoalProgram,
    stratified,
)
from sentax.domains.goal_inference.bayesian.scenes import Scene, World, reachable

__all__ = [
    "RATIONALITY",
    "Belief",
    "BlocksWorld",
    "ExactPosterior",
    "FiniteLanguage",
    "GoalProgram",
    "Gridworld",
    "Observations",
    "Scene",
    "World",
    "act",
    "action_costs",
    "beliefs",
    "enumerate_goals",
    "follow",
    "log_policy",
    "plot_beliefs",
    "plot_gridworld",
    "plot_rationality",
    "reachable",
    "shortest_paths",
    "stratified",
    "value_iteration",
]
