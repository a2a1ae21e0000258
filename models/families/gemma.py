"""Gemma 2 and 3: norms on both sides of every branch, soft caps, alternating windows, scaled embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sentax.models.config import LayerSpec, Norm, QKNorm
from sentax.models.families.base import NAMES, QK_NAMES, SIZES, Family, Use, activation, flag, number
from sentax.models.families.fields import Fields
from sentax.models.families.rope import make_rope, read_rope
from sentax.models.families.windows import read_windows
from sentax.models.rotary import Rope


def _derive(
    fields: Fields, values: Mapping[str, Any], period: int, ropes: Mapping[bool, Rope]
) -> dict[str, Any]:
    """The settings of both generations; every `period`-th layer has no window."""
    window = fields.take("sliding_window", default=4096)
    pattern = [bool((index + 1) % period) for index in range(values["num_layers"])]
    windows = read_windows(fields, values, window, pattern)
    scale = fields.take("query_pre_attn_scalar", default=256) ** -0.5
    return {
        "layers": tuple(LayerSpec(window, ropes[window is not None], scale) for window in windows),
        "embedding_scale": values["hidden_size"] ** 0.5,
    }


def _derive2(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    rope = read_rope(fields, values)
    return _derive(fields, values, 2, {True: rope, False: rope})


def _derive3(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
    parameters = fields.take("rope_parameters", default=None) or {}
    if unknown := [key for key in parameters if key not in ("full_attention", "sliding_attention")]:
        fields.fault("rope_parameters", f"full_attention and sliding_attention, not {unknown[0]!r}")
    full, local = (dict(parameters.get(kind) or {}) for kind in ("full_attention", "sliding_attention"))
    # The older spelling scales the layers without a window only.
    full.update(fields.take("rope_scaling", default=None) or {})
    ropes = {
        False: make_rope(
            fields, "rope_parameters", full, values, fields.take("rope_theta", default=1_000_000.0)
        ),
        True: make_rope(
            fields, "rope_parameters", local, values, fields.take("rope_local_base_freq", default=10_000.0)
        ),
    }
    return _derive(fields, values, fields.take("sliding_window_pattern", default=6), ropes)


_FIELDS = {
    **SIZES,
    "num_key_value_heads": Use("num_kv_heads", 4),
    "head_dim": Use("head_dim", 256),
    "hidden_activation": Use("activation", "gelu_pytorch_tanh", activation),
    "rms_norm_eps": Use("norm_eps", 1e-6, number),
    "attention_bias": Use(("qkv_bias", "o_bias"), False, flag),
    "tie_word_embeddings": Use("tie_embeddings", True, flag),
}
_FIXED = {"norm": Norm.RMS_OFFSET, "post_norm": True, "embedding_scale_rounded": True}
_NAMES = {
    **NAMES,
    "layers.{}.post_attention_norm": "model.layers.{}.post_attention_layernorm",
    "layers.{}.pre_feedforward_norm": "model.layers.{}.pre_feedforward_layernorm",
    "layers.{}.post_feedforward_norm": "model.layers.{}.post_feedforward_layernorm",
}
_OFF = {"use_bidirectional_attention": (False, None), "mlp_bias": (False, None)}

GEMMA2 = Family(
    model_type="gemma2",
    members="Gemma 2",
    fields={
        **_FIELDS,
        "max_position_embeddings": Use("max_positions", 8192),
        "attn_logit_softcapping": Use("attention_softcap", 50.0, number, nullable=True),
        "final_logit_softcapping": Use("logit_softcap", 30.0, number, nullable=True),
    },
    derive=_derive2,
    names=_NAMES,
    fixed=_FIXED,
    off=_OFF,
    harmless={"hidden_act": "hidden_activation decides"},
)

GEMMA3_TEXT = Family(
    model_type="gemma3_text",
    members="Gemma 3 (text)",
    fields={
        **_FIELDS,
        "vocab_size": Use("vocab_size", 262_208),
        "hidden_size": Use("hidden_size", 2304),
        "intermediate_size": Use("intermediate_size", 9216),
        "num_hidden_layers": Use("num_layers", 26),
        "num_attention_heads": Use("num_heads", 8),
        "max_position_embeddings": Use("max_positions", 131_072),
        "final_logit_softcapping": Use("logit_softcap", None, number),
    },
    derive=_derive3,
    names={**_NAMES, **QK_NAMES},
    fixed={**_FIXED, "qk_norm": QKNorm.HEAD},
    off={
        **_OFF,
        # transformers' Gemma 3 has the field and does not use it; null in every published file.
        "attn_logit_softcapping": (None,),
    },
    harmless={
        "hidden_act": "hidden_activation decides",
        "_sliding_window_pattern": "written beside layer_types, which decides",
    },
)

GEMMA3 = Family(
    model_type="gemma3",
    members="Gemma 3 (the text part)",
    fields={name: use for name, use in GEMMA3_TEXT.fields.items() if name != "final_logit_softcapping"},
    derive=_derive3,
    names=GEMMA3_TEXT.names,
    fixed=GEMMA3_TEXT.fixed,
    # transformers' class around the vision tower caps nothing, whatever the text part says.
    off={**GEMMA3_TEXT.off, "final_logit_softcapping": (None,)},
    harmless={
        **GEMMA3_TEXT.harmless,
        "vision_config": "images are not read",
        "mm_tokens_per_image": "images are not read",
        "boi_token_index": "images are not read",
        "eoi_token_index": "images are not read",
        "image_token_index": "images are not read",
    },
    aliases=(
        (r"^(model\.language_model|language_model\.model)\.", "model."),
        (r"^language_model\.lm_head\.", "lm_head."),
    ),
    unread=r"^(model\.)?(vision_tower|multi_modal_projector)\.",
    nested="text_config",
)
