"""Stage 3: clean the rows and split them into training and test."""

import logging

import numpy as np
import pandas as pd
from pydantic import ValidationError

from serving.contract import Task
from serving.fields import Kind, to_array
from training.columns import make_instance, read_columns, read_inputs, read_labels
from training.rows import read_rows, write_rows
from training.schema import Schema, read_schema
from training.splits import SplitKind, draw_test, find_kind
from training.stage import PipelineError, command
from training.values import Config

logger = logging.getLogger(__name__)

WRITTEN = ("train", "test")

SHOWN = 10  # labels in a message
SHOWN_TEXT = 50  # characters of a value
CHECKED = 100  # rows that are validated again


def run(config: Config) -> None:
    """Write `paths.train` and `paths.test`.

    Raises PipelineError if a label has too few rows for both, or if a validator of the
    contract changes what it has returned.
    """
    schema = read_schema()
    rows = read_rows(config.paths.raw, schema.labelled)
    check_validators(schema, rows.head(CHECKED))
    rows = clean(schema, rows)
    kind = find_kind(schema, rows, config)
    if kind is SplitKind.FILE:
        train, test = rows, read_rows(config.paths.raw_test, schema.labelled)
    else:
        in_test = draw_test(schema, rows, config.split.test_share, config.seed)
        train, test = rows[~in_test], rows[in_test]
    # Later rows, and those of a test file, need not have every label.
    all_tested = kind in (SplitKind.GROUP, SplitKind.RANDOM)
    check_sides(schema, train, test, all_tested)

    write_rows(config.paths.train, train)
    write_rows(config.paths.test, test)
    logger.info(
        "%d rows to train on, %d to test on, split by %s", len(train), len(test), kind
    )


def check_validators(schema: Schema, rows: pd.DataFrame) -> None:
    """Raise PipelineError if validating valid rows again changes or refuses a value.

    The golden example and corrections are validated rows that are validated again.
    """
    columns = read_columns(rows[[field.name for field in schema.fields]])
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        try:
            again = make_instance(schema, row)
        except ValidationError as error:
            mistake = error.errors()[0]
            name = ".".join(map(str, mistake["loc"])) or "Instance"
            raise _unstable(name, f"is refused: {mistake['msg']}") from None
        for field in schema.fields:
            found = getattr(again, field.name)
            before, after = (to_array(field, [x]) for x in (row[field.name], found))
            equal_nan = before.dtype != np.object_
            if not np.array_equal(before, after, equal_nan=equal_nan):
                raise _unstable(field.name, f"becomes {repr(found)[:SHOWN_TEXT]}")


def _unstable(name: str, what: str) -> PipelineError:
    return PipelineError(
        f"A validator in app/contract.py does not keep what it has returned: a valid "
        f"value of '{name}', validated again, {what}. Rows are validated more than "
        "once. Let the validator return such values as they are, or let clients send "
        "what it makes of them."
    )


def clean(schema: Schema, rows: pd.DataFrame) -> pd.DataFrame:
    """Drop rows of repeated inputs, and all rows of inputs with more than one label.

    A contract without a text keeps all rows: numbers and categories that repeat are
    another observation.
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
    schema: Schema, train: pd.DataFrame, test: pd.DataFrame, all_tested: bool = True
) -> None:
    """Raise PipelineError if one side lacks rows, or labels that the other has.

    With `all_tested`, each label needs test rows, too.
    """
    count = len(train) + len(test)
    is_regression = schema.task is Task.REGRESSION
    least = 2 if is_regression else 1  # R² of a single row is undefined
    if min(len(train), len(test)) < least:
        raise PipelineError(
            "There are too few rows, groups or times to train and to test on: "
            f"{len(train)} and {len(test)} of {count} rows. Add rows, or change "
            "split.test_share; rows of one group, or of one time, are never parted."
        )
    if is_regression:
        return
    labels = np.concatenate([read_labels(schema, train), read_labels(schema, test)])
    learned, tested = set(labels[: len(train)]), set(labels[len(train) :])
    if len(learned | tested) < 2:
        raise PipelineError(
            f"All {count} rows have the label {labels[0]!r}. Add rows of another "
            "label: there is nothing to tell apart."
        )
    few = learned ^ tested if all_tested else tested - learned
    if not few:
        return
    counts = pd.Series(labels).value_counts()
    shown = [f"{label!r} ({counts[label]} rows)" for label in sorted(few)[:SHOWN]]
    if len(few) > SHOWN:
        shown.append(f"and {len(few) - SHOWN} more")
    is_most = len(few) > len(counts) / 2
    raise PipelineError(
        "Each label needs at least two rows, of different groups if there are groups: "
        f"to learn it and to test it. Too few for: {', '.join(shown)}. "
        f"{_suggest(is_most and _are_numbers(few), all_tested)}"
    )


def _suggest(are_numbers: bool, all_tested: bool) -> str:
    """Return what to do about labels with too few rows."""
    if are_numbers:
        return (
            "They look like numbers: to predict a number, write `label: float` in "
            "LabelledInstance (app/contract.py)."
        )
    if not all_tested:
        return (
            "They appear in the test rows only, and cannot be learned. Add rows of "
            "them to train on, or remove them."
        )
    return "Add rows, or remove these labels."


def _are_numbers(labels: set[str]) -> bool:
    try:
        for label in labels:
            float(label)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    command(run, written=WRITTEN)()
