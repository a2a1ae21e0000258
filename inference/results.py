"""What a finished run leaves: weighted particles of a program, and what can be read off them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sentax.inference.diagnostics import Diagnostics, deaths, diagnose
from sentax.inference.divergences import Divergences, divergences
from sentax.inference.engine import Population
from sentax.inference.errors import InvalidWeight, NoSurvivingParticles
from sentax.inference.evidence import EvidenceError, error_between_runs, log_mean_exp
from sentax.inference.lanes import effective_sample_size
from sentax.inference.lineage import Lineage, lineage_of
from sentax.inference.lineage_html import LineageExplorer
from sentax.inference.resampling import Resampler, multinomial, systematic
from sentax.inference.sites import SiteNumbers
from sentax.inference.summary import format_html, format_summary


class Results:
    """The results of a sampler, kept by it as `numpyro.infer.MCMC` keeps its own.

    Every sampler of sentax is one: they differ in how the particles came about, and in what their
    weights mean (see :attr:`is_proper`).
    """

    is_proper: bool = True
    """Whether weighted sums over the particles are unbiased for the program's unnormalised posterior."""

    resampling: Resampler = staticmethod(systematic)
    _population: Population | None = None
    _sites: SiteNumbers = SiteNumbers()
    _rng_key: Any = None
    _times: tuple[float, float] = (0.0, 0.0)

    def _keep(
        self,
        population: Population,
        sites: SiteNumbers,
        rng_key: Any,
        times: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Takes a population for this sampler's results, after a look at what must not be in one.

        :param rng_key: for :meth:`get_samples`; `times`: seconds to compile and to run.
        """
        self._population = None
        self._sites, self._rng_key, self._times = sites, rng_key, times
        for message, ok in population.required.items():
            if not np.all(ok):
                raise ValueError(message)
        invalid = np.asarray(population.weight.invalid)
        if (invalid >= 0).any():
            name = sites.names[int(invalid[invalid >= 0][0])]
            raise InvalidWeight(
                f"factor {name!r} was NaN or +inf in {int((invalid >= 0).sum())} of "
                f"{invalid.size} particles; "
                "a log-factor must be finite or -inf"
            )
        self._population = population

    @property
    def population(self) -> Population:
        """Everything the run left, unprocessed."""
        if self._population is None:
            raise RuntimeError("no results yet: call run(rng_key, ...) first")
        return self._population

    @property
    def log_weights(self) -> np.ndarray:
        """`[N]` log-weights; `logsumexp(log_weights) - log N == log_evidence`."""
        return np.asarray(self.population.log_weights)

    @property
    def log_evidence(self) -> float:
        """Log of an unbiased estimate of the program's normalising constant; `-inf` if all died."""
        return log_mean_exp(self.log_weights)

    @property
    def run_log_evidences(self) -> np.ndarray:
        """`[R]`, of independent runs: one, but for samplers that make several."""
        return np.array([self.log_evidence])

    @property
    def log_evidence_se(self) -> float | None:
        """Standard error of :attr:`log_evidence`: between runs where there are several, else from the run's
        genealogy (see :mod:`~sentax.inference.evidence`); None where it cannot be told."""
        return self.diagnostics.evidence_error.std

    @property
    def ess(self) -> float:
        """Effective sample size of the final weights, between 1 and N; 0 if all died."""
        return float(effective_sample_size(self.population.log_weights))

    @property
    def ancestors(self) -> tuple[np.ndarray, ...]:
        """For each scan `[T, N]`: the particle that each was copied from before each step."""
        return tuple(np.asarray(a).T for a in self.population.ancestors)

    @property
    def diagnostics(self) -> Diagnostics:
        """What the run cost and how the particles fared."""
        error = None
        if not self.is_proper:
            error = EvidenceError(None, "none: this method's weights are biased")
        elif len(self.run_log_evidences) > 1:
            error = error_between_runs(self.run_log_evidences)
        independent = self.resampling is multinomial
        return diagnose(
            self.population, self._sites, *self._times, multinomial=independent, evidence_error=error
        )

    @property
    def lineage(self) -> Lineage:
        """Who came from whom, with what text and weight, and what ended it."""
        return lineage_of(self.population, self._sites.names)

    def get_weighted_samples(self) -> tuple[dict[str, Any], np.ndarray]:
        """Sites with a leading particle axis (`[N, T, ...]` inside a scan), and log-weights `[N]`."""
        return dict(self.population.samples), self.log_weights

    def get_samples(self) -> dict[str, Any]:
        """N equally weighted samples of every site, by resampling with the run's own key.

        :raises NoSurvivingParticles: if every particle died.
        """
        chosen = self.chosen
        return jax.tree.map(lambda leaf: leaf[chosen], dict(self.population.samples))

    @property
    def chosen(self) -> jax.Array:
        """`[N]`, the particles that :meth:`get_samples` copies."""
        return jnp.asarray(self.resampling(self._rng_key, jnp.asarray(self._surviving())))

    def posterior(self, site: str) -> dict[Any, float]:
        """Posterior probabilities of the values of a text or of a discrete site, most probable first.

        :param site: a name given to :func:`sentax.generate` (keys are strings), or a discrete site.
        :raises NoSurvivingParticles: if every particle died.
        :raises KeyError: for a site the program does not have.
        """
        weights = self._probabilities()
        population = self.population
        keys: list[Any]
        if site in population.texts:
            keys = population.texts[site].decode()
        elif site in population.samples:
            values = np.asarray(population.samples[site])
            if not (np.issubdtype(values.dtype, np.integer) or values.dtype == bool):
                raise ValueError(f"site {site!r} is continuous: use get_weighted_samples() and average")
            keys = [v.item() if v.ndim == 0 else tuple(v.ravel().tolist()) for v in values]
        else:
            known = ", ".join(sorted({*population.texts, *population.samples}))
            raise KeyError(f"no site {site!r}; the program has: {known}")
        table: dict[Any, float] = {}
        for key, weight in zip(keys, weights, strict=True):
            if weight > 0:
                table[key] = table.get(key, 0.0) + float(weight)
        return dict(sorted(table.items(), key=lambda item: -item[1]))

    def texts(self, site: str) -> list[str]:
        """The N particles' texts, decoded, in the order of :attr:`log_weights`."""
        return self.population.texts[site].decode()

    def divergences(self, site: str, reference: Mapping[Any, float]) -> Divergences:
        """How far the posterior of a site is from an exact one.

        :param reference: value -> probability, of values as :meth:`posterior` gives them; it need not be
            normalised.
        """
        return divergences(self.posterior(site), reference)

    def to_arviz(self) -> Any:
        """An `xarray.DataTree` for ArviZ: see :func:`sentax.inference.export.to_arviz`."""
        from sentax.inference.export import to_arviz

        return to_arviz(self)

    def explorer(self) -> LineageExplorer:
        """Every particle's text as it grew, in one HTML page: shown by a notebook, or saved to a file."""
        return LineageExplorer(self.lineage, title=type(self).__name__)

    def plot_lineage(self) -> Any:
        """See :func:`sentax.inference.plots.plot_lineage`."""
        from sentax.inference.plots import plot_lineage

        return plot_lineage(self)

    def plot_weights(self) -> Any:
        """See :func:`sentax.inference.plots.plot_weights`."""
        from sentax.inference.plots import plot_weights

        return plot_weights(self)

    def plot_trace(self) -> Any:
        """See :func:`sentax.inference.plots.plot_trace`."""
        from sentax.inference.plots import plot_trace

        return plot_trace(self)

    def _repr_html_(self) -> str | None:
        return None if self._population is None else format_html(self)

    def print_summary(self, *, top: int = 10) -> None:
        """Prints the posterior of every site (`top` values; 0: none), the evidence and the diagnostics."""
        print(format_summary(self, top=top))

    def _surviving(self) -> np.ndarray:
        log_weights = self.log_weights
        if np.isneginf(log_weights).all():
            raise NoSurvivingParticles(deaths(self.population, self._sites.names))
        return log_weights

    def _probabilities(self) -> np.ndarray:
        log_weights = self._surviving().astype(np.float64)
        weights = np.exp(log_weights - log_weights.max())
        return weights / weights.sum()


__all__ = ["Results"]
