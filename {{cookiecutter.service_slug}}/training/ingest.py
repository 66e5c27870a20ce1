"""Stage 2: read the rows and validate each against the contract."""

import logging
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel

from serving.contract import Task
from training import corrections
from training.files import write_text
from training.rows import write_rows
from training.schema import LABEL, read_schema
from training.stage import PipelineError, command
from training.tables import Chunk, split_frame
from training.validation import Validator
from training.values import Config

logger = logging.getLogger(__name__)

WRITTEN = ("raw", "raw_test", "bad_rows")

SHOWN = 20  # mistakes in a message

# Columns with missing values keep their type: pandas would make floats of integers.
NULLABLE = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}


def run(config: Config) -> None:
    """Write `paths.raw` and `paths.raw_test`: validated rows, as the contract has them.

    The second has the rows of `data.test_path`, and none without one. Raises
    PipelineError if rows break the contract, or if no model can read the contract.
    """
    schema = read_schema()
    test_path = getattr(config.data, "test_path", None)
    file = corrections.find_file(config.corrections)
    if file and test_path is not None:
        raise PipelineError(
            f"data.test_path: with corrections ({file}), the test rows are drawn from "
            "all rows. Set it to null, or leave the corrections out: corrections=null"
        )
    rows = _read(config, schema.labelled, file)
    tested = rows.head(0)
    if test_path is not None:
        tested = _read(config, schema.labelled, path=test_path)
    config.paths.bad_rows.unlink(missing_ok=True)
    if config.rows_per_label is not None and schema.task is Task.CLASSIFICATION:
        shuffled = rows.sample(frac=1, random_state=config.seed)
        rows = shuffled.groupby(LABEL).head(config.rows_per_label).sort_index()
    write_rows(config.paths.raw, rows)
    write_rows(config.paths.raw_test, tested)
    labels = ""
    if schema.task is Task.CLASSIFICATION:
        labels = f", {rows[LABEL].nunique()} labels"
    logger.info("%d rows%s", len(rows), labels)


def _read(
    config: Config,
    contract: type[BaseModel],
    joined: Path | None = None,
    path: str | None = None,
) -> pd.DataFrame:
    """Read the source, or another path in the same way, and validate its rows.

    `joined` is a file of corrections, which replace rows of the source.
    """
    replaced = {} if path is None else {"path": path}
    source = replaced.get("path", getattr(config.data, "path", config.data.target))
    logger.info("Reading %s", source)
    made = config.data.create(**replaced)
    chunks = split_frame(made, source) if isinstance(made, pd.DataFrame) else made
    if joined:
        chunks = corrections.join(chunks, joined)
    return validate(chunks, contract, source, config.paths.bad_rows)


def validate(
    chunks: Iterable[Chunk], contract: type[BaseModel], source: str, report: Path
) -> pd.DataFrame:
    """Return the rows, validated and normalised by the contract.

    Raises PipelineError with source, line or row, column and reason of the first
    mistakes. It writes all of them to `report`.
    """
    validator = Validator(contract)
    tables: list[pa.Table] = []
    mistakes: list[str] = []
    for chunk in chunks:
        check_columns(list(chunk.columns), contract, chunk.source)
        table, wrong = validator.judge(chunk)
        mistakes += wrong
        if not mistakes:
            tables.append(table)
    if mistakes:
        write_text(report, "\n".join(mistakes) + "\n")
        shown = mistakes[:SHOWN]
        if len(mistakes) > SHOWN:
            shown.append(f"… and {len(mistakes) - SHOWN} more: {report} lists all")
        raise PipelineError(
            f"{len(mistakes)} value(s) break app/contract.py; nothing was written. "
            "Correct them and run again:\n" + "\n".join(shown)
        )
    if not any(len(table) for table in tables):
        raise PipelineError(f"{source} has no rows.")
    return to_frame(pa.concat_tables(tables, promote_options="permissive"))


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Return a frame of the same values; integers stay so if some are missing."""
    return pd.DataFrame(
        {
            name: column.to_pandas(
                types_mapper=NULLABLE.get if column.null_count else None
            )
            for name, column in zip(table.column_names, table.columns, strict=True)
        }
    )


def check_columns(names: list[str], contract: type[BaseModel], source: str) -> None:
    """Raise PipelineError if the columns are not those of the contract."""
    fields = contract.model_fields
    missing = [
        name
        for name, field in fields.items()
        if field.is_required() and name not in names
    ]
    unknown = [name for name in names if name not in fields]
    if missing or unknown:
        raise PipelineError(
            f"{source} has the columns {names}; missing: {missing or 'none'}; not in "
            f"the contract: {unknown or 'none'}. Rename or drop columns, or change "
            "app/contract.py."
        )


if __name__ == "__main__":
    command(run, written=WRITTEN)()
