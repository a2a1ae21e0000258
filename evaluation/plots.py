"""Pictures of a report, by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sentax.evaluation.report import OURS, DomainReport, Report

_BASELINE, _OURS, _INK = "#5b616b", "#1f5fbf", "#5b616b"
_MARKERS = "osD^vP*X<>ph"


def save_plots(report: Report, out: Path) -> list[Path]:
    """Writes `accuracy.png` and `cost.png`.

    :raises ImportError: without matplotlib.
    """
    files = []
    for name, figure in (("accuracy.png", plot_accuracy(report)), ("cost.png", plot_cost(report))):
        figure.savefig(out / name, dpi=120)
        files.append(out / name)
    return files


def plot_accuracy(report: Report) -> Any:
    """Accuracy with its 95% interval, by method; a panel a domain.

    :return: a `matplotlib.figure.Figure`.
    """
    domains = report.domains
    names = report.methods
    figure = _figure()(figsize=(1.4 + 3.4 * len(domains), 1.3 + 0.34 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(domains), squeeze=False, sharey=True)[0]
    for ax, (title, domain) in zip(axes, domains.items()):
        for method, figures in domain.methods.items():
            at = names.index(method)
            mean, low, high = figures.accuracy
            if low is not None and high is not None:
                ax.plot([low, high], [at, at], color=_colour(method), lw=2.2, alpha=0.45, solid_capstyle="butt")
            ax.plot(mean, at, "o", color=_colour(method), ms=6)
            ax.annotate(f"{mean:.2f}", (mean, at), (0, 7), textcoords="offset points", ha="center", fontsize=7)
        ax.set(title=title, xlim=(-0.03, 1.03), xlabel="accuracy, 95% interval", ylim=(len(names) - 0.5, -0.7))
        ax.grid(axis="x", color="#e6e8ec", lw=0.8)
        ax.set_axisbelow(True)
        _bare(ax)
    axes[0].set_yticks(range(len(names)), names)
    return figure


def plot_cost(report: Report) -> Any:
    """Accuracy against the time of a run, and against checks per token; a row of panels a domain.

    Methods that check nothing (the base model) stand at 0, which a logarithmic axis has not: this one is
    linear below its least positive value.

    :return: a `matplotlib.figure.Figure`.
    """
    domains = report.domains
    figure = _figure()(figsize=(9, 0.7 + 2.7 * len(domains)), layout="constrained")
    panels = figure.subplots(len(domains), 2, squeeze=False, sharey="row")
    names = report.methods
    for (left, right), (title, domain) in zip(panels, domains.items()):
        costs = {m: f.times.run_mean for m, f in domain.methods.items() if f.times is not None}
        _scatter(left, domain, costs, names)
        if costs:
            left.set_xscale("log")
            _plain_ticks(left, costs)
        left.set(ylabel=f"{title}\naccuracy", xlabel="seconds a run")
        checks = {m: f.checks_per_token for m, f in domain.methods.items() if f.checks_per_token is not None}
        _scatter(right, domain, checks, names)
        positive = {m: c for m, c in checks.items() if c > 0}
        if positive:
            right.set_xscale("symlog", linthresh=min(positive.values()))
            _plain_ticks(right, positive)
            right.set_xlim(left=-0.1 * min(positive.values()))
        right.set(xlabel="constraint checks per LM token")
    handles = {h.get_label(): h for ax in panels.flat for h in ax.lines if not h.get_label().startswith("_")}
    figure.legend(
        handles=list(handles.values()), loc="outside lower center", ncols=6, frameon=False, fontsize="small"
    )
    return figure


def _scatter(ax: Any, domain: DomainReport, costs: dict[str, float], names: list[str]) -> None:
    for method, cost in costs.items():
        mean, low, high = domain.methods[method].accuracy
        if low is not None and high is not None:
            ax.plot([cost, cost], [low, high], color=_colour(method), lw=1.6, alpha=0.4)
        marker = _MARKERS[names.index(method) % len(_MARKERS)]
        ax.plot(cost, mean, marker, color=_colour(method), ms=7, ls="", label=method)
    ax.set_ylim(-0.05, 1.05)
    ax.grid(color="#eceef1", lw=0.8)
    ax.set_axisbelow(True)
    _bare(ax)


def _plain_ticks(ax: Any, costs: dict[str, float]) -> None:
    """0.1, 0.2, 0.5, 1 and so on, written as such, with room around the outermost."""
    from matplotlib import ticker

    low, high = min(costs.values()), max(costs.values())
    ax.set_xlim(low / 1.4, high * 1.4)
    decades = np.arange(np.floor(np.log10(low)) - 1, np.ceil(np.log10(high)) + 2)
    steps = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    at = [0.0, *(step * 10**decade for decade in decades for step in steps)]
    inside = [x for x in at if x == 0 or low / 1.5 <= x <= 1.5 * high]
    ax.xaxis.set_major_locator(ticker.FixedLocator(inside))
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    ax.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:g}"))


def _colour(method: str) -> str:
    return _OURS if method == OURS else _BASELINE


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure  # without pyplot: no window, no global state
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'sentax[evaluate]'") from error
    return Figure


def _bare(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)


__all__ = ["plot_accuracy", "plot_cost", "save_plots"]
