"""Predicates in worker processes and threads: the same answers, whatever becomes of a worker."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sentax.ppl.constraints import PAD, PredicateError, host_errors, predicate
from sentax.ppl.constraints.workers import Answered, Crashed, Late, NotBool, Processes, Raised, Threads

PATIENCE = 60.0  # seconds: what a machine under load may take to start a worker or to meet


def tokens(*pieces: bytes, width: int = 8) -> jnp.ndarray:
    table = np.full((len(pieces), width), PAD, np.int32)
    for row, piece in zip(table, pieces):
        row[: len(piece)] = np.frombuffer(piece, np.uint8)
    return jnp.asarray(table)


@jax.jit
def check(constraint, lanes):
    """Whether each text, of one token, may go on."""
    with_end = jnp.zeros((), bool)
    return jax.vmap(lambda token: constraint.advance(constraint.init(), token, with_end)[1])(lanes)


def ask(constraint, *texts: bytes) -> list[bool]:
    with host_errors():
        return check(constraint, tokens(*texts)).tolist()


def pool_of(constraint) -> Processes:
    return constraint.keeper.trie.engine._pool


def pids(constraint) -> set[int]:
    return {w.process.pid for w in pool_of(constraint)._workers}


def make(kind: str):
    """A predicate that misbehaves as the text says. Local, so that it goes to the workers by value."""

    def behave(text):
        import os
        import signal
        import time

        if text == b"raise":
            raise KeyError("what was missing")
        if text == b"hang":
            time.sleep(1000)
        if text == b"crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if text == b"exit":
            os._exit(3)
        if text == b"none":
            return None
        return text != b"no"

    options = {"process": {"workers": 2}, "thread": {"workers": 2, "executor": "thread"}, "here": {}}[kind]
    return predicate(behave, **options)


@pytest.mark.parametrize("kind", ["here", "thread", "process"])
def test_answers_do_not_depend_on_where_they_are_found(kind):
    constraint = make(kind)
    assert ask(constraint, b"yes", b"no", b"yes", b"si") == [True, False, True, True]
    assert constraint.stats.calls == 3
    with pytest.raises(
        PredicateError, match=r"behave raised on b'raise': KeyError\('what was missing'\)"
    ) as caught:
        ask(constraint, b"raise", b"oui", b"ja")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.text == b"raise"
    with pytest.raises(PredicateError, match="behave returned None on b'none', not a bool"):
        ask(constraint, b"none")
    assert ask(constraint, b"oui", b"ja", b"no") == [True, True, False]


def test_the_traceback_of_a_worker_comes_along():
    with pytest.raises(PredicateError) as caught:
        ask(make("process"), b"raise")
    assert "In a worker process:" in caught.value.__cause__.__notes__[0]
    assert 'raise KeyError("what was missing")' in caught.value.__cause__.__notes__[0]


@pytest.mark.parametrize(("text", "how"), [(b"crash", "signal SIGKILL"), (b"exit", "exit code 3")])
def test_a_worker_that_ends_is_an_error_with_the_text_and_replaced(text, how):
    constraint = make("process")
    assert ask(constraint, b"yes") == [True]
    for _ in range(2):
        with pytest.raises(PredicateError, match=f"ended its process on {text!r}: {how}") as caught:
            ask(constraint, b"a", text, b"b")
        assert caught.value.text == text
    assert ask(constraint, b"c", b"no", b"d") == [True, False, True]


def test_a_worker_that_died_while_idle_is_replaced_without_blame():
    constraint = make("process")
    assert ask(constraint, b"yes") == [True]
    before = pids(constraint)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    for worker in pool_of(constraint)._workers:
        worker.process.wait()
    assert ask(constraint, b"si", b"no") == [True, False]
    assert not pids(constraint) & before


def test_a_call_that_takes_too_long_is_an_error_with_the_text():
    # Without workers a time limit takes one.
    def hang(text):
        while text.startswith(b"h"):
            pass
        return True

    constraint = predicate(hang, time_limit=0.2)
    assert ask(constraint, b"yes") == [True]
    before = pids(constraint)
    with pytest.raises(
        PredicateError, match=r"took longer than 0.2 s on b'h'; on_timeout=\"reject\""
    ) as caught:
        ask(constraint, b"h")
    assert caught.value.text == b"h"
    assert constraint.stats.timeouts == 0
    assert ask(constraint, b"si", b"oui") == [True, True]
    assert not pids(constraint) & before


def test_a_call_that_takes_too_long_may_be_a_refusal():
    def hang(text):
        while text.startswith(b"h"):
            pass
        return True

    constraint = predicate(hang, workers=2, time_limit=0.2, on_timeout="reject")
    assert ask(constraint, b"yes", b"h1", b"si", b"h2", b"h1") == [True, False, True, False, False]
    assert constraint.stats.timeouts == 2
    assert ask(constraint, b"h1", b"ja") == [False, True]
    assert constraint.stats.timeouts == 2


def test_two_processes_work_at_the_same_time(tmp_path):
    folder = str(tmp_path)

    def meet(text):
        """True if another call is under way at the same time."""
        import os
        import time

        open(os.path.join(folder, text.decode()), "w").close()
        end = time.monotonic() + 60
        while len(os.listdir(folder)) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        return len(os.listdir(folder)) == 2

    assert ask(predicate(meet, workers=2), b"one", b"two") == [True, True]


def test_two_threads_work_at_the_same_time():
    barrier = threading.Barrier(2)

    def meet(text):
        barrier.wait(PATIENCE)
        return True

    assert ask(predicate(meet, workers=2, executor="thread"), b"one", b"two") == [True, True]


def test_candidates_in_order_are_asked_in_rounds():
    """One call a particle at a time, so nothing is asked behind the first candidate that holds."""
    from sentax.ppl.constraints.host import in_order

    asked_texts = []

    def vowel(text):
        asked_texts.append(text)
        return text in (b"a", b"e")

    constraint = predicate(vowel, workers=2, executor="thread")
    candidates = jnp.stack([tokens(b"x", b"a", b"b", b"c"), tokens(b"y", b"z", b"e", b"x")])

    def one(token):
        with in_order(jnp.int32(1), jnp.int32(1)) as asked:
            allowed = constraint.advance(constraint.init(), token, False)[1]
        return allowed, asked[0]

    allowed, asked = jax.vmap(jax.vmap(one))(candidates)
    assert allowed.tolist() == [[False, True, False, False], [False, False, True, False]]
    assert asked.tolist() == [[True, True, False, False], [True, True, True, False]]
    assert sorted(asked_texts) == sorted([b"x", b"y", b"a", b"z", b"e"])


def test_workers_start_late_and_without_jax():
    def plain(text):
        import sys

        return not {"jax", "numpy", "sentax"} & set(sys.modules)

    constraint = predicate(plain, workers=1)
    assert pids(constraint) == set()
    assert ask(constraint, b"a") == [True]
    assert len(pids(constraint)) == 1


def test_workers_end_with_their_predicate():
    constraint = make("process")
    ask(constraint, b"a", b"b")
    processes = [w.process for w in pool_of(constraint)._workers]
    assert processes
    del constraint
    gc.collect()
    assert all(p.returncode is not None for p in processes)


def test_str_predicates_and_pickled_copies_work_with_workers():
    constraint = predicate(lambda t: t == "é", text="str", workers=1)
    assert constraint.matches("é")
    import cloudpickle

    copy = pickle.loads(cloudpickle.dumps(constraint))
    assert copy.matches("é")
    assert copy.stats.calls == 1


def test_functions_that_cannot_be_sent_are_refused_at_once():
    lock = threading.Lock()
    with pytest.raises(TypeError, match="must be picklable, with all that it uses"):
        predicate(lambda text: lock.locked(), workers=1)


class Unloadable:
    def __call__(self, text):
        return True

    def __reduce__(self):
        return eval, ("1/0",)


def test_functions_that_a_worker_cannot_load_are_a_clear_error():
    constraint = predicate(Unloadable(), workers=2)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"could not load the predicate: ZeroDivisionError"):
            ask(constraint, b"a", b"b")


def test_without_cloudpickle_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(ImportError, match=r"pip install 'sentax\[workers\]'"):
        predicate(lambda text: True, workers=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers must be"),
        ({"workers": True}, "workers must be"),
        ({"executor": "fibre"}, "executor must be one of"),
        ({"on_timeout": "shrug"}, "on_timeout must be one of"),
        ({"time_limit": 0}, "positive number of seconds"),
        ({"on_timeout": "reject"}, "without a time_limit"),
        ({"time_limit": 1, "executor": "thread"}, "a thread cannot be stopped"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        predicate(lambda text: True, **options)


def test_the_pool_by_itself():
    def answer(x):
        return {"bool": True, "int": 1}[x]

    pool = Processes([answer, lambda x: x == "bool"], 2)
    outcomes = pool.run([(0, "bool"), (1, "bool"), (0, "int"), (1, "none")], (Crashed, Late))
    assert outcomes[0] == outcomes[1] == Answered(True)
    assert outcomes[2] == NotBool("1")
    assert outcomes[3] == Answered(False)
    (outcome,) = pool.run([(0, "other")], ())
    assert isinstance(outcome, Raised)
    # After a fatal outcome no call is begun.
    outcomes = Processes([answer], 1).run([(0, "other"), *[(0, "bool")] * 3], (Raised,))
    assert isinstance(outcomes[0], Raised)
    assert outcomes[1:] == [None] * 3
    assert Threads([answer], 2).run([(0, "bool")], ()) == [Answered(True)]


SCRIPT = """
    import jax, jax.numpy as jnp, sys, threading, time
    from sentax.ppl.constraints import predicate
    print("imported as", __name__)
    limit = 3

    def short(text):
        return len(text) < limit

    c = predicate(short, workers=2)
    print(c.matches("ab"), c.matches("abc"))

    def hang(text):
        time.sleep(1000)

    stuck = predicate(hang, workers=1)
    threading.Thread(target=stuck.matches, args=("x",), daemon=True).start()
    while not (stuck.keeper.trie.engine._pool._workers):
        time.sleep(0.01)
    print("end", flush=True)
"""


def test_a_script_without_guard_runs_once_and_ends(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=300, check=False)
    assert run.stdout.split("\n")[:3] == ["imported as __main__", "True False", "end"]
    assert run.stdout.count("imported") == 1
