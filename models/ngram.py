"""An n-gram language model trained from text: cheap, exact, and on the device."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sentax.models.errors import ModelError
from sentax.models.methods import LanguageModelMethods
from sentax.models.prompting import Prompt, text_bias
from sentax.models.smoothing import KneserNey, Smoothing, count_ngrams
from sentax.models.tokenizer import Tokenizer
from sentax.models.vocabulary import Vocabulary
from sentax.ppl.pytree import pytree

CHUNK = 64
"""Followers of a context that are added to the table of probabilities at once."""


class NGramTable(NamedTuple):
    r"""Interpolated n-gram probabilities as a trie in arrays; entry ``i < V`` is the unigram of token ``i``.

    The children of the entry of :math:`w_1 \ldots w_k` are its followers, sorted by token, one after another.
    With :math:`h'` the context :math:`h` without its first token,

    .. math:: p(w \mid h) = \\text{share}(h w) + \\text{backoff}(h)\\, p(w \mid h').

    :param unigram: [V], the probabilities with no context.
    :param token: [E], the last token of each entry.
    :param share: [E], see above; 0 for unigrams.
    :param backoff: [E], see above; 1 where nothing followed.
    :param start: [E + 1], where the children of each entry begin; those of ``i`` end at ``start[i + 1]``.
    """

    unigram: Float[Array, " V"]
    token: Int[Array, " E"]
    share: Float[Array, " E"]
    backoff: Float[Array, " E"]
    start: Int[Array, " E1"]


@pytree
@dataclasses.dataclass(frozen=True)
class NGramContext:
    """An :class:`NGramLM` after some text: the last few tokens. Logits are made when asked for."""

    table: NGramTable
    vocabulary: Vocabulary
    last: Int[Array, " n-1"]
    """The last tokens, -1 before the beginning of the text; a text begins with end-of-text."""
    bias: Float[Array, " V"]
    """-inf for what may not be drawn."""
    first_bias: Float[Array, " V"]
    """The same for the token that overlaps the prompt; read where `seam` is not 0."""
    seam: Int[Array, ""]

    @property
    def room(self) -> Int[Array, ""]:
        """There is no window."""
        return jnp.int32(2**31 - 1)

    @property
    def logits(self) -> Float[Array, " V"]:
        """Log-probabilities: normalised, but for what a healed prompt excludes."""
        return _log_probs(self.table, self.last) + jnp.where(self.seam > 0, self.first_bias, self.bias)

    def reserve(self, num_tokens: int) -> NGramContext:
        """Nothing to reserve: there is no cache."""
        return self

    def extend(self, token: Int[Array, ""] | int, active: Bool[Array, ""] | bool = True) -> NGramContext:
        """The context after one more token; unchanged where `active` is false."""
        last = jnp.concatenate([self.last, jnp.asarray(token, jnp.int32)[None]])[1:]
        return dataclasses.replace(
            self,
            last=jnp.where(active, last, self.last),
            seam=jnp.where(active, 0, self.seam),
        )


@functools.partial(jax.jit, inline=True)
def _log_probs(table: NGramTable, last: Int[Array, " n-1"]) -> Float[Array, " V"]:
    entries = _contexts(table, last)
    # p = sum over levels of share * (product of the longer contexts' backoffs): the table of V numbers is
    # scaled once, and only the followers of each context are added, however many there are.
    probs, scale = table.unigram, jnp.float32(1.0)
    parts = []
    for entry in reversed(entries):  # the longest context first
        known = entry >= 0
        index = jnp.maximum(entry, 0)
        parts.append(
            (jnp.where(known, table.start[index], 0), jnp.where(known, table.start[index + 1], 0), scale)
        )
        scale = scale * jnp.where(known, table.backoff[index], 1.0)
    probs = probs * scale
    for start, stop, factor in parts:
        probs = _add_followers(table, probs, start, stop, factor)
    return jnp.log(probs)


def _contexts(table: NGramTable, last: Int[Array, " n-1"]) -> list[Int[Array, ""]]:
    """The entries of the last token, the last two, ...; -1 where they were not seen."""
    entries = []
    for length in range(1, last.shape[0] + 1):
        tokens = last[last.shape[0] - length :]
        entry = tokens[0]
        for position in range(1, length):
            entry = _child(table, entry, tokens[position])
        entries.append(entry)
    return entries


def _child(table: NGramTable, entry: Int[Array, ""], token: Int[Array, ""]) -> Int[Array, ""]:
    """The entry of a follower, -1 if there is none: bisection."""
    index = jnp.maximum(entry, 0)
    low, high = table.start[index], jnp.where(entry >= 0, table.start[index + 1], 0)
    end = high

    def step(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) // 2
        right = table.token[jnp.minimum(middle, table.token.shape[0] - 1)] < token
        inside = low < high
        return jnp.where(inside & right, middle + 1, low), jnp.where(inside & ~right, middle, high)

    low, _ = lax.fori_loop(0, max(1, table.unigram.shape[0].bit_length()), step, (low, high))
    found = (low < end) & (table.token[jnp.minimum(low, table.token.shape[0] - 1)] == token)
    return jnp.where(found, low, -1)


@jax.custom_batching.custom_vmap
def _add_followers(
    table: NGramTable, probs: Float[Array, " V"], start: Array, stop: Array, factor: Array
) -> Float[Array, " V"]:
    return _add_all(table, probs[None], start[None], stop[None], factor[None])[0]


# A loop under `vmap` whose lanes end at different times selects between its old and its new state in every
# step: that would copy N x V numbers. Lanes that are done add nothing, so one loop for all needs no select.
@_add_followers.def_vmap
def _add_followers_rule(axis_size: int, in_batched: Any, table: NGramTable, *arguments: Array) -> Any:
    if any(jax.tree.leaves(in_batched[0])):
        axes = jax.tree.map(lambda batched: 0 if batched else None, tuple(in_batched))
        one = lambda table, *rest: _add_all(table, *(x[None] for x in rest))[0]
        return jax.vmap(one, in_axes=axes)(table, *arguments), True
    lanes = (
        x if batched else jnp.broadcast_to(x, (axis_size, *x.shape))
        for x, batched in zip(arguments, in_batched[1:])
    )
    return _add_all(table, *lanes), True


def _add_all(
    table: NGramTable,
    probs: Float[Array, "N V"],
    start: Int[Array, " N"],
    stop: Int[Array, " N"],
    factor: Float[Array, " N"],
) -> Float[Array, "N V"]:
    N, V = probs.shape
    lane = jnp.arange(N)[:, None]

    def more(carry: tuple[Array, Array]) -> Bool[Array, ""]:
        return jnp.any(carry[0] < stop)

    def add(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        at, probs = carry
        index = at[:, None] + jnp.arange(CHUNK)
        real = index < stop[:, None]
        index = jnp.minimum(index, table.token.shape[0] - 1)
        token = jnp.where(real, table.token[index], V)
        return at + CHUNK, probs.at[lane, token].add(factor[:, None] * table.share[index], mode="drop")

    return lax.while_loop(more, add, (start, probs))[1]


class NGramLM(LanguageModelMethods):
    """An n-gram model: the next token depends on the last n - 1. Train one with :meth:`train`.

    Probabilities are exact: positive for every token that may be drawn, with sum 1. A step costs a
    pass over V numbers and a few bisections, a small part of a transformer's. So it serves as a cheap proposal,
    in tests, and in notebooks.

    :param table: what :meth:`train` makes.
    :param vocabulary: the tokens.
    :param order: n, at least 1.

        >>> lm = NGramLM.train(["abab", "abb"], order=2)
        >>> probs = jnp.exp(lm.prompt("a").logits)
        >>> lm.vocabulary.tokens[int(probs.argmax())], round(float(probs.sum()), 4)
        (b'b', 1.0)
    """

    def __init__(self, table: NGramTable, vocabulary: Vocabulary, order: int):
        if not order >= 1:
            raise ValueError(f"order must be at least 1, got {order}")
        self.table, self.vocabulary, self.order = table, vocabulary, order
        self.bias = text_bias(vocabulary)

    @classmethod
    def train(
        cls,
        texts: Iterable[str | bytes | Sequence[int]],
        vocabulary: Vocabulary | None = None,
        *,
        order: int = 3,
        smoothing: Smoothing | None = None,
    ) -> NGramLM:
        """A model of some texts, each taken as a whole: it begins and it ends.

        :param texts: texts, or lists of token ids without end-of-text.
        :param vocabulary: any model's; single bytes unless given (:func:`byte_vocabulary`).
        :param order: n: 3 for trigrams.
        :param smoothing: :class:`KneserNey` (default), :class:`WittenBell`, or another.
        :raises ValueError: if there is no text, or one that the vocabulary cannot write.
        """
        if isinstance(texts, str | bytes):
            raise ValueError("texts is a single text: give a list of them")
        vocabulary = byte_vocabulary() if vocabulary is None else vocabulary
        drawable = vocabulary.drawable()
        corpus = [_encode(text, vocabulary) for text in texts]
        if not corpus:
            raise ValueError("no texts to train on")
        for ids in corpus:
            if bad := [i for i in ids if i == vocabulary.end_of_text or not drawable[i]]:
                raise ValueError(f"token {bad[0]} is no text, so it cannot occur in one")
        V = vocabulary.size
        smoothing = KneserNey() if smoothing is None else smoothing
        levels = count_ngrams(corpus, order, V, vocabulary.end_of_text)
        smoothed = [
            smoothing(level, longer, len(above.token) if above else 1)
            for above, level, longer in zip([None, *levels], levels, [*levels[1:], None])
        ]
        unigram = smoothed[0].share + smoothed[0].backoff * drawable / drawable.sum()
        first = np.cumsum([0, *(len(level.token) for level in levels)])
        parents = [level.parent + first[k] for k, level in enumerate(levels[1:])]
        children = np.bincount(np.concatenate([[], *parents]).astype(np.int64), minlength=first[-1])
        table = NGramTable(
            unigram=jnp.asarray(unigram, jnp.float32),
            token=jnp.asarray(np.concatenate([level.token for level in levels]), jnp.int32),
            share=jnp.asarray(np.concatenate([np.zeros(V), *(s.share for s in smoothed[1:])]), jnp.float32),
            backoff=jnp.asarray(
                np.concatenate([*(s.backoff for s in smoothed[1:]), np.ones(len(levels[-1].token))]),
                jnp.float32,
            ),
            start=jnp.asarray(V + np.cumsum([0, *children]), jnp.int32),
        )
        return cls(table, vocabulary, order)

    def prompt(self, text: str | bytes | Sequence[int] = "", *, heal: bool = True) -> NGramContext:
        """The context after a prompt.

        :param text: a text, cut into tokens that have exactly its bytes, or token ids.
        :param heal: whether the last token of a text may be completed by the first one generated (see
            :meth:`TransformerLM.prompt`).
        :raises ValueError: for a text that the vocabulary cannot write.
        """
        # Whatever stands in front of a text, here it is the beginning.
        ids = [self.vocabulary.end_of_text, *_encode(text, self.vocabulary)]
        prompt = Prompt(ids)
        if (
            heal
            and isinstance(text, str | bytes)
            and (first := self.vocabulary.completions(ids[-1])) is not None
        ):
            prompt = Prompt(ids[:-1], len(self.vocabulary.tokens[ids[-1]]), ids[-1], first)
        last = np.full(self.order - 1, -1, np.int32)
        if kept := prompt.ids[-(self.order - 1) :] if self.order > 1 else []:
            last[-len(kept) :] = kept
        return NGramContext(
            table=self.table,
            vocabulary=self.vocabulary,
            last=jnp.asarray(last),
            bias=self.bias,
            first_bias=prompt.bias(self.bias),
            seam=jnp.int32(prompt.seam),
        )

    def save(self, file: str | Path) -> None:
        """Writes the model, its tokens and its tokenizer to one ``.npz`` file."""
        tokens = self.vocabulary.tokens
        tokenizer = self.vocabulary.tokenizer
        arrays: dict[str, Any] = {name: np.asarray(array) for name, array in self.table._asdict().items()}
        np.savez_compressed(
            file,
            order=self.order,
            ends=np.array(self.vocabulary.ends),
            lengths=np.array([len(token) for token in tokens]),
            bytes=np.frombuffer(b"".join(tokens), np.uint8),
            tokenizer=np.frombuffer(b"" if tokenizer is None else tokenizer.to_json().encode(), np.uint8),
            **arrays,
        )

    @classmethod
    def load(cls, file: str | Path) -> NGramLM:
        """Reads what :meth:`save` wrote.

        :raises ModelError: if the file is something else.
        """
        try:
            with np.load(file, allow_pickle=False) as data:
                arrays = dict(data)
            stops = np.cumsum(arrays["lengths"])
            raw = arrays["bytes"].tobytes()
            tokens = [raw[stop - size : stop] for size, stop in zip(arrays["lengths"].tolist(), stops.tolist())]
            text = arrays["tokenizer"].tobytes().decode()
            table = NGramTable(*(jnp.asarray(arrays[name]) for name in NGramTable._fields))
            order, ends = int(arrays["order"]), arrays["ends"].tolist()
        except (KeyError, ValueError, OSError, EOFError) as error:
            raise ModelError(f"{file} is no saved n-gram model: {error}") from None
        return cls(table, Vocabulary(tokens, ends, Tokenizer.from_json(text) if text else None), order)

    def __repr__(self) -> str:
        return f"NGramLM(order={self.order}, {self.table.token.size} n-grams, {self.vocabulary!r})"


def byte_vocabulary() -> Vocabulary:
    """The 256 bytes, and end-of-text as the last id.

    >>> byte_vocabulary().size
    257
    """
    return Vocabulary([*(bytes([byte]) for byte in range(256)), b""], end_of_text=256)


def _encode(text: str | bytes | Sequence[int], vocabulary: Vocabulary) -> list[int]:
    return vocabulary.encode(text) if isinstance(text, str | bytes) else vocabulary.check_ids(text)


__all__ = ["NGramContext", "NGramLM", "NGramTable", "byte_vocabulary"]
