"""Predicates: what is called, how often, and what happens when it fails."""

from __future__ import annotations

import contextlib
import gc
import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from sentax.ppl.constraints import PAD, PredicateError, host_errors, predicate, regex, trie


def tokens(*pieces: bytes, width: int = 4) -> jnp.ndarray:
    table = np.full((len(pieces), width), PAD, np.int32)
    for row, piece in zip(table, pieces):
        row[: len(piece)] = np.frombuffer(piece, np.uint8)
    return jnp.asarray(table)


@jax.jit
def run(constraint, lanes):
    """Advance every lane through its tokens; the verdicts, [N, T]."""

    def one(row):
        def step(state, token):
            new, allowed = constraint.advance(state, token, False)
            return jax.tree.map(lambda a, b: jnp.where(allowed, a, b), new, state), allowed

        return lax.scan(step, constraint.init(), row)[1]

    return jax.vmap(one)(lanes)


class Recorder:
    """A predicate that remembers what it was asked."""

    def __init__(self, verdict=lambda text: True):
        self.asked = []
        self.verdict = verdict

    def __call__(self, text):
        self.asked.append(text)
        return self.verdict(text)


def test_each_text_is_asked_once_for_all_particles_and_runs():
    asked = Recorder(lambda text: not text.endswith(b"c"))
    constraint = predicate(asked)
    lanes = jnp.stack([tokens(b"a", b"b", b"c"), tokens(b"a", b"b", b"c"), tokens(b"a", b"c", b"d")])
    for _ in range(3):
        assert run(constraint, lanes).tolist() == [[True, True, False]] * 2 + [[True, False, True]]
    assert sorted(asked.asked) == [b"a", b"ab", b"abc", b"ac", b"ad"]
    assert constraint.stats.calls == 5
    assert constraint.stats.memo_hits == 3 * 9 - 5
    assert constraint.stats.nodes == 3  # refused texts are not kept


def test_only_the_question_that_matters_is_asked():
    inside, at_end = Recorder(), Recorder(lambda text: text == b"ab")
    constraint = predicate(inside, at_end)
    state = constraint.init()
    state, allowed = constraint.advance(state, tokens(b"a")[0], False)
    assert bool(allowed)
    assert at_end.asked == []
    state, allowed = constraint.advance(state, tokens(b"b")[0], True)
    assert bool(allowed)
    assert (inside.asked, at_end.asked) == ([b"a"], [b"ab"])
    _, allowed = constraint.advance(state, tokens(b"c")[0], False, False)
    assert not bool(allowed)
    assert inside.asked == [b"a"]


def test_finished_lanes_ask_nothing_new():
    asked = Recorder()
    constraint = predicate(asked)
    run(constraint, jnp.stack([tokens(b"a", b"", b"", b""), tokens(b"a", b"b", b"c", b"d")]))
    assert asked.asked == [b"a", b"ab", b"abc", b"abcd"]


def test_what_the_device_refuses_the_host_is_not_asked():
    asked = Recorder()
    constraint = predicate(asked) & regex("a+")
    assert run(constraint, jnp.stack([tokens(b"a", b"b", b"a")])).tolist() == [[True, False, True]]
    assert asked.asked == [b"a", b"aa"]


def test_an_automaton_joins_the_automaton_of_a_pair():
    constraint = (predicate(lambda text: len(text) < 3) & regex("a+")) & regex("(aa)+")
    assert "regex('(aa)+')" in repr(constraint.left)
    assert [constraint.matches(b"a" * n) for n in range(5)] == [False, False, True, False, False]


def test_complement_asks_only_at_the_end():
    asked = Recorder(lambda text: b"x" in text)
    constraint = ~predicate(None, asked)
    run(constraint, jnp.stack([tokens(b"a", b"x")]))
    assert asked.asked == []
    assert [constraint.matches(t) for t in ("a", "x")] == [True, False]


def test_text_as_str_waits_for_whole_characters():
    asked = Recorder()
    constraint = predicate(asked, text="str")
    lanes = jnp.stack([tokens(b"a", b"\xf0\x9f", b"\x98", b"\x80b"), tokens(b"\xff", b"a", b"\xc3", b"a")])
    assert run(constraint, lanes).tolist() == [[True] * 4, [False, True, True, False]]
    assert asked.asked == ["a", "a😀b"]  # nothing again while a character is unfinished
    assert not constraint.matches(b"a\xc3")


def test_long_texts_are_rebuilt_from_the_trie(monkeypatch):
    monkeypatch.setattr(trie, "_MAX_SESSIONS", 8)
    asked = Recorder()
    lanes = jnp.stack([tokens(*(bytes([97 + (i + j) % 7]) for j in range(40))) for i in range(20)])
    run(predicate(asked), lanes)
    spelled = {bytes(97 + (i + j) % 7 for j in range(n)) for i in range(7) for n in range(1, 41)}
    assert len(asked.asked) == len(set(asked.asked)) == len(spelled)
    assert set(asked.asked) == spelled


