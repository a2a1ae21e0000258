"""A JSON schema as a grammar engine can take it, and what is left for a validator to check.

Exact where it can be: jsonschema-rs rewrites `not`, `oneOf` and `if` without them wherever it finds how
(disjoint alternatives, discriminators, required and forbidden properties); dependencies become alternatives;
formats become patterns; `propertyNames` becomes `patternProperties`. What has no such form is left out of the
grammar, which then allows more than the schema, and noted for :mod:`~sentax.ppl.constraints.schema_checks`.
Leaving a keyword out is safe here because no negation is left: fewer keywords never allow less.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any, NamedTuple

from sentax.ppl.constraints import schema_bounds as bounds
from sentax.ppl.constraints.schema_draft import DRAFTS, POINTER, Translation
from sentax.ppl.constraints.schema_formats import CHECKED_FORMATS, patterns_of
from sentax.ppl.constraints.schema_patterns import excluding, few_words, name_pattern
from sentax.ppl.constraints.schema_references import references_alone, without_endless

_HARD = ("not", "oneOf", "if", "then", "else")
_MAX_CANONICAL = 50_000
"""Characters of a subschema and its definitions, before and after: beyond, rewriting costs more than checks."""

_BOUNDS = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))
_ASSERTED_CONTENT = ("contentEncoding", "contentMediaType")
_LEFT_TO_CHECKS = frozenset(
    ("$dynamicRef", "$recursiveRef", "unevaluatedItems", "contains", *_ASSERTED_CONTENT)
)
_APPLICATORS = ("$ref", "allOf", "anyOf", "dependencies", "additionalProperties", "$dynamicRef", *_HARD)


class Relax(NamedTuple):
    """What a grammar engine has refused in an earlier attempt, to be left to a validator as well.

    :param keywords: taken out wherever they stand.
    :param patterns: regular expressions that the engine does not take.
    :param overlaps: whether `patternProperties` of one object may not overlap.
    :param alternatives: whether `not`, `oneOf`, `if` and dependencies may not be rewritten as alternatives.
    :param empty: definitions that nothing satisfies.
    :param references: whether a reference may not stand beside other keywords; its target is then copied there.
    """

    keywords: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    overlaps: bool = False
    alternatives: bool = False
    references: bool = False
    empty: frozenset[str] = frozenset()


class Lowered(NamedTuple):
    """What a schema becomes.

    :param schema: draft 2020-12 without the keywords that grammars cannot express; allows at least what the
        original does, up to formats, which may be stricter.
    :param checks: by pointer into the original, the keywords that it leaves to a validator.
    """

    schema: dict[str, Any] | bool
    checks: dict[str, frozenset[str]]


class _Origin(NamedTuple):
    """Where a subschema comes from.

    :param pointer: the original's subschema that stands for it.
    :param keywords: those of the original's keywords that it was rewritten from, if it was.
    """

    pointer: str
    keywords: tuple[str, ...] = ()


def lower(source: Translation, relax: Relax = Relax()) -> Lowered:  # noqa: B008
    """A translated schema without what grammars cannot express."""
    lowering = _Lowering(source, relax)
    schema = lowering.lower(source.schema, _Origin(""))
    definitions = {name: lowering.lower(d, _Origin("")) for name, d in source.definitions.items()}
    if relax.references:
        schema, definitions = references_alone(schema, definitions)
    if isinstance(schema, dict):
        schema = without_endless(schema | {"$defs": definitions}, relax.empty)
    if isinstance(schema, dict):
        rest = {keyword: value for keyword, value in schema.items() if keyword != "$defs" or value}
        schema = {"$schema": DRAFTS[2020]} | rest
    return Lowered(schema, {pointer: frozenset(words) for pointer, words in lowering.checks.items()})


class _Lowering:
    def __init__(self, source: Translation, relax: Relax) -> None:
        self.source = source
        self.relax = relax
        self.checks: dict[str, set[str]] = {}

    def leave(self, origin: _Origin, keyword: str) -> None:
        """Notes a keyword that the grammar does not have."""
        # Where references depend on the way that led to them, only the whole can be checked.
        pointer = "" if self.source.is_dynamic else origin.pointer
        self.checks.setdefault(pointer, set()).update(origin.keywords or (keyword,))

    def lower(self, schema: Any, origin: _Origin) -> Any:
        """A subschema for the grammar."""
        if isinstance(schema, bool):
            return schema
        if not origin.keywords:
            origin = _Origin(schema.get(POINTER, origin.pointer))
        out: dict[str, Any] = {}
        also: list[Any] = []
        hard = [k for k in _HARD if k in schema]
        for keyword, value in schema.items():
            if keyword == POINTER:
                continue
            if keyword in self.relax.keywords or keyword in _LEFT_TO_CHECKS:
                self.leave(origin, keyword)
            elif keyword in hard:
                if keyword == hard[0]:
                    also += self._hard(schema, hard, origin)
            elif keyword == "dependencies":
                also += self._dependencies(schema, origin)
            else:
                self._keyword(keyword, value, schema, origin, out, also)
        self._members(schema, origin, out)
        if also:
            out["allOf"] = [*out.get("allOf", ()), *also]
        if "type" in out and self._says_type(out):
            del out["type"]
        return out

    def _says_type(self, out: dict[str, Any]) -> bool:
        """Whether references imply the type: beside a recursive one llguidance takes no other keyword."""
        allowed = {out["type"]} if isinstance(out["type"], str) else set(out["type"])

        def implied(schema: Any) -> bool:
            if not isinstance(schema, dict):
                return False
            if "$ref" in schema:
                target = self.source.definitions.get(schema["$ref"].rpartition("/")[2])
                own = target.get("type") if isinstance(target, dict) else None
                return own is not None and ({own} if isinstance(own, str) else set(own)) <= allowed
            return "anyOf" in schema and all(map(implied, schema["anyOf"]))

        rest = {k: v for k, v in out.items() if k != "type"}
        if set(rest) == {"allOf"} and len(rest["allOf"]) == 1 and isinstance(rest["allOf"][0], dict):
            rest = rest["allOf"][0]
        return set(rest) <= {"$ref", "anyOf"} and implied(rest)

    def _keyword(
        self,
        keyword: str,
        value: Any,
        schema: dict[str, Any],
        origin: _Origin,
        out: dict[str, Any],
        also: list[Any],
    ) -> None:
        leave = functools.partial(self.leave, origin, keyword)
        typed = _typed(schema)
        if keyword in ("properties", "patternProperties"):
            names = self._ordered(value) if origin.keywords else value
            out[keyword] = {name: self.lower(value[name], origin) for name in names}
        elif keyword == "required":
            out[keyword] = self._ordered(value) if origin.keywords else value
        elif keyword in ("allOf", "anyOf", "prefixItems"):
            out[keyword] = [self.lower(v, origin) for v in value]
        elif keyword in ("items", "additionalProperties"):
            out[keyword] = self.lower(value, origin)
        elif keyword in _BOUNDS:
            bound, number = bounds.enforceable(keyword, value)
            between = [] if schema.get("type") == "integer" else bounds.truncations(keyword, number)
            if between or bound in out:
                ways = [typed | {bound: number}, *({"const": c} for c in between)]
                also.append({"anyOf": ways} if between else ways[0])
            else:
                out[bound] = number
        elif keyword == "pattern" and value in self.relax.patterns:
            leave()
        elif keyword == "format":
            if value in CHECKED_FORMATS:
                leave()
            also += [typed | {"pattern": pattern} for pattern in patterns_of(value)]
        elif keyword == "uniqueItems":
            if value and schema.get("maxItems", 2) > 1:
                leave()
        elif keyword in ("minContains", "maxContains"):
            pass  # `contains` beside them is left to a check
        elif keyword == "propertyNames":
            pattern = name_pattern(value)
            if pattern is None or (isinstance(pattern, str) and pattern in self.relax.patterns):
                leave()
            elif isinstance(pattern, list):
                known = {"properties": dict.fromkeys(self._ordered(pattern), True)}
                also.append(typed | known | {"additionalProperties": False})
            elif pattern:
                also.append(typed | {"patternProperties": {pattern: True}, "additionalProperties": False})
        elif keyword == "unevaluatedProperties":
            if value is False and not any(k in schema for k in _APPLICATORS):
                out["additionalProperties"] = False
            elif "additionalProperties" not in schema and value is not True:
                leave()
        else:
            out[keyword] = value

    def _dependencies(self, schema: dict[str, Any], origin: _Origin) -> list[Any]:
        """What must hold if a property is there: alternatives, with it and without it."""
        if self.relax.alternatives:
            self.leave(origin, "dependencies")
            return []
        typed, out = _typed(schema), []
        for name, then in schema["dependencies"].items():
            if set(then if isinstance(then, dict) else ()) == {"required"}:
                then = {"required": [n for n in then["required"] if n not in schema.get("required", ())]}
                if not then["required"]:
                    continue
            with_it = self.lower(then, origin)
            if with_it is not True:
                ways = [typed | {"properties": {name: False}}]
                out.append({"anyOf": ways if with_it is False else [*ways, typed | with_it]})
        return out

    def _members(self, schema: dict[str, Any], origin: _Origin, out: dict[str, Any]) -> None:
        """What concerns an object's members together."""
        patterns = out.get("patternProperties", {})
        for pattern in [p for p in patterns if p not in self.relax.patterns]:
            # A pattern of a few names is these properties. (llguidance takes away from it the names that are
            # properties already, and does not see when none is left.)
            words = few_words(pattern)
            if words is not None:
                members = out.setdefault("properties", {})
                part = patterns.pop(pattern)
                for word in self._ordered(words):
                    members[word] = {"allOf": [members[word], part]} if word in members else part
        if patterns == {}:
            out.pop("patternProperties", None)
        if out.get("minProperties", 0) > 1 and (patterns or schema.get("additionalProperties") is not False):
            self.leave(origin, "minProperties")  # a grammar counts a repeated name twice
        refused = "patternProperties" in schema and "patternProperties" in self.relax.keywords
        if refused or not self.relax.patterns.isdisjoint(patterns):
            # Which names they match is not known here, nor then which are additional.
            self.leave(origin, "patternProperties")
            out.pop("patternProperties", None)
            out.pop("additionalProperties", None)
        elif len(patterns) > 1 and self.relax.overlaps:
            kinds = list({json.dumps(v, sort_keys=True): v for v in patterns.values()}.values())
            if len(kinds) > 1:
                self.leave(origin, "patternProperties")
            union = "|".join(f"(?:{p})" for p in patterns)
            out["patternProperties"] = {union: kinds[0] if len(kinds) == 1 else {"anyOf": kinds}}

    def _hard(self, schema: dict[str, Any], hard: list[str], origin: _Origin) -> list[Any]:
        """What stands for `not`, `oneOf` and `if`."""
        if origin.keywords:
            pattern = _without_strings(schema)
            return self._weaker(schema, hard, origin) if pattern is None else [pattern]
        part = {k: schema[k] for k in ("type", *hard) if k in schema}
        canonical = None if self.relax.alternatives else self._canonical(part)
        if canonical is None:
            return self._weaker(schema, hard, origin)
        said = tuple(k for k in hard if k not in ("then", "else"))
        return [self.lower(canonical, _Origin(origin.pointer, said))]

    def _weaker(self, schema: dict[str, Any], hard: list[str], origin: _Origin) -> list[Any]:
        """Alternatives instead of `oneOf` and `if`, nothing instead of `not`; the rest is checked."""
        out: list[Any] = []
        for keyword in hard:
            if keyword in ("not", "oneOf", "if"):
                self.leave(origin, keyword)
        if "oneOf" in schema:
            out.append({"anyOf": [self.lower(v, origin) for v in schema["oneOf"]]})
        if "if" in schema and "then" in schema and "else" in schema:
            out.append({"anyOf": [self.lower(schema[k], origin) for k in ("then", "else")]})
        return out

    def _canonical(self, part: dict[str, Any]) -> Any:
        """The part as jsonschema-rs writes it, mostly without `not`, `oneOf` and `if`; `None` if it cannot."""
        import jsonschema_rs

        names: set[str] = set()
        pending: list[Any] = [part]
        while pending:
            found = set(re.findall(r'"#/\$defs/(d[0-9]+)"', json.dumps(pending.pop()))) - names
            names |= found
            pending += [self.source.definitions[name] for name in found]
        definitions = {name: _plain(self.source.definitions[name]) for name in sorted(names)}
        document = {"$schema": DRAFTS[2020], "$defs": definitions} | _plain(part)
        text = json.dumps(document)
        # Draft 2020-12 does not assert what older drafts say of contents.
        if self.source.is_dynamic or any(f'"{k}"' in text for k in _ASSERTED_CONTENT):
            return None
        if len(text) > _MAX_CANONICAL:
            return None
        try:
            out = jsonschema_rs.canonicalize(document, validate_formats=True, offline=True).to_json_schema()
        except (ValueError, jsonschema_rs.canonical.CanonicalizationError):
            return None
        if isinstance(out, dict):
            out = {k: v for k, v in out.items() if k not in ("$schema", "$defs")}
        text = json.dumps(out)
        known = set(re.findall(r'"\$ref": "([^"]*)"', text)) <= {f"#/$defs/{n}" for n in names}
        return out if known and len(text) <= _MAX_CANONICAL else None

    def _ordered(self, names: Any) -> list[str]:
        """Names in the order in which the original has them."""
        order = self.source.order
        return sorted(names, key=lambda name: order.get(name, len(order)))


