"""The pipeline: its configuration, its gates, and what DVC knows about it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from app.contract import Instance
from serving.model import MODEL_FILE, SIDECAR_FILE, Model
from serving.testing import ROOT
from tests.conftest import overrides
from tests.training.conftest import CHOICES, CONF, Compose, need
from training import __main__ as pipeline
from training import evaluate, export, models, prepare, report, train
from training.files import read_rows, write_rows
from training.stage import PipelineError, compose
from training.values import Config, Gate


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m …` here."""
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize("choice", CHOICES)
def test_every_config_file_changes_the_configuration(
    configure: Compose, choice: str
) -> None:
    group = choice.partition("=")[0]
    others = {other for other in CHOICES if other.startswith(f"{group}=")} - {choice}

    assert all(configure(choice) != configure(other) for other in others)
    assert group != "experiment" or configure(choice) != configure()


def test_the_model_of_every_family_can_be_trained_and_exported(
    trained: Config, configure: Compose
) -> None:
    rows = read_rows(trained.paths.train)
    texts = list(read_rows(trained.paths.test)["text"])
    for choice in (choice for choice in CHOICES if choice.startswith("model=")):
        model = train.fit(configure(choice).model.create(), rows)
        export.check_parity(model, export.convert(model), texts, 1e-5)


def test_an_unknown_choice_is_answered_with_the_known_ones() -> None:
    done = command("training.train", "model=transformer")

    assert done.returncode == 1
    assert "Could not find 'model/transformer'" in done.stderr
    known = [path.stem for path in CONF.glob("model/*.yaml")]
    assert all(name in done.stderr for name in known)
    assert "Traceback" not in done.stderr


def test_a_misspelt_key_is_refused() -> None:
    done = command("training.ingest", "splitt.test_share=0.2")

    assert done.returncode == 1
    assert "splitt" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_unusable_values_are_named_at_once() -> None:
    done = command(
        "training.prepare", "seed=x", "gate.macro_f1=abc", "split.test_share=5"
    )

    assert done.returncode == 1
    for mistake in ("seed=x: ", "gate.macro_f1=abc: ", "split.test_share=5: "):
        assert mistake in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_model_that_cannot_be_fitted_is_said(trained: Config) -> None:
    model = models.words(0, 30)

    with pytest.raises(PipelineError, match="cannot be fitted: .*ngram_range|empty"):
        train.fit(model, read_rows(trained.paths.train))


def test_an_unknown_language_is_answered_with_a_suggestion(configure: Compose) -> None:
    with pytest.raises(PipelineError, match="Did you mean hi"):
        pipeline.run(configure("data=intents", "data.language=hii"))


def test_a_stage_without_its_input_says_what_to_run(configure: Compose) -> None:
    with pytest.raises(PipelineError, match="raw.parquet is missing.*make train"):
        prepare.run(configure())


def test_no_template_is_on_both_sides_and_every_label_is_on_each(
    trained: Config,
) -> None:
    learned = read_rows(trained.paths.train)
    tested = read_rows(trained.paths.test)

    assert not set(learned["template"]) & set(tested["template"])
    assert not set(learned["text"]) & set(tested["text"])
    assert set(learned["label"]) == set(tested["label"])


def test_rows_without_templates_are_split_by_label() -> None:
    rows = pd.DataFrame(
        {
            "text": [f"text {number}" for number in range(100)],
            "label": ["a"] * 80 + ["b"] * 20,
            "template": [""] * 100,
        }
    )

    in_test = prepare.split(rows, test_share=0.25, seed=0)

    assert rows[in_test]["label"].value_counts().to_dict() == {"a": 20, "b": 5}


def test_texts_with_two_labels_and_repeated_texts_are_dropped() -> None:
    rows = pd.DataFrame(
        {"text": ["x", "x", "y", "y", "z"], "label": ["a", "b", "a", "a", "b"]}
    )

    assert prepare.clean(rows).to_dict("list") == {
        "text": ["y", "z"],
        "label": ["a", "b"],
    }


def test_a_label_that_cannot_be_tested_is_named(configure: Compose) -> None:
    config = configure()
    rows = {"text": ["one", "two", "three"], "label": ["a", "a", "b"], "template": ""}
    write_rows(config.paths.raw, pd.DataFrame(rows))

    with pytest.raises(PipelineError, match="Too few for: b"):
        prepare.run(config)


def test_the_gate_stops_a_weak_model_and_the_earlier_one_stays(
    trained: Config,
) -> None:
    gate = Gate.model_construct(macro_f1=1.001)  # which no model reaches
    strict = trained.model_copy(update={"gate": gate})
    before = (trained.paths.model / MODEL_FILE).read_bytes()

    with pytest.raises(PipelineError) as caught:
        evaluate.run(strict)

    metrics = json.loads(trained.paths.metrics.read_text(encoding="utf-8"))
    assert f"{metrics['macro_f1']:.4f}" in str(caught.value)
    assert "1.001" in str(caught.value) and "make report" in str(caught.value)
    assert (trained.paths.model / MODEL_FILE).read_bytes() == before


