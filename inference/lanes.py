"""Single-particle code that knows it is one of many: collectives over the particle axis.

The engine is written for one particle and run under `jax.vmap(..., axis_name=PARTICLES)`. What does
not depend on the particle (weights, the prompt's cache, slot counters) stays unbatched by itself.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

PARTICLES = "particles"


def gather(x: Any) -> Any:
    """Every particle's value, `[N, ...]`, the same for all of them (so it is computed once)."""
    return jax.tree.map(lambda leaf: lax.all_gather(leaf, PARTICLES), x)


def any_of(condition: Bool[Array, ""], axis_name: str | None = PARTICLES) -> Bool[Array, ""]:
    """Whether the condition holds for any particle.

    A loop whose condition is made of this one is a loop under `vmap` too, and its body needs no
    `select` over its state: JAX sees that the predicate does not depend on the particle.
    """
    return condition if axis_name is None else lax.pmax(condition.astype(jnp.int32), axis_name) > 0


def mesh_of(tree: Any) -> Mesh | None:
    """The mesh with a particle axis that some array of `tree` lives on, if there is one."""
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(leaf, "sharding", None)
        mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
        if isinstance(mesh, Mesh) and PARTICLES in mesh.axis_names:
            return mesh
    return None


def spread(x: Any, mesh: Mesh | None) -> Any:
    """`x`, with every leaf that differs between particles cut along the mesh's particle axis.

    Takes effect under `vmap(..., spmd_axis_name=PARTICLES)`. The other axes are XLA's to cut.
    """
    if mesh is None:
        return x

    def constrained(leaf: Array) -> Array:
        spec = PartitionSpec(*(PartitionSpec.UNCONSTRAINED for _ in range(leaf.ndim)))
        return lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(constrained, x)


def everywhere(x: Any, mesh: Mesh | None) -> Any:
    """`x`, whole on every device, so that every process can read it."""
    return x if mesh is None else lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec()))


def index() -> Int[Array, ""]:
    return lax.axis_index(PARTICLES)


# A particle's leaf is replaced by its ancestor's; a shared leaf is left alone, without a copy. The rule
# must see the particle axis even where the leaf does not have it: `ancestor` always does.
@jax.custom_batching.custom_vmap
def _take(leaf: Array, ancestor: Array) -> Array:
    del ancestor
    return leaf


@_take.def_vmap
def _take_rule(axis_size: int, in_batched: Any, leaf: Array, ancestor: Array) -> Any:
    del axis_size
    leaf_batched, ancestor_batched = in_batched
    if leaf_batched and ancestor_batched:
        return leaf[ancestor], True
    return leaf, leaf_batched


def take(x: Any, ancestor: Int[Array, ""]) -> Any:
    """The ancestor's value of every leaf of `x`.

    :param ancestor: this particle's ancestor; must depend on the particle.
    """
    return jax.tree.map(lambda leaf: _take(leaf, ancestor), x)


@jax.custom_batching.custom_vmap
def _take_path(history: Array, path: Array) -> Array:
    del path
    return history


@_take_path.def_vmap
def _take_path_rule(axis_size: int, in_batched: Any, history: Array, path: Array) -> Any:
    del axis_size
    history_batched, path_batched = in_batched
    if history_batched and path_batched:
        return history[path, jnp.arange(history.shape[1])], True
    return history, history_batched


def take_path(histories: Any, path: Int[Array, " T"]) -> Any:
    """At each time `t`, the value that particle `path[t]` had: a trajectory out of `[T, ...]` records."""
    return jax.tree.map(lambda leaf: _take_path(leaf, path), histories)


def is_shared(leaf: Any) -> bool:
    """Whether a traced value is the same for all particles; known while tracing."""
    batched: list[bool] = []

    @jax.custom_batching.custom_vmap
    def probe(x: Array, i: Array) -> Array:
        del i
        return x

    @probe.def_vmap
    def rule(axis_size: int, in_batched: Any, x: Array, i: Array) -> Any:
        del axis_size, i
        batched.append(in_batched[0])
        return x, in_batched[0]

    probe(leaf, index())
    # An outer vmap (many runs at once) calls the rule again, last: the particle axis is the first.
    return not batched[0] if batched else True


def log_mean_exp(log_weights: Float[Array, " N"]) -> Float[Array, ""]:
    """`log(mean(exp(...)))`, `-inf` (never NaN) where all are dead."""
    return log_sum_exp(log_weights) - jnp.log(jnp.float32(log_weights.shape[0]))


def log_sum_exp(log_weights: Float[Array, " N"]) -> Float[Array, ""]:
    peak = jnp.max(log_weights)
    peak = jnp.where(jnp.isfinite(peak), peak, 0.0)
    return jnp.log(jnp.sum(jnp.exp(log_weights - peak))) + peak


def effective_sample_size(log_weights: Float[Array, " N"]) -> Float[Array, ""]:
    """`(sum w)^2 / sum w^2`, between 1 and N; 0 where all are dead."""
    peak = jnp.max(log_weights)
    w = jnp.exp(log_weights - jnp.where(jnp.isfinite(peak), peak, 0.0))
    squares = jnp.sum(w * w)
    return jnp.where(squares > 0, jnp.sum(w) ** 2 / jnp.where(squares > 0, squares, 1.0), 0.0)
