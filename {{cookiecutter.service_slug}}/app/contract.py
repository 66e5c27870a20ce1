"""The contract: what goes into the service and what comes out.

Training validates its data with these models, serving parses requests with them,
the inputs of the ONNX model are named after the fields of `Instance`, and OpenAPI is
printed from them. A new task starts by changing this file.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from app.examples import EXAMPLES
from serving.contract import Contract
from serving.fields import normalise

MAX_TEXT_LENGTH = 10_000
MAX_INSTANCES = 1_000


class Instance(Contract):
    """One thing to classify."""

    model_config = ConfigDict(json_schema_extra={"examples": [*EXAMPLES]})

    text: Annotated[
        str,
        Field(min_length=1, max_length=MAX_TEXT_LENGTH),
        AfterValidator(normalise),
    ]


class LabelledInstance(Instance):
    """A row of training data: an instance with its true label.

    Rows of the same `template` are near-copies of each other and are never split
    between training and test.
    """

    label: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    template: str = ""

    @field_validator("text")
    @classmethod
    def _has_something_to_learn(cls, text: str) -> str:
        if not text:
            raise ValueError("Text should be more than white space")
        return text


class PredictRequest(Contract):
    """One instance or many; `probabilities` asks for the score of every label."""

    instances: Annotated[list[Instance], Field(min_length=1, max_length=MAX_INSTANCES)]
    probabilities: bool = False


# Answers of every request are plain data: nobody checks what the service itself says.


@dataclass(slots=True)
class Prediction:
    """The most probable label; `id` names this prediction in later feedback."""

    id: str
    label: str
    score: Annotated[float, Field(ge=0, le=1)]
    probabilities: dict[str, float] | None = None


@dataclass(slots=True)
class PredictResponse:
    """One prediction an instance, in the order of the request."""

    predictions: list[Prediction]
    model_version: str
