"""The language: primitives, the token distribution, constraints. Imports nothing else of sentax."""

from sentax.ppl.constraints import (
    Constraint as Constraint,
    PredicateError as PredicateError,
    UnsupportedPattern as UnsupportedPattern,
    choice as choice,
    length as length,
    literal as literal,
    predicate as predicate,
    regex as regex,
)
from sentax.ppl.language_model import (
    Context as Context,
    LanguageModel as LanguageModel,
    VocabularyLike as VocabularyLike,
)
from sentax.ppl.primitives import (
    constrain as constrain,
    generate as generate,
    twist as twist,
)
from sentax.ppl.text import Text as Text
from sentax.ppl.token import TokenDistribution as TokenDistribution

__all__ = [
    "Constraint",
    "Context",
    "LanguageModel",
    "PredicateError",
    "Text",
    "TokenDistribution",
    "UnsupportedPattern",
    "VocabularyLike",
    "choice",
    "constrain",
    "generate",
    "length",
    "literal",
    "predicate",
    "regex",
    "twist",
]
