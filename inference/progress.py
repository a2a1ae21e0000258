"""A progress bar for runs, fed from inside the compiled loop."""

from __future__ import annotations

import html
import sys
import time
from typing import Any, NamedTuple

_REDRAW = 0.1  # seconds between two pictures: a step may take a tenth of a millisecond


class Figures(NamedTuple):
    """What a scan's bar shows.

    :param done: of `length` steps.
    :param ess: effective sample size after the step; `log_evidence`: the estimate so far.
    """

    done: int
    length: int
    ess: float
    log_evidence: float

    def __str__(self) -> str:
        return f"ESS {self.ess:.1f}  log evidence {self.log_evidence:.2f}"


class Progress:
    """Shows the steps of each scan, with the effective sample size and the evidence so far.

    A context manager around a run. In a terminal it draws on standard error; in a notebook, in the cell's
    output. A text may end before its scan's last step: then the bar ends there too.
    """

    def __init__(self) -> None:
        self._screen: _Terminal | _Notebook | None = None

    def __enter__(self) -> Progress:
        self._screen = _Notebook() if in_notebook() else _Terminal()
        return self

    def __exit__(self, *_: Any) -> None:
        screen, self._screen = self._screen, None
        if screen is not None:
            screen.close()

    def step(self, scan: Any, step: Any, length: Any, ess: Any, log_evidence: Any) -> None:
        """One step done; called from the device."""
        if self._screen is not None:
            figures = Figures(int(step) + 1, int(length), float(ess), float(log_evidence))
            self._screen.show(int(scan), figures)


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel, which shows HTML."""
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


class _Terminal:
    """Bars by rich, one a scan."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self.tasks: dict[int, Any] = {}
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        console = Console(stderr=True, force_jupyter=False)
        self.bar = Bar(*columns, console=console, transient=True)
        self.bar.start()
        self.waiting = self.bar.add_task("compiling", total=None, figures="")

    def show(self, scan: int, figures: Figures) -> None:
        if scan not in self.tasks:
            self.bar.update(self.waiting, visible=False)
            self.tasks[scan] = self.bar.add_task(f"scan {scan + 1}", total=figures.length, figures="")
        self.bar.update(self.tasks[scan], completed=figures.done, figures=str(figures))

    def close(self) -> None:
        self.bar.stop()


class _Notebook:
    """One output that is replaced as the run goes on; it needs no widgets."""

    def __init__(self) -> None:
        from IPython.display import HTML, display

        self.html = HTML
        self.scans: dict[int, Figures] = {}
        self.started = self.drawn = time.monotonic()
        self.handle = display(HTML("<progress></progress> compiling"), display_id=True)

    def show(self, scan: int, figures: Figures) -> None:
        self.scans[scan] = figures
        if time.monotonic() - self.drawn > _REDRAW:
            self.draw()

    def draw(self) -> None:
        self.drawn = time.monotonic()
        self.handle.update(self.html(self.picture()))

    def picture(self) -> str:
        lines = [
            f'<progress value="{f.done}" max="{f.length}"></progress> '
            f"scan {scan + 1}: {f.done} of {f.length} steps &ensp; {html.escape(str(f))}"
            for scan, f in sorted(self.scans.items())
        ]
        return "<br>".join([*lines, f"{time.monotonic() - self.started:.1f} s"])

    def close(self) -> None:
        self.draw()
