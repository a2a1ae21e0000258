"""The error for a JSON schema that no engine can enforce as it is written."""

from __future__ import annotations


class UnsupportedSchema(ValueError):
    """A keyword of a JSON schema that cannot be enforced, where it stands, and why.

    :param keyword: the keyword, such as `"unevaluatedProperties"`.
    :param path: the JSON pointer of the subschema that holds it; `""` is the whole schema.
    :param reason: half a sentence.

    >>> raise UnsupportedSchema("$ref", "/items", "it points to another document")
    Traceback (most recent call last):
    ...
    sentax.ppl.constraints.schema_errors.UnsupportedSchema: '$ref' at /items: it points to another document
    """

    def __init__(self, keyword: str, path: str, reason: str = "") -> None:
        super().__init__(f"{keyword!r} at {path or 'the top'}: {reason or 'it cannot be enforced'}")
        self.keyword, self.path, self.reason = keyword, path, reason

    def __reduce__(self) -> tuple:
        return type(self), (self.keyword, self.path, self.reason)
