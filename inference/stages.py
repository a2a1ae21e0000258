"""A run taken apart between any two steps: small programs that hand its state to each other.

One program goes from scan to scan, one makes the steps of a scan. What they hand on is all that the rest of the
run depends on (see :class:`~sentax.inference.engine.ParticleRun`), as arrays; what is computed from the
arguments alone (weights, a prompt's cache) is not among it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax, random
from jaxtyping import Array, Bool, Float, Int

from sentax.inference import lanes
from sentax.inference.engine import SHARED, ParticleRun, Past, Population, Reached
from sentax.inference.executable import Executable, Traced
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.base import Kernel
from sentax.inference.runs import pool
from sentax.inference.sites import SiteNumbers
from sentax.inference.state import Loop


class Packed(NamedTuple):
    """A pytree's leaves: those that each particle has its own of, `[N, ...]`, and those that all share."""

    own: list[Array]
    shared: list[Array]


@dataclasses.dataclass(frozen=True)
class Layout:
    """What makes a pytree of a :class:`Packed`; for JAX a leaf, static and hashable."""

    treedef: Any
    shared: tuple[bool, ...]

    @classmethod
    def of(cls, tree: Any) -> Layout:
        """As its leaves are now; call it under `vmap` over the particle axis."""
        leaves, treedef = jax.tree.flatten(tree)
        shared = (not isinstance(leaf, jax.core.Tracer) or lanes.is_shared(leaf) for leaf in leaves)
        return cls(treedef, tuple(shared))

    def pack(self, tree: Any) -> Packed:
        # Strong types: a program's results are the next one's arguments, which must not change their type.
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
        leaves = [
            lax.convert_element_type(leaf, leaf.dtype) if getattr(leaf, "weak_type", False) else leaf
            for leaf in leaves
        ]
        both = list(zip(leaves, self.shared, strict=True))
        return Packed([leaf for leaf, s in both if not s], [leaf for leaf, s in both if s])

    def unpack(self, packed: Packed) -> Any:
        own, shared = iter(packed.own), iter(packed.shared)
        return jax.tree.unflatten(self.treedef, [next(shared) if s else next(own) for s in self.shared])


@dataclasses.dataclass(frozen=True)
class Place:
    """Where in the program a state belongs; for JAX a leaf, static and hashable.

    :param stage: the scan's number; `length`: its steps.
    :param past: of what lies behind the scan, `loop`: of the scan's state.
    :param sites: what tracing has left behind so far (see :class:`SiteNumbers`).
    """

    stage: int
    length: int
    past: Layout
    loop: Layout
    sites: tuple[Any, ...]


class State(NamedTuple):
    """A run between two steps of a scan."""

    past: Packed
    loop: Packed


class View(NamedTuple):
    """What can be seen of the particles so far, by lineage, `[N, ...]`.

    :param samples: sites; of the scan in progress, steps to come are filled up.
    :param texts: what `sentax.generate` would return if the scan ended here.
    :param log_weights: `[N]`, twists not settled, the evidence so far included.
    :param t: steps done in this scan; `running`: whether any is left to do.
    :param resampled: `[T]`, before which of its steps the particles were resampled.
    :param checks: `[N]`, and so `tokens`: in this scan.
    """

    samples: dict[str, Any]
    texts: dict[str, Any]
    log_weights: Float[Array, " N"]
    t: Int[Array, ""]
    running: Bool[Array, ""]
    resampled: Bool[Array, " T"]
    checks: Int[Array, " N"]
    tokens: Int[Array, " N"]


_SHARED_VIEW = ("t", "running", "resampled")


