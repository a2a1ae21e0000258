"""Masked diffusion under a grammar: masks against all fillings, weights against enumeration, texts that parse.

The law of the weighted particles is checked on a model small enough to enumerate: the mean over independent
runs of w 1{text} against the text's probability under the unconstrained model, by z scores as in
`test_unbiased.py` (|z| < 4.75 for each entry: false-alarm rate 2e-6), and each weight of masked draws exactly.
"""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import random

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest

import sentax as sx
from sentax.inference.control import Control
from sentax.inference.diffusion import LeftToRight, MostConfident, Order, RandomOrder, denoise
from sentax.inference.engine import SiteNumbers, run_particles
from sentax.inference.filter import FilterConfig
from sentax.inference.resampling import systematic
from sentax.models.data import snippets
from sentax.models.errors import ModelError
from sentax.models.masked import MaskedConfig, MaskedLM
from sentax.models.masked_training import MaskedSettings, make_rows, train
from sentax.models.vocabulary import Vocabulary
from sentax.ppl.holes import ContextFreeGrammar
from sentax.ppl.holes.canvas import Canvas, Slots
from sentax.ppl.holes.unmasking import UnmaskingEngine, filling_of, words

PAIRS = ContextFreeGrammar('start: ("(" start ")")*')
VOCABULARY = Vocabulary([b"(", b")", b""], end_of_text=2)
END, OPEN = 2, 3


def small_model(seed: int) -> MaskedLM:
    """Random, and far from uniform."""
    config = MaskedConfig(3, max_positions=4, hidden_size=8, num_layers=1, num_heads=2)
    lm = MaskedLM.init(VOCABULARY, config, seed=seed)
    return dataclasses.replace(lm, params=jax.tree.map(lambda leaf: 3 * leaf, lm.params))


LM = small_model(1)
CANVAS = Canvas.of(VOCABULARY, "(", Slots(3))


# A plain reading of the definition: the model's own table, and a walk over every course.


class Walk:
    """Every course of filling a canvas, in float64, apart from the program.

    What the model `saw` last is the canvas that its predictions are of.
    """

    def __init__(self, lm: MaskedLM, canvas: tuple[int, ...], holes: tuple[int, ...]) -> None:
        self.lm, self.canvas, self.holes = lm, canvas, holes
        logits = jax.jit(lm.logits)
        self.known: dict[tuple[int, ...], np.ndarray] = {}
        self.logits = lambda c: np.asarray(logits(jnp.array(c, jnp.int32)), np.float64)

    def log_probs(self, canvas: tuple[int, ...]) -> np.ndarray:
        if canvas not in self.known:
            logits = self.logits(canvas)
            self.known[canvas] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return self.known[canvas]

    def draw(
        self, canvas: tuple[int, ...], slot: int, saw: tuple[int, ...]
    ) -> list[tuple[float, tuple[int, ...]]]:
        """What may become of a slot, with probabilities."""
        behind = [i for i in range(slot + 1, len(canvas)) if self.holes[i] == self.holes[slot]]
        p = np.exp(self.log_probs(saw)[slot])
        if any(canvas[i] not in (END, OPEN) for i in behind):
            p[END] = 0.0
        p /= p.sum()
        outcomes = []
        for token in np.flatnonzero(p > 0).tolist():
            after = list(canvas)
            after[slot] = token
            if token == END:
                for i in behind:
                    after[i] = END if after[i] == OPEN else after[i]
            outcomes.append((float(p[token]), tuple(after)))
        return outcomes

    def next(
        self, order: Order, canvas: tuple[int, ...], permutation: tuple[int, ...], saw: tuple[int, ...]
    ) -> int:
        slots = [i for i, token in enumerate(canvas) if token == OPEN]
        if isinstance(order, MostConfident):
            return max(slots, key=lambda i: self.log_probs(saw)[i].max())
        return min(slots, key=permutation.index)

    def table(self, order: Order, valid, slots_per_pass: int) -> dict[bytes, float]:
        """`q(x) 1[x valid]` by text; for a random order the mean over all permutations."""
        slots = [i for i, token in enumerate(self.canvas) if token == OPEN]
        orders = list(itertools.permutations(slots)) if order.needs_noise else [tuple(slots)]
        table: dict[bytes, float] = {}

        def follow(canvas, p, permutation, saw, step) -> None:
            if OPEN not in canvas:
                text = b"".join(VOCABULARY.tokens[t] for t in canvas)
                if valid(text):
                    table[text] = table.get(text, 0.0) + p / len(orders)
                return
            saw = canvas if step % slots_per_pass == 0 else saw
            for chance, after in self.draw(canvas, self.next(order, canvas, permutation, saw), saw):
                follow(after, p * chance, permutation, saw, step + 1)

        for permutation in orders:
            follow(self.canvas, 1.0, permutation, self.canvas, 0)
        return table

    def fillings(self, canvas: tuple[int, ...]) -> set[bytes]:
        """Every text that the canvas can become."""
        if OPEN not in canvas:
            return {b"".join(VOCABULARY.tokens[t] for t in canvas)}
        slot = canvas.index(OPEN)
        return set().union(*(self.fillings(after) for _, after in self.draw(canvas, slot, canvas)))

    def weight(self, order: Order, tokens: list[int]) -> float:
        """Of a course: the product of the locally allowed masses."""
        canvas, weight = self.canvas, 1.0
        for token in tokens:
            if OPEN not in canvas:
                break
            slot = self.next(order, canvas, tuple(range(len(canvas))), canvas)
            allowed = [
                o for o in self.draw(canvas, slot, canvas) if any(map(PAIRS.accepts, self.fillings(o[1])))
            ]
            weight *= sum(p for p, _ in allowed)
            canvas = next(after for _, after in allowed if after[slot] == token)
        return weight


