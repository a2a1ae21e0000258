"""Whether a molecule can be made of what has been written of it so far."""

from __future__ import annotations

import re
from collections.abc import Iterator

import regex

from sentax.domains.molecules.grammar import ELEMENTS

try:
    import partialsmiles
    from partialsmiles.valence import common_valencies
except ImportError as missing:  # pragma: no cover - exercised without the extra
    raise ImportError("molecules are checked with partialsmiles: pip install 'sentax[molecules]'") from missing

LONGEST = 1000
"""Characters. What is longer is not an answer of a hundred tokens; this bounds the time of a check."""

_SYMBOLS = "|".join(e for number, e in enumerate(ELEMENTS, 1) if number in common_valencies)
_BRACKET = (
    rf"\[(?:[1-9][0-9]{{0,2}})?(?:{_SYMBOLS}|b|c|n|o|p|s|se|te)@{{0,2}}(?:H[0-9]?)?(?:[+-][0-9]|\++|-+)?\]"
)
_TEXT = regex.compile(rf"(?:[BCNOPSFIbcnopslr()=#$/\\.0-9-]|%[0-9][0-9]|{_BRACKET})*+")
_UNFINISHED_RING = re.compile(r"%([0-9]?)$")


class ValenceCheck:
    r"""The check of Lipkin et al. (2025): `partialsmiles.ParseSmiles` of the text so far and of the whole.

    It knows the usual valences of elements and charges, and asks for a Kekulé structure of an aromatic system
    as soon as nothing can be added to it. One space may stand before the SMILES.

    A text may be cut inside a symbol, and partialsmiles reads what is there: it refuses `[A`, though an
    arsenic may follow, and takes the `%1` of `%10` for a ring, the `B` of `Br` for boron. So it is shown an
    open bracket without its content, which is matched against the elements here, and other cut symbols with
    all that may complete them. Characters that make it raise `IndexError` or `ValueError` are refused before.

    What it refuses and RDKit reads:

    * transition metals, lanthanides, actinides, and others of which it has no valences;
    * unusual valences and charges: pentavalent nitrogen (`CN(=O)=O`), carbenes, most radicals;
    * aromatic bonds that are written (`:`), a last branch in parentheses (`CC(C)`), ring closures behind
      a branch, rings that are open at a dot, classes of atoms (`[CH3:1]`), `@TH1` and the like.

    What it accepts and RDKit refuses is mostly aromatic atoms outside of rings (`CsC`), and chlorine and
    bromine with more than one bond. Reactions and wildcards are no molecules: they are refused here.

    >>> check = ValenceCheck()
    >>> check.prefix_ok("C[A"), check.prefix_ok("CC(C)(C"), check.prefix_ok("CC(C)(C)(C")  # and one must follow
    (True, True, False)
    >>> check.complete_ok("C1CCCC1"), check.complete_ok("C1CCCC"), check.complete_ok("c1cccc1")
    (True, False, False)
    """

    def prefix_ok(self, text: str) -> bool:
        """Whether the text may begin a molecule."""
        smiles = text.removeprefix(" ")
        if len(smiles) > LONGEST or not _TEXT.fullmatch(smiles, partial=True):
            return False
        return any(_parses(reading, partial=True) for reading in _readings(smiles))

    def complete_ok(self, text: str) -> bool:
        """Whether the text is a molecule."""
        smiles = text.removeprefix(" ")
        if len(smiles) > LONGEST or not _TEXT.fullmatch(smiles):
            return False
        return _parses(smiles, partial=False)


def _readings(smiles: str) -> Iterator[str]:
    """What a text may be the beginning of, cut between two symbols."""
    before, bracket, inside = smiles.rpartition("[")
    if bracket and "]" not in inside:
        yield before + "["
        return
    if unfinished := _UNFINISHED_RING.search(smiles):
        # A ring that was met before, which this may close, or one that it opens.
        met = set(re.findall(r"%([0-9]{2})", smiles))
        rings = [f"{n:02}" for n in range(100) if f"{n:02}".startswith(unfinished[1])]
        new = [ring for ring in rings if ring not in met][:1]
        for ring in [ring for ring in rings if ring in met] + new:
            yield f"{smiles[: unfinished.start()]}%{ring}"
        return
    yield smiles
    if smiles.endswith("C"):
        yield smiles + "l"
    elif smiles.endswith("B"):
        yield smiles + "r"


def _parses(smiles: str, *, partial: bool) -> bool:
    try:
        partialsmiles.ParseSmiles(smiles, partial=partial)
    except partialsmiles.Error:
        return False
    return True


__all__ = ["LONGEST", "ValenceCheck"]
