"""Probabilistic programming with language models: a NumPyro extension.

Constrained generation as an ordinary NumPyro model whose sites are tokens and whose factors are
constraints; properly weighted posterior samples and an unbiased evidence from jitted JAX kernels.
"""

from sentax import testing
from sentax.inference.asap import ASAp
from sentax.inference.baselines import LCD, BaseSampling, BestOfN, SampleRerank, TwistedSMC
from sentax.inference.beams import BeamSearch, SMCSteering, StochasticBeam
from sentax.inference.budget import BudgetedSMC
from sentax.inference.calibration import calibrate
from sentax.inference.cars import CARS
from sentax.inference.checkpoint import CheckpointError
from sentax.inference.diffusion import LeftToRight, MostConfident, RandomOrder, denoise
from sentax.inference.divergences import divergences
from sentax.inference.errors import InvalidWeight, NoSurvivingParticles, UnsupportedProgram
from sentax.inference.expectations import InfeasibleExpectation, meet_expectation
from sentax.inference.kernels import (
    AWRS,
    ArithmeticSampling,
    Kernel,
    LocallyConstrained,
    Prior,
    geometric,
    recursive,
    two_round,
)
from sentax.inference.learning import (
    LearnedProposal,
    LearnedTwist,
    evidence_bounds,
    train_proposal,
    train_twist,
)
from sentax.inference.lineage_html import LineageExplorer
from sentax.inference.methods import METHODS
from sentax.inference.pareto import pareto_shape
from sentax.inference.particle_gibbs import ParticleGibbs
from sentax.inference.plots import plot_lineage, plot_trace, plot_weights
from sentax.inference.pmmh import PMMH
from sentax.inference.rejection import RejectionSampling
from sentax.inference.resampling import multinomial, residual, stratified, systematic
from sentax.inference.results import Results
from sentax.inference.smc import SMC
from sentax.inference.suffix_mh import SuffixMH
from sentax.inference.suffix_moves import SuffixMoves
from sentax.models import HostLM, ModelError, NGramLM, TableLM, load, make_mesh, mixture, product, ratio
from sentax.models.masked import MaskedConfig, MaskedLM
from sentax.ppl import (
    Constraint,
    PredicateError,
    RewardError,
    Template,
    Text,
    TokenDistribution,
    TooManyStates,
    UnsupportedPattern,
    UnsupportedSchema,
    choice,
    classifier_reward,
    compile_schema,
    constrain,
    cost,
    generate,
    json_schema,
    keywords,
    lark,
    length,
    literal,
    lm_ratio_reward,
    outlook,
    predicate,
    python_syntax,
    regex,
    regex_partial,
    repeat,
    reward,
    sequence,
    set_mask_memory_limit,
    substring_of,
    template,
    twist,
    unit,
    unit_test_reward,
)
from sentax.ppl.holes import (
    ContextFreeGrammar,
    GrammarSyntaxError,
    Hole,
    completable,
    completion_of,
    shortest_completion,
)
from sentax.ppl.holes.canvas import Canvas, Slots
from sentax.ppl.holes.unmasking import filling_of

__version__ = "0.1.0"

__all__ = [
    "AWRS",
    "CARS",
    "LCD",
    "METHODS",
    "PMMH",
    "SMC",
    "ASAp",
    "ArithmeticSampling",
    "BaseSampling",
    "BeamSearch",
    "BestOfN",
    "BudgetedSMC",
    "Canvas",
    "CheckpointError",
    "Constraint",
    "ContextFreeGrammar",
    "GrammarSyntaxError",
    "Hole",
    "HostLM",
    "InfeasibleExpectation",
    "InvalidWeight",
    "Kernel",
    "LearnedProposal",
    "LearnedTwist",
    "LeftToRight",
    "LineageExplorer",
    "LocallyConstrained",
    "MaskedConfig",
    "MaskedLM",
    "ModelError",
    "MostConfident",
    "NGramLM",
    "NoSurvivingParticles",
    "ParticleGibbs",
    "PredicateError",
    "Prior",
    "RandomOrder",
    "RejectionSampling",
    "Results",
    "RewardError",
    "SMCSteering",
    "SampleRerank",
    "Slots",
    "StochasticBeam",
    "SuffixMH",
    "SuffixMoves",
    "TableLM",
    "Template",
    "Text",
    "TokenDistribution",
    "TooManyStates",
    "TwistedSMC",
    "UnsupportedPattern",
    "UnsupportedProgram",
    "UnsupportedSchema",
    "calibrate",
    "choice",
    "classifier_reward",
    "compile_schema",
    "completable",
    "completion_of",
    "constrain",
    "cost",
    "denoise",
    "divergences",
    "evidence_bounds",
    "filling_of",
    "generate",
    "geometric",
    "json_schema",
    "keywords",
    "lark",
    "length",
    "literal",
    "lm_ratio_reward",
    "load",
    "make_mesh",
    "meet_expectation",
    "mixture",
    "multinomial",
    "outlook",
    "pareto_shape",
    "plot_lineage",
    "plot_trace",
    "plot_weights",
    "predicate",
    "product",
    "python_syntax",
    "ratio",
    "recursive",
    "regex",
    "regex_partial",
    "repeat",
    "residual",
    "reward",
    "sequence",
    "set_mask_memory_limit",
    "shortest_completion",
    "stratified",
    "substring_of",
    "systematic",
    "template",
    "testing",
    "train_proposal",
    "train_twist",
    "twist",
    "two_round",
    "unit",
    "unit_test_reward",
]
