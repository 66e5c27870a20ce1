"""Read a table in its own dialect: names, separators, ways to write a number.

`make adopt` finds out how a file is written and keeps that in training/conf/data. Later
files in the same dialect are read in the same way.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from serving.fields import as_text
from training.schema import LABEL
from training.stage import PipelineError
from training.tables import Chunk, TableError, parse_csv, read_table
from training.validation import DECIMAL, WHOLE, Column

TEXT_SUFFIXES = {".csv", ".tsv", ".txt"}

# What people write for a missing value, in lower case. NO_VALUE holds for all kinds of
# fields, NO_NUMBER for numbers, flags and times: in a text, "none" may be a value.
NO_VALUE = {"", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "-nan", "null", "\\n"}
NO_VALUE |= {"?", "-", "--", "–", "—"}
NO_NUMBER = NO_VALUE | {"none", "nil", "nat", ".", "missing"}
NO_NUMBER |= {"#div/0!", "#value!", "#ref!", "#name?", "#num!", "#null!"}

# Digits in groups: by comma, apostrophe or space, or by point where the decimal sign is
# a comma. The first group begins with no zero: 0,125 is an eighth. The last has three
# digits.
GROUPED = re.compile(r"[1-9]\d{0,2}(?:[,'’ ]\d{2,3})*?(?:[,'’ ]\d{3})(?:\.\d*)?")
GROUPED_BY_POINT = re.compile(r"[1-9]\d{0,2}(?:[.'’ ]\d{3})+(?:,\d*)?")
FLAGS = {"true", "false"}
NO_NAME = {"", "???"}
PLAIN = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,3})?")
SPACES = re.compile(r"[\s\u00a0\u2007\u2009\u202f]+")


@dataclass(frozen=True)
class Dialect:
    """How a file is written.

    `columns` holds the column of the file for each field of the contract. `units` are
    written beside the numbers of a field, such as "%" or "kg". `comma` names the fields
    whose decimal sign is a comma. `times` has the format of a field that is a time, as
    `strptime` takes it, or "ISO8601".
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str = "utf-8-sig"
    separator: str = ","
    quote: str = '"'
    units: Mapping[str, str] = field(default_factory=dict)
    comma: Sequence[str] = ()
    times: Mapping[str, str] = field(default_factory=dict)


def read_cells(path: Path, dialect: Dialect) -> Iterator[Chunk]:
    """Yield the rows with the cells and the column names of the file.

    Raises PipelineError, with the file, the reason and the fix.
    """
    if path.suffix.lower() not in TEXT_SUFFIXES or not path.is_file():
        yield from read_table(path)
        return
    try:
        with path.open(encoding=dialect.encoding, newline="") as text:
            yield from parse_csv(
                text, str(path), dialect.separator, dialect.quote, name_columns, True
            )
    except UnicodeError:
        raise PipelineError(
            f"The data file {path} is not in the encoding {dialect.encoding}. Save it "
            "as UTF-8."
        ) from None
    except (TableError, OSError) as error:
        raise PipelineError(f"The data file {path} cannot be read: {error}") from None


def name_columns(header: Sequence[str]) -> list[str]:
    """Return the names of a header; a column without one is named by its place.

    Hydra would read the name "???" as a missing value.
    """
    return [
        (
            f"column {place}"
            if name.strip() in NO_NAME or name.startswith("Unnamed: ")
            else name
        )
        for place, name in enumerate(header, start=1)
    ]


def translate(
    chunk: Chunk, dialect: Dialect, fields: Sequence[Column]
) -> tuple[Chunk, int]:
    """Return the rows as the contract has them, and how many have no label.

    Those rows are left out: nothing can be learned from them. A cell that cannot be
    read stays as it is, so that the validation names it. Raises PipelineError if the
    file lacks a column.
    """
    columns: dict[str, pa.Array] = {}
    for each in fields:
        name = dialect.columns.get(each.name, each.name)
        if name in chunk.columns:
            array = chunk.columns[name]
            columns[each.name] = _translate_column(array, each, dialect)
        elif not each.has_default:
            raise PipelineError(
                f"{chunk.source} has no column {name!r}, which is the field "
                f"{each.name!r} of app/contract.py. Its columns are "
                f"{[*chunk.columns]}. Add it, or run make adopt with this file."
            )
    translated = replace(chunk, columns=columns)
    if LABEL not in columns:
        return translated, 0
    has_label = pc.invert(pc.is_null(columns[LABEL], nan_is_null=True))
    return translated.filter(has_label), has_label.false_count


def _translate_column(array: pa.Array, column: Column, dialect: Dialect) -> pa.Array:
    """Return the cells as the contract takes them; a missing one is null."""
    name = column.name
    match column.type:
        case "int" | "float" if types.is_large_string(array.type):
            unit, comma = dialect.units.get(name, ""), name in dialect.comma
            plain = WHOLE if column.type == "int" else DECIMAL
            return to_numbers(array, unit, comma, plain)
        case "datetime" | "date" if _is_written(array):
            return to_times(to_texts(array), dialect.times.get(name, "ISO8601"))
        case "str" | "literal" | "enum":
            array = to_texts(array)
            if types.is_large_string(array.type):
                array = pc.utf8_trim_whitespace(array)
                array = drop_marks(array, NO_VALUE - set(column.choices))
                return map_texts(array, lambda cell: _choose(cell, column.choices))
        case "list" | "tuple" if types.is_large_string(array.type):
            return to_vectors(array)
        case "bool" if types.is_large_string(array.type):
            array = pc.utf8_lower(pc.utf8_trim_whitespace(array))
            return drop_marks(array, NO_NUMBER)
    return array


