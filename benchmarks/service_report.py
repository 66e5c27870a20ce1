"""Reads reports/capacity.md of a service: what is drawn and what has a target."""

from collections.abc import Sequence

from benchmarks.markdown import Row, tables
from benchmarks.results import Load


def read(capacity: str) -> dict[str, object]:
    """The report, and its figures. Raises KeyError if a table of it is not there."""
    found = tables(capacity)
    return {
        "capacity": capacity,
        "connections": loads(found["Connections"], "Connections", "Requests/s"),
        "batches": loads(found["Instances a request"], "Instances", "Instances/s"),
        "lengths": loads(found.get("Length of a text", ()), "Characters", "Requests/s"),
        "goodput": min(number(row["Of the peak"]) for row in found["Overload"]) / 100,
    }


def loads(rows: Sequence[Row], by: str, rate: str) -> dict[str, Load]:
    """The rate and p99 of each row, by the number in one of its columns."""
    return {
        f"{number(row[by]):.0f}": {
            "rate": number(row[rate]),
            "p99": round(number(row["p99"]) / 1000, 7),
        }
        for row in rows
    }


def number(cell: str) -> float:
    """The number in `1,000`, `14.2 ms` or `95%`."""
    return float(cell.split()[0].rstrip("%").replace(",", ""))
