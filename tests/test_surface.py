"""The public surface is a decision: what is exported exists, is documented, and installs under one name."""

import importlib
import importlib.metadata
import subprocess
import sys

import pytest

import sentax as sx


@pytest.mark.parametrize(
    "package",
    [
        "sentax",
        "sentax.domains",
        "sentax.domains.goal_inference",
        "sentax.domains.json_schema",
        "sentax.domains.molecules",
        "sentax.domains.patterns",
        "sentax.domains.text_to_sql",
        "sentax.evaluation",
        "sentax.inference.kernels",
        "sentax.inference.learning",
        "sentax.models",
        "sentax.ppl",
        "sentax.ppl.constraints",
    ],
)
def test_everything_exported_exists(package):
    module = importlib.import_module(package)
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name), name


@pytest.mark.parametrize("name", sx.__all__)
def test_everything_public_is_documented(name):
    assert getattr(sx, name).__doc__


def test_version():
    assert importlib.metadata.version("sentax") == sx.__version__


def test_no_top_level_modules_but_ours():
    """The folders of the repository's root install inside `sentax`."""
    installed = [d for d in importlib.metadata.distributions(name="sentax") if d.read_text("RECORD")]
    if not installed:
        pytest.skip("sentax is not installed")
    for distribution in installed:
        names = {f.parts[0] for f in distribution.files or []}
        assert not names & {"ppl", "models", "inference", "domains", "evaluation", "tests"}


def test_importing_sentax_pulls_in_nothing_heavy():
    """No torch, transformers or network client at import (optax and rich come with flax)."""
    heavy = ("torch", "transformers", "huggingface_hub", "typer")
    code = f"import sys, sentax; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert result.stdout.strip() == "[]"
