"""Probabilistic programming with language models: a NumPyro extension.

Constrained generation as an ordinary NumPyro model whose sites are tokens and whose factors are
constraints; properly weighted posterior samples and an unbiased evidence from jitted JAX kernels.
"""

from sentax import testing as testing
from sentax.inference.errors import (
    InvalidWeight as InvalidWeight,
    NoSurvivingParticles as NoSurvivingParticles,
    UnsupportedProgram as UnsupportedProgram,
)
from sentax.inference.kernels import (
    AWRS as AWRS,
    Kernel as Kernel,
    LocallyConstrained as LocallyConstrained,
    Prior as Prior,
    geometric as geometric,
    recursive as recursive,
    two_round as two_round,
)
from sentax.inference.resampling import (
    multinomial as multinomial,
    residual as residual,
    stratified as stratified,
    systematic as systematic,
)
from sentax.inference.smc import SMC as SMC
from sentax.models import (
    ModelError as ModelError,
    TableLM as TableLM,
    load as load,
)
from sentax.ppl import (
    Constraint as Constraint,
    PredicateError as PredicateError,
    Text as Text,
    TokenDistribution as TokenDistribution,
    UnsupportedPattern as UnsupportedPattern,
    choice as choice,
    constrain as constrain,
    generate as generate,
    length as length,
    literal as literal,
    predicate as predicate,
    regex as regex,
    twist as twist,
)

__version__ = "0.1.0"

__all__ = [
    "AWRS",
    "SMC",
    "Constraint",
    "InvalidWeight",
    "Kernel",
    "LocallyConstrained",
    "ModelError",
    "NoSurvivingParticles",
    "PredicateError",
    "Prior",
    "TableLM",
    "Text",
    "TokenDistribution",
    "UnsupportedPattern",
    "UnsupportedProgram",
    "choice",
    "constrain",
    "generate",
    "geometric",
    "length",
    "literal",
    "load",
    "multinomial",
    "predicate",
    "recursive",
    "regex",
    "residual",
    "stratified",
    "systematic",
    "testing",
    "twist",
    "two_round",
]
