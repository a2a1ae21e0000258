"""The folder with the real data sets, which users download themselves."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def data():
    folder = os.environ.get("SENTAX_DATA")
    if not folder:
        pytest.skip("SENTAX_DATA names no folder with the data sets")
    return Path(folder)
