"""The families of models that one decoder covers: for each, its config.json and its tensors, declared."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sentax.models.config import DecoderConfig
from sentax.models.families.base import Family, Stored, Use
from sentax.models.families.gemma import GEMMA2, GEMMA3, GEMMA3_TEXT
from sentax.models.families.gpt2 import GPT2
from sentax.models.families.gpt_neox import GPT_NEOX
from sentax.models.families.granite import GRANITE
from sentax.models.families.llama import LLAMA
from sentax.models.families.mistral import MISTRAL
from sentax.models.families.olmo2 import OLMO2
from sentax.models.families.phi3 import PHI3
from sentax.models.families.qwen import QWEN2, QWEN3
from sentax.models.families.smollm3 import SMOLLM3

__all__ = ["FAMILIES", "Family", "Stored", "Use", "read_config"]

FAMILIES: dict[str, Family] = {
    family.model_type: family
    for family in (
        *(LLAMA, SMOLLM3, MISTRAL, QWEN2, QWEN3, GEMMA2, GEMMA3_TEXT, GEMMA3),
        *(PHI3, OLMO2, GRANITE, GPT2, GPT_NEOX),
    )
}
"""Every supported ``model_type``."""


def read_config(raw: Mapping[str, Any], *, ignore_fields: Collection[str] = ()) -> DecoderConfig:
    """The decoder that a parsed ``config.json`` describes.

    :param raw: the file.
    :param ignore_fields: names of fields to pass over, unread.
    :raises ValueError: for a family that is not declared, or naming every field at fault.

        >>> sizes = {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
        >>> config = read_config({"model_type": "gpt2", **sizes})
        >>> config.intermediate_size, config.norm.name
        (128, 'LAYER')
        >>> read_config({"model_type": "gpt2", **sizes, "add_cross_attention": True})
        Traceback (most recent call last):
            ...
        ValueError: add_cross_attention is True; supported: False or None
    """
    model_type = raw.get("model_type")
    if model_type not in FAMILIES:
        supported = ", ".join(f"{name!r} ({family.members})" for name, family in FAMILIES.items())
        raise ValueError(
            f"model_type is {model_type!r}; supported: {supported}. Any other causal model of transformers "
            "runs by callback as a HostLM"
        )
    return FAMILIES[model_type].read(raw, ignore_fields)
