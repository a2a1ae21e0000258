"""Any Python function of the text so far as a constraint, with a memory so that nothing is checked twice."""

from __future__ import annotations

import itertools
import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from sentax.ppl.constraints.base import PAD, Constraint
from sentax.ppl.constraints.trie import (
    COMPLETE,
    MOVE,
    PREFIX,
    ROOT,
    SKIP,
    PredicateStats,
    Trie,
)
from sentax.ppl.pytree import pytree

_tries: weakref.WeakValueDictionary[int, Trie] = weakref.WeakValueDictionary()
_handles = itertools.count(1)
_failures: deque[tuple[int, BaseException]] = deque(maxlen=16)
_failure_numbers = itertools.count(1)
_NOTHING = np.full(1, PAD, np.int32)


class _Keeper:
    """Keeps a trie alive from the static part of a pytree, where all keepers are equal."""

    __slots__ = ("trie",)

    def __init__(self, trie: Trie) -> None:
        self.trie = trie

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keeper)

    def __hash__(self) -> int:
        return hash(_Keeper)


def _pack(handle: Any, node: Any, token: Any, action: Any) -> Int[Array, " W"]:
    """A question as one int32 vector: each argument of a callback costs as much as the callback does."""
    held = token != PAD
    raw = jnp.where(held, token, 0).astype(jnp.uint8)
    words = jnp.pad(raw, (0, -len(token) % 4)).reshape(-1, 4)
    size = held.sum(dtype=jnp.int32)
    head = jnp.stack([jnp.asarray(x, jnp.int32) for x in (handle, node, action, size)])
    return jnp.concatenate([head, lax.bitcast_convert_type(words, jnp.int32)])


def _dispatch(packed: Any) -> np.ndarray:
    """The one callback of all predicates: any number of lanes, perhaps of different predicates.

    :param packed: questions made by :func:`_pack`, [..., W].
    :return: twice the new node, plus one where the verdict is yes, [...].
    """
    packed = np.ascontiguousarray(packed)
    questions = packed.reshape(-1, packed.shape[-1])
    width, data = 4 * questions.shape[1], questions.tobytes()
    answers = np.empty(len(questions), np.int32)
    try:
        for lane, (handle, node, action, size) in enumerate(questions[:, :4].tolist()):
            trie = _tries.get(handle)
            if trie is None:
                raise RuntimeError("a predicate was deleted while a program still used it: keep a reference")
            start = lane * width + 16
            with trie.lock:
                node, verdict = trie.answer(node, data[start : start + size], action)
            answers[lane] = 2 * node + verdict
    except BaseException as e:
        # JAX turns this into an error of its own; `host_errors` finds the original here.
        _failures.append((next(_failure_numbers), e))
        raise
    return answers.reshape(packed.shape[:-1])


