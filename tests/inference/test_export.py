"""What ArviZ gets."""

import sys

import numpy as np
import pytest
from reference.runs import MAX_TOKENS, markup_run


@pytest.fixture(scope="module")
def smc():
    return markup_run().smc


@pytest.fixture(scope="module")
def tree(smc):
    pytest.importorskip("arviz_base")
    return smc.to_arviz()


def test_the_posterior_is_equally_weighted_draws(smc, tree):
    posterior, samples = tree["posterior"], smc.get_samples()
    assert posterior["text"].dims == ("chain", "draw")
    assert posterior["gate"].dims[:2] == ("chain", "draw")
    np.testing.assert_array_equal(posterior["gate"].values[0], samples["gate"])
    np.testing.assert_array_equal(posterior["text_tokens"].values[0], samples["text"])
    copied = tree["sample_stats"]["particle"].values[0]
    assert posterior["text"].values[0].tolist() == [smc.texts("text")[n] for n in copied]


def test_particles_keep_their_weights(smc, tree):
    np.testing.assert_array_equal(tree["particles"]["log_weight"].values[0], smc.log_weights)
    assert tree["particles"]["text"].values[0].tolist() == smc.texts("text")
    assert tree.attrs["log_evidence"] == smc.log_evidence
    assert tree.attrs["log_evidence_se"] == smc.diagnostics.evidence_error.std
    assert tree.attrs["method"] == "SMC"


def test_steps_of_unequal_scans_are_filled_up(smc, tree):
    steps, d = tree["steps"], smc.diagnostics
    assert steps["ess"].dims == ("scan", "step")
    assert steps["ess"].shape == (2, MAX_TOKENS)
    np.testing.assert_allclose(steps["ess"].values[1, :3], d.ess_trace[1])
    assert np.isnan(steps["ess"].values[1, 3:]).all()
    np.testing.assert_allclose(steps["log_normaliser"].values[0], d.log_normalisers[0])
    assert steps["unique_ancestors"].values[1].tolist() == [*d.unique_ancestors[1], -1, -1]
    assert np.flatnonzero(steps["resampled"].values[0]).tolist() == list(d.resampling_steps[0])


def test_arviz_reads_it(smc, tree):
    arviz_stats = pytest.importorskip("arviz_stats")
    table = arviz_stats.summary(tree, var_names=["gate"], kind="stats", round_to="none")
    expected = np.asarray(smc.get_samples()["gate"]).mean(0)
    np.testing.assert_allclose(np.asarray(table["mean"], float), expected, atol=1e-6)


def test_without_arviz_it_says_what_to_install(smc, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    with pytest.raises(ImportError, match=r"sentax\[arviz\]"):
        smc.to_arviz()
