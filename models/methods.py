"""What every language model can do beside making prompts, and the wrapper that a transform makes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sentax.models.scoring import sample, score
from sentax.models.transforms import MinP, Temperature, TopK, TopP, Transform
from sentax.ppl.language_model import LanguageModel, VocabularyLike
from sentax.ppl.pytree import pytree
from sentax.ppl.text import Text


class LanguageModelMethods:
    """A mixin for language models: transforms, scores, samples.

    **Transforms are part of the model.** ``lm.temperature(0.7)`` is another language model: its
    distribution is the prior of every program that uses it, log-evidence is relative to it, and a
    constraint whose texts need a token that ``top_k`` has removed has probability zero. They apply in
    the order written: ``lm.temperature(0.7).top_p(0.9)`` takes the nucleus of the tempered
    distribution. After a healed prompt they see the distribution over the tokens that may follow it.
    The number may be traced: ``lm.temperature(t)`` inside a program with ``t`` a latent variable.
    """

    def temperature(self: Any, value: Float[Array, ""] | float) -> TransformedLM:
        r"""This model with :math:`p(x)^{1/T}`, renormalised.

        :param value: T, above 0: under 1 sharper, over 1 flatter, 1 the model itself.
        :raises ValueError: if it is out of range (where it is known).

            >>> import jax, numpy as np, sentax as sx
            >>> lm = sx.TableLM(np.log([[0.8, 0.2], [0.8, 0.2]]), None, [b"a", b""], end_of_text=1)
            >>> sharper = jax.nn.softmax(lm.temperature(0.5).prompt().logits)
            >>> round(float(sharper[0] / sharper[1]), 3)
            16.0
        """
        return TransformedLM(self, Temperature(value))

    def top_k(self: Any, k: Int[Array, ""] | int) -> TransformedLM:
        """This model with its `k` most probable next tokens, and those as probable as the last of them.

        :param k: at least 1. Ties are kept, so that nothing depends on the order of the tokens.
        """
        return TransformedLM(self, TopK(k))

    def top_p(self: Any, p: Float[Array, ""] | float) -> TransformedLM:
        """This model with its nucleus (Holtzman et al. 2020): the most probable tokens of mass `p`.

        A token is kept if the tokens *more* probable than it have together less than `p`: at least one
        is, and ties are kept.

        :param p: above 0, at most 1.
        """
        return TransformedLM(self, TopP(p))

    def min_p(self: Any, p: Float[Array, ""] | float) -> TransformedLM:
        """This model with the tokens that are at least `p` times as probable as the most probable one.

        :param p: between 0 (all tokens) and 1 (the most probable ones). Nguyen et al. 2024.
        """
        return TransformedLM(self, MinP(p))

    def score(self: Any, texts: Any, prompt: Any = "", **options: Any) -> Any:
        """Log-probabilities of texts after a prompt: :func:`sentax.models.scoring.score`."""
        return score(self, texts, prompt, **options)

    def sample(self: Any, rng_key: Array, prompt: Any = "", **options: Any) -> Text:
        """Texts from the model as it is: :func:`sentax.models.scoring.sample`."""
        return sample(self, rng_key, prompt, **options)


class TransformedLM(LanguageModelMethods):
    """A language model whose next-token distribution is another one's, transformed.

    Made by the methods of a model; made by hand with a transform of one's own.

    :param lm: the model.
    :param transform: a pytree with ``transform(logits) -> logits``.

        >>> import sentax as sx
        >>> lm = sx.TableLM.uniform([b"a", b"b"])
        >>> TransformedLM(lm, TopK(1)).prompt().logits.shape
        (3,)
    """

    def __init__(self, lm: LanguageModel, transform: Transform):
        # Arrays, so that a loop can carry them.
        self.lm, self.transform = lm, jax.tree.map(jnp.asarray, transform)

    @property
    def vocabulary(self) -> VocabularyLike:
        return self.lm.vocabulary

    def prompt(self, text: Any = "", **options: Any) -> TransformedContext:
        """The context after a prompt: what the model itself takes."""
        return TransformedContext(self.lm.prompt(text, **options), self.transform)

    def __repr__(self) -> str:
        return f"{self.lm!r} | {self.transform!r}"


@pytree
@dataclasses.dataclass(frozen=True)
class TransformedContext:
    """A context of :class:`TransformedLM`: what it wraps runs, its logits are transformed when asked for."""

    inner: Any
    transform: Any

    @property
    def vocabulary(self) -> VocabularyLike:
        return self.inner.vocabulary

    @property
    def logits(self) -> Float[Array, " V"]:
        # Outside `jit` a transform of many small operations would be compiled one by one.
        return _apply(self.transform, self.inner.logits)

    @property
    def features(self) -> Float[Array, " D"]:
        """Those of the model itself, where it has some."""
        return self.inner.features

    @property
    def seam(self) -> Int[Array, ""]:
        return self.inner.seam

    @property
    def room(self) -> Int[Array, ""]:
        return self.inner.room

    def reserve(self, num_tokens: int) -> TransformedContext:
        return dataclasses.replace(self, inner=self.inner.reserve(num_tokens))

    def extend(self, token: Int[Array, ""] | int, active: Bool[Array, ""] | bool = True) -> TransformedContext:
        return dataclasses.replace(self, inner=self.inner.extend(token, active))

    def append(self, tokens: Int[Array, " C"], active: Bool[Array, ""] | bool = True) -> TransformedContext:
        """Fixed text, where the model itself can take it."""
        return dataclasses.replace(self, inner=self.inner.append(tokens, active))

    def append_text(self, text: str, active: Bool[Array, ""] | bool = True) -> TransformedContext:
        """Fixed text, where the model itself can take it."""
        return dataclasses.replace(self, inner=self.inner.append_text(text, active))


@functools.partial(jax.jit, inline=True)
def _apply(transform: Any, logits: Float[Array, " V"]) -> Float[Array, " V"]:
    return transform(jnp.asarray(logits, jnp.float32))


__all__ = ["LanguageModelMethods", "TransformedContext", "TransformedLM"]
