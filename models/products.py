"""Several language models with one vocabulary as one: products, mixtures, ratios."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sentax.models.errors import ModelError
from sentax.models.methods import LanguageModelMethods
from sentax.ppl.language_model import LanguageModel, VocabularyLike
from sentax.ppl.pytree import pytree


class Rule(Protocol):
    """A pytree that makes one next-token distribution of several, `[M, V]` normalised log-probabilities."""

    def __call__(self, log_probs: Float[Array, "M V"]) -> Float[Array, " V"]: ...


@pytree
@dataclasses.dataclass(frozen=True)
class Product:
    """See :func:`product`."""

    weights: Float[Array, " M"]

    def __call__(self, log_probs: Float[Array, "M V"]) -> Float[Array, " V"]:
        # A weight of zero leaves a model out, with what is impossible for it: 0 * -inf is not 0.
        terms = jnp.where(self.weights[:, None] == 0, 0.0, self.weights[:, None] * log_probs)
        return jnp.sum(terms, axis=0)


@pytree
@dataclasses.dataclass(frozen=True)
class Mixture:
    """See :func:`mixture`."""

    log_weights: Float[Array, " M"]

    def __call__(self, log_probs: Float[Array, "M V"]) -> Float[Array, " V"]:
        return jax.nn.logsumexp(log_probs + self.log_weights[:, None], axis=0)


@pytree
@dataclasses.dataclass(frozen=True)
class Ratio:
    """See :func:`ratio`."""

    alpha: Float[Array, ""]
    log_cutoff: Float[Array, ""]

    def __call__(self, log_probs: Float[Array, "M V"]) -> Float[Array, " V"]:
        expert, amateur = log_probs
        possible = (
            (expert >= jnp.max(expert) + self.log_cutoff) & ~jnp.isneginf(expert) & ~jnp.isneginf(amateur)
        )
        contrast = expert - self.alpha * jnp.where(jnp.isneginf(amateur), 0.0, amateur)
        # NaN must be seen, not taken for an implausible token.
        broken = jnp.isnan(expert) | jnp.isnan(amateur)
        return jnp.where(broken, jnp.nan, jnp.where(possible, contrast, -jnp.inf))


def product(*lms: LanguageModel, weights: Sequence[float] | None = None) -> CombinedLM:
    r"""A product of experts, renormalised at each token.

    .. math:: p(x_t \mid x_{<t}) \propto \prod_m p_m(x_t \mid x_{<t})^{w_m}

    With weights that sum to one it is the geometric mean. The normalisation is local, as in every
    language model: to weigh whole texts by a second model instead, add its score as a factor.

    :param lms: M models with one vocabulary.
    :param weights: M numbers, at least 0; all 1 unless given. For a negative one see :func:`ratio`.
    :raises ModelError: if the vocabularies differ; names the first token that does.

        >>> import jax, numpy as np, sentax as sx
        >>> a = sx.TableLM(np.log([[0.8, 0.2], [0.8, 0.2]]), None, [b"a", b""], end_of_text=1)
        >>> b = sx.TableLM(np.log([[0.2, 0.8], [0.5, 0.5]]), None, [b"a", b""], end_of_text=1)
        >>> context = product(a, b).prompt()
        >>> jax.nn.softmax(context.logits).round(3).tolist()
        [0.8..., 0.2...]
        >>> jax.nn.softmax(context.extend(0).logits).round(3).tolist()
        [0.5, 0.5]
    """
    return CombinedLM(lms, Product(_weights(lms, weights)))


def mixture(*lms: LanguageModel, weights: Sequence[float] | None = None) -> CombinedLM:
    r"""An ensemble: the weighted mean of the models' probabilities at each token.

    .. math:: p(x_t \mid x_{<t}) = \sum_m w_m\, p_m(x_t \mid x_{<t})

    The choice is made anew for each token. For a mixture of whole texts draw the model's index as a
    latent variable of the program.

    :param lms: M models with one vocabulary.
    :param weights: M numbers, at least 0, not all 0; normalised. All equal unless given.
    :raises ModelError: if the vocabularies differ; names the first token that does.

        >>> import jax, numpy as np, sentax as sx
        >>> a = sx.TableLM(np.log([[0.8, 0.2], [0.8, 0.2]]), None, [b"a", b""], end_of_text=1)
        >>> lm = mixture(a, sx.TableLM.uniform([b"a"]), weights=(3, 1))
        >>> jnp.exp(lm.prompt().logits).round(3).tolist()
        [0.725..., 0.275...]
    """
    values = _weights(lms, weights)
    if not float(values.sum()) > 0:
        raise ValueError("the weights of a mixture are all 0")
    return CombinedLM(lms, Mixture(jnp.log(values / values.sum())))


def ratio(
    expert: LanguageModel, amateur: LanguageModel, alpha: float = 1.0, *, cutoff: float = 0.1
) -> CombinedLM:
    r"""Contrastive decoding (Li et al. 2023): what the expert says more than the amateur does.

    .. math:: p(x_t \mid x_{<t}) \propto p_e(x_t \mid x_{<t}) \, p_a(x_t \mid x_{<t})^{-\alpha}
        \quad\text{where}\quad p_e(x_t \mid x_{<t}) \ge \text{cutoff} \cdot \max_x p_e(x \mid x_{<t})

    and 0 elsewhere: without the cutoff the ratio is largest where both are noise. A token that the
    amateur holds impossible is impossible: its ratio has no value.

    :param expert: the model to follow.
    :param amateur: the model to move away from, with the same vocabulary.
    :param alpha: how far, at least 0. Li et al. divide by the whole amateur: 1.
    :param cutoff: between 0 (no cutoff) and 1.
    :raises ModelError: if the vocabularies differ; names the first token that does.

        >>> import jax, numpy as np, sentax as sx
        >>> tokens = [b"a", b"b", b""]
        >>> expert = sx.TableLM(np.log([[0.6, 0.38, 0.02]] * 3), None, tokens, end_of_text=2)
        >>> amateur = sx.TableLM(np.log([[0.9, 0.09, 0.01]] * 3), None, tokens, end_of_text=2)
        >>> jax.nn.softmax(ratio(expert, amateur).prompt().logits).round(3).tolist()
        [0.136..., 0.864..., 0.0]
    """
    if not alpha >= 0:
        raise ValueError(f"alpha must be at least 0, got {alpha}")
    if not 0 <= cutoff <= 1:
        raise ValueError(f"cutoff must lie between 0 and 1, got {cutoff}")
    with np.errstate(divide="ignore"):
        rule = Ratio(jnp.float32(alpha), jnp.float32(np.log(cutoff)))
    return CombinedLM((expert, amateur), rule)


class CombinedLM(LanguageModelMethods):
    """Language models with one vocabulary that read the same text, and a rule that joins what they say.

    Made by :func:`product`, :func:`mixture` and :func:`ratio`.

    :param lms: M models, at least one.
    :param rule: a pytree with ``rule(log_probs [M, V]) -> logits [V]``.
    :raises ModelError: if the vocabularies differ; names the first token that does.
    """

    def __init__(self, lms: Sequence[LanguageModel], rule: Rule):
        if not lms:
            raise ValueError("no language model to combine")
        for index, lm in enumerate(lms[1:], start=1):
            check_same_vocabulary(lms[0].vocabulary, lm.vocabulary, f"model {index}")
        self.lms, self.rule = tuple(lms), rule

    @property
    def vocabulary(self) -> VocabularyLike:
        return self.lms[0].vocabulary

    def prompt(self, text: Any = "", **options: Any) -> CombinedContext:
        """The context after one prompt for all, or after one for each.

        :param text: what the models take; or a *tuple* of M of them, one for each model (so ids go in a
            list, not in a tuple).
        :param options: passed on, such as ``heal=False``.
        :raises ValueError: if the healed ends of the prompts leave no common token.
        """
        prompts = text if isinstance(text, tuple) else (text,) * len(self.lms)
        if len(prompts) != len(self.lms):
            raise ValueError(f"a tuple of {len(prompts)} prompts for {len(self.lms)} models")
        contexts = tuple(lm.prompt(each, **options) for lm, each in zip(self.lms, prompts))
        joined = CombinedContext(contexts, self.rule)
        seams = [int(context.seam) for context in contexts]
        if len(set(seams)) > 1 or (seams[0] and not np.isfinite(joined.logits).any()):
            raise ValueError(
                "the prompts end in different words, and the first token cannot complete them all: "
                "prompt with heal=False"
            )
        return joined

    def __repr__(self) -> str:
        return f"{type(self.rule).__name__}({', '.join(map(repr, self.lms))})"


@pytree
@dataclasses.dataclass(frozen=True)
class CombinedContext:
    """A context of :class:`CombinedLM`: every model's, after the same tokens."""

    contexts: tuple[Any, ...]
    rule: Any

    @property
    def vocabulary(self) -> VocabularyLike:
        return self.contexts[0].vocabulary

    @property
    def logits(self) -> Float[Array, " V"]:
        return _joined(self.rule, tuple(context.logits for context in self.contexts))

    @property
    def seam(self) -> Int[Array, ""]:
        return self.contexts[0].seam

    @property
    def room(self) -> Int[Array, ""]:
        """That of the model with the least."""
        return functools.reduce(jnp.minimum, (context.room for context in self.contexts))

    def reserve(self, num_tokens: int) -> CombinedContext:
        return self._each(lambda context: context.reserve(num_tokens))

    def extend(self, token: Int[Array, ""] | int, active: Bool[Array, ""] | bool = True) -> CombinedContext:
        return self._each(lambda context: context.extend(token, active))

    def append(self, tokens: Int[Array, " C"], active: Bool[Array, ""] | bool = True) -> CombinedContext:
        """Fixed text, where the models themselves can take it."""
        return self._each(lambda context: context.append(tokens, active))

    def append_text(self, text: str, active: Bool[Array, ""] | bool = True) -> CombinedContext:
        """Fixed text, where the models themselves can take it."""
        return self._each(lambda context: context.append_text(text, active))

    def _each(self, change: Any) -> CombinedContext:
        return dataclasses.replace(self, contexts=tuple(map(change, self.contexts)))


