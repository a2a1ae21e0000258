r"""Regular expressions with back-references, lookaround and recursion, matched on the host by `regex`.

Whether a text may still be completed is asked by a partial match. Why that is right: a backtracking matcher
does on `text` what it does on `text + more`, step by step, until it first looks behind the text's end. If
every such look ends the match as a partial one, every text that has a completion is reported. The package
does that for characters. It does not for `\b`, `$` and their like, nor where a repeat that could go on ends
with the text (`(?:..)+(?<=a).` loses `aaab`). So the expression that is matched partially has a probe at these
places: a lookahead that reads one character or nothing.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import regex as regex_package

from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.host import HostConstraint
from sentax.ppl.constraints.syntax import UnsupportedPattern
from sentax.ppl.constraints.trie import PredicateError
from sentax.ppl.constraints.utf8_text import Utf8Text, characters, completions

_PROBE = "(?=(?s:.)|)"
_END = "(?!(?s:.))"
_LETTERS = "afimsx"
_REFUSED_FLAGS = ("BESTMATCH", "ENHANCEMATCH", "LOCALE", "POSIX", "REVERSE", "WORD")
_MAX_CHARACTERS = 1 << 12

_TOKEN = re.compile(
    r"""
    (?P<skipped> \(\?\#[^)]*\) | \(\*[A-Z]+\) | \(\?P=[^()]*\) )
  | (?P<call> \(\?(?:R|[+-]?\d+|&[^()]*|P>[^()]*)\) )
  | (?P<flags> \(\?(?P<on>[a-zA-Z01]*)(?:-(?P<off>[a-z]+))?(?P<close>[:)]) )
  | (?P<open> \( (?: \?\(\?<?[=!] | \?\([^()?]*\) | \?P?<(?![=!])[^<>]*> | \?<?[=!] | \?> | \?\| )? )
  | (?P<repeat> (?: [*+?] | \{(?:\d+(?:,\d*)?|,\d*)\} ) [?+]? )
  | (?P<fuzzy> \{[^{}]*[eids<=][^{}]*\} )
  | (?P<escape> \\(?:[pPN]\{[^{}]*\}|.) )
  | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_SET_OPENING = re.compile(r"\[\^?\]?")
_SET_MEMBER = re.compile(r"\\.|\[:\^?\w+:\]|.", re.DOTALL)


class RegexEngine(Engine):
    """The engine of :func:`regex_partial`. A session is the decoded text, matched anew for each question."""

    def __init__(self, pattern: str, flags: str, time_limit: float | None) -> None:
        self.pattern = pattern
        self.flags = flags
        self.time_limit = time_limit
        bits = sum(getattr(regex_package, letter.upper()) for letter in set(flags))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                self.whole = regex_package.compile(pattern, bits)
        except regex_package.error as error:
            where = "" if error.pos is None else f" at position {error.pos}"
            raise ValueError(f"invalid regular expression {pattern!r}: {error.msg}{where}") from None
        for name in _REFUSED_FLAGS:
            if self.whole.flags & getattr(regex_package, name):
                raise _refusal(f"{name} flag", None, pattern)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.partial = regex_package.compile(probed(pattern, self.whole.flags), bits)

    def __repr__(self) -> str:
        return f"regex_partial({self.pattern!r}{f', {self.flags!r}' if self.flags else ''})"

    def __reduce__(self) -> tuple:
        return type(self), (self.pattern, self.flags, self.time_limit)

    def start(self) -> Utf8Text:
        return Utf8Text()

    def extend(self, session: Utf8Text, piece: bytes) -> Utf8Text:
        return session.then(piece)

    def prefix(self, session: Utf8Text, piece: bytes) -> bool:
        text = session.then(piece)
        if text.whole is None:
            return False
        if not text.pending:
            return self._match(self.partial, text.whole, True)
        if len(characters(text.pending)) > _MAX_CHARACTERS:
            return self._match(self.partial, text.whole, True)
        return any(self._match(self.partial, whole, True) for whole in completions(text))

    def complete(self, session: Utf8Text, piece: bytes) -> bool:
        text = session.then(piece)
        return text.whole is not None and not text.pending and self._match(self.whole, text.whole, False)

    def _match(self, compiled: Any, text: str, partial: bool) -> bool:
        try:
            return compiled.fullmatch(text, partial=partial, timeout=self.time_limit) is not None
        except TimeoutError:
            shown = repr(text) if len(text) < 80 else repr(text[:50])[:-1] + "..." + repr(text[-25:])[1:]
            raise PredicateError(
                f"{self!r} took longer than {self.time_limit:g} s on {shown}: it backtracks too much",
                text.encode(),
            ) from None


def probed(pattern: str, flags: int) -> str:
    """A valid expression with probes where the package would not notice that a text has ended too early.

    :param flags: what the package says of the compiled expression.
    :raises UnsupportedPattern: if it asks for a fuzzy match.
    """
    sets_nest = bool(flags & regex_package.V1)
    scopes = [(bool(flags & regex_package.X), bool(flags & regex_package.M))]
    out: list[str] = []
    at = 0
    while at < len(pattern):
        verbose, multiline = scopes[-1]
        if pattern[at] == "[":
            end = _set_end(pattern, at, sets_nest)
            out.append(pattern[at:end])
            at = end
            continue
        if verbose and pattern[at] == "#":
            end = pattern.find("\n", at)
            at = len(pattern) if end < 0 else end
            continue
        found = _TOKEN.match(pattern, at)
        assert found is not None
        token, kind = found[0], found.lastgroup
        kind = "flags" if kind in ("on", "off", "close") else kind
        at = found.end()
        if kind == "fuzzy":
            raise _refusal("fuzzy match", found.start(), pattern)
        if kind == "repeat":
            token += _PROBE
        elif token == r"\X":
            token = f"(?:{token}{_PROBE})"
        elif token in (r"\b", r"\B", r"\m", r"\M"):
            token = _PROBE + token
        elif token in (r"\Z", r"\z"):
            token = _END
        elif token == "$":
            token = rf"(?=\n|{_END})" if multiline else rf"(?=\n?{_END})"
        elif kind == "open":
            # A conditional on a lookaround opens two groups.
            scopes += [scopes[-1]] * token.count("(") if not token.endswith(")") else [scopes[-1]]
        elif kind == "flags":
            on, off = found["on"] or "", found["off"] or ""
            scope = tuple((old or f in on) and f not in off for old, f in zip(scopes[-1], "xm"))
            if found["close"] == ":":
                scopes.append(scope)  # type: ignore[arg-type]
            else:
                scopes[-1] = scope  # type: ignore[assignment]
        elif token == ")":
            scopes.pop()
        out.append(token)
    return "".join(out)


def _set_end(pattern: str, start: int, nests: bool) -> int:
    """Where a set of characters ends."""
    opening = _SET_OPENING.match(pattern, start)
    assert opening is not None
    at = opening.end()
    while pattern[at] != "]":
        if nests and pattern[at] == "[" and not pattern.startswith("[:", at):
            at = _set_end(pattern, at, nests)
        else:
            found = _SET_MEMBER.match(pattern, at)
            assert found is not None
            at = found.end()
    return at + 1


def _refusal(feature: str, position: int | None, pattern: str) -> UnsupportedPattern:
    where = "" if position is None else f" at position {position}"
    message = f"regex_partial cannot tell whether a text may still be completed with the {feature}{where}"
    return UnsupportedPattern(f"{message} of {pattern!r}", feature, position or 0)


def regex_partial(pattern: str, flags: str = "", *, time_limit: float | None = 1.0) -> HostConstraint:
    r"""The texts that match a regular expression of the `regex` package from end to end, checked on the host.

    For what no automaton expresses: back-references, lookaround, atomic groups, conditionals, recursion.
    :func:`~sentax.ppl.constraints.regex.regex` runs on the device, where it applies.

    A text is accepted exactly where `regex.fullmatch` accepts it. One that can be completed is always
    alive. The converse does not hold everywhere: the matcher reads up to the text's end and does not reason
    about what lies ahead. So a contradiction is noticed when the text comes to it (`(?=a)b` dies at its
    first byte, not before), and what nothing completes may live on for ever (every text for `.*(?!)`,
    every text of a and b for `[ab]++b`). A text that ends inside a character is alive if it is with one of the
    characters that may become of it; beyond 4,096 of those, if it is without them.

    Each check matches the text from its beginning, in time proportional to its length at best.

    :param pattern: the expression.
    :param flags: any of `a`, `f`, `i`, `m`, `s`, `x`, as in the `regex` package. Inline flags work too.
    :param time_limit: seconds for one match; None for no limit.
    :raises ValueError: if the expression is invalid, with the position.
    :raises UnsupportedPattern: for fuzzy matching, and for the flags BESTMATCH, ENHANCEMATCH, LOCALE, POSIX,
        REVERSE and WORD.
    :raises PredicateError: where a text is checked, if that takes too long. Compiled programs raise it under
        :func:`~sentax.ppl.constraints.host.host_errors`.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints.regex_partial import regex_partial
        >>> twice = regex_partial(r"(\w+) \1")
        >>> twice.matches("tomtom tomtom"), twice.matches("tomtom tom")
        (True, False)
    """
    if not isinstance(pattern, str):
        raise TypeError(f"a regular expression is a str, not {type(pattern).__name__}")
    unknown = set(flags) - set(_LETTERS)
    if unknown:
        raise ValueError(f"flags of regex_partial are {', '.join(_LETTERS)}, not {''.join(sorted(unknown))!r}")
    if time_limit is not None and not time_limit > 0:
        raise ValueError(f"time_limit must be a positive number of seconds or None, not {time_limit!r}")
    return HostConstraint.of(RegexEngine(pattern, flags, time_limit))
