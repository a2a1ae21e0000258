"""A config.json that keeps account: a field is read, required to be off, harmless for a reason, or an error."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

REQUIRED: Any = object()
"""The default of a field without one."""

# Fields that a forward pass does not depend on, in every family, and why.
HARMLESS: dict[str, str] = {
    # Which code and which file, not which function.
    "architectures": "the family is `model_type`; a checkpoint of another head fails by its tensors' names",
    "model_type": "read first",
    "auto_map": "code on the hub, which is never run",
    "_name_or_path": "provenance",
    "transformers_version": "provenance",
    "transformers.js_config": "for another library",
    "is_llama_config": "provenance",
    "unsloth_version": "provenance",
    "unsloth_fixed": "provenance",
    "torch_dtype": "the files say what they hold, `load(dtype=)` what it becomes",
    "dtype": "as torch_dtype",
    "torchscript": "export",
    # Tokens: read by the tokenizer and by end_of_text_ids.
    "bos_token_id": "the tokenizer's",
    "eos_token_id": "read with the vocabulary",
    "pad_token_id": "nothing is padded with a token",
    "unk_token_id": "the tokenizer's",
    "sep_token_id": "the tokenizer's",
    "decoder_start_token_id": "of encoder-decoders",
    "tokenizer_class": "the tokenizer's",
    "prefix": "the tokenizer's",
    # Training.
    "attention_dropout": "training",
    "attn_pdrop": "training",
    "embd_pdrop": "training",
    "resid_pdrop": "training",
    "hidden_dropout": "training",
    "hidden_dropout_prob": "training",
    "attention_probs_dropout_prob": "training",
    "classifier_dropout": "training",
    "initializer_range": "training",
    "gradient_checkpointing": "training",
    # How transformers computes the same numbers, and what it returns.
    "use_cache": "there is always a cache",
    "cache_implementation": "layout of the cache",
    "attn_implementation": "how, not what",
    "_attn_implementation": "how, not what",
    "_attn_implementation_autoset": "how, not what",
    "pretraining_tp": "splits one matrix product into several",
    "chunk_size_feed_forward": "splits the feed-forward layer over tokens",
    "output_attentions": "what is returned",
    "output_hidden_states": "what is returned",
    "return_dict": "what is returned",
    "use_return_dict": "what is returned",
    # Other heads, and defaults of `generate`.
    "id2label": "classification",
    "label2id": "classification",
    "num_labels": "classification",
    "_num_labels": "classification",
    "problem_type": "classification",
    "finetuning_task": "classification",
    "task_specific_params": "generation",
    "pruned_heads": "done before saving",
    "tie_encoder_decoder": "of encoder-decoders",
    **dict.fromkeys(
        (
            *("max_length", "min_length", "max_new_tokens", "do_sample", "early_stopping", "num_beams"),
            *("num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p"),
            *("repetition_penalty", "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"),
            *("bad_words_ids", "num_return_sequences", "output_scores", "return_dict_in_generate"),
            *("forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values", "begin_suppress_tokens"),
            *("exponential_decay_length_penalty", "suppress_tokens"),
        ),
        "generation",
    ),
}

# Fields of every family that must be off: the values that mean so, the default first.
OFF: dict[str, tuple[Any, ...]] = {
    "quantization_config": (None,),
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "cross_attention_hidden_size": (None,),
    "tf_legacy_loss": (False, None),
    "use_bfloat16": (False, None),
}


class Fields:
    """The fields of a ``config.json``, each struck off a list when it is read.

    :param raw: the parsed file.
    :param ignore: fields to pass over; ``a.b`` is field ``b`` of the dictionary ``a``.

        >>> fields = Fields({"hidden_size": 8, "colour": "red"})
        >>> fields.take("hidden_size"), fields.take("head_dim", default=None)
        (8, None)
        >>> fields.unread()
        ['colour']
    """

    def __init__(self, raw: Mapping[str, Any], ignore: Collection[str] = ()):
        self._raw = {
            name: {k: v for k, v in value.items() if f"{name}.{k}" not in ignore}
            if isinstance(value, dict)
            else value
            for name, value in raw.items()
            if name not in ignore
        }
        self.read: set[str] = set()
        """The fields asked for so far, whether or not the file has them."""
        self.faults: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._raw

    def take(self, name: str, default: Any = REQUIRED) -> Any:
        """A field's value; `default` if the file lacks it. A null is a value."""
        self.read.add(name)
        return self._raw.get(name, None if default is REQUIRED else default)

    def expect(self, name: str, *values: Any) -> None:
        """Notes a fault unless the field has one of these values, or is absent."""
        value = self.take(name, default=values[0])
        if value not in values:
            self.fault(name, " or ".join(repr(value) for value in values))

    def fault(self, name: str, supported: str) -> None:
        """Notes that a field's value does not do, and what would."""
        self.faults.append(f"{name} is {self._raw.get(name)!r}; supported: {supported}")

    def check(self) -> None:
        """Raises ValueError with all that was noted."""
        if self.faults:
            raise ValueError("; ".join(self.faults))

    def unread(self) -> list[str]:
        """The fields that nobody asked for."""
        return [name for name in self._raw if name not in self.read]
