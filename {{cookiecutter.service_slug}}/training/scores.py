"""The metrics of a model on held-out rows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import metrics

from serving.contract import Task

Truth = npt.NDArray[Any]
# Probabilities of shape (rows, labels), or values of shape (rows, 1).
Output = npt.NDArray[np.float64]


def score(
    task: Task, truth: Truth, output: Output, labels: Sequence[str]
) -> dict[str, float]:
    """Return all metrics of a task, rounded. `labels` are those of the output."""
    if task is Task.REGRESSION:
        values = output[:, 0]
        return _rounded(
            mae=metrics.mean_absolute_error(truth, values),
            rmse=metrics.root_mean_squared_error(truth, values),
            r2=metrics.r2_score(truth, values),
        )
    truth, codes = _encode(truth, labels)
    predicted = codes[output.argmax(axis=1)]
    return _rounded(
        macro_f1=_macro_f1(truth, predicted),
        accuracy=metrics.accuracy_score(truth, predicted),
        roc_auc=_mean_over_labels(metrics.roc_auc_score, truth, output, codes),
        pr_auc=_mean_over_labels(metrics.average_precision_score, truth, output, codes),
        log_loss=metrics.log_loss(truth, output, labels=codes),
    )


def score_primary(
    task: Task, truth: Truth, output: Output, labels: Sequence[str]
) -> float:
    """Return the one metric by which models are compared."""
    if task is Task.REGRESSION:
        return float(metrics.r2_score(truth, output[:, 0]))
    truth, codes = _encode(truth, labels)
    return _macro_f1(truth, codes[output.argmax(axis=1)])


def _encode(
    truth: Truth, labels: Sequence[str]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the true labels and `labels` as numbers: scikit-learn is slow on text."""
    names = pd.Index(sorted({*labels, *truth}), dtype=np.object_)
    return names.get_indexer(pd.Index(truth)), names.get_indexer(pd.Index(labels))


def _macro_f1(truth: Truth, predicted: Truth) -> float:
    return float(metrics.f1_score(truth, predicted, average="macro", zero_division=0))


def predict_labels(output: Output, labels: Sequence[str]) -> Truth:
    """Return the most probable label of each row."""
    names: Truth = np.array(labels, dtype=np.object_)
    predicted: Truth = names[output.argmax(axis=1)]
    return predicted


def score_baseline(
    task: Task, learned: Truth, truth: Truth, labels: Sequence[str]
) -> dict[str, float]:
    """Return the metrics of a guess without the inputs.

    Each row gets the mean of the training rows, or the shares of their labels as its
    probabilities.
    """
    if task is Task.REGRESSION:
        return score(task, truth, np.full((len(truth), 1), learned.mean()), labels)
    shares = pd.Series(learned).value_counts(normalize=True).reindex(list(labels))
    return score(task, truth, np.tile(shares.fillna(0), (len(truth), 1)), labels)


def _mean_over_labels(
    metric: Callable[..., float], truth: Truth, output: Output, labels: Truth
) -> float:
    """Return the mean of a metric of each label against all others (macro).

    scikit-learn's own average needs rows of every label.
    """
    values = []
    for place, label in enumerate(labels):
        is_label = truth == label
        if is_label.any() and not is_label.all():
            values.append(metric(is_label, output[:, place]))
    return float(np.mean(values)) if values else 0.0


def _rounded(**scores: float) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in scores.items()}
