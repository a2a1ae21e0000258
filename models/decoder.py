"""One decoder for every family, written for one chunk of one sequence; batch it with :func:`jax.vmap`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from sentax.models.attention import EMPTY, KV, Attention, Visibility, write
from sentax.models.config import Activation, DecoderConfig
from sentax.models.layers import Embedding, Linear, make_norm

__all__ = ["KV", "MLP", "Block", "Decoder"]


class MLP(nnx.Module):
    """``down(act(gate(x)) * up(x))``, or ``down(act(up(x)))`` without a gate."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        D, F, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = Linear(D, F, bias, rngs=rngs) if config.gated else None
        self.up_proj = Linear(D, F, bias, rngs=rngs)
        self.down_proj = Linear(F, D, bias, rngs=rngs, scale=0.02 / (2 * config.num_layers) ** 0.5)
        self.activation = config.activation

    def __call__(self, x: Float[Array, "C D"]) -> Float[Array, "C D"]:
        if self.gate_proj is None:
            return self.down_proj(_activate(self.activation, self.up_proj(x)))
        return self.down_proj(_activate(self.activation, self.gate_proj(x)) * self.up_proj(x))


class Block(nnx.Module):
    """Attention and feed-forward, each normed in front, behind or both, and added to the residual stream."""

    def __init__(self, config: DecoderConfig, layer: int, *, rngs: nnx.Rngs):
        norm = lambda wanted: make_norm(config) if wanted else None
        self.pre_attention_norm, self.post_attention_norm = norm(config.pre_norm), norm(config.post_norm)
        self.self_attn = Attention(config, layer, rngs=rngs)
        self.pre_feedforward_norm, self.post_feedforward_norm = norm(config.pre_norm), norm(config.post_norm)
        self.mlp = MLP(config, rngs=rngs)
        self.parallel, self.scale = config.parallel, config.residual_scale

    def __call__(self, x, *attention):
        attended, kv = self.self_attn(_through(self.pre_attention_norm, x), *attention)
        attended = x + self._scaled(_through(self.post_attention_norm, attended))
        mlp = self.mlp(_through(self.pre_feedforward_norm, x if self.parallel else attended))
        return attended + self._scaled(_through(self.post_feedforward_norm, mlp)), kv

    def _scaled(self, x: Float[Array, "C D"]) -> Float[Array, "C D"]:
        return x if self.scale == 1.0 else x * self.scale


