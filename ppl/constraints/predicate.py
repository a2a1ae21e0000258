"""Any Python function of the text so far as a constraint, with a memory so that nothing is checked twice."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt32

from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.host import HostConstraint
from sentax.ppl.constraints.host import host_errors as host_errors
from sentax.ppl.constraints.trie import HostStats, PredicateError
from sentax.ppl.constraints.utf8_text import Utf8Text
from sentax.ppl.constraints.workers import (
    Answered,
    Crashed,
    Function,
    Late,
    NotBool,
    Outcome,
    Processes,
    Raised,
    Threads,
    call,
)
from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree

Mask = Callable[[Any, list[bytes]], Any]
_FAILURES: tuple[type, ...] = (NotBool, Raised, Late, Crashed)
_FAILURES_BUT_LATE: tuple[type, ...] = (NotBool, Raised, Crashed)


class OnTimeout(enum.Enum):
    """What becomes of a text whose check ran out of time."""

    RAISE = "raise"
    REJECT = "reject"


class Executor(enum.Enum):
    """Where the functions of a predicate with workers run."""

    PROCESS = "process"
    THREAD = "thread"


@dataclass(frozen=True)
class Options:
    """How the functions of a predicate are called; see :func:`predicate`."""

    as_str: bool = False
    workers: int = 0
    executor: Executor = Executor.PROCESS
    time_limit: float | None = None
    on_timeout: OnTimeout = OnTimeout.RAISE


@pytree
@dataclass(frozen=True, eq=False, repr=False)
class Predicate(HostConstraint):
    """A Python function as a constraint; make one with :func:`predicate`."""

    @property
    def stats(self) -> HostStats:
        """Calls, memo hits and texts so far, of all uses of this predicate."""
        trie = self.keeper.trie
        engine = trie.engine
        assert isinstance(engine, Functions)
        with trie.lock:
            hits = trie.questions - engine.calls
            return HostStats(engine.calls, hits, len(trie.origin), trie.masks, engine.timeouts)


class _Session:
    """A text as functions of `str` get it.

    :param ok: whether `prefix_ok` is known to hold of its whole characters.
    """

    __slots__ = ("ok", "oks", "text")

    def __init__(self, text: Utf8Text, ok: bool) -> None:
        self.text = text
        self.ok = ok
        self.oks: set[bytes] = set()  # the pieces after which it is known to hold


class Functions(Engine):
    """The engine of a predicate: two functions of the whole text.

    What they do with it is their price; a text is not decoded anew at each check.
    """

    def __init__(
        self,
        prefix_ok: Callable[[Any], bool] | None,
        complete_ok: Callable[[Any], bool],
        options: Options,
    ) -> None:
        self.prefix_ok = prefix_ok
        self.complete_ok = complete_ok
        self.options = options
        self.calls = 0
        self.timeouts = 0
        self.in_parallel = options.workers > 0
        functions = prefix_ok or complete_ok, complete_ok
        self._pool: Processes | Threads | None = None
        if options.workers and options.executor is Executor.PROCESS:
            self._pool = Processes(functions, options.workers, options.time_limit)
        elif options.workers:
            self._pool = Threads(functions, options.workers)

    def __repr__(self) -> str:
        return f"predicate({_name(self.prefix_ok or self.complete_ok)})"

    def __reduce__(self) -> tuple:
        return type(self), (self.prefix_ok, self.complete_ok, self.options)

    def start(self) -> Any:
        return _Session(Utf8Text(), False) if self.options.as_str else b""

    def extend(self, session: Any, piece: bytes) -> Any:
        if not self.options.as_str:
            return session + piece
        text = session.text.then(piece)
        return _Session(text, piece in session.oks or (session.ok and text.whole is session.text.whole))

    def prefix(self, session: Any, piece: bytes) -> bool:
        argument = self._known(session, piece, False)
        if isinstance(argument, bool):
            return argument
        assert self.prefix_ok is not None
        verdict = self._call(self.prefix_ok, argument, session, piece)
        if verdict and self.options.as_str:
            session.oks.add(piece)
        return verdict

    def complete(self, session: Any, piece: bytes) -> bool:
        argument = self._known(session, piece, True)
        if isinstance(argument, bool):
            return argument
        return self._call(self.complete_ok, argument, session, piece)

    def _call(self, function: Function, argument: bytes | str, session: Any, piece: bytes) -> bool:
        self.calls += 1
        outcome = call(function, argument)
        if isinstance(outcome, Answered):
            return outcome.verdict
        return self._failed(outcome, function, argument, _raw(session) + piece)

    def ask_all(self, questions: Sequence[tuple[Any, bytes, bool]]) -> list[bool]:
        assert self._pool is not None
        arguments = [self._known(*question) for question in questions]
        # Texts that were cut into tokens in two ways are one call.
        calls: dict[Any, bytes] = {}
        for (session, piece, at_end), argument in zip(questions, arguments):
            if not isinstance(argument, bool):
                calls.setdefault((at_end, argument), _raw(session) + piece)
        rejects = self.options.on_timeout is OnTimeout.REJECT
        outcomes = self._pool.run(list(calls), _FAILURES_BUT_LATE if rejects else _FAILURES)
        self.calls += sum(outcome is not None for outcome in outcomes)
        answers: dict[Any, bool] = {}
        for (at_end, argument), outcome in zip(calls, outcomes):
            if isinstance(outcome, Answered):
                answers[at_end, argument] = outcome.verdict
            elif outcome is not None:  # else one that follows was fatal
                function = self.complete_ok if at_end else self.prefix_ok or self.complete_ok
                text = calls[at_end, argument]
                answers[at_end, argument] = self._failed(outcome, function, argument, text)
        verdicts = []
        for (session, piece, at_end), argument in zip(questions, arguments):
            verdict = argument if isinstance(argument, bool) else answers[at_end, argument]
            if verdict and not at_end and self.options.as_str:
                session.oks.add(piece)
            verdicts.append(verdict)
        return verdicts

    def _failed(self, outcome: Outcome, function: Function, argument: Any, text: bytes) -> bool:
        """No, where the policy is to refuse a text that took too long.

        :raises PredicateError: anywhere else.
        """
        name, shown = _name(function), _shown(argument)
        if isinstance(outcome, Raised):
            message = f"predicate {name} raised on {shown}: {outcome.shown}"
            raise PredicateError(message, text) from outcome.cause
        if isinstance(outcome, NotBool):
            raise PredicateError(f"predicate {name} returned {outcome.shown} on {shown}, not a bool", text)
        if isinstance(outcome, Crashed):
            raise PredicateError(f"predicate {name} ended its process on {shown}: {outcome.how}", text)
        assert isinstance(outcome, Late)
        if self.options.on_timeout is OnTimeout.RAISE:
            message = f"predicate {name} took longer than {outcome.limit:g} s on {shown}"
            raise PredicateError(f'{message}; on_timeout="reject" refuses such texts instead', text)
        self.timeouts += 1
        return False

    def _known(self, session: Any, piece: bytes, at_end: bool) -> bool | bytes | str:
        """The verdict if no call is needed, else what the function is called with."""
        if not self.options.as_str:
            return True if self.prefix_ok is None and not at_end else session + piece
        whole, pending = session.text.then(piece)
        if whole is None or (at_end and pending):
            return False
        if not at_end and (self.prefix_ok is None or (session.ok and whole is session.text.whole)):
            return True  # no character was completed since the last question
        return whole


class MaskedFunctions(Functions):
    """A predicate that knows which tokens of a vocabulary may come next.

    :param mask_of: see :func:`predicate`.
    """

    has_mask = True

    def __init__(
        self,
        prefix_ok: Callable[[Any], bool] | None,
        complete_ok: Callable[[Any], bool],
        options: Options,
        mask_of: Mask,
    ) -> None:
        super().__init__(prefix_ok, complete_ok, options)
        self.mask_of = mask_of

    def __reduce__(self) -> tuple:
        return type(self), (self.prefix_ok, self.complete_ok, self.options, self.mask_of)

    def mask(self, session: Any, vocabulary: VocabularyLike) -> UInt32[np.ndarray, " W"]:
        tokens = list(vocabulary.tokens)
        text, raw = session, _raw(session)
        if self.options.as_str:
            text, pending = session.text
            if pending:
                # The text stops before its unfinished character; what may follow begins with that.
                tokens = [pending + token if token else token for token in tokens]
        name = _name(self.mask_of)
        try:
            allowed = np.asarray(self.mask_of(text, tokens))
        except Exception as cause:
            raise PredicateError(f"mask {name} raised on {_shown(text)}: {cause!r}", raw) from cause
        if allowed.shape != (len(tokens),) or allowed.dtype != bool:
            what = f"an array of {allowed.dtype} of shape {allowed.shape}"
            expected = f"one bool for each of the {len(tokens)} tokens"
            raise PredicateError(f"mask {name} returned {what} on {_shown(text)}, not {expected}", raw)
        bits = np.zeros(-(-len(tokens) // 32) * 32, bool)
        bits[: len(tokens)] = allowed & np.fromiter(map(bool, tokens), bool, len(tokens))
        return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)


def _raw(session: Any) -> bytes:
    return session if isinstance(session, bytes) else session.text.raw()


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", repr(function))


def _shown(text: bytes | str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 80 else shown[:50] + "..." + shown[-27:]


def predicate(
    prefix_ok: Callable[[Any], bool] | None,
    complete_ok: Callable[[Any], bool] | None = None,
    *,
    text: str = "bytes",
    mask: Mask | None = None,
    workers: int = 0,
    executor: str = "process",
    time_limit: float | None = None,
    on_timeout: str = "raise",
) -> Predicate:
    """Texts of which a Python function says that they are right.

    The functions run on the host, in one callback for all particles, and a text is checked once for
    each way it was cut into tokens, whatever the number of particles and runs; so they must depend on
    the text alone. They must
    not call JAX. A text whose `prefix_ok` is false is given up, with all that could follow it.

    :param prefix_ok: whether the text so far may still be completed; `None` for "always" (then the
        text is checked at its end alone).
    :param complete_ok: whether the text is complete; `prefix_ok` by default.
    :param text: what the functions get: `"bytes"`, or `"str"` decoded from UTF-8. Tokens may end inside a
        character: `prefix_ok` then gets the text without its unfinished last character. A text
        that no continuation makes valid UTF-8 is refused without a call.
    :param mask: `mask(text, tokens)`, if there is a way to tell for all tokens at once, cheaper than one by
        one, after which of them `prefix_ok` holds: an array of bools, one for each of the `bytes` in
        the list `tokens`. Where the text ends inside a character, the first bytes of that character are put
        before every token. What it says of tokens without bytes is not used. It runs in this process.
    :param workers: how many calls may run at a time; 0 calls the functions in the thread that asks.
        The candidates of one particle are asked in order, so at most one call a particle runs at a time.
    :param executor: `"process"`, for functions that compute in Python: they are copied to new processes, with
        what they refer to (through cloudpickle, so lambdas and functions of a notebook will do), and what
        they change there is not seen here. `"thread"`, for functions that wait, or that release the
        interpreter's lock; one that never returns keeps the interpreter from ending.
    :param time_limit: seconds that one call may take. The call's process is ended, so this needs processes;
        with `workers=0` it takes one.
    :param on_timeout: `"raise"`, or `"reject"`: the text is refused, for good, and counted in
        `stats.timeouts`. Which texts these are depends on the machine, and so then does the result.

    A text that is complete must be fine as a prefix too: `complete_ok` implies `prefix_ok`, and
    `prefix_ok`, once false, stays false. Only the question that matters is asked, so a pair of
    functions that disagree is found by :func:`sentax.testing.check_constraint`, not here.

    :raises PredicateError: where a text is checked, if a function raises, returns no bool, takes too long or
        ends its worker process. Compiled programs raise it under :func:`host_errors`. Nothing is
        remembered of that text; the predicate and its workers go on.
    :raises ImportError: if worker processes are asked for without cloudpickle
        (`pip install 'sentax[workers]'`).

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import predicate
        >>> def balanced(text):
        ...     return text.count(")") <= text.count("(")
        >>> def closed(text):
        ...     return text.count(")") == text.count("(")
        >>> parentheses = predicate(balanced, closed, text="str")
        >>> parentheses.matches("(()())"), parentheses.matches("(()")
        (True, False)
        >>> parentheses.stats.calls
        2
    """
    if text not in ("bytes", "str"):
        raise ValueError(f"a predicate gets 'bytes' or 'str', not {text!r}")
    complete_ok = prefix_ok if complete_ok is None else complete_ok
    for function in (prefix_ok, complete_ok):
        if not callable(function) and (function is not None or complete_ok is None):
            raise TypeError(f"a predicate is a function of the text, not {function!r}")
    if mask is not None and not callable(mask):
        raise TypeError(f"mask must be a function of the text and the tokens, not {mask!r}")
    assert complete_ok is not None
    options = _options(text == "str", workers, executor, time_limit, on_timeout)
    if mask is None:
        return Predicate.of(Functions(prefix_ok, complete_ok, options))
    return Predicate.of(MaskedFunctions(prefix_ok, complete_ok, options, mask))


def _options(as_str: bool, workers: int, executor: str, time_limit: float | None, on_timeout: str) -> Options:
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise ValueError(f"workers must be a number of processes or threads, or 0, not {workers!r}")
    kinds, policies = ([kind.value for kind in kinds] for kinds in (Executor, OnTimeout))
    if executor not in kinds:
        raise ValueError(f"executor must be one of {kinds}, not {executor!r}")
    if on_timeout not in policies:
        raise ValueError(f"on_timeout must be one of {policies}, not {on_timeout!r}")
    if time_limit is None and on_timeout == "reject":
        raise ValueError('on_timeout="reject" says nothing without a time_limit')
    if time_limit is not None:
        if isinstance(time_limit, bool) or not time_limit > 0:
            raise ValueError(f"time_limit must be a positive number of seconds or None, not {time_limit!r}")
        if executor == "thread":
            raise ValueError('a thread cannot be stopped: time_limit needs executor="process"')
        workers = max(1, workers)
    return Options(as_str, workers, Executor(executor), time_limit, OnTimeout(on_timeout))
