"""Stage 5: evaluate the model on held-out rows and apply the quality gate."""

import io
import logging
from pathlib import Path

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from serving.contract import Task
from serving.fields import Kind
from training.columns import read_inputs, read_labels
from training.corrections import read_tenants
from training.diagnosis import diagnose
from training.files import read_bytes, read_json, write_json
from training.gate import PRIMARY, check_gate, find_failures
from training.rows import read_rows, write_table
from training.schema import Schema, read_schema
from training.scores import (
    Output,
    Truth,
    predict_labels,
    score,
    score_baseline,
    score_primary,
)
from training.splits import SplitKind, find_kind
from training.stage import PipelineError, command
from training.train import fit, label_names, predict
from training.values import Config

logger = logging.getLogger(__name__)

WRITTEN = ("metrics", "plots")

BINS = 10  # of the calibration curve

# The tables that dvc.yaml plots. Those of the other task are empty, as DVC reads all.
PLOTS = ("calibration", "confusion", "f1", "residuals")


def run(config: Config) -> None:
    """Write the metrics and the data of the plots.

    Raises PipelineError if the model breaks a bound of the gate, or is no better than
    guessing, after the metrics are written.
    """
    schema = read_schema()
    check_gate(schema.task, config.gate)
    train = read_rows(config.paths.train, schema.labelled)
    test = read_rows(config.paths.test, schema.labelled)
    pipeline = load_pipeline(config.paths.pipeline)
    labels = label_names(pipeline)

    truth = read_labels(schema, test)
    output = predict(pipeline, read_inputs(schema, test))
    scores = score(schema.task, truth, output, labels)
    learned = read_labels(schema, train)
    baseline = score_baseline(schema.task, learned, truth, labels)
    if schema.task is Task.CLASSIFICATION:
        tables = tabulate_labels(truth, output, labels)
        scores |= score_confidence(truth, output, labels, config.threshold)
    else:
        tables = {"residuals": pd.DataFrame({"actual": truth, "value": output[:, 0]})}

    tenants = read_tenants(schema, test, config.corrections)
    tables |= diagnose(schema, pipeline, test, truth, output, tenants)

    primary = PRIMARY[schema.task]
    metrics = {
        f"validation_{primary}": read_json(config.paths.training)[
            f"validation_{primary}"
        ],
        **scores,
        f"baseline_{primary}": baseline[primary],
    }
    kind = find_kind(schema, pd.concat([train, test]), config)
    comparison = ""
    if kind in (SplitKind.GROUP, SplitKind.TIME):
        leaky = score_random_split(pipeline, schema, train, test, config.seed)
        metrics[f"{primary}_random_split"] = round(leaky, 4)
        comparison = describe_leak(kind, scores[primary], leaky)
    empty = dict.fromkeys(PLOTS, pd.DataFrame())
    for name, table in (empty | tables).items():
        write_table(config.paths.plots / f"{name}.json", table)
    write_json(config.paths.metrics, metrics)

    logger.info("%s %.3f on the test rows", primary, scores[primary])
    if comparison:
        logger.info(comparison)
    if failures := find_failures(schema.task, config.gate, scores, baseline):
        raise PipelineError(
            f"The model is not exported: {'; '.join(failures)}. "
            f"{suggest_remedy(schema, test)}"
        )


def load_pipeline(path: Path) -> Pipeline:
    """Load the fitted pipeline. Only training unpickles: a pickle may hold any code."""
    return joblib.load(io.BytesIO(read_bytes(path)))


def tabulate_labels(
    truth: Truth, output: Output, labels: list[str]
) -> dict[str, pd.DataFrame]:
    """Return the tables of the report of a classification, by name."""
    predicted = predict_labels(output, labels)
    scores, right = output.max(axis=1), predicted == truth
    return {
        "confusion": pd.DataFrame({"actual": truth, "predicted": predicted}),
        "f1": f1_by_label(truth, predicted),
        "calibration": calibration(scores, right),
        "coverage": coverage(scores, right),
    }


def f1_by_label(truth: Truth, predicted: Truth) -> pd.DataFrame:
    """Return the F1 of each label, worst first."""
    labels = sorted(set(truth))
    f1 = f1_score(truth, predicted, labels=labels, average=None, zero_division=0)
    frame = pd.DataFrame({"label": labels, "f1": np.round(f1, 4)})
    return frame.sort_values(["f1", "label"], ignore_index=True)


