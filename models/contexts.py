"""A transformer after a text, or after several: values that grow by tokens, shared where particles agree."""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sentax.models.attention import EMPTY, KV, write
from sentax.models.config import DecoderConfig
from sentax.models.decoder import Decoder
from sentax.models.prompting import text_logits
from sentax.models.vocabulary import Vocabulary
from sentax.models.weights import Params, abstract
from sentax.ppl.pytree import pytree

GRAIN = 16
"""Suffixes and fixed texts are padded to multiples of this, so that similar lengths share programs."""


@pytree
@dataclasses.dataclass(frozen=True)
class TransformerContext:
    """A transformer after some text: one particle, batched by :func:`jax.vmap`.

    What does not depend on the particle stays unbatched under `vmap` by itself: the parameters, the
    prompt's keys and values, and :attr:`slot`, which counts calls of :meth:`extend` whether or not they
    were active. The suffix, its mask, :attr:`position`, :attr:`logits` and :attr:`features` belong to the
    particle.

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
    features: Float[Array, " D"]
    """The decoder's last state, from which the logits come: what a learned twist reads."""
    seam: Int[Array, ""]
    """Leading bytes of the next token that repeat the end of the prompt; 0 unless it was healed."""
    held: Int[Array, ""]
    """The token that healing took back from the prompt, -1 if none."""

    def reserve(self, num_tokens: int) -> TransformerContext:
        """Room for so many more calls of :meth:`extend`.

        :param num_tokens: how many; rounded up to a multiple of 16.
        :raises ValueError: if they do not fit in the context window (checked outside `jit` only).
        """
        if is_concrete(self.position):
            start = int(np.max(self.position))
            self.config.check_window(start + num_tokens, start)
        num_tokens = round_up(num_tokens, GRAIN)
        if self.suffix is not None:
            suffix = _grown(self.config, self.suffix, num_tokens)
        else:
            suffix = empty_segment(self.config, num_tokens, self.past[0].keys[0].dtype, rings=True)
        return dataclasses.replace(self, suffix=suffix)

    def extend(self, token: Int[Array, ""] | int, active: Bool[Array, ""] | bool = True) -> TransformerContext:
        """The context after one more token: one step of the decoder.

        :param token: the id.
        :param active: where false, a slot is spent but the distribution stays as it was.
        :return: the new context. If more tokens were extended than reserved, its logits are NaN;
            outside `jit` room is made instead.
        """
        if self.suffix is None or (
            is_concrete(self.slot) and int(self.slot) >= self.suffix.positions.shape[-1]
        ):
            self = self.reserve(1)
        return _extend(self, jnp.asarray(token, jnp.int32), jnp.asarray(active, bool))

    @property
    def room(self) -> Int[Array, ""]:
        """How many more tokens fit into the context window."""
        window, switch = jnp.int32(self.config.max_positions), self.config.rope_switch
        if switch is not None:
            # Keys that are cached already were turned by the factors of shorter texts.
            window = jnp.where(self.position <= switch, jnp.minimum(window, switch), window)
        return window - self.position

    def append(
        self, tokens: Int[Array, " C"] | Sequence[int], active: Bool[Array, ""] | bool = True
    ) -> TransformerContext:
        """The context after C tokens of fixed text: one pass of the decoder, no reserved room needed.

        After a healed prompt the token that was taken back is put in front again, so the tokens are
        those of the text after the prompt. Each call adds a read-only segment to the context, which changes
        its structure: call it between loops, not inside one.

        :param tokens: the ids; -1 is padding. What a chat's next turn adds, :meth:`TransformerLM.turn` says.
        :param active: as in :meth:`extend`.
        :raises ValueError: if they do not fit in the context window (checked outside `jit` only).
        """
        if not isinstance(tokens, jax.Array):
            (tokens,) = pad_tokens([list(map(operator.index, tokens))])
        self._check_room(tokens)
        return _append(self, jnp.asarray(tokens, jnp.int32), jnp.asarray(active, bool))

    def append_text(self, text: str, active: Bool[Array, ""] | bool = True) -> TransformerContext:
        """:meth:`append` for the tokens of a text."""
        ids = self.vocabulary.encode(text)
        return self.append(ids, active) if ids else self

    def fork(self, texts: Sequence[str | Sequence[int]]) -> Contexts:
        """This context after each of several fixed texts.

        The text so far is kept once; only the keys and values of the new texts are stacked.

        :param texts: B texts, or lists of token ids, to append as :meth:`append` does.
        :raises ValueError: if there are none, or one does not fit in the context window (checked outside
            `jit` only).

            >>> import sentax as sx
            >>> story = sx.load().prompt("She said")
            >>> endings = story.fork([" hello.", " no.", ""])
            >>> len(endings), [bool(context.position > story.position) for context in endings]
            (3, [True, True, False])
        """
        if not texts:
            raise ValueError("fork needs at least one text")
        rows = [self.vocabulary.encode(text) if isinstance(text, str) else list(text) for text in texts]
        tokens = pad_tokens(rows)
        self._check_room(tokens)
        after = jax.vmap(_append, in_axes=(None, 0, 0), out_axes=_axes(self, len(self.past), 1))(
            self, jnp.asarray(tokens), jnp.array([len(row) > 0 for row in rows])
        )
        return Contexts(after, len(self.past), len(rows))

    def _check_room(self, tokens: Any) -> None:
        if is_concrete(self.position) and is_concrete(tokens):
            start = int(np.max(self.position))
            longest = int(np.max(np.sum(np.asarray(tokens) >= 0, axis=-1)))
            self.config.check_window(start + int(np.max(self.held) >= 0) + longest, start)

    def __repr__(self) -> str:
        slots = 0 if self.suffix is None else self.suffix.positions.shape[-1]
        return f"TransformerContext(position={self.position}, slots={slots}, {self.vocabulary!r})"


