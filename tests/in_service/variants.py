"""One table, written in dozens of ways: each is adopted rightly, or refused.

A refusal says what to do. There is no third outcome: what is adopted has the values of
the table, whatever they looked like in the file.
"""

import csv
import gzip
import io
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from adopt.__main__ import make_contract, read_rows
from adopt.infer import Options, infer
from adopt.layout import Refusal
from training.tables import CHUNK

NAMES = ("age", "income", "share", "city", "notes", "filed", "outcome")
# What a model reads of it; the time is no feature.
READ = {"age", "income", "share", "city", "notes", "label"}

Row = list[Any]
Write = Callable[[Path, list[Row]], Path]


def make_rows(count: int = 240) -> list[Row]:
    """Return the rows of the table."""
    draw = random.Random(7)
    rows: list[Row] = []
    for number in range(count):
        age, city = draw.randint(18, 90), draw.choice(["Köln", "Bonn", "Aachen"])
        income = round(draw.uniform(1_000, 9_000), 2)
        words = draw.sample(["water", "fire", "roof", "cellar", "door", "window"], 3)
        notes = f"{' '.join(words)}, seen {number % 97} times"
        day = f"2026-{1 + number % 12:02}-{1 + number % 28:02}"
        is_paid = (income > 4_000) != (draw.random() < 0.2)
        outcome = "paid" if is_paid else "denied"
        rows.append([age, income, draw.randint(1, 99), city, notes, day, outcome])
    return rows


ROWS = make_rows()
UUID_BYTES = [number.to_bytes(16) for number in range(len(ROWS))]
MONTHS = "enero febrero marzo abril mayo junio julio agosto septiembre octubre".split()
MONTHS += ["noviembre", "diciembre"]
JSON_TEXTS = [f'{{"by": {number}}}' for number in range(len(ROWS))]


def to_extension(kind: pa.DataType, values: list[Any]) -> "pd.Series[Any]":
    """Return a column of an extension type of Parquet."""
    array = pa.array(values).cast(kind.storage_type).cast(kind)
    return pd.Series(array, dtype=pd.ArrowDtype(kind))


@dataclass(frozen=True)
class Csv:
    """Writes the rows as CSV, in one of many ways.

    `cells` says how the values of a column are written, `edit` changes the whole file.
    """

    separator: str = ","
    encoding: str = "utf-8"
    quoting: int = csv.QUOTE_MINIMAL
    quote: str = '"'
    end: str = "\n"
    name: str = "claims.csv"
    names: Sequence[str] = NAMES
    cells: dict[str, Callable[[Any, int], Any]] | None = None
    edit: Callable[[str], str] = str
    more: Sequence[str] = ()  # columns that `edit` adds

    def __call__(self, directory: Path, rows: list[Row]) -> Path:
        text, cells = io.StringIO(), self.cells or {}
        writer = csv.writer(
            text,
            delimiter=self.separator,
            quoting=self.quoting,  # type: ignore[arg-type]
            quotechar=self.quote,
            lineterminator=self.end,
        )
        if self.names:
            writer.writerow(self.names)
        for number, row in enumerate(rows):
            writer.writerow(
                [
                    (cells[name](value, number) if name in cells else value)
                    for name, value in zip(NAMES, row, strict=True)
                ]
            )
        file = directory / self.name
        file.write_bytes(self.edit(text.getvalue()).encode(self.encoding))
        return file


def with_cells(**cells: Callable[[Any, int], Any]) -> Csv:
    """Return a writer of CSV with cells of its own."""
    return Csv(cells=cells)


def german(value: float) -> str:
    """1.234,50 for 1234.5."""
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def sometimes(cell: Any, every: int = 20) -> Callable[[Any, int], Any]:
    """Return the cell in each `every`-th row, else the value."""
    return lambda value, number: cell if number % every == 3 else value


