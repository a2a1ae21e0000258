"""Temperature, top-k, top-p and min-p against their definitions, by sorting and by enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import sentax as sx
from sentax.models import TableLM, load
from sentax.models.methods import TransformedLM
from sentax.models.transforms import MinP, Temperature, TopK, TopP
from sentax.ppl.language_model import Context, LanguageModel

INF = np.inf
ROWS = np.random.default_rng(0).normal(0, 3, (6, 50)).astype(np.float32)
ROWS[1] = np.round(ROWS[1])  # ties everywhere
ROWS[2, ::2] = -INF
ROWS[3] = 2.0  # all alike: p is no multiple of 1/50
ROWS[4] *= 1e4  # beyond the range of exp
ROWS[5] = -INF
ROWS[5, 7] = -3.0


@jax.jit
def apply(transform, logits):
    return transform(logits)


def kept_by(transform, logits):
    out = np.asarray(apply(jax.tree.map(jnp.asarray, transform), logits))
    kept = ~np.isneginf(out)
    np.testing.assert_array_equal(out[kept], logits[kept])
    return kept


def probabilities(logits):
    p = np.exp(logits.astype(np.float64) - logits.max())
    return p / p.sum()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("k", [1, 2, 7, 25, 49, 50, 60])
def test_top_k(row, k):
    """Those with fewer than k tokens above them."""
    above = (row[None] > row[:, None]).sum(axis=1)
    assert kept_by(TopK(k), row).tolist() == ((above < k) & ~np.isneginf(row)).tolist()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("p", [1e-4, 0.11, 0.51, 0.77, 0.999, 1.0])
def test_top_p(row, p):
    """Those with less than p of mass above them; nothing is lost to rounding at p = 1."""
    probs = probabilities(row)
    above = np.array([probs[probs > q].sum() for q in probs])
    assert np.abs(above - p).min() > 1e-6 or p == 1.0  # the test does not hang on rounding
    expected = ~np.isneginf(row) if p == 1.0 else (above < p) & (probs > 0)
    assert kept_by(TopP(p), row).tolist() == expected.tolist()


def test_top_p_keeps_ties_and_at_least_one():
    logits = np.log(np.array([0.3, 0.3, 0.25, 0.15], np.float32))
    for p, kept in [(0.01, 2), (0.31, 2), (0.59, 2), (0.61, 3), (0.84, 3), (0.86, 4)]:
        assert kept_by(TopP(p), logits).sum() == kept


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("p", [0.0, 0.05, 0.5, 1.0])
def test_min_p(row, p):
    expected = row >= (row.max() + np.log(np.float32(p)) if p else -INF)
    assert kept_by(MinP(p), row).tolist() == (expected & ~np.isneginf(row)).tolist()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("value", [0.01, 0.5, 1.0, 3.0])
def test_temperature(row, value):
    out = np.asarray(apply(Temperature(value), row))
    assert np.isneginf(out).tolist() == np.isneginf(row).tolist()
    expected = (row - row.max()) / np.float32(value)
    np.testing.assert_allclose(out[np.isfinite(out)], expected[np.isfinite(out)], rtol=1e-6)


def test_the_gradient_of_a_temperature_where_a_token_is_impossible():
    """Against the derivative of the log-softmax: (E[l] - l_i) / t^2 over what is possible."""
    logits = jnp.array([1.0, 0.0, -jnp.inf, 2.0])

    def log_prob(value):
        return jax.nn.log_softmax(Temperature(value)(logits))[1]

    possible = np.array([1.0, 0.0, 2.0])
    p = np.exp(possible / 1.3) / np.exp(possible / 1.3).sum()
    np.testing.assert_allclose(jax.grad(log_prob)(1.3), (p @ possible - 0.0) / 1.3**2, rtol=1e-5)


@pytest.mark.parametrize("transform", [TopK(3), TopP(0.5), MinP(0.5), Temperature(0.5)])
def test_broken_logits_stay_broken(transform):
    row = ROWS[0].copy()
    row[3] = np.nan
    transform = jax.tree.map(jnp.asarray, transform)
    assert np.isnan(apply(transform, row)).any()
    lanes = jax.jit(jax.vmap(apply, in_axes=(None, 0)))(transform, ROWS)
    for lane, row in zip(lanes, ROWS):
        np.testing.assert_array_equal(lane, apply(transform, row))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda lm: lm.temperature(0.0), "temperature must be above 0; top_k"),
        (lambda lm: lm.temperature(np.inf), "temperature must be above 0"),
        (lambda lm: lm.top_k(0), "top_k must be an integer of at least 1, got 0"),
        (lambda lm: lm.top_k(2.5), "top_k must be an integer"),
        (lambda lm: lm.top_p(0.0), "top_p must be above 0 and at most 1, got 0"),
        (lambda lm: lm.top_p(np.float32(1.5)), "top_p"),
        (lambda lm: lm.min_p(-0.1), "min_p must be between 0 and 1"),
    ],
)
def test_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make(TableLM.uniform([b"a"]))


TOKENS = [b"a", b"b", b"c", b""]
TABLE = np.log(np.random.default_rng(1).dirichlet(np.ones(4), 4))


def test_a_transformed_model_is_a_model():
    """The probabilities of all texts, by enumeration, as a score and as a program's density."""
    lm = TableLM(TABLE, None, TOKENS, end_of_text=3)
    sharp = lm.temperature(0.6).top_k(3)
    assert isinstance(sharp, LanguageModel)
    assert isinstance(sharp.prompt(), Context)
    assert "Temperature" in repr(sharp) and "TopK" in repr(sharp)

    def row(logits):
        p = probabilities(logits / 0.6)
        p[np.argsort(p)[0]] = 0.0
        return p / p.sum()

    steps = [row(r) for r in TABLE]
    texts = np.array(list(itertools.product(range(3), repeat=2)))
    with np.errstate(divide="ignore"):
        expected = np.log([steps[3][a] * steps[a][b] for a, b in texts])
    assert np.isneginf(expected).any() and np.isfinite(expected).any()
    np.testing.assert_allclose(sharp.score(texts.tolist()), expected, rtol=1e-5)

    context = sharp.prompt()
    model = lambda: sx.generate("text", context, max_tokens=2)
    density = jax.jit(jax.vmap(lambda text: numpyro.infer.util.log_density(model, (), {}, {"text": text})[0]))
    np.testing.assert_allclose(density(texts), expected, rtol=1e-5)


