"""Tensors in safetensors files: found by their headers, read in parts, each looked at for NaN."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

FLOATS = ("F64", "F32", "F16", "BF16")

BLOCK_BYTES = 2**26
"""How much of a tensor is looked at at once, where temporaries would be as large as the tensor."""


class StoredTensor(NamedTuple):
    """What a file's header says of a tensor."""

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]

    @contextlib.contextmanager
    def open(self) -> Iterator[Any]:
        """The tensor as safetensors' slice, which reads what it is indexed with.

        The file is mapped while it is open, and what was read of it counts as this process's memory:
        so a file is opened again for every tensor, which takes a fraction of a millisecond.
        """
        with safe_open(self.file, framework="numpy") as tensors:
            yield tensors.get_slice(self.name)


def find_tensors(directory: Path, faults: list[str]) -> list[StoredTensor]:
    """Every tensor of a checkpoint directory, from ``model.safetensors`` or the shards that its index lists.

    :param directory: where the files are.
    :param faults: missing and unreadable files are noted here.
    """
    found = []
    for file in _files(directory, faults):
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    view = tensors.get_slice(name)
                    found.append(StoredTensor(file, name, view.get_dtype(), tuple(view.get_shape())))
        except (SafetensorError, OSError) as error:
            faults.append(f"{file.name}: unreadable ({error})")
    return found


def _files(directory: Path, faults: list[str]) -> list[Path]:
    if (directory / INDEX).is_file():
        try:
            weight_map = json.loads((directory / INDEX).read_text())["weight_map"]
        except (ValueError, KeyError) as error:
            faults.append(f"{INDEX}: unreadable ({error!r})")
            return []
        files = [directory / name for name in sorted(set(weight_map.values()))]
    else:
        files = [directory / SINGLE]
    for file in files:
        if not file.is_file():
            faults.append(f"{file.name}: no such file")
    return [file for file in files if file.is_file()]


def is_finite(array: np.ndarray, dtype: Any) -> bool:
    """Whether an array holds neither NaN nor infinity, nor what a dtype would make infinite."""
    for block in _blocks(array):
        if dtype == np.float16:
            if not (np.abs(block.astype(np.float32)) <= np.finfo(np.float16).max).all():
                return False
        elif not np.isfinite(block).all():
            return False
    return True


def are_equal(a: StoredTensor, b: StoredTensor) -> bool:
    """Whether two stored tensors of two axes are equal, without holding both."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    rows, width = a.shape
    step = max(1, BLOCK_BYTES // (4 * width))
    with a.open() as left, b.open() as right:
        ends = [(start, min(start + step, rows)) for start in range(0, rows, step)]
        return all((left[start:end] == right[start:end]).all() for start, end in ends)


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    return (array[start : start + step] for start in range(0, len(array), step))
