"""llguidance as a host engine: JSON schemas and context-free grammars, by their own incremental parsers.

What llguidance leaves to its callers is done here once. Its constructor never raises, and a mask that failed
holds end-of-text alone: errors are asked for after every call. A refused token poisons a matcher for good:
tokens are validated on a matcher and consumed on a copy of it. A matcher speaks of the tokens of one
vocabulary: here every vocabulary gets the 256 single bytes as well, so that a session fed with bytes answers
for tokens. Matchers belong to one thread at a time (the memory of texts holds a lock) and do not pickle (the
grammar does).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt32

from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.trie import PredicateError
from sentax.ppl.language_model import VocabularyLike

try:
    import llguidance
except ImportError:  # pragma: no cover - a dependency of the wheel
    llguidance = None  # type: ignore[assignment]

_VOCABULARIES = 8
"""How many keep their tokenizer: one of 128k tokens takes 0.3 s to build and some 20 MB."""

_LIMITS = {
    "initial_lexer_fuel": 20_000_000,
    "step_lexer_fuel": 2_000_000,
    "step_max_items": 500_000,
    "max_items_in_row": 20_000,
}
"""Ten to twenty times llguidance's defaults: these are bounds on a run-away parser, not on a schema."""


NO_FORCING = '%llguidance {"no_forcing": true}'
"""Where bytes must follow, llguidance would allow the one token with which its tokenizer begins them; a
constraint on bytes allows every token that fits. A grammar with masks needs this line."""


class GuidanceError(PredicateError):
    """llguidance failed on a text, which it neither accepts nor refuses."""


class GrammarError(ValueError):
    """A grammar that llguidance refuses; the message is its own, with line and column where it gives them."""


class Tokens:
    """A vocabulary as llguidance wants it, with the 256 bytes added where they are missing.

    Ids below `size` are the vocabulary's own, so that a mask needs no reordering. Tokens that no text can
    contain (specials, what is not in UTF-8) and repetitions of earlier tokens are given names that no grammar
    matches; the repetitions get the bit of the first one.
    """

    def __init__(self, tokens: tuple[bytes, ...], slices: tuple[str, ...] = ()) -> None:
        self.size = len(tokens)
        names: list[bytes] = []
        first: dict[bytes, int] = {}
        copies: list[tuple[int, int]] = []
        for i, token in enumerate(tokens):
            if token and 0xFF not in token and token not in first:
                first[token] = i
                names.append(token)
                continue
            if token in first:
                copies.append((i, first[token]))
            names.append(b"\xff<%d>" % i)
        for byte in range(0xFF):  # 255 is in no UTF-8 text, and marks special tokens in llguidance
            if bytes([byte]) not in first:
                first[bytes([byte])] = len(names)
                names.append(bytes([byte]))
        self.byte_ids = [first[bytes([byte])] for byte in range(0xFF)]
        names.append(b"\xff<end>")
        self.copies = np.array(copies, np.int64).reshape(-1, 2)
        self.words = -(-self.size // 32)
        real = np.zeros(32 * self.words, np.uint8)
        real[[i for i in first.values() if i < self.size]] = 1
        self.real = np.packbits(real, bitorder="little").view("<u4")
        self.tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Table(names)), slices=list(slices))

    def ids(self, text: bytes) -> list[int] | None:
        """The tokens of a text's single bytes; `None` where it is not UTF-8 in any reading."""
        try:
            return [self.byte_ids[byte] for byte in text]
        except IndexError:
            return None

    def row(self, mask: bytes) -> UInt32[np.ndarray, " W"]:
        """llguidance's mask over the vocabulary's own ids."""
        row = np.frombuffer(mask, "<u4", self.words) & self.real
        if len(self.copies):
            copy, of = self.copies.T
            bits = (row[of >> 5] >> (of & 31).astype(np.uint32)) & np.uint32(1)
            np.bitwise_or.at(row, copy >> 5, bits << (copy & 31).astype(np.uint32))
        return row


