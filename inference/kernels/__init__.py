"""Token kernels: properly weighted draws at sites of finite support."""

from sentax.inference.kernels.arithmetic import ArithmeticSampling as ArithmeticSampling
from sentax.inference.kernels.awrs import AWRS as AWRS
from sentax.inference.kernels.base import Draw as Draw
from sentax.inference.kernels.base import Kernel as Kernel
from sentax.inference.kernels.estimators import (
    Estimator as Estimator,
)
from sentax.inference.kernels.estimators import (
    geometric as geometric,
)
from sentax.inference.kernels.estimators import (
    recursive as recursive,
)
from sentax.inference.kernels.estimators import (
    two_round as two_round,
)
from sentax.inference.kernels.locally_constrained import LocallyConstrained as LocallyConstrained
from sentax.inference.kernels.prior import Prior as Prior

__all__ = [
    "AWRS",
    "ArithmeticSampling",
    "Draw",
    "Estimator",
    "Kernel",
    "LocallyConstrained",
    "Prior",
    "geometric",
    "recursive",
    "two_round",
]
