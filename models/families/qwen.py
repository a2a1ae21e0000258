"""Qwen 2, 2.5 and 3: biases on queries, keys and values, or norms of them; windows in the upper layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentax.models.config import LayerSpec, QKNorm
from sentax.models.families.base import GATED, NAMES, QK_NAMES, SIZES, Family, Use, flag
from sentax.models.families.fields import Fields
from sentax.models.families.rope import read_rope
from sentax.models.families.windows import read_windows


def derive(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    window = fields.take("sliding_window", default=4096)
    lowest = fields.take("max_window_layers", default=28)
    if not fields.take("use_sliding_window", default=False):
        window = None
    pattern = [window is not None and index >= lowest for index in range(values["num_layers"])]
    rope = read_rope(fields, values)
    return {
        "layers": tuple(LayerSpec(window, rope) for window in read_windows(fields, values, window, pattern))
    }


_SIZES = {
    **SIZES,
    **GATED,
    "num_key_value_heads": Use("num_kv_heads", 32, nullable=True),
    "max_position_embeddings": Use("max_positions", 32768),
}
_OFF = {"use_mrope": (False, None), "mlp_bias": (False, None)}

QWEN2 = Family(
    model_type="qwen2",
    members="Qwen 2 and 2.5",
    fields={**_SIZES, "head_dim": Use("head_dim", None)},
    derive=derive,
    names=NAMES,
    fixed={"qkv_bias": True},
    off=_OFF,
)

QWEN3 = Family(
    model_type="qwen3",
    members="Qwen 3",
    fields={
        **_SIZES,
        "head_dim": Use("head_dim", 128),
        "attention_bias": Use(("qkv_bias", "o_bias"), False, flag),
    },
    derive=derive,
    names={**NAMES, **QK_NAMES},
    fixed={"qk_norm": QKNorm.HEAD},
    off=_OFF,
)
