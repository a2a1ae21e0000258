"""The simple samplers: each is what it says, exactly where it can be, else by calibrated tests.

z tests as in `test_unbiased`: a false-alarm rate of 2e-6 an entry (|z| < 4.75), fixed seeds.
"""

import inspect
from collections import Counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from reference.programs import LM, MARKOV, PROGRAMS, T
from reference.tries import TREES, largest_z

import sentax as sx
from sentax.inference.baselines import LCD, BaseSampling, BestOfN, SampleRerank, TwistedSMC
from sentax.inference.methods import METHODS
from sentax.inference.prefix_trie import PrefixTrie
from sentax.inference.rejection import RejectionSampling, unbiased_share


def prior():
    """Of a text of T tokens, as the programs' keys write it."""
    return {(*text.tokens, *(3,) * (T - len(text.tokens))): text.probability for text in MARKOV.texts(T)}


def texts(sampler):
    return [tuple(row) for row in np.asarray(sampler.population.samples["text"]).tolist()]


def test_base_sampling_is_the_prior_and_tells_the_factors():
    program = PROGRAMS["soft_and_hard"]()
    base = BaseSampling(program.model, num_particles=4000)
    base.run(jax.random.key(0), *program.args)
    assert (base.log_weights == 0.0).all() and not base.is_proper
    assert largest_z(Counter(texts(base)), prior()) < 4.75
    exact = [program.table.get(key, 0.0) / prior()[key] for key in texts(base)]
    np.testing.assert_allclose(np.exp(base.log_factors), exact, rtol=1e-5)
    base.print_summary()


def test_best_of_n():
    def model(context, target, forbidden):
        text = sx.generate("text", context, max_tokens=3)
        numpyro.factor("near", -0.5 * (text.length - target) ** 2)
        sx.constrain("not first", ~forbidden[text.tokens[0]])

    best = BestOfN(model, num_particles=50)
    best.run(jax.random.key(0), LM.prompt(), jnp.int32(2), jnp.array([False, True, False, False]))
    (winner,) = np.flatnonzero(best.log_weights == 0.0)
    assert (best.log_weights == -np.inf).sum() == 49
    assert winner == np.argmax(best.log_factors) and best.log_factors[winner] == 0.0
    rows = np.asarray(best.population.samples["text"])
    assert (np.isneginf(best.log_factors) == (rows[:, 0] == 1)).all(), "who violates is never the best"
    assert (np.asarray(best.get_samples()["text"]) == rows[winner]).all()

    best.run(jax.random.key(0), LM.prompt(), jnp.int32(2), jnp.ones(4, bool))
    with pytest.raises(sx.NoSurvivingParticles, match=r"all 50 particles died.*'not first'"):
        best.posterior("text")


class Rewards(NamedTuple):
    """As much of a population as choosing by a reward takes."""

    rewards: dict[str, np.ndarray]


def test_best_of_n_by_reward():
    best = BestOfN(lambda: None, num_particles=4, reward="sweet")
    best._log_factors = np.array([-1.0, -np.inf, -3.0, -2.0], np.float32)
    chosen = best._weigh(Rewards({"sweet": np.array([0.1, 9.0, 0.7, 0.7])}))
    assert chosen.tolist() == [-np.inf, -np.inf, 0.0, -np.inf], "the largest of those that violate nothing"
    with pytest.raises(KeyError, match="no reward 'sweet'; the program has: bitter"):
        best._weigh(Rewards({"bitter": np.zeros(4)}))


def test_lcd_follows_its_own_law():
    """Exactly: the product of local conditionals, which is far from the posterior."""
    tree = TREES["hard"]()
    law, empty = tree.guided(PrefixTrie.empty()), tree.total_variation(PrefixTrie.empty())
    lcd = LCD(tree.program.model, num_particles=4000)
    lcd.run(jax.random.key(0), *tree.program.args)
    assert not lcd.is_proper and set(np.unique(lcd.log_weights)) <= {0.0, -np.inf}
    alive = lcd.log_weights == 0.0
    counts = Counter(tree.path(key) if ok else "dead" for key, ok in zip(texts(lcd), alive))
    valid = {tree.path(key): law.get(tree.path(key), 0.0) for key in tree.program.table}
    assert largest_z(counts, valid | {"dead": 1 - sum(valid.values())}) < 4.75
    assert empty > 0.1