def fails(text):
    return bool(1 / (text.count(b"x") - 1))


@pytest.mark.parametrize("lanes", [1, 5])
def test_an_exception_ends_the_run_with_the_text(lanes):
    constraint = predicate(fails)
    row = jnp.stack([tokens(b"ab", b"x")] * lanes)
    message = r"fails raised on b'abx': ZeroDivisionError"
    for _ in range(3):  # compiled once, failing again
        with pytest.raises(PredicateError, match=message) as caught, host_errors():
            jax.block_until_ready(run(constraint, row))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.text == b"abx"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    # The process and the predicate stay usable.
    assert run(constraint, jnp.stack([tokens(b"ab", b"c")] * lanes)).all()


@pytest.mark.parametrize("answer", [None, 1, "yes", np.ones(2, bool)])
def test_an_answer_that_is_not_a_bool_is_an_error(answer):
    constraint = predicate(lambda text: answer, text="str")
    with pytest.raises(PredicateError, match=r"returned .* on 'é', not a bool"), host_errors():
        jax.block_until_ready(run(constraint, jnp.stack([tokens("é".encode())])))


def test_a_long_text_is_shortened_in_the_message():
    constraint = predicate(fails)
    with pytest.raises(PredicateError) as caught:
        constraint.matches(b"a" * 500 + b"x")
    assert len(str(caught.value)) < 200
    assert "aaa..." in str(caught.value)


def test_errors_without_callbacks_pass_through():
    with pytest.raises(KeyError), host_errors():
        raise KeyError("mine")
    with pytest.raises(jax.errors.JaxRuntimeError, match="not ours"), host_errors():
        raise jax.errors.JaxRuntimeError("not ours")


def test_an_earlier_failure_does_not_hide_a_later_error():
    def caught_then_wrong():
        with host_errors():
            with contextlib.suppress(PredicateError):
                predicate(fails).matches("x")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        caught_then_wrong()


def test_numpy_bools_are_bools():
    assert predicate(lambda text: np.bool_(True)).matches("a")


def test_a_new_predicate_does_not_recompile():
    traces = 0

    @jax.jit
    def accepts(constraint, token):
        nonlocal traces
        traces += 1
        return constraint.advance(constraint.init(), token, True)[1]

    token = tokens(b"ab")[0]
    assert [bool(accepts(predicate(lambda t, n=n: len(t) == n), token)) for n in range(4)] == [
        False,
        False,
        True,
        False,
    ]
    assert traces == 1


def test_several_predicates_share_one_batch():
    """The handle is a leaf: a batch may hold a different predicate in every lane."""
    first, second = predicate(lambda t: b"a" in t), predicate(lambda t: b"b" in t)
    handles = jnp.stack([first.handle, second.handle])
    many = jax.tree.unflatten(jax.tree.structure(first), [handles])
    verdicts = jax.vmap(lambda c: c.advance(c.init(), tokens(b"xa")[0], True)[1])(many)
    assert verdicts.tolist() == [True, False]


def test_pickling_starts_a_fresh_memory():
    constraint = predicate(fails, text="bytes")
    constraint.matches("a")
    copy = pickle.loads(pickle.dumps(constraint))
    assert copy.matches("a")
    assert int(copy.handle) != int(constraint.handle)
    assert (copy.stats.calls, constraint.stats.calls) == (1, 1)


def test_a_deleted_predicate_is_a_clear_error():
    keep = predicate(lambda text: True)
    stale = jax.tree.unflatten(jax.tree.structure(keep), [jnp.int32(10**6)])
    gc.collect()
    with pytest.raises(RuntimeError, match="keep a reference"), host_errors():
        jax.block_until_ready(run(stale, jnp.stack([tokens(b"a")])))


def test_threads_share_a_predicate():
    asked = Recorder()
    constraint = predicate(asked)
    lanes = jnp.stack([tokens(*(bytes([97 + (i * j) % 5]) for j in range(12))) for i in range(8)])
    run(constraint, lanes[:1])
    threads = [threading.Thread(target=lambda: jax.block_until_ready(run(constraint, lanes))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked.asked) == len(set(asked.asked)) == constraint.stats.calls


@pytest.mark.parametrize("arguments", [(None,), (None, None), ("a",), (len, "b")])
def test_what_is_not_a_function_is_refused(arguments):
    with pytest.raises(TypeError, match="function of the text"):
        predicate(*arguments)
    with pytest.raises(ValueError, match="'bytes' or 'str'"):
        predicate(len, text="tokens")
