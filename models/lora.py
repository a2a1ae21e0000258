"""Low-rank adapters in PEFT's format, merged into a decoder's weights."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from safetensors import SafetensorError, safe_open

from sentax.models.config import DecoderConfig
from sentax.models.contexts import TransformerContext
from sentax.models.errors import ModelError
from sentax.models.families import FAMILIES
from sentax.models.transformer import TransformerLM
from sentax.models.weights import ParamPath, Params, Source, key_table

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"

_PREFIX = "base_model.model."
_PART = re.compile(r"\.(lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)(\.weight)?$")

# What PEFT can do that a merge of W + s B A is not; each must be off.
_OFF = (
    "alora_invocation_tokens",
    "arrow_config",
    "layer_replication",
    "lora_bias",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
)

# Others change the base weights too, so that the adapter belongs to other weights than the checkpoint's.
_NEUTRAL_INIT = (True, False, None, "gaussian", "eva", "orthogonal")


class Factors(NamedTuple):
    """The change of one weight [out, in]: ``scale * B A``, and for DoRA the length of each row after it.

    :param a: [r, in].
    :param b: [out, r].
    :param scale: ``alpha / r``, or ``alpha / sqrt(r)`` with rank-stabilised LoRA.
    :param magnitude: [out], None without DoRA.
    """

    a: Float[np.ndarray, "r in"]
    b: Float[np.ndarray, "out r"]
    scale: float
    magnitude: Float[np.ndarray, " out"] | None = None


@dataclasses.dataclass(frozen=True)
class Adapter:
    """What an adapter says about a base model's tensors, by their names in its checkpoint.

    :param directory: where it was read.
    :param factors: of weights.
    :param replaced: tensors that were trained whole (``modules_to_save``, biases).
    """

    directory: Path
    factors: Mapping[str, Factors]
    replaced: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, directory: str | Path) -> Adapter:
        """An adapter as PEFT's ``save_pretrained`` wrote it: LoRA, rank-stabilised or not, and DoRA.

        :param directory: holds ``adapter_config.json`` and ``adapter_model.safetensors``.
        :raises ModelError: if a file is missing or broken, or asks for what a merge cannot do.
        """
        directory = Path(directory).expanduser()
        config = _read_config(directory)
        try:
            with safe_open(directory / TENSORS, framework="numpy") as file:
                tensors = {name: file.get_tensor(name).astype(np.float32) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{directory / TENSORS}: unreadable ({error})") from None
        parts: dict[str, dict[str, np.ndarray]] = {}
        replaced = {}
        faults = [f"{name}: holds NaN or infinity" for name, x in tensors.items() if not np.isfinite(x).all()]
        for name, tensor in tensors.items():
            plain = name.removeprefix(_PREFIX)
            if match := _PART.search(plain):
                parts.setdefault(plain[: match.start()], {})[match[1]] = tensor
            else:
                replaced[plain.replace(".modules_to_save.", ".").replace(".base_layer.", ".")] = tensor
        factors = {}
        for module, part in parts.items():
            pair = [part.get(f"lora_{kind}") for kind in "AB"]
            embedding = [part.get(f"lora_embedding_{kind}") for kind in "AB"]
            if embedding[0] is not None and embedding[1] is not None:
                # An embedding [V, D] is used by rows: PEFT adds (B A)^T.
                pair = [embedding[1].T, embedding[0].T]
            if pair[0] is None or pair[1] is None or pair[0].shape[0] != pair[1].shape[1]:
                faults.append(f"{module}: lora_A and lora_B are not both there, or their ranks differ")
                continue
            magnitude = part.get("lora_magnitude_vector")
            factors[f"{module}.weight"] = Factors(
                pair[0], pair[1], _scale(config, module, len(pair[0])), magnitude
            )
        if faults:
            raise ModelError(f"the adapter in {directory} cannot be used:\n  " + "\n  ".join(faults))
        return cls(directory, factors, replaced)


def merge(adapter: Adapter, config: DecoderConfig, params: Params) -> Params:
    r"""A decoder's parameters with an adapter in them: :math:`W + s B A` (Hu et al. 2022).

    Tensors that the adapter does not name are the same arrays as before, not copies. Sums are made in
    float32 and rounded once, to the dtype of the weight.

    :param config: the decoder's shape.
    :param params: its parameters; those of a mesh keep their sharding.
    :raises ModelError: naming every tensor of the adapter that the decoder does not have, or not in that shape.
    """
    table = key_table(config)
    sources: dict[str, list[tuple[ParamPath, Source]]] = {}
    for path, source in table.items():
        sources.setdefault(source.name, []).append((path, source))
    merged = jax.tree.map(lambda leaf: leaf, params)  # new dictionaries, the same arrays
    faults = []
    # Whole tensors first: where an embedding has factors, PEFT saves the base's own beside them.
    changes: list[tuple[str, Any]] = [*adapter.replaced.items(), *adapter.factors.items()]
    for name, change in changes:
        name = _canonical(name, config)
        shape = (len(change.b), change.a.shape[1]) if isinstance(change, Factors) else change.shape
        if name not in sources:
            tied = " (the head is tied to the embedding)" if config.tie_embeddings and "head" in name else ""
            faults.append(f"{name}: no parameter of that name in this architecture{tied}")
            continue
        if config.tie_embeddings and name == table["embed_tokens", "weight"].name:
            faults.append(f"{name}: the head is tied to it, so that it would change too")
            continue
        first = sources[name][0][1]
        stored = first.shape[::-1] if first.transposed and isinstance(change, Factors) else first.shape
        if shape != stored:
            faults.append(f"{name}: shape {shape}, expected {stored}")
            continue
        for path, source in sources[name]:
            *parents, last = path
            node = merged
            for key in parents:
                node = node[key]
            node[last] = _changed(node[last], change, source)
    if faults:
        raise ModelError(f"the adapter in {adapter.directory} does not fit:\n  " + "\n  ".join(faults))
    return merged


def with_adapter(lm: TransformerLM, directory: str | Path) -> TransformerLM:
    """Another language model: this one with an adapter merged into its weights.

    The two share every tensor that the adapter leaves alone, and their programs: adapters of one
    model run without recompilation, so several may be held and each text of a program drawn from its own.

    :param lm: the base model.
    :param directory: where PEFT wrote the adapter.
    :raises ModelError: if it cannot be read, or does not fit the model.
    """
    params = merge(Adapter.read(directory), lm.config, lm.params)
    return TransformerLM(lm.config, params, lm.vocabulary, lm.chat_template)


def switch(context: TransformerContext, lm: TransformerLM, text: str | Sequence[int]) -> TransformerContext:
    """Goes on from a text with other weights, such as another adapter of the same model.

    What has been read stays as the first weights saw it (its keys and values are kept); the new ones read
    `text` and all that follows. For a context as if the new model had read everything, make a prompt.

    :param context: after a prompt or a generated text.
    :param lm: a model with the same shape and vocabulary.
    :param text: what stands in between, at least one token: the next distribution must be the new model's.
    :raises ValueError: if the text is empty or the models differ in more than their weights.
    """
    if (lm.config, lm.vocabulary.tokens) != (context.config, context.vocabulary.tokens):
        raise ValueError("a context goes on with a model of the same shape and vocabulary only")
    ids = context.vocabulary.encode(text) if isinstance(text, str) else list(text)
    if not ids:
        raise ValueError("the new weights must read at least one token before they can say what follows")
    return dataclasses.replace(context, params=lm.params).append(ids)


def _changed(weight: Array, change: Factors | np.ndarray, source: Source) -> Array:
    rows = slice(None) if source.rows is None else source.rows
    if not isinstance(change, Factors):
        whole = change.T if source.transposed else change
        return jax.device_put(jnp.asarray(whole[rows]).astype(weight.dtype), weight.sharding)
    magnitude = None if change.magnitude is None else change.magnitude.reshape(-1)[rows]
    merged = _add(weight, change.a, change.b[rows], change.scale, magnitude)
    return jax.device_put(merged, weight.sharding)


@jax.jit
def _add(weight: Array, a: Array, b: Array, scale: Array, magnitude: Array | None) -> Array:
    product = jnp.matmul(b, a, precision=jax.lax.Precision.HIGHEST)
    merged = weight.astype(jnp.float32) + scale * product
    if magnitude is not None:
        merged = merged * (magnitude / jnp.linalg.norm(merged, axis=1))[:, None]
    return merged.astype(weight.dtype)


def _canonical(name: str, config: DecoderConfig) -> str:
    """The name in the family's table, where files may have it otherwise."""
    for pattern, replacement in FAMILIES[config.family].aliases:
        name = re.sub(pattern, replacement, name)
    return name


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    alpha = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            alpha = value
            break
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _read_config(directory: Path) -> dict[str, Any]:
    file = directory / CONFIG
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{directory} is no adapter: {error.strerror} ({CONFIG})") from None
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}") from None
    if config.get("peft_type") != "LORA":
        raise ModelError(f"{file}: peft_type is {config.get('peft_type')!r}, only 'LORA' can be merged")
    for field in _OFF:
        if config.get(field):
            raise ModelError(f"{file}: {field} is {config[field]!r}, which a merge cannot do")
    if (init := config.get("init_lora_weights")) not in _NEUTRAL_INIT:
        raise ModelError(
            f"{file}: init_lora_weights is {init!r}, which changes the base weights; have PEFT convert the "
            "adapter (save_pretrained with path_initial_model_for_weight_conversion)"
        )
    if not isinstance(config.get("lora_alpha"), int | float):
        raise ModelError(f"{file}: lora_alpha is {config.get('lora_alpha')!r}, expected a number")
    return config


__all__ = ["Adapter", "Factors", "merge", "switch", "with_adapter"]
