"""The language: primitives, the token distribution, constraints. Imports nothing else of sentax."""

from sentax.ppl.constraints import (
    Constraint as Constraint,
)
from sentax.ppl.constraints import (
    PredicateError as PredicateError,
)
from sentax.ppl.constraints import (
    UnsupportedPattern as UnsupportedPattern,
)
from sentax.ppl.constraints import (
    choice as choice,
)
from sentax.ppl.constraints import (
    length as length,
)
from sentax.ppl.constraints import (
    literal as literal,
)
from sentax.ppl.constraints import (
    predicate as predicate,
)
from sentax.ppl.constraints import (
    regex as regex,
)
from sentax.ppl.language_model import (
    Context as Context,
)
from sentax.ppl.language_model import (
    LanguageModel as LanguageModel,
)
from sentax.ppl.language_model import (
    VocabularyLike as VocabularyLike,
)
from sentax.ppl.primitives import (
    constrain as constrain,
)
from sentax.ppl.primitives import (
    generate as generate,
)
from sentax.ppl.primitives import (
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
