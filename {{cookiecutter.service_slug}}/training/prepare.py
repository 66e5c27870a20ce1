"""Stage 2: clean the rows and split them into training and test."""

import logging

import numpy as np
import numpy.typing as npt
import pandas as pd

from serving.contract import Task
from serving.fields import Kind
from training.columns import read_inputs, read_labels
from training.files import read_rows, write_rows
from training.schema import Schema, read_schema
from training.splits import SplitKind, draw_test, find_kind
from training.stage import PipelineError, command
from training.values import Config

logger = logging.getLogger(__name__)

SHOWN = 10


def run(config: Config) -> None:
    """Write `paths.train` and `paths.test`.

    Raises PipelineError if a label has too few rows for both.
    """
    schema = read_schema()
    rows = clean(schema, read_rows(config.paths.raw, schema.labelled))
    in_test = draw_test(schema, rows, config.split.test_share, config.seed)
    check_sides(schema, rows, in_test)

    write_rows(config.paths.train, rows[~in_test])
    write_rows(config.paths.test, rows[in_test])
    logger.info(
        "%d rows to train on, %d to test on, split by %s",
        (~in_test).sum(),
        in_test.sum(),
        find_kind(schema, rows),
    )


def clean(schema: Schema, rows: pd.DataFrame) -> pd.DataFrame:
    """Drop repeated texts, and texts with more than one label.

    A row of numbers and categories that repeats is another observation, and stays.
    """
    if not schema.of_kind(Kind.TEXT):
        return rows
    inputs = read_inputs(schema, rows)
    same = inputs.groupby(list(inputs), dropna=False).ngroup()
    contradictory = pd.Series(False, same.index)
    if schema.task is Task.CLASSIFICATION:
        labels = pd.Series(read_labels(schema, rows))
        contradictory = labels.groupby(same).transform("nunique") > 1
    repeated = same.duplicated() & ~contradictory
    if contradictory.any() or repeated.any():
        logger.info(
            "Dropped %d rows whose text has several labels, %d duplicates",
            contradictory.sum(),
            repeated.sum(),
        )
    kept = (~contradictory & ~repeated).to_numpy()
    return rows[kept].reset_index(drop=True)


def check_sides(
    schema: Schema, rows: pd.DataFrame, in_test: npt.NDArray[np.bool_]
) -> None:
    """Raise PipelineError if one side lacks rows or labels that it needs."""
    kind = find_kind(schema, rows)
    unit = "groups of rows" if kind is SplitKind.GROUP else "rows"
    if in_test.all() or not in_test.any():
        raise PipelineError(
            f"There are too few {unit} to train and to test on ({len(rows)} rows). "
            "Add rows, or change split.test_share."
        )
    if schema.task is Task.REGRESSION:
        return
    labels = read_labels(schema, rows)
    learned, tested = set(labels[~in_test]), set(labels[in_test])
    if len(learned | tested) < 2:
        raise PipelineError(
            f"All {len(rows)} rows have the label {labels[0]!r}. Add rows of another "
            "label: there is nothing to tell apart."
        )
    # A label that time has not brought again needs no test.
    few = tested - learned if kind is SplitKind.TIME else learned ^ tested
    if not few:
        return
    counts = pd.Series(labels).value_counts()
    shown = [f"{label!r} ({counts[label]} rows)" for label in sorted(few)[:SHOWN]]
    if len(few) > SHOWN:
        shown.append(f"and {len(few) - SHOWN} more")
    hint = "Add rows, or remove these labels."
    if len(few) > len(counts) / 2 and _are_numbers(few):
        hint = (
            "They look like numbers: to predict a number, write `label: float` in "
            "LabelledInstance (app/contract.py)."
        )
    elif kind is SplitKind.TIME:
        hint = (
            "They appear in the latest rows only. Add earlier rows of them, lower "
            "split.test_share, or remove them."
        )
    raise PipelineError(
        f"Each label needs at least two {unit} of its own, to learn and to test it. "
        f"Too few for: {', '.join(shown)}. {hint}"
    )


def _are_numbers(labels: set[str]) -> bool:
    try:
        return bool([float(label) for label in labels])
    except ValueError:
        return False


if __name__ == "__main__":
    command(run)()
