"""Probabilistic programming with language models: a NumPyro extension.

Constrained generation as an ordinary NumPyro model whose sites are tokens and whose factors are
constraints; properly weighted posterior samples and an unbiased evidence from jitted JAX kernels.
"""

from sentax import testing as testing
from sentax.inference.errors import (
    InvalidWeight as InvalidWeight,
)
from sentax.inference.errors import (
    NoSurvivingParticles as NoSurvivingParticles,
)
from sentax.inference.errors import (
    UnsupportedProgram as UnsupportedProgram,
)
from sentax.inference.kernels import (
    AWRS as AWRS,
)
from sentax.inference.kernels import (
    Kernel as Kernel,
)
from sentax.inference.kernels import (
    LocallyConstrained as LocallyConstrained,
)
from sentax.inference.kernels import (
    Prior as Prior,
)
from sentax.inference.kernels import (
    geometric as geometric,
)
from sentax.inference.kernels import (
    recursive as recursive,
)
from sentax.inference.kernels import (
    two_round as two_round,
)
from sentax.inference.resampling import (
    multinomial as multinomial,
)
from sentax.inference.resampling import (
    residual as residual,
)
from sentax.inference.resampling import (
    stratified as stratified,
)
from sentax.inference.resampling import (
    systematic as systematic,
)
from sentax.inference.smc import SMC as SMC
from sentax.models import (
    ModelError as ModelError,
)
from sentax.models import (
    TableLM as TableLM,
)
from sentax.models import (
    load as load,
)
from sentax.ppl import (
    Constraint as Constraint,
)
from sentax.ppl import (
    PredicateError as PredicateError,
)
from sentax.ppl import (
    Text as Text,
)
from sentax.ppl import (
    TokenDistribution as TokenDistribution,
)
from sentax.ppl import (
    UnsupportedPattern as UnsupportedPattern,
)
from sentax.ppl import (
    choice as choice,
)
from sentax.ppl import (
    constrain as constrain,
)
from sentax.ppl import (
    generate as generate,
)
from sentax.ppl import (
    length as length,
)
from sentax.ppl import (
    literal as literal,
)
from sentax.ppl import (
    predicate as predicate,
)
from sentax.ppl import (
    regex as regex,
)
from sentax.ppl import (
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
