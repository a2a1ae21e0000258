"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import sentax
import sentax.domains
import sentax.evaluation
import sentax.inference
import sentax.models
import sentax.ppl

# Each by itself: in an editable install the packages lie beside `sentax`, not in it.
PACKAGES = (sentax, sentax.domains, sentax.evaluation, sentax.inference, sentax.models, sentax.ppl)
MODULES = sorted({m.name for p in PACKAGES for m in pkgutil.walk_packages(p.__path__, p.__name__ + ".")})


@pytest.mark.parametrize("name", ["sentax", *MODULES])
def test_doctests(name):
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=flags)
    assert result.failed == 0
