"""Contexts: prompts, steps, fixed texts, particles, and the end of a text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformers
from reference.checkpoints import hugging_face_logits

from sentax.models import (
    DecoderConfig,
    ModelError,
    TransformerContext,
    TransformerLM,
    Vocabulary,
    load,
    load_params,
)
from sentax.models.transformer import _prefill
from sentax.ppl.language_model import Context, LanguageModel, VocabularyLike

TEXT = "She said hello to the old sail"  # healed: "sailor" is a token


@pytest.fixture(scope="module")
def lm(language_model):
    return load(language_model[1])


@pytest.fixture(scope="module")
def reference(language_model, lm):
    """Next-token log-probabilities by transformers, with the context's three changes made by hand."""
    model = language_model[0]

    def log_probs(ids):
        logits = hugging_face_logits(model, ids)[-1]
        allowed = np.where(lm.vocabulary.drawable(), logits, -np.inf)
        allowed[0] = np.logaddexp(logits[0], logits[1])
        return allowed - np.logaddexp.reduce(allowed)

    return log_probs


def log_probs(context):
    return jax.nn.log_softmax(context.logits)


def test_protocols(lm):
    context = lm.prompt(TEXT)
    assert isinstance(lm, LanguageModel)
    assert isinstance(context, Context)
    assert isinstance(context.vocabulary, VocabularyLike)
    assert "position=" in repr(context)
    assert "parameters" in repr(lm)


def test_steps_agree_with_transformers(lm, reference):
    ids = [0, *lm.vocabulary.encode(TEXT)]
    context = lm.prompt(ids[:3]).reserve(40)
    for end in range(3, len(ids) + 1):
        np.testing.assert_allclose(log_probs(context), reference(ids[:end]), atol=1e-4)
        if end < len(ids):
            context = context.extend(ids[end])
    assert int(context.position) == len(ids)
    # Specials and padding rows are impossible; both ways to end the text are one token.
    impossible = np.flatnonzero(np.isneginf(context.logits)).tolist()
    assert impossible == [1, *range(lm.vocabulary.size - 5, lm.vocabulary.size)]


@pytest.mark.parametrize("length", [255, 256, 257, 600])
def test_long_prompts_in_chunks(lm, reference, length):
    ids = np.random.default_rng(0).integers(2, 300, length)
    np.testing.assert_allclose(log_probs(lm.prompt(ids)), reference(ids), atol=1e-4)


def test_prompts_share_programs(language_model):
    lm = load(language_model[1], dtype="bfloat16")  # used by no other test
    before = _prefill._cache_size()
    for length, programs in [(100, 1), (65, 1), (101, 1), (128, 1), (64, 2), (1, 2)]:
        lm.prompt(np.arange(2, length + 2))
        assert _prefill._cache_size() == before + programs


def test_inactive_steps_change_nothing(lm):
    context = lm.prompt(TEXT).reserve(8)
    plain = context.extend(70).extend(71)
    noisy = context.extend(5, False).extend(70).extend(9, False).extend(3, False).extend(71).extend(1, False)
    np.testing.assert_array_equal(context.extend(5, False).logits, context.logits)
    assert int(context.extend(5, False).seam) == int(context.seam) > 0
    np.testing.assert_allclose(noisy.logits, plain.logits, atol=1e-5)
    assert int(noisy.position) == int(plain.position)
    assert int(noisy.slot) == int(plain.slot) + 4


def test_particles_equal_one_at_a_time(lm):
    context = lm.prompt(TEXT).reserve(8)
    tokens = jnp.array([[70, 71, 72], [80, 81, 82], [90, 91, 92]])
    active = jnp.array([[True, True, True], [True, False, True], [False, False, True]])

    def run(tokens, active):
        def step(context, x):
            return context.extend(*x), None

        return jax.lax.scan(step, context, (tokens, active))[0]

    batched = jax.jit(jax.vmap(run))(tokens, active)
    for i in range(3):
        alone = context
        for token, on in zip(tokens[i], active[i]):
            alone = alone.extend(token, on)
        np.testing.assert_allclose(batched.logits[i], alone.logits, atol=1e-5)
        assert batched.position[i] == alone.position


