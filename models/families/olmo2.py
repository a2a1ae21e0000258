"""OLMo 2: norms behind the branches only, and one norm over all of a token's queries or keys."""

from __future__ import annotations

from sentax.models.config import QKNorm
from sentax.models.families.base import GATED, NAMES, QK_NAMES, SIZES, Family, Use, flag, number
from sentax.models.families.llama import derive

OLMO2 = Family(
    model_type="olmo2",
    members="OLMo 2",
    fields={
        **SIZES,
        **GATED,
        "rms_norm_eps": Use("norm_eps", 1e-5, number),
        "head_dim": Use("head_dim", None),
        "attention_bias": Use(("qkv_bias", "o_bias"), False, flag),
    },
    derive=derive,
    names={
        **NAMES,
        **QK_NAMES,
        "layers.{}.post_attention_norm": "model.layers.{}.post_attention_layernorm",
        "layers.{}.post_feedforward_norm": "model.layers.{}.post_feedforward_layernorm",
    },
    fixed={"pre_norm": False, "post_norm": True, "qk_norm": QKNorm.WHOLE},
)
