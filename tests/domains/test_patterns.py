"""Patterns against the standard library's `re`, and every constraint against the score."""

import random
import re
import string
import warnings
from math import exp, sqrt

import jax
import pytest

import sentax as sx
from sentax.domains.base import check_answers
from sentax.domains.patterns import Pattern, Patterns, automaton
from sentax.jsonschema_bench import engine_of

DOMAIN = Patterns()
SAMPLE = {task.id: task for task in DOMAIN.sample()}
WRONG = {
    "date": ["2024-13-01", "1824-05-17", "2024-05-17 ", "2024-5-17"],
    "email": ["ada.lovelace@example.de", "ada@example.org", "Ada.lovelace@example.org"],
    "london-phone": ["+44 20 6946 0018", "44 20 7946 0018"],
    "clock": ["24:00", "9:30", "09:60", "09:30\n"],
    "name": ["marie Curie", "Marie", "Marie Curie-"],
    "colour": ["#ff88", "ff8800", "#FF8800"],
    "link": ["ftp://example.org", "https://www.example.org/", "https://www.www.org.net"],
    "weekday": ["Fryday", "Friday "],
    "one-separator": ["212-555.0147", "2125550147"],
    "palindrome": ["lever", "levels"],
    "same-city": ["Paris to Rome", "Paris to Pari"],
    "parentheses-or-not": ["(212 555-0147", "212) 555-0147"],
    "if-plus": ["+555-0147", "39 555 0147"],
    "atomic": ["room5@42", "@42"],
    "possessive": ["one-", "one--two"],
    "capital-and-digit": ["secret42", "SecretXY", "Sec42", "Secret 42"],
    "not-the-13th": ["2024-05-13", "2024-05-1"],
    "no-backup": ["notes.bak", "notes."],
    "title": ["Mr. Lovelace", "Dr.Lovelace"],
    "words": ["garden", "in the garden of love", "a garden"],
    "brackets": ["(a(b)c", "a", "(a))"],
    "sums": ["(1+2", "12", "(1+2*3)"],
    "chase": ["The cat sees another dog.", "The cow sees another cow."],
}


def accepts(constraint, text):
    """On the host, without compiling a program for each size of table."""
    engine = engine_of(constraint)
    return engine.complete(engine.start(), text.encode())


def alive(constraint, text):
    engine = engine_of(constraint)
    return engine.prefix(engine.start(), text.encode())


def walk(task, rng, letters, longest=24):
    """A text written letter by letter, each alive for the matcher; it may or may not match in the end."""
    dear, text = DOMAIN.dear(task), ""
    while len(text) < longest:
        more = [letter for letter in rng.sample(letters, min(12, len(letters))) if alive(dear, text + letter)]
        if not more or (accepts(dear, text) and rng.random() < 0.4):
            break
        text += more[0]
    return text


def texts(task, rng, count, letters):
    """Walks, each with a letter put in, left out or changed."""
    for _ in range(count):
        text = walk(task, rng, letters)
        yield text
        at, letter = rng.randrange(len(text) + 1), rng.choice(letters)
        yield text[:at] + rng.choice(["", letter, letter + text[at : at + 1]]) + text[at + 1 :]


def test_the_sample_has_every_feature():
    patterns = " ".join(task.pattern for task in SAMPLE.values())
    for feature in (r"\1", "(?P=", "(?(1)", "(?(?=", "(?>", "++", "(?=", "(?!", "(?<!", "(?<=", "(?1)", r"\p{"):
        assert feature in patterns, feature
    for feature in ("(?&", "(?|", r"\b", "(?(DEFINE)", "(?i)"):
        assert feature in patterns, feature
    assert sum(automaton(task.pattern) is not None for task in SAMPLE.values()) == 8


