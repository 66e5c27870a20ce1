"""Feedback as clients send it: a request whose types follow from the contract."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any, cast
from uuid import UUID

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    create_model,
    model_validator,
)
from pydantic_core import PydanticCustomError

from feedback.tables import MAX_ACTOR, MAX_COMMENT, MAX_LABEL, MAX_NAME
from serving.contract import Contract, Task
from serving.fields import Kind, as_text, dump_fields, read_label, read_task

MAX_ITEMS = 100
NO_NUL = r"^[^\x00]*$"  # PostgreSQL stores none
# Something besides white space, which is removed at both ends.
LABEL = r"^[^\x00]*[^\x00\s][^\x00]*$"

Row = dict[str, Any]


def text(longest: int) -> Any:
    """Return the type of a text with a bound that a database can store."""
    return Annotated[str, Field(min_length=1, max_length=longest, pattern=NO_NUL)]


Name = text(MAX_NAME)


class Predicted(Contract):
    """The prediction, as the service answered it; without a label if it abstained."""

    label: text(MAX_LABEL) | None = None  # type: ignore[valid-type]
    value: float | None = None
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    model_version: Name  # type: ignore[valid-type]


class Item(Contract):
    """What is said of one prediction.

    `id` is a new UUID, made by the client: an item that is sent again with the same one
    is stored once. Give the truth or, as `correct`, an opinion.
    """

    id: UUID
    prediction_id: Name  # type: ignore[valid-type]
    prediction: Predicted
    comment: text(MAX_COMMENT) | None = None  # type: ignore[valid-type]
    source: Name | None = None  # type: ignore[valid-type]
    actor: text(MAX_ACTOR) | None = None  # type: ignore[valid-type]
    occurred_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> "Item":
        given = self.model_fields_set & {"label", "value", "correct"}
        if len(given) != 1:
            truth = "value" if "value" in type(self).model_fields else "label"
            raise PydanticCustomError(
                "verdict", f"Give either {truth} (the truth) or correct (an opinion)"
            )
        return self


def make_request(
    instance: type[BaseModel], labelled: type[BaseModel]
) -> type[BaseModel]:
    """Return the type of a request: `feedback`, a list of items.

    `instance` and `labelled` are the contract. The truth is a `label` or, of a
    regression, a `value`, with the type and the bounds of the field `label`.
    """
    truth = truth_name(labelled)
    # Each may be left out, but is not null.
    verdict: dict[str, Any] = {
        truth: (truth_type(labelled), None),
        "correct": (bool, None),
    }
    one_of: list[JsonValue] = [{"required": [name]} for name in verdict]

    class Base(Item):
        model_config = ConfigDict(json_schema_extra={"oneOf": one_of})

    item: Any = create_model(
        "Feedback",
        __base__=Base,
        __doc__=Item.__doc__,
        instance=(instance, ...),
        **verdict,
    )
    items = Annotated[list[item], Field(min_length=1, max_length=MAX_ITEMS)]
    return create_model(
        "FeedbackRequest",
        __base__=Contract,
        __doc__="One or more items of feedback: all are stored, or none.",
        feedback=(items, ...),
    )


def truth_name(labelled: type[BaseModel]) -> str:
    """Return `value` of a regression, else `label`."""
    return "value" if read_task(labelled) is Task.REGRESSION else "label"


def truth_type(labelled: type[BaseModel]) -> Any:
    """Return the type of the truth: that of the field `label`, bounded."""
    if read_label(labelled).kind is Kind.TEXT:
        bounds = StringConstraints(
            strip_whitespace=True, min_length=1, max_length=MAX_LABEL, pattern=LABEL
        )
        return Annotated[str, bounds]
    field = labelled.model_fields["label"]
    if not field.metadata:
        return field.annotation
    return Annotated[(field.annotation, *field.metadata)]


def read_stored(truth: str | float, labelled: type[BaseModel]) -> Any:
    """Return a truth of the database as the contract has it: a choice by its text."""
    label = read_label(labelled)
    return dict(zip(label.choices, label.values, strict=True)).get(str(truth), truth)


def contract_version(instance: type[BaseModel], labelled: type[BaseModel]) -> str:
    """Return a name for what the contract asks for: types and bounds, not words."""
    schemas = [model.model_json_schema() for model in (instance, labelled)]
    return digest([_without_words(schema) for schema in schemas])[:12]


def _without_words(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_words(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    words = {"description", "title", "examples"}
    return {
        key: _without_words(part)
        for key, part in schema.items()
        if key not in words or isinstance(part, dict)  # a field of that name
    }


def digest(content: Any) -> str:
    """Return the SHA-256 of a value as JSON."""
    written = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(written.encode()).hexdigest()


def to_row(item: Any, tenant: str, version: str, *, with_instance: bool) -> Row:
    """Return the row of the table `feedback` that an item becomes."""
    label, value = (getattr(item, name, None) for name in ("label", "value"))
    row: Row = {
        "tenant": tenant,
        "id": item.id,
        "prediction_id": item.prediction_id,
        "instance": dump_fields(item.instance) if with_instance else None,
        "contract_version": version,
        "model_version": item.prediction.model_version,
        "predicted_label": item.prediction.label,
        "predicted_value": item.prediction.value,
        "score": item.prediction.score,
        "label": None if label is None else as_text(label),
        "value": None if value is None else float(value),
        "correct": item.correct,
        "comment": item.comment if with_instance else None,
        "source": item.source if with_instance else None,
        "actor": item.actor if with_instance else None,
    }
    said = row | {"occurred_at": item.occurred_at and _to_utc(item.occurred_at)}
    del said["contract_version"]  # the same item may come after a new release
    now = datetime.now(UTC)
    return row | {
        "digest": digest(said),
        "occurred_at": said["occurred_at"] or now,
        "received_at": now,
    }


def agrees(row: Row) -> bool:
    """Return whether an item says that the prediction was right."""
    if row["correct"] is not None:
        return cast(bool, row["correct"])
    if row["label"] is not None:
        return cast(bool, row["label"] == row["predicted_label"])
    return cast(bool, row["value"] == row["predicted_value"])


def _to_utc(moment: datetime) -> datetime:
    """Return a moment in UTC; the first and the last day of the calendar stay in it."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment.replace(tzinfo=UTC)
