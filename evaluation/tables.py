"""A report as tables, in Markdown and in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from sentax.evaluation.report import DomainReport, Interval, MethodReport, Report

_COLUMNS = (
    "method",
    "N",
    "accuracy",
    "to {baseline}",
    "all dead",
    "ESS",
    "checks/token",
    "LM tokens",
    "run s",
    "compile s",
    "failed",
    "runs",
)
_NOTES = (
    "Accuracy is the posterior-weighted score, averaged over the instances (replicates within), with its 95% "
    "bootstrap interval: percentiles of 10,000 resamplings of the instances. A run that failed scores 0, and "
    "so does one all of whose particles died (all dead: the share of those).",
    '"to ..." is the paired difference to the best baseline here; chosen on the same data, that flatters it.',
    "Costs are averages over the runs that did not fail. LM tokens are those of all particles, also of those "
    "that died; run s is inference alone, without compilation, prompt and scoring; compile s is the sum over "
    "all runs. N: particles.",
)


def markdown(report: Report) -> str:
    """The whole report."""
    parts = ["# Evaluation"]
    if len(report.domains) > 1:
        headers, *rows = overview(report)
        parts += ["## All domains", _markdown_table(headers, rows)]
    for name, domain in report.domains.items():
        headers, *rows = table(domain)
        parts += [f"## {name}", describe(domain), _markdown_table(headers, rows)]
        if failures := list(describe_failures(domain)):
            parts += ["\n".join(f"* {_escaped(line)}" for line in failures)]
    return "\n\n".join([*parts, *_NOTES])


def print_report(report: Report) -> None:
    """The whole report on standard output."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160)
    for name, domain in report.domains.items():
        _print_table(console, name, table(domain))
        console.print(describe(domain), markup=False, highlight=False, style="dim")
        for line in describe_failures(domain):
            console.print(line, markup=False, highlight=False, style="red")
    if len(report.domains) > 1:
        _print_table(console, "all domains", overview(report))


def overview(report: Report) -> list[list[str]]:
    """Accuracies of every method on every domain, headers first."""
    rows = [["method", *report.domains]]
    for method in report.methods:
        found = [domain.methods.get(method) for domain in report.domains.values()]
        rows.append([method, *(("" if f is None else _interval(f.accuracy)) for f in found)])
    return rows


def table(domain: DomainReport) -> list[list[str]]:
    """One row a method, headers first."""
    headers = [header.format(baseline=domain.baseline or "a baseline") for header in _COLUMNS]
    return [headers, *(_row(name, figures) for name, figures in domain.methods.items())]


def describe(domain: DomainReport) -> str:
    """The settings in a line."""
    settings = domain.settings
    replicates = max(m.expected for m in domain.methods.values())
    parts = [
        f"model: {settings['model'] or 'embedded'}",
        f"data: {settings['data'] or 'shipped sample'}",
        f"constraint: {settings['constraint']}",
        f"prompt: {'chat' if settings['chat'] else 'plain'}",
        f"at most {settings['max_tokens']} tokens",
        f"seed {settings['seed']}",
        f"instances: {max(m.instances for m in domain.methods.values())}, runs a method: {replicates}",
        *(f"{key} {', '.join(values)}" for key, values in domain.versions.items()),
    ]
    return "; ".join(parts) + "."


def describe_failures(domain: DomainReport, most: int = 5) -> Iterator[str]:
    """What failed, the first few of each method."""
    for name, figures in domain.methods.items():
        for failure in figures.failures[:most]:
            yield (
                f"{name} failed on {failure['instance']!r} (replicate {failure['replicate']}), "
                f"{failure['stage']}: {' '.join(failure['error'].split())[:300]}"
            )
        if len(figures.failures) > most:
            yield f"{name}: {len(figures.failures) - most} more failures, in report.json"


def _row(name: str, figures: MethodReport) -> list[str]:
    times = figures.times
    return [
        name,
        str(figures.particles),
        _interval(figures.accuracy),
        "" if figures.difference is None else _interval(figures.difference, signed=True),
        _number(figures.nobody_alive, "{:.0%}"),
        _number(figures.ess, "{:.2f}"),
        _number(figures.checks_per_token, "{:.2f}"),
        _number(figures.lm_tokens, "{:.0f}"),
        _number(None if times is None else times.run_mean, "{:.3g}"),
        _number(None if times is None else times.compile_total, "{:.3g}"),
        str(len(figures.failures)),
        str(figures.cells) if figures.cells == figures.expected else f"{figures.cells} of {figures.expected}",
    ]


def _interval(interval: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    mean = f"{interval.mean:{sign}.3f}"
    if interval.low is None or interval.high is None:
        return mean
    return f"{mean} [{interval.low:{sign}.2f}, {interval.high:{sign}.2f}]"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _markdown_table(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---", *("---:" for _ in headers[1:])], *rows]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _print_table(console: object, title: str, lines: list[list[str]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    headers, *rows = lines
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=Text(title))
    for number, header in enumerate(headers):
        shown.add_column(Text(header), justify="right" if number else "left")
    for row in rows:
        shown.add_row(*map(Text, row))
    console.print(shown)  # type: ignore[attr-defined]


__all__ = ["describe", "describe_failures", "markdown", "overview", "print_report", "table"]
