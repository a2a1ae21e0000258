"""SMILES, valid by construction: each piece is written with exactly one free valence to its left.

A ring takes the lowest ring-closure number that no enclosing ring uses, so numbers always pair. Hetero atoms
are followed by carbon, so there are no peroxides and few unstable chains. The grammar is not canonical.
"""

from __future__ import annotations

import re
from random import Random

from sentax.models.data.draws import chance, listed, tail

ENDS = listed(
    "C O N F Cl C(=O)O C#N OC Br N(C)C C(F)(F)F [N+](=O)[O-] C(N)=O C=O S I CC C(C)C C(=O)OC S(C)(=O)=O "
    "C(C)(C)C NC(C)=O C(=O)OCC S(N)(=O)=O C=C C#C OCC C(=O)[O-] [NH3+] N=C=O OC(F)(F)F NC(N)=N B(O)O SC "
    "P(=O)(O)O [N+](C)(C)C N=[N+]=[N-] C=N [Si](C)(C)C [O-]"
)
"""Pieces that end a branch."""

CARBON_ENDS = listed("C CC C(C)C C(C)=O C(=O)OC C(F)(F)F C=C C(C)(C)C CC#N CCO CCN CC(=O)O CCCl C(N)=O")
"""Pieces that may follow nitrogen, oxygen or sulfur: they begin with carbon."""

LINKS = listed(
    "C CC C(=O) C(C) CCC C=C C#C C(O) C(C)(C) C(=N) CC(C) C(N) [C@H](C) [C@@H](C) [C@@H](O) C(=O)C /C=C/ C(=S)"
)
"""Pieces with a free valence on both sides that end in carbon."""

HETERO_LINKS = listed(
    "O N C(=O)N C(=O)O NC(=O) S OC(=O) N(C) S(=O)(=O)N C=N NC(=O)N S(=O)(=O) [NH2+] C(=S)N S(=O) N=N"
)
"""Pieces with a free valence on both sides after which carbon must come."""

# `~` opens or closes the ring, `~~` a second ring, `*` is a place for a substituent.
AROMATIC = (
    "c~c*c*c*c*c~*",
    "c~c*nc*c*c~*",
    "c~c*c*c*c*n~",
    "c~cc*c*o~",
    "c~cc*c*s~",
    "c~c[nH]c*n~",
    "c~cc*[nH]n~",
    "c~nc*c*s~",
    "c~nc*nc*c~*",
    "c~cc~~cc*c*cc~~[nH]~",
    "c~c*c*c~~cc*c*cc~~c~",
    "c~c[nH]c~~cc*c*cc~~~",
    "c~nc~~cc*c*cc~~[nH]~",
    "c~cc*nc~~cc*c*cc~~~",
    "c~nnc*o~",
    "c~nnn[nH]~",
    "c~nnc*[nH]~",
    "c~c*ccc~~c~OCO~~",
)
SATURATED = (
    "C~CCC*CC~",
    "C~CC*CC~",
    "C~CC~",
    "C~CCC~",
    "C~CCNCC~",
    "C~CCOCC~",
    "C~CC(=O)CC~",
    "C~C=CC*CC~",
    "C~CCC(=O)N~",
    "C~CC~~CC~C~~",
    "C~C~~CC~C~~",
    "C~CO~",
    "C~OC(=O)C*C~",
    "C~CC*C~~C(C~)CC~~",
    "C~C~~CC*CC~~N~",
    "C~CSCN~",
    "C~C~~CC(C~)C=C~~",
)
FROM_NITROGEN = (
    "N~CCOCC~",
    "N~CCCCC~",
    "N~CCNCC~",
    "N~CCCC~",
    "N~CCC*CC~",
    "N~CCCC~=O",
    "n~ccc*c~",
    "n~ccnc~",
    "n~cc*cn~",
)
"""Rings joined by a nitrogen; never at the start of a molecule, where `n1cccc1` would lack its hydrogen."""

_MARKS = re.compile(r"~~~|~~|~|\*")


def _closure(number: int) -> str:
    return str(number) if number < 10 else f"%{number}"


def _ring(rng: Random, template: str, size: int, level: int) -> str:
    """Fill a ring template.

    :param size: how many more pieces the molecule should take, about.
    :param level: number of enclosing open rings.
    """
    outer, inner = _closure(level + 1), _closure(level + 2)
    places = template.count("*")
    wanted = min(places, rng.choice((0, 1, 1, 1, 2, 2, 3)) if size > 0 else 0)
    chosen = set(rng.sample(range(places), wanted))
    seen = -1

    def mark(match: re.Match[str]) -> str:
        nonlocal seen
        if match.group() == "~~~":
            return inner + outer
        if match.group() == "~~":
            return inner
        if match.group() == "~":
            return outer
        seen += 1
        if seen not in chosen:
            return ""
        branch = piece(rng, size // (wanted + 1), level + (2 if "~~" in template else 1))
        if branch[0] in "cn" and template[0] in "cn":
            branch = "-" + branch  # between two aromatic atoms a single bond is written
        return branch if match.end() == len(template) and not branch.startswith("/") else f"({branch})"

    return _MARKS.sub(mark, template)


def piece(rng: Random, size: int, level: int, after_hetero: bool = False, first: bool = False) -> str:
    """One piece of a molecule and all that hangs on it.

    :param size: how many more pieces to add, about.
    :param level: number of enclosing open rings.
    :param after_hetero: whether the atom to the left is not carbon.
    :param first: whether nothing stands to the left.
    """
    if size <= 0:
        return tail(rng, CARBON_ENDS if after_hetero else ENDS)
    style = rng.random()
    if style < 0.38:
        pool: tuple[str, ...] = AROMATIC if chance(rng, 0.65) else SATURATED
        if not first and not after_hetero and chance(rng, 0.2):
            pool = FROM_NITROGEN
        return _ring(rng, tail(rng, pool), size - 1, level)
    if after_hetero or first or style < 0.72:
        link = tail(rng, LINKS)
        if first or after_hetero:
            link = "C" if link[0] in "/[" else link
        rest = piece(rng, size - 1, level)
        if "/" in link and (rest.startswith("/") or rest[0] in "F[BI"):
            link = "C=C"
        elif link.endswith("C") and chance(rng, 0.18):
            link += (
                f"({piece(rng, (size - 1) // 2, level)})"
                if not link.endswith("#C") and not link.endswith("(C)")
                else ""
            )
        return link + rest
    return tail(rng, HETERO_LINKS) + piece(rng, size - 1, level, after_hetero=True)


def smiles(rng: Random) -> str:
    """A molecule of 2 to about 45 heavy atoms as a SMILES; a few are salts."""
    size = min(9, 1 + int(rng.expovariate(0.3)))
    molecule = piece(rng, size, 0, first=True)
    if "/" in molecule and molecule.count("/") % 2:
        molecule = molecule.replace("/", "")
    if molecule.startswith(("F", "Cl", "Br", "I", "[", "O", "N", "S", "B", "P")) and size < 2:
        molecule = "C" + molecule
    if "[O-]" in molecule and "[N+]" not in molecule and chance(rng, 0.6):
        molecule += tail(rng, (".[Na+]", ".[K+]", ".[NH4+]"))
    elif chance(rng, 0.01):
        molecule += tail(rng, (".Cl", ".O", ".Br"))
    return molecule
