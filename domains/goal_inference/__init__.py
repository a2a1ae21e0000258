"""Goal inference: what somebody wants, from English to a goal in PDDL.

A program of one's own: the grammar of goals, and the end of a plan that the goal must agree with.

.. code-block:: python

    import jax, sentax as sx
    from sentax.domains.goal_inference import GoalInference

    domain = GoalInference()
    task = domain.sample()[1]

    def model(context, where):
        return sx.generate("goal", context, max_tokens=64, where=where, stop=domain.stop)

    smc = sx.SMC(sx.AWRS(model), num_particles=8)
    context = sx.load().prompt(domain.prompt(task))
    smc.run(jax.random.key(0), context, domain.cheap(task) & domain.dear(task))
    posterior = smc.posterior("goal")
    accuracy = sum(p * domain.score(task, goal) for goal, p in posterior.items())
"""

from sentax.domains.goal_inference.data import Task
from sentax.domains.goal_inference.domain import GoalInference, PlanCheck
from sentax.domains.goal_inference.goals import complete, equivalent
from sentax.domains.goal_inference.pddl import Atom, PDDLError, Problem, read_goal, read_problem, write_goal
from sentax.domains.goal_inference.strips import Action, PlanError, find_plan, simulate

__all__ = [
    "Action",
    "Atom",
    "GoalInference",
    "PDDLError",
    "PlanCheck",
    "PlanError",
    "Problem",
    "Task",
    "complete",
    "equivalent",
    "find_plan",
    "read_goal",
    "read_problem",
    "simulate",
    "write_goal",
]
