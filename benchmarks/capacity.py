"""What the default service says of itself: `make bench` and `make soak` in a fresh one.

Its reports are taken over as they are; what is drawn or has a target is read from their
tables.
"""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.generated import python, trained
from benchmarks.markdown import Row, tables
from benchmarks.results import Load, versions

REPORT = Path("reports/capacity.md")
SOAK = Path("outputs/soak.md")


def measure(seconds: float = 5, minutes: float = 10) -> dict[str, object]:
    """Run both verbs: so many seconds a measurement, so many minutes of soaking.

    Raises KeyError if the report has no table that is read here.
    """
    with trained() as service:
        print("  make bench", flush=True)
        service.make("bench", SECONDS=f"{seconds:g}")
        print("  make soak", flush=True)
        # It fails if it saw a fault; that is a result, too.
        soak = service.make("soak", check=False, MINUTES=f"{minutes:g}")
        capacity, soaked = service.read(str(REPORT)), service.read(str(SOAK))
        found = versions(python(service), "fastapi", "onnxruntime", "uvicorn")

    # After the report it prints what it has to say against it, and make adds a line.
    faults = soak.stdout.partition(soaked)[2].strip().splitlines()[:-1]
    return {
        "versions": found,
        **read(capacity),
        "soak": "\n".join([soaked, *faults]),
        "faults": len(faults) if soak.returncode else 0,
    }


def read(capacity: str) -> dict[str, object]:
    """The report, and its figures."""
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
