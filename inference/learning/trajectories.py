"""What learning sees of a run: each text with the states that it was drawn from, and its weights."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro
from jaxtyping import Array, Bool, Float, Int

from sentax.inference.control import Control
from sentax.inference.engine import Population, run_particles
from sentax.inference.errors import UnsupportedProgram
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.base import Kernel
from sentax.inference.learning.heads import LearnedHead, features_of
from sentax.inference.resampling import systematic
from sentax.inference.sites import SiteNumbers
from sentax.inference.state import Retained
from sentax.ppl.pytree import pytree
from sentax.ppl.text import token_bytes


@pytree
@dataclasses.dataclass(frozen=True)
class Recorder:
    """A learned head that leaves in the trace what it read.

    :param head: what is called.
    :param site: the name of the text; the states become the sites `site/features` and `site/logits`.
    :param logits: whether the model's own logits are kept too: `[N, T, V]` numbers.
    """

    head: LearnedHead
    site: str = dataclasses.field(metadata={"static": True})
    logits: bool = dataclasses.field(default=False, metadata={"static": True})

    def __call__(self, context: Any, remaining: Int[Array, ""]) -> Float[Array, " V"]:
        numpyro.deterministic(f"{self.site}/features", features_of(context))
        if self.logits:
            numpyro.deterministic(f"{self.site}/logits", context.logits)
        return self.head(context, remaining)


class Trajectories(NamedTuple):
    """N texts of a run.

    :param features: the state before each token; `logits` the model's own, where they were recorded.
    :param remaining: how many tokens could still come, the one at this place included.
    :param active: whether the text had not ended before this place.
    :param last: the place of the latest active token up to here: where a finished text's twist stands.
    :param log_increments: what each step multiplied the weight by, twist included.
    :param log_weights: at the end of the program, twists settled, evidence included.
    """

    tokens: Int[Array, "N T"]
    features: Float[Array, "N T D"]
    logits: Float[Array, "N T V"] | None
    remaining: Int[Array, " T"]
    active: Bool[Array, "N T"]
    last: Int[Array, "N T"]
    log_increments: Float[Array, "N T"]
    log_weights: Float[Array, " N"]


def sample_trajectories(
    kernel: Kernel,
    recorder: Recorder,
    rng_key: Array,
    args: tuple,
    *,
    num_particles: int,
    ess_threshold: float = 0.0,
    given: Int[Array, "N T"] | None = None,
) -> Trajectories:
    """Runs the program with the head in its place.

    :param ess_threshold: as in :class:`~sentax.inference.smc.SMC`. Where the particles were resampled,
        `log_increments` follow the lineages of the survivors only.
    :param given: texts that take the place of drawn ones.
    :raises UnsupportedProgram: if the program draws other things than texts in its scans.
    :raises KeyError: if it has no text of that name, or the head is not that text's.
    """
    config = FilterConfig(num_particles, Control(ess_threshold, systematic))
    retained = None
    if given is not None:
        # The increments of given texts are nobody's business: their weights are equal.
        lengths = jnp.full(num_particles, jnp.iinfo(jnp.int32).max)
        retained = Retained({recorder.site: given}, (jnp.zeros(given.shape, jnp.float32),), lengths)
    population = run_particles(
        kernel, config, SiteNumbers(), rng_key, args, {recorder.head.keyword: recorder}, retained
    )
    return _trajectories(population, recorder)


def _trajectories(population: Population, recorder: Recorder) -> Trajectories:
    site = recorder.site
    if site not in population.texts:
        raise KeyError(f"the program has no text {site!r}; it has {sorted(population.texts)}")
    if f"{site}/features" not in population.samples:
        keyword = recorder.head.keyword
        raise KeyError(
            f"text {site!r} does not use the program's argument {keyword!r}: generate(..., {keyword}=)"
        )
    if len(population.increments) != len(population.texts):
        raise UnsupportedProgram("learning needs a program whose scans are all texts of sentax.generate")
    text = population.texts[site]
    tokens = population.samples[site]
    N, T = tokens.shape
    vocabulary = jax.tree.map(lambda leaf: leaf[0], text.vocabulary)
    seams = jnp.zeros((N, T), jnp.int32).at[:, 0].set(text.seam)
    ends = jax.vmap(jax.vmap(lambda token, seam: token_bytes(vocabulary, token, seam, text.stop)[1]))(
        tokens, seams
    )
    end = jnp.where(ends.any(1), jnp.argmax(ends, axis=1), T - 1)
    places = jnp.arange(T)
    return Trajectories(
        tokens=tokens,
        features=population.samples[f"{site}/features"],
        logits=population.samples.get(f"{site}/logits"),
        remaining=jnp.arange(T, 0, -1),
        active=places <= end[:, None],
        last=jnp.minimum(places, end[:, None]),
        log_increments=population.increments[list(population.texts).index(site)],
        log_weights=population.log_weights,
    )


__all__ = ["Recorder", "Trajectories", "sample_trajectories"]
