"""What any language model can be asked without inference: the probability of a text, and samples."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, Int
from numpyro import handlers

from sentax.models.contexts import pad_tokens
from sentax.ppl.language_model import Context, LanguageModel
from sentax.ppl.primitives import generate
from sentax.ppl.text import Text


class TokenScores(NamedTuple):
    """The tokens of some texts and what each of them costs.

    :param tokens: `[B, T]` ids, padded with -1.
    :param log_probs: `[B, T]` float32, 0 where padded: log P(token | prompt, tokens before it).
    """

    tokens: Int[np.ndarray, "B T"]
    log_probs: Float[np.ndarray, "B T"]


def score(
    lm: LanguageModel,
    texts: str | bytes | Sequence[int] | Sequence[str | bytes | Sequence[int]],
    prompt: Any = "",
    *,
    end: bool = False,
    per_token: bool = False,
    **options: Any,
) -> Any:
    r"""Log-probabilities of texts after a prompt.

    .. math:: \log P(x \mid \text{prompt}) = \sum_t \log p(x_t \mid \text{prompt}, x_{<t}),

    with :math:`x` the *canonical* tokens of the text, those that the tokenizer cuts it into: a lower
    bound on the probability of its bytes, which other cuts share. Where the prompt was healed, the
    bytes taken back from it are tokenized together with the text.

    :param lm: the model; its transforms (temperature and the like) count.
    :param texts: B texts, or lists of token ids (at least one); or a single one.
    :param prompt: what :meth:`LanguageModel.prompt` takes.
    :param end: whether the text must end there: the log-probability of end-of-text is added.
    :param per_token: whether to return the terms of the sum.
    :param options: passed on to ``lm.prompt``.
    :return: float32 `[B]` (a float for a single text), `-inf` where a token is impossible; with
        `per_token`, :class:`TokenScores`.
    :raises ValueError: if a text cannot be tokenized, or does not fit in the context window.

    >>> import numpy as np, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b", b"c"])
    >>> np.exp(score(lm, [[0, 1], [2]])).round(4).tolist()
    [0.0625, 0.25]
    >>> score(lm, [[0, 1], [2]], end=True, per_token=True).tokens.tolist()
    [[0, 1, 3], [2, 3, -1]]
    """
    single = isinstance(texts, str | bytes) or (len(texts) > 0 and isinstance(texts[0], int | np.integer))
    items: list[Any] = [texts] if single else list(texts)
    context = lm.prompt(prompt, **options)
    rows = [_tokens(context, text) + [context.vocabulary.end_of_text] * end for text in items]
    longest = max(map(len, rows), default=0)
    if longest > int(context.room):
        raise ValueError(
            f"a text of {longest} tokens does not fit in the context window: room for {int(context.room)}"
        )
    # Both axes in buckets, so that new texts of a similar size reuse the compiled program.
    bucket = 1 << max(len(rows) - 1, 0).bit_length()
    padded = pad_tokens([*rows, *([[]] * (bucket - len(rows)))])
    room = context.reserve(min(padded.shape[1], int(context.room)))
    log_probs = np.asarray(_score(room, jnp.asarray(padded)))
    log_probs, padded = log_probs[: len(rows), :longest], padded[: len(rows), :longest]
    if per_token:
        return TokenScores(padded, log_probs)
    total = log_probs.sum(axis=1, dtype=np.float64).astype(np.float32)
    return float(total[0]) if single else total


@jax.jit
def _score(context: Context, tokens: Int[Array, "B T"]) -> Float[Array, "B T"]:
    def step(context: Any, token: Array) -> Any:
        active = token >= 0
        token = jnp.maximum(token, 0)
        log_prob = jnp.where(active, context.logits[token] - jax.nn.logsumexp(context.logits), 0.0)
        return context.extend(token, active), log_prob

    return jax.vmap(lambda row: lax.scan(step, context, row)[1])(tokens)


def _tokens(context: Context, text: Any) -> list[int]:
    """The canonical tokens of a text that continues a prompt, the healed bytes of the prompt included."""
    vocabulary: Any = context.vocabulary
    if not isinstance(text, str | bytes):
        return vocabulary.check_ids(text)
    if not context.seam:
        return vocabulary.encode(text)
    # All tokens that are possible behind a healed prompt begin with the bytes that were taken back.
    logits = np.asarray(context.logits)
    lead = vocabulary.tokens[int(logits.argmax())][: int(context.seam)]
    try:
        ids = vocabulary.encode((lead + (text.encode() if isinstance(text, str) else text)).decode())
        if vocabulary.tokens[ids[0]].startswith(lead):
            return ids
    except UnicodeDecodeError:
        pass
    # The tokenizer would cut inside what was taken back, or that starts inside a character: a token by itself.
    own = next(i for i in np.argsort(-logits, kind="stable") if vocabulary.tokens[i] == lead)
    return [int(own), *vocabulary.encode(text)]


def sample(
    lm: LanguageModel,
    rng_key: Array,
    prompt: Any = "",
    *,
    max_tokens: int,
    num_samples: int = 1,
    stop: str | bytes | None = None,
    **options: Any,
) -> Text:
    """Independent texts from a language model as it is, with no constraint.

    :param rng_key: `jax.random.key(seed)`.
    :param prompt: what :meth:`LanguageModel.prompt` takes.
    :param max_tokens: the most tokens a text may have.
    :param num_samples: N, how many texts.
    :param stop: as in :func:`sentax.generate`.
    :param options: passed on to ``lm.prompt``.
    :return: a batch of N texts: `.tokens` `[N, max_tokens]`, `.decode()` a list of N strings.
    :raises ValueError: for sizes under 1, or if the texts do not fit in the context window.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> texts = sample(lm, jax.random.key(0), max_tokens=3, num_samples=4)
    >>> texts.tokens.shape, len(texts.decode())
    ((4, 3), 4)
    """
    if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples < 1:
        raise ValueError(f"num_samples must be an integer of at least 1, got {num_samples!r}")
    context = lm.prompt(prompt, **options)
    if max_tokens > int(context.room):
        raise ValueError(
            f"max_tokens={max_tokens} does not fit in the context window: room for {int(context.room)}"
        )
    return _sample(context, random.split(rng_key, num_samples), max_tokens, stop)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _sample(context: Context, keys: Array, max_tokens: int, stop: str | bytes | None) -> Text:
    def one(rng_key: Array) -> Text:
        text = handlers.seed(generate, rng_key)("text", context, max_tokens, stop=stop)
        # The vocabulary and the context belong to the model: results keep the tokens.
        return dataclasses.replace(text, vocabulary=None, context=None)  # type: ignore[arg-type]

    texts = jax.vmap(one)(keys)
    return dataclasses.replace(texts, vocabulary=context.vocabulary)


__all__ = ["TokenScores", "sample", "score"]
