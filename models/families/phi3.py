"""Phi-3, 3.5 and 4: fused projections, LongRoPE, a share of each head that turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sentax.models.config import DecoderConfig, LayerSpec
from sentax.models.families.base import GATED, NAMES, SIZES, Family, Stored, Use, number
from sentax.models.families.fields import Fields
from sentax.models.families.rope import make_rope


def derive(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    legacy, modern = fields.take("rope_scaling", default=None), fields.take("rope_parameters", default=None)
    parameters = dict(legacy or modern or {})
    # Both old names mean the scaling that Phi-3 was published with, and nothing else is supported upstream.
    kind = parameters.pop("type", None)
    kind = parameters.get("rope_type", kind) or "default"
    parameters["rope_type"] = "longrope" if kind in ("su", "yarn") else kind
    if parameters["rope_type"] not in ("default", "longrope"):
        fields.faults.append(f"rope_type is {kind!r}; supported: 'default', 'longrope', 'su'")
        parameters = {}
    original = fields.take("original_max_position_embeddings", default=4096)
    if parameters.get("rope_type") == "longrope":
        parameters["original_max_position_embeddings"] = original
    theta = fields.take("rope_theta", default=10_000.0)
    fraction = fields.take("partial_rotary_factor", default=1.0)
    rope = make_rope(fields, "rope_scaling", parameters, values, theta, fraction, partial=True)
    window = fields.take("sliding_window", default=None)
    return {"layers": (LayerSpec(window, rope),) * values["num_layers"]}


def _qkv(part: int) -> Stored:
    def rows(config: DecoderConfig) -> np.ndarray:
        sizes = np.cumsum([0, config.num_heads, config.num_kv_heads, config.num_kv_heads]) * config.head_dim
        return np.arange(sizes[part], sizes[part + 1])

    return Stored("model.layers.{}.self_attn.qkv_proj", rows)


def _gate_up(part: int) -> Stored:
    def rows(config: DecoderConfig) -> np.ndarray:
        return part * config.intermediate_size + np.arange(config.intermediate_size)

    return Stored("model.layers.{}.mlp.gate_up_proj", rows)


PHI3 = Family(
    model_type="phi3",
    members="Phi-3, Phi-3.5, Phi-4",
    fields={
        **SIZES,
        **GATED,
        "max_position_embeddings": Use("max_positions", 4096),
        "rms_norm_eps": Use("norm_eps", 1e-5, number),
        "head_dim": Use("head_dim", None),
    },
    derive=derive,
    names={
        **NAMES,
        **{f"layers.{{}}.self_attn.{x}_proj": _qkv(part) for part, x in enumerate("qkv")},
        "layers.{}.mlp.gate_proj": _gate_up(0),
        "layers.{}.mlp.up_proj": _gate_up(1),
    },
    off={
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "lm_head_bias": (False, None),
        "full_attn_mod": (1, None),
        "interpolate_factor": (1, None),
    },
)