def calibration(
    scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    """Return mean score, accuracy and rows for each non-empty tenth of the score."""
    tenth = np.minimum((scores * BINS).astype(int), BINS - 1)
    frame = pd.DataFrame({"tenth": tenth, "score": scores, "accuracy": right})
    curve = frame.groupby("tenth").agg(
        score=("score", "mean"), accuracy=("accuracy", "mean"), rows=("score", "size")
    )
    return curve.round(4).reset_index(drop=True)


def expected_calibration_error(curve: pd.DataFrame) -> float:
    """Return the mean distance of score and accuracy (Naeini et al., 2015)."""
    gap = (curve["score"] - curve["accuracy"]).abs()
    return float(np.average(gap, weights=curve["rows"]))


def coverage(
    scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> pd.DataFrame:
    """Return, for each threshold, the share of rows with an answer and its accuracy."""
    rows = []
    for hundredths in range(0, 100, 5):
        answered = scores >= hundredths / 100
        accuracy = right[answered].mean() if answered.any() else np.nan
        rows.append((hundredths / 100, answered.mean(), accuracy))
    return pd.DataFrame(rows, columns=["threshold", "coverage", "accuracy"]).round(4)


def score_confidence(
    truth: Truth, output: Output, labels: list[str], threshold: float | None
) -> dict[str, float]:
    """Return the calibration error and, with a threshold, what it does.

    That is the coverage, which is the share of rows with an answer, and the accuracy of
    these answers.
    """
    scores, right = output.max(axis=1), predict_labels(output, labels) == truth
    error = expected_calibration_error(calibration(scores, right))
    found = {"calibration_error": round(error, 4)}
    if threshold is None:
        return found
    answered = scores >= threshold
    accuracy = float(right[answered].mean()) if answered.any() else 0.0
    return found | {
        "coverage": round(float(answered.mean()), 4),
        "accuracy_of_answers": round(accuracy, 4),
    }


def score_random_split(
    pipeline: Pipeline,
    schema: Schema,
    train: pd.DataFrame,
    test: pd.DataFrame,
    seed: int,
) -> float:
    """Return the score of a random split of the same size.

    It is too high by what leaks from training rows to test rows of the same group, or
    of an earlier time.
    """
    rows = pd.concat([train, test], ignore_index=True)
    labels = read_labels(schema, rows)
    stratify = labels if schema.task is Task.CLASSIFICATION else None
    try:
        learned, tested = train_test_split(
            rows, test_size=len(test), random_state=seed, stratify=stratify
        )
    except ValueError:  # a label of a single row
        learned, tested = train_test_split(rows, test_size=len(test), random_state=seed)
    model = fit(clone(pipeline), schema, learned)
    output = predict(model, read_inputs(schema, tested))
    truth = read_labels(schema, tested)
    return score_primary(schema.task, truth, output, label_names(model))


def describe_leak(kind: SplitKind, honest: float, leaky: float) -> str:
    """Compare the score with that of a random split, in a sentence."""
    shown = f"A random split would show {leaky:.3f}"
    if round(leaky, 3) <= round(honest, 3):
        return f"{shown}, which is no better."
    if kind is SplitKind.TIME:
        return f"{shown}: it knows the future of its test rows."
    return f"{shown}: its training rows have near-duplicates of its test rows."


def suggest_remedy(schema: Schema, test: pd.DataFrame) -> str:
    """Name what is most likely to help a model that fails the gate."""
    texts = [field.name for field in schema.of_kind(Kind.TEXT)]
    spaceless = [" " not in text for name in texts for text in test[name].dropna()]
    if spaceless and np.mean(spaceless) > 0.5:
        return "Most texts have no spaces between words: try model=characters."
    others = "linear,characters,bayes" if texts else "linear,boosting"
    if schema.task is Task.REGRESSION:
        others = "linear,boosting"
    return (
        f"Compare models (python -m training.train -m model={others}), look at `make "
        "report`, or add data. Change the gate in training/conf only if a worse model "
        "is good enough for its users."
    )


if __name__ == "__main__":
    command(run, written=WRITTEN)()
