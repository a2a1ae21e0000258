"""Laws as checks that users run on their own classes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sentax.ppl.constraints.base import PAD, Constraint
from sentax.ppl.constraints.predicate import host_errors

__all__ = ["check_constraint"]

_WALKS, _STEPS, _CANDIDATES, _LONGEST = 16, 12, 24, 32


def check_constraint(
    constraint: Constraint,
    *,
    texts: Iterable[bytes | str],
    oracle: Callable[[bytes], bool] | None = None,
    tokens: Sequence[bytes] | None = None,
    seed: int = 0,
) -> None:
    """Check the laws of :class:`~sentax.ppl.constraints.base.Constraint` on texts and on random walks.

    The texts are read in tokens as long as can be, byte by byte, and cut at random; the walks draw
    tokens and prefer those that keep the text alive. Along each of them: a text that is not alive stays
    dead, one that is accepted is alive, padding changes nothing, `advance` agrees with `step`, the
    verdicts on a text do not depend on how it was reached, and a batch agrees with one text at a time.

    :param constraint: what to check.
    :param texts: some that are in the set, some that nearly are.
    :param oracle: tells independently whether a text is in the set. For a constraint that counts tokens
        it is asked about texts read a byte a token.
    :param tokens: what the walks draw from; by default bytes and short slices of the texts.
    :param seed: of the cuts and walks.
    :raises AssertionError: if a law is broken, with the bytes that break it.
    :raises PredicateError: if a predicate fails.

    **Example**

    .. code-block:: python

        >>> import re
        >>> import sentax as sx
        >>> from sentax.testing import check_constraint
        >>> check_constraint(
        ...     sx.regex("(ab)*c?"),
        ...     texts=["", "ab", "aba", "ababc", "abca"],
        ...     oracle=lambda text: re.fullmatch(b"(ab)*c?", text) is not None,
        ... )
    """
    rng = random.Random(seed)
    raw = [t.encode() if isinstance(t, str) else t for t in texts]
    if not raw:
        raise ValueError("check_constraint needs at least one text")
    words = _default_tokens(rng, raw) if tokens is None else [t for t in tokens if t]
    _check_carry(constraint)

    bytewise = [_cut(t, 1) for t in raw]
    readings = bytewise + [_cut(t, _LONGEST) for t in raw]
    readings += [_cut(t, *(rng.randint(1, 6) for _ in range(8))) for t in raw]
    with host_errors():
        readings += _walk(constraint, rng, words)
        table = _table(readings)
        batch, single = jax.device_get((_batched(constraint, table), _looped(constraint, table)))
    runs = [_Run(*(np.asarray(x)[b] for x in batch)) for b in range(len(readings))]
    seen = _Verdicts(constraint)
    for b, (reading, run) in enumerate(zip(readings, runs)):
        _check_run(constraint, reading, run)
        if not constraint.counts_tokens:
            seen.add(reading, run)
        for name, many, one in zip(_Run._fields, run, single):
            what = f"{name} is {many} in a batch but {one[b]} for one text at a time"
            _require(np.array_equal(many, one[b]), constraint, what, b"".join(reading))
    if oracle is not None:
        for text, reading, run in zip(raw, bytewise, runs):
            got, expected = bool(run.accepts[len(reading)]), bool(oracle(text))
            _require(got == expected, constraint, f"accepts is {got} where the oracle says {expected}", text)


class _Run(NamedTuple):
    """Verdicts along one reading: after 0..T tokens, and of `advance` at each of the T tokens."""

    alive: Bool[Array, " T+1"]
    accepts: Bool[Array, " T+1"]
    inside: Bool[Array, " T"]
    at_end: Bool[Array, " T"]
    accepts_after: Bool[Array, " T"]


def _observe(constraint: Constraint, tokens: Int[Array, "T L"]) -> _Run:
    def step(state, token):
        advanced, inside = constraint.advance(state, token, False)
        _, at_end = constraint.advance(state, token, True)
        state = constraint.step(state, token)
        verdicts = constraint.alive(state), constraint.accepts(state)
        return state, (*verdicts, inside, at_end, constraint.accepts(advanced))

    state = constraint.init()
    first = constraint.alive(state), constraint.accepts(state)
    _, (alive, accepts, inside, at_end, after) = jax.lax.scan(step, state, tokens)
    return _Run(jnp.append(first[0], alive), jnp.append(first[1], accepts), inside, at_end, after)


_batched = jax.jit(jax.vmap(_observe, in_axes=(None, 0)))
_looped = jax.jit(lambda constraint, tokens: jax.lax.map(lambda t: _observe(constraint, t), tokens))


def _table(readings: Sequence[Sequence[bytes]]) -> np.ndarray:
    """Readings as tokens, [B, T, L], all sizes padded to powers of two: a few programs serve all checks."""
    longest = max((len(piece) for reading in readings for piece in reading), default=1)
    steps = max(len(reading) for reading in readings)
    shape = (_power(len(readings), 16), _power(steps, 1), _power(longest, 8))
    table = np.full(shape, PAD, np.int32)
    for b, reading in enumerate(readings):
        for t, piece in enumerate(reading):
            table[b, t, : len(piece)] = np.frombuffer(piece, np.uint8)
    return table


def _power(size: int, least: int) -> int:
    return max(least, 1 << max(size - 1, 0).bit_length())


def _require(holds: bool, constraint: Constraint, what: str, text: bytes) -> None:
    if not holds:
        raise AssertionError(f"{constraint!r}: {what}; text {text!r}")


def _check_carry(constraint: Constraint) -> None:
    """`step` and `advance` keep the state's structure, so that a loop can carry it."""
    token = jnp.full(4, PAD, jnp.int32)
    before = jax.eval_shape(constraint.init)
    stepped = jax.eval_shape(lambda: constraint.step(constraint.init(), token))
    advanced = jax.eval_shape(lambda: constraint.advance(constraint.init(), token, True, False)[0])
    for name, after in (("step", stepped), ("advance", advanced)):
        (kept, old), (found, new) = jax.tree.flatten(before), jax.tree.flatten(after)
        kinds = [[(x.shape, x.dtype) for x in leaves] for leaves in (kept, found)]
        if old != new or kinds[0] != kinds[1]:  # type: ignore[operator]
            raise AssertionError(f"{constraint!r}: {name} turns a state {before} into {after}")


