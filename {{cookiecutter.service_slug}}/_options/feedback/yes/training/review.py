"""`make review`: decide what of the feedback is true, in the terminal or by file.

Items on which client and model differ come first; of these, the lowest scores. By file,
`OUT=file.csv` writes a CSV file whose column `decision` takes accepted, rejected or
relabelled (with `truth`), and `IN=file.csv` reads it.
"""

import argparse
import csv
import getpass
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast, get_args
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from feedback.database import describe, opened
from feedback.items import read_stored, truth_type
from feedback.settings import FeedbackSettings
from feedback.store import Decision, decide, read
from feedback.tables import Feedback
from serving.contract import Task
from serving.fields import as_text
from serving.settings import SettingsError, load_settings
from training.schema import read_schema

COLUMNS = [
    *("id", "tenant", "instance", "predicted", "score", "said", "comment"),
    *("decision", "truth"),
]
KEYS: dict[str, Decision] = {"a": "accepted", "r": "rejected"}


class ReviewError(Exception):
    """A decision cannot be used; the message says why."""


def said(item: Feedback) -> str | float | None:
    """Return what the client says."""
    if item.correct is not None:
        return "right" if item.correct else "wrong"
    return item.label if item.label is not None else item.value


def predicted(item: Feedback) -> str | float | None:
    """Return what the model said."""
    return (
        item.predicted_value if item.predicted_label is None else item.predicted_label
    )


def waiting(session: Session) -> list[Feedback]:
    """Return what waits for a review: disagreements first, of these low scores."""

    def rank(item: Feedback) -> tuple[bool, float]:
        agrees = item.correct
        if agrees is None:
            agrees = said(item) == predicted(item)
        return agrees, 1.0 if item.score is None else item.score

    return sorted((item for item, _ in read(session, {None})), key=rank)


def read_truth(text: str) -> str | float:
    """Return a truth that was typed. Raises ReviewError if the contract has none."""
    schema = read_schema()
    given = float(text) if schema.task is Task.REGRESSION else text
    given = read_stored(given, schema.labelled)
    adapter = TypeAdapter(truth_type(schema.labelled))
    try:
        found = adapter.validate_python(given, strict=False)
    except ValidationError as error:
        reason = error.errors(include_input=False)[0]["msg"]
        raise ReviewError(f"{text!r} is no truth of the contract: {reason}") from None
    return float(found) if schema.task is Task.REGRESSION else as_text(found)


def apply(
    session: Session, item: Feedback, decision: str, truth: str, reviewer: str
) -> None:
    """Store a decision. Raises ReviewError if it cannot be used."""
    if decision not in get_args(Decision):
        known = ", ".join(get_args(Decision))
        raise ReviewError(f"The decision is {decision!r}; write one of {known}.")
    if decision == "relabelled":
        if not truth:
            raise ReviewError("The decision is relabelled, and there is no truth.")
        decide(session, item, "relabelled", reviewer, read_truth(truth))
        return
    if decision == "accepted" and item.correct is False:
        raise ReviewError("It says “wrong”, not what is right: reject or relabel it.")
    decide(session, item, cast(Decision, decision), reviewer)


def ask(session: Session, items: Iterable[Feedback], reviewer: str) -> int:
    """Show each item and ask what to do with it; return how many were decided."""
    count = 0
    for item in items:
        print(f"\n{json.dumps(item.instance, ensure_ascii=False)}")
        print(f"  predicted {predicted(item)} ({item.score}), said {said(item)}")
        print(f"  {item.tenant or 'no key'}; {item.comment or 'no comment'}")
        try:
            typed = input("[a]ccept, [r]eject, = TRUTH, [s]kip, [q]uit: ").strip()
            if typed == "q":
                break
            truth = typed.removeprefix("=").strip()
            decision = "relabelled" if typed.startswith("=") else KEYS.get(typed)
            if decision is not None:
                apply(session, item, decision, truth, reviewer)
                session.commit()
                count += 1
        except (ReviewError, ValueError) as error:
            print(error)
        except (EOFError, KeyboardInterrupt):
            break
    return count


def write_file(items: Iterable[Feedback], file: Path) -> int:
    """Write what waits as CSV; return the number of rows."""
    rows = [
        {
            "id": item.id,
            "tenant": item.tenant,
            "instance": json.dumps(item.instance, ensure_ascii=False),
            "predicted": predicted(item),
            "score": item.score,
            "said": said(item),
            "comment": item.comment,
        }
        for item in items
    ]
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def read_file(session: Session, file: Path, reviewer: str) -> int:
    """Store the decisions of a file, all or none; rows without one are left out.

    Raises ReviewError, with the line.
    """
    items = {(item.tenant, item.id): item for item, _ in read(session, {None})}
    count = 0
    for line, row in _read_rows(file):
        decision = (row["decision"] or "").strip()
        if not decision:
            continue
        try:
            item = items.pop((row["tenant"], UUID(row["id"])), None)
            if item is None:
                raise ReviewError("No feedback of this tenant and id waits.")
            truth = (row["truth"] or "").strip()
            apply(session, item, decision, truth, reviewer)
        except (ReviewError, ValueError) as error:
            place = f"{file}, line {line}"
            raise ReviewError(f"{place}: {error} Nothing was stored.") from None
        count += 1
    return count


def _read_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows with their lines.

    Raises ReviewError if the file is not in UTF-8 or lacks a column.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ReviewError(f"{file} is not in UTF-8: save it as CSV in UTF-8.") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = {"id", "tenant", "decision", "truth"} - {*(reader.fieldnames or [])}
    if missing:
        raise ReviewError(f"{file} lacks the columns {', '.join(sorted(missing))}.")
    for row in reader:
        yield reader.line_num, row


def main(words: list[str]) -> int:
    """Review in the terminal or by file; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m training.review")
    parser.add_argument("--out", type=Path, help="write what waits into a CSV file")
    parser.add_argument("--in", type=Path, dest="file", help="read decisions from one")
    parser.add_argument(
        "--reviewer", default=None, help="who decides; else who runs it"
    )
    given = parser.parse_args(words)
    reviewer = given.reviewer or getpass.getuser()
    try:
        settings = load_settings(FeedbackSettings)
        with opened(settings) as engine, Session(engine) as session:
            if given.file:
                count = read_file(session, given.file, reviewer)
                session.commit()
                print(f"{count} decisions were stored.")
                return 0
            items = waiting(session)
            if given.out:
                print(f"{write_file(items, given.out)} rows wait: {given.out}")
                return 0
            print(f"{len(items)} items wait.")
            print(f"{ask(session, items, reviewer)} decisions were stored.")
    except (ReviewError, SettingsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except SQLAlchemyError as error:
        print(f"The database refused: {describe(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
