"""The distribution of one token, which leaves its logits behind when it crosses a scan."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import nn
from jaxtyping import Array, Bool, Float, Int
from numpyro.distributions import Distribution, constraints

from sentax.ppl.race import draw


class TokenDistribution(Distribution):
    r"""A categorical over a vocabulary, from unnormalised log-probabilities.

    NumPyro's `scan` stacks every site's distribution over time: with logits that would be
    :math:`T \times V` floats a particle (10 GB at T=256, V=152k, 64 particles). Once a token is drawn,
    or :meth:`settle` is told which one was observed, the distribution flattens to that token and its
    log-probability alone: O(1) a step, and :func:`numpyro.infer.util.log_density` still adds up.

    :param logits: float32 `[V]`; `-inf` is impossible.
    :param forced: if given, all mass is on this token wherever `when` is true.
    :param when: boolean scalar, see `forced`.

    >>> import jax.numpy as jnp
    >>> d = TokenDistribution(jnp.log(jnp.array([0.25, 0.75])))
    >>> round(float(jnp.exp(d.log_prob(1))), 4)
    0.75
    """

    arg_constraints: dict[str, Any] = {}
    has_enumerate_support = True
    is_discrete = True

    def __init__(
        self,
        logits: Float[Array, " V"],
        forced: int | None = None,
        when: Bool[Array, ""] | bool = False,
        *,
        validate_args: bool | None = None,
    ) -> None:
        if jnp.ndim(logits) != 1:
            raise ValueError(f"TokenDistribution: logits must be a vector [V], got shape {jnp.shape(logits)}")
        logits = jnp.asarray(logits, jnp.float32)
        if forced is not None:
            point = jnp.where(jnp.arange(logits.shape[0]) == forced, 0.0, -jnp.inf)
            logits = jnp.where(when, point, logits)
        self.logits: Array | None = logits
        self.size = int(logits.shape[0])
        self.settled: tuple[Array, Array] | None = None
        super().__init__(batch_shape=(), event_shape=(), validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self.size - 1)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        return () if self.settled is None else jnp.shape(self.settled[1])

    def sample(self, key: Array | None, sample_shape: tuple[int, ...] = ()) -> Array:
        if key is None:
            raise ValueError("a token cannot be drawn without a key: wrap the model in numpyro.handlers.seed")
        if self.logits is None:
            raise ValueError("this token distribution was settled: its logits are gone")
        if sample_shape:
            raise NotImplementedError("a token site has no sample_shape: use one site for each token")
        return draw(key, self.logits)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        token = super().__call__(*args, **kwargs)
        if not isinstance(token, tuple) and self.logits is not None:
            self.settle(token)
        return token

    def settle(self, token: Int[Array, ""]) -> None:
        """Names the token this site took, so that only its log-probability is kept in a trace."""
        self.settled = (jnp.asarray(token), self.log_prob(token))

    def log_prob(self, value: Any, intermediates: Any = None) -> Array:
        """Log-probability of a token; once settled and carried over a scan, of the tokens it took."""
        if self.logits is not None:
            return self.log_probs()[value]
        token, log_prob = self.settled  # type: ignore[misc]
        return jnp.where(value == token, log_prob, -jnp.inf)

    def log_probs(self) -> Float[Array, " V"]:
        """The whole normalised table."""
        if self.logits is None:
            raise ValueError("this token distribution was settled: its logits are gone")
        return nn.log_softmax(self.logits)

    def enumerate_support(self, expand: bool = True) -> Int[Array, " V"]:
        return jnp.arange(self.size)

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        if self.settled is None:
            return (self.logits,), (self.size, False)
        return self.settled, (self.size, True)

    @classmethod
    def tree_unflatten(cls, aux_data: tuple[Any, ...], params: tuple[Any, ...]) -> TokenDistribution:
        size, settled = aux_data
        new = cls.__new__(cls)
        new.size = size
        new.logits = None if settled else params[0]
        new.settled = tuple(params) if settled else None
        new._batch_shape = ()
        new._event_shape = ()
        return new


__all__ = ["TokenDistribution"]