WALK = Walk(LM, tuple(np.asarray(CANVAS.tokens).tolist()), tuple(np.asarray(CANVAS.holes).tolist()))
KERNELS = {
    "masks": sx.LocallyConstrained,
    "rejection": lambda model: sx.AWRS(model, estimator=sx.recursive, use_masks=False),
}


def check_law(tokens, log_weights, expected: dict[bytes, float]) -> None:
    """
    :param tokens: `[runs, N, L]`, and `log_weights` `[runs, N]`.
    :param expected: by text, the mean of w 1{text}.
    """
    runs, N = log_weights.shape
    index = {text: i for i, text in enumerate(expected)}
    sums = np.zeros((runs, len(index)))
    for run, n in np.ndindex(runs, N):
        text = VOCABULARY.decode(tokens[run, n])
        assert text in index, text
        sums[run, index[text]] += np.exp(log_weights[run, n]) / N
    truth = np.array(list(expected.values()))
    common = (sums > 0).sum(axis=0) >= 50
    assert common.sum() >= 3
    z = (sums.mean(axis=0) - truth) / np.maximum(sums.std(axis=0) / np.sqrt(runs), 1e-9)
    assert np.abs(z[common]).max() < 4.75
    total = sums.sum(axis=1)
    assert abs(total.mean() - truth.sum()) < 4.75 * max(total.std() / np.sqrt(runs), 1e-6)


def test_texts_without_a_constraint():
    """The program by itself, under NumPyro's own handlers, in a random order."""

    def text(rng_key):
        with numpyro.handlers.seed(rng_seed=rng_key):
            return denoise("text", LM, CANVAS).tokens

    tokens = np.asarray(jax.jit(jax.vmap(text))(jax.random.split(jax.random.key(3), 12_000)))
    check_law(tokens[:, None], np.zeros((12_000, 1)), WALK.table(RandomOrder(), lambda text: True, 1))


