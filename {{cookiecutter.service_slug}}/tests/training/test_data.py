"""Your own data: what is accepted, and what is said about what is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    StringConstraints,
    create_model,
)

from app.contract import LabelledInstance
from serving.contract import Contract
from serving.text import normalise
from tests.conftest import write_rows as write_samples
from tests.training.conftest import Compose
from training import __main__ as pipeline
from training import corrections, ingest
from training.rows import read_rows, write_rows
from training.schema import make_schema
from training.stage import PipelineError
from training.tables import read_table, split_frame


class Note(Contract):
    """A row with a text, a label and a group that may be left out."""

    text: Annotated[
        str, Field(min_length=1, max_length=200_000), AfterValidator(normalise)
    ]
    label: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    group: str = ""


class Flat(Contract):
    """A row of a table, some of whose values may be missing."""

    size: Annotated[float, Field(ge=0)] | None
    rooms: int
    floor: int | None = None
    town: Literal["NA", "Bonn"] | None
    lift: bool = False
    place: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    note: str | None = None
    label: float


Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("mine.csv", "…")`: a file with that content."""

    def make(name: str, content: str | bytes) -> Path:
        content = content.encode("utf-8") if isinstance(content, str) else content
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return make


def read(path: Path, contract: type[BaseModel] = Note) -> pd.DataFrame:
    """What the first stage makes of a file or a directory."""
    report = path.with_name("bad-rows.txt")
    return ingest.validate(read_table(path), contract, str(path), report)


def refuse(path: Path, contract: type[BaseModel] = Note) -> str:
    """What the first stage says of a file that it refuses."""
    with pytest.raises(PipelineError) as caught:
        read(path, contract)
    assert str(path) in str(caught.value)
    return str(caught.value)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with None for what is missing."""
    found = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in found]


def to_cell(value: Any) -> Any:
    """A value as a CSV file has it: a list of numbers is JSON."""
    return json.dumps(value.tolist()) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl", ""])
def test_data_of_ones_own_goes_through_the_whole_pipeline(
    configure: Compose, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"mine{suffix}"
    parts = file if suffix else tmp_path
    write_samples(tmp_path / "samples.parquet")
    rows = pd.read_parquet(tmp_path / "samples.parquet")
    if suffix == ".csv":
        rows.map(to_cell).to_csv(file, index=False)
    elif suffix == ".jsonl":
        rows.to_json(file, orient="records", lines=True)
    elif suffix == ".parquet":
        rows.to_parquet(file)
    config = configure("data=csv", f"data.path={parts}", "~gate", "+gate={}")

    pipeline.run(config)

    assert (config.paths.model / "model.onnx").exists()
    assert len(read_rows(config.paths.raw)) == len(rows)


def test_labels_are_the_text_that_they_were(write: Write) -> None:
    labels = ["007", "07", "7", "7.0", "NA", "null", "None", "1e3", "$a$", "True"]
    lines = [f"text {number},{label}" for number, label in enumerate(labels)]

    rows = read(write("mine.csv", "\n".join(["text,label", *lines])))

    assert rows["label"].tolist() == labels


def test_what_a_stage_writes_is_what_the_next_one_reads(
    tmp_path: Path, write: Write
) -> None:
    texts = ["a\rb", "a\nb", "", "NA", "null", " x ", '"', "\x00", "🎉", "007"]
    rows = pd.DataFrame({"text": texts, "label": texts, "group": None})
    rows["group"] = rows["group"].astype("str")
    flats = read(
        write(
            "flats.csv",
            "size,rooms,floor,town,place,note,label\n"
            f',{2**53 + 1},7,NA,"[1, 2.5]",NA,1\n1.5,2,,Bonn,,,2.5\n',
        ),
        Flat,
    )

    write_rows(tmp_path / "notes.parquet", rows)
    write_rows(tmp_path / "flats.parquet", flats)

    assert records(read_rows(tmp_path / "notes.parquet", Note)) == records(rows)
    found = read_rows(tmp_path / "flats.parquet", Flat)
    assert found.dtypes.equals(flats.dtypes)
    assert found["rooms"].tolist() == [2**53 + 1, 2]
    assert found["place"].iloc[0].tolist() == [1, 2.5]


def test_labels_that_are_true_or_false_are_read_as_the_text_they_are_stored_as(
    tmp_path: Path,
) -> None:
    contract = create_model("Row", __base__=Note, label=(bool, ...))
    rows = pd.DataFrame({"text": ["a"], "label": ["true"], "group": [""]})
    write_rows(tmp_path / "rows.parquet", rows)

    assert records(read_rows(tmp_path / "rows.parquet", contract)) == records(rows)


def test_a_stage_refuses_rows_that_are_not_those_of_the_contract(
    tmp_path: Path,
) -> None:
    file = tmp_path / "rows.parquet"
    write_rows(file, pd.DataFrame({"text": ["a"], "label": ["b"]}))
    with pytest.raises(PipelineError, match="has the columns.*make train"):
        read_rows(file, Note)

    write_rows(file, pd.DataFrame({"text": [], "label": [], "group": []}))
    with pytest.raises(PipelineError, match="has no rows.*make train"):
        read_rows(file, Note)

    write_rows(file, pd.DataFrame({"text": [1.5], "label": ["b"], "group": [""]}))
    with pytest.raises(PipelineError, match="numbers in the column text.*make train"):
        read_rows(file, Note)

    flat = {name: ["a"] for name in Flat.model_fields}
    write_rows(file, pd.DataFrame(flat))
    with pytest.raises(PipelineError, match="has text in the column .*make train"):
        read_rows(file, Flat)

    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(PipelineError, match="cannot be read.*make train"):
        read_rows(file, Note)


def test_a_cell_is_a_missing_value_where_the_contract_allows_one(
    write: Write,
) -> None:
    file = write(
        "flats.csv",
        "size,rooms,floor,town,lift,place,note,label\n"
        ',1,,NA,,,,1\nNaN,1,NA,null,yes,NA,NA,2\n3,1,4,Bonn,0,"[1, 2]",null,3\n',
    )

    first, second, third = records(read(file, Flat))

    assert first["size"] is second["size"] is first["floor"] is second["floor"] is None
    assert (first["town"], second["town"]) == ("NA", None)  # the contract has an "NA"
    assert (first["note"], second["note"], third["note"]) == (None, None, "null")
    assert [row["lift"] for row in (first, second, third)] == [False, True, False]
    assert third["place"].tolist() == [1, 2]


def test_a_missing_value_that_the_contract_needs_is_a_mistake(write: Write) -> None:
    file = write("flats.csv", "size,rooms,town,label\n1,,Bonn,1\n1,1,Bonn,NA\n")

    said = refuse(file, Flat)

    assert "flats.csv, line 2, column rooms: The value is missing" in said
    assert "flats.csv, line 3, column label: Input should be a valid number" in said


def test_a_column_of_nulls_takes_the_default(tmp_path: Path) -> None:
    file = tmp_path / "mine.parquet"
    rows = pd.DataFrame({"text": ["a", "b"], "label": [1, 2], "group": [None, None]})
    rows.to_parquet(file)

    assert read(file)["group"].tolist() == ["", ""]
    assert read(file)["label"].tolist() == ["1", "2"]


def test_fractions_are_refused_as_labels_of_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.parquet"
    pd.DataFrame({"text": ["a"], "label": [7.5]}).to_parquet(file)

    assert "row 1, column label: Input should be a valid string" in refuse(file)


@pytest.mark.parametrize(
    ("content", "accepted"),
    [
        (b'\xef\xbb\xbftext,label\r\n"hello, you", billing \r\n', "hello, you"),
        (b'text,label\n"a\rb\nc",billing\n', "a b c"),
        (f"text,label\n{'x' * 150_000},billing\n".encode(), "x" * 150_000),
        (b'text,label\n"say ""hi""",billing', 'say "hi"'),
    ],
)
def test_a_csv_file_may_be_written_in_several_ways(
    write: Write, content: bytes, accepted: str
) -> None:
    assert records(read(write("mine.CSV", content))) == [
        {"text": accepted, "label": "billing", "group": ""}
    ]


