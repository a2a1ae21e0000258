"""What a learned state belongs to: a program and its arguments, told apart without keeping them."""

from __future__ import annotations

import dataclasses
import hashlib
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from sentax.ppl.constraints.host import HostConstraint

LARGE = 1 << 20
"""Floating arrays of more elements (weights, long caches) are known by their shape."""

CLOSE = 1e-2
"""How far two machines' floating arrays may be apart, relative to their size, and still be the same."""


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """A program, its vocabulary, prompt and constraint.

    :param digest: of the model's code, of all integer and boolean arrays (vocabulary, automata, positions), of
        Python values, and of what host constraints are made of.
    :param signature: `[F, 2]`, mean and root mean square of the floating arrays, which are compared up to
        rounding: the same prompt read on another machine differs in the last bits.
    """

    digest: str
    signature: np.ndarray

    def agrees(self, other: Fingerprint) -> bool:
        """Whether both are of the same program and arguments, as far as can be told."""
        if self.digest != other.digest or self.signature.shape != other.signature.shape:
            return False
        scale = np.maximum(self.signature[:, 1:], other.signature[:, 1:])
        return bool((np.abs(self.signature - other.signature) <= CLOSE * scale + 1e-6).all())


def fingerprint(model: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Fingerprint:
    """The fingerprint of a run.

    What a function closes over is not looked into: give it as an argument.

    >>> import numpy as np
    >>> one, two = (fingerprint(len, (np.arange(n),), {}) for n in (3, 4))
    >>> one.agrees(one), one.agrees(two)
    (True, False)
    """
    digest = hashlib.blake2b(_describe(model).encode(), digest_size=16)
    signature = []
    leaves = jax.tree_util.tree_leaves_with_path((args, kwargs), is_leaf=_is_host)
    for path, leaf in leaves:
        digest.update(jax.tree_util.keystr(path).encode())
        if _is_host(leaf):
            # Its handle is a number of this process; what it is made of is how it is copied to another.
            digest.update(_describe(leaf.keeper.trie.engine.__reduce__()).encode())
        elif isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
            digest.update(f"{leaf.dtype}{np.shape(leaf)}".encode())
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                key: Any = leaf
                leaf = jax.random.key_data(key)
            if jax.numpy.issubdtype(leaf.dtype, np.inexact):
                if np.size(leaf) <= LARGE:
                    signature.append(_moments(np.asarray(leaf)))
            else:
                digest.update(np.ascontiguousarray(leaf).tobytes())
        else:
            digest.update(_describe(leaf).encode())
    return Fingerprint(digest.hexdigest(), np.array(signature, np.float64).reshape(-1, 2))


def _is_host(node: Any) -> bool:
    return isinstance(node, HostConstraint)


def _moments(values: np.ndarray) -> tuple[float, float]:
    finite = values.astype(np.float64)
    finite = finite[np.isfinite(finite)]
    return (float(finite.mean()), float(np.sqrt(np.mean(finite**2)))) if finite.size else (0.0, 0.0)


def _describe(value: Any) -> str:
    """A text that is the same in every process."""
    if isinstance(value, types.CodeType):
        constants = ", ".join(map(_describe, value.co_consts))
        return f"code({value.co_code.hex()}, {value.co_names}, {constants})"
    if isinstance(value, types.FunctionType):
        return f"function({value.__module__}.{value.__qualname__}, {_describe(value.__code__)})"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_describe, value))})"
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if dataclasses.is_dataclass(value):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return _describe(type(value)) + _describe(fields)
    return _describe(type(value))


__all__ = ["Fingerprint", "fingerprint"]