def test_smc_by_other_names():
    """What these two run is SMC with prior proposals, whose law is tested elsewhere."""
    rerank, twisted = SampleRerank(lambda: None), TwistedSMC(lambda: None, ess_threshold=0.6)
    assert isinstance(rerank.kernel, sx.Prior) and isinstance(twisted.kernel, sx.Prior)
    assert rerank._control.ess_threshold == 0.0 and twisted._control.ess_threshold == 0.6
    assert rerank._config.kills and not BaseSampling(lambda: None)._config.kills


@pytest.mark.parametrize(
    "name",
    ["soft_and_hard", *(pytest.param(name, marks=pytest.mark.slow) for name in ("hard", "dead_ends", "mixed"))],
)
def test_rejection_is_exact(name):
    program = PROGRAMS[name]()
    sampler = RejectionSampling(program.model, num_particles=2500, max_trials=100_000)
    sampler.run(jax.random.key(1), *program.args)
    assert sampler.num_accepted == 2500 and (sampler.log_weights == sampler.log_weights[0]).all()
    posterior = {key: p / program.evidence for key, p in program.table.items()}
    assert largest_z(Counter(texts(sampler)), posterior) < 4.75
    rate = 2499 / (sampler.num_trials - 1)
    assert np.exp(sampler.log_evidence) == pytest.approx(rate, rel=1e-5)
    sd = program.evidence * np.sqrt((1 - program.evidence) / 2500)
    assert abs(rate - program.evidence) < 4.75 * sd
    # All trials are paid for, those of the last batch that came too late as well.
    batches = -(-sampler.num_trials // 2500)
    assert sampler.diagnostics.tokens >= 2500 * batches
    sampler.print_summary()


def test_the_estimate_is_unbiased_for_every_rate_and_budget():
    """Exactly, over every course that trials may take."""
    for rate in (0.07, 0.5, 0.93):
        for wanted, budget in ((2, 1), (2, 2), (2, 9), (4, 12), (5, 7), (8, 3)):
            expected, going = 0.0, {0: 1.0}
            for trial in range(1, budget + 1):
                after: dict[int, float] = {}
                for accepted, p in going.items():
                    after[accepted] = after.get(accepted, 0.0) + p * (1 - rate)
                    after[accepted + 1] = after.get(accepted + 1, 0.0) + p * rate
                if wanted in after:
                    expected += after.pop(wanted) * unbiased_share(wanted, trial, wanted)
                going = after
            expected += sum(p * unbiased_share(a, budget, wanted) for a, p in going.items())
            assert expected == pytest.approx(rate, abs=1e-12)


def test_rejection_within_a_budget():
    def model(context, bonus):
        text = sx.generate("text", context, max_tokens=2, where=sx.regex("ab|b"))
        numpyro.factor("bonus", bonus * text.length)

    sampler = RejectionSampling(model, num_particles=20, max_trials=50, log_bound=1.0)
    sampler.run(jax.random.key(0), LM.prompt(), jnp.float32(0.5))
    alive = sampler.log_weights > -np.inf
    assert 0 < sampler.num_accepted == alive.sum() < 20 and alive[: sampler.num_accepted].all()
    assert sampler.num_trials == 50
    assert np.exp(sampler.log_evidence) == pytest.approx(np.e * sampler.num_accepted / 50, rel=1e-5)
    assert set(sampler.posterior("text")) <= {"ab", "b"}
    with pytest.raises(ValueError, match=r"sum to 1\.8, above log_bound=1.*give RejectionSampling\("):
        sampler.run(jax.random.key(0), LM.prompt(), jnp.float32(0.9))
    sampler.run(jax.random.key(0), LM.prompt(), jnp.float32(-1e9))
    assert sampler.log_evidence == -np.inf
    with pytest.raises(sx.NoSurvivingParticles, match="none of 50 trials was accepted"):
        sampler.get_samples()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 1}, "at least 2"),
        ({"max_trials": 0}, "max_trials must be at least 1"),
        ({"num_particles": 8, "batch_size": 4}, "batch_size=4 must be at least num_particles=8"),
        ({"log_bound": float("inf")}, "log_bound must be finite"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        RejectionSampling(lambda: None, **options)


@pytest.mark.parametrize("name", METHODS)
def test_the_registry(name):
    """Every method is made the same way, and says the same of itself as its results do."""
    method = METHODS[name]
    sampler = method(lambda: None, num_particles=4)
    assert sampler.is_proper == method.proper
    assert method.proper or not method.exact
    assert inspect.signature(sampler.run).parameters["rng_key"]
    with pytest.raises(RuntimeError, match="no results yet"):
        _ = sampler.log_weights
