"""GPT-NeoX and Pythia: parallel branches, LayerNorm, a quarter of each head turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sentax.models.config import DecoderConfig, LayerSpec, Norm
from sentax.models.families.base import SIZES, Family, Stored, Use, activation, flag, number
from sentax.models.families.fields import Fields
from sentax.models.families.rope import make_rope


def derive(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    legacy, modern = fields.take("rope_scaling", default=None), fields.take("rope_parameters", default=None)
    theta = fields.take("rotary_emb_base", default=10_000.0)
    fraction = fields.take("rotary_pct", default=0.25)
    parameters = dict(legacy or modern or {})
    rope = make_rope(fields, "rope_parameters", parameters, values, theta, fraction, partial=True)
    return {"layers": (LayerSpec(rope=rope),) * values["num_layers"], "num_kv_heads": values["num_heads"]}


def _qkv(part: int) -> Stored:
    """Queries, keys and values of one head stand together, head after head."""

    def rows(config: DecoderConfig) -> np.ndarray:
        heads, Y = np.arange(config.num_heads)[:, None], config.head_dim
        return ((3 * heads + part) * Y + np.arange(Y)).reshape(-1)

    return Stored("gpt_neox.layers.{}.attention.query_key_value", rows)


GPT_NEOX = Family(
    model_type="gpt_neox",
    members="GPT-NeoX, Pythia",
    fields={
        **{name: use for name, use in SIZES.items() if name != "num_key_value_heads"},
        "hidden_act": Use("activation", "gelu", activation),
        "layer_norm_eps": Use("norm_eps", 1e-5, number),
        "use_parallel_residual": Use("parallel", True, flag),
        "attention_bias": Use(("qkv_bias", "o_bias"), True, flag),
        "tie_word_embeddings": Use("tie_embeddings", False, flag),
    },
    derive=derive,
    names={
        "embed_tokens": "gpt_neox.embed_in",
        "layers.{}.pre_attention_norm": "gpt_neox.layers.{}.input_layernorm",
        **{f"layers.{{}}.self_attn.{x}_proj": _qkv(part) for part, x in enumerate("qkv")},
        "layers.{}.self_attn.o_proj": "gpt_neox.layers.{}.attention.dense",
        "layers.{}.pre_feedforward_norm": "gpt_neox.layers.{}.post_attention_layernorm",
        "layers.{}.mlp.up_proj": "gpt_neox.layers.{}.mlp.dense_h_to_4h",
        "layers.{}.mlp.down_proj": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
        "norm": "gpt_neox.final_layer_norm",
        "lm_head": "embed_out",
    },
    fixed={"norm": Norm.LAYER, "gated": False, "mlp_bias": True},
    harmless={"is_decoder": "there is no encoder"},
    aliases=((r"^lm_head\.", "embed_out."),),
    unread=r"\.attention\.(masked_)?bias$",  # the causal mask
)
