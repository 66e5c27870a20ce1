"""Validate rows against the contract, column by column.

What a column may hold is read from the contract. The columnar check accepts the rows
whose values are certainly right, and pydantic validates all others. So the result is
what `LabelledInstance` makes of the records of `read_records`, only faster.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from serving.contract import has_added_check
from serving.fields import as_text
from training.schema import LABEL
from training.tables import Chunk

Mask = npt.NDArray[np.bool_]

# The cells of a CSV file that stand for a missing value, where one may be missing: in a
# text, and in a number, a flag or a category.
MARKS = frozenset({"", "NA"})
MORE_MARKS = MARKS | {"N/A", "NaN", "nan", "null", "NULL", "None"}

# pydantic's words for true and false.
TRUE_WORDS = ["1", "on", "t", "true", "y", "yes"]
FALSE_WORDS = ["0", "off", "f", "false", "n", "no"]
TRUE = pa.array(TRUE_WORDS, pa.large_string())
FALSE = pa.array(FALSE_WORDS, pa.large_string())
FLAGS = dict.fromkeys(TRUE_WORDS, "true") | dict.fromkeys(FALSE_WORDS, "false")

WHOLE = r"^-?[0-9]{1,18}$"
DECIMAL = r"^-?[0-9]{1,300}(\.[0-9]{1,300})?([eE][+-]?[0-9]{1,2})?$"
DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
DATETIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}$"
# Begins and ends with no white space, in its widest sense, and no control character.
STRIPPED = r"(?s)^[^\s\pZ\pC](.*[^\s\pZ\pC])?$"

# Integers below this are exact in float64.
EXACT = 2**53

# The wrappers in pydantic's core schema that validate nothing themselves.
PASSED = {"default", "nullable", "definition-ref", "model", "definitions"}
# The types and rules that the columnar check knows; all others are left to pydantic.
BOUNDS = {"ge", "gt", "le", "lt"}
RULES = {
    "str": {"min_length", "max_length", "strip_whitespace"},
    "int": BOUNDS,
    "float": BOUNDS | {"allow_inf_nan"},
    "bool": set(),
    "literal": {"expected"},
    "enum": {"cls", "members", "sub_type"},
    "list": {"items_schema", "min_length", "max_length"},
    "datetime": {"microseconds_precision"},
    "date": set(),
}
IGNORED = {"type", "ref", "metadata", "serialization"}


@dataclass(frozen=True)
class Column:
    """A field of the contract, as a column of training data.

    `rules` is the part of pydantic's core schema that tells the type of the values
    and their bounds. `is_plain` tells whether that is all that the contract says of
    them: no function validates them, and no rule is unknown here.
    """

    name: str
    rules: Mapping[str, Any]
    is_plain: bool
    optional: bool
    has_default: bool
    default: Any
    choices: Mapping[str, Any]

    @property
    def type(self) -> str:
        """Return the type of the values, as pydantic's core schema calls it."""
        return str(self.rules["type"])

    @property
    def marks(self) -> frozenset[str]:
        """Return the cells of a CSV file that stand for a missing value."""
        if self.optional:
            marks = MARKS if self.type == "str" else MORE_MARKS
            return marks - set(self.choices)
        is_text = self.type == "str" and not self.has_default
        return frozenset() if is_text else frozenset({""})


