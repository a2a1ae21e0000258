"""GPT-2: LayerNorm, learned positions, an ungated feed-forward layer, weights stored [in, out]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sentax.models.config import DecoderConfig, LayerSpec, Norm
from sentax.models.families.base import Family, Stored, Use, activation, flag, number
from sentax.models.families.fields import Fields


def derive(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    scaled = fields.take("scale_attn_weights", default=True)
    by_layer = fields.take("scale_attn_by_inverse_layer_idx", default=False)
    scale = (values["hidden_size"] // values["num_heads"]) ** -0.5 if scaled else 1.0
    scales = [scale / (index + 1) if by_layer else scale for index in range(values["num_layers"])]
    inner = fields.take("n_inner", default=None)
    return {
        "layers": tuple(LayerSpec(rope=None, attention_scale=scale) for scale in scales),
        "intermediate_size": 4 * values["hidden_size"] if inner is None else inner,
    }


def _qkv(part: int) -> Stored:
    def rows(config: DecoderConfig) -> np.ndarray:
        return part * config.hidden_size + np.arange(config.hidden_size)

    return Stored("transformer.h.{}.attn.c_attn", rows, transposed=True)


GPT2 = Family(
    model_type="gpt2",
    members="GPT-2, DistilGPT-2",
    fields={
        "vocab_size": Use("vocab_size"),
        "n_embd": Use("hidden_size"),
        "n_layer": Use("num_layers"),
        "n_head": Use("num_heads"),
        "n_positions": Use(("max_positions", "learned_positions"), 1024),
        "activation_function": Use("activation", "gelu_new", activation),
        "layer_norm_epsilon": Use("norm_eps", 1e-5, number),
        "tie_word_embeddings": Use("tie_embeddings", True, flag),
    },
    derive=derive,
    names={
        "embed_tokens": "transformer.wte",
        "embed_positions": "transformer.wpe",
        "layers.{}.pre_attention_norm": "transformer.h.{}.ln_1",
        **{f"layers.{{}}.self_attn.{x}_proj": _qkv(part) for part, x in enumerate("qkv")},
        "layers.{}.self_attn.o_proj": Stored("transformer.h.{}.attn.c_proj", transposed=True),
        "layers.{}.pre_feedforward_norm": "transformer.h.{}.ln_2",
        "layers.{}.mlp.up_proj": Stored("transformer.h.{}.mlp.c_fc", transposed=True),
        "layers.{}.mlp.down_proj": Stored("transformer.h.{}.mlp.c_proj", transposed=True),
        "norm": "transformer.ln_f",
        "lm_head": "lm_head",
    },
    fixed={
        "norm": Norm.LAYER,
        "gated": False,
        "qkv_bias": True,
        "o_bias": True,
        "mlp_bias": True,
    },
    harmless={
        "n_ctx": "n_positions decides",
        "reorder_and_upcast_attn": "scores are always float32 here",
        "summary_type": "classification",
        "summary_use_proj": "classification",
        "summary_activation": "classification",
        "summary_proj_to_labels": "classification",
        "summary_first_dropout": "classification",
    },
    aliases=((r"^(?=h\.|wte\.|wpe\.|ln_f\.)", "transformer."),),  # the files of the first release
    unread=r"\.attn\.(masked_)?bias$",  # the causal mask
)
