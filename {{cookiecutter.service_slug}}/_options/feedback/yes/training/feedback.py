"""`make feedback`: export what the team accepted, for training.

The rows go to data/source/feedback.parquet, which DVC versions. The same instance twice
is one row; instances whose truths contradict each other are left out and listed, and so
is what no longer fits the contract. Training reads the file that `corrections` in
training/conf/config.yaml names.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from feedback.database import describe, opened
from feedback.items import contract_version, read_stored
from feedback.settings import FeedbackSettings
from feedback.store import Reviewed, read
from serving.contract import Task
from serving.fields import as_text, dump_fields, read_types
from serving.model import Model, ModelError
from serving.settings import SettingsError, load_settings
from training.schema import LABEL, TIME, Schema, read_schema

FILE = Path("data/source/feedback.parquet")
ACCEPTED = {"accepted", "relabelled"}
SHOWN = 20


@dataclass
class Export:
    """The rows for training, and what was left out and why."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    repeated: int = 0
    contradictions: list[str] = field(default_factory=list)
    unfit: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield what to tell, one fact a line."""
        yield f"{len(self.rows)} rows; {self.repeated} repeated another"
        for name, found in (
            ("contradict each other: review them again", self.contradictions),
            ("do not fit the contract and were left out", self.unfit),
        ):
            if found:
                yield f"{len(found)} {name}:"
                yield from (f"  {line}" for line in found[:SHOWN])
            if len(found) > SHOWN:
                yield f"  … and {len(found) - SHOWN} more"


def truth_of(item: Reviewed) -> str | float | None:
    """Return the truth of an item: the reviewer's, the client's, or the prediction."""
    feedback, review = item
    if review is not None and review.decision == "relabelled":
        return review.label if review.label is not None else review.value
    for truth in (feedback.label, feedback.value):
        if truth is not None:
            return truth
    if not feedback.correct:
        return None
    label, value = feedback.predicted_label, feedback.predicted_value
    return label if label is not None else value


def export(schema: Schema, items: Iterable[Reviewed]) -> Export:
    """Return the rows of accepted items, deduplicated."""
    found = Export()
    version = contract_version(schema.instance, schema.labelled)
    known: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        row, reason = make_row(schema, item)
        if row is None:
            was = item.feedback.contract_version
            age = "" if was == version else f" (contract {was}, now {version})"
            found.unfit.append(f"{item.feedback.id}{age}: {reason}")
            continue
        inputs = {one.name: row[one.name] for one in schema.fields}
        same = json.dumps(inputs, sort_keys=True, default=str)
        known.setdefault(same, []).append(row)
    for rows in known.values():
        truths = {row[LABEL] for row in rows}
        if len(truths) > 1 and schema.task is Task.CLASSIFICATION:
            ids = ", ".join(f"{row['feedback_id']} {row[LABEL]!r}" for row in rows)
            found.contradictions.append(ids)
            continue
        unique = {row[LABEL]: row for row in rows}
        found.rows += unique.values()
        found.repeated += len(rows) - len(unique)
    return found


def make_row(schema: Schema, item: Reviewed) -> tuple[dict[str, Any] | None, str]:
    """Return a row of training data, or None and the reason."""
    feedback = item.feedback
    truth = truth_of(item)
    if feedback.instance is None:
        return None, "its instance was not stored (FEEDBACK_INSTANCES=off)"
    if truth is None:
        return None, "it says that the prediction is wrong, not what is right"
    row = {**feedback.instance, LABEL: read_stored(truth, schema.labelled)}
    if schema.has_time:
        row[TIME] = write_time(feedback.occurred_at, schema)
    try:
        (valid,) = TypeAdapter(list[schema.labelled]).validate_json(  # type: ignore
            json.dumps([row]), strict=False
        )
    except ValidationError as error:
        mistake = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, mistake["loc"][1:]))
        return None, f"{place}: {mistake['msg']}"
    dumped = dump_fields(valid)
    names = dict.fromkeys([*row, *(one.name for one in schema.fields)])
    beside = {
        "feedback_id": str(feedback.id),
        "tenant": feedback.tenant,
        "received_at": feedback.received_at,
    }
    # A field of the contract may have one of these names.
    return beside | {name: dumped[name] for name in names}, ""


def write_time(when: datetime, schema: Schema) -> str | float:
    """Return a time as the column `time` has it: numbers are seconds since 1970."""
    (kind,) = {
        one.get("format", one["type"]) for one in read_types(schema.labelled)[TIME]
    } - {"null"}
    match kind:
        case "number":
            return when.timestamp()
        case "integer":
            return int(when.timestamp())
        case "date":
            return when.date().isoformat()
        case "time":
            return when.timetz().isoformat()
    return when.isoformat()


def write(rows: list[dict[str, Any]], file: Path) -> None:
    """Write the rows, whole or not at all; no file without rows."""
    if not rows:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    # As objects: pandas would make floats of integers with gaps.
    pd.DataFrame(rows, dtype=object).to_parquet(part, index=False)
    part.replace(file)


def show_tenants() -> Iterator[str]:
    """Yield for each tenant how often the trained model agrees with its truths."""
    schema = read_schema()
    model = Model.load(Path("models"), schema.instance)
    rows = pd.read_parquet(FILE, dtype_backend="numpy_nullable")
    for tenant, part in rows.groupby("tenant"):
        fields = [one.name for one in schema.fields]
        records = json.loads(part[fields].to_json(orient="records"))
        instances = [
            schema.instance.model_validate_json(json.dumps(record))
            for record in records
        ]
        answers = model.answer(instances)
        yield f"{str(tenant) or '(no key)'}: {measure(schema, part, answers)}"


def measure(schema: Schema, rows: pd.DataFrame, answers: Iterable[Any]) -> str:
    """Return how good answers are, in words."""
    truths = rows[LABEL].tolist()
    if schema.task is Task.REGRESSION:
        errors = [abs(x.value - y) for x, y in zip(answers, truths, strict=True)]
        return f"mean error {sum(errors) / len(errors):.3g} of {len(errors)} rows"
    right = [x.label == as_text(y) for x, y in zip(answers, truths, strict=True)]
    return f"{sum(right)} of {len(right)} right"


def main(words: list[str]) -> int:
    """Export, or show the slices by tenant; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.feedback")
    parser.add_argument(
        "verb", nargs="?", default="export", choices=["export", "tenants"]
    )
    if parser.parse_args(words).verb == "tenants":
        try:
            print("\n".join(show_tenants()) if FILE.exists() else f"No {FILE} yet.")
        except ModelError as error:
            print(f"There is no model to compare with: {error}")
        return 0
    try:
        settings = load_settings(FeedbackSettings)
        with opened(settings) as engine, Session(engine) as session:
            found = export(read_schema(), read(session, {*ACCEPTED}))
    except (SettingsError, SQLAlchemyError) as error:
        print(f"Nothing was exported. {describe(error)}", file=sys.stderr)
        return 1
    write(found.rows, FILE)
    print("\n".join(found.lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
