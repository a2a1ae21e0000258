"""What RDKit says of one molecule."""

from __future__ import annotations

from typing import Any, NamedTuple

from sentax.domains.molecules.valence import LONGEST

try:
    from rdkit import Chem, rdBase
    from rdkit.Chem import QED, Crippen, Descriptors, rdMolDescriptors
except ImportError as missing:  # pragma: no cover - exercised without the extra
    raise ImportError("molecules are scored with RDKit: pip install 'sentax[molecules]'") from missing


class Lipinski(NamedTuple):
    """What the rule of five looks at (Lipinski et al. 1997, "Experimental and computational approaches ...").

    :param weight: daltons, of the natural mixture of isotopes.
    :param logp: the octanol-water partition coefficient's logarithm, by Crippen's contributions of atoms.
    :param donors: hydrogens on nitrogen and oxygen.
    :param acceptors: nitrogens and oxygens.
    """

    weight: float
    logp: float
    donors: int
    acceptors: int

    @property
    def violations(self) -> int:
        """How many of the four limits are passed: 500, 5, 5 and 10. An oral drug passes one at most."""
        return (self.weight > 500) + (self.logp > 5) + (self.donors > 5) + (self.acceptors > 10)


def read(smiles: str) -> Any:
    """The molecule of a SMILES, as RDKit's `Mol`; None if it is not one. Never raises for a `str`.

    RDKit reads a SMILES up to a space or the end of a line, and skips bytes that it does not know; here all of
    the text counts. Not molecules are: a text without atoms, one with wildcards, a reaction, and a text of
    more than :data:`LONGEST` characters.
    """
    if len(smiles) > LONGEST or not all("!" <= character <= "~" for character in smiles):
        return None
    options = Chem.SmilesParserParams()
    options.allowCXSMILES = False  # type: ignore[assignment]  # the stubs are wrong
    options.parseName = False  # type: ignore[assignment]
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles, options)
    if molecule is None or not molecule.GetNumAtoms():
        return None
    if any(atom.GetAtomicNum() == 0 for atom in molecule.GetAtoms()):
        return None
    return molecule


def canonical(smiles: str) -> str | None:
    """The one SMILES of all those that a molecule has, by RDKit's rules; None if it is not a molecule.

    >>> canonical("OCC"), canonical("C(C)O"), canonical("C(C")
    ('CCO', 'CCO', None)
    """
    molecule = read(smiles)
    return None if molecule is None else Chem.MolToSmiles(molecule)


def qed(smiles: str) -> float:
    """How much like a drug a molecule is, from 0 to 1; 0 if it is not a molecule.

    RDKit's QED with its mean weights (Bickerton et al. 2012, "Quantifying the chemical beauty of drugs"): the
    geometric mean of how common eight properties are among drugs. It is above 0 for all molecules, and below 1.

    >>> round(qed("CC(=O)Oc1ccccc1C(=O)O"), 4), qed("CC(=O)Oc1ccccc1C(=O")
    (0.5501, 0.0)
    """
    molecule = read(smiles)
    if molecule is None:
        return 0.0
    with rdBase.BlockLogs():
        return float(QED.qed(molecule))


def lipinski(smiles: str) -> Lipinski | None:
    """The descriptors of the rule of five; None if it is not a molecule.

    >>> aspirin = lipinski("CC(=O)Oc1ccccc1C(=O)O")
    >>> round(aspirin.weight, 2), round(aspirin.logp, 2), aspirin.donors, aspirin.acceptors, aspirin.violations
    (180.16, 1.31, 1, 4, 0)
    """
    molecule = read(smiles)
    if molecule is None:
        return None
    return Lipinski(
        # RDKit's stubs do not know what these modules make when they are imported.
        float(Descriptors.MolWt(molecule)),  # type: ignore[attr-defined]
        float(Crippen.MolLogP(molecule)),  # type: ignore[attr-defined]
        int(rdMolDescriptors.CalcNumLipinskiHBD(molecule)),
        int(rdMolDescriptors.CalcNumLipinskiHBA(molecule)),
    )


__all__ = ["Lipinski", "canonical", "lipinski", "qed", "read"]
