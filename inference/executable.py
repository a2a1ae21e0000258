"""Compiling a run once for all contents of a similar size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core as jcore
from jax.sharding import NamedSharding


class Traced(NamedTuple):
    """A program before it is compiled.

    :param closed: with the arrays that the function closed over as its constants.
    :param out: the result's structure, shapes and dtypes.
    :param left_behind: the second value that the function returned.
    """

    closed: jcore.ClosedJaxpr
    out: Any
    left_behind: Any


class Executable:
    """A function of arrays, traced and compiled ahead of time for each new structure of its arguments.

    Arrays in the arguments (leaves of pytrees: prompts, caches, automata, weights) are traced;
    anything else (strings, Python numbers) is static and a new value compiles anew. Arrays that the
    function closes over are lifted to arguments too: left to `jit` they would become constants of the
    program, 400 MB of weights in its text.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.traced: dict[Any, Traced] = {}
        self.compiled: dict[Any, tuple[Any, list[Any]]] = {}
        self.compile_time = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """The result, and what tracing left behind (the second value that `fn` returned).

        :raises TypeError: for an argument that is neither an array nor hashable.
        """
        started = time.perf_counter()
        key, arrays, traced = self._trace(args, kwargs)
        self.compile_time = 0.0
        if key not in self.compiled:
            self.compiled[key] = _compile(traced.closed, arrays)
            self.compile_time = time.perf_counter() - started
        run, consts = self.compiled[key]
        return jax.tree.unflatten(jax.tree.structure(traced.out), run(consts, arrays)), traced.left_behind

    def trace(self, *args: Any, **kwargs: Any) -> Traced:
        """The program for these arguments, not compiled; shapes (`jax.ShapeDtypeStruct`) stand for arrays.

        :raises TypeError: for an argument that is neither an array nor hashable.
        """
        return self._trace(args, kwargs)[2]

    def _trace(self, args: tuple, kwargs: dict[str, Any]) -> tuple[Any, list[Any], Traced]:
        leaves, treedef = jax.tree.flatten((args, kwargs))
        is_array = [
            isinstance(leaf, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)) for leaf in leaves
        ]
        both = list(zip(leaves, is_array, strict=True))
        arrays = [_as_array(leaf) for leaf, t in both if t]
        static = tuple(None if t else (type(leaf), leaf) for leaf, t in both)
        # A program compiled for one placement on a mesh takes no other.
        key = (
            treedef,
            static,
            tuple((a.shape, a.dtype, getattr(a, "weak_type", False)) for a in arrays),
            tuple(a.sharding if isinstance(a.sharding, NamedSharding) else None for a in arrays),
        )
        try:
            known = key in self.traced
        except TypeError as error:
            wrong = next((type(leaf).__name__ for leaf in leaves if not _hashable(leaf)), "a pytree node")
            raise TypeError(
                f"model arguments must be arrays, pytrees of arrays, or hashable; got {wrong}"
            ) from error
        if not known:
            self.traced[key] = self._traced(leaves, treedef, is_array, arrays)
        return key, arrays, self.traced[key]

    def _traced(self, leaves: list[Any], treedef: Any, is_array: list[bool], arrays: list[Any]) -> Traced:
        left_behind = None

        def flat(*arrays: Any) -> Any:
            nonlocal left_behind
            given = iter(arrays)
            filled = [next(given) if t else leaf for leaf, t in zip(leaves, is_array, strict=True)]
            args, kwargs = jax.tree.unflatten(treedef, filled)
            out, left_behind = self.fn(*args, **kwargs)
            return out

        closed, out = jax.make_jaxpr(flat, return_shape=True)(*arrays)
        return Traced(closed, out, left_behind)

    @property
    def latest(self) -> Any:
        """The most recently compiled program (for its memory analysis)."""
        return list(self.compiled.values())[-1][0]


def _compile(closed: jcore.ClosedJaxpr, arrays: list[Any]) -> tuple[Any, list[Any]]:
    consts = [jax.numpy.asarray(c) for c in closed.consts]

    def lifted(consts: list[Any], arrays: list[Any]) -> Any:
        return jcore.jaxpr_as_fun(jcore.ClosedJaxpr(closed.jaxpr, consts))(*arrays)

    return jax.jit(lifted).lower(consts, arrays).compile(), consts


def _as_array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.numpy.asarray(leaf)


def _hashable(leaf: Any) -> bool:
    try:
        hash(leaf)
    except TypeError:
        return isinstance(leaf, (jax.Array, np.ndarray))
    return True
