"""Particle-marginal Metropolis-Hastings against marginals by numerical integration.

Samples are thinned to near independence; the p-values of the Kolmogorov-Smirnov tests are then uniform for a
correct chain, so each comparison has a false-alarm rate of 1% (two a seed, five fixed seeds).
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from numpyro.diagnostics import effective_sample_size
from numpyro.infer import MCMC
from reference.programs import LM, MARKOV, PROGRAMS
from scipy import integrate, stats

import sentax as sx
from sentax.inference.pmmh import PMMH

SEEDS, CHAINS, THINNING = range(5), 8, 25


def model(context):
    """Two latents that move, one of them scaled and in an interval; one that is summed out with the text."""
    s = numpyro.sample("s", dist.Normal(0.5, 0.8))
    with numpyro.handlers.scale(scale=2.0):
        rate = numpyro.sample("rate", dist.Beta(2.0, 3.0))
    z = numpyro.sample("z", dist.Bernoulli(0.4))

    def step(context, _):
        token = numpyro.sample("text", sx.TokenDistribution(context.logits))
        numpyro.factor("tilt", s * (token == 1) + z * jnp.log(rate) * (token == 0))
        return context.extend(token), token

    scan(step, context, None, length=2)
    numpyro.sample("seen", dist.Normal(s, 0.5), obs=0.9)
    numpyro.deterministic("square", s**2)


def exact():
    """Densities on grids: of `s`, of `rate`; and the probabilities of (z, text)."""
    s, rate = np.linspace(-3.5, 4.5, 401), np.linspace(0.0, 1.0, 401)[1:-1]
    prior_s = stats.norm.pdf(s, 0.5, 0.8) * stats.norm.pdf(0.9, s, 0.5)
    prior_rate = stats.beta.pdf(rate, 2, 3) ** 2
    joint, table = 0.0, {}
    for z, tokens in itertools.product((0, 1), itertools.product(range(4), repeat=2)):
        p = (0.6, 0.4)[z] * MARKOV.first[tokens[0]] * MARKOV.rows[tokens[0]][tokens[1]]
        term = p * np.outer(prior_s * np.exp(s * tokens.count(1)), prior_rate * rate ** (z * tokens.count(0)))
        table[z, tokens] = term.sum()
        joint = joint + term
    total = sum(table.values())
    return (s, joint.sum(1)), (rate, joint.sum(0)), {key: p / total for key, p in table.items()}


def cdf(grid, density):
    cumulative = integrate.cumulative_trapezoid(density, grid, initial=0.0)
    return lambda x: np.interp(x, grid, cumulative / cumulative[-1])


@pytest.fixture(scope="module")
def run():
    """All seeds side by side, with two particles: the estimate is as noisy as it gets."""
    mcmc = MCMC(
        PMMH(model, sx.Prior, num_particles=2),
        num_warmup=300,
        num_samples=1500,
        num_chains=len(SEEDS) * CHAINS,
        chain_method="vectorized",
        progress_bar=False,
    )
    keys = jnp.concatenate([jax.random.split(jax.random.key(seed), CHAINS) for seed in SEEDS])
    mcmc.run(keys, LM.prompt(), extra_fields=("adapt_state.sqrt", "accept_prob"))
    return mcmc, keys


def test_marginals(run):
    samples = jax.device_get(run[0].get_samples(group_by_chain=True))
    assert {name: x.shape[2:] for name, x in samples.items()} == {
        "s": (),
        "rate": (),
        "z": (),
        "text": (2,),
        "square": (),
    }
    for name, (grid, density) in zip(("s", "rate"), exact()[:2]):
        chains = samples[name].reshape(len(SEEDS), CHAINS, -1)[:, :, ::THINNING]
        for seed, thinned in enumerate(chains):
            # Thinned enough: what is left counts nearly in full.
            assert effective_sample_size(thinned) > 0.6 * thinned.size
            p_value = stats.kstest(thinned.ravel(), cdf(grid, density)).pvalue
            assert p_value > 0.01, (name, seed, p_value)


def test_texts_come_from_the_joint_posterior(run):
    samples = jax.device_get(run[0].get_samples(group_by_chain=True))
    tested = 0
    for (z, tokens), p in exact()[2].items():
        hits = (samples["z"] == z) & (samples["text"] == np.array(tokens)).all(-1)
        means = hits.mean(1)  # of 40 independent chains
        if p > 0.02:
            # Student's t with 39 degrees: |t| < 5.6 is 2e-6.
            assert abs(means.mean() - p) / (means.std(ddof=1) / np.sqrt(len(means))) < 5.6
            tested += 1
    assert tested > 8
    np.testing.assert_allclose(samples["square"], samples["s"] ** 2, rtol=1e-6)


def test_adaptation_is_frozen_after_warmup(run):
    factors = np.asarray(run[0].get_extra_fields(group_by_chain=True)["adapt_state.sqrt"])
    assert (factors == factors[:, :1]).all()
    assert not np.allclose(factors[:, 0], np.eye(2))


def test_same_key_same_chain_whatever_else_is_in_the_batch(run):
    mcmc, keys = run
    before = np.asarray(mcmc.get_samples(group_by_chain=True)["s"])
    mcmc.run(keys[::-1], LM.prompt(), extra_fields=("adapt_state.sqrt", "accept_prob"))
    assert (np.asarray(mcmc.get_samples(group_by_chain=True)["s"])[::-1] == before).all()


@pytest.mark.slow
def test_sequential_chains_and_a_continued_run(capsys):
    def short(context):
        taste = numpyro.sample("taste", dist.Normal(0, 1))
        text = sx.generate("text", context, max_tokens=2)
        numpyro.factor("likes", taste * (text.tokens == 0).sum())

    mcmc = MCMC(
        PMMH(short, sx.Prior, num_particles=2),
        num_warmup=5,
        num_samples=10,
        num_chains=2,
        chain_method="sequential",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), LM.prompt())
    assert mcmc.get_samples()["text"].shape == (20, 2)
    mcmc.print_summary()
    shown = capsys.readouterr().out
    assert "taste" in shown and "text" not in shown
    assert "acc. prob" in mcmc.sampler.get_diagnostics_str(jax.tree.map(lambda x: x[0], mcmc.last_state))


def begin(model, *args, **options):
    return PMMH(model, sx.Prior, num_particles=2, **options).init(jax.random.key(0), 10, None, args)


def test_what_cannot_move_is_refused():
    def discrete(context):
        numpyro.sample("z", dist.Bernoulli(0.5))
        sx.generate("text", context, max_tokens=1)

    with pytest.raises(ValueError, match="nothing for PMMH to move"):
        begin(discrete, LM.prompt())
    with pytest.raises(sx.UnsupportedProgram, match="'z' is discrete"):
        begin(discrete, LM.prompt(), sites=["z"])
    program = PROGRAMS["continuous_latent"]()
    with pytest.raises(ValueError, match="'text' is not a latent outside of scans"):
        begin(program.model, *program.args, sites=["text"])
    with pytest.raises(ValueError, match="init_params are for"):
        PMMH(program.model).init(jax.random.key(0), 10, {"t": 0.0}, program.args)

    def masked():
        with numpyro.handlers.mask(mask=False):
            numpyro.sample("s", dist.Normal())

    with pytest.raises(sx.UnsupportedProgram, match=r"under handlers\.mask"):
        begin(masked, sites=["s"])
    with pytest.raises(TypeError, match="PMMH takes a NumPyro model"):
        PMMH(sx.Prior(discrete))
    with pytest.raises(ValueError, match="num_particles"):
        PMMH(discrete, num_particles=0)


def test_a_start_without_evidence_and_a_factor_that_is_nan():
    def impossible():
        s = numpyro.sample("s", dist.Normal())
        numpyro.factor("never", jnp.where(s < jnp.inf, -jnp.inf, 0.0))

    with pytest.raises(sx.NoSurvivingParticles, match="none of 5 starting points"):
        begin(impossible, max_attempts=5)

    def undefined():
        s = numpyro.sample("s", dist.Normal())
        numpyro.factor("broken", s * jnp.nan)

    with pytest.raises(sx.InvalidWeight, match="'broken'"):
        begin(undefined)

    def later(limit):
        s = numpyro.sample("s", dist.Normal())
        numpyro.factor("broken", jnp.where(s == limit, 0.0, jnp.nan))

    kernel = PMMH(later, sx.Prior, num_particles=2)
    state = kernel.init(jax.random.key(0), 10, {"s": jnp.float32(0.0)}, (jnp.float32(0.0),))

    def step():
        jax.block_until_ready(jax.jit(kernel.sample)(state, (jnp.float32(0.0),), {}))
        jax.effects_barrier()

    with pytest.raises(Exception, match="'broken'"):
        step()
