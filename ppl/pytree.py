"""Frozen dataclasses as pytrees whose structures JAX does not confuse."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import jax

T = TypeVar("T")


def pytree(cls: type[T]) -> type[T]:
    """Register a dataclass as a pytree; fields with metadata `static=True` belong to its structure.

    What :func:`jax.tree_util.register_dataclass` does, but for a bug: in jaxlib 0.10 the structures of
    any two classes registered with it are equal where the numbers of their fields and their static
    values are. Their hashes differ, so `jit` mostly notices, and now and then runs one class's
    program on the other: an intersection as a union. Nodes registered one by one compare classes.

    **Example**

    .. code-block:: python

        >>> import dataclasses, jax
        >>> @pytree
        ... @dataclasses.dataclass(frozen=True)
        ... class Shift:
        ...     amount: float
        >>> @pytree
        ... @dataclasses.dataclass(frozen=True)
        ... class Scale:
        ...     amount: float
        >>> jax.tree.structure(Shift(2.0)) == jax.tree.structure(Scale(2.0))
        False
        >>> jax.tree.map(lambda x: 2 * x, Shift(2.0))
        Shift(amount=4.0)
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    data = tuple(f.name for f in fields if not f.metadata.get("static", False))
    static = tuple(f.name for f in fields if f.metadata.get("static", False))
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in data)

    def flatten(value: Any) -> tuple[tuple, tuple]:
        return tuple(getattr(value, n) for n in data), tuple(getattr(value, n) for n in static)

    def flatten_with_keys(value: Any) -> tuple[tuple, tuple]:
        children, structure = flatten(value)
        return tuple(zip(keys, children)), structure

    def unflatten(structure: tuple, children: Iterable[Any]) -> T:
        return cls(**dict(zip(data, children)), **dict(zip(static, structure)))

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
