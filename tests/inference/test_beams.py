"""Populations that choose their children jointly, against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from jax import random
from numpyro.contrib.control_flow import scan
from reference.programs import LM, MARKOV, PROGRAMS, Program
from reference.weighing import assert_unbiased, independent_runs

import sentax as sx
from sentax.inference.beams import BeamSearch, SMCSteering, StochasticBeam
from sentax.inference.control import Control
from sentax.inference.selection import optimal_resampling


def _step(carry, _):
    context, last = carry
    token = numpyro.sample("text", sx.TokenDistribution(context.logits))
    numpyro.factor("score", 0.6 * (token == 1) - 0.4 * (token == 0))
    sx.constrain("nothing after ab", last != 2)
    return (context.extend(token), token), token


def _score(tokens, row):
    p = 1.0
    for token in tokens:
        p, row = p * row[token] * np.exp(0.6 * (token == 1) - 0.4 * (token == 0)), MARKOV.rows[token]
    return p * (2 not in tokens[:2] and len(set(tokens)) > 1)


def dead_ends() -> Program:
    """Tokens of which one leads nowhere: all that follows it is refused."""

    def model(context):
        _, tokens = scan(_step, (context, jnp.int32(0)), None, length=3)
        sx.constrain("not all the same", (tokens != tokens[0]).any())

    table = {t: _score(t, MARKOV.first) for t in itertools.product(range(4), repeat=3)}
    table = {key: p for key, p in table.items() if p > 0}
    return Program(model, (LM.prompt(),), lambda s, i: tuple(s["text"][i].tolist()), table)


def text_and_dead_ends() -> Program:
    """The same after a text: two scans."""

    def model(context):
        one = sx.generate("one", context, max_tokens=1)
        _, tokens = scan(_step, (one.context, jnp.int32(0)), None, length=3)
        sx.constrain("not all the same", (tokens != tokens[0]).any())

    table = {}
    for one in MARKOV.texts(1):
        for tokens in itertools.product(range(4), repeat=3):
            p = one.probability * _score(tokens, MARKOV.rows[one.tokens[-1]] if one.tokens else MARKOV.first)
            if p > 0:
                table[one.tokens or (3,), tokens] = p

    def key(samples, i):
        return tuple(samples["one"][i].tolist()), tuple(samples["text"][i].tolist())

    return Program(model, (LM.prompt(),), key, table)


def found(program, sampler):
    """What a run found: unnormalised posterior estimates by value, each value once."""
    sampler.run(random.key(1), *program.args)
    samples, log_weights = sampler.get_weighted_samples()
    samples = jax.device_get(samples)
    alive = np.flatnonzero(log_weights > -np.inf)
    values = {program.key(samples, (i,)): np.exp(float(log_weights[i])) for i in alive}
    assert len(values) == len(alive), "a text was found twice"
    return values


def check_everything(program, num_beams, kinds):
    """A beam that holds all texts is exact."""
    for make, scale in kinds.items():
        sampler = make(program.model, num_beams=num_beams)
        table = {key: weight / scale for key, weight in found(program, sampler).items()}
        assert table == pytest.approx(program.table, rel=1e-5)
        assert sampler.log_evidence == pytest.approx(np.log(program.evidence), abs=1e-5)
        assert sampler.is_proper is (make is StochasticBeam)


def test_a_stochastic_beam_that_holds_everything_is_exact():
    check_everything(dead_ends(), 64, {StochasticBeam: 64})


@pytest.mark.slow
@pytest.mark.parametrize("make", [text_and_dead_ends, PROGRAMS["soft_and_hard"], PROGRAMS["twisted"]])
def test_beams_that_hold_everything_are_exact(make):
    check_everything(make(), 200, {BeamSearch: 1, StochasticBeam: 200})


def test_beam_search_is_the_textbook_one():
    """Against a beam over the enumerated tables, score by score; the same for every key."""
    program, N = dead_ends(), 3
    beam = [((), 0.0, MARKOV.first)]
    for _ in range(3):
        children = []
        for tokens, score, row in beam:
            for token, p in enumerate(row):
                if tokens[-1:] != (2,):
                    gain = np.log(p) + 0.6 * (token == 1) - 0.4 * (token == 0)
                    children.append(((*tokens, token), score + gain, MARKOV.rows[token]))
        beam = sorted(children, key=lambda b: -b[1])[:N]
    expected = {tokens: np.exp(score) for tokens, score, _ in beam if len(set(tokens)) > 1}
    assert expected
    search = BeamSearch(program.model, num_beams=N)
    assert found(program, search) == pytest.approx(expected, rel=1e-5)
    assert search.log_evidence == pytest.approx(np.log(sum(expected.values())), abs=1e-5)
    first = search.log_weights
    search.run(random.key(99), *program.args)
    np.testing.assert_array_equal(search.log_weights, first)


SAMPLERS = {
    "stochastic": (dead_ends, lambda model: StochasticBeam(model, num_beams=4)),
    "steering": (
        dead_ends,
        lambda model: SMCSteering(sx.AWRS(model, use_masks=False), num_particles=4, beam_factor=3),
    ),
}
MORE = {
    "stochastic, 1": (text_and_dead_ends, lambda model: StochasticBeam(model, num_beams=1)),
    "stochastic, 5": (text_and_dead_ends, lambda model: StochasticBeam(model, num_beams=5)),
    "stochastic, after": (PROGRAMS["soft_and_hard"], lambda model: StochasticBeam(model, num_beams=6)),
    "stochastic, twisted": (PROGRAMS["twisted"], lambda model: StochasticBeam(model, num_beams=6)),
    "steering, latent": (
        PROGRAMS["captured_latent"],
        lambda model: SMCSteering(sx.Prior(model), num_particles=3, beam_factor=2),
    ),
    "steering, two scans": (
        PROGRAMS["two_texts"],
        lambda model: SMCSteering(sx.AWRS(model), num_particles=5, beam_factor=4),
    ),
}


def check_unbiased(make, sampler_of):
    program = make()
    sampler = sampler_of(program.model)
    N = sampler.num_particles
    population = independent_runs(program, sampler.kernel, N, Control(0.0, sx.systematic), 10_000)
    assert_unbiased(program, population.samples, population.log_weights)
    if isinstance(sampler, StochasticBeam):
        for run in range(500):
            alive = np.flatnonzero(population.log_weights[run] > -np.inf)
            assert len({program.key(population.samples, (run, i)) for i in alive}) == len(alive)


@pytest.mark.parametrize("name", SAMPLERS)
def test_unbiased(name):
    check_unbiased(*SAMPLERS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE)
def test_unbiased_elsewhere(name):
    check_unbiased(*MORE[name])


def test_optimal_resampling():
    """Unbiased, without replacement, the heavy kept as they are, the total kept too."""
    weights = np.array([5.0, 0.0, 0.3, 0.9, 1.1, 0.05, 2.0, 0.65])
    with np.errstate(divide="ignore"):
        log_weights = jnp.log(jnp.asarray(weights, jnp.float32))
    draws = jax.jit(jax.vmap(lambda key: optimal_resampling(key, log_weights, 4)))
    chosen, after = jax.device_get(draws(random.split(random.key(0), 20_000)))
    after = np.exp(after.astype(np.float64))
    assert (chosen < 8).all() and all(len(set(row)) == 4 for row in chosen[:500].tolist())
    np.testing.assert_allclose(after.sum(1), weights.sum(), rtol=1e-5)
    # c solves min(1, 5/c) + min(1, 2/c) + (0.3 + 0.9 + 1.1 + 0.05 + 0.65) / c = 4, with the two heaviest kept.
    for heavy in (0, 6):
        assert (
            (after[chosen == heavy] == pytest.approx(weights[heavy], rel=1e-6))
            if (chosen == heavy).any()
            else 0
        )
        assert (chosen == heavy).any(1).all()
    light = ~np.isin(chosen, [0, 6])
    np.testing.assert_allclose(after[light], 1.5, rtol=1e-5)
    estimate = np.zeros((20_000, 8))
    np.put_along_axis(estimate, chosen, after, 1)
    error = estimate.std(0) / np.sqrt(20_000)
    # |z| < 4.75: a false alarm in 2e-6 per candidate.
    assert (np.abs(estimate.mean(0) - weights) <= 4.75 * error + 1e-5).all()


def test_fewer_candidates_than_places():
    resample = jax.jit(lambda log_weights: optimal_resampling(random.key(0), log_weights, 4))
    chosen, after = resample(jnp.array([0.0, -jnp.inf, 1.0]))
    kept = {int(c): float(w) for c, w in zip(chosen, after) if w > -jnp.inf}
    assert kept == {0: 0.0, 2: 1.0}
    _, after = resample(jnp.full(3, -jnp.inf))
    assert np.isneginf(after).all()


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("two_texts", lambda m: BeamSearch(m, num_beams=2), "draws shout outside of its scans"),
        ("captured_latent", lambda m: StochasticBeam(m, num_beams=2), "draws z outside"),
        ("mixed_sites", lambda m: SMCSteering(sx.Prior(m), num_particles=2), "must draw exactly one site"),
        ("handlers_around", lambda m: SMCSteering(sx.Prior(m), num_particles=2), "draws none"),
    ],
)
def test_programs_that_have_no_beam(name, make, message):
    program = PROGRAMS[name]()
    with pytest.raises(sx.UnsupportedProgram, match=message):
        make(program.model).run(random.key(0), *program.args)


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="beam_factor must be an integer of at least 1"):
        SMCSteering(sx.Prior(lambda: None), beam_factor=0)
    with pytest.raises(TypeError, match="runs a kernel around a model"):
        SMCSteering(lambda: None)
    with pytest.raises(ValueError, match="num_particles must be an integer of at least 1"):
        BeamSearch(lambda: None, num_beams=0)
