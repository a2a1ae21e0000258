"""Constrained adaptive rejection sampling."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from sentax.inference.adaptive import Adaptive


class CARS(Adaptive):
    r"""Constrained adaptive rejection sampling (Parys et al. 2025, arXiv 2510.01902): exact draws.

    Rejection sampling from the language model without the mass that is known to be lost. The bounds
    :math:`c` of a :class:`~sentax.inference.prefix_trie.PrefixTrie` leave out every prefix that was found
    invalid, and where the constraint has a mask over the vocabulary all invalid continuations of every prefix
    that was visited. A text is drawn from :math:`q(x) = \prod_t p(x_t)\, c(x_{\le t}) / S_t`, with
    :math:`S_t` the local normaliser, and accepted with probability

    .. math:: \frac{p(x)\,\phi(x)}{c(\text{root})\, q(x)}
              = \frac{\phi(x)}{c(x)} \prod_t \frac{S_t}{c(x_{<t})} \le 1,

    so accepted draws are independent and exactly from the posterior, with a fresh trie or a long-learned one,
    and the acceptance rate rises to 1. A run leaves `num_batches * num_particles` draws: accepted ones weigh
    :math:`c(\text{root})` of their batch, the others 0, so that the evidence estimate is unbiased.

    Unlike in the paper a draw follows the mask even where nobody has been, and is thinned for it at its end:
    the same law of the accepted draws, and every draw teaches a whole text, for the price of finishing it.
    Without a mask a draw ends at its first violation. Soft factors thin, and are remembered by text.

    The trie stays from run to run (:meth:`forget` empties it), and can be saved and loaded.

    :param model: a NumPyro model whose only latent sites are tokens: of finite support, inside scans.
    :param num_particles: draws in a batch, all guided by the same trie; 1 is the published form.
    :param num_batches: batches in a run; the run leaves the draws of all of them.
    :param log_bound: an upper bound on the sum of a text's log-factors; 0 where all of them are hard.
    :param progress_bar: shows the steps on standard error while running.
    :raises ValueError: for a number out of range.

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context, where):
    ...     sx.generate("text", context, max_tokens=3, where=where)
    >>> cars = CARS(model, num_particles=400)
    >>> for seed in range(2):
    ...     cars.run(jax.random.key(seed), lm.prompt(), sx.regex("a?b"))
    >>> [round(batch.kept, 1) for batch in cars.convergence]  # 4/27 of the texts are valid
    [0.1, 1.0]
    >>> posterior = cars.posterior("text")
    >>> sorted(posterior), abs(posterior["ab"] - 1 / 4) < 0.1
    (['ab', 'b'], True)
    """

    _check_all: ClassVar[bool] = False

    def _weigh(self, log_weights: np.ndarray, envelope: float, uniform: np.ndarray) -> np.ndarray:
        if np.isneginf(envelope):
            return np.full_like(log_weights, -np.inf)
        return np.where(uniform < np.exp(log_weights - envelope), envelope, -np.inf)


__all__ = ["CARS"]
