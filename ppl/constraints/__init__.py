"""Constraints: sets of byte strings, checked token by token inside compiled programs."""

from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.base import PAD, Constraint
from sentax.ppl.constraints.combinators import Both, Either, Not, complement, intersection, union
from sentax.ppl.constraints.dfa import TooManyStates
from sentax.ppl.constraints.engine import Engine
from sentax.ppl.constraints.grammar import lark
from sentax.ppl.constraints.guidance import GrammarError, GuidanceError
from sentax.ppl.constraints.host import HostConstraint, host_errors
from sentax.ppl.constraints.json_schema import CompiledSchema, compile_schema, json_schema
from sentax.ppl.constraints.keywords import keywords
from sentax.ppl.constraints.masks import Masker, NoMask, set_mask_memory_limit
from sentax.ppl.constraints.predicate import Predicate, predicate
from sentax.ppl.constraints.python_syntax import python_syntax
from sentax.ppl.constraints.regex import UnsupportedPattern, regex
from sentax.ppl.constraints.regex_partial import regex_partial
from sentax.ppl.constraints.schema_errors import UnsupportedSchema
from sentax.ppl.constraints.sequences import repeat, sequence
from sentax.ppl.constraints.strings import Length, choice, length, literal
from sentax.ppl.constraints.substrings import substring_of
from sentax.ppl.constraints.trie import HostStats, PredicateError

__all__ = [
    "PAD",
    "Automaton",
    "Both",
    "CompiledSchema",
    "Constraint",
    "Either",
    "Engine",
    "GrammarError",
    "GuidanceError",
    "HostConstraint",
    "HostStats",
    "Length",
    "Masker",
    "NoMask",
    "Not",
    "Predicate",
    "PredicateError",
    "TooManyStates",
    "UnsupportedPattern",
    "UnsupportedSchema",
    "choice",
    "compile_schema",
    "complement",
    "host_errors",
    "intersection",
    "json_schema",
    "keywords",
    "lark",
    "length",
    "literal",
    "predicate",
    "python_syntax",
    "regex",
    "regex_partial",
    "repeat",
    "sequence",
    "set_mask_memory_limit",
    "substring_of",
    "union",
]
