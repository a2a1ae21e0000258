"""Prompts of molecules: drawn from a file of SMILES, or from the one that ships."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import IO

from sentax.domains.base import Instance, find_folder
from sentax.domains.molecules.grammar import is_smiles

SAMPLE = Path(__file__).parent / "sample" / "molecules.smi"
"""Well-known substances with their names, written for sentax."""

_NAMES = ("gdb17*.smi", "gdb17*.smi.gz", "gdb17*.txt", "*.smi", "*.smi.gz", "*smiles.txt")


@dataclass(frozen=True, kw_only=True)
class Series(Instance):
    """Molecules that a prompt shows; asked for is one more.

    :param molecules: SMILES.
    """

    molecules: tuple[str, ...]


def read(path: str | Path, *, num_prompts: int, num_shots: int, seed: int) -> list[Series]:
    """Draw prompts from a file with a SMILES on each line, and perhaps a name behind it.

    GDB-17's own form (Ruddigkeit et al. 2012; 50 million lines, compressed with gzip or not), and that of most
    `.smi` files. The file is read twice and never held in memory. Each prompt is drawn without
    replacement; two may share molecules.

    :param path: the file; or a folder, or one that holds it as `molecules`. There `GDB17*` is looked for first,
        then another file of SMILES.
    :param num_prompts: how many are drawn.
    :param num_shots: molecules in each.
    :param seed: of `random.Random`, whose `sample` draws line numbers, blank lines not counted.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if there are several to choose from, the file has too few molecules, or a line that
        was drawn is not a SMILES.
    """
    file = _find(Path(path))
    count = sum(1 for _ in _lines(file))
    if count < num_shots:
        raise ValueError(f"{file} has {count} molecules, fewer than the {num_shots} of one prompt")
    rng = Random(seed)
    draws = [rng.sample(range(count), num_shots) for _ in range(num_prompts)]
    wanted = {position for draw in draws for position in draw}
    molecules = {}
    for position, (number, line) in enumerate(_lines(file)):
        if position not in wanted:
            continue
        molecules[position] = line.split()[0]
        if not is_smiles(molecules[position]):
            raise ValueError(f"{file}, line {number}: {molecules[position]!r} is not a SMILES")
    return [
        Series(id=str(n), molecules=tuple(molecules[position] for position in draw))
        for n, draw in enumerate(draws)
    ]


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    folder = find_folder(path, "molecules")
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    for pattern in _NAMES:
        found = [name for name in names if Path(name.lower()).match(pattern)]
        if len(found) > 1:
            raise ValueError(f"{folder} has {', '.join(found)}: give the path of one of them")
        if found:
            return folder / found[0]
    raise FileNotFoundError(f"{folder} has none of: {', '.join(_NAMES)}")


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers, from 1."""
    opener: Callable[..., IO[str]] = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8", errors="backslashreplace") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, line


__all__ = ["SAMPLE", "Series", "read"]
