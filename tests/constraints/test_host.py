"""The memory of texts, the one callback, and candidates in order."""

from __future__ import annotations

import pickle
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.engines import Words

from sentax.ppl.constraints import PAD, trie
from sentax.ppl.constraints.host import HostConstraint, dispatch, in_order
from sentax.ppl.constraints.trie import COMPLETE, DEAD, MOVE, PREFIX, ROOT, SKIP, Trie
from sentax.testing import check_constraint


def handle(constraint: HostConstraint) -> int:
    return int(constraint.handle)


def question(handle, action, node, piece, patience=0, worth=0, width=8):
    row = np.zeros(6 + width // 4, np.int32)
    row[:6] = handle, patience, worth, action, len(piece), node
    row[6:].view(np.uint8)[: len(piece)] = np.frombuffer(piece, np.uint8)
    return row


def decoded(answers):
    """Nodes, whether they were asked, and verdicts."""
    return answers >> 2, (answers & 2).astype(bool), (answers & 1).astype(bool)


def expected(engine: Words, texts, lanes, group):
    """What :func:`dispatch` should say: texts after each lane, asked, verdict; computed without a memory."""
    out = []
    left = 0
    for i, (patience, worth, action, piece, text) in enumerate(lanes):
        if i % group == 0:
            left = patience if patience > 0 else None
        new = texts[text] + piece
        if action == SKIP:
            out.append((texts[text], True, False))
        elif action == MOVE:
            out.append((new, True, None))
        elif left == 0:
            out.append((texts[text], False, False))
        else:
            verdict = engine.alive(new) and (action == PREFIX or new.count(b"a") % 2 == 0)
            out.append((new, True, verdict))
            if verdict and left is not None:
                left = max(0, left - worth)
    return out


@pytest.mark.parametrize("in_parallel", [False, True])
def test_dispatch_says_what_a_matcher_without_memory_says(in_parallel):
    rng = random.Random(5)
    constraint = HostConstraint.of(Words(in_parallel=in_parallel))
    memory = constraint.keeper.trie
    nodes = [ROOT]
    for _ in range(60):
        groups, group = rng.randint(1, 4), rng.randint(1, 5)
        texts = {node: memory.text(node) for node in nodes}
        lanes = []
        for _ in range(groups):
            patience = rng.choice([0, 0, 1, 2, 3])
            for _ in range(group):
                piece = bytes(rng.choices(b"abcx", [4, 2, 4, 1], k=rng.randint(0, 3)))
                action = rng.choices([SKIP, MOVE, PREFIX, COMPLETE], [1, 1, 5, 2])[0]
                lanes.append((patience, rng.randint(0, 2), action, piece, rng.choice(nodes)))
        packed = [question(handle(constraint), a, n, p, patience, w) for patience, w, a, p, n in lanes]
        answers = dispatch(np.reshape(packed, (groups, group, -1))).reshape(-1)
        for node, asked, verdict, want in zip(*decoded(answers), expected(memory.engine, texts, lanes, group)):
            assert bool(asked) == want[1]
            assert want[2] is None or bool(verdict) == want[2]
            if node != DEAD:
                assert memory.text(int(node)) == want[0]
                nodes.append(int(node))
            else:
                assert not memory.engine.alive(want[0])
    # By the memory each text was asked at most once in each way it was cut, and answers were not mixed up.
    assert len(set(memory.engine.asked)) > 100
    assert memory.calls < memory.questions


def test_candidates_in_order_are_asked_to_the_first_that_holds():
    constraint = HostConstraint.of(Words())
    engine = constraint.keeper.trie.engine
    pieces = [b"x", b"bb", b"a", b"b", b"c"]
    lanes = [question(handle(constraint), PREFIX, ROOT, p, 1, 1) for p in pieces]
    _, asked, verdict = decoded(dispatch(np.stack(lanes)))
    assert asked.tolist() == [True, True, True, False, False]
    assert verdict.tolist() == [False, False, True, False, False]
    assert engine.asked == [(b"x", False), (b"bb", False), (b"a", False)]


def test_worth_adds_up_to_patience_and_lanes_that_are_not_needed_are_passed_over():
    constraint = HostConstraint.of(Words())
    actions = [PREFIX, SKIP, PREFIX, PREFIX, SKIP, MOVE]
    worths = [1, 9, 2, 1, 1, 1]
    lanes = [
        question(handle(constraint), a, ROOT, b"a" * i, 3, w) for i, (a, w) in enumerate(zip(actions, worths))
    ]
    node, asked, _ = decoded(dispatch(np.stack(lanes)))
    assert asked.tolist() == [True, True, True, False, True, True]
    assert node[3] == ROOT
    assert constraint.keeper.trie.text(int(node[5])) == b"aaaaa"


def test_one_callback_serves_several_engines_and_keeps_groups():
    first, second = HostConstraint.of(Words(3)), HostConstraint.of(Words(1))
    groups = [
        [question(handle(c), PREFIX, ROOT, p, 1, 1) for p in (b"cc", b"c", b"a")]
        for c in (first, second, first)
    ]
    _, asked, verdict = decoded(dispatch(np.array(groups)))
    assert asked.tolist() == [[True, False, False], [True, True, False], [True, False, False]]
    assert verdict.tolist() == [[True, False, False], [False, True, False], [True, False, False]]
    # Mixed within a group, each lane is asked.
    mixed = np.array([[question(handle(c), PREFIX, ROOT, b"cc", 1, 1) for c in (first, second, first)]])
    assert decoded(dispatch(mixed))[2].tolist() == [[True, False, True]]


def test_no_lanes_are_no_questions():
    assert dispatch(np.zeros((0, 4, 8), np.int32)).shape == (0, 4)


def tokens(*pieces: bytes, width: int = 4) -> jnp.ndarray:
    table = np.full((len(pieces), width), PAD, np.int32)
    for row, piece in zip(table, pieces):
        row[: len(piece)] = np.frombuffer(piece, np.uint8)
    return jnp.asarray(table)


def test_in_order_under_vmap_of_vmap():
    """[N, K]: particles and their candidates; the patience is the particle's, the worth the candidate's."""
    constraint = HostConstraint.of(Words())
    candidates = jnp.stack([tokens(b"x", b"a", b"b"), tokens(b"c", b"b", b"a")])
    patience = jnp.array([2, 1])
    worth = jnp.array([[1, 1, 1], [1, 1, 1]])

    @jax.jit
    def run(candidates, patience, worth):
        def check(token, worth, patience):
            with in_order(patience, worth) as asked:
                _, allowed = constraint.advance(constraint.init(), token, False)
            return allowed, asked

        one = jax.vmap(check, in_axes=(0, 0, None))
        return jax.vmap(one)(candidates, worth, patience)

    allowed, (asked,) = run(candidates, patience, worth)
    assert allowed.tolist() == [[False, True, True], [True, False, False]]
    assert asked.tolist() == [[True, True, True], [True, False, False]]
    assert len(constraint.keeper.trie.engine.asked) == 4  # x, a, b of the first; c of the second


def test_in_order_ends_with_its_context_and_leaves_steps_alone():
    constraint = HostConstraint.of(Words())
    with in_order(jnp.int32(1), jnp.int32(1)) as asked:
        constraint.step(constraint.init(), tokens(b"a")[0])
        assert asked == []
        constraint.alive(constraint.init())
        constraint.accepts(constraint.init())
        assert len(asked) == 2
    constraint.alive(constraint.init())
    assert len(asked) == 2


def test_the_work_of_a_check_does_not_grow_with_the_text():
    engine = Words(longest=10**6)
    memory = Trie(engine)
    node = ROOT
    for _ in range(4096):
        node, _ = memory.answer(node, b"a", PREFIX)
    # Each byte was read once into a session, however long the text before it.
    assert engine.read <= 4096
    before = engine.read
    for _ in range(10):
        memory.answer(node, b"c", PREFIX)
    assert engine.read - before <= 1


def test_sessions_are_bounded_and_made_again_from_the_nearest_ancestor(monkeypatch):
    monkeypatch.setattr(trie, "_MAX_SESSIONS", 4)
    engine = Words(longest=100)
    memory = Trie(engine)
    nodes = [ROOT]
    for _ in range(30):
        nodes.append(memory.answer(nodes[-1], b"a", PREFIX)[0])
    assert len(memory._sessions) <= 5
    engine.read = 0
    assert memory.session(nodes[10]) == b"a" * 10
    assert engine.read == 10  # from the root, in one piece
    assert memory.session(nodes[12]) == b"a" * 12
    assert engine.read == 12  # from node 10


def test_forgotten_answers_are_asked_again(monkeypatch):
    monkeypatch.setattr(trie, "_MAX_ANSWERS", 16)
    engine = Words(longest=100)
    memory = Trie(engine)
    for _ in range(3):
        for i in range(40):
            piece = b"a" * (i % 5) + b"c" * (i // 5)
            node, verdict = memory.answer(ROOT, piece, PREFIX)
            assert verdict
            assert memory.text(node) == piece
            assert sum(map(len, memory.answers)) <= 2 * 16
    assert len(engine.asked) > 40


def test_old_nodes_are_forgotten_but_not_those_in_use(monkeypatch):
    monkeypatch.setattr(trie, "_MAX_NODES", 64)
    monkeypatch.setattr(trie, "_REMEMBERED_CALLS", 8)
    memory = Trie(Words(longest=10**6))
    memory._seen = type(memory._seen)(maxlen=8)
    held = memory.answer(ROOT, b"ca", PREFIX)[0]
    stale = memory.answer(ROOT, b"cc", PREFIX)[0]
    for i in range(1000):
        start = memory.answer(ROOT, f"{i:012b}".translate({48: "a", 49: "c"}).encode(), PREFIX)[0]
        assert memory.answer(start, b"cb", PREFIX)[1]
        memory.answer(held, b"c", PREFIX)
    assert 32 <= len(memory.origin) < 64 + 8
    assert memory.text(held) == b"ca"
    assert memory.answer(held, b"a", COMPLETE)[1]
    with pytest.raises(RuntimeError, match="has forgotten a text"):
        memory.answer(stale, b"a", PREFIX)
    # Whatever is still known leads to nodes that are.
    for answers in memory.answers:
        assert all(code >> 2 in memory.origin or code >> 2 <= DEAD for code in answers.values())


def test_a_node_beyond_the_last_number_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(trie, "NUM_NODES", 4)
    memory = Trie(Words())
    memory.answer(ROOT, b"a", PREFIX)
    memory.answer(ROOT, b"c", PREFIX)
    with pytest.raises(RuntimeError, match="the most that it can number"):
        memory.answer(ROOT, b"b", PREFIX)


def test_a_text_asked_in_several_ways_is_asked_once():
    memory = Trie(Words())
    node, _ = memory.answer(ROOT, b"a", MOVE)
    assert memory.engine.asked == []
    assert memory.answer(node, b"", PREFIX) == memory.answer(ROOT, b"a", PREFIX) == (node, True)
    assert memory.answer(ROOT, b"a", COMPLETE) == memory.answer(node, b"", COMPLETE) == (node, False)
    assert memory.engine.asked == [(b"a", False), (b"a", True)]


def test_what_follows_a_refused_text_is_refused_without_a_question():
    memory = Trie(Words())
    node, _ = memory.answer(ROOT, b"bb", MOVE)
    beyond, _ = memory.answer(node, b"a", MOVE)
    assert memory.answer(node, b"", PREFIX) == (DEAD, False)
    asked = len(memory.engine.asked)
    assert memory.answer(node, b"c", PREFIX) == (DEAD, False)
    assert memory.answer(DEAD, b"c", COMPLETE) == (DEAD, False)
    assert memory.answer(node, b"c", MOVE)[0] == DEAD
    assert len(memory.engine.asked) == asked
    assert not memory.answer(beyond, b"", PREFIX)[1]


def test_an_engine_goes_through_the_laws_and_pickles_by_its_source():
    constraint = HostConstraint.of(Words(5))
    oracle = lambda text: Words(5).complete(b"", text)
    check_constraint(constraint, texts=["", "a", "aa", "cabac", "abb", "abcabc", "x"], oracle=oracle)
    copy = pickle.loads(pickle.dumps(constraint))
    assert copy.stats == (0, 0, 0, 0, 0)
    assert copy.matches("aa")
    assert not copy.matches("aacaca")
    assert int(copy.handle) != int(constraint.handle)
