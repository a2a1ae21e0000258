"""Learning to sample: twists, proposals, and how much they help."""

from sentax.inference.learning.bounds import (
    EvidenceBounds,
    SamplerDivergences,
    evidence_bounds,
    sampler_divergences,
)
from sentax.inference.learning.contrastive import train_twist
from sentax.inference.learning.heads import LearnedProposal, LearnedTwist
from sentax.inference.learning.policy_gradient import (
    forward_kl,
    jensen_shannon,
    reverse_kl,
    total_variation,
    train_proposal,
)
from sentax.inference.learning.training import Training

__all__ = [
    "EvidenceBounds",
    "LearnedProposal",
    "LearnedTwist",
    "SamplerDivergences",
    "Training",
    "evidence_bounds",
    "forward_kl",
    "jensen_shannon",
    "reverse_kl",
    "sampler_divergences",
    "total_variation",
    "train_proposal",
    "train_twist",
]
