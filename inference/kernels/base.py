"""What a token kernel is: a properly weighted draw at one site of finite support."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Bool, Float, Int

from sentax.inference.lanes import PARTICLES

LogFactor = Callable[[Int[Array, ""]], Float[Array, ""]]
"""An outcome's log-factor: everything the program multiplies in before its next latent site.
`-inf` is a rejection."""


class Draw(NamedTuple):
    """What a kernel returns.

    :param outcome: index into the support.
    :param log_weight: log of the proper weight, the outcome's factors included; `-inf` is a dead particle.
    :param checks: how many outcomes' factors were asked for.
    """

    outcome: Int[Array, ""]
    log_weight: Float[Array, ""]
    checks: Int[Array, ""]


class Kernel:
    r"""A model and the way its finite-support sites inside scans are drawn.

    Law: with :math:`p` the site's distribution and :math:`\phi` its factors, `draw` returns
    :math:`(X, W)` such that for every outcome :math:`x`

    .. math:: E[W\, 1\{X = x\}] = p(x)\, \phi(x).

    Then a particle filter's evidence estimate is unbiased (Naesseth et al. 2019, section 3.2).

    :param model: a NumPyro model.
    """

    def __init__(self, model: Callable[..., Any]) -> None:
        if not callable(model):
            raise TypeError(
                f"{type(self).__name__} wraps a NumPyro model (a callable), got {type(model).__name__}"
            )
        self.model = model

    def draw(
        self,
        rng_key: Array,
        logits: Float[Array, " V"],
        log_factor: LogFactor,
        *,
        active: Bool[Array, ""] | bool = True,
        calls_host: bool = False,
        axis_name: str | None = PARTICLES,
    ) -> Draw:
        """One properly weighted draw.

        :param logits: log-probabilities of the outcomes up to a constant; `-inf` is impossible.
        :param log_factor: see :data:`LogFactor`.
        :param active: false for a dead particle: any outcome, no checks.
        :param calls_host: whether `log_factor` calls back to Python, where a needless question is dear.
        :param axis_name: the particle axis of the enclosing `vmap`; None without one.
        """
        raise NotImplementedError
