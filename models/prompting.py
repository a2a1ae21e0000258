"""From a prompt to token ids: text, ids or chat messages, healed at the end; and back, from logits to text.

What every language model over a tokenizer shares, whatever computes its logits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from sentax.models.chat import ChatTemplate
from sentax.models.vocabulary import Vocabulary

PromptLike = str | Sequence[int] | Int[np.ndarray | Array, " C"] | Sequence[Mapping[str, Any]]
"""A text (special tokens are recognised by name, as the tokenizer does), token ids as they are, or chat
messages ``{"role": ..., "content": ...}`` for the model's chat template."""


class Prompt(NamedTuple):
    """A prompt as a model reads it.

    :param ids: the tokens, at least one.
    :param seam: how many bytes healing took back: the first generated token repeats them.
    :param held: the token that healing took back, -1 if none.
    :param first: the tokens that may come first, None for all.
    """

    ids: list[int]
    seam: int = 0
    held: int = -1
    first: Bool[np.ndarray, " V"] | None = None

    def bias(self, bias: Float[Array, " V"]) -> Float[Array, " V"]:
        """A model's :func:`text_bias` for the first token."""
        return bias if self.first is None else jnp.where(self.first, bias, -jnp.inf)

    @property
    def num_tokens(self) -> int:
        """The length of the whole prompt, with the token taken back."""
        return len(self.ids) + (self.held >= 0)


def read_prompt(
    vocabulary: Vocabulary, chat_template: ChatTemplate | None, prompt: PromptLike, *, heal: bool = True
) -> Prompt:
    r"""The tokens of a prompt, and what its end asks of the first generated token.

    **Token healing.** A tokenizer cuts a text into the tokens that its merges prefer, and the end of
    a prompt is a cut that the model has never seen: after ``"The link is http:"`` the token
    ``:`` is almost never followed by ``//``, because in training ``://`` was one token. With
    `heal` the last token of the prompt is taken back, and the first generated token must begin with
    the bytes that were taken back (the context's ``seam``; constraints and decoded texts skip them).
    So the evidence of a program is ``P(continuation | bytes of the prompt)`` as far as one token
    can tell, and no constraint becomes impossible because its first word straddles the border.
    The first token is drawn from the model's own distribution restricted to those tokens.

    Nothing is taken back if the last token is special, if it is the only one, or if no other token
    begins with its bytes. Ids and chat messages are never healed.

    :param vocabulary: the model's tokens.
    :param chat_template: renders chat messages, if the model has one.
    :param prompt: see :data:`PromptLike`.
    :param heal: whether to heal the end of a text.
    :raises ValueError: if the prompt is empty and the tokenizer has no token for the beginning of a
        text, or if it holds what this model cannot read.

        >>> import sentax as sx
        >>> lm = sx.load()
        >>> read_prompt(lm.vocabulary, None, [0, 70, 71])
        Prompt(ids=[0, 70, 71], seam=0, held=-1, first=None)
        >>> healed = read_prompt(lm.vocabulary, None, "She said hel")
        >>> lm.vocabulary.tokens[healed.held][: healed.seam] == lm.vocabulary.tokens[healed.held]
        True
    """
    ids, healable = _encode(vocabulary, chat_template, prompt)
    if heal and healable and len(ids) > 1 and (first := vocabulary.completions(ids[-1])) is not None:
        return Prompt(ids[:-1], len(vocabulary.tokens[ids[-1]]), ids[-1], first)
    return Prompt(ids)


def _encode(vocabulary: Vocabulary, chat_template: ChatTemplate | None, prompt: Any) -> tuple[list[int], bool]:
    """The ids, and whether their end may be healed."""
    if not isinstance(prompt, str):
        items = list(prompt)
        if items and isinstance(items[0], Mapping):
            if chat_template is None:
                raise ValueError("this model has no chat template: give a text")
            return chat_template.encode(items), False
        if not items:
            raise ValueError("a prompt of token ids needs at least one")
        return vocabulary.check_ids(items), False
    if vocabulary.tokenizer is None:
        raise ValueError("this model has no tokenizer: give token ids")
    ids = vocabulary.tokenizer.encode_prompt(prompt)
    if not ids:
        raise ValueError("the prompt is empty, and this tokenizer has no token for the beginning of a text")
    if max(ids) >= vocabulary.size:
        raise ValueError(f"the prompt holds token {max(ids)}, which this model does not have")
    return ids, True


def text_bias(vocabulary: Vocabulary) -> Float[Array, " V"]:
    """What to add to a network's logits so that tokens without text cannot be drawn: 0 or -inf.

    Without text are special tokens and padding rows of the embedding; end-of-text may be drawn.
    """
    return jnp.where(vocabulary.drawable(), 0.0, -jnp.inf).astype(jnp.float32)


def text_logits(
    ends: tuple[int, ...], logits: Float[Array, " V"], bias: Float[Array, " V"]
) -> Float[Array, " V"]:
    """A network's logits as a distribution over texts.

    :param ends: every id that ends a text: their probabilities are summed into the first.
    :param logits: the network's own.
    :param bias: of :func:`text_bias`, and -inf for what may not follow a healed prompt.

        >>> import jax.numpy as jnp
        >>> logits = text_logits((1, 2), jnp.zeros(4), jnp.array([0.0, 0.0, -jnp.inf, 0.0]))
        >>> jnp.exp(logits).round().tolist()
        [1.0, 2.0, 0.0, 1.0]
    """
    if len(ends) > 1:
        logits = logits.at[ends[0]].set(jax.nn.logsumexp(logits[jnp.array(ends)]))
    return logits + bias


__all__ = ["Prompt", "PromptLike", "read_prompt", "text_bias", "text_logits"]
