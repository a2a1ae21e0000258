"""Running an evaluation: which cells are to be done, who does them, what is kept."""

from __future__ import annotations

import concurrent.futures as cf
import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sentax.domains.base import Domain, Instance
from sentax.evaluation.cell import Record
from sentax.evaluation.report import Report, read_report
from sentax.evaluation.runner import Runner, Task, run_task
from sentax.evaluation.settings import PAPER, ConstraintChoice, MethodSettings, Settings, paper
from sentax.evaluation.specs import everywhere, make_domain
from sentax.evaluation.store import Manifest, Store, digest


class Executor(Protocol):
    """What runs cells: :class:`concurrent.futures.Executor`, or anything with its `submit`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> cf.Future[Any]: ...


class Watcher(Protocol):
    """Hears of every cell: of those that were done before, then of each that is done now."""

    def begin(self, totals: dict[str, int]) -> None:
        """By method, the number of cells."""

    def done(self, record: Record) -> None: ...


def evaluate(
    domain: str,
    methods: Sequence[str | MethodSettings] = tuple(PAPER),
    *,
    out: str | Path,
    model: str | None = None,
    data: str | Path | None = None,
    instances: int | Sequence[str] | None = None,
    replicates: int = 1,
    seed: int = 0,
    chat: bool = False,
    constraint: ConstraintChoice | str = ConstraintChoice.both,
    workers: int = 1,
    executor: Executor | None = None,
    retry_failed: bool = False,
    watcher: Watcher | None = None,
) -> Report:
    """Runs methods on the instances of a domain, and reports what is in the folder then.

    A cell is a method on an instance, once. Every cell is a file, `out/DOMAIN/METHOD/INSTANCE-rREPLICATE.json`,
    there whole or not at all; a cell that is there is not run again. The random key of a cell depends on
    `seed` and on what it is, not on when or where it is run. So an evaluation may be stopped in any way and
    begun again, and its results are those of one that was never stopped. Methods, instances and replicates may
    be added later; other settings need another folder. A cell that raises is kept as a failure, with its
    traceback, and scores 0.

    :param domain: a name, or `module:Class`, or `file.py:Class`; see :mod:`sentax.evaluation.specs`.
    :param methods: of :data:`sentax.METHODS`: by name with the paper's particles, or with settings.
    :param out: the folder of the results.
    :param model: nothing for the embedded model, a directory, an id of the hub, or `module:function`.
    :param data: the data set's folder; nothing for the instances that ship.
    :param instances: how many, spread evenly over all; or which, by id. All by default.
    :param replicates: runs of each method on each instance.
    :param chat: prompts as messages, for a model with a chat template.
    :param constraint: the domain's cheap constraint, its dear one, or both.
    :param workers: processes of this machine, each with its own model; 1: none but this one.
    :param executor: runs the cells instead: `submit(function, task)` gives a future as
        :mod:`concurrent.futures` has them. Workers import sentax and make domain and model themselves, once;
        nothing but settings, instances and results is sent, and only this process writes files.
    :param retry_failed: whether cells that failed before are run again.
    :param watcher: hears of every cell.
    :raises Mismatch: if the folder holds results of other settings; the message says what differs.
    :raises ValueError: for an option out of range, an unknown name, or instances that there are not.
    """
    if replicates < 1 or workers < 1:
        raise ValueError(f"replicates and workers must be at least 1, got {replicates} and {workers}")
    if executor is not None and workers > 1:
        raise ValueError("workers are processes of this machine: give either them or an executor")
    chosen_methods = [paper(method) if isinstance(method, str) else method for method in methods]
    names = [method.name for method in chosen_methods]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"methods must be different ones, at least one; got {', '.join(names) or 'none'}")
    spec = everywhere(domain)
    assert spec is not None
    made = make_domain(spec)
    settings = Settings(
        domain=spec,
        model=everywhere(model),
        data=None if data is None else str(Path(data).expanduser().resolve()),
        chat=chat,
        constraint=ConstraintChoice(constraint),
        seed=seed,
        max_tokens=made.max_tokens,
    )
    chosen = choose(made.sample() if data is None else made.load(data), instances)
    digests = {instance.id: _digest(made, instance, chat) for instance in chosen}
    stores = {method.name: Store(out, made.name, method.name) for method in chosen_methods}
    manifests = {
        method.name: stores[method.name].joined(Manifest(made.name, settings, method, replicates, digests))
        for method in chosen_methods
    }
    for name, manifest in manifests.items():  # once none of them is refused
        stores[name].open(manifest)
    cells = [
        Cell(method, instance, replicate)
        for method in chosen_methods  # outermost: then workers are at one program at a time
        for instance in chosen
        for replicate in range(replicates)
    ]
    Plan(made, settings, stores).run(cells, workers, executor, retry_failed, watcher)
    return read_report(out)


class Cell(NamedTuple):
    """What is to be run."""

    method: MethodSettings
    instance: Instance
    replicate: int


@dataclass
class Plan:
    """An evaluation whose folders are there.

    :param stores: by the method's name.
    """

    domain: Domain[Any]
    settings: Settings
    stores: dict[str, Store]

    def run(
        self,
        cells: list[Cell],
        workers: int,
        executor: Executor | None,
        retry_failed: bool,
        watcher: Watcher | None,
    ) -> None:
        """Runs the cells that are not done."""
        if watcher is not None:
            watcher.begin(Counter(cell.method.name for cell in cells))
        left = []
        for cell in cells:
            record = self.stores[cell.method.name].load(cell.instance.id, cell.replicate)
            if record is None or (retry_failed and record.failure is not None):
                left.append(cell)
            elif watcher is not None:
                watcher.done(record)
        if not left:
            return

        def keep(record: Record) -> None:
            self.stores[record.method].save(record)
            if watcher is not None:
                watcher.done(record)

        with self._submission(left, workers, executor) as submit:
            _collect([submit(cell) for cell in left], keep)

    @contextlib.contextmanager
    def _submission(
        self, cells: list[Cell], workers: int, executor: Executor | None
    ) -> Iterator[Callable[[Cell], cf.Future[Record]]]:
        """How a cell is handed on: to the given executor, to processes, or to a thread of this process.

        A thread, because a Ctrl-C that comes while the main thread is inside of a compiled program is heard
        only after it, and one that comes within a Python predicate would look like the predicate's own error.
        """
        if executor is None and workers == 1:
            runner = Runner(self.settings, self.domain)
            with _ended(cf.ThreadPoolExecutor(1, "sentax-evaluate")) as thread:
                yield lambda cell: thread.submit(runner.run, *cell)
            return
        pickled = {cell.instance.id: _pickled(cell.instance) for cell in cells}

        def submission(to: Executor) -> Callable[[Cell], cf.Future[Record]]:
            return lambda cell: to.submit(
                run_task, Task(self.settings, cell.method, pickled[cell.instance.id], cell.replicate)
            )

        if executor is not None:
            yield submission(executor)
            return
        # Not forked: a process with JAX's threads in it must not be.
        spawn = multiprocessing.get_context("spawn")
        count = min(workers, len(cells))
        with _ended(cf.ProcessPoolExecutor(count, mp_context=spawn, initializer=_die_with_parent)) as pool:
            yield submission(pool)


def choose(instances: list[Instance], which: int | Sequence[str] | None) -> list[Instance]:
    """So many of some instances, spread evenly, or those with some ids.

    :raises ValueError: if there are none, two have one id, or an id is unknown.

    >>> some = [Instance(id=str(n)) for n in range(10)]
    >>> [instance.id for instance in choose(some, 3)], [instance.id for instance in choose(some, ["7", "2"])]
    (['0', '3', '6'], ['7', '2'])
    """
    by_id = {instance.id: instance for instance in instances}
    if len(by_id) < len(instances):
        twice = [id for id, count in Counter(instance.id for instance in instances).items() if count > 1]
        raise ValueError(f"several instances have the id {twice[0]!r}")
    if not instances:
        raise ValueError("the data has no instances")
    if which is None:
        return instances
    if isinstance(which, int):
        if which < 1:
            raise ValueError(f"instances must be at least 1, got {which}")
        count = min(which, len(instances))
        return [instances[n * len(instances) // count] for n in range(count)]
    if unknown := [id for id in which if id not in by_id]:
        known = ", ".join(list(by_id)[:5]) + (", ..." if len(by_id) > 5 else "")
        raise ValueError(f"no instance {unknown[0]!r} among {len(by_id)}: {known}")
    if not which or len(set(which)) < len(which):
        raise ValueError("instances must be different ids, at least one")
    return [by_id[id] for id in which]


def _pickled(instance: Instance) -> bytes:
    try:
        return pickle.dumps(instance)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ValueError(f"instance {instance.id!r} cannot be sent to another process: {error}") from error


def _digest(domain: Domain[Any], instance: Instance, chat: bool) -> str:
    """Of an instance's prompt; empty if there is none, which its cells will say."""
    try:
        return digest(domain.chat(instance) if chat else domain.prompt(instance))
    except Exception:
        return ""


def _collect(futures: list[cf.Future[Record]], keep: Callable[[Record], None]) -> None:
    """Keeps every result as it comes; what is not begun is cancelled if one cannot be had."""
    waiting = set(futures)
    try:
        for future in cf.as_completed(futures):
            waiting.discard(future)
            keep(future.result())
    except cf.BrokenExecutor as error:
        raise ChildProcessError(
            "a worker process ended before its work was done (out of memory?). What is done is kept: run the "
            "same again, with fewer workers"
        ) from error
    finally:
        for future in waiting:
            future.cancel()
        for future in waiting:
            if future.done() and not future.cancelled() and future.exception() is None:
                keep(future.result())


@contextlib.contextmanager
def _ended(pool: Any) -> Iterator[Any]:
    """A pool that is left at once when something goes wrong, not when its work in hand is done."""
    before = set(multiprocessing.active_children())
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    pool.shutdown()


def _die_with_parent() -> None:
    """In a worker: a Ctrl-C is the parent's to answer, and without a parent there is nobody to work for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


__all__ = ["Executor", "Watcher", "choose", "evaluate"]
