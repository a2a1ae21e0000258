"""Python source as it grows: the compiler of the Python that runs is the oracle."""

from __future__ import annotations

import ast
import importlib
import itertools
import pathlib
import pickle
import random
import sys
import warnings

import pytest

from sentax.ppl.constraints.python_lines import scan
from sentax.ppl.constraints.python_syntax import Mode, PythonEngine, python_syntax
from sentax.testing import check_constraint

# By name: as an attribute of its package it is the function.
module = importlib.import_module("sentax.ppl.constraints.python_syntax")

EXEC = PythonEngine(Mode.EXEC)


def parses(text: bytes | str, mode: str = "exec") -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text.decode() if isinstance(text, bytes) else text, mode=mode)
    except (SyntaxError, ValueError):
        return False
    return True


def alive(text: str | bytes, engine: PythonEngine = EXEC) -> bool:
    return engine.prefix(engine.start(), text.encode() if isinstance(text, str) else text)


def check_source(source: bytes, rng: random.Random, complete_every: int) -> None:
    """A valid source, in random pieces: alive after each, and complete where it parses."""
    session = EXEC.start()
    text = b""
    at = count = 0
    while at < len(source):
        piece = source[at : at + rng.randint(1, 7)]
        at += len(piece)
        text += piece
        assert EXEC.prefix(session, piece), text[-200:]
        count += 1
        if count % complete_every == 0:
            assert EXEC.complete(session, piece) == parses(text), text[-200:]
        session = EXEC.extend(session, piece)


def sources() -> list[pathlib.Path]:
    library = pathlib.Path(ast.__file__).parent
    return sorted(p for p in library.glob("*.py") if p.stat().st_size < 60_000)


