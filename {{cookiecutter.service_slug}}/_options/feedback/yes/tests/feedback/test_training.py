"""From feedback to training data: reviews, the export, and the join with the source."""

import csv
import json
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow as pa
import pytest
from pydantic import Field, create_model
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.contract import LabelledInstance
from app.examples import EXAMPLES
from feedback import __main__ as verbs
from feedback import store
from feedback.items import truth_name
from serving.contract import Contract, Task
from serving.fields import as_text, read_label
from serving.model import Answer, Model
from tests.conftest import compose_config, make_label, overrides, write_rows
from tests.feedback.test_database import make_row
from training import corrections, feedback, ingest, promote, review
from training.schema import LABEL, make_schema, read_schema
from training.stage import PipelineError, compose
from training.tables import Chunk

TRUTH = truth_name(LabelledInstance)
Keep = Callable[..., str]


def truth(number: int) -> Any:
    """Return the truth of a number, as the database has it."""
    made = make_label(read_label(LabelledInstance), number)
    return float(made) if TRUTH == "value" else as_text(made)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a database of the test's own: SQLite is enough here."""
    address = f"sqlite:///{tmp_path}/feedback.db"
    monkeypatch.setenv("DATABASE_URL", address)
    monkeypatch.setattr(feedback, "FILE", tmp_path / "feedback.parquet")
    monkeypatch.setattr(verbs, "EXPORTED", tmp_path / "feedback.parquet")
    return address


@pytest.fixture
def keep(engine: Engine) -> Keep:
    """`keep(0, number=1, decision="accepted")`: stores an item; returns its id."""

    def add(
        sample: int, number: int = 0, decision: str | None = None, **changed: Any
    ) -> str:
        label, value = (truth(number), None)[:: 1 if TRUTH == "label" else -1]
        row = {
            **make_row(),
            "instance": EXAMPLES[sample],
            "label": label,
            "value": value,
            **changed,
        }
        store.save(engine, [row])
        if decision:
            with Session(engine) as session, session.begin():
                (item,) = [
                    x for x, _ in store.read(session, {None}) if x.id == row["id"]
                ]
                store.decide(session, item, decision, "ada")  # type: ignore[arg-type]
        return str(row["id"])

    return add


def exported() -> pd.DataFrame:
    """Export, and return the rows."""
    assert feedback.main([]) == 0
    return pd.read_parquet(feedback.FILE)


