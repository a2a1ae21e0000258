"""A torch model by callback: its own logits, our decoder's logits, caches that fork, errors that surface."""

import dataclasses
import gc
import json
import operator
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from reference.checkpoints import byte_level_tokenizer, hugging_face, hugging_face_logits
from tokenizers import processors

import sentax as sx
from sentax.models import ModelError, Vocabulary, load
from sentax.models.host_lm import HostLM
from sentax.models.products import product
from sentax.models.scoring import score
from sentax.ppl.constraints.host import host_errors
from sentax.ppl.language_model import Context, LanguageModel

TEXT = "She said hello to the old sail"


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny models: the threads of torch would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pair(language_model, tmp_path_factory):
    """The same checkpoint by torch and by our decoder."""
    directory = tmp_path_factory.mktemp("host") / "model"
    shutil.copytree(language_model[1], directory)
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    settings |= {"eos_token": "<|end|>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    return HostLM.load(directory, dtype="float32"), load(directory, dtype="float32")


def bare(model, **options):
    """A model over tokens that are their own numbers."""
    size = model.config.get_text_config().vocab_size
    tokens = [b"<%d>" % i for i in range(size)]
    return HostLM(model, Vocabulary(tokens, end_of_text=0), **options)


def test_loading(pair):
    host, ours = pair
    assert isinstance(host, LanguageModel)
    context = host.prompt(TEXT)
    assert isinstance(context, Context)
    assert host.vocabulary.tokens == ours.vocabulary.tokens
    assert host.vocabulary.ends == ours.vocabulary.ends == (0, 1)
    assert "LlamaForCausalLM" in repr(host) and "position=" in repr(context)


@pytest.mark.parametrize(
    "prompt", [TEXT, "", [0, 70, 71], [{"role": "user", "content": "hello"}], "She said<|user|>"]
)
def test_prompts_equal_the_decoders(pair, prompt):
    host, ours = (lm.prompt(prompt) for lm in pair)
    np.testing.assert_allclose(host.logits, ours.logits, atol=1e-4)
    for name in ("seam", "held", "position"):
        assert int(getattr(host, name)) == int(getattr(ours, name))
    assert int(host.room) == int(ours.room)


def test_steps_equal_the_decoders(pair):
    rng = np.random.default_rng(0)
    host, ours = (lm.prompt(TEXT).reserve(12) for lm in pair)
    for token in rng.integers(2, 300, 10):
        active = bool(rng.random() < 0.7)
        host, ours = host.extend(token, active), ours.extend(token, active)
        np.testing.assert_allclose(host.logits, ours.logits, atol=1e-4)
        assert (int(host.position), int(host.seam)) == (int(ours.position), int(ours.seam))
    host, ours = (context.append_text(" hello, \U0001f680").append([5, -1, 6]) for context in (host, ours))
    np.testing.assert_allclose(host.logits, ours.logits, atol=1e-4)
    assert int(host.position) == int(ours.position)
    # Fixed text after a healed prompt continues the prompt.
    host, ours = (lm.prompt(TEXT).append_text("or") for lm in pair)
    np.testing.assert_allclose(host.logits, ours.logits, atol=1e-4)
    assert int(host.held) == -1 and host.append_text("") is host


def test_same_key_same_texts(pair):
    def model(context):
        sx.generate("text", context, max_tokens=5, where=sx.regex(r"[ -~]*"))

    posteriors = []
    for lm in pair:
        smc = sx.SMC(sx.AWRS(model), num_particles=8)
        smc.run(jax.random.key(1), lm.prompt(TEXT))
        posteriors.append((smc.get_weighted_samples(), smc.log_evidence))
    (host, host_weights), host_evidence = posteriors[0]
    (ours, our_weights), our_evidence = posteriors[1]
    np.testing.assert_array_equal(host["text"], ours["text"])
    assert len({tuple(text) for text in host["text"].tolist()}) > 3
    np.testing.assert_allclose(host_weights, our_weights, atol=1e-3)
    np.testing.assert_allclose(host_evidence, our_evidence, atol=1e-3)


def _config(kind):
    small = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 3, "initializer_range": 0.3}
    heads = {"num_attention_heads": 4, "max_position_embeddings": 64}
    if kind == "llama":
        return transformers.LlamaConfig(**small, **heads, intermediate_size=48)
    if kind == "gpt2":  # learned positions
        return transformers.GPT2Config(
            vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3
        )
    if kind == "bloom":  # positions from the attention mask
        return transformers.BloomConfig(
            vocab_size=60, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3
        )
    if kind == "mistral":  # a window shorter than the texts
        return transformers.MistralConfig(
            **small, **heads, intermediate_size=48, sliding_window=4, num_key_value_heads=2
        )
    if kind == "mamba":  # a recurrent state, overwritten in place
        return transformers.MambaConfig(**small, state_size=4)
    if kind == "rwkv":  # a cache of its own kind
        return transformers.RwkvConfig(
            vocab_size=60, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32
        )
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bloom", "mistral", "mamba", "rwkv"])
@pytest.mark.parametrize("cache_bytes", [2**30, 3_000])
def test_any_architecture_forks(kind, cache_bytes):
    """Texts of different lengths that fork, wait, go on together and by several tokens: as the model alone."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(_config(kind)).eval()
    lm = bare(model, cache_bytes=cache_bytes)
    rng = np.random.default_rng(0)
    texts = [[3, 4, 5]] * 6
    start = lm.prompt(texts[0])
    contexts = jax.tree.map(lambda x: jnp.stack([x] * 6), start)
    step = jax.jit(jax.vmap(lambda context, tokens, active: context.append(tokens, active)))
    lengths = set()
    for turn in range(9):
        ancestors = rng.integers(0, 6, 6)
        contexts = jax.tree.map(operator.itemgetter(ancestors), contexts)
        texts = [texts[i] for i in ancestors]
        tokens = rng.integers(1, 8, (6, 3 if turn % 3 == 2 else 1)).astype(np.int32)
        active = rng.random(6) < 0.5
        contexts = step(contexts, jnp.asarray(tokens), jnp.asarray(active))
        texts = [text + row.tolist() if on else text for text, row, on in zip(texts, tokens, active)]
        for logits, text in zip(contexts.logits, texts):
            expected = hugging_face_logits(model, text)[-1]
            np.testing.assert_allclose(logits, expected, atol=1e-4 * max(1, abs(expected).max()))
        lengths.add(len({len(text) for text in texts}))
    assert max(lengths) > 1
    stats = lm.stats
    assert (stats.rebuilt > 0) == (cache_bytes < 2**30 or kind == "rwkv")
    np.testing.assert_array_equal(contexts.position, [len(text) for text in texts])


def test_texts_of_different_lengths_share_a_call():
    lm = bare(hugging_face())
    step = jax.jit(jax.vmap(lambda context, token, on: context.extend(token, on), in_axes=(0, 0, 0)))
    contexts = jax.tree.map(lambda x: jnp.stack([x] * 4), lm.prompt([3, 4]))
    tokens, on = jnp.array([5, 5, 6, 7]), jnp.array([True, True, True, False])
    contexts = step(contexts, tokens, on)
    assert (lm.stats.forwards, lm.stats.rows) == (2, 3)  # the prompt, and two different texts
    contexts = step(contexts, tokens, ~on)
    contexts = step(contexts, tokens, jnp.array([True, False, True, True]))
    assert lm.stats.forwards == 4
    step(contexts, tokens, jnp.zeros(4, bool))
    assert lm.stats.forwards == 4
    # The same again costs nothing: every text is known.
    again = jax.tree.map(lambda x: jnp.stack([x] * 4), lm.prompt([3, 4]))
    np.testing.assert_array_equal(step(again, tokens, on).node, step(again, tokens, on).node)
    assert lm.stats.forwards == 4


def test_two_models_in_one_program():
    first, second = bare(hugging_face()), bare(hugging_face(initializer_range=0.3))
    together = jax.jit(lambda a, b: (a.extend(5).logits, b.extend(5).logits))
    a, b = together(first.prompt([3]), second.prompt([3]))
    np.testing.assert_allclose(a, hugging_face_logits(first.model, [3, 5])[-1], atol=1e-4)
    np.testing.assert_allclose(b, hugging_face_logits(second.model, [3, 5])[-1], atol=1e-4)
    c, d = together(second.prompt([3]), first.prompt([3]))
    np.testing.assert_array_equal([c, d], [b, a])
    assert together._cache_size() == 1
    np.testing.assert_allclose(
        jax.nn.log_softmax(product(first, second).prompt([3]).extend(5).logits),
        jax.nn.log_softmax(jax.nn.log_softmax(a) + jax.nn.log_softmax(b)),
        atol=1e-4,
    )


def test_scores_and_samples(pair):
    host, ours = pair
    texts = ["or", "s away", ""]
    np.testing.assert_allclose(host.score(texts, TEXT), score(ours, texts, TEXT), atol=1e-3)
    assert len(host.temperature(0.7).sample(jax.random.key(0), TEXT, max_tokens=3, num_samples=2).decode()) == 2


def test_errors_surface():
    model = hugging_face()
    lm = bare(model)
    context = lm.prompt([3])
    extend = jax.jit(lambda context, token: context.extend(token).logits)

    def failing(*args, **kwargs):
        raise IndexError("no such row")

    forward, model.forward = model.forward, failing
    with pytest.raises(IndexError, match="no such row"), host_errors():
        extend(context, 5).block_until_ready()
    model.forward = forward
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    with pytest.raises(ModelError, match="answers NaN"), host_errors():
        extend(context, 6).block_until_ready()
    with pytest.raises(ModelError, match="answers NaN"):
        lm.prompt([4])
    with pytest.raises(ValueError, match="513 tokens do not fit in the model's context window of 512"):
        lm.prompt([4] * 513)
    with pytest.raises(ValueError, match="do not fit"):
        context.reserve(512)
    with pytest.raises(ModelError, match="the vocabulary has 2 tokens, the model 97"):
        HostLM(model, Vocabulary([b"a", b""], end_of_text=1))
    with pytest.raises(ModelError, match="transformers does not load 'no/such/place'"):
        HostLM.load("no/such/place")


def test_deleted_model():
    lm = bare(hugging_face())
    handle = lm.prompt([3]).handle
    other = bare(hugging_face())
    context = other.prompt([3])
    del lm
    gc.collect()
    with pytest.raises(RuntimeError, match="was deleted"), host_errors():
        jax.jit(lambda c: c.extend(5).logits)(dataclasses.replace(context, handle=handle)).block_until_ready()


def test_slow_tokenizers(language_model):
    class Slow:
        pass

    with pytest.raises(ModelError, match="Slow is no fast tokenizer"):
        HostLM.from_transformers(language_model[0], Slow())


def test_settings_of_the_tokenizer():
    """A token for the beginning of a text that only the tokenizer puts there; a template by name."""
    fast = byte_level_tokenizer()
    model = hugging_face(vocab_size=fast.get_vocab_size())
    for prefix in ("<|user|> ", ""):
        fast.post_processor = processors.TemplateProcessing(
            single=prefix + "$A", special_tokens=[("<|user|>", 1)] if prefix else []
        )
        tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=fast, bos_token="<|user|>")
        tokenizer.chat_template = {"default": "{{ bos_token }}x", "tools": "y"}
        lm = HostLM.from_transformers(model, tokenizer)
        assert lm.vocabulary.tokenizer.prefix == ((1,) if prefix else ())
        assert lm.chat_template.encode([]) == [1, *lm.vocabulary.encode("x")]
