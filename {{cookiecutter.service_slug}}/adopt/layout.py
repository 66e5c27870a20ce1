"""Find out how a file is written: encoding, quotes, separator. Read it whole."""

import codecs
import csv
import io
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training.dialect import TEXT_SUFFIXES, Dialect, read_cells
from training.stage import PipelineError

# The bytes that decide on the separator. The encoding is checked in the whole file.
SAMPLE = 256 * 1024
SEPARATORS = ",;\t|"
BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Runs of letters beyond ASCII. In Windows-1252 few have LONG_RUN letters or are valid
# UTF-8: at most this share of the others.
NO_ASCII, LONG_RUN, MOST_UNLIKE = re.compile(rb"[\x80-\xff]+"), 4, 0.05
# Excel takes the separator from such a line.
EXCEL = re.compile(r'"?sep=[^\n]?"?\s*\n', re.IGNORECASE)
# How files begin that are no tables of text, whatever they are called: what they are,
# and the remedy.
CONTENTS = {
    rb"PK\x03\x04": "a workbook or an archive. Save it as .csv, or unpack it.",
    rb"\xd0\xcf\x11\xe0": "a workbook. Save it as .csv.",
    rb"\x1f\x8b|BZh\d1AY|\xfd7zXZ|\x28\xb5\x2f\xfd": "packed. Unpack it.",
    rb"PAR1[\0-\x1f]": "a Parquet file. Call it .parquet.",
    b"%PDF-": "a PDF. Save the table in it as .csv.",
    rb"(?i)\s*<(?:!doctype|html|\?xml)": "a page of the web, perhaps a login, or XML. "
    "Save the table itself as .csv.",
    rb'\s*(?:\{\s*"|\[\s*[\[{])': "JSON. Write one object per line, and call it "
    ".jsonl.",
}
# Bytes of memory for a byte of the file: while it is read, checked and learned from.
# Parquet is compressed; its size is that of its columns.
MEMORY_FACTOR = 8


class Refusal(Exception):
    """The table cannot be adopted. The message says why, and what to do."""


def check_size(path: Path) -> None:
    """Raise Refusal if the data is missing, empty, or too large for the memory."""
    if not path.exists():
        raise Refusal(f"There is no file {path}. Name another: DATA=FILE.")
    if not os.access(path, os.R_OK):
        raise Refusal(f"{path} cannot be read: give yourself the right to.")
    files = [file for file in path.rglob("*") if file.is_file()]
    inner = {part for file in files for part in file.relative_to(path).parts[:-1]}
    if split := sorted({part.split("=")[0] for part in inner if "=" in part}):
        raise Refusal(
            f"{path} has the values of {', '.join(split)} in the names of its "
            "directories, where nothing reads them. Write them as columns of one file, "
            "such as pandas.read_parquet(…).to_parquet(…) does."
        )
    size = sum(map(_size, files)) if path.is_dir() else _size(path)
    if not size:
        raise Refusal(f"{path} is empty. Name another file: DATA=FILE.")
    needed, free = size * MEMORY_FACTOR, read_free_memory()
    if needed > free:
        raise Refusal(
            f"{path} has {_show(size)} and would take about {_show(needed)} of memory; "
            f"{_show(free)} are free. Adopt a sample of its rows, or do it on a larger "
            "machine."
        )


def _size(file: Path) -> int:
    if file.suffix.lower() != ".parquet":
        return file.stat().st_size
    try:
        groups = pq.ParquetFile(file).metadata
        return sum(
            groups.row_group(place).total_byte_size
            for place in range(groups.num_row_groups)
        )
    except (ValueError, OSError):  # said by whoever reads it
        return file.stat().st_size


def read_free_memory() -> int:
    """Return the bytes that a process may still take, of machine or container."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # only Linux has it; others do not tell what is free
        return sys.maxsize
    known = dict(line.split(":", 1) for line in lines)
    free = int(known["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = (group / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return free
    return min(free, int(limit) - int(used)) if limit != "max" else free


def _show(size: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size //= 1000
    return f"{size:,.0f} TB"


def find_dialect(path: Path) -> Dialect:
    """Return how a file is written. Raises Refusal."""
    if path.suffix.lower() not in TEXT_SUFFIXES or path.is_dir():
        return Dialect()
    _check_content(path)
    encoding = _find_encoding(path)
    try:
        with path.open(encoding=encoding, newline="") as text:
            sample = text.read(SAMPLE)
    except UnicodeError:  # the mark at the start says what it is to be
        raise Refusal(
            f"{path} begins as {encoding.removesuffix('-sig').upper()} does, but not "
            "all of it is in that encoding. Save it as UTF-8."
        ) from None
    if "\0" in sample:
        raise Refusal(f"{path} is no text. Unpack it, or save it as .csv in UTF-8.")
    if hint := EXCEL.match(sample):
        raise Refusal(
            f"{path}: the first line, {hint[0].strip()!r}, is a hint for Excel. Remove "
            "it: the first line must name the columns."
        )
    if len(sample) == SAMPLE:  # the last line may be cut
        sample = sample[: sample.rfind("\n") + 1] or sample
    quote = "'" if sample.lstrip()[:1] == "'" else '"'
    return Dialect(
        encoding=encoding, separator=_find_separator(sample, quote, path), quote=quote
    )


def _check_content(path: Path) -> None:
    """Raise Refusal if a file is something else than its name says."""
    with path.open("rb") as file:
        begin = file.read(200)
    for pattern, found in CONTENTS.items():
        if re.match(pattern, begin.removeprefix(codecs.BOM_UTF8)):
            raise Refusal(f"{path} is no table of text, but {found}")


def _find_encoding(path: Path) -> str:
    """Return the encoding: that of the mark at its start, or UTF-8, or Windows-1252."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        begin = file.read(4)
        for mark, encoding in BOMS.items():
            if begin.startswith(mark):
                return encoding
        file.seek(0)
        try:
            while block := file.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return _find_western(path)
    return "utf-8-sig"  # a later file may have the mark: Excel writes it


