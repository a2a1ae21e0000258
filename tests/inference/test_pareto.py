"""The Pareto shape of weights: against ArviZ, and on weights whose shape is known."""

import numpy as np
import pytest

from sentax.inference.pareto import pareto_shape


@pytest.mark.parametrize("num_weights", [25, 100, 226, 3000])
@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_agrees_with_arviz(num_weights, spread):
    array_stats = pytest.importorskip("arviz_stats.base").array_stats
    log_weights = spread * np.random.default_rng(num_weights).normal(size=num_weights) - 300.0
    _, expected = array_stats.psislw(-log_weights)  # ArviZ takes the log-likelihoods that the weights divide by
    assert pareto_shape(log_weights).k == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("k", [0.1, 0.4, 0.9])
def test_finds_the_shape_of_pareto_weights(k):
    """By their quantiles, so that nothing is random; the prior pulls a little towards one half."""
    quantiles = (np.arange(20_000) + 0.5) / 20_000
    shape = pareto_shape(-k * np.log1p(-quantiles))
    assert shape.k == pytest.approx(k, abs=0.05)
    assert (shape.reading == "good") == (k < shape.limit)


def test_zero_weights_count_as_particles():
    log_weights = np.random.default_rng(0).normal(size=400)
    log_weights[::2] = -np.inf
    shape = pareto_shape(log_weights)
    assert shape.k is not None
    assert np.isfinite(shape.k)


@pytest.mark.parametrize(
    ("log_weights", "reading"),
    [
        (np.zeros(100), "the weights are equal"),
        (np.full(100, -np.inf), "every weight is zero"),
        (np.random.default_rng(0).normal(size=24), "fewer than 25"),
        (np.repeat([0.0, 1.0], 50), "too many of the largest weights are equal"),
        (np.array([0.5]), "the weights are equal"),
    ],
)
def test_says_why_it_cannot_tell(log_weights, reading):
    shape = pareto_shape(log_weights)
    assert shape.k is None
    assert reading in shape.reading


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_refuses_what_is_no_weight(wrong):
    with pytest.raises(ValueError, match="finite or -inf"):
        pareto_shape(np.array([0.0, wrong]))
    with pytest.raises(ValueError, match=r"shape \[N\]"):
        pareto_shape(np.zeros((2, 2)))
