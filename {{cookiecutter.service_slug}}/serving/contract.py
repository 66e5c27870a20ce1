"""The base class of requests and responses, and the engine's own response models.

Every model of `app/contract.py` derives from `Contract`.
"""

from collections.abc import Callable
from decimal import Decimal
from enum import StrEnum
from math import inf
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

# The largest number that a model can be given: its numbers are float32.
MAX_NUMBER = 3.4028234663852886e38
# As the OpenAPI document prints it; as a float it is the same.
MAX_INTEGER = int(Decimal(repr(MAX_NUMBER)))

# Metrics count the values of a regression by the tenths of the training values.
TENTHS = tuple(f"tenth {number}" for number in range(1, 11))


class Task(StrEnum):
    """What a model predicts: one of several labels, or a number."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


def read_whole(value: Any) -> Any:
    """Return a float without a fraction as an integer: in JSON, 2.0 is one."""
    return int(value) if type(value) is float and value.is_integer() else value


def refuse_flag(value: Any) -> Any:
    """Return `...`, which is no choice, for a bool: pydantic takes true for 1."""
    return ... if type(value) is bool else value


def has_added_check(schema: Any) -> bool:
    """Return whether `read_whole` or `refuse_flag` was added before a schema."""
    return schema.get("function", {}).get("function") in (read_whole, refuse_flag)


def _may_be_flag(schema: Any) -> bool:
    """Return whether pydantic takes a bool for a choice that is an integer."""
    choices = schema.get("expected", [])
    if schema["type"] == "enum":
        choices = [member.value for member in schema["members"]]
    types = {type(choice) for choice in choices if choice in (0, 1)}
    return int in types and bool not in types


def _validate_before(schema: Any, function: Callable[[Any], Any]) -> None:
    """Call a function with a value before it is validated by a schema."""
    ref = schema.pop("ref", None)
    wrapped = core_schema.no_info_before_validator_function(
        function, {**schema}, ref=ref
    )
    schema.clear()
    schema.update(wrapped)


def _bound_numbers(schema: Any, resolve: Callable[[Any], Any]) -> None:
    """Add bounds to a number, or to the numbers of a list, in the schema of a field.

    `resolve` returns what a schema refers to, such as that of a `type` statement. The
    keys are those of https://docs.pydantic.dev/latest/api/pydantic_core_schema/.
    """
    schema = resolve(schema)
    if schema["type"] in ("float", "int"):
        largest = MAX_NUMBER if schema["type"] == "float" else MAX_INTEGER
        if schema.get("lt", inf) > largest:
            schema["le"] = min(schema.get("le", largest), largest)
        if schema.get("gt", -inf) < -largest:
            schema["ge"] = max(schema.get("ge", -largest), -largest)
        if schema["type"] == "int":
            _validate_before(schema, read_whole)
    elif schema["type"] in ("literal", "enum"):
        if _may_be_flag(schema):
            _validate_before(schema, refuse_flag)
    elif schema["type"] == "list":
        _bound_numbers(schema.get("items_schema", {"type": "any"}), resolve)
    elif schema["type"] == "tuple":
        for item in schema["items_schema"]:
            _bound_numbers(item, resolve)
    elif schema["type"] == "json-or-python":  # a Sequence
        _bound_numbers(schema["json_schema"], resolve)
    # pydantic passes a schema again for each model that holds this one.
    elif (
        not has_added_check(schema) and schema["type"] != "model" and "schema" in schema
    ):
        _bound_numbers(schema["schema"], resolve)


class Contract(BaseModel):
    """A strict, frozen model that rejects unknown fields, NaN and infinity.

    It also rejects numbers that float32 cannot hold.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # keeps user input out of logs
        protected_namespaces=(),
    )

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return pydantic's core schema, with the bounds of float32 on every number."""
        schema = inner = handler(source)
        if inner["type"] == "definition-ref":
            inner = handler.resolve_ref_schema(inner)
        while "schema" in inner:
            inner = inner["schema"]
        known: set[str] = set()

        def resolve(found: Any) -> Any:
            if found["type"] != "definition-ref":
                return found
            if found["schema_ref"] in known:  # bounded already, or recursive
                return {"type": "any"}
            known.add(found["schema_ref"])
            return resolve(handler.resolve_ref_schema(found))

        for field in inner.get("fields", {}).values():
            _bound_numbers(field["schema"], resolve)
        return schema


class ModelInfo(Contract):
    """The served model and its origin.

    `fields` tells what each input holds. A classification has `labels`; below
    `threshold` it abstains. A regression has `deciles`: the smallest value of the
    training rows, nine that part them into tenths, and the largest. `metrics` are those
    of held-out rows; `refitted` tells whether the model has learned from these, too,
    since.
    """

    version: str
    task: Task
    fields: dict[str, str]
    labels: list[str] = []
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    deciles: list[float] = []
    metrics: dict[str, float]
    refitted: bool
    data_hash: str
    git_revision: str
    trained_at: AwareDatetime


class Health(Contract):
    """The response of a probe that succeeds."""

    status: str
