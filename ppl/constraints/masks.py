"""Which tokens a constraint allows next, for a whole vocabulary at once.

A masker is the memory that this takes: a pytree that :func:`sentax.generate` carries through its loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from sentax.ppl.constraints.base import Constraint, State


@dataclass(frozen=True)
class NoMask:
    """Why a constraint has no mask over a vocabulary: it is checked token by token.

    :param reason: half a sentence that diagnostics show.
    """

    reason: str


class Masker:
    """What a constraint's masks over one vocabulary take: an immutable pytree.

    Law: bit `v` of a row is set wherever `constraint.advance(state, bytes of v, ends of v)` allows token
    `v`; where :attr:`exact`, nowhere else.
    """

    exact: ClassVar[bool] = True
    """Whether the mask decides; otherwise :meth:`residual` decides about the tokens that it lets through."""

    def lookup(
        self, state: State, seam: Int[Array, ""], needed: Bool[Array, ""] | bool
    ) -> tuple[Masker, UInt32[Array, " W"]]:
        """The tokens allowed in a state, 32 to a word, least bit first.

        :param seam: how many leading bytes of every token are not shown to the constraint.
        :param needed: where false, any row will do.
        :return: the masker to go on with, and the row.
        """
        raise NotImplementedError

    def residual(
        self,
        constraint: Constraint,
        state: State,
        token: Int[Array, " L"],
        end: Bool[Array, ""] | bool,
        needed: Bool[Array, ""] | bool = True,
    ) -> Bool[Array, ""]:
        """What is left to ask about a token that the mask lets through."""
        if self.exact:
            return jnp.ones((), bool)
        raise NotImplementedError


def pack(allowed: Bool[Array, " V"]) -> UInt32[Array, " W"]:
    """Booleans as a row of bits, 32 to a word, least bit first; what fills the last word is 0.

    >>> import jax.numpy as jnp
    >>> pack(jnp.array([True, False, True, False]))
    Array([5], dtype=uint32)
    """
    bits = jnp.pad(allowed, (0, -allowed.shape[0] % 32)).reshape(-1, 32).astype(jnp.uint32)
    return (bits << jnp.arange(32, dtype=jnp.uint32)).sum(axis=1, dtype=jnp.uint32)


def pack_on_host(allowed: np.ndarray) -> UInt32[Array, "*batch W"]:
    """What :func:`pack` makes of the last axis, from NumPy arrays; constants also while a program is traced."""
    padded = np.pad(allowed, [(0, 0)] * (allowed.ndim - 1) + [(0, -allowed.shape[-1] % 32)])
    words = np.packbits(padded, axis=-1, bitorder="little").view("<u4").astype(np.uint32)
    with jax.ensure_compile_time_eval():
        return jax.device_put(words)


def unpack(row: UInt32[Array, " W"], size: int) -> Bool[Array, " V"]:
    """A row's bits as booleans.

    >>> import jax.numpy as jnp
    >>> unpack(jnp.array([5], jnp.uint32), 4)
    Array([ True, False,  True, False], dtype=bool)
    """
    bits = row[:, None] >> jnp.arange(32, dtype=jnp.uint32)
    return (bits & 1).reshape(-1)[:size].astype(bool)


_memory_limit = 64 << 20


def mask_memory_limit() -> int:
    """How many bytes one table of masks may take; see :func:`set_mask_memory_limit`."""
    return _memory_limit


def set_mask_memory_limit(mebibytes: float) -> None:
    """Bound the memory for masks: 64 MiB for each automaton unless told otherwise.

    An automaton of S states (a power of two) over V tokens needs S V / 8 bytes while a run lasts. A
    larger one is checked token by token, and diagnostics say so. A run that is compiled already keeps
    the bound it was compiled with.

    :param mebibytes: for each table; 0 turns the tables of automata off.
    :raises ValueError: if it is negative.

    >>> set_mask_memory_limit(256)
    >>> mask_memory_limit()
    268435456
    >>> set_mask_memory_limit(64)
    """
    global _memory_limit
    if not mebibytes >= 0:
        raise ValueError(f"set_mask_memory_limit: expected a number of MiB of at least 0, got {mebibytes!r}")
    _memory_limit = int(mebibytes * 2**20)
