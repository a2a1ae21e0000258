"""The language: primitives, the token distribution, constraints. Imports nothing else of sentax."""

from sentax.ppl.constraints import (
    Constraint,
    PredicateError,
    TooManyStates,
    UnsupportedPattern,
    UnsupportedSchema,
    choice,
    compile_schema,
    json_schema,
    keywords,
    lark,
    length,
    literal,
    predicate,
    python_syntax,
    regex,
    regex_partial,
    repeat,
    sequence,
    set_mask_memory_limit,
    substring_of,
)
from sentax.ppl.language_model import Context, LanguageModel, VocabularyLike
from sentax.ppl.primitives import constrain, generate, twist
from sentax.ppl.text import Text
from sentax.ppl.token import TokenDistribution

__all__ = [
    "Constraint",
    "Context",
    "LanguageModel",
    "PredicateError",
    "Text",
    "TokenDistribution",
    "TooManyStates",
    "UnsupportedPattern",
    "UnsupportedSchema",
    "VocabularyLike",
    "choice",
    "compile_schema",
    "constrain",
    "generate",
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
    "twist",
]
