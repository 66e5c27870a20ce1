"""Contracts with a field of each kind, and rows of them: the ward of a clinic."""

from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from serving.contract import Contract
from training.schema import make_schema

Ward = Literal["north", "south", "east"]


class Visit(Contract):
    """An instance."""

    note: str
    ward: Ward | None = None
    age: Annotated[float, Field(ge=0, le=120)] | None = None
    beds: Annotated[int, Field(ge=0)]
    urgent: bool
    scan: Annotated[list[float], Field(min_length=3, max_length=3)] | None = None


class JudgedVisit(Visit):
    """A row of a classification."""

    label: Literal["go", "stay", "wait"]
    group: str = ""
    time: float | None = None


class MeasuredVisit(Visit):
    """A row of a regression."""

    label: float
    group: str = ""
    time: float | None = None


JUDGED = make_schema(Visit, JudgedVisit)
MEASURED = make_schema(Visit, MeasuredVisit)
BOTH = (JUDGED, MEASURED)


def make_rows(count: int = 240) -> dict[str, list[Any]]:
    """Return columns of random visits, with `value` to be predicted; some have gaps."""
    rng = np.random.default_rng(0)

    def with_gaps(values: list[Any]) -> list[Any]:
        return [None if rng.random() < 0.1 else value for value in values]

    words = ["pain", "fever", "check", "again", "fall"]
    notes = [
        " ".join([*rng.choice(words, rng.integers(1, 4)), f"case{number}"])
        for number in range(count)
    ]
    wards = with_gaps(rng.choice(["north", "south", "east"], count).tolist())
    ages = with_gaps(rng.uniform(0, 100, count).round(1).tolist())
    beds = rng.integers(0, 50, count).tolist()
    urgent = (rng.random(count) < 0.5).tolist()
    scans = with_gaps(rng.normal(0, 1, (count, 3)).tolist())
    values = [
        (age or 50) / 10 + 5 * flag + 3 * (ward == "north") + 4 * ("fever" in note)
        for age, flag, ward, note in zip(ages, urgent, wards, notes, strict=True)
    ]
    return {
        "note": notes,
        "ward": wards,
        "age": ages,
        "beds": beds,
        "urgent": urgent,
        "scan": scans,
        "value": values,
    }


def judged(**columns: Any) -> pd.DataFrame:
    """Rows of a classification, with some columns replaced."""
    rows = make_rows()
    labels = [
        "go" if v < 7 else "stay" if v < 12 else "wait" for v in rows.pop("value")
    ]
    return pd.DataFrame({**rows, "label": labels, "group": "", "time": None, **columns})


def measured(**columns: Any) -> pd.DataFrame:
    """Rows of a regression, with some columns replaced."""
    rows = make_rows()
    values = rows.pop("value")
    return pd.DataFrame({**rows, "label": values, "group": "", "time": None, **columns})
