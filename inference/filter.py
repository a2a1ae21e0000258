"""The particle filter over one scan, written for one particle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax, random
from jax.extend import core as jcore
from jax.interpreters import partial_eval as pe
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from sentax.inference import lanes
from sentax.inference.ancestor_sampling import sample_ancestor
from sentax.inference.control import Control, Decision
from sentax.inference.errors import UnsupportedProgram
from sentax.inference.kernels.base import Kernel
from sentax.inference.messengers import Scan
from sentax.inference.partial import forwarded
from sentax.inference.record import Record
from sentax.inference.selection import Choice, JointKernel
from sentax.inference.sites import SiteNumbers
from sentax.inference.state import Loop, Retained, ScanTrace, Weight
from sentax.inference.step import StepOutput, StepShape, make_step
from sentax.inference.suffix_moves import Moved, SuffixMoves


@dataclasses.dataclass(frozen=True)
class FilterConfig:
    """Static choices of a particle filter.

    :param control: when and how particles are resampled.
    :param progress: called on the host with (scan, step, length, ess, log_evidence), if given.
    :param mesh: the devices that particles are spread over, if several.
    :param kills: whether a factor of 0 ends a particle. Otherwise it counts as
        :data:`~sentax.inference.state.VIOLATION`, so that the program is run to its end and its weight
        still tells.
    :param rejuvenate: moves that particles make between steps (:class:`~.suffix_moves.SuffixMoves`).
    :param ancestor_sampling: whether a retained particle 0 may change its past at a resampling.
    """

    num_particles: int
    control: Control
    progress: Callable[[int, Any, int, Any, Any], None] | None = None
    mesh: Mesh | None = None
    kills: bool = True
    rejuvenate: SuffixMoves | None = None
    ancestor_sampling: bool = False

    def __post_init__(self) -> None:
        control = self.control
        if self.rejuvenate is not None and (control.tempering is not None or control.conditional):
            raise ValueError(
                "moves inside SMC do not go with tempering (which weighs a past that moves replace) or with "
                "conditional SMC (whose retained particle stays): leave rejuvenate out"
            )

    @property
    def flat(self) -> bool:
        """Whether each particle carries its own past along, because it may be rewritten."""
        return self.rejuvenate is not None or self.ancestor_sampling


class ScanFilter:
    """The filter of one scan, traced: a start, a loop, an end. Use it under `vmap` over the particle axis.

    :param rng_key: this particle's; `shared_key`: the same for all (resampling).
    :param numbers: of site names, for the account of deaths.
    :param place: the scan's number; `offset`: how many steps the scans before it have.
    :param kernel_state: what the kernel carried out of the scan before.
    :param retained: what this particle repeats of an earlier run, if anything.
    :param remainder: what the program adds after this scan (:func:`~.ancestor_sampling.log_remainder`).
    """

    blank: dict[str, Any] | None = None

    def __init__(
        self,
        scan: Scan,
        kernel: Kernel,
        config: FilterConfig,
        twists: dict[str, Any],
        rng_key: Array,
        shared_key: Array,
        numbers: SiteNumbers,
        place: int,
        *,
        offset: int = 0,
        kernel_state: Any = (),
        retained: Retained | None = None,
        remainder: Callable[..., Any] | None = None,
    ) -> None:
        self.remainder = remainder
        self.scan, self.kernel, self.config, self.place, self.offset = scan, kernel, config, place, offset
        self.rng_key, self.shared_key, self.retained = rng_key, shared_key, retained
        self.kernel_state = kernel_state
        self.xs = jax.tree.map(lambda x: x[::-1], scan.xs) if scan.reverse else scan.xs
        init = jax.tree.map(jnp.asarray, scan.init)
        step, self.shape, self.twists = _close(self, init, twists)
        self.factors = tuple(numbers(name) for name in self.shape.names)
        numbers.methods.update(self.shape.methods)
        self.steps = _first(self, step, init)
        numbers.units.update(self.steps.out.units)
        self.joint = kernel if isinstance(kernel, JointKernel) else None
        if self.joint is not None:
            self.offers = _offers(self)

        # A carry leaf that a step hands on untouched is a constant of the loop, and so is what `f` captured.
        # Those that differ between particles must move with them; the rest (weights, prompts) never enter.
        leaves, self.treedef = jax.tree.flatten(init)
        self.constant = forwarded(self.steps.closed, len(leaves))
        both = list(zip(leaves, self.constant, strict=True))
        fixed = {f"carry{i}": leaf for i, (leaf, c) in enumerate(both) if c}
        fixed |= {f"const{i}": c for i, c in enumerate(self.steps.closed.consts)}
        self.shared = {
            k: v for k, v in fixed.items() if not isinstance(v, jax.core.Tracer) or lanes.is_shared(v)
        }
        self.own = {k: v for k, v in fixed.items() if k not in self.shared}
        self.carried = [leaf for leaf, c in both if not c]
        # All steps' keys at once: each call of the generator has a fixed price, in a loop and out of it.
        self.keys = jax.vmap(lambda t: random.fold_in(rng_key, t))(jnp.arange(scan.length))

    def start(self, weight: Weight) -> Loop:
        """Before the first step."""
        T = self.scan.length
        return Loop(
            t=jnp.int32(0),
            running=jnp.asarray(True),
            weight=weight,
            moving=(self.carried, self.own),
            twists=self.twists,
            kernel_state=self.kernel_state,
            done=jnp.asarray(False),
            boundary=jnp.asarray(True),
            checks=jnp.int32(0),
            tokens=jnp.int32(0),
            history=(*_blank(self.steps.out, self.shape, T), jnp.zeros(T, jnp.float32), jnp.zeros(T, bool)),
            ancestors=jnp.full(T, lanes.index(), jnp.int32),
            ess=jnp.zeros(T, jnp.float32),
            resampled=jnp.zeros(T, bool),
            record=Record.blank(self.steps.out.draws, T, lanes.index(), weight.total, weight.cause),
        )

    def run(self, loop: Loop, until: Int[Array, ""] | int | None = None) -> Loop:
        """Steps until `until` (or the scan's end), or until no particle has anything left to do."""
        end = self.scan.length if until is None else jnp.minimum(until, self.scan.length)
        return lax.while_loop(lambda loop: (loop.t < end) & loop.running, self.body, loop)

    def assemble(self, moving: Any) -> tuple[Any, list[Any]]:
        """A particle's whole carry, and what the step captured."""
        changing, captured = moving
        every = self.shared | captured
        changing = iter(changing)
        carry = [every[f"carry{i}"] if c else next(changing) for i, c in enumerate(self.constant)]
        consts = [every[f"const{i}"] for i in range(len(self.steps.closed.consts))]
        return jax.tree.unflatten(self.treedef, carry), consts

    def carry_leaves(self, moving: Any) -> list[Any]:
        """A particle's carry for :class:`~sentax.inference.messengers.Finished`."""
        changing, captured = iter(moving[0]), moving[1]
        return [captured.get(f"carry{i}") if c else next(changing) for i, c in enumerate(self.constant)]

    def given(self, t: Int[Array, ""]) -> tuple[dict[str, Any], Bool[Array, ""]] | None:
        """What step `t` repeats of an earlier run, and whether it does."""
        if self.retained is None:
            return None if self.blank is None else (self.blank, jnp.asarray(False))
        return self.sites_at(self.retained, t), self.offset + t < self.retained.cut

    def sites_at(self, retained: Retained, t: Int[Array, ""]) -> dict[str, Any]:
        """This scan's sites in step `t` of an earlier run."""
        return {name: self._at(value, t) for name, value in retained.samples.items() if self._is_own(value)}

    def _is_own(self, value: Any) -> bool:
        return all(jnp.ndim(v) > 0 and jnp.shape(v)[0] == self.scan.length for v in jax.tree.leaves(value))

    def _at(self, value: Any, t: Int[Array, ""]) -> Any:
        return jax.tree.map(lambda v: v[self.scan.length - 1 - t if self.scan.reverse else t], value)

    def body(self, loop: Loop) -> Loop:
        """One step: resample, run the program's step, weigh."""
        config = self.config
        decision, choice = self._decide(loop) if self.joint is None else self._choose(loop, self.joint)
        if config.ancestor_sampling:
            decision = sample_ancestor(self, loop, decision)
        # On steps without resampling nothing is copied.
        past = (loop.history, loop.ancestors[0]) if config.flat else ()
        state = (loop.moving, loop.twists, loop.kernel_state, loop.done, loop.weight, past)
        state = lanes.spread(state, config.mesh)
        moving, twists, kernel_state, done, before, past = lax.cond(
            decision.need, lambda s: lanes.take(s, decision.ancestor), lambda s: s, state
        )
        before = before._replace(log_weight=decision.log_weight, log_evidence=decision.log_evidence)
        history, ancestors = loop.history, loop.ancestors.at[loop.t].set(decision.ancestor)
        if config.flat:  # in its own past each particle is its own ancestor, down to the scan's start
            history, ancestors = past[0], loop.ancestors.at[0].set(past[1])
        checks, tokens = loop.checks, loop.tokens
        if config.rejuvenate is not None:
            moved = Moved(moving, twists, kernel_state, done, before, history, checks, tokens)
            moved = config.rejuvenate.apply(self, loop.t, ancestors[0], moved)
            moving, twists, kernel_state, done, before, history, checks, tokens = moved
        carry, consts = self.assemble(moving)
        x = jax.tree.map(lambda leaf: leaf[loop.t], self.xs)
        alive = before.log_weight > -jnp.inf
        given = self.given(loop.t)
        if choice is not None:
            kernel_state = (kernel_state, choice)
        out = self.steps(consts, carry, x, loop.t, self.keys[loop.t], twists, alive, kernel_state, given)
        after = before.multiply(out.terms, self.factors, (self.place, loop.t), config.kills)
        if config.control.tempering is not None:
            after = after._replace(log_soft=before.log_soft + out.log_soft)
        increment = sum(out.terms, jnp.float32(0.0))
        if given is not None and self.retained is not None and self.retained.increments is not None:
            increment = jnp.where(given[1], self.retained.increments[self.place][loop.t], increment)
            kept = before._replace(log_weight=before.log_weight + increment)
            after = jax.tree.map(lambda k, a: jnp.where(given[1], k, a), kept, after)
        changing = [leaf for leaf, c in zip(jax.tree.leaves(out.carry), self.constant, strict=True) if not c]
        busy = alive & ~done
        running = jnp.asarray(True)
        if self.shape.fill is not None and config.rejuvenate is None:  # when it moves must not be up to a text
            running = lanes.any_of((after.log_weight > -jnp.inf) & ~out.done)
        if config.progress is not None:
            totals = lanes.gather(after.total)
            figures = (lanes.effective_sample_size(totals), lanes.log_mean_exp(totals))
            jax.debug.callback(config.progress, self.place, loop.t, self.scan.length, *figures)
        return Loop(
            t=loop.t + 1,
            running=running,
            weight=after,
            moving=(changing, moving[1]),
            twists=out.twists,
            kernel_state=out.kernel_state if choice is None else out.kernel_state[1],
            done=out.done,
            boundary=self._boundary(out),
            checks=checks + jnp.where(busy, out.checks, 0),
            tokens=tokens + jnp.where(busy, out.tokens, 0),
            history=jax.tree.map(
                lambda h, v: h.at[loop.t].set(v), history, (out.y, out.sites, increment, busy)
            ),
            ancestors=ancestors,
            ess=loop.ess.at[loop.t].set(decision.ess),
            resampled=loop.resampled.at[loop.t].set(decision.need),
            record=loop.record.write(
                loop.t,
                parent=decision.ancestor,
                increment=increment,
                log_weight=after.total,
                cause=after.cause,
                drew=busy if given is None else busy & ~given[1],
                draws=out.draws,
            ),
        )

    def _decide(self, loop: Loop) -> tuple[Decision, None]:
        """Who is resampled from whom."""
        weight = loop.weight
        decision = self.config.control.decide(
            self.shared_key,
            loop.t,
            weight.log_weight,
            weight.log_evidence,
            step=self.offset + loop.t,
            boundary=loop.boundary,
            log_soft=weight.log_soft,
        )
        return decision, None

    def _choose(self, loop: Loop, kernel: JointKernel) -> tuple[Decision, Choice]:
        """Whose child each particle becomes, where the population chooses jointly."""
        weight, t = loop.weight, loop.t
        carry, consts = self.assemble(loop.moving)
        x = jax.tree.map(lambda leaf: leaf[t], self.xs)
        alive = weight.log_weight > -jnp.inf
        state = (loop.kernel_state, kernel.undecided(loop.kernel_state))
        children = self.offers(consts, carry, x, t, self.keys[t], loop.twists, alive, state, None)
        log_weights = lanes.gather(weight.log_weight)
        key = random.fold_in(self.shared_key, t)
        parents, choices = kernel.select(key, log_weights, lanes.gather(children))
        choice = jax.tree.map(lambda leaf: leaf[lanes.index()], choices)._replace(checks=children.checks)
        parent = parents[lanes.index()]
        # The parent's weight; the child's share comes with the step.
        decision = Decision(
            need=jnp.any(parents != jnp.arange(parents.shape[0])),
            ancestor=parent,
            log_weight=log_weights[parent],
            log_evidence=weight.log_evidence,
            ess=lanes.effective_sample_size(log_weights),
        )
        return decision, choice

    def _boundary(self, out: StepOutput) -> Bool[Array, ""]:
        unit = self.config.control.unit
        if unit is None:
            return jnp.asarray(True)
        # A text that has ended has ended all its units.
        return out.units.get(unit, jnp.asarray(False)) | out.done

    def finish(self, end: Loop) -> tuple[Weight, ScanTrace]:
        """Trajectories by lineage, and the final weight."""
        carry = self.carry_leaves(end.moving)
        path, first = _walk_back(lanes.gather(end.ancestors))
        ys, sites, increments, live = lanes.take_path(end.history, path)
        if self.scan.reverse:
            ys, sites = jax.tree.map(lambda x: x[::-1], (ys, sites))
        trace = ScanTrace(
            carry=carry,
            ys=ys,
            sites=sites,
            twists=end.twists,
            kernel_state=end.kernel_state,
            start=first,
            path=path,
            increments=increments,
            live=live,
            ancestors=end.ancestors,
            ess=end.ess,
            resampled=end.resampled,
            steps=end.t,
            checks=end.checks,
            tokens=end.tokens,
            record=end.record,
        )
        return end.weight, trace


class _Steps(NamedTuple):
    """A traced step: its program with everything captured as explicit constants."""

    closed: jcore.ClosedJaxpr
    out: Any

    def __call__(self, consts: list[Any], *args: Any) -> Any:
        flat = jcore.jaxpr_as_fun(jcore.ClosedJaxpr(self.closed.jaxpr, consts))(*jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(self.out), flat)


def _offers(filter: ScanFilter) -> _Steps:
    """The part of a step that finds a particle's children.

    :raises UnsupportedProgram: if a child is more than its parent and an outcome.
    """
    shape, steps = filter.shape, filter.steps
    if len(shape.methods) != 1 or shape.latents or filter.retained is not None:
        drawn = [*shape.methods, *shape.latents]
        raise UnsupportedProgram(
            "where particles choose their children jointly, each step of a scan must draw exactly one site, of "
            f"finite support; scan {filter.place + 1} draws {', '.join(drawn) or 'none'}. Use SMC"
        )
    chosen = jax.tree.map(lambda _: False, steps.out)
    state: Any = (jax.tree.map(lambda _: True, steps.out.kernel_state[0]), chosen.kernel_state[1])
    wanted = jax.tree.leaves(chosen._replace(kernel_state=state))
    jaxpr, _ = pe.dce_jaxpr(steps.closed.jaxpr, wanted, instantiate=True)
    return _Steps(jcore.ClosedJaxpr(jaxpr, steps.closed.consts), steps.out.kernel_state[0])


def _example(filter: ScanFilter, init: Any, twists: dict[str, Any]) -> tuple[Any, ...]:
    """Arguments of the first step."""
    x = jax.tree.map(lambda leaf: leaf[0], filter.xs)
    t = jnp.int32(0)
    state, kernel = filter.kernel_state, filter.kernel
    if isinstance(kernel, JointKernel):
        state = (state, kernel.undecided(state))
    return init, x, t, filter.rng_key, twists, jnp.asarray(True), state, filter.given(t)


def _close(
    filter: ScanFilter, init: Any, twists: dict[str, Any]
) -> tuple[Callable[..., StepOutput], StepShape, dict[str, Any]]:
    """The step function, with the twists that it names (found by a first trace) and a stable carry."""
    shape = StepShape()
    retained = filter.retained
    weigh = retained is not None and retained.increments is None
    step = make_step(filter.scan, filter.kernel, shape, weigh)
    twists = {name: jnp.asarray(value, jnp.float32) for name, value in twists.items()}
    out = jax.eval_shape(step, *_example(filter, init, twists))
    _check_carry(init, out.carry)
    if filter.config.rejuvenate is not None:  # moves repeat steps: what is repeated is an argument of all
        filter.blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), out.sites)
    return step, shape, {name: jnp.float32(0) for name in out.twists} | twists


def _first(filter: ScanFilter, step: Callable[..., StepOutput], init: Any) -> _Steps:
    closed, out = jax.make_jaxpr(step, return_shape=True)(*_example(filter, init, filter.twists))
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
