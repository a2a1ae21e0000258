"""Checkpoints on disk: safetensors in Hugging Face's layout, read and written by one declared key table."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sentax.models.config import DecoderConfig
from sentax.models.decoder import Decoder
from sentax.models.errors import ModelError

Params = dict[Any, Any]
"""A decoder's parameters: nested dictionaries of arrays, as :func:`flax.nnx.to_pure_dict` gives them."""

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

# Tensors that some files carry and no decoder reads: old checkpoints stored the rotary frequencies.
_UNREAD = re.compile(r"\.rotary_emb\.inv_freq$")

_BLOCK = (
    "input_layernorm",
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "post_attention_layernorm",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


def key_table(config: DecoderConfig) -> dict[str, tuple[str | int, ...]]:
    """Hugging Face's name of every parameter, and its path in the decoder.

    :param config: the decoder's shape.
    :return: name to path, in the order of the file.

        >>> config = DecoderConfig(8, hidden_size=8, intermediate_size=8, num_layers=1, num_heads=2)
        >>> key_table(config)["model.layers.0.mlp.up_proj.weight"]
        ('layers', 0, 'mlp', 'up_proj', 'weight')
    """
    table: dict[str, tuple[str | int, ...]] = {"model.embed_tokens.weight": ("embed_tokens", "weight")}
    for index in range(config.num_layers):
        for name in _BLOCK:
            biased = config.attention_bias if name.startswith("self_attn") else config.mlp_bias
            kinds = ("weight", "bias") if biased and name.endswith("_proj") else ("weight",)
            for kind in kinds:
                table[f"model.layers.{index}.{name}.{kind}"] = ("layers", index, *name.split("."), kind)
    table["model.norm.weight"] = ("norm", "weight")
    if not config.tie_embeddings:
        table["lm_head.weight"] = ("lm_head", "weight")
    return table


@functools.cache
def abstract(config: DecoderConfig) -> tuple[nnx.GraphDef, Params]:
    """The decoder's graph and the shapes of its parameters, without making any; one object per config."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0))))
    return graphdef, nnx.to_pure_dict(state)


def load_params(directory: str | Path, config: DecoderConfig, *, dtype: Any = jnp.float32) -> Params:
    """The parameters of a checkpoint directory, cast to one dtype.

    Reads ``model.safetensors``, or the shards that ``model.safetensors.index.json`` lists. Everything
    that is wrong is found before anything is raised.

    :param directory: where the files are.
    :param config: what the files must hold.
    :param dtype: of the parameters in memory; files may be float32, float16 or bfloat16.
    :raises ModelError: naming every missing, unmapped, misshapen, non-float or non-finite tensor, and
        every missing or unreadable file.
    """
    directory = Path(directory)
    table, shapes = key_table(config), abstract(config)[1]
    params: Params = {}
    found: set[str] = set()
    errors: list[str] = []
    for file in _files(directory, errors):
        try:
            with safe_open(file, framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    found.add(name)
                    if _UNREAD.search(name) or (config.tie_embeddings and name == "lm_head.weight"):
                        continue
                    if name not in table:
                        errors.append(f"{name}: no parameter of that name in this architecture")
                        continue
                    expected = _get(shapes, table[name]).shape
                    view = tensors.get_slice(name)
                    if view.get_dtype() not in ("F32", "F16", "BF16", "F64"):
                        errors.append(f"{name}: stored as {view.get_dtype()}, expected floating point")
                    elif tuple(view.get_shape()) != expected:
                        errors.append(f"{name}: shape {tuple(view.get_shape())}, expected {expected}")
                    else:
                        array = tensors.get_tensor(name)
                        if not np.isfinite(array).all():
                            errors.append(f"{name}: holds NaN or infinity")
                        _set(params, table[name], jnp.asarray(array, dtype))
        except (SafetensorError, OSError) as error:
            errors.append(f"{file.name}: unreadable ({error})")
    if found:
        errors.extend(f"{name}: missing" for name in table if name not in found)
    if errors:
        raise ModelError(f"the checkpoint in {directory} does not fit:\n  " + "\n  ".join(errors))
    return params


def save_params(
    directory: str | Path,
    config: DecoderConfig,
    params: Any,
    *,
    dtype: Any = jnp.float32,
    bos_token_id: int | None = None,
    eos_token_id: int | list[int] | None = None,
) -> None:
    """Writes ``config.json``, ``generation_config.json`` and ``model.safetensors`` for transformers to read.

    The tokenizer's files are not written.

    :param directory: made if it does not exist.
    :param config: the decoder's shape.
    :param params: the parameters: nested dictionaries, an ``nnx.State`` or the decoder itself.
    :param dtype: on disk: float32, bfloat16 or float16.
    :param bos_token_id: the token in front of every text, if any.
    :param eos_token_id: the token or tokens that end a text.
    """
    if isinstance(params, Decoder):
        params = nnx.state(params)
    if isinstance(params, nnx.State):
        params = nnx.to_pure_dict(params)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    ends = {"bos_token_id": bos_token_id, "eos_token_id": eos_token_id}
    dtype = jnp.dtype(dtype)
    _write(directory / "config.json", {**config.to_hf(), **ends, "dtype": dtype.name})
    _write(directory / "generation_config.json", ends)
    # Weights that are not contiguous in memory would be written in the wrong order.
    tensors = {
        name: np.ascontiguousarray(np.asarray(_get(params, path)).astype(dtype))
        for name, path in key_table(config).items()
    }
    save_file(tensors, directory / SINGLE, metadata={"format": "pt"})


def default_dtype() -> Any:
    """float32 on a CPU, bfloat16 on an accelerator."""
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16


def _files(directory: Path, errors: list[str]) -> list[Path]:
    if (directory / INDEX).is_file():
        try:
            weight_map = json.loads((directory / INDEX).read_text())["weight_map"]
        except (ValueError, KeyError) as error:
            errors.append(f"{INDEX}: unreadable ({error!r})")
            return []
        files = [directory / name for name in sorted(set(weight_map.values()))]
    else:
        files = [directory / SINGLE]
    for file in files:
        if not file.is_file():
            errors.append(f"{file.name}: no such file")
    return [file for file in files if file.is_file()]


def _get(tree: Mapping[Any, Any], path: tuple[str | int, ...]) -> Any:
    return functools.reduce(lambda node, key: node[key], path, tree)


def _set(tree: Params, path: tuple[str | int, ...], value: Any) -> None:
    *parents, last = path
    for key in parents:
        tree = tree.setdefault(key, {})
    tree[last] = value


def _write(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps({k: v for k, v in value.items() if v is not None}, indent=2) + "\n")