def _check_run(constraint: Constraint, reading: Sequence[bytes], run: _Run) -> None:
    """The laws along one reading."""
    prefix = [b"".join(reading[:t]) for t in range(len(reading) + 1)]
    prefix += [prefix[-1]] * (len(run.alive) - len(prefix))
    dead: bytes | None = None
    for t, text in enumerate(prefix):
        alive, accepts = bool(run.alive[t]), bool(run.accepts[t])
        _require(alive or not accepts, constraint, "accepted but not alive", text)
        if dead is not None:
            _require(not alive, constraint, f"alive again after {dead!r} was not", text)
        if not alive and dead is None:
            dead = text
        if t > len(reading):
            same = (alive, accepts) == (bool(run.alive[t - 1]), bool(run.accepts[t - 1]))
            _require(same, constraint, "padding changes the verdict", text)
        if t == 0:
            continue
        inside, at_end = bool(run.inside[t - 1]), bool(run.at_end[t - 1])
        _require(inside == alive, constraint, f"advance says {inside} where alive is {alive}", text)
        _require(at_end == accepts, constraint, f"advance says {at_end} where accepts is {accepts}", text)
        if alive:
            same = bool(run.accepts_after[t - 1]) == accepts
            _require(same, constraint, "advance and step lead to states with different verdicts", text)


class _Verdicts:
    """What has been said of each text, so that another way to read it must say the same."""

    def __init__(self, constraint: Constraint) -> None:
        self.constraint = constraint
        self.known: dict[bytes, tuple[tuple[bool, bool], Sequence[bytes]]] = {}

    def add(self, reading: Sequence[bytes], run: _Run) -> None:
        for t in range(len(reading) + 1):
            text = b"".join(reading[:t])
            verdict = bool(run.alive[t]), bool(run.accepts[t])
            before, how = self.known.setdefault(text, (verdict, reading[:t]))
            what = f"(alive, accepts) is {verdict} read as {reading[:t]} but {before} as {how}"
            _require(verdict == before, self.constraint, what, text)


def _default_tokens(rng: random.Random, texts: Sequence[bytes]) -> list[bytes]:
    singles = {t[i : i + 1] for t in texts for i in range(len(t))} | {b" "}
    slices = set()
    for text in texts:
        if text:
            start = rng.randrange(len(text))
            slices.add(text[start : start + rng.randint(1, 5)])
    return sorted(singles | slices)


def _cut(text: bytes, *sizes: int) -> list[bytes]:
    """Pieces of the given sizes in turn, over and over."""
    pieces, turn = [], itertools.cycle(sizes)
    while text:
        size = next(turn)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


@jax.jit
def _walks(constraint: Constraint, words: Int[Array, "K L"], rng_keys: Array) -> Int[Array, "W T"]:
    def step(state, rng_key):
        states, allowed = jax.vmap(constraint.advance, in_axes=(None, 0, None))(state, words, False)
        # One step in eight goes anywhere: dead texts have laws as well.
        free_key, draw_key = jax.random.split(rng_key)
        free = jax.random.bernoulli(free_key, 0.125)
        chosen = jax.random.categorical(draw_key, jnp.where(allowed | free, 0.0, -1e3))
        return jax.tree.map(lambda x: x[chosen], states), chosen

    def walk(rng_key):
        return jax.lax.scan(step, constraint.init(), jax.random.split(rng_key, _STEPS))[1]

    return jax.vmap(walk)(rng_keys)


def _walk(constraint: Constraint, rng: random.Random, words: Sequence[bytes]) -> list[list[bytes]]:
    """Random readings of which most stay alive as long as they can."""
    drawn = [rng.choice(words) for _ in range(_CANDIDATES)]
    rng_keys = jax.random.split(jax.random.key(rng.getrandbits(31)), _WALKS)
    chosen = _walks(constraint, _table([[w] for w in drawn])[: len(drawn), 0], rng_keys)
    return [[drawn[i] for i in row] for row in np.asarray(chosen).tolist()]
