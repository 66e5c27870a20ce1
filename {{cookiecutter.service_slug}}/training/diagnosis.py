"""Find where a model is right and where it is wrong: by slice, by field, by row."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from serving.contract import Task
from serving.fields import Kind, as_text
from training.columns import read_inputs
from training.corrections import TENANT
from training.schema import GROUP, Schema
from training.scores import Output, Truth, predict_labels, score_primary
from training.train import label_names, predict

Mask = npt.NDArray[np.bool_]

# A slice of fewer rows says little; of the groups, the largest are shown.
MIN_ROWS = 10
MAX_GROUPS = 20
WORST = 20
LONGEST = 300  # characters of a text that are shown

# Permutations of a field, and the rows on which they are tried.
REPEATS = 3
MAX_PERMUTED = 2_000


def diagnose(
    schema: Schema,
    pipeline: Pipeline,
    test: pd.DataFrame,
    truth: Truth,
    output: Output,
    tenants: "pd.Series[str]",
) -> dict[str, pd.DataFrame]:
    """Return the tables of the report that every task has, by name.

    `tenants` says whose correction each row is, if it is one.
    """
    labels = label_names(pipeline)
    scores = score_rows(schema.task, truth, output, labels)
    tables = {
        "slices": tabulate_slices(schema, test, scores, tenants),
        "importance": permute_fields(schema, pipeline, test, truth),
        "worst": find_worst(schema, test, truth, output, labels),
    }
    if schema.task is Task.REGRESSION:
        tables["deciles"] = tabulate_deciles(truth, output[:, 0])
    return tables


def score_rows(
    task: Task, truth: Truth, output: Output, labels: list[str]
) -> "pd.Series[float]":
    """Return whether the answer to each row is right (1 or 0), or its absolute error.

    The series is named after its mean: "accuracy" or "mae".
    """
    if task is Task.REGRESSION:
        return pd.Series(np.abs(output[:, 0] - truth), name="mae")
    right = predict_labels(output, labels) == truth
    return pd.Series(right.astype(np.float64), name="accuracy")


def cut_slices(
    schema: Schema, rows: pd.DataFrame, tenants: "pd.Series[str]"
) -> Iterator[tuple[str, Mask]]:
    """Yield the name and the rows of each slice.

    They are cut by category, flag, gap and group, and by the tenant whose correction a
    row is, if it is one.
    """
    for field in schema.fields:
        values = rows[field.name]
        if field.kind in (Kind.CATEGORY, Kind.FLAG):
            for value in sorted(values.dropna().astype(object).unique(), key=as_text):
                is_value = (values == value).fillna(False).to_numpy(np.bool_)
                yield f"{field.name}: {as_text(value)}", is_value
        if field.optional:
            yield f"{field.name} is missing", values.isna().to_numpy()
    for tenant in sorted(set(tenants) - {""}):
        yield f"{TENANT}: {tenant}", (tenants == tenant).to_numpy(np.bool_)
    if schema.has_group:
        groups = rows[GROUP].dropna().astype(str)
        largest = groups[groups != ""].value_counts().head(MAX_GROUPS)
        for name in sorted(largest.index):
            is_group = (rows[GROUP] == name).fillna(False).to_numpy(np.bool_)
            yield f"{GROUP}: {name}", is_group


def tabulate_slices(
    schema: Schema,
    rows: pd.DataFrame,
    scores: "pd.Series[float]",
    tenants: "pd.Series[str]",
) -> pd.DataFrame:
    """Return the metric of each slice of enough rows, worst first."""
    found = [("all", len(rows), scores.mean())] + [
        (name, int(mask.sum()), scores[mask].mean())
        for name, mask in cut_slices(schema, rows, tenants)
        if mask.sum() >= MIN_ROWS
    ]
    metric = str(scores.name)
    table = pd.DataFrame(found, columns=["slice", "rows", metric])
    return table.sort_values(
        [metric, "slice"], ascending=metric == "accuracy", ignore_index=True
    ).round({metric: 4})


def permute_fields(
    schema: Schema, pipeline: Pipeline, test: pd.DataFrame, truth: Truth
) -> pd.DataFrame:
    """Return by how much the score falls if a field tells nothing, most first.

    The values of the field are shuffled among the rows: permutation importance, which
    scikit-learn computes of single columns only. A vector is a field of many.
    """
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(len(test))[:MAX_PERMUTED])
    inputs, truth = read_inputs(schema, test.iloc[chosen]), truth[chosen]
    labels = label_names(pipeline)

    def score(changed: pd.DataFrame) -> float:
        return score_primary(schema.task, truth, predict(pipeline, changed), labels)

    before = score(inputs)
    rows = []
    for field in schema.fields:
        columns = [f"{field.name} {place}" for place in range(field.length)]
        falls = []
        for _ in range(REPEATS):
            order = rng.permutation(len(inputs))
            shuffled = {name: inputs[name].to_numpy()[order] for name in columns}
            falls.append(before - score(inputs.assign(**shuffled)))
        rows.append((field.name, float(np.mean(falls))))
    table = pd.DataFrame(rows, columns=["field", "importance"]).round(4)
    return table.sort_values(["importance", "field"], ascending=[False, True])


def find_worst(
    schema: Schema, test: pd.DataFrame, truth: Truth, output: Output, labels: list[str]
) -> pd.DataFrame:
    """Return the rows on which the model is most wrong, with its answers.

    The columns of the answers have a space in their names, as no field has one.
    """
    answers: dict[str, Truth]
    if schema.task is Task.REGRESSION:
        wrong = np.abs(output[:, 0] - truth)
        answers = {"actual value": truth, "predicted value": output[:, 0].round(4)}
    else:
        predicted = predict_labels(output, labels)
        wrong = np.where(predicted == truth, -1, output.max(axis=1))
        answers = {
            "actual label": truth,
            "predicted label": predicted,
            "score of it": output.max(axis=1).round(4),
        }
    order = np.argsort(-wrong, kind="stable")[:WORST]
    order = order[wrong[order] > 0]
    fields = test[[field.name for field in schema.fields]].iloc[order]
    shown = fields.reset_index(drop=True).map(_shorten)
    return shown.assign(**{name: column[order] for name, column in answers.items()})


def tabulate_deciles(
    actual: npt.NDArray[np.float64], value: npt.NDArray[np.float64]
) -> pd.DataFrame:
    """Return the errors of each tenth of the rows, by their actual values."""
    tenth = pd.qcut(actual, 10, labels=False, duplicates="drop")
    frame = pd.DataFrame({"actual": actual, "bias": value - actual})
    frame["mae"] = frame["bias"].abs()
    table = frame.groupby(tenth).agg(
        lowest=("actual", "min"),
        highest=("actual", "max"),
        rows=("actual", "size"),
        bias=("bias", "mean"),
        mae=("mae", "mean"),
    )
    return table.reset_index(drop=True)


def _shorten(value: object) -> object:
    if isinstance(value, str) and len(value) > LONGEST:
        return value[:LONGEST] + "…"
    return value