@pytree
@dataclass(frozen=True, eq=False, repr=False)
class Predicate(Constraint):
    """A Python function as a constraint; make one with :func:`predicate`.

    The state of a text is its node in the trie (one int32). All predicates run through the same
    compiled program: which one is meant is a leaf.

    :param handle: the trie's number.
    :param keeper: keeps the trie alive for as long as this object is.
    """

    handle: Int[Array, ""]
    keeper: _Keeper = field(metadata={"static": True})

    on_host = True

    @property
    def stats(self) -> PredicateStats:
        """Calls, memo hits and texts so far, of all uses of this predicate."""
        trie = self.keeper.trie
        with trie.lock:
            return PredicateStats(trie.calls, trie.questions - trie.calls, len(trie.origin) - 2)

    def init(self) -> Int[Array, ""]:
        return jnp.full((), ROOT, jnp.int32)

    def _ask(self, state: Any, token: Any, action: Any) -> tuple[Int[Array, ""], Bool[Array, ""]]:
        answer = jax.pure_callback(
            _dispatch,
            jax.ShapeDtypeStruct((), jnp.int32),
            _pack(self.handle, state, token, action),
            vmap_method="broadcast_all",
        )
        return answer >> 1, (answer & 1).astype(bool)

    def step(self, state: Int[Array, ""], token: Int[Array, " L"]) -> Int[Array, ""]:
        return self._ask(state, token, MOVE)[0]

    def alive(self, state: Int[Array, ""]) -> Bool[Array, ""]:
        return self._ask(state, _NOTHING, PREFIX)[1]

    def accepts(self, state: Int[Array, ""]) -> Bool[Array, ""]:
        return self._ask(state, _NOTHING, COMPLETE)[1]

    def advance(
        self,
        state: Int[Array, ""],
        token: Int[Array, " L"],
        end: Bool[Array, ""] | bool,
        needed: Bool[Array, ""] | bool = True,
    ) -> tuple[Int[Array, ""], Bool[Array, ""]]:
        question = jnp.where(jnp.asarray(end), COMPLETE, PREFIX)
        return self._ask(state, token, jnp.where(jnp.asarray(needed), question, SKIP))

    def __repr__(self) -> str:
        function = self.keeper.trie.prefix_ok or self.keeper.trie.complete_ok
        return f"predicate({getattr(function, '__qualname__', repr(function))})"

    def __reduce__(self) -> tuple:
        # A trie belongs to its process: a copy starts with an empty one, and a handle of its own.
        trie = self.keeper.trie
        return _make, (trie.prefix_ok, trie.complete_ok, trie.as_str)


def _make(
    prefix_ok: Callable[[Any], bool] | None, complete_ok: Callable[[Any], bool], as_str: bool
) -> Predicate:
    trie = Trie(prefix_ok, complete_ok, as_str)
    handle = next(_handles)
    _tries[handle] = trie
    with jax.ensure_compile_time_eval():
        return Predicate(jax.device_put(np.int32(handle)), _Keeper(trie))


def predicate(
    prefix_ok: Callable[[Any], bool] | None,
    complete_ok: Callable[[Any], bool] | None = None,
    *,
    text: str = "bytes",
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

    A text that is complete must be fine as a prefix too: `complete_ok` implies `prefix_ok`, and
    `prefix_ok`, once false, stays false. Only the question that matters is asked, so a pair of
    functions that disagree is found by :func:`sentax.testing.check_constraint`, not here.

    :raises PredicateError: where a text is checked, if a function raises or returns no bool. Compiled
        programs raise it under :func:`host_errors`.

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
    assert complete_ok is not None
    return _make(prefix_ok, complete_ok, text == "str")


@contextmanager
def host_errors() -> Iterator[None]:
    """Raise what went wrong in a callback as itself, not as the runtime error in which JAX wraps it.

    Wait for the results inside the context (:func:`jax.block_until_ready`): a compiled program may
    still be running when its call returns.

    :raises PredicateError: if a predicate failed, from the exception of the user's function.
    """
    before = next(_failure_numbers)
    logger = logging.getLogger("jax._src.callback")
    logger.addFilter(_is_no_failure)
    try:
        yield
    except Exception as wrapped:
        recent = [failure for failure in tuple(_failures) if failure[0] > before]
        # Several threads may have failed at once: prefer the failure that this error quotes. (It is a
        # JaxRuntimeError from a compiled program, a ValueError from an operation by itself.)
        quoted = [failure for failure in recent if str(failure[1]) in str(wrapped)]
        if isinstance(wrapped, jax.errors.JaxRuntimeError):
            quoted = quoted or recent
        if not quoted:
            raise
        failure = quoted[-1]
        _failures.remove(failure)
        raise failure[1] from failure[1].__cause__
    finally:
        logger.removeFilter(_is_no_failure)


def _is_no_failure(record: logging.LogRecord) -> bool:
    """Whether JAX's log record is about something else than an error that is about to be raised."""
    return not (record.exc_info and any(record.exc_info[1] is error for _, error in tuple(_failures)))
