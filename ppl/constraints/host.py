"""Constraints that are checked on the host: one callback asks the engines of all of them."""

from __future__ import annotations

import itertools
import logging
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from sentax.ppl.constraints.base import PAD, Constraint
from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.masks import Masker, NoMask
from sentax.ppl.constraints.trie import COMPLETE, MOVE, PREFIX, ROOT, SKIP, HostStats, Trie
from sentax.ppl.pytree import pytree

if TYPE_CHECKING:
    from sentax.ppl.language_model import VocabularyLike

_tries: weakref.WeakValueDictionary[int, Trie] = weakref.WeakValueDictionary()
_handles = itertools.count(1)
_failures: deque[tuple[int, BaseException]] = deque(maxlen=16)
_failure_numbers = itertools.count(1)
_order: ContextVar[tuple[Any, Any, list[Bool[Array, ""]]] | None] = ContextVar("sentax_order", default=None)
_NOTHING = np.full(1, PAD, np.int32)
_HEAD = 6


class Keeper:
    """Keeps a trie alive from the static part of a pytree.

    Keepers are equal where the programs are that they belong to: whether the engine has masks decides which
    program is traced, and nothing else of it does.
    """

    __slots__ = ("trie",)

    def __init__(self, trie: Trie) -> None:
        self.trie = trie

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keeper) and self.trie.engine.has_mask == other.trie.engine.has_mask

    def __hash__(self) -> int:
        return hash((Keeper, self.trie.engine.has_mask))


@pytree
@dataclass(frozen=True, eq=False, repr=False)
class HostConstraint(Constraint):
    """A set of byte strings that an :class:`~sentax.ppl.constraints.engine.Engine` knows; see :meth:`of`.

    The state of a text is its node in a trie (one int32). All engines run through the same compiled
    program: which one is meant is a leaf.

    :param handle: the trie's number.
    :param keeper: keeps the trie alive for as long as this object is.
    """

    handle: Int[Array, ""]
    keeper: Keeper = field(metadata={"static": True})

    on_host = True

    @classmethod
    def of(cls, engine: Engine) -> Self:
        """A constraint with a memory of its own."""
        trie = Trie(engine)
        handle = next(_handles)
        _tries[handle] = trie
        with jax.ensure_compile_time_eval():
            return cls(jax.device_put(np.int32(handle)), Keeper(trie))

    @property
    def stats(self) -> HostStats:
        """Calls, memo hits and texts so far, of all uses of this constraint."""
        trie = self.keeper.trie
        with trie.lock:
            return HostStats(trie.calls, trie.questions - trie.calls, len(trie.origin), trie.masks)

    def init(self) -> Int[Array, ""]:
        return jnp.full((), ROOT, jnp.int32)

    def _ask(
        self, state: Any, token: Any, action: Any, *, in_order: bool = True
    ) -> tuple[Int[Array, ""], Bool[Array, ""]]:
        order = _order.get() if in_order else None
        patience, worth = (0, 0) if order is None else order[:2]
        answer = jax.pure_callback(
            dispatch,
            jax.ShapeDtypeStruct((), jnp.int32),
            _pack(self.handle, patience, worth, action, state, token),
            vmap_method="broadcast_all",
        )
        if order is not None:
            order[2].append((answer & 2).astype(bool))
        return answer >> 2, (answer & 1).astype(bool)

    def step(self, state: Int[Array, ""], token: Int[Array, " L"]) -> Int[Array, ""]:
        return self._ask(state, token, MOVE, in_order=False)[0]

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

    def masker(self, vocabulary: VocabularyLike, stop: int | None = None) -> Masker | NoMask:
        from sentax.ppl.constraints.host_masks import HostMasker

        if not self.keeper.trie.engine.has_mask:
            return NoMask(f"{self!r} is checked token by token: its engine makes no masks")
        return HostMasker.of(self.handle, vocabulary, stop)

    def __repr__(self) -> str:
        return repr(self.keeper.trie.engine)

    def __reduce__(self) -> tuple:
        # A trie belongs to its process: a copy starts with an empty one, and a handle of its own.
        return _made_again, (type(self), self.keeper.trie.engine)


