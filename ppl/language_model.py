"""What a program asks of a language model: two small protocols, so that neither side imports the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int


@runtime_checkable
class VocabularyLike(Protocol):
    """A pytree whose one leaf is the byte table; everything else about it is static."""

    table: Int[Array, "V L"]
    """Row `i` holds the bytes of token `i`, padded with 256; end-of-text and specials are empty."""

    @property
    def size(self) -> int: ...

    @property
    def tokens(self) -> tuple[bytes, ...]:
        """The bytes of every token, on the host; empty for end-of-text, specials and padding."""
        ...

    @property
    def end_of_text(self) -> int:
        """The one id that ends a text."""
        ...

    def decode(self, tokens: Any) -> bytes:
        """The bytes of a host-side sequence of ids, up to (not with) the first end-of-text."""
        ...


@runtime_checkable
class Context(Protocol):
    """A language model after some text: an immutable pytree of one particle."""

    @property
    def vocabulary(self) -> VocabularyLike: ...

    @property
    def logits(self) -> Float[Array, " V"]:
        """Unnormalised log-probabilities of the next token, float32; `-inf` is impossible."""
        ...

    @property
    def seam(self) -> Int[Array, ""]:
        """How many leading bytes of the next token repeat the end of the prompt (0 almost always)."""
        ...

    @property
    def room(self) -> Int[Array, ""]:
        """How many more tokens the model can read."""
        ...

    def reserve(self, num_tokens: int) -> Context:
        """Room for so many more tokens; a no-op for models without a cache."""
        ...

    def extend(self, token: Int[Array, ""], active: Bool[Array, ""] | bool = True) -> Context:
        """The context after one more token; unchanged in meaning where `active` is false."""
        ...


@runtime_checkable
class LanguageModel(Protocol):
    """Makes contexts from prompts."""

    @property
    def vocabulary(self) -> VocabularyLike: ...

    def prompt(self, text: Any) -> Context: ...


TokenValues = Callable[[Context, Int[Array, ""]], Float[Array, " V"]]
"""`(context, remaining) -> [V]`: a number for each token that may come next, such as the log of a twist.

`remaining` is how many more tokens the text may have, the next one included."""
