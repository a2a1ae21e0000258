"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import sentax

MODULES = sorted(m.name for m in pkgutil.walk_packages(sentax.__path__, "sentax."))


@pytest.mark.parametrize("name", ["sentax", *MODULES])
def test_doctests(name):
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=flags)
    assert result.failed == 0
