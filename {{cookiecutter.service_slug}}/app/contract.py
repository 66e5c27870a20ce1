"""The contract: the requests and responses of the service.

Training validates its data with these models, and serving validates requests. The type
of each field decides how the model reads it, and the type of `label` what it predicts:
see "A field" in CONTRIBUTING.md. A new task starts in this file.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

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
    """One item to predict for."""

    model_config = ConfigDict(json_schema_extra={"examples": [*EXAMPLES]})

    text: Annotated[
        str,
        Field(min_length=1, max_length=MAX_TEXT_LENGTH),
        AfterValidator(normalise),
    ]


class LabelledInstance(Instance):
    """A row of training data: an instance with its true label.

    Rows with the same `group` are near-duplicates. They are never split between
    training and test.
    """

    label: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    group: str = ""

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
    """The most probable label and its score; of a regression, the value.

    `id` identifies the prediction, as for feedback. If the score is below the threshold
    of the model, `abstained` is true and there is no label.
    """

    id: str
    label: str | None = None
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    abstained: Literal[True] | None = None
    probabilities: dict[str, float] | None = None
    value: float | None = None


@dataclass(slots=True)
class PredictResponse:
    """One prediction per instance, in the order of the request."""

    predictions: list[Prediction]
    model_version: str
