"""Join what users have corrected to a source of training data.

A correction takes the place of every row of the source with the same inputs, and the
group of the first of them: so a correction and its original are never parted by the
split, and never contradict each other. Without a file of corrections, the source is
what it is.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from training.schema import GROUP, Schema, read_schema
from training.stage import PipelineError
from training.tables import Chunk, read_table, split_frame
from training.validation import Validator

logger = logging.getLogger(__name__)


def join(source: pd.DataFrame | Iterable[Chunk], file: Path) -> Iterator[Chunk]:
    """Yield the rows of a source, some of them replaced by the corrections in a file.

    A row that breaks the contract is yielded as it is: `training.ingest` reports it.
    Raises PipelineError if the file cannot be read.
    """
    chunks: Iterable[Chunk]
    if isinstance(source, pd.DataFrame):
        chunks = split_frame(source, "the source")
    else:
        chunks = source
    if not file.exists():
        logger.info("There are no corrections: %s is missing (make feedback)", file)
        yield from chunks
        return
    schema = read_schema()
    corrections = Replacements(schema, file)
    for chunk in chunks:
        yield corrections.keep_others(chunk)
    logger.info(
        "%d corrections were added; they replace %d rows",
        len(corrections.table),
        corrections.replaced,
    )
    yield corrections.as_chunk()


class Replacements:
    """Corrections, and which rows of a source they replace."""

    def __init__(self, schema: Schema, file: Path) -> None:
        """Read the corrections. Raises PipelineError if they break the contract."""
        self._inputs = [field.name for field in schema.fields]
        self._has_group = schema.has_group
        self._validator = Validator(schema.labelled)
        self._file = file
        self.replaced = 0
        self._known = known = schema.labelled.model_fields
        tables = []
        for chunk in read_table(file):
            columns = {
                name: column for name, column in chunk.columns.items() if name in known
            }
            table, wrong = self._validator.judge(
                Chunk(chunk.source, chunk.unit, chunk.places, columns)
            )
            if wrong:
                raise PipelineError(
                    f"{file} does not fit app/contract.py: export it again (make "
                    f"feedback), which leaves such rows out. {wrong[0]}"
                )
            tables.append(table)
        if not tables:  # a Parquet file without rows
            none = pa.array([], pa.large_string())
            tables.append(pa.table(dict.fromkeys(known, none)))
        self.table = pa.concat_tables(tables, promote_options="permissive")
        self._groups: dict[str, str | None] = dict.fromkeys(self._keys(self.table))

    def keep_others(self, chunk: Chunk) -> Chunk:
        """Return the rows of a chunk that no correction replaces."""
        required = {name for name, one in self._known.items() if one.is_required()}
        if not required <= chunk.columns.keys() <= self._known.keys():
            return chunk
        table, wrong = self._validator.judge(chunk)
        if wrong:
            return chunk
        keys = self._keys(table)
        groups = table[GROUP].to_pylist() if self._has_group else [""] * len(keys)
        for key, group in zip(keys, groups, strict=True):
            if key in self._groups and not self._groups[key]:
                self._groups[key] = group
        kept = pa.array([key not in self._groups for key in keys], pa.bool_())
        self.replaced += len(keys) - kept.true_count
        places = [
            place
            for place, keep in zip(chunk.places, kept.to_pylist(), strict=True)
            if keep
        ]
        columns = {name: one.filter(kept) for name, one in chunk.columns.items()}
        return Chunk(chunk.source, chunk.unit, places, columns, chunk.is_text)

    def as_chunk(self) -> Chunk:
        """Return the corrections as rows of a source."""
        columns = {
            name: self.table[name].combine_chunks()
            for name in self.table.column_names
            if name != GROUP
        }
        if self._has_group:
            # One that replaces nothing is a group of its own.
            columns[GROUP] = pa.array(
                [
                    self._groups[key] or f"feedback {number}"
                    for number, key in enumerate(self._keys(self.table))
                ],
                pa.large_string(),
            )
        places = range(1, len(self.table) + 1)
        return Chunk(str(self._file), "row", places, columns)

    def _keys(self, table: pa.Table) -> list[str]:
        rows: list[dict[str, Any]] = table.select(self._inputs).to_pylist()
        return [json.dumps(row, sort_keys=True, default=str) for row in rows]
