"""Checkpoints shared by the tests of the session."""

import json

import pytest
from reference.checkpoints import RICHEST, SHAPES, byte_level_tokenizer, hugging_face


@pytest.fixture(scope="session", params=SHAPES)
def shape(request):
    return request.param


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A function from a name in SHAPES to (transformers model, directory), each made once."""
    made = {}

    def make(name=RICHEST):
        if name not in made:
            model = hugging_face(**SHAPES[name])
            directory = tmp_path_factory.mktemp("checkpoint")
            model.save_pretrained(directory)
            made[name] = model, directory
        return made[name]

    return make


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    """A directory with a random model, a byte-level tokenizer and two ways to end a text."""
    tokenizer = byte_level_tokenizer()
    directory = tmp_path_factory.mktemp("language_model")
    size = tokenizer.get_vocab_size() + 5  # padding rows
    model = hugging_face(vocab_size=size, num_key_value_heads=2, max_position_embeddings=1024, eos_token_id=1)
    model.generation_config.eos_token_id = [0, 1]
    model.save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "bos_token": "<|end|>",
                "eos_token": {"content": "<|end|>"},
                "chat_template": "{{ bos_token }}"
                "{% for m in messages %}<|user|>{{ m['content'] }}\n{% endfor %}"
                "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}",
            }
        )
    )
    return model, directory
