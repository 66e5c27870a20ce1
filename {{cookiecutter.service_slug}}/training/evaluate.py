"""Stage 4: evaluate the model on held-out templates and apply the quality gate."""

import io
import logging
from pathlib import Path

import joblib
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline

from training.files import read_bytes, read_json, read_rows, write_csv, write_json
from training.stage import PipelineError, command
from training.train import fit
from training.values import Config

logger = logging.getLogger(__name__)

BINS = 10


def run(config: Config) -> None:
    """Write the metrics and the data of the plots.

    Raises PipelineError if the macro-F1 is below `gate.macro_f1`, after the metrics are
    written.
    """
    train = read_rows(config.paths.train)
    test = read_rows(config.paths.test)
    pipeline = load_pipeline(config.paths.pipeline)

    probabilities = pipeline.predict_proba(test["text"])
    predicted = pipeline.classes_[probabilities.argmax(axis=1)]
    scores = probabilities.max(axis=1)
    curve = calibration(scores, predicted == test["label"].to_numpy())
    macro_f1 = f1_score(test["label"], predicted, average="macro", zero_division=0)
    every = pd.concat([train, test])
    leaky = random_split_f1(pipeline, every, len(test), config.seed)

    training = read_json(config.paths.training)
    metrics = {
        "validation_macro_f1": training["validation_macro_f1"],
        "macro_f1": round(float(macro_f1), 4),
        "macro_f1_random_split": round(leaky, 4),
        "accuracy": round(float(accuracy_score(test["label"], predicted)), 4),
        "calibration_error": round(expected_calibration_error(curve), 4),
    }
    plots = config.paths.plots
    write_csv(plots / "confusion.csv", confusion(test["label"], predicted))
    write_csv(plots / "f1.csv", f1_by_label(test["label"], predicted))
    write_csv(plots / "calibration.csv", curve)
    write_json(config.paths.metrics, metrics)

    logger.info("macro-F1 %.3f on the test rows", macro_f1)
    if test["template"].any():
        logger.info(
            "Their templates are new to the model. %s", describe_leak(macro_f1, leaky)
        )
    floor = config.gate.macro_f1
    if macro_f1 < floor:
        raise PipelineError(
            f"The macro-F1 is {macro_f1:.4f}, below the minimum of {floor}: the model "
            "is not exported. Look at `make report`, add data or change training/conf; "
            "lower gate.macro_f1 only if a worse model is good enough for its users."
        )


def load_pipeline(path: Path) -> Pipeline:
    """Load the fitted pipeline. Only training unpickles: a pickle may hold any code."""
    return joblib.load(io.BytesIO(read_bytes(path)))


def confusion(truth: pd.Series, predicted: npt.NDArray[np.str_]) -> pd.DataFrame:
    """Return the actual and the predicted label of each test row."""
    return pd.DataFrame({"actual": truth.to_numpy(), "predicted": predicted})


def f1_by_label(truth: pd.Series, predicted: npt.NDArray[np.str_]) -> pd.DataFrame:
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


def random_split_f1(
    pipeline: Pipeline, rows: pd.DataFrame, test_rows: int, seed: int
) -> float:
    """Return the macro-F1 of a random split of the same size.

    Most tutorials report it. Its difference to the macro-F1 by templates is the leak.
    """
    train, test = train_test_split(
        rows, test_size=test_rows, random_state=seed, stratify=rows["label"]
    )
    model = fit(clone(pipeline), train)
    predicted = model.predict(test["text"])
    return float(f1_score(test["label"], predicted, average="macro", zero_division=0))


def describe_leak(macro_f1: float, leaky: float) -> str:
    """Compare the macro-F1 with that of a random split, in a sentence."""
    shown = f"A random split would show {leaky:.3f}"
    if round(leaky, 3) <= round(macro_f1, 3):
        return f"{shown}, which is no better."
    return f"{shown}: its training rows have near-duplicates of its test rows."


if __name__ == "__main__":
    command(run)()
