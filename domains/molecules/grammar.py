"""The syntax of SMILES, as an automaton."""

from __future__ import annotations

import functools
import re

from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.regex import regex

DEPTH = 32
"""How deep branches may lie in branches: ten times as deep as in any molecule of the data seen."""

_TABLE = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y "
    "Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re "
    "Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds "
    "Rg Cn Nh Fl Mc Lv Ts Og"
)
ELEMENTS = tuple(_TABLE.split())
"""In the order of their atomic numbers, from 1."""

AROMATIC = ("b", "c", "n", "o", "p", "s", "as", "se", "te")

_SYMBOL = "|".join([*ELEMENTS, *AROMATIC])
_CHIRAL = r"@@?|@(?:TH|AL)[12]|@SP[123]|@(?:TB|OH)[0-9]{1,2}"
_CHARGE = r"\+[0-9]{1,2}|-[0-9]{1,2}|\++|-+"
_BRACKET = rf"\[[0-9]{{0,3}}(?:{_SYMBOL})(?:{_CHIRAL})?(?:H[0-9]?)?(?:{_CHARGE})?(?::[0-9]+)?\]"
_ATOM = rf"(?:Cl|Br|[BCNOPSFIbcnops]|{_BRACKET})"
_BOND = r"[-=#$:/\\]"
_RING = rf"{_BOND}?(?:[0-9]|%[0-9][0-9])"
_UNIT = rf"{_ATOM}(?:{_RING})*"
_FLAT = rf"{_UNIT}(?:\)*\(?(?:{_BOND}|\.)?{_UNIT})*\)*"
"""What may stand next to what: atoms with their ring closures, and between two of them ends of branches, the
beginning of one, a bond or a dot. That as many branches end as begin is :func:`_nested`'s part."""

_LINE = re.compile(_FLAT)


@functools.cache
def grammar() -> Constraint:
    """Texts that are a SMILES, after a space at most.

    Daylight's notation as OpenSMILES writes it down (opensmiles.org, version 1.0), without the wildcard `*`,
    which stands for no molecule. Rings do not have to be closed: that is no matter of grammar.

    Branches nest, so this language is not regular. It is here where branches nest to :data:`DEPTH`: an
    automaton draws from its masks on the device, where a parser would be asked on the host at every token.

    >>> grammar().matches(" CC(=O)Oc1ccccc1C(=O)O"), grammar().matches("CC(=O)Oc1ccccc1C(=O")
    (True, False)
    """
    return regex(f" ?{_FLAT}") & regex(_nested(DEPTH))


def is_smiles(text: str) -> bool:
    """Whether a text has the form of a SMILES, however deep its branches lie. For reading files.

    >>> is_smiles("C1CC1"), is_smiles("SMILES"), is_smiles("C(C")
    (True, False, False)
    """
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return depth == 0 and _LINE.fullmatch(text) is not None


def _nested(depth: int) -> str:
    """Texts whose parentheses match, at most so deep."""
    inside = "[^()]*"
    for _ in range(depth):
        inside = rf"[^()]*(?:\({inside}\)[^()]*)*"
    return inside


__all__ = ["AROMATIC", "DEPTH", "ELEMENTS", "grammar", "is_smiles"]
