"""A decoder as a language model: prompts become contexts, contexts grow by tokens."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sentax.models.chat import ChatTemplate
from sentax.models.config import DecoderConfig
from sentax.models.decoder import KV, Decoder
from sentax.models.errors import ModelError
from sentax.models.vocabulary import Vocabulary
from sentax.models.weights import Params, abstract
from sentax.ppl.pytree import pytree

CHUNK = 256
"""Rows of a prompt that go through the decoder at once: attention's temporaries stay linear in the prompt."""

GRAIN = 16
"""Suffixes and fixed texts are padded to multiples of this, so that similar lengths share programs."""


@pytree
@dataclasses.dataclass(frozen=True)
class TransformerContext:
    """A transformer after some text: one particle, batched by :func:`jax.vmap`.

    What does not depend on the particle stays unbatched under `vmap` by itself: the parameters, the
    prompt's keys and values, and :attr:`slot`, which counts calls of :meth:`extend` whether or not they
    were active. The suffix, its mask, :attr:`position` and :attr:`logits` belong to the particle.

    Logits are the model's own with three changes. Tokens without text (special tokens, padding rows
    of the embedding) are impossible, so probabilities are renormalised over text and end-of-text. The
    probabilities of all tokens that end a text are summed into ``vocabulary.end_of_text``. Right after a
    healed prompt, only tokens that begin with the bytes taken back are possible.
    """

    config: DecoderConfig = dataclasses.field(metadata={"static": True})
    params: Params
    bias: Float[Array, " V"]
    vocabulary: Vocabulary
    past: tuple[KV, ...]
    """Read-only segments: the prompt, then fixed texts."""
    suffix: KV | None
    """The segment that :meth:`extend` writes, S slots per layer."""
    slot: Int[Array, ""]
    position: Int[Array, ""]
    """Tokens so far: the position of the next one."""
    logits: Float[Array, " V"]
    seam: Int[Array, ""]
    """Leading bytes of the next token that repeat the end of the prompt; 0 unless it was healed."""
    held: Int[Array, ""]
    """The token that healing took back from the prompt, -1 if none."""

    def reserve(self, num_tokens: int) -> TransformerContext:
        """Room for so many more calls of :meth:`extend`.

        :param num_tokens: how many; rounded up to a multiple of 16.
        :raises ValueError: if they do not fit in the context window (checked outside `jit` only).
        """
        if _concrete(self.position):
            self.config.check_window(int(np.max(self.position)) + num_tokens)
        num_tokens = _round_up(num_tokens, GRAIN)
        if self.suffix is not None:
            grow = lambda x, axis: jnp.pad(
                x, [(0, num_tokens if i == x.ndim + axis else 0) for i in range(x.ndim)]
            )
            keys, values, mask = self.suffix
            keys, values = jax.tree.map(lambda x: grow(x, -2), (keys, values))
            suffix = KV(keys, values, grow(mask, -1))
        else:
            suffix = _empty(self.config, num_tokens, self.past[0].keys[0].dtype)
        return dataclasses.replace(self, suffix=suffix)

    def extend(self, token: Int[Array, ""] | int, active: Bool[Array, ""] | bool = True) -> TransformerContext:
        """The context after one more token: one step of the decoder.

        :param token: the id.
        :param active: where false, a slot is spent but the distribution stays as it was.
        :return: the new context. If more tokens were extended than reserved, its logits are NaN;
            outside `jit` room is made instead.
        """
        if self.suffix is None or (_concrete(self.slot) and int(self.slot) >= self.suffix.mask.shape[-1]):
            self = self.reserve(1)
        return _extend(self, jnp.asarray(token, jnp.int32), jnp.asarray(active, bool))

    @property
    def room(self) -> Int[Array, ""]:
        """How many more tokens fit into the context window."""
        return jnp.asarray(self.config.max_positions, jnp.int32) - self.position

    def append(self, tokens: Int[Array, " C"], active: Bool[Array, ""] | bool = True) -> TransformerContext:
        """The context after C tokens of fixed text: one pass of the decoder, no reserved room needed.

        After a healed prompt the token that was taken back is put in front again, so the tokens are
        those of the text after the prompt. Each call adds a read-only segment to the context, which changes
        its structure: call it between loops, not inside one.

        :param tokens: the ids; -1 is padding.
        :param active: as in :meth:`extend`.
        """
        return _append(self, jnp.asarray(tokens, jnp.int32), jnp.asarray(active, bool))

    def append_text(self, text: str, active: Bool[Array, ""] | bool = True) -> TransformerContext:
        """:meth:`append` for the tokens of a text."""
        ids = self.vocabulary.encode(text)
        if not ids:
            return self
        padded = np.full(_round_up(len(ids), GRAIN), -1, np.int32)
        padded[: len(ids)] = ids
        return self.append(jnp.asarray(padded), active)

    def __repr__(self) -> str:
        slots = 0 if self.suffix is None else self.suffix.mask.shape[-1]
        return f"TransformerContext(position={self.position}, slots={slots}, {self.vocabulary!r})"


