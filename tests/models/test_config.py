"""Configs read and written: both spellings of rotary parameters, and errors that name the field."""

import dataclasses
import json
import pickle

import pytest

from sentax.models import DecoderConfig
from sentax.models.config import LayerSpec
from sentax.models.families import FAMILIES
from sentax.models.rotary import DynamicRope, LinearRope, Llama3Rope, LongRope, Rope, YarnRope

BASE = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 128,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = {"short_factor": [1, 1, 2, 2], "long_factor": [4, 4, 8, 8], "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("fields", "theta", "scaling"),
    [
        ({}, 10_000.0, None),
        ({"rope_theta": 5e5, "rope_scaling": None}, 5e5, None),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, 5e5, None),
        ({"rope_theta": 3.0, "rope_scaling": {"type": "linear", "factor": 2.0}}, 3.0, LinearRope(2.0)),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 10_000.0, DynamicRope(2.0, 128)),
        (
            {"rope_theta": 3.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
            3.0,
            Llama3Rope(8.0, 1.0, 4.0, 64),
        ),
        (
            {"rope_parameters": {"rope_theta": 3.0, "rope_type": "llama3", **LLAMA3}},
            3.0,
            Llama3Rope(8.0, 1.0, 4.0, 64),
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "beta_fast": 16.0}},
            10_000.0,
            YarnRope(4.0, 128, beta_fast=16.0),
        ),
        (
            {"rope_scaling": {"rope_type": "longrope", **LONG}},
            10_000.0,
            LongRope((1.0, 1.0, 2.0, 2.0), (4.0, 4.0, 8.0, 8.0), 64, 2.0),
        ),
    ],
)
def test_reads_both_spellings(fields, theta, scaling):
    config = DecoderConfig.from_hf({**BASE, **fields})
    assert {layer.rope for layer in config.layers} == {Rope(theta, scaling)}
    assert DecoderConfig.from_hf(json.loads(json.dumps(config.to_hf()))) == config
    assert hash(config) == hash(DecoderConfig.from_hf(config.to_hf()))
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_act": "tanh"}, "hidden_act is 'tanh'; supported: 'silu', 'swish', 'gelu'"),
        ({"quantization_config": {"bits": 4}}, r"quantization_config is \{'bits': 4\}; supported: None"),
        ({"rope_interleaved": True}, "rope_interleaved is True; supported: False"),
        ({"sliding_window": 9}, "sliding_window is 9; supported: None"),
        (
            {"rope_scaling": {"rope_type": "spiral", "factor": 2.0}},
            "rope_type is 'spiral'; supported: 'default', 'linear', 'dynamic', 'llama3', 'yarn', 'longrope'",
        ),
        (
            {"rope_parameters": {"rope_theta": 1.0, "partial_rotary_factor": 0.5}},
            "partial_rotary_factor is 0.5; supported: 1.0",
        ),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}},
            "llama3 rope scaling lacks 'low_freq_factor'",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0, "mrope_section": [1]}},
            r"rope_scaling.mrope_section is \[1\]; no such field",
        ),
        ({"rope_theta": None}, "rope_theta is None; supported: a positive number"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "rope_theta": -1}}, "rope_theta is -1; supported"),
        ({"model_type": "phi3", "partial_rotary_factor": 1.5}, r"partial_rotary_factor is 1\.5; supported"),
        (
            {"model_type": "mistral", "num_key_value_heads": 4, "sliding_window": 0},
            "sliding_window is 0; supported: a positive whole",
        ),
        ({"hidden_act": ["silu"]}, r"hidden_act is \['silu'\]; supported: 'silu'"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None; supported: a number"),
        ({"attention_bias": "yes"}, "attention_bias is 'yes'; supported: true or false"),
        ({"num_key_value_heads": 3}, "num_heads \\(4\\) is not a multiple of num_kv_heads \\(3\\)"),
        ({"head_dim": 7}, "head_dim \\(7\\) must be even"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0; supported: a positive whole number"),
        ({"num_hidden_layers": 2.0}, r"num_hidden_layers is 2\.0; supported: a positive whole"),
        (
            {"num_experts": 8, "expert_size": 4},
            r"num_experts is 8; .* expert_size is 4; .* ignore_fields=\['num_experts', 'expert_size'\]",
        ),
        ({"hidden_act": "tanh", "sliding_window": 9}, "hidden_act is 'tanh'.*sliding_window is 9"),
        ({"model_type": "qwen2", "use_sliding_window": True, "layer_types": ["chunked"] * 2}, "layer_types is"),
        (
            {"model_type": "qwen2", "layer_types": ["sliding_attention"] * 2},
            "layer_types asks for sliding_attention, but there is no sliding_window",
        ),
        ({"model_type": "mistral", "layer_types": ["full_attention"] * 2}, "layer_types is"),
        ({"model_type": "smollm3", "no_rope_layers": [1]}, r"no_rope_layers is \[1\]; supported: 2 entries"),
        ({"model_type": "phi3", "lm_head_bias": True}, "lm_head_bias is True"),
        (
            {"model_type": "phi3", "rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_type is 'linear'; supported: 'default', 'longrope', 'su'",
        ),
        ({"model_type": "gemma3_text", "attn_logit_softcapping": 30.0}, "attn_logit_softcapping is 30.0"),
        ({"model_type": "gemma3_text", "rope_parameters": {"rope_theta": 1.0}}, "rope_parameters is"),
        ({"model_type": "gemma2", "use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
    ],
)
def test_unsupported_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        DecoderConfig.from_hf({**BASE, **fields})


def test_unknown_architecture():
    with pytest.raises(ValueError, match="model_type is 'mamba'") as caught:
        DecoderConfig.from_hf({**BASE, "model_type": "mamba"})
    for name in (*FAMILIES, "HostLM"):
        assert name in str(caught.value)


def test_ignored_fields():
    raw = {**BASE, "colour": "red", "rope_scaling": {"type": "linear", "factor": 2.0, "shade": 3}}
    with pytest.raises(ValueError, match="colour"):
        DecoderConfig.from_hf(raw, ignore_fields=["rope_scaling.shade"])
    config = DecoderConfig.from_hf(raw, ignore_fields=["colour", "rope_scaling.shade"])
    assert config.layers[0].rope.scaling == LinearRope(2.0)


def test_transformers_reads_what_we_write():
    from transformers import LlamaConfig

    config = DecoderConfig.from_hf(
        {**BASE, "rope_theta": 3.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}
    )
    theirs = LlamaConfig.from_dict(config.to_hf())
    assert DecoderConfig.from_hf(theirs.to_dict()) == config


def test_only_llama_is_written():
    config = DecoderConfig.from_hf(BASE)
    layers = (LayerSpec(window=4), *config.layers[1:])
    with pytest.raises(
        ValueError, match="a Llama file cannot say what this config does: layers, logit_softcap"
    ):
        dataclasses.replace(config, layers=layers, logit_softcap=3.0).to_hf()
    with pytest.raises(ValueError, match="layers describes 2 layers, num_layers is 3"):
        dataclasses.replace(config, num_layers=3)


def test_context_window():
    config = DecoderConfig.from_hf(BASE)
    assert config.with_window(100).max_positions == 100
    assert config.with_window(100).rope_length is None
    for window in (0, 129):
        with pytest.raises(ValueError, match=rf"context_window is {window}; this model has 1 to 128"):
            config.with_window(window)
    dynamic = DecoderConfig.from_hf({**BASE, "rope_scaling": {"type": "dynamic", "factor": 2.0}})
    assert dynamic.with_window(256).rope_length == 256

    long = DecoderConfig.from_hf({**BASE, "rope_scaling": {"rope_type": "longrope", **LONG}})
    assert long.rope_switch == 64
    long.check_window(64, start=10)
    long.check_window(100)  # a prompt beyond the border from the start
    long.check_window(100, start=80)
    with pytest.raises(ValueError, match=r"10 tokens cannot grow to 65.*context_window=65"):
        long.check_window(65, start=10)
    long.with_window(100).check_window(65, start=10)
    with pytest.raises(ValueError, match="129 tokens do not fit"):
        long.check_window(129)
