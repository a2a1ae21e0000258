"""A tiny checkpoint of every family, in the form of files on the hub, and what to change in its config.json.

Sizes are small and numbers odd on purpose: windows shorter than a prompt, caps that bend, an epsilon that is
felt, so that every field of a config shows in the logits.
"""

from __future__ import annotations

import dataclasses
from typing import Any

DELETE = object()
"""As a change: the field is taken out of the file."""

VOCABULARY = 97

SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
GATED = {**SIZES, "hidden_act": "silu", "rms_norm_eps": 1e-2, "rope_theta": 500.0, "torch_dtype": "float32"}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 3.0,
    "original_max_position_embeddings": 48,
}
YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
TOKENS = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": None}

# Changes that keep the shapes of all tensors: half as many heads, each twice as large.
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}
GATED_CHANGES = {
    "hidden_act": {"hidden_act": "gelu"},
    "rms_norm_eps": {"rms_norm_eps": 0.3},
    "rope_theta": {"rope_theta": 20.0},
    "num_attention_heads and head_dim": HEADS,
    "rope linear": {"rope_scaling": {"type": "linear", "factor": 3.0}},
    "rope_parameters": {
        "rope_scaling": DELETE,
        "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
    },
}
# The fields that these shapes and the tensors themselves settle: a change makes another checkpoint.
SHAPES = {
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_key_value_heads"),
    *("attention_bias", "mlp_bias", "tie_word_embeddings"),
    *("n_embd", "n_layer", "n_inner", "n_positions"),
}
# The context window: an error beyond it, no other effect but through the scalings that read it.
WINDOW = {"max_position_embeddings"}


@dataclasses.dataclass(frozen=True)
class Example:
    """A checkpoint's config.json, and changes to it under which the same tensors give other logits."""

    raw: dict[str, Any]
    changes: dict[str, dict[str, Any]]
    exempt: frozenset[str] = frozenset()
    """Fields read that are in no change, beside :data:`SHAPES` and :data:`WINDOW`, because only one value is
    supported."""

    def changed(self, name: str) -> dict[str, Any]:
        """The config.json after a change."""
        raw = {**self.raw, **self.changes[name]}
        return {field: value for field, value in raw.items() if value is not DELETE}


FULL_ROTATION = frozenset({"partial_rotary_factor"})

