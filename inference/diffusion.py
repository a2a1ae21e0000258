"""Masked diffusion as a NumPyro program: a text that is filled in slot by slot, in any order."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int
from numpyro.contrib.control_flow import scan

from sentax.ppl.constraints.host import HostConstraint
from sentax.ppl.constraints.host_masks import HostMasker
from sentax.ppl.constraints.masks import unpack
from sentax.ppl.holes.canvas import Canvas, Slots
from sentax.ppl.holes.unmasking import WORD, UnmaskingEngine, filling_of
from sentax.ppl.primitives import _declare, _hard
from sentax.ppl.text import Text
from sentax.ppl.token import TokenDistribution


class MaskedLanguageModel(Protocol):
    """What is asked of a masked language model (:class:`~sentax.models.masked.MaskedLM`)."""

    @property
    def vocabulary(self) -> Any: ...

    def logits(self, tokens: Int[Array, " L"]) -> Float[Array, "L V"]:
        """For every position; open slots hold the id V."""
        ...


class Order:
    """Which open slot is filled next: a function of the canvas and of noise, never of the constraint."""

    needs_noise: ClassVar[bool] = False

    def priority(self, log_probs: Float[Array, "L V"], noise: Float[Array, " L"]) -> Float[Array, " L"]:
        """For each position; the open slot with the highest priority comes next.

        :param log_probs: the model's predictions, from its last pass.
        :param noise: uniform on [0, 1), drawn once for a text.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return type(self).__name__


@dataclasses.dataclass(frozen=True, repr=False)
class RandomOrder(Order):
    """A permutation that is uniform over all: the reverse process of masked diffusion, a slot at a time."""

    needs_noise = True

    def priority(self, log_probs: Float[Array, "L V"], noise: Float[Array, " L"]) -> Float[Array, " L"]:
        del log_probs
        return noise


@dataclasses.dataclass(frozen=True, repr=False)
class MostConfident(Order):
    """The slot whose most probable token is the most probable (Chang et al. 2022, MaskGIT, without noise)."""

    def priority(self, log_probs: Float[Array, "L V"], noise: Float[Array, " L"]) -> Float[Array, " L"]:
        del noise
        return log_probs.max(axis=-1)


@dataclasses.dataclass(frozen=True, repr=False)
class LeftToRight(Order):
    """The first open slot."""

    def priority(self, log_probs: Float[Array, "L V"], noise: Float[Array, " L"]) -> Float[Array, " L"]:
        del noise
        return -jnp.arange(log_probs.shape[0], dtype=jnp.float32)


