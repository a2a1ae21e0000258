"""Checkpoints on disk: safetensors in Hugging Face's layout, read and written by one declared key table."""

from __future__ import annotations

import collections
import functools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from sentax.models.config import DecoderConfig
from sentax.models.decoder import Decoder
from sentax.models.errors import ModelError
from sentax.models.families import FAMILIES, Stored
from sentax.models.tensors import FLOATS, SINGLE, StoredTensor, are_equal, find_tensors, is_finite

Params = dict[Any, Any]
"""A decoder's parameters: nested dictionaries of arrays, as :func:`flax.nnx.to_pure_dict` gives them."""

ParamPath = tuple[str | int, ...]
"""The way to a parameter: ``("layers", 0, "mlp", "up_proj", "weight")``."""

# Tensors that some files carry and no decoder reads: old checkpoints stored the rotary frequencies.
_UNREAD = re.compile(r"\.rotary_emb\.inv_freq$")

# Base models are published without the prefix of the class around them.
_BARE = (r"^(?=embed_tokens\.|layers\.|norm\.)", "model.")


class Source(NamedTuple):
    """Where a parameter stands in the files.

    :param name: of the tensor.
    :param shape: of the whole tensor as it is stored.
    :param rows: which of its output features are the parameter's; None: all.
    :param transposed: whether it is stored [in, out] and the parameter is [out, in].
    """

    name: str
    shape: tuple[int, ...]
    rows: np.ndarray | None = None
    transposed: bool = False

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """The shape of the parameter."""
        outer, *inner = self.shape[::-1] if self.transposed else self.shape
        return (outer if self.rows is None else len(self.rows), *inner)

    def read(self, view: Any, index: tuple[slice, ...] = ()) -> np.ndarray:
        """A part of the parameter, reading no more of the file than it needs.

        :param view: the tensor's slice of a safetensors file.
        :param index: a slice of each axis of the parameter; missing axes are whole.
        """
        outer, *inner = (*index, *(slice(None),) * (len(self.shape) - len(index)))
        if self.rows is None:
            rows, gather = outer, None
        else:
            wanted = self.rows[outer]
            rows = slice(int(wanted.min()), int(wanted.max()) + 1)
            gather = None if len(wanted) == rows.stop - rows.start else wanted - rows.start
        if self.transposed:
            return np.ascontiguousarray(_gathered(view[(*inner, rows)].T, gather))
        return _gathered(view[(rows, *inner)], gather)


def _gathered(array: np.ndarray, rows: np.ndarray | None) -> np.ndarray:
    return array if rows is None else array[rows]


def key_table(config: DecoderConfig) -> dict[ParamPath, Source]:
    """Where every parameter of a decoder stands in its family's files.

    :param config: the decoder's shape.
    :return: from the parameter's path to its source.

        >>> config = DecoderConfig(8, hidden_size=8, intermediate_size=8, num_layers=1, num_heads=2)
        >>> key_table(config)["layers", 0, "mlp", "up_proj", "weight"].name
        'model.layers.0.mlp.up_proj.weight'
    """
    names = FAMILIES[config.family].names
    stored: dict[ParamPath, tuple[str, Stored, tuple[int, ...]]] = {}
    outputs: collections.Counter[str] = collections.Counter()
    for path, shape in _shapes(config).items():
        *module, kind = path
        layers = [part for part in module if isinstance(part, int)]
        declared = names[".".join("{}" if isinstance(part, int) else str(part) for part in module)]
        if isinstance(declared, str):
            declared = Stored(declared)
        name = f"{declared.name.format(*layers)}.{kind}"
        stored[path] = name, declared, shape
        outputs[name] += shape[0]
    table = {}
    for path, (name, declared, shape) in stored.items():
        transposed = declared.transposed and len(shape) == 2
        whole = (outputs[name], *shape[1:])
        rows = None if declared.rows is None else declared.rows(config)
        table[path] = Source(name, whole[::-1] if transposed else whole, rows, transposed)
    return table