EXAMPLES: dict[str, Example] = {
    "llama": Example(
        {
            "model_type": "llama",
            **GATED,
            **TOKENS,
            "head_dim": 8,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_scaling": LLAMA3,
            "tie_word_embeddings": False,
            "pretraining_tp": 2,
        },
        {
            **GATED_CHANGES,
            "factor": {"rope_scaling": {**LLAMA3, "factor": 9.0}},
            "low_freq_factor": {"rope_scaling": {**LLAMA3, "low_freq_factor": 0.3}},
            "high_freq_factor": {"rope_scaling": {**LLAMA3, "high_freq_factor": 9.0}},
            "original": {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 20}},
            # Within the window of the model, dynamic scaling has no effect: beyond it has a test of its own.
            "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 4.0}, "max_position_embeddings": 50},
        },
        FULL_ROTATION,
    ),
    "smollm3": Example(
        {
            "model_type": "smollm3",
            **GATED,
            **TOKENS,
            "num_hidden_layers": 4,
            "attention_bias": True,
            "mlp_bias": True,
            "use_sliding_window": True,
            "sliding_window": 7,
            "no_rope_layers": [1, 0, 1, 0],
            "tie_word_embeddings": True,
            "max_window_layers": 28,
        },
        {
            **GATED_CHANGES,
            "no_rope_layers": {"no_rope_layers": [0, 1, 1, 0]},
            "no_rope_layer_interval": {"no_rope_layers": DELETE, "no_rope_layer_interval": 3},
            "default interval": {"no_rope_layers": DELETE},
            "sliding_window": {"sliding_window": 11},
            "use_sliding_window": {"use_sliding_window": False},
            "layer_types": {"layer_types": ["sliding_attention"] + ["full_attention"] * 3},
        },
        FULL_ROTATION,
    ),
    "mistral": Example(
        {"model_type": "mistral", **GATED, **TOKENS, "sliding_window": 6, "tie_word_embeddings": False},
        {
            **GATED_CHANGES,
            "sliding_window": {"sliding_window": 13},
            "sliding_window off": {"sliding_window": None},
            "sliding_window absent": {"sliding_window": DELETE},
        },
        FULL_ROTATION | {"layer_types"},
    ),
    "qwen2": Example(
        {
            "model_type": "qwen2",
            **GATED,
            **TOKENS,
            "use_sliding_window": True,
            "sliding_window": 6,
            "max_window_layers": 1,
            "rope_scaling": YARN,
            "tie_word_embeddings": True,
        },
        {
            **GATED_CHANGES,
            "use_sliding_window": {"use_sliding_window": False},
            "sliding_window": {"sliding_window": 11},
            "max_window_layers": {"max_window_layers": 2},
            "layer_types": {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
            "factor": {"rope_scaling": {**YARN, "factor": 12.0}},
            "factor by windows": {
                "rope_scaling": {**YARN, "factor": None, "original_max_position_embeddings": 32}
            },
            "attention_factor": {"rope_scaling": {**YARN, "attention_factor": 0.6}},
            "beta_fast": {"rope_scaling": {**YARN, "beta_fast": 1.5}},
            "beta_slow": {"rope_scaling": {**YARN, "beta_slow": 0.01, "beta_fast": 4.0}},
            "mscale": {"rope_scaling": {**YARN, "mscale": 2.0, "mscale_all_dim": 0.5}},
            "truncate": {"rope_scaling": {**YARN, "truncate": False}},
            "original": {"rope_scaling": {**YARN, "original_max_position_embeddings": 16}},
        },
        FULL_ROTATION,
    ),
    "qwen3": Example(
        {
            "model_type": "qwen3",
            **GATED,
            **TOKENS,
            "head_dim": 12,
            "attention_bias": True,
            "use_sliding_window": True,
            "sliding_window": 6,
            "max_window_layers": 1,
            "tie_word_embeddings": False,
        },
        {
            **{k: v for k, v in GATED_CHANGES.items() if k != "num_attention_heads and head_dim"},
            "use_sliding_window": {"use_sliding_window": False},
            "sliding_window": {"sliding_window": 11},
            "max_window_layers": {"max_window_layers": 2},
            "layer_types": {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
            "longrope": {
                "rope_scaling": {
                    "rope_type": "longrope",
                    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
                    "long_factor": [2.0, 2.5, 3.0, 3.5, 4.0, 5.0],
                    "original_max_position_embeddings": 64,
                    "factor": 4.0,
                }
            },
        },
        # The norms of heads have the head's size.
        FULL_ROTATION | {"head_dim", "num_attention_heads"},
    ),
    "gemma2": Example(
        {
            "model_type": "gemma2",
            **{k: v for k, v in GATED.items() if k != "hidden_act"},
            **TOKENS,
            "head_dim": 8,
            "hidden_act": "gelu",
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": True,
            "query_pre_attn_scalar": 5,
            "sliding_window": 6,
            "attn_logit_softcapping": 1.5,
            "final_logit_softcapping": 3.0,
            "cache_implementation": "hybrid",
        },
        {
            **{k: v for k, v in GATED_CHANGES.items() if k != "hidden_act"},
            "hidden_activation": {"hidden_activation": "relu"},
            "query_pre_attn_scalar": {"query_pre_attn_scalar": 20},
            "sliding_window": {"sliding_window": 11},
            "attn_logit_softcapping": {"attn_logit_softcapping": 0.5},
            "attn_logit_softcapping off": {"attn_logit_softcapping": None},
            "final_logit_softcapping": {"final_logit_softcapping": 1.0},
            "final_logit_softcapping absent": {"final_logit_softcapping": DELETE},
            "layer_types": {"layer_types": ["full_attention", "full_attention", "sliding_attention"]},
        },
        FULL_ROTATION,
    ),
    "gemma3_text": Example(
        {
            "model_type": "gemma3_text",
            **{k: v for k, v in GATED.items() if k != "hidden_act"},
            **TOKENS,
            "num_hidden_layers": 4,
            "head_dim": 12,
            "hidden_activation": "gelu_pytorch_tanh",
            "attention_bias": True,
            "query_pre_attn_scalar": 5,
            "sliding_window": 6,
            "sliding_window_pattern": 3,
            "rope_local_base_freq": 30.0,
            "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            "attn_logit_softcapping": None,
            "final_logit_softcapping": 3.0,
        },
        {
            "hidden_activation": {"hidden_activation": "relu"},
            "rms_norm_eps": {"rms_norm_eps": 0.3},
            "rope_theta": {"rope_theta": 20.0},
            "rope_local_base_freq": {"rope_local_base_freq": 300.0},
            "rope_scaling": {"rope_scaling": {"rope_type": "linear", "factor": 5.0}},
            "rope_parameters": {
                "rope_theta": DELETE,
                "rope_scaling": DELETE,
                "rope_local_base_freq": DELETE,
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 70.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 90.0},
                },
            },
            "query_pre_attn_scalar": {"query_pre_attn_scalar": 20},
            "sliding_window": {"sliding_window": 11},
            "sliding_window_pattern": {"sliding_window_pattern": 2},
            "sliding_window_pattern absent": {"sliding_window_pattern": DELETE},
            "final_logit_softcapping": {"final_logit_softcapping": 1.0},
            "final_logit_softcapping absent": {"final_logit_softcapping": DELETE},
            "layer_types": {"layer_types": ["full_attention", "sliding_attention"] * 2},
        },
        frozenset({"head_dim", "num_attention_heads"}),
    ),
    "phi3": Example(
        {
            "model_type": "phi3",
            **{k: v for k, v in GATED.items() if k != "hidden_act"},
            **TOKENS,
            "hidden_act": "silu",
            "partial_rotary_factor": 0.75,
            "original_max_position_embeddings": 40,
            "max_position_embeddings": 160,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0, 1.2, 1.7],
                "long_factor": [1.5, 3.0, 4.0],
            },
            "sliding_window": 30,
            "tie_word_embeddings": False,
            "attention_bias": False,
            "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
        },
        {
            "hidden_act": {"hidden_act": "gelu"},
            "rms_norm_eps": {"rms_norm_eps": 0.3},
            "rope_theta": {"rope_theta": 20.0},
            "num_attention_heads": {
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "partial_rotary_factor": 0.375,
            },
            "original": {"original_max_position_embeddings": 90},
            "original absent": {"original_max_position_embeddings": DELETE},
            "max_position_embeddings": {"max_position_embeddings": 320},
            "yarn means longrope": {
                "rope_scaling": {
                    "type": "yarn",
                    "short_factor": [1.0, 1.2, 1.7],
                    "long_factor": [1.0, 2.0, 4.0],
                }
            },
            "long_factor": {
                "rope_scaling": {
                    "type": "longrope",
                    "short_factor": [1.0, 1.2, 1.7],
                    "long_factor": [1.5, 3.0, 8.0],
                }
            },
            "default": {"rope_scaling": None},
            "partial_rotary_factor": {"rope_scaling": None, "partial_rotary_factor": 0.25},
            "rope_parameters": {
                "rope_scaling": DELETE,
                "rope_parameters": {"rope_type": "default", "rope_theta": 30.0, "partial_rotary_factor": 0.5},
            },
            "sliding_window": {"sliding_window": 9},
            "sliding_window off": {"sliding_window": None},
        },
        frozenset({"head_dim"}),
    ),
    "olmo2": Example(
        {"model_type": "olmo2", **GATED, **TOKENS, "attention_bias": True, "tie_word_embeddings": False},
        {**GATED_CHANGES},
        FULL_ROTATION,
    ),
    "granite": Example(
        {
            "model_type": "granite",
            **GATED,
            **TOKENS,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.6,
            "attention_multiplier": 0.2,
            "logits_scaling": 2.0,
        },
        {
            **GATED_CHANGES,
            "embedding_multiplier": {"embedding_multiplier": 1.5},
            "residual_multiplier": {"residual_multiplier": 1.1},
            "attention_multiplier": {"attention_multiplier": 0.5},
            "logits_scaling": {"logits_scaling": 0.5},
        },
        FULL_ROTATION,
    ),
    "gpt2": Example(
        {
            "model_type": "gpt2",
            "vocab_size": VOCABULARY,
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 256,
            "n_ctx": 256,
            "n_inner": 40,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-2,
            **TOKENS,
        },
        {
            "n_head": {"n_head": 2},
            "activation_function": {"activation_function": "relu"},
            "layer_norm_epsilon": {"layer_norm_epsilon": 0.3},
            "scale_attn_weights": {"scale_attn_weights": False},
            "scale_attn_by_inverse_layer_idx": {"scale_attn_by_inverse_layer_idx": True},
        },
    ),
    "gpt_neox": Example(
        {
            "model_type": "gpt_neox",
            **{k: v for k, v in SIZES.items() if k != "num_key_value_heads"},
            **TOKENS,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-2,
            "rotary_pct": 0.5,
            "rotary_emb_base": 500,
            "use_parallel_residual": True,
            "tie_word_embeddings": False,
        },
        {
            "num_attention_heads": {"num_attention_heads": 2},
            "hidden_act": {"hidden_act": "relu"},
            "layer_norm_eps": {"layer_norm_eps": 0.3},
            "rotary_pct": {"rotary_pct": 0.25},
            "rotary_pct absent": {"rotary_pct": DELETE},
            "rotary_emb_base": {"rotary_emb_base": 20},
            "use_parallel_residual": {"use_parallel_residual": False},
            "rope_scaling": {"rope_scaling": {"type": "linear", "factor": 3.0}},
            "rope_parameters": {
                "rotary_pct": DELETE,
                "rope_parameters": {"rope_type": "default", "rope_theta": 30.0, "partial_rotary_factor": 1.0},
            },
        },
    ),
}