# `inline` keeps one flat jaxpr inside a caller's trace; the jit is for callers that have none.
@functools.partial(jax.jit, inline=True)
def _extend(context: TransformerContext, token: Array, active: Array) -> TransformerContext:
    logits, suffix = _decoder(context)(
        token[None],
        context.position[None],
        past=context.past,
        token_mask=active[None],
        head="last",
        cache=context.suffix,
        slot=context.slot,
    )
    # `dynamic_update_slice` would silently overwrite the last slot.
    logits = jnp.where(context.slot < suffix.mask.shape[0], _allowed(context, logits), jnp.nan)
    return dataclasses.replace(
        context,
        suffix=suffix,
        slot=context.slot + 1,
        position=context.position + active,
        logits=jnp.where(active, logits, context.logits),
        seam=jnp.where(active, 0, context.seam),
        held=jnp.where(active, -1, context.held),
    )


@functools.partial(jax.jit, inline=True)
def _append(context: TransformerContext, tokens: Array, active: Array) -> TransformerContext:
    tokens = jnp.concatenate([context.held[None], tokens])
    real = (tokens >= 0) & active
    cached = () if context.suffix is None else (context.suffix,)
    logits, segment = _decoder(context)(
        jnp.maximum(tokens, 0),
        context.position + jnp.cumsum(real) - real,
        past=(*context.past, *cached),
        token_mask=real,
        head=jnp.max(jnp.where(real, jnp.arange(tokens.shape[0]), 0)),
    )
    active = jnp.any(real)
    return dataclasses.replace(
        context,
        past=(*context.past, segment),
        position=context.position + jnp.sum(real, dtype=jnp.int32),
        logits=jnp.where(active, _allowed(context, logits), context.logits),
        seam=jnp.where(active, 0, context.seam),
        held=jnp.where(active, -1, context.held),
    )