def test_only_what_was_accepted_is_exported_once(
    keep: Keep, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(0, 1, "accepted")
    keep(0, 1, "accepted")
    keep(1, 1, "rejected")
    keep(2, 1)

    rows = exported()

    assert len(rows) == 1
    assert "1 rows; 1 repeated another" in capsys.readouterr().out
    assert {LABEL, "tenant", "feedback_id", *EXAMPLES[0]} <= set(rows)


def test_truths_that_contradict_each_other_are_left_out_and_listed(
    keep: Keep, capsys: pytest.CaptureFixture[str]
) -> None:
    if read_schema().task is Task.REGRESSION:
        pytest.skip("two numbers for one instance are two observations")
    first, other = keep(0, 0, "accepted"), keep(0, 1, "accepted")
    keep(1, 1, "accepted")

    assert len(exported()) == 1

    said = capsys.readouterr().out
    assert "1 contradict each other" in said and first in said and other in said


def test_what_does_not_fit_the_contract_is_left_out_and_listed(
    keep: Keep, capsys: pytest.CaptureFixture[str]
) -> None:
    old = keep(0, 1, "accepted", instance={"gone": 1}, contract_version="1" * 12)
    counted = keep(0, 1, "accepted", instance=None)

    assert feedback.main([]) == 0

    said = capsys.readouterr().out
    assert f"{old} (contract 111111111111, now " in said
    assert counted in said and "FEEDBACK_INSTANCES=off" in said
    assert not feedback.FILE.exists()


def test_deletion_takes_rows_out_of_the_export(keep: Keep) -> None:
    keep(0, 1, "accepted")
    keep(1, 1, "accepted", tenant="beta")
    assert len(exported()) == 2

    assert verbs.main(["forget", "--tenant", "acme"]) == 0

    assert list(pd.read_parquet(feedback.FILE)["tenant"]) == ["beta"]


@pytest.mark.parametrize("days", ["-1", "nan", "1e9", "week"])
def test_an_age_that_is_no_number_of_days_deletes_nothing(
    days: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        verbs.main(["forget", "--days", days])

    assert f"{days!r} is no number of days" in capsys.readouterr().err


def test_disagreements_come_first_and_then_low_scores(
    keep: Keep, engine: Engine
) -> None:
    said = {TRUTH: truth(0), f"predicted_{TRUTH}": truth(0)}
    empty = {} if TRUTH == "label" else {"predicted_label": None}
    agreed = keep(0, 0, score=0.1, **said, **empty)
    wrong = {"correct": False, "label": None, "value": None}
    sure = keep(0, 0, score=0.9, **wrong)
    # The label "wrong" is not what the client says of it.
    unsure = keep(0, 0, score=0.2, **wrong, predicted_label="wrong")

    with Session(engine) as session:
        found = [str(item.id) for item in review.waiting(session)]

    assert found == [unsure, sure, agreed]


def test_a_review_by_file_takes_all_decisions_or_none(
    keep: Keep, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        keep(number, 0)
    file = tmp_path / "review.csv"
    assert review.main(["--out", str(file)]) == 0
    rows = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    assert json.loads(rows[0]["instance"]) in EXAMPLES

    def answer(*decisions: tuple[str, str]) -> int:
        with file.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.DictWriter(opened, review.COLUMNS)
            writer.writeheader()
            for row, (decision, given) in zip(rows, decisions, strict=False):
                writer.writerow({**row, "decision": decision, "truth": given})
        return review.main(["--in", str(file), "--reviewer", "ada"])

    assert answer(("accepted", ""), ("maybe", "")) == 1
    assert "line 3: The decision is 'maybe'" in capsys.readouterr().err
    assert answer(("accepted", ""), ("relabelled", "")) == 1
    with Session(engine) as session:
        assert len(review.waiting(session)) == 3
    assert answer(("accepted", ""), ("relabelled", str(truth(1))), ("", "")) == 0
    with Session(engine) as session:
        assert len(review.waiting(session)) == 1
        (item,) = store.read(session, {"relabelled"})
        assert feedback.truth_of(item) == truth(1)
    assert answer(("accepted", "")) == 1, "it was decided before"


def test_a_review_in_another_encoding_is_refused(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "review.csv"
    file.write_bytes("id,tenant,decision,truth\n1,Köln,,\n".encode("cp1252"))

    assert review.main(["--in", str(file)]) == 1

    assert "not in UTF-8: save it as CSV" in capsys.readouterr().err


def test_a_review_in_the_terminal(
    keep: Keep, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        keep(number, 0)
    typed = iter(["a", "r", f"= {truth(1)}", "s", "q"])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))

    assert review.main(["--reviewer", "ada"]) == 0

    with Session(engine) as session:
        decisions = {"accepted", "rejected", "relabelled"}
        found = [one.decision for _, one in store.read(session, {*decisions}) if one]
        assert set(found) == decisions
        assert len(review.waiting(session)) == 2


def make_chunk(*rows: dict[str, Any]) -> Chunk:
    """Return rows of a source."""
    names = list(rows[0])
    columns = {name: pa.array([row[name] for row in rows]) for name in names}
    return Chunk("source", "row", range(1, len(rows) + 1), columns)


def labelled(sample: int, number: int, group: str) -> dict[str, Any]:
    """Return a labelled sample with a group, where the contract has groups."""
    label = make_label(read_label(LabelledInstance), number)
    row = {**EXAMPLES[sample], LABEL: label}
    return row | ({"group": group} if read_schema().has_group else {})


def test_a_correction_replaces_its_original_and_takes_its_group(keep: Keep) -> None:
    keep(0, 1, "accepted")
    keep(2, 1, "accepted")
    exported()
    source = make_chunk(labelled(0, 0, "a"), labelled(1, 0, "b"), labelled(0, 0, "c"))

    others, added = corrections.join([source], feedback.FILE)

    assert list(others.places) == [2]
    assert len(added.places) == 2
    if read_schema().has_group:
        groups = added.columns["group"].to_pylist()
        assert groups[0] == "a" and groups[1] not in {"", "a", "b"}


def test_the_export_is_joined_to_whatever_data_is_chosen(
    keep: Keep, tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.parquet")
    chosen = overrides(tmp_path / "rows.parquet")
    config = compose_config(tmp_path, *chosen, f"corrections={feedback.FILE}")
    ingest.run(config)
    before = pd.read_parquet(config.paths.raw)
    keep(0, 1, "accepted")
    exported()

    ingest.run(config)

    after = pd.read_parquet(config.paths.raw)
    assert {*after.columns} == {*before.columns}
    added = after.iloc[-1][[*EXAMPLES[0], LABEL]].astype(str)
    assert [*added] == [*map(str, [*EXAMPLES[0].values(), truth(1)])]


def test_test_rows_of_ones_own_and_corrections_exclude_each_other(
    keep: Keep, tmp_path: Path
) -> None:
    write_rows(tmp_path / "rows.parquet")
    chosen = [*overrides(tmp_path / "rows.parquet"), f"corrections={feedback.FILE}"]
    chosen.append(f"+data.test_path={tmp_path / 'rows.parquet'}")
    keep(0, 1, "accepted")
    exported()

    with pytest.raises(PipelineError, match="data.test_path.*corrections=null"):
        ingest.run(compose_config(tmp_path, *chosen))


def test_corrections_are_read_with_their_tenants(keep: Keep, tmp_path: Path) -> None:
    keep(0, 1, "accepted")
    keep(1, 1, "accepted", tenant="beta")
    exported()
    config = compose_config(tmp_path, f"corrections={feedback.FILE}")
    schema, found = read_schema(), promote.read_corrections(read_schema(), config)

    assert found and found.tenants is not None
    assert sorted(found.tenants) == ["acme", "beta"]
    others = make_chunk(labelled(2, 0, "a"))
    rows = ingest.validate([others], schema.labelled, "", tmp_path / "bad")
    rows = pd.concat([found.rows, rows], ignore_index=True)
    tenants = corrections.read_tenants(schema, rows, feedback.FILE)
    assert [*tenants] == [*found.tenants, ""]


class Colour(Enum):
    """Choices with values."""

    RED = "red"


class Given(Contract):
    """An instance with the names of what an export says beside the contract."""

    tenant: Literal["north", "south"]
    feedback_id: Colour
    stars: Literal[1, 2] | None


class Labelled(Given):
    """A row of training data."""

    label: Literal[1, 2]


def test_fields_may_have_the_names_of_the_columns_beside_them(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = make_schema(Given, Labelled)
    monkeypatch.setattr(feedback, "read_schema", lambda: schema)
    instance = {"tenant": "north", "feedback_id": "red", "stars": 1}
    for stars in (1, None):
        row = {"instance": {**instance, "stars": stars}, "label": "2", "value": None}
        keep(0, 0, "accepted", **row)

    rows = exported()

    assert [*rows["tenant"]] == ["north", "north"]
    columns = corrections.Replacements(schema, feedback.FILE).as_chunk().columns
    assert columns["stars"].to_pylist() == [1, None]
    assert columns["label"].to_pylist() == [2, 2]
    model = SimpleNamespace(answer=lambda rows: [Answer("2") for _ in rows])
    monkeypatch.setattr(Model, "load", lambda *_: model)
    assert [*feedback.show_tenants()] == ["north: 2 of 2 right"]


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        (float, 1772359200.5),
        (float | None, 1772359200.5),
        (Annotated[float, Field(gt=0)] | None, 1772359200.5),
        (int | None, 1772359200),
        (date, "2026-03-01"),
        (time | None, "10:00:00.500000Z"),
        (datetime | None, "2026-03-01T10:00:00.500000Z"),
    ],
)
def test_the_time_of_an_item_is_written_as_the_contract_has_it(
    keep: Keep, engine: Engine, kind: Any, written: Any
) -> None:
    row = {"instance": {"note": "a"}, "label": "b", "value": None}
    when = datetime(2026, 3, 1, 10, 0, 0, 500000, UTC)
    keep(0, 0, "accepted", **row, occurred_at=when)
    given = create_model("Note", __base__=Contract, note=str)
    labelled_note = create_model("Row", __base__=given, label=str, time=kind)

    with Session(engine) as session:
        found = feedback.export(
            make_schema(given, labelled_note), store.read(session, {"accepted"})
        )

    assert [one["time"] for one in found.rows] == [written], found.unfit


def test_an_export_of_an_older_contract_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "feedback.parquet"
    pd.DataFrame([{"feedback_id": str(uuid.uuid4()), LABEL: truth(0)}]).to_parquet(file)

    with pytest.raises(PipelineError, match="make feedback"):
        list(corrections.join([make_chunk(labelled(0, 0, "a"))], file))


def test_training_reads_what_is_exported() -> None:
    assert compose().corrections == Path("data/source/feedback.parquet")
