"""Results as text, in NumPyro's manner, and as a table for notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentax.inference.diagnostics import Diagnostics
from sentax.inference.pareto import ParetoShape

_MOST_ELEMENTS = 20


def format_summary(results: Any, *, top: int) -> str:
    """The posterior of every site, the evidence and the run's figures."""
    diagnostics = results.diagnostics
    lines: list[str] = []
    if top > 0 and diagnostics.dead < diagnostics.num_particles:
        for name, table in _tables(results):
            lines += _format_table(name, table, top)
        for name, rows, left_out in _moments(results):
            lines.append(f"{name:<24}" + "".join(f"{head:>10}" for head in _HEADS))
            lines += [f"  {label:<22}" + "".join(f"{v:>10.3f}" for v in row) for label, row in rows]
            lines += [f"  ... {left_out} more", ""] if left_out else [""]
    lines += [f"{label:<16}{figure}" for label, figure in run_figures(results)]
    return "\n".join(lines)


def format_html(results: Any, *, top: int = 10) -> str:
    """The same for a notebook: one table a site, and the run's figures."""
    diagnostics = results.diagnostics
    parts = []
    if diagnostics.dead < diagnostics.num_particles:
        for name, table in _tables(results):
            shown = list(table.items())[:top]
            rows: list[tuple[str, ...]] = [
                (f"<code>{html.escape(_show(key))}</code>", _bar(p)) for key, p in shown
            ]
            if len(table) > top:
                rows.append((f"{len(table) - top} more", ""))
            parts.append(_html_table((html.escape(name), "probability"), rows))
        for name, moments, left_out in _moments(results):
            rows = [(html.escape(label), *(f"{v:.3f}" for v in row)) for label, row in moments]
            if left_out:
                rows.append((f"{left_out} more",))
            parts.append(_html_table((html.escape(name), *_HEADS), rows))
    figures = [(html.escape(label), html.escape(figure)) for label, figure in run_figures(results)]
    parts.append(_html_table((html.escape(type(results).__name__), ""), figures))
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">' + "".join(parts) + "</div>"
    )


def run_figures(results: Any) -> list[tuple[str, str]]:
    """A run's figures as they are printed: labels and values."""
    d: Diagnostics = results.diagnostics
    error = d.evidence_error
    spread = f" +- {error.std:.4f} ({error.source})" if error.std is not None else f" (error: {error.source})"
    figures = [
        ("log evidence", f"{results.log_evidence:.4f}{spread}"),
        (
            "ESS",
            f"{results.ess:.1f} of {d.num_particles} particles "
            f"({d.dead} dead, {d.surviving_lineages} {_plural(d.surviving_lineages, 'lineage')} "
            f"{'survives' if d.surviving_lineages == 1 else 'survive'})",
        ),
        ("weights", f"relative variance {d.weight_variance:.3g}; {_tail(d.pareto)}"),
        ("resampled", f"{sum(map(len, d.resampling_steps))} times in {sum(d.steps)} steps"),
    ]
    for name, method in d.methods.items():
        site = d.sites.get(name)
        share = ""
        if site is not None and site.acceptance is not None:
            share = f"; {site.acceptance:.3f} accepted a check"
        figures.append(("drawn", f"{name}: {method}{share}"))
    return [
        *figures,
        ("checks / token", f"{d.checks_per_token:.2f}  ({d.checks} / {d.tokens})"),
        ("time", f"{d.compile_time:.2f} s to compile, {d.run_time:.3f} s to run"),
    ]


def _tail(pareto: ParetoShape) -> str:
    if pareto.k is None:
        return f"Pareto k: {pareto.reading}"
    return f"Pareto k {pareto.k:.2f}, limit {pareto.limit:.2f}: {pareto.reading}"


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


def _show(key: Any) -> str:
    return repr(key) if isinstance(key, str) else str(key)


def _tables(results: Any) -> list[tuple[str, dict[Any, float]]]:
    """The posteriors of texts, then of discrete sites that have one value a particle."""
    population = results.population
    names = list(population.texts)
    for name, values in population.samples.items():
        values = np.asarray(values)
        if name not in population.texts and values.ndim == 1 and _is_discrete(values):
            names.append(name)
    return [(name, results.posterior(name)) for name in names]


_HEADS = ("mean", "std", "5%", "95%")


def _moments(results: Any) -> list[tuple[str, list[tuple[str, tuple[float, ...]]], int]]:
    """Of the other sites: their elements' weighted moments, and how many elements were left out."""
    weights = results._probabilities()
    population = results.population
    moments = []
    for name, values in population.samples.items():
        values = np.asarray(values)
        if name in population.texts or (values.ndim == 1 and _is_discrete(values)):
            continue
        if not np.issubdtype(values.dtype, np.number):
            continue
        flat = values.astype(np.float64).reshape(len(values), -1)
        rows = []
        for i, column in enumerate(flat.T[:_MOST_ELEMENTS]):
            index = [] if values.ndim == 1 else np.unravel_index(i, values.shape[1:])
            rows.append(("".join(f"[{j}]" for j in index), _column_moments(column, weights)))
        moments.append((name, rows, max(flat.shape[1] - _MOST_ELEMENTS, 0)))
    return moments


def _is_discrete(values: np.ndarray) -> bool:
    return bool(np.issubdtype(values.dtype, np.integer) or values.dtype == bool)


def _column_moments(column: np.ndarray, weights: np.ndarray) -> tuple[float, ...]:
    mean = weights @ column
    std = np.sqrt(max(weights @ (column - mean) ** 2, 0.0))
    order = np.argsort(column)
    cumulative = np.cumsum(weights[order])
    low, high = (
        column[order][min(np.searchsorted(cumulative, q * cumulative[-1]), len(column) - 1)]
        for q in (0.05, 0.95)
    )
    return tuple(map(float, (mean, std, low, high)))


def _format_table(name: str, posterior: dict[Any, float], top: int) -> list[str]:
    shown = list(posterior.items())[:top]
    width = max(len(_show(key)) for key, _ in shown)
    lines = [name] + [f"  {_show(key):<{width}}  {p:.4f}" for key, p in shown]
    if len(posterior) > top:
        lines.append(f"  ... {len(posterior) - top} more")
    return [*lines, ""]


def _html_table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    style = 'style="text-align:left;vertical-align:top"'
    head = "".join(f"<th {style}>{h}</th>" for h in heads)
    body = "".join("<tr>" + "".join(f"<td {style}>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _bar(p: float) -> str:
    return f'{p:.4f} <meter min="0" max="1" value="{p:.4f}"></meter>'