@pytest.mark.parametrize(
    ("kernel", "order", "slots_per_pass"),
    [
        ("rejection", RandomOrder(), 1),
        pytest.param("masks", MostConfident(), 2, marks=pytest.mark.slow),
        pytest.param("masks", LeftToRight(), 1, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_weighted_particles_have_the_law(kernel, order, slots_per_pass):
    where = filling_of(PAIRS, CANVAS)
    options = {"order": order, "slots_per_pass": slots_per_pass}
    model = KERNELS[kernel](lambda lm, where: denoise("text", lm, CANVAS, where, **options))
    config = FilterConfig(4, Control(0.7, systematic))

    @jax.jit
    def many(keys):
        def one(key):
            population = run_particles(model, config, SiteNumbers(), key, (LM, where), {})
            return population.texts["text"].tokens, population.log_weights

        return jax.vmap(one)(keys)

    tokens, log_weights = jax.device_get(many(jax.random.split(jax.random.key(3), 3000)))
    check_law(tokens, log_weights, WALK.table(order, PAIRS.accepts, slots_per_pass))


def test_each_weight_of_the_masked_draw_is_exact():
    where = filling_of(PAIRS, CANVAS)
    smc = sx.SMC(
        sx.LocallyConstrained(lambda where: denoise("text", LM, CANVAS, where, order=MostConfident())),
        num_particles=64,
        ess_threshold=0.0,
    )
    smc.run(jax.random.key(0), where)
    drawn = np.asarray(smc.population.samples["text"])
    expected = [WALK.weight(MostConfident(), row.tolist()) for row in drawn]
    assert len(set(smc.texts("text"))) > 1
    np.testing.assert_allclose(np.exp(smc.log_weights), expected, rtol=1e-5)


# Tokens of several bytes, that overlap, and two holes with known text around them.
PIECES = (b"(", b")", b"()", b")(", b"((", b"")


def test_masks_against_all_fillings():
    rng = random.Random(4)
    longest = 3 * 2 + 2
    texts = {t for n in range(0, longest + 1, 2) for t in map("".join, itertools.product("()", repeat=n))}
    valid = {t.encode() for t in texts if PAIRS.accepts(t)}
    asked = mixed = 0
    for _ in range(60):
        left, right = rng.randint(1, 2), 1
        holes = (*(0,) * left, -1, *(1,) * right)
        canvas = [6] * len(holes)
        canvas[left] = rng.choice([0, 1, 3])
        engine = UnmaskingEngine(PAIRS, PIECES, 5, tuple(canvas), holes)
        for slot in rng.sample([i for i, h in enumerate(holes) if h >= 0], rng.randint(0, left)):
            if engine.initial[slot] == 6:
                engine.initial = engine.filled(engine.initial, slot, rng.randrange(6))
        found = engine.start().allowed
        for slot in (i for i, token in enumerate(engine.initial) if token == 6):
            for token in range(6):
                fillings = filled_texts(engine, engine.filled(engine.initial, slot, token))
                expected = bool(fillings & valid)
                asked += 1
                mixed += expected
                assert (slot in found and bool(found[slot][token])) == expected, (engine.initial, slot, token)
                # One token at a time, by an engine that made no mask.
                engine.sheets.clear()
                assert engine.prefix(engine.start(), words(slot, token)) == expected
    assert 0.1 * asked < mixed < 0.9 * asked


def filled_texts(engine: UnmaskingEngine, canvas: tuple[int, ...]) -> set[bytes]:
    """All texts, one slot after the other; none where a hole has a text behind its end."""
    for i, token in enumerate(canvas):
        behind = [t for t, h in zip(canvas[i + 1 :], engine.holes[i + 1 :]) if h == engine.holes[i]]
        if token == 5 and any(t not in (5, 6) for t in behind):
            return set()
    if 6 not in canvas:
        return {b"".join(PIECES[t] for t in canvas)}
    slot = canvas.index(6)
    return set().union(*(filled_texts(engine, engine.filled(canvas, slot, t)) for t in range(6)))


# A larger language; the model knows nothing of it.
JSON = ContextFreeGrammar(snippets.JSON)
LETTERS = snippets.vocabulary()


@pytest.fixture(scope="module")
def trained():
    """A model that has seen a little JSON, and its losses."""
    config = MaskedConfig(LETTERS.size, max_positions=20, hidden_size=16, num_layers=1, num_heads=2)
    settings = MaskedSettings(steps=40, batch=16, learning_rate=2e-2, steps_per_call=40)
    return train(snippets.json, LETTERS, config, settings)


def test_every_text_parses_in_one_program(trained):
    """Two holes and one, drawn by rejection: canvases of a size share what was compiled."""
    traces = []

    def model(lm, canvas, where):
        traces.append(canvas)
        return denoise("text", lm, canvas, where)

    smc = sx.SMC(sx.AWRS(model, estimator=sx.recursive, use_masks=False), num_particles=8)
    counts = []
    for parts in [('{"', Slots(5), '":[', Slots(6), "]}"), ("[", Slots(11), ',"xy"]')]:
        canvas = Canvas.of(LETTERS, *parts)
        smc.run(jax.random.key(5), trained[0], canvas, filling_of(JSON, canvas))
        counts.append(len(traces))
        assert np.isfinite(smc.log_weights).all()
        for text in smc.texts("text"):
            assert JSON.accepts(text), text
            at = 0
            for part in parts:
                if isinstance(part, str):
                    at = text.index(part, at) + len(part)
    assert counts[0] == counts[1]


def test_a_canvas_without_fillings():
    canvas = Canvas.of(LETTERS, "[]", Slots(3), '"x"]')
    with pytest.raises(ValueError, match="has no text that fills this canvas"):
        filling_of(JSON, canvas)


def test_training_lowers_the_bound_and_survives_the_disk(trained, tmp_path):
    lm, losses = trained
    assert losses[-10:].mean() < 0.75 * losses[:5].mean()
    lm.save(tmp_path)
    copy = MaskedLM.load(tmp_path)
    tokens = jnp.array([3, lm.mask, 7, lm.mask], jnp.int32)
    np.testing.assert_array_equal(copy.logits(tokens), lm.logits(tokens))
    assert copy.vocabulary.tokens == lm.vocabulary.tokens
    assert repr(copy) == repr(lm)
    with pytest.raises(ModelError, match="holds no masked language model"):
        MaskedLM.load(tmp_path / "elsewhere")


@pytest.mark.parametrize("kind", ["statements", "json"])
def test_generated_texts_parse(kind):
    grammar = ContextFreeGrammar({"statements": snippets.STATEMENTS, "json": snippets.JSON}[kind])
    rng = random.Random(6)
    texts = [getattr(snippets, kind)(rng) for _ in range(150)]
    for text in texts:
        assert grammar.accepts(text), text
        LETTERS.encode(text)
    assert len(set(texts)) > 90


def test_rows_hold_their_texts():
    rng = random.Random(7)
    rows = make_rows(snippets.json, LETTERS, 40, 30, rng)
    for row in rows:
        kept = [LETTERS.tokens[t] for t in row if t != LETTERS.end_of_text]
        assert JSON.accepts(b"".join(kept))
    with pytest.raises(ValueError, match="more than 1 tokens"):
        make_rows(snippets.json, LETTERS, 1, 1, rng)


def test_engines_are_pickled_without_what_they_found():
    constraint = filling_of(PAIRS, CANVAS)
    copy = pickle.loads(pickle.dumps(constraint))
    assert repr(copy) == repr(constraint) == "filling_of(" + repr(PAIRS) + ")"
    engine = copy.keeper.trie.engine
    assert engine.checks == 0
    assert engine.complete(engine.start(), words(1, 1, 2, 2))
    assert not engine.complete(engine.start(), words(1, 1))


def test_bad_arguments():
    model = lambda **options: denoise("text", LM, CANVAS, **options)
    for options, error, message in [
        ({"where": sx.regex("a")}, TypeError, "`where` is made by filling_of"),
        ({"order": "random"}, TypeError, "`order` is an Order"),
        ({"slots_per_pass": 0}, ValueError, "slots_per_pass must be an integer of at least 1, got 0"),
    ]:
        with pytest.raises(error, match=message):
            model(**options)
    with pytest.raises(ValueError, match="the model has 3 tokens, the canvas was made for 56"):
        denoise("text", LM, Canvas.of(LETTERS, Slots(2)))
    with pytest.raises(ValueError, match="a canvas of 6 tokens does not fit into the 4 positions"):
        denoise("text", LM, Canvas.of(VOCABULARY, Slots(6)), order=LeftToRight())
    with pytest.raises(ValueError, match="without Slots has nothing to fill"):
        Canvas.of(VOCABULARY, "()")
    with pytest.raises(TypeError, match="str, bytes and Slots, not int"):
        Canvas.of(VOCABULARY, 3)
    with pytest.raises(ValueError, match="the size is an integer of at least 1, not 0"):
        Slots(0)
    with pytest.raises(TypeError, match="expected a ContextFreeGrammar"):
        filling_of("start: x", CANVAS)
    with pytest.raises(ValueError, match="no multiple of num_heads"):
        MaskedConfig(3, hidden_size=10, num_heads=4)
