"""What was tried: the table of runs, and the comparison with another commit."""

import json
import subprocess
import sys
from pathlib import Path

import hydra
import pytest

from serving.testing import ROOT
from tests.training.conftest import need
from training import compare
from training.runs import Row, format_runs, read_runs
from training.stage import CONFIG_NAME, HYDRA_VERSION, PipelineError, command
from training.values import CONFIG_DIR, Config


def row(score: float | None, data: str = "one", **facts: object) -> Row:
    """A row of the table."""
    scores = {} if score is None else {"validation_r2": score}
    reason = "no rows" if score is None else ""
    return {
        "overrides": [],
        "seed": 0,
        "data": data,
        "revision": "abc",
        "time": "now",
        "seconds": 1.0,
        "scores": scores,
        "reason": reason,
        **facts,
    }


def test_runs_on_the_same_rows_are_ranked_and_failures_come_last() -> None:
    rows = [row(0.5), row(None), row(0.25, "two"), row(0.75), row(0.5, seed=7)]

    lines = format_runs(rows)

    assert [line.split()[0] for line in lines] == [
        "0.2500",
        "0.7500",
        "0.5000",
        "0.5000",
        "failed",
    ]
    assert "seed=0" in lines[2] and "seed=7" in lines[3]
    assert lines[4].endswith("no rows")


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    file.write_text('{"a": 1}\n{"a"', encoding="utf-8")

    with pytest.raises(PipelineError, match="line 2 is no JSON. Remove"):
        read_runs(file)


def test_a_failing_job_of_a_sweep_is_a_row_and_stops_nothing(
    trained: Config, tmp_path: Path
) -> None:
    need("model=linear")
    values = "model.inverse_regularisation=10,-3,30"
    command = ["training.train", "-m", "model=linear", values]
    done = subprocess.run(
        [
            *(sys.executable, "-m", *command),
            f"paths.train={trained.paths.train}",
            f"paths.runs={tmp_path / 'runs.jsonl'}",
            f"hydra.sweep.dir={tmp_path / 'sweep'}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    *_, first, second, third = done.stdout.splitlines()
    assert float(first.split()[0]) >= float(second.split()[0])
    assert third.startswith("failed  ") and "=-3: Input should be greater" in third
    rows = read_runs(tmp_path / "runs.jsonl")
    assert [row["reason"] == "" for row in rows] == [True, False, True]
    assert {row["data"] for row in rows} != {"none"}
    kept = (tmp_path / "sweep").rglob("run.json")
    found = [json.loads(file.read_text(encoding="utf-8")) for file in kept]
    assert sorted(map(str, found)) == sorted(map(str, rows))


def test_a_recipe_is_compared_on_the_same_rows(
    trained: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = trained.model.model_extra or {}
    changed = {key: one + 1 for key, one in given.items() if type(one) in (int, float)}
    if not changed:
        pytest.skip("the model has no numbers to change")
    other = trained.model.model_copy(update=changed)
    monkeypatch.setattr(compare, "read_recipe", lambda commit: other)

    lines = compare.run(trained, "HEAD~1")

    assert lines[1].startswith(("accuracy, all", "mae, all"))
    assert "95 %" in lines[-1]


def test_a_commit_without_another_recipe_is_named(
    trained: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PipelineError, match="no-such has no reports/config.yaml"):
        compare.read_recipe("no-such")

    monkeypatch.setattr(compare, "read_recipe", lambda commit: trained.model)
    with pytest.raises(PipelineError, match="HEAD has the recipe of today.*WITH="):
        compare.run(trained, "HEAD")


def test_an_interrupted_run_is_recorded_as_failed() -> None:
    reasons: list[str] = []

    def stop(config: Config) -> None:
        raise KeyboardInterrupt

    def record(composed: object, config: object, seconds: float, reason: str) -> None:
        reasons.append(reason)

    with hydra.initialize_config_dir(CONFIG_DIR, version_base=HYDRA_VERSION):
        composed = hydra.compose(CONFIG_NAME)
    with pytest.raises(KeyboardInterrupt):
        command(stop, record)(composed)  # type: ignore[call-arg]

    assert reasons == ["interrupted"]
