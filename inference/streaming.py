"""A run that is looked at while it goes on."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from sentax.inference import checkpoint
from sentax.inference.engine import Population
from sentax.inference.lanes import effective_sample_size
from sentax.inference.runs import log_evidences
from sentax.inference.sites import SiteNumbers
from sentax.inference.stages import Place, Stages, State, View
from sentax.ppl.constraints.predicate import host_errors


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The particles between two steps.

    Log-weights are those of the program so far: twists are not settled, what comes after is not known. An
    estimate that is read off now is of another target than the final one.

    :param scan: the number of the scan in progress; `step`: how many of its `length` steps are done.
    :param samples: latent and deterministic sites so far, by lineage: `[N, ...]`, of a scan `[N, T, ...]`. Of
        the scan in progress only the first `step` entries along its axis mean something.
    :param log_weights: `[N]`, the evidence so far included.
    :param resampling_steps: of this scan so far, before which the particles were resampled.
    :param checks: constraint checks in this scan so far, over all particles; `tokens`: drawn from a model.
    :param running: whether any particle has something left to do in this scan.
    """

    scan: int
    step: int
    length: int
    samples: dict[str, Any]
    log_weights: Float[np.ndarray, " N"]
    resampling_steps: tuple[int, ...]
    checks: int
    tokens: int
    running: bool
    _texts: dict[str, Any] = dataclasses.field(repr=False)

    def texts(self, site: str) -> list[str]:
        """The particles' texts so far, as of :func:`sentax.generate`.

        :raises KeyError: for a text that the program has not come to yet.
        """
        if site not in self._texts:
            raise KeyError(f"no text {site!r} so far; there are: {', '.join(sorted(self._texts)) or 'none'}")
        return self._texts[site].decode()

    @property
    def log_evidence(self) -> float:
        """Log of the mean weight so far; `-inf` if all have died."""
        return float(log_evidences(self.log_weights, 1)[0])

    @property
    def ess(self) -> float:
        """Effective sample size of the weights so far, between 1 and N; 0 if all have died."""
        return float(effective_sample_size(jax.numpy.asarray(self.log_weights)))


class Stream(Iterator[Snapshot]):
    """An iterator over a run's snapshots; made by `SMC.stream`, which says more.

    :param start: where the run goes on from, if not at its beginning.
    :param finish: called with the results and the seconds spent on compiling and on running.
    """

    def __init__(
        self,
        stages: Stages,
        rng_key: Any,
        args: tuple,
        kwargs: dict[str, Any],
        *,
        every: int,
        identity: checkpoint.Identity,
        start: tuple[Place, State, int] | None,
        finish: Callable[[Population, SiteNumbers, tuple[float, float]], None],
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"every must be an integer of at least 1, got {every!r}")
        self._stages, self._inputs, self._every = stages, (rng_key, args, kwargs), every
        self._identity, self._finish = identity, finish
        self._place: Place | None = None
        self._state: State | None = None
        self._step = 0
        if start is not None:
            self._place, self._state, self._step = start
        # Whether the scan at `place` has steps to come; else the next thing is to leave it.
        self._inside = start is not None
        self._done = False
        self._seconds = 0.0
        self._compiled_before = stages.compile_time

    def __next__(self) -> Snapshot:
        if self._done:
            raise StopIteration
        started = time.perf_counter()
        try:
            with host_errors(), self._identity.watching():
                return self._next()
        finally:
            self._seconds += time.perf_counter() - started
            if self._done and self._population is not None:
                compiling = self._stages.compile_time - self._compiled_before
                self._finish(self._population, self._sites, (compiling, self._seconds - compiling))
                self._population = None

    _population: Population | None = None
    _sites = SiteNumbers()

    def _next(self) -> Snapshot:
        while not self._inside:
            found, place = self._stages.enter(*self._inputs, self._place, self._state)
            if isinstance(found, Population):
                assert isinstance(place, SiteNumbers)
                self._population, self._sites, self._done = jax.block_until_ready(found), place, True
                raise StopIteration
            assert isinstance(place, Place)
            self._place, self._state, self._step, self._inside = place, found, 0, place.length > 0
        assert self._place is not None and self._state is not None
        until = min(self._step + self._every, self._place.length)
        self._state, view = self._stages.advance(*self._inputs, self._place, self._state, until)
        self._step = until
        self._inside = until < self._place.length and bool(view.running)
        return _snapshot(self._place, view)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the run's state to disk, for :meth:`SMC.resume`; a file that is there is replaced at once.

        :raises RuntimeError: before the first snapshot, or after the last: then there is nothing to resume.
        :raises UnsupportedProgram: if the model closes over a constraint that lives in Python: what that has
            met must be saved too, so it has to be an argument.
        """
        if self._done or self._place is None or self._state is None:
            raise RuntimeError("nothing to save: the run has not begun, or is complete")
        checkpoint.save(path, self._identity, self._stages, self._inputs, self._place, self._state, self._step)

    def exhaust(self, path: str | os.PathLike[str] | None = None) -> None:
        """Runs to the end, saving the state at every snapshot if a path is given."""
        for _ in self:
            if path is not None:
                self.save(path)


def _snapshot(place: Place, view: View) -> Snapshot:
    return Snapshot(
        scan=place.stage,
        step=int(view.t),
        length=place.length,
        samples=view.samples,
        log_weights=np.asarray(view.log_weights),
        resampling_steps=tuple(np.flatnonzero(view.resampled).tolist()),
        checks=int(np.asarray(view.checks, np.int64).sum()),
        tokens=int(np.asarray(view.tokens, np.int64).sum()),
        running=bool(view.running) and int(view.t) < place.length,
        _texts=view.texts,
    )


__all__ = ["Snapshot", "Stream"]
