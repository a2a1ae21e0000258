"""Every notebook runs from its first cell to its last, and what is committed is what a reader should see."""

import pathlib
import subprocess
import sys

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs `pip install 'sentax[notebooks]'`")
pytest.importorskip("nbclient", reason="needs `pip install 'sentax[notebooks]'`")

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
MAX_CELLS, MAX_BYTES = 25, 200_000


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert path.stat().st_size < MAX_BYTES
    assert len(notebook.cells) <= MAX_CELLS
    assert notebook.cells[0].source.startswith(f"# {path.stem[:2]} · ")

    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "assert " in cells[-1].source
    assert any(cell.outputs for cell in cells)
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path):
    """As `scripts/notebooks` runs it, but on a copy; in a process of its own, so that only cells can fail."""
    script = path.parents[1] / "scripts" / "execute.py"
    command = [sys.executable, str(script), "--out", str(tmp_path), str(path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    for cell in code_cells(read(tmp_path / path.name)):
        for output in cell.outputs:
            assert output.get("name") != "stderr", output.text
