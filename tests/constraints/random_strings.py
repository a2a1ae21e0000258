"""Random strings that a regular expression matches."""

from __future__ import annotations

import random
import re._constants as kinds
import re._parser as parser

_OTHERS = "aZ0-._/ é"


def matching(pattern: str, rng: random.Random) -> str:
    """A string that matches, in which repetitions are mostly short and sometimes long."""
    return _draw(parser.parse(pattern), rng)


def _draw(tree, rng: random.Random) -> str:
    out = ""
    for kind, argument in tree:
        if kind is kinds.LITERAL:
            out += chr(argument)
        elif kind is kinds.ANY:
            out += rng.choice(_OTHERS)
        elif kind is kinds.IN:
            out += rng.choice(_members(argument))
        elif kind is kinds.BRANCH:
            out += _draw(rng.choice(argument[1]), rng)
        elif kind is kinds.SUBPATTERN:
            out += _draw(argument[3], rng)
        elif kind is kinds.MAX_REPEAT:
            least, most, inner = argument
            count = least + rng.choice([0, 1, 2, 3, 70 if rng.random() < 0.1 else 0])
            out += "".join(_draw(inner, rng) for _ in range(min(count, most)))
        elif kind is not kinds.AT:
            raise NotImplementedError(kind)
    return out


def _members(parts) -> list[str]:
    chars: set[str] = set()
    for kind, argument in parts:
        if kind is kinds.LITERAL:
            chars.add(chr(argument))
        elif kind is kinds.RANGE:
            chars |= set(map(chr, range(argument[0], argument[1] + 1)))
    negated = parts[0][0] is kinds.NEGATE
    return [c for c in _OTHERS if c not in chars] if negated else sorted(chars)
