"""Names to models: what is missing is named in one line."""

import importlib.resources
import json
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.checkpoints import byte_level_tokenizer, hugging_face_logits, torch_model, write_config
from reference.families import EXAMPLES

from sentax.models import ModelError, TransformerLM, load
from sentax.models.tokenizer import Tokenizer
from sentax.models.vocabulary import end_of_text_ids

EMBEDDED = Path(str(importlib.resources.files("sentax.models") / "embedded"))
needs_embedded = pytest.mark.skipif(
    not (EMBEDDED / "model.safetensors").is_file(), reason="the embedded model has not been trained yet"
)


@pytest.fixture
def copy(language_model, tmp_path):
    return shutil.copytree(language_model[1], tmp_path / "copy")


def test_directory(language_model):
    lm = load(str(language_model[1]))
    assert isinstance(lm, TransformerLM)
    assert lm.vocabulary.ends == (0, 1)
    assert load(language_model[1], dtype="bfloat16").params["norm"]["weight"].dtype == jnp.bfloat16


@pytest.mark.parametrize("name", ["gemma3_text", "phi3", "gpt2"])
def test_families(name, tmp_path):
    """A windowed family, one whose rotary factors depend on the length, and one without rotary embeddings."""
    tokenizer = byte_level_tokenizer()
    raw = {**EXAMPLES[name].raw, "vocab_size": tokenizer.get_vocab_size() + 3}
    write_config(tmp_path, raw)
    model = torch_model(tmp_path)
    model.save_pretrained(tmp_path)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    lm = load(tmp_path)
    ids = np.random.default_rng(1).integers(2, 300, 60).tolist()
    theirs = hugging_face_logits(model, ids)
    possible = np.isfinite(lm.bias)
    assert possible.sum() > 300
    context = lm.prompt(ids[:50]).reserve(10)
    for position, token in enumerate(ids[50:], start=49):
        np.testing.assert_allclose(context.logits[possible], theirs[position][possible], atol=2e-4)
        context = context.extend(token)
    if name == "phi3":
        with pytest.raises(ValueError, match=r"cannot grow to 60: beyond 40 tokens .*context_window=60"):
            lm.prompt(ids[:30]).reserve(30)
        load(tmp_path, context_window=60).prompt(ids[:30]).reserve(30)


def test_context_window(copy):
    lm = load(copy, context_window=40)
    with pytest.raises(ValueError, match="41 tokens do not fit in the model's context window of 40"):
        lm.prompt([5] * 41)
    with pytest.raises(ModelError, match=r"config\.json: context_window is 5000; this model has 1 to 1024"):
        load(copy, context_window=5000)


def test_unknown_fields(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "colour": "red"}))
    with pytest.raises(ModelError, match=r"colour is 'red'; .*ignore_fields=\['colour'\]"):
        load(copy)
    assert isinstance(load(copy, ignore_fields=["colour"]), TransformerLM)


def test_tokenizer_without_bytes(copy):
    """Found before any weight is read."""
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"hello": 0, "<unk>": 1}, unk_token="<unk>"))
    words.save(str(copy / "tokenizer.json"))
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="its tokens have no exact bytes"):
        load(copy)


@pytest.mark.parametrize("name", ["no/such/directory", "./nowhere", Path("nowhere"), "/nowhere", "a b"])
def test_no_directory(name):
    with pytest.raises(ModelError, match=r"^no directory"):
        load(name)


def test_hub_out_of_reach():
    with pytest.raises(
        ModelError, match=r"'nobody/no-such-model' is no directory, and the hub does not give it: \S+"
    ):
        load("nobody/no-such-model")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_files(copy, name):
    (copy / name).unlink()
    with pytest.raises(ModelError, match=re.escape(name)):
        load(copy)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json"])
def test_corrupt_files(copy, name):
    (copy / name).write_text("{")
    with pytest.raises(ModelError, match=r"is not JSON|not a fast tokenizer"):
        load(copy)


def test_mismatches(copy):
    config = json.loads((copy / "config.json").read_text())
    for field, value, message in [
        ("model_type", "opt", "config.json: model_type is 'opt'; supported: 'llama' .*HostLM"),
        ("vocab_size", 100, "but the model has only 100 embedding rows"),
        ("hidden_size", 96, "shape .*, expected"),
    ]:
        (copy / "config.json").write_text(json.dumps({**config, field: value}))
        with pytest.raises(ModelError, match=message):
            load(copy)
    with pytest.raises(ModelError, match="dtype is int32"):
        load(copy, dtype="int32")


def test_end_of_text_is_a_union():
    tokenizer = Tokenizer(byte_level_tokenizer().to_str())
    assert end_of_text_ids(tokenizer, {"eos_token_id": [1]}, {"eos_token_id": 7}, eos_token="<|end|>") == [
        1,
        7,
        0,
    ]
    assert end_of_text_ids(tokenizer, {}, {"eos_token_id": None}, eos_token="missing") == []


def test_no_end_of_text(copy):
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        value = json.loads((copy / name).read_text())
        (copy / name).write_text(json.dumps({k: v for k, v in value.items() if not k.startswith("eos")}))
    with pytest.raises(ModelError, match="no token ends a text"):
        load(copy)


@needs_embedded
def test_embedded_model_agrees_with_transformers():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    lm = load()
    assert load() is lm
    text = "My favourite physicist is Marie Curie.\n"
    theirs = AutoTokenizer.from_pretrained(EMBEDDED)
    ids = theirs(text)["input_ids"]
    assert lm.vocabulary.tokenizer.encode_prompt(text) == ids
    model = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype="float32").eval()
    logits = lm.prompt(text, heal=False).logits
    reference = hugging_face_logits(model, ids)[-1]
    possible = np.isfinite(logits)
    assert possible.sum() > lm.vocabulary.size - 10
    np.testing.assert_allclose(logits[possible], reference[possible], atol=1e-4)
    assert jax.tree.leaves(lm.params)[0].dtype == jnp.float32
