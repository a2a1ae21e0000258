"""Bars of an evaluation, with the accuracy so far."""

from __future__ import annotations

from typing import Any

from sentax.evaluation.cell import Record


class Bars:
    """One bar a method on standard error: cells done, accuracy so far, failures. A context manager."""

    def __init__(self, console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console or Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}
        self._scores: dict[str, list[float]] = {}
        self._failures: dict[str, int] = {}

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()

    def begin(self, totals: dict[str, int]) -> None:
        for method, total in totals.items():
            self._tasks[method] = self._bars.add_task(method, total=total, figures="")
            self._scores[method], self._failures[method] = [], 0

    def done(self, record: Record) -> None:
        scores = self._scores[record.method]
        scores.append(record.accuracy)
        self._failures[record.method] += record.failure is not None
        figures = f"accuracy {sum(scores) / len(scores):.3f}"
        if failures := self._failures[record.method]:
            figures += f", {failures} failed"
        self._bars.update(self._tasks[record.method], completed=len(scores), figures=figures)


__all__ = ["Bars"]
