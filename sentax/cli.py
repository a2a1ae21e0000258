"""The command line: `sentax generate`, `sentax evaluate`, `sentax report`, `sentax jsonschema-bench`."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="sentax",
    help="Probabilistic programming with language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Method(str, Enum):
    awrs = "awrs"
    lcd = "lcd"
    prior = "prior"


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What the text follows.")],
    model: Annotated[
        str | None, typer.Option(help="Hugging Face id or directory; the embedded model if not given.")
    ] = None,
    regex: Annotated[str | None, typer.Option(help="The text must match this regular expression.")] = None,
    choice: Annotated[
        str | None, typer.Option(help="The text must be one of these, separated by commas.")
    ] = None,
    predicate: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:FUNCTION",
            help="A Python function (text so far: str) -> bool: may it still be completed? With "
            "FILE.py:PREFIX,COMPLETE a second one says whether a text is complete.",
        ),
    ] = None,
    method: Annotated[Method, typer.Option(help="How tokens are drawn.")] = Method.awrs,
    particles: Annotated[int, typer.Option(help="Number of particles.")] = 32,
    max_tokens: Annotated[int, typer.Option(help="The most tokens a text may have.")] = 32,
    stop: Annotated[str | None, typer.Option(help=r"A character that ends the text, such as '\n'.")] = None,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same result.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Draws from the posterior of a text under a constraint, and estimates the constraint's probability."""
    import jax

    import sentax as sx

    with _one_line_errors():
        _at_least_one("--particles", particles)
        _at_least_one("--max-tokens", max_tokens)
        where = _constraint(regex, choice, predicate)
        stop_char = None if stop is None else stop.replace("\\n", "\n").replace("\\t", "\t")
        context = sx.load(model).prompt(prompt)
        kernel = {Method.awrs: sx.AWRS, Method.lcd: sx.LocallyConstrained, Method.prior: sx.Prior}[method]

        def program(context: Any, where: Any) -> None:
            sx.generate("text", context, max_tokens=max_tokens, where=where, stop=stop_char)

        show_progress = sys.stderr.isatty() and not as_json
        smc = sx.SMC(kernel(program), num_particles=particles, progress_bar=show_progress)
        smc.run(jax.random.key(seed), context, where)
        posterior = smc.posterior("text")

    if as_json:
        report = {
            "posterior": [{"text": text, "probability": p} for text, p in posterior.items()],
            "log_evidence": smc.log_evidence,
            "ess": smc.ess,
            "diagnostics": smc.diagnostics.as_dict(),
        }
        print(json.dumps(report))
    else:
        _print_table(posterior)
        smc.print_summary(top=0)


class ConstraintName(str, Enum):
    cheap = "cheap"
    dear = "dear"
    both = "both"


@app.command()
def evaluate(
    domain: Annotated[
        str, typer.Argument(help="A domain's name, or module:Class, or FILE.py:Class for one's own.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the results. Given again, it is gone on with.")],
    method: Annotated[
        str, typer.Option(metavar="NAME,...", help="Methods, separated by commas.")
    ] = "base,lcd,sample-rerank,twisted-smc,awrs-smc",
    model: Annotated[
        str | None,
        typer.Option(
            help="Hugging Face id or directory, or module:function or FILE.py:function that makes a model; "
            "the embedded model if not given."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The data set's folder; the instances that ship if not given.")
    ] = None,
    instances: Annotated[
        str | None,
        typer.Option(metavar="COUNT|ID,...", help="So many, spread evenly; or these, by id (one: 'ID,')."),
    ] = None,
    replicates: Annotated[int, typer.Option(help="Runs of each method on each instance.")] = 1,
    particles: Annotated[
        str | None,
        typer.Option(
            metavar="N|METHOD=N,...",
            help="Particles of all methods, or by method; the paper's if not given.",
        ),
    ] = None,
    ess_threshold: Annotated[
        str | None, typer.Option(metavar="X|METHOD=X,...", help="The same for the threshold of resampling.")
    ] = None,
    constraint: Annotated[
        ConstraintName, typer.Option(help="The grammar, what costs more to check, or both.")
    ] = ConstraintName.both,
    chat: Annotated[bool, typer.Option("--chat", help="Ask by chat messages.")] = False,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same results.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes, each with the model in its memory.")] = 1,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Run cells again that failed before.")
    ] = False,
    plots: Annotated[bool, typer.Option(help="Draw pictures.")] = True,
) -> None:
    """Evaluates methods on a domain's instances; writes every result, and a report with intervals.

    May be stopped at any time: the same command goes on where it was.
    """
    with _one_line_errors():
        for option, value in (("--replicates", replicates), ("--workers", workers)):
            _at_least_one(option, value)
        if plots:
            _need_matplotlib()
        import sentax.evaluation as ev
        from sentax.evaluation.progress import Bars
        from sentax.evaluation.settings import resized

        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # for module:Class, as `python -m` does
        methods = resized(
            [ev.paper(name.strip()) for name in method.split(",")],
            _by_method("--particles", particles, int),
            _by_method("--ess-threshold", ess_threshold, float),
        )
        bars: Any = Bars() if sys.stderr.isatty() else contextlib.nullcontext()
        try:
            with bars as watcher:
                found = ev.evaluate(
                    domain,
                    methods,
                    out=out,
                    model=model,
                    data=data,
                    instances=_instances(instances),
                    replicates=replicates,
                    seed=seed,
                    chat=chat,
                    constraint=constraint.value,
                    workers=workers,
                    retry_failed=retry_failed,
                    watcher=watcher,
                )
        except KeyboardInterrupt:
            message = f"sentax: interrupted. What was done is in {out}: give the same command to go on"
            print(message, file=sys.stderr, flush=True)
            os._exit(130)  # not when the run in hand is done: its result is not wanted
        _show(found, out, plots)
    if failures := found.num_failures:
        print(f"sentax: {failures} runs failed; --retry-failed runs them again", file=sys.stderr)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="What --out was of one or more evaluations.")],
    plots: Annotated[bool, typer.Option(help="Draw pictures.")] = True,
) -> None:
    """Reports what is in a folder of evaluations, finished or not, over all its domains."""
    with _one_line_errors():
        if plots:
            _need_matplotlib()
        from sentax.evaluation import read_report

        _show(read_report(folder), folder, plots)


