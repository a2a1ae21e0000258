"""Sequential Monte Carlo: the front of the engine."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from sentax.inference import checkpoint as checkpoints
from sentax.inference.control import Control, Schedule, as_schedule, steps_of
from sentax.inference.engine import Population, run_particles
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.base import Kernel
from sentax.inference.resampling import Resampler, systematic
from sentax.inference.runs import log_evidences, pool, run_keys
from sentax.inference.sampler import Sampler, as_key, without_tables
from sentax.inference.sites import SiteNumbers
from sentax.inference.stages import Stages
from sentax.inference.streaming import Stream
from sentax.inference.suffix_moves import SuffixMoves


class SMC(Sampler):
    r"""Sequential Monte Carlo over a NumPyro program.

    Each particle runs the program: latent sites are drawn from their prior (inside scans, those of
    finite support by the kernel), factors multiply its weight. Before a step of a scan the particles are
    resampled if their effective sample size is under `ess_threshold * num_particles`. With a proper kernel

    .. math:: E[\hat Z] = Z = \int \prod_{\text{sites}} p \prod_{\text{factors}} \phi,

    for every number of particles, and weighted averages converge to the posterior's as it grows
    (Del Moral 2004; Naesseth et al. 2019). The target is the density that
    :func:`numpyro.infer.util.log_density` gives; a latent site under `handlers.mask` keeps its prior.
    None of the options below changes it.

    **Tempering.** With :math:`L` the sum of a particle's finite log-factors so far (data and scores; twists and
    what is `-inf` or 0 do not count) particles are resampled in proportion to :math:`w e^{-(1 - \beta_t) L}`
    and weighed by :math:`e^{(1 - \beta_t) L}` afterwards: for the choice of who goes on, the factors have the
    power :math:`\beta_t`. It helps where early scores mislead. A hard factor is tempered by the program:
    state it once, at the end, and discourage what breaks it on the way, by a twist, which is settled::

        sx.twist("soft", jnp.where(state_is_good, 0.0, -2.0))  # in the scan
        sx.constrain("hard", state_is_good)  # after it

    :param kernel: a model in its kernel: `AWRS(model)`, `LocallyConstrained(model)`, `Prior(model)`.
    :param num_particles: N, at least 1.
    :param ess_threshold: between 0 (never resample: importance sampling) and 1 (whenever weights differ); or
        one such number a step (the last holds on), or a traceable function of the step. Steps are counted
        from 0 over all scans of the program. By default 0.5; with a fixed schedule, 1.
    :param resampling: `systematic` (default), `stratified`, `multinomial`, `residual`, or any
        function `(rng_key, log_weights) -> ancestors` with their law.
    :param resample_every: only before steps whose number is a multiple of it.
    :param resample_steps: only before these steps.
    :param resample_at: the name of a :func:`sentax.unit`. Only particles at the end of one are resampled, among
        themselves, when their effective sample size is low for their number; the total weight of those
        that are resampled is theirs before and after. Particles that have died or whose text has ended count
        as being there, and so do all before a scan's first step.
    :param tempering: :math:`\beta_t` between 0 and 1: a number, one a step, or a traceable function of the
        step.
    :param num_runs: R independent runs, vectorised in one program. Their R * N particles are the results,
        weighed so that `logsumexp(log_weights) - log(R * N) == log_evidence`. Run `r` is the one that
        `run(random.split(rng_key, num_runs)[r], ...)` gives with one run.
    :param rejuvenate: moves that particles make on their own texts in between, against the poverty that
        resampling leaves: see :class:`~sentax.inference.suffix_moves.SuffixMoves`.
    :param progress_bar: shows the steps on standard error while running.
    :raises ValueError: for a number out of range.

    >>> import jax, numpyro, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     sx.generate("text", context, max_tokens=4, where=sx.regex("(ab)*"))
    >>> smc = SMC(sx.AWRS(model), num_particles=64)
    >>> smc.run(jax.random.key(0), lm.prompt())
    >>> sorted(smc.posterior("text"))
    ['', 'ab', 'abab']
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        num_particles: int = 32,
        ess_threshold: float | Sequence[float] | Schedule | None = None,
        resampling: Resampler = systematic,
        resample_every: int | None = None,
        resample_steps: Sequence[int] | None = None,
        resample_at: str | None = None,
        tempering: float | Sequence[float] | Schedule | None = None,
        num_runs: int = 1,
        rejuvenate: SuffixMoves | None = None,
        progress_bar: bool = False,
    ) -> None:
        super().__init__(kernel, num_particles=num_particles, progress_bar=progress_bar)
        if not callable(resampling):
            raise TypeError(
                f"resampling must be a function (rng_key, log_weights) -> ancestors, got {resampling!r}"
            )
        if isinstance(num_runs, bool) or not isinstance(num_runs, int) or num_runs < 1:
            raise ValueError(f"num_runs must be an integer of at least 1, got {num_runs!r}")
        if resample_at is not None and not isinstance(resample_at, str):
            raise TypeError(f"resample_at must be the name of a sentax.unit, got {resample_at!r}")
        self.resampling = resampling
        self._at = steps_of(resample_every, resample_steps)
        if ess_threshold is None:
            ess_threshold = 0.5 if self._at is None else 1.0
        self.ess_threshold = as_schedule("ess_threshold", ess_threshold)
        self.resample_at = resample_at
        self.tempering = None if tempering is None else as_schedule("tempering", tempering)
        self.num_runs = num_runs
        self.rejuvenate = rejuvenate
        self._stages: Stages | None = None

    @property
    def _control(self) -> Control:
        beta = self.tempering
        return Control(
            self.ess_threshold,
            self.resampling,
            at=self._at,
            unit=self.resample_at,
            tempering=beta if beta is None or callable(beta) else lambda step: beta,
        )

    @property
    def _config(self) -> FilterConfig:
        return dataclasses.replace(super()._config, rejuvenate=self.rejuvenate)

    def _keys(self, rng_key: Any) -> tuple[Any, Any]:
        return run_keys(rng_key, self.num_runs)

    def _particles(self, rng_key: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Population, SiteNumbers]:
        numbers = SiteNumbers()

        def run(key: Any) -> Population:
            return run_particles(self.kernel, self._config, numbers, key, args, kwargs)

        return (run(rng_key) if self.num_runs == 1 else pool(jax.vmap(run)(rng_key))), numbers

    def run(
        self,
        rng_key: Any,
        *args: Any,
        checkpoint: str | os.PathLike[str] | None = None,
        every: int = 16,
        **kwargs: Any,
    ) -> None:
        """Runs the program and keeps the results; see :meth:`Sampler.run`.

        With a `checkpoint` the run can be stopped at any time, by whatever, and run again with the same
        arguments: it goes on from its last state on disk, and its results are bit for bit what they would
        have been.

        :param checkpoint: a file for the state of the unfinished run, written every `every` steps of a scan.
        :raises CheckpointError: if the file is there and of another run.
        """
        if checkpoint is None:
            super().run(rng_key, *args, **kwargs)
            return
        path = pathlib.Path(checkpoint)
        saved = checkpoints.load(path) if path.exists() else None
        self._stream(rng_key, args, kwargs, every, path, saved).exhaust(path)

    def stream(self, rng_key: Any, *args: Any, every: int = 1, **kwargs: Any) -> Stream:
        """Runs the program step by step: an iterator of what the particles are in between.

        When it is exhausted, the sampler has the results that :meth:`run` with this key leaves. Between two
        snapshots `stream.save(path)` writes the state of the run for :meth:`resume`.

        :param every: steps between snapshots, at least 1; there is one at each scan's end too.

        >>> import jax, sentax as sx
        >>> lm = sx.TableLM.uniform([b"a"])
        >>> def model(context):
        ...     sx.generate("text", context, max_tokens=4, where=sx.regex("aaa"))
        >>> smc = SMC(sx.AWRS(model), num_particles=2)
        >>> for snapshot in smc.stream(jax.random.key(0), lm.prompt()):
        ...     print(snapshot.step, snapshot.texts("text"))
        1 ['a', 'a']
        2 ['aa', 'aa']
        3 ['aaa', 'aaa']
        4 ['aaa', 'aaa']
        >>> smc.posterior("text")
        {'aaa': 1.0}
        """
        return self._stream(rng_key, args, kwargs, every)

    def resume(self, path: str | os.PathLike[str], *args: Any, every: int | None = None, **kwargs: Any) -> None:
        """Finishes a run from its state on disk, with the key that it was begun with, and keeps the results.

        :param args: the model's arguments, equal to those of the run that is resumed.
        :param every: write the state every so many steps, to the same file; None: no more.
        :raises CheckpointError: if the file is no checkpoint, or is one of another run.
        """
        saved = checkpoints.load(path)
        stream = self._stream(saved.rng_key, args, kwargs, every or 1 << 30, path, saved)
        stream.exhaust(None if every is None else path)

    def _stream(
        self,
        rng_key: Any,
        args: tuple,
        kwargs: dict[str, Any],
        every: int,
        path: Any = None,
        saved: checkpoints.Saved | None = None,
    ) -> Stream:
        self._population = None
        self._place((args, kwargs))
        if self._mesh is not None:
            raise NotImplementedError("streams and checkpoints are for one device: use run on a mesh")
        if self._stages is None:
            self._stages = Stages(self.kernel, lambda: self._config, self.num_runs)
        rng_key = as_key(rng_key)
        key_run, key_results = self._keys(rng_key)
        identity = checkpoints.Identity(self.kernel.model, rng_key, args, kwargs)
        start = None
        if saved is not None:
            start = checkpoints.restore(path, saved, identity, self._stages, (key_run, args, kwargs))

        def finish(population: Population, sites: SiteNumbers, times: tuple[float, float]) -> None:
            self._keep(without_tables(population), sites, key_results, times)

        return Stream(
            self._stages, key_run, args, kwargs, every=every, identity=identity, start=start, finish=finish
        )

    @property
    def run_log_evidences(self) -> Float[np.ndarray, " R"]:
        """The log-evidence of each of the `num_runs` runs; their means' log is :attr:`log_evidence`."""
        return log_evidences(self.log_weights, self.num_runs)


__all__ = ["SMC"]
