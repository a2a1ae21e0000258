"""Results for other tools."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_arviz(results: Any) -> Any:
    """The results as an `xarray.DataTree` of the form that ArviZ (1.0 and later) works on.

    * `posterior`: the sites, N equally weighted draws of one chain (`get_samples`), so that every plot and
      summary of ArviZ holds for them; a text is a string, its token ids are `<name>_tokens`.
    * `sample_stats`: what each of those draws was copied from, by `particle`.
    * `particles`: the same sites as the run left them, with `log_weight`; `draw` counts particles.
    * `steps`: by `scan` and `step`, `ess`, `resampled`, `unique_ancestors`, `log_normaliser`; NaN (or -1)
      where a step was not run.

    The tree's attributes have `log_evidence`, its standard error where there is one, and the method's name.

    :raises ImportError: without `arviz-base`: install `sentax[arviz]`.
    :raises NoSurvivingParticles: if every particle died.
    """
    try:
        import arviz_base
    except ImportError as error:
        raise ImportError("to_arviz needs arviz-base: pip install 'sentax[arviz]'") from error
    from sentax import __version__

    chosen = np.asarray(results.chosen)
    values, texts = _sites(results)
    particles = values | texts | {"log_weight": results.log_weights}
    chain = {
        "posterior": {name: value[None, chosen] for name, value in (values | texts).items()},
        "sample_stats": {"particle": chosen[None]},
        "particles": {name: value[None] for name, value in particles.items()},
    }
    tree = arviz_base.from_dict(
        chain,
        attrs={
            "/": _attributes(results)
            | {"inference_library": "sentax", "inference_library_version": __version__}
        },
    )
    return tree.assign({"steps": _steps(results)})


def _sites(results: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    population = results.population
    values = {
        f"{name}_tokens" if name in population.texts else name: np.asarray(value)
        for name, value in population.samples.items()
    }
    return values, {name: np.array(results.texts(name), dtype=str) for name in population.texts}


def _attributes(results: Any) -> dict[str, Any]:
    diagnostics = results.diagnostics
    attributes = {
        "method": type(results).__name__,
        "log_evidence": results.log_evidence,
        "sampling_time": diagnostics.run_time,
    }
    if diagnostics.evidence_error.std is not None:
        attributes["log_evidence_se"] = diagnostics.evidence_error.std
    return attributes


def _steps(results: Any) -> Any:
    """Traces of unequal lengths, filled up."""
    import xarray

    diagnostics = results.diagnostics
    S, T = len(diagnostics.steps), max(diagnostics.steps, default=0)

    def table(traces: Any, fill: float) -> Any:
        out = np.full((S, T), fill)
        for row, trace in zip(out, traces):
            row[: len(trace)] = trace
        return ("scan", "step"), out

    resampled = np.zeros((S, T), bool)
    for row, times in zip(resampled, diagnostics.resampling_steps):
        row[list(times)] = True
    return xarray.DataTree(
        xarray.Dataset(
            {
                "ess": table(diagnostics.ess_trace, np.nan),
                "resampled": (("scan", "step"), resampled),
                "unique_ancestors": table(diagnostics.unique_ancestors, -1),
                "log_normaliser": table(diagnostics.log_normalisers, np.nan),
            },
            coords={"scan": np.arange(S), "step": np.arange(T)},
        )
    )


__all__ = ["to_arviz"]