def test_a_directory_of_parts_is_one_table(tmp_path: Path) -> None:
    directory = tmp_path / "mine.parquet"
    directory.mkdir()
    for number, text in enumerate(["a", "b", ""]):
        part = pd.DataFrame({"text": [text], "label": ["x"]})
        part.to_parquet(directory / f"part-{number}.parquet")
    (directory / "_SUCCESS").touch()

    said = refuse(directory)
    (directory / "part-2.parquet").unlink()

    assert "part-2.parquet, row 1, column text: String should have at" in said
    assert read(directory)["text"].tolist() == ["a", "b"]


def test_an_index_that_pandas_has_kept_is_no_column(tmp_path: Path) -> None:
    file = tmp_path / "mine.parquet"
    rows = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    rows[rows["label"] == "y"].to_parquet(file)

    assert read(file)["text"].tolist() == ["b"]


def test_json_lines_are_named_by_their_line(write: Write) -> None:
    good = json.dumps({"text": "a", "label": 7})
    file = write("mine.jsonl", good + '\n\n{"text": "", "label": "x"}\n')

    assert "line 3, column text: String should have at least 1" in refuse(file)


def test_every_bad_row_is_in_one_report(write: Write) -> None:
    file = write("mine.csv", f"text,label\nfine,a\n,b\n{'x' * 200_001},\n")

    said = refuse(file)

    assert f"{file}, line 3, column text: String should have at least 1" in said
    assert f"{file}, line 4, column text: String should have at most 200000" in said
    assert f"{file}, line 4, column label: String should have at least 1" in said
    assert "line 2" not in said


def test_a_line_is_counted_as_an_editor_counts_it(write: Write) -> None:
    file = write("mine.csv", 'text,label\n"two\nlines",a\n\n"two\nmore",\n')

    assert "mine.csv, line 5, column label" in refuse(file)


