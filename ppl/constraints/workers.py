"""Python functions called in several processes or threads at once, with a time limit for each call.

This file is also the program that a worker process runs, so it imports the standard library alone: a worker
starts in a few dozen milliseconds, without JAX. It is started as a new program, never by forking a process
in which JAX has threads, and it does not run the user's script again as `multiprocessing` does, so scripts
need no `if __name__ == "__main__"`. What it is sent are the functions, by value where they cannot be imported
(cloudpickle).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NamedTuple

Function = Callable[[Any], Any]
Call = tuple[int, Any]
"""Which function, and its argument."""

_START_LIMIT = 120.0  # seconds until a worker has imported what its functions need


class Answered(NamedTuple):
    """A call's value, a bool."""

    verdict: bool


class NotBool(NamedTuple):
    """A call returned something else.

    :param shown: how it looks.
    """

    shown: str


class Raised(NamedTuple):
    """A call raised.

    :param shown: the exception's `repr`.
    :param cause: the exception, or one that holds its traceback where it cannot be sent.
    """

    shown: str
    cause: BaseException


class Late(NamedTuple):
    """A call took longer than it may; its process was ended.

    :param limit: seconds.
    """

    limit: float


class Crashed(NamedTuple):
    """A call ended its process.

    :param how: the exit code or the signal.
    """

    how: str


Outcome = Answered | NotBool | Raised | Late | Crashed


_NO, _YES = Answered(False), Answered(True)


def call(function: Function, argument: Any) -> Outcome:
    """Call a predicate and see what comes of it."""
    try:
        verdict = function(argument)
    except Exception as cause:
        return Raised(repr(cause), cause)
    if isinstance(verdict, bool):
        return _YES if verdict else _NO
    # NumPy's bool, without importing NumPy into every worker.
    if type(verdict).__module__ == "numpy" and type(verdict).__name__ in ("bool", "bool_"):
        return Answered(bool(verdict))
    return NotBool(f"{verdict!r:.80}")


class Threads:
    """Calls in threads: for functions that wait, or that leave the interpreter's lock while they compute.

    :param functions: what may be called.
    :param size: calls at a time.
    """

    def __init__(self, functions: Sequence[Function], size: int) -> None:
        self.functions = functions
        self.size = size
        self._executor: concurrent.futures.ThreadPoolExecutor | None = None

    def run(self, calls: Sequence[Call], fatal: tuple[type, ...]) -> list[Outcome | None]:
        """The outcomes of some calls; see :meth:`Processes.run`."""
        del fatal
        if self._executor is None:
            self._executor = concurrent.futures.ThreadPoolExecutor(self.size, "sentax-predicate")
        return list(self._executor.map(lambda c: call(self.functions[c[0]], c[1]), calls))


class Processes:
    """Calls in worker processes, which start at the first call and end with this object or the interpreter.

    A worker has one call at a time, so that a call that hangs or takes its process down is known; its worker
    is replaced, and the others go on.

    :param functions: what may be called.
    :param size: number of workers.
    :param time_limit: seconds for one call; None for no limit.
    :raises ImportError: without cloudpickle.
    :raises TypeError: if the functions cannot be pickled.
    """

    def __init__(self, functions: Sequence[Function], size: int, time_limit: float | None = None) -> None:
        if os.name != "posix":
            raise NotImplementedError('worker processes need a POSIX system: use executor="thread" on this one')
        try:
            import cloudpickle
        except ImportError as error:
            raise ImportError(
                "a predicate in worker processes needs cloudpickle: pip install 'sentax[workers]'"
            ) from error
        try:
            self._program = cloudpickle.dumps(tuple(functions))
        except Exception as error:
            raise TypeError(
                f"a predicate for worker processes must be picklable, with all that it uses: {error}"
            ) from error
        self.size = size
        self.time_limit = time_limit
        self._workers: list[_Worker] = []
        # At exit as well: a worker that hangs must not keep the interpreter.
        self.close = weakref.finalize(self, _end, self._workers)

    def run(self, calls: Sequence[Call], fatal: tuple[type, ...]) -> list[Outcome | None]:
        """The outcomes of some calls, in order.

        :param fatal: the outcomes after which no further call is begun; what was not called is None.
        :raises RuntimeError: if a worker cannot load the functions.
        """
        outcomes: list[Outcome | None] = [None] * len(calls)
        waiting = deque(range(len(calls)))
        busy: dict[_Worker, int] = {}
        try:
            while waiting or busy:
                # In place: the finalizer holds this list.
                self._workers[:] = [w for w in self._workers if w in busy or not w.has_ended()]
                while len(self._workers) < min(self.size, len(busy) + len(waiting)):
                    self._workers.append(_Worker(self._program))
                for worker in self._workers:
                    if waiting and worker.ready and worker not in busy:
                        busy[worker] = waiting.popleft()
                        worker.send(calls[busy[worker]], self.time_limit)
                for worker in self._heard(busy):
                    outcome = worker.receive()
                    if outcome is not None:
                        outcomes[busy.pop(worker)] = outcome
                        if isinstance(outcome, fatal):
                            waiting.clear()
        except BaseException:
            # What is still under way would answer the next call's questions.
            _end(self._workers)
            raise
        return outcomes

    def _heard(self, busy: dict[_Worker, int]) -> list[_Worker]:
        """The workers that have said something, or said nothing for too long."""
        waited_for = [w for w in self._workers if w in busy or not w.ready]
        deadline = min(w.deadline for w in waited_for)
        timeout = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        heard = set(wait([w.connection for w in waited_for], timeout))
        now = time.monotonic()
        return [w for w in waited_for if w.connection in heard or w.deadline <= now]


