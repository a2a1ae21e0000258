"""Results as text, in NumPyro's manner."""

from __future__ import annotations

from typing import Any

import numpy as np


def format_summary(smc: Any, *, top: int) -> str:
    """The posterior of every site, the evidence and the run's figures."""
    population, diagnostics = smc.population, smc.diagnostics
    lines: list[str] = []
    if top > 0 and diagnostics.dead < diagnostics.num_particles:
        for name in population.texts:
            lines += _table(name, smc.posterior(name), top, show=repr)
        weights = smc._probabilities()
        for name, values in population.samples.items():
            values = np.asarray(values)
            if name in population.texts:
                continue
            if values.ndim == 1 and (np.issubdtype(values.dtype, np.integer) or values.dtype == bool):
                lines += _table(name, smc.posterior(name), top, show=str)
            elif np.issubdtype(values.dtype, np.number):
                lines += _moments(name, values.astype(np.float64), weights)
    lines += [
        f"log evidence    {smc.log_evidence:.4f}",
        f"ESS             {smc.ess:.1f} of {diagnostics.num_particles} particles "
        f"({diagnostics.dead} dead, {diagnostics.surviving_lineages} lineages survive)",
        f"resampled       {sum(map(len, diagnostics.resampling_steps))} times "
        f"in {sum(diagnostics.steps)} steps",
        *(f"drawn           {name}: {method}" for name, method in diagnostics.methods.items()),
        f"checks / token  {diagnostics.checks_per_token:.2f}  ({diagnostics.checks} / {diagnostics.tokens})",
        f"time            {diagnostics.compile_time:.2f} s to compile, {diagnostics.run_time:.3f} s to run",
    ]
    return "\n".join(lines)


def _table(name: str, posterior: dict[Any, float], top: int, show: Any) -> list[str]:
    shown = list(posterior.items())[:top]
    width = max(len(show(key)) for key, _ in shown)
    lines = [name] + [f"  {show(key):<{width}}  {p:.4f}" for key, p in shown]
    if len(posterior) > top:
        lines.append(f"  ... {len(posterior) - top} more")
    return [*lines, ""]


def _moments(name: str, values: np.ndarray, weights: np.ndarray) -> list[str]:
    flat = values.reshape(len(values), -1)
    lines = [f"{name:<24}{'mean':>10}{'std':>10}{'5%':>10}{'95%':>10}"]
    for i, column in enumerate(flat.T[:20]):
        mean = weights @ column
        std = np.sqrt(max(weights @ (column - mean) ** 2, 0.0))
        order = np.argsort(column)
        cumulative = np.cumsum(weights[order])
        low, high = (
            column[order][min(np.searchsorted(cumulative, q * cumulative[-1]), len(column) - 1)]
            for q in (0.05, 0.95)
        )
        label = "" if values.ndim == 1 else "".join(f"[{j}]" for j in np.unravel_index(i, values.shape[1:]))
        lines.append(f"  {label:<22}{mean:>10.3f}{std:>10.3f}{low:>10.3f}{high:>10.3f}")
    if flat.shape[1] > 20:
        lines.append(f"  ... {flat.shape[1] - 20} more")
    return [*lines, ""]