def to_parquet(change: Callable[[pd.DataFrame], pd.DataFrame], index: bool) -> Write:
    def write(directory: Path, rows: list[Row]) -> Path:
        frame = change(pd.DataFrame(rows, columns=list(NAMES)))
        file = directory / "claims.parquet"
        frame.to_parquet(file, index=index)
        return file

    return write


def to_json(directory: Path, rows: list[Row]) -> Path:
    file = directory / "claims.jsonl"
    frame = pd.DataFrame(rows, columns=list(NAMES))
    frame.to_json(file, orient="records", lines=True, force_ascii=False)
    return file


def to_parts(directory: Path, rows: list[Row]) -> Path:
    parts = directory / "claims"
    parts.mkdir()
    for number in range(3):
        part = pd.DataFrame(rows[80 * number : 80 * number + 80], columns=list(NAMES))
        part.to_parquet(parts / f"part-{number}.parquet")
    return parts


def add_column(name: str, cell: Callable[[int], str], first: bool = False) -> Csv:
    """Return a writer of a file with one column more."""

    def edit(text: str) -> str:
        header, *lines = text.splitlines()
        new = [name, *map(cell, range(len(lines)))]
        pairs = zip(new, [header, *lines], strict=True)
        lines = [f"{a},{b}" if first else f"{b},{a}" for a, b in pairs]
        return "\n".join(lines) + "\n"

    return Csv(edit=edit)


def add_columns(*names: str) -> Csv:
    """Return a writer of a file with columns more, all of them numbers with gaps."""

    def edit(text: str) -> str:
        rows = [*csv.reader(io.StringIO(text))]
        more: list[Sequence[Any]] = [names]
        numbers = [count_up(place, len(rows) - 1) for place in range(len(names))]
        more += [[cell or "" for cell in row] for row in zip(*numbers, strict=True)]
        written = io.StringIO()
        pairs = zip(rows, more, strict=True)
        csv.writer(written, lineterminator="\n").writerows([*a, *b] for a, b in pairs)
        return written.getvalue()

    return Csv(edit=edit, more=names)


def count_up(place: int, rows: int) -> list[int]:
    """Return the numbers of a column more; 0 is a gap."""
    return [number * 7 % (11 + place) for number in range(rows)]


def spread(text: str) -> str:
    return text.replace('","', '", "')


def spell(day: str, form: str) -> str:
    return date.fromisoformat(day).strftime(form)


def to_bytes(change: Callable[[bytes], bytes], name: str = "claims.csv") -> Write:
    def write(directory: Path, rows: list[Row]) -> Path:
        content = Csv()(directory, rows).read_bytes()
        file = directory / name
        file.write_bytes(change(content))
        return file

    return write


def to_partitions(directory: Path, rows: list[Row]) -> Path:
    frame = pd.DataFrame(rows, columns=list(NAMES))
    for city, part in frame.groupby("city"):
        inner = directory / "claims" / f"city={city}"
        inner.mkdir(parents=True)
        part.drop(columns="city").to_parquet(inner / "part.parquet")
    return directory / "claims"


def prefix(text: str) -> Callable[[str], str]:
    return lambda content: text + content


