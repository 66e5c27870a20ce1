"""Stage 1: read the rows and validate each against the contract."""

import logging
from pathlib import Path

import pandas as pd
from pydantic import ValidationError

from app.contract import LabelledInstance
from training.files import write_rows, write_text
from training.schema import read_schema
from training.scores import check_gate
from training.sources import LINE
from training.stage import PipelineError, command
from training.values import Config

logger = logging.getLogger(__name__)

SHOWN = 20


def run(config: Config) -> None:
    """Write `paths.raw`: the validated rows, with the columns of the contract.

    Raises PipelineError if rows break the contract (it lists all of them), or if no
    model can read the contract.
    """
    schema = read_schema()
    check_gate(schema.task, config.gate)
    logger.info("Reading %s", config.data.path)
    frame: pd.DataFrame = config.data.create()
    report = config.paths.bad_rows
    rows = validate(frame, config.data.path, report)
    report.unlink(missing_ok=True)
    if config.rows_per_label is not None:
        shuffled = rows.sample(frac=1, random_state=config.seed)
        rows = shuffled.groupby("label").head(config.rows_per_label).sort_index()
    write_rows(config.paths.raw, rows)
    logger.info("%d rows, %d labels", len(rows), rows["label"].nunique())


def validate(frame: pd.DataFrame, source: str, report: Path) -> pd.DataFrame:
    """Return the rows, validated and normalised by the contract.

    Raises PipelineError with source, line or row, column and reason of the first
    mistakes. It writes all of them to `report`.
    """
    _check_columns(frame, source)
    if frame.empty:
        raise PipelineError(f"{source} has no rows.")

    rows: list[dict[str, object]] = []
    mistakes: list[str] = []
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    for place, record in zip(_places(frame), records, strict=True):
        try:
            row = LabelledInstance.model_validate(record, strict=False)
        except ValidationError as error:
            mistakes += [
                f"{source}, {place}, column {mistake['loc'][0]}: {mistake['msg']}"
                for mistake in error.errors()
            ]
        else:
            rows.append(row.model_dump())
    if not mistakes:
        return pd.DataFrame(rows)

    write_text(report, "\n".join(mistakes) + "\n")
    shown = mistakes[:SHOWN]
    if len(mistakes) > SHOWN:
        shown.append(f"… and {len(mistakes) - SHOWN} more: {report} lists all")
    raise PipelineError(
        f"{len(mistakes)} value(s) break app/contract.py; nothing was written. "
        "Correct them and run again:\n" + "\n".join(shown)
    )


def _places(frame: pd.DataFrame) -> list[str]:
    """Name each row by its line (the header is line 1), or else by its number."""
    if frame.index.name == LINE:
        return [f"line {line}" for line in frame.index]
    return [f"row {number}" for number in range(1, len(frame) + 1)]


def _check_columns(frame: pd.DataFrame, source: str) -> None:
    fields = LabelledInstance.model_fields
    required = {name for name, field in fields.items() if field.is_required()}
    missing = sorted(required - set(frame.columns))
    unknown = sorted(set(map(str, frame.columns)) - set(fields))
    if missing or unknown:
        raise PipelineError(
            f"{source} has the columns {', '.join(map(str, frame.columns))}; "
            f"missing: {', '.join(missing) or 'none'}; "
            f"not in the contract: {', '.join(unknown) or 'none'}. Rename or drop "
            "columns, or change app/contract.py."
        )


if __name__ == "__main__":
    command(run)()
