"""Probabilistic programming with language models: a NumPyro extension.

Constrained generation as an ordinary NumPyro model whose sites are tokens and whose factors are
constraints; properly weighted posterior samples and an unbiased evidence from jitted JAX kernels.
"""

from sentax import testing
from sentax.inference.errors import InvalidWeight, NoSurvivingParticles, UnsupportedProgram
from sentax.inference.kernels import AWRS, Kernel, LocallyConstrained, Prior, geometric, recursive, two_round
from sentax.inference.resampling import multinomial, residual, stratified, systematic
from sentax.inference.smc import SMC
from sentax.models import HostLM, ModelError, NGramLM, TableLM, load, make_mesh, mixture, product, ratio
from sentax.ppl import (
    Constraint,
    PredicateError,
    Text,
    TokenDistribution,
    TooManyStates,
    UnsupportedPattern,
    UnsupportedSchema,
    choice,
    compile_schema,
    constrain,
    generate,
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
    twist,
)

__version__ = "0.1.0"

__all__ = [
    "AWRS",
    "SMC",
    "Constraint",
    "HostLM",
    "InvalidWeight",
    "Kernel",
    "LocallyConstrained",
    "ModelError",
    "NGramLM",
    "NoSurvivingParticles",
    "PredicateError",
    "Prior",
    "TableLM",
    "Text",
    "TokenDistribution",
    "TooManyStates",
    "UnsupportedPattern",
    "UnsupportedProgram",
    "UnsupportedSchema",
    "choice",
    "compile_schema",
    "constrain",
    "generate",
    "geometric",
    "json_schema",
    "keywords",
    "lark",
    "length",
    "literal",
    "load",
    "make_mesh",
    "mixture",
    "multinomial",
    "predicate",
    "product",
    "python_syntax",
    "ratio",
    "recursive",
    "regex",
    "regex_partial",
    "repeat",
    "residual",
    "sequence",
    "set_mask_memory_limit",
    "stratified",
    "substring_of",
    "systematic",
    "testing",
    "twist",
    "two_round",
]
