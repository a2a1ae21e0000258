"""When and among whom particles are resampled changes the variance, never the target."""

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
from sentax.inference import lanes
from sentax.inference.control import Control
from sentax.inference.evidence import error_between_runs

STEPS = 4


def lines() -> Program:
    """Units of one to four tokens, early scores that mislead, one that settles it at the end."""

    def model(context):
        def step(carry, _):
            context, last = carry
            token = numpyro.sample("text", sx.TokenDistribution(context.logits))
            numpyro.factor("lure", 1.2 * (token == 0) - 0.7 * (token == 2))
            sx.constrain("no bb", (last != 1) | (token != 1))
            sx.unit("line", token == 1)
            sx.twist("guess", 0.4 * (token == 3))
            return (context.extend(token), token), token

        _, tokens = scan(step, (context, jnp.int32(3)), None, length=STEPS)
        numpyro.factor("settled", -1.5 * (tokens == 0).sum())

    table = {}
    for tokens in itertools.product(range(4), repeat=STEPS):
        p, row, last = 1.0, MARKOV.first, 3
        for token in tokens:
            p *= row[token] * np.exp(-0.3 * (token == 0) - 0.7 * (token == 2)) * (not last == token == 1)
            row, last = MARKOV.rows[token], token
        if p > 0:
            table[tokens] = p
    return Program(model, (LM.prompt(),), lambda s, i: tuple(s["text"][i].tolist()), table)


def softened() -> Program:
    """The documented way to temper a hard factor: a penalty on the way, the constraint at the end."""

    def model(context):
        text = sx.generate("text", context, max_tokens=2)
        sx.twist("soft", jnp.where(text.tokens[0] == 0, 0.0, -1.0))
        more = sx.generate("more", text.context, max_tokens=2)
        sx.constrain("hard", (text.tokens[0] == 0) & (more.length > 0))

    table = {}
    for text in MARKOV.texts(2):
        for more in MARKOV.texts(2, MARKOV.rows[text.tokens[-1]] if text.tokens else MARKOV.first):
            if text.tokens[:1] == (0,) and more.tokens:
                key = tuple(t + (3,) * (2 - len(t)) for t in (text.tokens, more.tokens))
                table[key] = table.get(key, 0.0) + text.probability * more.probability

    def key(samples, i):
        return tuple(samples["text"][i].tolist()), tuple(samples["more"][i].tolist())

    return Program(model, (LM.prompt(),), key, table)


CONTROLS = {
    "units": (lines, 5, Control(0.95, sx.systematic, unit="line")),
    "tempered": (lines, 4, Control(0.9, sx.residual, tempering=lambda t: jnp.minimum(t / 3, 1.0))),
    "tempered units on schedule": (
        lines,
        7,
        Control(
            lambda t: 0.5 + 0.1 * t, sx.multinomial, at=lambda t: t != 1, unit="line", tempering=lambda t: 0.25
        ),
    ),
    "softened": (softened, 3, Control(1.0, sx.stratified, at=lambda t: t % 2 == 0)),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "tempered units on schedule" else pytest.mark.slow)
        for name in CONTROLS
    ],
)
def test_unbiased(name):
    make, num_particles, control = CONTROLS[name]
    program = make()
    population = independent_runs(program, sx.Prior(program.model), num_particles, control, 8000)
    assert any(resampled.any() for resampled in population.resampled)
    assert_unbiased(program, population.samples, population.log_weights)


def decide(control, log_weights, seed=0, **state):
    """One decision for a whole population; `state` has a leading particle axis."""

    def one(log_weight, own):
        return control.decide(random.key(seed), jnp.int32(1), log_weight, jnp.float32(0.5), **own)

    population = jax.jit(jax.vmap(one, axis_name=lanes.PARTICLES))
    return jax.device_get(population(jnp.asarray(log_weights, jnp.float32), state))


