"""Adaptive sampling with approximate expected futures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from sentax.inference.adaptive import Adaptive


class ASAp(Adaptive):
    r"""Grammar-aligned decoding by approximate expected futures (Park et al. 2024, algorithm 1).

    Locally constrained decoding, reweighed by what earlier texts have shown of the future: with
    :math:`c` the bounds of a :class:`~sentax.inference.prefix_trie.PrefixTrie` (1 where nobody has been),

    .. math:: x_t \sim p(x_t \mid x_{<t})\, 1[\phi(x_t) > 0]\, c(x_{\le t}) / S_t .

    After each batch the bounds are lowered along its texts. An empty trie gives locally constrained
    decoding; as it grows the draws' distribution converges to the posterior (Park et al. 2024, theorem 1), and
    is equal to it once every text has been seen. Soft factors are learned as the hard ones are, at the ends of
    texts, and must be bounded.

    As published the draws weigh the same, whatever the trie knows: biased for any finite number of draws, so
    :attr:`is_proper` is false and :attr:`log_evidence` is the share of survivors. With `weighted=True` each
    keeps its importance weight, :math:`\prod_t S_t / c(x_{\le t})` times its factors: proper from the first
    draw, and of less and less variance.

    The trie stays from run to run (:meth:`forget` empties it), and can be saved and loaded.

    :param model: a NumPyro model whose only latent sites are tokens: of finite support, inside scans.
    :param num_particles: draws in a batch, all guided by the same trie; 1 is the published form.
    :param num_batches: batches in a run; the run leaves the draws of all of them.
    :param weighted: whether the draws keep their importance weights.
    :param log_bound: an upper bound on the sum of a text's log-factors; 0 where all of them are hard.
    :param progress_bar: shows the steps on standard error while running.
    :raises ValueError: for a number out of range.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context, where):
    ...     sx.generate("text", context, max_tokens=3, where=where)
    >>> asap = ASAp(model, num_particles=100)
    >>> for seed in range(4):
    ...     asap.run(jax.random.key(seed), lm.prompt(), sx.regex("a?b"))
    >>> [round(float(jax.numpy.exp(batch.log_bound)), 3) for batch in asap.convergence]  # exactly 4/27
    [0.148, 0.148, 0.148, 0.148]
    """

    _check_all: ClassVar[bool] = True

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        num_particles: int = 32,
        num_batches: int = 1,
        weighted: bool = False,
        log_bound: float = 0.0,
        progress_bar: bool = False,
    ) -> None:
        super().__init__(
            model,
            num_particles=num_particles,
            num_batches=num_batches,
            log_bound=log_bound,
            progress_bar=progress_bar,
        )
        self.weighted = weighted
        self.is_proper = weighted

    def _weigh(self, log_weights: np.ndarray, envelope: float, uniform: np.ndarray) -> np.ndarray:
        return log_weights if self.weighted else np.where(np.isneginf(log_weights), -np.inf, 0.0)


__all__ = ["ASAp"]
