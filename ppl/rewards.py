"""Rewards: factors that tilt a program towards what is worth more, and keep what it was worth."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from sentax.ppl.constraints.host import recorded_failures
from sentax.ppl.language_model import Context
from sentax.ppl.primitives import _declare, twist
from sentax.ppl.text import Text, decode, token_bytes

Scalar = Float[Array, ""] | float


def reward(name: str, value: Scalar, beta: Scalar) -> Array:
    r"""Tilts the program by :math:`\exp(r/\beta)`, and keeps :math:`r` among the results.

    With :math:`p` the program without it, the posterior is the optimum of KL-regularised reinforcement learning
    (Korbak et al. 2022, "RL with KL penalties is better viewed as Bayesian inference"; Rafailov et al. 2023,
    "Direct preference optimization", eq. 4):

    .. math:: \arg\max_q\; E_q[r(x)] - \beta\, \mathrm{KL}(q \,\|\, p) = p(x)\, e^{r(x)/\beta} / Z,

    and :math:`\beta \log Z` is what that maximum is worth. Several rewards add up: one of weight :math:`w` is
    ``reward(name, r, beta / w)``.

    :param name: the factor's name, and the key in ``population.rewards``.
    :param value: a scalar, :math:`r(x)` of this particle; `-inf` forbids it.
    :param beta: the price of a nat of divergence from the program, above 0, in the units of `value`. An array
        among the model's arguments may change without recompilation.
    :return: the value, float32.
    :raises ValueError: if the value or `beta` is not a scalar, or `beta` is known and not above 0. (Where a
        traced one is not, the factor is NaN, and the run ends with an error that names it.)

    >>> import jax, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     text = sx.generate("text", context, max_tokens=3)
    ...     reward("brevity", -text.length, beta=0.5)
    >>> smc = sx.SMC(sx.Prior(model), num_particles=8)
    >>> smc.run(jax.random.key(0), lm.prompt())
    >>> bool((smc.population.rewards["brevity"] == -smc.population.texts["text"].length).all())
    True
    """
    value, beta = _scalar("reward", name, "value", value), _positive("reward", name, beta)
    _earn(name, value, value / beta)
    return value


def cost(name: str, value: Scalar, multiplier: Scalar) -> Array:
    r"""Tilts the program by :math:`\exp(-\lambda c)`, and keeps the reward :math:`-c` among the results.

    With the multiplier at which :math:`E[c]` meets a bound, the posterior is the projection of the program on
    that bound: of all distributions that satisfy it, the one of least KL divergence from the program
    (Csiszár 1975). :func:`sentax.inference.expectations.meet_expectation` finds the multiplier.

    :param name: the factor's name; ``population.rewards[name]`` is minus the cost.
    :param value: a scalar, :math:`c(x)` of this particle; `inf` forbids it.
    :param multiplier: :math:`\lambda`, at least 0 (with 0 the cost is only kept).
    :return: the value, float32.
    :raises ValueError: as :func:`reward` does, for a multiplier under 0.

    >>> cost("length", 12, multiplier=0.5).item()
    12.0
    """
    value = _scalar("cost", name, "value", value)
    if _is_known(multiplier) and np.ndim(multiplier) == 0 and not np.asarray(multiplier) >= 0:
        raise ValueError(f"cost({name!r}): the multiplier must be at least 0, got {float(multiplier)}")
    multiplier = _scalar("cost", name, "multiplier", multiplier)
    # Free is free, even where the cost is infinite.
    priced = jnp.where(multiplier == 0, 0.0, -multiplier * value)
    _earn(name, -value, jnp.where(multiplier >= 0, priced, jnp.nan))
    return value


def outlook(name: str, value: Scalar, beta: Scalar) -> None:
    r"""What the reward of this name looks like from here: guides inference and leaves the posterior alone.

    A twist :math:`\psi_t = e^{v_t/\beta}`: it telescopes from step to step and is settled where the reward
    itself is given. For a sum of rewards per token :math:`v_t` is the sum so far. The twist without variance
    is :math:`v_t = \beta \log E_p[e^{r/\beta} \mid x_{\le t}]` (Zhao et al. 2024, "Probabilistic inference in
    language models via twisted sequential Monte Carlo").

    :param name: the reward's.
    :param value: a scalar, :math:`v_t`.
    :param beta: the reward's.
    :raises ValueError: as :func:`reward` does.

    >>> import jax, jax.numpy as jnp, numpyro, sentax as sx
    >>> from numpyro.contrib.control_flow import scan
    >>> def model(context, table):
    ...     def step(carry, _):
    ...         context, total = carry
    ...         token = numpyro.sample("token", sx.TokenDistribution(context.logits))
    ...         total = total + table[token]
    ...         outlook("worth", total, beta=0.5)
    ...         return (context.extend(token), total), token
    ...     (_, total), _ = scan(step, (context, jnp.float32(0)), None, length=3)
    ...     reward("worth", total, beta=0.5)
    >>> smc = sx.SMC(sx.LocallyConstrained(model), num_particles=8)
    >>> smc.run(jax.random.key(0), sx.TableLM.uniform([b"a", b"b"]).prompt(), jnp.array([1.0, 0.0, -1.0]))
    >>> round(smc.ess, 3)  # each token is drawn from the posterior itself
    8.0
    """
    value, beta = _scalar("outlook", name, "value", value), _positive("outlook", name, beta)
    twist(f"{name}/outlook", value / beta)


def classifier_reward(
    text: Text,
    classifier: Float[Array, " V"] | Callable[[Int[Array, " T"], Bool[Array, " T"]], Any],
) -> Array:
    """What a classifier on the device says of a text.

    :param text: the text.
    :param classifier: a table `[V]`, whose entries are summed over the text's tokens (its end is none); or any
        traceable function of the token ids `[T]` and of which of them belong to the text (`[T]`, boolean),
        such as a Flax module, that gives a scalar: a log-odds, a score.
    :raises ValueError: if the table is not `[V]`, or the function gives no scalar.

    >>> import jax, jax.numpy as jnp, sentax as sx
    >>> context = sx.TableLM.uniform([b"a", b"b"]).prompt()
    >>> text = sx.Text(
    ...     jnp.array([0, 1, 2]), jnp.int32(2), jnp.asarray(True), jnp.int32(0), context.vocabulary
    ... )
    >>> classifier_reward(text, jnp.array([0.5, 2.0, 9.0])).item()
    2.5
    >>> classifier_reward(text, lambda tokens, mask: jnp.sum(mask)).item()
    2.0
    """
    mask = jnp.arange(text.tokens.shape[-1]) < text.length
    if callable(classifier):
        value = classifier(text.tokens, mask)
        if jnp.shape(value) != ():
            raise ValueError(f"the classifier must give a scalar, got shape {jnp.shape(value)}")
        return jnp.asarray(value, jnp.float32)
    table = jnp.asarray(classifier, jnp.float32)
    if table.shape != (text.vocabulary.size,):
        raise ValueError(
            f"a table of rewards needs one for each of {text.vocabulary.size} tokens, got shape {table.shape}"
        )
    return jnp.sum(jnp.where(mask, table[text.tokens], 0.0))


def lm_ratio_reward(text: Text, preferred: Context, other: Context) -> Array:
    r"""How much likelier a text is in one context than in another: :math:`\log p_a(x) - \log p_b(x)`.

    Of one model after two prompts, or of two models with one vocabulary. The text's end counts if the model
    said it; a cut has probability one.

    :param text: the text, token by token the same in both contexts.
    :param preferred: a, before the text; `other`: b.
    :return: a scalar; `-inf` where a rules the text out. What only b rules out is worth `+inf`, which ends a
        run with an error that names the reward.
    :raises ValueError: if a vocabulary is not of the text's size.

    >>> import jax.numpy as jnp, numpy as np, sentax as sx
    >>> lm = sx.TableLM(np.log([[0.5, 0.5], [0.8, 0.2]]), None, [b"a", b""], end_of_text=1)
    >>> text = sx.Text(jnp.array([0, 1]), jnp.int32(1), jnp.asarray(True), jnp.int32(0), lm.vocabulary)
    >>> ratio = lm_ratio_reward(text, lm.prompt(), lm.prompt("a"))
    >>> round(float(jnp.exp(ratio)), 3)
    1.6
    """
    for context in (preferred, other):
        if context.vocabulary.size != text.vocabulary.size:
            raise ValueError(
                f"the text's vocabulary has {text.vocabulary.size} tokens, "
                f"a context's {context.vocabulary.size}: they must be the same"
            )
    # -inf - -inf is NaN: what a rules out is forbidden, whatever b says.
    log_a, log_b = _log_prob(text, preferred), _log_prob(text, other)
    return jnp.where(jnp.isneginf(log_a), -jnp.inf, log_a - jnp.where(jnp.isneginf(log_a), 0.0, log_b))


def unit_test_reward(text: Text, test: Callable[[str], Any]) -> Array:
    r"""What a Python function says of a text on the host: the fraction of its tests that passed.

    The function runs in one callback for all particles, and once for each text, whatever the number of
    particles and runs: so it must depend on the text alone, and must not call JAX. **It is given whatever the
    language model wrote.** To run a text as a program is for the function to make safe (another process
    without rights, a time limit); to read it as data, as here, needs nothing of that.

    :param text: the text.
    :param test: a function of the text, as `str`, that gives a number, or the verdicts of several tests: the
        reward is their mean. What a text does wrong it must answer by a verdict: an exception ends the run.
    :return: a scalar, float32.
    :raises RewardError: where the run reads its results, if the function raised or gave no finite number; names
        the text.

    A number that is to pass two tests. `ast.literal_eval` reads literals and executes nothing:

    >>> import ast, jax, sentax as sx
    >>> def tests(source):
    ...     try:
    ...         value = ast.literal_eval(source)
    ...     except (ValueError, SyntaxError):
    ...         return [False, False]
    ...     return [value % 2 == 0, 10 < value < 20]
    >>> lm = sx.TableLM.uniform([b"1", b"2", b"x"])
    >>> def model(context):
    ...     text = sx.generate("text", context, max_tokens=2)
    ...     reward("tests passed", unit_test_reward(text, tests), beta=0.1)
    >>> smc = sx.SMC(sx.Prior(model), num_particles=200)
    >>> smc.run(jax.random.key(0), lm.prompt())
    >>> next(iter(smc.posterior("text")))
    '12'
    """
    if not callable(test):
        raise TypeError(f"a unit-test reward is a function of the text, not {test!r}")
    judge = _judge(test)
    vocabulary, stop = text.vocabulary, text.stop

    def on_host(tokens: np.ndarray, seam: np.ndarray) -> np.ndarray:
        with recorded_failures():
            tokens, seam = np.asarray(tokens), np.asarray(seam)
            rows = tokens.reshape(-1, tokens.shape[-1])
            seams = np.broadcast_to(seam, tokens.shape[:-1]).reshape(-1)
            values = [judge(decode(vocabulary, *row, stop)) for row in zip(rows, seams, strict=True)]
            return np.array(values, np.float32).reshape(tokens.shape[:-1])

    return jax.pure_callback(
        on_host,
        jax.ShapeDtypeStruct((), jnp.float32),
        text.tokens,
        jnp.asarray(text.seam),
        vmap_method="broadcast_all",
    )


class RewardError(RuntimeError):
    """A reward on the host failed.

    :param text: what it was asked about.
    """

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


def _judge(test: Callable[[str], Any]) -> Callable[[str], float]:
    name = getattr(test, "__qualname__", repr(test))

    @functools.lru_cache(maxsize=1 << 16)
    def judge(text: str) -> float:
        try:
            answer = test(text)
        except Exception as cause:
            raise RewardError(f"reward {name} raised on {text!r}: {cause!r}", text) from cause
        try:
            verdicts = np.asarray(answer, np.float64).reshape(-1)
        except (TypeError, ValueError):
            verdicts = np.array([])
        value = float(verdicts.mean()) if verdicts.size else math.nan
        if not math.isfinite(value):
            raise RewardError(f"reward {name} gave {answer!r} on {text!r}, not a number or verdicts", text)
        return value

    return judge


def _log_prob(text: Text, context: Context) -> Float[Array, ""]:
    def step(carry: Any, token: Array) -> Any:
        context, seam, done = carry
        log_prob = context.logits[token] - jax.nn.logsumexp(context.logits)
        _, ends = token_bytes(text.vocabulary, token, seam, text.stop)
        context = context.extend(token, ~(done | ends))
        return (context, jnp.zeros_like(seam), done | ends), jnp.where(done, 0.0, log_prob)

    start = (context.reserve(text.tokens.shape[0]), jnp.asarray(text.seam, jnp.int32), jnp.asarray(False))
    return jnp.sum(lax.scan(step, start, text.tokens)[1])


def _earn(name: str, value: Array, log_factor: Array) -> None:
    numpyro.factor(name, log_factor)
    # What was expected of it is paid back by what it is.
    twist(f"{name}/outlook", 0.0)
    _declare("reward", value, name=name)


def _scalar(word: str, name: str, what: str, value: Any) -> Array:
    if jnp.shape(value) != ():
        raise ValueError(f"{word}({name!r}): the {what} must be a scalar, got shape {jnp.shape(value)}")
    return jnp.asarray(value, jnp.float32)


def _positive(word: str, name: str, beta: Any) -> Array:
    # Before it is an array of this trace, which nothing can be known of.
    if _is_known(beta) and np.ndim(beta) == 0 and not np.asarray(beta) > 0:
        raise ValueError(f"{word}({name!r}): beta must be above 0, got {float(beta)}")
    beta = _scalar(word, name, "beta", beta)
    return jnp.where(beta > 0, beta, jnp.nan)


def _is_known(value: Any) -> bool:
    return not isinstance(value, jax.core.Tracer)


__all__ = [
    "RewardError",
    "classifier_reward",
    "cost",
    "lm_ratio_reward",
    "outlook",
    "reward",
    "unit_test_reward",
]
