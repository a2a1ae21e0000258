"""Any model of ``transformers`` as a language model: torch runs it on the host, by callback."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import operator
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sentax.models.chat import ChatTemplate
from sentax.models.errors import ModelError
from sentax.models.host_cache import ROOT, HostCache, HostStats
from sentax.models.methods import LanguageModelMethods
from sentax.models.prompting import PromptLike, read_prompt, text_bias, text_logits
from sentax.models.tokenizer import Tokenizer
from sentax.models.vocabulary import Vocabulary, end_of_text_ids
from sentax.ppl.constraints.host import recorded_failures
from sentax.ppl.pytree import pytree

_caches: weakref.WeakValueDictionary[int, HostCache] = weakref.WeakValueDictionary()
_handles = itertools.count(1)
_HEAD = 2


class _Keeper:
    """Keeps a cache alive from the static part of a pytree, where all keepers are equal."""

    __slots__ = ("cache",)

    def __init__(self, cache: HostCache) -> None:
        self.cache = cache

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keeper)

    def __hash__(self) -> int:
        return hash(_Keeper)


@pytree
@dataclasses.dataclass(frozen=True)
class HostContext:
    """A :class:`HostLM` after some text: one particle, batched by :func:`jax.vmap`.

    The text is the number of its node in a trie on the host, where the caches are. Logits have the same three
    changes as a :class:`TransformerContext`'s: only text can be drawn, all ends are one, and a
    healed prompt restricts the first token.
    """

    handle: Int[Array, ""]
    keeper: _Keeper = dataclasses.field(metadata={"static": True})
    max_positions: int = dataclasses.field(metadata={"static": True})
    vocabulary: Vocabulary
    bias: Float[Array, " V"]
    node: Int[Array, ""]
    position: Int[Array, ""]
    logits: Float[Array, " V"]
    seam: Int[Array, ""]
    held: Int[Array, ""]
    """The token that healing took back from the prompt, -1 if none."""

    @property
    def room(self) -> Int[Array, ""]:
        """How many more tokens fit into the context window."""
        return jnp.asarray(self.max_positions, jnp.int32) - self.position

    def reserve(self, num_tokens: int) -> HostContext:
        """Nothing to reserve: the caches on the host grow.

        :raises ValueError: if so many do not fit in the context window (checked outside `jit` only).
        """
        if not isinstance(self.position, jax.core.Tracer):
            _check_window(int(np.max(self.position)) + num_tokens, self.max_positions)
        return self

    def extend(self, token: Int[Array, ""] | int, active: Bool[Array, ""] | bool = True) -> HostContext:
        """The context after one more token; where `active` is false, the same as before, at no cost."""
        return _read(self, jnp.asarray(token, jnp.int32)[None], jnp.asarray(active, bool))

    def append(
        self, tokens: Int[Array, " C"] | Sequence[int], active: Bool[Array, ""] | bool = True
    ) -> HostContext:
        """The context after C tokens of fixed text, in one pass of the model.

        After a healed prompt the token that was taken back is put in front again, so the tokens are
        those of the text after the prompt.

        :param tokens: the ids; -1 is padding.
        """
        ids = (
            tokens if isinstance(tokens, jax.Array) else np.array([operator.index(i) for i in tokens], np.int32)
        )
        with_held = jnp.concatenate([self.held[None], jnp.asarray(ids, jnp.int32)])
        return _read(self, with_held, jnp.asarray(active, bool))

    def append_text(self, text: str, active: Bool[Array, ""] | bool = True) -> HostContext:
        """:meth:`append` for the tokens of a text."""
        ids = self.vocabulary.encode(text)
        return self.append(ids, active) if ids else self

    def __repr__(self) -> str:
        return f"HostContext(position={self.position}, {self.vocabulary!r})"


@functools.partial(jax.jit, inline=True)
def _read(context: HostContext, tokens: Int[Array, " C"], active: Bool[Array, ""]) -> HostContext:
    # One small argument: each costs as much as a callback does, and large ones can deadlock a small machine.
    question = jnp.concatenate([jnp.stack([context.handle, context.node]), jnp.where(active, tokens, -1)])
    V = context.vocabulary.size
    shapes = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((V,), jnp.float32)
    node, logits = jax.pure_callback(_dispatch, shapes, question, vmap_method="broadcast_all")
    count = jnp.where(active, jnp.sum(tokens >= 0, dtype=jnp.int32), 0)
    moved = count > 0
    return dataclasses.replace(
        context,
        node=node,
        position=context.position + count,
        logits=jnp.where(moved, text_logits(context.vocabulary.ends, logits, context.bias), context.logits),
        seam=jnp.where(moved, 0, context.seam),
        held=jnp.where(moved, -1, context.held),
    )


def _dispatch(packed: Any) -> tuple[np.ndarray, np.ndarray]:
    """The one callback of all host models.

    :param packed: [..., 2 + C]: a model's handle, a node, and the tokens that follow it; -1 is none.
    :return: the new nodes [...], and their logits [..., V], zeros where no token was given.
    """
    with recorded_failures():
        packed = np.asarray(packed)
        questions = packed.reshape(-1, packed.shape[-1])
        nodes = questions[:, 1].copy()
        answers = np.zeros((0, 0), np.float32)
        for handle in np.unique(questions[:, 0]).tolist():
            cache = _caches.get(handle)
            if cache is None:
                raise RuntimeError("a host model was deleted while a program still used it: keep a reference")
            with cache.lock:
                lanes = np.flatnonzero((questions[:, 0] == handle) & (questions[:, _HEAD:] >= 0).any(axis=1))
                for lane in lanes:
                    tokens = questions[lane, _HEAD:]
                    nodes[lane] = cache.node(int(nodes[lane]), tokens[tokens >= 0].tolist())
                logits = cache.logits(nodes[lanes].tolist()) if len(lanes) else None
            if logits is not None and len(lanes) == len(questions):
                answers = logits
                continue
            if not answers.size:
                answers = np.zeros((len(questions), cache.vocab_size), np.float32)
            answers[lanes] = 0.0 if logits is None else logits
        return nodes.reshape(packed.shape[:-1]), answers.reshape(*packed.shape[:-1], -1)


class HostLM(LanguageModelMethods):
    """Any ``transformers`` model with a causal language modelling head, run by torch on the host.

    For architectures that the decoder of this package does not have: the same contexts, prompts and programs,
    the same distribution to float tolerance, but slower: each step leaves the compiled program for torch, and
    moves N rows of V logits back (about 1 ms at N=32, V=32,000). All particles that read a token
    go through the model in one batch; equal texts are computed once; the caches of texts are kept, up to
    `cache_bytes`, and made again where they were given up.

    Make one with :meth:`load` or :meth:`from_transformers`; needs torch (``pip install 'sentax[torch]'``).

    :param model: the torch model, on any device, in evaluation mode.
    :param vocabulary: its tokens.
    :param chat_template: renders chat messages, if the model has one.
    :param cache_bytes: what caches and logits on the host may take.
    :raises ModelError: if vocabulary and model disagree in size.
    """

    def __init__(
        self,
        model: Any,
        vocabulary: Vocabulary,
        chat_template: ChatTemplate | None = None,
        *,
        cache_bytes: int = 2**30,
    ):
        config = model.config.get_text_config()
        if vocabulary.size != config.vocab_size:
            raise ModelError(f"the vocabulary has {vocabulary.size} tokens, the model {config.vocab_size}")
        self.vocabulary, self.chat_template = vocabulary, chat_template
        self.max_positions = int(getattr(config, "max_position_embeddings", None) or 2**31 - 1)
        self.model = model.eval()
        self.bias = text_bias(vocabulary)
        cache = HostCache(self.model, vocabulary.size, cache_bytes)
        handle = next(_handles)
        _caches[handle] = cache
        self._handle, self._keeper = np.int32(handle), _Keeper(cache)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        dtype: Any = "auto",
        device: Any = None,
        cache_bytes: int = 2**30,
        **options: Any,
    ) -> HostLM:
        """A model by ``AutoModelForCausalLM`` and its tokenizer by ``AutoTokenizer``.

        :param name_or_path: a directory or the id of a repository on the hub.
        :param dtype: a torch dtype or its name; that of the checkpoint unless given.
        :param device: where torch runs, such as ``"cuda"``; the CPU unless given.
        :param cache_bytes: see :class:`HostLM`.
        :param options: passed on to both, such as ``trust_remote_code`` or ``revision``.
        :raises ImportError: without torch and transformers.
        :raises ModelError: if there is no such model, or its tokens have no exact bytes.
        """
        transformers = _transformers()
        try:
            model = transformers.AutoModelForCausalLM.from_pretrained(name_or_path, dtype=dtype, **options)
            tokenizer = transformers.AutoTokenizer.from_pretrained(name_or_path, **options)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"transformers does not load {str(name_or_path)!r}: {error}") from error
        return cls.from_transformers(
            model if device is None else model.to(device), tokenizer, cache_bytes=cache_bytes
        )

    @classmethod
    def from_transformers(cls, model: Any, tokenizer: Any, *, cache_bytes: int = 2**30) -> HostLM:
        """A model and a fast tokenizer that are loaded already.

        :param model: a causal language model of ``transformers``.
        :param tokenizer: its tokenizer, ``PreTrainedTokenizerFast`` or the like.
        :raises ModelError: if the tokens have no exact bytes.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError(
                f"{type(tokenizer).__name__} is no fast tokenizer, and only those have exact bytes: "
                "give HostLM a Vocabulary, with the bytes of every token"
            )
        first = tokenizer("a").input_ids[:1]
        bos = tokenizer.bos_token if first == [tokenizer.bos_token_id] else None
        exact = Tokenizer(backend.to_str(), bos)
        configs = [getattr(model, "generation_config", None), model.config, model.config.get_text_config()]
        ends = end_of_text_ids(
            exact,
            *(config.to_dict() for config in configs if config is not None),
            eos_token=tokenizer.eos_token,
        )
        vocabulary = Vocabulary.from_tokenizer(exact, model.config.get_text_config().vocab_size, ends)
        source = tokenizer.chat_template
        if isinstance(source, dict):
            source = source.get("default")
        names = {
            name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)
        }
        chat = None if source is None else ChatTemplate(source, exact, names)
        return cls(model, vocabulary, chat, cache_bytes=cache_bytes)

    @property
    def stats(self) -> HostStats:
        """What the model has cost so far."""
        return self._keeper.cache.stats

    def prompt(self, text: PromptLike = "", *, heal: bool = True) -> HostContext:
        """The context after a prompt: as :meth:`TransformerLM.prompt`.

        :raises ValueError: if the prompt is empty and the tokenizer has no token for the beginning of a
            text, or if it does not fit in the context window.
        :raises ModelError: if the model answers NaN.
        """
        prompt = read_prompt(self.vocabulary, self.chat_template, text, heal=heal)
        _check_window(prompt.num_tokens, self.max_positions)
        cache = self._keeper.cache
        with cache.lock:
            node = cache.node(ROOT, prompt.ids)
            (logits,) = cache.logits([node])
        return HostContext(
            handle=jnp.asarray(self._handle),
            keeper=self._keeper,
            max_positions=self.max_positions,
            vocabulary=self.vocabulary,
            bias=self.bias,
            node=jnp.int32(node),
            position=jnp.int32(len(prompt.ids)),
            logits=_first_logits(self.vocabulary.ends, jnp.asarray(logits), prompt.bias(self.bias)),
            seam=jnp.int32(prompt.seam),
            held=jnp.int32(prompt.held),
        )

    def __repr__(self) -> str:
        return f"HostLM({type(self.model).__name__}, {self.vocabulary!r})"


_first_logits = jax.jit(text_logits, static_argnums=0)


def _transformers() -> Any:
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError:
        raise ImportError("HostLM runs models by torch and transformers: pip install 'sentax[torch]'") from None
    return transformers


def _check_window(num_tokens: int, max_positions: int) -> None:
    if num_tokens > max_positions:
        raise ValueError(f"{num_tokens} tokens do not fit in the model's context window of {max_positions}")


__all__ = ["HostContext", "HostLM"]
