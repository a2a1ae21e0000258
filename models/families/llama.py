"""Llama 2 and 3, SmolLM 1 and 2, and the many checkpoints that call themselves ``llama``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentax.models.config import LayerSpec
from sentax.models.families.base import GATED, NAMES, SIZES, Family, Use, flag
from sentax.models.families.fields import Fields
from sentax.models.families.rope import read_rope


def derive(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    return {"layers": (LayerSpec(rope=read_rope(fields, values)),) * values["num_layers"]}


LLAMA = Family(
    model_type="llama",
    members="Llama 2 and 3, SmolLM 1 and 2",
    fields={
        **SIZES,
        **GATED,
        "head_dim": Use("head_dim", None),
        "attention_bias": Use(("qkv_bias", "o_bias"), False, flag),
        "mlp_bias": Use("mlp_bias", False, flag),
    },
    derive=derive,
    names=NAMES,
    off={
        # Other pairings of rotary features, and windows: transformers' class has none, whatever the file says.
        "rope_interleaved": (False, None),
        "sliding_window": (None,),
    },
)
