"""Bootstrap intervals against closed forms and against SciPy."""

import numpy as np
import pytest
from scipy import stats

from sentax.evaluation.bootstrap import bootstrap_interval, bootstrap_means

DRAWS = 10_000


def test_means_of_zeros_and_ones_are_binomial():
    """The largest distance of the two distribution functions: Massart's inequality at 2e-6."""
    n, ones = 40, 13
    values = np.r_[np.ones(ones), np.zeros(n - ones)]
    counts = np.rint(n * bootstrap_means(values, draws=DRAWS)).astype(int)
    assert len(counts) == DRAWS
    empirical = np.cumsum(np.bincount(counts, minlength=n + 1)) / DRAWS
    exact = stats.binom.cdf(np.arange(n + 1), n, ones / n)
    assert np.abs(empirical - exact).max() < np.sqrt(np.log(2 / 2e-6) / (2 * DRAWS))


def test_interval_agrees_with_scipy():
    """The share of SciPy's means below our ends is that of ours, for two samples (|z| < 4.75)."""
    values = np.random.default_rng(1).exponential(size=30)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=DRAWS, method="percentile", rng=np.random.default_rng(2)
    ).bootstrap_distribution
    for end, share in zip(bootstrap_interval(values, draws=DRAWS), (0.025, 0.975)):
        error = np.sqrt(2 * 0.025 * 0.975 / DRAWS)
        assert abs((theirs < end).mean() - share) < 4.75 * error


def test_coverage():
    """Of normal data: that of an interval with the plug-in variance, by Student's t (|z| < 4.75).

    For n = 20 it is 92.9%, not 95%, and 5,000 sets tell the two apart.
    """
    n, sets = 20, 5000
    expected = 2 * stats.t.cdf(stats.norm.ppf(0.975) * np.sqrt((n - 1) / n), n - 1) - 1
    rng = np.random.default_rng(3)
    hits = 0
    for number in range(sets):
        low, high = bootstrap_interval(rng.normal(size=n), draws=400, seed=number)
        hits += low <= 0 <= high
    assert abs(hits / sets - expected) < 4.75 * np.sqrt(expected * (1 - expected) / sets)


def test_resamplings_are_shared_by_all_values():
    """Pairing: the interval of a constant shift is the interval, shifted."""
    values = np.random.default_rng(4).normal(size=25)
    first, second = bootstrap_means(values), bootstrap_means(values + 3)
    np.testing.assert_allclose(second - first, 3, rtol=0, atol=1e-12)
    assert not np.array_equal(first, bootstrap_means(values, seed=1))


def test_many_values_are_resampled_in_parts():
    """More indices than are drawn at a time; the standard deviation of a mean of n is sigma / sqrt(n)."""
    values = np.random.default_rng(5).normal(size=3000)
    means = bootstrap_means(values, draws=2000)
    # The standard deviation of 2,000 normal values has a relative error of 1.6%.
    assert abs(means.std() / (values.std() / np.sqrt(3000)) - 1) < 4.75 / np.sqrt(2 * 2000)


@pytest.mark.parametrize(
    ("values", "message"), [([], "two values"), ([1.0], "two values"), ([1.0, np.nan], "finite")]
)
def test_bad_values(values, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(values)
