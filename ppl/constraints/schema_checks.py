"""What a grammar cannot say of a JSON schema, checked by jsonschema-rs as soon as a value is closed.

A value is checked against every subschema that applies to it without condition and that has, itself or in one
of its alternatives, a keyword that the grammar does not have. So `{"uniqueItems": true}` deep inside a document
refuses the second equal item, not the finished document.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from sentax.ppl.constraints.json_reader import parse
from sentax.ppl.constraints.schema_draft import DRAFTS, Translation


class CheckedSite:
    """A place in a document, by the subschemas of the original that apply there without condition.

    :param pointers: of these subschemas.
    """

    def __init__(self, checks: Checks, pointers: frozenset[str]) -> None:
        self.checks = checks
        self.pointers = pointers
        wanted = sorted(p for p in pointers if checks.is_wanted(p))
        self.validators = [checks.validator(p) for p in wanted]
        self.unique = any("uniqueItems" in checks.left.get(p, ()) for p in pointers)
        bounds = [checks.source.at(p, p) for p in pointers if "maxProperties" in checks.left.get(p, ())]
        limits = [int(b["maxProperties"]) for b in bounds if isinstance(b, dict) and "maxProperties" in b]
        self.most = min(limits, default=None)
        self._members: dict[str, CheckedSite] = {}
        self._items: dict[int, CheckedSite] = {}

    def holds(self, text: bytes) -> bool:
        if not self.validators:
            return True
        value = parse(text)
        return all(validator.is_valid(value) for validator in self.validators)

    def member(self, name: str) -> CheckedSite:
        found = self._members.get(name)
        if found is None:
            below = (self.checks.members_of(p, name) for p in self.pointers)
            found = self.checks.site({p for pointers in below for p in pointers})
            if len(self._members) < 4096:
                self._members[name] = found
        return found

    def item(self, index: int) -> CheckedSite:
        index = min(index, self.checks.longest_prefix)
        found = self._items.get(index)
        if found is None:
            below = (self.checks.item_of(p, index) for p in self.pointers)
            found = self._items[index] = self.checks.site({p for p in below if p is not None})
        return found


class Checks:
    """The keywords that a grammar does not have, and where they are checked.

    :param source: the translated schema.
    :param left: by pointer, the keywords that are left to check.
    """

    def __init__(self, source: Translation, left: dict[str, frozenset[str]]) -> None:
        import jsonschema_rs

        self.source = source
        self.left = left
        self.longest_prefix = max((len(node.prefix) for node in source.nodes.values()), default=0)
        self._leading = self._leading_to(left)
        self._sites: dict[frozenset[str], CheckedSite] = {}
        self._names: dict[tuple[str, str], bool] = {}
        assert isinstance(source.root, dict)
        self._draft = DRAFTS[source.draft]
        own = source.root.get("id" if source.draft == 4 else "$id")
        self._uri = own.partition("#")[0] if isinstance(own, str) and ":" in own else "urn:sentax:schema"
        schema = source.root | {"$schema": self._draft}
        self._registry = jsonschema_rs.Registry([(self._uri, schema)])
        self.root = self.site({""})

    def _leading_to(self, left: Iterable[str]) -> set[str]:
        """The subschemas from which one of these can be reached."""
        sources: dict[str, list[str]] = {}
        for pointer, node in self.source.nodes.items():
            for part in node.parts():
                sources.setdefault(part, []).append(pointer)
        leading, pending = set(left), list(left)
        while pending:
            for pointer in sources.get(pending.pop(), ()):
                if pointer not in leading:
                    leading.add(pointer)
                    pending.append(pointer)
        return leading

    def is_wanted(self, pointer: str) -> bool:
        """Whether a value must be validated against this subschema when it is closed."""
        return pointer in self.left or any(p in self._leading for p in self.source.nodes[pointer].perhaps)

    def validator(self, pointer: str) -> Any:
        """Of a subschema within the whole."""
        import jsonschema_rs

        reference = {"$schema": self._draft, "$ref": f"{self._uri}#{quote(pointer)}"}
        return jsonschema_rs.validator_for(
            reference, registry=self._registry, validate_formats=self.source.formats, offline=True
        )

    def site(self, pointers: set[str]) -> CheckedSite:
        """The place of a value to which these subschemas apply."""
        closure, pending = set(pointers), list(pointers)
        while pending:
            for pointer in self.source.nodes[pending.pop()].same:
                if pointer not in closure:
                    closure.add(pointer)
                    pending.append(pointer)
        # What leads to no check needs no place of its own.
        key = frozenset(closure & self._leading)
        if key not in self._sites:
            self._sites[key] = CheckedSite(self, key)
        return self._sites[key]

    def members_of(self, pointer: str, name: str) -> list[str]:
        """The subschemas that apply to a property."""
        node = self.source.nodes[pointer]
        found = [node.properties[name]] if name in node.properties else []
        found += [p for pattern, p in node.patterns.items() if self._matches(pattern, name)]
        return found or ([] if node.additional is None else [node.additional])

    def item_of(self, pointer: str, index: int) -> str | None:
        """The subschema that applies to an item."""
        node = self.source.nodes[pointer]
        return node.prefix[index] if index < len(node.prefix) else node.items

    def _matches(self, pattern: str, name: str) -> bool:
        import jsonschema_rs

        key = (pattern, name)
        if key not in self._names:
            self._names[key] = jsonschema_rs.validator_for({"pattern": pattern}, offline=True).is_valid(name)
        return self._names[key]
