"""Text that comes in pieces of bytes which may end inside a character."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import NamedTuple

_LENGTHS = ((0xC2, 0xE0, 2), (0xE0, 0xF0, 3), (0xF0, 0xF5, 4))


class Utf8Text(NamedTuple):
    """A text as far as it is known.

    :param whole: what is decoded; None where no continuation makes the bytes valid UTF-8.
    :param pending: the bytes of an unfinished last character.

    >>> Utf8Text().then(b"caf\\xc3")
    Utf8Text(whole='caf', pending=b'\\xc3')
    >>> Utf8Text().then(b"caf\\xc3").then(b"\\xa9s")
    Utf8Text(whole='cafés', pending=b'')
    >>> Utf8Text().then(b"caf\\xc3s").whole is None
    True
    """

    whole: str | None = ""
    pending: bytes = b""

    def then(self, piece: bytes) -> Utf8Text:
        """The text with a piece more. Where that completes no character, `whole` is the same object."""
        if self.whole is None:
            return self
        data = self.pending + piece
        if data.isascii():
            return Utf8Text(self.whole + data.decode("ascii") if data else self.whole, b"")
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            added = decoder.decode(data)
        except UnicodeDecodeError:
            return Utf8Text(None, b"")
        return Utf8Text(self.whole + added if added else self.whole, decoder.getstate()[0])

    def raw(self) -> bytes:
        """The bytes, as far as they are valid."""
        return (self.whole or "").encode() + self.pending


def characters(pending: bytes) -> range:
    """The code points whose UTF-8 begins with some bytes that do not make a character yet.

    Surrogates among them are no characters.

    >>> [hex(c) for c in (characters(b"\\xc3")[0], characters(b"\\xc3")[-1])]
    ['0xc0', '0xff']
    """
    lead = pending[0]
    length = next(n for low, high, n in _LENGTHS if low <= lead < high)
    value = lead & (0xFF >> (length + 1))
    for byte in pending[1:]:
        value = value << 6 | byte & 0x3F
    rest = 6 * (length - len(pending))
    least = {2: 0x80, 3: 0x800, 4: 0x10000}[length]
    return range(max(value << rest, least), min((value + 1) << rest, 0x110000))


def completions(text: Utf8Text) -> Iterator[str]:
    """The text with each character that may become of its pending bytes."""
    assert text.whole is not None
    for point in characters(text.pending):
        if not 0xD800 <= point < 0xE000:
            yield text.whole + chr(point)
