"""Templates against enumeration: every filling of their holes has the probability that the table gives it.

Statistics have fixed seeds and a false-alarm rate of 2e-6 for each entry (|z| < 4.75).
"""

import dataclasses
import itertools
import re

import jax
import numpy as np
import pytest
from numpyro.infer.util import log_density
from reference.texts import Markov

import sentax as sx
from sentax.inference.control import Control
from sentax.inference.engine import SiteNumbers, run_particles
from sentax.inference.filter import FilterConfig
from sentax.models.vocabulary import Vocabulary
from sentax.ppl.template import template

TOKENS = [b"a", b"b", b"c", b""]
_rng = np.random.default_rng(3)
LOGITS = _rng.normal(size=(4, 4)).astype(np.float32)
INITIAL = _rng.normal(size=4).astype(np.float32)
LM = sx.TableLM(LOGITS, INITIAL, TOKENS, end_of_text=3)
MARKOV = Markov(LOGITS, INITIAL, TOKENS)


@dataclasses.dataclass
class Case:
    """A template and how its holes may be filled: `holes` are (most tokens, pattern or None)."""

    text: str
    holes: dict
    end: bool = False
    markov: Markov = MARKOV
    encode: object = lambda text: [b"abc".index(byte) for byte in text.encode()]
    taken: tuple = ()  # by hole, the bytes of a token taken back from the piece before it
    context: object = dataclasses.field(default_factory=LM.prompt)

    def model(self, lookahead):
        t = template(self.text)

        def model(context, where):
            room = {hole: n for hole, (n, _) in self.holes.items()}
            t.fill("t", context, max_tokens=room, where=where, lookahead=lookahead, end=self.end)

        return model

    @property
    def where(self):
        return {hole: sx.regex(pattern) for hole, (_, pattern) in self.holes.items() if pattern}

    def table(self):
        """Every filling, by its tokens with the end behind them, and its unnormalised probability."""
        markov, end = self.markov, self.markov.end
        t = template(self.text)
        taken = self.taken or (b"",) * len(t.holes)
        rows = [self.encode(piece) for piece in t.pieces]
        rows = [row[:-1] if i < len(taken) and taken[i] else row for i, row in enumerate(rows)]
        rows[-1] = rows[-1] + [end] * self.end
        result = {}

        def read(tokens, row, p):
            for token in tokens:
                p, row = p * row[token], markov.rows[token]
            return row, p

        def fill(i, row, p, chosen):
            if i == len(t.holes):
                result[chosen] = result.get(chosen, 0.0) + p
                return
            (most, pattern), owed = self.holes[t.holes[i]], taken[i]
            for n in range(most + 1):
                for tokens in itertools.product(range(end), repeat=n):
                    data = markov.join(tokens)
                    if owed and (not tokens or not markov.tokens[tokens[0]].startswith(owed)):
                        continue
                    if pattern and not re.fullmatch(pattern.encode(), data[len(owed) :]):
                        continue
                    after, q = read(tokens, row, p)
                    key = (*chosen, tokens + (end,) * (most - n))
                    if i + 1 == len(t.holes) and not rows[-1]:
                        fill(i + 1, after, q * (after[end] if n < most else 1.0), key)
                    else:
                        fill(i + 1, *read(rows[i + 1], after, q), key)

        fill(0, *read(rows[0], markov.first, 1.0), ())
        return {key: p for key, p in result.items() if p > 0}


# Longer tokens begin with the space that ends a piece: it is taken back.
WORDS = [b"a", b"b", b" ", b" a", b" ab", b""]


class WordTokenizer:
    """Cuts between characters, as no tokenizer would that had been asked for the whole text."""

    fingerprint = b"words"

    def encode(self, text):
        return [WORDS.index(character.encode()) for character in text]


def words():
    lm = sx.TableLM(_rng.normal(size=(6, 6)), _rng.normal(size=6), WORDS, end_of_text=5)
    context = dataclasses.replace(lm.prompt(), vocabulary=Vocabulary(WORDS, 5, WordTokenizer()))
    markov = Markov(np.asarray(lm.log_probs), np.asarray(lm.initial), WORDS)
    return {"markov": markov, "encode": WordTokenizer().encode, "context": context}


