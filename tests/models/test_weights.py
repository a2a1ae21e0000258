"""Checkpoints: every fault is found, all faults are listed, and transformers reads what we write."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from reference.checkpoints import hugging_face_logits, torch_model, write_config
from reference.families import EXAMPLES
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from sentax.models import DecoderConfig, ModelError, load_params, save_params
from sentax.models.weights import key_table

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


def test_all_differences_at_once(broken):
    directory, rewrite = broken

    def change(tensors):
        del tensors[NORM]
        tensors[DOWN] = tensors[DOWN].T.copy()
        tensors[GATE] = tensors[GATE].astype(np.int32)
        tensors["model.embed_tokens.weight"][3, 3] = np.nan  # not looked at: nothing is read
        tensors["model.layers.0.self_attn.q_proj.lora_A"] = np.zeros(3, np.float32)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(
            3, np.float32
        )  # read by nobody: fine

    rewrite(change)
    with pytest.raises(ModelError) as caught:
        load_params(directory, config_of(directory))
    first, *lines = str(caught.value).splitlines()
    assert first.endswith("does not fit:")
    assert sorted(lines) == sorted(
        [
            f"  {NORM}: missing",
            f"  {DOWN}: shape (72, 48), expected (48, 72)",
            f"  {GATE}: stored as I32, expected floating point",
            "  model.layers.0.self_attn.q_proj.lora_A: no parameter of that name in this architecture",
        ]
    )


def test_not_finite(broken):
    directory, rewrite = broken

    def change(tensors):
        tensors["model.embed_tokens.weight"][3, 3] = np.nan
        tensors["lm_head.weight"][0, 0] = -np.inf
        tensors[NORM][0] = 1e30

    rewrite(change)
    faults = ["  model.embed_tokens.weight: holds NaN or infinity", "  lm_head.weight: holds NaN or infinity"]
    with pytest.raises(ModelError) as caught:
        load_params(directory, config_of(directory))
    assert str(caught.value).splitlines()[1:] == faults
    # What float16 cannot hold would be infinite.
    with pytest.raises(ModelError, match=rf"{NORM}: holds NaN or infinity as float16"):
        load_params(directory, config_of(directory), dtype=jnp.float16)


def test_tied_head_that_differs(broken):
    """transformers 5 then unties the head; which of the two was meant, the file does not say."""
    directory, rewrite = broken
    config = dataclasses.replace(config_of(directory), tie_embeddings=True)
    with pytest.raises(ModelError, match=r"lm_head\.weight: differs from model\.embed_tokens\.weight"):
        load_params(directory, config)
    rewrite(lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"]}))
    assert "lm_head" not in load_params(directory, config)


def test_base_model_without_prefix(broken):
    directory, rewrite = broken
    config = config_of(directory)
    expected = load_params(directory, config)

    def change(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("model.")] = tensors.pop(name)

    rewrite(change)
    params = load_params(directory, config)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, expected))
    rewrite(lambda tensors: tensors.update({"model.norm.weight": tensors["norm.weight"]}))
    with pytest.raises(ModelError, match=r"norm\.weight: stored twice"):
        load_params(directory, config)


@pytest.mark.parametrize("name", ["llama", "phi3", "gpt2", "gpt_neox"])
def test_parts_of_a_parameter(tmp_path, name):
    """What a device reads of a fused or transposed tensor is its part of the parameter."""
    write_config(tmp_path, EXAMPLES[name].raw)
    torch_model(tmp_path).save_pretrained(tmp_path)
    write_config(tmp_path, EXAMPLES[name].raw)
    config = config_of(tmp_path)
    params, rng = load_params(tmp_path, config), np.random.default_rng(0)
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as tensors:
        for path, source in key_table(config).items():
            whole = np.asarray(functools.reduce(lambda tree, key: tree[key], path, params))
            assert source.parameter_shape == whole.shape
            stored = source.name if source.name in tensors.keys() else "lm_head.weight"  # noqa: SIM118
            for _ in range(3):
                bounds = [sorted(rng.choice(size + 1, 2, replace=False)) for size in whole.shape]
                index = tuple(slice(int(a), int(b)) for a, b in bounds)
                np.testing.assert_array_equal(source.read(tensors.get_slice(stored), index), whole[index])


def test_sharded_loading(broken):
    directory, rewrite = broken
    config = config_of(directory)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("tensor",))
    asked = {}

    def sharding(path, shape):
        asked[path] = shape
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("tensor"))

    params = load_params(directory, config, dtype=jnp.bfloat16, sharding=sharding)
    assert set(asked) == set(key_table(config))
    assert all(isinstance(leaf.sharding, jax.sharding.NamedSharding) for leaf in jax.tree.leaves(params))
    expected = load_params(directory, config, dtype=jnp.bfloat16)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, expected))
    rewrite(lambda tensors: tensors[NORM].__setitem__(0, np.nan))
    with pytest.raises(ModelError, match=rf"{NORM}: holds NaN"):
        load_params(directory, config, sharding=sharding)


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
