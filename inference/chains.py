"""What Markov chains of particles have in common: their state, their loop, their pooled results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Bool, Float, Int

from sentax.inference.engine import Population
from sentax.inference.errors import UnsupportedProgram
from sentax.inference.kernels.base import Kernel
from sentax.inference.sampler import Sampler
from sentax.inference.state import Retained, Weight


class Trajectories(NamedTuple):
    """Whole runs of the program that can be repeated in part: a state of N chains, leaves `[N, ...]`.

    Values and the weights that were drawn with them: the extended space that the kernels here leave invariant.

    :param texts: without their vocabularies, which are no part of a state.
    :param increments: for each scan `[N, T]`, what its steps multiplied the weight by.
    :param live: for each scan `[N, T]`, whether the text had not ended before the step.
    :param log_weight: `[N]`, of the whole run; `-inf`: not a state of the target.
    """

    samples: dict[str, Any]
    texts: dict[str, Any]
    rewards: dict[str, Any]
    increments: tuple[Float[Array, "N T"], ...]
    live: tuple[Bool[Array, "N T"], ...]
    weight: Weight
    log_weight: Float[Array, " N"]

    def repeat(self, cut: Int[Array, " N"]) -> Retained:
        """The first `cut` steps of each, to be gone on from."""
        return Retained(self.samples, self.increments, cut)

    def choose(self, accepted: Bool[Array, " N"], other: Trajectories) -> Trajectories:
        """The other's where accepted."""

        def one(old: Array, new: Array) -> Array:
            return jnp.where(accepted.reshape(-1, *(1,) * (old.ndim - 1)), new, old)

        return jax.tree.map(one, self, other)


def trajectories(population: Population) -> Trajectories:
    """What of a population makes it repeatable."""
    return Trajectories(
        samples=population.samples,
        texts={name: dataclasses.replace(text, vocabulary=None) for name, text in population.texts.items()},
        rewards=population.rewards,
        increments=population.increments,
        live=population.live,
        weight=population.weight,
        log_weight=population.log_weights,
    )


class Spent(NamedTuple):
    """What a step of the chains cost, and what it found out on the way.

    :param invalid: the number of a factor that was NaN or +inf in any proposal, or -1.
    :param required: conditions on the program's inputs.
    """

    checks: Int[Array, " N"]
    tokens: Int[Array, " N"]
    invalid: Int[Array, ""]
    required: dict[str, Any]
    vocabularies: dict[str, Any]

    @classmethod
    def of(cls, population: Population) -> Spent:
        # One copy of each vocabulary: it is the same for all particles.
        shared = jax.tree.map(lambda leaf: leaf[0], {n: t.vocabulary for n, t in population.texts.items()})
        invalid = jnp.max(population.weight.invalid)
        return cls(population.checks, population.tokens, invalid, population.required, shared)

    def add(self, other: Spent) -> Spent:
        return other._replace(
            checks=self.checks + other.checks,
            tokens=self.tokens + other.tokens,
            invalid=jnp.where(self.invalid < 0, other.invalid, self.invalid),
        )


Step = Callable[[Any, Trajectories], tuple[Trajectories, Any, Spent]]
"""`(rng_key, state) -> (state, figures to keep, cost)`."""


