"""Read the tables of a team, in chunks of rows: CSV, JSON lines, Parquet.

A chunk holds the values as they are in the file. `training.validation` judges them.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from serving.fields import as_text
from training.stage import PipelineError

CHUNK = 50_000  # rows

# The csv module limits a field to 131,072 characters; the contract has its own limit.
csv.field_size_limit(2**31 - 1)

# The column of a Parquet file in which pandas keeps an index without a name.
INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source.

    `unit` says what `places` count: the "line" of each row in a CSV or JSON file, else
    its number ("row"). All columns are of the same length. If `is_text`, the source
    knows text only, as CSV does: an empty cell may stand for a missing value.
    """

    source: str
    unit: str
    places: Sequence[int]
    columns: Mapping[str, pa.Array]
    is_text: bool = False

    def filter(self, kept: pa.Array) -> "Chunk":
        """Return the rows for which an array of booleans is true."""
        columns = {name: array.filter(kept) for name, array in self.columns.items()}
        places = list(compress(self.places, kept.to_pylist()))
        return replace(self, places=places, columns=columns)


class TableError(ValueError):
    """A table cannot be read. The message says where, why and what to do."""


def read_table(path: Path) -> Iterator[Chunk]:
    """Yield the rows of a file, or of all Parquet files in a directory.

    Raises PipelineError, with the file, the reason and the fix.
    """
    if not path.exists():
        raise PipelineError(
            f"The data file {path} does not exist. Create it, or name another: "
            "data=csv data.path=FILE"
        )
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*.parquet") if file.is_file())
        if not files:
            raise PipelineError(
                f"The directory {path} has no .parquet files. Name a file, or a "
                "directory with the parts of a Parquet table."
            )
    for file in files:
        try:
            yield from _find_reader(file)(file)
        except (ValueError, OSError) as error:  # each of pyarrow's is one of these
            raise PipelineError(
                f"The data file {file} cannot be read: {error}"
            ) from None


def split_frame(frame: pd.DataFrame, source: str) -> Iterator[Chunk]:
    """Yield the rows of a frame. Raises PipelineError if a column mixes types."""
    try:
        table = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise PipelineError(f"{source} cannot be read: {error}") from None
    yield from _split(table.to_batches(CHUNK), table.schema, source)


def _find_reader(file: Path) -> Callable[[Path], Iterator[Chunk]]:
    readers = {
        ".csv": _read_csv,
        ".parquet": _read_parquet,
        ".jsonl": _read_json,
        ".ndjson": _read_json,
    }
    suffix = file.suffix.lower()
    if suffix in readers:
        return readers[suffix]
    hints = {
        ".tsv": "Save it as .csv, with commas between the columns.",
        ".json": "Write one object per line and call it .jsonl.",
        **dict.fromkeys((".gz", ".zip", ".bz2", ".xz", ".zst", ".7z"), "Unpack it."),
    }
    raise TableError(
        f"its name ends in {suffix or 'nothing'!r}; known are {', '.join(readers)} and "
        f"directories of .parquet files. {hints.get(suffix, 'Save it as .csv.')}"
    )


def _read_csv(file: Path) -> Iterator[Chunk]:
    """Yield rows of text with their lines: the errors of pandas name no line."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        try:
            _check_separator(text.readline())
            text.seek(0)
            yield from parse_csv(text, str(file))
        except UnicodeDecodeError:
            raise TableError(
                f"line {_find_undecodable(file)} is not UTF-8. Save the file as UTF-8."
            ) from None


def parse_csv(
    text: io.TextIOBase,
    source: str,
    separator: str = ",",
    quote: str = '"',
    name_columns: Callable[[list[str]], list[str]] = list,
    skip_spaces: bool = False,
) -> Iterator[Chunk]:
    """Yield the rows of an open file. Raises TableError or PipelineError.

    `skip_spaces` drops the spaces after a separator, so that a quote may follow them.
    """
    reader = csv.reader(
        text,
        strict=True,
        delimiter=separator,
        quotechar=quote,
        skipinitialspace=skip_spaces,
    )
    header: list[str] | None = None
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, row in _number_rows(reader):
        if header is None:
            header = name_columns(row)
            continue
        if len(row) != len(header):
            fix = f"Quote values that contain {separator!r}."
            if len(row) < len(header):
                fix = "Complete the line, or remove it."
            raise TableError(
                f"the header has {len(header)} columns, but line {line} has "
                f"{len(row)}. {fix}"
            )
        rows.append(row)
        lines.append(line)
        if len(rows) == CHUNK:
            yield _text_chunk(source, header, rows, lines)
            rows, lines = [], []
    yield _text_chunk(source, header or [], rows, lines)


def _number_rows(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank, with the line in which it begins."""
    line = 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            reason = str(error)
            if "unexpected end" in reason:
                reason = "a quote that is opened there is never closed"
            raise TableError(
                f"the row that begins in line {line} is no CSV: {reason}. Write a "
                'quote within a quoted value twice: "".'
            ) from None
        if row:
            yield line, row
        line = reader.line_num + 1


