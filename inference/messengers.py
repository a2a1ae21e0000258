"""Listening to a NumPyro program: draws, weights, and the places where inference takes over."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.handlers as handlers
from jax import random
from numpyro.contrib.control_flow.scan import PytreeTrace, scan_wrapper
from numpyro.distributions import Distribution, MaskedDistribution
from numpyro.primitives import _PYRO_STACK, Messenger

from sentax.inference.errors import UnsupportedProgram
from sentax.ppl.constraints.masks import NoMask


@contextlib.contextmanager
def fresh_stack() -> Iterator[None]:
    """Runs a program under its own handlers alone, whatever it is called from."""
    saved = list(_PYRO_STACK)
    _PYRO_STACK.clear()
    try:
        yield
    finally:
        _PYRO_STACK[:] = saved


# A capture leaves the program by an exception while it is traced; as BaseException no
# `except Exception` of the user's swallows it.
class ScanReached(BaseException):
    """A `scan` that the engine has not run yet."""

    def __init__(self, scan: Scan) -> None:
        self.scan = scan


class SiteReached(BaseException):
    """Inside a step: a latent site for the token kernel."""

    def __init__(self, name: str, fn: Distribution, scale: Any) -> None:
        self.name, self.fn, self.scale = name, fn, scale


class SegmentDone(BaseException):
    """Inside a candidate's re-execution: the next latent site, where its own factors end."""


@dataclasses.dataclass(frozen=True)
class Scan:
    """A captured NumPyro `scan` and the handlers around it."""

    f: Callable[..., Any]
    init: Any
    xs: Any
    length: int
    reverse: bool
    substitutions: tuple[tuple[str, Any], ...]
    around: tuple[Messenger, ...]


class Finished(NamedTuple):
    """A scan that has been run.

    :param leaves: of its last carry; None for one that all particles share and no step changes (weights, a
        prompt's cache): that is what it began with, wherever the program is run again.
    """

    leaves: list[Any]
    ys: Any

    def carry(self, init: Any) -> Any:
        """The last carry, of a scan that begins with `init`."""
        begun, treedef = jax.tree.flatten(init)
        both = zip(begun, self.leaves, strict=True)
        return jax.tree.unflatten(treedef, [jnp.asarray(b) if leaf is None else leaf for b, leaf in both])


@dataclasses.dataclass(frozen=True)
class Given:
    """Values of latent sites that take the place of fresh draws.

    :param values: by site name; `keep`: whether they do.
    """

    values: dict[str, Any]
    keep: Any

    def choose(self, name: str, fresh: Any) -> Any:
        """The site's value.

        :raises KeyError: if the site has none: the earlier run was of another program.
        """
        if name not in self.values:
            raise KeyError(f"site {name!r} was not in the run that is to be repeated")
        return jax.tree.map(lambda old, new: jnp.where(self.keep, old, new), self.values[name], fresh)


@dataclasses.dataclass
class Term:
    """A log-weight that a run of the program met, in order.

    :param name: the site it came from.
    :param segment: the latent kernel site before it (within one step), if any.
    """

    name: str
    value: Any
    segment: str | None = None


