"""What a prefix trie must be, and how it makes a sampler draw, by enumeration."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.contrib.control_flow import scan

import sentax as sx
from reference.programs import LM, MARKOV, PROGRAMS, Program, T

END = 3
Path = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Tree:
    """A program as a tree of choices: every path of draws, what is drawn at each prefix, what it comes to.

    :param program: whose keys stand for texts.
    :param path: the draws behind a key (what follows a text's end is none).
    :param next: after a prefix, the probabilities of the next draw; None at an end.
    :param allowed: whether a draw's own factors let it through.
    """

    program: Program
    path: Callable[[Any], Path]
    next: Callable[[Path], np.ndarray | None]
    allowed: Callable[[Path, int], bool]

    def probability(self, path: Path) -> float:
        p = 1.0
        for t, token in enumerate(path):
            row = self.next(path[:t])
            assert row is not None
            p *= row[token]
        return p

    def futures(self) -> dict[Path, float]:
        """At each prefix of a text that weighs something: the expected factors of its texts, exactly."""
        total: dict[Path, float] = {}
        for key, p in self.program.table.items():
            path = self.path(key)
            for t in range(len(path) + 1):
                total[path[:t]] = total.get(path[:t], 0.0) + p
        return {prefix: mass / self.probability(prefix) for prefix, mass in total.items()}

    def bounds(self, trie: Any) -> dict[Path, float]:
        """A trie's nodes by prefix."""
        prefixes: list[Path] = [()]
        for node in range(1, trie.num_nodes):
            prefixes.append((*prefixes[trie.parent[node]], int(trie.token[node])))
        return dict(zip(prefixes, trie.bound.tolist(), strict=True))

    def guided(self, trie: Any) -> dict[Path, float]:
        """The probability of every path under draws that a trie guides, valid or not."""
        known = self.bounds(trie)
        result: dict[Path, float] = {}

        def descend(prefix: Path, p: float) -> None:
            row = self.next(prefix)
            if row is None:
                result[prefix] = p
                return
            weights = [row[x] * self.allowed(prefix, x) * known.get((*prefix, x), 1.0) for x in range(len(row))]
            for x, weight in enumerate(weights):
                if weight > 0:
                    descend((*prefix, x), p * weight / sum(weights))

        descend((), 1.0)
        return result

    def total_variation(self, trie: Any) -> float:
        """Between the posterior and draws that the trie guides; invalid ones are at distance 1."""
        guided = self.guided(trie)
        table = {self.path(key): p / self.program.evidence for key, p in self.program.table.items()}
        return sum(abs(guided.get(path, 0.0) - table.get(path, 0.0)) for path in {*guided, *table}) / 2


def _text_tree(name: str, alive: Callable[[bytes], bool], complete: Callable[[bytes], bool]) -> Tree:
    """Of a program with one text, whose constraint on prefixes is given."""

    def path(key: tuple[int, ...]) -> Path:
        return key[: key.index(END) + 1] if END in key else key

    def following(prefix: Path) -> np.ndarray | None:
        if len(prefix) == T or (prefix and prefix[-1] == END):
            return None
        return MARKOV.rows[prefix[-1]] if prefix else MARKOV.first

    def allowed(prefix: Path, token: int) -> bool:
        data = MARKOV.join(prefix)
        return complete(data) if token == END else alive(data + MARKOV.tokens[token])

    return Tree(PROGRAMS[name](), path, following, allowed)


def hard() -> Tree:
    def inside(data: bytes) -> bool:
        return bool(re.fullmatch(rb"(ab)*a?", data))

    return _text_tree("hard", inside, inside)


def soft_and_hard() -> Tree:
    def inside(data: bytes) -> bool:
        return data.startswith(b"a")

    return _text_tree("soft_and_hard", inside, inside)


def dead_ends() -> Tree:
    return _text_tree("dead_ends", lambda data: True, lambda data: True)


def mixed() -> Tree:
    """A mask and a Python function: the mask knows nothing of the function."""

    def alive(data: bytes) -> bool:
        return b"bb" not in data and bool(re.fullmatch(rb"(a(ab|b)*a?)?", data))

    return _text_tree("mixed", alive, lambda data: alive(data) and data != b"")


def several_sites() -> Tree:
    """Two draws a step, of two and of four outcomes, in two scans; a factor that only the end decides."""
    gates = np.array([0.4, 0.6])

    def model(context: Any) -> None:
        def step(name: str, carry: Any, _: Any) -> Any:
            context, count = carry
            gate = numpyro.sample(f"gate {name}", dist.Bernoulli(0.6))
            numpyro.factor(f"gated {name}", -0.3 * gate)
            token = numpyro.sample(name, sx.TokenDistribution(context.logits))
            sx.constrain(f"no b behind {name}", (gate == 0) | (token != 1))
            return (context.extend(token), count + (token == 0)), token

        carry, _ = scan(lambda c, x: step("one", c, x), (context, jnp.int32(0)), None, length=1)
        (_, count), _ = scan(lambda c, x: step("two", c, x), carry, None, length=2)
        sx.constrain("one a", count == 1)

    def following(prefix: Path) -> np.ndarray | None:
        if len(prefix) == 6:
            return None
        if len(prefix) % 2 == 0:
            return gates
        return MARKOV.first if len(prefix) == 1 else MARKOV.rows[prefix[-2]]

    def allowed(prefix: Path, token: int) -> bool:
        return len(prefix) % 2 == 0 or not (prefix[-1] == 1 and token == 1)

    table: dict[Any, float] = {}

    def descend(prefix: Path, p: float) -> None:
        row = following(prefix)
        if row is None:
            if prefix[1::2].count(0) == 1:
                table[prefix] = p * np.exp(-0.3 * sum(prefix[::2]))
            return
        for x, q in enumerate(row):
            if allowed(prefix, x):
                descend((*prefix, x), p * q)

    descend((), 1.0)

    def key(samples: dict[str, np.ndarray], i: tuple[int, ...]) -> Any:
        sites = np.concatenate(
            [np.stack([samples[f"gate {name}"][i], samples[name][i]], -1) for name in ("one", "two")], 0
        )
        return tuple(sites.ravel().tolist())

    return Tree(Program(model, (LM.prompt(),), key, table), lambda path: path, following, allowed)


TREES = {tree.__name__: tree for tree in (hard, soft_and_hard, dead_ends, mixed, several_sites)}


def largest_z(counts: dict[Any, int], probabilities: dict[Any, float]) -> float:
    """Of multinomial counts; entries expected less than 10 times are pooled.

    :raises AssertionError: for a count of something impossible.
    """
    n = sum(counts.values())
    impossible = set(counts) - {key for key, p in probabilities.items() if p > 0}
    assert not impossible, f"{sorted(impossible)[0]} has probability 0 but was drawn"
    often = {key: p for key, p in probabilities.items() if n * p >= 10 and n * (1 - p) >= 10}
    seen = [counts.get(key, 0) for key in often]
    expected = list(often.values())
    assert often, "too few draws for any entry"
    if (pooled := 1 - sum(expected)) * n >= 10:
        seen.append(n - sum(seen))
        expected.append(pooled)
    p = np.array(expected)
    return float(np.abs((np.array(seen) - n * p) / np.sqrt(n * p * (1 - p))).max())