def test_a_long_list_of_bad_rows_goes_to_a_file(write: Write, tmp_path: Path) -> None:
    file = write("mine.csv", "text,label\n" + ",a\n" * 50)

    assert "30 more: " in refuse(file)
    report = (tmp_path / "bad-rows.txt").read_text(encoding="utf-8")
    assert len(report.splitlines()) == 50


def test_a_frame_of_a_custom_source_is_validated_like_a_file(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["A  b", ""], "label": ["x", "y"]}, index=[7, 9])

    with pytest.raises(PipelineError, match="mine, row 2, column text"):
        ingest.validate(split_frame(frame, "mine"), Note, "mine", tmp_path / "bad")


def test_a_file_of_corrections_without_rows_adds_none(tmp_path: Path) -> None:
    file = tmp_path / "feedback.parquet"
    pd.DataFrame(columns=[*LabelledInstance.model_fields]).to_parquet(file)

    (added,) = corrections.join([], file)

    assert len(added.places) == 0


def test_bad_rows_leave_the_earlier_data_as_it_was(
    configure: Compose, tmp_path: Path
) -> None:
    write_samples(tmp_path / "good.parquet")
    bad = pd.read_parquet(tmp_path / "good.parquet").assign(label=None)
    bad.to_parquet(tmp_path / "bad.parquet")
    good = configure("data=csv", f"data.path={tmp_path / 'good.parquet'}")
    ingest.run(good)
    before = good.paths.raw.read_bytes()

    with pytest.raises(PipelineError, match="row 1, column label: The value is mis"):
        ingest.run(configure("data=csv", f"data.path={tmp_path / 'bad.parquet'}"))

    assert good.paths.raw.read_bytes() == before


def test_rows_per_label_are_drawn_from_all_of_them(
    configure: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "read_schema", lambda: make_schema(Text, Note))
    rows = pd.DataFrame(
        {"text": [f"t{n}" for n in range(60)], "label": ["a", "b"] * 30}
    )
    rows.to_parquet(tmp_path / "mine.parquet")
    config = configure(
        "data=csv", f"data.path={tmp_path / 'mine.parquet'}", "rows_per_label=10"
    )

    ingest.run(config)

    found = read_rows(config.paths.raw, Note)
    assert found["label"].value_counts().to_dict() == {"a": 10, "b": 10}
    assert found["text"].tolist() != [f"t{n}" for n in range(20)]


class Text(Contract):
    """The input of a row of Note."""

    text: str


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.csv", None, "does not exist"),
        ("mine.txt", b"text,label\na,b\n", "known are .csv, .parquet, .jsonl"),
        ("mine.tsv", b"text\tlabel\na\tb\n", "with commas between the columns"),
        ("mine.json", b"[]", "one object per line"),
        ("mine.csv", b"", "missing: ['text', 'label']"),
        ("mine.csv", b"text,label\nhello, you,b\n", "has 2 columns, but line 2 has 3"),
        ("mine.csv", b"text,label\n", "has no rows"),
        ("mine.csv", b"text,label\na,b\n\xff\xfe,b\n", "line 3 is not UTF-8. Save"),
        ("mine.csv", b"Text;Label\na, b;c\n", "'Text;Label', has ';' in place of co"),
        ("mine.csv", b'"text";"label"\n"a";"c"\n', "commas between the columns"),
        ("mine.csv", b'text;label\n"a, b";c\n', "commas between the columns"),
        ("mine.csv", b"text\tlabel\na\tb\n", "commas between the columns"),
        ("mine.csv", b"sentence,label\na,b\n", "missing: ['text']; not in the contr"),
        ("mine.csv", b"text,label,label\na,b,c\n", "of one name: ['label']"),
        ("mine.csv", b",text,label\n0,a,b\n", "write the file with index=False"),
        ("mine.csv", b"Unnamed: 0,text,label\n0,a,b\n", "with index=False"),
        ("mine.csv", b"text, label\na,b\n", "not in the contract: [' label']"),
        (
            "mine.csv",
            b'text,label\na,b\n"c,d\ne,f\n',
            "begins in line 3 is no CSV: a q",
        ),
        ("mine.csv", b'text,label\na,b\n"c"x,d\n', "begins in line 3 is no CSV"),
        ("mine.parquet", b"text,label\na,b\n", "cannot be read"),
        ("mine.jsonl", b'{"text": "a", "label": "b"}\n{\n', "line 2 is no JSON"),
        ("mine.jsonl", b"[1]\n", "line 1 is no object"),
        ("mine.jsonl", b'{"text": "a", "text": "b"}\n', "line 1 has a name twice"),
        ("mine.jsonl", b'{"text": "a"}\n{"text": 0.5}\n', "line 2, column 'text': 0.5"),
        (
            "mine.jsonl",
            b'{"text": "\\ud800", "label": "b"}\n',
            "line 1, column 'text': ",
        ),
    ],
)
def test_an_unusable_file_is_named_with_the_reason(
    write: Write, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    file = tmp_path / name if content is None else write(name, content)

    assert says in refuse(file)


def test_a_directory_without_a_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").mkdir()

    assert "has no .parquet files" in refuse(tmp_path / "mine.parquet")
