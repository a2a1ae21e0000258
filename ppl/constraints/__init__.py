"""Constraints: sets of byte strings, checked token by token inside compiled programs."""

from sentax.ppl.constraints.automaton import Automaton as Automaton
from sentax.ppl.constraints.base import PAD as PAD
from sentax.ppl.constraints.base import Constraint as Constraint
from sentax.ppl.constraints.combinators import Both as Both
from sentax.ppl.constraints.combinators import Either as Either
from sentax.ppl.constraints.combinators import Not as Not
from sentax.ppl.constraints.combinators import complement as complement
from sentax.ppl.constraints.combinators import intersection as intersection
from sentax.ppl.constraints.combinators import union as union
from sentax.ppl.constraints.dfa import TooManyStates as TooManyStates
from sentax.ppl.constraints.predicate import Predicate as Predicate
from sentax.ppl.constraints.predicate import host_errors as host_errors
from sentax.ppl.constraints.predicate import predicate as predicate
from sentax.ppl.constraints.regex import UnsupportedPattern as UnsupportedPattern
from sentax.ppl.constraints.regex import regex as regex
from sentax.ppl.constraints.strings import Length as Length
from sentax.ppl.constraints.strings import choice as choice
from sentax.ppl.constraints.strings import length as length
from sentax.ppl.constraints.strings import literal as literal
from sentax.ppl.constraints.trie import PredicateError as PredicateError
from sentax.ppl.constraints.trie import PredicateStats as PredicateStats

__all__ = [
    "PAD",
    "Automaton",
    "Both",
    "Constraint",
    "Either",
    "Length",
    "Not",
    "Predicate",
    "PredicateError",
    "PredicateStats",
    "TooManyStates",
    "UnsupportedPattern",
    "choice",
    "complement",
    "host_errors",
    "intersection",
    "length",
    "literal",
    "predicate",
    "regex",
    "union",
]
