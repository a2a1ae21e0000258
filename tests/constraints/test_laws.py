"""The protocol's laws over the registry of constraints."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from constraints.registry import CASES, WORDS

from sentax.ppl import constraints as sc
from sentax.ppl.constraints import PAD, Automaton, Constraint
from sentax.ppl.pytree import pytree
from sentax.testing import check_constraint

case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
device = pytest.mark.parametrize(
    "case",
    [c for c in CASES.values() if not c.make().on_host],
    ids=[k for k, c in CASES.items() if not c.make().on_host],
)


@case
def test_laws(case):
    check_constraint(case.make(), texts=case.texts, oracle=case.oracle)


@case
def test_tree_round_trip(case):
    constraint = case.make()
    leaves, structure = jax.tree.flatten(constraint)
    copy = jax.tree.unflatten(structure, leaves)
    again = jax.tree.map(jnp.asarray, constraint)
    assert repr(copy) == repr(again) == repr(constraint)
    for text in WORDS[:4]:
        assert copy.matches(text) == again.matches(text) == constraint.matches(text)


@device
def test_pickle(case):
    constraint = case.make()
    copy = pickle.loads(pickle.dumps(constraint))
    assert repr(copy) == repr(constraint)
    assert [copy.matches(t) for t in WORDS[:6]] == [constraint.matches(t) for t in WORDS[:6]]


@case
def test_repr_is_short(case):
    assert 0 < len(repr(case.make())) < 100


def _broken(law: str) -> Constraint:
    """An automaton that breaks one law."""

    class Broken(Automaton):
        def step(self, state, token):
            if law == "cut":
                return super().step(state, token[:2])
            if law == "padding":
                return super().step(state, jnp.where(token == PAD, ord("a"), token))
            if law == "dtype":
                return super().step(state, token).astype(jnp.int16)
            return super().step(state, token)

        def alive(self, state):
            return super().alive(state) & (state != 1 if law in ("implies", "alive") else True)

        def accepts(self, state):
            alive = super().accepts(state)
            return alive & (state != 1) if law == "alive" else alive

        def advance(self, state, token, end, needed=True):
            state, ok = super().advance(state, token, end, needed)
            return state, ok | (law == "advance")

    pytree(Broken)
    good = sc.regex("a{0,3}")
    return Broken(good.transitions, good.classes, good.accepting, good.live, good.label)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ("cut", "read as"),
        ("padding", "oracle|read as|padding|not alive"),
        ("dtype", "turns a state"),
        ("implies", "accepted but not alive"),
        ("alive", "alive again"),
        ("advance", "advance says True"),
        ("oracle", "where the oracle says True; text b'aaaa'"),
    ],
)
def test_check_finds_broken_laws(law, message):
    with pytest.raises(AssertionError, match=message):
        check_constraint(
            _broken(law), texts=["aaa", "aaaa", "b"], oracle=lambda t: set(t) <= {97} and len(t) < 5
        )


def test_structures_of_different_constraints_differ():
    """Also where fields and static values agree: `jit` picks a program by structure."""
    a, b = sc.length(1), sc.length(2)
    structures = [jax.tree.structure(c) for c in (a & b, a | b, ~a, a, sc.length(1, unit="bytes"))]
    for i, structure in enumerate(structures):
        assert [structure == other for other in structures] == [i == j for j in range(len(structures))]
    assert jax.tree.structure(_broken("cut")) != jax.tree.structure(_broken("padding"))
    assert jax.tree.structure(a) == jax.tree.structure(b)


@case
def test_advance_ignores_what_is_not_needed(case):
    """Without need there is no verdict to compare, but nothing may fail or change shape."""
    constraint = case.make()
    token = jnp.asarray(np.frombuffer(b"aab", np.uint8), jnp.int32)
    state, allowed = constraint.advance(constraint.init(), token, False, False)
    assert jax.tree.structure(state) == jax.tree.structure(constraint.init())
    assert allowed.dtype == bool
