"""The error bars of the evidence: exactly unbiased where theory says so."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan

import sentax as sx
from sentax.inference.control import Control
from sentax.inference.engine import SiteNumbers, run_particles
from sentax.inference.evidence import error_between_runs, error_within_run, log_mean_exp
from sentax.inference.filter import FilterConfig

T, SPREAD, MEMORY, RUNS, N = 4, 0.4, 0.5, 4000, 8


def walk():
    """A latent that remembers, and a factor that likes it large: the evidence is that of a log-normal sum."""

    def step(x, _):
        x = MEMORY * x + numpyro.sample("noise", dist.Normal(0.0, 1.0))
        numpyro.factor("large", SPREAD * x)
        return x, None

    scan(step, jnp.float32(0), None, length=T)


def log_evidence() -> float:
    # The sum of the factors is normal: noise t counts with 1 + MEMORY + ... over the steps it is alive in.
    scales = [SPREAD * sum(MEMORY**i for i in range(T - t)) for t in range(T)]
    return 0.5 * sum(s * s for s in scales)


def test_variance_within_a_run_is_unbiased():
    """Z^2 V estimates Var Z without bias (Lee and Whiteley 2018): |z| < 4.75, false-alarm rate 2e-6.

    Weights are continuous, so that a threshold of 1 resamples before every step but the first.
    """
    config = FilterConfig(N, Control(1.0, sx.multinomial))

    @jax.jit
    def many(keys):
        def one(key):
            population = run_particles(sx.Prior(walk), config, SiteNumbers(), key, (), {})
            return population.log_weights, population.start[0], population.resampled[0].sum()

        return jax.vmap(one)(keys)

    results = jax.device_get(many(jax.random.split(jax.random.key(2), RUNS)))
    resamplings = T - 1
    differences = []
    for log_weights, origins, resampled in zip(*results):
        assert resampled == resamplings
        weights = np.exp(log_weights.astype(np.float64))
        shares = np.bincount(origins, weights / weights.sum())
        variance = 1 - (N / (N - 1)) ** (resamplings + 1) * (1 - shares @ shares)
        error = error_within_run(log_weights, origins, resamplings, multinomial=True)
        if error.std is None:
            assert variance < 0 or np.count_nonzero(shares) == 1
        else:
            assert error.std**2 == pytest.approx(max(variance, 0.0), abs=1e-9)
        z = weights.mean()
        differences.append(z**2 * variance - (z - np.exp(log_evidence())) ** 2)
    score = np.mean(differences) / (np.std(differences) / np.sqrt(RUNS))
    assert abs(score) < 4.75


def test_between_runs_is_the_delta_method():
    log_evidences = np.array([-500.1, -499.8, -500.4])
    estimates = np.exp(log_evidences + 500)
    error = error_between_runs(log_evidences)
    assert error.std == pytest.approx(estimates.std(ddof=1) / np.sqrt(3) / estimates.mean())
    assert error_between_runs([-np.inf, 0.0]).std == pytest.approx(1.0)
    assert error_between_runs([-np.inf, -np.inf]).std is None


@pytest.mark.parametrize(
    ("log_weights", "origins", "resampled", "source"),
    [
        ([-np.inf, -np.inf], [0, 1], 0, "died"),
        ([0.0], [0], 0, "one particle"),
        ([0.0, 0.5], [1, 1], 1, "descend from one"),
        ([0.0, 0.0, 0.0], [0, 1, 2], 2, "too small"),
    ],
)
def test_says_why_it_cannot_tell(log_weights, origins, resampled, source):
    error = error_within_run(log_weights, origins, resampled, multinomial=True)
    assert error.std is None
    assert source in error.source


def test_equal_weights_have_no_error():
    assert error_within_run(np.zeros(10), np.arange(10), 0).std == pytest.approx(0.0, abs=1e-7)


def test_log_mean_exp():
    assert log_mean_exp(np.log([1.0, 3.0]) - 1000.0) == pytest.approx(np.log(2) - 1000.0)
    assert log_mean_exp(np.full(3, -np.inf)) == -np.inf
