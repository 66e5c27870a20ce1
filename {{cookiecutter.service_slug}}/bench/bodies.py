"""Make request bodies from the examples and limits in /openapi.json."""

import json
from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from typing import Any

from bench import BenchError

Schema = Mapping[str, Any]
# What bounds a text by more than its length: it cannot be made longer by repetition.
NOT_FREE = {"enum", "const", "format", "pattern"}


class Bodies:
    """Bodies for `POST /v1/predict`. Raises BenchError if a field has no example."""

    def __init__(self, openapi: Schema) -> None:
        self._openapi = openapi
        operation = openapi["paths"]["/v1/predict"]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        (request,) = self._kinds(content["schema"])
        instances = request["properties"]["instances"]
        (instance,) = self._kinds(instances["items"])
        self._max_instances: int = instances.get("maxItems", 1000)
        fields = {
            name: self._kinds(one) for name, one in instance["properties"].items()
        }
        self._max_lengths: dict[str, int] = {
            name: kind.get("maxLength", 10_000)
            for name, kinds in fields.items()
            for kind in kinds
            if kind.get("type") == "string" and not NOT_FREE & set(kind)
        }
        examples = instance.get("examples") or self._combine(fields, instance)
        self.examples: list[dict[str, Any]] = list(examples)

    def of(self, size: int) -> list[bytes]:
        """Return a body of `size` instances for each example to begin with."""
        size = min(size, self._max_instances)
        return [
            encode(list(islice(cycle(self.examples), start, start + size)))
            for start in range(len(self.examples))
        ]

    def largest(self, limit: int) -> bytes:
        """Return a body of at most `limit` bytes, with as many instances as may be.

        Texts are repeated, up to their greatest length, to fill it.
        """
        example, empty = self.examples[0], len(encode([]))
        texts = [name for name in self._max_lengths if example.get(name)]
        room = limit - len(encode([example] * self._max_instances))
        extra = max(0, room // self._max_instances // max(1, len(texts)))
        for name in texts:
            length = min(len(example[name]) + extra, self._max_lengths[name])
            words = f"{example[name]} " * (length // len(example[name]) + 1)
            example = example | {name: words[:length].strip()}
        fit = (limit - empty) // (len(encode([example])) - empty + 1)  # with a comma
        return encode([example] * max(1, min(self._max_instances, fit)))

    def _combine(
        self, fields: Mapping[str, list[Schema]], instance: Schema
    ) -> list[dict[str, Any]]:
        """Return instances made of the examples of their fields."""
        values = {name: self._values(kinds) for name, kinds in fields.items()}
        if missing := [
            name for name in instance.get("required", ()) if not values[name]
        ]:
            raise BenchError(
                f"There is no example to send for {', '.join(missing)}. Add samples to "
                "app/examples.py."
            )
        count = max(map(len, values.values()), default=1)
        return [
            {name: some[number % len(some)] for name, some in values.items() if some}
            for number in range(count)
        ]

    def _kinds(self, schema: Schema) -> list[Schema]:
        """Return a schema, or its alternatives (`anyOf`), without references."""
        while "$ref" in schema:
            found: Any = self._openapi
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            schema = found
        alternatives = [self._kinds(one) for one in schema.get("anyOf", ())]
        # Examples of a field that may be missing stand beside its alternatives.
        return [{**schema, **kind} for kinds in alternatives for kind in kinds] or [
            schema
        ]

    @staticmethod
    def _values(kinds: Sequence[Schema]) -> list[Any]:
        for key in ("examples", "enum"):
            for kind in kinds:
                if kind.get(key):
                    return list(kind[key])
        return [True, False] if any(k.get("type") == "boolean" for k in kinds) else []


def encode(instances: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the body of a request for these instances."""
    content = {"instances": instances}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
