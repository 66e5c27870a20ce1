"""The contract: the requests and responses of the service.

Training validates its data with these models, and serving validates requests. OpenAPI
and the inputs of the ONNX model follow from them. A new task starts in this file.
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
from serving.text import normalise

MAX_TEXT_LENGTH = 10_000
MAX_INSTANCES = 1_000


class Instance(Contract):
    """One item to classify."""

    model_config = ConfigDict(json_schema_extra={"examples": [*EXAMPLES]})

    text: Annotated[
        str,
        Field(min_length=1, max_length=MAX_TEXT_LENGTH),
        AfterValidator(normalise),
    ]


class LabelledInstance(Instance):
    """A row of training data: an instance with its true label.

    Rows with the same `template` are near-duplicates. They are never split between
    training and test.
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
    """One or more instances. `probabilities` requests the score of every label."""

    instances: Annotated[list[Instance], Field(min_length=1, max_length=MAX_INSTANCES)]
    probabilities: bool = False


# Responses are dataclasses: validating the service's own output would only cost time.


@dataclass(slots=True)
class Prediction:
    """The most probable label. `id` identifies the prediction, as for feedback."""

    id: str
    label: str
    score: Annotated[float, Field(ge=0, le=1)]
    probabilities: dict[str, float] | None = None


@dataclass(slots=True)
class PredictResponse:
    """One prediction per instance, in the order of the request."""

    predictions: list[Prediction]
    model_version: str
