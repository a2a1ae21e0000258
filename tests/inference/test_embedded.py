"""The main job on the embedded model: shared prompt cache, early stop, resampled caches, token healing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sentax as sx

DATES = "Date=2031-04-17\nDate=1998-11-02\nDate="
ISO = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"


@pytest.fixture(scope="module")
def lm():
    return sx.load()


def dates(context, where):
    sx.generate("text", context, max_tokens=16, where=where, stop="\n")


@pytest.fixture(scope="module")
def smc():
    return sx.SMC(sx.AWRS(dates), num_particles=16, ess_threshold=0.9)


def test_every_text_is_a_date(lm, smc):
    import datetime

    smc.run(jax.random.key(1), lm.prompt(DATES), sx.regex(ISO))
    posterior = smc.posterior("text")
    assert len(posterior) > 3
    for text in posterior:
        year, month, day = map(int, text.split("-"))
        assert year == 0 or datetime.date(max(year, 1), month, min(day, 28))
    assert smc.diagnostics.checks_per_token < 50
    assert smc.diagnostics.steps[0] < 16


def test_weights_agree_with_scoring_the_texts(lm):
    """With one particle and LCD every weight is known: the product of local normalisers.

    For a constraint met by all texts the product is 1 whatever was drawn, and the text's
    probability by `log_density` is that of a forward pass.
    """
    from numpyro.infer.util import log_density

    def program(context):
        sx.generate("text", context, max_tokens=5)

    context = lm.prompt(DATES, heal=False)
    smc = sx.SMC(sx.AWRS(program), num_particles=4)
    smc.run(jax.random.key(0), context)
    np.testing.assert_allclose(smc.log_weights, 0.0, atol=1e-5)
    tokens = np.asarray(smc.population.samples["text"])[0]
    density, _ = log_density(program, (context,), {}, {"text": jnp.asarray(tokens)})
    expected, after = 0.0, context
    for token in tokens:
        expected += float(jax.nn.log_softmax(after.logits)[token])
        if token == lm.vocabulary.end_of_text:
            break
        after = after.extend(int(token))
    assert float(density) == pytest.approx(expected, abs=1e-3)


def test_one_copy_of_the_prompts_cache(lm):
    """64 particles, a prompt of 1,000 tokens: the run's memory is far under a cache for each."""

    def program(context, where):
        sx.generate("text", context, max_tokens=8, where=where)

    tokens = lm.vocabulary.encode(DATES * 80)[:1000]
    context = lm.prompt(tokens)
    cache = sum(np.asarray(leaf.nbytes) for leaf in jax.tree.leaves(context.past))
    smc = sx.SMC(sx.AWRS(program), num_particles=64)
    smc.run(jax.random.key(0), context, sx.regex("[0-9-]+"))
    memory = smc._executable.latest.memory_analysis()
    beyond_weights = memory.temp_size_in_bytes + memory.output_size_in_bytes
    assert cache > 4_000_000
    assert beyond_weights < 10 * cache, f"{beyond_weights / cache:.1f} caches for 64 particles"


def test_twenty_prompts_and_patterns_compile_once(lm):
    traces = []

    def program(context, where):
        traces.append(1)
        sx.generate("text", context, max_tokens=8, where=where)

    smc = sx.SMC(sx.AWRS(program), num_particles=4)
    for i in range(20):
        prompt = "Date=" + "2031-04-17\nDate=" * (1 + i % 3)
        smc.run(jax.random.key(i), lm.prompt(prompt), sx.regex(f"[0-9]{{{1 + i % 4}}}-?[0-9]*"))
        first = len(traces) if i == 0 else first
    assert len(traces) == first


def test_a_straddling_token_is_no_obstacle(lm):
    """The prompt ends inside a word; healed, the model may finish it with its own token."""
    prompt, rest = "My favourite physicist is Marie Cur", "ie\\..*"
    healed, naive = lm.prompt(prompt), lm.prompt(prompt, heal=False)
    assert int(healed.seam) > 0
    assert int(naive.seam) == 0

    def program(context, where):
        sx.generate("text", context, max_tokens=8, where=where)

    smc = sx.SMC(sx.AWRS(program), num_particles=8)
    smc.run(jax.random.key(0), healed, sx.regex(rest))
    assert all(text.startswith("ie.") for text in smc.posterior("text"))
    assert smc.log_evidence > -np.inf


def test_resampled_caches_are_the_ancestors(lm):
    """After many resamplings a particle's state is what a fresh pass over its own text gives."""

    def program(context, where):
        text = sx.generate("text", context, max_tokens=10, where=where)
        import numpyro

        numpyro.deterministic("logits", text.context.logits)

    context = lm.prompt("Name=", heal=False)
    smc = sx.SMC(sx.AWRS(program), num_particles=8, ess_threshold=1.0)
    smc.run(jax.random.key(2), context, sx.regex("[A-Za-z ]{20,}"))
    samples = smc.population.samples
    assert len(smc.diagnostics.resampling_steps[0]) > 3
    alive = np.flatnonzero(smc.log_weights > -np.inf)
    for i in alive[:3]:
        after = context
        for token in np.asarray(samples["text"])[i]:
            if token == lm.vocabulary.end_of_text:
                break
            after = after.extend(int(token))
        finite = np.isfinite(np.asarray(after.logits))
        np.testing.assert_allclose(
            np.asarray(samples["logits"])[i][finite], np.asarray(after.logits)[finite], atol=2e-3
        )