CASES = {
    "two holes": Case("a{x}bc{y}ca", {"x": (2, None), "y": (2, None)}),
    "constrained": Case("{x}bca{y}ab", {"x": (3, "(ab)*c?"), "y": (2, "b?c")}, end=True),
    "open end": Case("b{x}ab{y}", {"x": (2, "[ab]*"), "y": (2, "a.*")}),
    "nothing but an end": Case("{x}", {"x": (3, "(ca|b)*")}, end=True),
    "spaces": Case("b {x}a {y}", {"x": (2, None), "y": (2, "a.*|")}, taken=(b" ", b" "), **words()),
}


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "lookahead"),
    [
        ("two holes", False),
        ("constrained", True),
        ("open end", 1),
        ("nothing but an end", True),
        ("spaces", True),
        slow("two holes", True),
        slow("constrained", False),
        slow("open end", True),
        slow("spaces", False),
    ],
)
def test_the_density_of_every_filling(name, lookahead):
    """NumPyro's own density of the program, at all values of its sites, is the table, fillings or not."""
    case = CASES[name]
    end, table = case.markov.end, case.table()
    every = [list(itertools.product(range(end + 1), repeat=most)) for most, _ in case.holes.values()]
    # After its end a hole goes on with the end, with probability one.
    every = [[t for t in texts if end not in t or set(t[t.index(end) :]) == {end}] for texts in every]
    keys = list(itertools.product(*every))
    columns = {f"t/{hole}": np.array(column) for hole, column in zip(case.holes, zip(*keys))}
    model = case.model(lookahead)

    @jax.jit
    @jax.vmap
    def density(sites):
        return log_density(model, (case.context, case.where), {}, sites)[0]

    expected = np.array([table.get(key, 0.0) for key in keys])
    assert 0 < (expected > 0).sum() < len(keys) or name == "two holes"
    np.testing.assert_allclose(np.exp(density(columns)), expected, rtol=2e-5, atol=1e-12)


def simulate(case, kernel, lookahead, num_particles, runs, seed=0):
    config = FilterConfig(num_particles, Control(0.7, sx.systematic))
    kernel = kernel(case.model(lookahead))

    @jax.jit
    def many(keys):
        def one(key):
            population = run_particles(kernel, config, SiteNumbers(), key, (case.context, case.where), {})
            return population.samples, population.log_weights

        return jax.vmap(one)(keys)

    samples, log_weights = jax.device_get(many(jax.random.split(jax.random.key(seed), runs)))
    holes = [samples[f"t/{hole}"] for hole in case.holes]
    return holes, np.exp(log_weights.astype(np.float64)) / num_particles


def awrs(model):
    return sx.AWRS(model, use_masks=False)


@pytest.mark.parametrize(
    ("name", "kernel", "lookahead", "num_particles"),
    [
        ("spaces", awrs, True, 4),
        slow("two holes", sx.Prior, False, 16),
        slow("two holes", sx.Prior, True, 5),
        slow("constrained", awrs, 2, 5),
        slow("constrained", sx.AWRS, True, 3),
        slow("open end", sx.LocallyConstrained, 1, 3),
    ],
)
def test_every_filling_has_its_probability(name, kernel, lookahead, num_particles):
    case, runs = CASES[name], 32_000 // num_particles
    holes, weights = simulate(case, kernel, lookahead, num_particles, runs)
    table = case.table()
    index = {key: i for i, key in enumerate(table)}
    sums = np.zeros((runs, len(index)))
    for i in zip(*np.nonzero(weights > 0)):
        key = tuple(tuple(hole[i].tolist()) for hole in holes)
        sums[i[0], index[key]] += weights[i]
    truth = np.array(list(table.values()))
    # An entry met in a handful of runs has no normal theory; the evidence has it too.
    often = (sums > 0).sum(0) >= 50
    assert truth[often].sum() > 0.75 * truth.sum()  # the rest is rare
    columns = np.column_stack([sums[:, often], sums.sum(1)])
    expected = np.array([*truth[often], truth.sum()])
    z = (columns.mean(0) - expected) / (columns.std(0) / np.sqrt(runs))
    assert np.abs(z).max() < 4.75, f"largest z of {len(z)} entries: {np.abs(z).max():.1f}"


def test_looking_ahead_helps():
    """Where few texts go on as they must, the evidence varies less, and more particles are of use."""
    rows = np.log(
        [
            [0.50, 0.30, 0.05, 0.10, 0.05],
            [0.30, 0.55, 0.05, 0.05, 0.05],
            [0.05, 0.05, 0.10, 0.75, 0.05],
            [0.40, 0.40, 0.10, 0.05, 0.05],
            [0.40, 0.40, 0.10, 0.05, 0.05],
        ]
    )
    tokens = [b"a", b"b", b"c", b"d", b""]
    lm = sx.TableLM(rows, None, tokens, end_of_text=4)
    case = Case(
        "{x}cd",
        {"x": (5, None)},
        markov=Markov(rows, rows[4], tokens),
        encode=lambda text: [b"abcd".index(byte) for byte in text.encode()],
        context=lm.prompt(),
    )
    evidence = sum(case.table().values())
    spread, ess = {}, {}
    for lookahead in (False, True):
        _, weights = simulate(case, sx.Prior, lookahead, 16, 2000)
        estimates = weights.sum(1)
        assert abs(estimates.mean() - evidence) / (estimates.std() / np.sqrt(2000)) < 4.75
        spread[lookahead] = estimates.std() / evidence
        ess[lookahead] = np.mean(estimates**2 / np.sum(weights**2, 1))
    assert spread[True] < 0.7 * spread[False]
    assert ess[True] > 1.3 * ess[False]


