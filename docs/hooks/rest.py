"""A Griffe extension: the reST of the docstrings as Markdown, which is what mkdocstrings renders.

Roles become links to the API pages, ``:math:`` and ``.. math::`` formulas, ``.. code-block::``, ``::`` and
doctests fenced code. A role that names nothing in `sentax` is a warning, and so an error of the strict build.
"""

from __future__ import annotations

import html
import importlib.util
import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import griffe

log = logging.getLogger("mkdocs.hooks.rest")

ROLE = re.compile(r":(class|func|meth|attr|data|mod|exc|math):`([^`]+)`")
FIELD = re.compile(r":(param|return|returns|raises|ivar|rtype|type)\b[^`:]*:(?!`)")
DIRECTIVE = re.compile(r"( *)\.\. (math|code-block)::(.*)")


class RestructuredText(griffe.Extension):
    """Rewrites every docstring of the package once all of it is loaded, so that names can be looked up."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if pkg.path != "sentax":
            return
        holders = list(_objects(pkg))
        places = defaultdict(set)
        for holder in holders:
            places[holder.name].add(holder.path)
        for holder in holders:
            if holder.docstring:
                holder.docstring.value = Rewriter(holder, places).markdown(holder.docstring.value)


def _objects(holder: Any) -> Iterator[Any]:
    yield holder
    for member in holder.members.values():
        if not member.is_alias:
            yield from _objects(member)


class Rewriter:
    """One object's docstring, with the names that can be seen from where it stands.

    :param places: the paths of all objects of the package, by their last name.
    """

    def __init__(self, holder: Any, places: Mapping[str, set[str]]) -> None:
        self.holder = holder
        self.places = places
        # Fields of a named tuple are documented as parameters, but Griffe sees no `__init__` there.
        self.is_record = holder.is_class and not len(holder.parameters)

    def markdown(self, text: str) -> str:
        """The docstring in Markdown but for its fields, which Griffe reads; what stands after them goes before.

        Griffe takes all that follows a field for its continuation.
        """
        prose: list[str] = []
        fields: list[str] = []
        target = prose
        for line in "\n".join(self._blocks(text.split("\n"))).split("\n"):
            if FIELD.match(line):
                target = fields
            elif target is fields and line and not line.startswith(" "):
                target = prose
                prose.append("")
            target += self._fields(line) if FIELD.match(line) else [line]
        return "\n".join([*prose, "", *fields]).strip("\n")

    def _fields(self, line: str) -> list[str]:
        """One field for each name of `:param a, b: ...` and `:raises A, B: ...`."""
        kind, _, rest = line[1:].partition(" ")
        if kind not in ("param", "raises"):
            return [line]
        if kind == "param" and self.is_record:
            kind = "ivar"
        names, _, text = rest.partition(":")
        return [f":{kind} {name.strip()}:{text}" for name in names.split(",")]

    def _blocks(self, lines: list[str]) -> Iterator[str]:
        """Paragraph by paragraph: code and formulas first, since roles inside of code are none."""
        at = 0
        while at < len(lines):
            line = lines[at]
            indent = len(line) - len(line.lstrip())
            directive = DIRECTIVE.fullmatch(line)
            if directive:
                end = _end_of_block(lines, at + 1, indent)
                body = (
                    [directive[3].strip(), *lines[at + 1 : end]]
                    if directive[2] == "math"
                    else lines[at + 1 : end]
                )
                fence = ("$$", "$$") if directive[2] == "math" else (f"```{directive[3].strip()}", "```")
                body = _dedent(body)
                if directive[2] == "math":
                    body = [_display(" ".join(part.strip() for part in body if part.strip()))]
                yield from _fenced(body, fence, indent)
                at = end
            elif line.lstrip().startswith(">>> "):
                end = _end_of_doctest(lines, at)
                # At the margin: after fields it would be taken for a part of the last one.
                yield from _fenced(_dedent(lines[at:end]), ("```pycon", "```"), 0)
                at = end
            elif line.endswith("::"):
                end = _end_of_block(lines, at + 1, indent)
                yield from self._prose([line[:-1]])
                yield from _fenced(_dedent(lines[at + 1 : end]), ("```python", "```"), indent)
                at = end
            else:
                end = at + 1
                while end < len(lines) and not _begins_block(lines[end]):
                    end += 1
                yield from self._prose(lines[at:end])
                at = end

    def _prose(self, lines: list[str]) -> Iterator[str]:
        # A role may run over the end of a line.
        yield from ROLE.sub(self._role, "\n".join(lines)).split("\n")

    def _role(self, match: re.Match[str]) -> str:
        role, text = match[1], re.sub(r"\s+", " ", match[2])
        if role == "math":
            return rf"\({text}\)"
        name = text.lstrip("~!")
        label = name.rpartition(".")[2] if text.startswith("~") else name.lstrip(".")
        code = f"<code>{html.escape(label)}{'()' if role in ('func', 'meth') else ''}</code>"
        path = self._find(name)
        if path is None:
            return code
        return f'<autoref identifier="{path}" optional>{code}</autoref>'

    def _find(self, name: str) -> str | None:
        """The canonical path of a name in `sentax`, or None for one of another library."""
        name = name.lstrip(".")
        first, _, rest = name.partition(".")
        scope: Any = self.holder
        while scope is not None:
            if first in scope.all_members:
                found = _member(scope, name)
                if found is not None:
                    return found
            scope = scope.parent
        if first == "sentax":
            found = _member(self.holder.package, rest) if rest else "sentax"
            if found is not None:
                return found
        elif importlib.util.find_spec(first) is not None:
            return None
        # Seen from elsewhere in the package, if only one thing can be meant.
        elsewhere = [path for path in self.places[name.rpartition(".")[2]] if path.endswith(f".{name}")]
        if len(elsewhere) == 1:
            return elsewhere[0]
        # Griffe does not see the names of `A, B = range(2)`.
        if re.search(rf"^[\w, ]*\b{re.escape(name)}\b[\w, ]* = ", self.holder.module.source, re.MULTILINE):
            return None
        log.warning("%s: nothing is called %r here", self.holder.path, name)
        return None


def _member(scope: Any, name: str) -> str | None:
    """The canonical path of `scope.name`, of another library too; None if there is none of that name."""
    for part in name.split("."):
        if part not in scope.all_members:
            return None
        scope = scope.all_members[part]
        try:
            scope = scope.final_target if scope.is_alias else scope
        except griffe.AliasResolutionError:  # an import from another library
            return str(scope.target_path)
    return str(scope.path)


def _display(formula: str) -> str:
    """Several aligned lines are allowed in `.. math::`, as in Sphinx."""
    return (
        rf"\begin{{aligned}}{formula}\end{{aligned}}"
        if r"\\" in formula and r"\begin" not in formula
        else formula
    )


def _fenced(body: list[str], fence: tuple[str, str], indent: int) -> list[str]:
    while body and not body[0].strip():
        body = body[1:]
    while body and not body[-1].strip():
        body = body[:-1]
    lines = ["", fence[0], *body, fence[1], ""]
    return [" " * indent + line if line else line for line in lines]


def _dedent(lines: list[str]) -> list[str]:
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return [line[margin:] if line.strip() else "" for line in lines]


def _begins_block(line: str) -> bool:
    return bool(line.lstrip().startswith(">>> ") or line.endswith("::") or DIRECTIVE.fullmatch(line))


def _end_of_block(lines: list[str], at: int, indent: int) -> int:
    """The first line that is not empty and not indented more than the directive."""
    while at < len(lines) and (not lines[at].strip() or len(lines[at]) - len(lines[at].lstrip()) > indent):
        at += 1
    return at


def _end_of_doctest(lines: list[str], at: int) -> int:
    """Examples that follow each other after empty lines are one."""
    while at < len(lines) and (lines[at].strip() or _next_is_doctest(lines, at)):
        at += 1
    return at


def _next_is_doctest(lines: list[str], at: int) -> bool:
    return at + 1 < len(lines) and lines[at + 1].lstrip().startswith(">>> ")