class Validator:
    """Judges rows of training data by a contract."""

    def __init__(self, contract: type[BaseModel]) -> None:
        self.columns, self._is_columnar = read_columns(contract)
        self._rows = TypeAdapter(list[contract])  # type: ignore[valid-type]

    def judge(self, chunk: Chunk) -> tuple[pa.Table, list[str]]:
        """Return the rows that the contract accepts, and the mistakes in the others.

        The chunk must have no other columns than the contract.
        """
        size = len(chunk.places)
        if not self._is_columnar:
            judged, _, mistakes = self._judge_records(chunk, np.arange(size))
            return judged, mistakes

        plain = np.ones(size, np.bool_)
        arrays: dict[str, pa.Array] = {}
        for column in self.columns:
            arrays[column.name], right = _convert(column, chunk)
            plain &= right
        if plain.all():
            return pa.table(arrays), []

        others = np.flatnonzero(~plain)
        judged, places, mistakes = self._judge_records(chunk, others)
        if not plain.any():
            return judged, mistakes
        accepted = pa.table(arrays).filter(pa.array(plain))
        rows = pa.concat_tables([accepted, judged], promote_options="permissive")
        order = np.argsort(np.concatenate([np.flatnonzero(plain), places]))
        return rows.take(pa.array(order)), mistakes

    def _judge_records(
        self, chunk: Chunk, places: npt.NDArray[np.intp]
    ) -> tuple[pa.Table, npt.NDArray[np.intp], list[str]]:
        """Let pydantic validate the rows at some places of a chunk.

        Return the rows that it accepts, their places, and the mistakes in the others.
        """
        records = read_records(self.columns, chunk, places)
        mistakes: list[str] = []
        try:
            rows = self._rows.validate_python(records, strict=False)
        except ValidationError as error:
            wrong = np.zeros(len(records), np.bool_)
            for mistake in error.errors():
                number = int(mistake["loc"][0])
                wrong[number] = True
                mistakes.append(_describe(mistake, chunk, int(places[number])))
            places = places[~wrong]
            right = list(compress(records, ~wrong))
            rows = self._rows.validate_python(right, strict=False)
        stored = {
            column.name: store(column, [getattr(row, column.name) for row in rows])
            for column in self.columns
        }
        return pa.table(stored), places, mistakes


def _describe(mistake: ErrorDetails, chunk: Chunk, place: int) -> str:
    """Return one line: source, line or row, column and reason."""
    _, *names = mistake["loc"]
    column = f", column {names[0]}" if names else ""
    reason = mistake["msg"]
    if mistake["type"] == "missing":
        reason = "The value is missing"
    return f"{chunk.source}, {chunk.unit} {chunk.places[place]}{column}: {reason}"


def read_columns(contract: type[BaseModel]) -> tuple[list[Column], bool]:
    """Return the columns of a contract, and whether they can be judged one by one."""
    document: Any = contract.__pydantic_core_schema__
    definitions = {one["ref"]: one for one in document.get("definitions", [])}
    fields, is_plain = _unwrap(document, definitions, "model-fields")
    model, _ = _unwrap(document, definitions, "model")
    config = model.get("config", {})
    is_plain &= not any(name.startswith("str_") for name in config)
    is_plain &= not model.get("custom_init") and not model.get("post_init")
    columns = [
        _read_column(name, fields["fields"][name]["schema"], definitions, contract)
        for name in contract.model_fields
    ]
    return columns, is_plain and all(column.is_plain for column in columns)


def _unwrap(
    schema: Any, definitions: Mapping[str, Any], wanted: str = ""
) -> tuple[Any, bool]:
    """Return the innermost schema, and whether its wrappers validate nothing.

    `wanted` is a type of schema at which to stop.
    """
    is_plain = True
    while schema["type"] != wanted and (inner := _read_inner(schema, definitions)):
        # `_accept_number` takes the same floats for integers as `read_whole`.
        is_plain &= schema["type"] in PASSED or has_added_check(schema)
        schema = inner
    return schema, is_plain


