"""Read and write the rows and tables that pass between the stages."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype
from pydantic import BaseModel

from serving.fields import read_types
from training.files import read_bytes, write_bytes, write_text
from training.stage import PipelineError


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """Replace a Parquet file atomically. Its types are those of the columns.

    Parquet brings back what was put in: text such as "007", "NA" or a lone carriage
    return, numbers and missing values.
    """
    content = io.BytesIO()
    rows.to_parquet(content, index=False)
    write_bytes(path, content.getvalue())


def read_rows(path: Path, contract: type[BaseModel] | None = None) -> pd.DataFrame:
    """Read the rows that an earlier stage wrote, with the columns of a contract.

    Raises PipelineError if the file is missing or damaged, or has other columns, text
    for numbers, numbers for text, or no rows.
    """
    content = io.BytesIO(read_bytes(path))
    try:
        rows = pd.read_parquet(content)
    except ValueError as error:  # pyarrow's errors derive from it
        raise PipelineError(
            f"{path} cannot be read ({error}). Run all stages: make train"
        ) from None
    wanted = list(contract.model_fields if contract else rows.columns)
    if list(rows.columns) != wanted:
        raise PipelineError(
            f"{path} has the columns {list(rows.columns)}, but app/contract.py has "
            f"{wanted}. Run all stages: make train"
        )
    if rows.empty:
        raise PipelineError(f"{path} has no rows. Run all stages: make train")
    if contract is None:
        return rows
    for name, types in read_types(contract).items():
        if found := _find_other_type(rows[name], types):
            raise PipelineError(
                f"{path} has {found} in the column {name}, but app/contract.py has "
                "another type for it. Run all stages: make train"
            )
    return rows


def _find_other_type(
    column: "pd.Series[Any]", types: Sequence[Mapping[str, Any]]
) -> str:
    """Return what a column holds if no type of its field does; else an empty string.

    Categories are stored as text, and so are labels that are true or false.
    """
    names = {one.get("type") for one in types} - {"null"}
    if any({"enum", "const"} & one.keys() for one in types):
        names = {"string"}
    if isinstance(column.dtype, pd.StringDtype):
        return "" if names & {"string", "boolean"} else "text"
    return "numbers" if is_numeric_dtype(column) and names == {"string"} else ""


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Replace a JSON file of records atomically. Text stays text: the label "007"."""
    content = table.to_json(orient="records", force_ascii=False, double_precision=6)
    write_text(path, content + "\n")


def read_table(path: Path) -> pd.DataFrame:
    """Read what `write_table` wrote. Raises PipelineError if it is missing."""
    return pd.DataFrame(json.loads(read_bytes(path)))
