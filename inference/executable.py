"""Compiling a run once for all contents of a similar size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import core as jcore
from jax.sharding import NamedSharding


class Executable:
    """A function of arrays, traced and compiled ahead of time for each new structure of its arguments.

    Arrays in the arguments (leaves of pytrees: prompts, caches, automata, weights) are traced;
    anything else (strings, Python numbers) is static and a new value compiles anew. Arrays that the
    function closes over are lifted to arguments too: left to `jit` they would become constants of the
    program, 400 MB of weights in its text.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.compiled: dict[Any, tuple[Any, list[Any], Any, Any]] = {}
        self.compile_time = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        """The result, and what tracing left behind (the second value that `fn` returned).

        :raises TypeError: for an argument that is neither an array nor hashable.
        """
        leaves, treedef = jax.tree.flatten((args, kwargs))
        traced = [isinstance(leaf, (jax.Array, np.ndarray, np.generic)) for leaf in leaves]
        arrays = [jax.numpy.asarray(leaf) for leaf, t in zip(leaves, traced, strict=True) if t]
        static = tuple(None if t else (type(leaf), leaf) for leaf, t in zip(leaves, traced, strict=True))
        # A program compiled for one placement on a mesh takes no other.
        key = (
            treedef,
            static,
            tuple((a.shape, a.dtype, getattr(a, "weak_type", False)) for a in arrays),
            tuple(a.sharding if isinstance(a.sharding, NamedSharding) else None for a in arrays),
        )
        try:
            known = key in self.compiled
        except TypeError as error:
            wrong = next((type(leaf).__name__ for leaf in leaves if not _hashable(leaf)), "a pytree node")
            raise TypeError(
                f"model arguments must be arrays, pytrees of arrays, or hashable; got {wrong}"
            ) from error
        self.compile_time = 0.0
        if not known:
            started = time.perf_counter()
            self.compiled[key] = self._compile(leaves, treedef, traced, arrays)
            self.compile_time = time.perf_counter() - started
        run, consts, out_tree, left_behind = self.compiled[key]
        return jax.tree.unflatten(out_tree, run(consts, arrays)), left_behind

    def _compile(self, leaves: list[Any], treedef: Any, traced: list[bool], arrays: list[Any]) -> Any:
        left_behind = None

        def flat(*arrays: Any) -> Any:
            nonlocal left_behind
            given = iter(arrays)
            filled = [next(given) if t else leaf for leaf, t in zip(leaves, traced, strict=True)]
            args, kwargs = jax.tree.unflatten(treedef, filled)
            out, left_behind = self.fn(*args, **kwargs)
            return out

        closed, out_shape = jax.make_jaxpr(flat, return_shape=True)(*arrays)
        consts = [jax.numpy.asarray(c) for c in closed.consts]

        def lifted(consts: list[Any], arrays: list[Any]) -> Any:
            return jcore.jaxpr_as_fun(jcore.ClosedJaxpr(closed.jaxpr, consts))(*arrays)

        run = jax.jit(lifted).lower(consts, arrays).compile()
        return run, consts, jax.tree.structure(out_shape), left_behind

    @property
    def latest(self) -> Any:
        """The most recently compiled program (for its memory analysis)."""
        return list(self.compiled.values())[-1][0]


def _hashable(leaf: Any) -> bool:
    try:
        hash(leaf)
    except TypeError:
        return isinstance(leaf, (jax.Array, np.ndarray))
    return True