def _typed(schema: dict[str, Any]) -> dict[str, Any]:
    """The type alone: repeated beside a part of a schema, it spares the engine the other types."""
    return {"type": schema["type"]} if "type" in schema else {}


def _plain(schema: Any) -> Any:
    """A translated schema as others read it: without pointers, dependencies written out."""
    if isinstance(schema, list):
        return [_plain(v) for v in schema]
    if not isinstance(schema, dict):
        return schema
    out = {k: _plain(v) for k, v in schema.items() if k != POINTER}
    if POINTER in schema and "dependencies" in out:
        ways = out.pop("dependencies").items()
        out["allOf"] = [*out.get("allOf", ())]
        out["allOf"] += [{"anyOf": [{"properties": {name: False}}, then]} for name, then in ways]
    return out


def _without_strings(schema: dict[str, Any]) -> dict[str, Any] | None:
    """`not` of an enumeration where only strings are meant; `None` for any other negation."""
    negated = schema.get("not")
    if schema.get("type") != "string" or not isinstance(negated, dict) or "oneOf" in schema or "if" in schema:
        return None
    if set(negated) == {"enum"} or set(negated) == {"const"}:
        words = negated.get("enum", [negated.get("const")])
        return {"type": "string", "pattern": excluding([word for word in words if isinstance(word, str)])}
    return None