@functools.cache
def abstract(config: DecoderConfig) -> tuple[nnx.GraphDef, Params]:
    """The decoder's graph and the shapes of its parameters, without making any; one object per config."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0))))
    return graphdef, nnx.to_pure_dict(state)


def load_params(
    directory: str | Path,
    config: DecoderConfig,
    *,
    dtype: Any = jnp.float32,
    sharding: Callable[[ParamPath, tuple[int, ...]], jax.sharding.Sharding] | None = None,
) -> Params:
    """The parameters of a checkpoint directory, cast to one dtype.

    Reads ``model.safetensors``, or the shards that ``model.safetensors.index.json`` lists. The headers of
    all files are compared with the decoder before any weight is read; then tensor after tensor goes to the
    device, so that the host holds one at a time.

    :param directory: where the files are.
    :param config: what the files must hold.
    :param dtype: of the parameters in memory; files may be float32, float16 or bfloat16.
    :param sharding: where a parameter goes, given its path and shape: each device then reads its own part
        of the file only. The default device, unless given.
    :raises ModelError: naming every missing, unmapped, misshapen or non-float tensor and every missing or
        unreadable file; or every tensor that holds NaN or infinity.
    """
    directory, dtype = Path(directory), jnp.dtype(dtype)
    table = key_table(config)
    by_name: dict[str, list[tuple[ParamPath, Source]]] = {}
    for path, source in table.items():
        by_name.setdefault(source.name, []).append((path, source))
    params: Params = {}
    faults: list[str] = []
    found = _named(directory, config, faults)
    _compare(found, {name: sources[0][1].shape for name, sources in by_name.items()}, config, faults)
    _raise(directory, "does not fit", faults)
    for name, sources in by_name.items():
        with found[name].open() as view:
            finite = [_place(params, path, source, view, dtype, sharding) for path, source in sources]
        if not all(finite):
            faults.append(f"{name}: holds NaN or infinity" + (" as float16" if dtype == np.float16 else ""))
    head, embedding = _head_name(config), table["embed_tokens", "weight"].name
    if config.tie_embeddings and head in found and not are_equal(found[head], found[embedding]):
        faults.append(f"{head}: differs from {embedding}, to which the config ties it")
    _raise(directory, "cannot be used", faults)
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

    Only Llama's layout is written, and the tokenizer's files are not.

    :param directory: made if it does not exist.
    :param config: the decoder's shape.
    :param params: the parameters: nested dictionaries, an ``nnx.State`` or the decoder itself.
    :param dtype: on disk: float32, bfloat16 or float16.
    :param bos_token_id: the token in front of every text, if any.
    :param eos_token_id: the token or tokens that end a text.
    :raises ValueError: if the decoder is no Llama.
    """
    written = config.to_hf()
    if isinstance(params, Decoder):
        params = nnx.state(params)
    if isinstance(params, nnx.State):
        params = nnx.to_pure_dict(params)
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    ends = {"bos_token_id": bos_token_id, "eos_token_id": eos_token_id}
    dtype = jnp.dtype(dtype)
    _write(directory / "config.json", {**written, **ends, "dtype": dtype.name})
    _write(directory / "generation_config.json", ends)
    # Weights that are not contiguous in memory would be written in the wrong order.
    tensors = {
        source.name: np.ascontiguousarray(np.asarray(_get(params, path)).astype(dtype))
        for path, source in key_table(config).items()
    }
    save_file(tensors, directory / SINGLE, metadata={"format": "pt"})


def default_dtype() -> Any:
    """float32 on a CPU, bfloat16 on an accelerator."""
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16


def _named(directory: Path, config: DecoderConfig, faults: list[str]) -> dict[str, StoredTensor]:
    """Every tensor that is to be read, by its name in the family's table."""
    family = FAMILIES[config.family]
    found: dict[str, StoredTensor] = {}
    for tensor in find_tensors(directory, faults):
        if _UNREAD.search(tensor.name) or (family.unread and re.search(family.unread, tensor.name)):
            continue
        name = tensor.name
        for pattern, replacement in (*family.aliases, _BARE):
            name = re.sub(pattern, replacement, name)
        if name in found:
            faults.append(f"{tensor.name}: stored twice")
        found[name] = tensor
    return found


def _compare(
    found: dict[str, StoredTensor], shapes: dict[str, tuple[int, ...]], config: DecoderConfig, faults: list[str]
) -> None:
    """Notes every difference between the files' headers and the table."""
    for name, tensor in found.items():
        if name not in shapes:
            if not (config.tie_embeddings and name == _head_name(config)):
                faults.append(f"{name}: no parameter of that name in this architecture")
        elif tensor.dtype not in FLOATS:
            faults.append(f"{name}: stored as {tensor.dtype}, expected floating point")
        elif tensor.shape != shapes[name]:
            faults.append(f"{name}: shape {tensor.shape}, expected {shapes[name]}")
    if found:
        faults.extend(f"{name}: missing" for name in shapes if name not in found)


def _place(params: Params, path: ParamPath, source: Source, view: Any, dtype: Any, sharding: Any) -> bool:
    """Puts a parameter where it belongs, and says whether it is finite."""
    if sharding is None:
        array = source.read(view)
        finite = is_finite(array, dtype)
        value = _cast(array, dtype)
    else:
        parts: list[bool] = []

        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            array = source.read(view, index or ())
            parts.append(is_finite(array, dtype))
            return _cast_here(array, dtype)

        shape = source.parameter_shape
        value = jax.make_array_from_callback(shape, sharding(path, shape), part)
        finite = all(parts)
    # One tensor at a time: dispatch is asynchronous, and a queue of casts would hold both of each.
    _set(params, path, value.block_until_ready())
    return finite


def _cast(array: np.ndarray, dtype: Any) -> Any:
    # A large array is cast by XLA on all cores, or after a transfer of half the bytes; a small one is not
    # worth the compilation.
    return jnp.asarray(array).astype(dtype) if array.size > 2**20 else jnp.asarray(_cast_here(array, dtype))


def _cast_here(array: np.ndarray, dtype: Any) -> np.ndarray:
    with np.errstate(over="ignore"):  # a tensor that overflows is an error that names it
        return array.astype(dtype, copy=False)


@functools.cache
def _shapes(config: DecoderConfig) -> dict[ParamPath, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(abstract(config)[1])
    return {tuple(key.key for key in path): leaf.shape for path, leaf in leaves}


def _head_name(config: DecoderConfig) -> str:
    declared = FAMILIES[config.family].names["lm_head"]
    assert isinstance(declared, str)
    return f"{declared}.weight"


def _raise(directory: Path, what: str, faults: list[str]) -> None:
    if faults:
        raise ModelError(f"the checkpoint in {directory} {what}:\n  " + "\n  ".join(faults))


def _get(tree: Mapping[Any, Any], path: tuple[str | int, ...]) -> Any:
    return functools.reduce(lambda node, key: node[key], path, tree)


def _set(tree: Params, path: tuple[str | int, ...], value: Any) -> None:
    *parents, last = path
    for key in parents:
        tree = tree.setdefault(key, {})
    tree[last] = value


def _write(file: Path, value: Mapping[str, Any]) -> None:
    file.write_text(json.dumps({k: v for k, v in value.items() if v is not None}, indent=2) + "\n")
