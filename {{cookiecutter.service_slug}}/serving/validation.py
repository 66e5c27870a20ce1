"""Validate JSON and report mistakes in bounded time, whatever a client sends.

pydantic holds the interpreter's lock, so a thread alone does not keep the event loop
free: the number of mistakes that pydantic collects must be bounded.
"""

import asyncio
import codecs
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from pydantic import TypeAdapter
from pydantic_core import SchemaValidator, ValidationError, to_json

from serving.problems import invalid_body

# A larger body is parsed, and its answer encoded, outside of the event loop.
INLINE_BYTES = 8_192
# Where a body may have more mistakes, validation stops at the first bad item of a list.
MAX_MISTAKES = 5_000

T = TypeVar("T")

_containers = frozenset({"dict", "frozenset", "list", "set", "tuple"})
# Keys of a core schema whose values are no schemas, or are schemas by field or tag.
_values = frozenset({"default", "expected", "members", "metadata"})
_schemas_by_name = frozenset({"choices", "fields"})
# One thread, so that the event loop has only one rival for the interpreter's lock.
_worker = ThreadPoolExecutor(1, thread_name_prefix="json")


class BoundedValidator:
    """Validate JSON as a type, with a bounded number of mistakes."""

    def __init__(self, adapter: TypeAdapter[Any]) -> None:
        self._complete = adapter.validator.validate_json
        # Otherwise the validators of nested models would be used, not their changed
        # schemas: https://github.com/pydantic/pydantic/pull/12689
        fail_fast = SchemaValidator(
            stop_at_bad_items(adapter.core_schema), _use_prebuilt=False
        )
        self._fail_fast = fail_fast.validate_json
        self._quick = fail_fast.validate_python

    def parse(self, body: bytes) -> Any:
        """Return the validated value. Raises ProblemError (400, 422)."""
        complete = len(body) <= INLINE_BYTES or body.count(b",") <= MAX_MISTAKES
        validate = self._complete if complete else self._fail_fast
        try:
            return validate(body.removeprefix(codecs.BOM_UTF8))
        except ValidationError as error:
            raise invalid_body(error, complete=complete) from None

    def validate(self, value: Any) -> Any:
        """Return a validated value of JSON types. Raises ProblemError (422).

        Validating Python objects is faster, but stricter: JSON may have a text for an
        enum. So a value that is refused is validated again as JSON.
        """
        try:
            return self._quick(value)
        except ValidationError:
            return self.parse(to_json(value, inf_nan_mode="constants"))


def stop_at_bad_items(schema: Any) -> Any:
    """Return a core schema whose lists and the like stop at their first bad item."""
    if isinstance(schema, list | tuple):
        return type(schema)(map(stop_at_bad_items, schema))
    if not isinstance(schema, dict):
        return schema
    copy = {key: _stop_in(key, part) for key, part in schema.items()}
    if copy.get("type") in _containers:
        copy["fail_fast"] = True
    return copy


def _stop_in(key: str, part: Any) -> Any:
    """Return the value of a key of a core schema, changed if it is a schema."""
    if key in _values:
        return part
    if key in _schemas_by_name and isinstance(part, dict):
        return {name: stop_at_bad_items(schema) for name, schema in part.items()}
    return stop_at_bad_items(part)


async def run_outside(function: Callable[..., T], *args: Any) -> T:
    """Run a function in a thread, so that the event loop gets its turns."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_worker, copy_context().run, function, *args)
