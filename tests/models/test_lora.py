"""Adapters against PEFT's own torch model, merged into the weights of every layout."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from reference.checkpoints import byte_level_tokenizer, hugging_face, hugging_face_logits
from safetensors.numpy import load_file, save_file

from sentax.models import ModelError, load
from sentax.models.lora import Adapter, switch, with_adapter

# Of PEFT itself, about torch and about what is tested to be refused.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny models: the threads of torch would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


IDS = [0, 70, 71, 80, 90, 33]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def gpt2():
    """Weights stored [in, out], queries, keys and values in one."""
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=340, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2, eos_token_id=0
    )
    return transformers.GPT2LMHeadModel(config).eval()


def phi3():
    """Queries, keys and values in one tensor, gate and up in another."""
    torch.manual_seed(1)
    config = transformers.Phi3Config(
        vocab_size=340, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, original_max_position_embeddings=64,
        initializer_range=0.2, eos_token_id=0, bos_token_id=0, pad_token_id=0, sliding_window=None,
    )  # fmt: skip
    return transformers.Phi3ForCausalLM(config).eval()


BASES = {
    "llama": lambda: hugging_face(vocab_size=340, num_key_value_heads=2, attention_bias=True),
    "llama, tied": lambda: hugging_face(vocab_size=340, tie_word_embeddings=True),
    "gpt2": gpt2,
    "phi3": phi3,
}

CASES = {
    "plain": ("llama", {"target_modules": ["q_proj", "v_proj"]}),
    "everything, rank-stabilised": ("llama", {"target_modules": ALL, "use_rslora": True}),
    "patterns": (
        "llama",
        {
            "target_modules": ALL,
            "rank_pattern": {"mlp.up_proj": 5, r"layers\.1\.self_attn\.q_proj": 2},
            "alpha_pattern": {"mlp.up_proj": 11, r"layers\.0\..*\.k_proj": 3},
        },
    ),
    "DoRA": ("llama", {"target_modules": ALL, "use_dora": True}),
    "embedding, head, biases": (
        "llama",
        {"target_modules": ["embed_tokens", "lm_head", "q_proj"], "bias": "lora_only"},
    ),
    "modules to save": (
        "llama",
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]},
    ),
    "tied": ("llama, tied", {"target_modules": ["down_proj"]}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "gpt2, DoRA": ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True, "use_dora": True}),
    "phi3": ("phi3", {"target_modules": ["qkv_proj", "gate_up_proj", "o_proj", "down_proj"]}),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    made = {}

    def make(name):
        if name not in made:
            directory = tmp_path_factory.mktemp("base")
            BASES[name]().save_pretrained(directory)
            byte_level_tokenizer().save(str(directory / "tokenizer.json"))
            made[name] = directory
        return made[name]

    return make


def adapted(directory, out, seed=0, **settings):
    """PEFT's model with every trained tensor drawn at random, saved in `out`."""
    model = transformers.AutoModelForCausalLM.from_pretrained(directory)
    peft = get_peft_model(
        model, LoraConfig(**{"r": 3, "lora_alpha": 7, "task_type": "CAUSAL_LM", **settings})
    ).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if parameter.requires_grad:
                spread = 0.5 * parameter.abs().mean() if "magnitude" in name or "save" in name else 0.3
                parameter.add_(spread * torch.randn_like(parameter))
    peft.save_pretrained(out)
    return peft


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_equals_peft(base, tmp_path, case):
    name, settings = case
    peft = adapted(base(name), tmp_path, **settings)
    lm = load(base(name), dtype="float32")
    before = lm.prompt(IDS).logits
    after = with_adapter(lm, tmp_path)
    expected = hugging_face_logits(peft, IDS)[-1]
    possible = np.isfinite(before)
    possible[0] = False  # all ends in one
    np.testing.assert_allclose(after.prompt(IDS).logits[possible], expected[possible], atol=2e-4)
    assert np.abs(before - expected)[possible].max() > 0.1  # the adapter matters
    np.testing.assert_array_equal(lm.prompt(IDS).logits, before)  # and the base is as it was
    merged = hugging_face_logits(peft.merge_and_unload(), IDS)[-1]
    np.testing.assert_allclose(after.prompt(IDS).logits[possible], merged[possible], atol=2e-4)


