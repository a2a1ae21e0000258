"""The benchmarks run: our side of each, in its quickest mode."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "models" / "embedded"


@pytest.mark.skipif(not (EMBEDDED / "model.safetensors").is_file(), reason="the embedded model is not there")
def test_awrs_vs_genlm_control_runs_our_side(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    script = ROOT / "benchmarks" / "awrs_vs_genlm_control.py"
    options = ["--quick", "--systems", "sentax", "unconstrained", "--out", str(out)]
    done = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(out.read_text())["results"]
    for figures in result["systems"].values():
        assert figures["tokens"] > 0
        assert figures["cpu_ms_per_token"]["median"] > 0
    assert result["ratios"]["overhead"] > 0
