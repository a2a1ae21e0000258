"""The tokens of a vocabulary as a trie of bytes: what they share is walked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, UInt8

from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree

# Nodes that one iteration of a walk takes. On a CPU an iteration is cheap and padding is not (a vocabulary
# may hold a run of 128 spaces: 128 levels, most of them nearly empty); on an accelerator it is the other
# way round. Measured at V=128k on one AVX2 core: 1.4 ms in chunks, 1.3 ms with a kernel for each level,
# which takes eight times as long to compile; several states at once cost as much as one after another.
_CHUNK_ON_CPU, _CHUNK = 256, 8192


@pytree
@dataclass(frozen=True, eq=False)
class TokenTrie:
    """The byte trie of a vocabulary, laid out for a walk: level after level, each in whole chunks.

    P counts the nodes, padding included. Node 0 is the root, alone in the first chunk.

    :param parents: the parent of each node; it lies in an earlier chunk.
    :param bytes: the last byte of each node.
    :param depths: how many bytes lead to the nodes of each chunk.
    :param nodes: the node of each token; tokens without bytes are at the root.

    **Example**

    .. code-block:: python

        >>> from sentax.models.vocabulary import Vocabulary
        >>> trie = TokenTrie.of(Vocabulary([b"a", b"ab", b"b", b""], end_of_text=3))
        >>> a, ab, b, end = trie.nodes.tolist()
        >>> trie.parents[ab].item() == a, trie.parents[a].item() == trie.parents[b].item() == end == 0
        (True, True)
    """

    parents: Int[Array, " P"]
    bytes: UInt8[Array, " P"]
    depths: Int[Array, " B"]
    nodes: Int[Array, " V"]
    end_of_text: int = field(metadata={"static": True})

    @classmethod
    def of(cls, vocabulary: VocabularyLike) -> TokenTrie:
        """The trie of a vocabulary's tokens: made on the host, and kept there for the last few vocabularies."""
        # Constants also where a program is being traced.
        with jax.ensure_compile_time_eval():
            chunk = _CHUNK_ON_CPU if jax.default_backend() == "cpu" else _CHUNK
            parents, letters, depths, nodes = jax.device_put(_build(vocabulary.tokens, chunk))
        return cls(parents, letters, depths, nodes, vocabulary.end_of_text)

    def walk(
        self,
        table: Int[Array, " E"],
        columns: Int[Array, " P"],
        root: Int[Array, ""],
        seam: Int[Array, ""],
    ) -> Bool[Array, " V"]:
        """Where a table leads from one entry, for every token: the lowest bit of the entry it ends in.

        :param table: entry `(e >> 1) + c` follows entry `e` by column `c`; column 0 stays.
        :param columns: the column of each node's byte.
        :param root: the entry to start from.
        :param seam: how many leading bytes are skipped.
        """
        chunk = self.parents.shape[0] // self.depths.shape[0]

        def level(i: Int[Array, ""], entries: Int[Array, " P"]) -> Int[Array, " P"]:
            parents = lax.dynamic_slice(self.parents, (i * chunk,), (chunk,))
            column = lax.dynamic_slice(columns, (i * chunk,), (chunk,))
            column = jnp.where(self.depths[i] > seam, column, 0)
            before = entries.at[parents].get(mode="promise_in_bounds")
            after = table.at[(before >> 1) + column].get(mode="promise_in_bounds")
            return lax.dynamic_update_slice(entries, after, (i * chunk,))

        entries = jnp.zeros(self.parents.shape, jnp.int32).at[0].set(root)
        entries = lax.fori_loop(1, self.depths.shape[0], level, entries)
        # A byte a node: the tokens' nodes are spread over all of them, and these fit into a cache.
        bits = lax.optimization_barrier((entries & 1).astype(jnp.uint8))
        return bits.at[self.nodes].get(mode="promise_in_bounds").astype(bool)


@lru_cache(maxsize=4)
def _build(tokens: tuple[bytes, ...], chunk: int) -> tuple[np.ndarray, ...]:
    """The fields of :class:`TokenTrie`, level by level: a node is a parent with a byte, counted once."""
    lengths = np.array([len(token) for token in tokens])
    text = np.frombuffer(b"".join(tokens), np.uint8)
    starts = np.cumsum(lengths) - lengths
    nodes = np.zeros(len(tokens), np.int64)
    parents, letters, depths = [np.zeros(chunk, np.int32)], [np.zeros(chunk, np.uint8)], [0]
    longer = np.arange(len(tokens))
    for depth in range(1, lengths.max(initial=0) + 1):
        longer = longer[lengths[longer] >= depth]
        pairs = nodes[longer] << 8 | text[starts[longer] + depth - 1]
        pairs, places = np.unique(pairs, return_inverse=True)
        nodes[longer] = len(depths) * chunk + places
        padded = np.pad(pairs, (0, -len(pairs) % chunk))
        parents.append((padded >> 8).astype(np.int32))
        letters.append((padded & 255).astype(np.uint8))
        depths += [depth] * (len(padded) // chunk)
    return np.concatenate(parents), np.concatenate(letters), np.array(depths, np.int32), nodes.astype(np.int32)
