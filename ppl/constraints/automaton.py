"""A regular constraint on the device: the tables of a byte automaton and the walk through them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int

from sentax.ppl.constraints.automaton_masks import AutomatonMasker
from sentax.ppl.constraints.base import PAD, Constraint
from sentax.ppl.constraints.dfa import Dfa
from sentax.ppl.constraints.masks import Masker, NoMask
from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree

_UNROLLED = 16
_BLOCK = 8


class Label:
    """A name that rides in a pytree's static part without being seen: all labels are equal."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text if len(self.text) <= 60 else self.text[:57] + "..."

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Label)

    def __hash__(self) -> int:
        return hash(Label)


def _bucket(size: int, least: int) -> int:
    return max(least, 1 << (size - 1).bit_length())


@pytree
@dataclass(frozen=True, eq=False, repr=False)
class Automaton(Constraint):
    r"""The language of a deterministic byte automaton, checked by table look-ups on the device.

    Tables are leaves, padded to powers of two: another automaton of similar size runs through the
    same compiled program. State 0 starts; the state of a text is one int32.

    Make one with :func:`~sentax.ppl.constraints.regex.regex`,
    :func:`~sentax.ppl.constraints.strings.choice` or :meth:`from_dfa`. `&`, `|` and `~` of automata
    are automata, exact over all byte strings: `~regex("a")` holds what is not valid UTF-8 too
    (intersect with `regex(".*", "s")` to leave that out).

    :param transitions: successors by state and class; column 0 is the identity, for padding.
    :param classes: the class of each byte; entry 256 (:data:`~sentax.ppl.constraints.base.PAD`) is 0.
    :param accepting: the states in which a text may end.
    :param live: the states from which an accepting one can be reached.
    :param label: what `repr` shows.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import regex
        >>> vowels = regex("[aeiou]+")
        >>> (vowels & ~regex("(aa|ee)*")).matches("eau")
        True
    """

    transitions: Int[Array, "S C"]
    classes: Int[Array, " 257"]
    accepting: Bool[Array, " S"]
    live: Bool[Array, " S"]
    label: Any = field(default=Label("automaton"), metadata={"static": True})

    @classmethod
    def from_dfa(cls, dfa: Dfa, label: str) -> Automaton:
        """Put a minimal automaton on the device.

        :param dfa: complete and minimal; its dead states are one sink.
        :param label: what `repr` shows, and what errors name.
        :raises ValueError: if the language is empty.
        """
        if not dfa.accepting.any():
            raise ValueError(f"{label} matches nothing")
        states, letters = dfa.delta.shape
        S, C = _bucket(states, 64), _bucket(letters + 1, 32)
        transitions = np.zeros((S, C), np.int32)
        transitions[:states, 1 : letters + 1] = dfa.delta
        transitions[:, 0] = np.arange(S)
        classes = np.append(dfa.classes + 1, 0).astype(np.int32)
        accepting = np.zeros(S, bool)
        accepting[:states] = dfa.accepting
        # In a minimal automaton the only state that cannot accept is a sink.
        live = np.zeros(S, bool)
        live[:states] = dfa.accepting | (dfa.delta != np.arange(states)[:, None]).any(axis=1)
        # A constraint made while a program is traced is still a table, not a traced computation.
        with jax.ensure_compile_time_eval():
            # Not `asarray`, which compiles a copy for every shape.
            table, columns, ends, alive = jax.device_put((transitions, classes, accepting, live))
        return cls(table, columns, ends, alive, Label(label))

    def to_dfa(self) -> Dfa:
        """The minimal automaton on the host. The tables must be concrete, not traced."""
        transitions, classes, accepting = (
            np.asarray(x) for x in (self.transitions, self.classes, self.accepting)
        )
        columns = classes[:PAD].max() + 1
        return Dfa(transitions[:, 1:columns], classes[:PAD] - 1, accepting).minimise()

    @property
    def is_concrete(self) -> bool:
        """Whether the tables can be read on the host: not traced, not batched."""
        leaves = (self.transitions, self.classes, self.accepting)
        return self.transitions.ndim == 2 and not any(isinstance(x, jax.core.Tracer) for x in leaves)

    def init(self) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def step(self, state: Int[Array, ""], token: Int[Array, " L"]) -> Int[Array, ""]:
        columns = self.classes.at[token].get(mode="promise_in_bounds")
        if len(token) <= _UNROLLED:
            return self._walk(state, columns)
        # Most tokens are far shorter than the vocabulary's longest: stop at the first block of padding.
        blocks = -(-len(token) // _BLOCK)
        columns = jnp.pad(columns, (0, blocks * _BLOCK - len(token))).reshape(blocks, _BLOCK)

        def more(carry):
            block, _ = carry
            return (block < blocks) & (columns[block, 0] != 0)

        def walk(carry):
            block, state = carry
            return block + 1, self._walk(state, columns[block])

        return lax.while_loop(more, walk, (jnp.zeros((), jnp.int32), state))[1]

    def _walk(self, state: Int[Array, ""], columns: Int[Array, " L"]) -> Int[Array, ""]:
        # One flat index: with two, XLA's fusion evaluates the chain before each twice, 2^L times in all.
        width = self.transitions.shape[1]
        table = self.transitions.reshape(-1)
        for i in range(len(columns)):
            state = table.at[state * width + columns[i]].get(mode="promise_in_bounds")
        return state

    def alive(self, state: Int[Array, ""]) -> Bool[Array, ""]:
        return self.live.at[state].get(mode="promise_in_bounds")

    def accepts(self, state: Int[Array, ""]) -> Bool[Array, ""]:
        return self.accepting.at[state].get(mode="promise_in_bounds")

    def masker(self, vocabulary: VocabularyLike, stop: int | None = None) -> Masker | NoMask:
        tables = (self.transitions, self.classes, self.accepting, self.live)
        return AutomatonMasker.of(*tables, vocabulary, stop)

    def __repr__(self) -> str:
        return repr(self.label)