def _is_written(array: pa.Array) -> bool:
    """Return whether times are written as text, or as a number: 20260131."""
    return bool(types.is_large_string(array.type) or types.is_integer(array.type))


def _choose(cell: str, choices: Mapping[str, Any]) -> str:
    """Return the choice that a cell means: 1.0 is "1" and TRUE is "true" if that is."""
    if not choices or cell in choices:
        return cell
    if {*choices} == FLAGS:
        return cell.lower()
    number = to_number(cell)
    return number if number is not None and number in choices else cell


def to_texts(array: pa.Array) -> pa.Array:
    """Return numbers, flags and times as text, as labels are: 1.0 is "1"."""
    kind = array.type
    if types.is_boolean(kind) or types.is_integer(kind):
        return array.cast(pa.large_string())
    if types.is_timestamp(kind) or types.is_date(kind):
        return array.cast(pa.large_string())
    if not types.is_floating(kind):
        return array
    numbers = pc.if_else(pc.is_nan(array), None, array)
    texts = [
        None if x is None else as_text(int(x) if x.is_integer() else x)
        for x in numbers.to_pylist()
    ]
    return pa.array(texts, pa.large_string())


def map_texts(array: pa.Array, function: Callable[[str], str]) -> pa.Array:
    """Apply a function to each text once, however often it occurs."""
    encoded = array.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    return pa.array(map(function, texts), pa.large_string()).take(encoded.indices)


def to_numbers(
    array: pa.Array, unit: str = "", comma: bool = False, plain: str = DECIMAL
) -> pa.Array:
    """Return the texts with numbers as Python writes them, and null for a missing one.

    A text that matches `plain` is such a number already, unless the decimal sign is a
    comma.
    """

    def convert(cell: str) -> str:
        return to_number(cell, unit, comma) or cell

    if comma:
        return drop_marks(map_texts(array, convert), NO_NUMBER)
    is_plain = pc.match_substring_regex(array, plain)
    others = pc.if_else(is_plain, pa.scalar(None, array.type), array)
    others = drop_marks(map_texts(others, convert), NO_NUMBER)
    return pc.if_else(is_plain, array, others)


def to_vectors(array: pa.Array) -> pa.Array:
    """Return texts such as [1, 2.5] as lists of numbers; as they are if some are none.

    numpy writes no commas between them.
    """
    cells = drop_marks(array, NO_NUMBER).to_pylist()
    try:
        lists = [None if cell is None else _read_list(cell.strip()) for cell in cells]
    except ValueError:
        return array
    return pa.array(lists, pa.list_(pa.float64()))


def _read_list(cell: str) -> list[float]:
    if not cell.startswith("[") or not cell.endswith("]"):
        raise ValueError("no list")
    return [float(number) for number in cell[1:-1].replace(",", " ").split()]


def drop_marks(array: pa.Array, marks: set[str]) -> pa.Array:
    """Return the texts with null in place of those that mark a missing value."""
    trimmed = pc.utf8_lower(pc.utf8_trim_whitespace(array))
    known = pa.array(sorted(marks), pa.large_string())
    return pc.if_else(pc.is_in(trimmed, known), pa.scalar(None, array.type), array)


def to_number(cell: str, unit: str = "", comma: bool = False) -> str | None:
    """Return a number as Python writes it, or None if the cell is none.

    to_number("1.234,50 €", unit="€", comma=True) == "1234.50"
    """
    text = SPACES.sub(" ", cell).strip().replace("−", "-")
    if not text.isascii():  # digits of other scripts
        text = re.sub(r"\d", lambda digit: str(int(digit[0])), text)
    is_negative, text = _split_sign(text, unit)
    text = _ungroup(text.lower(), comma)
    if not PLAIN.fullmatch(text):
        return None
    if text.endswith(".") or ".e" in text:
        text = text.replace(".", "", 1)
    whole, point, fraction = text.partition(".")
    if point and "e" not in text and not fraction.strip("0"):
        text = whole or "0"  # pandas writes integers as 7.0 if values are missing
    if text.startswith("."):
        text = "0" + text
    return "-" + text if is_negative else text


def _split_sign(text: str, unit: str) -> tuple[bool, str]:
    """Return whether a number is negative, and its text without sign and unit.

    A number in parentheses is negative. The sign may be on either side of the unit.
    """
    is_negative = text.startswith("(") and text.endswith(")")
    if is_negative:
        text = text[1:-1].strip()
    if text[:1] in ("-", "+"):
        is_negative, text = is_negative ^ (text[0] == "-"), text[1:].lstrip()
    if unit:
        text = text.removesuffix(unit).removeprefix(unit).strip()
        if text[:1] == "-":
            is_negative, text = not is_negative, text[1:].lstrip()
    return is_negative, text


def _ungroup(text: str, comma: bool) -> str:
    """Return a number with a point and no group separators; "" if it is none."""
    if not comma:
        return re.sub(r"[,'’ ]", "", text) if GROUPED.fullmatch(text) else text
    if GROUPED_BY_POINT.fullmatch(text):
        text = re.sub(r"[.'’ ]", "", text)
    return "" if "." in text else text.replace(",", ".")


def to_times(array: pa.Array, form: str) -> pa.Array:
    """Return times in ISO 8601; a cell that is none stays as it is."""
    encoded = array.dictionary_encode()
    cells: list[Any] = encoded.dictionary.to_pylist()
    texts = pd.Series(cells, dtype=object).str.strip()
    parsed = pd.to_datetime(texts, format=form, errors="coerce", utc=True)
    written = [
        cell if pd.isna(time) else time.strftime("%Y-%m-%dT%H:%M:%S.%f")
        for cell, time in zip(cells, parsed, strict=True)
    ]
    return drop_marks(
        pa.array(written, pa.large_string()).take(encoded.indices), NO_NUMBER
    )
