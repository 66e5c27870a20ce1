"""The sources of training data: functions that a `_target_` of conf/data names.

Each returns a frame, or chunks of rows, with the columns of
`app.contract.LabelledInstance`, which `training.ingest` then validates.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from training.dialect import Dialect, read_cells, translate
from training.schema import read_schema
from training.tables import Chunk, read_table
from training.validation import read_columns

logger = logging.getLogger(__name__)


def table(path: str, test_path: str | None = None) -> Iterator[Chunk]:
    """Read your own data: CSV (UTF-8), JSON lines, Parquet, or a directory of Parquet.

    `test_path` names rows to test on, which are read in the same way: training.ingest
    calls this function again for them. Raises PipelineError, with the file, the line or
    row, the reason and the fix.
    """
    return read_table(Path(path))


def adopted(
    path: str,
    columns: dict[str, str],
    encoding: str,
    separator: str,
    quote: str,
    units: dict[str, str],
    comma: list[str],
    times: dict[str, str],
    test_path: str | None = None,
) -> Iterator[Chunk]:
    """Read a file as it came, in the dialect that `make adopt` has found.

    Rows without a label are left out. Raises PipelineError, as `table`.
    """
    dialect = Dialect(columns, encoding, separator, quote, units, comma, times)
    fields, _ = read_columns(read_schema().labelled)
    empty = 0
    for cells in read_cells(Path(path), dialect):
        chunk, gaps = translate(cells, dialect, fields)
        empty += gaps
        yield chunk
    if empty:
        logger.info("Left out %d rows of %s without a label", empty, path)