def test_no_prefix_of_the_standard_library_is_refused():
    rng = random.Random(0)
    for path in rng.sample(sources(), 5):
        check_source(path.read_bytes()[:3000], rng, 40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_no_prefix_of_much_of_the_standard_library_is_refused(seed):
    rng = random.Random(seed)
    for path in rng.sample(sources(), 30):
        check_source(path.read_bytes()[:20_000], rng, 25)


@pytest.mark.parametrize(
    ("alphabet", "mode"),
    [
        (["a", "1", ".", "=", "(", ")", "\n", " ", ":", '"'], "exec"),
        (["if ", "x", "else", ":", "\n", " ", "e", "1", ";"], "exec"),
        (["f", '"', "{", "}", "x", "b", "\n", "\\", "'"], "exec"),
        (["try:", "\n", " ", "a", "except", "@", "\t", "def f():", "#"], "exec"),
        (["1", "_", "e", "+", "j", ".", "0", "x", "if", "o"], "exec"),
        (["-", ">", "*", "=", "a", "[", "]", ",", "lambda", ":"], "exec"),
        (["1", "\n", " ", "(", ")", "\\", "#", "\r", "\x0c"], "exec"),
        (["1", "\n", " ", "(", ")", "\\", "#", "\r", "\x0c"], "eval"),
        (["match ", "case ", "x", ":", "\n", " ", "_", "="], "exec"),
        (['"""', '"', "'", "a", "\\", "\n", "#"], "exec"),
    ],
)
def test_all_short_texts(alphabet, mode):
    """Of all texts of up to four pieces, every prefix of a valid one is alive; `complete` is the compiler's."""
    engine = PythonEngine(Mode(mode))
    texts = ["".join(t) for n in range(5) for t in itertools.product(alphabet, repeat=n)]
    valid = {t for t in texts if parses(t, mode)}
    prefixes = {t[:n] for t in valid for n in range(len(t) + 1)}
    assert len(valid) > 100
    assert [t for t in prefixes if not alive(t, engine)] == []
    assert [t for t in prefixes if engine.complete(engine.start(), t.encode()) != parses(t, mode)] == []


@pytest.mark.parametrize(
    "text",
    [
        "x = )",
        "x = = ",
        "x = 1 +\n",
        "if x\n",
        "if x:\ny",
        "   y",
        "x = 1\n  y",
        "if x:\n    a\n  b",
        "class A:\n  def f(self):\n    pass\n y",
        "def f(a, b=1, c):",
        "try:\n  a\nb ",
        "@d\nx = ",
        "a b ",
        "for x in y z",
        "'abc\n",
        "b'é",
        "f'{)}'",
        "'\\x1'",
        "b'a' 'b'",
        "print 1",
        "x = 0b2",
        "1__",
        "$",
        "a ? ",
        "x\0",
        "return = ",
        "import a.1",
        "(" * 250,
        b"\xff",
        b"a = \xe2\x80",
    ],
)
def test_what_nothing_completes_is_dead(text):
    assert not alive(text)


@pytest.mark.parametrize(
    "text",
    [
        "el",
        "x = 1 i",
        "1i",
        "0xf",
        "0x1for x i",
        "1e",
        "1_",
        "0777",
        "f'{x",
        "rb'\\",
        "x!",
        "x.",
        "..",
        "from ..",
        "from .... ",
        "a = '''\n\n'",
        "x = \\",
        "x = \\\n",
        "if x:\n\t",
        "if x:\n\ty\n  ",
        "x = [1,\n\n  # comment\n",
        "@d\n\n# comment\n",
        "try:\n  a\nexc",
        "match x:\n  ca",
        "# é",
        b"'\xe2\x80",
        b"a\xc3",
        "async",
        "lambda *",
        "x: in",
        "\r",
        "if x:\r\n  y\r",
        "",
    ],
)
def test_what_may_go_on_is_alive(text):
    assert alive(text)


def test_the_laws():
    texts = ["x = 1\n", "def f(é):\n  return 'é'\n\nf(1)", "if x:\n  a\nelse:\n  b\n", "a b", "(1,", "x=\\\n1"]
    check_constraint(python_syntax(), texts=texts, oracle=parses)
    check_constraint(
        python_syntax("eval"), texts=["1 +", "f(x)[1]", " 1", "x = 1"], oracle=lambda t: parses(t, "eval")
    )


def test_statements_that_are_over_are_not_parsed_again(monkeypatch):
    longest = 0

    class Counting(PythonEngine):
        def _compiles(self, text, flags):
            nonlocal longest
            longest = max(longest, len(text))
            return super()._compiles(text, flags)

    engine = Counting(Mode.EXEC)
    block = (
        "class C{0}:\n    '''A class.'''\n    def method(self, x):\n        if x > {0}:\n"
        "            y = [x, {0}]\n            return y\n        else:\n            return None\n\n"
    )
    session = engine.start()
    for number in range(100):
        for line in block.format(number).splitlines(keepends=True):
            assert engine.prefix(session, line.encode())
            session = engine.extend(session, line.encode())
    assert longest < 250
    assert len(session.lines) < 12
    assert engine.complete(session, b"")
    assert not engine.complete(session, b"    else:\n        pass\n")


def test_a_function_may_be_long_too():
    session = EXEC.start()
    for number in range(50):
        piece = (
            b"def f():\n" if number == 0 else b"    @d\n    def g():\n        x = %d\n        y = x\n" % number
        )
        assert EXEC.prefix(session, piece)
        session = EXEC.extend(session, piece)
    assert len(session.lines) <= 5


@pytest.mark.skipif(sys.version_info < (3, 12), reason="strings in the fields of f-strings nest from 3.12 on")
@pytest.mark.parametrize(
    "text", ['f"{x["a"]}"', "f'{f'{1:{2}}'}'", "f'{x!r:>{w}}{{}}'", "f'''{\n'''a'''\n}'''"]
)
def test_fields_of_f_strings_hold_strings(text):
    assert parses(text)
    for n in range(len(text) + 1):
        assert alive(f"x = {text}"[: n + 4])


def test_a_string_that_breaks_off_is_no_line():
    assert scan("x = 'a\ny") is None
    assert scan("x = 'a\\\ny").end is None
    assert scan("x = '''a\ny").end is None
    assert scan("x = (\n1)\ny").end == 9


def test_an_unknown_compiler_is_not_trusted(monkeypatch):
    monkeypatch.setattr(module, "_UNFINISHED", ast.PyCF_ONLY_AST)
    with pytest.raises(NotImplementedError, match="does not know the compiler of Python"):
        python_syntax()


def test_modes_and_pickles():
    with pytest.raises(ValueError, match="mode must be one of"):
        python_syntax("single")
    constraint = pickle.loads(pickle.dumps(python_syntax("eval")))
    assert repr(constraint) == "python_syntax('eval')"
    assert constraint.matches("[x for x in y]")
    assert not constraint.matches("x = 1")
