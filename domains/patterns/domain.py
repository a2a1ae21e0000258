"""Strings that match regular expressions."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import ClassVar

import regex as regex_package

from sentax.domains.base import Domain, Message
from sentax.domains.patterns.data import Pattern, compiled, read, sample
from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.regex import regex
from sentax.ppl.constraints.regex_partial import regex_partial

_SYSTEM = (
    "You are given regular expressions, in the syntax of Python's regex package. You answer each with one "
    "string that it matches from beginning to end. You write only the string, in one line, without quotes."
)
_HEADING = "Regular expressions, and for each a string that it matches from beginning to end.\n"
_SHOTS = (("(ab)+", "ab"), ("(ab|cd)+", "cd"), ("[a-z]+", "hello"))
_GLOBAL_FLAGS = re.compile(r"(?:\(\?[aimsx]+\))*")
_FOREIGN = r"\p{L}{0}"
_ANY_TEXT = "(?s:.*)"


class Patterns(Domain[Pattern]):
    r"""Regular expressions of genlm-eval as Lipkin et al. (2025, arXiv 2504.05410) use them.

    What a pattern means is what the `regex` package, version 0, makes of it. So `\d` and `\w` are Unicode's
    (`\w` holds combining marks), `.` is anything but a newline, `^` and `$` are the text's ends, sets have no
    operators (`[\w--\d]` is a set of characters, as in `re`), and flags are those that the pattern sets.

    :param time_limit: seconds that one match may take. A text that takes longer has score 0, and
        :meth:`dear` fails on it with an error that quotes it.

    >>> domain = Patterns()
    >>> task = domain.sample()[8]
    >>> print(task.pattern)
    \d{3}([-. ])\d{3}\1\d{4}
    >>> domain.score(task, "212-555-0147"), domain.score(task, "212-555.0147")
    (1.0, 0.0)
    >>> domain.dear(task).matches("212-555.0147")
    False
    >>> automaton(r"\d{4}-\d\d"), automaton(task.pattern)
    (regex('\\p{L}{0}(?:\\d{4}-\\d\\d)'), None)
    """

    name: ClassVar[str] = "patterns"
    max_tokens: ClassVar[int] = 100
    stop: ClassVar[str | None] = "\n"
    chat_stop: ClassVar[str | None] = "\n"

    def __init__(self, *, time_limit: float = 1.0) -> None:
        self.time_limit = time_limit

    def load(self, directory: str | Path) -> list[Pattern]:
        """The patterns of genlm-eval; see :func:`~sentax.domains.patterns.data.read` for the layout."""
        return read(directory)

    def sample(self) -> list[Pattern]:
        """Patterns with every feature of the package, many in forms that the embedded model knows."""
        return sample()

    def prompt(self, instance: Pattern) -> str:
        """Three examples, then the pattern. An answer follows the space after the colon."""
        lines = [
            line for pattern, string in _SHOTS for line in (f"Pattern: {pattern}", f"String: {string}", "")
        ]
        return "\n".join([_HEADING, *lines, f"Pattern: {instance.pattern}", "String: "])

    def chat(self, instance: Pattern) -> list[Message]:
        """An instruction, the three examples as turns, then the pattern."""
        messages = [{"role": "system", "content": _SYSTEM}]
        for pattern, string in _SHOTS:
            messages.append({"role": "user", "content": pattern})
            messages.append({"role": "assistant", "content": string})
        return [*messages, {"role": "user", "content": instance.pattern}]

    def cheap(self, instance: Pattern) -> Constraint:
        """The pattern as an automaton on the device; any text where :func:`automaton` knows none."""
        return automaton(instance.pattern) or regex(_ANY_TEXT)

    def dear(self, instance: Pattern) -> Constraint:
        """The package's own matcher: see :func:`~sentax.ppl.constraints.regex_partial.regex_partial`."""
        return regex_partial(instance.pattern, time_limit=self.time_limit)

    def score(self, instance: Pattern, answer: str) -> float:
        """1 if `regex.fullmatch` matches within the time limit, else 0."""
        try:
            found = compiled(instance.pattern).fullmatch(answer, timeout=self.time_limit)
        except (TimeoutError, MemoryError):  # the latter: an expression that calls itself before it reads
            return 0.0
        return float(found is not None)

    def gold(self, instance: Pattern) -> str | None:
        """The pattern's example, if it has one."""
        return instance.example


@functools.lru_cache(4096)
def automaton(pattern: str) -> Automaton | None:
    """The automaton of a pattern, as the `regex` package reads it; None where there is none.

    Of genlm-eval's patterns about a third have one. The others look around or back, count on the order of
    alternatives (atomic groups, possessive repeats), or call groups.
    """
    # What `re` accepts, the function `regex` would read as `re` does: with its own Unicode tables, and without
    # combining marks in \w. A set that only the package knows, repeated never, tells it otherwise.
    flags = _GLOBAL_FLAGS.match(pattern)
    assert flags is not None
    head, body = flags[0], pattern[flags.end() :]
    end = "\n" if compiled(pattern).flags & regex_package.VERBOSE else ""  # a comment would swallow the bracket
    try:
        return regex(f"{head}{_FOREIGN}(?:{body}{end})")
    except ValueError:  # a feature beyond automata, too many states, or nothing that matches
        return None


__all__ = ["Patterns", "automaton"]
