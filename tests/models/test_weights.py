"""Checkpoints: every fault is found, all faults are listed, and transformers reads what we write."""

import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from reference.checkpoints import hugging_face_logits
from safetensors.numpy import load_file, save_file

from sentax.models import DecoderConfig, ModelError, load_params, save_params
from sentax.models.weights import abstract, key_table

NORM, DOWN, GATE = (
    "model.norm.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.layers.0.mlp.gate_proj.weight",
)


def config_of(directory):
    return DecoderConfig.from_hf(json.loads((directory / "config.json").read_text()))


@pytest.fixture
def broken(checkpoint, tmp_path):
    """A copy of a checkpoint, and a function that rewrites its tensors."""
    directory = tmp_path / "copy"
    shutil.copytree(checkpoint("plain")[1], directory)

    def rewrite(change):
        tensors = load_file(directory / "model.safetensors")
        change(tensors)
        save_file(tensors, directory / "model.safetensors")

    return directory, rewrite


@pytest.mark.parametrize("tied", [False, True])
def test_key_table_covers_the_decoder(tied):
    config = DecoderConfig(50, 32, 48, 2, 4, 2, tie_embeddings=tied, attention_bias=True, mlp_bias=True)
    paths = {path for path, _ in jax.tree_util.tree_leaves_with_path(abstract(config)[1])}
    assert {tuple(key.key for key in path) for path in paths} == set(key_table(config).values())


def test_all_errors_at_once(broken):
    directory, rewrite = broken

    def change(tensors):
        del tensors[NORM]
        tensors[DOWN] = tensors[DOWN].T.copy()
        tensors[GATE] = tensors[GATE].astype(np.int32)
        tensors["model.embed_tokens.weight"][3, 3] = np.nan
        tensors["lm_head.weight"][0, 0] = np.inf
        tensors["model.layers.0.self_attn.q_proj.lora_A"] = np.zeros(3, np.float32)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(
            3, np.float32
        )  # read by nobody: fine

    rewrite(change)
    with pytest.raises(ModelError) as caught:
        load_params(directory, config_of(directory))
    lines = str(caught.value).splitlines()[1:]
    assert sorted(lines) == sorted(
        [
            f"  {NORM}: missing",
            f"  {DOWN}: shape (72, 48), expected (48, 72)",
            f"  {GATE}: stored as I32, expected floating point",
            "  model.embed_tokens.weight: holds NaN or infinity",
            "  lm_head.weight: holds NaN or infinity",
            "  model.layers.0.self_attn.q_proj.lora_A: no parameter of that name in this architecture",
        ]
    )


@pytest.mark.parametrize("size", [4, 2000, -100])
def test_truncated_file(broken, size):
    directory, _ = broken
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"model\.safetensors: unreadable"):
        load_params(directory, config_of(directory))


def test_no_weights(broken):
    directory, _ = broken
    (directory / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: no such file"):
        load_params(directory, config_of(directory))


def test_shards(checkpoint, tmp_path):
    model, directory = checkpoint()
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2
    config = config_of(tmp_path)
    whole, sharded = load_params(directory, config), load_params(tmp_path, config)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), whole, sharded))

    shards[1].unlink()
    with pytest.raises(ModelError, match=rf"{shards[1].name}: no such file\n(.*: missing\n?)+"):
        load_params(tmp_path, config)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ModelError, match=r"index\.json: unreadable"):
        load_params(tmp_path, config)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_on_disk(broken, dtype):
    directory, rewrite = broken
    exact = load_params(directory, config_of(directory))
    rewrite(lambda tensors: tensors.update({k: v.astype(dtype) for k, v in tensors.items()}))
    params = load_params(directory, config_of(directory))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-4), params, exact)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_reads_what_we_write(checkpoint, shape, tmp_path, dtype):
    from transformers import AutoModelForCausalLM

    model, directory = checkpoint(shape)
    config = config_of(directory)
    save_params(
        tmp_path, config, load_params(directory, config), dtype=dtype, bos_token_id=4, eos_token_id=[2, 3]
    )
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert again.dtype == getattr(__import__("torch"), dtype)
    assert (again.generation_config.bos_token_id, again.generation_config.eos_token_id) == (4, [2, 3])
    ids = np.arange(20) % 97
    tolerance = 1e-6 if dtype == "float32" else 0.6
    np.testing.assert_allclose(hugging_face_logits(again, ids), hugging_face_logits(model, ids), atol=tolerance)
    assert config_of(tmp_path) == config
