"""From the fields of a contract to what a model takes."""

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from re import Pattern
from typing import Annotated, Any, Literal
from uuid import UUID

import numpy as np
import pytest
from pydantic import (
    AliasChoices,
    AnyUrl,
    BaseModel,
    Field,
    ImportString,
    Json,
    PlainValidator,
    Secret,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from typing_extensions import TypeAliasType

from serving.contract import MAX_NUMBER, Contract, Task
from serving.fields import (
    FieldKind,
    Fields,
    Kind,
    read_kinds,
    read_task,
    to_array,
)
from tests.serving.toy import Claim

TYPES = {"note": "tensor(string)", "amount": "tensor(float)"}


def test_each_field_is_a_column_of_its_type() -> None:
    fields = Fields(Claim, TYPES)
    claims = [Claim(note="a", amount=1), Claim(note="bc", amount=2)]

    arrays = fields.arrays(claims)

    assert arrays["note"].tolist() == [["a"], ["bc"]]
    assert arrays["amount"].dtype == np.float32
    assert arrays["amount"].shape == (2, 1)
    assert fields.size(claims) == 5


@pytest.mark.parametrize(
    ("types", "says"),
    [
        ({"note": "tensor(string)"}, "only the contract has amount"),
        (TYPES | {"sum": "tensor(float)"}, "only the model takes sum"),
        (TYPES | {"amount": "tensor(string)"}, "'amount' is a number in the contract"),
        (TYPES | {"amount": "tensor(double)"}, r"the model takes tensor\(double\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(types: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Fields(Claim, types)


@pytest.mark.parametrize(
    ("kind", "input_type", "lost"),
    [
        (float, "int64", "a fraction"),
        (int | None, "int64", "None"),
        (bool | None, "bool", "None"),
        (int, "bool", "any number"),
        (int, "int64", ""),
        (bool, "bool", ""),
        (bool, "int64", ""),
        (float | None, "float", ""),
    ],
)
def test_an_input_that_would_change_a_value_is_refused(
    kind: Any, input_type: str, lost: str
) -> None:
    says = f"'x' may be {lost} in the contract"
    with pytest.raises(ValueError, match=says) if lost else nullcontext():
        Fields(contract(kind), {"x": f"tensor({input_type})"})


class Colour(Enum):
    """Choices with values."""

    RED = "red"
    BLUE = "blue"


def contract(kind: Any) -> type[BaseModel]:
    """A contract with one field, `x`."""
    return create_model("Given", __base__=Contract, x=kind)


def read(kind: Any) -> FieldKind:
    """The kind of a field."""
    (field,) = read_kinds(contract(kind))
    return field


class Pair(Enum):
    """Choices that JSON has as lists."""

    ONE = (1, 2)


class Day(Enum):
    """Choices that JSON has as text."""

    FIRST = date(2026, 1, 1)


class Empty(Enum):
    """A choice that is nothing."""

    NONE = None
    SOME = "some"


# JSON has them as text or numbers.
OBJECTS: list[Any] = [Json, Json[str], Secret[str], Secret[int], ImportString]
OBJECTS += [Annotated[Decimal, WithJsonSchema({"type": "string"})]]

Three = Annotated[list[float], Field(min_length=3, max_length=3)]
ThreeInTuple = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]
ThreeInOrder = Annotated[Sequence[float], Field(min_length=3, max_length=3)]
# As `type Price = float` makes them.
Price = TypeAliasType("Price", float)
Discount = TypeAliasType("Discount", Price | None)
Count = TypeAliasType("Count", int)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (str, FieldKind("x", Kind.TEXT)),
        (str | None, FieldKind("x", Kind.TEXT, optional=True)),
        (bool, FieldKind("x", Kind.FLAG)),
        (float, FieldKind("x", Kind.NUMBER)),
        (int | None, FieldKind("x", Kind.NUMBER, optional=True, whole=True)),
        (
            Annotated[float, Field(ge=0, le=9)],
            FieldKind("x", Kind.NUMBER, lowest=0, highest=9),
        ),
        (
            Annotated[int, Field(gt=0, lt=9)],
            FieldKind("x", Kind.NUMBER, lowest=1, highest=8, whole=True),
        ),
        (Literal["a", "b"], FieldKind("x", Kind.CATEGORY, choices=("a", "b"))),
        (Literal[1, None], FieldKind("x", Kind.CATEGORY, True, choices=("1",))),
        (Colour, FieldKind("x", Kind.CATEGORY, choices=("red", "blue"))),
        (Three, FieldKind("x", Kind.VECTOR, length=3)),
        (Three | None, FieldKind("x", Kind.VECTOR, optional=True, length=3)),
        (ThreeInTuple, FieldKind("x", Kind.VECTOR, length=3)),
        (Discount | None, FieldKind("x", Kind.NUMBER, optional=True)),
        (ThreeInOrder, FieldKind("x", Kind.VECTOR, length=3)),
        (
            Annotated[str, PlainValidator(str, json_schema_input_type=str)],
            FieldKind("x", Kind.TEXT),
        ),
    ],
)
def test_the_type_of_a_field_is_its_kind(kind: Any, expected: FieldKind) -> None:
    assert read(kind) == expected


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (date, "'x' of Given is a date.*Write `float`"),
        (list[float], "a list.*min_length=3, max_length=3"),
        (Annotated[list[str], Field(min_length=2, max_length=2)], "a list"),
        (Annotated[set[float], Field(min_length=2, max_length=2)], "a list"),
        (dict[str, int], "an object. Write each of its parts as a field"),
        (Claim, "an object"),
        (int | str, "several types"),
        (Decimal, "a Decimal as `float`"),
        (bytes, "text in the format 'binary'"),
        (Any, "of a type that no model reads. Write `str`"),
        (Literal["", None], "may be None and may be ''"),
        (Literal[1, "1"], "choices of the same text"),
        (complex, "'x' of Given is a complex number.*two fields of the type `float`"),
        (complex | None, "a complex number"),
        *((kind, "an object in Python.*Write `str`, `int`") for kind in OBJECTS),
        (Pair, r"the choice \(1, 2\), .*Write each choice as a str"),
        (Day, r"the choice datetime.date\(2026, 1, 1\)"),
        (Empty, "the choice None.*None as `| None`"),
        (Literal[b"x"], "the choice b'x'"),
        *((kind, "text in the format") for kind in (UUID, Path, AnyUrl, SecretStr)),
        *((kind, "text in the format") for kind in (IPv4Address, Pattern)),
        (timedelta, "a duration"),
    ],
)
def test_a_type_that_no_model_reads_is_refused_with_what_to_write(
    kind: Any, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        read(kind)


@pytest.mark.filterwarnings("ignore:Field name .* shadows")
@pytest.mark.parametrize(
    "name",
    [
        *("label", "probabilities", "variable"),  # outputs of models
        *("model_copy", "model_dump", "model_extra"),  # pydantic's own
    ],
)
def test_a_field_with_a_name_that_is_in_use_is_refused(name: str) -> None:
    fields: dict[str, Any] = {name: (float, ...)}
    given = create_model("Given", __base__=Contract, **fields)

    with pytest.raises(ValueError, match=f"'{name}' of Given .*{name}_value"):
        read_kinds(given)


@pytest.mark.parametrize("option", ["alias", "validation_alias"])
def test_a_field_that_is_taken_by_its_alias_only_is_refused(option: str) -> None:
    options: dict[str, Any] = {option: "class"}
    kind = Annotated[float, Field(**options)]

    with pytest.raises(ValueError, match="'x' of Given is taken by its alias only"):
        read(kind)

    class ByName(Contract, validate_by_name=True):
        x: kind

    assert read_kinds(ByName) == (FieldKind("x", Kind.NUMBER),)
    assert read(Annotated[float, Field(validation_alias=AliasChoices("class", "x"))])


def test_names_that_mean_something_elsewhere_are_fields_like_others() -> None:
    names = ["id", "index", "model_x", "score", "size", "tenant", "type", "class_"]
    fields: dict[str, Any] = dict.fromkeys(names, (float, ...))
    given = create_model("Given", __base__=Contract, **fields)

    assert [field.name for field in read_kinds(given)] == names


def test_a_contract_without_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="Contract has no fields"):
        read_kinds(Contract)