def test_the_whole_text():
    t = template("a{x}")
    smc = sx.SMC(sx.Prior(lambda context: t.fill("t", context, max_tokens=2)), num_particles=8)
    smc.run(jax.random.key(0), LM.prompt())
    whole = t.text(smc)
    assert whole == t.text(smc, "t") == [f"a{x}" for x in smc.texts("t/x")]
    assert len(set(whole)) > 1
    with pytest.raises(KeyError, match="no text letter/x; the program has: t/x"):
        t.text(smc, "letter")
    with pytest.raises(KeyError, match="filled under 0 names"):
        template("{z}").text(smc)
    # Text cannot be put behind a prompt that still owes a token.
    with pytest.raises(ValueError, match="the context's prompt was healed"):
        smc.run(jax.random.key(0), dataclasses.replace(LM.prompt(), seam=jax.numpy.int32(1)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Dear you", "no hole"),
        ("{a} and {a}", r"the hole \{a\} is there twice"),
        ("{a}{b}", r"nothing stands between \{a\} and \{b\}"),
        ("{}", r"\{\} is no hole"),
        ("{0}", r"\{0\} is no hole"),
        ("{a.b}", r"\{a.b\} is no hole"),
        ("{a!r}", r"\{a!r\} is no hole"),
        ("{a:>3}", r"\{a:>3\} is no hole"),
        ("{a} }", "a brace that is no hole is doubled"),
        ("{a", "a brace that is no hole is doubled"),
    ],
)
def test_what_is_no_template(text, why):
    with pytest.raises(ValueError, match=why):
        template(text)


def test_braces_are_doubled():
    t = template("{{{x}}} = {{{{}}}}{y}")
    assert t.pieces == ("{", "} = {{}}", "") and t.holes == ("x", "y")
    assert t.format({"x": "1", "y": "2"}) == "{1} = {{}}2"


def test_what_is_no_filling():
    t = template("{x}a{y}")
    for arguments, why in [
        ({"max_tokens": {"x": 1}}, "max_tokens is missing for hole 'y'"),
        ({"max_tokens": {"x": 1, "z": 1}}, "max_tokens names a hole 'z'; the template has: 'x', 'y'"),
        ({"max_tokens": 1, "where": {"z": None}}, "where names a hole 'z'"),
        ({"max_tokens": 0}, "max_tokens must be an integer of at least 1"),
        ({"max_tokens": 1, "lookahead": 0}, "lookahead must be True, False or a number"),
        ({"max_tokens": 1, "lookahead": -2}, "lookahead must be True, False or a number"),
    ]:
        with pytest.raises(ValueError, match=why):
            t.fill("t", LM.prompt(), **arguments)
    with pytest.raises(TypeError, match="give a language model or a context, got str"):
        t.fill("t", "a text", max_tokens=1)
    with pytest.raises(ValueError, match="has the byte b'z'"):
        template("{x}z").fill("t", LM.prompt(), max_tokens=1)


def test_the_density_on_a_transformer():
    """The model's own score of the whole text, whatever was looked ahead at in its cache."""
    lm = sx.load()
    t = template("{who} I admire most is {name}.")
    ids = lm.vocabulary.encode
    who, between, name = ids(" physicist"), ids(" I admire most is"), ids(" Marie Curie")
    assert between + ids(" ") == ids(t.pieces[1]), "a space in front of the name, which is taken back"
    sites = {
        f"t/{hole}": jax.numpy.array(row + [lm.vocabulary.end_of_text] * (n - len(row)))
        for hole, row, n in [("who", who, 4), ("name", name, len(name))]
    }

    def model(context):
        t.fill("t", context, max_tokens={"who": 4, "name": len(name)}, lookahead=2, end=True)

    context = lm.prompt("The", heal=False)
    density = jax.jit(lambda context, sites: log_density(model, (context,), {}, sites)[0])(context, sites)
    exact = lm.score([who + between + name + ids(".")], "The", end=True, heal=False)[0]
    assert exact > -60
    np.testing.assert_allclose(density, exact, rtol=1e-4)


@pytest.mark.slow
def test_looking_ahead_helps_a_transformer():
    lm = sx.load()
    t = template("{who} I admire most is")
    context, ess = lm.prompt("The "), {}
    for lookahead in (False, True):

        def model(context, lookahead=lookahead):
            t.fill("t", context, max_tokens=4, lookahead=lookahead)

        smc = sx.SMC(sx.Prior(model), num_particles=32)
        ess[lookahead] = []
        for seed in range(10):
            smc.run(jax.random.key(seed), context)
            ess[lookahead].append(smc.ess)
        assert all(text.endswith(" I admire most is") for text in t.text(smc))
    assert np.mean(ess[True]) > 1.3 * np.mean(ess[False]), ess
