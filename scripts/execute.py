"""Executes notebooks in this Python: `python scripts/execute.py [--out DIR] NOTEBOOK...`

In place, or into another folder, which is then also where they run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

SECONDS_PER_CELL = 600


class ThisPython(KernelSpecManager):
    """The interpreter that runs this file, whatever kernels the user has installed under the same name."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def execute(path: Path, out: Path) -> None:
    """Runs all cells of a notebook from a fresh kernel and writes it, also when one fails.

    :raises CellExecutionError: if a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    place = {"metadata": {"path": str(out.parent)}}
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=SECONDS_PER_CELL,
        startup_timeout=SECONDS_PER_CELL,  # on a busy machine
        record_timing=False,
        resources=place,
    )
    try:
        client.execute()
    finally:
        # No versions and paths of whoever ran it last.
        notebook.metadata = {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
        nbformat.write(notebook, out)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a folder for the executed notebooks; in place if not given")
    parser.add_argument("notebooks", nargs="+", type=Path)
    arguments = parser.parse_args()
    # XLA's callbacks can deadlock on machines of two cores without spare threads.
    os.environ.setdefault("NPROC", "4")
    # tqdm would like widgets, which a page cannot show.
    os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
    failed = []
    with tempfile.TemporaryDirectory() as profile:
        os.environ["IPYTHONDIR"] = profile  # not the user's, with startup files and a history
        for path in arguments.notebooks:
            start = time.monotonic()
            try:
                execute(path, (arguments.out or path.parent) / path.name)
            except CellExecutionError as error:
                failed.append(path)
                print(error, file=sys.stderr)
            print(f"{path.name}: {time.monotonic() - start:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
