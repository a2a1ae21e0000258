"""Constraints that are lists of strings, and counts of bytes or tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.base import PAD, Constraint
from sentax.ppl.constraints.counts import counted
from sentax.ppl.constraints.dfa import MAX_STATES, Dfa, TooManyStates
from sentax.ppl.constraints.length_masks import LengthMasker
from sentax.ppl.constraints.masks import Masker, NoMask
from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree


def _encode(text: str | bytes) -> bytes:
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return text
    raise TypeError(f"a string of a constraint is str or bytes, not {type(text).__name__}: {text!r:.80}")


def literal(text: str | bytes) -> Automaton:
    """Exactly one text.

    :param text: `str` stands for its UTF-8 bytes.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import literal
        >>> literal("yes").matches("yes"), literal("yes").matches("yes!")
        (True, False)
    """
    return _choice([_encode(text)], f"literal({text!r})")


def choice(strings: Iterable[str | bytes]) -> Automaton:
    """One of several texts: the minimal acyclic automaton of thousands of strings in milliseconds.

    :param strings: `str` stands for its UTF-8 bytes; repetitions do no harm.
    :raises ValueError: if there are none.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import choice
        >>> unit = choice(["metre", "kilometre", "mile"])
        >>> unit.matches("kilometre"), unit.matches("kilo")
        (True, False)
    """
    if isinstance(strings, (str, bytes)):
        raise TypeError("choice takes a list of strings; for one string use literal")
    words = sorted({_encode(s) for s in strings})
    shown = ", ".join(repr(w.decode(errors="replace")) for w in words[:3])
    more = f", ... {len(words)} strings" if len(words) > 3 else ""
    return _choice(words, f"choice([{shown}{more}])")


def _choice(words: list[bytes], label: str) -> Automaton:
    """Daciuk et al. (2000): grow the trie of sorted words, and share each subtree once it is complete.

    A word's path is frozen, deepest node first, as soon as the next word has left it; a frozen node
    is its (final, edges), looked up in the register of all nodes frozen before.
    """
    register: dict[tuple, int] = {}
    path: list[list] = [[False, []]]
    previous = b""

    def freeze(depth: int) -> None:
        while len(path) > depth + 1:
            final, edges = path.pop()
            node = register.setdefault((final, tuple(edges)), len(register))
            path[-1][1].append((previous[len(path) - 1], node))

    for word in words:
        common = next((i for i, (a, b) in enumerate(zip(word, previous)) if a != b), len(previous))
        freeze(common)
        path.extend([False, []] for _ in word[common:])
        path[-1][0] = True
        previous = word
    freeze(0)
    # The root is built last and comes first; the sink, to which all else leads, comes last.
    final, edges = path.pop()
    nodes = [(final, tuple(edges)), *register]
    if len(nodes) > MAX_STATES:
        raise TooManyStates(f"{label} needs {len(nodes)} states, more than {MAX_STATES}")
    used = sorted({byte for _, edges in nodes for byte, _ in edges})
    classes = np.full(256, len(used), np.int32)
    classes[used] = np.arange(len(used))
    delta = np.full((len(nodes) + 1, len(used) + 1), len(nodes), np.int32)
    for state, (_, edges) in enumerate(nodes):
        for byte, node in edges:
            delta[state, classes[byte]] = node + 1
    accepting = np.array([final for final, _ in nodes] + [False])
    return Automaton.from_dfa(Dfa(delta, classes, accepting), label)


class Unit(Enum):
    """What :class:`Length` counts."""

    TOKENS = "tokens"
    BYTES = "bytes"


@pytree
@dataclass(frozen=True, eq=False, repr=False)
class Length(Constraint):
    """Texts of bounded length; the state is the count so far. Make one with :func:`length`."""

    least: Int[Array, ""]
    most: Int[Array, ""]
    unit: Unit = field(metadata={"static": True})

    @property
    def counts_tokens(self) -> bool:  # type: ignore[override]
        return self.unit is Unit.TOKENS

    def init(self) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def step(self, state: Int[Array, ""], token: Int[Array, " L"]) -> Int[Array, ""]:
        held = token != PAD
        added = held.any() if self.unit is Unit.TOKENS else held.sum()
        # Saturated just above the bound: a count never wraps.
        return jnp.minimum(state + added.astype(jnp.int32), _NO_BOUND)

    def alive(self, state: Int[Array, ""]) -> Bool[Array, ""]:
        return state <= self.most

    def accepts(self, state: Int[Array, ""]) -> Bool[Array, ""]:
        return (self.least <= state) & (state <= self.most)

    def masker(self, vocabulary: VocabularyLike, stop: int | None = None) -> Masker | NoMask:
        return LengthMasker.of(self.least, self.most, self.unit is Unit.TOKENS, vocabulary, stop)

    def __repr__(self) -> str:
        return f"length(unit={self.unit.value!r})"


_NO_BOUND = 1 << 30
_UNITS = ("tokens", "bytes", "characters", "words", "sentences")


def length(min: int | None = None, max: int | None = None, unit: str = "tokens") -> Constraint:
    """Texts of at least `min` and at most `max` tokens, bytes, characters, words or sentences, both included.

    * `"tokens"`: a token without bytes, such as end-of-text, does not count;
    * `"bytes"`;
    * `"characters"`: Unicode code points;
    * `"words"`: longest stretches without white space (that of `str.isspace`);
    * `"sentences"`: a sentence ends with `.`, `!`, `?` or `…`, perhaps with closing quotes or brackets after
      it, before white space or the end of the text, and with `。`, `！` or `？` anywhere. What follows the
      last end is a sentence too. Abbreviations are not known: `e.g. this` is two.

    Words and sentences in small numbers are automata, so `&`, `|` and `~` with others are exact. For tokens and
    bytes the two bounds are leaves: other bounds do not recompile.

    :param min: the least count; `None` for no bound.
    :param max: the greatest count; `None` for no bound.
    :param unit: what is counted.
    :raises ValueError: if the bounds leave nothing, or the unit is unknown.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import length
        >>> length(2, 4, unit="bytes").matches("abc")
        True
        >>> length(max=2, unit="sentences").matches("It was 3.14. Really? Yes.")
        False
    """
    least = 0 if min is None else min
    most = _NO_BOUND if max is None else max
    if unit not in _UNITS:
        raise ValueError(f"length counts {', '.join(map(repr, _UNITS[:-1]))} or {_UNITS[-1]!r}, not {unit!r}")
    if not 0 <= least <= most <= _NO_BOUND:
        raise ValueError(f"length(min={min}, max={max}) matches nothing")
    if unit not in ("tokens", "bytes"):
        return counted(unit, least, max)
    with jax.ensure_compile_time_eval():
        bounds = jax.device_put((np.int32(least), np.int32(most)))
    return Length(bounds[0], bounds[1], Unit(unit))