@pytree
@dataclasses.dataclass(frozen=True)
class Contexts:
    """One language model after several texts: what they share is kept once, the rest stacked.

    Made by :meth:`TransformerLM.prompts` and :meth:`TransformerContext.fork`. A context among them is
    ``contexts[i]``, the same as if it had been made alone, to float tolerance.

    With a traced `i`, such as a latent variable of a program, the context sees the caches of all B texts
    with all but its own masked: one copy for all particles, whichever they chose, at the price of B
    prompts' attention. For a run over each text by itself use :meth:`vmap`, or a Python loop: all B
    contexts run the same compiled program.

    :param stacked: a context whose leaves that differ have a leading axis B.
    :param num_shared: so many segments of its past are shared.
    :param size: B.

        >>> import jax, numpyro, sentax as sx
        >>> contexts = sx.load().prompts(["Date=", "Email="])
        >>> contexts[1].logits.shape == contexts.stacked.logits.shape[1:]
        True
        >>> def mixture(contexts):
        ...     which = numpyro.sample("which", numpyro.distributions.Bernoulli(0.5))
        ...     return sx.generate("text", contexts[which], max_tokens=4)
        >>> smc = sx.SMC(sx.Prior(mixture), num_particles=4)
        >>> smc.run(jax.random.key(0), contexts)
        >>> len(smc.texts("text"))
        4
    """

    stacked: TransformerContext
    num_shared: int = dataclasses.field(metadata={"static": True})
    size: int = dataclasses.field(metadata={"static": True})

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[TransformerContext]:
        return (self[i] for i in range(self.size))

    def __getitem__(self, i: int | Int[Array, ""]) -> TransformerContext:
        """One of the contexts.

        :param i: which. Where a traced one is out of range, the logits are NaN.
        :raises IndexError: if a known one is out of range.
        """
        B, own = self.size, self.stacked.past[self.num_shared :]
        if is_concrete(i):
            i = operator.index(i)
            if not -B <= i < B:
                raise IndexError(f"context {i} of {B}")
            take = lambda leaf: leaf[i]
            past = jax.tree.map(take, own)
        else:
            i = jnp.where(i < 0, i + B, i)
            take = lambda leaf: leaf[i]
            past = tuple(_among(segment, i) for segment in own)
        logits = take(self.stacked.logits)
        return dataclasses.replace(
            self.stacked,
            past=(*self.stacked.past[: self.num_shared], *past),
            position=take(self.stacked.position),
            # Indexing clamps silently.
            logits=logits if is_concrete(i) else jnp.where((i >= 0) & (i < B), logits, jnp.nan),
            features=take(self.stacked.features),
            seam=take(self.stacked.seam),
            held=take(self.stacked.held),
        )

    def vmap(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """A function that runs ``f(context, *args)`` for every context, with the leading axis B of `args`.

        >>> import jax, sentax as sx
        >>> contexts = sx.load().prompts(["Date=", "Email="])
        >>> after = contexts.vmap(lambda context, token: context.reserve(1).extend(token).logits)
        >>> after(jax.numpy.array([70, 71])).shape == contexts.stacked.logits.shape
        True
        """
        axes = _axes(self.stacked, self.num_shared, len(self.stacked.past) - self.num_shared)

        def mapped(*args: Any) -> Any:
            return jax.vmap(f, in_axes=(axes, *(0 for _ in args)))(self.stacked, *args)

        return mapped

    def __repr__(self) -> str:
        return f"Contexts({self.size}, {self.stacked!r})"


def _axes(context: TransformerContext, num_shared: int, num_own: int) -> Any:
    """The axis B of each field of stacked contexts, for :func:`jax.vmap`."""
    axes: dict[str, Any] = {
        **dict.fromkeys(("params", "bias", "vocabulary", "suffix", "slot")),
        **dict.fromkeys(("position", "logits", "features", "seam", "held"), 0),
        "past": (*((None,) * num_shared), *((0,) * num_own)),
    }
    return dataclasses.replace(context, **axes)


def _among(segment: KV, i: Int[Array, ""]) -> KV:
    """The slots of B stacked segments as one segment, in which only those of the `i`-th are seen."""
    B = segment.positions.shape[0]
    merge = lambda x: x.swapaxes(0, 1).reshape(x.shape[1], B * x.shape[2], x.shape[3])
    keys, values = jax.tree.map(merge, (segment.keys, segment.values))
    own = lambda positions: jnp.where((jnp.arange(B) == i)[:, None], positions, EMPTY).reshape(-1)
    return KV(keys, values, own(segment.positions), jax.tree.map(own, segment.windows))


# `inline` keeps one flat jaxpr inside a caller's trace; the jit is for callers that have none.
@functools.partial(jax.jit, inline=True)
def _extend(context: TransformerContext, token: Array, active: Array) -> TransformerContext:
    decoder = decoder_of(context.config, context.params)
    features, suffix = decoder.states(
        token[None],
        context.position[None],
        past=context.past,
        token_mask=active[None],
        head="last",
        cache=context.suffix,
        slot=context.slot,
    )
    # `dynamic_update_slice` would silently overwrite the last slot.
    logits = jnp.where(
        context.slot < suffix.positions.shape[0],
        text_logits(context.vocabulary.ends, decoder.project(features), context.bias),
        jnp.nan,
    )
    return dataclasses.replace(
        context,
        suffix=suffix,
        slot=context.slot + 1,
        position=context.position + active,
        logits=jnp.where(active, logits, context.logits),
        features=jnp.where(active, features, context.features),
        seam=jnp.where(active, 0, context.seam),
        held=jnp.where(active, -1, context.held),
    )


@functools.partial(jax.jit, inline=True)
def _append(context: TransformerContext, tokens: Array, active: Array) -> TransformerContext:
    tokens = jnp.concatenate([context.held[None], tokens])
    real = (tokens >= 0) & active
    cached = () if context.suffix is None else (context.suffix,)
    decoder = decoder_of(context.config, context.params)
    features, segment = decoder.states(
        jnp.maximum(tokens, 0),
        context.position + jnp.cumsum(real) - real,
        past=(*context.past, *cached),
        token_mask=real,
        head=jnp.max(jnp.where(real, jnp.arange(tokens.shape[0]), 0)),
    )
    active = jnp.any(real)
    logits = text_logits(context.vocabulary.ends, decoder.project(features), context.bias)
    return dataclasses.replace(
        context,
        past=(*context.past, segment),
        position=context.position + jnp.sum(real, dtype=jnp.int32),
        logits=jnp.where(active, logits, context.logits),
        features=jnp.where(active, features, context.features),
        seam=jnp.where(active, 0, context.seam),
        held=jnp.where(active, -1, context.held),
    )


def decoder_of(config: DecoderConfig, params: Params) -> Decoder:
    """The network with these parameters, without a copy of them."""
    return nnx.merge(abstract(config)[0], params)


def empty_segment(config: DecoderConfig, length: int, dtype: Any, *, rings: bool = False) -> KV:
    """Keys and values of so many slots, none of which holds a token.

    :param rings: whether layers with a sliding window that is shorter keep no more than it shows them.
    """
    sizes = ring_sizes(config, length) if rings else {}
    lengths = [sizes.get(layer.window or 0, length) for layer in config.layers]
    zeros = lambda: tuple(jnp.zeros((config.num_kv_heads, size, config.head_dim), dtype) for size in lengths)
    empty = lambda size: jnp.full(size, EMPTY, jnp.int32)
    return KV(zeros(), zeros(), empty(length), {window: empty(size) for window, size in sizes.items()})


def ring_sizes(config: DecoderConfig, length: int) -> dict[int, int]:
    """For each sliding window that shows less than `length` slots, how many its layers have to keep."""
    windows = {layer.window for layer in config.layers if layer.window is not None}
    return {window: size for window in sorted(windows) if (size := round_up(window, GRAIN)) < length}


def _grown(config: DecoderConfig, segment: KV, more: int) -> KV:
    """A written segment with more slots; where a window's slots are now enough, as a ring."""
    length = segment.positions.shape[-1] + more
    sizes = ring_sizes(config, length)

    def pad(x: Array, axis: int, value: int = 0) -> Array:
        widths = [(0, more if i == x.ndim + axis else 0) for i in range(x.ndim)]
        return jnp.pad(x, widths, constant_values=value)

    def place(x: Array, axis: int, window: int | None, value: int = 0) -> Array:
        size = sizes.get(window or 0)
        if size is None:
            return pad(x, axis, value)
        if segment.ring(window) is not None:
            return x
        positions = segment.positions
        # Of two positions with one slot, only the later can still be seen.
        seen = (positions >= 0) & (positions > jnp.max(positions) - size)
        shape = (*x.shape[: x.ndim + axis], size, *x.shape[x.ndim + axis + 1 :])
        slots = jnp.where(seen, positions % size, size)
        return write(jnp.full(shape, value, x.dtype), x, slots)

    keys, values = (
        tuple(place(x, -2, layer.window) for x, layer in zip(stack, config.layers))
        for stack in (segment.keys, segment.values)
    )
    windows = {w: place(segment.of(w), -1, w, EMPTY) for w in sizes}
    return KV(keys, values, pad(segment.positions, -1, EMPTY), windows)


def round_up(number: int, multiple: int) -> int:
    """The least multiple that is no smaller."""
    return -(-number // multiple) * multiple


def is_concrete(x: Any) -> bool:
    """Whether a value is known, not only traced."""
    return not isinstance(x, jax.core.Tracer)


def pad_tokens(rows: Sequence[Sequence[int]]) -> Int[np.ndarray, "B C"]:
    """Rows of ids behind which -1 stands, C a multiple of 16."""
    length = round_up(max(1, *map(len, rows)), GRAIN)
    padded = np.full((len(rows), length), -1, np.int32)
    for row, ids in zip(padded, rows):
        row[: len(ids)] = ids
    return padded


__all__ = ["Contexts", "TransformerContext"]
