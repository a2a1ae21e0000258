"""As many particles as the targets need and the budget pays for."""

import numpy as np
import pytest
from jax import random
from reference.programs import PROGRAMS

import sentax as sx
from sentax.inference.budget import Budget, BudgetedSMC, Pilot, make_plan

# 4 runs of 10 particles; the relative variance of their evidences is 0.1, so 1.0 for one particle.
PILOT = Pilot(
    10,
    np.log(1.0 + np.sqrt(0.075) * np.array([1.0, -1.0, 1.0, -1.0])),
    np.array([4.0, 6.0, 5.0, 5.0]),
    Budget(tokens=400, checks=800, seconds=0.0),
)


@pytest.mark.parametrize(
    ("target_se", "target_ess", "budget", "expected", "limit"),
    [
        (0.1, None, {}, 128, None),  # 1.0 / 0.1^2 = 100, and up
        (0.25, None, {}, 16, None),
        (None, 30.0, {}, 64, None),  # half of the particles are effective: 60, and up
        (0.25, 30.0, {}, 64, None),
        (0.1, None, {"tokens": 1000.0}, 48, "tokens"),  # 600 left at 10 a particle: 60, and down
        (0.1, None, {"tokens": 1400.0, "checks": 1200.0}, 16, "checks"),  # 400 left at 20 a particle: 20
        (0.1, None, {"tokens": 100.0}, 1, "tokens"),  # the pilot has cost more already
        (0.25, None, {"tokens": 1000.0}, 16, "tokens"),
    ],
)
def test_plan(target_se, target_ess, budget, expected, limit):
    plan = make_plan(
        PILOT, target_se=target_se, target_ess=target_ess, budget=Budget(**budget), max_particles=4096
    )
    assert (plan.num_particles, plan.limit) == (expected, limit)
    assert plan.expected_se == pytest.approx(np.sqrt(1.0 / expected))
    assert plan.meets_targets == (target_se is None or plan.expected_se <= target_se)


def test_a_pilot_that_dies():
    dead = Pilot(2, np.full(3, -np.inf), np.zeros(3), Budget(tokens=60))
    plan = make_plan(dead, target_se=0.1, target_ess=None, budget=Budget(tokens=560), max_particles=4096)
    assert plan.num_particles == 48  # all that 500 tokens at 10 a particle pay for
    assert not plan.meets_targets and plan.expected_se == np.inf


def test_a_budgeted_run():
    """Within its budget, and the very run that its second key gives with that number of particles."""
    program = PROGRAMS["hard"]()
    smc = BudgetedSMC(
        sx.Prior(program.model), target_se=0.05, budget=Budget(tokens=3000), pilot_particles=8, pilot_runs=4
    )
    smc.run(random.key(0), *program.args)
    assert smc.plan.limit == "tokens"
    assert smc.pilot.cost.tokens + smc.diagnostics.tokens <= 3000
    alone = smc._samplers[smc.plan.num_particles]
    assert alone.num_particles == len(smc.log_weights)
    texts, log_weights = smc.texts("text"), smc.log_weights
    alone.run(random.split(random.key(0))[1], *program.args)
    np.testing.assert_array_equal(log_weights, alone.log_weights)
    assert texts == alone.texts("text")


def test_options_are_checked():
    kernel = sx.Prior(lambda: None)
    with pytest.raises(ValueError, match="needs target_se, target_ess or a budget"):
        BudgetedSMC(kernel)
    with pytest.raises(ValueError, match="target_se must be positive"):
        BudgetedSMC(kernel, target_se=0.0)
    with pytest.raises(ValueError, match="num_runs is chosen by BudgetedSMC"):
        BudgetedSMC(kernel, target_se=0.1, num_runs=3)
    with pytest.raises(ValueError, match="pilot_runs must be at least 2"):
        BudgetedSMC(kernel, target_se=0.1, pilot_runs=1)
