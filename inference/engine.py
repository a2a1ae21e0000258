"""A NumPyro program as a particle system: stages of ordinary execution, a filter for each scan.

The program is run from its top under a listener. Latent sites are drawn, factors add to the weight. At
a `scan` the listener leaves by an exception (all of this happens once, while JAX traces), the filter
runs the scan, and the program is run again from its top with what was drawn, and what the scan gave, in
place: so that after a resampling every Python variable holds its ancestor's value.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import random
from jaxtyping import Array, Bool, Float, Int

from sentax.inference import lanes
from sentax.inference.ancestor_sampling import log_remainder
from sentax.inference.errors import UnsupportedProgram
from sentax.inference.filter import FilterConfig, ScanFilter
from sentax.inference.kernels.base import Kernel
from sentax.inference.messengers import Finished, Given, OuterListener, Scan, ScanReached, fresh_stack
from sentax.inference.record import Record
from sentax.inference.selection import JointKernel
from sentax.inference.sites import SiteNumbers as SiteNumbers
from sentax.inference.state import Loop, Retained, ScanTrace, Weight
from sentax.inference.step import soft


class Population(NamedTuple):
    """A finished run: leaves have a leading particle axis N, unless they are shared.

    :param samples: latent and deterministic sites; a site of a scan is `[N, T, ...]`.
    :param texts: what `sentax.generate` returned, by site.
    :param rewards: for each `sentax.reward` `[N]`, what it came to.
    :param log_weights: `[N]`, the evidence included: their log-mean-exp estimates it.
    :param required: conditions on the program's inputs, by the message if one is not met.
    :param weight: the accounts of deaths.
    :param ancestors: for each scan, `[N, T]`: the particle each particle was copied from before each step.
    :param increments: for each scan, `[N, T]`: what each step of a particle's lineage multiplied its weight by.
    :param start: for each scan, `[N]`: which particle before the scan each survivor descends from.
    :param ess: for each scan, `[T]`, and so `resampled`, `steps`.
    :param records: for each scan, what every particle did, by place, not by lineage; leaves are `[N, ...]`.
    :param live: for each scan, `[N, T]`: whether a particle's lineage was alive and had not finished before
        each step.
    :param kernel_state: what the kernel carried to the end (see :meth:`Kernel.start`); leaves are `[N, ...]`.
    """

    samples: dict[str, Any]
    texts: dict[str, Any]
    rewards: dict[str, Float[Array, " N"]]
    log_weights: Float[Array, " N"]
    required: dict[str, Any]
    weight: Weight
    checks: Int[Array, " N"]
    tokens: Int[Array, " N"]
    ancestors: tuple[Int[Array, "N T"], ...]
    increments: tuple[Float[Array, "N T"], ...]
    start: tuple[Int[Array, " N"], ...]
    ess: tuple[Float[Array, " T"], ...]
    resampled: tuple[Array, ...]
    steps: tuple[Array, ...]
    records: tuple[Record, ...] = ()
    live: tuple[Bool[Array, "N T"], ...] = ()
    kernel_state: Any = ()


SHARED = ("ess", "resampled", "steps")


def run_particles(
    kernel: Kernel,
    config: FilterConfig,
    numbers: SiteNumbers,
    rng_key: Array,
    args: tuple,
    kwargs: dict[str, Any],
    retained: Retained | None = None,
) -> Population:
    """The whole population; a pure function of the key and the arrays in the model's arguments.

    :param retained: what each particle repeats of an earlier run; leaves have a leading axis N.
    """
    key_particles, key_shared = random.split(rng_key)
    keys = random.split(key_particles, config.num_particles)
    axes: Any = Population._make(None if field in SHARED else 0 for field in Population._fields)

    def particle(key: Array, own: Retained | None) -> Population:
        key = lanes.spread(key, config.mesh)
        run = ParticleRun(kernel, config, numbers, key, key_shared, args, kwargs, own)
        past = run.begin()
        while (steps := (reached := run.reach(past)).filter) is not None:
            past = run.leave(reached, steps.run(steps.start(reached.past.weight)))
        return run.settle(reached)

    over_devices = None if config.mesh is None else lanes.PARTICLES
    vectorised = jax.vmap(particle, out_axes=axes, axis_name=lanes.PARTICLES, spmd_axis_name=over_devices)
    return lanes.everywhere(vectorised(keys, retained), config.mesh)


class Past(NamedTuple):
    """What a particle has behind it between two scans: all that the rest of its run depends on.

    :param values: what the program has drawn outside of scans, and `conds` inside of conditional branches.
    :param inside: by name, the sites of the scans, trajectories rebuilt.
    :param traces: what is kept of each scan for the results alone.
    """

    weight: Weight
    values: dict[str, Any]
    conds: list[Any]
    scans: list[Finished]
    inside: dict[str, Any]
    twists: dict[str, Any]
    kernel_state: Any
    traces: list[ScanTrace]


def _steps(past: Past) -> int:
    """How many steps the scans behind have."""
    return sum(trace.ancestors.shape[0] for trace in past.traces)


class Reached(NamedTuple):
    """The program run up to its next scan, or to its end.

    :param filter: the scan's; None at the end.
    """

    past: Past
    listener: OuterListener
    filter: ScanFilter | None


class ParticleRun:
    """One particle's way through the program, from scan to scan.

    A run can be taken apart between any two steps of a scan: all that is then needed to go on is its
    :class:`Past` and the scan's :class:`~sentax.inference.filter.Loop`.

    :param rng_key: this particle's; `shared_key`: the same for all.
    """

    def __init__(
        self,
        kernel: Kernel,
        config: FilterConfig,
        numbers: SiteNumbers,
        rng_key: Array,
        shared_key: Array,
        args: tuple,
        kwargs: dict[str, Any],
        retained: Retained | None = None,
    ) -> None:
        self.kernel, self.config, self.numbers = kernel, config, numbers
        self.rng_key, self.shared_key = rng_key, shared_key
        self.args, self.kwargs, self.retained = args, kwargs, retained

    def begin(self) -> Past:
        """Before the program's first line."""
        weight = Weight.initial()
        if isinstance(self.kernel, JointKernel):
            weight = weight._replace(log_weight=self.kernel.root(lanes.index()))
        return Past(weight, {}, [], [], {}, {}, self.kernel.start(), [])

    def listen(self, past: Past) -> tuple[OuterListener, Scan | None]:
        """Runs the program up to its next scan, and says what was met on the way."""
        kernel = self.kernel
        unmasked = self.numbers.unmasked if kernel.use_masks else None
        given = None
        if self.retained is not None:
            given = Given(self.retained.samples, _steps(past) <= self.retained.cut)
        listener = OuterListener(
            self.rng_key,
            dict(past.values),
            list(past.conds),
            past.scans,
            unmasked,
            given,
            kernel.uses_proposals,
        )
        listener.twists = dict(past.twists)
        try:
            with fresh_stack(), listener:
                kernel.model(*self.args, **self.kwargs)
        except ScanReached as reached:
            return listener, reached.scan
        return listener, None

    def reach(self, past: Past) -> Reached:
        """Runs the program up to its next scan, and makes that scan's filter."""
        listener, scan = self.listen(past)
        numbers, stage = self.numbers, len(past.scans)
        drawn = [*listener.values, *("a cond" for _ in listener.conds)]
        if isinstance(self.kernel, JointKernel) and not self.kernel.takes_latents and drawn:
            raise UnsupportedProgram(
                f"a beam is of one program with nothing drawn but tokens; this one draws {', '.join(drawn)} "
                "outside of its scans. Condition on it (numpyro.handlers.condition), or use SMC"
            )
        terms = [term.value for term in listener.terms]
        names = tuple(numbers(term.name) for term in listener.terms)
        weight = past.weight.multiply(terms, names, (-1 - stage, -1), self.config.kills)
        if self.config.control.tempering is not None:
            weight = weight._replace(log_soft=weight.log_soft + soft(listener.terms, listener.twists))
        past = past._replace(
            weight=weight, values=listener.values, conds=listener.conds, twists=listener.twists
        )
        if scan is None:
            return Reached(past, listener, None)
        steps = ScanFilter(
            scan,
            self.kernel,
            self.config,
            past.twists,
            random.fold_in(self.rng_key, 1_000_003 + stage),
            random.fold_in(self.shared_key, stage),
            numbers,
            stage,
            offset=_steps(past),
            kernel_state=past.kernel_state,
            retained=self.retained,
            remainder=functools.partial(log_remainder, self, past),
        )
        return Reached(past, listener, steps)

    def leave(self, reached: Reached, end: Loop) -> Past:
        """Puts a finished scan behind."""
        assert reached.filter is not None
        weight, trace = reached.filter.finish(end)
        past = reached.past
        # Everything from before the scan is now the ancestor's.
        values, conds, scans, inside = lanes.take(
            (past.values, past.conds, past.scans, past.inside), trace.start
        )
        # So is what the lineage met in earlier scans; the rest of a trace is by place.
        traces = [
            t._replace(increments=lanes.take(t.increments, trace.start), live=lanes.take(t.live, trace.start))
            for t in past.traces
        ]
        if repeated := set(trace.sites) & set(inside):
            raise ValueError(
                f"the site name {sorted(repeated)[0]!r} is used in two scans; every site needs its own"
            )
        return Past(
            weight=weight,
            values=values,
            conds=conds,
            scans=[*scans, Finished(trace.carry, trace.ys)],
            inside=inside | trace.sites,
            twists=trace.twists,
            kernel_state=trace.kernel_state,
            traces=[*traces, trace._replace(carry=[], ys=None, sites={}, twists={}, kernel_state=None)],
        )

    def settle(self, reached: Reached) -> Population:
        """The results, at the program's end."""
        past, listener, unit = reached.past, reached.listener, self.config.control.unit
        if unit is not None and unit not in self.numbers.units:
            raise UnsupportedProgram(
                f"resample_at={unit!r}: no scan of the program says where such a unit ends; call "
                f"sentax.unit({unit!r}, ended) in the scanned function"
            )
        weight, inside, traces = past.weight, past.inside, past.traces
        if repeated := set(listener.recorded) & set(inside):
            raise ValueError(f"the site name {sorted(repeated)[0]!r} is used twice; every site needs its own")
        # Twists are settled: the program's own weight is what remains.
        for value in past.twists.values():
            weight = weight._replace(
                log_weight=jnp.where(jnp.isneginf(value), -jnp.inf, weight.log_weight - value)
            )
        samples = {name: jnp.asarray(v) for name, v in (listener.recorded | inside).items()}
        # A text's context is for the program; results keep its tokens.
        texts = {name: dataclasses.replace(text, context=None) for name, text in listener.texts.items()}
        return Population(
            samples=samples,
            texts=texts,
            rewards=listener.rewards,
            log_weights=weight.log_weight + weight.log_evidence,
            required={message: jnp.asarray(ok) for message, ok in listener.required.items()},
            weight=weight,
            checks=sum((t.checks for t in traces), jnp.int32(0)),
            tokens=sum((t.tokens for t in traces), jnp.int32(0)),
            ancestors=tuple(t.ancestors for t in traces),
            increments=tuple(t.increments for t in traces),
            start=tuple(t.start for t in traces),
            ess=tuple(t.ess for t in traces),
            resampled=tuple(t.resampled for t in traces),
            steps=tuple(t.steps for t in traces),
            records=tuple(t.record for t in traces),
            live=tuple(t.live for t in traces),
            kernel_state=past.kernel_state,
        )