class Listener(Messenger):
    """What outer programs and steps have in common: keys, draws from the prior, weights.

    :param rng_key: this particle's; sites take keys by their order.
    :param values: latent sites already drawn (re-execution substitutes them).
    :param retained: what is repeated of an earlier run's particle, if anything.
    """

    def __init__(
        self, rng_key: Any, values: dict[str, Any], conds: list[Any], retained: Given | None = None
    ) -> None:
        super().__init__()
        self.retained = retained
        self.rng_key = rng_key
        self.values = values
        self.conds = conds
        self.num_keys = 0
        self.num_conds = 0
        self.terms: list[Term] = []
        self.log_priors: list[Any] = []
        self.recorded: dict[str, Any] = {}
        self.twists: dict[str, Any] = {}
        self.names: set[str] = set()

    def next_key(self) -> Any:
        self.num_keys += 1
        return random.fold_in(self.rng_key, self.num_keys)

    def add(self, name: str, value: Any) -> None:
        self.terms.append(Term(name, jnp.asarray(value, jnp.float32)))

    def process_message(self, msg: Any) -> None:
        kind = msg["type"]
        if kind == "sample":
            self.sample(msg)
        elif kind == "control_flow":
            self.control_flow(msg)
        elif kind in ("prng_key", "plate") and msg["value"] is None:
            self.auxiliary(msg)
        elif kind == "mutable":
            raise UnsupportedProgram(
                f"numpyro.mutable({msg['name']!r}) has no meaning for many particles: "
                "carry the value through the program"
            )
        elif kind == "sentax_twist":
            self.twist(msg["details"]["name"], msg["value"])

    def postprocess_message(self, msg: Any) -> None:
        if msg["type"] == "deterministic":
            self.check_name(msg["name"])
            self.recorded[msg["name"]] = msg["value"]

    def auxiliary(self, msg: Any) -> None:
        """A key or a plate's subsample: drawn once, and the same whenever the program is run again."""
        if self.retained is not None:
            raise UnsupportedProgram(
                f"numpyro's {msg['type']} draws randomness that is no site, so that it cannot be kept from an "
                "earlier run: draw it at a site, or give it to the program as an argument"
            )
        key = self.next_key()
        slot = f"{msg['type']}:{msg.get('name') or self.num_keys}"
        if slot not in self.values:
            self.values[slot] = msg["fn"](*msg["args"], **(msg["kwargs"] | {"rng_key": key}))
        msg["value"] = self.values[slot]

    def check_name(self, name: str) -> None:
        if name in self.names:
            raise ValueError(f"the site name {name!r} is used twice; every site needs its own")
        self.names.add(name)

    def sample(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        if msg.get("_control_flow_done"):  # the records of a `cond`, whose latent sites are drawn already
            if msg["is_observed"]:
                self.add(name, site_log_prob(fn, msg["value"], msg["scale"]))
            return
        self.check_name(name)
        if msg["value"] is not None:
            # Observed, conditioned or substituted: the program's density at that value.
            self.add(name, site_log_prob(fn, msg["value"], msg["scale"]))
            return
        if msg["kwargs"].get("rng_key") is not None:
            raise UnsupportedProgram(
                f"site {name!r} brings its own rng_key, so that all particles would draw the same value: "
                "remove numpyro.handlers.seed (or rng_key=) from the model; run(rng_key, ...) seeds it"
            )
        self.latent(msg)
        self.recorded[name] = msg["value"]

    def retain(self, name: str, fresh: Any) -> Any:
        """The value of a latent site: the one just drawn, or that of a retained particle."""
        return fresh if self.retained is None else self.retained.choose(name, fresh)

    def latent(self, msg: Any) -> None:
        """Gives the site a value: drawn before, or drawn now from the prior."""
        name, fn = msg["name"], msg["fn"]
        key = self.next_key()
        if name in self.values:
            msg["value"] = self.values[name]
        else:
            fresh = fn(rng_key=key, sample_shape=msg["kwargs"].get("sample_shape", ()))
            msg["value"] = self.values[name] = self.retain(name, fresh)
            self.add_prior(fn, msg["value"])
        correction = prior_correction(fn, msg["value"], msg["scale"])
        if correction is not None:
            self.add(name, correction)

    def add_prior(self, fn: Distribution, value: Any) -> None:
        """Notes a retained latent's own density, which is no weight of its draw."""
        if self.retained is not None:
            self.log_priors.append(jnp.sum(unmasked(fn).log_prob(value)))

    def twist(self, name: str, value: Any) -> None:
        self.add(name, telescope(value, self.twists.get(name, 0.0)))
        self.twists[name] = value

    def control_flow(self, msg: Any) -> None:
        if msg["fn"] is scan_wrapper:
            self.scan(msg)
            return
        if self.retained is not None:
            raise UnsupportedProgram(
                "numpyro's cond: what its branches draw cannot be kept from an earlier run; "
                "draw outside of it, or use jax.lax.cond on values drawn before"
            )
        # numpyro's `cond`: its branches draw from the prior and hand out a record of what they did.
        msg["kwargs"]["rng_key"] = self.next_key()
        if self.num_conds < len(self.conds):
            msg["value"] = self.conds[self.num_conds]
        else:
            msg["value"] = msg["fn"](*msg["args"], **msg["kwargs"])
            self.conds.append(msg["value"])
        self.num_conds += 1

    def scan(self, msg: Any) -> None:
        raise NotImplementedError


class OuterListener(Listener):
    """The program from its top: replays the scans that are done, leaves at the next one.

    :param scans: results of the scans already run; weights before the last of them are counted.
    :param unmasked: filled with the reasons of the sites that have no mask; None if none is wanted.
    :param proposing: whether sites should carry their proposals along.
    """

    def __init__(
        self,
        rng_key: Any,
        values: dict[str, Any],
        conds: list[Any],
        scans: list[Any],
        unmasked: dict[str, str] | None = None,
        retained: Given | None = None,
        proposing: bool = False,
    ) -> None:
        super().__init__(rng_key, values, conds, retained)
        self.proposing = proposing
        self.unmasked = unmasked
        self.scans = scans
        self.num_scans = 0
        self.texts: dict[str, Any] = {}
        self.rewards: dict[str, Any] = {}
        self.required: dict[str, Any] = {}

    def add(self, name: str, value: Any) -> None:
        if self.num_scans == len(self.scans):
            super().add(name, value)

    def process_message(self, msg: Any) -> None:
        super().process_message(msg)
        if msg["type"] == "sentax_text":
            self.texts[msg["details"]["name"]] = msg["value"]
        elif msg["type"] == "sentax_reward":
            self.rewards[msg["details"]["name"]] = msg["value"]
        elif msg["type"] == "sentax_require":
            self.required[msg["details"]["message"]] = msg["value"]
        elif msg["type"] == "sentax_proposing":
            msg["value"] = self.proposing
        elif msg["type"] == "sentax_masker" and self.unmasked is not None:
            masker = msg["details"]["make"]()
            if isinstance(masker, NoMask):
                self.unmasked[msg["details"]["name"]] = masker.reason
            else:
                msg["value"] = masker

    def twist(self, name: str, value: Any) -> None:
        if self.num_scans == len(self.scans):
            super().twist(name, value)

    def scan(self, msg: Any) -> None:
        if self.num_scans < len(self.scans):
            finished = self.scans[self.num_scans]
            self.num_scans += 1
            msg["value"] = ((0, None, finished.carry(msg["args"][1])), (PytreeTrace({}), finished.ys))
            return
        f, init, xs, length, reverse = msg["args"]
        if length is None:
            length = int(jnp.shape(jax.tree.leaves(xs)[0])[0])
        raise ScanReached(
            Scan(f, init, xs, length, reverse, tuple(msg["kwargs"]["substitute_stack"]), self._around())
        )

    def _around(self) -> tuple[Messenger, ...]:
        """The handlers between this one and the scan, those that must act on its sites."""
        kept = []
        for handler in _PYRO_STACK[_PYRO_STACK.index(self) + 1 :]:
            if isinstance(handler, (handlers.mask, handlers.scale, handlers.scope, handlers.infer_config)):
                kept.append(handler)
            elif isinstance(handler, handlers.seed):
                raise UnsupportedProgram(
                    "numpyro.handlers.seed inside the model: all particles would draw the same values; "
                    "remove it, run(rng_key, ...) seeds the model"
                )
            elif not isinstance(
                handler, (handlers.trace, handlers.condition, handlers.substitute, handlers.replay)
            ):
                raise UnsupportedProgram(
                    f"{type(handler).__name__} around a scan: the engine cannot apply it step by step; "
                    "put it inside the scanned function"
                )
        return tuple(kept)


class StepListener(Listener):
    """One step of a scan: leaves at each latent site that the kernel is to draw.

    :param kernel_sites: names and values the kernel has drawn in this step, in order.
    :param twists: the values at the beginning of the step.
    :param stop_after: leave at the latent site after this one (a candidate's re-execution).
    :param masked: whether that candidate is among those that its site's mask lets through.
    """

    def __init__(
        self,
        rng_key: Any,
        values: dict[str, Any],
        conds: list[Any],
        twists: dict[str, Any],
        kernel_sites: dict[str, Any],
        stop_after: str | None = None,
        masked: bool = False,
        retained: Given | None = None,
    ) -> None:
        super().__init__(rng_key, values, conds, retained)
        self.twists = dict(twists)
        self.masked = masked
        self.masks: dict[str, Any] = {}
        self.proposals: dict[str, Any] = {}
        self.units: dict[str, Any] = {}
        self.kernel_sites = kernel_sites
        self.stop_after = stop_after
        self.segment: str | None = None
        self.finish: Any = None

    def process_message(self, msg: Any) -> None:
        super().process_message(msg)
        if msg["type"] == "sentax_finish":
            self.finish = (msg["value"], msg["details"])
        elif msg["type"] == "sentax_mask":
            self.masks[msg["details"]["name"]] = msg["value"]
        elif msg["type"] == "sentax_proposal":
            self.proposals[msg["details"]["name"]] = msg["value"]
        elif msg["type"] == "sentax_unit":
            self.units[msg["details"]["name"]] = msg["value"]
        elif msg["type"] == "sentax_reward":
            raise UnsupportedProgram(
                f"reward {msg['details']['name']!r} inside a scanned function: carry the sum out of the scan "
                "and give it after; sentax.outlook guides inference inside"
            )
        elif msg["type"] == "sentax_weighed":
            self.end_segment()
        elif msg["type"] == "sentax_masked":
            msg["value"] = self.masked and msg["details"]["name"] == self.stop_after

    def add(self, name: str, value: Any) -> None:
        super().add(name, value)
        self.terms[-1].segment = self.segment

    def end_segment(self) -> None:
        """What follows is no part of the draw before it."""
        if self.stop_after is not None and self.segment == self.stop_after:
            raise SegmentDone
        self.segment = None

    def latent(self, msg: Any) -> None:
        name, fn = msg["name"], msg["fn"]
        if self.stop_after is not None and self.segment == self.stop_after:
            raise SegmentDone
        if is_finite_support(fn) and not msg["kwargs"].get("sample_shape"):
            if name not in self.kernel_sites:
                raise SiteReached(name, fn, msg["scale"])
            self.next_key()
            msg["value"] = self.kernel_sites[name]
            self.segment = name
            self.add_prior(fn, msg["value"])
            owed = None if self.retained is None else prior_correction(fn, msg["value"], msg["scale"])
            if owed is not None:
                self.log_priors.append(owed)
            return
        self.segment = None
        super().latent(msg)

    def control_flow(self, msg: Any) -> None:
        self.end_segment()
        super().control_flow(msg)

    def scan(self, msg: Any) -> None:
        raise UnsupportedProgram(
            "a scan inside a scanned function: the engine runs one level of scans; flatten the loops into one, "
            "or use jax.lax.scan for an inner loop without sites"
        )


def is_finite_support(fn: Distribution) -> bool:
    """Whether a token kernel can draw this site: one outcome out of an enumerable support."""
    return bool(fn.has_enumerate_support) and tuple(fn.batch_shape) == () and tuple(fn.event_shape) == ()


def site_log_prob(fn: Distribution, value: Any, scale: Any) -> Any:
    log_prob = fn.log_prob(value)
    return jnp.sum(log_prob if scale is None else scale * log_prob)


def prior_correction(fn: Distribution, value: Any, scale: Any) -> Any:
    """What a draw from the prior still owes the target: `(scale - 1) log p`; a masked site owes nothing."""
    if scale is None:
        return None
    return jnp.sum((scale - 1.0) * fn.log_prob(value))


def unmasked(fn: Distribution) -> Distribution:
    """The distribution that is drawn from: what a mask hides is still drawn."""
    while isinstance(fn, MaskedDistribution):
        fn = fn.base_dist
    return fn


def telescope(value: Any, last: Any) -> Any:
    """`value - last`; minus infinity stays that, and a particle that died of it owes nothing more."""
    last = jnp.asarray(last, jnp.float32)
    return jnp.where(jnp.isneginf(value), -jnp.inf, jnp.where(jnp.isneginf(last), 0.0, value - last))