@pytest.mark.parametrize("resampler", [sx.systematic, sx.stratified, sx.multinomial, sx.residual])
def test_partial_resampling(resampler):
    """Only members move, among themselves and the dead; weights in all and of the others stay."""
    weights = np.array([1.0, 5.0, 0.0, 2.0, 0.1, 3.0, 0.4])
    boundary = np.array([True, False, False, True, True, False, True])
    members = boundary | (weights == 0)
    control = Control(1.0, resampler, unit="line")
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights).astype(np.float32)
    draws = jax.jit(
        jax.vmap(
            lambda key: jax.vmap(
                lambda w, b: control.decide(key, jnp.int32(1), w, jnp.float32(0.0), boundary=b),
                axis_name=lanes.PARTICLES,
            )(jnp.asarray(log_weights), jnp.asarray(boundary))
        )
    )(random.split(random.key(1), 4000))
    ancestor, after = np.asarray(draws.ancestor), np.exp(np.asarray(draws.log_weight, np.float64))
    assert (ancestor[:, ~members] == np.flatnonzero(~members)).all()
    assert np.isin(ancestor[:, members], np.flatnonzero(members & (weights > 0))).all()
    np.testing.assert_allclose(after[:, ~members], np.broadcast_to(weights[~members], (4000, 2)), rtol=1e-6)
    np.testing.assert_allclose(after.sum(1), weights.sum(), rtol=1e-5)
    offspring = (ancestor[:, members, None] == np.arange(7)).sum(1)
    expected = np.where(members, weights, 0) * members.sum() / weights[members].sum()
    error = offspring.std(0) / np.sqrt(4000)
    # |z| < 4.75: a false alarm in 2e-6 per particle.
    assert (np.abs(offspring.mean(0) - expected) <= 4.75 * error + 1e-9).all()
    if resampler is sx.systematic:
        assert (np.abs(offspring - expected) < 2).all()  # what was spread evenly stays spread evenly


def test_the_subset_decides():
    """The criterion is the subset's effective sample size, not everyone's."""
    uneven_elsewhere = decide(
        Control(0.5, sx.systematic, unit="line"),
        [0.0, 0.0, 5.0, -5.0],
        boundary=jnp.array([True, True, False, False]),
    )
    assert not uneven_elsewhere.need.any()
    assert (uneven_elsewhere.ancestor == np.arange(4)).all()
    uneven_here = decide(
        Control(0.8, sx.systematic, unit="line"),
        [0.0, 5.0, 5.0, 5.0],
        boundary=jnp.array([True, True, False, False]),
    )
    assert uneven_here.need.all()
    assert (uneven_here.ancestor == [1, 1, 2, 3]).all()


def test_tempering_holds_scores_back():
    """At beta 0 a score decides nothing; what it is worth is kept in the weights."""
    soft = jnp.array([3.0, 0.0, -2.0, 0.0])
    same = decide(Control(1.0, sx.systematic, tempering=lambda t: 0.0), soft, log_soft=soft)
    np.testing.assert_allclose(same.log_weight + same.log_evidence, soft + 0.5, rtol=1e-6)
    half = decide(Control(1.0, sx.systematic, tempering=lambda t: 0.5), soft, log_soft=soft)
    tempered = np.exp(0.5 * np.asarray(soft))
    total = half.log_weight + half.log_evidence - 0.5
    np.testing.assert_allclose(
        total, np.log(tempered.mean()) + 0.5 * np.asarray(soft)[half.ancestor], rtol=1e-5
    )


def test_schedules():
    def before(**options):
        control = sx.SMC(sx.Prior(lambda: None), **options)._control
        uneven = jnp.log(jnp.array([1.0, 2.0, 3.0, 4.0]))

        def need(step):
            decided = jax.vmap(
                lambda w: control.decide(random.key(0), step, w, jnp.float32(0.0)), axis_name=lanes.PARTICLES
            )
            return decided(uneven).need[0]

        return np.flatnonzero(jax.jit(jax.vmap(need))(jnp.arange(7))).tolist()

    assert before(ess_threshold=1.0) == list(range(7))
    assert before() == []
    assert before(resample_every=3) == [3, 6]
    assert before(resample_steps=[5, 1]) == [1, 5]
    assert before(resample_steps=[1, 3, 5], ess_threshold=[0.0, 0.0, 0.0, 1.0]) == [3, 5]
    assert before(ess_threshold=lambda step: jnp.where(step < 2, 1.0, 0.0)) == [0, 1]
    assert before(resample_steps=[]) == []


@pytest.mark.slow
def test_a_scheduled_run():
    """Steps are counted over all scans."""
    program = PROGRAMS["two_texts"]()
    smc = sx.SMC(sx.Prior(program.model), num_particles=32, resample_steps=[1, 3])
    smc.run(random.key(3), *program.args)
    assert smc.diagnostics.resampling_steps == ((1,), (1,))