ADOPTED: dict[str, Write] = {
    "plain": Csv(),
    "semicolons": Csv(separator=";"),
    "tabs": Csv(separator="\t", name="claims.tsv"),
    "tabs in .txt": Csv(separator="\t", name="claims.txt"),
    "pipes": Csv(separator="|"),
    "capital suffix": Csv(name="CLAIMS.CSV"),
    "all quoted": Csv(quoting=csv.QUOTE_ALL),
    "single quotes": Csv(quoting=csv.QUOTE_ALL, quote="'"),
    "lines of Windows": Csv(end="\r\n"),
    "lines of old Macs": Csv(end="\r"),
    "no newline at the end": Csv(edit=str.rstrip),
    "blank lines": Csv(edit=lambda text: text.replace("\n", "\n\n")),
    "UTF-8 with a mark": Csv(encoding="utf-8-sig"),
    "UTF-16": Csv(encoding="utf-16"),
    "Windows-1252": Csv(encoding="cp1252"),
    "Latin-1 with semicolons": Csv(encoding="latin-1", separator=";"),
    "names with spaces": Csv(names=[f" {name} " for name in NAMES]),
    "names in capitals": Csv(names=[name.upper() for name in NAMES]),
    "names quoted": Csv(edit=lambda text: text.replace("age", '"age"', 1)),
    "index of pandas": add_column("", str, first=True),
    "index of pandas, read and written": add_column("Unnamed: 0", str, first=True),
    "identifier": add_column("claim_id", lambda number: f"C{number * 7:05}"),
    "number of the row": add_column("row", lambda number: str(number + 1), first=True),
    "column without values": add_column("remarks", lambda _: ""),
    "column of NA": add_column("remarks", lambda _: "NA"),
    "column of one value": add_column("country", lambda _: "DE"),
    "separator at the end": add_column("", lambda _: ""),
    "two times": add_column("closed_at", lambda n: f"2026-02-03 {n % 24:02}:15:00"),
    "times with a zone": add_column("seen", lambda n: f"2026-02-03T{n % 24:02}:15:00Z"),
    "e-mail addresses": add_column("contact", lambda n: f"p{n}@example.com"),
    "thousands": with_cells(income=lambda value, _: f"{value:,.2f}"),
    "thousands with apostrophes": with_cells(
        income=lambda value, _: f"{value:,.2f}".replace(",", "'")
    ),
    "thousands with spaces": with_cells(
        income=lambda value, _: f"{value:,.2f}".replace(",", "\u202f")
    ),
    "dollars": with_cells(income=lambda value, _: f"${value:,.2f}"),
    "euros behind": with_cells(income=lambda value, _: f"{value:.2f} €"),
    "codes of currency": with_cells(income=lambda value, _: f"EUR {value:.2f}"),
    "percent": with_cells(share=lambda value, _: f"{value}%"),
    "percent with a space": with_cells(share=lambda value, _: f"{value} %"),
    "units": with_cells(age=lambda value, _: f"{value} yrs"),
    "decimal comma": Csv(
        separator=";",
        cells={"income": lambda value, _: f"{value:.2f}".replace(".", ",")},
    ),
    "decimal comma, thousands": Csv(
        separator=";", cells={"income": lambda value, _: german(value)}
    ),
    "decimal comma, quoted": with_cells(income=lambda value, _: german(value)),
    "decimal comma, euros": Csv(
        separator=";", cells={"income": lambda value, _: f"{german(value)} €"}
    ),
    "exponents": with_cells(income=lambda value, _: f"{value:.6e}"),
    "plus signs": with_cells(age=lambda value, _: f"+{value}"),
    "integers as floats": with_cells(age=lambda value, _: f"{value}.0"),
    "spaces around cells": Csv(
        cells={name: lambda value, _: f"  {value} " for name in NAMES}
    ),
    "days first": with_cells(
        filed=lambda value, _: ".".join(reversed(value.split("-")))
    ),
    "a row without a label": with_cells(outcome=sometimes("", 1_000)),
    "spaces behind commas": Csv(quoting=csv.QUOTE_ALL, edit=spread),
    "names that Python has": add_columns("float", "class", "None", "str", "int"),
    "names that pydantic has": add_columns("copy", "json", "model_dump", "schema"),
    "names that the contract has": add_columns("label", "group", "time", "text"),
    "names in other scripts": add_columns("年", "возраст", "🙂", "ä", "Ä"),
    "names with signs": add_columns("a,b", "$x", "${y}", "???", "a\nb", "'q'", "#"),
    "dollars of others": with_cells(income=lambda value, _: f"R$ {value}"),
    "rupees": with_cells(income=lambda value, _: f"Rs. {value}"),
    "zloty": with_cells(income=lambda value, _: f"PLN {value}"),
    "long units": with_cells(age=lambda value, _: f"{value} years"),
    "digits of others": with_cells(
        age=lambda value, _: str(value).translate(
            {48 + n: 0x660 + n for n in range(10)}
        )
    ),
    "shares with a comma": with_cells(
        share=lambda value, _: f"{value * 10},000" if value % 2 else f"{value * 10},0"
    ),
    "days as integers": with_cells(filed=lambda value, _: value.replace("-", "")),
    "names of months": with_cells(filed=lambda value, _: spell(value, "%d %b %Y")),
    "names of months of others": with_cells(
        filed=lambda value, _: f"{value[8:]} de {MONTHS[int(value[5:7]) - 1]} de 2026"
    ),
    "durations of pandas": with_cells(
        filed=lambda _, n: f"{n % 9} days 01:{n % 60}:00"
    ),
    "durations of ISO 8601": with_cells(filed=lambda _, n: f"PT{n % 24}H{n % 60}M"),
    "signs of months": with_cells(filed=lambda value, _: spell(value, "%Y年%m月%d日")),
    "names of months first": with_cells(
        filed=lambda value, _: spell(value, "%B %d, %Y")
    ),
    "months": with_cells(filed=lambda value, _: value[:7]),
    "hours": with_cells(filed=lambda value, n: f"{n % 24:02}:{n % 60:02}"),
    "times of two kinds": with_cells(
        filed=lambda value, n: spell(value, "%d.%m.%Y") if n % 2 else value
    ),
    "times that are none": with_cells(filed=sometimes("0000-00-00")),
    "identifiers of 64 bits": to_parquet(
        lambda frame: frame.assign(user=1_760_000_000_000_000_000 + frame.index * 7),
        False,
    ),
    "lists with gaps": to_parquet(
        lambda frame: frame.assign(seen=[[n, None][: 1 + n % 2] for n in frame.index]),
        False,
    ),
    "objects": to_parquet(
        lambda frame: frame.assign(seen=[{"by": n} for n in frame.index]), False
    ),
    "decimals": to_parquet(
        lambda frame: frame.assign(income=[Decimal(f"{x:.2f}") for x in frame.income]),
        False,
    ),
    # A database writes its integers so.
    "decimals without a fraction": to_parquet(
        lambda frame: frame.assign(
            user=[Decimal(1_760_000_000_000_000_000 + n * 7) for n in frame.index],
            day=[Decimal(20260101 + n % 28) for n in frame.index],
        ),
        False,
    ),
    "UUIDs": to_parquet(
        lambda frame: frame.assign(user=to_extension(pa.uuid(), UUID_BYTES)), False
    ),
    "JSON in Parquet": to_parquet(
        lambda frame: frame.assign(seen=to_extension(pa.json_(), JSON_TEXTS)), False
    ),
    "repeated rows": Csv(edit=lambda text: text + text.partition("\n")[2]),
    "JSON lines": to_json,
    "parts": to_parts,
    "Parquet": to_parquet(lambda frame: frame, index=False),
    "Parquet with an index": to_parquet(lambda frame: frame.iloc[::1], index=True),
    "Parquet with categories": to_parquet(
        lambda frame: frame.astype({"city": "category", "outcome": "category"}), False
    ),
    "Parquet with times": to_parquet(
        lambda frame: frame.assign(filed=pd.to_datetime(frame["filed"])), False
    ),
}

