"""Small networks on a language model's last state: learned twists and learned proposals."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from sentax.ppl.language_model import Context
from sentax.ppl.pytree import pytree


@runtime_checkable
class HasFeatures(Protocol):
    """A context that shows the state its logits come from: a transformer's or a table's."""

    @property
    def features(self) -> Float[Array, " D"]: ...


@dataclasses.dataclass(frozen=True)
class HeadShape:
    """The static shape of a :class:`Head`.

    :param num_features: D, the size of the language model's state.
    :param vocabulary_size: V.
    :param hidden: K, units of the one hidden layer, and the rank of the values as a table over states and
        tokens.
    """

    num_features: int
    vocabulary_size: int
    hidden: int


class Head(nnx.Module):
    r"""A number for each next token, from a state and how many tokens may still come.

    .. math:: v(x \mid h, r) = b_x + w_x \cdot a + c \cdot a,\qquad
        a = \mathrm{gelu}(W (\bar h, \log r, 1/r) + d)

    with :math:`\bar h` the state at unit mean square. Where a twist is learned, :math:`c` is what the state is
    worth, :math:`w_x` what the token changes. All of :math:`b, w, c` begin at 0: a new head does nothing.
    """

    def __init__(self, shape: HeadShape, *, rngs: nnx.Rngs) -> None:
        D, V, K = shape.num_features, shape.vocabulary_size, shape.hidden
        scale = nnx.initializers.normal(1.0 / np.sqrt(D))
        zeros = nnx.initializers.zeros_init()
        self.hidden = nnx.Linear(D + 2, K, kernel_init=scale, rngs=rngs)
        self.token = nnx.Linear(K, V, kernel_init=zeros, rngs=rngs)
        self.state = nnx.Linear(K, 1, use_bias=False, kernel_init=zeros, rngs=rngs)

    def __call__(self, features: Float[Array, " D"], remaining: Int[Array, ""]) -> Float[Array, " V"]:
        """The values of all tokens."""
        units = self._units(features, remaining)
        return self.token(units) + self.state(units)

    def at(
        self, features: Float[Array, " D"], remaining: Int[Array, ""], token: Int[Array, ""]
    ) -> Float[Array, ""]:
        """The value of one token, at a cost independent of V."""
        units = self._units(features, remaining)
        weight = self.token.kernel[...][:, token] + self.state.kernel[...][:, 0]
        assert self.token.bias is not None
        return units @ weight + self.token.bias[...][token]

    def _units(self, features: Float[Array, " D"], remaining: Int[Array, ""]) -> Float[Array, " K"]:
        features = features.astype(jnp.float32)
        features = features * jax.lax.rsqrt(jnp.mean(jnp.square(features)) + 1e-6)
        left = jnp.maximum(remaining, 1).astype(jnp.float32)
        return nnx.gelu(self.hidden(jnp.concatenate([features, jnp.log(left)[None], 1.0 / left[None]])))


Params = Any
"""The parameters of a :class:`Head`: a pytree of arrays."""


@functools.lru_cache
def _structure(shape: HeadShape) -> Any:
    """A head's graph and the shapes of its parameters, without the parameters."""
    abstract = nnx.eval_shape(lambda: Head(shape, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(abstract)
    return graph, nnx.to_pure_dict(state)


def head_of(shape: HeadShape, params: Params) -> Head:
    """The network with these parameters."""
    return nnx.merge(_structure(shape)[0], params)


@dataclasses.dataclass(frozen=True)
class LearnedHead:
    """What :class:`LearnedTwist` and :class:`LearnedProposal` have in common: a :class:`Head` as a pytree.

    :param params: the head's parameters: arrays that may change without recompilation.
    :param shape: its shape.
    """

    params: Params
    shape: HeadShape = dataclasses.field(metadata={"static": True})

    keyword: ClassVar[str]
    """The argument of a program, and of :func:`sentax.generate`, that takes it."""

    @classmethod
    def create(cls, rng_key: Any, context: Context, *, hidden: int = 64) -> Self:
        """An untrained head, which gives 0 to every token.

        :param rng_key: for the weights of its hidden layer.
        :param context: any context of the language model that it is for.
        :param hidden: units of the hidden layer, at least 1.
        :raises TypeError: if the language model shows no features.
        """
        if hidden < 1:
            raise ValueError(f"hidden must be at least 1, got {hidden}")
        shape = HeadShape(features_of(context).shape[-1], context.vocabulary.size, hidden)
        state = nnx.state(Head(shape, rngs=nnx.Rngs(rng_key)))
        return cls(nnx.to_pure_dict(state), shape)

    def __call__(self, context: Context, remaining: Int[Array, ""]) -> Float[Array, " V"]:
        """A value for each token that may come next, float32.

        :param remaining: how many more tokens the text may have, the next one included.
        :raises ValueError: for a context of a language model of another shape than the head was made for.
        """
        features = features_of(context)
        found = (features.shape[-1], context.vocabulary.size)
        if found != (self.shape.num_features, self.shape.vocabulary_size):
            raise ValueError(
                f"this {type(self).__name__} is for a language model with {self.shape.num_features} features "
                f"and {self.shape.vocabulary_size} tokens, the context has {found[0]} and {found[1]}"
            )
        return head_of(self.shape, self.params)(features, remaining)

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file; its metadata tell the shape."""
        tensors = {
            jax.tree_util.keystr(at, simple=True, separator="."): np.asarray(leaf)
            for at, leaf in jax.tree_util.tree_leaves_with_path(self.params)
        }
        shape = {name: str(size) for name, size in dataclasses.asdict(self.shape).items()}
        save_file(tensors, path, metadata={"format": type(self).__name__} | shape)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what :meth:`save` wrote.

        :raises ValueError: if the file is missing, broken, or holds something else; says what.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: unreadable ({error})") from None
        if metadata.get("format") != cls.__name__:
            raise ValueError(f"{path} holds {metadata.get('format')!r}, not a {cls.__name__}")
        shape = HeadShape(**{field.name: int(metadata[field.name]) for field in dataclasses.fields(HeadShape)})
        leaves, treedef = jax.tree_util.tree_flatten_with_path(_structure(shape)[1])
        found = []
        for at, leaf in leaves:
            name = jax.tree_util.keystr(at, simple=True, separator=".")
            if name not in tensors or tensors[name].shape != leaf.shape:
                what = "is missing" if name not in tensors else f"has shape {tensors[name].shape}"
                raise ValueError(f"{path}: tensor {name!r} {what}, expected {leaf.shape}")
            if not np.isfinite(tensors[name]).all():
                raise ValueError(f"{path}: tensor {name!r} holds NaN or infinity")
            found.append(jnp.asarray(tensors[name]))
        return cls(jax.tree.unflatten(treedef, found), shape)


@pytree
@dataclasses.dataclass(frozen=True)
class LearnedTwist(LearnedHead):
    r"""A twist on a language model's state, for `sentax.generate(..., twist=...)`.

    Its values are :math:`\log \psi(x_{t+1} \mid x_{\le t})`, an estimate of what the program will yet weigh the
    text with (Zhao et al. 2024, section 3.2). Train it with :func:`train_twist`; whatever it says, the
    program's posterior and the evidence stay the same, only the variance changes.

    >>> import jax, numpyro, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context, twist=None):
    ...     text = sx.generate("text", context, max_tokens=3, twist=twist)
    ...     numpyro.factor("short", -1.0 * text.length)
    >>> twist = LearnedTwist.create(jax.random.key(0), lm.prompt(), hidden=8)
    >>> twist(lm.prompt(), 3).tolist()
    [0.0, 0.0, 0.0]
    >>> numpyro.handlers.seed(model, 0)(lm.prompt(), twist=twist)  # or SMC's run(rng_key, context, twist=twist)
    """

    keyword = "twist"


@pytree
@dataclasses.dataclass(frozen=True)
class LearnedProposal(LearnedHead):
    """An amortised proposal on a language model's state, for `sentax.generate(..., proposal=...)`.

    Its values are added to the model's own logits; engines draw from that and make up for it in the
    weights. Train it with :func:`train_proposal`.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> LearnedProposal.create(jax.random.key(0), lm.prompt(), hidden=8)(lm.prompt(), 1).shape
    (3,)
    """

    keyword = "proposal"


def features_of(context: Any) -> Float[Array, " D"]:
    """The state that a context's logits come from.

    :raises TypeError: for a language model that shows none.
    """
    if not isinstance(context, HasFeatures):
        raise TypeError(
            f"{type(context).__name__} has no features, the state that a learned head reads: transformers "
            "(sentax.load) and tables have"
        )
    return context.features


__all__ = ["HasFeatures", "Head", "HeadShape", "LearnedHead", "LearnedProposal", "LearnedTwist"]
