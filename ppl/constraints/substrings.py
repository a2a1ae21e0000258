"""Quotations: the pieces of a given text."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sentax.ppl.constraints.automaton import Automaton, Label
from sentax.ppl.constraints.base import PAD, Constraint
from sentax.ppl.constraints.codepoints import category, contains
from sentax.ppl.constraints.dfa import Dfa, TooManyStates
from sentax.ppl.pytree import pytree

_MAX_DENSE = 1 << 14
"""Beyond this many states a table with a column for every byte class costs more than a sparse one."""

_MAX_SHARED = 50_000_000
"""Bound on the positions visited while repeated stretches of whole words are told apart."""

_SEED = 0  # of the places in the sparse table: no result depends on them


class Edges(NamedTuple):
    """A deterministic automaton with few edges; state 0 starts, and what has no edge is dead.

    :param source: int [E].
    :param byte: int [E].
    :param target: int [E].
    :param accepting: bool [S]; every state can be completed.
    """

    source: np.ndarray
    byte: np.ndarray
    target: np.ndarray
    accepting: np.ndarray


def substring_of(corpus: str | bytes, *, whole_words: bool = False) -> Automaton | Quotation:
    """The pieces of a text: what is generated is a quotation, word for word.

    The suffix automaton of Blumer et al. (1985), of at most twice as many states as the corpus has bytes. Up
    to 16384 states it is an :class:`Automaton`, with exact `&`, `|` and `~`; beyond it a :class:`Quotation`,
    whose memory grows as the corpus.

    :param corpus: the text. Of a `str` the pieces are whole characters; of `bytes`, any bytes. The empty text
        is a piece.
    :param whole_words: whether a piece may begin and end only where the corpus has no word character (`\\w` of
        :mod:`re`) on both sides; the corpus must be `str` then.
    :raises TooManyStates: for `whole_words`, if the corpus repeats itself at great length.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import substring_of
        >>> quote = substring_of("To be, or not to be, that is the question.")
        >>> quote.matches("not to be"), quote.matches("to be or not")
        (True, False)
    """
    if not isinstance(corpus, (str, bytes)):
        raise TypeError(f"a corpus is str or bytes, not {type(corpus).__name__}")
    if whole_words and not isinstance(corpus, str):
        raise TypeError("whole words are those of a str: bytes have no letters")
    edges = _whole_words(corpus) if whole_words else _suffix_automaton(corpus)  # type: ignore[arg-type]
    shown = repr(corpus) if len(corpus) < 30 else f"{corpus[:27]!r}..."
    label = f"substring_of({shown}{', whole_words=True' if whole_words else ''})"
    if len(edges.accepting) < _MAX_DENSE:
        return Automaton.from_dfa(_dense(edges), label)
    return Quotation.from_edges(edges, label)


def _suffix_automaton(corpus: str | bytes) -> Edges:
    """Online, a state more for each byte and at most one clone (Blumer et al.)."""
    text = corpus.encode() if isinstance(corpus, str) else corpus
    following: list[dict[int, int]] = [{}]
    link, longest, end = [-1], [0], [0]
    last = 0
    for position, byte in enumerate(text):
        new = len(following)
        following.append({})
        longest.append(position + 1)
        end.append(position + 1)
        state = last
        while state >= 0 and byte not in following[state]:
            following[state][byte] = new
            state = link[state]
        if state < 0:
            link.append(0)
        else:
            target = following[state][byte]
            if longest[target] == longest[state] + 1:
                link.append(target)
            else:
                link.append(new + 1)
                following.append(following[target].copy())
                longest.append(longest[state] + 1)
                end.append(end[target])
                link.append(link[target])
                link[target] = new + 1
                while state >= 0 and following[state].get(byte) == target:
                    following[state][byte] = new + 1
                    state = link[state]
        last = new
    degree = np.fromiter(map(len, following), np.int64, len(following))
    count = int(degree.sum())
    letters = np.fromiter(chain.from_iterable(following), np.int32, count)
    targets = np.fromiter(chain.from_iterable(d.values() for d in following), np.int32, count)
    source = np.repeat(np.arange(len(following), dtype=np.int32), degree)
    if isinstance(corpus, bytes):
        return Edges(source, letters, targets, np.ones(len(following), bool))
    # Characters are whole: no piece begins with a byte inside one, and all that lead to a state end alike.
    begins = np.append((np.frombuffer(text, np.uint8) & 0xC0) != 0x80, True)
    kept = (source != 0) | (letters & 0xC0 != 0x80)
    return Edges(source[kept], letters[kept], targets[kept], begins[end])


def _whole_words(corpus: str) -> Edges:
    """By subsets: the places that have been reached from where a piece may begin.

    A piece is soon found in one place only. The states of one place are a chain along the corpus.
    """
    text = np.frombuffer(corpus.encode(), np.uint8)
    points = np.frombuffer(corpus.encode("utf-32-le"), np.uint32)
    word = contains(category("word", False), points)
    starts = np.flatnonzero(np.append((text & 0xC0) != 0x80, True))  # of characters, and the end
    between = np.ones(len(starts), bool)
    between[1:-1] = ~(word[1:] & word[:-1])
    cut = np.zeros(len(text) + 1, bool)
    cut[starts[between]] = True

    # States: 0 is where pieces begin, 1 + p the single place p, and then sets of places.
    single = np.arange(len(text))
    sources: list[np.ndarray] = [single + 1]
    letters: list[np.ndarray] = [text]
    targets: list[np.ndarray] = [single + 2]
    accepting = [True, *cut.tolist()]
    numbers: dict[bytes, int] = {}
    pending = [(0, np.flatnonzero(cut))]
    work = 0
    for number, places in pending:
        work += len(places)
        if work > _MAX_SHARED:
            raise TooManyStates(
                "the corpus repeats itself at such length that quotations of whole words need too many states"
            )
        places = places[places < len(text)]
        read = text[places]
        order = np.argsort(read, kind="stable")
        reached, read = places[order] + 1, read[order].astype(np.int64)
        stops = (np.flatnonzero(np.diff(read, append=-1)) + 1).tolist()
        for begin, stop in zip([0, *stops], stops):
            group = reached[begin:stop]
            if len(group) == 1:
                target = int(group[0]) + 1
            else:
                target = numbers.setdefault(group.tobytes(), len(accepting))
                if target == len(accepting):
                    accepting.append(bool(cut[group].any()))
                    pending.append((target, group))
            sources.append(np.array([number]))
            letters.append(read[begin : begin + 1])
            targets.append(np.array([target]))
    source, byte, to = (np.concatenate(x).astype(np.int32) for x in (sources, letters, targets))
    return Edges(source, byte, to, np.array(accepting))


def _dense(edges: Edges) -> Dfa:
    used, column = np.unique(edges.byte, return_inverse=True)
    states = len(edges.accepting)
    classes = np.full(256, len(used), np.int32)
    classes[used] = np.arange(len(used))
    delta = np.full((states + 1, len(used) + 1), states, np.int32)
    delta[edges.source, column] = edges.target
    return Dfa(delta, classes, np.append(edges.accepting, False)).minimise()


@pytree
@dataclass(frozen=True, eq=False, repr=False)
class Quotation(Constraint):
    """An automaton of few edges in a sparse table, with three look-ups a byte. Make one with
    :func:`substring_of`.

    The rows of all states lie in one array, displaced so that none of their edges collide (Tarjan and Yao,
    1979): the edge of state `s` by byte `b` is at `base[s] + b`, if that entry is owned by `s`.

    :param base: displacements by state; the last state is dead and owns nothing.
    :param owner: the state to which each entry belongs, -1 for none.
    :param target: where each entry's edge leads.
    :param accepting: the states in which a text may end.
    """

    base: Int[Array, " S"]
    owner: Int[Array, " M"]
    target: Int[Array, " M"]
    accepting: Bool[Array, " S"]
    label: Any = field(default=Label("quotation"), metadata={"static": True})

    @classmethod
    def from_edges(cls, edges: Edges, label: str) -> Quotation:
        """Put an automaton of which every state can be completed on the device."""
        S = 1 << len(edges.accepting).bit_length()
        base, owner, target = _displaced(edges, S)
        accepting = np.zeros(S, bool)
        accepting[: len(edges.accepting)] = edges.accepting
        with jax.ensure_compile_time_eval():
            at, whose, to, ends = jax.device_put((base, owner, target, accepting))
        return cls(at, whose, to, ends, Label(label))

    def init(self) -> Int[Array, ""]:
        return jnp.zeros((), jnp.int32)

    def step(self, state: Int[Array, ""], token: Int[Array, " L"]) -> Int[Array, ""]:
        dead = len(self.base) - 1

        def more(carry):
            i, _ = carry
            return (i < len(token)) & (token.at[i].get(mode="clip") != PAD)

        def read(carry):
            i, state = carry
            place = self.base.at[state].get(mode="promise_in_bounds") + token[i]
            owned = self.owner.at[place].get(mode="promise_in_bounds") == state
            return i + 1, jnp.where(owned, self.target.at[place].get(mode="promise_in_bounds"), dead)

        return jax.lax.while_loop(more, read, (jnp.zeros((), jnp.int32), state))[1]

    def alive(self, state: Int[Array, ""]) -> Bool[Array, ""]:
        return state != len(self.base) - 1

    def accepts(self, state: Int[Array, ""]) -> Bool[Array, ""]:
        return self.accepting.at[state].get(mode="promise_in_bounds")

    def __repr__(self) -> str:
        return repr(self.label)


def _displaced(edges: Edges, states: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Displacements of all rows: random, those of many edges first; rows of one edge fill the gaps."""
    rng = np.random.default_rng(_SEED)
    size = 1 << int(1.3 * len(edges.source) + 512).bit_length()
    owner, target = np.full(size, -1, np.int32), np.zeros(size, np.int32)
    base = np.zeros(states, np.int32)
    order = np.argsort(edges.source, kind="stable")
    source, byte, goal = edges.source[order], edges.byte[order], edges.target[order]
    degree = np.bincount(source, minlength=states)
    for least, most in ((17, 256), (5, 16), (2, 4)):
        waiting = np.flatnonzero((degree >= least) & (degree <= most))
        while waiting.size:
            proposed = np.zeros(states, np.int32)
            proposed[waiting] = rng.integers(0, size - 256, waiting.size)
            asking = np.zeros(states, bool)
            asking[waiting] = True
            mine = np.flatnonzero(asking[source])
            place = proposed[source[mine]] + byte[mine]
            # The first to ask for a place gets it; who does not get all of its places asks again elsewhere.
            _, first = np.unique(place, return_index=True)
            refused = np.ones(len(mine), bool)
            refused[first] = False
            refused |= owner[place] >= 0
            asking[source[mine[refused]]] = False
            won = asking[source[mine]]
            owner[place[won]], target[place[won]] = source[mine[won]], goal[mine[won]]
            base[asking] = proposed[asking]
            waiting = waiting[~asking[waiting]]
    lone = np.flatnonzero(degree[source] == 1)
    free = np.flatnonzero(owner < 0)
    # A row may not begin before the table, nor end behind it.
    free = free[(free >= 256) & (free < size - 256)][: len(lone)]
    owner[free], target[free], base[source[lone]] = source[lone], goal[lone], free - byte[lone]
    return base, owner, target
