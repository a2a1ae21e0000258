"""Texts with holes against brute force over all fillings, and against Lark's Earley parser."""

from __future__ import annotations

import itertools
import pickle
import random
import re
import warnings

import pytest

with warnings.catch_warnings():
    # It imports modules that Python is about to remove.
    warnings.simplefilter("ignore", DeprecationWarning)
    import lark as lark_parser

from sentax.ppl.constraints import length, predicate, regex
from sentax.ppl.holes import (
    ContextFreeGrammar,
    GrammarSyntaxError,
    Hole,
    completable,
    completion_of,
    shortest_completion,
)
from sentax.ppl.holes.chart import Chart
from sentax.ppl.holes.completion import CompletionEngine
from sentax.ppl.holes.marks import marks
from sentax.ppl.holes.paths import Paths
from sentax.testing import check_constraint

# Unit rules, empty rules, left, right and middle recursion, ambiguity, terminals that overlap.
GRAMMARS = {
    "sums": ('start: term ("+" term)*\nterm: "x" | "(" start ")"\n', "x+()"),
    "copies": ('start: "a" start "b" | middle?\nmiddle: "c" middle | \n', "abc"),
    "ambiguous": ("start: start start | A | B?\nA: /a+b/\nB: /ba?/\n", "ab"),
    "palindromes": ('start: "a" start "a" | "b" start "b" | ["a" | "b"]\n', "ab"),
    "mixed": ('start: (left | right) "."~1..2\nleft: [left] "a"\nright: "a" right "b"~0..2 | "b"\n', "ab."),
    "keywords": ('start: "if"i cond | NAME\ncond: NAME | start\nNAME: /[a-z]+/\n', "Ifa"),
    "ignored": ('start: "a" start? "b" | WORD\nWORD: /b+/\n%ignore " "\n', "ab "),
    "cycles": ("start: one\none: two | X\ntwo: one | two two\nX: /x|yx/\n", "xy"),
    "range": ('start: ("a".."b")+ end\nend: "c"?\n', "abc"),
}
LONGEST = 5


def every(letters: str, longest: int) -> list[str]:
    return ["".join(word) for n in range(longest + 1) for word in itertools.product(letters, repeat=n)]


def parser_of(source: str):
    parser = lark_parser.Lark(source, parser="earley", lexer="dynamic_complete")

    def parses(text: str) -> bool:
        try:
            parser.parse(text)
        except lark_parser.exceptions.LarkError:
            return False
        return True

    return parses


@pytest.fixture(scope="module", params=GRAMMARS)
def language(request):
    """A grammar, its letters, and its texts up to a length, by Lark."""
    source, letters = GRAMMARS[request.param]
    parses = parser_of(source)
    texts = {text for text in every(letters, LONGEST) if parses(text)}
    assert texts
    return ContextFreeGrammar(source), letters, texts


def test_same_texts_as_lark(language):
    grammar, letters, texts = language
    assert {text for text in every(letters, LONGEST) if grammar.accepts(text)} == texts


def pattern_of(parts: list[str | Hole], fillings: dict[int, str]) -> re.Pattern:
    """The texts that fill the holes, as a regular expression of Python's."""
    return re.compile("".join(f"(?:{fillings[id(p)]})" if isinstance(p, Hole) else re.escape(p) for p in parts))


def random_partial(rng: random.Random, letters: str, texts: list[str]) -> tuple[list[str | Hole], re.Pattern]:
    """A text with parts cut out, and the texts that fill it; none of them is longer than the bound."""
    any_of = f"[{re.escape(letters)}]"
    text = rng.choice(texts) if rng.random() < 0.7 else "".join(rng.choices(letters, k=rng.randint(0, 4)))
    parts: list[str | Hole] = []
    fillings: dict[int, str] = {}
    room, at = LONGEST - len(text), 0
    for _ in range(rng.randint(1, 3)):
        start = rng.randint(at, len(text))
        end = rng.randint(start, min(len(text), start + 2))
        most = end - start + rng.randint(0, max(0, room))
        room -= most - (end - start)
        one = rng.choice(letters)
        pattern = rng.choice(
            [f"{any_of}{{0,{most}}}", f"{any_of}{{{end - start}}}", f"{re.escape(one)}{{0,{most}}}"]
        )
        hole = Hole(regex(pattern))
        fillings[id(hole)] = pattern
        parts += [text[at:start], hole]
        at = end
    parts.append(text[at:])
    return parts, pattern_of(parts, fillings)


def test_completable_against_all_fillings(language):
    """Every filling is at most as long as the texts that were enumerated, so brute force is exact."""
    grammar, letters, texts = language
    rng = random.Random(5)
    verdicts = []
    for _ in range(60):
        parts, pattern = random_partial(rng, letters, sorted(texts))
        fillings = [text for text in texts if pattern.fullmatch(text)]
        verdicts.append(completable(parts, grammar))
        assert verdicts[-1] == bool(fillings), parts
        witness = shortest_completion(parts, grammar)
        if not fillings:
            assert witness is None
        else:
            assert witness is not None
            assert witness.decode() in fillings
            assert len(witness) == min(map(len, fillings))
    assert {True, False} <= set(verdicts)