class Stages:
    """The programs of a sampler's run, compiled once for all contents of a similar size.

    :param config: a function: a sampler's choices may depend on the inputs' placement.
    :param num_runs: R independent runs; then all states, views and the key have a leading axis R.
    """

    def __init__(self, kernel: Kernel, config: Callable[[], FilterConfig], num_runs: int = 1) -> None:
        self.kernel, self.config, self.num_runs = kernel, config, num_runs
        self._enter = Executable(self._entering)
        self._advance = Executable(self._advancing)
        self.compile_time = 0.0

    def enter(
        self, rng_key: Array, args: tuple, kwargs: dict[str, Any], place: Place | None, state: State | None
    ) -> tuple[State | Population, Place | SiteNumbers]:
        """From the end of a scan (or the program's beginning) to the start of the next, or to the results."""
        return self._timed(self._enter, rng_key, args, kwargs, place, state)

    def advance(
        self, rng_key: Array, args: tuple, kwargs: dict[str, Any], place: Place, state: State, until: int
    ) -> tuple[State, View]:
        """Steps of a scan, until its step `until` or its end."""
        steps = jnp.int32(until)
        (loop, view), layout = self._timed(self._advance, rng_key, args, kwargs, place, state, steps)
        return State(state.past, loop), self._seen(view, layout)

    def find(self, rng_key: Array, args: tuple, kwargs: dict[str, Any], stage: int) -> tuple[Place, State]:
        """The place of a scan, and the shapes of its state, by tracing alone."""
        place: Place | None = None
        state: State | None = None
        for _ in range(stage + 1):
            traced = self._enter.trace(rng_key, args, kwargs, place, state)
            if not isinstance(traced.left_behind, Place):
                raise IndexError(f"the program has no scan number {stage}")
            place, state = traced.left_behind, traced.out
        assert place is not None and state is not None
        return place, state

    def program(self, rng_key: Array, args: tuple, kwargs: dict[str, Any], place: Place, state: Any) -> Traced:
        """The program of a scan's steps."""
        return self._advance.trace(rng_key, args, kwargs, place, state, jnp.int32(0))

    def _timed(self, executable: Executable, *args: Any) -> Any:
        result = executable(*args)
        self.compile_time += executable.compile_time
        return result

    def _entering(
        self, rng_key: Array, args: tuple, kwargs: dict[str, Any], place: Place | None, state: State | None
    ) -> tuple[Any, Any]:
        numbers = _numbers(place)
        found: dict[str, Layout] = {}
        length = 0

        def before(run: ParticleRun, state: State | None) -> Past:
            if place is None or state is None:
                return run.begin()
            return run.leave(run.reach(place.past.unpack(state.past)), place.loop.unpack(state.loop))

        def look(run: ParticleRun, state: State | None) -> tuple[()]:
            # Which leaves differ between particles shows only after a step: the loop is traced, not run.
            nonlocal length
            past = before(run, state)
            reached = run.reach(past)
            if reached.filter is not None:
                length = reached.filter.scan.length
                found["past"] = Layout.of(past)
                found["loop"] = Layout.of(reached.filter.run(reached.filter.start(reached.past.weight)))
            return ()

        def start(run: ParticleRun, state: State | None) -> State:
            past = before(run, state)
            reached = run.reach(past)
            assert reached.filter is not None
            loop = reached.filter.start(reached.past.weight)
            return State(found["past"].pack(past), found["loop"].pack(loop))

        def settle(run: ParticleRun, state: State | None) -> Population:
            return run.settle(run.reach(before(run, state)))

        inputs = (numbers, rng_key, args, kwargs, state)
        jax.eval_shape(lambda: self._particles(look, *inputs, out_axes=0))
        if found:
            axes = State(Packed(0, None), Packed(0, None))  # type: ignore[arg-type]
            out = self._particles(start, *inputs, out_axes=axes)
            stage = 0 if place is None else place.stage + 1
            return out, Place(stage, length, found["past"], found["loop"], _left_behind(numbers))
        axes = Population._make(None if field in SHARED else 0 for field in Population._fields)  # type: ignore
        population = self._particles(settle, *inputs, out_axes=axes)
        return (population if self.num_runs == 1 else pool(population)), numbers

    def _advancing(
        self, rng_key: Array, args: tuple, kwargs: dict[str, Any], place: Place, state: State, until: Array
    ) -> tuple[Any, Any]:
        numbers = _numbers(place)
        found: list[Layout] = []

        def steps(run: ParticleRun, state: State | None) -> tuple[Packed, Packed]:
            assert state is not None
            reached = run.reach(place.past.unpack(state.past))
            assert reached.filter is not None
            end = reached.filter.run(place.loop.unpack(state.loop), until)
            view = _view(run, reached, end)
            found.append(Layout.of(view))
            return place.loop.pack(end), found[-1].pack(view)

        axes = (Packed(0, None), Packed(0, None))  # type: ignore[arg-type]
        return self._particles(steps, numbers, rng_key, args, kwargs, state, out_axes=axes), found[-1]

    def _particles(
        self,
        fn: Callable[[ParticleRun, State | None], Any],
        numbers: SiteNumbers,
        rng_keys: Array,
        args: tuple,
        kwargs: dict[str, Any],
        states: State | None,
        *,
        out_axes: Any,
    ) -> Any:
        """`fn` for every particle of every run, with the keys they have in :func:`.engine.run_particles`."""
        config = self.config()
        axes = None if states is None else State(Packed(0, None), Packed(0, None))  # type: ignore[arg-type]

        def one(rng_key: Array, state: State | None) -> Any:
            key_particles, key_shared = random.split(rng_key)
            keys = random.split(key_particles, config.num_particles)

            def particle(key: Array, own: State | None) -> Any:
                return fn(ParticleRun(self.kernel, config, numbers, key, key_shared, args, kwargs), own)

            return jax.vmap(particle, (0, axes), out_axes, axis_name=lanes.PARTICLES)(keys, state)

        return one(rng_keys, states) if self.num_runs == 1 else jax.vmap(one)(rng_keys, states)

    def _seen(self, view: Packed, layout: Layout) -> View:
        """A view on the host, of all runs together."""
        own, shared = jax.device_get(view)
        if self.num_runs == 1:
            return layout.unpack(Packed(own, shared))
        own = [leaf.reshape(-1, *leaf.shape[2:]) for leaf in own]
        seen = layout.unpack(Packed(own, shared))
        # What all particles of a run share: the longest run's, any run's; else equal in all of them.
        rest = jax.tree.map(lambda leaf, s: leaf[0] if s else leaf, seen, layout.unpack(_flags(layout)))
        return rest._replace(t=seen.t.max(), running=seen.running.any(), resampled=seen.resampled.any(0))


