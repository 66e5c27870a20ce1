"""Your own data: what is accepted, and what is said about what is not."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from app.contract import MAX_TEXT_LENGTH, Instance
from serving.contract import Contract
from tests.training.conftest import Compose
from training import __main__ as pipeline
from training import ingest
from training.files import read_rows
from training.stage import PipelineError


def rows(labels: int = 3, each: int = 30) -> pd.DataFrame:
    """Sentences that are easy to tell apart."""
    return pd.DataFrame(
        {
            "text": [f"word{n % labels} number {n}" for n in range(labels * each)],
            "label": [f"label{n % labels}" for n in range(labels * each)],
        }
    )


def ingest_file(configure: Compose, path: Path) -> pd.DataFrame:
    """What the pipeline makes of a file."""
    config = configure("data=csv", f"data.path={path}")
    ingest.run(config)
    return read_rows(config.paths.raw)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_of_ones_own_goes_through_the_whole_pipeline(
    configure: Compose, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"mine{suffix}"
    if suffix == ".csv":
        rows().to_csv(file, index=False)
    else:
        rows().to_parquet(file)
    config = configure("data=csv", f"data.path={file}")

    pipeline.run(config)

    assert (config.paths.model / "model.onnx").exists()


class Roomy(Instance):
    """An instance with a second field."""

    room: str = ""


class Numeric(Contract):
    """An instance that is no text."""

    text: float


class Renamed(Contract):
    """An instance whose text has another name."""

    sentence: str


@pytest.mark.parametrize(
    ("contract", "fields"),
    [(Roomy, "text, room"), (Numeric, "text"), (Renamed, "sentence")],
)
def test_fields_that_no_stage_would_read_are_said_before_anything_is_read(
    configure: Compose, monkeypatch: pytest.MonkeyPatch, contract: Any, fields: str
) -> None:
    monkeypatch.setattr(ingest, "Instance", contract)
    config = configure()

    with pytest.raises(PipelineError, match="models.py.*export.py in") as caught:
        pipeline.run(config)

    assert f"has the field(s) {fields}; " in str(caught.value)
    assert "read only text: str" in str(caught.value)
    assert not config.paths.raw.exists()


def test_words_that_look_like_missing_values_are_words(
    configure: Compose, tmp_path: Path
) -> None:
    (tmp_path / "mine.csv").write_text("text,label\nnull,NA\nnan,None\n")

    frame = ingest_file(configure, tmp_path / "mine.csv")

    assert frame["text"].tolist() == ["null", "nan"]
    assert frame["label"].tolist() == ["NA", "None"]


def test_quotes_byte_order_mark_and_space_around_labels_are_understood(
    configure: Compose, tmp_path: Path
) -> None:
    file = tmp_path / "mine.csv"
    file.write_bytes(b'\xef\xbb\xbftext,label\r\n"hello, you", billing \r\n')

    frame = ingest_file(configure, file)

    assert frame.to_dict("records") == [
        {"text": "hello, you", "label": "billing", "template": ""}
    ]


def test_a_text_of_white_space_is_a_bad_row(configure: Compose, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("text,label\n   ,a\n")

    with pytest.raises(PipelineError, match="column text: .*more than white space"):
        ingest_file(configure, tmp_path / "mine.csv")


def test_rows_per_label_are_drawn_from_all_of_them(
    configure: Compose, tmp_path: Path
) -> None:
    rows().to_csv(tmp_path / "mine.csv", index=False)
    config = configure(
        "data=csv", f"data.path={tmp_path / 'mine.csv'}", "rows_per_label=10"
    )

    ingest.run(config)

    frame = read_rows(config.paths.raw)
    assert frame["label"].value_counts().to_dict() == dict.fromkeys(
        ["label0", "label1", "label2"], 10
    )


def test_every_bad_row_is_in_one_report(configure: Compose, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    too_long = "x" * (MAX_TEXT_LENGTH + 1)
    file.write_text(f"text,label\nfine,a\n,b\n{too_long},\n", encoding="utf-8")

    with pytest.raises(PipelineError) as caught:
        ingest_file(configure, file)

    message = str(caught.value)
    assert f"{file}, line 3, column text: String should have at least 1" in message
    assert (
        f"{file}, line 4, column text: String should have at most {MAX_TEXT_LENGTH}"
        in message
    )
    assert f"{file}, line 4, column label: String should have at least 1" in message
    assert "line 2" not in message


def test_a_line_is_counted_as_an_editor_counts_it(
    configure: Compose, tmp_path: Path
) -> None:
    file = tmp_path / "mine.csv"
    file.write_text('text,label\n"two\nlines",a\n\n"two\nmore",\n', encoding="utf-8")

    with pytest.raises(PipelineError, match="mine.csv, line 5, column label"):
        ingest_file(configure, file)


def test_a_missing_value_in_parquet_is_a_bad_row(
    configure: Compose, tmp_path: Path
) -> None:
    file = tmp_path / "mine.parquet"
    pd.DataFrame({"text": ["fine", None], "label": ["a", "b"]}).to_parquet(file)

    with pytest.raises(PipelineError, match="row 2, column text: .*valid string"):
        ingest_file(configure, file)


def test_a_long_list_of_bad_rows_goes_to_a_file(
    configure: Compose, tmp_path: Path
) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("text,label\n" + ",a\n" * 50, encoding="utf-8")

    with pytest.raises(PipelineError, match="30 more: .*bad-rows.txt lists all"):
        ingest_file(configure, file)

    report = configure().paths.bad_rows.read_text(encoding="utf-8")
    assert len(report.splitlines()) == 50


def test_bad_rows_leave_the_earlier_data_as_it_was(
    configure: Compose, tmp_path: Path
) -> None:
    (tmp_path / "good.csv").write_text("text,label\nfine,a\n")
    (tmp_path / "bad.csv").write_text("text,label\n,a\n")
    before = ingest_file(configure, tmp_path / "good.csv")

    with pytest.raises(PipelineError):
        ingest_file(configure, tmp_path / "bad.csv")

    assert read_rows(configure().paths.raw).equals(before)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.csv", None, "does not exist"),
        ("mine.txt", b"text,label\na,b\n", "neither a .csv nor a .parquet"),
        ("mine.csv", b"", "missing: label, text"),
        (
            "mine.csv",
            b"text,label\nhello, you,b\n",
            "columns, but line 2 of the file",
        ),
        ("mine.csv", b"text,label\n", "has no rows"),
        ("mine.csv", b"text,label\na,b\nc,d,e,f\n", "cannot be read"),
        (
            "mine.csv",
            b"text,label\n\xff\xfe,b\n",
            "cannot be read: .* save it as UTF-8",
        ),
        ("mine.csv", b"Text;Label\na, b;c\n", "'Text;Label'.* commas between the col"),
        ("mine.csv", b"text\tlabel\na\tb\n", "commas between the columns"),
        ("mine.csv", b"sentence,label\na,b\n", "missing: text; not in .*: sentence"),
        ("mine.parquet", b"text,label\na,b\n", "cannot be read"),
    ],
)
def test_an_unusable_file_is_named_with_the_reason(
    configure: Compose, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)

    with pytest.raises(PipelineError, match=says) as caught:
        ingest_file(configure, tmp_path / name)

    assert str(tmp_path / name) in str(caught.value)