def test_marks_against_all_fillings(language):
    """An edge is marked with a byte if and only if a text goes through it there."""
    grammar, letters, texts = language
    rng = random.Random(6)
    for _ in range(25):
        text = "".join(rng.choices(letters, k=LONGEST))
        known = [rng.random() < 0.4 for _ in text]
        paths = Paths()
        for letter, is_known in zip(text, known):
            source, paths.end = paths.end, paths.state()
            held = letter if is_known else letters
            paths.read(source, paths.end, sum(1 << ord(x) for x in held))
        least = rng.randint(0, LONGEST)
        joined = paths.state()
        for k in range(least, LONGEST + 1):
            paths.skip(1 + k, joined)
        chart = Chart(grammar.rules)
        chart.extend(paths)
        found = marks(chart, paths)
        fits = [
            t
            for t in texts
            if len(t) >= least and all(a == b or not is_known for a, b, is_known in zip(t, text, known))
        ]
        for i in range(LONGEST):
            expected = {t[i] for t in fits if len(t) > i}
            members = found.bytes.get((1 + i, 2 + i), 0)
            assert {x for x in map(chr, range(256)) if members >> ord(x) & 1} == expected
        assert {k for k, j in found.skips} == {1 + len(t) for t in fits}


JSON = r"""
start: value
value: object | array | STRING | NUMBER | "true" | "false" | "null"
object: "{" [pair ("," pair)*] "}"
pair: STRING ":" value
array: "[" [value ("," value)*] "]"
STRING: /"(?:[^"\\\x00-\x1f]|\\["\\\/bfnrt])*"/
NUMBER: /-?(0|[1-9][0-9]*)(\.[0-9]+)?/
"""


@pytest.mark.parametrize(
    ("partial", "expected"),
    [
        (['{"a":', Hole(), "]}"], b'{"a":[]}'),
        (['{"a":', Hole(regex("[0-9]*")), "]}"], None),
        ([Hole(), '":1}'], b'{"":1}'),
        (["[", Hole(regex(".{0,3}")), "]]", Hole()], b"[[]]"),
        ([Hole(), 'a"', Hole(), "]]"], b'[["a"]]'),
        (['["', Hole(regex("é{3}")), '"', Hole()], '["ééé"]'.encode()),
        ([Hole(regex("[{ ]*")), "]"], None),
        ([Hole(), "tru", Hole(regex("[^e]*"))], b'"tru"'),
    ],
)
def test_witnesses_parse(partial, expected):
    """Unbounded holes: what Lark makes of the witness, and of the known pieces in it."""
    grammar = ContextFreeGrammar(JSON)
    witness = shortest_completion(partial, grammar)
    assert completable(partial, grammar) == (expected is not None)
    if expected is None:
        assert witness is None
        return
    assert witness is not None
    assert len(witness) == len(expected)
    assert parser_of(JSON)(witness.decode())
    at = 0
    for part in partial:
        if not isinstance(part, Hole):
            raw = part.encode() if isinstance(part, str) else part
            at = witness.index(raw, at) + len(raw)


def test_holes_inside_a_character():
    witness = shortest_completion([b'["\xc3', Hole(), "]"], ContextFreeGrammar(JSON))
    assert witness is not None
    assert witness.startswith(b'["\xc3')
    assert parser_of(JSON)(witness.decode())


def test_cycles_and_neighbouring_holes():
    """Holes that repeat groups, beside each other and empty: against bounded fillings that cover them."""
    grammar = ContextFreeGrammar(GRAMMARS["copies"][0])
    loops = ["(ab)*", "(a|bb)*", "(aab?)*", "b*", "(abc)*a", "c*"]
    parses = parser_of(GRAMMARS["copies"][0])
    rng = random.Random(7)
    for _ in range(60):
        chosen = [rng.choice(loops) for _ in range(rng.randint(1, 3))]
        last = rng.choice(["", "b", "cb", "bb"])
        partial = [*(Hole(regex(pattern)) for pattern in chosen), last]
        pattern = re.compile("".join(chosen) + last)
        found = completable(partial, grammar)
        brute = any(pattern.fullmatch(text) and parses(text) for text in TEXTS)
        witness = shortest_completion(partial, grammar)
        if brute:
            assert found
        if found:
            assert witness is not None
            assert pattern.fullmatch(witness.decode())
            assert parses(witness.decode())