class _Worker:
    """A worker process, seen from its parent."""

    def __init__(self, program: bytes) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            self.process = subprocess.Popen(
                # Without -P the folder of this file would come first, where regex.py is not PyPI's.
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self.ready = False
        self.limit = _START_LIMIT
        self.deadline = time.monotonic() + _START_LIMIT
        with contextlib.suppress(OSError):  # an early end is seen when it is read
            self.connection.send_bytes(pickle.dumps(sys.path))
            self.connection.send_bytes(program)

    def has_ended(self) -> bool:
        """Whether it was ended, or has ended by itself while it had no call."""
        if not self.connection.closed and self.ready and self.process.poll() is not None:
            self.end()
        return self.connection.closed

    def send(self, question: Call, limit: float | None) -> None:
        self.limit = float("inf") if limit is None else limit
        self.deadline = time.monotonic() + self.limit
        with contextlib.suppress(OSError):
            self.connection.send(question)

    def receive(self) -> Outcome | None:
        """What became of the call; None where the worker has only got ready."""
        try:
            if not self.connection.poll():
                self.end()
                if not self.ready:
                    raise RuntimeError(f"a worker process was not ready within {_START_LIMIT:.0f} s")
                return Late(self.limit)
            kind, *details = self.connection.recv()
        except (EOFError, OSError):
            how = self.end()
            if not self.ready:
                raise RuntimeError(f"a worker process ended while it started: {how}") from None
            return Crashed(how)
        if kind == "unready":
            self.end()
            raise RuntimeError(f"a worker process could not load the predicate: {details[0]}\n{details[1]}")
        if kind == "ready":
            self.ready, self.deadline = True, float("inf")
            return None
        if kind == "raised":
            return Raised(details[0], _exception(*details))
        return Answered(*details) if kind == "answered" else NotBool(*details)

    def end(self) -> str:
        """Kill the process if it is there, and say how it ended."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # One that is ending by itself has an exit code to tell.
            self.process.wait(0.2 if self.deadline > time.monotonic() else 0)
        self.process.kill()
        code = self.process.wait()
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
        return f"signal {-code}"


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        if not worker.connection.closed:
            worker.end()
    workers.clear()


def _exception(shown: str, trace: str, pickled: bytes | None) -> BaseException:
    """The exception of a worker, as far as it could be sent, with the traceback it had there."""
    cause: BaseException = RuntimeError(shown)
    if pickled is not None:
        with contextlib.suppress(Exception):
            cause = pickle.loads(pickled)
    cause.add_note(f"In a worker process:\n{trace}")
    return cause


def _serve(connection: Connection) -> None:
    """What a worker does until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    sys.path[:] = pickle.loads(connection.recv_bytes())
    try:
        functions = pickle.loads(connection.recv_bytes())
    except BaseException as error:
        return connection.send(("unready", repr(error), traceback.format_exc()))
    connection.send(("ready",))
    while True:
        which, argument = connection.recv()
        outcome = call(functions[which], argument)
        if not isinstance(outcome, Raised):
            connection.send((type(outcome).__name__.lower(), *outcome))
            continue
        trace = "".join(traceback.format_exception(outcome.cause))
        pickled = None
        with contextlib.suppress(Exception):
            pickled = pickle.dumps(outcome.cause)
            pickle.loads(pickled)
        connection.send(("raised", outcome.shown, trace, pickled))


if __name__ == "__main__":
    with contextlib.suppress(EOFError, BrokenPipeError):
        _serve(Connection(int(sys.argv[1])))
