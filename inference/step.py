"""One step of a scan for one particle: factors weigh, latent sites are drawn, the kernel where it can."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.handlers as handlers
from jax import random
from jaxtyping import Array, Bool, Float, Int
from numpyro.primitives import Messenger

from sentax.inference.errors import UnsupportedProgram
from sentax.inference.kernels.base import Factor, Kernel
from sentax.inference.messengers import (
    Given,
    Scan,
    SegmentDone,
    SiteReached,
    StepListener,
    Term,
    fresh_stack,
    prior_correction,
    unmasked,
)
from sentax.inference.partial import hoist
from sentax.inference.record import SiteDraw
from sentax.ppl.constraints.host import in_order
from sentax.ppl.token import TokenDistribution

_KERNEL_KEYS = 1_000_003


class StepOutput(NamedTuple):
    """What one step of one particle leaves.

    :param terms: this step's log-weights, in program order; `StepShape.names` says of which sites.
    :param sites: values of the step's latent and deterministic sites.
    :param done: whether the rest of this scan can change nothing (see `sentax.generate`).
    :param units: what the step said at `sentax.unit`, by name.
    :param log_soft: the sum of the step's finite log-factors, at the outcomes drawn; twists are none.
    :param log_density: of the step's sites and factors, where retained values are weighed; else 0.
    :param kernel_state: what the kernel carries to the next step.
    :param checks: outcomes whose factors were asked for; `tokens`: tokens drawn from a language model.
    :param draws: what the kernel drew, by site.
    """

    carry: Any
    y: Any
    terms: tuple[Float[Array, ""], ...]
    twists: dict[str, Array]
    sites: dict[str, Any]
    done: Bool[Array, ""]
    units: dict[str, Array]
    log_soft: Float[Array, ""]
    log_density: Float[Array, ""]
    kernel_state: Any
    checks: Int[Array, ""]
    tokens: Int[Array, ""]
    draws: dict[str, SiteDraw]


@dataclasses.dataclass
class StepShape:
    """What tracing a step tells about it, beside its arrays.

    :param names: the site of each of the step's terms.
    :param methods: how each of the kernel's sites is drawn.
    :param latents: what is drawn beside the kernel's sites, from its prior.
    :param fill: what each site is in the steps that an early stop leaves out, and `result` what `y` is;
        None if the scan has to run to its end.
    """

    names: tuple[str, ...] = ()
    methods: dict[str, str] = dataclasses.field(default_factory=dict)
    latents: tuple[str, ...] = ()
    fill: dict[str, Any] | None = None
    result: Any = None


def make_step(scan: Scan, kernel: Kernel, shape: StepShape, weigh: bool = False) -> Callable[..., StepOutput]:
    """A pure function of one step; running it (in a trace) fills in `shape`.

    :param weigh: whether the weights of retained values are computed, not taken over.
    """

    def step(
        carry: Any,
        x: Any,
        t: Int[Array, ""],
        rng_key: Array,
        twists: dict[str, Any],
        active: Bool[Array, ""],
        kernel_state: Any,
        retained: tuple[dict[str, Any], Bool[Array, ""]] | None,
    ) -> StepOutput:
        f = _with_handlers(scan, t)
        values: dict[str, Any] = {}
        conds: list[Any] = []
        drawn: dict[str, Any] = {}
        weights: dict[str, Any] = {}
        draws: dict[str, SiteDraw] = {}
        checks = tokens = jnp.int32(0)
        given = None if retained is None else Given(*retained)

        def listen(
            substituted: dict[str, Any], stop_after: str | None = None, masked: bool = False
        ) -> StepListener:
            return StepListener(rng_key, values, conds, twists, substituted, stop_after, masked, given)

        while True:
            listener = listen(drawn)
            try:
                with fresh_stack(), listener:
                    carry_out, y = f(carry, x)
                break
            except SiteReached as site:
                if site.name in drawn:  # pragma: no cover - the listener would have substituted it
                    raise UnsupportedProgram(f"site {site.name!r} occurs twice in one step") from None
                living = _weigh(active, _with_kernels(listener.terms, weights))
                support = unmasked(site.fn).enumerate_support(expand=False)
                mask = listener.masks.get(site.name)
                factor = hoist_factor(f, carry, x, site, support, drawn, listen, mask is not None)
                shape.methods[site.name] = _method(kernel, mask is not None, factor)
                logits = _table(site.fn, support)
                if site.name in listener.proposals and kernel.uses_proposals:
                    logits, factor = propose(logits, listener.proposals[site.name], factor)
                if given is not None and not weigh:
                    living = living & ~given.keep  # nothing is searched for: the outcome is known
                result = kernel.draw(
                    # Listeners fold 1, 2, ... into the step's key, a kernel draws on its streams: no clash.
                    random.fold_in(rng_key, _KERNEL_KEYS + len(drawn)) if drawn else rng_key,
                    logits,
                    factor,
                    active=living,
                    mask=mask,
                    state=kernel_state,
                )
                value = support[result.outcome]
                drawn = drawn | {site.name: value if given is None else given.choose(site.name, value)}
                kernel_state = result.state
                if given is not None and weigh:
                    known = kernel.log_weight_of(jnp.argmax(support == drawn[site.name]), factor, result)
                    result = result._replace(log_weight=jnp.where(given.keep, known, result.log_weight))
                weights[site.name] = result.log_weight
                draws[site.name] = SiteDraw(drawn[site.name], result.log_weight, result.checks)
                checks = checks + result.checks
                tokens = tokens + int(isinstance(unmasked(site.fn), TokenDistribution))

        terms = _with_kernels(listener.terms, weights)
        shape.names = tuple(term.name for term in terms)
        shape.latents = (*values, *("a cond" for _ in conds))
        log_density = jnp.float32(0.0)
        if weigh:
            log_density = sum((*listener.log_priors, *(term.value for term in listener.terms)), log_density)
        done = jnp.asarray(False)
        if listener.finish is not None:
            done, details = listener.finish
            if set(details["fill"]) == set(listener.recorded):
                shape.fill, shape.result = details["fill"], details["result"]
        return StepOutput(
            carry=carry_out,
            y=y,
            terms=tuple(term.value for term in terms),
            twists=listener.twists,
            sites=listener.recorded,
            done=jnp.asarray(done),
            units=listener.units,
            log_soft=soft(listener.terms, listener.twists),
            log_density=log_density,
            kernel_state=kernel_state,
            checks=checks,
            tokens=tokens,
            draws=draws,
        )

    return step


DEFENSIVE = 0.01
"""The share of the program's own distribution in every proposal, so that nothing it allows is left out."""


