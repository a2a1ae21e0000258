"""Small NumPyro programs with their exact evidence and posterior, enumerated or integrated on a grid."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan

import sentax as sx
from reference.texts import Markov

TOKENS = [b"a", b"b", b"ab", b""]
_rng = np.random.default_rng(7)
_logits = _rng.normal(size=(4, 4)).astype(np.float32)
_initial = _rng.normal(size=4).astype(np.float32)
LM = sx.TableLM(_logits, _initial, TOKENS, end_of_text=3)
MARKOV = Markov(_logits, _initial, TOKENS)
T = 4


@dataclasses.dataclass(frozen=True)
class Program:
    """A model, its arguments, and what is exactly true of it.

    :param key: what of a particle's results the joint table is indexed by.
    :param table: `key -> unnormalised posterior probability`; its sum is the evidence.
    """

    model: Callable[..., Any]
    args: tuple[Any, ...]
    key: Callable[[dict[str, np.ndarray], tuple[int, ...]], Any]
    table: dict[Any, float]

    @property
    def evidence(self) -> float:
        return sum(self.table.values())


def _add(table: dict[Any, float], key: Any, p: float) -> None:
    if p > 0:
        table[key] = table.get(key, 0.0) + p


def _padded(tokens: tuple[int, ...], length: int = T) -> tuple[int, ...]:
    return tokens + (3,) * (length - len(tokens))


def _text_key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
    return tuple(samples["text"][i].tolist())


def hard() -> Program:
    """A regular expression alone."""

    def model(context: Any, where: Any) -> None:
        sx.generate("text", context, max_tokens=T, where=where)

    table: dict[Any, float] = {}
    for text in MARKOV.texts(T):
        _add(table, _padded(text.tokens), text.probability * bool(re.fullmatch(rb"(ab)*a?", text.data)))
    return Program(model, (LM.prompt(), sx.regex("(ab)*a?")), _text_key, table)


def max_tokens_boundary() -> Program:
    """Complete only where the text is cut: ended by nobody, at exactly the last token."""

    def model(context: Any, where: Any) -> None:
        sx.generate("text", context, max_tokens=3, where=where)

    table: dict[Any, float] = {}
    for text in MARKOV.texts(3):
        _add(table, _padded(text.tokens, 3), text.probability * (len(text.data) >= 3))
    return Program(model, (LM.prompt(), sx.regex(".{3,}")), _text_key, table)


def soft_and_hard() -> Program:
    """A constraint, a soft factor inside, a factor after the scan."""

    def model(context: Any, where: Any) -> None:
        text = sx.generate("text", context, max_tokens=T, where=where)
        numpyro.factor("brevity", -0.4 * text.length)
        numpyro.factor("no bb", jnp.where(text.matches(sx.regex(".*bb.*")), -jnp.inf, 0.0))

    table: dict[Any, float] = {}
    for text in MARKOV.texts(T):
        ok = text.data.startswith(b"a") and b"bb" not in text.data
        _add(table, _padded(text.tokens), text.probability * ok * np.exp(-0.4 * len(text.tokens)))
    return Program(model, (LM.prompt(), sx.regex("a.*")), _text_key, table)


def python() -> Program:
    """A Python function of the text: candidates are asked in draw order, lazily."""

    def model(context: Any, where: Any) -> None:
        text = sx.generate("text", context, max_tokens=T, where=where)
        numpyro.factor("brevity", -0.4 * text.length)

    def one_b(data: bytes) -> bool:
        return data.count(b"b") <= 1 and not data.startswith(b"aa")

    table: dict[Any, float] = {}
    for text in MARKOV.texts(T):
        ok = one_b(text.data) and len(text.data) > 1
        _add(table, _padded(text.tokens), text.probability * ok * np.exp(-0.4 * len(text.tokens)))
    where = sx.predicate(one_b, lambda data: one_b(data) and len(data) > 1)
    return Program(model, (LM.prompt(), where), _text_key, table)


def mixed() -> Program:
    """An automaton, which masks, and a Python function, which is asked about what the mask lets through."""

    def model(context: Any, where: Any) -> None:
        sx.generate("text", context, max_tokens=T, where=where)

    table: dict[Any, float] = {}
    for text in MARKOV.texts(T):
        ok = re.fullmatch(rb"a(ab|b)*a?", text.data) and b"bb" not in text.data
        _add(table, _padded(text.tokens), text.probability * bool(ok))
    where = sx.regex("a(ab|b)*a?") & sx.predicate(lambda data: b"bb" not in data)
    return Program(model, (LM.prompt(), where), _text_key, table)


def captured_latent() -> Program:
    """A latent before the scan, captured by the scanned function; resampling must move it too."""
    strength = jnp.array([-1.5, 1.0])

    def model(context: Any) -> None:
        z = numpyro.sample("z", dist.Bernoulli(0.3))

        def step(carry: Any, _: Any) -> Any:
            context, count = carry
            token = numpyro.sample("text", sx.TokenDistribution(context.logits))
            numpyro.factor("likes a", strength[z] * (token == 0))
            numpyro.factor("no a after b", jnp.where((count == 1) & (token == 0) & (z == 1), -jnp.inf, 0.0))
            return (context.extend(token), token), token

        scan(step, (context, jnp.int32(3)), None, length=3)

    table: dict[Any, float] = {}
    for z, tokens in itertools.product((0, 1), itertools.product(range(4), repeat=3)):
        p, row, last = (0.7, 0.3)[z], MARKOV.first, 3
        for token in tokens:
            p *= row[token] * np.exp((-1.5, 1.0)[z] * (token == 0))
            p *= not (last == 1 and token == 0 and z == 1)
            row, last = MARKOV.rows[token], token
        _add(table, (z, tokens), p)

    def key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
        return int(samples["z"][i]), tuple(samples["text"][i].tolist())

    return Program(model, (LM.prompt(),), key, table)


def two_texts() -> Program:
    """A second text goes on from the first, with a latent in between and one constraint on each."""

    def model(context: Any, first: Any, second: Any) -> None:
        one = sx.generate("one", context, max_tokens=2, where=first)
        shout = numpyro.sample("shout", dist.Bernoulli(0.4))
        numpyro.factor("after the first", 0.5 * shout * one.length)
        two = sx.generate("two", one.context, max_tokens=2, where=second)
        sx.constrain("different", jnp.any(one.tokens != two.tokens))

    table: dict[Any, float] = {}
    for one in MARKOV.texts(2):
        if not re.fullmatch(rb"[ab]+", one.data):
            continue
        row = MARKOV.rows[one.tokens[-1]]
        for shout in (0, 1):
            p = one.probability * (0.6, 0.4)[shout] * np.exp(0.5 * shout * len(one.tokens))
            for two in MARKOV.texts(2, row):
                ok = re.fullmatch(rb"b.*|", two.data) and one.tokens != two.tokens
                _add(
                    table,
                    (shout, _padded(one.tokens, 2), _padded(two.tokens, 2)),
                    p * two.probability * bool(ok),
                )

    def key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
        return int(samples["shout"][i]), tuple(samples["one"][i].tolist()), tuple(samples["two"][i].tolist())

    return Program(model, (LM.prompt(), sx.regex("[ab]+"), sx.regex("b.*|")), key, table)


def continuous_latent() -> Program:
    """A Normal latent tilts every token; the evidence is an integral."""

    def model(context: Any) -> None:
        s = numpyro.sample("s", dist.Normal(0.5, 0.8))

        def step(context: Any, _: Any) -> Any:
            token = numpyro.sample("text", sx.TokenDistribution(context.logits))
            numpyro.factor("tilt", s * (token == 1))
            return context.extend(token), token

        scan(step, context, None, length=3)
        numpyro.sample("seen", dist.Normal(s, 0.5), obs=0.9)

    grid, weights = np.polynomial.hermite_e.hermegauss(60)
    s, weights = 0.5 + 0.8 * grid, weights / np.sqrt(2 * np.pi)
    likelihood = np.exp(-0.5 * ((0.9 - s) / 0.5) ** 2) / (0.5 * np.sqrt(2 * np.pi))
    table: dict[Any, float] = {}
    for tokens in itertools.product(range(4), repeat=3):
        p, row = 1.0, MARKOV.first
        for token in tokens:
            p, row = p * row[token], MARKOV.rows[token]
        _add(table, tokens, p * float(weights @ (likelihood * np.exp(s * tokens.count(1)))))
    return Program(model, (LM.prompt(),), _text_key, table)


def twisted() -> Program:
    """The same target as :func:`hard`; a misleading look-ahead score must cancel out of it."""

    def model(context: Any, where: Any) -> None:
        def step(carry: Any, _: Any) -> Any:
            context, state, done = carry
            token = numpyro.sample("text", sx.TokenDistribution(context.logits, forced=3, when=done))
            row = context.vocabulary.table[token].astype(jnp.int32)
            state, ok = where.advance(state, row, token == 3, ~done)
            sx.constrain("where", ok | done)
            sx.twist("guess", jnp.where(done | (token == 3), 0.3, 0.9 * (token == 2) - 0.5 * (token == 0)))
            done = done | (token == 3)
            return (context.extend(token, ~done), state, done), token

        (_, state, done), _ = scan(step, (context, where.init(), jnp.asarray(False)), None, length=T)
        sx.constrain("end", where.accepts(state) | done)

    return dataclasses.replace(hard(), model=model)


def dead_ends() -> Program:
    """Most first tokens cannot be completed, which no check of the next token sees."""

    def model(context: Any) -> None:
        text = sx.generate("text", context, max_tokens=T)
        sx.constrain("balanced", jnp.sum(text.tokens == 0) == 2 * jnp.sum(text.tokens == 1))
        sx.constrain("some", text.length > 0)

    table: dict[Any, float] = {}
    for text in MARKOV.texts(T):
        ok = text.tokens.count(0) == 2 * text.tokens.count(1) and text.tokens
        _add(table, _padded(text.tokens), text.probability * bool(ok))
    return Program(model, (LM.prompt(),), _text_key, table)


def mixed_sites() -> Program:
    """Latents before, between and after tokens in a step, observed data, a reversed scan over inputs."""
    seen = jnp.array([0.3, -0.2, 1.0])

    def model(context: Any, seen: Any) -> None:
        def step(context: Any, x: Any) -> Any:
            gate = numpyro.sample("gate", dist.Bernoulli(0.6))
            token = numpyro.sample("text", sx.TokenDistribution(context.logits))
            numpyro.factor("gated", jnp.where((gate == 1) & (token == 1), -jnp.inf, 0.0))
            numpyro.sample("noise", dist.Normal(0.0, 1.0))
            numpyro.sample("x", dist.Normal(0.1 * token, 1.0), obs=x)
            return context.extend(token), token

        scan(step, context, seen, reverse=True)

    table: dict[Any, float] = {}
    xs = np.asarray(seen, np.float64)[::-1]
    for tokens, gates in itertools.product(
        itertools.product(range(4), repeat=3), itertools.product((0, 1), repeat=3)
    ):
        p, row = 1.0, MARKOV.first
        for token, gate, x in zip(tokens, gates, xs):
            p *= row[token] * (0.4, 0.6)[gate] * (not (gate and token == 1))
            p *= np.exp(-0.5 * (x - 0.1 * token) ** 2) / np.sqrt(2 * np.pi)
            row = MARKOV.rows[token]
        _add(table, (tokens[::-1], gates[::-1]), p)

    def key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
        return tuple(samples["text"][i].tolist()), tuple(samples["gate"][i].tolist())

    return Program(model, (LM.prompt(), seen), key, table)


def handlers_around() -> Program:
    """`scale` and `mask` around and inside, `condition` on an outer site, `substitute` inside a scan."""

    def inner(context: Any) -> None:
        z = numpyro.sample("z", dist.Categorical(jnp.array([0.2, 0.8])))

        def step(context: Any, _: Any) -> Any:
            with numpyro.handlers.scale(scale=0.5):
                token = numpyro.sample("text", sx.TokenDistribution(context.logits))
            with numpyro.handlers.mask(mask=False):
                numpyro.factor("hidden", jnp.float32(-100.0))
            numpyro.factor("z likes b", 0.7 * z * (token == 1))
            return context.extend(token), token

        with numpyro.handlers.scale(scale=2.0):
            scan(step, context, None, length=3)

    fixed = jnp.array([1, 0, 2])

    def model(context: Any) -> None:
        numpyro.handlers.condition(inner, {"z": jnp.int32(1)})(context)
        numpyro.handlers.substitute(fixed_scan, {"given": fixed})(context)

    def fixed_scan(context: Any) -> None:
        def step(context: Any, _: Any) -> Any:
            token = numpyro.sample("given", sx.TokenDistribution(context.logits))
            return context.extend(token), token

        scan(step, context, None, length=3)

    given, row = 1.0, MARKOV.first
    for token in (1, 0, 2):
        given, row = given * row[token], MARKOV.rows[token]
    table: dict[Any, float] = {}
    for tokens in itertools.product(range(4), repeat=3):
        p, row = 0.8 * given, MARKOV.first
        for token in tokens:
            p, row = p * row[token] * np.exp(2.0 * 0.7 * (token == 1)), MARKOV.rows[token]
        _add(table, tokens, p)
    return Program(model, (LM.prompt(),), _text_key, table)


PROGRAMS = {
    f.__name__: f
    for f in (
        hard,
        max_tokens_boundary,
        soft_and_hard,
        captured_latent,
        two_texts,
        continuous_latent,
        twisted,
        dead_ends,
        mixed_sites,
        handlers_around,
        python,
        mixed,
    )
}