# Gaps, however they are written: the values are the same, but for these.
GAPS = ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "?", "-", "None", "#N/A", " "]

REFUSED: dict[str, tuple[Write, str]] = {
    "empty": (Csv(edit=lambda _: ""), "is empty. Name another"),
    "white space only": (Csv(edit=lambda _: "\n\n  \n"), "is empty"),
    "header only": (Csv(edit=lambda text: text.split("\n")[0]), "has no rows"),
    "no header": (Csv(names=()), "no column 'outcome'.*must name the columns"),
    "one name twice": (
        Csv(names=("age", "age", *NAMES[2:])),
        "several columns of one name.*Rename or drop",
    ),
    "another name": (Csv(names=(*NAMES[:-1], "outcom")), "mean 'outcom'"),
    "title above": (
        Csv(edit=prefix("Claims of 2026\n\n")),
        "has one column.*Remove titles above",
    ),
    "cells with a title above": (
        Csv(edit=prefix("Claims of 2026,,,,,,\nby us,,,,,,\n")),
        "below the first line has 'outcome'.*remove the lines above",
    ),
    "row names of R": (
        Csv(edit=lambda text: text.replace("\n", '\n"1",').replace('"1",', "", 0)),
        "Name the first column|has 7 columns",
    ),
    "a comma unquoted": (
        Csv(edit=lambda text: text.replace("\n", ",x\n", 5).replace(",x\n", "\n", 4)),
        "line 5 has 8. Quote values",
    ),
    "a quote never closed": (
        Csv(edit=lambda text: text.replace("\n4", '\n"4', 1)),
        "never closed|no CSV",
    ),
    "mixed types": (with_cells(age=sometimes("unknown age")), "numbers, and 12 cells"),
    "one typing error": (with_cells(income=sometimes("12o4", 300)), "1 cells? that"),
    "mixed decimal signs": (
        with_cells(income=sometimes("1234,5")),
        "decimal point .* decimal comma .*Write all in one way",
    ),
    "mixed currencies": (
        with_cells(income=lambda v, n: f"{'$' if n % 2 else '€'}{v}"),
        "mixes units.*Write all in one unit",
    ),
    "percent and shares": (
        with_cells(share=lambda v, n: f"{v}%" if n % 2 else v / 100),
        "mixes units",
    ),
    "ambiguous thousands": (
        Csv(
            separator=";",
            cells={"income": lambda value, _: f"{value:,.0f}"},
        ),
        "two ways.*DECIMAL=, or DECIMAL=",
    ),
    "numbers beyond float32": (
        to_parquet(
            lambda frame: frame.assign(
                income=frame["income"].replace(frame.income[0], -sys.float_info.max)
            ),
            False,
        ),
        "beyond 3.4e\\+38.*such as -1.79769e\\+308.*DROP=income",
    ),
    "a hint for Excel": (
        Csv(separator=";", edit=lambda text: f"sep=;\n{text}"),
        "'sep=;', is a hint for Excel. Remove",
    ),
    "infinity": (
        to_parquet(
            lambda frame: frame.assign(
                income=frame["income"].replace(frame.income[0], float("inf"))
            ),
            False,
        ),
        "infinite values. Remove",
    ),
    "one label": (with_cells(outcome=lambda *_: "paid"), "nothing to tell apart. Add"),
    "a label for each row": (
        with_cells(outcome=lambda _, number: f"case {number}"),
        "240 values in 240 rows: too many",
    ),
    "the number of the row as label": (
        with_cells(outcome=lambda _, number: number),
        "numbers the rows, and cannot be predicted",
    ),
    "labels in two spellings": (
        with_cells(outcome=sometimes("Paid", 5)),
        "differ only in case.*Write each in one way",
    ),
    "a label that occurs once": (
        with_cells(outcome=sometimes("pending", 300)),
        "occur once.*Add rows, or remove",
    ),
    "no labels": (with_cells(outcome=lambda *_: ""), "has no values"),
    "the label twice": (
        Csv(
            names=(*NAMES[:4], "result", *NAMES[5:]),
            edit=lambda text: text,
            cells={"notes": lambda _, number: ROWS[number][-1]},
        ),
        "'result' is the label.*DROP=result",
    ),
    "leaked": (
        with_cells(notes=lambda _, number: f"{ROWS[number][-1]} it"),
        "tells the label 'outcome' perfectly.*DROP=notes",
    ),
    "few rows": (Csv(edit=lambda text: "\n".join(text.split("\n")[:12])), "too few"),
    "one column": (Csv(edit=lambda text: text.replace(",", " ")), "has one column"),
    "not text": (Csv(edit=lambda text: text[:200] + "\0" * 50), "no text.*save"),
    "a workbook": (Csv(name="claims.xlsx"), "Save it as .csv"),
    "packed": (Csv(name="claims.csv.gz"), "Unpack it"),
    "an archive": (Csv(name="claims.zip"), "Unpack it"),
    "letters of others": (
        Csv(encoding="cp1251", cells={"city": lambda _, n: ["Москва", "Омск"][n % 2]}),
        "neither in UTF-8 nor in Windows-1252. Save",
    ),
    "one byte of another encoding": (
        to_bytes(lambda content: content.replace(b"fire", b"f\xefre", 1)),
        "in UTF-8, but for line",
    ),
    "packed, whatever it is called": (to_bytes(gzip.compress), "but packed. Unpack"),
    "a workbook, whatever it is called": (
        to_bytes(lambda _: b"PK\3\4\x14\0\6\0"),
        "a workbook or an archive. Save",
    ),
    "Parquet, whatever it is called": (to_bytes(lambda _: b"PAR1\x15"), "Call it .par"),
    "JSON, whatever it is called": (
        to_bytes(lambda _: b'{"age": 1, "outcome": "paid"}\n'),
        "one object per line, and call it .jsonl",
    ),
    "a page of the web": (
        to_bytes(lambda _: b"\n<!DOCTYPE html>\n<p>Sign in, please"),
        "a page of the web.*Save the table itself",
    ),
    "a mark, and a byte of another encoding": (
        to_bytes(lambda content: b"\xef\xbb\xbf" + content.replace(b"f", b"\xe4", 1)),
        "begins as UTF-8 does, but not all.*Save",
    ),
    "half a letter of UTF-16": (
        to_bytes(lambda content: content.decode().encode("utf-16") + b"x"),
        "begins as UTF-16 does, but not all.*Save",
    ),
    "a separator at the end of rows": (
        Csv(edit=lambda text: text.replace("\n", ",\n").replace(",\n", "\n", 1)),
        "rows end in ','.*Add one",
    ),
    "a last line of its own": (
        Csv(edit=lambda text: text + "Source: us\n"),
        "line 242 has 1. Complete the line, or remove it",
    ),
    "the header again": (
        Csv(edit=lambda text: text + text.partition("\n")[0] + "\n"),
        "occur once: outcome",
    ),
    "units of two kinds": (
        with_cells(income=lambda v, n: f"{v} kg" if n % 2 else f"{v} g"),
        "mixes units .*'g', 'kg'.*TEXT=income.*DROP=income",
    ),
    "units now and then": (
        with_cells(age=lambda v, n: f"{v}A" if n % 2 else v),
        "mixes units .*none, 'A'",
    ),
    "minus signs behind": (with_cells(income=sometimes("12-")), "signs behind its num"),
    "all minus signs behind": (
        with_cells(income=lambda value, n: f"{value}-" if n % 3 else value),
        "minus signs behind its numbers.*Write them in front",
    ),
    "numbers without end": (with_cells(income=sometimes("1e400")), "beyond 1e308"),
    "ambiguous points": (
        Csv(separator=";", cells={"income": lambda v, _: f"{v / 1000:.3f}"}),
        "two ways.*DECIMAL=, or DECIMAL=",
    ),
    "values in names of directories": (to_partitions, "values of city in the names"),
    "lines in another encoding": (
        to_bytes(lambda content: b'{"a": "\xe4"}', "claims.jsonl"),
        "line 1 is not UTF-8. Save",
    ),
    "JSON in one piece": (Csv(name="claims.json"), "one object per line"),
    "no such type": (Csv(name="claims.dat"), "known are .csv"),
    "Parquet that is none": (Csv(name="claims.parquet"), "cannot be read"),
}