def _text_chunk(
    source: str, header: list[str], rows: list[list[str]], lines: list[int]
) -> Chunk:
    check_names(header, source)
    columns = zip(*rows, strict=True) if rows else [()] * len(header)
    arrays = [pa.array(column, pa.large_string()) for column in columns]
    return Chunk(source, "line", lines, dict(zip(header, arrays, strict=True)), True)


def _check_separator(header: str) -> None:
    if "," not in header and (found := re.search(r"[;\t|]", header)):
        raise TableError(
            f"its header, {header.strip()!r}, has {found[0]!r} in place of commas: "
            "save it with commas between the columns."
        )


def _find_undecodable(file: Path) -> int:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _read_json(file: Path) -> Iterator[Chunk]:
    """Yield the objects of a file that has one per line."""
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    with file.open("rb") as opened:
        for line, content in enumerate(opened, start=1):
            if not content.strip():
                continue
            rows.append(_parse_object(_decode_line(content, line), line))
            lines.append(line)
            if len(rows) == CHUNK:
                yield _json_chunk(str(file), rows, lines)
                rows, lines = [], []
    yield _json_chunk(str(file), rows, lines)


def _decode_line(content: bytes, line: int) -> str:
    try:
        return content.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError:
        raise TableError(f"line {line} is not UTF-8. Save the file as UTF-8.") from None


def _parse_object(content: str, line: int) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise TableError(f"line {line} has a name twice. Remove one.")
        return dict(pairs)

    try:
        found = json.loads(content, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise TableError(
            f"line {line} is no JSON: {error}. Write one object per line."
        ) from None
    if not isinstance(found, dict):
        raise TableError(
            f"line {line} is no object. Write one per line: "
            '{"text": "…", "label": "…"}'
        )
    return found


def _json_chunk(source: str, rows: list[dict[str, Any]], lines: list[int]) -> Chunk:
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {
        name: _to_array([row.get(name) for row in rows], lines, name) for name in names
    }
    return Chunk(source, "line", lines, columns)


def _to_array(values: list[Any], lines: list[int], name: str) -> pa.Array:
    """Return values of one type. Integers among texts are text."""
    with suppress(ValueError, OverflowError, pa.ArrowTypeError):
        return _decode(pa.array(values))
    texts = [as_text(value) if isinstance(value, int) else value for value in values]
    for line, text in zip(lines, texts, strict=True):
        try:
            pa.scalar(text, pa.large_string())
        except (ValueError, pa.ArrowTypeError):
            raise TableError(
                f"line {line}, column {name!r}: {text!r} is of another type than the "
                "values in other lines, or no Unicode text. Write all in one way, or "
                "leave the column out of the file."
            ) from None
    return pa.array(texts, pa.large_string())


def _read_parquet(file: Path) -> Iterator[Chunk]:
    table = pq.ParquetFile(file)
    yield from _split(table.iter_batches(CHUNK), table.schema_arrow, str(file))


def _split(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, source: str
) -> Iterator[Chunk]:
    """Yield batches of rows, without the index that pandas adds to a Parquet file."""
    names = [name for name in schema.names if not INDEX.fullmatch(name)]
    check_names(names, source)
    first = 1
    for batch in batches:
        places = range(first, first + len(batch))
        yield Chunk(
            source, "row", places, {name: _decode(batch[name]) for name in names}
        )
        first += len(batch)


def _decode(array: pa.Array) -> pa.Array:
    """Return a column in one of a few types, with the same values."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _decode(array.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.large_string())
    if pa.types.is_decimal(kind):
        return _decode_decimals(array)
    if isinstance(kind, pa.UuidType):
        texts = [value and str(value) for value in array.to_pylist()]
        return pa.array(texts, pa.large_string())
    return array


def _decode_decimals(array: pa.Array) -> pa.Array:
    """Return numbers; integers if the type has no fraction, as databases write them."""
    if array.type.scale <= 0:
        with suppress(pa.ArrowInvalid):  # beyond 64 bits
            return array.cast(pa.int64())
    # By way of text, as the cast to float64 is not exact.
    return array.cast(pa.large_string()).cast(pa.float64())


def check_names(names: Sequence[str], source: str) -> None:
    """Raise PipelineError if a column has no name, or the name of another."""
    for place, name in enumerate(names, start=1):
        if name.startswith("Unnamed: ") or not name.strip():
            raise PipelineError(
                f"{source}: column {place} of {[*names]} has no name. If pandas wrote "
                "its index there, write the file with index=False; else name it."
            )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise PipelineError(
            f"{source} has several columns of one name: {repeated} in {[*names]}. "
            "Rename or drop all but one."
        )