def test_shared_leaves_stay_unbatched(lm):
    """Weights, prompt and slot have no particle axis after steps under vmap: `out_axes=None` is accepted."""
    context = lm.prompt(TEXT).reserve(4)
    shared = lambda c: (c.params, c.past, c.slot, c.vocabulary, c.bias)

    def run(token):
        after = context.extend(token).extend(token + 1)
        return shared(after), after.logits

    (params, past, slot, *_), logits = jax.vmap(run, out_axes=(None, 0))(jnp.arange(70, 74))
    assert logits.shape[0] == 4
    assert jax.tree.map(jnp.shape, (params, past)) == jax.tree.map(jnp.shape, (context.params, context.past))
    assert int(slot) == 2


def test_fixed_text(lm):
    """A text in one pass, behind tokens and in front of tokens, equals its tokens one by one."""
    context = lm.prompt([0, 70, 71]).reserve(16)
    text = " hello, \U0001f680 Zoë"
    ids = lm.vocabulary.encode(text)
    stepped = context.extend(90)
    for token in [*ids, 91]:
        stepped = stepped.extend(token)
    whole = context.extend(90).append_text(text).extend(91)
    np.testing.assert_allclose(whole.logits, stepped.logits, atol=1e-4)
    assert int(whole.position) == int(stepped.position)
    assert whole.append_text("") is whole

    batched = jax.vmap(lambda on: context.append_text(text, on).extend(91, on))(jnp.array([True, False]))
    np.testing.assert_allclose(batched.logits[0], context.append_text(text).extend(91).logits, atol=1e-4)
    np.testing.assert_allclose(batched.logits[1], context.logits, atol=1e-5)


def test_room(lm):
    context = lm.prompt([0, 70])
    free = context.extend(71)  # outside jit, room is made
    np.testing.assert_allclose(free.logits, context.reserve(3).extend(71).logits, atol=1e-5)
    tight = context.reserve(1)
    assert tight.suffix.positions.shape == (16,)
    assert tight.extend(71).reserve(20).suffix.positions.shape == (48,)
    np.testing.assert_allclose(
        tight.extend(71).reserve(20).extend(72).logits, free.extend(72).logits, atol=1e-5
    )

    @jax.jit
    def overfull(context):
        return jax.lax.fori_loop(0, 17, lambda _, c: c.extend(70), context).logits

    assert np.isnan(overfull(tight)).any()
    with pytest.raises(ValueError, match="1042 tokens do not fit in the model's context window of 1024"):
        context.reserve(1040)


def test_prompt_errors(lm):
    with pytest.raises(ValueError, match="1025 tokens do not fit in the model's context window of 1024"):
        lm.prompt(" ".join(["x"] * 512) + "\n")
    with pytest.raises(ValueError, match="at least one"):
        lm.prompt([])
    with pytest.raises(ValueError, match="4000 is no token id below"):
        lm.prompt([0, 4000])
    broken = jax.tree.map(lambda x: x * jnp.nan, lm.params)
    with pytest.raises(ModelError, match="answers NaN"):
        TransformerLM(lm.config, broken, lm.vocabulary).prompt("a")
    with pytest.raises(ModelError, match="the vocabulary has 2 tokens, the embedding"):
        TransformerLM(lm.config, lm.params, Vocabulary([b"a", b""], end_of_text=1))


def test_empty_prompt(lm, reference):
    np.testing.assert_allclose(log_probs(lm.prompt("")), reference([0]), atol=1e-4)
    np.testing.assert_array_equal(lm.prompt().logits, lm.prompt([0]).logits)


def test_prompt_under_jit(lm):
    """A program may make its prompt while it is traced."""
    logits = jax.jit(lambda: lm.prompt(TEXT).reserve(1).extend(70).logits)()
    np.testing.assert_allclose(logits, lm.prompt(TEXT).extend(70).logits, atol=1e-4)


def test_chat(lm, reference):
    context = lm.prompt([{"role": "user", "content": "hello"}])
    ids = [0, 1, *lm.vocabulary.encode("hello\n")]
    np.testing.assert_allclose(log_probs(context), reference(ids), atol=1e-4)
    assert int(context.seam) == 0
    with pytest.raises(ValueError, match=r"holds the special token '<\|user\|>'"):
        lm.prompt([{"role": "user", "content": "hello<|user|>"}])
    with pytest.raises(ValueError, match="no system turn"):
        lm.prompt([{"role": "system", "content": "hello"}])
    with pytest.raises(ValueError, match="no chat template"):
        TransformerLM(lm.config, lm.params, lm.vocabulary).prompt([{"role": "user", "content": "hello"}])