def test_shares_what_it_leaves_alone(base, tmp_path):
    adapted(base("llama"), tmp_path, target_modules=["q_proj"])
    lm = load(base("llama"), dtype="float32")
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(lm.params), jax.tree.leaves(with_adapter(lm, tmp_path).params)
    )
    changed = [jax.tree_util.keystr(path) for (path, a), b in pairs if a is not b]
    assert changed == [f"['layers'][{i}]['self_attn']['q_proj']['weight']" for i in range(2)]
    low = load(base("llama"), dtype="bfloat16")
    assert {x.dtype for x in jax.tree.leaves(with_adapter(low, tmp_path).params)} == {jnp.dtype("bfloat16")}


def test_two_adapters_in_one_program(base, tmp_path):
    """Each site its own weights; a text goes on with others; nothing is compiled again."""
    models = []
    for seed in (1, 2):
        adapted(base("llama"), tmp_path / str(seed), seed, target_modules=ALL)
        models.append(with_adapter(load(base("llama"), dtype="float32"), tmp_path / str(seed)))
    first, second = models
    kept = first.prompt(IDS)
    after = switch(kept, second, [50, 51])
    # By hand: the second model's step over the first one's keys and values.
    stepped = kept.reserve(4)
    for token in (50, 51):
        stepped = dataclasses.replace(stepped, params=second.params).extend(token)
    np.testing.assert_allclose(after.logits, stepped.logits, atol=1e-4)
    assert np.abs(after.logits - second.prompt([*IDS, 50, 51]).logits)[3] > 1e-3

    step = jax.jit(lambda context: context.extend(50).logits)
    a, b = (step(lm.prompt(IDS).reserve(1)) for lm in models)
    assert np.abs(a - b)[2] > 1e-3 and step._cache_size() == 1

    with pytest.raises(ValueError, match="at least one token"):
        switch(kept, second, "")
    with pytest.raises(ValueError, match="same shape and vocabulary"):
        switch(kept, load(base("llama, tied"), dtype="float32"), "x")


def _edit(directory, **changes):
    file = directory / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3', only 'LORA'"),
        ({"lora_bias": True}, "lora_bias is True, which a merge cannot do"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"trainable_token_indices": [3]}, "trainable_token_indices"),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the base weights"),
        ({"lora_alpha": None}, "lora_alpha is None"),
    ],
)
def test_settings_that_cannot_be_merged(base, tmp_path, changes, message):
    adapted(base("llama"), tmp_path, target_modules=["q_proj"])
    _edit(tmp_path, **changes)
    with pytest.raises(ModelError, match=message):
        Adapter.read(tmp_path)


def test_tensors_that_do_not_fit(base, tmp_path):
    adapted(base("llama"), tmp_path, target_modules=["q_proj"])
    lm = load(base("llama"), dtype="float32")
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    other = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight"

    def fails(changed, *messages):
        save_file(changed, file)
        with pytest.raises(ModelError) as error:
            with_adapter(lm, tmp_path)
        for message in messages:
            assert message in str(error.value)

    fails({k: v for k, v in tensors.items() if k != name}, "layers.0.self_attn.q_proj: lora_A and lora_B")
    fails(tensors | {name: tensors[name] * np.nan}, f"{name}: holds NaN")
    wide = {name: np.ones((3, 9), np.float32), other: np.ones((5, 3), np.float32)}
    fails(
        tensors | wide | {"base_model.model.other.weight": np.ones(3, np.float32)},
        "model.layers.0.self_attn.q_proj.weight: shape (48, 9), expected (48, 48)",
        "model.layers.1.self_attn.q_proj.weight: shape (5, 48), expected (48, 48)",
        "other.weight: no parameter of that name",
    )
    file.write_bytes(b"broken")
    fails_to_read = pytest.raises(ModelError, match="unreadable")
    with fails_to_read:
        Adapter.read(tmp_path)
    with pytest.raises(ModelError, match="is no adapter"):
        Adapter.read(tmp_path / "missing")


def test_tied_embeddings_are_refused(base, tmp_path):
    adapted(base("llama, tied"), tmp_path, target_modules=["embed_tokens"])
    with pytest.raises(ModelError, match="the head is tied to it"):
        with_adapter(load(base("llama, tied"), dtype="float32"), tmp_path)
