"""Suffix-resampling Metropolis-Hastings: the exact transition matrix, invariance, and moves inside SMC."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import scan
from reference.moves import KERNELS, assert_moved_unbiased, suffix_mover
from reference.programs import LM, MARKOV, PROGRAMS, Program
from reference.weighing import assert_unbiased

import sentax as sx
from sentax.inference.control import Control
from sentax.inference.engine import run_particles
from sentax.inference.filter import FilterConfig
from sentax.inference.sites import SiteNumbers
from sentax.inference.suffix_mh import SuffixMH
from sentax.inference.suffix_moves import SuffixMoves


def small():
    """A latent, a text that may end early, hard and soft factors: few enough states for a whole matrix."""

    def model(context, where):
        z = numpyro.sample("z", dist.Bernoulli(0.3))
        text = sx.generate("text", context, max_tokens=2, where=where)
        numpyro.factor("f", 0.8 * z * text.length - 0.7 * (1 - z) * (text.tokens[0] == 0))

    table, steps = {}, {}
    for text in MARKOV.texts(2):
        ok = text.data.startswith(b"a") or text.data in (b"", b"b")
        tokens = text.tokens + (3,) * (2 - len(text.tokens))
        for z in (0, 1):
            weight = ok * np.exp(0.8 * z * len(text.tokens) - 0.7 * (1 - z) * (tokens[0] == 0))
            if weight > 0:
                table[z, tokens] = (0.7, 0.3)[z] * text.probability * weight
                steps[z, tokens] = (min(len(text.tokens) + 1, 2), weight)

    def key(samples, i):
        return int(samples["z"][i]), tuple(samples["text"][i].tolist())

    return Program(model, (LM.prompt(), sx.regex("a.*|b|")), key, table), steps


def matrix(program, steps):
    """The exact transition matrix of a chain with prior proposals, from the definition."""
    states = list(program.table)
    P = np.zeros((len(states), len(states)))

    def probability(tokens, first):
        p = 1.0
        for t in range(first, 2):
            if t > 0 and tokens[t - 1] == 3:
                return p  # ended: what follows is certain
            p *= (MARKOV.first if t == 0 else MARKOV.rows[tokens[t - 1]])[tokens[t]]
        return p

    for a, x in enumerate(states):
        for b, y in enumerate(states):
            for cut in range(-1, steps[x][0]):
                if cut >= 0 and (x[0] != y[0] or x[1][:cut] != y[1][:cut]):
                    continue
                q = probability(y[1], max(cut, 0)) * ((0.7, 0.3)[y[0]] if cut < 0 else 1.0)
                ratio = steps[y][1] * (1 + steps[x][0]) / (steps[x][1] * (1 + steps[y][0]))
                P[a, b] += q * min(1.0, ratio) / (1 + steps[x][0])
        P[a, a] += 1.0 - P[a].sum()
    return states, P


def test_transitions_are_those_of_the_exact_matrix():
    program, steps = small()
    states, P = matrix(program, steps)
    posterior = np.array([program.table[s] for s in states]) / program.evidence
    np.testing.assert_allclose(posterior @ P, posterior, rtol=1e-12)

    move, state = suffix_mover(program, sx.Prior(program.model), 60_000)
    before = move(jax.random.key(0), state)[0]
    after, info = jax.device_get(move(jax.random.key(1), before))
    before = jax.device_get(before)
    alive = before.log_weight > -np.inf
    counts = collections.Counter(
        (program.key(before.samples, i), program.key(after.samples, i)) for i in np.flatnonzero(alive)
    )
    # A binomial for each pair of states, |z| < 4.75; what is impossible never happens.
    tested = 0
    for a, x in enumerate(states):
        n = sum(counts[x, y] for y in states)
        for b, y in enumerate(states):
            if P[a, b] < 1e-12:
                assert counts[x, y] == 0
            elif n * P[a, b] * (1 - P[a, b]) > 25:
                z = (counts[x, y] - n * P[a, b]) / np.sqrt(n * P[a, b] * (1 - P[a, b]))
                assert abs(z) < 4.75, (x, y, z)
                tested += 1
    assert sum(counts.values()) == alive.sum()
    assert tested > 60
    assert info.accepted[alive].mean() > 0.3


def invariant(name, kernel, num_chains=30_000, moves=2):
    program = PROGRAMS[name]()
    move, state = suffix_mover(program, KERNELS[kernel](program.model), num_chains)
    state = move(jax.random.key(0), state)[0]
    log_weight = state.log_weight
    for k in range(moves):
        state, _ = move(jax.random.key(1 + k), state)
    assert_moved_unbiased(program, state.samples, log_weight)


def test_moves_leave_the_posterior_invariant():
    invariant("captured_latent", "two_round")


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["prior", "lcd", "two_round", "recursive", "geometric", "masks"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_moves_leave_every_posterior_invariant(name, kernel):
    invariant(name, kernel)


def test_chains():
    program, _ = small()
    chains = SuffixMH(sx.Prior(program.model), num_chains=64, num_steps=40, num_warmup=10, thinning=2)
    chains.run(jax.random.key(3), *program.args)
    samples = chains.get_chains()
    assert samples["text"].shape == (64, 40, 2)
    assert (chains.log_weights == 0).all()  # 64 chains found a start in their warm-up
    assert 0.3 < chains.acceptance_rate < 1.0
    # Means of independent chains: z over chains, whatever their autocorrelation.
    for key, p in program.table.items():
        hits = (samples["z"] == key[0]) & (samples["text"] == np.array(key[1])).all(-1)
        means = hits.mean(1)
        if means.std() > 0 and p / program.evidence > 0.02:
            z = (means.mean() - p / program.evidence) / (means.std() / 8)
            assert abs(z) < 4.75, (key, z)
    assert abs(sum(chains.posterior("text").values()) - 1) < 1e-6
    assert not chains.is_proper

    again = chains.get_samples()["text"]
    chains.run(jax.random.key(3), *program.args)
    assert chains.diagnostics.compile_time == 0.0
    assert (again == chains.get_samples()["text"]).all()


@pytest.mark.slow
def test_chains_start_where_another_sampler_ended():
    def model(context):
        text = sx.generate("text", context, max_tokens=4)
        sx.constrain("rare", jnp.array_equal(text.tokens, jnp.array([2, 1, 0, 1])))

    smc = sx.SMC(sx.LocallyConstrained(model), num_particles=4000)
    smc.run(jax.random.key(0), LM.prompt())
    options = {"num_chains": 4, "num_steps": 5, "num_warmup": 1}
    chains = SuffixMH(sx.Prior(model), **options, start=smc)
    chains.run(jax.random.key(0), LM.prompt())
    assert set(chains.posterior("text")) == set(smc.posterior("text")) == {"abbab"}
    assert chains.diagnostics.dead == 0
    lost = SuffixMH(sx.Prior(model), **options)
    lost.run(jax.random.key(0), LM.prompt())
    with pytest.raises(sx.NoSurvivingParticles):
        lost.posterior("text")


def test_what_cannot_be_repeated_is_refused():
    def keyed(context):
        noise = jax.random.normal(numpyro.prng_key())
        sx.generate("text", context, max_tokens=2)
        numpyro.factor("f", noise)

    chains = SuffixMH(sx.Prior(keyed), num_steps=2)
    with pytest.raises(sx.UnsupportedProgram, match="prng_key"):
        chains.run(jax.random.key(0), LM.prompt())
    without = SuffixMH(sx.Prior(lambda: numpyro.sample("z", dist.Bernoulli(0.5))), num_steps=2)
    with pytest.raises(sx.UnsupportedProgram, match="no scan"):
        without.run(jax.random.key(0))

    class Stateful(sx.Prior):
        def start(self):
            return jnp.zeros(2)

    with pytest.raises(sx.UnsupportedProgram, match="carries a state"):
        SuffixMH(Stateful(keyed))
    with pytest.raises(ValueError, match="num_warmup"):
        SuffixMH(sx.Prior(keyed), num_warmup=-1)
    with pytest.raises(ValueError, match="num_moves"):
        SuffixMoves(0)


def rejuvenated(name, kernel, num_particles=5, runs=6000):
    """Few particles that are resampled whenever their weights differ: where the timing of moves would show."""
    program = PROGRAMS[name]()
    config = FilterConfig(num_particles, Control(1.0, sx.systematic), rejuvenate=SuffixMoves(2, every=1))
    model = KERNELS[kernel](program.model)

    @jax.jit
    def many(keys):
        def one(key):
            population = run_particles(model, config, SiteNumbers(), key, program.args, {})
            return population.samples, population.log_weights

        return jax.vmap(one)(keys)

    samples, log_weights = jax.device_get(many(jax.random.split(jax.random.key(5), runs)))
    assert_unbiased(program, samples, log_weights)


def test_moves_inside_smc_keep_it_unbiased():
    rejuvenated("captured_latent", "prior")


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["prior", "lcd", "two_round", "recursive", "geometric", "masks"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_moves_inside_smc_keep_every_program_unbiased(name, kernel):
    rejuvenated(name, kernel)


@pytest.mark.slow
def test_moves_bring_back_what_resampling_lost():
    def model(context):
        def step(context, x):
            token = numpyro.sample("text", sx.TokenDistribution(context.logits))
            numpyro.factor("f", jnp.where(token == x, 2.0, 0.0))
            return context.extend(token), token

        scan(step, context, jnp.array([0, 1, 2, 0, 1, 2]))

    def beginnings(rejuvenate):
        config = FilterConfig(64, Control(1.0, sx.multinomial), rejuvenate=rejuvenate)
        run = jax.jit(
            lambda key: run_particles(sx.Prior(model), config, SiteNumbers(), key, (LM.prompt(),), {}).samples
        )
        return len(set(map(tuple, np.asarray(run(jax.random.key(0))["text"])[:, :3].tolist())))

    assert beginnings(SuffixMoves(2, every=2)) > beginnings(None)