@pytest.mark.parametrize("id", SAMPLE)
def test_right_and_wrong_answers(id):
    task = SAMPLE[id]
    cheap, dear = DOMAIN.cheap(task), DOMAIN.dear(task)
    right = DOMAIN.gold(task)
    assert DOMAIN.score(task, right) == 1
    assert accepts(cheap, right) and accepts(dear, right)
    assert all(alive(dear, right[:n]) for n in range(len(right)))
    for wrong in WRONG[id]:
        assert DOMAIN.score(task, wrong) == 0, wrong
        assert not accepts(dear, wrong), wrong
        assert accepts(cheap, wrong) == (automaton(task.pattern) is None), wrong


def test_the_law_on_the_device():
    check_answers(DOMAIN, [SAMPLE[id] for id in ("date", "one-separator")])


def same_in_re(pattern):
    """The pattern as `re` compiles it; None if that does not, or warns that it may mean something else."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        try:
            return re.compile(pattern)
        except (re.error, FutureWarning):
            return None


def agree(tasks, count):
    """Scores, constraints and `re` on texts around each language; how many matched and how many did not."""
    rng = random.Random(0)
    verdicts = {True: 0, False: 0}
    for task in tasks:
        theirs = same_in_re(task.pattern)
        regular = automaton(task.pattern) is not None
        cheap, dear = DOMAIN.cheap(task), DOMAIN.dear(task)
        letters = sorted(set(string.printable) - set("\n\r\x0b\x0c"))
        for text in texts(task, rng, count, letters):
            matches = DOMAIN.score(task, text) == 1
            assert accepts(dear, text) == matches, (task.pattern, text)
            assert accepts(cheap, text) == (matches or not regular), (task.pattern, text)
            if theirs is not None:
                assert (theirs.fullmatch(text) is not None) == matches, (task.pattern, text)
                verdicts[matches] += 1
            if matches:
                assert all(alive(dear, text[:n]) for n in range(len(text))), (task.pattern, text)
    return verdicts


def test_against_re():
    assert sum(same_in_re(task.pattern) is not None for task in SAMPLE.values()) == 16
    verdicts = agree(SAMPLE.values(), 16)
    assert min(verdicts.values()) > 60, verdicts


def test_real_patterns(data):
    tasks = DOMAIN.load(data)
    assert len(tasks) == len({task.pattern for task in tasks}) == 254
    assert "(?<![\"'])\\w+(?![\"'])" in {task.pattern for task in tasks}  # quoted quotes
    # A third are regular (docstring of `automaton`): the count is of this file, by this library's reading.
    assert sum(automaton(task.pattern) is not None for task in tasks) == 87
    verdicts = agree(tasks[::6], 2)
    assert min(verdicts.values()) > 10, verdicts


@pytest.mark.slow
def test_all_real_patterns(data):
    verdicts = agree(DOMAIN.load(data), 20)
    assert min(verdicts.values()) > 500, verdicts


def test_automata_read_as_the_package_does():
    """Not as `re` does: combining marks are word characters, and digits are those of the package's Unicode."""
    for pattern in (
        r"\w+",
        r"\d+",
        r"(?i)k+",
        r"[^\W\d]*",
        r"(?x) a # a comment (",
        "(?s).",
        r"(?a)\w+",
        "^a$|b",
    ):
        task = Pattern(id="", pattern=pattern)
        assert automaton(pattern) is not None, pattern
        for text in ("é", "e\u0301", "\u0669", "\u212a", "K", "a", "b", "ab", "a\n", "\n", "_", "😀", "", "²"):
            expected = DOMAIN.score(task, text) == 1
            assert accepts(DOMAIN.cheap(task), text) == expected, (pattern, text)
    assert re.fullmatch(r"\w+", "e\u0301") is None
    assert DOMAIN.score(Pattern(id="", pattern=r"\w+"), "e\u0301") == 1