@pytest.fixture(autouse=True)
def first_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is the first that is adopted; how its code looks does not matter."""
    monkeypatch.setattr("adopt.write.format_code", str)
    monkeypatch.setattr("adopt.__main__.ADOPTED", tmp_path / "none")


def adopt(file: Path, **options: Any) -> pd.DataFrame:
    """Return the rows as the pipeline would read them."""
    chosen = Options(file, "outcome", **options)
    plan = infer(chosen)
    _, module = make_contract(plan, chosen)
    return read_rows(plan, file, module.LabelledInstance)


def values(rows: pd.DataFrame, name: str) -> list[Any]:
    """Return a column as Python's values; texts as the contract folds them."""
    cells = [None if pd.isna(cell) else cell for cell in rows[name]]
    if name == "notes":
        return [cell and cell.lower() for cell in cells]
    return [float(cell) if isinstance(cell, int | float) else cell for cell in cells]


def expected(rows: list[Row], name: str) -> list[Any]:
    place = NAMES.index("outcome" if name == "label" else name)
    return [
        float(row[place]) if isinstance(row[place], int | float) else row[place]
        for row in rows
    ]


@pytest.mark.parametrize("case", ADOPTED)
def test_a_table_has_its_values_however_it_is_written(
    case: str, tmp_path: Path
) -> None:
    rows = make_rows()
    adopted = adopt(ADOPTED[case](tmp_path, rows))

    if case == "a row without a label":
        rows = [row for number, row in enumerate(rows) if number % 1_000 != 3]
    if case == "repeated rows":
        rows = [*rows, *rows]
    if case == "shares with a comma":
        rows = [[*row[:2], row[2] * 10, *row[3:]] for row in rows]
    more = set(adopted) - {"group"} - READ
    assert READ <= set(adopted)
    read = {tuple(values(adopted, name)) for name in more}
    assert read == {
        tuple(cell or None for cell in count_up(place, len(rows)))
        for place in range(len(getattr(ADOPTED[case], "more", ())))
    }
    for name in READ:
        assert values(adopted, name) == expected(rows, name), name