def _flags(layout: Layout) -> Packed:
    return Packed([False] * layout.shared.count(False), [True] * layout.shared.count(True))  # type: ignore


def _view(run: ParticleRun, reached: Reached, end: Loop) -> View:
    """The program is run on as if the scan ended here, for the texts that it makes of what there is."""
    past = run.leave(reached, end)
    listener, _ = run.listen(past)
    texts = {name: dataclasses.replace(text, context=None) for name, text in listener.texts.items()}
    return View(
        # What was drawn before this scan goes with its particle when the scan resamples.
        samples={name: listener.recorded[name] for name in reached.listener.recorded} | past.inside,
        texts=texts,
        log_weights=end.weight.total,
        t=end.t,
        running=end.running,
        resampled=end.resampled,
        checks=end.checks,
        tokens=end.tokens,
    )


def _left_behind(numbers: SiteNumbers) -> tuple[Any, ...]:
    return (
        tuple(numbers.names),
        tuple(numbers.methods.items()),
        tuple(numbers.unmasked.items()),
        tuple(sorted(numbers.units)),
    )


def _numbers(place: Place | None) -> SiteNumbers:
    """Numbers that go on from where an earlier program's tracing stopped."""
    numbers = SiteNumbers()
    if place is not None:
        names, methods, unmasked, units = place.sites
        numbers.names, numbers.methods = list(names), dict(methods)
        numbers.unmasked, numbers.units = dict(unmasked), set(units)
    return numbers


__all__ = ["Layout", "Packed", "Place", "Stages", "State", "View"]
