"""References in a lowered schema: what they multiply to, and how to have none beside other keywords."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any


def references_alone(schema: Any, definitions: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A schema in which every reference stands alone: beside other keywords its target stands instead.

    For llguidance, which intersects at once what applies to the same value, and so cannot follow a recursive
    reference there. Each combination becomes a definition of its own, to which the recursion leads back.

    >>> digit = {"$ref": "#/$defs/d0", "maximum": 9}
    >>> schema, definitions = references_alone(digit, {"d0": {"type": "integer"}})
    >>> schema, definitions["together0"]
    ({'$ref': '#/$defs/together0'}, {'allOf': [{'type': 'integer'}], 'maximum': 9})
    """
    out: dict[str, Any] = {}
    names: dict[str, str] = {}

    def place(part: Any) -> Any:
        """At the place of a value: nothing from elsewhere applies to it."""
        if not _has_crowded(part, False):
            return together(part, False, frozenset())
        text = json.dumps(part, sort_keys=True)
        if text not in names:
            name = names[text] = f"together{len(names)}"
            out[name] = together(part, False, frozenset())
        return {"$ref": f"#/$defs/{names[text]}"}

    def together(part: Any, crowded: bool, into: frozenset[str]) -> Any:
        if not isinstance(part, dict):
            return part
        crowded = crowded or len(part) > 1
        copy: dict[str, Any] = {}
        for keyword, value in part.items():
            if keyword == "$ref" and crowded:
                name = _name(value)
                if name not in into:  # else it says nothing new
                    target = together(definitions[name], True, into | {name})
                    copy.setdefault("allOf", []).append(target)
            elif keyword in ("allOf", "anyOf"):
                several = crowded or (keyword == "allOf" and len(value) > 1)
                copy.setdefault(keyword, []).extend(together(v, several, into) for v in value)
            else:
                copy[keyword] = _map_places(keyword, value, place)
        return copy

    schema = place(schema)
    out |= {name: together(d, False, frozenset()) for name, d in definitions.items()}
    return schema, out


def without_endless(schema: dict[str, Any], empty: frozenset[str] = frozenset()) -> Any:
    """A lowered schema without the parts that only endless values satisfy; `False` if nothing else is left.

    A parser would follow `{"required": ["next"], "properties": {"next": {"$ref": "#"}}}` for ever.

    :param schema: with its `$defs`.
    :param empty: definitions known to have no value at all.

    >>> node = {"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#/$defs/node"}}}
    >>> schema = {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}], "$defs": {"node": node}}
    >>> without_endless(schema)["anyOf"]
    [False, {'type': 'null'}]
    """
    definitions = schema.get("$defs", {})
    satisfiable = [(name, part) for name, part in definitions.items() if name not in empty]
    ending: set[str] = set()

    def ends(part: Any) -> bool:
        """Whether a finite value may satisfy a part, as far as is known."""
        if not isinstance(part, dict):
            return part is not False
        if "$ref" in part and _name(part["$ref"]) not in ending:
            return False
        if not all(map(ends, part.get("allOf", ()))) or not any(map(ends, part.get("anyOf", (True,)))):
            return False
        if part.get("type") == "object":
            members = part.get("properties", {})
            return all(ends(members.get(name, True)) for name in part.get("required", ()))
        if part.get("type") == "array":
            first = part.get("prefixItems", [])[: part.get("minItems", 0)]
            return all(map(ends, first)) and (
                part.get("minItems", 0) <= len(first) or ends(part.get("items", True))
            )
        return True

    while found := {name for name, part in satisfiable if name not in ending and ends(part)}:
        ending |= found
    if len(ending) == len(definitions):
        return schema if ends(schema) else False

    def pruned(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        if "$ref" in part and _name(part["$ref"]) not in ending:
            return False
        out = {
            keyword: _map_places(keyword, value, pruned)
            for keyword, value in part.items()
            if keyword != "$defs"
        }
        return out | {
            keyword: [pruned(v) for v in part[keyword]] for keyword in ("allOf", "anyOf") if keyword in part
        }

    if not ends(schema):
        return False
    return pruned(schema) | {
        "$defs": {name: pruned(part) for name, part in definitions.items() if name in ending}
    }


def alternatives(schema: Any, most: int) -> int:
    """In how many ways a value may be read, at the worst place; `most` where there are more.

    A parser follows all ways at once, so that many small alternatives that may be combined cost more than a
    check of what they were made from.

    :param schema: lowered, with its `$defs`.

    >>> one = {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
    >>> alternatives({"items": {"allOf": [one, one, one]}}, 100)
    8
    """
    definitions = schema.get("$defs", {}) if isinstance(schema, dict) else {}
    known: dict[str, int] = {}
    worst = 1

    def ways(part: Any) -> int:
        nonlocal worst
        if not isinstance(part, dict):
            return 1
        count = 1
        for keyword, value in part.items():
            if keyword == "$ref":
                name = _name(value)
                if name not in known:
                    known[name] = 1  # a reference back adds no way
                    known[name] = ways(definitions.get(name))
                count *= known[name]
            elif keyword == "anyOf":
                count *= sum(map(ways, value))
            elif keyword == "allOf":
                for item in value:
                    count = min(most, count * ways(item))
            else:
                _map_places(keyword, value, ways)
            count = min(most, count)
        worst = max(worst, count)
        return count

    for part in (schema, *definitions.values()):
        ways(part)
    return worst


def _map_places(keyword: str, value: Any, function: Callable[[Any], Any]) -> Any:
    """A keyword's value with the subschemas that apply to other values replaced."""
    if keyword in ("properties", "patternProperties"):
        return {name: function(v) for name, v in value.items()}
    if keyword == "prefixItems":
        return [function(v) for v in value]
    if keyword in ("items", "additionalProperties"):
        return function(value)
    return value


def _has_crowded(part: Any, crowded: bool) -> bool:
    """Whether a reference stands beside something else that applies to the same value."""
    if not isinstance(part, dict):
        return False
    crowded = crowded or len(part) > 1

    def below() -> Iterator[bool]:
        for keyword in ("allOf", "anyOf"):
            several = crowded or (keyword == "allOf" and len(part.get(keyword, ())) > 1)
            yield from (_has_crowded(v, several) for v in part.get(keyword, ()))

    return ("$ref" in part and crowded) or any(below())


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]
