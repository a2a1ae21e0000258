"""Masks over a vocabulary say what checks token by token say, and are found once for all texts."""

from __future__ import annotations

import random
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from constraints.registry import CASES
from jax import lax
from jax.extend import core as jcore

from sentax.models.vocabulary import Vocabulary
from sentax.ppl import constraints as sc
from sentax.ppl.constraints.automaton_masks import AutomatonMasker
from sentax.ppl.constraints.masks import (
    Masker,
    NoMask,
    mask_memory_limit,
    pack,
    pack_on_host,
    set_mask_memory_limit,
    unpack,
)
from sentax.ppl.constraints.predicate import host_errors
from sentax.ppl.constraints.token_trie import TokenTrie
from sentax.ppl.text import token_bytes

TOKENS = [
    *(bytes([b]) for b in range(256)),
    *(b"ab", b"abab", b"aab", b"ba", b"ab", b"aaaa", b"bab", b"ca", b"abc", b"ab\nab", b"\n\n", b"x\n"),
    *(t.encode() for t in ("é", "été", "日", "日本", "aé", "ét", "tt")),
    *(b"\xc3", b"a\xc3", b"\xa9t", b"\xe6\x97", b"\xa5\xe6"),
    *(b"", b" " * 40, b"ab" * 30, b"ab" * 9 + b"\n" + b"ab", b"a" * 130, b"", b""),
]
END_OF_TEXT = len(TOKENS) - 2
VOCABULARY = Vocabulary(TOKENS, END_OF_TEXT)
V, W = VOCABULARY.size, -(-VOCABULARY.size // 32)
STOP = ord("b")


@pytest.fixture
def limit():
    """Sets the memory limit, and sets it back."""
    before = mask_memory_limit()
    yield set_mask_memory_limit
    set_mask_memory_limit(before / 2**20)


def verdicts(constraint, state, seam, stop):
    """The law: every token as a step of `generate` takes it."""

    def verdict(token):
        row, ends = token_bytes(VOCABULARY, token, seam, stop)
        return constraint.advance(state, row, ends)

    return jax.vmap(verdict)(jnp.arange(V))


@partial(jax.jit, static_argnames="stop")
def compare(constraint, masker, state, seam, stop):
    masker, row = masker.lookup(state, seam, True)
    states, allowed = verdicts(constraint, state, seam, stop)

    def rest(token):
        shown, ends = token_bytes(VOCABULARY, token, seam, stop)
        return masker.residual(constraint, state, shown, ends)

    return masker, unpack(row, V), allowed, jax.vmap(rest)(jnp.arange(V)), states


def walk(constraint, stop, seed, steps=5):
    """Along a random text, every token's bit, with seams and without."""
    rng = random.Random(seed)
    masker = constraint.masker(VOCABULARY, stop)
    if isinstance(masker, NoMask):
        assert masker.reason
        return None
    state = constraint.init()
    for step in range(steps):
        for seam in (1, 2, 3, 0) if step < 2 else (0,):
            with host_errors():
                out = compare(constraint, masker, state, jnp.int32(seam), stop)
            masker, (mask, allowed, rest) = out[0], (np.asarray(x) for x in out[1:4])
            wrong = mask != allowed if masker.exact else allowed & ~mask
            assert not wrong.any(), (step, seam, [(TOKENS[v], mask[v]) for v in np.flatnonzero(wrong)][:5])
            np.testing.assert_array_equal(mask & rest, allowed, err_msg=f"residual, step {step}, seam {seam}")
        # Allowed tokens, those that go on if there are some; now and then any token, to leave the set.
        choices = [v for v in np.flatnonzero(allowed) if v != END_OF_TEXT and TOKENS[v]]
        token = rng.choice(choices) if choices and rng.random() < 0.9 else rng.randrange(V)
        state = jax.tree.map(lambda x, token=token: x[token], out[4])
    return masker


@pytest.mark.parametrize("stop", [None, STOP])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_masks_agree_with_checks(case, stop):
    for seed in range(2):
        walk(case.make(), stop, seed)


WITH_MASKS = [
    "regex",
    "regex_unicode",
    "literal",
    "choice",
    "length_bytes",
    "length_tokens",
    "and",
    "or",
    "not",
]
WITH_MASKS += ["both", "either", "not_length", "regex_and_predicate"]


@pytest.mark.parametrize("name", WITH_MASKS)
def test_these_have_masks(name):
    masker = CASES[name].make().masker(VOCABULARY, None)
    assert isinstance(masker, Masker)
    assert masker.exact == (name != "regex_and_predicate" or masker.right is not None)


COMBINED = {
    "both": lambda a, b: sc.Both(sc.Both(a, b), sc.length(1, 7, unit="bytes")),
    "either": lambda a, b: sc.Either(sc.Both(a, sc.length(max=2)), b),
    "not": lambda a, b: sc.Not(sc.Both(a, sc.Not(b))),
    "lengths": lambda a, b: sc.Both(sc.length(2, 3), sc.length(3, 9, unit="bytes")),
    "predicate": lambda a, b: sc.Both(a, sc.predicate(lambda t: len(t) % 5 < 4)),
    "either_inexact": lambda a, b: sc.Either(a, sc.Both(b, sc.predicate(lambda t: b"aa" not in t))),
}


@pytest.mark.parametrize("name", COMBINED)
def test_combined_masks_agree_with_checks(name):
    constraint = COMBINED[name](sc.regex("(ab|é+t|日)*c?"), sc.regex("a?(b|ab|é)*"))
    for seed in range(2):
        assert walk(constraint, STOP, seed) is not None


def test_why_there_is_no_mask():
    mute, automaton = sc.Constraint(), sc.regex("a*")
    assert sc.Constraint.masker(mute, VOCABULARY) == NoMask("Constraint has no mask")
    assert sc.Both(mute, mute).masker(VOCABULARY) == NoMask("Constraint has no mask")
    assert sc.Either(automaton, mute).masker(VOCABULARY) == NoMask("Constraint has no mask")
    assert "not exact" in sc.Not(sc.Both(automaton, mute)).masker(VOCABULARY).reason


def test_memory_limit(limit):
    automaton = sc.regex("a{1,200}")
    size = 256 * W * 4 / 2**20
    limit(size)
    assert isinstance(automaton.masker(VOCABULARY), AutomatonMasker)
    limit(0.008)
    assert automaton.masker(VOCABULARY) == NoMask(
        f"the table of 256 states x {V} tokens takes {size:.3g} MiB, more than the 0.008 MiB allowed by "
        "sentax.set_mask_memory_limit"
    )
    # The other part of a pair still masks.
    assert not sc.Both(automaton, sc.length(3)).masker(VOCABULARY).exact
    with pytest.raises(ValueError, match="-1"):
        set_mask_memory_limit(-1)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 100])
