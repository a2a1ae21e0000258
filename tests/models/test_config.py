"""Configs read and written: both spellings of rotary parameters, and errors that name the field."""

import json

import pytest

from sentax.models import DecoderConfig, LinearRope, Llama3Rope

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


@pytest.mark.parametrize(
    ("fields", "theta", "scaling"),
    [
        ({}, 10_000.0, None),
        ({"rope_theta": 5e5, "rope_scaling": None}, 5e5, None),
        ({"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}, 5e5, None),
        ({"rope_theta": 3.0, "rope_scaling": {"type": "linear", "factor": 2.0}}, 3.0, LinearRope(2.0)),
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
    ],
)
def test_reads_both_spellings(fields, theta, scaling):
    config = DecoderConfig.from_hf({**BASE, **fields})
    assert (config.rope_theta, config.rope_scaling) == (theta, scaling)
    assert DecoderConfig.from_hf(json.loads(json.dumps(config.to_hf()))) == config
    assert hash(config) == hash(DecoderConfig.from_hf(config.to_hf()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model_type": "mamba"}, "model_type is 'mamba'; supported: 'llama'"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}},
            "rope_type is 'yarn'; supported: 'default', 'linear'",
        ),
        (
            {"rope_parameters": {"rope_theta": 1.0, "partial_rotary_factor": 0.5}},
            "partial_rotary_factor is 0.5",
        ),
        (
            {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}},
            "llama3 rope scaling lacks 'low_freq_factor'",
        ),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"num_key_value_heads": 3}, "num_heads \\(4\\) is not a multiple of num_kv_heads \\(3\\)"),
        ({"head_dim": 7}, "head_dim \\(7\\) must be even"),
        ({"num_hidden_layers": 0}, "num_layers must be positive"),
    ],
)
def test_unsupported_fields_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        DecoderConfig.from_hf({**BASE, **fields})


def test_transformers_reads_what_we_write():
    from transformers import LlamaConfig

    config = DecoderConfig.from_hf(
        {**BASE, "rope_theta": 3.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}}
    )
    theirs = LlamaConfig.from_dict(config.to_hf())
    assert DecoderConfig.from_hf(theirs.to_dict()) == config
