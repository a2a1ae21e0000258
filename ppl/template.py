"""Texts with holes, filled by a language model that knows what comes after each of them."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
from jaxtyping import Bool

from sentax.ppl.constraints.base import Constraint
from sentax.ppl.hole import HoleContext, read, room_to_read, score
from sentax.ppl.language_model import Context, LanguageModel, VocabularyLike
from sentax.ppl.primitives import _declare, generate
from sentax.ppl.text import Text


@dataclasses.dataclass(frozen=True)
class Template:
    """A text with named holes; make one with :func:`template`.

    :param pieces: the fixed texts around the holes, one more than there are holes.
    :param holes: their names, in order.
    """

    pieces: tuple[str, ...]
    holes: tuple[str, ...]

    def fill(
        self,
        name: str,
        lm: LanguageModel | Context,
        *,
        max_tokens: int | Mapping[str, int],
        where: Mapping[str, Constraint] | None = None,
        lookahead: bool | int = True,
        heal: bool = True,
        end: bool = False,
    ) -> dict[str, Text]:
        r"""Fills the holes, in a program: each given the text before it *and* the text after it.

        With :math:`c_i` the tokens of the fixed pieces (each cut by itself) and :math:`h_i` those of the holes,

        .. math:: p(h_1, h_2, \dots) \propto p(h_1 \mid c_0)\, p(c_1 \mid c_0 h_1)\, p(h_2 \mid c_0 h_1 c_1)\,
            p(c_2 \mid \dots) \cdots \prod_i 1[h_i \in \text{where}_i],

        and the evidence is its sum over all fillings. A hole ends where the language model goes on with the
        fixed piece that follows: its length is part of what is inferred, from nothing (where it owes no bytes
        to the piece before) to `max_tokens`. A text that the model would end inside a hole has no place in the
        sum. The last hole, if no text follows, ends where the model ends it or at `max_tokens`, as
        :func:`sentax.generate` does.

        In NumPyro's terms each hole is a `scan` with a site ``name/hole``, where the end-of-text id says that
        the continuation begins, and factors ``name/hole/start``, ``/ahead`` (in the scan) and ``/then``, which
        make its density the one above; see :class:`~sentax.ppl.hole.HoleContext`.

        **Looking ahead.** After each token the next tokens of the fixed piece are scored, and particles after
        which they are unlikely lose weight early: this changes the variance, not the target. It costs a
        forward pass over these tokens for every step and particle. The first of them is free.

        :param name: of the template; the holes' sites are ``name/hole``.
        :param lm: a language model, whose prompt the first piece is (it is given: evidence is relative to it);
            or a context, after which all pieces are scored. A context's prompt must not have been healed
            (``heal=False``) if the template begins with text.
        :param max_tokens: the most tokens a hole may take, for all of them or by hole.
        :param where: constraints by hole, on the bytes of its text.
        :param lookahead: how many tokens of the next piece are scored at each step; True for all; False for no
            guidance: the first one alone decides whether the hole ends.
        :param heal: whether a hole's first token may begin with the last bytes of the piece before it, such as
            the space in front of a word: the last token of the piece is taken back where longer tokens begin
            with its bytes (as prompts are healed; a piece between two holes must have two tokens for that).
        :param end: whether the model must end the text after the template.
        :return: the holes' texts by name, each with the context after it.
        :raises ValueError: for names of holes that the template does not have, a hole without `max_tokens`, a
            piece that the vocabulary cannot write, or numbers out of range.

        >>> import jax, sentax as sx
        >>> lm = sx.TableLM.uniform([b"a", b"b", b"c"])
        >>> t = template("{first}c{second}ca")
        >>> def model(context):
        ...     t.fill("t", context, max_tokens=2, where={"first": sx.regex("a*"), "second": sx.regex("b+")})
        >>> smc = sx.SMC(sx.AWRS(model), num_particles=64)
        >>> smc.run(jax.random.key(0), lm.prompt())
        >>> sorted(set(t.text(smc)))
        ['aacbbca', 'aacbca', 'acbbca', 'acbca', 'cbbca', 'cbca']
        """
        room = self._by_hole("max_tokens", max_tokens)
        where = dict(where or {})
        self._known("where", where)
        if isinstance(lookahead, bool):
            depth = None if lookahead else 1
        elif isinstance(lookahead, int) and lookahead >= 1:
            depth = lookahead
        else:
            raise ValueError(f"lookahead must be True, False or a number of tokens above 0, got {lookahead!r}")

        context, rows, taken = self._tokens(name, lm, heal)
        if end:
            rows[-1].append(context.vocabulary.end_of_text)
        if rows[0]:
            context = _read_fixed(f"{name}/before", context, rows[0])
        texts: dict[str, Text] = {}
        for hole, row, before in zip(self.holes, rows[1:], taken, strict=True):
            site, ahead = f"{name}/{hole}", row if depth is None else row[:depth]
            into = HoleContext.begin(
                site,
                context,
                jnp.array(ahead, jnp.int32),
                room[hole],
                after=len(row),
                guided=lookahead is not False,
                owed=before.num_bytes,
                starts=None if before.starts is None else jnp.asarray(before.starts),
            )
            text = generate(site, into, room[hole], where.get(hole))
            assert text.context is not None
            context = text.context.inner  # type: ignore[attr-defined]
            texts[hole] = dataclasses.replace(text, context=context)
            if hole != self.holes[-1] or row[len(ahead) :]:
                context = _read_fixed(f"{site}/then", context, row, len(ahead))
        return texts

    def format(self, texts: Mapping[str, str]) -> str:
        """The whole text, of the holes' texts.

        >>> template("{{{x}}}").format({"x": "1"})
        '{1}'
        """
        self._by_hole("the text", texts)
        filled = [part for piece, hole in zip(self.pieces, self.holes) for part in (piece, texts[hole])]
        return "".join([*filled, self.pieces[-1]])

    def text(self, results: Any, name: str | None = None) -> list[str]:
        """The whole text of each particle, in the order of its weights.

        :param results: a sampler that ran a program which fills this template.
        :param name: the name it was filled under; not needed if there was one only.
        :raises KeyError: if the program did not fill it, or filled it under several names and none is given.
        """
        known = results.population.texts
        if name is None:
            last = f"/{self.holes[0]}"
            names = [site.removesuffix(last) for site in known if site.endswith(last)]
            names = [n for n in names if all(f"{n}/{hole}" in known for hole in self.holes)]
            if len(names) != 1:
                raise KeyError(f"the template was filled under {len(names)} names {names}: give one")
            (name,) = names
        if missing := [hole for hole in self.holes if f"{name}/{hole}" not in known]:
            raise KeyError(f"no text {name}/{missing[0]}; the program has: {', '.join(sorted(known))}")
        columns = [known[f"{name}/{hole}"].decode() for hole in self.holes]
        return [self.format(dict(zip(self.holes, row))) for row in zip(*columns, strict=True)]

    def _tokens(
        self, name: str, lm: LanguageModel | Context, heal: bool
    ) -> tuple[Context, list[list[int]], list[_Taken]]:
        """Where to begin, the tokens of each piece to be scored, and what was taken back before each hole."""
        pieces = list(self.pieces)
        if isinstance(lm, Context):
            context = lm
            if pieces[0]:
                whole = jnp.asarray(context.seam) == 0
                _declare(
                    "require",
                    whole,
                    message=f"template {name!r}: the context's prompt was healed, so text cannot be put behind "
                    "it: prompt with heal=False, or put it into the template and give the language model",
                )
        elif isinstance(lm, LanguageModel):
            context = lm.prompt(pieces[0]) if heal else lm.prompt(pieces[0], heal=False)  # type: ignore[call-arg]
            pieces[0] = ""
        else:
            raise TypeError(f"template {name!r}: give a language model or a context, got {type(lm).__name__}")
        vocabulary: Any = context.vocabulary
        rows = [list(vocabulary.encode(piece)) if piece else [] for piece in pieces]
        taken = [_take_back(vocabulary, row, i > 0) if heal else _Taken() for i, row in enumerate(rows[:-1])]
        return context, rows, taken

    def _by_hole(self, what: str, values: Any) -> dict[str, Any]:
        if not isinstance(values, Mapping):
            return dict.fromkeys(self.holes, values)
        self._known(what, values)
        if missing := [hole for hole in self.holes if hole not in values]:
            raise ValueError(f"{what} is missing for hole {missing[0]!r}")
        return dict(values)

    def _known(self, what: str, values: Mapping[str, Any]) -> None:
        if unknown := [hole for hole in values if hole not in self.holes]:
            raise ValueError(
                f"{what} names a hole {unknown[0]!r}; the template has: {', '.join(map(repr, self.holes))}"
            )


@dataclasses.dataclass(frozen=True)
class _Taken:
    """The last token of a fixed piece, left to the hole behind it: its bytes, and the tokens that begin so."""

    num_bytes: int = 0
    starts: Bool[np.ndarray, " V"] | None = None


def _take_back(vocabulary: VocabularyLike, row: list[int], inner: bool) -> _Taken:
    """Shortens a row by its last token, where a longer one may stand in its place."""
    # What is left of an inner piece has to tell where the hole before it ends.
    if len(row) < 1 + inner:
        return _Taken()
    token = vocabulary.tokens[row[-1]]
    starts = np.array([other.startswith(token) for other in vocabulary.tokens])
    if not token or max(len(vocabulary.tokens[i]) for i in np.flatnonzero(starts)) == len(token):
        return _Taken()
    row.pop()
    return _Taken(len(token), starts)


def _read_fixed(name: str, context: Context, row: Sequence[int], known: int = 0) -> Context:
    """The context after a piece's tokens, weighed by all of them but those `known` already."""
    ends = row[-1] == context.vocabulary.end_of_text  # which is scored, and never read
    context = context.reserve(room_to_read(context, len(row)))
    after, log_probs = read(context, jnp.array(row[: len(row) - ends], jnp.int32))
    if row[known:]:
        log_prob = jnp.sum(log_probs[known:])
        numpyro.factor(name, log_prob + score(after, jnp.array(row[-1:], jnp.int32)) if ends else log_prob)
    return after


