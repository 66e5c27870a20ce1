"""The contract: what goes into the service and what comes out.

Training validates its data with these models, serving parses requests with them,
the inputs of the ONNX model are named after the fields of `Instance`, and OpenAPI is
printed from them. A new task starts by changing this file.
"""

import unicodedata
from dataclasses import dataclass
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

MAX_TEXT_LENGTH = 10_000
MAX_INSTANCES = 1_000


def normalise(text: str) -> str:
    """Fold case, Unicode width and white space: the one text form the model sees.

    It runs here and not in the model, because lower-casing in C++ depends on the
    locales of the machine while Python's does not.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class Contract(BaseModel):
    """Strict and frozen; unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,  # what a user wrote must not reach a log
        protected_namespaces=(),
    )


class Instance(Contract):
    """One thing to classify."""

    text: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_TEXT_LENGTH,
            examples=["turn on the lights in the kitchen"],
        ),
        AfterValidator(normalise),
    ]

    @property
    def size(self) -> int:
        """What the time of a prediction grows with, in a unit of its own."""
        return len(self.text)


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


class ModelInfo(Contract):
    """What is served, and where it comes from."""

    version: str
    labels: list[str]
    metrics: dict[str, float]
    data_hash: str
    git_revision: str
    trained_at: AwareDatetime


class Health(Contract):
    """The answer of a probe that succeeds."""

    status: str


class InvalidField(Contract):
    """One mistake in a request: where (a JSON Pointer, RFC 6901) and what."""

    pointer: str
    detail: str


class Problem(Contract):
    """A problem document (RFC 9457): the form of every error answer."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[InvalidField] | None = None