@functools.partial(jax.jit, static_argnums=0)
def _prefill(config: DecoderConfig, params: Params, tokens: Int[Array, " P"], length: Int[Array, ""]):
    """Keys, values and mask of a padded prompt, and the logits after its last token."""
    decoder = nnx.merge(abstract(config)[0], params)
    rows = min(CHUNK, tokens.shape[0])

    def chunk(index, carry):
        cache, logits = carry
        start = index * rows
        positions = start + jnp.arange(rows)
        logits, cache = decoder(
            jax.lax.dynamic_slice_in_dim(tokens, start, rows),
            positions,
            token_mask=positions < length,
            head=jnp.clip(length - 1 - start, 0, rows - 1),
            cache=cache,
            slot=start,
        )
        return cache, logits

    cache = _empty(config, tokens.shape[0], params["norm"]["weight"].dtype)
    return jax.lax.fori_loop(0, -(-length // rows), chunk, (cache, jnp.zeros(config.vocab_size)))


class TransformerLM:
    """A transformer and its tokenizer.

    :param config: the decoder's shape.
    :param params: its parameters.
    :param vocabulary: its tokens.
    :param chat_template: renders chat messages, if the model has one.
    :raises ModelError: if the vocabulary and the embedding disagree in size.
    """

    def __init__(
        self,
        config: DecoderConfig,
        params: Params,
        vocabulary: Vocabulary,
        chat_template: ChatTemplate | None = None,
    ):
        if vocabulary.size != config.vocab_size:
            raise ModelError(
                f"the vocabulary has {vocabulary.size} tokens, the embedding {config.vocab_size} rows"
            )
        self.config, self.params = config, params
        self.vocabulary, self.chat_template = vocabulary, chat_template
        self.bias = jnp.where(vocabulary.drawable(), 0.0, -jnp.inf).astype(jnp.float32)

    def prompt(
        self,
        text: str | Sequence[int] | Int[np.ndarray | Array, " C"] | Sequence[Mapping[str, Any]] = "",
        *,
        heal: bool = True,
    ) -> TransformerContext:
        r"""The context after a prompt.

        **Token healing.** A tokenizer cuts a text into the tokens that its merges prefer, and the end of
        a prompt is a cut that the model has never seen: after ``"The link is http:"`` the token
        ``:`` is almost never followed by ``//``, because in training ``://`` was one token. With
        `heal` the last token of the prompt is taken back, and the first generated token must begin with
        the bytes that were taken back (the context's ``seam``; constraints and decoded texts skip them).
        So the evidence of a program is ``P(continuation | bytes of the prompt)`` as far as one token
        can tell, and no constraint becomes impossible because its first word straddles the border.
        The first token is drawn from the model's own distribution restricted to those tokens.

        Nothing is taken back if the last token is special, if it is the only one, or if no other token
        begins with its bytes. Ids and chat messages are never healed.

        :param text: a text (special tokens are recognised by name, as the tokenizer does), token ids as
            they are, or chat messages ``{"role": ..., "content": ...}`` for the model's chat template.
        :param heal: whether to heal the end of a text.
        :return: a context with no room for tokens yet.
        :raises ValueError: if the prompt is empty and the tokenizer has no token for the beginning of a
            text, or if it does not fit in the context window.
        :raises ModelError: if the model answers NaN.
        """
        ids, healable = self._encode(text)
        self.config.check_window(len(ids))
        bias, seam, held = self.bias, 0, -1
        taken = self.vocabulary.tokens[ids[-1]]
        if heal and healable and taken and len(ids) > 1:
            matches = self.vocabulary.starting_with(taken)
            if any(len(self.vocabulary.tokens[index]) > len(taken) for index in np.flatnonzero(matches)):
                bias = jnp.where(matches, bias, -jnp.inf)
                seam, held = len(taken), ids.pop()
        padded = np.zeros(_bucket(len(ids), self.config.max_positions), np.int32)
        padded[: len(ids)] = ids
        cache, logits = _prefill(self.config, self.params, jnp.asarray(padded), jnp.int32(len(ids)))
        context = TransformerContext(
            config=self.config,
            params=self.params,
            bias=self.bias,
            vocabulary=self.vocabulary,
            past=(cache,),
            suffix=None,
            slot=jnp.int32(0),
            position=jnp.int32(len(ids)),
            logits=_first_logits(self.vocabulary.ends, logits, bias),
            seam=jnp.int32(seam),
            held=jnp.int32(held),
        )
        if _concrete(context.logits) and np.isnan(context.logits).any():
            raise ModelError("the model answers NaN to this prompt: its weights or its dtype are broken")
        return context

    def _encode(self, text: Any) -> tuple[list[int], bool]:
        tokenizer = self.vocabulary.tokenizer
        if not isinstance(text, str):
            items = list(text)
            if items and isinstance(items[0], Mapping):
                if self.chat_template is None:
                    raise ValueError("this model has no chat template: give a text")
                return self.chat_template.encode(items), False
            if not items:
                raise ValueError("a prompt of token ids needs at least one")
            ids = [operator.index(item) for item in items]
            if bad := [i for i in ids if not 0 <= i < self.vocabulary.size]:
                raise ValueError(f"{bad[0]} is no token id below {self.vocabulary.size}")
            return ids, False
        if tokenizer is None:
            raise ValueError("this model has no tokenizer: give token ids")
        ids = tokenizer.encode_prompt(text)
        if not ids:
            raise ValueError("the prompt is empty, and this tokenizer has no token for the beginning of a text")
        if max(ids) >= self.vocabulary.size:
            raise ValueError(f"the prompt holds token {max(ids)}, which this model does not have")
        return ids, True

    def __repr__(self) -> str:
        size = sum(x.size for x in jax.tree.leaves(self.params))
        return f"TransformerLM({size / 1e6:.1f}M parameters, {self.vocabulary!r})"


def _decoder(context: TransformerContext) -> Decoder:
    return nnx.merge(abstract(context.config)[0], context.params)


def _allowed(context: TransformerContext, logits: Float[Array, " V"]) -> Float[Array, " V"]:
    return _mask(context.vocabulary.ends, logits, context.bias)


def _mask(ends: tuple[int, ...], logits: Float[Array, " V"], bias: Float[Array, " V"]) -> Float[Array, " V"]:
    """Impossible where the bias is -inf, with every way to end the text in one logit."""
    if len(ends) > 1:
        total = jax.nn.logsumexp(logits[jnp.array(ends)])
        logits = logits.at[ends[0]].set(total)
    return logits + bias


_first_logits = jax.jit(_mask, static_argnums=0)


def _empty(config: DecoderConfig, length: int, dtype: Any) -> KV:
    zeros = lambda: jnp.zeros((config.num_kv_heads, length, config.head_dim), dtype)
    layers = range(config.num_layers)
    return KV(tuple(zeros() for _ in layers), tuple(zeros() for _ in layers), jnp.zeros(length, bool))


def _bucket(length: int, max_positions: int) -> int:
    """The padded length of a prompt: a power of two from 64, in whole chunks, or the whole window."""
    bucket = 64
    while bucket < length:
        bucket *= 2
    if bucket <= CHUNK:
        return bucket
    return min(bucket, _round_up(max_positions, CHUNK))


def _concrete(x: Any) -> bool:
    return not isinstance(x, jax.core.Tracer)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