TEXTS = ["a" * n + "c" * m + "b" * n for n in range(4) for m in range(3)]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("sums", (), ()),
        ("sums", ("(x+",), (")+x",)),
        ("sums", (), ("+x)",)),
        ("copies", ("aa",), ("bb",)),
        ("copies", (), ("b",)),
        ("ambiguous", ("a",), ("ab",)),
        ("ignored", ("a",), (" b",)),
        ("sums", (Hole(regex("[(]?")),), (Hole(regex("[)]?")),)),
    ],
)
def test_completion_engine_by_definition(name, before, after):
    """Sessions that were extended say what a fresh question about the whole text says."""
    source, letters = GRAMMARS[name]
    grammar = ContextFreeGrammar(source)
    engine = CompletionEngine(grammar, before, after)
    rng = random.Random(8)
    alive = 0
    for _ in range(40):
        session, text = engine.start(), ""
        for _ in range(4):
            piece = "".join(rng.choices(letters, k=rng.randint(1, 2)))
            raw = piece.encode()
            going = engine.prefix(session, raw)
            assert going == completable([*before, text, piece, Hole(), *after], grammar), text + piece
            assert engine.complete(session, raw) == completable([*before, text, piece, *after], grammar)
            if not going:
                break
            alive += 1
            session, text = engine.extend(session, raw), text + piece
    assert alive > 10


def test_a_bounded_text_is_alive_while_it_can_end_in_time():
    """Against every filling of at most five bytes."""
    source, _ = GRAMMARS["sums"]
    parses = parser_of(source)
    letters, bound = "x+()", 5
    fillings = ["".join(f) for n in range(bound + 1) for f in itertools.product(letters, repeat=n)]
    good = [f for f in fillings if parses("(x+" + f + ")+x")]
    engine = CompletionEngine(ContextFreeGrammar(source), ("(x+",), (")+x",), bound)
    beginnings = {f[:n] for f in good for n in range(bound + 1)}
    assert 3 < len(good) < len(beginnings) < len(fillings)
    start = engine.start()
    for text in fillings:
        raw = text.encode()
        assert engine.prefix(start, raw) == (text in beginnings), text
        assert engine.complete(engine.extend(start, raw[:2]), raw[2:]) == (text in good), text
    assert not engine.prefix(engine.extend(start, b"x+x+x"), b"+")
    assert "max_bytes=5" in repr(pickle.loads(pickle.dumps(engine)))


def test_completion_obeys_the_laws():
    source, _ = GRAMMARS["sums"]
    parses = parser_of(source)
    constraint = completion_of(ContextFreeGrammar(source), before="(x+", after=")+x")

    def oracle(text):
        try:
            return parses("(x+" + text.decode() + ")+x")
        except UnicodeDecodeError:
            return False

    check_constraint(constraint, texts=["x", "x+x", "(x)", "x)+(x", "x+", ")", "", b"\xff"], oracle=oracle)


def test_pickle_and_repr():
    grammar = ContextFreeGrammar(GRAMMARS["sums"][0])
    constraint = completion_of(grammar, after="+x")
    assert repr(grammar) == repr(pickle.loads(pickle.dumps(grammar)))
    copy = pickle.loads(pickle.dumps(constraint))
    assert repr(copy) == repr(constraint)
    assert copy.matches("x")


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("start: other", GrammarSyntaxError, "line 1, column 8: 'other' has no definition"),
        ('start: "a\n', GrammarSyntaxError, "line 1, column 8: unexpected '\"'"),
        ('start: ("a"', GrammarSyntaxError, r"line 1, column 12: expected '\)', found the end of the grammar"),
        ('start: "a"\nstart: "b"', GrammarSyntaxError, "line 2, column 1: 'start' is defined twice"),
        ('start: "a" )', GrammarSyntaxError, r"line 1, column 12: expected the end of the definition"),
        ('start: "a"~3..2', GrammarSyntaxError, "nothing is repeated 3 to 2 times"),
        ("%import common.NUMBER\nstart: NUMBER", GrammarSyntaxError, "%import is not read here"),
        ('start.2: "a"', GrammarSyntaxError, "priorities of rules are not read here"),
        (r'start: "\d"', GrammarSyntaxError, r"line 1, column 8: \\d is no escape of a string"),
        ('start: "ab".."c"', GrammarSyntaxError, "a range is"),
        ('start: "a" start', ValueError, "derives no text at all"),
        ('other: "a"', ValueError, "no rule 'start' to begin with; rules: other"),
        ("start: /(a)\\1/", ValueError, "in a grammar"),
    ],
)
def test_errors_say_where(source, error, message):
    with pytest.raises(error, match=message):
        ContextFreeGrammar(source)


def test_bad_arguments():
    grammar = ContextFreeGrammar('start: "a"')
    with pytest.raises(TypeError, match="a list of pieces, not 'a'"):
        completable("a", grammar)
    with pytest.raises(TypeError, match="str, bytes and Hole, not int"):
        completable(["a", 3], grammar)
    with pytest.raises(TypeError, match="expected a ContextFreeGrammar"):
        completable(["a"], "start: a")
    with pytest.raises(ValueError, match="max_bytes must be at least 0, got -1"):
        completion_of(grammar, max_bytes=-1)
    with pytest.raises(ValueError, match="an automaton bounds its texts itself"):
        Hole(regex("a"), max_bytes=3)
    with pytest.raises(TypeError, match="for a length, not a Length"):
        Hole(length(max=3))
    with pytest.raises(TypeError, match="not a Predicate"):
        Hole(predicate(lambda text: True))
    with pytest.raises(TypeError, match="source is a string, not 3"):
        ContextFreeGrammar(3)
