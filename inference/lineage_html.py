"""A run's lineages as one HTML page that needs nothing else."""

from __future__ import annotations

import html
import importlib.resources
import json
import os
from typing import Any

import numpy as np

from sentax.inference.lineage import Lineage

_HEIGHT = 720


class LineageExplorer:
    """A page that shows each particle's text as it grows, its weight, its parent, and what ended it.

    Self-contained (no network, no scripts but its own), light or dark as the reader's system is, and usable
    by keyboard alone: up and down go through the particles of a step, left to the parent, right to a child. Its
    size grows with particles times steps, some fifty bytes each.

    A notebook shows it where it is a cell's value.

    :param lineage: of a run: :attr:`~sentax.inference.results.Results.lineage`.
    :param title: the page's heading.
    """

    def __init__(self, lineage: Lineage, *, title: str = "Lineages") -> None:
        self.lineage = lineage
        self.title = title

    def to_html(self) -> str:
        """The page."""
        page = (importlib.resources.files("sentax.inference") / "lineage.html").read_text("utf-8")
        # A text may hold "</script>": inside JSON strings "<" has another spelling.
        data = json.dumps(self.data(), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
        return page.replace("@@TITLE@@", html.escape(self.title)).replace("@@DATA@@", data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the page to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.to_html())

    def _repr_html_(self) -> str:
        page = html.escape(self.to_html(), quote=True)
        return (
            f'<iframe title="{html.escape(self.title)}" sandbox="allow-scripts" srcdoc="{page}" '
            f'style="width:100%;height:{_HEIGHT}px;border:0"></iframe>'
        )

    def data(self) -> dict[str, Any]:
        """What the page shows, as plain values.

        A column's `text` has for each particle what it adds to its parent's text, or, where that is no
        continuation (a character that was cut in two), a list of one: the whole text. A weight of 0 has the
        log-weight null.
        """
        lineage = self.lineage
        survives = lineage.survives()
        columns = []
        for c, column in enumerate(lineage.columns):
            columns.append(
                {
                    "label": lineage.label(c),
                    "resampled": column.resampled,
                    "ess": round(column.ess, 3),
                    "logEvidence": _finite(column.log_evidence),
                    "parents": column.parents.tolist(),
                    "logWeights": [_finite(w) for w in column.log_weights.tolist()],
                    "shares": [float(f"{share:.4g}") for share in column.shares],
                    "gains": None if column.increments is None else [_finite(x) for x in column.increments],
                    "died": np.flatnonzero(lineage.died(c)).tolist(),
                    "survives": survives[c].astype(int).tolist(),
                    "fates": lineage.fates(c),
                    "text": {name: self._pieces(c, name) for name in column.text},
                    "values": {name: values.tolist() for name, values in column.values.items()},
                    "checks": None if column.checks is None else column.checks.tolist(),
                }
            )
        return {"particles": lineage.num_particles, "columns": columns}

    def _pieces(self, c: int, name: str) -> list[Any]:
        column = self.lineage.columns[c]
        texts = column.text[name]
        if not column.step:
            return [[text] for text in texts]
        before = self.lineage.columns[c - 1].text[name]
        return [
            text[len(before[p]) :] if text.startswith(before[p]) else [text]
            for text, p in zip(texts, column.parents)
        ]


def _finite(value: float) -> float | None:
    return None if np.isneginf(value) else float(f"{value:.6g}")


__all__ = ["LineageExplorer"]
