"""Pictures of a run, by matplotlib."""

from __future__ import annotations

from typing import Any

import numpy as np

from sentax.inference.lineage import Lineage

_KEPT, _LOST, _DEAD, _INK = "#1f5fbf", "#c3c8d0", "#b3261e", "#5b616b"
_NOTHING = "#f6dcd9"
_MOST_TEXTS = 40
_LONGEST_TEXT = 36


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'sentax[plots]'") from error
    return plt


def plot_lineage(results: Any) -> Any:
    """Who came from whom: a line from every particle to its parent, those that lead to a survivor in blue.

    Dots are particles, darker with their share of the weight; a cross is a particle that died, a dotted line a
    resampling. Beside the survivors stand their texts, if there are at most 40 of them.

    :return: a `matplotlib.figure.Figure`.
    :raises ImportError: without matplotlib: install `sentax[plots]`.
    :raises ValueError: for a sampler that keeps no record of its steps.
    """
    plt = _pyplot()
    lineage: Lineage = results.lineage
    C, N = len(lineage.columns), lineage.num_particles
    width, height = float(np.clip(2.5 + 0.45 * C, 6, 18)), float(np.clip(1.2 + 0.2 * N, 3, 12))
    figure, ax = plt.subplots(figsize=(width, height), layout="constrained")
    survives = lineage.survives()
    segments: tuple[list[Any], list[Any]] = ([], [])
    for c, column in enumerate(lineage.columns[1:], 1):
        for n, parent in enumerate(column.parents):
            if not np.isneginf(lineage.columns[c - 1].log_weights[parent]):
                segments[int(survives[c][n])].append([(c - 1, parent), (c, n)])
    for lines, colour, line_width in zip(segments, (_LOST, _KEPT), (0.8, 1.3)):
        ax.add_collection(
            plt.matplotlib.collections.LineCollection(lines, color=colour, lw=line_width, zorder=1)
        )
    size = float(np.clip(900 * height / N / 12, 6, 60))
    for c, column in enumerate(lineage.columns):
        alive, died, shares = ~np.isneginf(column.log_weights), lineage.died(c), column.shares
        (places,) = np.nonzero(alive)
        edges = [_KEPT if survives[c][n] else _LOST for n in places]
        ax.scatter(np.full(len(places), c), places, size, "white", edgecolors=edges, lw=0.9, zorder=2)
        ax.scatter(np.full(len(places), c), places, size, _KEPT, alpha=shares[places] ** 0.4, lw=0, zorder=3)
        (crosses,) = np.nonzero(died)
        ax.scatter(np.full(len(crosses), c), crosses, 1.2 * size, _DEAD, marker="x", lw=1.5, zorder=4)
        if column.resampled:
            ax.axvline(c - 0.5, color=_INK, ls=":", lw=1, zorder=0)
    ax.set(xlim=(-0.6, C - 0.4), ylim=(N - 0.5, -0.5), ylabel="particle")
    ax.yaxis.get_major_locator().set_params(integer=True)
    _label_steps(ax, lineage)
    _write_texts(ax, results, survives[-1])
    _bare(ax)
    return figure


