r"""Python source, checked as it grows by the compiler of the Python that runs.

A prefix is asked about with a backslash and a newline behind its last whole token, and nothing after them. The
compiler can be told (as the interactive prompt does) to report an error at the source's end as "incomplete
input"; a line that is continued by nothing is such an end wherever it stands. The parser reads a token
only when some alternative asks for it. So if it fails without having come to the end, no continuation could
save the text; if it came to the end, all tokens before fit.
"""

from __future__ import annotations

import ast
import enum
import keyword
import sys
import token
import warnings
from typing import NamedTuple

from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.host import HostConstraint
from sentax.ppl.constraints.python_lines import Scan, Token, indentation, scan
from sentax.ppl.constraints.utf8_text import Utf8Text, characters

_ALLOW_INCOMPLETE_INPUT = 0x4000  # PyCF_ALLOW_INCOMPLETE_INPUT
_DONT_IMPLY_DEDENT = 0x200  # PyCF_DONT_IMPLY_DEDENT
_UNFINISHED = ast.PyCF_ONLY_AST | _ALLOW_INCOMPLETE_INPUT | _DONT_IMPLY_DEDENT
_OPEN_END = " \\\n"
_KEYWORDS = (*keyword.kwlist, *keyword.softkwlist)
_CONTINUING = frozenset({"elif", "else", "except", "finally"})
_STRING_PREFIXES = ["b", "br", "f", "fr", "r", "rb", "rf", "u"]
_STRING_PREFIXES += ["t", "tr", "rt"] if sys.version_info >= (3, 14) else []


class Mode(enum.Enum):
    """What a text is."""

    EXEC = "exec"
    EVAL = "eval"


class _Line(NamedTuple):
    """A logical line that is complete.

    :param column: of its indentation.
    :param first: its first name, or `@`.
    """

    column: int
    first: str
    text: str


class Source(NamedTuple):
    """What is kept of a text.

    :param lines: the logical lines on which what follows depends: the headers of the blocks that are open,
        and in each the last statement.
    :param last: the last logical line, as far as it goes, with any space and comments above it.
    :param tail: bytes of an unfinished character; `tail.whole` is None for a text that nothing completes.
    :param ending: the text's last two characters as they came; here newlines are newlines.
    """

    lines: tuple[_Line, ...] = ()
    last: str = ""
    tail: Utf8Text = Utf8Text()
    ending: str = ""

    @property
    def dead(self) -> bool:
        return self.tail.whole is None


_DEAD = Source(tail=Utf8Text(None))


class PythonEngine(Engine):
    """The engine of :func:`python_syntax`."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        # The flags are CPython's own affair: rather no answer than a wrong one.
        answers = [self._compiles(text + _OPEN_END, _UNFINISHED) for text in ("(x", "(x +", "(x + +", "(x + )")]
        if answers != [None, None, None, False]:
            raise NotImplementedError(f"python_syntax does not know the compiler of Python {sys.version}")

    def __repr__(self) -> str:
        return f"python_syntax({self.mode.value!r})"

    def __reduce__(self) -> tuple:
        return type(self), (self.mode,)

    def start(self) -> Source:
        return Source()

    def extend(self, session: Source, piece: bytes) -> Source:
        return self._read(session, piece)[0]

    def prefix(self, session: Source, piece: bytes) -> bool:
        source, line = self._read(session, piece)
        if source.dead or line is None:
            return False
        if source.tail.pending and not _takes_letters(line, source.tail.pending):
            return False
        return self._is_open(source, line)

    def complete(self, session: Source, piece: bytes) -> bool:
        source, _ = self._read(session, piece)
        if source.dead or source.tail.pending:
            return False
        text = _joined(source.lines) + source.last
        if source.ending == "\r\n":
            # To CPython this end is not quite the same as a newline.
            text = text.removesuffix("\n") + source.ending
        return self._compiles(text, ast.PyCF_ONLY_AST) is True

    def _read(self, source: Source, piece: bytes) -> tuple[Source, Scan | None]:
        """The source with a piece more, and its last logical line."""
        tail = source.tail.then(piece)
        if tail.whole is None:
            return _DEAD, None
        added, tail = tail.whole, Utf8Text("", tail.pending)
        ending = (source.ending + added)[-2:]
        if source.ending.endswith("\r"):
            added = added.removeprefix("\n")
        added = added.replace("\r\n", "\n").replace("\r", "\n")
        lines, last = source.lines, source.last + added
        while True:
            line = scan(last)
            if line is None:
                return _DEAD, None
            if line.end is None:
                return Source(lines, last, tail, ending), line
            if not line.blank:
                text = last[: line.end]
                if self._compiles(_joined(lines) + text, _UNFINISHED) is False:
                    return _DEAD, None
                if self.mode is Mode.EXEC:
                    lines = _settled(lines, _Line(*indentation(text), text))
                else:
                    lines = (*lines, _Line(0, "", text))
            last = last[line.end :]

    def _is_open(self, source: Source, line: Scan) -> bool:
        """Whether what follows the last complete line may become a line that fits."""
        tokens = line.tokens
        if line.blank:
            return True
        before = _joined(source.lines)
        if tokens[-1].kind == "comment":
            return self._compiles(f"{before}{source.last}\n", _UNFINISHED) is not False
        if tokens[-1].kind in ("space", "newline") or tokens[-1].text == "\\":
            finished, endings = source.last.removesuffix("\\"), [""]
        else:
            finished = source.last[: len(source.last) - len(tokens[-1].text)]
            endings = _endings(tokens[-1])
        if not self._strings_fit(tokens):
            return False
        return any(self._compiles(before + finished + e + _OPEN_END, _UNFINISHED) is not False for e in endings)

    def _strings_fit(self, tokens: list[Token]) -> bool:
        """Whether the strings that end the line are right: the parser looks into them at the next token."""
        strings: list[str] = []
        for t in reversed(tokens):
            if t.kind == "string" and t.closed:
                strings.append(t.text)
            elif t.kind not in ("space", "newline", "comment"):
                break
        return not strings or self._compiles(f"({' '.join(reversed(strings))})", ast.PyCF_ONLY_AST) is True

    def _compiles(self, text: str, flags: int) -> bool | None:
        """Whether the compiler takes a text; None if all that it misses is what follows."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(text, "<text>", self.mode.value, flags)
        except SyntaxError as error:
            return None if flags == _UNFINISHED and error.msg == "incomplete input" else False
        except (ValueError, RecursionError, MemoryError, OverflowError):
            return False  # a null byte, or too deep for the compiler
        return True


