"""Join what users have corrected to the training data, whatever its source.

A correction replaces every row of the source with the same inputs, so the two never
contradict each other. It takes the group of the first of these rows, so the split never
separates it from rows like the one that it replaces.
"""

import json
import logging
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from serving.fields import Kind, read_label
from training.schema import GROUP, Schema, read_schema
from training.stage import PipelineError
from training.tables import Chunk, read_table
from training.validation import Validator

logger = logging.getLogger(__name__)

TENANT = "tenant"
# The columns of `make feedback` that say where a row comes from.
PROVENANCE = {TENANT, "feedback_id", "received_at"}


def find_file(path: Path | None) -> Path | None:
    """Return the path of a file of corrections if there is one."""
    return path if path and path.exists() else None


def join(source: Iterable[Chunk], file: Path) -> Iterator[Chunk]:
    """Yield the rows of a source, some of them replaced by the corrections in a file.

    A row that breaks the contract is yielded as it is: `training.ingest` reports it.
    Raises PipelineError if the file cannot be read.
    """
    corrections = Replacements(read_schema(), file)
    for chunk in source:
        yield corrections.keep_others(chunk)
    logger.info(
        "%d corrections were added; they replace %d rows",
        len(corrections.table),
        corrections.replaced,
    )
    yield corrections.as_chunk()


def separate_tenants(
    chunk: Chunk, contract: Container[str]
) -> tuple[dict[str, pa.Array], list[str]]:
    """Return the columns without PROVENANCE, and the tenant of each row, if known.

    A column of that name stays if it is a field of the contract.
    """
    columns = {
        name: column
        for name, column in chunk.columns.items()
        if name in contract or name not in PROVENANCE
    }
    tenants = chunk.columns.get(TENANT) if TENANT not in contract else None
    return columns, [] if tenants is None else tenants.to_pylist()


def read_tenants(
    schema: Schema, rows: pd.DataFrame, path: Path | None
) -> "pd.Series[str]":
    """Return for each row the tenant whose correction it is; empty if it is none.

    `path` is that of the corrections, if there are any. Raises PipelineError if the
    file cannot be read.
    """
    if not (file := find_file(path)):
        return pd.Series("", rows.index, dtype=str)
    corrections = Replacements(schema, file)
    known = dict(zip(corrections.keys, corrections.tenants, strict=True))
    fields = [field.name for field in schema.fields]
    table = pa.Table.from_pandas(rows[fields], preserve_index=False)
    keys = corrections.make_keys(table)
    return pd.Series([known.get(key, "") for key in keys], rows.index, dtype=str)


class Replacements:
    """Corrections, and which rows of a source they replace.

    `table` has the corrections as rows, `keys` the key of each (see `make_keys`), and
    `tenants` the tenant of each, or "" where the file names none. `replaced` counts the
    rows of the source that they have replaced so far.
    """

    def __init__(self, schema: Schema, file: Path) -> None:
        """Read the corrections. Raises PipelineError if they break the contract."""
        self._inputs = [field.name for field in schema.fields]
        self._has_group = schema.has_group
        self._choices = {
            field.name: dict(zip(field.choices, field.values, strict=True))
            for field in (*schema.of_kind(Kind.CATEGORY), read_label(schema.labelled))
            if field.kind is Kind.CATEGORY
        }
        self._validator = Validator(schema.labelled)
        self._known = schema.labelled.model_fields
        self._file = file
        self.replaced = 0
        self.table, self.tenants = self._read()
        self.keys = self.make_keys(self.table)
        self._groups: dict[str, str | None] = dict.fromkeys(self.keys)

    def _read(self) -> tuple[pa.Table, list[str]]:
        """Return the validated rows of the file and their tenants."""
        tables: list[pa.Table] = []
        tenants: list[str] = []
        for chunk in read_table(self._file):
            columns, named = separate_tenants(chunk, self._known)
            wrong = [
                f"It has no field {name}." for name in columns.keys() - self._known
            ]
            if not wrong:
                table, wrong = self._validator.judge(replace(chunk, columns=columns))
            if wrong:
                raise PipelineError(
                    f"{self._file} does not fit app/contract.py: export it again (make "
                    "feedback), which leaves such rows out; or set corrections: null "
                    f"in training/conf/config.yaml. {wrong[0]}"
                )
            tables.append(table)
            tenants += named or [""] * len(table)
        if not tables:  # a Parquet file without rows
            none = pa.array([], pa.large_string())
            tables.append(pa.table(dict.fromkeys(self._known, none)))
        return pa.concat_tables(tables, promote_options="permissive"), tenants

    def keep_others(self, chunk: Chunk) -> Chunk:
        """Return the rows of a chunk that no correction replaces."""
        required = {name for name, one in self._known.items() if one.is_required()}
        if not required <= chunk.columns.keys() <= self._known.keys():
            return chunk
        table, wrong = self._validator.judge(chunk)
        if wrong:
            return chunk
        keys = self.make_keys(table)
        groups = table[GROUP].to_pylist() if self._has_group else [""] * len(keys)
        for key, group in zip(keys, groups, strict=True):
            if key in self._groups and not self._groups[key]:
                self._groups[key] = group
        kept = pa.array([key not in self._groups for key in keys], pa.bool_())
        self.replaced += kept.false_count
        return chunk.filter(kept)

    def as_chunk(self) -> Chunk:
        """Return the corrections as rows of a source."""
        columns = {
            name: self._as_given(name)
            for name in self.table.column_names
            if name != GROUP
        }
        if self._has_group:
            # One that replaces nothing is a group of its own.
            columns[GROUP] = pa.array(
                [
                    self._groups[key] or f"feedback {number}"
                    for number, key in enumerate(self.keys)
                ],
                pa.large_string(),
            )
        places = range(1, len(self.table) + 1)
        return Chunk(str(self._file), "row", places, columns)

    def _as_given(self, name: str) -> pa.Array:
        """Return a column; choices that are no text have the type of the contract."""
        choices, column = self._choices.get(name, {}), self.table[name]
        if not choices or any(isinstance(value, str) for value in choices.values()):
            return column.combine_chunks()
        return pa.array([choices.get(text) for text in column.to_pylist()])

    def make_keys(self, table: pa.Table) -> list[str]:
        """Return a key for each row, which is the same for rows of the same inputs."""
        rows: list[dict[str, Any]] = table.select(self._inputs).to_pylist()
        return [json.dumps(row, sort_keys=True, default=str) for row in rows]
