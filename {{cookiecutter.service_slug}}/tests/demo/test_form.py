"""The form follows from the OpenAPI document, whatever the contract."""

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, Field

from demo import form


class Colour(Enum):
    """Choices as an enum."""

    RED = "red"
    BLUE = "blue"


class Instance(BaseModel):
    """A contract with every kind of field."""

    text: Annotated[str, Field(max_length=80)]
    note: str | None = None
    grade: Literal[1, 2]
    room: Literal["attic", "cellar"] | None
    colour: Colour
    age: Annotated[int, Field(gt=0, le=120)]
    height: Annotated[float, Field(ge=0.5)] | None = None
    large: Annotated[int, Field(ge=0, le=10**20)] = 7
    member: bool
    guest: bool | None = None
    place: Annotated[list[float], Field(min_length=2, max_length=2)]
    extra: dict[str, int] | None = None


class Feedback(BaseModel):
    """An item."""

    id: str
    label: Literal["yes", "no"] | None = None


class FeedbackRequest(BaseModel):
    """Items."""

    feedback: list[Feedback]


def make_document() -> dict[str, Any]:
    """Return the OpenAPI document of a service with that contract."""
    app = FastAPI()

    @app.post("/v1/predict")
    def predict(instance: Instance) -> None: ...

    @app.post("/v1/feedback")
    def feedback(request: FeedbackRequest) -> None: ...

    return app.openapi()


def test_every_kind_of_field_is_known_with_its_bounds() -> None:
    found = {field.name: field for field in form.read_fields(make_document())}

    assert {name: field.kind for name, field in found.items()} == {
        "text": "text",
        "note": "text",
        "grade": "category",
        "room": "category",
        "colour": "category",
        "age": "number",
        "height": "number",
        "large": "number",
        "member": "flag",
        "guest": "flag",
        "place": "vector",
        "extra": "json",
    }
    assert found["text"].longest == 80
    assert found["grade"].choices == (1, 2)
    assert found["room"].choices == ("attic", "cellar")
    assert found["colour"].choices == ("red", "blue")
    age, height = found["age"], found["height"]
    assert (age.lowest, age.highest, age.whole) == (1, 120, True)
    assert (height.lowest, height.highest, height.whole) == (0.5, None, False)
    assert found["large"].highest is None, "a browser cannot count so far"
    optional = {name for name, field in found.items() if field.optional}
    assert optional == {"note", "room", "height", "large", "guest", "extra"}


def test_what_is_not_entered_is_null_or_left_out_as_the_contract_allows() -> None:
    fields = form.read_fields(make_document())

    instance = form.make_instance(fields, dict.fromkeys(f.name for f in fields))

    assert instance["room"] is None and instance["age"] is None
    assert "large" not in instance, "it has a default, and may not be null"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1, 2.5", [1, 2.5]), ("1 -2e3", [1, -2000.0]), ("1, x", [1, "x"]), ("", [])],
)
def test_a_vector_is_read_word_by_word(text: str, numbers: list[object]) -> None:
    assert form.read_numbers(text) == numbers


def test_the_truth_has_the_type_of_the_label() -> None:
    document = make_document()

    assert form.takes_feedback(document)
    assert form.read_truth(document).name == "label"
    assert form.read_truth(document).choices == ("yes", "no")
    del document["paths"]["/v1/feedback"]
    assert not form.takes_feedback(document)