def test_pack(size):
    allowed = np.random.default_rng(size).random((3, size)) < 0.5
    rows = jax.vmap(pack)(jnp.asarray(allowed))
    assert rows.shape == (3, -(-size // 32))
    np.testing.assert_array_equal(rows, pack_on_host(allowed))
    np.testing.assert_array_equal(jax.vmap(lambda row: unpack(row, size))(rows), allowed)


@pytest.mark.parametrize("tokens", [TOKENS, [b"", b""], [b"a" * 300, b""]], ids=["many", "none", "long"])
def test_trie_spells_the_tokens(tokens):
    trie = TokenTrie.of(Vocabulary(tokens, end_of_text=len(tokens) - 1))
    parents, letters = np.asarray(trie.parents), np.asarray(trie.bytes)
    chunk = len(parents) // len(trie.depths)
    for token, node in zip(tokens, np.asarray(trie.nodes).tolist()):
        spelled = []
        while node:
            assert parents[node] // chunk < node // chunk
            assert trie.depths[node // chunk] == trie.depths[parents[node] // chunk] + 1
            spelled.append(letters[node])
            node = parents[node]
        assert bytes(spelled[::-1]) == token
    assert len(set(np.asarray(trie.nodes).tolist())) == len(set(tokens))


# --- batches and loops ---

AUTOMATON = sc.regex("(ab|é+t)*c?|b{3}")
STATES = np.array([3, 0, 2, 3, 1, 0, 5, 2])
NEEDED = np.array([1, 1, 1, 1, 1, 1, 0, 1], bool)


@partial(jax.jit, static_argnames="stop")
def _looked_up(constraint, states, seams, stop):
    return jax.vmap(lambda state, seam: verdicts(constraint, state, seam, stop)[1])(states, seams)


def looked_up(constraint, states, seams=0, stop=None):
    states = np.asarray(states, np.int32)
    return np.asarray(_looked_up(constraint, states, np.broadcast_to(np.int32(seams), states.shape), stop))


@jax.jit
def _bits(rows):
    return jax.vmap(lambda row: unpack(row, V))(rows)


def bits(rows):
    return np.asarray(_bits(rows.reshape(-1, W))).reshape(*rows.shape[:-1], V)


def lookup(masker, state, seam, needed):
    return masker.lookup(state, seam, needed)


@pytest.mark.parametrize("seams", [np.zeros(8, int), np.array([0, 1, 0, 1, 2, 0, 1, 0])], ids=["none", "seams"])
def test_a_batch_shares_its_memory(seams):
    # An output axis of None is an error where the memory has one.
    batched = jax.vmap(lookup, in_axes=(None, 0, 0, 0), out_axes=(None, 0))
    masker, rows = jax.jit(batched)(AUTOMATON.masker(VOCABULARY), STATES, seams, NEEDED)
    np.testing.assert_array_equal(bits(rows)[NEEDED], looked_up(AUTOMATON, STATES, seams)[NEEDED])
    kept = sorted(set(STATES[NEEDED & (seams == 0)]))
    assert np.flatnonzero(masker.memory.filled[0]).tolist() == kept


def test_a_batch_of_batches_shares_its_memory():
    batched = jax.vmap(lookup, in_axes=(None, 0, None, 0), out_axes=(None, 0))
    batched = jax.vmap(batched, in_axes=(None, 1, None, None), out_axes=(None, 1))
    states = np.stack([STATES, STATES[::-1], np.full(8, 4)], axis=1)
    masker, rows = jax.jit(batched)(AUTOMATON.masker(VOCABULARY), states, 0, NEEDED)
    want = looked_up(AUTOMATON, states.reshape(-1)).reshape(8, 3, V)
    np.testing.assert_array_equal(bits(rows)[NEEDED], want[NEEDED])
    assert np.flatnonzero(masker.memory.filled[0]).tolist() == sorted(set(states[NEEDED].ravel().tolist()))


def test_rows_come_from_memory():
    """A row that is there is not found again: what stands there is handed out, right or wrong."""
    masker, right = jax.jit(lookup)(AUTOMATON.masker(VOCABULARY), jnp.int32(3), jnp.int32(0), True)
    poisoned = masker.memory._replace(rows=masker.memory.rows ^ 1)
    masker = AutomatonMasker(masker.trie, masker.tables, poisoned)
    batched = jax.vmap(lookup, in_axes=(None, 0, None, None), out_axes=(None, 0))
    _, rows = jax.jit(batched)(masker, jnp.array([3, 2, 3]), 0, True)
    np.testing.assert_array_equal(rows[0], right ^ 1)
    np.testing.assert_array_equal(rows[2], right ^ 1)
    np.testing.assert_array_equal(bits(rows)[1], looked_up(AUTOMATON, [2])[0])


@pytest.mark.parametrize("memory", ["batched", "none"])
def test_an_automaton_for_each_text(memory, limit):
    automata = [sc.regex("(ab|é)*"), sc.regex("a{0,3}b"), sc.regex("[^é]*")]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *automata)
    one_table = automata[0].transitions.shape[0] * W * 4
    limit((one_table if memory == "none" else 3 * one_table) / 2**20)

    def texts(automaton, states):
        masker = automaton.masker(VOCABULARY, STOP)
        steps = []
        for _ in range(2):
            masker, rows = jax.vmap(lookup, in_axes=(None, 0, None, None), out_axes=(None, 0))(
                masker, states, jnp.int32(0), True
            )
            steps.append(rows)
        return jnp.stack(steps), masker.memory.filled

    states = np.array([[0, 1, 1], [2, 0, 1], [0, 0, 1]])
    axes = (0, 0 if memory == "batched" else None)
    rows, filled = jax.jit(jax.vmap(texts, out_axes=axes))(stacked, states)
    for automaton, mine, asked in zip(automata, rows, states):
        want = looked_up(automaton, asked, 0, STOP)
        np.testing.assert_array_equal(bits(mine), np.stack([want, want]))
    if memory == "batched":
        assert [np.flatnonzero(f).tolist() for f in filled[:, 0]] == [[0, 1], [0, 1, 2], [0, 1]]
    else:
        assert not filled.any()


def text(automaton, k, length):
    """A loop like that of `generate`: every text meets the states in an order of its own."""

    def body(carry):
        t, state, masker, seen = carry
        masker, row = masker.lookup(state, jnp.int32(0), t < 3)
        # What resampling does: the memory goes through a `cond` that leaves it alone.
        masker = lax.cond((t + length) % 2 == 0, lambda m: m, lambda m: m, masker)
        return t + 1, (state + 1) % 4, masker, seen.at[t].set(row)

    start = (jnp.int32(0), k % 4, automaton.masker(VOCABULARY), jnp.zeros((4, W), jnp.uint32))
    _, _, masker, seen = lax.while_loop(lambda carry: carry[0] < length, body, start)
    return seen, masker.memory.filled


def scanned(automaton, k):
    def body(carry, _):
        state, masker = carry
        masker, row = masker.lookup(state, jnp.int32(0), True)
        return ((state + 1) % 4, masker), row

    (_, masker), rows = lax.scan(body, (k % 4, automaton.masker(VOCABULARY)), length=3)
    return rows, masker.memory.filled


@pytest.fixture(scope="module")
def wanted():
    """What :func:`text` sees, for five texts of three tokens."""
    return looked_up(AUTOMATON, [(k + t) % 4 for k in range(5) for t in range(3)]).reshape(5, 3, V)


def in_a_loop(automaton, ks):
    return jax.vmap(lambda k: text(automaton, k, 3), out_axes=(0, None))(ks)


def in_a_scan(automaton, ks):
    return jax.vmap(lambda k: scanned(automaton, k), out_axes=(0, None))(ks)


def traced_apart(automaton, ks):
    """As the engine does it: traced for one text, evaluated for all."""

    def texts(k):
        closed, shapes = jax.make_jaxpr(text, static_argnums=2, return_shape=True)(automaton, k, 3)
        flat = jcore.jaxpr_as_fun(jcore.ClosedJaxpr(closed.jaxpr, closed.consts))(
            *jax.tree.leaves((automaton, k))
        )
        return jax.tree.unflatten(jax.tree.structure(shapes), flat)

    return jax.vmap(texts, out_axes=(0, None))(ks)


@pytest.mark.parametrize("program", [in_a_loop, in_a_scan, traced_apart])
def test_memory_stays_shared(program, wanted):
    rows, filled = jax.jit(program)(AUTOMATON, jnp.arange(5))
    np.testing.assert_array_equal(bits(rows)[:, :3], wanted)
    assert np.flatnonzero(filled[0]).tolist() == [0, 1, 2, 3]


def test_several_runs_share_their_memory(wanted):
    runs = jax.vmap(lambda shift: in_a_loop(AUTOMATON, (jnp.arange(5) + shift) % 5), out_axes=(0, None))
    rows, filled = jax.jit(runs)(jnp.arange(2))
    np.testing.assert_array_equal(bits(rows)[0, :, :3], wanted)
    np.testing.assert_array_equal(bits(rows)[1, :, :3], np.roll(wanted, -1, axis=0))
    assert np.flatnonzero(filled[0]).tolist() == [0, 1, 2, 3]


def test_loops_of_different_lengths_keep_memories_apart(wanted):
    """`vmap` gives every part of such a loop's carry a batch axis: slower, still right."""
    rows, filled = jax.jit(jax.vmap(text, in_axes=(None, 0, 0)))(
        AUTOMATON, jnp.arange(5), np.array([3, 1, 2, 0, 3])
    )
    for k, length in enumerate([3, 1, 2, 0, 3]):
        np.testing.assert_array_equal(bits(rows)[k, :length], wanted[k, :length])
        assert np.flatnonzero(filled[k, 0]).tolist() == sorted((k + t) % 4 for t in range(length))


def test_the_table_is_not_copied_at_every_step():
    program = jax.jit(in_a_loop).lower(AUTOMATON, jnp.arange(5)).compile().as_text()
    table = rf"u32\[1,{AUTOMATON.transitions.shape[0]},{W}\]"
    assert re.search(rf"= {table}.* dynamic-update-slice\(", program)
    assert not re.search(rf"= {table}\S* (copy|select)\(", program)


def test_one_text_does_not_walk_for_a_row_that_is_there():
    """The walk is a loop in the loop over missing rows; with one text the compiler might move it out."""
    vocabulary = Vocabulary([str(i).encode() for i in range(4096)] + [b""], end_of_text=4096)
    arguments = AUTOMATON.masker(vocabulary), jnp.int32(0), jnp.int32(0), True
    program = jax.jit(lookup).lower(*arguments).compile().as_text()
    entry = program[program.index("ENTRY") :]
    assert len(re.findall(r" while\(", program)) > 1
    assert len(re.findall(r" while\(", entry)) == 1
