"""A run's figures, counted again from its lineages, and by hand on small populations."""

import itertools
import json

import jax
import numpy as np
import pytest
from reference.runs import MAX_TOKENS, NUM_GATES, markup_run

import sentax as sx
from sentax.inference.diagnostics import SiteFigures, relative_variance


@pytest.fixture(scope="module")
def smc():
    return markup_run().smc


@pytest.fixture(scope="module")
def steps(smc):
    """Its columns that are steps, by scan."""
    columns = smc.lineage.columns
    return columns[1 : MAX_TOKENS + 1], columns[MAX_TOKENS + 2 : MAX_TOKENS + 2 + NUM_GATES]


def test_traces_are_those_of_the_columns(smc, steps):
    d = smc.diagnostics
    assert d.steps == (MAX_TOKENS, NUM_GATES)
    for scan, columns in enumerate(steps):
        assert d.resampling_steps[scan] == tuple(t for t, column in enumerate(columns) if column.resampled)
        np.testing.assert_allclose(d.log_evidences[scan], [column.log_evidence for column in columns])
        np.testing.assert_allclose(
            d.weight_variance_trace[scan], [smc.num_particles / column.ess - 1 for column in columns], atol=1e-9
        )


def test_log_normalisers_add_up_to_the_evidence(smc):
    """With the factors before, between and after the scans, by the columns around them."""
    columns = smc.lineage.columns
    outside = [
        after.log_evidence - before.log_evidence
        for before, after in itertools.pairwise(columns)
        if not after.step
    ]
    total = columns[0].log_evidence + sum(outside) + sum(map(sum, smc.diagnostics.log_normalisers))
    assert total == pytest.approx(smc.log_evidence, abs=1e-5)
    assert columns[0].log_evidence == 0.0


def test_a_step_s_normaliser_is_the_weighted_mean_of_its_weights(smc, steps):
    """By the engine's increments, where nobody was resampled: the other way to the same figure."""
    population = smc.population
    checked = 0
    for scan, columns in enumerate(steps):
        for t, column in enumerate(columns):
            if column.resampled:
                continue
            record = population.records[scan]
            before = np.exp(np.asarray(record.log_weights, np.float64)[:, t])
            gains = np.exp(np.asarray(record.increments, np.float64)[:, t])
            expected = np.log((before * gains)[before > 0].sum() / before.sum())
            assert smc.diagnostics.log_normalisers[scan][t] == pytest.approx(expected, abs=1e-5)
            checked += 1
    assert checked


def test_unique_ancestors_are_those_with_living_descendants(smc, steps):
    lineage = smc.lineage
    counts = {(c.scan, c.step): int(s.sum()) for c, s in zip(lineage.columns, lineage.survives())}
    for trace, columns in zip(smc.diagnostics.unique_ancestors, steps):
        assert list(trace) == [counts[column.scan, column.step] for column in columns]
    assert smc.diagnostics.surviving_lineages == int(lineage.survives()[0].sum())


def test_acceptance_by_site(smc):
    """One check a draw, and a draw is accepted where it does not kill."""
    sites, lineage = smc.diagnostics.sites, smc.lineage
    assert set(sites) == {"text", "gate"}
    for name, scan in (("text", 0), ("gate", 1)):
        columns = [c for c, column in enumerate(lineage.columns) if column.scan == scan and column.step]
        draws = sum(int(lineage.columns[c].drew.sum()) for c in columns)
        deaths = sum(int(lineage.died(c).sum()) for c in columns)
        assert sites[name] == SiteFigures(draws, draws - deaths, draws)
        assert sites[name].acceptance == pytest.approx(1 - deaths / draws)
    assert smc.diagnostics.checks == sites["text"].checks + sites["gate"].checks
    assert smc.diagnostics.tokens == sites["text"].draws


def test_sites_without_checks_have_no_acceptance():
    assert SiteFigures(10, 10, 0).acceptance is None
    assert SiteFigures(10, 9, 30).acceptance == pytest.approx(0.3)
    assert SiteFigures(10, 9, 30).checks_per_draw == 3.0
    assert SiteFigures(0, 0, 0).checks_per_draw == 0.0


def test_the_error_bar_is_the_genealogy_s(smc):
    """The run resamples independently: the sums over its lineages are taken back by (N / (N - 1))^(n + 1)."""
    lineage, N = smc.lineage, smc.num_particles
    line = np.arange(N)
    for column in reversed(lineage.columns[1:]):
        line = column.parents[line]
    shares = np.bincount(line, lineage.columns[-1].shares, minlength=N)
    resampled = sum(column.resampled for column in lineage.columns)
    variance = 1 - (N / (N - 1)) ** (resampled + 1) * (1 - shares @ shares)
    assert smc.diagnostics.evidence_error.std == pytest.approx(np.sqrt(variance), rel=1e-4)


def test_json_has_no_surprises(smc):
    plain = json.loads(json.dumps(smc.diagnostics.as_dict(), allow_nan=False))
    assert plain["sites"]["gate"]["acceptance"] == smc.diagnostics.sites["gate"].acceptance
    assert plain["pareto"]["reading"] == smc.diagnostics.pareto.reading
    assert plain["evidence_error"]["std"] == smc.diagnostics.evidence_error.std


def test_relative_variance():
    weights = np.random.default_rng(0).random(50)
    expected = weights.var() / weights.mean() ** 2
    assert relative_variance(np.log(weights) - 2000.0) == pytest.approx(expected)
    assert relative_variance(np.full(4, -np.inf)) == 0.0


def test_divergences_take_the_posterior_of_a_site(smc):
    posterior = smc.posterior("text")
    assert smc.divergences("text", {text: 7 * p for text, p in posterior.items()}).kl == pytest.approx(0.0)
    (first, p), *_ = posterior.items()
    assert smc.divergences("text", {first: 1.0}).total_variation == pytest.approx(1 - p)
    with pytest.raises(TypeError, match="texts are str"):
        smc.divergences("text", {(0, 1): 1.0})


def test_several_runs_stay_apart_and_say_their_own_error():
    lm = sx.TableLM.uniform([b"a", b"b"])

    def model(context, where):
        sx.generate("text", context, max_tokens=4, where=where)

    R, N = 3, 6
    smc = sx.SMC(sx.Prior(model), num_particles=N, ess_threshold=1.0, num_runs=R)
    smc.run(jax.random.key(1), lm.prompt(), sx.regex("(ab)*"))
    columns = smc.lineage.columns
    assert any(column.resampled for column in columns)
    for column in columns:
        np.testing.assert_array_equal(column.parents // N, np.arange(R * N) // N)
    for column, before in zip(columns[1:-1], columns):
        for text, parent in zip(column.text["text"], column.parents):
            assert text.startswith(before.text["text"][parent])
    evidences = np.exp(smc.log_weights.astype(np.float64)).reshape(R, N).mean(1)
    error = smc.diagnostics.evidence_error
    assert error.source == "between 3 runs"
    assert error.std == pytest.approx(evidences.std(ddof=1) / np.sqrt(R) / evidences.mean(), rel=1e-5)
