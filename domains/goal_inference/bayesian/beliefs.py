"""What an observer believes, step by step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float

from sentax.domains.goal_inference.bayesian.programs import GoalProgram
from sentax.domains.goal_inference.bayesian.scenes import Scene
from sentax.inference.smc import SMC
from sentax.inference.streaming import Snapshot
from sentax.ppl.language_model import Context


@dataclasses.dataclass(frozen=True)
class Belief:
    """Weighted particles after some observations.

    :param step: how many actions have been seen.
    :param texts: the particles' goals; `rationality`, `log_weights`: `[N]`.
    """

    step: int
    texts: list[str] = dataclasses.field(repr=False)
    rationality: Float[np.ndarray, " N"] = dataclasses.field(repr=False)
    log_weights: Float[np.ndarray, " N"] = dataclasses.field(repr=False)

    @property
    def weights(self) -> Float[np.ndarray, " N"]:
        """Normalised."""
        w = np.exp(self.log_weights.astype(np.float64) - self.log_weights.max())
        return w / w.sum()

    @property
    def goals(self) -> dict[str, float]:
        """The posterior over goals so far, most probable first."""
        table: dict[str, float] = {}
        for text, weight in zip(self.texts, self.weights):
            if weight > 0:
                table[text] = table.get(text, 0.0) + float(weight)
        return dict(sorted(table.items(), key=lambda item: -item[1]))

    @property
    def ess(self) -> float:
        """Effective sample size, between 1 and N."""
        return float(1 / (self.weights**2).sum())

    def rationality_quantile(self, q: float) -> float:
        r"""The weighted quantile of :math:`\beta` so far."""
        order = np.argsort(self.rationality)
        above = np.cumsum(self.weights[order])
        return float(self.rationality[order][min(np.searchsorted(above, q * above[-1]), len(order) - 1)])


def beliefs(smc: SMC, rng_key: Any, context: Context, scene: Scene) -> Iterator[Belief]:
    """Runs a :class:`GoalProgram` and yields what is believed before the first action and after each.

    When it is exhausted the sampler has its results, as after `smc.run(rng_key, context, scene)`.

    :param smc: `SMC` around a kernel of a goal program.
    :raises TypeError: if it runs another program.

    >>> import jax, sentax as sx
    >>> from sentax.domains.goal_inference.bayesian import Gridworld, Scene
    >>> world = Gridworld("1..@..2")
    >>> scene = Scene.of(world, world.goals, world.observe(["left", "right", "left", "left"]))
    >>> lm = sx.TableLM.uniform([text.encode() for text in world.goals])
    >>> smc = sx.SMC(sx.LocallyConstrained(GoalProgram(max_tokens=2)), num_particles=256)
    >>> course = list(beliefs(smc, jax.random.key(0), lm.prompt(), scene))
    >>> [belief.step for belief in course]
    [0, 1, 2, 3, 4]
    >>> course[1].goals[" (has gem1)))"] > course[0].goals[" (has gem1)))"] < course[4].goals[" (has gem1)))"]
    True
    """
    program = smc.kernel.model
    if not isinstance(program, GoalProgram):
        raise TypeError(f"beliefs are of a GoalProgram; this sampler runs {program!r}")
    for snapshot in smc.stream(rng_key, context, scene):
        if snapshot.scan == program.observing and snapshot.step <= scene.num_steps + 1:
            yield _belief(snapshot)


def _belief(snapshot: Snapshot) -> Belief:
    return Belief(
        step=snapshot.step - 1,
        texts=snapshot.texts("goal"),
        rationality=np.asarray(snapshot.samples["rationality"])[:, snapshot.step - 1],
        log_weights=snapshot.log_weights,
    )


__all__ = ["Belief", "beliefs"]
