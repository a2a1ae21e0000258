"""Running cells: a domain, a model and the compiled samplers, made once in each process."""

from __future__ import annotations

import functools
import pickle
import platform
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
import numpyro

from sentax.domains.base import Domain, Instance
from sentax.evaluation.cell import Answer, Failure, Figures, Record, Times, cell_key
from sentax.evaluation.settings import ConstraintChoice, MethodSettings, Settings
from sentax.evaluation.specs import make_domain, make_model
from sentax.inference.adaptive import Adaptive
from sentax.ppl.constraints.base import Constraint

SITE = "answer"
"""The text of :meth:`Domain.program`."""


class Runner:
    """Runs the cells of an evaluation, one after another.

    The sampler of a method is made once and gets every instance's context and constraint as arguments, so
    that instances of similar size share one compiled program. A constraint is made anew for every cell: what
    its memory has learned would make later cells cheaper.

    :param domain: the settings' domain, if it is there already.
    """

    def __init__(self, settings: Settings, domain: Domain[Any] | None = None) -> None:
        self.settings = settings
        self.domain = make_domain(settings.domain) if domain is None else domain
        self.lm = make_model(settings.model)
        self._samplers: dict[MethodSettings, Any] = {}
        # There is one device, and a sampler holds one run's results: threads take turns.
        self._lock = threading.Lock()

    def run(self, method: MethodSettings, instance: Instance, replicate: int) -> Record:
        """One cell. An exception in it becomes its failure."""
        figures, failure, times = None, None, Times()
        stages = _Stages(times)
        with self._lock:
            try:
                figures = self._figures(method, instance, replicate, times, stages)
            except Exception as error:
                text = "".join(traceback.format_exception(error))
                failure = Failure(stages.current, type(error).__name__, str(error), text)
        return Record(
            domain=self.domain.name,
            method=method.name,
            instance=instance.id,
            replicate=replicate,
            seed=self.settings.seed,
            figures=figures,
            failure=failure,
            times=times,
            versions=versions(),
        )

    def _figures(
        self, method: MethodSettings, instance: Instance, replicate: int, times: Times, stages: _Stages
    ) -> Figures:
        with stages("prompt"):
            asked = self.domain.chat(instance) if self.settings.chat else self.domain.prompt(instance)
            context = jax.block_until_ready(self.lm.prompt(asked))
        with stages("constraint"):
            where = self._constraint(instance) if method.constrained else None
        with stages("run"):
            sampler = self._sampler(method)
            if isinstance(sampler, Adaptive):
                sampler.forget()  # or an instance's result would depend on those before it
            sampler.run(cell_key(self.settings.seed, method.name, instance.id, replicate), context, where)
            diagnostics = sampler.diagnostics
        # The sampler knows its own: without tracing, compiling and reading the diagnostics.
        times.compile, times.run = diagnostics.compile_time, diagnostics.run_time
        population = sampler.population
        alive = np.isfinite(sampler.log_weights)
        with stages("score"):
            posterior = sampler.posterior(SITE) if alive.any() else {}
            answers = tuple(Answer(y, p, float(self.domain.score(instance, y))) for y, p in posterior.items())
            for answer in answers:
                if not 0 <= answer.score <= 1:
                    raise ValueError(f"the score of {answer.text!r} is {answer.score}, not between 0 and 1")
        return Figures(
            posterior=answers,
            accuracy=sum((answer.probability * answer.score for answer in answers), 0.0),
            log_evidence=float(sampler.log_evidence) if sampler.is_proper and alive.any() else None,
            ess=float(sampler.ess),
            particles=len(alive),
            dead=int((~alive).sum()),
            # Without a constraint a check is of the text's own end, which every method has.
            checks=diagnostics.checks if method.constrained else 0,
            lm_tokens=diagnostics.tokens,
            emitted_tokens=int(np.asarray(population.texts[SITE].length)[alive].sum()),
        )

    def _sampler(self, method: MethodSettings) -> Any:
        if method not in self._samplers:
            self._samplers[method] = method.sampler(self.domain.program(chat=self.settings.chat))
        return self._samplers[method]

    def _constraint(self, instance: Instance) -> Constraint:
        choice = self.settings.constraint
        if choice is ConstraintChoice.cheap:
            return self.domain.cheap(instance)
        if choice is ConstraintChoice.dear:
            return self.domain.dear(instance)
        return self.domain.cheap(instance) & self.domain.dear(instance)


class _Stages:
    """Times what is done, and knows what it is when something goes wrong."""

    def __init__(self, times: Times) -> None:
        self.times = times
        self.current = ""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self.current = stage
        started = time.perf_counter()
        try:
            yield
        finally:
            setattr(self.times, stage, time.perf_counter() - started)


class Task(NamedTuple):
    """A cell as it goes to another process.

    :param instance: pickled: its class can only be imported once the domain is there.
    """

    settings: Settings
    method: MethodSettings
    instance: bytes
    replicate: int


def run_task(task: Task) -> Record:
    """Runs a cell in a worker, which makes the domain and the model of the first one and keeps them.

    :raises Exception: what making them raises: that is no failure of the cell.
    """
    with _making:
        runner = _runner(task.settings)
    return runner.run(task.method, pickle.loads(task.instance), task.replicate)


_making = threading.Lock()


@functools.lru_cache(1)  # a second model might not fit on the device
def _runner(settings: Settings) -> Runner:
    return Runner(settings)


@functools.cache
def versions() -> dict[str, str]:
    """What a result may depend on that no setting says."""
    import sentax

    return {
        "sentax": sentax.__version__,
        "jax": jax.__version__,
        "numpyro": numpyro.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }


__all__ = ["SITE", "Runner", "Task", "run_task", "versions"]
