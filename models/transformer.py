"""A transformer as a language model: prompts become contexts."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from sentax.models.attention import KV
from sentax.models.chat import ChatTemplate
from sentax.models.config import DecoderConfig
from sentax.models.contexts import (
    Contexts,
    TransformerContext,
    decoder_of,
    empty_segment,
    is_concrete,
    ring_sizes,
    round_up,
)
from sentax.models.errors import ModelError
from sentax.models.methods import LanguageModelMethods
from sentax.models.prompting import Prompt, PromptLike, read_prompt, text_bias, text_logits
from sentax.models.vocabulary import Vocabulary
from sentax.models.weights import Params

CHUNK = 256
"""Rows of a prompt that go through the decoder at once: attention's temporaries stay linear in the prompt."""


class TransformerLM(LanguageModelMethods):
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
        self.bias = text_bias(vocabulary)

    def prompt(self, text: PromptLike = "", *, heal: bool = True) -> TransformerContext:
        """The context after a prompt.

        :param text: a text (special tokens are recognised by name, as the tokenizer does), token ids as
            they are, or chat messages ``{"role": ..., "content": ...}`` for the model's chat template.
        :param heal: take the last token of a text back, and let the first generated token repeat its
            bytes: see :func:`~sentax.models.prompting.read_prompt`.
        :return: a context with no room for tokens yet.
        :raises ValueError: if the prompt is empty and the tokenizer has no token for the beginning of a
            text, or if it does not fit in the context window.
        :raises ModelError: if the model answers NaN.
        """
        prompt = self._read(text, heal)
        (tokens,) = self._padded([prompt])
        length = jnp.int32(len(prompt.ids))
        cache, features, logits = _prefill(self.config, self.params, tokens, length, length)
        logits = _text_logits(self.vocabulary.ends, logits, prompt.bias(self.bias))
        return self._context(cache, length, features, logits, jnp.int32(prompt.seam), jnp.int32(prompt.held))

    def prompts(self, texts: Sequence[PromptLike], *, heal: bool = True) -> Contexts:
        """The contexts after several prompts, padded to the length of the longest and read in one pass.

        :param texts: B prompts, each as in :meth:`prompt`.
        :param heal: as in :meth:`prompt`.
        :raises ValueError: if there are none, or one of them is bad: its number is in the message.
        :raises ModelError: if the model answers NaN.
        """
        if isinstance(texts, str) or not len(texts):
            raise ValueError("prompts() takes a list of at least one prompt; a single one is for prompt()")
        read = []
        for i, text in enumerate(texts):
            try:
                read.append(self._read(text, heal))
            except ValueError as error:
                raise ValueError(f"prompt {i}: {error}") from None
        lengths = jnp.array([len(prompt.ids) for prompt in read], jnp.int32)
        prefill = jax.vmap(functools.partial(_prefill, self.config), in_axes=(None, 0, 0, None))
        cache, features, logits = prefill(self.params, self._padded(read), lengths, jnp.max(lengths))
        bias = jnp.stack([prompt.bias(self.bias) for prompt in read])
        logits = jax.vmap(functools.partial(_text_logits, self.vocabulary.ends))(logits, bias)
        seams, held = jnp.array([(prompt.seam, prompt.held) for prompt in read], jnp.int32).T
        context = self._context(cache, lengths, features, logits, seams, held)
        return Contexts(context, num_shared=0, size=len(read))

    def turn(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """What a chat says between the model's last answer and its next one, as token ids.

        For a context after a generated answer: ``text.context.append(lm.turn([{"role": "user", ...}]))``.
        The end of the answer's own turn comes first, as the model does not read the token that ends its text.

        :param messages: the turns in between.
        :raises ValueError: if the model has no chat template, or the template rewrites earlier answers.
        """
        if self.chat_template is None:
            raise ValueError("this model has no chat template: append a text")
        return self.chat_template.encode_turn(messages)

    def with_adapter(self, directory: str | Path) -> TransformerLM:
        """Another language model: this one with a LoRA adapter merged into its weights.

        See :func:`sentax.models.lora.with_adapter`.

        :param directory: where PEFT wrote ``adapter_config.json`` and ``adapter_model.safetensors``.
        """
        from sentax.models.lora import with_adapter  # which imports this module

        return with_adapter(self, directory)

    def _read(self, text: PromptLike, heal: bool) -> Prompt:
        prompt = read_prompt(self.vocabulary, self.chat_template, text, heal=heal)
        self.config.check_window(prompt.num_tokens)
        return prompt

    def _padded(self, prompts: Sequence[Prompt]) -> Int[Array, "B P"]:
        longest = max(len(prompt.ids) for prompt in prompts)
        padded = np.zeros((len(prompts), _bucket(longest, self.config.max_positions)), np.int32)
        for row, prompt in zip(padded, prompts):
            row[: len(prompt.ids)] = prompt.ids
        return jnp.asarray(padded)

    def _context(
        self, cache: KV, position: Any, features: Any, logits: Any, seam: Any, held: Any
    ) -> TransformerContext:
        # A reduction on the devices: none of them, and no process, need hold all the logits.
        if is_concrete(logits) and bool(jnp.isnan(logits).any()):
            raise ModelError("the model answers NaN to this prompt: its weights or its dtype are broken")
        return TransformerContext(
            config=self.config,
            params=self.params,
            bias=self.bias,
            vocabulary=self.vocabulary,
            past=(cache,),
            suffix=None,
            slot=jnp.int32(0),
            position=position,
            logits=logits,
            features=features,
            seam=seam,
            held=held,
        )

    def __repr__(self) -> str:
        size = sum(x.size for x in jax.tree.leaves(self.params))
        return f"TransformerLM({size / 1e6:.1f}M parameters, {self.vocabulary!r})"


@functools.partial(jax.jit, static_argnums=0)
def _prefill(
    config: DecoderConfig,
    params: Params,
    tokens: Int[Array, " P"],
    length: Int[Array, ""],
    longest: Int[Array, ""],
) -> tuple[KV, Float[Array, " D"], Float[Array, " V"]]:
    """Keys and values of a padded prompt, and after its last token the state and the logits.

    :param longest: of the prompts of a batch: a number of chunks that is the same for all of them.
    """
    decoder = decoder_of(config, params)
    rows = min(CHUNK, tokens.shape[0])

    def chunk(index, carry):
        cache, features = carry
        start = index * rows
        positions = start + jnp.arange(rows)
        last = length - 1 - start
        new, cache = decoder.states(
            jax.lax.dynamic_slice_in_dim(tokens, start, rows),
            positions,
            token_mask=positions < length,
            head=jnp.clip(last, 0, rows - 1),
            cache=cache,
            slot=start,
            length=length,
        )
        return cache, jnp.where((last >= 0) & (last < rows), new, features)

    cache = empty_segment(config, tokens.shape[0], params["embed_tokens"]["weight"].dtype)
    start = cache, jnp.zeros(config.hidden_size)
    cache, features = jax.lax.fori_loop(0, -(-longest // rows), chunk, start)
    return _in_sight(config, cache, length), features, decoder.project(features)


def _in_sight(config: DecoderConfig, cache: KV, length: Int[Array, ""]) -> KV:
    """What later tokens can see of a prompt: of a layer with a sliding window, only the prompt's end."""
    bucket = cache.positions.shape[0]
    sizes = ring_sizes(config, bucket)
    kept = [sizes.get(layer.window or 0, bucket) for layer in config.layers]
    cut = lambda x, size: jax.lax.dynamic_slice_in_dim(
        x, jnp.clip(length - size, 0, bucket - size), size, axis=max(0, x.ndim - 2)
    )
    keys, values = (tuple(map(cut, stack, kept)) for stack in (cache.keys, cache.values))
    longest = max(kept)
    windows = {window: cut(cache.positions, size) for window, size in sizes.items() if size < longest}
    return KV(keys, values, cut(cache.positions, longest), windows)


_text_logits = jax.jit(text_logits, static_argnums=0)


def _bucket(length: int, max_positions: int) -> int:
    """The padded length of a prompt: a power of two from 64, in whole chunks, or the whole window."""
    bucket = 64
    while bucket < length:
        bucket *= 2
    if bucket <= CHUNK:
        return bucket
    return min(bucket, round_up(max_positions, CHUNK))


__all__ = ["TransformerLM"]