def template(text: str) -> Template:
    """A text with named holes in braces, to be filled by a language model: see :meth:`Template.fill`.

    :param text: such as ``"Dear {name}, I {verb} you."``; braces of the text's own are doubled.
    :raises ValueError: if the text has no hole, a hole twice, one without a proper name, two with nothing in
        between (nothing would tell where the first ends), or a single brace.

    >>> template("Dear {name}, I {verb} you.").holes
    ('name', 'verb')
    """
    pieces: list[str] = [""]
    holes: list[str] = []
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"template: {error} (a brace that is no hole is doubled)") from None
    for literal, field, spec, conversion in parts:
        pieces[-1] += literal
        if field is None:
            continue
        if spec or conversion or not field.isidentifier():
            shown = field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise ValueError(f"template: {{{shown}}} is no hole: a hole is a name in braces, such as {{name}}")
        if field in holes:
            raise ValueError(f"template: the hole {{{field}}} is there twice; every hole needs its own name")
        if holes and not pieces[-1]:
            raise ValueError(
                f"template: nothing stands between {{{holes[-1]}}} and {{{field}}}, so nothing tells "
                "where the first ends"
            )
        holes.append(field)
        pieces.append("")
    if not holes:
        raise ValueError(f"template: no hole in {text!r}; a hole is a name in braces, such as {{name}}")
    return Template(tuple(pieces), tuple(holes))


__all__ = ["Template", "template"]