def propose(
    logits: Float[Array, " V"], proposal: Float[Array, " V"], factor: Factor
) -> tuple[Float[Array, " V"], Factor]:
    r"""Another distribution to draw from, and the factor that makes up for it.

    With :math:`q' = (1 - \epsilon) q + \epsilon p`, a draw from :math:`q'` that is weighed by
    :math:`\phi\, p / q'` has the law of one from :math:`p` weighed by :math:`\phi`.
    """
    log_p = jax.nn.log_softmax(logits)
    log_q = jnp.logaddexp(
        jnp.log1p(-DEFENSIVE) + jax.nn.log_softmax(proposal.astype(jnp.float32)), math.log(DEFENSIVE) + log_p
    )
    correction = jnp.where(jnp.isneginf(log_p), -jnp.inf, log_p - jnp.where(jnp.isneginf(log_q), 0.0, log_q))

    def value(outcome: Int[Array, ""]) -> Float[Array, ""]:
        return factor(outcome) + correction[outcome]

    def ordered(outcome: Any, patience: Any, worth: Any) -> Any:
        log_factor, asked = factor.in_order(outcome, patience, worth)
        return log_factor + correction[outcome], asked

    return log_q, Factor(value, None if factor.ordered is None else ordered)


def hoist_factor(
    f: Callable[..., Any],
    carry: Any,
    x: Any,
    site: SiteReached,
    support: Array,
    drawn: dict[str, Any],
    listen: Callable[..., StepListener],
    masked: bool = False,
) -> Factor:
    """A candidate's log-factor: the step re-executed with it, up to the next latent site.

    :param masked: whether candidates come from the site's mask, so that only what that leaves open counts.
    """

    def log_factor(outcome: Int[Array, ""]) -> Float[Array, ""]:
        value = support[outcome]
        listener = listen(drawn | {site.name: value}, site.name, masked)
        try:
            with fresh_stack(), listener:
                f(carry, x)
        except SegmentDone:
            pass
        total = sum((t.value for t in listener.terms if t.segment == site.name), jnp.float32(0.0))
        correction = prior_correction(site.fn, value, site.scale)
        return total if correction is None else total + correction

    def ordered(outcome: Any, patience: Any, worth: Any) -> tuple[Any, Any]:
        with in_order(patience, worth) as asked:
            value = log_factor(outcome)
        return value, functools.reduce(operator.and_, asked, jnp.ones((), bool))

    index = jax.ShapeDtypeStruct((), jnp.int32)
    plain = hoist(log_factor, index)
    if not plain.calls_host:
        return Factor(plain.fn, varies=plain.varies)
    return Factor(plain.fn, hoist(ordered, index, index, index).fn)


