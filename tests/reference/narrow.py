"""Programs with few right texts among very many, and dead ends on the way: what constraints are for.

Sixteen letters and an end of text, of which at most steps one to three may follow: the prior finds a right text
once in tens to thousands of tries. In each, what the model likes at first leads where it does not like to go
on, so that locally constrained decoding is far from the posterior. Right texts are listed, and their
probabilities multiplied out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

import sentax as sx
from reference.programs import Program

LETTERS = "abcdefghijklmno("
END = len(LETTERS)
BEGIN = "^"
STOP = "$"


class Chain:
    """A Markov chain over :data:`LETTERS`: all equally likely, but for some that are so many times likelier.

    :param likes: factors by pair of letters; `^` begins a text, `$` ends it.
    """

    def __init__(self, likes: dict[str, float]) -> None:
        number = {letter: i for i, letter in enumerate(LETTERS + STOP)}
        first, rows = np.ones(END + 1), np.ones((END + 1, END + 1))
        for (before, after), factor in likes.items():
            row = first if before == BEGIN else rows[number[before]]
            row[number[after]] *= factor
        self.number = number
        self.first, self.rows = first / first.sum(), rows / rows.sum(1, keepdims=True)

    def context(self) -> Any:
        """Before the first letter."""
        tokens = [letter.encode() for letter in LETTERS] + [b""]
        return sx.TableLM(np.log(self.rows), np.log(self.first), tokens, end_of_text=END).prompt()

    def probability(self, text: str, max_tokens: int) -> float:
        """Of a text; the end is drawn if there is room for it."""
        row, p = self.first, 1.0
        for token in self.tokens(text) + ((END,) if len(text) < max_tokens else ()):
            p *= row[token]
            row = self.rows[token]
        return float(p)

    def tokens(self, text: str) -> tuple[int, ...]:
        return tuple(self.number[letter] for letter in text)

    def padded(self, text: str, max_tokens: int) -> tuple[int, ...]:
        return self.tokens(text) + (END,) * (max_tokens - len(text))


def _key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
    return tuple(samples["text"][i].tolist())


def _listed(
    chain: Chain, max_tokens: int, where: Any, right: Iterable[str], points: dict[str, float] | None = None
) -> Program:
    """One text under a constraint that leaves some; e to the sum of its letters' points is a factor."""
    values = np.zeros(END + 1)
    for letter, value in (points or {}).items():
        values[chain.number[letter]] = value

    def model(context: Any, where: Any) -> None:
        text = sx.generate("text", context, max_tokens=max_tokens, where=where)
        if points:
            numpyro.factor("points", jnp.asarray(values)[text.tokens].sum())

    table = {
        chain.padded(text, max_tokens): chain.probability(text, max_tokens)
        * float(np.exp(sum(values[token] for token in chain.tokens(text))))
        for text in right
    }
    return Program(model, (chain.context(), where), _key, table)


def rare_second_letter() -> Program:
    """The likeliest first letter is one after which what must come hardly ever does."""
    words = ["cab", "fed", "beg"]
    chain = Chain({"^c": 12, "^f": 6, "^b": 4, "ca": 0.05, "fe": 4, "be": 4, "ed": 3, "eg": 5})
    return _listed(chain, 5, sx.choice(words), words)


def rare_pair() -> Program:
    """Pairs of which the second letter hardly ever comes, and one that is begun too late is cut off."""
    chain = Chain({"^a": 12, "^c": 4, "ab": 0.15, "ba": 8, "b$": 2, "c$": 4})
    return _listed(chain, 3, sx.regex("(ab)*c?") & sx.length(min=1), ["c", "ab", "abc"])


def brackets() -> Program:
    """Brackets that nest twice at most: the model likes to open and not to close twice."""

    def shallow(data: bytes) -> bool:
        depths = np.cumsum([1 if letter == ord("(") else -1 for letter in data])
        return len(data) <= 4 and set(data) <= set(b"(o") and bool(((depths >= 0) & (depths <= 2)).all())

    def closed(data: bytes) -> bool:
        return shallow(data) and data.count(b"(") == data.count(b"o") > 0

    chain = Chain({"^(": 8, "((": 9, "(o": 3, "oo": 0.05, "o(": 0.5, "o$": 8})
    return _listed(chain, 5, sx.predicate(shallow, closed), ["(o", "((oo", "(o(o"])


def ascending() -> Program:
    """Three letters in order, as Python checks them; after the likeliest first letter none is welcome."""
    right = ["".join(letters) for letters in itertools.combinations("abcde", 3)]

    def in_order(data: bytes) -> bool:
        return len(data) <= 3 and set(data) <= set(b"abcde") and list(data) == sorted(set(data))

    def three(data: bytes) -> bool:
        return in_order(data) and len(data) == 3

    likes = {"^a": 14, "^c": 5, "ab": 0.05, "ac": 0.05, "ad": 0.05, "ae": 0.05, "cd": 9, "ce": 0.2, "de": 9}
    return _listed(Chain(likes | {"^d": 0.1, "^e": 0.1}), 3, sx.predicate(in_order, three), right)


def rewarded_word() -> Program:
    """A word that the model does not like and the reward does."""
    words = ["bead", "deaf", "cage"]
    chain = Chain({"^b": 3, "^d": 3, "^c": 9, "be": 3, "de": 5, "ca": 4, "ea": 6, "ag": 0.3, "ad": 3, "ge": 4})
    return _listed(chain, 4, sx.choice(words), words, {"f": 2.0})


def hidden_list() -> Program:
    """A latent variable says which of two lists holds; what the model likes to begin it does not go on with."""
    lists = (["abc", "dog"], ["dog", "fin"])
    prior = np.array([0.5, 0.5])
    chain = Chain({"^a": 14, "^d": 5, "^f": 3, "do": 4, "og": 4, "fi": 4, "in": 2, "ab": 0.05})
    T = 4

    def model(context: Any, *wheres: Any) -> None:
        z = numpyro.sample("z", dist.Categorical(jnp.asarray(prior)))
        text = sx.generate("text", context, max_tokens=T, where=wheres[-1])
        fits = jnp.stack([text.matches(where) for where in wheres[:-1]])
        sx.constrain("fits", fits[z])

    table = {
        (z, *chain.padded(text, T)): float(prior[z]) * chain.probability(text, T)
        for z, words in enumerate(lists)
        for text in words
    }

    def key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
        return (int(samples["z"][i]), *samples["text"][i].tolist())

    wheres = [sx.choice(words) for words in (*lists, sorted({word for words in lists for word in words}))]
    return Program(model, (chain.context(), *wheres), key, table)


def twice() -> Program:
    """A second text must say what the first one did."""
    words = ["ab", "cd", "ef"]
    chain = Chain({"^a": 3, "^c": 9, "^e": 2, "ab": 6, "cd": 0.5, "ef": 3})
    T = 2

    def model(context: Any, where: Any) -> None:
        first = sx.generate("first", context, max_tokens=T, where=where)
        second = sx.generate("second", context, max_tokens=T, where=where)
        sx.constrain("same", jnp.all(first.tokens == second.tokens))

    table = {chain.padded(word, T) * 2: chain.probability(word, T) ** 2 for word in words}

    def key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
        return (*samples["first"][i].tolist(), *samples["second"][i].tolist())

    return Program(model, (chain.context(), sx.choice(words)), key, table)


NARROW: dict[str, Callable[[], Program]] = {
    f.__name__: f
    for f in (
        rare_second_letter,
        rare_pair,
        brackets,
        ascending,
        rewarded_word,
        hidden_list,
        twice,
    )
}