class Decoder(nnx.Module):
    """A decoder with parameters laid out as Hugging Face's Llama stores them.

    The residual stream, norms, softmax and logits are float32 whatever the parameters' dtype;
    projections and caches take the parameters' dtype and accumulate in float32.

    :param config: the static shape.
    :param rngs: keys of the initial parameters, normal with standard deviation 0.02 (the two
        projections that close a residual branch, ``0.02 / sqrt(2 layers)``).

        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> config = DecoderConfig(
        ...     vocab_size=64, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4
        ... )
        >>> decoder = Decoder(config, rngs=nnx.Rngs(0))
        >>> logits, kv = decoder(jnp.array([5, 7, 9]), jnp.arange(3))
        >>> logits.shape, kv.keys[0].shape
        ((3, 64), (4, 3, 8))
        >>> last, _ = decoder(jnp.array([11]), jnp.array([3]), past=(kv,), head="last")
        >>> last.shape
        (64,)
    """

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size, rngs=rngs)
        if config.learned_positions is not None:
            self.embed_positions = Embedding(config.learned_positions, config.hidden_size, rngs=rngs)
        self.layers = nnx.List([Block(config, layer, rngs=rngs) for layer in range(config.num_layers)])
        self.norm = make_norm(config)
        if not config.tie_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size, False, rngs=rngs)

    def __call__(
        self,
        tokens: Int[Array, " C"],
        positions: Int[Array, " C"],
        past: tuple[KV, ...] = (),
        token_mask: Bool[Array, " C"] | None = None,
        head: str | int | Int[Array, ""] = "all",
        cache: KV | None = None,
        slot: int | Int[Array, ""] = 0,
        length: int | Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, "*rows V"], KV]:
        """Logits after each token of a chunk, and the segment that holds its keys and values.

        Chunk token ``i`` sees every token of `past` and `cache`, and those of the chunk up to ``i``
        (itself always); in a layer with a sliding window, those of them whose position is near enough.
        Positions belong to the caller and are not compared otherwise.

        :param tokens: ids of the chunk.
        :param positions: position of each token in its text.
        :param past: cached segments, read only, in any order.
        :param token_mask: false where the chunk is padding; padding is seen by nothing else.
        :param head: the rows to project on the vocabulary: ``"all"`` [C, V], ``"last"`` [V], or
            the index of one row [V].
        :param cache: a segment to write the chunk into; without one the chunk makes its own. A chunk for a
            segment with rings must be no longer than they are beyond the window: one token always fits.
        :param slot: where in `cache` the chunk goes; ``slot + C`` must not exceed its length.
        :param length: tokens of the whole text, where the chunk is not its end. Read only by models whose
            rotary factors depend on it.
        :return: float32 logits, and the written segment.
        """
        states, written = self.states(tokens, positions, past, token_mask, head, cache, slot, length)
        return self.project(states), written

    def states(
        self,
        tokens: Int[Array, " C"],
        positions: Int[Array, " C"],
        past: tuple[KV, ...] = (),
        token_mask: Bool[Array, " C"] | None = None,
        head: str | int | Int[Array, ""] = "all",
        cache: KV | None = None,
        slot: int | Int[Array, ""] = 0,
        length: int | Int[Array, ""] | None = None,
    ) -> tuple[Float[Array, "*rows D"], KV]:
        """What :meth:`__call__` projects on the vocabulary: the last layer's states, normed.

        The arguments are those of :meth:`__call__`.
        """
        if token_mask is None:
            token_mask = jnp.ones(tokens.shape[0], bool)
        if length is None:
            length = jnp.max(jnp.where(token_mask, positions, 0)) + 1
        specs = self.config.layers
        rotations = self._rotations(positions, length)
        windows = dict.fromkeys(spec.window for spec in specs)
        slots = {window: _slot(cache, window, slot, positions, token_mask) for window in windows}
        visible = {
            window: Visibility.of(positions, token_mask, past, cache, slots[window], window)
            for window in windows
        }
        stored, rings = jnp.where(token_mask, positions, EMPTY), {}
        if cache is not None:
            rings = {window: write(ring, stored, slots[window]) for window, ring in cache.windows.items()}
            stored = write(cache.positions, stored, slot)

        x = self._embed(tokens, positions)
        keys, values = [], []
        for index, (layer, spec) in enumerate(zip(self.layers, specs)):
            segments = [s and (s.keys[index], s.values[index]) for s in (*past, cache)]
            x, (key, value) = layer(x, rotations[spec.rope], segments, visible[spec.window], slots[spec.window])
            keys.append(key)
            values.append(value)

        every_row = isinstance(head, str) and head == "all"
        if isinstance(head, str) and head not in ("all", "last"):
            raise ValueError(f"head is {head!r}; expected 'all', 'last' or the index of a row")
        if not every_row:
            x = x[-1:] if isinstance(head, str) else jax.lax.dynamic_slice_in_dim(x, head, 1)
        x = self.norm(x)
        return (x if every_row else x[0]), KV(tuple(keys), tuple(values), stored, rings)

    def _rotations(self, positions: Int[Array, " C"], length: int | Int[Array, ""]) -> dict:
        """Cosine and sine for each rotary embedding among the layers; None for none."""
        fixed = self.config.rope_length
        length = length if fixed is None else fixed
        return {
            rope: rope and rope.rotation(positions, self.config.head_dim, length)
            for rope in dict.fromkeys(spec.rope for spec in self.config.layers)
        }

    def _embed(self, tokens: Int[Array, " C"], positions: Int[Array, " C"]) -> Float[Array, "C D"]:
        x = self.embed_tokens(tokens)
        if self.config.embedding_scale != 1.0:
            scale = jnp.float32(self.config.embedding_scale)
            if self.config.embedding_scale_rounded:
                scale = scale.astype(self.embed_tokens.weight.dtype).astype(jnp.float32)
            x = x * scale
        if self.config.learned_positions is not None:
            x = x + self.embed_positions(positions)
        return x

    def project(self, states: Float[Array, "*rows D"]) -> Float[Array, "*rows V"]:
        """The logits that belong to :meth:`states`."""
        if states.ndim == 1:
            return self.project(states[None])[0]
        logits = self.embed_tokens.attend(states) if self.config.tie_embeddings else self.lm_head(states)
        if self.config.logit_scale != 1.0:
            logits = logits * self.config.logit_scale
        if (cap := self.config.logit_softcap) is not None:
            logits = cap * jnp.tanh(logits / cap)
        return logits


def _slot(
    cache: KV | None,
    window: int | None,
    slot: int | Int[Array, ""],
    positions: Int[Array, " C"],
    token_mask: Bool[Array, " C"],
) -> Any:
    """Where the layers with this window write the chunk. What is padding is not written into a ring."""
    size = None if cache is None else cache.ring(window)
    return slot if size is None else jnp.where(token_mask, positions % size, size)


def _through(norm, x: Float[Array, "C D"]) -> Float[Array, "C D"]:
    return x if norm is None else norm(x)


def _activate(activation: Activation, x: Float[Array, "C F"]) -> Float[Array, "C F"]:
    match activation:
        case Activation.SILU:
            return jax.nn.silu(x)
        case Activation.GELU:
            return jax.nn.gelu(x, approximate=False)
        case Activation.GELU_TANH:
            return jax.nn.gelu(x, approximate=True)
        case Activation.RELU:
            return jax.nn.relu(x)
