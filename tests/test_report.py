"""The report of benchmarks/ says what was measured, and no figure in it is typed."""

import json
import re
import sys
from datetime import date
from pathlib import Path
from typing import cast

import pytest

from benchmarks import report
from benchmarks.__main__ import PARTS, WHEN_NAMED
from benchmarks.curves import curves
from benchmarks.results import RESULTS as KEPT_IN
from benchmarks.results import Comparison, Results, load
from benchmarks.sections import SECTIONS
from benchmarks.targets import TARGETS
from tests.conftest import ROOT, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
KEPT = sorted(KEPT_IN.glob("*.json"))


MADE_UP: Comparison = {
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
KEPT_WITH = {"date": "2026-01-02", "cpus": 2, "took": 60, "versions": {"uvicorn": "1"}}
RESULTS = cast(
    Results,
    {
        "compare": MADE_UP | {"took": 60},
        "rate": KEPT_WITH
        | {"a": "this", "b": "that", "starts": 2, "rounds": 5, "seconds": 3}
        | {
            "rates": {
                "64": {"a": 9700, "b": 10_000, "low": 0.96, "ratio": 0.97, "high": 0.98}
            }
        },
        "growth": KEPT_WITH
        | {
            "connections": {"16": {"rate": 8000, "p99": 0.0025}},
            "bare": {"16": {"rate": 10_000, "p99": 0.0017}},
            "batches": {"1000": {"rate": 160_000, "p99": 0.1321}},
            "lengths": {"10": {"rate": 8000, "p99": 0.0025}},
        },
        "overload": KEPT_WITH
        | {
            "connections": 512,
            "goodput": 0.95,
            "floods": {
                "1 instance": {
                    "peak": 20_000,
                    "answered": 19_000,
                    "p99": 0.034,
                    "rejected": 700,
                    "rejected_p99": 0.277,
                    "lost": 0,
                    "bystander": 0.05,
                    "refused": 0.1,
                    "recovery": 0.5,
                }
            },
        },
        "table": KEPT_WITH
        | {"rows": 1_000_000, "ratio_of_seconds": 1.35, "ratio_of_bytes": 0.875}
        | {"service": {"seconds": 40.5, "bytes": 7e8}}
        | {"by_hand": {"seconds": 30, "bytes": 8e8}},
        "flights": KEPT_WITH
        | {"rows": 327_346, "seconds": 70, "score": 0.8123, "by_hand": 0.8125}
        | {"difference": 3e-7, "answers": ["99.0%  late", "88.0%  on time"]},
        "languages": KEPT_WITH
        | {"gate": 0.85}
        | {
            "languages": {
                "aa": {"labels": 9, "score": 0.9, "overrides": [], "reason": ""},
                "bb": {
                    "labels": 8,
                    "score": 0.7,
                    "overrides": ["model=bayes"],
                    "reason": "The model is not exported: macro_f1 is 0.7, below the "
                    "bound of 0.85 (gate.macro_f1). Compare",
                },
            }
        },
        "adoption": KEPT_WITH
        | {
            "tables": {
                "wine": {"table": "numbers", "rows": 178, "fields": 13}
                | {"task": "classification", "family": "linear", "served": 0.97}
                | {"by_hand": 0.98, "refused": 0, "seconds": 30.5}
            }
        },
        "soak": KEPT_WITH
        | {"minutes": 10, "rate": 8000, "statuses": {"200": 4_800_000}}
        | {"p99": 0.005, "worst_p99": 0.02, "memory": [2**27, 2**27 + 2**21]}
        | {"rise": 3 * 2**20, "scatter": 2**20, "open_files": [14, 14]}
        | {"faults": ["Memory rose."]},
    },
)


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

    assert set(SECTIONS) == {*PARTS, *WHEN_NAMED}
    for part in SECTIONS:
        assert f"`make bench PARTS={part}`" in text
    assert text.count("not measured") == len(TARGETS)
    assert "PARTS=compare" in report.summary({})


def test_each_target_is_reached_or_not() -> None:
    text = report.report(RESULTS)

    (section,) = re.findall(r"^## Targets$(.*?)^## ", text, re.M | re.S)
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in section.strip().splitlines()]
    said = {what: verdict for what, *verdict in rows[2:]}
    assert len(said) == len(TARGETS)
    bare = "request rate to that of a bare ASGI function, connections: {}".format
    assert said[bare(1)] == ["≥ 0.8", "0.79", "**not reached**"]
    assert said[bare(16)] == ["≥ 0.85", "not measured", ""]
    assert said[bare(64)] == ["≥ 1.4", "2", "reached"]
    assert said["p99, connections: 64"] == ["≤ 20 ms", "10 ms", "reached"]
    assert said["resident memory"] == ["≤ 110 MB", "120 MB", "**not reached**"]
    assert said["faults that the soak finds"] == ["≤ 0", "1", "**not reached**"]


def test_every_part_is_rendered() -> None:
    text = report.report(RESULTS)

    for line in (
        "| 64 | 9,700 | 10,000 | 0.960 | 0.970 | 0.980 |",
        "| 16 | 8,000 | 2.5 ms | 10,000 | 1.7 ms | 0.80 |",
        "| 1,000 | 160,000 | 132.1 ms |",
        "| 1 instance | 20,000 | 19,000 | 95 % | 34.0 ms | 700 | 277.0 ms "
        "| 50.0 ms | 10 % | 0.5 s |",
        "| the stages | 40.5 s | 700 MB |",
        "| aa | 9 | 0.900 | as it comes |  |",
        "| bb | 8 | 0.700 | `model=bayes` | macro_f1 is 0.7, below the bound of 0.85 |",
    ):
        assert line in text
    assert "99.0% late, 88.0% on time." in text.replace("\n", " ")
    assert "Memory rose." in text and "trend +3.0 MiB in all" in text
    names = {curve.name: list(curve.loads) for curve in curves(RESULTS)}
    assert names == {"connections": ["16"], "batches": ["1000"], "lengths": ["10"]}


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