@pytest.mark.parametrize(
    ("label", "task"),
    [
        (str, Task.CLASSIFICATION),
        (Literal["a", "b"], Task.CLASSIFICATION),
        (bool, Task.CLASSIFICATION),
        (Colour, Task.CLASSIFICATION),
        (float, Task.REGRESSION),
        (Annotated[int, Field(ge=0)], Task.REGRESSION),
    ],
)
def test_the_type_of_the_label_is_the_task(label: Any, task: Task) -> None:
    assert read_task(create_model("Row", __base__=Contract, label=label)) is task


@pytest.mark.parametrize(
    "kind", [int, int | None, Annotated[int, Field(le=9)], Count, Count | None]
)
def test_a_whole_number_may_be_written_with_a_point(kind: Any) -> None:
    given = contract(kind)

    assert given.model_validate_json('{"x": 2.0}') == given(x=2)
    assert type(given.model_validate_json('{"x": 2e0}').model_dump()["x"]) is int
    for wrong in ("2.5", "true", '"2"', "1e400", "[2]"):
        with pytest.raises(ValidationError):
            given.model_validate_json('{"x": %s}' % wrong)


@pytest.mark.parametrize(
    "kind",
    [
        *(Literal[0, 1], Literal[1, None], Literal["a", 1]),
        Enum("Grade", {"LOW": 1, "HIGH": 2}),
    ],
)
def test_a_bool_is_no_choice_of_integers(kind: Any) -> None:
    given = contract(kind | None)

    assert given.model_validate_json('{"x": 1}').model_dump(mode="json") == {"x": 1}
    with pytest.raises(ValidationError, match="Input should be"):
        given.model_validate_json('{"x": true}')
    assert read_kinds(given)[0].kind is Kind.CATEGORY