def _find_western(path: Path) -> str:
    """Return Windows-1252. Raises Refusal if the file cannot be in it.

    Nothing in a file tells which encoding of one byte a character it is in. But words
    of Western languages have letters of ASCII between their others.
    """
    # The lines of runs in UTF-8, of short ones that are not, and of long ones.
    right, short, long = list[int](), list[int](), list[int]()
    is_known = True
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            for run in NO_ASCII.findall(line):
                is_known &= _decodes(run, "cp1252")
                if _decodes(run, "utf-8"):
                    right.append(number)
                elif len(run) < LONG_RUN:
                    short.append(number)
                else:
                    long.append(number)
    wrong = sorted([*short, *long])
    if len(right) > len(wrong):
        raise Refusal(
            f"{path} is in UTF-8, but for line {wrong[0]}. Correct it, or save all of "
            "it as UTF-8."
        )
    if not is_known or len(right) + len(long) > len(short) * MOST_UNLIKE:
        raise Refusal(
            f"{path} is neither in UTF-8 nor in Windows-1252. Save it as UTF-8."
        )
    return "cp1252"


def _decodes(text: bytes, encoding: str) -> bool:
    try:
        text.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _find_separator(sample: str, quote: str, path: Path) -> str:
    """Return the separator that gives most rows as many cells as the header has."""
    if not sample.strip():
        raise Refusal(f"{path} is empty. Name another file: DATA=FILE.")
    found: dict[str, tuple[float, int]] = {}
    for separator in SEPARATORS:
        try:
            rows = _split_rows(sample, separator, quote)
        except csv.Error:
            continue
        width = len(rows[0]) if rows else 0
        if width > 1:
            alike = sum(len(row) == width for row in rows) / len(rows)
            found[separator] = alike, width
    if not found:
        first = sample.lstrip().splitlines()[0]
        title = any(separator in sample for separator in SEPARATORS)
        raise Refusal(
            f"{path} has one column: its first line is {first[:80]!r}. A label and "
            "something to predict it from are needed, with commas, semicolons, tabs "
            f"or | between the columns.{' Remove titles above them.' if title else ''}"
        )
    best = max(found, key=lambda separator: found[separator])
    if found[best][0] < 1:
        _explain_widths(sample, best, quote, path)
    return best


def _split_rows(sample: str, separator: str, quote: str) -> list[list[str]]:
    lines = csv.reader(
        io.StringIO(sample, newline=""),
        delimiter=separator,
        quotechar=quote,
        skipinitialspace=True,
    )
    return [row for row in lines if row]


def _explain_widths(sample: str, separator: str, quote: str, path: Path) -> None:
    """Raise Refusal if the first line is no header of the others."""
    rows = _split_rows(sample, separator, quote)
    (width, count), *_ = Counter(map(len, rows)).most_common(1)
    if width == len(rows[0]) or count < len(rows) / 2:
        return  # the reader names the line
    if width == len(rows[0]) + 1 and not any(row[-1] for row in rows[1:]):
        raise Refusal(
            f"{path}: the rows end in {separator!r}, but the first line does not. Add "
            "one to it."
        )
    if width == len(rows[0]) + 1:
        raise Refusal(
            f"{path}: the first line names {width - 1} columns, but the rows have "
            f"{width}. Name the first column, too (R writes none: row.names = FALSE)."
        )
    raise Refusal(
        f"{path}: the first line has {len(rows[0])} columns, but most lines have "
        f"{width}. The first line must name the columns: remove titles above it."
    )


def read_whole(path: Path, dialect: Dialect) -> pa.Table:
    """Return all rows, with the names of the file. Raises Refusal."""
    tables: list[pa.Table] = []
    try:
        for chunk in read_cells(path, dialect):
            table = pa.table(dict(chunk.columns))
            first = tables[0] if tables else table
            odd = set(table.column_names) ^ set(first.column_names)
            if odd and chunk.unit == "row":  # lines of JSON may be sparse
                raise Refusal(
                    f"{chunk.source}: not all parts have the columns {sorted(odd)}. "
                    "Give each part the same columns."
                )
            if len(table):
                tables.append(table)
    except PipelineError as error:
        raise Refusal(str(error)) from None
    if not tables:
        raise Refusal(f"{path} has no rows. Name another file: DATA=FILE.")
    return join(tables, f"{path}: its parts have")


def join(tables: Sequence[pa.Table], have: str) -> pa.Table:
    """Return the rows of tables. Raises Refusal if a column is of different types."""
    try:
        whole = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise Refusal(
            f"{have} different types ({error}). Write each column in one type."
        ) from None
    return whole.combine_chunks()