@pytest.mark.parametrize("gap", GAPS)
def test_a_gap_is_a_gap_however_it_is_written(gap: str, tmp_path: Path) -> None:
    rows = make_rows()
    adopted = adopt(with_cells(age=sometimes(gap))(tmp_path, rows))

    for number, age in enumerate(values(adopted, "age")):
        assert age == (None if number % 20 == 3 else rows[number][0])


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_remedy(
    case: str, tmp_path: Path
) -> None:
    write, says = REFUSED[case]

    with pytest.raises(Refusal, match=f"(?s){says}"):
        adopt(write(tmp_path, make_rows()))


def test_what_is_named_is_taken(tmp_path: Path) -> None:
    coded = add_column("claim_id", lambda number: f"C{number * 7:05}")
    file = coded(tmp_path, make_rows())

    assert "claim_id" in adopt(file, text=["claim_id"])
    assert "notes" not in adopt(file, drop=["notes"])
    assert adopt(file, time="filed")["time"].notna().all()
    assert adopt(file, group="city")["group"].nunique() == 3


def test_a_decimal_sign_that_is_named_is_the_one(tmp_path: Path) -> None:
    write, _ = REFUSED["ambiguous thousands"]
    file = write(tmp_path, make_rows())

    assert adopt(file, decimal=".")["income"].min() >= 1_000
    assert adopt(file, decimal=",")["income"].max() < 10


def test_a_file_larger_than_the_memory_is_refused_at_once(tmp_path: Path) -> None:
    file = Csv()(tmp_path, make_rows())
    with file.open("ab") as opened:
        opened.truncate(1 << 42)  # a hole: it takes no room on the disk

    with pytest.raises(Refusal, match="would take about .* of memory.*sample"):
        adopt(file)


def test_more_rows_than_are_read_at_once_are_no_special_case(tmp_path: Path) -> None:
    count = 2 * CHUNK + 1_000  # benchmarks/adoption.py has a million
    draw = random.Random(1)
    file = tmp_path / "many.csv"
    with file.open("w", encoding="utf-8") as text:
        text.write("x,y,outcome\n")
        text.writelines(
            f"{draw.random():.6f},{number % 100},{'ab'[draw.random() < 0.4]}\n"
            for number in range(count)
        )

    assert len(adopt(file)) == count
