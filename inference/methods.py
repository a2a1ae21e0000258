"""Every sampler of the field by the name that papers give it, and what it promises."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from sentax.inference.asap import ASAp
from sentax.inference.baselines import LCD, BaseSampling, BestOfN, SampleRerank, TwistedSMC
from sentax.inference.beams import BeamSearch, SMCSteering, StochasticBeam
from sentax.inference.cars import CARS
from sentax.inference.kernels.awrs import AWRS
from sentax.inference.rejection import RejectionSampling
from sentax.inference.results import Results
from sentax.inference.smc import SMC


@dataclasses.dataclass(frozen=True)
class Method:
    """A sampler, and what is true of it.

    :param make: `(model, *, num_particles, **options) -> Results`, to be `run(rng_key, *args)`.
    :param exact: whether its samples are draws from the posterior.
    :param proper: whether its weighted sums are unbiased for the unnormalised posterior.
    :param converges_in: what must grow for its samples to become the posterior's: "particles", "draws"
        (over all runs of one sampler), or None if they never do (or already are).
    """

    make: Callable[..., Results]
    exact: bool = False
    proper: bool = False
    converges_in: str | None = None

    def __call__(self, model: Callable[..., Any], num_particles: int, **options: Any) -> Results:
        return self.make(model, num_particles=num_particles, **options)


def _awrs_smc(model: Callable[..., Any], **options: Any) -> SMC:
    return SMC(AWRS(model), **options)


def _beam(model: Callable[..., Any], *, num_particles: int, **options: Any) -> BeamSearch:
    return BeamSearch(model, num_beams=num_particles, **options)


def _stochastic_beam(model: Callable[..., Any], *, num_particles: int, **options: Any) -> StochasticBeam:
    return StochasticBeam(model, num_beams=num_particles, **options)


def _steering(model: Callable[..., Any], **options: Any) -> SMCSteering:
    return SMCSteering(AWRS(model), **options)


METHODS: dict[str, Method] = {
    "base": Method(BaseSampling),
    "best-of-n": Method(BestOfN),
    "lcd": Method(LCD),
    "sample-rerank": Method(SampleRerank, proper=True, converges_in="particles"),
    "rejection": Method(RejectionSampling, exact=True, proper=True),
    "twisted-smc": Method(TwistedSMC, proper=True, converges_in="particles"),
    "awrs-smc": Method(_awrs_smc, proper=True, converges_in="particles"),
    "asap": Method(ASAp, converges_in="draws"),
    "cars": Method(CARS, exact=True, proper=True),
    "beam": Method(_beam),
    "stochastic-beam": Method(_stochastic_beam, proper=True, converges_in="particles"),
    "smc-steering": Method(_steering, proper=True, converges_in="particles"),
}
"""By name; a new method is one line.

>>> sorted(name for name, method in METHODS.items() if method.exact)
['cars', 'rejection']
"""

__all__ = ["METHODS", "Method"]