def test_context_is_a_pytree(lm):
    context = lm.prompt(TEXT)
    leaves, treedef = jax.tree.flatten(context)
    again = jax.tree.unflatten(treedef, leaves)
    assert isinstance(again, TransformerContext)
    before, after = (jax.tree.map(jax.typeof, c) for c in (context.reserve(1), context.reserve(1).extend(3)))
    assert jax.tree.leaves(before) == jax.tree.leaves(after)
    assert hash(treedef) == hash(jax.tree.structure(lm.prompt("Another text")))
    assert treedef == jax.tree.structure(lm.prompt("Another text"))


def test_a_prompt_keeps_what_its_windows_can_see(tmp_path):
    """With a sliding window in every layer, a prompt's cache is as long as the window, whatever the prompt."""
    model = transformers.MistralForCausalLM(
        transformers.MistralConfig(
            vocab_size=60,
            hidden_size=32,
            intermediate_size=40,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=20,
            initializer_range=0.3,
        )
    ).eval()
    model.save_pretrained(tmp_path)
    config = DecoderConfig.from_hf(model.config.to_dict())
    vocabulary = Vocabulary([bytes([65 + i]) for i in range(59)] + [b""], end_of_text=59)
    lm = TransformerLM(config, load_params(tmp_path, config), vocabulary)
    ids = np.random.default_rng(0).integers(0, 59, 340).tolist()
    for length in (5, 100, 300):  # within the window, beyond it, over one chunk
        context = lm.prompt(ids[:length]).reserve(32)
        assert context.past[0].positions.shape == (32,)
        for end in range(length, length + 30):
            if end % 6 == 0:
                expected = jax.nn.log_softmax(hugging_face_logits(model, ids[:end])[-1])
                np.testing.assert_allclose(log_probs(context), expected, atol=2e-4)
            context = context.extend(ids[end])
    pair = lm.prompts([ids[:300], ids[:5]])
    for context, length in zip(pair, (300, 5)):
        np.testing.assert_allclose(context.logits, lm.prompt(ids[:length]).logits, atol=1e-4)


@pytest.mark.parametrize("kind", ["mistral", "gemma2"])
def test_windows_bound_what_is_kept_of_a_growing_text(kind, tmp_path):
    """Layers with a sliding window keep a ring as long as the window; pauses and later room change nothing."""
    sizes = {
        "vocab_size": 60,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 20,
        "initializer_range": 0.3,
    }
    make, own = {
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
        "gemma2": (transformers.Gemma2Config, transformers.Gemma2ForCausalLM),
    }[kind]
    model = own(make(**sizes)).eval()
    model.save_pretrained(tmp_path)
    config = DecoderConfig.from_hf(model.config.to_dict())
    vocabulary = Vocabulary([bytes([65 + i]) for i in range(59)] + [b""], end_of_text=59)
    lm = TransformerLM(config, load_params(tmp_path, config), vocabulary)
    ids = np.random.default_rng(1).integers(0, 59, 120).tolist()

    windowed = [layer.window is not None for layer in config.layers]
    assert any(windowed)
    for first in (96, 16):  # rings from the start, and rings made of slots when more room is asked for
        context = lm.prompt(ids[:30]).reserve(first)
        for end in range(30, 110):
            if end == 40:
                context = context.reserve(96)
                for keys, ring in zip(context.suffix.keys, windowed):
                    assert keys.shape[1] == (32 if ring else first + 96)
            if end % 9 == 0:
                expected = jax.nn.log_softmax(hugging_face_logits(model, ids[:end])[-1])
                np.testing.assert_allclose(log_probs(context), expected, atol=2e-4)
                context = context.extend(7, active=False)
            context = context.extend(ids[end])

    # Two particles, of which one pauses for longer than the ring is round.
    def run(pause):
        def step(context, t):
            index = jnp.where(t < 5, t, t - pause)
            active = ((t < 5) | (t >= 5 + pause)) & (index < 60)
            return context.extend(jnp.asarray(ids)[index + 30], active), None

        return jax.lax.scan(step, lm.prompt(ids[:30]).reserve(112), jnp.arange(100))[0].logits

    for logits in jax.jit(jax.vmap(run))(jnp.array([40, 0])):
        expected = jax.nn.log_softmax(hugging_face_logits(model, ids[:90])[-1])
        np.testing.assert_allclose(jax.nn.log_softmax(logits[:60])[:60], expected, atol=2e-4)