@functools.partial(jax.jit, inline=True)
def _joined(rule: Any, logits: tuple[Float[Array, " V"], ...]) -> Float[Array, " V"]:
    return rule(jnp.stack([jax.nn.log_softmax(x.astype(jnp.float32)) for x in logits]))


def check_same_vocabulary(first: VocabularyLike, other: VocabularyLike, name: str = "the other") -> None:
    """Refuses two vocabularies whose ids do not mean the same.

    :param name: what to call the second one's model.
    :raises ModelError: naming the first difference.
    """
    if first.size != other.size:
        raise ModelError(f"the vocabularies differ: {first.size} tokens, but {other.size} in {name}")
    if first.end_of_text != other.end_of_text:
        raise ModelError(
            f"the vocabularies differ: {first.end_of_text} ends a text, but {other.end_of_text} in {name}"
        )
    for index, (a, b) in enumerate(zip(first.tokens, other.tokens)):
        if a != b:
            raise ModelError(f"the vocabularies differ: token {index} is {a!r}, but {b!r} in {name}")


def _weights(lms: Sequence[LanguageModel], weights: Sequence[float] | None) -> Float[Array, " M"]:
    values = np.ones(len(lms)) if weights is None else np.asarray(weights, np.float64)
    if values.shape != (len(lms),):
        raise ValueError(f"{len(lms)} models need as many weights, got shape {values.shape}")
    if not ((values >= 0) & np.isfinite(values)).all():
        raise ValueError(f"weights must be at least 0 and finite, got {values.tolist()}")
    return jnp.asarray(values, jnp.float32)


__all__ = [
    "CombinedContext",
    "CombinedLM",
    "Mixture",
    "Product",
    "Ratio",
    "check_same_vocabulary",
    "mixture",
    "product",
    "ratio",
]
