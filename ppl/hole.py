"""A hole in a fixed text: a language model that is asked for what fits in front of what follows."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpyro
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sentax.ppl.language_model import Context, VocabularyLike
from sentax.ppl.primitives import _declare
from sentax.ppl.pytree import pytree


@runtime_checkable
class Reads(Protocol):
    """A context that scores several fixed tokens in one pass."""

    def read(self, tokens: Int[Array, " C"]) -> tuple[Context, Float[Array, " C"]]:
        """The context after the tokens, and the log-probability of each after those before it."""
        ...


def read(context: Context, tokens: Int[Array, " C"]) -> tuple[Context, Float[Array, " C"]]:
    """The context after C tokens, and the log-probability of each.

    In one pass where the context can (:class:`Reads`), else token by token, with room reserved by the caller.
    """
    if tokens.shape[0] and isinstance(context, Reads):
        return context.read(tokens)

    def step(context: Any, token: Array) -> Any:
        return context.extend(token), _log_probs(context)[token]

    return lax.scan(step, context, tokens)


def room_to_read(context: Context, num_tokens: int) -> int:
    """How much room a context needs for so many fixed tokens: none if it reads them in one pass."""
    return 0 if isinstance(context, Reads) else num_tokens


def score(context: Context, tokens: Int[Array, " C"]) -> Float[Array, ""]:
    """The log-probability of C tokens, C at least 1: the last one is not read."""
    if tokens.shape[0] == 1:
        return _log_probs(context)[tokens[0]]
    after, log_probs = read(context, tokens[:-1])
    return jnp.sum(log_probs) + _log_probs(after)[tokens[-1]]


@pytree
@dataclasses.dataclass(frozen=True)
class HoleContext:
    r"""A language model inside a hole, whose end-of-text token says that the fixed continuation begins.

    With :math:`p` the model and :math:`c` the first tokens of the continuation, the weight of a hole of n
    tokens is to be :math:`p(x_1 \dots x_n)\, p(c \mid x_1 \dots x_n)`. At a text with
    :math:`s_t = p(c \mid x_{\le t})` the token is drawn from

    .. math:: q(\text{end}) = s_t / Z_t,\qquad q(x) = p(x \mid x_{\le t})\, f_t / Z_t,
        \qquad Z_t = s_t + f_t \sum_x p(x \mid x_{\le t}),

    without the model's own end-of-text, and the weight of the step is :math:`Z_t / f_{t-1}` (with
    :math:`f_{-1} = 1`; at the last place :math:`f_t = 0`). The product over the steps is the weight wanted,
    whatever the positive :math:`f_t`: it is a guess of what going on is worth, the twist, which telescopes.
    The best one is the probability that the continuation comes later. Guided, the guess is the number of places
    left times the mean of the :math:`s` met so far (and of one :math:`V^{-|c|}`, so that it is never 0): a
    single :math:`s_t` would say that nothing can come of a text which is in the middle of a word.
    Unguided it is 1.

    :param inner: the model after the text so far.
    :param fixed: c, the tokens that are looked for; none of them (C = 0) if the model itself ends the hole.
    :param starts: which tokens may come first where bytes are owed.
    :param owed: leading bytes of the first token that belong to the fixed text before it.
    :param left: how many tokens the hole may still take.
    :param log_stop: :math:`\log s_t`; `log_on`: :math:`\log f_t`; `log_mass`: :math:`\log Z_t`.
    :param log_sum: of the :math:`s` so far, of which there are `count`.
    :param site: the name of the weight.
    """

    inner: Any
    fixed: Int[Array, " C"]
    starts: Bool[Array, " V"] | None
    owed: Int[Array, ""]
    left: Int[Array, ""]
    log_stop: Float[Array, ""]
    log_on: Float[Array, ""]
    log_mass: Float[Array, ""]
    log_sum: Float[Array, ""]
    count: Int[Array, ""]
    site: str = dataclasses.field(metadata={"static": True})
    guided: bool = dataclasses.field(metadata={"static": True})
    after: int = dataclasses.field(metadata={"static": True})
    """How many fixed tokens follow the hole, all in all."""

    @classmethod
    def begin(
        cls,
        site: str,
        inner: Context,
        fixed: Int[Array, " C"],
        max_tokens: int,
        *,
        after: int,
        guided: bool,
        owed: int = 0,
        starts: Bool[Array, " V"] | None = None,
    ) -> HoleContext:
        """The hole before its first token, weighed for what follows it.

        :param owed: bytes of the fixed text that the first token is to repeat, and `starts` the tokens that do.
        """
        zero = jnp.float32(0)
        hole = cls(
            inner=inner,
            fixed=fixed,
            starts=starts,
            owed=jnp.asarray(inner.seam, jnp.int32) + owed,
            left=jnp.int32(max_tokens),
            log_stop=zero,
            log_on=zero,
            log_mass=zero,
            log_sum=jnp.float32(-jnp.inf),
            count=jnp.int32(0),
            site=site,
            guided=guided,
            after=after,
        )
        # What is read here to look ahead is thrown away: `generate` reserves its own room.
        hole = dataclasses.replace(hole._look(inner.reserve(room_to_read(inner, fixed.shape[0]))), inner=inner)
        if fixed.shape[0] or starts is not None:
            numpyro.factor(f"{site}/start", hole.log_mass)
        return hole

    @property
    def vocabulary(self) -> VocabularyLike:
        return self.inner.vocabulary

    @property
    def seam(self) -> Int[Array, ""]:
        return self.owed

    @property
    def room(self) -> Int[Array, ""]:
        """What the text that follows leaves."""
        return self.inner.room - self.after

    def reserve(self, num_tokens: int) -> HoleContext:
        ahead = room_to_read(self.inner, self.fixed.shape[0])
        return dataclasses.replace(self, inner=self.inner.reserve(num_tokens + ahead))

    @property
    def logits(self) -> Float[Array, " V"]:
        log_probs, end = self._possible(), self.vocabulary.end_of_text
        if not self.fixed.shape[0]:
            return log_probs
        tilted = jnp.where(jnp.arange(log_probs.shape[0]) == end, self.log_stop, log_probs + self.log_on)
        # A dead particle still draws; anything will do.
        return jnp.where(jnp.isneginf(self.log_mass), _log_probs(self.inner), tilted)

    def extend(self, token: Int[Array, ""], active: Bool[Array, ""] | bool = True) -> HoleContext:
        """The hole after one more token, and the step's weight: for use inside a program."""
        if not self.fixed.shape[0]:
            started = jnp.where(active, 0, self.owed)
            return dataclasses.replace(self, inner=self.inner.extend(token, active), owed=started)
        # Looking ahead takes the model: done for the token that is drawn, not for each that might be.
        _declare("weighed", None)
        inner = self.inner.extend(token, active)
        began = dataclasses.replace(self, owed=jnp.zeros_like(self.owed), left=self.left - 1)
        new = began._look(inner)
        numpyro.factor(f"{self.site}/ahead", jnp.where(active, _less(new.log_mass, self.log_on), 0.0))
        kept = dataclasses.replace(self, inner=inner)
        return jax.tree.map(lambda n, k: n if n is k else jnp.where(active, n, k), new, kept)

    def _look(self, inner: Any) -> HoleContext:
        """The hole at a text that its numbers do not know of yet."""
        hole = dataclasses.replace(self, inner=inner)
        possible = hole._possible()
        if not self.fixed.shape[0]:
            return dataclasses.replace(hole, log_mass=jax.nn.logsumexp(possible))
        end = jnp.arange(possible.shape[0]) == self.vocabulary.end_of_text
        log_mass_on = jax.nn.logsumexp(jnp.where(end, -jnp.inf, possible))
        ready = self.owed == 0
        log_stop = jnp.where(ready, score(inner, self.fixed), -jnp.inf)
        log_sum = jnp.logaddexp(self.log_sum, log_stop)
        count = self.count + ready
        log_on = jnp.float32(0)
        if self.guided:
            unknown = -self.fixed.shape[0] * math.log(possible.shape[0])
            log_mean = jnp.logaddexp(log_sum, unknown) - jnp.log1p(count.astype(jnp.float32))
            log_on = log_mean + jnp.log(jnp.maximum(self.left, 1).astype(jnp.float32))
        log_on = jnp.where(self.left > 0, log_on, -jnp.inf)
        return dataclasses.replace(
            hole,
            log_stop=log_stop,
            log_on=log_on,
            log_mass=jnp.logaddexp(log_stop, log_on + log_mass_on),
            log_sum=log_sum,
            count=count,
        )

    def _possible(self) -> Float[Array, " V"]:
        """The model's own log-probabilities, of what may come next."""
        log_probs = _log_probs(self.inner)
        if self.starts is None:
            return log_probs
        return jnp.where(self.starts | (self.owed == 0), log_probs, -jnp.inf)


def _less(log_value: Array, log_guess: Array) -> Array:
    """Their difference; what is impossible stays so."""
    return jnp.where(jnp.isneginf(log_value), -jnp.inf, log_value - log_guess)


def _log_probs(context: Context) -> Float[Array, " V"]:
    return jax.nn.log_softmax(context.logits.astype(jnp.float32))


__all__ = ["HoleContext", "Reads", "read", "room_to_read", "score"]
