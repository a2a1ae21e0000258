"""The words that sentax adds to NumPyro: `generate`, `constrain`, `twist`, `unit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpyro
from jaxtyping import Array, Bool, Float, Int
from numpyro.contrib.control_flow import scan
from numpyro.distributions.distribution import Unit
from numpyro.primitives import _PYRO_STACK, apply_stack

from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.masks import unpack
from sentax.ppl.language_model import Context, TokenValues
from sentax.ppl.text import Text, token_bytes
from sentax.ppl.token import TokenDistribution


def generate(
    name: str,
    context: Context,
    max_tokens: int,
    where: Constraint | None = None,
    *,
    stop: str | bytes | None = None,
    proposal: Context | TokenValues | None = None,
    twist: TokenValues | None = None,
    units: Mapping[str, str] | None = None,
) -> Text:
    r"""A text drawn token by token from a language model, optionally conditioned on a constraint.

    In NumPyro's terms: a `scan` over `max_tokens` steps with one token site, `name`, and one factor,
    `name/where`, in each; then one factor, `name/end`. With :math:`x` the text and :math:`c` its bytes,

    .. math:: p(x)\, 1[c \in \text{where}],\qquad p(x) = \prod_t p(x_t \mid \text{prompt}, x_{<t}).

    A text ends when the model says so, or is cut after `max_tokens` tokens: the cut itself has
    probability one, and the factor `name/end` gives a cut text the weight `where` gives it (1 if
    it is complete as it stands, else 0), at a cost independent of V. After its end a text goes on
    with the end-of-text id, with probability one.

    The site's value is `[max_tokens]` token ids: condition on a text by giving them.

    :param name: the token site's name.
    :param context: the language model after its prompt (`lm.prompt(...)`), or after an earlier
        text (`text.context`).
    :param max_tokens: the most tokens the text may have, at least 1.
    :param where: the set the text's bytes must lie in; the bytes that repeat the prompt's end
        (`context.seam`) are not shown to it.
    :param stop: one ASCII character that ends the text like end-of-text does; it and what follows
        it in its token are not part of the text.
    :param proposal: another context with the same vocabulary (another model, another prompt, a lower
        temperature) that engines draw tokens from, in place of `context`. They make up for it in the
        weights: the text's distribution stays the same. One draw in a hundred still comes from `context`, so
        that nothing that it allows is lost. The proposal reads the same tokens. Or a function `(context,
        remaining) -> [V]` that is added to `context`'s own logits, `remaining` being how many more tokens the
        text may have: no second model runs (:class:`~sentax.inference.learning.heads.LearnedProposal`).
    :param twist: a look-ahead score of each next token, a function like that: :math:`\log \psi(x_{t+1} \mid
        x_{\le t})`, for what the program weighs the text with later on. Declared as
        :func:`twist` `name/twist`, so that it guides engines and leaves the text's distribution as it is;
        and unless there is a `proposal`, engines draw tokens from :math:`p\,\psi`
        (:class:`~sentax.inference.learning.heads.LearnedTwist`). It keeps its last value when the text has
        ended, until the program does.
    :param units: by name, ASCII characters of which any ends a unit of the text, such as
        `{"line": "\\n", "sentence": ".!?"}`; see :func:`unit`. A token that holds one ends the unit as a whole.
    :return: the text, with the context after it.
    :raises ValueError: if `max_tokens` is under 1, `stop` is not one ASCII character, a unit ends with
        anything but ASCII characters, the proposal's
        vocabulary is of another size, or a twist's values are not one for each token.

    >>> import jax, numpyro, sentax as sx
    >>> lm = sx.TableLM.uniform([b"a", b"b"])
    >>> def model(context):
    ...     return sx.generate("text", context, max_tokens=3, where=sx.regex("(ab)*"))
    >>> text = numpyro.handlers.seed(model, 1)(lm.prompt())
    >>> text.tokens.shape
    (3,)
    """
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1:
        raise ValueError(f"generate({name!r}): max_tokens must be an integer of at least 1, got {max_tokens!r}")
    if where is not None and not isinstance(where, Constraint):
        raise TypeError(
            f"generate({name!r}): `where` must be a sentax constraint (sentax.regex, sentax.predicate, ...), "
            f"got {type(where).__name__}"
        )
    stop_byte = _stop_byte(name, stop)
    vocabulary = context.vocabulary
    end_of_text = vocabulary.end_of_text
    _declare(
        "require",
        context.room >= max_tokens,
        message=f"generate({name!r}): the prompt and max_tokens={max_tokens} do not fit "
        "into the model's context window",
    )

    if twist is not None and not callable(twist):
        raise TypeError(
            f"generate({name!r}): twist must be a function (context, remaining) -> [V], got {twist!r}"
        )
    units_of = [(unit_name, _characters(name, each)) for unit_name, each in (units or {}).items()]
    proposing = (proposal is not None or twist is not None) and _declare("proposing", False)
    offsets: TokenValues | None = None
    if callable(proposal):
        proposal, offsets = None, proposal
    if proposal is not None:
        if proposal.vocabulary.size != vocabulary.size:
            raise ValueError(
                f"generate({name!r}): the proposal's vocabulary has {proposal.vocabulary.size} tokens, "
                f"the context's {vocabulary.size}: they must be the same"
            )
        # Only an engine that draws from it pays for it.
        proposal = proposal.reserve(max_tokens) if proposing else None

    # An engine that can use masks over the vocabulary asks for the memory they take; nobody else pays.
    masker = None
    if where is not None:
        masker = _declare("masker", None, name=name, make=lambda: where.masker(vocabulary, stop_byte))

    def values_of(scores: TokenValues, what: str, context: Context, remaining: Any) -> Float[Array, " V"]:
        values = jnp.asarray(scores(context, remaining), jnp.float32)
        if values.shape != (vocabulary.size,):
            raise ValueError(
                f"generate({name!r}): the {what} must give a value to each of {vocabulary.size} tokens, "
                f"it gave shape {values.shape}"
            )
        return values

    def step(carry: Any, remaining: Any) -> Any:
        context, state, seam, done, length, masker, proposal, guess = carry
        fn = TokenDistribution(context.logits, forced=end_of_text, when=done)
        if masker is not None:
            masker, words = masker.lookup(state, seam, ~done)
            _declare("mask", unpack(words, vocabulary.size) | done, name=name)
        log_psi = None if twist is None else values_of(twist, "twist", context, remaining)
        if proposing:
            if proposal is not None:
                logits = proposal.logits
            elif offsets is not None:
                logits = context.logits + values_of(offsets, "proposal", context, remaining)
            else:
                logits = context.logits + log_psi
            forced = jnp.where(jnp.arange(vocabulary.size) == end_of_text, 0.0, -jnp.inf)
            _declare("proposal", jnp.where(done, forced, logits), name=name)
        token = numpyro.sample(name, fn)
        fn.settle(token)
        if log_psi is not None:
            # Before the model reads the token: a rejection sampler asks for every candidate's.
            guess = jnp.where(done, guess, log_psi[token])
            _declare("twist", guess, name=f"{name}/twist")
        row, ends = token_bytes(vocabulary, token, seam, stop_byte)
        for unit_name, characters in units_of:
            unit(unit_name, ends | jnp.any(row[:, None] == characters))
        if where is not None:
            # A finished text has said all its bytes: nothing is asked of it again, at any price.
            state_next, allowed = where.advance(state, row, ends, ~done)
            if masker is not None and _declare("masked", False, name=name):
                # The engine draws from the mask: what the mask has decided is not asked of a candidate.
                allowed = masker.residual(where, state, row, ends, ~done)
            _hard(f"{name}/where", allowed | done)
        else:
            state_next = state
        length = length + (~done & (token != end_of_text))
        ends = done | ends
        # The model need not read what ends the text: a text that follows starts where this one stopped.
        context = context.extend(token, ~ends)
        proposal = None if proposal is None else proposal.extend(token, ~ends)
        # Finished texts stay as they are, draw end-of-text for ever and weigh nothing: a run may stop
        # early once every particle is there.
        _declare("finish", ends, fill={name: end_of_text}, result=end_of_text)
        return (context, state_next, jnp.zeros_like(seam), ends, length, masker, proposal, guess), token

    start = (
        context.reserve(max_tokens),
        where.init() if where is not None else (),
        jnp.asarray(context.seam, jnp.int32),
        jnp.asarray(False),
        jnp.asarray(0, jnp.int32),
        masker,
        proposal,
        None if twist is None else jnp.float32(0.0),
    )
    counts = None if twist is None and offsets is None else jnp.arange(max_tokens, 0, -1)
    (after, state, _, done, length, *_), tokens = scan(step, start, counts, length=max_tokens)
    if where is not None:
        # `advance` with no bytes: the same question, priced the same way, as at an end-of-text token.
        nothing = jnp.full_like(vocabulary.table[0], 256, dtype=jnp.int32)
        _, complete = where.advance(state, nothing, jnp.asarray(True), ~done)
        _hard(f"{name}/end", complete | done)
    text = Text(tokens, length, done, jnp.asarray(context.seam, jnp.int32), vocabulary, after, stop_byte)
    _declare("text", text, name=name)
    return text


def constrain(name: str, condition: Bool[Array, ...] | bool) -> None:
    """Keeps only the executions in which `condition` holds: a factor of 0 or `-inf`.

    :param name: the site's name.
    :param condition: boolean; an array means all of it.

    >>> import numpyro, sentax as sx
    >>> trace = numpyro.handlers.trace(lambda: sx.constrain("even", 4 % 2 == 0)).get_trace()
    >>> trace["even"]["fn"].log_factor.item()
    0.0
    """
    condition = jnp.asarray(condition)
    if condition.dtype != jnp.bool_:
        raise TypeError(
            f"constrain({name!r}): the condition must be boolean, got {condition.dtype}; "
            "use numpyro.factor for a soft weight"
        )
    _hard(name, jnp.all(condition))


def twist(name: str, log_value: Float[Array, ""] | float) -> None:
    r"""A look-ahead score that guides inference and leaves the posterior as it is.

    At each occurrence the particle's weight is multiplied by :math:`\psi_t / \psi_{t-1}` (the last
    value this particle gave under the same name, 1 at first) and the last value is divided out at
    the end of the program: a twisting function (Whiteley and Lee 2014; Zhao et al. 2024). In
    between, resampling and AWRS see it as a soft factor. Outside a sentax engine it does nothing.

    :param name: the twist's name; one name telescopes over steps and over scans.
    :param log_value: scalar :math:`\log \psi_t`.

    >>> import sentax as sx
    >>> sx.twist("nearly there", -0.5)
    """
    if jnp.ndim(log_value) != 0:
        raise ValueError(f"twist({name!r}): the value must be a scalar, got shape {jnp.shape(log_value)}")
    _declare("twist", jnp.asarray(log_value, jnp.float32), name=name)


def unit(name: str, ended: Bool[Array, ""] | bool) -> None:
    """Says, inside a scan, whether a unit of the text (a line, a sentence, a field) ends with this step.

    Inference may compare particles at such places only (`SMC(..., resample_at=name)`). Outside a sentax
    engine it does nothing.

    :param name: the unit's name.
    :param ended: boolean scalar.

    >>> import sentax as sx
    >>> sx.unit("line", True)
    """
    ended = jnp.asarray(ended)
    if ended.dtype != jnp.bool_ or ended.shape != ():
        raise ValueError(
            f"unit({name!r}): `ended` must be a boolean scalar, got {ended.dtype}{list(ended.shape)}"
        )
    _declare("unit", ended, name=name)


def _hard(name: str, condition: Array) -> None:
    log_factor = jnp.where(condition, 0.0, -jnp.inf)
    unit = Unit(log_factor)
    numpyro.sample(name, unit, obs=unit.sample(None), infer={"is_auxiliary": True})


def _declare(kind: str, value: Any, **details: Any) -> Any:
    """A message for a sentax engine, if one is listening, which may answer by another value.

    It has no "name" of its own: NumPyro's trace records named messages only.
    """
    if not _PYRO_STACK:
        return value
    message = {"type": f"sentax_{kind}", "fn": lambda: None, "args": (), "kwargs": {}, "value": value}
    return apply_stack(message | {"details": details})["value"]


def _characters(name: str, characters: str) -> Int[Array, " C"]:
    if not isinstance(characters, str) or not characters or not characters.isascii():
        raise ValueError(f"generate({name!r}): a unit ends with ASCII characters, got {characters!r}")
    return jnp.asarray(list(characters.encode()), jnp.int32)


def _stop_byte(name: str, stop: str | bytes | None) -> int | None:
    if stop is None:
        return None
    data = stop.encode() if isinstance(stop, str) else bytes(stop)
    if len(data) != 1 or data[0] > 127:
        raise ValueError(
            f"generate({name!r}): stop must be one ASCII character, got {stop!r}; "
            "for longer ends put them into the constraint"
        )
    return data[0]


__all__ = ["constrain", "generate", "twist", "unit"]