def test_runs_are_single_runs():
    """Run r of several is, bit for bit, the run of its own key."""
    program = PROGRAMS["two_texts"]()
    many = sx.SMC(sx.Prior(program.model), num_particles=6, num_runs=3)
    many.run(random.key(4), *program.args)
    single = sx.SMC(sx.Prior(program.model), num_particles=6)
    evidences = []
    for r, key in enumerate(random.split(random.key(4), 3)):
        single.run(key, *program.args)
        mine = slice(6 * r, 6 * r + 6)
        np.testing.assert_array_equal(many.log_weights[mine], single.log_weights)
        assert many.texts("two")[mine] == single.texts("two")
        for name, values in single.population.samples.items():
            np.testing.assert_array_equal(np.asarray(many.population.samples[name])[mine], values)
        for pooled, own in zip(many.ancestors, single.ancestors, strict=True):
            np.testing.assert_array_equal(pooled[:, mine], own + 6 * r)
        evidences.append(single.log_evidence)
    np.testing.assert_allclose(many.run_log_evidences, evidences, rtol=1e-12)
    assert many.log_evidence == pytest.approx(np.log(np.mean(np.exp(evidences))), rel=1e-12)
    assert many.log_evidence_se == error_between_runs(many.run_log_evidences).std > 0
    diagnostics = many.diagnostics
    assert diagnostics.num_particles == 18
    assert 0 < diagnostics.surviving_lineages <= 18
    assert len(many.get_samples()["one"]) == 18
    many.print_summary(top=1)


@pytest.mark.slow
def test_error_bars_cover():
    """Over 400 groups of 8 runs the standard error is that of the group's evidence, within 10%."""
    program = lines()
    kernel = sx.Prior(program.model)
    population = independent_runs(program, kernel, 4, Control(0.7, sx.systematic), 8 * 400)
    evidence = np.log(np.exp(population.log_weights.astype(np.float64)).mean(1)).reshape(400, 8)
    claimed = np.sqrt(np.mean([error_between_runs(e).std ** 2 for e in evidence]))
    seen = (np.exp(evidence).mean(1) / program.evidence).std()
    assert claimed == pytest.approx(seen, rel=0.1)


def test_a_particle_does_not_depend_on_how_many_there_are():
    program = lines()

    def first_four(num_particles):
        smc = sx.SMC(sx.Prior(program.model), num_particles=num_particles, ess_threshold=0.0)
        smc.run(random.key(5), *program.args)
        return np.asarray(smc.population.samples["text"])[:4].tolist(), smc.log_weights[:4].tolist()

    assert first_four(4) == first_four(9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ess_threshold": 1.5}, "ess_threshold must lie between 0 and 1"),
        ({"ess_threshold": [[0.5]]}, "one for each step"),
        ({"tempering": -0.1}, "tempering must lie between 0 and 1"),
        ({"resample_every": 0}, "resample_every must be an integer of at least 1"),
        ({"resample_every": 2, "resample_steps": [1]}, "not both"),
        ({"resample_steps": [-1]}, "step numbers of at least 0"),
        ({"num_runs": 0}, "num_runs must be an integer of at least 1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        sx.SMC(sx.Prior(lambda: None), **options)


def test_an_unknown_unit_is_an_error():
    program = lines()
    smc = sx.SMC(sx.Prior(program.model), num_particles=2, resample_at="chapter")
    with pytest.raises(sx.UnsupportedProgram, match="no scan of the program says where such a unit ends"):
        smc.run(random.key(0), *program.args)


def test_units_of_a_generated_text():
    """`generate(units=...)`: who is replaced, and by whom, stands at the end of a unit or of its text."""
    lm = sx.TableLM(np.zeros((3, 3), np.float32), np.zeros(3, np.float32), [b"a", b"b", b""], end_of_text=2)

    def model(context):
        sx.generate(
            "text",
            context,
            max_tokens=5,
            units={"b's": "b"},
            twist=lambda context, remaining: jnp.array([0.0, 1.0, -1.0]) * context.logits.shape[0],
        )

    smc = sx.SMC(sx.Prior(model), num_particles=64, resample_at="b's", ess_threshold=1.0)
    smc.run(random.key(0), lm.prompt())
    (record,) = smc.population.records
    parents, tokens = np.asarray(record.parents), np.asarray(record.draws["text"].value)
    moved = 0
    for t in range(1, 5):
        changed = parents[:, t] != np.arange(64)
        assert (tokens[changed, t - 1] != 0).all()
        assert (tokens[parents[changed, t], t - 1] != 0).all()
        moved += changed.sum()
    assert moved > 10
    assert (tokens[:, :4] == 0).any()
    with pytest.raises(ValueError, match="ASCII"):
        sx.generate("text", lm.prompt(), max_tokens=2, units={"line": ""})