def _joined(lines: tuple[_Line, ...]) -> str:
    return "".join(line.text for line in lines)


def _settled(lines: tuple[_Line, ...], line: _Line) -> tuple[_Line, ...]:
    """The lines on which what follows depends, once a line is complete.

    The statements of a block do not depend on each other, so a statement that begins replaces those before
    it in its block, all but its own decorators.
    """
    if line.first in _CONTINUING:
        return (*lines, line)
    start = len(lines)
    while start and lines[start - 1].first == "@" and lines[start - 1].column == line.column:
        start -= 1
    decorators = lines[start:]
    while start and lines[start - 1].column >= line.column:
        start -= 1
    return (*lines[:start], *decorators, line)


def _endings(last: Token) -> list[str]:
    """What a token that may not be finished can become, as far as the grammar tells tokens apart."""
    text = last.text
    if last.kind == "name":
        words = [text + "_", text, *(k for k in _KEYWORDS if k.startswith(text) and k != text)]
        prefixes = [text + p[len(text) :] for p in _STRING_PREFIXES if p.startswith(text.lower())]
        return words + [p + '""' for p in prefixes]
    if last.kind == "number":
        return [text, text + "0", text + ".0", text + "lse"]
    if last.kind == "string" and not last.closed:
        prefix = text[: min(text.find(q) for q in "'\"" if q in text)]
        bytes_only = "b" in prefix.lower()
        return [] if bytes_only and not text.isascii() else [prefix + '""']
    if last.kind == "operator":
        operators = [o for o in token.EXACT_TOKEN_TYPES if o.startswith(text) and o != text]
        return [text, *operators, *([".5"] if text == "." else [])]
    return [text]


def _takes_letters(line: Scan, pending: bytes) -> bool:
    """Whether a character that begins with these bytes may come next."""
    if line.tokens and (line.tokens[-1].kind == "comment" or not line.tokens[-1].closed):
        return True
    before = "a" if line.tokens and line.tokens[-1].kind == "name" else ""
    return any((before + chr(point)).isidentifier() for point in characters(pending))


def python_syntax(mode: str = "exec") -> HostConstraint:
    """The texts that Python parses, as :func:`ast.parse` does, checked on the host as they grow.

    A text is accepted exactly where `ast.parse(text, mode=mode)` succeeds. A text that can be completed is
    always alive. One that cannot is given up at its first token that does not fit, but for what stands
    inside a string: the fields of an f-string and escapes like `\\x` are looked at when the string ends.
    What the compiler finds only after parsing (`return` outside a function) is not asked.

    A check parses the statement that is being written, the headers of the blocks around it, and one
    statement of each block: not the text from its start. Sources with carriage returns are read as Python
    reads them. The grammar is that of the Python that runs.

    :param mode: `"exec"` for a module, `"eval"` for one expression.
    :raises ValueError: if the mode is neither.
    :raises NotImplementedError: if this Python's compiler does not tell incomplete from wrong.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints.python_syntax import python_syntax
        >>> module = python_syntax()
        >>> module.matches("def f(x):\\n    return [x"), module.matches("def f(x):\\n    return [x]")
        (False, True)
        >>> python_syntax("eval").matches("x + 1")
        True
    """
    modes = [m.value for m in Mode]
    if mode not in modes:
        raise ValueError(f"mode must be one of {modes}, not {mode!r}")
    return HostConstraint.of(PythonEngine(Mode(mode)))