class SchemaEngineName(str, Enum):
    auto = "auto"
    device = "device"
    llguidance = "llguidance"


@app.command("jsonschema-bench")
def jsonschema_bench(
    data: Annotated[
        Path,
        typer.Option(
            help="A folder or file: jsonschemabench.jsonl, JSONSchemaBench's own layout, or that of the "
            "official JSON Schema Test Suite."
        ),
    ],
    engine: Annotated[SchemaEngineName, typer.Option(help="What enforces a schema.")] = SchemaEngineName.auto,
    check: Annotated[
        bool,
        typer.Option(help="Check when a value is closed what no grammar expresses, or refuse such schemas."),
    ] = True,
    limit: Annotated[int | None, typer.Option(help="So many schemas at most, spread evenly.")] = None,
    generate: Annotated[
        int, typer.Option(help="Generate texts under the embedded model for so many schemas.")
    ] = 0,
    particles: Annotated[int, typer.Option(help="Number of particles when generating.")] = 32,
    max_tokens: Annotated[int, typer.Option(help="The most tokens a generated text may have.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of the generation.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Measures how well JSON schemas are enforced: coverage, wrong verdicts, time."""
    with _one_line_errors():
        for option, value in (("--limit", limit), ("--particles", particles), ("--max-tokens", max_tokens)):
            if value is not None:
                _at_least_one(option, value)
        if generate < 0:
            raise ValueError(f"--generate must not be negative, got {generate}")
        from sentax.jsonschema_bench import print_report, run

        report = run(
            data,
            engine=engine.value,
            check=check,
            limit=limit,
            generate=generate,
            particles=particles,
            max_tokens=max_tokens,
            seed=seed,
        )
    if as_json:
        print(json.dumps(report))
    else:
        print_report(report)


def _constraint(regex: str | None, choice: str | None, predicate: str | None) -> Any:
    import sentax as sx

    given = [
        name
        for name, value in (("--regex", regex), ("--choice", choice), ("--predicate", predicate))
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)}: give one constraint at most")
    if regex is not None:
        return sx.regex(regex)
    if choice is not None:
        return sx.choice(choice.split(","))
    if predicate is not None:
        functions = _functions(predicate)
        return sx.predicate(*functions, text="str")
    return None


def _functions(where: str) -> list[Callable[[Any], bool]]:
    file, colon, names = where.rpartition(":")
    if not colon or not file.endswith(".py"):
        raise ValueError(f"--predicate {where!r}: expected FILE.py:FUNCTION")
    if not Path(file).is_file():
        raise ValueError(f"--predicate: no file {file!r}")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"--predicate: {file} failed to load: {type(error).__name__}: {error}") from error
    functions = []
    for name in names.split(","):
        function = getattr(module, name, None)
        if not callable(function):
            raise ValueError(f"--predicate: {file} has no function {name!r}")
        functions.append(function)
    if len(functions) > 2:
        raise ValueError("--predicate: at most two functions, one for prefixes and one for complete texts")
    return functions


def _show(found: Any, out: Path, plots: bool) -> None:
    from sentax.evaluation import write_report

    files = write_report(found, out, plots=plots)
    found.print()
    print(f"written: {', '.join(map(str, files))}")


def _need_matplotlib() -> None:
    """Before hours of work, not after them."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("pictures need matplotlib: pip install 'sentax[evaluate]', or give --no-plots")


def _by_method(option: str, given: str | None, kind: Callable[[str], Any]) -> Any:
    """`5`, or `awrs-smc=5,lcd=1`."""
    if given is None:
        return None
    try:
        if "=" not in given:
            return kind(given)
        pairs = [pair.split("=") for pair in given.split(",")]
        return {name.strip(): kind(value) for name, value in pairs}
    except ValueError:
        raise ValueError(f"{option} {given!r}: expected a number, or METHOD=NUMBER,...") from None


def _instances(given: str | None) -> int | list[str] | None:
    if given is None:
        return None
    if given.isdecimal():
        return int(given)
    return [id.strip() for id in given.rstrip(",").split(",")]


def _at_least_one(option: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{option} must be at least 1, got {value}")


class _one_line_errors:  # noqa: N801
    """Bad input ends the program with status 2 and one line that says what was wrong."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, _: Any) -> None:
        import sentax as sx

        expected = (
            ValueError,
            TypeError,
            OSError,
            NotImplementedError,
            sx.NoSurvivingParticles,
            sx.PredicateError,
        )
        if isinstance(error, expected) and not isinstance(error, typer.Exit):
            print(f"sentax: {' '.join(str(error).split())}", file=sys.stderr)
            raise typer.Exit(2) from None


def _print_table(posterior: dict[str, float], top: int = 20) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("probability", justify="right")
    table.add_column("text")
    for text, probability in list(posterior.items())[:top]:
        table.add_row(f"{probability:.4f}", Text(repr(text)))
    if len(posterior) > top:
        table.add_row("", f"... {len(posterior) - top} more")
    Console().print(table)


if __name__ == "__main__":
    app()