class _Table:
    """What llguidance reads a tokenizer from.

    It encodes nothing: sessions are fed with bytes, and grammars do not force tokens (see :data:`NO_FORCING`).
    """

    bos_token_id = None

    def __init__(self, tokens: list[bytes]) -> None:
        self.tokens = tokens
        self.eos_token_id = len(tokens) - 1

    def __call__(self, text: str | bytes) -> list[int]:
        return []


class PerVocabulary:
    """Something made of a vocabulary's tokens, kept for those used last.

    Found by the identity of the tuple: to hash 128k tokens takes longer than a mask.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._kept: OrderedDict[Any, tuple[tuple[bytes, ...], Any]] = OrderedDict()

    def get(self, tokens: tuple[bytes, ...], *options: Any) -> Any:
        """What was made of these tokens, made now if need be."""
        key = id(tokens), *options
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = tokens, self._make(tokens, *options)
                while len(self._kept) > _VOCABULARIES:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(key)
            return found[1]


_BYTES: tuple[bytes, ...] = ()
_tokens = PerVocabulary(Tokens)


def tokens_of(vocabulary: VocabularyLike | None, slices: tuple[str, ...] = ()) -> Tokens:
    """The tokens of a vocabulary, or the bytes alone."""
    if llguidance is None:
        raise ImportError("JSON schemas and grammars need llguidance: pip install 'llguidance>=1.9,<2'")
    return _tokens.get(_BYTES) if vocabulary is None else _tokens.get(vocabulary.tokens, slices)


class GuidanceSession:
    """A text and the parser's state after it.

    :param text: the bytes read so far.
    :param matcher: reads single bytes of `tokens`; `None` after a failure, and made again from the text.
    :param tokens: the vocabulary that the matcher speaks of.
    :param dead: whether no completion is left; there is no matcher then.
    """

    __slots__ = ("dead", "matcher", "text", "tokens")

    def __init__(self, text: bytes, matcher: Any, tokens: Tokens, dead: bool = False) -> None:
        self.text = text
        self.matcher = matcher
        self.tokens = tokens
        self.dead = dead


class GuidanceEngine(Engine):
    """The texts of an llguidance grammar.

    A session is a matcher of its own, forked from its parent's in a few microseconds; a check costs about one
    and does not depend on the text's length. Sessions speak of the vocabulary of the last mask.

    :param grammar: in llguidance's dialect of Lark; with :data:`NO_FORCING` if masks are asked for.
    :param slices: regular expressions of token sets whose masks llguidance keeps (a speed matter).
    :raises GrammarError: if llguidance refuses the grammar.
    """

    has_mask = True

    def __init__(self, grammar: str, slices: tuple[str, ...] = ()) -> None:
        self.grammar = grammar
        self.slices = slices
        self.tokens = tokens_of(None)
        self.roots: OrderedDict[int, tuple[Tokens, Any]] = OrderedDict()
        self._root(self.tokens)

    def __reduce__(self) -> tuple:
        return type(self), (self.grammar, self.slices)

    def _root(self, tokens: Tokens) -> Any:
        """The matcher of the empty text; never fed, only copied."""
        entry = self.roots.get(id(tokens))
        if entry is None:
            # Compiled once for each vocabulary: half a millisecond for a schema of a dozen keywords.
            limits = llguidance.LLParserLimits(**_LIMITS)  # type: ignore[arg-type]
            grammar = llguidance.LLMatcher.grammar_from_lark(self.grammar)
            matcher = llguidance.LLMatcher(tokens.tokenizer, grammar, log_level=0, limits=limits)
            if matcher.is_error():
                raise GrammarError(_message(matcher))
            entry = self.roots[id(tokens)] = (tokens, matcher)
            while len(self.roots) > _VOCABULARIES:
                self.roots.popitem(last=False)
        return entry[1]

    def _matcher(self, session: GuidanceSession, tokens: Tokens | None = None) -> Any:
        """The session's matcher, read again from the text where there is none for these tokens."""
        tokens = tokens or session.tokens
        if session.matcher is None or tokens is not session.tokens:
            matcher = self._root(tokens).deep_copy()
            ids = tokens.ids(session.text)
            if ids is None or not matcher.consume_tokens(ids):
                raise _failure(matcher, session.text)
            # The session says the same as before, of another vocabulary.
            session.matcher, session.tokens = matcher, tokens
        return session.matcher

    def start(self) -> GuidanceSession:
        return GuidanceSession(b"", self._root(self.tokens).deep_copy(), self.tokens)

    def extend(self, session: GuidanceSession, piece: bytes) -> GuidanceSession:
        text = session.text + piece
        # A refused byte would poison the copy.
        if not self.prefix(session, piece):
            return GuidanceSession(text, None, session.tokens, dead=True)
        matcher = self._matcher(session).deep_copy()
        if not matcher.consume_tokens(session.tokens.ids(piece)):
            raise _failure(matcher, text)
        return GuidanceSession(text, matcher, session.tokens)

    def prefix(self, session: GuidanceSession, piece: bytes) -> bool:
        ids = session.tokens.ids(piece)
        if session.dead or ids is None:
            return False
        matcher = self._matcher(session)
        allowed = matcher.validate_tokens(ids)
        self._check(session, matcher, piece)
        return allowed == len(ids)

    def complete(self, session: GuidanceSession, piece: bytes) -> bool:
        if piece:
            session = self.extend(session, piece)
        if session.dead:
            return False
        matcher = self._matcher(session)
        accepting = matcher.is_accepting()
        self._check(session, matcher)
        return accepting

    def _check(self, session: GuidanceSession, matcher: Any, piece: bytes = b"") -> None:
        """Raises after a failure, and leaves the session usable."""
        if matcher.is_error():
            session.matcher = None
            raise _failure(matcher, session.text + piece)

    def forced(self, session: GuidanceSession) -> bytes:
        """The bytes with which every completion of the text goes on; perhaps not all of them.

        None where the grammar has :data:`NO_FORCING`.
        """
        matcher = self._matcher(session).deep_copy()
        forced = b"" if matcher.is_stopped() else matcher.compute_ff_bytes()
        if matcher.is_error():
            raise _failure(matcher, session.text)
        return forced

    def finished(self, session: GuidanceSession) -> bool:
        """Whether nothing may follow."""
        return session.dead or self._matcher(session).is_stopped()

    def mask(self, session: GuidanceSession, vocabulary: VocabularyLike) -> UInt32[np.ndarray, " W"]:
        tokens = tokens_of(vocabulary, self.slices)
        if session.dead:
            return np.zeros(tokens.words, np.uint32)
        self.tokens = tokens
        matcher = self._matcher(session, tokens)
        if matcher.is_stopped() and not matcher.is_error():
            return np.zeros(tokens.words, np.uint32)
        # On a copy, because a mask that fails leaves its matcher useless.
        matcher = matcher.deep_copy()
        mask = matcher.compute_bitmask()
        if matcher.is_error():
            if matcher.stop_reason() == "NoExtensionBias":  # no token fits: no failure, but the text's end
                return np.zeros(tokens.words, np.uint32)
            raise _failure(matcher, session.text)
        return tokens.row(mask)


def _message(matcher: Any) -> str:
    """An error without the dump of the parser's state that follows it."""
    text = matcher.get_error().split("<state>")[0].strip()
    return text.split("<backtrace>")[0].strip() or "llguidance gives no reason"


def _failure(matcher: Any, text: bytes) -> GuidanceError:
    shown = text if len(text) <= 200 else b"..." + text[-200:]
    why = _message(matcher) if matcher.is_error() else "the text was not allowed"
    return GuidanceError(f"llguidance failed after {shown!r}: {why}", text)