def test_the_parity_gate_stops_a_model_that_differs(
    trained: Config, configure: Compose
) -> None:
    rows = read_rows(trained.paths.train)
    fitted = train.fit(configure("model=words").model.create(), rows)
    content = export.convert(fitted)
    fitted.named_steps["classifier"].coef_ *= 1.01

    with pytest.raises(PipelineError, match="ONNX and scikit-learn differ on"):
        export.check_parity(fitted, content, list(rows["text"][:1]), 1e-5)


def test_a_model_that_onnx_cannot_express_is_said_in_a_line(trained: Config) -> None:
    rows = read_rows(trained.paths.train)
    model = models.characters(4, 30)

    with pytest.raises(PipelineError, match="up to three") as caught:
        export.convert(train.fit(model, rows))

    assert "\n" not in str(caught.value)


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


def test_the_sidecar_describes_the_model(trained: Config) -> None:
    sidecar = json.loads((trained.paths.model / SIDECAR_FILE).read_text())
    metrics = json.loads(trained.paths.metrics.read_text())

    assert sidecar["metrics"] == metrics
    assert sidecar["labels"] == Model.load(trained.paths.model, Instance).labels
    rows = read_rows(trained.paths.train)["label"]
    assert sidecar["training_label_shares"] == {
        label: pytest.approx((rows == label).mean()) for label in sidecar["labels"]
    }
    assert set(metrics) == {
        "validation_macro_f1",
        "macro_f1",
        "macro_f1_random_split",
        "accuracy",
        "calibration_error",
    }


def test_near_copies_are_the_reason_only_if_a_random_split_is_better() -> None:
    assert evaluate.describe_leak(0.952, 0.992).endswith(
        "0.992: its training rows have near-duplicates of its test rows."
    )
    for better in (0.992, 0.9911):
        assert evaluate.describe_leak(better, 0.991).endswith(
            "show 0.991, which is no better."
        )


def test_a_sweep_ranks_its_jobs_and_leaves_the_pipeline_alone(
    trained: Config, tmp_path: Path
) -> None:
    need("model=words", "model=bayes")
    before = trained.paths.pipeline.read_bytes()
    done = command(
        "training.train",
        "-m",
        "model=words,bayes",
        f"paths.train={trained.paths.train}",
        f"paths.pipeline={trained.paths.pipeline}",
        f"hydra.sweep.dir={tmp_path}",
    )

    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (line.split() for line in done.stdout.splitlines()[-2:])
    assert {first[1], second[1]} == {"model=words", "model=bayes"}
    assert float(first[0]) >= float(second[0])
    assert len(list(tmp_path.rglob("pipeline.joblib"))) == 2
    assert trained.paths.pipeline.read_bytes() == before


def test_all_stages_at_once_are_no_sweep(tmp_path: Path) -> None:
    done = command("training", "-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}")

    assert done.returncode == 1
    assert "python -m training.train -m" in done.stdout + done.stderr


def test_too_few_rows_for_the_folds_are_said(configure: Compose) -> None:
    config = configure("validation.folds=3")
    rows = {"text": ["one", "two"], "label": ["a", "b"], "template": ""}
    write_rows(config.paths.train, pd.DataFrame(rows))

    with pytest.raises(PipelineError, match="in 3 folds is not possible"):
        train.run(config)


def test_the_report_is_one_page_with_pictures(trained: Config) -> None:
    report.run(trained)

    page = trained.paths.report.read_text(encoding="utf-8")
    assert page.count('src="data:image/png;base64,') == 3
    assert "macro_f1_random_split" in page


def stages() -> dict[str, Any]:
    """The stages of dvc.yaml."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    stages: dict[str, Any] = document["stages"]
    return stages


def outputs(stage: dict[str, Any]) -> list[str]:
    """The files that a stage makes."""
    entries = stage.get("outs", []) + stage.get("metrics", [])
    return [path for entry in entries for path in entry]


def test_dvc_runs_the_stages_that_the_package_runs() -> None:
    assert [stage["cmd"] for stage in stages().values()] == [
        f"python -m training.{name}"
        for name in ("compose", "ingest", "prepare", "train", "evaluate", "export")
    ]


@pytest.mark.parametrize("name", stages())
def test_dvc_watches_all_that_a_stage_reads(name: str) -> None:
    stage = stages()[name]
    source = (ROOT / "training" / f"{name}.py").read_text(encoding="utf-8")
    watched = {
        key
        for entry in stage.get("params", [])
        for keys in entry.values()
        for key in keys
    }
    files = set(stage["deps"]) | set(outputs(stage))
    config = compose()
    paths = {
        str(getattr(config.paths, name))
        for name in re.findall(r"config\.paths\.(\w+)", source)
    }
    values = set(re.findall(r"config\.(\w+)", source)) - {"paths", "yaml"}

    assert f"training/{name}.py" in files
    assert values <= watched
    assert paths - {"models", "reports/bad-rows.txt"} <= files


def test_dvc_versions_the_model() -> None:
    assert {"models/model.onnx", "models/model.json"} <= set(
        outputs(stages()["export"])
    )
