"""Several texts in one run: batches of prompts, forks, turns of a chat, texts of different lengths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest

import sentax as sx
from sentax.inference.control import Control
from sentax.inference.engine import SiteNumbers, run_particles
from sentax.inference.filter import FilterConfig
from sentax.models import load
from sentax.models.contexts import Contexts
from sentax.models.transformer import _prefill

# Healed with different bytes, not healed, ids, one token, over one chunk of the prefill.
PROMPTS = ["She said hello to the old sail", "", [0, 70, 71], "She said<|user|>", list(range(2, 300))]


@pytest.fixture(scope="module")
def lm(language_model):
    return load(language_model[1])


@pytest.fixture(scope="module")
def contexts(lm):
    return lm.prompts(PROMPTS)


def assert_same(context, alone):
    """Equal for everything a program can ask, now and after a token."""
    np.testing.assert_allclose(context.logits, alone.logits, atol=1e-4)
    for field in ("position", "seam", "held", "room"):
        assert int(getattr(context, field)) == int(getattr(alone, field))
    token = jnp.argmax(alone.logits)
    np.testing.assert_allclose(context.extend(token).logits, alone.extend(token).logits, atol=1e-4)


@pytest.mark.parametrize("i", range(len(PROMPTS)))
def test_batch_equals_one_at_a_time(lm, contexts, i):
    alone = lm.prompt(PROMPTS[i])
    assert_same(contexts[i], alone)
    assert_same(contexts[i - len(PROMPTS)], alone)
    # A traced index keeps one copy of all prompts and masks the others.
    chosen = jax.jit(lambda contexts, i: contexts[i])(contexts, i)
    assert_same(chosen, alone)
    assert chosen.past[0].positions.shape == (len(PROMPTS) * 512,)


def test_batches_share_programs_and_are_pytrees(lm, contexts):
    before = _prefill._cache_size()
    others = lm.prompts([*PROMPTS[:4], list(range(7, 300))])
    assert _prefill._cache_size() == before
    assert jax.tree.structure(others) == jax.tree.structure(contexts)
    assert isinstance(jax.tree.map(lambda x: x, contexts), Contexts)
    assert len(contexts) == len(list(contexts)) == 5
    assert repr(contexts).startswith("Contexts(5, TransformerContext(")


def test_bad_batches(lm, contexts):
    with pytest.raises(ValueError, match="at least one prompt"):
        lm.prompts([])
    with pytest.raises(ValueError, match=r"a single one is for prompt\(\)"):
        lm.prompts("She said")
    with pytest.raises(ValueError, match="prompt 1: 1025 tokens do not fit"):
        lm.prompts(["She said", [70] * 1025])
    with pytest.raises(IndexError, match="context 5 of 5"):
        contexts[5]
    assert np.isnan(jax.jit(lambda i: contexts[i].logits)(5)).all()
    with pytest.raises(ValueError, match="fork needs at least one text"):
        lm.prompt("She said").fork([])
    with pytest.raises(ValueError, match="1033 tokens do not fit"):
        lm.prompt([70] * 1020).fork([[70], [70] * 13])
    with pytest.raises(ValueError, match="1033 tokens do not fit"):
        lm.prompt([70] * 1020).append([70] * 13)


def test_vmap_over_contexts(lm, contexts):
    tokens = jnp.array([[70, 71, 72], [73, 74, 75], [76, 77, 78], [79, 80, 81], [82, 83, 84]])

    def run(context, tokens):
        return jax.lax.scan(lambda c, token: (c.extend(token), None), context.reserve(3), tokens)[0].logits

    batched = jax.jit(contexts.vmap(run))(tokens)
    for i, prompt in enumerate(PROMPTS):
        np.testing.assert_allclose(batched[i], run(lm.prompt(prompt), tokens[i]), atol=1e-4)


@pytest.mark.parametrize("prompt", ["She said hello to the old sail", [0, 70, 71]])
def test_fork(lm, prompt):
    """Forks equal the whole text, share the text so far, and leave out what is empty."""
    start = lm.prompt(prompt).reserve(4)
    texts = ["or, hello", " \U0001f680", "", [90, 91]]
    forks = start.fork(texts)
    for fork, text in zip(forks, texts, strict=True):
        ids = text if isinstance(text, list) else lm.vocabulary.encode(text)
        assert_same(fork, start.append(ids) if ids else start)
    assert forks.stacked.past[0] is start.past[0] or forks.stacked.past[0].positions.ndim == 1
    assert forks.stacked.suffix.positions.shape == start.suffix.positions.shape
    chosen = jax.jit(lambda forks, i: forks[i])(forks, 1)
    assert_same(chosen, start.append_text(texts[1]))


def test_turns_of_a_chat(lm):
    """A question, an answer and a question in steps equal the rendered chat."""
    question = [{"role": "user", "content": "hello"}]
    follow = [{"role": "user", "content": "and then?"}]
    answer = lm.vocabulary.encode(" sailor")
    context = lm.prompt(question).reserve(len(answer))
    for token in answer:
        context = context.extend(token)
    context = context.append(lm.turn(follow))
    # The template of the fixture writes every message in the same way.
    rendered = lm.chat_template.encode(question)
    whole = [*rendered, *answer, *lm.vocabulary.encode("\n"), 1, *lm.vocabulary.encode("and then?\n")]
    assert_same(context, lm.prompt(whole))


def test_a_program_draws_its_prompt(lm):
    """Each particle's weight is the probability of the observed text after the prompt that it drew."""
    prompts = ["She said<|user|>", [0, 70, 71], ""]
    observed = jnp.array([75, 80, 85])

    def model(contexts):
        which = numpyro.sample("which", numpyro.distributions.Categorical(jnp.ones(3) / 3))
        sx.generate("text", contexts[which], max_tokens=3)

    smc = sx.SMC(sx.Prior(numpyro.handlers.condition(model, {"text": observed})), num_particles=12)
    smc.run(jax.random.key(0), lm.prompts(prompts))
    samples, log_weights = smc.get_weighted_samples()
    assert set(samples["which"].tolist()) == {0, 1, 2}
    expected = np.array([lm.score([observed.tolist()], prompt)[0] for prompt in prompts])
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(log_weights, expected[samples["which"]], atol=1e-4)


