"""JSON records for schemas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sentax.domains.base import Domain, Message
from sentax.domains.json_schema.data import Schema, read
from sentax.domains.json_schema.order import in_order
from sentax.domains.json_schema.sample import SHOTS, sample
from sentax.domains.json_schema.validity import is_valid
from sentax.ppl.constraints.base import Constraint
from sentax.ppl.constraints.json_schema import json_schema
from sentax.ppl.constraints.predicate import predicate

_SYSTEM = (
    "You are given JSON schemas. You answer each with one JSON value that satisfies it. You write only the "
    "JSON, in one line, with the names in the order of the schema."
)
_HEADING = "JSON schemas, and for each a JSON value that satisfies it, in one line.\n"
GITHUB = ("Github_trivial", "Github_easy", "Github_medium")
"""The parts of JSONSchemaBench that Lipkin et al. (2025) use."""


class JSONSchema(Domain[Schema]):
    """JSONSchemaBench (Geng et al. 2025, arXiv 2501.10868) as Lipkin et al. (2025) use it.

    :param splits: the parts of the data set that :meth:`load` returns, or None for all.

    >>> domain = JSONSchema()
    >>> task = domain.sample()[0]
    >>> task.schema
    '{"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", ...
    >>> domain.gold(task)
    '{"name": "Ada Lovelace", "age": 36}'
    >>> domain.score(task, domain.gold(task)), domain.score(task, '{"name": "Ada Lovelace", "age": 136}')
    (1.0, 0.0)
    >>> domain.cheap(task).matches('{"age": 36, "name": "Ada Lovelace"}')  # one order for each value
    False
    """

    name: ClassVar[str] = "json_schema"
    max_tokens: ClassVar[int] = 450
    stop: ClassVar[str | None] = "\n"

    def __init__(self, *, splits: Iterable[str] | None = GITHUB) -> None:
        self.splits = None if splits is None else tuple(splits)

    def load(self, directory: str | Path) -> list[Schema]:
        """JSONSchemaBench's schemas; see :func:`~sentax.domains.json_schema.data.read` for the layouts."""
        return read(directory, self.splits)

    def sample(self) -> list[Schema]:
        """Schemas of records that the embedded model knows, with the keywords that real ones use most."""
        return sample()

    def prompt(self, instance: Schema) -> str:
        """Two examples, then the schema in one line. An answer follows the space after the colon."""
        lines = [line for schema, record in SHOTS for line in (f"Schema: {schema}", f"JSON: {record}", "")]
        return "\n".join([_HEADING, *lines, f"Schema: {instance.schema}", "JSON: "])

    def chat(self, instance: Schema) -> list[Message]:
        """An instruction, the two examples as turns, then the schema."""
        messages = [{"role": "system", "content": _SYSTEM}]
        for schema, record in SHOTS:
            messages.append({"role": "user", "content": schema})
            messages.append({"role": "assistant", "content": record})
        return [*messages, {"role": "user", "content": instance.schema}]

    def cheap(self, instance: Schema) -> Constraint:
        """The schema's grammar: :func:`~sentax.ppl.constraints.json_schema.json_schema`.

        One text for each value, in the schema's order of names. Keywords beyond grammars are part of it,
        checked where a value is closed: to refuse there costs less than at the end of the text.

        :raises UnsupportedSchema: if it cannot be enforced.
        """
        return json_schema(instance.schema)

    def dear(self, instance: Schema) -> Constraint:
        """The finished text has score 1: the validator's word, whatever the grammar says."""
        return predicate(None, ValidityCheck(instance.schema), text="str")

    def score(self, instance: Schema, answer: str) -> float:
        """1 if the answer is JSON that satisfies the schema, formats included, else 0.

        See :func:`~sentax.domains.json_schema.validity.is_valid`: jsonschema-rs, in the schema's own draft.
        """
        return float(is_valid(instance.schema, answer))

    def gold(self, instance: Schema) -> str | None:
        """The first value known to satisfy the schema, with its names in the schema's order.

        Where the constraint has no such text it is written as the data set has it, so that the law of
        :class:`~sentax.domains.base.Domain` speaks of it.
        """
        if not instance.valid:
            return None
        return in_order(self.cheap(instance), instance.valid[0]) or instance.valid[0]


@dataclass(frozen=True)
class ValidityCheck:
    """:func:`~sentax.domains.json_schema.validity.is_valid` of one schema."""

    schema: str

    def __call__(self, text: str) -> bool:
        return is_valid(self.schema, text)


__all__ = ["GITHUB", "JSONSchema", "ValidityCheck"]
