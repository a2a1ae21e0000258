"""A NumPyro program as a particle system: stages of ordinary execution, a filter for each scan.

The program is run from its top under a listener. Latent sites are drawn, factors add to the weight. At
a `scan` the listener leaves by an exception (all of this happens once, while JAX traces), the filter
runs the scan, and the program is run again from its top with what was drawn, and what the scan gave, in
place: so that after a resampling every Python variable holds its ancestor's value.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import random
from jaxtyping import Array, Float, Int

from sentax.inference import lanes
from sentax.inference.filter import FilterConfig, Weight, run_scan
from sentax.inference.kernels.base import Kernel
from sentax.inference.messengers import OuterListener, ScanReached, fresh_stack
from sentax.inference.sites import SiteNumbers as SiteNumbers


class Population(NamedTuple):
    """A finished run: leaves have a leading particle axis N, unless they are shared.

    :param samples: latent and deterministic sites; a site of a scan is `[N, T, ...]`.
    :param texts: what `sentax.generate` returned, by site.
    :param log_weights: `[N]`, the evidence included: their log-mean-exp estimates it.
    :param required: conditions on the program's inputs, by the message if one is not met.
    :param weight: the accounts of deaths.
    :param ancestors: for each scan, `[N, T]`: the particle each particle was copied from before each step.
    :param start: for each scan, `[N]`: which particle before the scan each survivor descends from.
    :param ess: for each scan, `[T]`, and so `resampled`, `steps`.
    """

    samples: dict[str, Any]
    texts: dict[str, Any]
    log_weights: Float[Array, " N"]
    required: dict[str, Any]
    weight: Weight
    checks: Int[Array, " N"]
    tokens: Int[Array, " N"]
    ancestors: tuple[Int[Array, "N T"], ...]
    start: tuple[Int[Array, " N"], ...]
    ess: tuple[Float[Array, " T"], ...]
    resampled: tuple[Array, ...]
    steps: tuple[Array, ...]


SHARED = ("ess", "resampled", "steps")


def run_particles(
    kernel: Kernel,
    config: FilterConfig,
    numbers: SiteNumbers,
    rng_key: Array,
    args: tuple,
    kwargs: dict[str, Any],
) -> Population:
    """The whole population; a pure function of the key and the arrays in the model's arguments."""
    key_particles, key_shared = random.split(rng_key)
    keys = random.split(key_particles, config.num_particles)
    axes: Any = Population._make(None if field in SHARED else 0 for field in Population._fields)

    def particle(key: Array) -> Population:
        return _run_particle(kernel, config, numbers, lanes.spread(key, config.mesh), key_shared, args, kwargs)

    over_devices = None if config.mesh is None else lanes.PARTICLES
    vectorised = jax.vmap(particle, out_axes=axes, axis_name=lanes.PARTICLES, spmd_axis_name=over_devices)
    return lanes.everywhere(vectorised(keys), config.mesh)


def _run_particle(
    kernel: Kernel,
    config: FilterConfig,
    numbers: SiteNumbers,
    rng_key: Array,
    shared_key: Array,
    args: tuple,
    kwargs: dict[str, Any],
) -> Population:
    weight = Weight.initial()
    values: dict[str, Any] = {}
    conds: list[Any] = []
    scans: list[Any] = []
    traces: list[Any] = []
    inside: dict[str, Any] = {}
    twists: dict[str, Any] = {}
    while True:
        stage = len(scans)
        listener = OuterListener(rng_key, values, conds, scans, numbers.unmasked if kernel.use_masks else None)
        listener.twists = dict(twists)
        try:
            with fresh_stack(), listener:
                kernel.model(*args, **kwargs)
            scan = None
        except ScanReached as reached:
            scan = reached.scan
        terms = [term.value for term in listener.terms]
        weight = weight.multiply(terms, tuple(numbers(term.name) for term in listener.terms), (-1 - stage, -1))
        twists = listener.twists
        if scan is None:
            break
        weight, trace = run_scan(
            scan,
            kernel,
            config,
            weight,
            twists,
            random.fold_in(rng_key, 1_000_003 + stage),
            random.fold_in(shared_key, stage),
            numbers,
            stage,
        )
        # Everything from before the scan is now the ancestor's.
        values, conds, scans, inside = lanes.take((values, conds, scans, inside), trace.start)
        if repeated := set(trace.sites) & set(inside):
            raise ValueError(
                f"the site name {sorted(repeated)[0]!r} is used in two scans; every site needs its own"
            )
        inside = inside | trace.sites
        scans = [*scans, (trace.carry, trace.ys)]
        twists = trace.twists
        traces.append(trace)

    if repeated := set(listener.recorded) & set(inside):
        raise ValueError(f"the site name {sorted(repeated)[0]!r} is used twice; every site needs its own")
    # Twists are settled: the program's own weight is what remains.
    for value in twists.values():
        weight = weight._replace(log_weight=jnp.where(jnp.isneginf(value), -jnp.inf, weight.log_weight - value))
    samples = {name: jnp.asarray(v) for name, v in (listener.recorded | inside).items()}
    # A text's context is for the program; results keep its tokens.

    texts = {name: dataclasses.replace(text, context=None) for name, text in listener.texts.items()}
    return Population(
        samples=samples,
        texts=texts,
        log_weights=weight.log_weight + weight.log_evidence,
        required={message: jnp.asarray(ok) for message, ok in listener.required.items()},
        weight=weight,
        checks=sum((t.checks for t in traces), jnp.int32(0)),
        tokens=sum((t.tokens for t in traces), jnp.int32(0)),
        ancestors=tuple(t.ancestors for t in traces),
        start=tuple(t.start for t in traces),
        ess=tuple(t.ess for t in traces),
        resampled=tuple(t.resampled for t in traces),
        steps=tuple(t.steps for t in traces),
    )
