"""Rows judged column by column, and by the contract itself: the same."""

import math
from datetime import date, datetime
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)
from typing_extensions import TypeAliasType

from serving.contract import Contract
from training.tables import Chunk
from training.validation import Validator, read_columns, read_records, store


class Size(Enum):
    """An enum with values of two types."""

    SMALL = "small"
    TEN = 10


TYPES: list[Any] = [
    str,
    Annotated[str, Field(min_length=1, max_length=3)],
    Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)],
    Annotated[str, AfterValidator(str.lower)],
    float,
    Annotated[float, Field(ge=0, lt=100)],
    int,
    Annotated[int, Field(gt=-3, le=7)],
    bool,
    Literal["a", "b", "NA"],
    Literal[1, 2, "x"],
    Literal[True, False],
    Size,
    Annotated[list[float], Field(min_length=2, max_length=2)],
    Annotated[list[int], Field(min_length=1, max_length=1)],
    Annotated[tuple[float, ...], Field(min_length=2, max_length=2)],
    datetime,
    date,
]
TEXTS = [
    "",
    " ",
    "a",
    "b",
    "NA",
    "nan",
    "x",
    "small",
    "1",
    "10",
    "007",
    "7.0",
    "-2",
    "1e3",
]
TEXTS += ["1e999", "inf", "٣", "+5", " 5", "5_0", "99999999999999999999", "true", "OFF"]
TEXTS += ["True", "False"]
TEXTS += ["\r", "\u0085a", "a\u200b", "[1, 2]", "[1]", "[null, 2]", "abcd", "ABC", "ß"]
TEXTS += ["2024-02-29", "2023-02-29", "2024-02-29T10:00:00", "2024-02-29 10:00:00Z"]
FLOATS = [0.0, -0.0, 1.0, 2.5, 99.9, 100.0, 1e300, math.inf, math.nan, 2.0**53, 10.0]
WHOLES = [0, 1, 2, 7, -3, 10, 2**53 + 1, 2**63 - 1]
VECTORS = [[0.0], [1.0, 2.5], [math.nan, 1.0], [1.0, 2.0, 3.0], []]
DAYS = [datetime(2024, 2, 29, 10), datetime(1, 1, 1)]
# The cells of a column, more that are like them, and the type of the column in a file.
COLUMNS: list[tuple[list[Any], st.SearchStrategy[Any], pa.DataType]] = [
    (TEXTS, st.text(max_size=4), pa.large_string()),
    (FLOATS, st.floats(), pa.float64()),
    (FLOATS[:5], st.floats(width=32), pa.float32()),
    (WHOLES, st.integers(-(2**63), 2**63 - 1), pa.int64()),
    ([0, 1, 2], st.integers(0, 255), pa.uint8()),
    ([True, False], st.booleans(), pa.bool_()),
    (VECTORS, st.lists(st.floats(), max_size=3), pa.list_(pa.float64())),
    (
        [[5], [None], [2**53 + 2]],
        st.lists(st.integers(0, 9), max_size=2),
        pa.list_(pa.int64()),
    ),
    (DAYS, st.datetimes(), pa.timestamp("us")),
    ([day.date() for day in DAYS], st.dates(), pa.date32()),
]
MAY_MISS = ["required", "optional", "gap", "default"]


@lru_cache
def make_contract(number: int, may_miss: str) -> type[BaseModel]:
    """A contract with a field of a type, and with a number, so that rows have order."""
    kind = TYPES[number]
    field: Any = {
        "required": (kind, ...),
        "optional": (kind | None, ...),
        "gap": (kind | None, None),
        "default": (str, "unknown") if kind is str else (kind, ...),
    }[may_miss]
    return create_model("Row", __base__=Contract, field=field, order=(int, ...))


def check(
    contract: type[BaseModel], cells: list[Any], kind: pa.DataType, is_text: bool
) -> None:
    """Compare what is made of a column with what the contract makes of its cells."""
    size = len(cells)
    named = {"field": pa.array(cells, kind), "order": pa.array(range(size))}
    if is_text:
        for name, column in named.items():
            texts = ["" if cell is None else str(cell) for cell in column.to_pylist()]
            named[name] = pa.array(texts, pa.large_string())
    chunk = Chunk("rows", "row", range(size), named, is_text)

    table, mistakes = Validator(contract).judge(chunk)

    accepted: list[BaseModel] = []
    refused: set[str] = set()
    fields = read_columns(contract)[0]
    for place, record in enumerate(read_records(fields, chunk, np.arange(size))):
        try:
            accepted.append(contract.model_validate(record, strict=False))
        except ValidationError:
            refused.add(f"rows, row {place}, column field")
    for field in fields:
        wanted = store(field, [getattr(row, field.name) for row in accepted])
        found = table[field.name].combine_chunks()
        assert found.cast(wanted.type).equals(wanted)
    assert {mistake.partition(":")[0] for mistake in mistakes} == refused


