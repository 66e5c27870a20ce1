"""From the fields of the contract to the columns that an estimator reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import Binarizer, OneHotEncoder

from serving.contract import MAX_NUMBER, Contract, Task
from serving.fields import FieldKind, Kind, as_text, to_array
from training.schema import LABEL, Schema

Arrays = dict[str, npt.NDArray[Any]]

# A missing-value indicator. skl2onnx has no MissingIndicator and ignores add_indicator,
# so a missing value becomes a number that no row has, and that number becomes 1.
MARK = Pipeline(
    [
        (
            "fill",
            SimpleImputer(
                strategy="constant", fill_value=MAX_NUMBER, keep_empty_features=True
            ),
        ),
        ("mark", Binarizer(threshold=float(np.nextafter(np.float32(MAX_NUMBER), 0)))),
    ]
)


@dataclass(frozen=True)
class Recipe:
    """How a family of models reads the kinds of fields.

    `text` vectorises a text, `numbers` prepares all numbers, flags and vectors.
    `mark_gaps` adds a missing-value indicator for each of these that may be missing.
    `dense` is for estimators that take no sparse matrix.
    """

    text: BaseEstimator
    numbers: BaseEstimator
    mark_gaps: bool
    dense: bool = False

    def build(self, fields: Sequence[FieldKind]) -> ColumnTransformer:
        """Return the unfitted transformer of the columns that `to_inputs` makes."""
        # skl2onnx takes an input of several columns by their numbers only.
        steps: list[tuple[str, BaseEstimator, int | list[int]]] = []
        categories: list[int] = []
        numbers: list[int] = []
        gaps: list[int] = []
        for field, (first, *others) in _number_columns(fields):
            if field.kind is Kind.TEXT:
                steps.append((f"text{first}", clone(self.text), first))
            elif field.kind is Kind.CATEGORY:
                categories.append(first)
            else:
                numbers += [first, *others]
                gaps += [first] if field.optional else []
        if categories:
            encoder = OneHotEncoder(handle_unknown="ignore")
            steps.append(("categories", encoder, categories))
        if numbers:
            steps.append(("numbers", clone(self.numbers), numbers))
        if gaps and self.mark_gaps:
            steps.append(("gaps", clone(MARK), gaps))
        return ColumnTransformer(steps, sparse_threshold=0 if self.dense else 0.3)


def to_arrays(
    fields: Sequence[FieldKind], columns: Mapping[str, Sequence[Any]]
) -> Arrays:
    """Return the array of each field, as serving makes it and the ONNX model takes it.

    A column holds a value for each row; None is a missing one.
    """
    return {field.name: to_array(field, columns[field.name]) for field in fields}


def read_columns(rows: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the values of each column; a missing one is None."""
    return {str(name): _to_list(column) for name, column in rows.items()}


def _to_list(column: "pd.Series[Any]") -> list[Any]:
    values, gaps = column.astype(object), column.isna()
    if gaps.any():
        values = values.where(~gaps, None)
    return values.tolist()


def make_instance(schema: Schema, row: Mapping[str, Any]) -> Contract:
    """Return the instance of a stored row, which has the choices of categories as text.

    A field that the row lacks is left to its default.
    """
    given = {}
    for field in schema.fields:
        if field.name in row:
            value = row[field.name]
            if field.kind is Kind.CATEGORY:
                choices = dict(zip(field.choices, field.values, strict=True))
                value = choices.get(value, value)
            given[field.name] = value
    return schema.instance.model_validate(given, strict=False)


def to_inputs(fields: Sequence[FieldKind], arrays: Arrays) -> pd.DataFrame:
    """Return what a pipeline is fitted on: `length` columns for each field.

    Numbers are rounded to float32, which ONNX takes, and are float64, in which
    scikit-learn computes.
    """
    inputs: dict[str, npt.NDArray[Any]] = {}
    for field in fields:
        array = arrays[field.name]
        if array.dtype != np.object_:
            array = array.astype(np.float64)
        for place in range(field.length):
            inputs[f"{field.name} {place}"] = array[:, place]
    return pd.DataFrame({name: pd.Series(inputs[name]) for name in inputs})


def read_inputs(schema: Schema, rows: pd.DataFrame) -> pd.DataFrame:
    """Return what a pipeline is fitted on."""
    names = [field.name for field in schema.fields]
    return to_inputs(schema.fields, to_arrays(schema.fields, read_columns(rows[names])))


def read_labels(schema: Schema, rows: pd.DataFrame) -> npt.NDArray[Any]:
    """Return the true labels: text of a classification, float64 of a regression."""
    if schema.task is Task.REGRESSION:
        return rows[LABEL].to_numpy(np.float64)
    if isinstance(rows[LABEL].dtype, pd.StringDtype):
        return rows[LABEL].to_numpy(np.object_)
    return np.array([as_text(label) for label in rows[LABEL].tolist()], np.object_)


def _number_columns(
    fields: Sequence[FieldKind],
) -> Iterator[tuple[FieldKind, list[int]]]:
    """Yield each field with the numbers of its columns."""
    place = 0
    for field in fields:
        yield field, list(range(place, place + field.length))
        place += field.length