def _read_inner(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return the schema that a schema wraps or refers to, or None."""
    if ref := schema.get("schema_ref"):
        return definitions[ref]
    return schema.get("schema")


def _read_column(
    name: str, schema: Any, definitions: Mapping[str, Any], contract: type[BaseModel]
) -> Column:
    rules, is_plain = _unwrap(schema, definitions)
    if rules["type"] == "json-or-python":  # a Sequence
        rules, is_plain = rules["json_schema"], False
    known = RULES.get(rules["type"], set())
    is_plain &= rules["type"] in RULES and set(rules) <= known | IGNORED
    if rules["type"] == "list":
        items, plain_items = _unwrap(
            rules.get("items_schema", {"type": "any"}), definitions
        )
        rules = {**rules, "items_schema": items}
        is_plain &= plain_items and items["type"] in ("int", "float")
        is_plain &= set(items) <= RULES["float"] | IGNORED
    values = rules.get("expected", [])
    if rules["type"] == "enum":
        values = [member.value for member in rules["members"]]
        is_plain &= "missing" not in rules
    field = contract.model_fields[name]
    is_plain &= field.default_factory is None and not field.validate_default
    return Column(
        name,
        rules,
        is_plain,
        _allows_none(schema, definitions),
        not field.is_required(),
        field.default,
        {as_text(value): value for value in values if value is not None},
    )


def _allows_none(schema: Any, definitions: Mapping[str, Any]) -> bool:
    inner, _ = _unwrap(schema, definitions, "nullable")
    return inner["type"] == "nullable" or None in inner.get("expected", [])


def read_records(
    columns: Sequence[Column], chunk: Chunk, places: npt.NDArray[np.intp]
) -> list[dict[str, Any]]:
    """Return rows as pydantic takes them.

    A missing value is None where the contract allows that, and else left out, so that a
    default takes its place. A number is text where the contract wants text.
    """
    records: list[dict[str, Any]] = [{} for _ in places]
    for column in columns:
        if column.name not in chunk.columns:
            continue
        cells = chunk.columns[column.name].take(pa.array(places)).to_pylist()
        marks = column.marks if chunk.is_text else frozenset()
        for record, cell in zip(records, cells, strict=True):
            if _is_missing(cell, marks):
                if column.optional:
                    record[column.name] = None
                continue
            record[column.name] = _read_cell(column, cell, chunk.is_text)
    return records


def _is_missing(cell: Any, marks: frozenset[str]) -> bool:
    if isinstance(cell, str):
        return cell in marks
    return cell is None or isinstance(cell, float) and math.isnan(cell)


def _read_cell(column: Column, cell: Any, is_text: bool) -> Any:
    if column.type == "str" and isinstance(cell, int):
        return as_text(cell)
    if is_text and column.choices:
        if _are_flags(column.choices):
            return column.choices.get(FLAGS.get(cell.lower(), cell), cell)
        # pandas writes integers as floats if one of the column is missing.
        whole = column.choices.get(cell.removesuffix(".0"))
        return column.choices.get(cell, whole if type(whole) is int else cell)
    if isinstance(cell, str) and is_text and column.type in ("list", "tuple"):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell


def _are_flags(choices: Mapping[str, Any]) -> bool:
    """Return whether all choices are booleans: FLAGS has the words for them."""
    return all(isinstance(value, bool) for value in choices.values())


def store(column: Column, values: Sequence[Any]) -> pa.Array:
    """Return validated values as a column of the files between the stages.

    Categories and labels are text. Times are in UTC, if they have a time zone.
    """
    match column.type:
        case "str":
            return pa.array(values, pa.large_string())
        case "literal" | "enum":
            return pa.array(map(_text_or_none, values), pa.large_string())
        case "bool" if column.name == LABEL:
            return pa.array(map(_text_or_none, values), pa.large_string())
        case "bool":
            return pa.array(values, pa.bool_())
        case "int":
            return _store_whole(values)
        case "float":
            return pa.array(values, pa.float64())
        case "list" | "tuple":
            return pa.array(map(_floats_or_none, values), pa.list_(pa.float64()))
        case "datetime":
            return pa.array(map(_to_utc, values), pa.timestamp("us"))
        case "date":
            return pa.array(values, pa.date32())
    return pa.array(values)


def _floats_or_none(values: Sequence[float] | None) -> list[float] | None:
    """Return floats: pyarrow refuses integers that float64 does not hold exactly."""
    return None if values is None else [float(value) for value in values]


def _text_or_none(value: Any) -> str | None:
    return None if value is None else as_text(value)


def _to_utc(time: datetime | None) -> datetime | None:
    if time is None or time.tzinfo is None:
        return time
    return time.astimezone(UTC).replace(tzinfo=None)


def _store_whole(values: Sequence[int | None]) -> pa.Array:
    try:
        return pa.array(values, pa.int64())
    except (pa.ArrowInvalid, OverflowError):
        floats = [None if value is None else float(value) for value in values]
        return pa.array(floats, pa.float64())


def _convert(column: Column, chunk: Chunk) -> tuple[pa.Array, Mask]:
    """Return a column as it is stored, and where its values are plainly right."""
    array = chunk.columns.get(column.name)
    if array is None:
        array = pa.nulls(len(chunk.places), pa.large_string())
    missing = pc.is_null(array, nan_is_null=True)
    if chunk.is_text and column.marks and _is_text(array):
        marks = pa.array(sorted(column.marks), pa.large_string())
        missing = pc.or_(missing, pc.is_in(array, marks))

    values, right = _accept(column, array, chunk.is_text)
    stays_null = column.optional and column.name in chunk.columns
    default = column.default if column.has_default and not stays_null else None
    filler = store(column, [default])[0]
    values = pc.if_else(missing, filler.cast(values.type), values)
    may_miss = column.optional or column.has_default
    return values, np.where(_to_mask(missing), may_miss, right)


def _accept(column: Column, array: pa.Array, is_text: bool) -> tuple[pa.Array, Mask]:
    """Return values of the stored type, and where they are those of the array."""
    rules = column.rules
    match column.type:
        case "str":
            return _accept_text(array, rules)
        case "literal" | "enum":
            return _accept_choice(array, column.choices, is_text)
        case "bool":
            flags, right = _accept_flag(array)
            if column.name == LABEL:
                flags = flags.cast(pa.large_string())
            return flags, right
        case "int" | "float":
            return _accept_number(array, rules)
        case "list":
            return _accept_vector(array, rules)
        case "datetime":
            return _accept_time(array)
    return _accept_date(array)


def _accept_none(array: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Mask]:
    return pa.nulls(len(array), kind), np.zeros(len(array), np.bool_)


def _to_mask(array: pa.Array) -> Mask:
    mask: Mask = np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False))
    return mask.astype(np.bool_)


def _is_text(array: pa.Array) -> bool:
    return bool(pa.types.is_large_string(array.type))


def _accept_text(array: pa.Array, rules: Mapping[str, Any]) -> tuple[pa.Array, Mask]:
    if pa.types.is_integer(array.type) or pa.types.is_boolean(array.type):
        array = array.cast(pa.large_string())
    if not _is_text(array):
        return _accept_none(array, pa.large_string())
    right = _to_mask(array.is_valid())
    length = pc.utf8_length(array)
    if (least := rules.get("min_length")) is not None:
        right &= _to_mask(pc.greater_equal(length, least))
    if (most := rules.get("max_length")) is not None:
        right &= _to_mask(pc.less_equal(length, most))
    if rules.get("strip_whitespace"):
        right &= _to_mask(pc.match_substring_regex(array, STRIPPED))
    return array, right


def _accept_choice(
    array: pa.Array, choices: Mapping[str, Any], is_text: bool
) -> tuple[pa.Array, Mask]:
    if is_text and _are_flags(choices):
        flags, right = _accept_flag(array)
        texts = flags.cast(pa.large_string())
        known = pc.is_in(texts, pa.array(list(choices), pa.large_string()))
        return texts, right & _to_mask(known)
    kind: type = str
    if pa.types.is_boolean(array.type):
        kind = bool
    elif pa.types.is_integer(array.type):
        kind = int
    elif not _is_text(array):
        return _accept_none(array, pa.large_string())
    accepted = [
        text for text, value in choices.items() if is_text or type(value) is kind
    ]
    texts = array.cast(pa.large_string())
    return texts, _to_mask(pc.is_in(texts, pa.array(accepted, pa.large_string())))


def _accept_flag(array: pa.Array) -> tuple[pa.Array, Mask]:
    if pa.types.is_boolean(array.type):
        return array, _to_mask(array.is_valid())
    if pa.types.is_integer(array.type):
        array = array.cast(pa.large_string())
    if not _is_text(array):
        return _accept_none(array, pa.bool_())
    words = pc.ascii_lower(array)
    flags = pc.is_in(words, TRUE)
    return flags, _to_mask(pc.or_(flags, pc.is_in(words, FALSE)))


def _accept_number(array: pa.Array, rules: Mapping[str, Any]) -> tuple[pa.Array, Mask]:
    is_whole = rules["type"] == "int"
    target = pa.int64() if is_whole else pa.float64()
    if _is_text(array):
        right = _to_mask(
            pc.match_substring_regex(array, WHOLE if is_whole else DECIMAL)
        )
        array = pc.if_else(pa.array(right), array, pa.scalar("0", pa.large_string()))
    elif pa.types.is_integer(array.type):
        right = _to_mask(array.is_valid())
        if pa.types.is_uint64(array.type):
            right &= _to_mask(pc.less(array, pa.scalar(EXACT, pa.uint64())))
    elif pa.types.is_floating(array.type):
        floats = array.cast(pa.float64()).fill_null(math.nan).to_numpy()
        right = np.isfinite(floats)
        if is_whole:
            right &= (np.floor(floats) == floats) & (np.abs(floats) < EXACT)
        array = pa.array(np.where(right, floats, 0))
    else:
        return _accept_none(array, target)
    if not right.all():
        array = pc.if_else(pa.array(right), array, pa.scalar(0).cast(array.type))
    values = array.cast(target, safe=False).to_numpy()
    right &= np.isfinite(values) & _within(values, rules)
    return pa.array(values, target), right


def _within(values: npt.NDArray[Any], rules: Mapping[str, Any]) -> Mask:
    right = np.ones(values.shape, np.bool_)
    if "ge" in rules:
        right &= values >= rules["ge"]
    if "gt" in rules:
        right &= values > rules["gt"]
    if "le" in rules:
        right &= values <= rules["le"]
    if "lt" in rules:
        right &= values < rules["lt"]
    return right


def _accept_vector(array: pa.Array, rules: Mapping[str, Any]) -> tuple[pa.Array, Mask]:
    target = pa.list_(pa.float64())
    kind, length = array.type, rules.get("min_length", 0)
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    is_list |= pa.types.is_fixed_size_list(kind)
    if not is_list or not length or length != rules.get("max_length"):
        return _accept_none(array, target)
    items = kind.value_type
    if not pa.types.is_integer(items) and not pa.types.is_floating(items):
        return _accept_none(array, target)
    right = _to_mask(pc.equal(pc.list_value_length(array), length))
    places = np.flatnonzero(right)
    flat = array.filter(pa.array(right)).flatten()
    _, are_right = _accept_number(flat, rules["items_schema"])
    right[places] = are_right.reshape(-1, length).all(axis=1)
    return array.cast(target, safe=False), right


def _accept_time(array: pa.Array) -> tuple[pa.Array, Mask]:
    target = pa.timestamp("us")
    right = _to_mask(array.is_valid())
    if _is_text(array):
        right = _to_mask(pc.match_substring_regex(array, DATETIME))
        array = pc.if_else(pa.array(right), array, pa.scalar(None, pa.large_string()))
    elif not pa.types.is_timestamp(array.type):
        return _accept_none(array, target)
    elif array.type.tz is not None:
        array = array.cast(pa.timestamp(array.type.unit, "UTC"))
    try:
        return array.cast(target), right
    except pa.ArrowInvalid:  # a day that does not exist, or nanoseconds
        return _accept_none(array, target)


def _accept_date(array: pa.Array) -> tuple[pa.Array, Mask]:
    right = _to_mask(array.is_valid())
    if _is_text(array):
        right = _to_mask(pc.match_substring_regex(array, DATE))
        array = pc.if_else(pa.array(right), array, pa.scalar(None, pa.large_string()))
    elif not pa.types.is_date32(array.type):
        return _accept_none(array, pa.date32())
    try:
        return array.cast(pa.date32()), right
    except pa.ArrowInvalid:  # a day that does not exist
        return _accept_none(array, pa.date32())
