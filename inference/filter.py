"""The particle filter over one scan, written for one particle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax, random
from jax.extend import core as jcore
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Int

from sentax.inference import lanes
from sentax.inference.kernels.base import Kernel
from sentax.inference.messengers import Scan
from sentax.inference.partial import forwarded
from sentax.inference.resampling import Resampler
from sentax.inference.sites import SiteNumbers
from sentax.inference.step import StepOutput, StepShape, make_step


@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """Static choices of a particle filter.

    :param ess_threshold: resample before a step when the effective sample size is under this
        fraction of the number of particles; 0 never does.
    :param progress: called on the host with (scan, step, length), if given.
    :param mesh: the devices that particles are spread over, if several.
    """

    num_particles: int
    ess_threshold: float
    resampler: Resampler
    progress: Callable[[int, Any, int], None] | None = None
    mesh: Mesh | None = None


class Weight(NamedTuple):
    """A particle's weight and its life.

    :param log_weight: since the last resampling.
    :param log_evidence: of everything before it (the same for all particles).
    :param death: `[2]`: the scan (or -1 - stage outside of scans) and step where it died, or -1.
    :param cause: the number of the factor it died of, or -1.
    :param invalid: the number of the first factor that was NaN or +inf, or -1.
    """

    log_weight: Float[Array, ""]
    log_evidence: Float[Array, ""]
    death: Int[Array, " 2"]
    cause: Int[Array, ""]
    invalid: Int[Array, ""]

    @classmethod
    def initial(cls) -> Weight:
        return cls(jnp.float32(0), jnp.float32(0), jnp.full(2, -1, jnp.int32), jnp.int32(-1), jnp.int32(-1))

    def multiply(self, terms: Any, numbers: tuple[int, ...], place: tuple[Any, Any]) -> Weight:
        """The weight after some log-factors; the first that kills it is remembered."""
        new = self
        where = jnp.stack([jnp.asarray(p, jnp.int32) for p in place])
        for value, number in zip(terms, numbers, strict=True):
            wrong = jnp.isnan(value) | jnp.isposinf(value)
            alive = new.log_weight > -jnp.inf
            value = jnp.where(wrong, -jnp.inf, value)
            dies = alive & jnp.isneginf(value)
            new = new._replace(
                log_weight=jnp.where(alive, new.log_weight + value, -jnp.inf),
                death=jnp.where(dies, where, new.death),
                cause=jnp.where(dies, number, new.cause),
                invalid=jnp.where((new.invalid < 0) & alive & wrong, number, new.invalid),
            )
        return new


class ScanTrace(NamedTuple):
    """What a scan's filter leaves, trajectories rebuilt.

    :param start: the particle of the population before the scan that this one descends from.
    :param path: `[T]`, the particle it descends from at each step.
    :param ess, resampled: `[T]`, before each step, the same for all; ESS is 0 in steps not run.
    :param steps: how many steps were run.
    """

    carry: Any
    ys: Any
    sites: dict[str, Any]
    twists: dict[str, Array]
    start: Int[Array, ""]
    path: Int[Array, " T"]
    ancestors: Int[Array, " T"]
    ess: Float[Array, " T"]
    resampled: Bool[Array, " T"]
    steps: Int[Array, ""]
    checks: Int[Array, ""]
    tokens: Int[Array, ""]


class _Loop(NamedTuple):
    t: Array
    running: Array
    weight: Weight
    moving: Any
    twists: dict[str, Array]
    done: Array
    checks: Array
    tokens: Array
    history: Any
    ancestors: Array
    ess: Array
    resampled: Array


def run_scan(
    scan: Scan,
    kernel: Kernel,
    config: FilterConfig,
    weight: Weight,
    twists: dict[str, Any],
    rng_key: Array,
    shared_key: Array,
    numbers: SiteNumbers,
    place: int,
) -> tuple[Weight, ScanTrace]:
    """Runs the filter; call it under `vmap` over the particle axis.

    :param rng_key: this particle's; `shared_key`: the same for all (resampling).
    :param numbers: of site names, for the account of deaths.
    :param place: the scan's number.
    """
    T = scan.length
    xs = jax.tree.map(lambda x: x[::-1], scan.xs) if scan.reverse else scan.xs
    init = jax.tree.map(jnp.asarray, scan.init)
    step, shape, twists = _close(scan, kernel, init, xs, twists, rng_key)
    factors = tuple(numbers(name) for name in shape.names)
    numbers.methods.update(shape.methods)
    steps = _first(step, init, xs, twists, rng_key)

    # A carry leaf that a step hands on untouched is a constant of the loop, and so is what `f` captured.
    # Those that differ between particles must move with them; the rest (weights, prompts) never enter.
    leaves, treedef = jax.tree.flatten(init)
    constant = forwarded(steps.closed, len(leaves))
    fixed = {f"carry{i}": leaf for i, (leaf, c) in enumerate(zip(leaves, constant, strict=True)) if c}
    fixed |= {f"const{i}": c for i, c in enumerate(steps.closed.consts)}
    shared = {k: v for k, v in fixed.items() if not isinstance(v, jax.core.Tracer) or lanes.is_shared(v)}
    own = {k: v for k, v in fixed.items() if k not in shared}
    carried = [leaf for leaf, c in zip(leaves, constant, strict=True) if not c]

    def assemble(moving: Any) -> tuple[Any, list[Any]]:
        changing, captured = moving
        every = shared | captured
        changing = iter(changing)
        carry = [every[f"carry{i}"] if c else next(changing) for i, c in enumerate(constant)]
        return jax.tree.unflatten(treedef, carry), [every[f"const{i}"] for i in range(len(steps.closed.consts))]

    def body(loop: _Loop) -> _Loop:
        all_weights = lanes.gather(loop.weight.log_weight)
        ess = lanes.effective_sample_size(all_weights)
        need = (ess < config.ess_threshold * config.num_particles) & (ess > 0)
        ancestors = lax.cond(
            need,
            lambda: config.resampler(random.fold_in(shared_key, loop.t), all_weights),
            lambda: jnp.arange(config.num_particles, dtype=jnp.int32),
        )
        ancestor = ancestors[lanes.index()]
        # On steps without resampling nothing is copied.
        state = lanes.spread((loop.moving, loop.twists, loop.done, loop.weight), config.mesh)
        moving, twists_now, done, before = lax.cond(need, lambda s: lanes.take(s, ancestor), lambda s: s, state)
        before = before._replace(
            log_weight=jnp.where(need, 0.0, before.log_weight),
            log_evidence=before.log_evidence + jnp.where(need, lanes.log_mean_exp(all_weights), 0.0),
        )
        carry, consts = assemble(moving)
        x = jax.tree.map(lambda leaf: leaf[loop.t], xs)
        alive = before.log_weight > -jnp.inf
        out = steps(consts, carry, x, loop.t, keys[loop.t], twists_now, alive)
        after = before.multiply(out.terms, factors, (place, loop.t))
        changing = [leaf for leaf, c in zip(jax.tree.leaves(out.carry), constant, strict=True) if not c]
        busy = alive & ~done
        done_next = out.done
        running = lanes.any_of((after.log_weight > -jnp.inf) & ~done_next) if may_stop else jnp.asarray(True)
        if config.progress is not None:
            jax.debug.callback(config.progress, place, loop.t, T)
        return _Loop(
            t=loop.t + 1,
            running=running,
            weight=after,
            moving=(changing, moving[1]),
            twists=out.twists,
            done=done_next,
            checks=loop.checks + jnp.where(busy, out.checks, 0),
            tokens=loop.tokens + jnp.where(busy, out.tokens, 0),
            history=jax.tree.map(lambda h, v: h.at[loop.t].set(v), loop.history, (out.y, out.sites)),
            ancestors=loop.ancestors.at[loop.t].set(ancestor),
            ess=loop.ess.at[loop.t].set(ess),
            resampled=loop.resampled.at[loop.t].set(need),
        )

    # All steps' keys at once: each call of the generator has a fixed price, in a loop and out of it.
    keys = jax.vmap(lambda t: random.fold_in(rng_key, t))(jnp.arange(T))
    may_stop = shape.fill is not None
    history = _blank(steps.out, shape, T)
    start = _Loop(
        t=jnp.int32(0),
        running=jnp.asarray(True),
        weight=weight,
        moving=(carried, own),
        twists=twists,
        done=jnp.asarray(False),
        checks=jnp.int32(0),
        tokens=jnp.int32(0),
        history=history,
        ancestors=jnp.full(T, lanes.index(), jnp.int32),
        ess=jnp.zeros(T, jnp.float32),
        resampled=jnp.zeros(T, bool),
    )
    end = lax.while_loop(lambda loop: (loop.t < T) & loop.running, body, start)

    carry, _ = assemble(end.moving)
    path, first = _walk_back(lanes.gather(end.ancestors))
    ys, sites = lanes.take_path(end.history, path)
    if scan.reverse:
        ys, sites = jax.tree.map(lambda x: x[::-1], (ys, sites))
    trace = ScanTrace(
        carry=carry,
        ys=ys,
        sites=sites,
        twists=end.twists,
        start=first,
        path=path,
        ancestors=end.ancestors,
        ess=end.ess,
        resampled=end.resampled,
        steps=end.t,
        checks=end.checks,
        tokens=end.tokens,
    )
    return end.weight, trace


class _Steps(NamedTuple):
    """A traced step: its program with everything captured as explicit constants."""

    closed: jcore.ClosedJaxpr
    out: StepOutput

    def __call__(self, consts: list[Any], *args: Any) -> StepOutput:
        flat = jcore.jaxpr_as_fun(jcore.ClosedJaxpr(self.closed.jaxpr, consts))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(self.out), flat)


def _close(
    scan: Scan, kernel: Kernel, init: Any, xs: Any, twists: dict[str, Any], rng_key: Array
) -> tuple[Callable[..., StepOutput], StepShape, dict[str, Any]]:
    """The step function, with the twists that it names (found by a first trace) and a stable carry."""
    shape = StepShape()
    step = make_step(scan, kernel, shape)
    twists = {name: jnp.asarray(value, jnp.float32) for name, value in twists.items()}
    x = jax.tree.map(lambda leaf: leaf[0], xs)
    out = jax.eval_shape(step, init, x, jnp.int32(0), rng_key, twists, jnp.asarray(True))
    _check_carry(init, out.carry)
    return step, shape, {name: jnp.float32(0) for name in out.twists} | twists


def _first(
    step: Callable[..., StepOutput], init: Any, xs: Any, twists: dict[str, Any], rng_key: Array
) -> _Steps:
    x = jax.tree.map(lambda leaf: leaf[0], xs)
    closed, out = jax.make_jaxpr(step, return_shape=True)(
        init, x, jnp.int32(0), rng_key, twists, jnp.asarray(True)
    )
    return _Steps(closed, out)


def _check_carry(init: Any, carry: Any) -> None:
    structures: list[Any] = [jax.tree.structure(tree) for tree in (init, carry)]
    if structures[0] != structures[1]:
        raise TypeError(
            "scan: the function must return a carry of the structure it is given: "
            f"{structures[0]} became {structures[1]}"
        )
    for path, before in jax.tree_util.tree_leaves_with_path(init):
        after = dict(jax.tree_util.tree_leaves_with_path(carry))[path]
        if (before.shape, before.dtype) != (after.shape, after.dtype):
            raise TypeError(
                f"scan: carry{jax.tree_util.keystr(path)} changes from {before.dtype}{list(before.shape)} "
                f"to {after.dtype}{list(after.shape)}; it must keep its shape and dtype"
            )


def _blank(out: StepOutput, shape: StepShape, T: int) -> Any:
    """Empty records of a step's results, already filled with what the steps not run would have left."""

    def zeros(leaf: Any) -> Array:
        return jnp.zeros((T, *leaf.shape), leaf.dtype)

    ys, sites = jax.tree.map(zeros, (out.y, out.sites))
    if shape.fill is not None:
        ys = jax.tree.map(lambda y: jnp.full_like(y, shape.result), ys)
        sites = {name: jnp.full_like(value, shape.fill[name]) for name, value in sites.items()}
    return ys, sites


def _walk_back(ancestors: Int[Array, "N T"]) -> tuple[Int[Array, " T"], Int[Array, ""]]:
    """Every particle's line of descent, last step first: once, at the end."""

    def back(current: Array, parents: Array) -> tuple[Array, Array]:
        return parents[current], current

    start, path = lax.scan(back, lanes.index(), ancestors.T, reverse=True)
    return path.astype(jnp.int32), start.astype(jnp.int32)