def denoise(
    name: str,
    lm: MaskedLanguageModel,
    canvas: Canvas,
    where: HostConstraint | None = None,
    *,
    order: Order = RandomOrder(),
    slots_per_pass: int = 1,
) -> Text:
    r"""A text drawn from a masked language model, slot by slot, optionally so that it parses.

    In NumPyro's terms: a `scan` over the slots of the canvas with one token site, `name`, and one factor,
    `name/where`, in each (with `slots_per_pass` of k a scan of one k-th the length, with k sites `name/0`, ...
    and factors in each step); with :class:`RandomOrder` also a site `name/order`, uniform noise before it. The
    site's tokens are in the order in which they were drawn. With :math:`\sigma_k` the slot that the order names
    next,

    .. math:: q(x, \sigma)\, 1[x \in \text{where}],\qquad
              q(x \mid \sigma) = \prod_k p_\theta(x_{\sigma_k} \mid x_{\sigma_1} \ldots x_{\sigma_{k-1}}).

    An end-of-text in a slot closes the rest of its hole, with probability one, and it is impossible where a
    later slot of the hole holds a text already.

    After each draw the factor asks whether what is known and the slots that are still open have a completion in
    the grammar (:mod:`sentax.ppl.holes`; Mündler, Dekoninck and Vechev 2025, arXiv 2508.10111). So under any
    kernel that draws until the factor accepts, *every* particle's text parses:

    * :class:`~sentax.inference.kernels.awrs.AWRS` with `use_masks=False` draws tokens without replacement
      and asks about each in turn;
    * `AWRS` and `LocallyConstrained` with masks draw from the allowed tokens at once, which one inside-outside
      pass over the grammar finds for all slots.

    *What the texts are distributed like.* The texts by themselves are drawn token by token from what is locally
    allowed: a distribution that is biased towards tokens that are likely now and expensive later, as in all
    constrained decoding. The weights make up for it exactly. By the kernels' law the weighted particles are
    unbiased for :math:`q(x) 1[x \in \text{where}]`, and SMC's evidence for the share of the model's own texts
    that parse; nothing is approximated but by the number of particles. This holds for every order, as an order
    looks at the canvas alone. (:math:`q` itself depends on the order, where the model's predictions are not
    those of one joint distribution.)

    :param name: the token site's name.
    :param lm: the model.
    :param canvas: known tokens and slots (:meth:`~sentax.ppl.holes.canvas.Canvas.of`).
    :param where: :func:`~sentax.ppl.holes.unmasking.filling_of` this canvas, made outside of the program.
    :param order: which slot comes next.
    :param slots_per_pass: how many slots are filled from one pass of the model; beyond 1 they are drawn
        independently of each other as far as the model goes, which is faster and worse. The law above holds
        with the model's stale predictions in the place of :math:`p_\theta`.
    :return: the whole text, without empty slots; always finished.
    :raises TypeError: if `where` or `order` is something else.
    :raises ValueError: if `slots_per_pass` is under 1, or the model's vocabulary is of another size.

    >>> import jax, sentax as sx
    >>> from sentax.models.masked import MaskedConfig, MaskedLM
    >>> from sentax.ppl.holes import ContextFreeGrammar
    >>> vocabulary = sx.TableLM.uniform([b"(", b")"]).vocabulary
    >>> lm = MaskedLM.init(vocabulary, MaskedConfig(3, hidden_size=8, num_layers=1, num_heads=1), seed=0)
    >>> canvas = Canvas.of(vocabulary, "(", Slots(3))
    >>> pairs = filling_of(ContextFreeGrammar('start: ("(" start ")")*'), canvas)
    >>> smc = sx.SMC(sx.AWRS(lambda lm, canvas, pairs: denoise("text", lm, canvas, pairs)), num_particles=32)
    >>> smc.run(jax.random.key(0), lm, canvas, pairs)
    >>> sorted(smc.posterior("text"))
    ['(())', '()', '()()']
    """
    if where is not None and not (
        isinstance(where, HostConstraint) and isinstance(where.keeper.trie.engine, UnmaskingEngine)
    ):
        raise TypeError(f"denoise({name!r}): `where` is made by filling_of(grammar, canvas), got {where!r}")
    if not isinstance(order, Order):
        raise TypeError(f"denoise({name!r}): `order` is an Order such as RandomOrder(), got {order!r}")
    if isinstance(slots_per_pass, bool) or not isinstance(slots_per_pass, int) or slots_per_pass < 1:
        raise ValueError(
            f"denoise({name!r}): slots_per_pass must be an integer of at least 1, got {slots_per_pass!r}"
        )
    V, end = canvas.vocabulary.size, canvas.vocabulary.end_of_text
    if lm.vocabulary.size != V:
        raise ValueError(
            f"denoise({name!r}): the model has {lm.vocabulary.size} tokens, the canvas was made for {V}"
        )
    size = canvas.tokens.shape[0]
    noise = jnp.zeros(size)
    if order.needs_noise:
        noise = numpyro.sample(f"{name}/order", dist.Uniform().expand([size]).to_event(1))

    masker = None
    if where is not None:
        words: Any = _Words(V)  # a masker on the host asks a vocabulary for its tokens and its end alone
        make = lambda: HostMasker.of(where.handle, words, None)
        masker = _declare("masker", None, name=name, make=make)

    def next_slot(canvas: Canvas, log_probs: Float[Array, "L V"]) -> Int[Array, ""]:
        priority = order.priority(log_probs, noise)
        return jnp.argmax(jnp.where(canvas.open, priority, -jnp.inf)).astype(jnp.int32)

    def predict(canvas: Canvas) -> Float[Array, "L V"]:
        return jax.nn.log_softmax(lm.logits(canvas.tokens).astype(jnp.float32))

    def draw(site: str, log_probs: Float[Array, "L V"], carry: Any) -> Any:
        """One slot."""
        canvas, position, state, masker = carry
        done = ~jnp.any(canvas.open)
        impossible = (jnp.arange(V) == end) & ~canvas.may_end(position)
        fn = TokenDistribution(jnp.where(impossible, -jnp.inf, log_probs[position]), forced=end, when=done)
        if where is not None:
            # `step`, not `advance`: naming a slot is no question, and must not count as one among candidates.
            state = jnp.where(done, state, where.step(state, _word(position)))
            if masker is not None:
                masker, row = masker.lookup(state, jnp.zeros((), jnp.int32), ~done)
                _declare("mask", unpack(row, V) | done, name=site)
        token = numpyro.sample(site, fn)
        fn.settle(token)
        if where is not None:
            state, allowed = where.advance(state, _word(token), False, ~done)
            if masker is not None and _declare("masked", False, name=site):
                allowed = jnp.ones((), bool)
            _hard(f"{site}/where", allowed | done)
        canvas = canvas.fill(position, token, ~done)
        return (canvas, next_slot(canvas, log_probs), state, masker), token

    sites = [name] if slots_per_pass == 1 else [f"{name}/{j}" for j in range(slots_per_pass)]

    def step(carry: Any, _: None) -> Any:
        # The model's pass stands at the end: so the factors of a candidate token depend on nothing that the
        # model has yet to compute.
        log_probs, state = carry
        tokens = []
        for site in sites:
            state, token = draw(site, log_probs, state)
            tokens.append(token)
        canvas, _, *rest = state
        log_probs = predict(canvas)
        _declare("finish", ~jnp.any(canvas.open), fill=dict.fromkeys(sites, end), result=end)
        return (log_probs, (canvas, next_slot(canvas, log_probs), *rest)), jnp.stack(tokens)

    log_probs = predict(canvas)
    state = where.init() if where is not None else ()
    start = (log_probs, (canvas, next_slot(canvas, log_probs), state, masker))
    (_, (canvas, *_)), _ = scan(step, start, None, length=-(-canvas.num_slots // slots_per_pass))
    tokens = canvas.text()
    text = Text(
        tokens,
        (tokens != end).sum(dtype=jnp.int32),
        jnp.asarray(True),
        jnp.asarray(0, jnp.int32),
        canvas.vocabulary,
        None,
        None,
    )
    _declare("text", text, name=name)
    return text


@dataclasses.dataclass(frozen=True)
class _Words:
    """A vocabulary as an :class:`UnmaskingEngine` reads it: tokens by their ids. An end that is no token is
    behind them.

    The end-of-text of the real one is a token among others here: where it goes depends on the slot.
    """

    num_tokens: int

    @property
    def tokens(self) -> tuple[bytes, ...]:
        return (*(v.to_bytes(WORD, "little") for v in range(self.num_tokens)), b"")

    @property
    def end_of_text(self) -> int:
        return self.num_tokens

    @property
    def size(self) -> int:
        return self.num_tokens + 1


def _word(number: Int[Array, ""]) -> Int[Array, " L"]:
    """A position or a token in the bytes that the engine reads."""
    return jnp.stack([number & 255, number >> 8]).astype(jnp.int32)


__all__ = [
    "Canvas",
    "LeftToRight",
    "MaskedLanguageModel",
    "MostConfident",
    "Order",
    "RandomOrder",
    "Slots",
    "denoise",
    "filling_of",
]
