"""What a token kernel is: a properly weighted draw at one site of finite support."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from sentax.inference.errors import UnsupportedProgram
from sentax.inference.lanes import PARTICLES

LogFactor = Callable[[Int[Array, ""]], Float[Array, ""]]
"""An outcome's log-factor: everything the program multiplies in before its next latent site.
`-inf` is a rejection."""


@dataclasses.dataclass(frozen=True)
class Factor:
    """A log-factor, and what asking for it costs. A plain function will do wherever one is wanted.

    :param value: see :data:`LogFactor`.
    :param ordered: for factors that call back to Python: `(outcome, patience, worth) ->
        (log_factor, asked)`, to be vectorised over candidates in draw order. Python looks at them in
        that order until the `worth` of those it accepts adds up to `patience`; those behind are not `asked`
        and their log-factor means nothing. None where nothing calls back.
    :param varies: whether it depends on the outcome at all.
    """

    value: LogFactor
    ordered: Callable[[Any, Any, Any], tuple[Float[Array, ""], Bool[Array, ""]]] | None = None
    varies: bool = True

    def __call__(self, outcome: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.asarray(self.value(outcome), jnp.float32)

    def in_order(
        self, outcome: Int[Array, ""], patience: Int[Array, ""], worth: Int[Array, ""]
    ) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """The factor of one candidate among several in draw order, and whether it was asked for."""
        if self.ordered is None:
            return self(outcome), jnp.ones((), bool)
        return self.ordered(outcome, patience, worth)


def as_factor(log_factor: LogFactor | Factor) -> Factor:
    """A :class:`Factor` of any log-factor."""
    return log_factor if isinstance(log_factor, Factor) else Factor(log_factor)


class Draw(NamedTuple):
    """What a kernel returns.

    :param outcome: index into the support.
    :param log_weight: log of the proper weight, the outcome's factors included; `-inf` is a dead particle.
    :param checks: how many outcomes' factors were asked for.
    :param state: what the particle carries to its next draw (see :meth:`Kernel.start`).
    """

    outcome: Int[Array, ""]
    log_weight: Float[Array, ""]
    checks: Int[Array, ""]
    state: Any = ()


class Kernel:
    r"""A model and the way its finite-support sites inside scans are drawn.

    Law: with :math:`p` the site's distribution and :math:`\phi` its factors, `draw` returns
    :math:`(X, W)` such that for every outcome :math:`x`

    .. math:: E[W\, 1\{X = x\}] = p(x)\, \phi(x).

    Then a particle filter's evidence estimate is unbiased (Naesseth et al. 2019, section 3.2).

    :param model: a NumPyro model.
    """

    use_masks: bool = False
    """Whether the engine should prepare constraints' masks over the vocabulary for :meth:`draw`."""

    uses_proposals: bool = True
    """Whether a site's `proposal` (see :func:`sentax.generate`) takes its distribution's place in
    :meth:`draw`, with the factor that makes up for it."""

    method: ClassVar[str] = "one check a draw"
    """How a site without a mask is drawn, in the words of the diagnostics."""

    def __init__(self, model: Callable[..., Any]) -> None:
        if not callable(model):
            raise TypeError(
                f"{type(self).__name__} wraps a NumPyro model (a callable), got {type(model).__name__}"
            )
        self.model = model

    def start(self) -> Any:
        """What a particle carries from draw to draw before its first: a pytree, `()` for most kernels.

        It is resampled with the particle. A kernel that has some must return it in :attr:`Draw.state`, of
        the same structure, shapes and dtypes.
        """
        return ()

    def draw(
        self,
        rng_key: Array,
        logits: Float[Array, " V"],
        log_factor: LogFactor | Factor,
        *,
        active: Bool[Array, ""] | bool = True,
        mask: Bool[Array, " V"] | None = None,
        state: Any = (),
        axis_name: str | None = PARTICLES,
    ) -> Draw:
        """One properly weighted draw.

        :param logits: log-probabilities of the outcomes up to a constant; `-inf` is impossible.
        :param log_factor: see :data:`LogFactor`.
        :param active: false for a dead particle: any outcome, no checks.
        :param mask: outcomes whose factor may be positive; then `log_factor` leaves out what the mask
            decides, and means nothing for the others. Given only if :attr:`use_masks`.
        :param state: what the particle carries; of a kernel without, `()`.
        :param axis_name: the particle axis of the enclosing `vmap`; None without one.
        """
        raise NotImplementedError

    def log_weight_of(
        self, outcome: Int[Array, ""], log_factor: LogFactor | Factor, draw: Draw
    ) -> Float[Array, ""]:
        """The log-weight that an outcome given from outside would have had, where it is not random.

        :param log_factor: as :meth:`draw` got it; `draw`: what it returned.
        :raises UnsupportedProgram: for a kernel whose weight is drawn with the outcome.
        """
        raise UnsupportedProgram(
            f"{type(self).__name__} draws its weights at random with the outcomes, so that values from "
            "elsewhere have none: use Prior, or LocallyConstrained"
        )
