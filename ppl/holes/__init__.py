"""Texts with holes and context-free grammars: what can still be completed, and with what."""

from sentax.ppl.holes.completable import completable, shortest_completion
from sentax.ppl.holes.completion import completion_of
from sentax.ppl.holes.grammar import ContextFreeGrammar
from sentax.ppl.holes.notation import GrammarSyntaxError
from sentax.ppl.holes.paths import Hole

__all__ = [
    "ContextFreeGrammar",
    "GrammarSyntaxError",
    "Hole",
    "completable",
    "completion_of",
    "shortest_completion",
]
