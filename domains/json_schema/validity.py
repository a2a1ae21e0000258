"""Whether a text is JSON that satisfies a schema, as jsonschema-rs says of its value."""

from __future__ import annotations

import functools
import json
import math
from typing import Any

from sentax.ppl.constraints.json_schema import draft_of
from sentax.ppl.constraints.schema_draft import DRAFTS

MAX_CHARACTERS = 1 << 16
"""Longer texts are not read: Python needs quadratic time for the digits of one number."""


class InvalidAnswer(ValueError):
    """A text is not JSON, or is JSON that cannot be read as one value."""


def read_json(text: str) -> Any:
    """The value of a JSON text (RFC 8259), whitespace around it allowed.

    Of equal names in an object the last one counts, as for most readers.

    :raises InvalidAnswer: if it is not JSON (as `NaN` and `Infinity` are not), if a number exceeds what a
        double holds or an integer has more than 4,300 digits, if a string has half a surrogate pair, or if
        the text is longer than 65,536 characters or nested some thousand deep.

    >>> read_json(' {"a": 1, "a": 2} ')
    {'a': 2}
    """
    if len(text) > MAX_CHARACTERS:
        raise InvalidAnswer(f"the text has {len(text)} characters, more than {MAX_CHARACTERS}")
    try:
        value = json.loads(text, parse_float=_finite, parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no character
    except (ValueError, RecursionError) as error:
        raise InvalidAnswer(f"{text[:50]!r} is not JSON: {error}") from None
    return value


def is_valid(schema: str, text: str) -> bool:
    """Whether a text is JSON that satisfies a schema, formats included.

    :param schema: the schema's text.
    :raises ValueError: if that is no schema.

    >>> is_valid('{"type": "string", "format": "date"}', '"2024-02-30"')
    False
    """
    validator = _validator(schema)
    try:
        return bool(validator.is_valid(read_json(text)))
    except InvalidAnswer:
        return False


@functools.lru_cache(1024)
def _validator(schema: str) -> Any:
    import jsonschema_rs

    root = json.loads(schema)
    if isinstance(root, dict):
        # The constraint and the score must take a schema for one of the same draft.
        root = root | {"$schema": DRAFTS[draft_of(root)]}
    return jsonschema_rs.validator_for(root, validate_formats=True, offline=True)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"no double holds {digits[:50]}")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


__all__ = ["MAX_CHARACTERS", "InvalidAnswer", "is_valid", "read_json"]
