"""Divergences against their definitions in SciPy, and at the edges."""

import numpy as np
import pytest
from scipy import special, stats

from sentax.inference.divergences import divergences


def test_agree_with_scipy():
    rng = np.random.default_rng(0)
    q, p = rng.dirichlet(np.ones(7)), rng.dirichlet(np.ones(7))
    found = divergences(dict(enumerate(q)), dict(enumerate(5 * p)))
    middle = (q + p) / 2
    assert found.kl == pytest.approx(special.rel_entr(q, p).sum(), abs=1e-12)
    assert found.reverse_kl == pytest.approx(special.rel_entr(p, q).sum(), abs=1e-12)
    assert found.total_variation == pytest.approx((q - p)[q > p].sum(), abs=1e-12)
    assert found.chi_square == pytest.approx(stats.chisquare(q, p).statistic, abs=1e-12)
    jensen_shannon = (special.rel_entr(q, middle).sum() + special.rel_entr(p, middle).sum()) / 2
    assert found.jensen_shannon == pytest.approx(jensen_shannon, abs=1e-12)


def test_of_a_table_to_itself_are_zero():
    table = {"a": 0.1, "b": 0.2, "c": 0.7}
    found = divergences(table, {k: 3 * v for k, v in table.items()})
    assert max(found.total_variation, found.kl, found.reverse_kl, found.chi_square) < 1e-12


def test_of_disjoint_tables_are_greatest():
    found = divergences({"a": 1.0}, {"b": 1.0})
    assert found.total_variation == 1.0
    assert found.kl == found.reverse_kl == found.chi_square == np.inf
    assert found.jensen_shannon == pytest.approx(np.log(2))


def test_missing_and_impossible_values_are_the_same():
    with_zero = divergences({"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.5})
    assert with_zero == divergences({"a": 1.0}, {"a": 0.5, "b": 0.5})
    assert with_zero.kl == pytest.approx(np.log(2))
    assert with_zero.chi_square == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [{"a": -0.1}, {"a": np.nan}, {"a": np.inf}, {"a": 0.0}, {}])
def test_refuses_what_is_no_distribution(bad):
    with pytest.raises(ValueError, match=r"estimate"):
        divergences(bad, {"a": 1.0})
    with pytest.raises(ValueError, match=r"reference"):
        divergences({"a": 1.0}, bad)


def test_refuses_keys_that_cannot_be_equal():
    with pytest.raises(TypeError, match=r"str.*tuple"):
        divergences({"ab": 1.0}, {(0, 1): 1.0})
