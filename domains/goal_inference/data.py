"""Problems of the blocks world with descriptions in English: Planetarium's own layout, and generated ones."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from sentax.domains.base import Instance, find_folder
from sentax.domains.goal_inference.pddl import Problem, read_problem
from sentax.models.data import goals

_BEGIN = re.compile(r"\(:goal\s*\(and", re.IGNORECASE)
_COLUMNS = ("natural_language", "problem_pddl")


@dataclass(frozen=True, kw_only=True)
class Task(Instance):
    """A description and the problem whose goal it describes.

    :param description: what a prompt shows.
    :param beginning: the problem's PDDL up to and with `(:goal (and`.
    :param placeholder: whether the description leaves open which block is which; see
        :func:`~sentax.domains.goal_inference.goals.equivalent`.
    :param plan: actions that lead to the goal, or None: then one is searched for.
    """

    description: str
    beginning: str
    problem: Problem
    placeholder: bool = False
    plan: tuple[str, ...] | None = None


def read(directory: str | Path, *, max_objects: int, explicit: bool, unique: bool) -> list[Task]:
    """Blocks-world problems of Planetarium, in any of the forms in which it comes.

    * `data/*.parquet` (or beside): the data set on Hugging Face; needs `pyarrow`;
    * `*.db`: what its generator writes, an SQLite file with a table `problems`;
    * `*.jsonl`: the same rows as JSON, with a `plan` if there is one.

    As in Lipkin et al. (2025) a prompt shows what the description says of the goal, and goals are conjunctions.

    :param directory: the folder, or one that holds it as `planetarium`.
    :param max_objects: problems with more blocks are left out.
    :param explicit: whether only problems whose two states are described fact by fact are wanted.
    :param unique: whether of problems with the same description of the goal only the first is wanted.
    :raises FileNotFoundError: if there is no file in such a form.
    :raises ValueError: if a file is not what it should be.
    """
    folder = find_folder(directory, "planetarium")
    tasks: list[Task] = []
    seen: set[str] = set()
    for number, row in enumerate(_rows(folder)):
        if missing := [column for column in _COLUMNS if not isinstance(row.get(column), str)]:
            raise ValueError(f"{folder}: problem {number} has no {' and no '.join(missing)}")
        text = row["problem_pddl"].replace("\r\n", "\n")
        if str(row.get("domain", "blocksworld")).lower() != "blocksworld" or not _BEGIN.search(text):
            continue
        abstract = bool(row.get("init_is_abstract")) or bool(row.get("goal_is_abstract"))
        problem = read_problem(text)
        if len(problem.objects) > max_objects or (explicit and abstract):
            continue
        description = "Your goal" + row["natural_language"].rsplit("Your goal", 1)[-1]
        if unique and description in seen:
            continue
        seen.add(description)
        plan = row.get("plan")
        tasks.append(
            Task(
                id=str(row.get("id", number)),
                description=description,
                beginning=_beginning(text),
                problem=problem,
                placeholder=_placeholder(row, abstract),
                plan=None if plan is None else tuple(plan),
            )
        )
    return tasks


def generate(count: int, seed: int = 0) -> list[Task]:
    """Problems of the kind that the embedded model was trained on, each with its whole description.

    >>> print(generate(1)[0].description)
    You have 3 blocks, b1 through b3. ...
    Your goal is to have the following: Your arm should be empty. ...
    """
    rng = Random(f"goals {seed}")
    tasks = []
    for number in range(count):
        description, text = goals.problem(rng).split("(define", 1)
        text = f"(define{text}"
        task = Task(
            id=str(number),
            description=description.rstrip("\n"),
            beginning=_beginning(text),
            problem=read_problem(text),
        )
        tasks.append(task)
    return tasks


def _beginning(text: str) -> str:
    found = _BEGIN.search(text)
    assert found is not None
    return text[: found.end()]


def _placeholder(row: dict[str, Any], abstract: bool) -> bool:
    """As Planetarium's generator sets it: swapping and inverting keep track of every block."""
    if "is_placeholder" in row:
        return bool(row["is_placeholder"])
    return abstract and row.get("init") not in ("swap", "invert")


def _rows(folder: Path) -> Iterator[dict[str, Any]]:
    for pattern, read_file in (("*.parquet", _parquet), ("data/*.parquet", _parquet), ("*.db", _database)):
        if files := sorted(folder.glob(pattern)):
            for file in files:
                yield from read_file(file)
            return
    files = sorted(folder.glob("*.jsonl"))
    if not files:
        raise FileNotFoundError(f"{folder} has no *.parquet, data/*.parquet, *.db or *.jsonl")
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.strip():
                yield json.loads(line)


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(f"{file} is read with pyarrow: pip install pyarrow") from error
    yield from parquet.read_table(file).to_pylist()


def _database(file: Path) -> Iterator[dict[str, Any]]:
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        for row in connection.execute("SELECT * FROM problems"):
            yield dict(row)


__all__ = ["Task", "generate", "read"]