def test_order_matters():
    lm = TableLM(TABLE, None, TOKENS, end_of_text=3)
    logits = np.asarray(lm.prompt().logits)
    tempered = np.asarray(lm.temperature(0.2).top_p(0.9).prompt().logits)
    nucleus = np.asarray(lm.top_p(0.9).temperature(0.2).prompt().logits)
    sharp = np.asarray(Temperature(0.2)(jnp.asarray(logits)))
    np.testing.assert_array_equal(np.isneginf(tempered), ~kept_by(TopP(0.9), sharp))
    np.testing.assert_array_equal(np.isneginf(nucleus), ~kept_by(TopP(0.9), logits))
    assert np.isneginf(tempered).sum() > np.isneginf(nucleus).sum()


def test_a_latent_temperature():
    """Traced numbers: the posterior of a temperature given a text, by enumeration."""
    lm = TableLM(TABLE, None, TOKENS, end_of_text=3)
    values = jnp.array([0.3, 1.0, 3.0])

    def model():
        i = numpyro.sample("i", dist.Categorical(probs=jnp.ones(3) / 3))
        context = lm.temperature(values[i]).prompt()
        with numpyro.handlers.condition(data={"text": jnp.array([0, 1])}):
            sx.generate("text", context, max_tokens=2)

    rows = [TABLE[3], TABLE[0]]
    weights = [
        np.prod([probabilities(r / t)[token] for r, token in zip(rows, (0, 1))]) for t in (0.3, 1.0, 3.0)
    ]
    density = lambda i: numpyro.infer.util.log_density(model, (), {}, {"i": i})[0]
    densities = jax.jit(jax.vmap(density))(jnp.arange(3))
    np.testing.assert_allclose(densities, np.log(weights) - np.log(3), rtol=1e-5)


def test_over_a_transformer():
    """Reserve, extend, fixed text, seam and room are the model's own."""
    lm = load()
    cold = TransformedLM(lm, Temperature(0.5))
    plain, context = lm.prompt("She said hel").reserve(4), cold.prompt("She said hel").reserve(4)
    assert int(context.seam) == int(plain.seam) > 0
    assert int(context.room) == int(plain.room)
    same = lambda a, b: np.testing.assert_allclose(
        jax.nn.log_softmax(a.logits), jax.nn.log_softmax(2 * b.logits), atol=1e-4
    )
    same(context, plain)
    token = int(plain.logits.argmax())
    same(context.extend(token), plain.extend(token))
    np.testing.assert_array_equal(context.extend(token, False).logits, context.logits)
    same(context.append_text(" and"), plain.append_text(" and"))
    same(context.append([5, 6]), plain.append([5, 6]))
    unhealed = cold.prompt("She said hel", heal=False)
    assert int(unhealed.seam) == 0
