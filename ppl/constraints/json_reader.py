"""Reads JSON as it is written, and tells of every value when it is closed.

The grammar engine has seen to it that the text is JSON; this follows its nesting, a few operations a byte, so
that a value can be checked at once instead of at the end of the text.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, NamedTuple, Protocol


class Site(Protocol):
    """A place in a document: what is asked of the value there.

    :param unique: whether an array's items must differ.
    :param most: the most properties an object may have, if that is not left to the grammar.
    """

    unique: bool
    most: int | None

    def holds(self, text: bytes) -> bool:
        """Whether a closed value is right."""
        ...

    def member(self, name: str) -> Site: ...

    def item(self, index: int) -> Site: ...


class _Frame(NamedTuple):
    """An object or array that is open.

    :param start: where it begins in the text.
    :param seen: its items, or names, where repetitions matter.
    """

    parent: _Frame | None
    is_object: bool
    start: int
    site: Site
    length: int = 0
    seen: frozenset[Any] = frozenset()


class Reading(NamedTuple):
    """How far a text has been read.

    :param start: where the token being read begins.
    :param lexeme: what kind of token that is.
    :param site: the place of the value that is being read or comes next.
    """

    frame: _Frame | None
    site: Site
    lexeme: int = 0
    start: int = 0
    in_key: bool = False


_NOTHING, _STRING, _ESCAPE, _SCALAR = range(4)
_QUOTE, _BACKSLASH, _COMMA, _OPEN_ARRAY, _CLOSE_ARRAY, _OPEN, _CLOSE = b'"\\,[]{}'
_IGNORED = frozenset(b": \n\r\t")
_STRING_STOP = re.compile(rb'["\\]')


def read(reading: Reading, text: bytes, begin: int) -> Reading | None:
    """Go on reading; `None` where a value that was closed is wrong.

    :param text: the whole text so far.
    :param begin: how much of it has been read before.
    """
    frame, site, lexeme, start, in_key = reading
    at, end = begin, len(text)
    while at < end:
        byte = text[at]
        if lexeme == _STRING:
            stop = _STRING_STOP.search(text, at)
            if stop is None:
                break
            at = stop.end()
            if text[at - 1] == _BACKSLASH:
                lexeme = _ESCAPE
                continue
            lexeme = _NOTHING
            if in_key:
                in_key = False
                assert frame is not None
                entered = _named(frame, text[start:at])
                if entered is None:
                    return None
                frame, site = entered
            elif (found := _closed(frame, site, text, start, at)) is None:
                return None
            else:
                frame = found[0]
            continue
        if lexeme == _ESCAPE:
            lexeme = _STRING
        elif lexeme == _SCALAR and (byte in b",]}" or byte in _IGNORED):
            lexeme = _NOTHING
            if (found := _closed(frame, site, text, start, at)) is None:
                return None
            frame = found[0]
            continue  # and now the byte itself
        elif byte == _QUOTE and lexeme == _NOTHING:
            lexeme, start = _STRING, at
        elif byte in (_OPEN, _OPEN_ARRAY):
            frame = _Frame(frame, byte == _OPEN, at, site)
            in_key = byte == _OPEN
            site = site if in_key else site.item(0)
        elif byte in (_CLOSE, _CLOSE_ARRAY):
            assert frame is not None
            in_key = False
            if (found := _closed(frame.parent, frame.site, text, frame.start, at + 1)) is None:
                return None
            frame = found[0]
        elif byte == _COMMA:
            assert frame is not None
            in_key = frame.is_object
            site = frame.site if in_key else frame.site.item(frame.length)
        elif lexeme == _NOTHING and byte not in _IGNORED:
            lexeme, start = _SCALAR, at
        at += 1
    return Reading(frame, site, lexeme, start, in_key)


def ends_well(reading: Reading, text: bytes) -> bool:
    """Whether the text, complete as the grammar says, ends with a right value."""
    if reading.lexeme != _SCALAR or reading.frame is not None:
        return True  # what ends in a bracket or quote has been checked there
    return reading.site.holds(text[reading.start :])


def _closed(frame: _Frame | None, site: Site, text: bytes, start: int, end: int) -> tuple[_Frame | None] | None:
    """The frame around a value that is closed, in a tuple; `None` if the value is wrong."""
    if not site.holds(text[start:end]):
        return None
    if frame is None or frame.is_object:
        return (frame,)
    if frame.site.unique:
        item = _comparable(parse(text[start:end]))
        if item in frame.seen:
            return None
        frame = frame._replace(seen=frame.seen | {item})
    return (frame._replace(length=frame.length + 1),)


def _named(frame: _Frame, key: bytes) -> tuple[_Frame, Site] | None:
    """After a name: the frame, and the place of its value."""
    name = json.loads(key)
    most = frame.site.most
    if most is not None:
        frame = frame._replace(seen=frame.seen | {name})
        if len(frame.seen) > most:
            return None
    return frame, frame.site.member(name)


def parse(text: bytes) -> Any:
    """A JSON value; integers of any length."""
    return json.loads(text, parse_int=_integer)


def _integer(digits: str) -> int:
    # Python refuses to read more than 4,300 digits at once, but not by way of a Decimal.
    return int(digits) if len(digits) < 4000 else int(Decimal(digits))


def _comparable(value: Any) -> Any:
    """Equal where two JSON values are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return "object", frozenset((k, _comparable(v)) for k, v in value.items())
    if isinstance(value, list):
        return "array", tuple(map(_comparable, value))
    return ("boolean" if isinstance(value, bool) else "scalar"), value
