"""How much of each token belongs to a text, and which tokens end it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, UInt32

from sentax.ppl.language_model import VocabularyLike
from sentax.ppl.pytree import pytree


@pytree
@dataclass(frozen=True, eq=False)
class TokenExtents:
    """The lengths of a vocabulary's tokens, up to a stop byte and behind a seam.

    :param lengths: bytes of each token.
    :param stopping: the tokens that hold the stop byte.
    :param places: where each of them holds it: the first place at or behind each seam, or its length.

    **Example**

    .. code-block:: python

        >>> from sentax.models.vocabulary import Vocabulary
        >>> extents = TokenExtents.of(Vocabulary([b"ab", b"a\\nb", b""], end_of_text=2), stop=10)
        >>> [x.tolist() for x in extents.behind(0)]
        [[2, 1, 0], [False, True, True]]
        >>> [x.tolist() for x in extents.behind(2)]
        [[0, 1, 0], [False, False, True]]
    """

    lengths: Int[Array, " V"]
    stopping: Int[Array, " M"]
    places: Int[Array, "M L+1"]
    end_of_text: int = field(metadata={"static": True})

    @classmethod
    def of(cls, vocabulary: VocabularyLike, stop: int | None) -> TokenExtents:
        """The extents of a vocabulary's tokens: made on the host, kept for the last few vocabularies."""
        # Constants also where a program is being traced.
        with jax.ensure_compile_time_eval():
            lengths, stopping, places = jax.device_put(_build(vocabulary.tokens, stop))
        return cls(lengths, stopping, places, vocabulary.end_of_text)

    def behind(self, seam: Int[Array, ""] | int) -> tuple[Int[Array, " V"], Bool[Array, " V"]]:
        """How many bytes each token adds to a text, and whether the text ends with it.

        :param seam: how many leading bytes of a token are not part of the text.
        """
        lengths = self.lengths
        places = self.places[:, jnp.minimum(seam, self.places.shape[1] - 1)]
        ends = jnp.zeros(lengths.shape, bool).at[self.stopping].set(places < lengths[self.stopping])
        added = jnp.maximum(lengths.at[self.stopping].set(places) - seam, 0)
        return added, ends.at[self.end_of_text].set(True)


def extents_on_host(vocabulary: VocabularyLike, stop: int | None) -> tuple[np.ndarray, np.ndarray]:
    """What :meth:`TokenExtents.behind` says where there is no seam."""
    lengths, stopping, places = _build(vocabulary.tokens, stop)
    added, ends = lengths.copy(), np.zeros(len(lengths), bool)
    added[stopping] = places[:, 0]
    ends[stopping] = True
    ends[vocabulary.end_of_text] = True
    return added, ends


def at_seam(
    seam: Int[Array, ""], none: Callable[[], UInt32[Array, " W"]], some: Callable[[], UInt32[Array, " W"]]
) -> UInt32[Array, " W"]:
    """`none()` as long as no text of a batch has a seam, else `some()`, which is right for all of them.

    A seam is there for a text's first token at most, so what it takes should not be paid at every step.
    """
    return lax.cond(_any_lane(seam > 0), some, none)


@jax.custom_batching.custom_vmap
def _any_lane(condition: Bool[Array, ""]) -> Bool[Array, ""]:
    """Itself; under `vmap`, whether it holds in any lane: without a batch axis, `cond` runs one branch."""
    return condition


@_any_lane.def_vmap
def _any_lane_rule(axis_size: int, in_batched: Any, condition: Bool[Array, " N"]) -> Any:
    del axis_size, in_batched
    return _any_lane(condition.any()), False


@lru_cache(maxsize=4)
def _build(tokens: tuple[bytes, ...], stop: int | None) -> tuple[np.ndarray, ...]:
    lengths = np.array([len(token) for token in tokens], np.int32)
    byte = b"" if stop is None else bytes([stop])
    stopping = np.array([v for v, token in enumerate(tokens) if byte and byte in token], np.int32)
    places = np.zeros((len(stopping), lengths.max(initial=0) + 1), np.int32)
    for row, v in zip(places, stopping):
        row[:] = place = lengths[v]
        for i in range(place - 1, -1, -1):
            if tokens[v][i] == stop:
                place = i
            row[i] = place
    return lengths, stopping, places
