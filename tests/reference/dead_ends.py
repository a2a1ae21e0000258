"""Programs in which a text that is still allowed may have nowhere to go, with their exact posteriors.

What makes an end dead is different in each: a cut, a rule that is only asked of the whole text, a rare
continuation, a count, a text that must repeat an earlier one, a latent variable, a reward at the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import sentax as sx
from reference.programs import Program
from reference.texts import EnumeratedText, Markov

TOKENS = [b"a", b"b", b"ab", b""]
END = 3


def language_model(rows: Any, first: Any) -> tuple[sx.TableLM, Markov]:
    """A table over `TOKENS` and the same numbers in float64, from probabilities up to constants."""
    logits, initial = (np.log(np.asarray(p, np.float32)) for p in (rows, first))
    return sx.TableLM(logits, initial, TOKENS, end_of_text=END), Markov(logits, initial, TOKENS)


PLAIN = language_model(
    [[3, 2, 1, 1], [2, 3, 2, 1], [2, 1, 3, 1], [1, 1, 1, 1]],
    [3, 2, 1, 1],
)
# After an "a" it hardly ever says "b".
RELUCTANT = language_model(
    [[20, 1, 1, 4], [3, 6, 1, 4], [4, 2, 2, 3], [1, 1, 1, 1]],
    [8, 2, 1, 1],
)


def _text(
    lm: tuple[sx.TableLM, Markov],
    max_tokens: int,
    where: Any,
    weight: Callable[[EnumeratedText], float],
    reward: Callable[[Any], Any] | None = None,
) -> Program:
    """One text, one constraint, and maybe a factor after it.

    :param weight: of a text, independently of the program.
    """

    def model(context: Any, where: Any) -> None:
        text = sx.generate("text", context, max_tokens=max_tokens, where=where)
        if reward is not None:
            numpyro.factor("reward", reward(text))

    table: dict[Any, float] = {}
    for text in lm[1].texts(max_tokens):
        if p := text.probability * weight(text):
            key = text.tokens + (END,) * (max_tokens - len(text.tokens))
            table[key] = table.get(key, 0.0) + p
    return Program(model, (lm[0].prompt(), where), _key, table)


def _key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
    return tuple(samples["text"][i].tolist())


def _full_match(pattern: str) -> Callable[[EnumeratedText], float]:
    return lambda text: float(re.fullmatch(pattern.encode(), text.data) is not None)


def cut() -> Program:
    """Whatever is unfinished at the last token is lost."""
    pattern = "(aab)*"
    return _text(PLAIN, 6, sx.regex(pattern), _full_match(pattern))


def rare_continuation() -> Program:
    """A likely first letter that only unlikely ones may follow: greedy masks walk into it."""
    pattern = "ab{3}|b[ab]*"
    return _text(RELUCTANT, 5, sx.regex(pattern), _full_match(pattern))


def palindrome() -> Program:
    """A rule of the whole text: nothing is known before its end."""

    def palindrome(data: bytes) -> bool:
        return len(data) >= 3 and data == data[::-1] and b"b" in data

    return _text(
        PLAIN,
        5,
        sx.predicate(None, palindrome),
        lambda text: float(palindrome(text.data)),
    )


def balance() -> Program:
    """As many of one letter as of the other, never fewer: what is open must be closed in time."""

    def ahead(data: bytes) -> bool:
        return all(data[:i].count(b"a") >= data[:i].count(b"b") for i in range(len(data) + 1))

    def even(data: bytes) -> bool:
        return ahead(data) and data.count(b"a") == data.count(b"b") >= 2

    return _text(
        RELUCTANT,
        6,
        sx.predicate(ahead, even),
        lambda text: float(even(text.data)),
    )


def rewarded() -> Program:
    """A constraint on the way and a reward at the end that prefers what is unlikely."""
    pattern = "(a|bb)*"
    return _text(
        RELUCTANT,
        5,
        sx.regex(pattern),
        lambda text: (
            (re.fullmatch(pattern.encode(), text.data) is not None) * float(np.exp(text.data.count(b"b") - 4.0))
        ),
        lambda text: jnp.sum((text.tokens == 1) | (text.tokens == 2)) - 4.0,
    )


def latent() -> Program:
    """A latent variable that decides, before the text, what it may be; what it likes best is impossible."""
    lm, markov = PLAIN
    patterns = ("(ab)*", "b+a", "aaab*")
    prior = np.array([0.2, 0.1, 0.7])

    def model(context: Any, one: Any, two: Any, three: Any) -> None:
        z = numpyro.sample("z", dist.Categorical(jnp.asarray(prior)))
        text = sx.generate("text", context, max_tokens=4)
        fits = jnp.stack([text.matches(where) for where in (one, two, three)])
        sx.constrain("fits", fits[z] & (text.length > 0))

    table: dict[Any, float] = {}
    for text in markov.texts(4):
        for z, pattern in enumerate(patterns):
            if text.tokens and re.fullmatch(pattern.encode(), text.data):
                key = (z, *text.tokens, *((END,) * (4 - len(text.tokens))))
                table[key] = table.get(key, 0.0) + prior[z] * text.probability

    def key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
        return (int(samples["z"][i]), *samples["text"][i].tolist())

    return Program(model, (lm.prompt(), *map(sx.regex, patterns)), key, table)


def echo() -> Program:
    """A second text that must say what the first one said."""
    lm, markov = PLAIN
    T = 3

    def model(context: Any, where: Any) -> None:
        first = sx.generate("first", context, max_tokens=T, where=where)
        second = sx.generate("second", context, max_tokens=T, where=where)
        sx.constrain("same", jnp.all(first.tokens == second.tokens))

    pattern = "a(a|b)+"
    table: dict[Any, float] = {}
    for text in markov.texts(T):
        if re.fullmatch(pattern.encode(), text.data):
            key = text.tokens + (END,) * (T - len(text.tokens))
            table[key + key] = table.get(key + key, 0.0) + text.probability**2

    def key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
        return (*samples["first"][i].tolist(), *samples["second"][i].tolist())

    return Program(model, (lm.prompt(), sx.regex(pattern)), key, table)


DEAD_ENDS = {f.__name__: f for f in (cut, rare_continuation, palindrome, balance, rewarded, latent, echo)}
