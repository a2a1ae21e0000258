"""The engine beyond weights: what it compiles, what it keeps, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.contrib.control_flow import cond, scan
from reference.programs import LM, MARKOV

import sentax as sx


def run(model, *args, kernel=sx.AWRS, num_particles=16, seed=0, **options):
    smc = sx.SMC(kernel(model), num_particles=num_particles, **options)
    smc.run(jax.random.key(seed), *args)
    return smc


def test_new_contents_do_not_compile_again():
    traces = []

    def model(context, where):
        traces.append(1)
        sx.generate("text", context, max_tokens=6, where=where)

    smc = sx.SMC(sx.AWRS(model), num_particles=8)
    smc.run(jax.random.key(0), LM.prompt(), sx.regex("(ab)*"))
    first = len(traces)
    patterns = [f"(a|b){{{i % 3},{4 + i % 4}}}a?b*" for i in range(20)]
    for i, pattern in enumerate(patterns):
        smc.run(jax.random.key(i), LM.prompt(["", "a", "b"][i % 3]), sx.regex(pattern))
        assert smc.diagnostics.compile_time == 0.0
    assert len(traces) == first


def test_captured_arrays_are_arguments_of_the_program():
    table = jnp.arange(200_000, dtype=jnp.float32)

    def model():
        z = numpyro.sample("z", dist.Categorical(jnp.ones(4) / 4))
        numpyro.factor("f", 1e-6 * table[z * 1000])

    smc = run(model)
    memory = smc._executable.latest.memory_analysis()
    assert memory.argument_size_in_bytes > table.nbytes
    assert memory.generated_code_size_in_bytes < table.nbytes
    assert len(smc._executable.latest.as_text()) < table.nbytes


def test_early_stop_leaves_the_same_results():
    def model(context, where):
        sx.generate("text", context, max_tokens=40, where=where)

    smc = run(model, LM.prompt(), sx.regex("(ab){0,2}"))
    assert smc.diagnostics.steps[0] <= 6
    assert smc.get_samples()["text"].shape == (16, 40)
    assert (np.asarray(smc.population.samples["text"])[:, 8:] == 3).all()
    assert set(smc.posterior("text")) <= {"", "ab", "abab"}


def test_same_key_same_results():
    def model(context, where):
        sx.generate("text", context, max_tokens=6, where=where)

    where = sx.regex("(a|b)*b")
    one, two = (run(model, LM.prompt(), where, seed=4) for _ in range(2))
    assert one.log_evidence == two.log_evidence
    np.testing.assert_array_equal(one.population.samples["text"], two.population.samples["text"])
    assert run(model, LM.prompt(), where, seed=5).log_evidence != one.log_evidence


@pytest.mark.slow
def test_weighted_samples_carry_the_evidence():
    def model(context, where):
        s = numpyro.sample("s", dist.Normal(0.0, 1.0))
        text = sx.generate("text", context, max_tokens=5, where=where)
        numpyro.deterministic("doubled", 2 * s)
        numpyro.factor("f", -0.3 * text.length + s)

    smc = run(model, LM.prompt(), sx.regex("(ab)*a?"), num_particles=64)
    samples, log_weights = smc.get_weighted_samples()
    assert samples["text"].shape == (64, 5)
    assert samples["s"].shape == log_weights.shape == (64,)
    np.testing.assert_allclose(samples["doubled"], 2 * samples["s"])
    total = np.logaddexp.reduce(log_weights.astype(np.float64))
    assert smc.log_evidence == pytest.approx(total - np.log(64), abs=1e-6)
    assert sum(smc.posterior("text").values()) == pytest.approx(1.0)
    assert list(smc.posterior("text").values()) == sorted(smc.posterior("text").values(), reverse=True)
    assert 1.0 <= smc.ess <= 64.0
    assert smc.ancestors[0].shape == (5, 64)
    equal = smc.get_samples()
    assert equal["s"].shape == (64,)
    # Equal-weight samples are the particles' own: sites of one particle stay together.
    for text, s in zip(np.asarray(equal["text"]), np.asarray(equal["s"])):
        matches = (np.asarray(samples["text"]) == text).all(1) & (np.asarray(samples["s"]) == s)
        assert matches.any()


def test_histories_are_lines_of_descent():
    """A running sum carried through the scan must equal the sum of the recorded sites."""

    def model():
        def step(total, _):
            x = numpyro.sample("x", dist.Categorical(jnp.ones(5) / 5))
            y = numpyro.sample("y", dist.Normal(0.0, 1.0))
            numpyro.factor("f", 0.8 * y + jnp.where(x == 2, -jnp.inf, 0.1 * x))
            return total + x + y, total

        total, before = scan(step, jnp.float32(0.0), None, length=12)
        numpyro.deterministic("total", total)
        numpyro.deterministic("before", before)

    smc = run(model, num_particles=50, ess_threshold=0.9)
    assert len(smc.diagnostics.resampling_steps[0]) > 2
    s = smc.population.samples
    np.testing.assert_allclose(s["total"], s["x"].sum(1) + s["y"].sum(1), atol=1e-5)
    np.testing.assert_allclose(s["before"][:, 1:], np.cumsum(s["x"] + s["y"], 1)[:, :-1], atol=1e-5)
    assert smc.diagnostics.surviving_lineages < 50


def test_cond_plates_and_subsampling():
    def model(data):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.sample("w", dist.Bernoulli(0.5))
        numpyro.factor("branch", cond(z > 0, lambda x: 2.0 * x, lambda x: -x, jnp.float32(1.0)))
        with numpyro.plate("data", 4):
            numpyro.sample("x", dist.Normal(z, 1.0), obs=data)

    data = jnp.array([0.1, 0.4, -0.3, 0.8])
    smc = run(model, data, num_particles=20_000)
    z = np.linspace(-8, 8, 20_001)
    log_p = -0.5 * z**2 - 0.5 * ((np.asarray(data)[:, None] - z) ** 2).sum(0) + np.where(z > 0, 2.0, -1.0)
    exact = np.log(np.trapezoid(np.exp(log_p), z)) - 2.5 * np.log(2 * np.pi)
    assert smc.log_evidence == pytest.approx(exact, abs=5 * np.sqrt((20_000 / smc.ess - 1) / 20_000))


def test_no_survivors_says_where_and_why():
    def model(context):
        text = sx.generate("text", context, max_tokens=3)
        sx.constrain("impossible", text.length > 99)

    smc = run(model, LM.prompt())
    assert smc.log_evidence == -np.inf
    assert smc.ess == 0.0
    with pytest.raises(sx.NoSurvivingParticles, match=r"all 16 particles died.*after scan 1, of 'impossible'"):
        smc.get_samples()
    with pytest.raises(sx.NoSurvivingParticles, match="impossible"):
        smc.posterior("text")
    smc.print_summary()


def test_no_survivors_inside_a_scan():
    def model(context, where):
        sx.generate("text", context, max_tokens=4, where=where)

    smc = run(model, LM.prompt(), sx.regex("ac"))
    with pytest.raises(sx.NoSurvivingParticles, match=r"step \d of scan 1, of 'text/where'"):
        smc.posterior("text")


def test_nan_factors_are_named():
    def model():
        numpyro.factor("fine", 0.0)
        numpyro.factor("broken", jnp.log(-numpyro.sample("z", dist.HalfNormal(1.0))))

    with pytest.raises(sx.InvalidWeight, match="'broken' was NaN"):
        run(model)


def nested():
    def outer(c, _):
        def inner(d, _):
            return d, numpyro.sample("x", dist.Bernoulli(0.5))

        return scan(inner, c, None, length=2)

    scan(outer, 0, None, length=2)


def plated():
    with numpyro.plate("p", 3):
        scan(lambda c, _: (c, numpyro.sample("x", dist.Bernoulli(0.5))), 0, None, length=2)


def seeded():
    with numpyro.handlers.seed(rng_seed=0):
        numpyro.sample("x", dist.Normal(0, 1))


def mutable():
    numpyro.primitives.mutable("m", jnp.zeros(2))


def changing_carry():
    scan(lambda c, _: (jnp.zeros(3), numpyro.sample("x", dist.Bernoulli(0.5))), jnp.zeros(2), None, length=2)


def twice():
    numpyro.sample("x", dist.Normal(0, 1))
    numpyro.sample("x", dist.Normal(0, 1))


def partly_given():
    def model():
        scan(lambda c, _: (c, numpyro.sample("x", dist.Normal(0.0, 1.0))), 0, None, length=4)

    numpyro.handlers.condition(model, {"x": jnp.zeros(2)})()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nested, "a scan inside a scanned function"),
        (plated, "plate"),
        (seeded, "remove numpyro.handlers.seed"),
        (mutable, "mutable"),
        (changing_carry, "keep its shape"),
        (twice, "'x' is used twice"),
        (partly_given, "one value a step"),
    ],
)
def test_what_is_not_supported_says_so(model, message):
    with pytest.raises((NotImplementedError, TypeError, ValueError), match=message):
        run(model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 0}, "num_particles must be an integer of at least 1"),
        ({"num_particles": 2.5}, "num_particles"),
        ({"ess_threshold": 1.5}, "between 0 and 1"),
        ({"resampling": "systematic"}, "resampling must be a function"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        sx.SMC(sx.AWRS(lambda: None), **options)
    with pytest.raises(TypeError, match="SMC runs a kernel"):
        sx.SMC(lambda: None)
    with pytest.raises(RuntimeError, match="call run"):
        _ = sx.SMC(sx.Prior(lambda: None)).log_evidence


def test_shared_arrays_stay_shared():
    """A big array in the carry that no step changes is not copied for the particles."""
    big = jnp.ones((256, 1024))  # 1 MB

    def model(big):
        def step(carry, _):
            big, x = carry
            x = numpyro.sample("x", dist.Categorical(jnp.ones(3) / 3))
            numpyro.factor("f", 0.1 * big[x, x] * x)
            return (big, x), x

        scan(step, (big, jnp.int32(0)), None, length=5)

    smc = run(model, big, num_particles=64, ess_threshold=1.0)
    memory = smc._executable.latest.memory_analysis()
    assert memory.temp_size_in_bytes < 2 * big.nbytes


def test_predicate_as_constraint():
    def prefix_ok(data):
        return data.count(b"a") >= data.count(b"b")

    def complete_ok(data):
        return data.count(b"a") == data.count(b"b")

    def model(context, where):
        sx.generate("text", context, max_tokens=4, where=where)

    where = sx.predicate(prefix_ok, complete_ok)
    smc = run(model, LM.prompt(), where, num_particles=200)
    exact = {}
    for text in MARKOV.texts(4):
        # Prefixes in the order of tokens: "ab" is one step.
        prefixes = [MARKOV.join(text.tokens[:i]) for i in range(len(text.tokens) + 1)]
        if all(p.count(b"a") >= p.count(b"b") for p in prefixes) and text.data.count(b"a") == text.data.count(
            b"b"
        ):
            exact[text.data.decode()] = exact.get(text.data.decode(), 0.0) + text.probability
    evidence = sum(exact.values())
    assert np.exp(smc.log_evidence) == pytest.approx(evidence, rel=0.35)
    assert set(smc.posterior("text")) <= set(exact)
    # What 200 particles share is asked once, and a second run asks nothing new.
    asked = where.stats.calls
    assert asked < 200
    smc.run(jax.random.key(0), LM.prompt(), where)
    assert where.stats.calls == asked


def test_predicate_that_raises_ends_the_run_with_the_text():
    def prefix_ok(data):
        if b"bb" in data:
            raise RuntimeError("no double b")
        return True

    def model(context, where):
        sx.generate("text", context, max_tokens=6, where=where)

    with pytest.raises(sx.PredicateError, match="bb"):
        run(model, LM.prompt(), sx.predicate(prefix_ok))
    with pytest.raises(sx.PredicateError, match="bool"):
        run(model, LM.prompt(), sx.predicate(lambda data: "yes"))
    # The process is as good as new.
    assert run(model, LM.prompt(), sx.predicate(lambda data: True)).ess > 0
