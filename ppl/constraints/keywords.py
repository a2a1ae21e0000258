"""Texts that mention some things and not others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from sentax.ppl.constraints.assembly import Assembly
from sentax.ppl.constraints.automaton import Automaton
from sentax.ppl.constraints.dfa import MAX_STATES, Dfa, TooManyStates, product
from sentax.ppl.constraints.regex import regex

_SHOWN = 3


def keywords(
    any_of: Iterable[str | bytes] = (),
    all_of: Iterable[str | bytes] = (),
    none_of: Iterable[str | bytes] = (),
    *,
    ignore_case: bool = False,
    whole_words: bool = False,
) -> Automaton:
    """Texts that hold at least one of `any_of`, each of `all_of`, and none of `none_of`.

    The automaton is that of Aho and Corasick (1975) for each group of keywords, and the product of the groups;
    it is minimal, and a text is alive exactly where it can still be completed. It counts which of `all_of` were
    seen, so its size grows as 2 to the power of their number.

    :param any_of: if any are given, one of them must occur.
    :param all_of: all of them must occur, in any order; they may overlap.
    :param none_of: none of them may occur.
    :param ignore_case: whether case matters not, by the rules of :mod:`re`; the keywords must be `str` then.
    :param whole_words: whether a keyword counts only where no word character (`\\w` of :mod:`re`) touches it.
    :raises ValueError: if no keyword is given, or no text fits them all.
    :raises TooManyStates: if that takes more than 65536 states.

    **Example**

    .. code-block:: python

        >>> from sentax.ppl.constraints import keywords
        >>> polite = keywords(any_of=["please", "thank you"], none_of=["now!"])
        >>> polite.matches("Come here, please."), polite.matches("please come now!")
        (True, False)
    """
    groups = [
        _keywords(name, group) for name, group in (("any_of", any_of), ("all_of", all_of), ("none_of", none_of))
    ]
    some, every, none = groups
    if not any(groups):
        raise ValueError("keywords needs at least one keyword in any_of, all_of or none_of")
    shown = [f"{name}={_show(g)}" for name, g in zip(("any_of", "all_of", "none_of"), groups) if g]
    shown += ["ignore_case=True"] * ignore_case + ["whole_words=True"] * whole_words
    label = f"keywords({', '.join(shown)})"
    try:
        result = _containing(none, ignore_case, whole_words).complement() if none else None
        for group in ([some] if some else []) + [[word] for word in every]:
            held = _containing(group, ignore_case, whole_words)
            result = held if result is None else product(result, held, np.logical_and)
            if not result.accepting.any():
                raise ValueError(
                    f"{label} matches nothing: no text holds {_show(group)} and none of {_show(none)}"
                )
    except TooManyStates:
        raise TooManyStates(
            f"{label} has more than {MAX_STATES} states; each of the {len(every)} keywords in all_of may "
            f"double their number: ask for fewer, or combine two such constraints with &"
        ) from None
    assert result is not None
    return Automaton.from_dfa(result, label)


def _keywords(name: str, given: Iterable[str | bytes]) -> list[str | bytes]:
    if isinstance(given, (str, bytes)):
        raise TypeError(f"{name} of keywords is a list of strings; for one keyword write [{given!r}]")
    words = list(dict.fromkeys(given))
    for word in words:
        if not isinstance(word, (str, bytes)):
            raise TypeError(f"a keyword is a str or bytes, not {type(word).__name__}: {word!r:.80}")
        if not word:
            raise ValueError(f"{name} of keywords holds an empty string, which is in every text")
    return words


def _show(words: Sequence[str | bytes]) -> str:
    more = f", ... {len(words)} keywords" if len(words) > _SHOWN else ""
    return f"[{', '.join(map(repr, words[:_SHOWN]))}{more}]"


def _containing(words: Sequence[str | bytes], ignore_case: bool, whole_words: bool) -> Dfa:
    if not (ignore_case or whole_words):
        return _aho_corasick([w.encode() if isinstance(w, str) else w for w in words])
    if not all(isinstance(w, str) for w in words):
        raise TypeError(
            "keywords that ignore case or are whole words are str, not bytes: bytes have no letters"
        )
    spelled = regex(
        "|".join(re.escape(w) for w in words if isinstance(w, str)), "i" if ignore_case else ""
    ).to_dfa()
    one_byte = Dfa(np.array([[1], [2], [2]], np.int32), np.zeros(256, np.int32), np.array([False, True, False]))
    # All texts up to the keyword loop at `before`: whatever has been read may be left out of account.
    assembly = Assembly()
    before = assembly.place()
    assembly.skip(assembly.start, before)
    assembly.read(before, before, one_byte)
    if not whole_words:
        assembly.read(before, assembly.anything, spelled)
        return assembly.build()
    # Encodings do not overlap in UTF-8: one that ends here is the character before.
    other = regex(r"\W").to_dfa()
    opened, closed = assembly.place(), assembly.place()
    assembly.skip(assembly.start, opened)
    assembly.read(before, opened, other)
    assembly.read(opened, closed, spelled)
    assembly.skip(closed, assembly.final)
    assembly.read(closed, assembly.anything, other)
    return assembly.build()


def _aho_corasick(words: Sequence[bytes]) -> Dfa:
    """Texts that hold a word: the trie with failure links written out, and one state for all that is won."""
    used = sorted({byte for word in words for byte in word})
    classes = np.full(256, len(used), np.int32)
    classes[used] = np.arange(len(used))
    children: list[dict[int, int]] = [{}]
    final = [False]
    for word in words:
        node = 0
        for byte in word:
            if byte not in children[node]:
                children[node][byte] = len(children)
                children.append({})
                final.append(False)
            node = children[node][byte]
        final[node] = True
    won = len(children)
    if won >= MAX_STATES * 4:
        raise TooManyStates(f"more than {MAX_STATES * 4} prefixes")
    delta = np.zeros((won + 1, len(used) + 1), np.int32)
    delta[won] = won
    final.append(True)
    # By levels: the longest proper suffix of a node that is a node has its row already.
    level = [(0, 0)]
    while level:
        below = []
        for node, suffix in level:
            if final[node] or final[suffix]:
                final[node] = True
                continue
            if node:
                delta[node] = delta[suffix]
            for byte, child in children[node].items():
                column = classes[byte]
                below.append((child, int(delta[suffix, column]) if node else 0))
                delta[node, column] = child
        level = below
    # Nodes that are won are one state.
    delta = np.where(final, won, np.arange(won + 1)).astype(np.int32)[delta]
    return Dfa(delta, classes, np.arange(won + 1) == won).minimise()
