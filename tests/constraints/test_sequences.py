"""Sequences and repetitions against regular expressions that say the same."""

from __future__ import annotations

import numpy as np
import pytest

from sentax.ppl.constraints import Automaton, TooManyStates, choice, length, literal, regex
from sentax.ppl.constraints.assembly import Assembly
from sentax.ppl.constraints.sequences import repeat, sequence


def same(left: Automaton, right: Automaton) -> bool:
    """Minimal automata are canonical."""
    return all(np.array_equal(x, y) for x, y in zip(left.to_dfa(), right.to_dfa()))


@pytest.mark.parametrize(
    ("parts", "pattern"),
    [
        (["ab", "c"], "abc"),
        ([], ""),
        ([""], ""),
        (["a*", "a*"], "a*"),
        (["[ab]*", "a[ab]{3}"], "[ab]*a[ab]{3}"),
        (["(a|ab)", "(c|bcd)", "d*"], "(a|ab)(c|bcd)d*"),
        ([r"\w+", r"\W?", r"\w*"], r"\w+\W?\w*"),
        (["é|e", "[à-ÿ]+"], "(é|e)[à-ÿ]+"),
        (["(a|b)?", "(a|c)?", "x*"], "(a|b)?(a|c)?x*"),
    ],
)
def test_sequences_are_concatenations(parts, pattern):
    assert same(sequence(*map(regex, parts)), regex(pattern))


@pytest.mark.parametrize("bounds", [(0, None), (1, None), (3, None), (0, 0), (0, 1), (0, 3), (2, 2), (2, 5)])
@pytest.mark.parametrize("item", ["ab", "a|ab|b", "a*b?", r"\d{1,2}"])
def test_repeats_are_repeats(item, bounds):
    least, most = bounds
    mark = f"{{{least},{'' if most is None else most}}}"
    assert same(repeat(regex(item), *bounds), regex(f"(?:{item}){mark}"))
    rest = f"(?:,(?:{item})){{{max(least - 1, 0)},{'' if most is None else max(most - 1, 0)}}}"
    joined = "" if most == 0 else f"(?:{item}){rest}"
    expected = f"(?:{joined})?" if least == 0 else joined
    assert same(repeat(regex(item), *bounds, separator=","), regex(expected))


def test_strings_stand_for_themselves():
    assert same(sequence("a", b"\xc3\xa9", choice(["b", "c"])), regex("aé[bc]"))
    assert same(repeat("ab", max=2, separator=literal("; ")), regex("(ab(; ab)?)?"))


def test_parts_may_be_what_the_operators_make():
    word = regex("[a-z]+") & ~choice(["no", "never"])
    assert sequence(word, "!").matches("now!") and not sequence(word, "!").matches("no!")


def test_what_is_no_automaton_is_refused():
    with pytest.raises(TypeError, match=r"length\(unit='tokens'\) is a Length"):
        sequence("a", length(max=3))
    with pytest.raises(TypeError, match="3 is a int"):
        repeat(3)
    for bounds in ((-1, None), (3, 2)):
        with pytest.raises(ValueError, match="matches nothing"):
            repeat("a", *bounds)


def test_too_large_says_what_to_do():
    with pytest.raises(TooManyStates, match="bound their lengths"):
        sequence(regex("[ab]*a"), regex("[ab]{30}"))
    with pytest.raises(TooManyStates, match="fewer repetitions"):
        repeat(regex(r"\w+"), max=10**6)


def test_a_place_where_anything_goes():
    assembly = Assembly()
    assembly.read(assembly.start, assembly.anything, regex("ab").to_dfa())
    dfa = assembly.build()
    assert same(Automaton.from_dfa(dfa, "x"), ~(~regex("(?s)ab.*") & ~Automaton.from_dfa(dfa, "y")))
    assert Automaton.from_dfa(dfa, "x").matches(b"ab\xff")


def test_an_assembly_without_a_way_is_empty():
    assert not Assembly().build().accepting.any()
