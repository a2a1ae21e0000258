"""Granite: Llama with a multiplier on embeddings, branches, scores and logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentax.models.config import LayerSpec
from sentax.models.families.base import Family, Use, number
from sentax.models.families.fields import Fields
from sentax.models.families.llama import LLAMA
from sentax.models.families.rope import read_rope


def derive(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    scale = number(fields.take("attention_multiplier", default=1.0))
    spec = LayerSpec(rope=read_rope(fields, values), attention_scale=scale)
    return {"layers": (spec,) * values["num_layers"]}


GRANITE = Family(
    model_type="granite",
    members="Granite 3",
    fields={
        **LLAMA.fields,
        "embedding_multiplier": Use("embedding_scale", 1.0, number),
        "residual_multiplier": Use("residual_scale", 1.0, number),
        "logits_scaling": Use("logit_scale", 1.0, lambda value: 1.0 / number(value)),
    },
    derive=derive,
    names=LLAMA.names,
)