def _made_again(kind: type[HostConstraint], engine: Engine) -> HostConstraint:
    # Not the bound method `of`, which cloudpickle takes for a function that cannot be imported.
    return kind.of(engine)


@contextmanager
def in_order(patience: Int[Array, ""], worth: Int[Array, ""]) -> Iterator[list[Bool[Array, ""]]]:
    """Traced inside, checks on the host are asked one after the other, as far as they are wanted.

    The last axis over which the checks are vmapped is then a group in order: its lanes are asked until the
    worth of those that hold reaches the patience. The lanes behind are not asked; they say no, and
    their states stay what they were. Lanes that are not needed cost nothing and count as asked.

    :param patience: at least 1; 0 asks all, a negative one none. The group's first lane decides.
    :param worth: what it counts if this lane's check holds; negative: no more is asked from here on.
    :return: while the context is open, gathers for each check whether it was asked.
    """
    asked: list[Bool[Array, ""]] = []
    token = _order.set((patience, worth, asked))
    try:
        yield asked
    finally:
        _order.reset(token)


def _pack(handle: Any, patience: Any, worth: Any, action: Any, node: Any, token: Any) -> Int[Array, " W"]:
    """A question as one int32 vector: each argument of a callback costs as much as the callback does."""
    held = token != PAD
    raw = jnp.where(held, token, 0).astype(jnp.uint8)
    words = jnp.pad(raw, (0, -len(token) % 4)).reshape(-1, 4)
    size = held.sum(dtype=jnp.int32)
    head = [jnp.asarray(x, jnp.int32) for x in (handle, patience, worth, action, size, node)]
    return jnp.concatenate([jnp.stack(head), lax.bitcast_convert_type(words, jnp.int32)])


def dispatch(packed: Any) -> np.ndarray:
    """The one callback of all constraints on the host: any number of lanes, perhaps of different engines.

    :param packed: questions made by :func:`_pack`, [..., W]; the axis before the last is a group in order
        where its first lane has patience.
    :return: `4 * node + 2 * asked + verdict`, int32 [...].
    """
    with recorded_failures():
        packed = np.ascontiguousarray(packed)
        questions = packed.reshape(-1, packed.shape[-1])
        if not len(questions):
            return np.zeros(packed.shape[:-1], np.int32)
        handles = questions[:, 0]
        group = packed.shape[-2] if packed.ndim > 1 else 1
        if (handles == handles[0]).all():
            return np.array(_answer(questions, group), np.int32).reshape(packed.shape[:-1])
        answers = np.empty(len(questions), np.int32)
        groups = answers.reshape(-1, group)
        by_group = questions.reshape(-1, group, questions.shape[1])
        uniform = (by_group[:, :, 0] == by_group[:, :1, 0]).all()
        # Groups stay whole where they belong to one engine each, as ordered ones do.
        which, size = (by_group[:, 0, 0], group) if uniform else (handles, 1)
        for handle in np.unique(which):
            lanes = np.flatnonzero(which == handle)
            mine = questions.reshape(len(which), -1)[lanes].reshape(-1, questions.shape[1])
            groups.reshape(len(which), -1)[lanes] = np.reshape(_answer(mine, size), (len(lanes), -1))
        return answers.reshape(packed.shape[:-1])


def _answer(questions: np.ndarray, group: int) -> list[int]:
    """The answers to questions that all go to one engine."""
    trie = trie_of(int(questions[0, 0]))
    with trie.lock:
        return trie.ask(
            questions[:, 1:_HEAD].tolist(), questions.tobytes(), 4 * (_HEAD - 1), 4 * questions.shape[1], group
        )


def trie_of(handle: int) -> Trie:
    """The trie of a handle that a program has sent."""
    trie = _tries.get(handle)
    if trie is None:
        raise RuntimeError("a constraint was deleted while a program still used it: keep a reference")
    return trie


@contextmanager
def recorded_failures() -> Iterator[None]:
    """Around a callback: JAX turns what it raises into an error of its own; `host_errors` finds it here."""
    try:
        yield
    except BaseException as e:
        _failures.append((next(_failure_numbers), e))
        raise


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
