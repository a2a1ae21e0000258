"""Reference checkpoints and tokenizers, made on the spot."""

import json
from pathlib import Path
from typing import Any

import numpy as np

TEXTS = [
    "The link is http://example.org and the other link is http://example.com.",
    "She said hello to the old sailor; hello, hello said the sailor.",
    "Zoë paid 25 € for naïve café crêpes \U0001f600 and \U0001f680\U0001f600.",
    "    indented    text\n\n\twith tabs\n",
]

SHAPES = {
    "plain": {},
    "tied, linear rope": {
        "tie_word_embeddings": True,
        "mlp_bias": True,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 3000.0, "factor": 2.5},
    },
    "grouped, head size, biases, llama3 rope": {
        "num_key_value_heads": 2,
        "head_dim": 20,
        "attention_bias": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5000.0,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
}
RICHEST = "grouped, head size, biases, llama3 rope"


def hugging_face(**overrides):
    """A transformers model with weights large enough that every term of the forward pass matters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **{
            "vocab_size": 97,
            "hidden_size": 48,
            "intermediate_size": 72,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "max_position_embeddings": 512,
            "initializer_range": 0.2,
            "bos_token_id": None,
            "eos_token_id": 0,
            **overrides,
        }
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
        elif name.endswith("bias"):
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model


def hugging_face_logits(model, ids):
    import torch

    with torch.no_grad():
        return model(torch.tensor(np.asarray(ids))[None]).logits[0].float().numpy()


def write_config(directory: Path, raw: dict[str, Any]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(raw))


def torch_model(directory: Path, weights: dict[str, Any] | None = None, seed: int = 0) -> Any:
    """transformers' model for the config.json of a directory, with given weights or random ones.

    Random weights are large enough, and norms and biases far enough from one and zero, that every term of
    the forward pass matters.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(directory)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    if weights is not None:
        model.load_state_dict(weights)
        return model
    randomise(model, 0.0 if config.model_type.startswith("gemma") else 1.0, seed)
    return model


def randomise(model: Any, norm: float, seed: int = 0) -> None:
    """Random parameters; the weights of norms about a given mean."""
    import torch

    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        is_norm = parameter.ndim == 1 and name.endswith("weight")
        torch.nn.init.normal_(parameter, norm if is_norm else 0.0, 0.3 if parameter.ndim == 1 else 0.25)
    model.tie_weights()


def torch_logits(model: Any, ids: Any) -> np.ndarray:
    """float32 logits after each token of a text."""
    import torch

    torch.set_num_threads(1)  # a second thread only waits, on models this small
    with torch.no_grad():
        return model(torch.tensor(np.asarray(ids))[None], use_cache=False).logits[0].float().numpy()


def byte_level_tokenizer(vocab_size=330):
    """Llama-3 style: byte-level BPE, end-of-text in front of every prompt."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|end|>", "<|user|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    tokenizer.add_tokens(["café", "<tool>", "  "])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|end|> $A", special_tokens=[("<|end|>", 0)]
    )
    return tokenizer


def sentencepiece_tokenizer():
    """Llama-2 style: BPE with byte fallback, a space put in front of every text."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = sorted({char for text in TEXTS[:2] for char in text.replace(" ", "\u2581")})
    merges = [
        ("h", "e"),
        ("l", "l"),
        ("he", "ll"),
        ("hell", "o"),
        ("\u2581", "hello"),
        ("\u2581", "s"),
        (":", "/"),
        (":/", "/"),
    ]
    pieces += letters + ["".join(pair) for pair in merges]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


TOKENIZERS = {"byte-level": byte_level_tokenizer, "sentencepiece": sentencepiece_tokenizer}
