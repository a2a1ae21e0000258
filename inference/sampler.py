"""What samplers have in common: a kernel around a program, compiled once, and the results of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax import random
from jax.sharding import Mesh

from sentax.inference.control import Control
from sentax.inference.engine import Population, run_particles
from sentax.inference.executable import Executable
from sentax.inference.filter import FilterConfig
from sentax.inference.kernels.base import Kernel
from sentax.inference.lanes import PARTICLES, mesh_of
from sentax.inference.progress import Progress
from sentax.inference.resampling import systematic
from sentax.inference.results import Results
from sentax.inference.sites import SiteNumbers
from sentax.ppl.constraints.predicate import host_errors


class Sampler(Results):
    """Runs particles of a program, and keeps what they leave.

    A subclass says how in :meth:`_particles`, a pure function that is compiled once for all contents of a
    similar size; by default every particle is independent (importance sampling).

    :param kernel: a model in its kernel: `AWRS(model)`, `LocallyConstrained(model)`, `Prior(model)`.
    :param num_particles: N, at least 1.
    :param progress_bar: shows the steps on standard error while running.
    :raises ValueError: for a number of particles out of range.
    """

    def __init__(self, kernel: Kernel, *, num_particles: int = 32, progress_bar: bool = False) -> None:
        if not isinstance(kernel, Kernel):
            raise TypeError(
                f"{type(self).__name__} runs a kernel around a model, such as "
                f"{type(self).__name__}(AWRS(model)); got {type(kernel).__name__}"
            )
        if isinstance(num_particles, bool) or not isinstance(num_particles, int) or num_particles < 1:
            raise ValueError(f"num_particles must be an integer of at least 1, got {num_particles!r}")
        self.kernel = kernel
        self.num_particles = num_particles
        self.progress = Progress() if progress_bar else None
        self._executable = Executable(self._compact)
        self._mesh: Mesh | None = None

    @property
    def _control(self) -> Control:
        return Control(0.0, systematic)

    @property
    def _config(self) -> FilterConfig:
        step = self.progress.step if self.progress else None
        return FilterConfig(self.num_particles, self._control, step, self._mesh)

    def _keys(self, rng_key: Any) -> tuple[Any, Any]:
        """The key that :meth:`_particles` gets, and that of the results."""
        key_run, key_results = random.split(rng_key)
        return key_run, key_results

    def _particles(self, rng_key: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Population, SiteNumbers]:
        numbers = SiteNumbers()
        return run_particles(self.kernel, self._config, numbers, rng_key, args, kwargs), numbers

    def _compact(self, *inputs: Any) -> tuple[Population, SiteNumbers]:
        population, numbers = self._particles(*inputs)
        return without_tables(population), numbers

    def run(self, rng_key: Any, *args: Any, **kwargs: Any) -> None:
        """Runs the program and keeps the results.

        Arrays in the arguments may change from run to run without recompilation as long as their
        shapes do not; other arguments are static.

        :param rng_key: `jax.random.key(seed)`; the same key gives the same results.
        :raises PredicateError: if a Python predicate raised or returned no bool.
        :raises ValueError: if a prompt leaves no room for `max_tokens` in the model's context window.
        :raises InvalidWeight: if a factor was NaN or +inf.
        :raises UnsupportedProgram: for what the engine cannot run; the message says what to do.
        """
        self._population = None
        self._place((args, kwargs))
        key_run, key_results = self._keys(as_key(rng_key))
        started = time.perf_counter()
        with host_errors(), self.progress or contextlib.nullcontext():
            population, sites = self._executable(key_run, args, kwargs)
            population = jax.block_until_ready(population)
        compile_time = self._executable.compile_time
        self._keep(population, sites, key_results, (compile_time, time.perf_counter() - started - compile_time))

    def _place(self, inputs: Any) -> None:
        """Finds the mesh that the inputs live on."""
        self._mesh = mesh_of(inputs)
        if self._mesh is not None and self.num_particles % self._mesh.shape[PARTICLES]:
            raise ValueError(
                f"num_particles={self.num_particles} is not a multiple of the {self._mesh.shape[PARTICLES]} "
                "devices along the mesh's particle axis"
            )


def without_tables(population: Population) -> Population:
    """Without the byte table of the vocabulary, which each particle's texts bring along.

    On the host a vocabulary knows its bytes without; on the device there would be N copies.
    """
    texts = {
        name: dataclasses.replace(text, vocabulary=jax.tree.map(lambda x: x[..., :0, :], text.vocabulary))
        for name, text in population.texts.items()
    }
    return population._replace(texts=texts)


def as_key(rng_key: Any) -> jax.Array:
    """A typed key, of one or of the two integers of an old one."""
    if isinstance(rng_key, jax.Array) and jnp.issubdtype(rng_key.dtype, jax.dtypes.prng_key):
        return rng_key
    return random.wrap_key_data(jnp.asarray(rng_key, jnp.uint32))


__all__ = ["Sampler", "as_key", "without_tables"]
