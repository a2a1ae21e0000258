"""The how-to page's files: a domain of one's own, evaluated by a cluster of two worker processes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sentax.domains import check_answers
from sentax.evaluation.specs import make_domain

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "evaluate.md"


@pytest.fixture
def files(tmp_path):
    """Each block whose first line names it, as a file."""
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    assert [name for name, _ in blocks] == ["capitals.py", "cluster.py"]
    return tmp_path


def test_the_domain(files):
    domain = make_domain(f"{files / 'capitals.py'}:Capitals")
    country = domain.sample()[0]
    assert domain.score(country, " Paris.") == 1 and domain.score(country, " Rome.") == 0
    check_answers(domain, domain.sample())


@pytest.mark.slow
def test_the_cluster(files):
    pytest.importorskip("distributed")
    subprocess.run([sys.executable, "cluster.py"], cwd=files, check=True, timeout=500)
    report = json.loads((files / "results" / "report.json").read_text())
    methods = report["domains"]["capitals"]["methods"]
    assert {name: method["cells"] for name, method in methods.items()} == {"base": 6, "awrs-smc": 6}
    assert not any(method["failures"] for method in methods.values())
    assert methods["awrs-smc"]["times"]["compilations"] <= 2  # at most one a worker
