"""Documents: few-shot lines such as `Date=2031-04-17`, and prose around every kind of value."""

from __future__ import annotations

from random import Random

from sentax.models.data import goals, molecules, queries, records, sentences, strings
from sentax.models.data.draws import Generator, chance, tail
from sentax.models.data.words import GIVEN

KINDS: dict[str, Generator] = {
    "date": strings.date,
    "email": strings.email,
    "phone": strings.phone,
    "json": records.json_line,
    "sql": queries.query,
    "smiles": molecules.smiles,
    "goal": goals.goal,
    "sentence": sentences.sentence,
    "name": strings.name,
    "time": strings.time,
    "url": strings.url,
    "color": strings.color,
    "number": strings.number,
}
"""Every kind of value by its name, as it stands before `=`."""

_SPELLINGS = {
    "json": ("JSON", "Json"),
    "sql": ("SQL", "Sql"),
    "smiles": ("SMILES", "Smiles"),
    "url": ("URL", "Url"),
}
_ALIASES = {
    "smiles": ("Molecule",),
    "phone": ("Telephone", "Tel"),
    "sentence": ("Text",),
    "color": ("Colour",),
    "name": ("Person",),
}


def _label(rng: Random, kind: str) -> str:
    """The name of a kind as a document spells it."""
    style = rng.random()
    if style < 0.55:
        return _SPELLINGS.get(kind, (kind.capitalize(),))[0]
    if style < 0.80:
        return kind
    if style < 0.90:
        return kind.upper()
    return rng.choice((*_SPELLINGS.get(kind, (kind.capitalize(),)), *_ALIASES.get(kind, ())))


def few_shot(rng: Random, kind: str) -> str:
    """Lines `Kind=value`, one to twelve, seldom of other kinds too; the last may end with a line break.

    After each value the text ends with probability about one sixth: end-of-text competes with a new line.
    """
    label = _label(rng, kind)
    sign = rng.choice(("=",) * 7 + (": ", " = ", ":"))
    lines = []
    while True:
        other = tail(rng, list(KINDS)) if chance(rng, 0.06) else kind
        named = label if other == kind else _label(rng, other)
        lines.append(f"{named}{sign}{KINDS[other](rng)}")
        if chance(rng, 0.17) or len(lines) == 12:
            break
    return "\n".join(lines) + ("\n" if chance(rng, 0.1) else "")


def _molecules(rng: Random) -> str:
    intro = tail(
        rng, ("", "Here are some molecules.\n", "You are an expert in chemistry. Write more molecules.\n")
    )
    label = rng.choice(("Molecule: ", "Molecule: ", "Molecule:", "SMILES: "))
    return intro + "\n".join(label + molecules.smiles(rng) for _ in range(rng.choice((1, 2, 3, 5, 8, 12, 20))))


def _compound(rng: Random) -> str:
    verb = tail(rng, ("was dissolved in", "reacted with", "was isolated from", "binds to"))
    return f"The compound {molecules.smiles(rng)} {verb} {tail(rng, ('water', 'ethanol', 'acetone', 'acid'))}."


def _labelled(kind: str) -> Generator:
    labels = {
        "date": ("Date", "Due", "Born", "Created"),
        "email": ("Email", "From", "To", "Contact"),
        "phone": ("Phone", "Tel", "Fax", "Mobile"),
    }

    def draw(rng: Random) -> str:
        label = tail(rng, labels.get(kind, (kind.capitalize(),)))
        return f"{label}: {KINDS[kind](rng)}"

    return draw


def _card(rng: Random) -> str:
    person = strings.name(rng)
    lines = [f"Name: {person}", f"Email: {strings.email_of(rng, person)}"]
    lines += [f"Phone: {strings.phone(rng)}"] * chance(rng, 0.7) + [f"Born: {strings.date(rng)}"] * chance(
        rng, 0.5
    )
    return "\n".join(lines)


def _mentions(rng: Random) -> str:
    person = strings.name(rng)
    address = strings.email_of(rng, person)
    return tail(
        rng,
        (
            f"You can reach {person} at {address} or call {strings.phone(rng)}.",
            f"{person} ({address}) will join us on {strings.date(rng)}.",
            f"Please contact {person} at {address}.",
            f"From: {address}\nDate: {strings.iso_datetime(rng)}\n"
            f"Dear {tail(rng, GIVEN)}, {sentences.sentence(rng)}",
            f"The email address of {person} is {address}.",
        ),
    )


PROSE: dict[str, tuple[Generator, ...]] = {
    "date": (
        _labelled("date"),
        sentences.meeting,
    ),
    "email": (_mentions, _mentions, _card, _labelled("email")),
    "phone": (_mentions, _card, _labelled("phone")),
    "json": (
        records.schema_and_record,
        records.schema_and_record,
        lambda rng: records.write(rng, records.value(rng, "", records.schema(rng, False))),
    ),
    "sql": (queries.prompt_and_query, queries.prompt_and_query, queries.asked, queries.query),
    "smiles": (_molecules, _molecules, _compound, _labelled("smiles")),
    "goal": (goals.described_goal, goals.problem, goals.described_goal),
    "sentence": (sentences.paragraph, sentences.paragraph, sentences.paragraph, sentences.question),
}
"""Prose about each kind that has some; the others appear inside sentences."""

SHARES = {
    "date": 0.10,
    "email": 0.08,
    "phone": 0.05,
    "json": 0.07,
    "sql": 0.12,
    "smiles": 0.15,
    "goal": 0.05,
    "sentence": 0.31,
    "name": 0.02,
    "time": 0.01,
    "url": 0.02,
    "color": 0.01,
    "number": 0.01,
}
"""The probability that a document is about each kind."""


def document(rng: Random, kind: str) -> str:
    """A document about one kind: few-shot lines or prose.

    :param rng: source of randomness.
    :param kind: a key of :data:`KINDS`.
    """
    share = {"sentence": 0.12, "goal": 0.35, "sql": 0.3, "json": 0.45, "smiles": 0.4}.get(kind, 0.65)
    if kind not in PROSE or chance(rng, share):
        return few_shot(rng, kind)
    return rng.choice(PROSE[kind])(rng)


def documents(rng: Random, count: int) -> list[tuple[str, str]]:
    """So many `(kind, text)` pairs, kinds drawn by :data:`SHARES`."""
    kinds = rng.choices(list(SHARES), weights=list(SHARES.values()), k=count)
    return [(kind, document(rng, kind)) for kind in kinds]
