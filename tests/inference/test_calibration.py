"""Simulation-based calibration finds what is wrong, and only that."""

import jax
import numpy as np
import pytest
from scipy import stats

from sentax.inference.calibration import Calibration, calibrate

L = 9


def simulate(rng_key):
    rng = np.random.default_rng(np.asarray(jax.random.key_data(rng_key)))
    p = rng.beta(2, 3)
    vector = rng.normal(size=2)
    data = rng.binomial(4, p), vector + rng.normal(size=2)
    return {"p": p, "vector": vector, "coin": int(rng.random() < 0.3)}, data


def infer(rng_key, data, bias=0.0, width=1.0):
    """The exact posterior, or one that is off by `bias` standard deviations or `width` times too wide."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(rng_key)))
    heads, seen = data
    return {
        "p": rng.beta(2 + heads, 3 + 4 - heads, size=L),
        "vector": seen / 2 + (bias + width * rng.normal(size=(L, 2))) / np.sqrt(2),
        "coin": (rng.random(L) < 0.3).astype(int),
    }


def test_exact_inference_passes():
    """False-alarm rate 1e-3 for a wrong seed; the seed is fixed."""
    found = calibrate(jax.random.key(1), simulate, infer, num_simulations=300)
    assert set(found.ranks) == {"p", "vector[0]", "vector[1]", "coin"}
    assert found.num_draws == L
    assert found.is_uniform(1e-3)
    for ranks in found.ranks.values():
        assert ranks.min() >= 0
        assert ranks.max() <= L


@pytest.mark.parametrize("wrong", [{"bias": 0.6}, {"width": 0.5}, {"width": 2.0}])
def test_wrong_inference_is_found(wrong):
    found = calibrate(
        jax.random.key(1), simulate, lambda key, data: infer(key, data, **wrong), num_simulations=300
    )
    assert not found.is_uniform(1e-6)
    assert found.p_values["p"] > 1e-3
    assert found.p_values["coin"] > 1e-3
    assert found.p_values["vector[0]"] < 1e-6


def test_p_values_keep_their_false_alarm_rate():
    """Of 200 calibrations of uniform ranks at most 5% have p < 0.05: binomial bound at 1e-6."""
    rng = np.random.default_rng(0)
    positions = rng.random((200, 40))
    p = [min(Calibration({"x": u}, {"x": u}, L).p_values.values()) for u in positions]
    assert np.mean(np.array(p) < 0.05) <= stats.binom.ppf(1 - 1e-6, 200, 0.05) / 200


@pytest.mark.parametrize(
    ("draws", "message"),
    [({}, "no draws of 'x'"), ({"x": np.zeros((3, 2))}, r"shape \[L, \]"), ({"x": np.full(3, np.nan)}, "NaN")],
)
def test_bad_draws_are_named(draws, message):
    with pytest.raises(ValueError, match=message):
        calibrate(jax.random.key(0), lambda key: ({"x": 0.5}, None), lambda key, data: draws, num_simulations=2)


def test_the_number_of_draws_must_not_change():
    lengths = iter([3, 4])
    with pytest.raises(ValueError, match=r"\[3, 4\]"):
        calibrate(
            jax.random.key(0),
            lambda key: ({"x": 0.5}, None),
            lambda key, data: {"x": np.zeros(next(lengths))},
            num_simulations=2,
        )