class ChainSampler(Sampler):
    """A sampler whose particles are the states of Markov chains, warm-up left out.

    All states weigh the same (or as a subclass says): `is_proper` is false, and `log_evidence` is an estimate
    of nothing. A chain that has not found a text of positive weight yet has weight 0.

    :param num_warmup: steps before the first state that is kept; `num_samples`: states kept, `thinning` steps
        apart.
    """

    is_proper = False

    def __init__(
        self,
        kernel: Kernel,
        *,
        num_particles: int,
        num_samples: int,
        num_warmup: int,
        thinning: int,
    ) -> None:
        super().__init__(kernel, num_particles=num_particles)
        for name, value, least in (
            ("num_samples", num_samples, 1),
            ("num_warmup", num_warmup, 0),
            ("thinning", thinning, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}")
        refuse_stateful(kernel)
        self.num_samples, self.num_warmup, self.thinning = num_samples, num_warmup, thinning

    def _collect(self, rng_key: Any, start: Trajectories, step: Step) -> tuple[Trajectories, Any, Spent]:
        """Kept states and figures, `[num_samples, ...]`, and what all steps cost.

        One loop for warm-up and sampling: the step is compiled once.
        """
        S = self.num_samples
        _, figures, spent = jax.eval_shape(step, rng_key, start)

        def zeros(tree: Any, *lead: int) -> Any:
            return jax.tree.map(lambda x: jnp.zeros((*lead, *x.shape), x.dtype), tree)

        def body(i: Array, course: Any) -> Any:
            state, states, kept, spent = course
            state, figures, cost = step(random.fold_in(rng_key, i), state)
            after = i + 1 - self.num_warmup
            place = jnp.where((after > 0) & (after % self.thinning == 0), after // self.thinning - 1, S)
            states, kept = jax.tree.map(
                lambda all, new: all.at[place].set(new, mode="drop"), (states, kept), (state, figures)
            )
            return state, states, kept, spent.add(cost)

        nothing = zeros(spent)._replace(invalid=jnp.int32(-1))
        course = (start, zeros(start, S), zeros(figures, S), nothing)
        end = self.num_warmup + S * self.thinning
        _, states, kept, spent = lax.fori_loop(0, end, body, course)
        return states, kept, spent

    def _pool(self, states: Trajectories, log_weights: Float[Array, "S N"], spent: Spent) -> Population:
        """States of all chains and times as one population, chains of one time side by side."""
        S, N = log_weights.shape
        M = S * N
        flat = jax.tree.map(lambda leaf: leaf.reshape(M, *leaf.shape[2:]), states)
        place = jnp.arange(M, dtype=jnp.int32)
        lengths = [x.shape[-1] for x in flat.increments]
        texts = {
            name: dataclasses.replace(text, vocabulary=spent.vocabularies[name])
            for name, text in flat.texts.items()
        }

        def total(cost: Array) -> Array:
            return jnp.zeros((S, N), cost.dtype).at[0].set(cost).reshape(M)

        return Population(
            samples=flat.samples,
            texts=texts,
            rewards=flat.rewards,
            log_weights=log_weights.reshape(M),
            required=spent.required,
            weight=flat.weight._replace(invalid=jnp.full(M, spent.invalid)),
            checks=total(spent.checks),
            tokens=total(spent.tokens),
            ancestors=tuple(jnp.broadcast_to(place[:, None], (M, T)) for T in lengths),
            increments=flat.increments,
            start=tuple(place for _ in lengths),
            ess=tuple(jnp.zeros(T, jnp.float32) for T in lengths),
            resampled=tuple(jnp.zeros(T, bool) for T in lengths),
            steps=tuple(jnp.int32(0) for _ in lengths),
            live=flat.live,
        )

    def _by_chain(self, num_chains: int) -> dict[str, np.ndarray]:
        S = self.num_samples

        def one(leaf: Any) -> np.ndarray:
            leaf = np.asarray(leaf)
            return np.swapaxes(leaf.reshape(S, num_chains, *leaf.shape[1:]), 0, 1)

        return jax.tree.map(one, dict(self.population.samples))


def dead(shape: Population) -> Trajectories:
    """A state of no weight, of the shapes of a run's results: where chains begin."""

    def zeros(leaf: Any) -> Array:
        return jnp.zeros(leaf.shape, leaf.dtype)

    state = jax.tree.map(zeros, trajectories(shape))
    return state._replace(
        log_weight=jnp.full_like(state.log_weight, -jnp.inf),
        weight=state.weight._replace(invalid=jnp.full_like(state.weight.invalid, -1)),
    )


def refuse_stateful(kernel: Kernel) -> None:
    """
    :raises UnsupportedProgram: for a kernel that carries something from draw to draw.
    """
    if jax.tree.leaves(kernel.start()):
        raise UnsupportedProgram(
            f"{type(kernel).__name__} carries a state from draw to draw, which a trajectory that is repeated "
            "does not have: use AWRS, LocallyConstrained or Prior"
        )


__all__ = ["ChainSampler", "Spent", "Trajectories", "dead", "refuse_stateful", "trajectories"]
