"""A small masked language model: a bidirectional transformer that predicts tokens from those around them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sentax.models.errors import ModelError
from sentax.models.layers import Embedding, Linear, RMSNorm
from sentax.models.vocabulary import Vocabulary
from sentax.ppl.pytree import pytree

_FILE = "masked.safetensors"


@dataclasses.dataclass(frozen=True)
class MaskedConfig:
    """The shape of a :class:`Denoiser`.

    :param vocab_size: tokens V; the mask is one more row of the embedding.
    :param max_positions: the longest canvas.
    :param hidden_size: D, a multiple of `num_heads`.
    :raises ValueError: if it is not, or a number is under 1.
    """

    vocab_size: int
    max_positions: int = 32
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 4

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"MaskedConfig: {name} is an integer of at least 1, not {value!r}")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"MaskedConfig: hidden_size={self.hidden_size} is no multiple of num_heads={self.num_heads}"
            )


class DenoiserBlock(nnx.Module):
    """Attention in both directions and a feed-forward layer, each normed in front and added."""

    def __init__(self, config: MaskedConfig, *, rngs: nnx.Rngs) -> None:
        D, scale = config.hidden_size, 0.02 / (2 * config.num_layers) ** 0.5
        self.attention_norm, self.mlp_norm = RMSNorm(D, 1e-6), RMSNorm(D, 1e-6)
        self.qkv_proj = Linear(D, 3 * D, False, rngs=rngs, scale=D**-0.5)
        self.o_proj = Linear(D, D, False, rngs=rngs, scale=scale)
        self.up_proj = Linear(D, 4 * D, True, rngs=rngs, scale=D**-0.5)
        self.down_proj = Linear(4 * D, D, True, rngs=rngs, scale=scale)
        self.num_heads = config.num_heads

    def __call__(self, x: Float[Array, "L D"]) -> Float[Array, "L D"]:
        L, D = x.shape
        qkv = self.qkv_proj(self.attention_norm(x)).reshape(L, 3, self.num_heads, -1)
        query, key, value = qkv[:, 0], qkv[:, 1], qkv[:, 2]
        scores = jnp.einsum("qhy,khy->hqk", query, key) * query.shape[-1] ** -0.5
        mixed = jnp.einsum("hqk,khy->qhy", jax.nn.softmax(scores, axis=-1), value)
        x = x + self.o_proj(mixed.reshape(L, D))
        return x + self.down_proj(jax.nn.gelu(self.up_proj(self.mlp_norm(x))))


class Denoiser(nnx.Module):
    """Tokens and masks in, for every position the logits of the token that belongs there out.

    It is not told how many masks there are: the posterior of absorbing diffusion does not depend on the time
    (Ou et al. 2025).
    """

    def __init__(self, config: MaskedConfig, *, rngs: nnx.Rngs) -> None:
        self.embed_tokens = Embedding(config.vocab_size + 1, config.hidden_size, rngs=rngs)
        self.embed_positions = Embedding(config.max_positions, config.hidden_size, rngs=rngs)
        self.layers = nnx.List([DenoiserBlock(config, rngs=rngs) for _ in range(config.num_layers)])
        self.norm = RMSNorm(config.hidden_size, 1e-6)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, True, rngs=rngs)

    def __call__(self, tokens: Int[Array, " L"]) -> Float[Array, "L V"]:
        x = self.embed_tokens(tokens) + self.embed_positions(jnp.arange(tokens.shape[0]))
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


@pytree
@dataclasses.dataclass(frozen=True)
class MaskedLM:
    r"""A masked language model: for every open slot of a canvas a distribution over tokens.

    Read in some order, its predictions make a distribution over texts,
    :math:`\prod_k p_\theta(x_{\sigma_k} \mid x_{\sigma_1} \ldots x_{\sigma_{k-1}})`, with a mask at every
    position that was not read yet (:func:`~sentax.inference.diffusion.denoise`). Train one with
    :func:`~sentax.models.masked_training.train`.

    :param params: of the :class:`Denoiser`.
    :param vocabulary: V tokens; :attr:`mask` is id V.

    **Example**

    .. code-block:: python

        >>> from sentax.models.vocabulary import Vocabulary
        >>> vocabulary = Vocabulary([b"a", b"b", b""], end_of_text=2)
        >>> lm = MaskedLM.init(vocabulary, MaskedConfig(3, hidden_size=8, num_layers=1, num_heads=1), seed=0)
        >>> lm.logits(jnp.array([0, lm.mask, 1])).shape
        (3, 3)
    """

    params: Any
    vocabulary: Vocabulary
    config: MaskedConfig = dataclasses.field(metadata={"static": True})

    @classmethod
    def init(cls, vocabulary: Vocabulary, config: MaskedConfig, *, seed: int) -> MaskedLM:
        """A model with random parameters.

        :raises ModelError: if the vocabulary and the config disagree in size.
        """
        if vocabulary.size != config.vocab_size:
            raise ModelError(
                f"the vocabulary has {vocabulary.size} tokens, the config vocab_size={config.vocab_size}"
            )
        _, params = nnx.split(Denoiser(config, rngs=nnx.Rngs(seed)), nnx.Param)
        return cls(nnx.to_pure_dict(params), vocabulary, config)

    @property
    def mask(self) -> int:
        """The id that stands for a token that is not known."""
        return self.config.vocab_size

    def logits(self, tokens: Int[Array, " L"]) -> Float[Array, "L V"]:
        """Unnormalised log-probabilities of the token at each position.

        :param tokens: `[L]` ids, :attr:`mask` where none is known.
        :raises ValueError: if there are more positions than the model has.
        """
        if tokens.shape[0] > self.config.max_positions:
            raise ValueError(
                f"a canvas of {tokens.shape[0]} tokens does not fit into the {self.config.max_positions} "
                "positions of the model"
            )
        return denoiser_of(self.config, self.params)(tokens)

    def save(self, directory: str | Path) -> None:
        """Write the model: parameters, config and tokens in one safetensors file.

        :param directory: made if it is not there.
        """
        Path(directory).mkdir(parents=True, exist_ok=True)
        flat = {_key(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(self.params)}
        about = {
            "config": json.dumps(dataclasses.asdict(self.config)),
            "tokens": json.dumps([token.hex() for token in self.vocabulary.tokens]),
            "end_of_text": str(self.vocabulary.end_of_text),
        }
        save_file(flat, Path(directory) / _FILE, metadata=about)

    @classmethod
    def load(cls, directory: str | Path) -> MaskedLM:
        """A model that :meth:`save` wrote.

        :raises ModelError: if the file is unreadable, or a parameter is missing, unknown, or of another shape.
        """
        file = Path(directory) / _FILE
        try:
            with safe_open(file, framework="numpy") as stored:
                about = stored.metadata() or {}
                found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
            config = MaskedConfig(**json.loads(about["config"]))
            tokens = [bytes.fromhex(token) for token in json.loads(about["tokens"])]
            end_of_text = int(about["end_of_text"])
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise ModelError(f"{file} holds no masked language model: {error!r}") from error
        expected = jax.eval_shape(lambda: cls.init(Vocabulary(tokens, end_of_text), config, seed=0).params)
        shapes = {_key(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(expected)}
        faults = [f"{name}: missing" for name in shapes if name not in found]
        faults += [f"{name}: unknown" for name in found if name not in shapes]
        faults += [
            f"{name}: of shape {found[name].shape}, expected {shape}"
            for name, shape in shapes.items()
            if name in found and found[name].shape != shape
        ]
        if faults:
            raise ModelError(f"{file}: " + "; ".join(sorted(faults)))
        params = jax.tree.map_with_path(lambda path, _: jnp.asarray(found[_key(path)]), expected)
        return cls(params, Vocabulary(tokens, end_of_text), config)

    def __repr__(self) -> str:
        size = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        return f"MaskedLM({size / 1e6:.2f}M parameters, {self.vocabulary!r})"


def denoiser_of(config: MaskedConfig, params: Any) -> Denoiser:
    """The network with these parameters."""
    graph, state = nnx.split(nnx.eval_shape(lambda: Denoiser(config, rngs=nnx.Rngs(0))), nnx.Param)
    nnx.replace_by_pure_dict(state, params)
    return nnx.merge(graph, state)


def _key(path: Any) -> str:
    return ".".join(str(part.key) for part in path)
