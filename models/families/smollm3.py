"""SmolLM3: Llama with layers that have no rotary embedding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentax.models.config import LayerSpec
from sentax.models.families.base import GATED, NAMES, SIZES, Family, Use, flag
from sentax.models.families.fields import Fields
from sentax.models.families.rope import read_rope
from sentax.models.families.windows import read_windows


def derive(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    num_layers = values["num_layers"]
    turning = fields.take("no_rope_layers", default=None)  # despite its name, 1 is a layer with rope
    interval = fields.take("no_rope_layer_interval", default=4)
    if turning is None:
        turning = [int((index + 1) % interval != 0) for index in range(num_layers)]
    if len(turning) < num_layers:
        fields.fault("no_rope_layers", f"{num_layers} entries")
    window = fields.take("sliding_window", default=None)
    if not fields.take("use_sliding_window", default=False):
        window = None
    windows = read_windows(fields, values, window, [window is not None and not turns for turns in turning])
    rope = read_rope(fields, values, theta=2_000_000.0)
    specs = [LayerSpec(window, rope if turns else None) for window, turns in zip(windows, turning)]
    return {"layers": tuple(specs)}


SMOLLM3 = Family(
    model_type="smollm3",
    members="SmolLM3",
    fields={
        **SIZES,
        **GATED,
        "num_key_value_heads": Use("num_kv_heads", 4, nullable=True),
        "max_position_embeddings": Use("max_positions", 32768),
        "tie_word_embeddings": Use("tie_embeddings", True, flag),
        "head_dim": Use("head_dim", None),
        "attention_bias": Use(("qkv_bias", "o_bias"), False, flag),
        "mlp_bias": Use("mlp_bias", False, flag),
    },
    derive=derive,
    names=NAMES,
    harmless={"max_window_layers": "transformers' class does not read it"},
)
