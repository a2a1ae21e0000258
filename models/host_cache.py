"""The host side of a :class:`~sentax.models.host_lm.HostLM`: texts as a trie, and torch's caches for them."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sentax.models.errors import ModelError

ROOT = 0
"""The node of the empty text."""


class HostStats(NamedTuple):
    """What a host model has cost so far.

    :param forwards: calls of the torch model.
    :param rows: texts in those calls, each extended by one token or more.
    :param rebuilt: texts that were run again from their first token, as their cache had been given up.
    :param bytes: of the caches and logits kept now.
    """

    forwards: int
    rows: int
    rebuilt: int
    bytes: int


@dataclasses.dataclass
class Block:
    """What one call of the model left: a row for each of B texts.

    :param cache: the model's own cache; None if it has none.
    :param lengths: of the texts.
    :param width: slots of the cache; a shorter text stands at the right end, with padding in front.
    :param logits: [B, V] float32, after each text.
    :param nodes: the texts.
    :param used: when it was last needed.
    """

    cache: Any
    lengths: np.ndarray
    width: int
    logits: Float[np.ndarray, "B V"]
    nodes: list[int]
    used: int

    def __post_init__(self) -> None:
        self.nbytes = self.logits.nbytes + sum(x.nbytes for x in _tensors(self.cache))


class HostCache:
    """Logits of texts by a torch model, each text computed from the longest beginning that is known.

    A text is a node of an append-only trie, so it travels through compiled programs as one integer, and
    particles that a resampling has copied share it. All texts of one question go through the model
    together: those that continue texts of different lengths are padded on the left.

    :param model: any ``transformers`` model with a head for causal language modelling.
    :param vocab_size: V, what its logits must have.
    :param max_bytes: what the caches may take; the least recently used go first. What the question at
        hand needs is always kept.
    """

    def __init__(self, model: Any, vocab_size: int, max_bytes: int):
        self.model, self.vocab_size, self.max_bytes = model, vocab_size, max_bytes
        self.lock = threading.RLock()
        accepted = inspect.signature(model.forward).parameters
        self._cache_name = next(
            (name for name in ("past_key_values", "cache_params") if name in accepted), None
        )
        self._pads = {"attention_mask", "position_ids"} <= set(accepted)
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        # By node: the text without its last token, that token, the length.
        self._parent, self._token, self._length = [ROOT], [-1], [0]
        self._children: dict[tuple[int, int], int] = {}
        self._blocks: OrderedDict[int, Block] = OrderedDict()
        self._place: dict[int, tuple[Block, int]] = {}
        self._seen: set[int] = set()
        self._clock = self._forwards = self._rows = self._rebuilt = self._bytes = 0

    @property
    def stats(self) -> HostStats:
        with self.lock:
            return HostStats(self._forwards, self._rows, self._rebuilt, self._bytes)

    def node(self, start: int, tokens: Sequence[int]) -> int:
        """The node of the text of `start` followed by some tokens."""
        for token in tokens:
            child = self._children.get((start, token))
            if child is None:
                child = self._children[start, token] = len(self._parent)
                self._parent.append(start)
                self._token.append(token)
                self._length.append(self._length[start] + 1)
            start = child
        return start

    def logits(self, nodes: Sequence[int]) -> Float[np.ndarray, "N V"]:
        """The model's logits after each of some texts, none of them empty.

        :raises ModelError: if the model answers NaN, or has another vocabulary.
        """
        import torch

        self._clock += 1
        with torch.inference_mode():
            self._compute(list(dict.fromkeys(nodes)))
        places = [self._touch(node) for node in nodes]
        self._evict()
        first = places[0][0].logits
        if [place for place in places if place[0].logits is not first] or len(first) != len(nodes):
            return np.stack([block.logits[row] for block, row in places])
        rows = [row for _, row in places]
        # Most often the call that has just been made answers all, in order: nothing to copy.
        return first if rows == list(range(len(first))) else first[rows]

    def _compute(self, nodes: list[int]) -> None:
        """Makes sure that there is a row for each of some different texts."""
        waves: list[list[int]] = [[]]
        for node in nodes:
            start, path = self._missing(node)
            if not path:
                self._touch(node)
            elif start != ROOT and not _is_attention(self._touch(start)[0].cache):
                # A recurrent cache reads its tokens one by one.
                waves.extend([] for _ in range(len(path) - len(waves)))
                for wave, step in zip(waves, path):
                    wave.append(step)
            else:
                waves[0].append(node)
                self._rebuilt += any(step in self._seen for step in path)
        for wave in waves:
            groups: dict[Any, list[tuple[int, int]]] = {}
            for node in dict.fromkeys(wave):
                start, path = self._missing(node)
                key = None if start == ROOT else self._batch_of(self._touch(start)[0])
                groups.setdefault((key, len(path)), []).append((start, node))
            for pairs in groups.values():
                self._forward(pairs)

    def _missing(self, node: int) -> tuple[int, list[int]]:
        """The longest beginning of a text that the model can go on from, and the texts from there to it."""
        if node in self._place:
            return node, []
        path = [node]
        while (start := self._parent[path[-1]]) != ROOT:
            if start in self._place and self._place[start][0].cache is not None:
                break
            path.append(start)
        return start, path[::-1]

    def _batch_of(self, block: Block) -> Any:
        """Texts with the same answer may go through the model together."""
        return "padded" if self._pads and _is_plain(block.cache) else id(block)

    def _forward(self, pairs: list[tuple[int, int]]) -> None:
        """One call of the model: texts that go on from known ones (or from nothing) by equally many tokens."""
        import torch
        from transformers import Cache

        device = self.model.device
        options: dict[str, Any] = dict(self._options)
        lengths, width = np.zeros(len(pairs), np.int64), 0
        if pairs[0][0] != ROOT:
            pairs = sorted(pairs, key=lambda pair: id(self._place[pair[0]][0]))  # rows of a block together
            cache, lengths, width = _join([self._place[start] for start, _ in pairs])
            options[str(self._cache_name)] = cache
        tokens = torch.tensor([self._tokens(start, node) for start, node in pairs], device=device)
        if (lengths < width).any():
            slots = np.arange(width + tokens.shape[1])
            options["attention_mask"] = torch.tensor(slots >= (width - lengths)[:, None], device=device).long()
            options["position_ids"] = torch.tensor(lengths[:, None] + np.arange(tokens.shape[1]), device=device)
        outputs = self.model(input_ids=tokens, use_cache=self._cache_name is not None, **options)
        cache = getattr(outputs, self._cache_name, None) if self._cache_name else None
        logits = outputs.logits[:, -1].float().cpu().numpy()
        if logits.shape[1] != self.vocab_size:
            raise ModelError(
                f"the model gives {logits.shape[1]} logits, the vocabulary has {self.vocab_size} tokens"
            )
        if np.isnan(logits).any():
            raise ModelError("the model answers NaN: its weights or its dtype are broken")
        self._forwards += 1
        self._rows += len(pairs)
        # What is no transformers cache cannot be gathered by rows: such models read their texts anew.
        block = Block(
            cache if isinstance(cache, Cache) else None,
            lengths + tokens.shape[1],
            width + tokens.shape[1],
            logits,
            [node for _, node in pairs],
            self._clock,
        )
        self._blocks[id(block)] = block
        self._bytes += block.nbytes
        for row, node in enumerate(block.nodes):
            self._place[node] = block, row
        self._seen.update(block.nodes)

    def _tokens(self, start: int, node: int) -> list[int]:
        tokens = []
        while node != start:
            tokens.append(self._token[node])
            node = self._parent[node]
        return tokens[::-1]

    def _touch(self, node: int) -> tuple[Block, int]:
        block, row = self._place[node]
        block.used = self._clock
        self._blocks.move_to_end(id(block))
        return block, row

    def _evict(self) -> None:
        while self._bytes > self.max_bytes:
            oldest = next(iter(self._blocks.values()))
            if oldest.used == self._clock:
                return
            del self._blocks[id(oldest)]
            self._bytes -= oldest.nbytes
            for node in oldest.nodes:
                del self._place[node]


def _join(places: Sequence[tuple[Block, int]]) -> tuple[Any, np.ndarray, int]:
    """One cache for some rows of some blocks, the lengths of the texts, and the width of the cache.

    :param places: sorted by block.
    """
    import torch

    parts: dict[int, tuple[Block, list[int]]] = {}
    for block, row in places:
        parts.setdefault(id(block), (block, []))[1].append(row)
    lengths = np.concatenate([block.lengths[rows] for block, rows in parts.values()])
    first, rows = next(iter(parts.values()))
    if len(parts) == 1:
        return _select(first.cache, rows), lengths, first.width
    width = int(lengths.max())
    cache = _shallow(first.cache)
    for index, layer in enumerate(cache.layers):
        for name in ("keys", "values"):
            pieces = [
                _fit(getattr(block.cache.layers[index], name)[rows], width) for block, rows in parts.values()
            ]
            setattr(layer, name, torch.cat(pieces))
    return cache, lengths, width


def _fit(x: Any, width: int) -> Any:
    """Keys or values [B, K, L, Y] in so many slots: padding on the left comes or goes."""
    import torch

    return (
        x[..., -width:, :]
        if x.shape[-2] >= width
        else torch.nn.functional.pad(x, (0, 0, width - x.shape[-2], 0))
    )


def _select(cache: Any, rows: list[int]) -> Any:
    """Some rows of a cache, which itself stays as it is."""
    import torch

    # An update of an attention cache makes new tensors, one of a recurrent state writes into the old.
    selected = _shallow(cache) if _is_attention(cache) else copy.deepcopy(cache)
    if not _is_attention(cache) or rows != list(range(len(selected.layers[0].keys))):
        selected.reorder_cache(torch.tensor(rows, device=next(_tensors(cache)).device))
    return selected


def _shallow(cache: Any) -> Any:
    cache = copy.copy(cache)
    cache.layers = [copy.copy(layer) for layer in cache.layers]
    return cache


def _is_plain(cache: Any) -> bool:
    """Whether a cache is keys and values of every position, so that rows of different lengths can be padded."""
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer and layer.is_initialized for layer in cache.layers)


def _is_attention(cache: Any) -> bool:
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    kinds = (DynamicLayer, DynamicSlidingWindowLayer)
    return all(type(layer) in kinds and layer.is_initialized for layer in cache.layers)


def _tensors(value: Any) -> Iterator[Any]:
    """Every tensor in a cache."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif type(value).__module__.startswith("transformers.") and hasattr(value, "__dict__"):
        yield from _tensors(vars(value))


__all__ = ["ROOT", "Block", "HostCache", "HostStats"]
