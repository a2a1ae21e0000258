"""What is to be said of many molecules together: how new they are, and how different."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from rdkit import DataStructs
from rdkit.Chem import rdFingerprintGenerator

from sentax.domains.molecules.chemistry import canonical, read

Answers = Collection[str] | Mapping[str, float]
"""SMILES, a space before them at most: each counts as often as it is there, or as its probability says."""

RADIUS, BITS = 2, 2048
"""Of the fingerprints: Morgan's of bonds up to two away, which are known as ECFP4."""


def novelty(answers: Answers, known: Iterable[str]) -> float:
    """The share of molecules that are not among those known, compared by canonical SMILES.

    Of the answers that are molecules, as they are weighted; 0 if none is.

    :param known: SMILES.
    :raises ValueError: if one of these is not a molecule.

    >>> novelty(["OCC", "CCCO"], known=["CCO"])
    0.5
    >>> novelty({" OCC": 0.75, " CCCO": 0.25}, known=["CCO"])
    0.25
    """
    old = set()
    for smiles in known:
        if (name := canonical(smiles)) is None:
            raise ValueError(f"novelty: {smiles!r}, of those known, is not a molecule")
        old.add(name)
    new = total = 0.0
    for smiles, weight in _weighted(answers):
        if (name := canonical(smiles)) is not None:
            total += weight
            new += weight * (name not in old)
    return new / total if total else 0.0


def diversity(answers: Answers) -> float:
    r"""How far two molecules lie apart, from 0 to 1: a mean of :math:`1 - T` over pairs.

    :math:`T` is Tanimoto's similarity of their Morgan fingerprints (:data:`RADIUS`, :data:`BITS`). Answers that
    are no molecules do not count.

    Of a list: the mean over its pairs, 0 if there is none. Of a posterior: the expected value for two
    independent draws, :math:`\sum_{ij} p_i p_j (1 - T_{ij})`, the internal diversity of Benhenda (2017,
    arXiv 1708.08227), which the former estimates without bias.

    >>> diversity(["CCO", "OCC"]), diversity(["CCO", "c1ccccc1"])
    (0.0, 1.0)
    >>> diversity({"CCO": 0.5, "c1ccccc1": 0.5})
    0.5
    """
    molecules, weights = [], []
    for smiles, weight in _weighted(answers):
        if (molecule := read(smiles)) is not None and weight > 0:
            molecules.append(molecule)
            weights.append(weight)
    if not molecules:
        return 0.0
    w = np.array(weights)
    pairs = np.outer(w, w)
    if not isinstance(answers, Mapping):
        np.fill_diagonal(pairs, 0.0)
    total = pairs.sum()
    return float((pairs * _distances(molecules)).sum() / total) if total else 0.0


def _weighted(answers: Answers) -> list[tuple[str, float]]:
    pairs = answers.items() if isinstance(answers, Mapping) else ((answer, 1.0) for answer in answers)
    return [(answer.removeprefix(" "), float(weight)) for answer, weight in pairs]


def _distances(molecules: list[Any]) -> Float[np.ndarray, "n n"]:
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    prints = [generator.GetFingerprint(molecule) for molecule in molecules]
    return 1.0 - np.array([DataStructs.BulkTanimotoSimilarity(one, prints) for one in prints])


__all__ = ["Answers", "diversity", "novelty"]
