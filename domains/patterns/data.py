"""Regular expressions of the `regex` package, in genlm-eval's own layout, and some that ship."""

from __future__ import annotations

import csv
import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regex as regex_package

from sentax.domains.base import Instance, find_file, find_folder

_FILE = "patterns.csv"
_COLUMN = "regex"


@dataclass(frozen=True, kw_only=True)
class Pattern(Instance):
    """A regular expression in the syntax of the `regex` package, version 0.

    :param example: a string that it matches, or None if none is known.
    """

    pattern: str
    example: str | None = None


def read(directory: str | Path) -> list[Pattern]:
    """The patterns of genlm-eval (Lipkin et al. 2025): a CSV file `patterns.csv` with a column `regex`.

    No strings that match come with them.

    :param directory: the folder, or one that holds it as `patterns`.
    :raises FileNotFoundError: if there is no such file.
    :raises ValueError: if it has no such column, or `regex` does not compile one of its patterns.
    """
    file = find_file(find_folder(directory, "patterns"), _FILE)
    with file.open(newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        if _COLUMN not in (rows.fieldnames or ()):
            raise ValueError(f"{file} has no column {_COLUMN!r}, but {', '.join(rows.fieldnames or ())}")
        patterns = [row[_COLUMN] for row in rows]
    for number, pattern in enumerate(patterns):
        try:
            compiled(pattern)
        except regex_package.error as error:
            raise ValueError(f"{file}: pattern {number}, {pattern!r}, is invalid: {error}") from None
    return [Pattern(id=str(number), pattern=pattern) for number, pattern in enumerate(patterns)]


@functools.lru_cache(4096)
def compiled(pattern: str) -> Any:
    """As the package reads it.

    :raises regex.error: if it is invalid.
    """
    with warnings.catch_warnings():
        # The package warns of sets inside sets, which its version 0 reads as characters: as is meant.
        warnings.simplefilter("ignore", FutureWarning)
        return regex_package.compile(pattern)


# Regular ones, in forms that the embedded model writes, then what automata cannot do.
_SAMPLE = {
    "date": (r"(?:19|20)\d{2}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])", "2024-05-17"),
    "email": (r"[a-z]+\.[a-z]+@[a-z]+\.(?:com|org|net)", "ada.lovelace@example.org"),
    "london-phone": (r"\+44 20 7\d{3} \d{4}", "+44 20 7946 0018"),
    "clock": (r"^([01]\d|2[0-3]):[0-5]\d$", "09:30"),
    "name": (r"\p{Lu}\p{Ll}+ \p{Lu}\p{Ll}+(?:-\p{Lu}\p{Ll}+)?", "Marie Curie"),
    "colour": (r"#(?:[0-9a-f]{3}){1,2}", "#ff8800"),
    "link": (r"https?://(?:www\.)?[a-z]+\.(?:com|org)(?:/[a-z]+)*", "https://www.example.org/docs"),
    "weekday": (r"(?i)(?:mon|tues|wednes|thurs|fri|satur|sun)day", "Friday"),
    "one-separator": (r"\d{3}([-. ])\d{3}\1\d{4}", "212-555-0147"),
    "palindrome": (r"([a-z])([a-z])[a-z]\2\1", "level"),
    "same-city": (r"(?<city>\p{Lu}\p{Ll}+) to (?P=city)", "Paris to Paris"),
    "parentheses-or-not": (r"(\()?\d{3}(?(1)\)) \d{3}-\d{4}", "(212) 555-0147"),
    "if-plus": (r"(?(?=\+)\+\d{2} \d{3} \d{4}|\d{3}-\d{4})", "+39 555 0147"),
    "atomic": (r"(?>[a-z]+|[a-z]+\d)@(?>\d+)", "room@42"),
    "possessive": (r"[a-z]++(?:-[a-z]++)*+", "one-step-ahead"),
    "capital-and-digit": (r"(?=.*\d)(?=.*[A-Z])\w{6,12}", "Secret42"),
    "not-the-13th": (r"\d{4}-\d{2}-(?!13)\d{2}", "2024-05-17"),
    "no-backup": (r"\w+\.\w+(?<!\.bak)", "notes.txt"),
    "title": (r"\p{Lu}\p{Ll}{1,3}\.?(?<=Dr\.|Ms\.|Prof\.) \p{Lu}\p{Ll}+", "Dr. Lovelace"),
    "words": (r"\b[a-z]{2,}\b(?: \b[a-z]{2,}\b){1,3}", "in the garden"),
    "brackets": (r"(\((?:[a-z]|(?1))*\))", "(a(b)c)"),
    "sums": (r"(?(DEFINE)(?<sum>\d|\((?&sum)[-+*](?&sum)\)))(?&sum)", "(1+(2*3))"),
    "chase": (r"The (?|(cat)|(dog)) sees another \1\.", "The cat sees another cat."),
}


def sample() -> list[Pattern]:
    """Patterns written for sentax, each with a string that it matches."""
    return [Pattern(id=id, pattern=pattern, example=example) for id, (pattern, example) in _SAMPLE.items()]


__all__ = ["Pattern", "compiled", "read", "sample"]
