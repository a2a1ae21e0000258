"""From a name to a language model: the embedded one, a directory, or a repository of the hub."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sentax.models.chat import ChatTemplate
from sentax.models.config import DecoderConfig
from sentax.models.errors import ModelError
from sentax.models.sharding import weight_sharding
from sentax.models.tokenizer import Tokenizer
from sentax.models.transformer import TransformerLM
from sentax.models.vocabulary import Vocabulary, end_of_text_ids
from sentax.models.weights import default_dtype, load_params


class Options(NamedTuple):
    """How to load, whatever is loaded."""

    dtype: Any
    context_window: int | None
    ignore_fields: frozenset[str]
    mesh: jax.sharding.Mesh | None


_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_FILES = ("*config.json", "tokenizer.json", "special_tokens_map.json", "*.jinja", "model*.safetensors*")


def load(
    name_or_path: str | Path | None = None,
    *,
    dtype: Any = None,
    context_window: int | None = None,
    ignore_fields: Collection[str] = (),
    mesh: jax.sharding.Mesh | None = None,
    adapter: str | Path | None = None,
) -> TransformerLM:
    """A language model with its tokenizer.

    :param name_or_path: nothing for the tiny model inside the package, a directory in Hugging Face
        layout (``config.json``, ``tokenizer.json``, ``model.safetensors`` or its shards), or the id of a
        repository on the hub, such as ``"HuggingFaceTB/SmolLM2-135M"``.
    :param dtype: of the parameters; float32 on a CPU and bfloat16 elsewhere unless given.
    :param context_window: the longest text, in tokens; the model's own unless given. Where the rotary factors
        depend on the length of the text, those of this length are used for all.
    :param ignore_fields: fields of ``config.json`` that are unknown here and known by you not to matter.
    :param mesh: the devices to use, of :func:`sentax.make_mesh`: weights are cut along its axis ``"tensor"``,
        each device reading its own part of the file only, and the particles of a run along ``"particles"``.
    :param adapter: the directory of a LoRA adapter (PEFT) to merge; see :meth:`TransformerLM.with_adapter`.
    :raises ModelError: if there is no such model, or its files do not fit together.

        >>> lm = load()
        >>> context = lm.prompt("She said")
        >>> context.logits.shape == (lm.vocabulary.size,)
        True
    """
    dtype = jnp.dtype(default_dtype() if dtype is None else dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ModelError(f"dtype is {dtype}; expected a floating-point type")
    options = Options(dtype, context_window, frozenset(ignore_fields), mesh)
    lm = _load(name_or_path, options)
    return lm if adapter is None else lm.with_adapter(adapter)


def _load(name_or_path: str | Path | None, options: Options) -> TransformerLM:
    if name_or_path is None:
        return _embedded(options)
    directory = Path(name_or_path).expanduser()
    if not directory.is_dir():
        if (
            isinstance(name_or_path, Path)
            or not _HUB_ID.fullmatch(name_or_path)
            or name_or_path.startswith(".")
        ):
            raise ModelError(f"no directory {str(name_or_path)!r}")
        directory = _download(name_or_path)
    return _from_directory(directory, options)


@functools.cache
def _embedded(options: Options) -> TransformerLM:
    return _from_directory(Path(str(importlib.resources.files("sentax.models") / "embedded")), options)


def _download(name: str) -> Path:
    import huggingface_hub  # slow to import

    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(_HUB_FILES)))
    except Exception as error:  # of several libraries: not found, gated, offline, no space
        reason = str(error).strip().splitlines()
        raise ModelError(
            f"{name!r} is no directory, and the hub does not give it: {reason[0] if reason else error!r}"
        ) from error


def _from_directory(directory: Path, options: Options) -> TransformerLM:
    raw = _read(directory, "config.json", required=True)
    try:
        config = DecoderConfig.from_hf(raw, ignore_fields=options.ignore_fields)
        if options.context_window is not None:
            config = config.with_window(options.context_window)
    except ValueError as error:
        raise ModelError(f"{directory / 'config.json'}: {error}") from None
    names = _token_names(directory)
    settings = _read(directory, "tokenizer_config.json")
    if not (directory / "tokenizer.json").is_file():
        raise ModelError(f"{directory} has no tokenizer.json (only fast tokenizers have exact bytes)")
    bos_token = names.get("bos_token") if settings.get("add_bos_token") else None
    tokenizer = Tokenizer.from_file(directory / "tokenizer.json", bos_token)
    ends = end_of_text_ids(
        tokenizer, _read(directory, "generation_config.json"), raw, eos_token=names.get("eos_token")
    )
    vocabulary = Vocabulary.from_tokenizer(tokenizer, config.vocab_size, ends)
    sharding = None if options.mesh is None else weight_sharding(options.mesh, config)
    params = load_params(directory, config, dtype=options.dtype, sharding=sharding)
    source = _chat_source(directory, settings)
    chat = None if source is None else ChatTemplate(source, tokenizer, names)
    return TransformerLM(config, params, vocabulary, chat)


def _read(directory: Path, name: str, *, required: bool = False) -> dict[str, Any]:
    file = directory / name
    if not file.is_file():
        if required:
            raise ModelError(f"{directory} has no {name}")
        return {}
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{file} holds no JSON object")
    return value


def _token_names(directory: Path) -> dict[str, str]:
    """The text of ``bos_token``, ``eos_token`` and the like, wherever they are written."""
    names = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        for key, value in _read(directory, file).items():
            if key.endswith("_token") and isinstance(value, dict):
                value = value.get("content")
            if key.endswith("_token") and isinstance(value, str):
                names[key] = value
    return names


def _chat_source(directory: Path, settings: dict[str, Any]) -> str | None:
    if (file := directory / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    source = settings.get("chat_template")
    if isinstance(source, list):  # several named templates
        source = {item["name"]: item["template"] for item in source}.get("default")
    return source
