"""A JSON schema of any draft as one of 2020-12, with its references resolved.

What this stage does is exact: the result allows what the original does. Annotations fall away; `definitions`
and everything else that a `$ref` points to become `#/$defs/d0`, `d1`, ...; older spellings become the newest
ones. Every subschema remembers under :data:`POINTER` where it stands in the original.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urljoin

from sentax.ppl.constraints.schema_errors import UnsupportedSchema
from sentax.ppl.constraints.schema_formats import is_asserted

POINTER = "x-sentax-pointer"
DRAFTS = {
    4: "http://json-schema.org/draft-04/schema#",
    6: "http://json-schema.org/draft-06/schema#",
    7: "http://json-schema.org/draft-07/schema#",
    2019: "https://json-schema.org/draft/2019-09/schema",
    2020: "https://json-schema.org/draft/2020-12/schema",
}

ANNOTATIONS = frozenset(
    (
        *("$schema", "$id", "id", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "$comment", "$vocabulary"),
        *("$defs", "definitions", "title", "description", "default", "examples", "deprecated", "readOnly"),
        *("writeOnly", "contentSchema", "contentEncoding", "contentMediaType"),
    )
)
"""Keywords of the standard that say nothing about which values are right."""

# Keywords by the draft that brought them and the last that had them; others hold in all of them.
_SINCE = {
    **dict.fromkeys(("const", "contains", "propertyNames"), 6),
    **dict.fromkeys(("if", "then", "else"), 7),
    **dict.fromkeys(("dependentRequired", "dependentSchemas", "minContains", "maxContains"), 2019),
    **dict.fromkeys(("unevaluatedItems", "unevaluatedProperties", "$recursiveRef"), 2019),
    **dict.fromkeys(("prefixItems", "$dynamicRef"), 2020),
}
_UNTIL = {"additionalItems": 2019, "$recursiveRef": 2019}

_AS_THEY_ARE = frozenset(
    (
        *("type", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("pattern", "format", "required", "uniqueItems"),
    )
)
_COUNTS = frozenset(
    f"{bound}{what}" for bound in ("min", "max") for what in ("Length", "Items", "Properties", "Contains")
)
_CONDITIONAL = frozenset(("not", "if", "then", "else", "contains", "unevaluatedItems", "unevaluatedProperties"))
_SCHEMAS = _CONDITIONAL | {"additionalProperties", "propertyNames"}
_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAPS = frozenset(("properties", "patternProperties"))
_NAMED = _MAPS | {"definitions", "$defs", "dependentSchemas"}


@dataclass
class Node:
    """A subschema of the original: where its parts stand, and what they apply to.

    :param same: subschemas that apply to the same value without condition: `allOf`, `$ref`.
    :param perhaps: subschemas that apply to the same value under a condition.
    """

    same: list[str] = field(default_factory=list)
    perhaps: list[str] = field(default_factory=list)
    properties: dict[str, str] = field(default_factory=dict)
    patterns: dict[str, str] = field(default_factory=dict)
    additional: str | None = None
    prefix: list[str] = field(default_factory=list)
    items: str | None = None

    def parts(self) -> Iterator[str]:
        """The pointers of all subschemas."""
        yield from (*self.same, *self.perhaps, *self.properties.values(), *self.patterns.values())
        yield from (*self.prefix, *(p for p in (self.additional, self.items) if p is not None))


class Translation:
    """A schema translated to draft 2020-12.

    :param root: the original.
    :param formats: whether `format` is asserted; otherwise it is an annotation.
    :raises UnsupportedSchema: for a reference to another document, to nothing, or to its own place.

    The results are :attr:`schema`, its :attr:`definitions`, :attr:`nodes` by pointer, :attr:`annotations` (the
    unknown keywords, which by the standard mean nothing, as `(keyword, pointer)`), and :attr:`is_dynamic`:
    whether what a reference means depends on the way by which it is reached.
    """

    def __init__(self, root: dict[str, Any] | bool, draft: int, *, formats: bool = True) -> None:
        self.root = root
        self.draft = draft
        self.formats = formats
        self.nodes: dict[str, Node] = {}
        self.annotations: list[tuple[str, str]] = []
        self.resources: dict[str, str] = {}
        self.anchors: dict[tuple[str, str], str] = {}
        self.dynamic: dict[str, int] = {}
        self.is_dynamic = False
        self.order: dict[str, int] = {}
        self._bases: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._defs: dict[str, Any] = {}
        self._index(root, "", "")
        schema = self._translate(root, "")
        pending = [p for p in self._names if self._names[p] not in self._defs]
        while pending:
            for pointer in pending:
                self._defs[self._names[pointer]] = self._translate(self.at(pointer, ""), pointer)
            pending = [p for p in self._names if self._names[p] not in self._defs]
        self.schema = schema
        self.definitions = self._defs
        self._refuse_circles()

    def _index(self, node: Any, pointer: str, base: str) -> None:
        """Notes what every place is called: `$id`s, anchors, and the order in which names appear."""
        if isinstance(node, list):
            for i, item in enumerate(node):
                self._index(item, f"{pointer}/{i}", base)
        if not isinstance(node, dict):
            return
        if pointer.rpartition("/")[2] in _NAMED and not pointer.endswith("/properties/properties"):
            for name, value in node.items():
                self._index(value, f"{pointer}/{_escape(name)}", base)
            return
        own = node.get("id" if self.draft == 4 else "$id")
        if isinstance(own, str) and not (self.draft <= 7 and "$ref" in node):
            if own.startswith("#"):
                self.anchors[base, own[1:]] = pointer
            else:
                base = _join(base, own)
        if pointer == "" or isinstance(own, str):
            self.resources.setdefault(base, pointer)
        self._bases[pointer] = base
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(node.get(keyword), str):
                self.anchors[base, node[keyword]] = pointer
        if isinstance(node.get("$dynamicAnchor"), str):
            self.dynamic[node["$dynamicAnchor"]] = self.dynamic.get(node["$dynamicAnchor"], 0) + 1
        for name in (*_mapping(node.get("properties")), *_sequence(node.get("required"))):
            if isinstance(name, str):
                self.order.setdefault(name, len(self.order))
        for key, value in node.items():
            if key not in ("enum", "const", "default", "examples"):
                self._index(value, f"{pointer}/{_escape(key)}", base)

    def at(self, pointer: str, path: str) -> Any:
        """What a pointer of the original points to.

        :param path: where it is used, for the error.
        """
        node: Any = self.root
        for token in pointer.split("/")[1:]:
            token = token.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and token in node:
                node = node[token]
            elif isinstance(node, list) and token.isdigit() and int(token) < len(node):
                node = node[int(token)]
            else:
                raise UnsupportedSchema("$ref", path, f"it points to nothing: {pointer!r}")
        if not isinstance(node, dict | bool):
            raise UnsupportedSchema("$ref", path, f"it points to something that is no schema: {pointer!r}")
        return node

    def resolve(self, reference: str, path: str) -> str:
        """The pointer that a `$ref` means."""
        base = self._base(path)
        uri, _, fragment = reference.partition("#")
        uri = _join(base, uri) if uri else base
        fragment = unquote(fragment)
        if uri not in self.resources:
            raise UnsupportedSchema("$ref", path, f"{reference!r} points to another document")
        start = self.resources[uri]
        if fragment == "":
            return start
        if fragment.startswith("/"):
            return start + fragment
        if (uri, fragment) not in self.anchors:
            raise UnsupportedSchema("$ref", path, f"no subschema has the name {reference!r}")
        return self.anchors[uri, fragment]

    def _base(self, pointer: str) -> str:
        while pointer not in self._bases:
            pointer = pointer.rpartition("/")[0]
        return self._bases[pointer]

    def _refuse_circles(self) -> None:
        """A reference that leads back to its own place says nothing about the value there."""
        done: set[str] = set()

        def follow(pointer: str, path: tuple[str, ...]) -> None:
            if pointer in path:
                raise UnsupportedSchema("$ref", path[-1], "it leads back to itself without a value in between")
            if pointer not in done:
                for part in self.nodes[pointer].same:
                    follow(part, (*path, pointer))
                done.add(pointer)

        for pointer in self.nodes:
            follow(pointer, ())

    def _define(self, pointer: str) -> dict[str, str]:
        name = self._names.setdefault(pointer, f"d{len(self._names)}")
        return {"$ref": f"#/$defs/{name}"}

    def _translate(self, schema: Any, path: str) -> Any:
        node = self.nodes[path] = Node()
        if isinstance(schema, bool):
            return schema
        out: dict[str, Any] = {}
        # Up to draft 7 a reference stands alone: what is beside it does not count.
        alone = self.draft <= 7 and isinstance(schema.get("$ref"), str)
        for keyword, value in schema.items():
            if keyword in ANNOTATIONS:
                if self.draft in (6, 7) and keyword in ("contentEncoding", "contentMediaType"):
                    out[keyword] = value  # asserted in these drafts
                continue
            if alone and keyword != "$ref":
                continue
            if not _SINCE.get(keyword, 4) <= self.draft <= _UNTIL.get(keyword, 2020):
                self.annotations.append((keyword, path))
                continue
            self._keyword(keyword, value, schema, path, node, out)
        out[POINTER] = path
        return out

    def _keyword(
        self, keyword: str, value: Any, schema: dict[str, Any], path: str, node: Node, out: dict[str, Any]
    ) -> None:
        here = f"{path}/{keyword}"
        if keyword in ("exclusiveMinimum", "exclusiveMaximum") and isinstance(value, bool):
            bound = keyword.replace("exclusiveM", "m")
            if value and bound in schema:
                out[keyword] = schema[bound]
        elif keyword == "format" and not (self.formats and is_asserted(value, DRAFTS[self.draft])):
            self.annotations.append((f"format: {value}", path))
        elif keyword in _AS_THEY_ARE:
            out[keyword] = value
        elif keyword in _COUNTS:
            out[keyword] = int(value)
        elif keyword == "items" and isinstance(value, list):
            node.prefix = [f"{here}/{i}" for i in range(len(value))]
            out["prefixItems"] = [self._translate(v, p) for v, p in zip(value, node.prefix, strict=True)]
        elif keyword == "additionalItems":
            if isinstance(schema.get("items"), list):
                node.items = here
                out["items"] = self._translate(value, here)
        elif keyword == "items":
            node.items = here
            out["items"] = self._translate(value, here)
        elif keyword in _SCHEMAS:
            out[keyword] = self._translate(value, here)
            if keyword == "additionalProperties":
                node.additional = here
            elif keyword in _CONDITIONAL:
                node.perhaps.append(here)
        elif keyword in _LISTS:
            pointers = [f"{here}/{i}" for i in range(len(value))]
            out.setdefault(keyword, []).extend(map(self._translate, value, pointers))
            place = {"allOf": node.same, "prefixItems": node.prefix}.get(keyword, node.perhaps)
            place.extend(pointers)
        elif keyword in _MAPS:
            pointers_of = {name: f"{here}/{_escape(name)}" for name in value}
            out[keyword] = {name: self._translate(value[name], p) for name, p in pointers_of.items()}
            (node.properties if keyword == "properties" else node.patterns).update(pointers_of)
        elif keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
            out.setdefault("dependencies", {}).update(self._dependencies(value, here, node))
        elif keyword == "$ref":
            self._reference(value, path, node, out)
        elif keyword == "$dynamicRef" and self.dynamic.get(value.rpartition("#")[2], 0) <= 1:
            self._reference(value, path, node, out)  # there is nothing else that it could mean
        elif keyword == "$recursiveRef" and "$recursiveAnchor" not in json.dumps(self.root):
            self._reference(value, path, node, out)
        elif keyword in ("$dynamicRef", "$recursiveRef"):
            out[keyword] = value
            self.is_dynamic = True
        else:
            self.annotations.append((keyword, path))

    def _reference(self, reference: str, path: str, node: Node, out: dict[str, Any]) -> None:
        pointer = self.resolve(reference, path)
        self.at(pointer, path)
        node.same.append(pointer)
        if "$ref" in out:
            out.setdefault("allOf", []).append(self._define(pointer))
        else:
            out |= self._define(pointer)

    def _dependencies(self, value: dict[str, Any], here: str, node: Node) -> dict[str, Any]:
        """By the name that must be present, the schema that then holds."""
        out: dict[str, Any] = {}
        for name, then in value.items():
            if isinstance(then, list):
                out[name] = {"required": then}
            else:
                pointer = f"{here}/{_escape(name)}"
                node.perhaps.append(pointer)
                out[name] = self._translate(then, pointer)
        return out


def _join(base: str, uri: str) -> str:
    joined = urljoin(base, uri) if base and not base.startswith("urn:") else uri
    return joined.removesuffix("#")


def _escape(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
