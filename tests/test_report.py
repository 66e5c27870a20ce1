"""The report of benchmarks/ says what was measured, and no figure in it is typed."""

import json
import re
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from benchmarks import report
from benchmarks.__main__ import PARTS, WHEN_NAMED
from benchmarks.curves import curves
from benchmarks.markdown import table, tables
from benchmarks.results import RESULTS as KEPT_IN
from benchmarks.results import Capacity, Results, load
from benchmarks.service_report import read
from benchmarks.targets import TARGETS
from tests.conftest import BODY, ROOT, run

if TYPE_CHECKING:
    from benchmarks.compare import Comparison

README = (ROOT / "README.md").read_text(encoding="utf-8")
KEPT = sorted(KEPT_IN.glob("*.json"))


MADE_UP: "Comparison" = {
    "date": "2026-01-02",
    "cpus": 2,
    "instances": 100,
    "rounds": 5,
    "seconds": 3,
    "connections": [1, 64],
    "peers": [
        {
            "name": "service",
            "title": "The service",
            "failure": None,
            "versions": {"python": "3.13.0"},
            "difference": 1e-6,
            "seconds_to_ready": 1.0,
            "resident_bytes": 120_000_000,
            "environment_bytes": 180_000_000,
            "figures": {
                "1": {
                    "rate": 2000,
                    "p50": 0.0004,
                    "p99": 0.001,
                    "ratio": 1.0,
                    "busy": 1.0,
                },
                "64": {
                    "rate": 5000,
                    "p50": 0.004,
                    "p99": 0.01,
                    "ratio": 1.0,
                    "busy": 1.0,
                },
            },
        },
        {
            "name": "bare",
            "title": "Bare",
            "failure": None,
            "versions": {"python": "3.13.0"},
            "difference": 1e-6,
            "seconds_to_ready": 0.5,
            "resident_bytes": 50_000_000,
            "environment_bytes": 180_000_000,
            "figures": {
                "1": {
                    "rate": 2500,
                    "p50": 0.0004,
                    "p99": 0.001,
                    "ratio": 0.79,
                    "busy": 1.0,
                },
                "64": {
                    "rate": 2500,
                    "p50": 0.008,
                    "p99": 0.02,
                    "ratio": 2.0,
                    "busy": 1.0,
                },
            },
        },
        {
            "name": "mlflow",
            "title": "MLflow",
            "failure": "it needs an older Python.",
            "versions": {},
            "difference": None,
            "seconds_to_ready": None,
            "resident_bytes": None,
            "environment_bytes": None,
            "figures": {},
        },
    ],
}
RESULTS = cast(Results, {"compare": MADE_UP | {"took": 60}})


def test_the_report_is_what_the_kept_results_give() -> None:
    results = load()

    assert report.REPORT.read_text(encoding="utf-8") == report.report(results)
    assert README == report.with_summary(README, results), "python -m benchmarks.report"


def test_every_plot_of_the_report_is_there_and_no_other() -> None:
    plots = ROOT / "benchmarks" / "plots"

    assert {path.stem for path in plots.glob("*.svg")} == {
        curve.name for curve in curves(load())
    }


@pytest.mark.parametrize("path", KEPT, ids=[path.stem for path in KEPT])
def test_every_result_says_when_and_with_what(path: Path) -> None:
    kept = json.loads(path.read_text(encoding="utf-8"))

    assert date.fromisoformat(kept["date"])
    assert kept["cpus"] > 0
    for measured in kept.get("peers", [kept]):
        assert measured.get("failure") or measured["versions"]
    assert not re.search(r"/(home|root|tmp|Users)\b|GHz", path.read_text("utf-8"))


def test_what_is_missing_is_said_to_be_missing() -> None:
    text = report.report({})

    assert set(report.SECTIONS) == {*PARTS, *WHEN_NAMED}
    for part in report.SECTIONS:
        assert f"`make bench PARTS={part}`" in text
    assert text.count("not measured") == len(TARGETS)
    assert "PARTS=compare" in report.summary({})


def test_each_target_is_reached_or_not() -> None:
    text = report.report(RESULTS)

    (rows,) = (rows for head, rows in tables(text).items() if head == "Targets")
    said = {
        row["Target"]: [row["Wanted"], row["Measured"], row["Verdict"]] for row in rows
    }
    assert len(said) == len(TARGETS)
    bare = "request rate to that of a bare ASGI function, connections: {}".format
    assert said[bare(1)] == ["≥ 0.8", "0.79", "**not reached**"]
    assert said[bare(16)] == ["≥ 0.85", "not measured", ""]
    assert said[bare(64)] == ["≥ 1.4", "2", "reached"]
    assert said["p99, connections: 64"] == ["≤ 20 ms", "10 ms", "reached"]
    assert said["resident memory"] == ["≤ 110 MB", "120 MB", "**not reached**"]


def test_a_peer_that_fails_is_reported_and_not_dropped() -> None:
    results: Results = RESULTS

    assert "MLflow was not measured:\n\n    it needs an older Python." in report.report(
        results
    )
    assert "| MLflow |" in report.summary(results)


def test_the_readme_takes_the_table_between_its_marks_only() -> None:
    readme = f"before\n{report.START}\nold\n{report.END}\nafter\n"

    text = report.with_summary(readme, RESULTS)

    assert text.startswith("before\n") and text.endswith("\nafter\n")
    assert "old" not in text and "| The service | 2,000 | 5,000 |" in text
    with pytest.raises(ValueError, match="put the marks back"):
        report.with_summary("no marks", {})


def test_the_report_that_a_service_is_born_with_can_be_read() -> None:
    text = (BODY / "reports" / "capacity.md").read_text(encoding="utf-8")
    capacity = cast(Capacity, read(text) | {"soak": "# Soak", "faults": 0})

    drawn = {curve.name: list(curve.loads) for curve in curves({"capacity": capacity})}

    assert drawn["connections"] == ["1", "16", "64", "256"]
    assert drawn["batches"] == ["1", "10", "100", "1000"]
    assert drawn["lengths"] == ["10", "100", "1000", "10000"]
    assert 0 < capacity["goodput"] < 10
    section = report.capacity_section(capacity)
    assert "\n### What the service can carry\n" in section
    assert "capacity.svg" not in section


def test_tables_are_read_as_they_were_written() -> None:
    text = (
        f"# One\n\n{table(('x', 'y'), [('1', '2')])}\n\n## Two\n\n{table(('z',), [])}"
    )

    assert tables(text)["One"] == [{"x": "1", "y": "2"}]


def test_a_part_that_fails_is_named_and_does_not_stop_the_others() -> None:
    # Without a PATH there is neither wrk nor make.
    parts = ("labels", "compare")
    done = run(
        sys.executable, "-m", "benchmarks", *parts, cwd=ROOT, check=False, PATH=""
    )

    assert done.returncode == 1
    assert "wrk is not installed: apt-get install wrk." in done.stdout
    assert "Failed: compare, labels. Why is above." in done.stdout


def test_a_part_that_is_not_there_is_refused_with_those_that_are() -> None:
    done = run(sys.executable, "-m", "benchmarks", "speed", cwd=ROOT, check=False)

    assert done.returncode == 2
    assert f"no part is called speed: {', '.join(PARTS + WHEN_NAMED)}" in done.stdout
