"""Every family against transformers, on checkpoints made on the spot; every field of a config is live."""

from __future__ import annotations

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference.checkpoints import randomise, torch_logits, torch_model, write_config
from reference.families import DELETE, EXAMPLES, SHAPES, VOCABULARY, WINDOW

from sentax.models import KV, DecoderConfig, load_params
from sentax.models.families import FAMILIES, base
from sentax.models.families.fields import OFF, Fields
from sentax.models.weights import abstract, key_table

PROMPT, STEPS = 48, 32
IDS = np.random.default_rng(7).integers(0, VOCABULARY, PROMPT + STEPS)
TOLERANCE = 2e-4  # of the logits' standard deviation, in float32

families = pytest.mark.parametrize("name", EXAMPLES)


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A function from a family to (transformers' model, directory as on the hub, config, parameters)."""

    @functools.cache
    def make(name):
        directory = tmp_path_factory.mktemp(name)
        write_config(directory, EXAMPLES[name].raw)
        model = torch_model(directory)
        saved = directory / "saved"
        model.save_pretrained(saved)
        (saved / "model.safetensors").rename(directory / "model.safetensors")
        config = read(directory)
        return model, directory, config, load_params(directory, config)

    return make


def read(directory):
    return DecoderConfig.from_hf(json.loads((directory / "config.json").read_text()))


def decoder(config, params):
    return nnx.merge(abstract(config)[0], params)


def forward(config, params, ids):
    """Logits of a whole text, operation by operation: no compilation for each of many configs."""
    return np.asarray(decoder(config, params)(jnp.asarray(ids), jnp.arange(len(ids)))[0])


@functools.partial(jax.jit, static_argnums=0)
def compiled(config, params, ids):
    """The same in one program: quicker where the shapes are new."""
    return decoder(config, params)(ids, jnp.arange(len(ids)))[0]


def assert_close(ours, theirs, tolerance=TOLERANCE):
    error = np.abs(ours - theirs).max() / theirs.std()
    assert error < tolerance, f"off by {error:.2e} of the logits' scale"


def empty(config, length, dtype=jnp.float32):
    zeros = tuple(jnp.zeros((config.num_kv_heads, length, config.head_dim), dtype) for _ in config.layers)
    return KV(zeros, zeros, jnp.full(length, -1, jnp.int32))


@families
def test_both_spellings_are_one_config(example, name):
    """What is on the hub, and what transformers 5 makes of it."""
    _, directory, config, _ = example(name)
    assert read(directory / "saved") == config


@families
def test_prompt(example, name):
    model, _, config, params = example(name)
    for length in (len(IDS), 30)[: 1 + (config.rope_switch is not None)]:
        assert_close(forward(config, params, IDS[:length]), torch_logits(model, IDS[:length]))


@families
def test_padded_chunks_decoding_and_gathers(example, name):
    """A left-padded chunk, a right-padded one in a cache, then 32 steps of three particles that part and are
    gathered: every step's logits are those of transformers for the text that the particle then has."""
    model, _, config, params = example(name)
    N, C, rng = 3, 28, np.random.default_rng(3)
    run = functools.partial(decoder(config, params), length=PROMPT)
    left = 5
    first = jnp.concatenate([jnp.full(left, 11), jnp.asarray(IDS[: C - left])])
    at = jnp.concatenate([jnp.full(left, 200), jnp.arange(C - left)])
    logits1, kv1 = run(first, at, token_mask=jnp.arange(C) >= left)
    rest = PROMPT - (C - left)
    second = jnp.concatenate([jnp.asarray(IDS[C - left : PROMPT]), jnp.full(C - rest, 13)])
    at = jnp.concatenate([jnp.arange(C - left, PROMPT), jnp.full(C - rest, 9)])
    logits2, kv2 = run(
        second, at, past=(kv1,), token_mask=jnp.arange(C) < rest, cache=empty(config, 40), slot=jnp.int32(7)
    )
    prompt = np.concatenate([logits1[left:], logits2[:rest]])

    @jax.jit
    def step(params, tokens, positions, active, suffix, slot):
        def one(token, position, active, suffix):
            args = token[None], position[None], (kv2, kv1), active[None]
            return decoder(config, params)(*args, head="last", cache=suffix, slot=slot)

        return jax.vmap(one)(tokens, positions, active, suffix)

    gather = jax.jit(lambda tree, ancestors: jax.tree.map(lambda x: x[ancestors], tree))
    suffix = jax.tree.map(lambda x: jnp.stack([x] * N), empty(config, STEPS))
    texts, seen = [list(IDS[:PROMPT]) for _ in range(N)], [list(prompt) for _ in range(N)]
    for slot in range(STEPS):
        tokens, active = rng.integers(0, VOCABULARY, N), rng.random(N) < 0.85
        positions = np.array([len(text) for text in texts])
        logits, suffix = step(params, tokens, positions, active, suffix, slot)
        for index in np.flatnonzero(active):
            texts[index].append(tokens[index])
            seen[index].append(np.asarray(logits[index]))
        if slot in (4, 5, 12, 20):
            ancestors = rng.integers(0, N, N)
            suffix = gather(suffix, ancestors)
            texts = [list(texts[a]) for a in ancestors]
            seen = [list(seen[a]) for a in ancestors]
    assert len({tuple(text) for text in texts}) == N
    for text, logits in zip(texts, seen):
        assert len(text) > PROMPT + STEPS // 2
        assert_close(np.stack(logits), torch_logits(model, text))


@families
def test_every_field_is_live(example, name):
    """Changing a field changes the logits, and they are transformers' for the changed file."""
    model, directory, config, params = example(name)
    weights, base_logits = model.state_dict(), torch_logits(model, IDS)
    for change in EXAMPLES[name].changes:
        changed = directory / "changed"
        write_config(changed, EXAMPLES[name].changed(change))
        theirs = torch_logits(torch_model(changed, weights), IDS)
        other = read(changed)
        assert {path: s.shape for path, s in key_table(other).items()} == {
            path: s.shape for path, s in key_table(config).items()
        }
        if other.num_heads == config.num_heads:
            ours = forward(other, params, IDS)
        else:  # a fused tensor falls apart otherwise
            ours = compiled(other, load_params(directory, other), IDS)
        effect = np.abs(ours - base_logits).max() / base_logits.std()
        assert effect > 10 * TOLERANCE, f"{change} changes nothing"
        error = np.abs(ours - theirs).max() / theirs.std()
        assert error < TOLERANCE, f"{change}: off by {error:.2e} of the logits' scale"


@families
def test_every_field_read_is_changed(name, monkeypatch):
    """The list of changes is complete: no field that the family reads is missing from it."""
    read_fields: list[Fields] = []

    class Recorder(Fields):
        def __init__(self, *args):
            super().__init__(*args)
            read_fields.append(self)

    monkeypatch.setattr(base, "Fields", Recorder)
    DecoderConfig.from_hf(EXAMPLES[name].raw)
    switches = set(read_fields[-1].read) - set(OFF) - set(FAMILIES[name].off)
    changes = {field for change in EXAMPLES[name].changes.values() for field in change}
    assert switches - SHAPES - WINDOW - EXAMPLES[name].exempt <= changes


@families
def test_bfloat16(example, name):
    """Both in bfloat16: we round less than transformers, which rounds the residual stream, so our logits are at
    least as near to those of the same rounded weights in float32; and the two differ by no more than both do.
    """
    import torch

    model, directory, config, _ = example(name)
    half = torch_model(directory, model.state_dict()).to(torch.bfloat16)
    params = load_params(directory, config, dtype=jnp.bfloat16)
    exact = forward(config, jax.tree.map(lambda x: x.astype(jnp.float32), params), IDS)
    ours, theirs = forward(config, params, IDS), torch_logits(half, IDS)
    distance = lambda a, b: np.sqrt(np.mean(np.square(a - b))) / exact.std()
    assert 0 < distance(ours, exact) < distance(theirs, exact)
    assert distance(ours, theirs) < 2 * distance(theirs, exact)


@families
def test_every_stored_row_is_read_once(example, name):
    """Fused tensors fall apart into projections without a gap or an overlap."""
    _, _, config, _ = example(name)
    rows: dict[str, list[np.ndarray]] = {}
    for source in key_table(config).values():
        outputs = source.shape[-1] if source.transposed else source.shape[0]
        rows.setdefault(source.name, []).append(np.arange(outputs) if source.rows is None else source.rows)
    for source in key_table(config).values():
        outputs = source.shape[-1] if source.transposed else source.shape[0]
        assert sorted(np.concatenate(rows[source.name])) == list(range(outputs))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
@families
def test_random_configurations(tmp_path, name, seed):
    """Several changes at once, other sizes, flags and weights."""
    rng = np.random.default_rng([seed, sorted(EXAMPLES).index(name)])
    raw, changes = dict(EXAMPLES[name].raw), dict(EXAMPLES[name].changes)
    changes = {key: change for key, change in changes.items() if "heads" not in key and "n_head" not in key}
    for key in rng.choice(sorted(changes), 3, replace=False):
        raw |= changes[key]
    raw = {field: value for field, value in raw.items() if value is not DELETE}
    if not raw.get("use_sliding_window", True):
        raw.pop("layer_types", None)
    for field, choices in {
        "vocab_size": [97, 120],
        "intermediate_size": [24, 72],
        "num_key_value_heads": [1, 2, 4],
        "attention_bias": [False, True],
        "mlp_bias": [False, True],
        "tie_word_embeddings": [False, True],
        "n_inner": [None, 56],
    }.items():
        if field in raw and raw[field] is not False:
            raw[field] = choices[rng.integers(len(choices))]
    write_config(tmp_path, raw)
    model = torch_model(tmp_path, seed=seed)
    model.save_pretrained(tmp_path)
    write_config(tmp_path, raw)
    config = read(tmp_path)
    params = load_params(tmp_path, config)
    ids = rng.integers(0, VOCABULARY, 100)
    theirs = torch_logits(model, ids)
    assert_close(compiled(config, params, ids), theirs)
    past: tuple[KV, ...] = ()
    run, parts = decoder(config, params), []
    for start in range(0, 100, 25):
        at = jnp.arange(start, start + 25)
        logits, kv = run(jnp.asarray(ids)[at], at, past=past, length=100)
        past, parts = (kv, *past), [*parts, logits]
    assert_close(np.concatenate(parts), theirs)


@pytest.mark.parametrize("name", ["phi3", "llama"])
def test_factors_that_depend_on_the_length(example, name):
    """LongRoPE and dynamic NTK: a window fixed at loading decodes across the border as the whole text does."""
    model, directory, _, params = example(name)
    border = {"phi3": "original", "llama": "dynamic"}[name]
    raw = EXAMPLES[name].raw if name == "phi3" else EXAMPLES[name].changed(border)
    write_config(directory / "border", raw)
    theirs = torch_logits(torch_model(directory / "border", model.state_dict()), IDS)
    own = read(directory / "border")
    with pytest.raises(ValueError, match=r"other rotary factors|do not fit"):
        own.check_window(len(IDS), start=30)
    config = own.with_window(len(IDS))
    config.check_window(len(IDS), start=30)
    run = decoder(config, params)
    start, kv = run(jnp.asarray(IDS[:30]), jnp.arange(30))
    rest, _ = run(jnp.asarray(IDS[30:]), jnp.arange(30, len(IDS)), past=(kv,))
    assert_close(np.concatenate([start, rest]), theirs)
    with pytest.raises(ValueError, match="context_window is 4096"):
        own.with_window(4096)


def test_gemma3_text_part(tmp_path, example):
    """A checkpoint with a vision tower: the text part is read, under both names that it has had."""
    from safetensors.numpy import load_file, save_file
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = {**EXAMPLES["gemma3_text"].raw, "final_logit_softcapping": None}
    vision = {
        **{"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"image_size": 28, "patch_size": 14, "model_type": "siglip_vision_model"},
    }
    hf = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1, eos_token_id=0)
    hf._attn_implementation = "eager"
    model = Gemma3ForConditionalGeneration(hf).float().eval()
    randomise(model, 0.0)
    model.save_pretrained(tmp_path)
    config = read(tmp_path)
    theirs = torch_logits(model, IDS)
    assert_close(forward(config, load_params(tmp_path, config), IDS), theirs)
    tensors = load_file(tmp_path / "model.safetensors")
    swap = {"model.language_model.": "language_model.model.", "language_model.model.": "model.language_model."}
    renamed = {}
    for key, value in tensors.items():
        old = next((prefix for prefix in swap if key.startswith(prefix)), "")
        renamed[swap.get(old, "") + key[len(old) :]] = value
    assert renamed.keys() != tensors.keys()
    save_file(renamed, tmp_path / "model.safetensors")
    assert_close(forward(config, load_params(tmp_path, config), IDS), theirs)


def test_gpt2_of_the_first_release(example, tmp_path):
    """No prefix, and the causal mask among the tensors."""
    from safetensors.numpy import load_file, save_file

    _, directory, config, params = example("gpt2")
    tensors = load_file(directory / "model.safetensors")
    assert all(name.startswith("transformer.") for name in tensors)
    bare = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    bare["h.0.attn.bias"] = np.ones((1, 1, 8, 8), np.float32)
    save_file(bare, tmp_path / "model.safetensors")
    again = load_params(tmp_path, config)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, params))
