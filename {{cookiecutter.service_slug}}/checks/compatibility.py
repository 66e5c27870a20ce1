"""Compare two OpenAPI documents: what of the new API breaks the clients of the old.

A request that was taken must still be taken, and an answer must be one that could have
been given before. New operations, new optional fields of requests and new fields of
answers break nobody.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

METHODS = {"get", "put", "post", "delete", "patch"}
LOWER_BOUNDS = ("minimum", "exclusiveMinimum", "minLength", "minItems")
UPPER_BOUNDS = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
PATTERNS = ("pattern", "format", "multipleOf", "uniqueItems")


def find_breaks(old: Schema, new: Schema) -> Iterator[tuple[str, str]]:
    """Yield the operation and, in words, what of it breaks the clients of the old API.

    >>> list(find_breaks(released, openapi()))
    [("POST /v1/predict", "of the request, `room` is now required")]
    """
    for path, item in old.get("paths", {}).items():
        for method in sorted(METHODS & item.keys()):
            name = f"{method.upper()} {path}"
            changed = new.get("paths", {}).get(path, {}).get(method)
            if changed is None:
                yield name, "it is gone"
                continue
            operations = item[method], changed
            for reason in (
                *compare_requests(old, new, *operations),
                *compare_answers(old, new, *operations),
            ):
                yield name, reason


def compare_requests(
    old_document: Schema, new_document: Schema, old: Schema, new: Schema
) -> Iterator[str]:
    """Yield which requests of an operation are no longer taken."""
    takes_less = Difference(old_document, new_document)
    if new.get("security") and not old.get("security"):
        yield "it asks for a key"
    known = {(one["in"], one["name"]): one for one in old.get("parameters", [])}
    for parameter in new.get("parameters", []):
        name = f"the {parameter['in']} parameter `{parameter['name']}`"
        before = known.get((parameter["in"], parameter["name"]))
        if parameter.get("required") and not (before and before.get("required")):
            yield f"{name} is now required"
        if before:
            for reason in takes_less.find(before["schema"], parameter["schema"]):
                yield f"of {name}, {reason}"
    body, other = old.get("requestBody") or {}, new.get("requestBody") or {}
    if other.get("required") and not body.get("required"):
        yield "a body is now required"
    for media, content in body.get("content", {}).items():
        if other and media not in other["content"]:
            yield f"it no longer takes {media}"
        elif other:
            schema = content.get("schema", {})
            changed = other["content"][media].get("schema", {})
            for reason in takes_less.find(schema, changed):
                yield f"of the request, {reason}"


def compare_answers(
    old_document: Schema, new_document: Schema, old: Schema, new: Schema
) -> Iterator[str]:
    """Yield which answers of an operation are new to its clients."""
    says_more = Difference(new_document, old_document, of_answers=True)
    for status, answer in old["responses"].items():
        changed = new["responses"].get(status)
        if changed is None:
            if status.startswith("2"):
                yield f"it no longer answers {status}"
            continue
        for media, content in answer.get("content", {}).items():
            other = changed.get("content", {}).get(media)
            if other is None:
                yield f"its answer {status} is no longer {media}"
                continue
            schema = content.get("schema", {})
            for reason in says_more.find(other.get("schema", {}), schema):
                yield f"of the answer {status}, {reason}"


class Difference:
    """What one schema allows and another does not, each with its document.

    Of requests, the wide one is the old schema; of answers, the new one.
    """

    def __init__(self, wide: Schema, narrow: Schema, of_answers: bool = False) -> None:
        self._wide, self._narrow = wide, narrow
        self._of_answers = of_answers
        self._at_work: set[tuple[int, int]] = set()  # ids of pairs of schemas

    def find(self, wide: Schema, narrow: Schema, at: str = "") -> list[str]:
        """Return what the wide schema allows and the narrow one does not, in words.

        `at` is the path of the two in the body.
        """
        pair = id(wide), id(narrow)
        if pair in self._at_work:  # a schema may contain itself
            return []
        self._at_work.add(pair)
        found: list[str] = []
        others = alternatives(self._narrow, narrow)
        for one in alternatives(self._wide, wide):
            reasons = [self._compare(one, other, at) for other in others]
            fewest = min(reasons, key=len)
            found += fewest
        self._at_work.remove(pair)
        return list(dict.fromkeys(found))

    def _compare(self, a: Schema, b: Schema, at: str) -> list[str]:
        """Compare two alternatives."""
        name = f"`{at}`" if at else "the whole"
        kinds = a.get("type"), b.get("type")
        if kinds[1] and kinds[0] != kinds[1] and kinds != ("integer", "number"):
            old, new = self._in_time(*kinds)
            return [f"{name} was {old or 'anything'} and is {new or 'anything'}"]
        found = [f"{name} {reason}" for reason in self._values_and_bounds(a, b)]
        found += self._fields(a, b, at)
        for key, part in (("items", f"{at}[]"), ("additionalProperties", f"{at}.*")):
            inner, other = a.get(key, {}), b.get(key)
            if isinstance(inner, dict) and isinstance(other, dict):
                found += self.find(inner, other, part)
        return found

    def _values_and_bounds(self, a: Schema, b: Schema) -> Iterator[str]:
        """Yield the values that only the first allows, and its looser bounds."""
        given, allowed = values(a), values(b)
        if allowed and not given:
            yield "may be anything" if self._of_answers else "takes listed values only"
        elif allowed and given:
            if extra := ", ".join(repr(one) for one in given if one not in allowed):
                yield f"may be {extra}" if self._of_answers else f"never takes {extra}"
        for name in (*LOWER_BOUNDS, *UPPER_BOUNDS, *PATTERNS):
            if name in b and is_looser(name, a.get(name), b[name]):
                old, new = self._in_time(a.get(name), b[name])
                yield f"had the {name} {old} and has {new}"

    def _fields(self, a: Schema, b: Schema, at: str) -> Iterator[str]:
        """Yield how the fields of two objects differ."""
        has, knows = a.get("properties", {}), b.get("properties", {})
        inside = f"{at}." if at else ""
        for name in b.get("required", []):
            if name not in a.get("required", []) and (
                name in has or not self._of_answers
            ):
                what = "may be missing" if self._of_answers else "is now required"
                yield f"`{inside}{name}` {what}"
        for name in knows.keys() - has.keys() if self._of_answers else ():
            yield f"`{inside}{name}` is gone"
        for name, schema in has.items():
            if name in knows:
                yield from self.find(schema, knows[name], f"{inside}{name}")
            elif not self._of_answers and b.get("additionalProperties") is False:
                yield f"`{inside}{name}` is no longer taken"

    def _in_time(self, wide: Any, narrow: Any) -> tuple[Any, Any]:
        """Return what was before, and what is now."""
        return (narrow, wide) if self._of_answers else (wide, narrow)


def is_looser(name: str, one: Any, other: Any) -> bool:
    """Return whether a bound lets through what another does not."""
    if one is None or name in PATTERNS:
        return bool(one != other)
    return bool(one < other if name in LOWER_BOUNDS else one > other)


def alternatives(document: Schema, schema: Schema) -> list[Schema]:
    """Return the schemas of which one must hold, with their references followed."""
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        schema = found
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return [one for each in schema[key] for one in alternatives(document, each)]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": one} for one in schema["type"]]
    return [schema]


def values(schema: Schema) -> list[Any]:
    """Return the values that a schema lists; empty if it lists none."""
    if "const" in schema:
        return [schema["const"]]
    return list(schema.get("enum", []))
