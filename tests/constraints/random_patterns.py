"""Seeded random regular expressions, and strings near their languages."""

from __future__ import annotations

import random

import regex as unicode_regex

from sentax.ppl.constraints import syntax

LETTERS = "abcABZz01 _-\n\t.éßÉσςΣſsKkıİ→日😀\x00"
_ESCAPES = [r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", ".", r"\n", r"\x41", r"\u00e9", r"\."]
_ESCAPES += [r"\101", r"\U0001F600", r"\N{LATIN SMALL LETTER E WITH ACUTE}", r"\t"]
_FOREIGN = [
    r"\p{Lu}", r"\p{Ll}", r"\P{L}", r"\pN", r"\p{Greek}", r"\p{^L}", "[[:alpha:]]", "[[:^digit:]z]",
    r"[\p{L}--]", r"[^\p{Ll}a-c]", r"[\w--\d]", r"[\p{L}&&\p{Greek}]",
]  # fmt: skip
_SPECIAL = set(r".^$*+?{}[]\|()-# ") | set("\n\t")


def _literal(rng: random.Random) -> str:
    char = rng.choice(LETTERS)
    return "\\" + char if char in _SPECIAL else char


def _member(rng: random.Random) -> str:
    if rng.random() < 0.3:
        low, high = sorted(rng.choices([c for c in LETTERS if c not in "\n\t-. \x00"], k=2))
        return f"{low}-{high}"
    return rng.choice(_ESCAPES[:6]) if rng.random() < 0.3 else _literal(rng)


def _atom(rng: random.Random, depth: int, foreign: bool) -> str:
    roll = rng.random()
    if foreign and roll < 0.3:
        return rng.choice(_FOREIGN)
    if roll < 0.45 or depth == 0:
        return _literal(rng)
    if roll < 0.6:
        return rng.choice(_ESCAPES)
    if roll < 0.75:
        return f"[{rng.choice(['', '^'])}{''.join(_member(rng) for _ in range(rng.randint(1, 4)))}]"
    openings = ["(", "(?:", "(?i:", "(?s:", "(?-i:", "(?#(?=)(?:"]
    # Names may repeat in the regex package, whose scoped flags have no `a`.
    openings += ["(?<n>", "(?|"] if foreign else ["(?a:", f"(?P<n{rng.getrandbits(60)}>", "(?x: "]
    return f"{rng.choice(openings)}{_alternatives(rng, depth - 1, foreign)})"


def _sequence(rng: random.Random, depth: int, foreign: bool) -> str:
    out = []
    for _ in range(rng.randint(0 if depth < 3 else 1, 4)):
        if rng.random() < 0.06:
            out.append(rng.choice(["^", "$", r"\A", r"\Z"]))
            continue
        repeat = rng.choices(
            ["", "*", "+", "?", "{2}", "{1,3}", "{2,}", "{,2}", "{0}"], [60, 8, 8, 8, 4, 4, 4, 3, 1]
        )[0]
        out.append(_atom(rng, depth, foreign) + repeat + ("?" if repeat and rng.random() < 0.3 else ""))
    return "".join(out)


def _alternatives(rng: random.Random, depth: int, foreign: bool) -> str:
    return "|".join(_sequence(rng, depth, foreign) for _ in range(rng.choices([1, 2, 3], [6, 3, 1])[0]))


def random_pattern(rng: random.Random, foreign: bool = False) -> tuple[str, str]:
    """A valid expression and its flags, within what automata express.

    :param foreign: in the syntax of the `regex` package, and not in that of `re`.
    """
    flags = "".join(f for f in ("isx" if foreign else "isxa") if rng.random() < 0.2)
    pattern = _alternatives(rng, 3, foreign)
    return (rng.choice(_FOREIGN[:6]) + "?" if foreign else "") + pattern, flags


def random_strings(rng: random.Random, pattern: str, flags: str, count: int) -> list[str]:
    """Strings, about half of which are grown from the pattern itself, then perhaps changed a little."""
    return [
        _mutate(rng, _sample(rng, pattern, flags)) if rng.random() < 0.7 else _noise(rng) for _ in range(count)
    ]


def _noise(rng: random.Random) -> str:
    return "".join(rng.choices(LETTERS, k=rng.randint(0, 6)))


def _mutate(rng: random.Random, text: str) -> str:
    if rng.random() < 0.3:
        text = rng.choice([text.upper(), text.lower(), text.swapcase(), text + "\n", text[:-1]])
    if rng.random() < 0.2:
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(LETTERS) + text[at + 1 :]
    return text


def _sample(rng: random.Random, pattern: str, flags: str) -> str:
    # The tree serves to come near the language; whether a string is in it is for the oracle to say.
    tree = syntax.parse(pattern, flags)
    grown = _grow(rng, tree.nodes, tree.sets)[:14]  # the oracle backtracks: longer ones may take it hours
    return "".join(c for c in grown if not 0xD800 <= ord(c) < 0xE000)  # not UTF-8


def _grow(rng: random.Random, nodes, sets: dict[int, str]) -> str:
    out = ""
    for op, value in nodes:
        match str(op):
            case "LITERAL" if value in sets:
                out += _member_of(rng, sets[value])
            case "LITERAL":
                out += chr(value)
            case "NOT_LITERAL" | "ANY":
                out += rng.choice(LETTERS)
            case "IN":
                kind, what = rng.choice(value)
                if str(value[0][0]) == "NEGATE" or str(kind) == "CATEGORY":
                    out += rng.choice(LETTERS)
                elif str(kind) == "LITERAL":
                    out += _member_of(rng, sets[what]) if what in sets else chr(what)
                else:
                    out += chr(rng.randint(*what))
            case "BRANCH":
                out += _grow(rng, rng.choice(value[1]), sets)
            case "SUBPATTERN":
                out += _grow(rng, value[3], sets)
            case "MAX_REPEAT" | "MIN_REPEAT":
                low, high, body = value
                for _ in range(rng.randint(low, min(int(high), low + 3))):
                    out += _grow(rng, body, sets)
    return out


def _member_of(rng: random.Random, source: str) -> str:
    members = unicode_regex.findall(source, LETTERS + "ABCxyz189αβγЖж٣ʰ_-[]{}^")
    return rng.choice(members or LETTERS)
