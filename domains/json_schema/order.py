"""A value's text with its names in the order of a constraint, which allows one order for each value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from sentax.domains.json_schema.data import one_line
from sentax.jsonschema_bench import engine_of
from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.engine import Engine

_MAX_PIECES = 5_000


class _Written(NamedTuple):
    text: str
    state: Any


def in_order(constraint: Constraint, text: str) -> str | None:
    """A JSON text that a constraint accepts, of the same value up to the order of names.

    :param constraint: what :func:`~sentax.ppl.constraints.json_schema.json_schema` returns.
    :return: None if no order is accepted, as far as 5,000 pieces of text can tell.

    >>> from sentax.ppl.constraints import json_schema
    >>> pair = json_schema({"type": "object", "properties": {"x": {"const": 1}, "y": {"const": 2}}})
    >>> in_order(pair, '{"y": 2, "x": 1}')
    '{"x": 1, "y": 2}'
    """
    engine = engine_of(constraint)
    start = engine.start()
    if engine.complete(start, text.encode()):
        return text
    writer = _Writer(engine)
    for written in writer.value(json.loads(text), _Written("", start)):
        if engine.complete(written.state, b""):
            return written.text
    return None


class _Writer:
    """Writes a value piece by piece, in every order of names, as long as the engine lets the text live."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.pieces = 0

    def piece(self, before: _Written, piece: str) -> Iterator[_Written]:
        self.pieces += 1
        raw = piece.encode()
        if self.pieces <= _MAX_PIECES and self.engine.prefix(before.state, raw):
            yield _Written(before.text + piece, self.engine.extend(before.state, raw))

    def value(self, value: Any, before: _Written) -> Iterator[_Written]:
        if isinstance(value, dict):
            for opened in self.piece(before, "{"):
                yield from self.members(value, opened, "")
        elif isinstance(value, list):
            for opened in self.piece(before, "["):
                yield from self.items(value, 0, opened)
        else:
            yield from self.piece(before, one_line(value))

    def members(self, left: dict[str, Any], before: _Written, comma: str) -> Iterator[_Written]:
        if not left:
            yield from self.piece(before, "}")
        for name, value in left.items():
            rest = {other: left[other] for other in left if other != name}
            for named in self.piece(before, f"{comma}{one_line(name)}: "):
                for after in self.value(value, named):
                    yield from self.members(rest, after, ", ")

    def items(self, items: list[Any], index: int, before: _Written) -> Iterator[_Written]:
        if index == len(items):
            yield from self.piece(before, "]")
            return
        for begun in self.piece(before, ", ") if index else [before]:
            for after in self.value(items[index], begun):
                yield from self.items(items, index + 1, after)


__all__ = ["in_order"]
