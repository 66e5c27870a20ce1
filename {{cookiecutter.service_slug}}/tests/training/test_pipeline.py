"""The pipeline: its configuration, its gates, and what DVC knows about it."""

import subprocess
import sys
from pathlib import Path

import pytest

from serving.model import MODEL_FILE
from serving.testing import ROOT
from tests.conftest import overrides
from tests.training.conftest import CONF, Compose, need
from training import __main__ as pipeline
from training import prepare
from training.runs import read_runs
from training.stage import TRIAL, PipelineError, compose, place
from training.values import Config


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` here."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def test_an_unknown_choice_is_answered_with_the_known_ones() -> None:
    done = command("training.compose", "model=transformer")

    assert done.returncode == 1
    assert "Could not find 'model/transformer'" in done.stderr
    known = [path.stem for path in CONF.glob("model/*.yaml")]
    assert all(name in done.stderr for name in known)
    assert "Traceback" not in done.stderr


def test_a_misspelt_key_is_refused() -> None:
    done = command("training.compose", "splitt.test_share=0.2")

    assert done.returncode == 1
    assert "splitt" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_language_is_answered_with_a_suggestion(configure: Compose) -> None:
    with pytest.raises(PipelineError, match="Did you mean hi"):
        pipeline.run(configure("data=intents", "data.language=hii"))


def test_a_stage_without_its_input_says_what_to_run(configure: Compose) -> None:
    with pytest.raises(PipelineError, match="raw.parquet is missing.*make train"):
        prepare.run(configure())


def test_the_same_data_and_seed_give_the_same_model_bytes(
    trained: Config, tmp_path: Path
) -> None:
    rows = Path(trained.data.path)
    paths = [
        f"paths.{name}={tmp_path / path.relative_to(rows.parent)}"
        for name, path in trained.paths
    ]
    done = command("training", *overrides(rows), *paths)

    assert done.returncode == 0, done.stdout + done.stderr
    (again,) = tmp_path.rglob(MODEL_FILE)
    assert again.read_bytes() == (trained.paths.model / MODEL_FILE).read_bytes()


def test_a_sweep_ranks_its_jobs_and_leaves_the_pipeline_alone(
    trained: Config, tmp_path: Path
) -> None:
    need("model=linear", "model=characters")
    before = trained.paths.pipeline.read_bytes()
    done = command(
        "training.train",
        "-m",
        "model=linear,characters",
        f"paths.train={trained.paths.train}",
        f"paths.pipeline={trained.paths.pipeline}",
        f"paths.runs={tmp_path / 'runs.jsonl'}",
        f"hydra.sweep.dir={tmp_path}",
    )

    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (line.split() for line in done.stdout.splitlines()[-2:])
    assert {first[1], second[1]} == {"model=linear", "model=characters"}
    assert float(first[0]) >= float(second[0])
    assert len(list(tmp_path.rglob("pipeline.joblib"))) == 2
    assert trained.paths.pipeline.read_bytes() == before


def test_what_dvc_does_not_start_writes_beside_the_pipeline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = compose()

    tried = place(config, ["pipeline", "training"])
    elsewhere = compose(["root=outputs/mine"])
    monkeypatch.setenv("DVC_STAGE", "train")

    assert place(config, ["pipeline"]) == config
    assert tried.paths.pipeline == TRIAL / config.paths.pipeline
    assert tried.paths.train == config.paths.train
    assert elsewhere.paths.train == Path("outputs/mine") / config.paths.train
    monkeypatch.delenv("DVC_STAGE")
    assert place(elsewhere, ["pipeline"]) == elsewhere


def test_a_sweep_of_all_stages_gives_each_job_a_model_of_its_own(
    trained: Config, tmp_path: Path
) -> None:
    done = command(
        "training",
        "-m",
        *overrides(Path(trained.data.path)),
        "seed=1,2",
        f"paths.runs={tmp_path / 'runs.jsonl'}",
        f"hydra.sweep.dir={tmp_path}",
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.rglob(MODEL_FILE))) == 2
    assert len(read_runs(tmp_path / "runs.jsonl")) == 2
