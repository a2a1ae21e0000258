"""Masks of a byte automaton: rows by state, walked when a state is first met and shared by all texts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Int, UInt32

from sentax.ppl.constraints.masks import Masker, NoMask, mask_memory_limit, pack
from sentax.ppl.constraints.token_trie import TokenTrie
from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree


class Tables(NamedTuple):
    """What a walk reads, for `O` automata of one shape; `O` is 1 unless each text has its own.

    :param entries: `O` tables of `R * C` entries each: the first entry of the successor's row, doubled, plus
        whether a text may stand there. R is S, or 2 S with a stop byte: a text that met it stays in
        the second half, where it stands if it is accepted.
    :param columns: the column of each node of the trie.
    :param roots: the entry that leads to each state's row.
    :param accepting: the states in which a text may end.
    """

    entries: Int[Array, "O E"]
    columns: Int[Array, "O P"]
    roots: Int[Array, "O S"]
    accepting: Bool[Array, "O S"]


class Memory(NamedTuple):
    """Rows found so far; `G` is 1 unless texts cannot share them.

    :param rows: by state; what is not `filled` means nothing.
    """

    rows: UInt32[Array, "G S W"]
    filled: Bool[Array, "G S"]


class Queries(NamedTuple):
    """What K texts ask at once.

    :param owner: which tables are theirs.
    :param group: which memory is theirs.
    """

    owner: Int[Array, " K"]
    group: Int[Array, " K"]
    state: Int[Array, " K"]
    seam: Int[Array, " K"]
    needed: Bool[Array, " K"]


@pytree
@dataclass(frozen=True, eq=False)
class AutomatonMasker(Masker):
    """The masks of an :class:`~sentax.ppl.constraints.automaton.Automaton`, exact.

    A row is found by walking the vocabulary's trie once, when the first text reaches its state; from then
    on it is read from memory, by all texts that share the automaton: under `vmap` the memory stays
    one, without a batch axis. Rows with a seam (the first token after a healed prompt) are not kept.
    """

    trie: TokenTrie
    tables: Tables
    memory: Memory

    @classmethod
    def of(
        cls,
        transitions: Int[Array, "S C"],
        classes: Int[Array, " 257"],
        accepting: Bool[Array, " S"],
        live: Bool[Array, " S"],
        vocabulary: VocabularyLike,
        stop: int | None,
    ) -> AutomatonMasker | NoMask:
        """The masker of an automaton, its memory empty, or why the memory would be too large.

        :param transitions: successors by state and class; column 0 is the identity.
        """
        S, C = transitions.shape
        W = -(-vocabulary.size // 32)
        size, limit = 4 * S * W, mask_memory_limit()
        if size > limit:
            return NoMask(
                f"the table of {S} states x {vocabulary.size} tokens takes {size / 2**20:.3g} MiB, more than "
                f"the {limit / 2**20:.3g} MiB allowed by sentax.set_mask_memory_limit"
            )
        trie = TokenTrie.of(vocabulary)
        columns = classes.astype(jnp.int32)[trie.bytes.astype(jnp.int32)]
        if stop is not None:
            # A column for the stop byte leads to the second half of the table, where every byte stays.
            columns = jnp.where(trie.bytes == stop, C, columns)
            C += 1
        states = jnp.arange(S, dtype=jnp.int32)
        roots = 2 * C * states + live
        entries = roots[transitions]
        if stop is not None:
            ends = (2 * C * (S + states) + accepting)[:, None]
            entries = jnp.append(entries, ends, axis=1)
            entries = jnp.append(entries, jnp.broadcast_to(ends, (S, C)), axis=0)
        tables = Tables(entries.reshape(1, -1), columns[None], roots[None], accepting[None])
        return cls(trie, tables, Memory(jnp.zeros((1, S, W), jnp.uint32), jnp.zeros((1, S), bool)))

    def lookup(
        self, state: Int[Array, ""], seam: Int[Array, ""], needed: Bool[Array, ""] | bool
    ) -> tuple[AutomatonMasker, UInt32[Array, " W"]]:
        first = jnp.zeros(1, jnp.int32)
        queries = Queries(first, first, state[None], jnp.asarray(seam)[None], jnp.asarray(needed)[None])
        memory, rows = _lookup(self.trie, self.tables, self.memory, queries)
        return dataclasses.replace(self, memory=memory), rows[0]


@jax.custom_batching.custom_vmap
def _lookup(
    trie: TokenTrie, tables: Tables, memory: Memory, queries: Queries
) -> tuple[Memory, UInt32[Array, "K W"]]:
    """The rows of K texts; under `vmap`, of all texts as one list, so that what one finds is there for all."""

    def missing(memory: Memory) -> Bool[Array, " K"]:
        known = memory.filled[queries.group, queries.state] | (queries.seam > 0)
        return queries.needed & ~known

    def find(memory: Memory) -> Memory:
        pending = missing(memory)
        k = jnp.argmax(pending)
        # Masked by what the loop carries: with one text the walk would not depend on the loop, and the
        # compiler would move it out, to be paid whether the row is there or not.
        group, state = queries.group[k], jnp.where(pending, queries.state, 0)[k]
        row = _walk(trie, tables, queries.owner[k], state, jnp.int32(0))
        rows = lax.dynamic_update_slice(memory.rows, row[None, None], (group, state, 0))
        return Memory(rows, memory.filled.at[group, state].set(True))

    memory = lax.while_loop(lambda m: missing(m).any(), find, memory)

    # Read after the loop has written: the compiler would copy the table to read before.
    def read() -> UInt32[Array, "K W"]:
        return memory.rows.at[queries.group, queries.state].get(mode="promise_in_bounds")

    rows = lax.cond(
        (queries.needed & (queries.seam > 0)).any(), lambda: _walk_each(trie, tables, queries), read
    )
    return memory, rows


@jax.custom_batching.custom_vmap
def _walk_each(trie: TokenTrie, tables: Tables, queries: Queries) -> UInt32[Array, "K W"]:
    """The rows of K texts without a memory: one walk for all that ask the same."""
    what = jnp.stack([queries.owner, queries.state, queries.seam])

    def find(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        rows, pending = carry
        k = jnp.argmax(pending)
        asked = jnp.where(pending, what, 0)[:, k]  # as above
        row = _walk(trie, tables, *asked)
        same = (what == asked[:, None]).all(axis=0)
        return jnp.where(same[:, None], row, rows), pending & ~same

    rows = jnp.zeros((what.shape[1], -(-trie.nodes.shape[0] // 32)), jnp.uint32)
    return lax.while_loop(lambda carry: carry[1].any(), find, (rows, queries.needed))[0]


def _walk(
    trie: TokenTrie, tables: Tables, owner: Int[Array, ""], state: Int[Array, ""], seam: Int[Array, ""]
) -> UInt32[Array, " W"]:
    mine = jax.tree.map(lambda x: x[0] if x.shape[0] == 1 else x[owner], tables)
    allowed = trie.walk(mine.entries, mine.columns, mine.roots[state], seam)
    return pack(allowed.at[trie.end_of_text].set(mine.accepting[state]))


@_lookup.def_vmap
def _lookup_rule(
    axis_size: int, in_batched: Any, trie: TokenTrie, tables: Tables, memory: Memory, queries: Queries
) -> Any:
    trie_batched, tables_batched, memory_batched, queries_batched = in_batched
    trie = _first(trie, trie_batched)
    tables, queries = _flatten(axis_size, tables, tables_batched, queries, queries_batched)
    apart = any(memory_batched) or any(tables_batched)
    if apart and not any(memory_batched) and 4 * axis_size * memory.rows.size > mask_memory_limit():
        # Every text has an automaton of its own, and their tables do not fit: nothing is kept.
        rows = _walk_each(trie, tables, queries)
    else:
        if apart:
            groups = memory.filled.shape[-2]
            queries = queries._replace(group=queries.group + groups * _lanes(axis_size, queries))
            memory = Memory(*_merge(axis_size, memory, memory_batched))
            memory_batched = (True, True)
        memory, rows = _lookup(trie, tables, memory, queries)
        if apart:
            memory = Memory(*(x.reshape(axis_size, groups, *x.shape[1:]) for x in memory))
    return (memory, rows.reshape(axis_size, -1, rows.shape[1])), (Memory(*memory_batched), True)


@_walk_each.def_vmap
def _walk_each_rule(axis_size: int, in_batched: Any, trie: TokenTrie, tables: Tables, queries: Queries) -> Any:
    trie_batched, tables_batched, queries_batched = in_batched
    tables, queries = _flatten(axis_size, tables, tables_batched, queries, queries_batched)
    rows = _walk_each(_first(trie, trie_batched), tables, queries)
    return rows.reshape(axis_size, -1, rows.shape[1]), True


def _flatten(
    axis_size: int, tables: Tables, tables_batched: Any, queries: Queries, queries_batched: Any
) -> tuple[Tables, Queries]:
    """Every lane's queries in one list, every lane's tables in one stack."""
    queries = Queries(*_merge(axis_size, queries, queries_batched))
    if any(tables_batched):
        owners = tables.roots.shape[-2]
        queries = queries._replace(owner=queries.owner + owners * _lanes(axis_size, queries))
        tables = Tables(*_merge(axis_size, tables, tables_batched))
    return tables, queries


def _lanes(axis_size: int, queries: Queries) -> Int[Array, " K"]:
    return jnp.repeat(jnp.arange(axis_size, dtype=jnp.int32), queries.state.shape[0] // axis_size)


def _merge(axis_size: int, values: Any, batched: Any) -> list[Array]:
    """Merges the batch axis into the first axis; what has none gets one."""
    wide = (
        x if b else jnp.broadcast_to(x, (axis_size, *x.shape)) for x, b in zip(values, batched, strict=True)
    )
    return [x.reshape(-1, *x.shape[2:]) for x in wide]


def _first(trie: TokenTrie, batched: Any) -> TokenTrie:
    """A trie is made of static tokens: where a loop has given it a batch axis, all lanes are the same."""
    return jax.tree.map(lambda x, b: x[0] if b else x, trie, batched)
