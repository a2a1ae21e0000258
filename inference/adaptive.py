"""Samplers that learn from every draw, within a run and from run to run."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np
import numpyro.handlers as handlers
from jax import random

from sentax.inference.engine import Population, run_particles
from sentax.inference.errors import NoSurvivingParticles, UnsupportedProgram
from sentax.inference.fingerprint import Fingerprint, fingerprint
from sentax.inference.kernels.trie_guided import TrieArrays, TrieGuided
from sentax.inference.messengers import fresh_stack
from sentax.inference.prefix_trie import Paths, PrefixTrie
from sentax.inference.sampler import Sampler, as_key
from sentax.inference.sites import SiteNumbers
from sentax.inference.trials import check_bound, on_host, rows
from sentax.ppl.constraints.predicate import host_errors

_VERSION = 1


class Batch(NamedTuple):
    """What one batch of draws has taught.

    :param num_draws: texts drawn so far, this batch's included, those of earlier runs too.
    :param num_nodes: prefixes known.
    :param log_bound: an upper bound on the program's log evidence; never rises.
    :param kept: share of the batch that got a weight: valid texts, or accepted ones.
    :param log_evidence: of the program, an unbiased estimate by this batch's proper weights.
    """

    num_draws: int
    num_nodes: int
    log_bound: float
    kept: float
    log_evidence: float


class Adaptive(Sampler):
    """What ASAp and CARS have in common: a prefix trie that guides the draws and grows by them.

    A run makes `num_batches` batches of `num_particles` draws each, so it leaves `num_batches * num_particles`
    particles. All draws of a batch are guided by the trie as it is at its beginning: the smaller the batches,
    the sooner is learned; a batch of one is the published form.

    :param model: a NumPyro model whose only latent sites are tokens: of finite support, inside scans.
    :param log_bound: an upper bound on the sum of a text's log-factors; 0 where all of them are hard.
    """

    _check_all: ClassVar[bool] = False

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        num_particles: int = 32,
        num_batches: int = 1,
        log_bound: float = 0.0,
        progress_bar: bool = False,
    ) -> None:
        super().__init__(TrieGuided(model), num_particles=num_particles, progress_bar=progress_bar)
        if isinstance(num_batches, bool) or not isinstance(num_batches, int) or num_batches < 1:
            raise ValueError(f"num_batches must be an integer of at least 1, got {num_batches!r}")
        if not np.isfinite(log_bound):
            raise ValueError(f"log_bound must be finite, got {log_bound}")
        self.num_batches = num_batches
        self.log_bound = float(log_bound)
        self.forget()

    def forget(self) -> None:
        """Starts anew, with an empty trie, for any program and prompt."""
        self.trie = PrefixTrie.empty()
        self.convergence: list[Batch] = []
        """One row for each batch since the trie was empty."""
        self._belongs: Fingerprint | None = None
        self._population = None

    @property
    def log_evidence_bound(self) -> float:
        """An upper bound on the program's log evidence, certain up to rounding; it falls as the trie grows."""
        return self.log_bound + _log(self.trie.bound[0])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the trie, and which program and arguments it belongs to.

        :param path: of an `.npz` file.
        """
        mark = self._belongs or Fingerprint("", np.zeros((0, 2)))
        with open(path, "wb") as file:
            np.savez_compressed(
                file,
                version=_VERSION,
                digest=mark.digest,
                signature=mark.signature,
                log_bound=self.log_bound,
                convergence=np.array(self.convergence, np.float64).reshape(-1, len(Batch._fields)),
                **self.trie.as_dict(),  # type: ignore[arg-type]
            )

    def load(self, path: str | os.PathLike[str]) -> None:
        """Goes on from a saved trie: the next run is what it would have been there.

        :raises ValueError: if the file is another format's, or its trie was learned with another `log_bound`.
        """
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in file.files}
        if stored.pop("version", None) != _VERSION:
            raise ValueError(f"{os.fspath(path)!r} is no trie of this version of sentax")
        log_bound = float(stored.pop("log_bound"))
        if log_bound != self.log_bound:
            raise ValueError(
                f"the trie was learned with log_bound={log_bound}, this sampler has {self.log_bound}: make it "
                f"{type(self).__name__}(..., log_bound={log_bound})"
            )
        self.forget()
        self.convergence = [_batch(row) for row in stored.pop("convergence").tolist()]
        mark = Fingerprint(str(stored.pop("digest")), stored.pop("signature"))
        self._belongs = mark if mark.digest else None
        num_draws = int(stored.pop("num_draws"))
        self.trie = PrefixTrie(**stored, num_draws=num_draws)

    def run(self, rng_key: Any, *args: Any, **kwargs: Any) -> None:
        """Draws, learns, and keeps this run's draws; see :meth:`Sampler.run` for the rest.

        :raises ValueError: if the trie was learned from another program or other arguments, or a draw's
            log-factors exceed `log_bound`.
        :raises UnsupportedProgram: if the program has latent sites that are not tokens.
        """
        self._population = None
        self._place((args, kwargs))
        mark = fingerprint(self.kernel.model, args, kwargs)
        if self._belongs is not None and not self._belongs.agrees(mark):
            raise ValueError(
                f"this {type(self).__name__} has learned from {self.trie.num_draws} draws of another program, "
                "vocabulary, prompt or constraint: forget() them, or use one sampler for each"
            )
        key_run, key_results = random.split(as_key(rng_key))
        started, compile_time = time.perf_counter(), 0.0
        batches: list[Population] = []
        with host_errors(), self.progress or contextlib.nullcontext():
            for number in range(self.num_batches):
                key_draw, key_accept = random.split(random.fold_in(key_run, number))
                population, sites = self._executable(key_draw, args, kwargs, self.trie.arrays())
                compile_time += self._executable.compile_time
                self._keep(population, sites, key_results)  # or the error that it must not be kept
                batches.append(self._learn(population, key_accept))
                self._belongs = mark
        everything = np.arange(self.num_particles)
        whole = rows(batches, [everything] * len(batches))
        times = compile_time, time.perf_counter() - started - compile_time
        self._keep(jax.device_put(whole), sites, key_results, times)

    def _particles(
        self, rng_key: Any, args: tuple, kwargs: dict[str, Any], trie: TrieArrays | None = None
    ) -> tuple[Population, SiteNumbers]:
        draws = latent_sites(self.kernel.model, args, kwargs)
        kernel = TrieGuided(self.kernel.model, trie, sum(draws.values()), check_all=self._check_all)
        numbers = SiteNumbers()
        population = run_particles(kernel, self._config, numbers, rng_key, args, kwargs)
        if other := sorted(set(draws) - set(numbers.methods)):
            raise UnsupportedProgram(
                f"{type(self).__name__} remembers texts by their tokens, but the program also draws "
                f"{', '.join(map(repr, other))}: every latent site must have finite support and stand inside a "
                "scan. Condition on it (numpyro.handlers.condition), or use SMC(AWRS(model))"
            )
        return population, numbers

    def _learn(self, drawn: Population, key_accept: Any) -> Any:
        """Brings the trie up to date; the batch with its final weights."""
        walk: Any = jax.device_get(drawn.kernel_state)  # a `Walk` of NumPy arrays
        population = on_host(drawn)
        log_weights = population.log_weights.astype(np.float64)
        log_factors = log_weights - walk.log_correction
        check_bound(log_factors, self.log_bound, type(self).__name__)
        envelope = self.log_evidence_bound
        paths = Paths(
            lengths=walk.length,
            nodes=walk.nodes,
            tokens=walk.tokens,
            probabilities=np.exp(walk.log_probs.astype(np.float64)),
            rest=walk.rest,
            left=walk.left,
            values=np.exp(np.minimum(log_factors - self.log_bound, 0.0)),
        )
        self.trie = self.trie.learn(paths)
        uniform = np.asarray(random.uniform(key_accept, log_weights.shape))
        weights = self._weigh(log_weights, envelope, uniform).astype(np.float32)
        self.convergence.append(
            Batch(
                num_draws=self.trie.num_draws,
                num_nodes=self.trie.num_nodes,
                log_bound=self.log_evidence_bound,
                kept=float(np.mean(weights > -np.inf)),
                log_evidence=_log(np.mean(np.exp(log_weights))),
            )
        )
        return population._replace(log_weights=weights)

    def _weigh(self, log_weights: np.ndarray, envelope: float, uniform: np.ndarray) -> np.ndarray:
        """The final weights of a batch.

        :param log_weights: proper ones, at most `envelope`.
        :param uniform: `[N]`, to accept by.
        """
        raise NotImplementedError

    def _surviving(self) -> np.ndarray:
        if np.isneginf(self.log_weights).all():
            known = self.trie.bound[0]
            why = (
                "the trie has found that no text satisfies the program"
                if known == 0.0
                else f"the satisfying texts have a mass of at most {known:.3g}, as far as is known; run again "
                "(what was learned is kept), or with more particles"
            )
            raise NoSurvivingParticles(f"none of {len(self.log_weights)} draws was kept: {why}")
        return self.log_weights


def latent_sites(model: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> dict[str, int]:
    """The program's random choices, by name, and how many draws each stands for. Nothing is computed."""
    found: dict[str, int] = {}

    def execute() -> tuple:
        with fresh_stack():
            trace = handlers.trace(handlers.seed(model, random.key(0))).get_trace(*args, **kwargs)
        for name, site in trace.items():
            sampled = site["type"] == "sample" and not site["is_observed"]
            subsampled = site["type"] == "plate" and site["args"][0] != site["args"][1]
            if sampled or subsampled or site["type"] == "prng_key":
                found[name] = int(np.prod(np.shape(site["value"]), dtype=np.int64))
        return ()

    jax.eval_shape(execute)
    return found


def _batch(row: list[float]) -> Batch:
    return Batch(int(row[0]), int(row[1]), *row[2:])


def _log(value: Any) -> float:
    return float(np.log(value)) if value > 0 else float("-inf")


__all__ = ["Adaptive", "Batch", "latent_sites"]
