"""The benchmarks run: our side of each, in its quickest mode."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EMBEDDED = ROOT / "models" / "embedded"
needs_the_model = pytest.mark.skipif(
    not (EMBEDDED / "model.safetensors").is_file(), reason="the embedded model is not there"
)


def run(name: str, tmp_path: Path, *options: str) -> Any:
    """What a benchmark writes."""
    out = tmp_path / "result.json"
    command = [sys.executable, str(ROOT / "benchmarks" / name), *options, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


@needs_the_model
@pytest.mark.slow
def test_awrs_vs_genlm_control_runs_our_side(tmp_path: Path) -> None:
    report = run("awrs_vs_genlm_control.py", tmp_path, "--quick", "--systems", "sentax", "unconstrained")
    (result,) = report["results"]
    for figures in result["systems"].values():
        assert figures["tokens"] > 0
        assert figures["cpu_ms_per_token"]["median"] > 0
    assert result["ratios"]["overhead"] > 0


def test_device_constraints_runs(tmp_path: Path) -> None:
    (result,) = run("device_constraints.py", tmp_path, "--quick")["results"]
    assert {"check_us", "first_mask_us", "mask_us", "masks_32_us"} <= result.keys()


@needs_the_model
@pytest.mark.slow
def test_callbacks_one_core_runs(tmp_path: Path) -> None:
    assert run("callbacks_one_core.py", tmp_path, "--runs", "4")


@pytest.mark.slow
def test_load_checkpoint_runs(tmp_path: Path) -> None:
    (result,) = run("load_checkpoint.py", tmp_path, "--quick", "--dtypes", "bfloat16")["results"]
    assert result["peak_anonymous_over_model"] > 0


@pytest.mark.slow
def test_cache_memory_runs(tmp_path: Path) -> None:
    (result,) = run("cache_memory.py", tmp_path, "--quick")["results"]
    assert result["ratios"]["temporaries_mb"] > 1


@pytest.mark.slow
def test_decode_vs_generate_runs_our_side(tmp_path: Path) -> None:
    (result,) = run("decode_vs_generate.py", tmp_path, "--quick", "--systems", "sentax")["results"]
    assert result["systems"]["sentax"]["cpu_ms_per_step"] > 0


def test_methods_runs(tmp_path: Path) -> None:
    rows = run("methods.py", tmp_path, "--quick")["results"]
    assert {row["method"] for row in rows} == {"awrs-smc", "lcd"}
    assert all(0 <= row["tv"] <= 1 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("claim", ["vocabulary", "bias", "divergence", "accuracy"])
def test_claims_run(claim: str, tmp_path: Path) -> None:
    options = {
        "bias": ("--programs", "rare_pair", "--sizes", "2", "--replicates", "3"),
        "divergence": ("--domains", "goal_inference", "--instances", "1", "--repeats", "1"),
        "accuracy": ("--domains", "goal_inference", "--instances", "2", "--folder", str(tmp_path / "cells")),
    }
    report = run("claims.py", tmp_path, claim, *options.get(claim, ()))
    assert report["results"] and report["verdicts"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["holes.py", "learned_twists.py"])
def test_training_benchmarks_run(name: str, tmp_path: Path) -> None:
    quick = {
        "holes.py": ("--steps", "2", "--runs", "1", "--languages", "json"),
        "learned_twists.py": ("--quick",),
    }
    assert run(name, tmp_path, *quick[name])
