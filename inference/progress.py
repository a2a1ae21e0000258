"""A progress bar for runs, fed from inside the compiled loop."""

from __future__ import annotations

from typing import Any


class Progress:
    """Shows the steps of each scan on standard error; a context manager around a run.

    A text may end before its scan's last step: then the bar jumps to its end.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._tasks: dict[int, Any] = {}

    def __enter__(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._tasks = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        self._waiting = self._bar.add_task("compiling", total=None)
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()
        self._bar = None

    def step(self, scan: Any, step: Any, length: Any) -> None:
        """One step done; called from the device."""
        if self._bar is None:
            return
        scan, step, length = int(scan), int(step), int(length)
        if scan not in self._tasks:
            self._bar.update(self._waiting, visible=False)
            self._tasks[scan] = self._bar.add_task(f"scan {scan + 1}", total=length)
        self._bar.update(self._tasks[scan], completed=step + 1)
