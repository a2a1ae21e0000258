"""Lark grammars against Lark's own parser, by enumeration."""

from __future__ import annotations

import itertools
import pickle
import random

import lark as lark_parser
import numpy as np
import pytest

from sentax.ppl.constraints.grammar import LarkEngine, lark
from sentax.ppl.constraints.guidance import GrammarError
from sentax.testing import check_constraint

EXPRESSION = 'start: sum\nsum: product | sum "+" product\nproduct: "x" | "(" sum ")"\n'
GRAMMARS = {
    "nested": ('start: "a" start "b" | "c"', "abc", 7),
    "ambiguous": ('start: e\ne: e "+" e | "(" e ")" | "x"', "x+()", 6),
    "left recursive": (EXPRESSION, "x+()", 6),
    "overlapping words": ('start: (A | B)+\nA: "a"\nB: "ab"', "ab", 6),
    "numbers": ('start: NUMBER ("+" NUMBER)*\nNUMBER: /[0-9]+/', "1+", 6),
    "repeats": ('start: A? B~2..3\nA: "a"\nB: "b"i', "abB", 5),
    "optional": ('start: "a" ["b"] "c"?', "abc", 4),
    "import": ("start: INT\n%import common.INT", "12a", 3),
    "template of rules": ('start: pair | pair pair\npair: "(" word ")"\nword: /[ab]{1,2}/', "ab()", 5),
}


def texts_of(engine, letters, longest):
    """The texts of an engine over some letters, found along its prefixes, and the prefixes."""
    texts, prefixes = set(), set()

    def follow(session, text):
        if engine.complete(session, b""):
            texts.add(text)
        for letter in letters if len(text) < longest else "":
            if engine.prefix(session, letter.encode()):
                prefixes.add(text + letter)
                follow(engine.extend(session, letter.encode()), text + letter)

    follow(engine.start(), "")
    return texts, prefixes


def oracle(grammar):
    parser = lark_parser.Lark(grammar, parser="earley", lexer="dynamic_complete")

    def parses(text):
        try:
            parser.parse(text)
        except lark_parser.exceptions.LarkError:
            return False
        return True

    return parses


@pytest.mark.parametrize("name", GRAMMARS)
def test_same_texts_as_lark(name):
    grammar, letters, longest = GRAMMARS[name]
    texts, prefixes = texts_of(LarkEngine(grammar, "start"), letters, longest)
    parses = oracle(grammar)
    every = ["".join(word) for n in range(longest + 1) for word in itertools.product(letters, repeat=n)]
    expected = {text for text in every if parses(text)}
    assert texts == expected
    assert expected
    # What may be completed within the bound is a prefix.
    assert {text[:n] for text in expected for n in range(1, len(text) + 1)} <= prefixes


def test_terminals_are_greedy():
    """Where Lark's dynamic lexer would back up, llguidance's does not; the docstring says so."""
    grammar = 'start: A "a"\nA: /a+/\n'
    assert oracle(grammar)("aa")
    assert not lark(grammar).matches("aa")


def test_laws():
    parses = oracle(EXPRESSION)
    texts = ["x", "x+x", "(x+x)+x", "((x))", "x+", ")", "", "(x", b"\xff", "é"]

    def judge(text):
        try:
            return parses(text.decode())
        except UnicodeDecodeError:
            return False

    check_constraint(lark(EXPRESSION), texts=texts, oracle=judge)


def test_masks_agree_with_checks():
    class Vocabulary:
        tokens = (b"", b"x", b"x+", b"+", b"((", b"))", b")+(", b"(", b")", b"x", b"\xff")
        size = len(tokens)
        end_of_text = 0

    engine, rng = LarkEngine(EXPRESSION, "start"), random.Random(2)
    for _ in range(10):
        session = engine.start()
        for _ in range(10):
            bits = np.unpackbits(engine.mask(session, Vocabulary).view(np.uint8), bitorder="little")
            checked = [bool(t) and engine.prefix(session, t) for t in Vocabulary.tokens]
            assert bits[: Vocabulary.size].astype(bool).tolist() == checked, session.text
            session = engine.extend(session, rng.choice([t for t, ok in zip(Vocabulary.tokens, checked) if ok]))


def test_other_start():
    constraint = lark("word: /[ab]+/\n", start="word")
    assert constraint.matches("ab")
    assert not constraint.matches("c")


def test_ignored_text():
    constraint = lark('start: "a" "b"\n%ignore / +/\n')
    assert [constraint.matches(t) for t in ("ab", "a  b", "ab ", " ab")] == [True, True, False, False]


def test_pickle_and_repr():
    constraint = lark("word: /[ab]+/\n", start="word")
    copy = pickle.loads(pickle.dumps(constraint))
    assert repr(copy) == repr(constraint) == "lark('word: /[ab]+/')"
    assert copy.matches("ba")


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ('start: "a" b\n', r'at 1\(8\): unknown name: "b"'),
        ('start: a\na: ("x"\n', r"2\(8\): Expected token"),
        ("start: /[/\n", r"at 1\(8\): invalid regex"),
        ("start: /(?=a)b/\n", "look-around"),
        ('start: "a"\n%import common.NOTHING\n', r"at 2\(1\): Unknown common regex"),
        ('rule: "a"\n', "no start rule"),
    ],
)
def test_errors_say_where(grammar, message):
    with pytest.raises(GrammarError, match=message):
        lark(grammar)


def test_bad_arguments():
    with pytest.raises(TypeError, match="lark: grammar is a string, not 3"):
        lark(3)
    with pytest.raises(ValueError, match="a rule has a name in lower case, not 'A'"):
        lark('A: "a"\n', start="A")
    with pytest.raises(ValueError, match="has a rule 'start' besides 'word'"):
        lark('start: word\nword: "a"\n', start="word")