@pytest.mark.parametrize("number", range(len(TYPES)))
def test_known_cells_are_judged_as_the_contract_judges_them(number: int) -> None:
    for may_miss in MAY_MISS:
        for cells, _, kind in COLUMNS:
            for is_text in (False, True):
                check(make_contract(number, may_miss), [*cells, None], kind, is_text)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_cells_are_judged_as_the_contract_judges_them(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(TYPES) - 1))
    contract = make_contract(number, data.draw(st.sampled_from(MAY_MISS)))
    some, more, kind = data.draw(st.sampled_from(COLUMNS))
    cells = data.draw(st.lists(st.none() | st.sampled_from(some) | more, min_size=1))
    check(contract, cells, kind, data.draw(st.booleans()))


@pytest.mark.parametrize("kind", TYPES)
def test_a_plain_field_is_judged_by_its_column(kind: Any) -> None:
    contract = create_model("Row", __base__=Contract, field=(kind, ...))

    known = "AfterValidator" not in repr(kind) and "tuple" not in repr(kind)
    assert read_columns(contract)[1] is known


def test_a_column_that_the_file_lacks_has_its_default_also_if_it_may_be_none() -> None:
    contract = create_model("Row", __base__=Contract, x=(int | None, 5), y=(int, ...))
    chunk = Chunk("rows", "row", [1], {"y": pa.array([1])})

    table, mistakes = Validator(contract).judge(chunk)

    assert (table.to_pylist(), mistakes) == ([{"x": 5, "y": 1}], [])


@pytest.mark.parametrize("name", ["field", "label"])
def test_the_choices_true_and_false_are_read_as_a_bool_is(name: str) -> None:
    words = ["True", "FALSE", "yes", "0", "maybe"]
    cells = {name: pa.array(words, pa.large_string())}
    chunk = Chunk("rows", "line", range(5), cells, is_text=True)
    for validator in ([], [AfterValidator(lambda value: value)]):  # by column, by row
        kind = Annotated[(Literal[True, False], Field(), *validator)]
        fields: dict[str, Any] = {name: (kind, ...)}
        contract = create_model("Row", __base__=Contract, **fields)

        table, mistakes = Validator(contract).judge(chunk)

        assert table[name].to_pylist() == ["true", "false", "true", "false"]
        assert len(mistakes) == 1 and "line 4" in mistakes[0]


def test_a_choice_that_is_an_integer_may_be_written_as_a_float() -> None:
    kind: Any = Literal[1, "x", "2"]
    contract = create_model("Row", __base__=Contract, field=(kind, ...))
    cells = {"field": pa.array(["1", "1.0", "x", "2.0", "x.0"], pa.large_string())}
    chunk = Chunk("rows", "line", range(5), cells, is_text=True)

    table, mistakes = Validator(contract).judge(chunk)

    assert table["field"].to_pylist() == ["1", "1", "x"]
    assert [mistake.split(",")[1] for mistake in mistakes] == [" line 3", " line 4"]


def test_vectors_of_a_type_that_another_field_has_are_accepted() -> None:
    price = TypeAliasType("price", float)
    pair = Annotated[list[price], Field(min_length=2, max_length=2)]
    contract = create_model("Row", __base__=Contract, x=(pair, ...), y=(price, ...))
    named = {"x": pa.array([[1.0, 2.0]]), "y": pa.array([3.0])}

    table, mistakes = Validator(contract).judge(Chunk("rows", "row", [1], named))

    assert (table.to_pylist(), mistakes) == ([{"x": [1, 2], "y": 3}], [])


def test_a_model_validator_of_the_whole_row_is_applied() -> None:
    class Ordered(Contract):
        """Two numbers in order."""

        low: float
        high: float

        @model_validator(mode="after")
        def _is_ordered(self) -> "Ordered":
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    named = {"low": pa.array([1.0, 3.0]), "high": pa.array([2.0, 2.0])}
    table, mistakes = Validator(Ordered).judge(Chunk("rows", "row", [1, 2], named))

    assert table.to_pylist() == [{"low": 1, "high": 2}]
    assert mistakes == ["rows, row 2: Value error, low is above high"]
