"""Masks over a vocabulary from engines on the host."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.engines import Words

from sentax.models import Vocabulary
from sentax.ppl.constraints import PAD, PredicateError, host_masks, predicate
from sentax.ppl.constraints.host import HostConstraint, host_errors
from sentax.ppl.constraints.masks import NoMask, unpack
from sentax.ppl.text import token_bytes


def tokens(*pieces: bytes, width: int = 4) -> jnp.ndarray:
    table = np.full((len(pieces), width), PAD, np.int32)
    for row, piece in zip(table, pieces):
        row[: len(piece)] = np.frombuffer(piece, np.uint8)
    return jnp.asarray(table)


VOCABULARY = Vocabulary(
    [b"a", b"b", b"c", b"ab", b"bb", b"x", b"", b"c\n", b"\n", b"a\nb", b"aa\nxx", b"abc", b"ca", b"xa"],
    end_of_text=6,
)


def allowed_by_advance(constraint, state, vocabulary, seam, stop):
    def one(v):
        row, ends = token_bytes(vocabulary, v, seam, stop)
        return constraint.advance(state, row, ends)[1]

    return jax.vmap(one)(jnp.arange(vocabulary.size))


@pytest.mark.parametrize("stop", [None, 10])
@pytest.mark.parametrize("seam", [0, 1])
def test_masks_say_what_advance_says(stop, seam):
    constraint = HostConstraint.of(Words(4))
    masker = constraint.masker(VOCABULARY, stop)
    lookup = jax.jit(jax.vmap(lambda state: masker.lookup(state, jnp.int32(seam), True)[1]))
    check = jax.jit(jax.vmap(lambda state: allowed_by_advance(constraint, state, VOCABULARY, seam, stop)))
    states = [constraint.init()]
    for piece in (b"a", b"b", b"ab", b"bb", b"aacb", b"abcab"):
        states.append(constraint.step(constraint.init(), tokens(piece, width=8)[0]))
    states = jnp.stack(states)
    with host_errors():
        rows = lookup(states)
        bits = jax.vmap(unpack, in_axes=(0, None))(rows, VOCABULARY.size)
        assert bits.tolist() == check(states).tolist()
    assert np.asarray(bits).any(axis=1).tolist() == [True, True, True, True, False, True, False]
    assert rows.dtype == jnp.uint32
    before = constraint.stats.masks
    lookup(states)
    assert constraint.stats.masks == before == 5  # the texts that are alive; none twice


def test_masks_of_particles_at_one_text_are_made_once_and_none_where_not_needed():
    constraint = HostConstraint.of(Words())
    masker = constraint.masker(VOCABULARY)
    needed = jnp.arange(5) != 0
    states = jnp.array([constraint.step(constraint.init(), tokens(b"a")[0]), 0, 0, 0, 0])
    jax.vmap(lambda s, n: masker.lookup(s, jnp.int32(0), n)[1])(states, needed)
    assert constraint.keeper.trie.engine.masked == [b""]
    assert bool(masker.residual(constraint, constraint.init(), tokens(b"x")[0], False))
    assert masker.exact


def test_masks_are_bounded(monkeypatch):
    monkeypatch.setattr(host_masks, "_MAX_ROW_BYTES", 8)
    constraint = HostConstraint.of(Words())
    masker = constraint.masker(VOCABULARY)
    for piece in (b"a", b"c", b"ca", b"a"):
        masker.lookup(constraint.step(constraint.init(), tokens(piece)[0]), jnp.int32(0), True)
    assert len(constraint.keeper.trie.rows) == 2
    assert constraint.stats.masks == 4


def test_one_program_serves_constraints_with_masks_and_another_those_without():
    traces = 0

    @jax.jit
    def row(constraint):
        nonlocal traces
        traces += 1
        masker = constraint.masker(VOCABULARY)
        return (
            masker.reason
            if isinstance(masker, NoMask)
            else masker.lookup(constraint.init(), jnp.int32(0), True)[1]
        )

    bits = [unpack(row(HostConstraint.of(Words(n))), VOCABULARY.size).sum() for n in (1, 2, 3)]
    assert [int(b) for b in bits] == [3 + 1, 5 + 1, 6 + 1]
    assert traces == 1
    plain = predicate(lambda text: True)
    assert isinstance(plain.masker(VOCABULARY), NoMask)
    assert "token by token" in plain.masker(VOCABULARY).reason


def test_a_mask_of_the_wrong_size_is_a_clear_error():
    class Wrong(Words):
        def mask(self, session, vocabulary):
            return np.zeros(7, np.uint32)

    constraint = HostConstraint.of(Wrong())
    masker = constraint.masker(VOCABULARY)
    with pytest.raises(RuntimeError, match=r"mask of shape \(7,\); 1 words"), host_errors():
        jax.block_until_ready(jax.jit(lambda: masker.lookup(constraint.init(), jnp.int32(0), True)[1])())


@pytest.mark.parametrize("text", ["bytes", "str"])
def test_a_predicate_with_a_mask(text):
    seen = []

    def short(t):
        return len(t) <= 3 and not t.count("b" if text == "str" else b"b")

    def mask(t, tokens):
        seen.append(t)
        prefix = t.encode() if text == "str" else t
        limit = lambda raw: len(raw.decode(errors="ignore")) if text == "str" else len(raw)
        return [limit(prefix + token) <= 3 and b"b" not in token for token in tokens]

    constraint = predicate(short, text=text, mask=mask)
    masker = constraint.masker(VOCABULARY)
    state = constraint.step(constraint.init(), tokens(b"aa")[0])
    bits = unpack(masker.lookup(state, jnp.int32(0), True)[1], VOCABULARY.size)
    plain = allowed_by_advance(constraint, state, VOCABULARY, 0, None)
    # Letters that are not UTF-8 apart, of which there are none here.
    assert bits.tolist() == plain.tolist()
    assert seen == ["aa" if text == "str" else b"aa"]
    assert pickle.loads(pickle.dumps(constraint.stats)).masks == 1


def test_a_mask_starts_with_the_unfinished_character():
    shown = []

    def mask(t, tokens):
        shown.append((t, tokens[:2]))
        return np.ones(len(tokens), bool)

    constraint = predicate(lambda t: True, text="str", mask=mask)
    state = constraint.step(constraint.init(), tokens("é".encode()[:1])[0])
    constraint.masker(VOCABULARY).lookup(state, jnp.int32(0), True)
    assert shown == [("", [b"\xc3a", b"\xc3b"])]


@pytest.mark.parametrize(
    ("answer", "message"),
    [(lambda n: [True] * (n - 1), "not one bool for each"), (lambda n: 1 / 0, "ZeroDivision")],
)
def test_a_mask_that_fails_is_a_clear_error(answer, message):
    constraint = predicate(lambda t: True, mask=lambda t, tokens: answer(len(tokens)))
    masker = constraint.masker(VOCABULARY)
    with pytest.raises(PredicateError, match=message), host_errors():
        jax.block_until_ready(jax.jit(lambda: masker.lookup(constraint.init(), jnp.int32(0), True)[1])())
