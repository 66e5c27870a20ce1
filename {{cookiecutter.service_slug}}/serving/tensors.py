"""Read the input tensors of the Open Inference Protocol as instances of a contract."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isnan, prod
from typing import Annotated, Any, Generic, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import NotRequired, TypedDict

from serving.fields import MISSING, FieldKind, InstanceT, Kind, read_kinds
from serving.problems import (
    MAX_LISTED,
    InvalidField,
    ProblemError,
    contract_violation,
    shorten,
)
from serving.validation import BoundedValidator

Parameters: TypeAlias = dict[str, Any]
# The datatype and the shape of a row of each tensor, by its name.
Rows: TypeAlias = dict[str, tuple[str, list[int]]]

NUMBERS = frozenset(
    {
        *("FP16", "BF16", "FP32", "FP64"),
        *("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
    }
)
# The datatypes of a request that are accepted for each datatype of the metadata.
ACCEPTED: dict[str, frozenset[str]] = {
    "BYTES": frozenset({"BYTES"}),
    "BOOL": frozenset({"BOOL"}),
    "INT64": NUMBERS,
    "FP32": NUMBERS,
}


# As strict as a `Contract`; pydantic makes a dictionary in half the time of a model.
strictly = with_config(
    ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
)


@strictly
class InputTensor(TypedDict):
    """The values of one field, for all rows: flat in row-major order, or nested."""

    name: str
    shape: list[Annotated[int, Field(ge=0)]]
    datatype: str
    data: NotRequired[list[Any] | None]
    parameters: NotRequired[Parameters | None]


@dataclass(frozen=True)
class Column:
    """How a field stands in a tensor: its datatype, and the shape of a row."""

    field: FieldKind
    datatype: str
    shape: list[int]
    required: bool
    convert: Callable[[Any], Any] | None  # from a value of JSON to one of the contract


class TensorError(Exception):
    """A tensor cannot be read: the part of it, and the reason with the fix."""

    def __init__(self, part: str, reason: str) -> None:
        super().__init__(part, reason)
        self.part, self.reason = part, reason


class TensorReader(Generic[InstanceT]):
    """Read the tensors of a request as instances."""

    def __init__(self, contract: type[InstanceT], max_rows: int) -> None:
        """A request has at most `max_rows` rows."""
        self._max_rows = max_rows
        fields = contract.model_fields
        self._columns = {
            field.name: _describe_field(field, fields[field.name].is_required())
            for field in read_kinds(contract)
        }
        self._required = {
            name for name, column in self._columns.items() if column.required
        }
        rows: Any = list[contract]  # type: ignore[valid-type]
        self._rows = BoundedValidator(TypeAdapter(rows))

    def describe(self) -> Rows:
        """Return the inputs."""
        return {
            name: (column.datatype, column.shape)
            for name, column in self._columns.items()
        }

    def read(self, tensors: Sequence[InputTensor]) -> list[InstanceT]:
        """Return an instance for each row.

        Raises ProblemError (422), with the input, the reason and the fix.
        """
        columns: dict[str, list[Any]] = {}
        mistakes: list[InvalidField] = []
        for place, tensor in enumerate(tensors):
            if len(mistakes) == MAX_LISTED:  # there may be many more
                raise contract_violation(mistakes, complete=False)
            name = tensor["name"]
            try:
                if name in columns:
                    raise TensorError("name", "is sent twice; send it once.")
                columns[name] = self._read(tensor)
            except TensorError as error:
                mistakes.append(
                    InvalidField(
                        pointer=f"/inputs/{place}/{error.part}",
                        detail=f"The input {shorten(name)!r} {error.reason}",
                    )
                )
        if mistakes or not columns or not self._required <= columns.keys():
            raise contract_violation(mistakes + self._find_missing(tensors))
        if len(columns) > 1 and len(set(map(len, columns.values()))) > 1:
            raise contract_violation([_describe_lengths(columns)])
        try:
            instances: list[InstanceT] = self._rows.validate(_make_rows(columns))
        except ProblemError as error:
            names = [tensor["name"] for tensor in tensors]
            moved = [_move(mistake, names) for mistake in error.errors or ()]
            raise ProblemError(error.type, error.detail, errors=moved) from None
        return instances

    def _find_missing(self, tensors: Sequence[InputTensor]) -> list[InvalidField]:
        sent = {tensor["name"] for tensor in tensors}
        missing = [
            f"The input {name!r} is missing; send it as {column.datatype} of the shape "
            f"{_format_shape(['n', *column.shape])}."
            for name, column in self._columns.items()
            if column.required and name not in sent
        ]
        if not tensors and not missing:
            missing = ["There are no rows; send an input with at least one."]
        return [InvalidField(pointer="/inputs", detail=one) for one in missing]

    def _read(self, tensor: InputTensor) -> list[Any]:
        """Return the value of each row. Raises TensorError."""
        column = self._columns.get(tensor["name"])
        if column is None:
            known = shorten(", ".join(self._columns))
            raise TensorError("name", f"does not exist; the inputs are {known}.")
        if tensor["datatype"] not in ACCEPTED[column.datatype]:
            raise TensorError(
                "datatype",
                f"has the datatype {shorten(tensor['datatype'])!r}; send it as "
                f"{column.datatype}.",
            )
        data, shape = tensor.get("data"), tensor["shape"]
        if data is None:
            raise TensorError("data", _explain_no_data(tensor.get("parameters") or {}))
        if len(shape) == 1 and not column.shape and len(data) == shape[0]:
            values = data  # the usual form: a flat list of single values
        else:
            values = self._read_rows(column, data, shape)
        if not 1 <= len(values) <= self._max_rows:
            raise TensorError(
                "shape",
                f"has the shape {shorten(_format_shape(shape))}; send from 1 to "
                f"{self._max_rows} rows.",
            )
        if column.convert is None:
            return values
        return [column.convert(value) for value in values]

    def _read_rows(
        self, column: Column, data: list[Any], shape: list[int]
    ) -> list[Any]:
        """Return the value of each row of data, flat or nested. Raises TensorError."""
        width = column.field.length
        # One value a row may have an axis of its own.
        if shape[1:] != column.shape and (width > 1 or shape[1:] not in ([], [1])):
            raise TensorError(
                "shape",
                f"has the shape {shorten(_format_shape(shape))}; send "
                f"{_format_shape(['n', *column.shape])}, n being the number of rows.",
            )
        if not shape or not 1 <= shape[0] <= self._max_rows:
            return []  # for the caller to reject, before so many rows are read
        if column.field.optional:
            data = _fill_null_rows(data, shape[0], width)
        values = _flatten(data, shape)
        if column.field.kind is not Kind.VECTOR:
            return values
        return [values[at : at + width] for at in range(0, len(values), width)]


def _describe_field(field: FieldKind, required: bool) -> Column:
    """Return how a field stands in a tensor."""
    shape = [field.length] if field.kind is Kind.VECTOR else []
    datatype, convert = _choose_datatype(field)
    return Column(field, datatype, shape, required, convert)


def _choose_datatype(field: FieldKind) -> tuple[str, Callable[[Any], Any] | None]:
    """Return the datatype of a field, and how its values are made of those of JSON.

    Clients send a missing number as null or NaN, and a missing text as "", because an
    array of texts has no null. A missing vector is null among nested rows, or has as
    many missing numbers. Clients often send integers as floats.
    """
    number = "INT64" if field.whole else "FP32"
    exact = not (field.optional or field.whole)  # nothing to convert
    match field.kind:
        case Kind.TEXT:
            return "BYTES", (
                partial(_read_choice, {MISSING: None}) if field.optional else None
            )
        case Kind.CATEGORY:
            return _choose_datatype_of_choices(field)
        case Kind.FLAG:
            return "BOOL", None
        case Kind.NUMBER:
            return number, None if exact else partial(_read_number, field)
        case Kind.VECTOR:
            return number, None if exact else partial(_read_vector, field)


def _choose_datatype_of_choices(
    field: FieldKind,
) -> tuple[str, Callable[[Any], Any] | None]:
    types = {type(value) for value in field.values}
    if types == {int}:
        return "INT64", partial(_read_number, replace(field, whole=True))
    if types == {bool}:
        return "BOOL", None
    by_text = dict(zip(field.choices, field.values, strict=True))
    if field.optional:
        by_text[MISSING] = None
    return "BYTES", partial(_read_choice, by_text)


def _read_choice(by_text: Mapping[str, Any], text: Any) -> Any:
    """Return the choice of a text; another value is for the contract to refuse."""
    return by_text.get(text, text) if isinstance(text, str) else text


def _read_number(field: FieldKind, value: Any) -> Any:
    if not isinstance(value, float):
        return value
    if field.optional and isnan(value):
        return None
    return int(value) if field.whole and value.is_integer() else value


def _read_vector(field: FieldKind, row: list[Any]) -> Any:
    values = [_read_number(field, value) for value in row]
    return None if field.optional and values.count(None) == len(values) else values


def _fill_null_rows(data: list[Any], rows: int, width: int) -> list[Any]:
    """Return nested rows with `width` nulls for a row that is null; flat data as is."""
    nested = all(row is None or isinstance(row, list) for row in data)
    if not nested or len(data) != rows:
        return data
    return [[None] * width if row is None else row for row in data]


def _flatten(data: list[Any], shape: list[int]) -> list[Any]:
    """Return the values of a tensor in row-major order. Raises TensorError."""
    if not data or not isinstance(data[0], list):
        if len(data) != (count := prod(shape)):
            raise TensorError(
                "data",
                f"has {len(data)} values; the shape {_format_shape(shape)} takes "
                f"{count}.",
            )
        return data
    level: list[Any] = [data]
    for size in shape:
        if not all(isinstance(part, list) and len(part) == size for part in level):
            raise TensorError(
                "data",
                f"has nested lists that are not of the shape {_format_shape(shape)}; "
                "nest them like the shape, or send a flat list.",
            )
        level = [value for part in level for value in part]
    return level


def _make_rows(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return a dictionary for each row of columns of one length."""
    if len(columns) == 1:  # takes half the time
        ((name, values),) = columns.items()
        return [{name: value} for value in values]
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def _describe_lengths(columns: Mapping[str, Sequence[Any]]) -> InvalidField:
    listed = ", ".join(f"{name!r} has {len(of)}" for name, of in columns.items())
    why = f"The inputs have different numbers of rows: {listed}. Send as many of each."
    return InvalidField(pointer="/inputs", detail=why)


def _explain_no_data(parameters: Parameters) -> str:
    if "binary_data_size" in parameters:
        return (
            "is binary, which this service does not have; send `data` "
            "(binary_data=False)."
        )
    if "shared_memory_region" in parameters:
        return "is in shared memory, which this service does not have; send `data`."
    return "has no `data`; send its values."


def _move(mistake: InvalidField, names: Sequence[str]) -> InvalidField:
    """Return a mistake in a row as one in a tensor."""
    _, row, *rest = [*mistake.pointer.split("/"), ""]
    name = rest[0].replace("~1", "/").replace("~0", "~")
    if name not in names:  # of the row as a whole
        where = f"Row {row}: " if row else ""
        return InvalidField(pointer="/inputs", detail=f"{where}{mistake.detail}")
    return InvalidField(
        pointer=f"/inputs/{names.index(name)}/data/{row}",
        detail=f"The input {name!r} breaks the contract in row {row}: {mistake.detail}",
    )


def _format_shape(shape: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"