@pytest.mark.parametrize("pattern", [r"(a)\1", "a^b", "a(?i)b", "(?:ab?){0,40000}"])
def test_what_no_automaton_serves_is_left_to_the_matcher(pattern):
    """A back-reference, a language that is empty, flags in the middle, an automaton too large."""
    task = Pattern(id="", pattern=pattern)
    assert automaton(pattern) is None
    assert accepts(DOMAIN.cheap(task), "anything") and accepts(DOMAIN.cheap(task), "")
    assert not accepts(DOMAIN.dear(task), "anything")


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [
        (r"(a|aa)+\1\b(?!.)b", "a" * 200),  # backtracks without end
        (r"(?:(?R)|a)*", "a" * 40 + "b"),  # calls itself before it reads
        (r"(?R)?a", "a" * 40 + "b"),  # and takes all memory
        (r"(a(?R)?b)", "a" * 100_000),
        (r"(.+)\1", "ab" * 10_000 + "c"),
        (r"\p{L}+", "\ud800"),
        (r"(x+x+)+y", "x" * 60),
    ],
)
def test_hostile_matches_score_nothing(pattern, answer):
    """That these come to an end is the test: without a limit, most of them do not."""
    assert Patterns(time_limit=0.1).score(Pattern(id="", pattern=pattern), answer) == 0


def test_a_match_that_takes_too_long_is_an_error_of_the_constraint():
    hostile = Pattern(id="", pattern=r"(a|aa)+\1\b(?!.)b")
    with pytest.raises(sx.PredicateError, match="backtracks too much"):
        accepts(Patterns(time_limit=0.05).dear(hostile), "a" * 200)


def test_files(tmp_path):
    file = tmp_path / "patterns" / "patterns.csv"
    file.parent.mkdir()
    file.write_text('regex,note\na+,x\n"a{1,2}""",y\n"[\\w--[\\d_]]",z\n')
    tasks = DOMAIN.load(tmp_path)
    assert [task.pattern for task in tasks] == ["a+", 'a{1,2}"', r"[\w--[\d_]]"]
    assert [task.id for task in tasks] == ["0", "1", "2"]
    assert DOMAIN.gold(tasks[0]) is None
    file.write_text("regex\na+\n(b\n")
    with pytest.raises(ValueError, match=r"pattern 1, '\(b', is invalid: missing \)"):
        DOMAIN.load(tmp_path)
    file.write_text("pattern\na+\n")
    with pytest.raises(ValueError, match="no column 'regex', but pattern"):
        DOMAIN.load(tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"none of: patterns\.csv"):
        DOMAIN.load(tmp_path)


def test_prompts():
    task = SAMPLE["chase"]
    assert DOMAIN.prompt(task).endswith(f"\n\nPattern: {task.pattern}\nString: ")
    for shot in ("(ab)+\nString: ab\n", "(ab|cd)+\nString: cd\n", "[a-z]+\nString: hello\n"):
        assert f"\nPattern: {shot}" in DOMAIN.prompt(task)
    roles = [message["role"] for message in DOMAIN.chat(task)]
    assert roles == ["system", *["user", "assistant"] * 3, "user"]
    assert DOMAIN.chat(task)[-1]["content"] == task.pattern
    shots = DOMAIN.chat(task)[1:-1]
    for question, answer in zip(shots[::2], shots[1::2]):
        assert DOMAIN.score(Pattern(id="", pattern=question["content"]), answer["content"]) == 1


def test_a_program_of_both_constraints():
    """Of the 30 ways to draw two of five tokens or the end uniformly, two are right: coins of 1/18."""
    tokens = [b"xy", b"yx", b"-xy", b"-yx", b"-"]
    task = Pattern(id="", pattern=r"(\w\w)-\1")

    def model(context, where):
        return sx.generate("string", context, max_tokens=2, where=where, stop=DOMAIN.stop)

    N = 4096
    smc = sx.SMC(sx.Prior(model), num_particles=N, ess_threshold=0.0)
    smc.run(jax.random.key(0), sx.TableLM.uniform(tokens).prompt(), DOMAIN.cheap(task) & DOMAIN.dear(task))
    evidence = 2 / 36
    z = (exp(smc.log_evidence) - evidence) / sqrt(evidence * (1 - evidence) / N)
    assert abs(z) < 4.75  # false alarm 2e-6
    posterior = smc.posterior("string")
    assert set(posterior) == {"xy-xy", "yx-yx"}
    assert abs(posterior["xy-xy"] - 0.5) < 4.75 * sqrt(0.25 / (N * exp(smc.log_evidence)))