def plot_weights(results: Any) -> Any:
    """The particles' shares of the weight, at every step (left) and at the end, heaviest first (right).

    Steps are read from left to right, particles by place, from top to bottom; dead ones are pale red. The line
    on the right is what the heaviest particles hold together.

    :return: a `matplotlib.figure.Figure`.
    :raises ImportError: without matplotlib: install `sentax[plots]`.
    :raises ValueError: for a sampler that keeps no record of its steps.
    """
    plt = _pyplot()
    lineage: Lineage = results.lineage
    N = lineage.num_particles
    shares = np.stack([column.shares for column in lineage.columns], axis=1)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained", width_ratios=(3, 2))
    picture = left.imshow(
        np.ma.masked_equal(shares, 0.0),
        aspect="auto",
        interpolation="nearest",
        cmap=plt.get_cmap("Blues").with_extremes(bad=_NOTHING),
        norm=plt.matplotlib.colors.LogNorm(min(0.1 / N, 0.5), 1.0),
    )
    for c, column in enumerate(lineage.columns):
        if column.resampled:
            left.axvline(c - 0.5, color=_INK, ls=":", lw=1)
    left.set(ylabel="particle", title="share of the weight")
    left.yaxis.get_major_locator().set_params(integer=True)
    _label_steps(left, lineage)
    figure.colorbar(picture, ax=left, extend="min", pad=0.02)
    final = np.sort(shares[:, -1])[::-1]
    ranks = np.arange(1, N + 1)
    right.bar(ranks, final, width=0.8, color=_KEPT, label="share of each")
    right.plot(ranks, np.cumsum(final), color=_INK, marker=".", lw=1.2, label="together")
    right.axhline(1 / N, color=_DEAD, ls="--", lw=1, label=f"equal weights, 1/{N}")
    right.set(
        xlabel="particles, heaviest first", ylim=(0, 1.05), title=f"at the end: ESS {results.ess:.1f} of {N}"
    )
    right.xaxis.get_major_locator().set_params(integer=True)
    # Below: any place within may be crossed by the line.
    right.legend(frameon=False, fontsize="small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    _bare(left, right)
    return figure


def plot_trace(results: Any) -> Any:
    """By step: ESS, ancestors of the survivors, the evidence so far, and what a token cost.

    A dotted line is a resampling.

    :return: a `matplotlib.figure.Figure`.
    :raises ImportError: without matplotlib: install `sentax[plots]`.
    :raises ValueError: for a sampler that keeps no record of its steps.
    """
    plt = _pyplot()
    lineage: Lineage = results.lineage
    N, columns = lineage.num_particles, lineage.columns
    times = np.arange(len(columns))
    figure, axes = plt.subplots(4, 1, figsize=(8, 8.4), sharex=True, layout="constrained")
    size, ancestors, evidence, cost = axes
    size.plot(times, [column.ess for column in columns], color=_KEPT, marker=".")
    size.set(ylabel="ESS", ylim=(0, 1.05 * N))
    size.axhline(N, color=_INK, ls="--", lw=0.8)
    ancestors.plot(times, [survivors.sum() for survivors in lineage.survives()], color=_KEPT, marker=".")
    ancestors.set(ylabel="particles with\nliving descendants", ylim=(0, 1.05 * N))
    log_evidence = np.array([column.log_evidence for column in columns])
    finite = np.isfinite(log_evidence)
    evidence.plot(times[finite], log_evidence[finite], color=_KEPT, marker=".", label="log evidence so far")
    steps = np.diff(log_evidence, prepend=log_evidence[:1])
    evidence.bar(times[finite], steps[finite], color=_LOST, width=0.6, label="this step's log normaliser")
    error = results.diagnostics.evidence_error.std
    if error is not None and finite[-1]:
        evidence.errorbar(
            times[-1], log_evidence[-1], error, color=_KEPT, capsize=4, lw=1.2, label="standard error"
        )
    evidence.set(ylabel="nats")
    evidence.legend(frameon=False, loc="best", fontsize="small")
    checks = {
        t: column.checks.sum() / max(int(column.drew.sum()), 1)
        for t, column in enumerate(columns)
        if column.checks is not None and column.drew is not None
    }
    cost.bar(list(checks), list(checks.values()), color=_KEPT, width=0.6)
    cost.set(ylabel="checks\nper draw")
    for ax in axes:
        for c, column in enumerate(columns):
            if column.resampled:
                ax.axvline(c - 0.5, color=_INK, ls=":", lw=1)
    _label_steps(cost, lineage)
    _bare(*axes)
    return figure


def _label_steps(ax: Any, lineage: Lineage) -> None:
    """Steps counted within their scan, the end marked, and the scans' names below."""
    columns = lineage.columns
    last = len(columns) - 1
    every = max(1, round(len(columns) / 16))
    ticks = {c: str(column.step) for c, column in enumerate(columns[:-1]) if column.step % every == 0}
    # The end's label needs the room of its neighbours.
    ticks = {c: label for c, label in ticks.items() if last - c >= every} | {last: "end"}
    ax.set_xticks(list(ticks), list(ticks.values()))
    names = []
    for column in columns[:-1]:
        name = " and ".join(column.text) or f"scan {column.scan + 1}"
        if name not in names:
            names.append(name)
    ax.set_xlabel("steps of " + ", then ".join(names) if names else "")


def _write_texts(ax: Any, results: Any, survives: np.ndarray) -> None:
    texts = {name: results.texts(name) for name in results.population.texts}
    (places,) = np.nonzero(survives)
    if not texts or len(places) > _MOST_TEXTS:
        return
    for n in places:
        text = "  ".join(repr(values[n])[1:-1] for values in texts.values())
        shown = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
        # No mathematics in a text: a dollar sign is a dollar sign.
        ax.annotate(
            shown,
            (1, n),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            family="monospace",
            parse_math=False,
            annotation_clip=False,
        )


def _bare(*axes: Any) -> None:
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)


__all__ = ["plot_lineage", "plot_trace", "plot_weights"]
