"""The decoder against transformers, and against itself in pieces."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from reference.checkpoints import hugging_face_logits

from sentax.models import KV, Decoder, DecoderConfig
from sentax.models.loading import _read
from sentax.models.weights import abstract, load_params

LENGTH = 60
IDS = np.random.default_rng(0).integers(0, 97, LENGTH)


def loaded(directory, dtype=jnp.float32):
    config = DecoderConfig.from_hf(_read(directory, "config.json"))
    return config, load_params(directory, config, dtype=dtype)


def forward(config, params, *args, **kwargs):
    return _forward(config, params, args, kwargs)


@functools.partial(jax.jit, static_argnums=0)
def _forward(config, params, args, kwargs):
    return nnx.merge(abstract(config)[0], params)(*args, **kwargs)


def empty(config, length):
    zeros = tuple(jnp.zeros((config.num_kv_heads, length, config.head_dim)) for _ in range(config.num_layers))
    return KV(zeros, zeros, jnp.full(length, -1, jnp.int32))


def test_parity_with_transformers(checkpoint, shape):
    model, directory = checkpoint(shape)
    config, params = loaded(directory)
    logits, _ = forward(config, params, jnp.asarray(IDS), jnp.arange(LENGTH))
    np.testing.assert_allclose(logits, hugging_face_logits(model, IDS), atol=1e-4)


def test_parity_in_padded_chunks(checkpoint):
    """A left-padded first chunk, a segment of its own, and a right-padded rest written into a cache."""
    model, directory = checkpoint()
    config, params = loaded(directory)
    tokens = jnp.concatenate([jnp.full(5, 3), jnp.asarray(IDS), jnp.full(7, 9)])
    positions = jnp.concatenate([jnp.full(5, 400), jnp.arange(LENGTH), jnp.full(7, 17)])
    mask = jnp.concatenate([jnp.zeros(5, bool), jnp.ones(LENGTH, bool), jnp.zeros(7, bool)])

    def chunk(a, b, **kwargs):
        return forward(config, params, tokens[a:b], positions[a:b], token_mask=mask[a:b], **kwargs)

    first, kv1 = chunk(0, 25)
    second, kv2 = chunk(25, 38, past=(kv1,))
    third, kv3 = chunk(38, 72, past=(kv2, kv1), cache=empty(config, 48), slot=jnp.int32(11))
    logits = jnp.concatenate([first, second, third])[5:-7]
    np.testing.assert_allclose(logits, hugging_face_logits(model, IDS), atol=1e-4)
    assert kv3.mask.tolist() == [False] * 11 + [True] * 27 + [False] * 10


def test_decode_equals_forward(checkpoint):
    """Token by token into a cache behind a prefix, with a masked slot of junk after each."""
    model, directory = checkpoint()
    reference = hugging_face_logits(model, IDS)
    config, params = loaded(directory)
    _, prefix = forward(config, params, jnp.asarray(IDS[:40]), jnp.arange(40))
    cache = empty(config, 40)

    def step(token, position, active, cache, slot):
        args = jnp.array([token]), jnp.array([position])
        kwargs = {"token_mask": jnp.array([active]), "cache": cache, "slot": jnp.int32(slot)}
        logits, cache = forward(config, params, *args, past=(prefix,), **kwargs)
        return logits[0], cache

    for index, token in enumerate(IDS[40:]):
        logits, cache = step(token, 40 + index, True, cache, 2 * index)
        np.testing.assert_allclose(logits, reference[40 + index], atol=1e-4)
        _, cache = step(5, 7, False, cache, 2 * index + 1)


def test_head_rows(checkpoint):
    config, params = loaded(checkpoint("plain")[1])
    tokens, positions = jnp.asarray(IDS[:8]), jnp.arange(8)
    decoder = nnx.merge(abstract(config)[0], params)

    @jax.jit
    def rows(index):
        single = decoder(tokens[:1], positions[:1], head="last")[0]
        return [single, *(decoder(tokens, positions, head=head)[0] for head in ("all", "last", index))]

    single, whole, last, third = rows(3)
    assert single.shape == (97,)
    np.testing.assert_allclose(last, whole[-1], atol=1e-5)
    np.testing.assert_allclose(third, whole[3], atol=1e-5)
    with pytest.raises(ValueError, match="head is 'first'"):
        jax.eval_shape(lambda: decoder(tokens, positions, head="first"))


def test_shared_prefix_is_never_copied(checkpoint):
    """Under vmap over particles, no operation makes a batched array as large as N prefixes."""
    config, params = loaded(checkpoint()[1])
    N, P = 64, 128
    graphdef = abstract(config)[0]

    def step(token, cache, prefix):
        decoder = nnx.merge(graphdef, params)
        return decoder(token[None], jnp.array([P]), past=(prefix,), cache=cache, slot=jnp.int32(0), head="last")

    suffix = jax.tree.map(lambda x: jnp.broadcast_to(x, (N, *x.shape)), empty(config, 16))
    batched = jax.vmap(step, in_axes=(0, 0, None))
    jaxpr = jax.make_jaxpr(batched)(jnp.arange(N), suffix, empty(config, P))
    largest = max(var.aval.size for eqn in jaxpr.eqns for var in eqn.outvars)
    assert largest < N * P * config.num_kv_heads * config.head_dim


def test_gradients_and_bfloat16(checkpoint):
    config, params = loaded(checkpoint("tied, linear rope")[1])
    tokens, positions = jnp.asarray(IDS), jnp.arange(LENGTH)

    def loss(params):
        logits, kv = forward(config, params, tokens, positions)
        return -jnp.mean(jax.nn.log_softmax(logits[:-1])[jnp.arange(LENGTH - 1), tokens[1:]]), (logits, kv)

    gradients, (exact, _) = jax.jit(jax.grad(loss, has_aux=True))(params)
    assert all(np.isfinite(g).all() and np.abs(g).max() > 0 for g in jax.tree.leaves(gradients))

    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    logits, kv = forward(config, half, tokens, positions)
    assert logits.dtype == jnp.float32
    assert kv.keys[0].dtype == jnp.bfloat16
    assert np.abs(logits - exact).mean() < 0.05 * np.abs(exact).mean()


def test_initial_parameters():
    config = DecoderConfig(50, 32, 48, 2, 4, tie_embeddings=False, qkv_bias=True)
    params = jax.jit(lambda: nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(0)))))()
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, abstract(config)[1])
    assert 0.015 < params["layers"][0]["mlp"]["gate_proj"]["weight"].std() < 0.025
