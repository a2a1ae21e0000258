"""Mistral: Llama without biases, every layer with the same sliding window or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentax.models.config import LayerSpec
from sentax.models.families.base import GATED, NAMES, SIZES, Family, Use
from sentax.models.families.fields import Fields
from sentax.models.families.rope import read_rope


def derive(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    window = fields.take("sliding_window", default=4096)  # only a null turns it off
    kind = "full_attention" if window is None else "sliding_attention"
    # Checkpoints with alternating layers are `ministral`; transformers' Mistral passes their pattern over.
    fields.expect("layer_types", None, [kind] * values["num_layers"])
    return {"layers": (LayerSpec(window, read_rope(fields, values)),) * values["num_layers"]}


MISTRAL = Family(
    model_type="mistral",
    members="Mistral 7B, Mistral Nemo and Small",
    fields={
        **SIZES,
        **GATED,
        "num_key_value_heads": Use("num_kv_heads", 8, nullable=True),
        "max_position_embeddings": Use("max_positions", 131072),
        "head_dim": Use("head_dim", None),
    },
    derive=derive,
    names=NAMES,
    off={"attention_bias": (False, None), "mlp_bias": (False, None)},
)