def _method(kernel: Kernel, masked: bool, factor: Factor) -> str:
    """How a site is drawn, for the diagnostics."""
    if not masked:
        return kernel.method
    return f"masked draw, then {kernel.method}" if factor.varies else "exact masked draw"


def _with_kernels(terms: list[Term], weights: dict[str, Any]) -> list[Term]:
    """The step's weights: kernels' in the place of the factors that they have already counted.

    A kernel's term is named after the first of those factors, which is what a death is blamed on.
    """
    result = []
    counted: set[str] = set()
    named: dict[str, str] = {}
    for term in terms:
        if term.segment in weights:
            named.setdefault(term.segment, term.name)
    for term in terms:
        if term.segment is None:
            result.append(term)
        elif term.segment not in counted:
            counted.add(term.segment)
            result.append(Term(named[term.segment], weights[term.segment]))
    result.extend(Term(site, weights[site]) for site in weights if site not in counted)
    return result


def soft(terms: list[Term], twists: dict[str, Any]) -> Float[Array, ""]:
    """The sum of the finite terms that are no twists': what tempering is about."""
    values = (jnp.asarray(term.value, jnp.float32) for term in terms if term.name not in twists)
    return sum((jnp.where(jnp.isfinite(value), value, 0.0) for value in values), jnp.float32(0.0))


def _weigh(active: Any, terms: list[Term]) -> Bool[Array, ""]:
    """Whether the particle still lives after these terms."""
    for term in terms:
        active = active & (term.value > -jnp.inf)
    return jnp.asarray(active)


def _table(fn: Any, support: Array) -> Float[Array, " K"]:
    """Log-probabilities over a finite support, up to a constant: the kernels normalise (one pass over V)."""
    fn = unmasked(fn)
    if isinstance(fn, TokenDistribution):
        assert fn.logits is not None  # settled only after the draw
        return fn.logits
    return jax.vmap(fn.log_prob)(support).astype(jnp.float32)


def _with_handlers(scan: Scan, t: Int[Array, ""]) -> Callable[..., Any]:
    """The scanned function under the handlers that stand around the scan, as they apply to step `t`."""
    f = scan.f
    for kind, substitution in scan.substitutions:
        if kind == "replay":
            substitution = {
                name: site["value"] for name, site in substitution.items() if site["type"] == "sample"
            }
        handler = handlers.condition if kind == "condition" else handlers.substitute
        at_step = _at_step(substitution, t, scan.length)
        f = handler(f, condition_fn=at_step) if kind == "condition" else handler(f, substitute_fn=at_step)
    for handler in reversed(scan.around):
        f = _reenter(f, handler, t, scan.length)
    return f


def _at_step(substitution: Any, t: Int[Array, ""], length: int) -> Callable[[Any], Any]:
    def value_of(site: Any) -> Any:
        value = substitution(site) if callable(substitution) else substitution.get(site["name"])
        if value is None or site["type"] not in ("sample", "deterministic", "param", "mutable"):
            return None
        own = jnp.ndim(site["value"]) if site["type"] != "sample" else len(site["fn"].shape())
        if jnp.ndim(value) == own:
            return value
        if jnp.ndim(value) != own + 1 or jnp.shape(value)[0] != length:
            raise UnsupportedProgram(
                f"the value given for site {site['name']!r} has shape {jnp.shape(value)}; inside a scan of "
                f"length {length} the engine needs one value a step (leading axis {length}) or a single one"
            )
        return jnp.asarray(value)[t]

    return value_of


def _reenter(f: Callable[..., Any], handler: Messenger, t: Int[Array, ""], length: int) -> Callable[..., Any]:
    def wrapped(*args: Any) -> Any:
        if isinstance(handler, handlers.mask):
            with handlers.mask(mask=_step_of(handler.mask, t, length, "mask")):
                return f(*args)
        if isinstance(handler, handlers.scale):
            with handlers.scale(scale=_step_of(handler.scale, t, length, "scale")):
                return f(*args)
        with handler:
            return f(*args)

    return wrapped


def _step_of(value: Any, t: Int[Array, ""], length: int, what: str) -> Any:
    if jnp.ndim(value) == 0:
        return value
    if jnp.ndim(value) == 1 and jnp.shape(value)[0] == length:
        return jnp.asarray(value)[t]
    raise UnsupportedProgram(
        f"a {what} of shape {jnp.shape(value)} around a scan of length {length}: "
        "give a scalar or one value a step"
    )