def test_fixed_text_after_generated_texts_of_different_lengths(lm):
    """Inside a run with resampling: every particle goes on as if its own text had been the prompt."""
    start = lm.vocabulary.encode("She said")

    def model(context):
        first = sx.generate("first", context, max_tokens=6, stop=" ")
        numpyro.factor("short", -0.5 * first.length)  # so that the second text starts with a resampling
        context = first.context.append_text(" so").append(lm.turn([{"role": "user", "content": "on"}]))
        numpyro.deterministic("position", context.position)
        numpyro.deterministic("then", jax.nn.log_softmax(context.logits))
        context = sx.generate("second", context, max_tokens=2).context
        numpyro.deterministic("last", jax.nn.log_softmax(context.logits))

    smc = sx.SMC(sx.Prior(model), num_particles=16, ess_threshold=0.9)
    smc.run(jax.random.key(0), lm.prompt(start))
    samples, _ = smc.get_weighted_samples()
    fixed = [*lm.vocabulary.encode(" so"), *lm.turn([{"role": "user", "content": "on"}])]
    # The model does not read the token that ends a text.
    ends = [lm.vocabulary.end_of_text, *(i for i, text in enumerate(lm.vocabulary.tokens) if b" " in text)]
    lengths = set()
    for i in range(16):
        first = list(itertools.takewhile(lambda token: token not in ends, samples["first"][i].tolist()))
        second = list(itertools.takewhile(lambda token: token != ends[0], samples["second"][i].tolist()))
        whole = [*start, *first, *fixed]
        lengths.add(len(first))
        assert samples["position"][i] == len(whole)
        np.testing.assert_allclose(samples["then"][i], jax.nn.log_softmax(lm.prompt(whole).logits), atol=1e-4)
        after = lm.prompt([*whole, *second]).logits
        np.testing.assert_allclose(samples["last"][i], jax.nn.log_softmax(after), atol=1e-4)
    assert len(lengths) > 1
    assert smc.population.resampled[1].any()


def test_a_run_for_every_prompt_at_once(lm, contexts):
    def model(context):
        sx.generate("text", context, max_tokens=4, where=sx.regex("[a-z ]*"))

    def run(context, rng_key):
        config = FilterConfig(4, Control(1.0, sx.systematic))
        population = run_particles(sx.AWRS(model), config, SiteNumbers(), rng_key, (context,), {})
        return population.samples["text"], population.log_weights

    keys = jax.random.split(jax.random.key(1), len(contexts))
    tokens, log_weights = jax.jit(contexts.vmap(run))(keys)
    alone = jax.jit(run)
    for i in range(len(contexts)):
        expected_tokens, expected = alone(contexts[i], keys[i])
        np.testing.assert_array_equal(tokens[i], expected_tokens)
        np.testing.assert_allclose(log_weights[i], expected, atol=1e-4)
    assert np.isfinite(log_weights).any()
    assert alone._cache_size() == 1