@pytest.mark.parametrize("sign", [1, -1])
def test_a_whole_number_up_to_the_bound_in_the_document_is_taken(sign: int) -> None:
    bound = int(Decimal(repr(MAX_NUMBER))) * sign  # as JSON has it: 3.4…86e+38

    assert contract(int).model_validate_json('{"x": %d}' % bound)


@pytest.mark.parametrize(
    "kind",
    [
        *(float, float | None, int, Three),
        *(ThreeInTuple, ThreeInOrder, Price, Price | None, Discount),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_number_that_float32_cannot_hold_breaks_the_contract(
    kind: Any, sign: int
) -> None:
    def body(number: float) -> str:
        shown = f"{sign * int(number)}" if kind is int else f"{sign * number!r}"
        is_vector = kind in (Three, ThreeInTuple, ThreeInOrder)
        return '{"x": %s}' % (f"[0, 1, {shown}]" if is_vector else shown)

    given = contract(kind)

    assert given.model_validate_json(body(MAX_NUMBER))
    with pytest.raises(ValidationError, match="340282346638528"):
        given.model_validate_json(body(MAX_NUMBER * 1.01))


def test_a_type_that_two_fields_share_is_bounded_in_both() -> None:
    given = create_model("Given", __base__=Contract, x=(Count, 0), y=(Count, 0))
    many = create_model("Many", __base__=Contract, rows=list[given])

    assert many.model_validate_json('{"rows": [{"x": 2.0, "y": 3.0}]}')
    for name in "xy":
        with pytest.raises(ValidationError, match="340282346638528"):
            many.model_validate_json('{"rows": [{"%s": %d}]}' % (name, 10**39))


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (str | None, ["a", None], [["a"], [""]]),
        (Colour | None, [Colour.RED, None], [["red"], [""]]),
        (float | None, [1.5, None], [[1.5], [np.nan]]),
        (bool | None, [True, None], [[1], [np.nan]]),
        (Three | None, [None, [1, 2, 3]], [[np.nan] * 3, [1, 2, 3]]),
    ],
)
def test_a_missing_value_is_an_empty_text_or_nan(
    kind: Any, values: list[Any], expected: list[list[Any]]
) -> None:
    given = contract(kind)
    instances = [given(x=value) for value in values]
    read_as = [getattr(instance, "x") for instance in instances]

    array = to_array(read(kind), read_as)

    assert array.dtype in (np.object_, np.float32)
    np.testing.assert_array_equal(array, np.array(expected, array.dtype))
