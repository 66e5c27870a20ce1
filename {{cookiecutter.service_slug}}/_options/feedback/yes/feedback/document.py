"""What docs/database.md says of the tables: it follows from them and the migrations."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from sqlalchemy import Column, Engine, Index, Table, create_engine, inspect

from feedback import database
from feedback.tables import RECORDS, Base

PAGE = "docs/database.md"
MARK = "\n<!-- `make docs` writes all that follows. -->\n"

INDEXED = re.compile(r"^(?P<meaning>.+)\. Index: (?P<answer>yes|no), because .+\.$")

Schema = dict[str, dict[str, str]]  # by table: column, index or constraint, its text


class Revision(NamedTuple):
    """A migration: its number, its words, and what it changes."""

    number: str
    words: str
    changes: list[str]


def tables() -> list[Table]:
    """Return the tables of the code, by their names."""
    return sorted(Base.metadata.tables.values(), key=lambda table: table.name)


def write(page: str) -> str:
    """Return the page with what follows from the tables below its mark."""
    head = page.partition(MARK)[0]
    return head.rstrip("\n") + "\n" + MARK + "\n" + "\n\n".join(sections()) + "\n"


def sections() -> Iterator[str]:
    """Yield the sections that follow from tables and migrations."""
    yield "## Changes"
    for number, words, changes in read_revisions():
        yield f"**{number}** {words}"
        yield "\n".join(f"- {change}" for change in changes)
    yield "## Tables"
    yield diagram()
    for table in tables():
        yield f"### {table.name}"
        rows = [
            [f"`{one.name}`", str(one.type), one.doc or ""] for one in table.columns
        ]
        yield _table(["Column", "Type", "Meaning, index"], rows)
    yield "## Indexes"
    rows = [
        [f"`{index.name}`", f"`{table.name}`", _names(index), reason(index)]
        for table in tables()
        for index in sorted(table.indexes, key=lambda one: str(one.name))
    ]
    yield _table(["Index", "Table", "Columns", "Reason"], rows)
    yield "## Changes of records"
    rows = [[f"`{name}`", *records] for name, records in sorted(RECORDS.items())]
    yield _table(["Table", "Deletes", "Updates", "Growth", "Retention"], rows)


def diagram() -> str:
    """Return the tables and their references in Mermaid."""
    lines = ["```mermaid", "erDiagram"]
    for table in tables():
        for key in table.foreign_key_constraints:
            other = key.referred_table.name
            lines.append("    " + other + " ||--o{ " + table.name + " : has")
    for table in tables():
        lines.append(f"    {table.name} " + "{")
        for column in table.columns:
            marks = [
                mark
                for mark, has in (
                    ("PK", column.primary_key),
                    ("FK", bool(column.foreign_keys)),
                )
                if has
            ]
            type_ = re.sub(r"\W.*", "", str(column.type)).lower()
            lines.append(f"        {type_} {column.name} {', '.join(marks)}".rstrip())
        lines.append("    }")
    return "\n".join([*lines, "```"])


def read_revisions() -> list[Revision]:
    """Return what each migration changes: all are run, one by one, on SQLite."""
    from alembic.script import ScriptDirectory

    engine = create_engine("sqlite://")
    found: list[Revision] = []
    with engine.connect() as connection:
        scripts = ScriptDirectory.from_config(database.configure(connection))
    before: Schema = {}
    for script in reversed(list(scripts.walk_revisions())):
        database.migrate(engine, script.revision)
        after = read_schema(engine)
        words = " ".join((script.doc or "").split())
        found.append(Revision(script.revision, words, list(compare(before, after))))
        before = after
    engine.dispose()
    return found


def read_schema(engine: Engine) -> Schema:
    """Return the tables of a database, with their columns and indexes."""
    look = inspect(engine)
    schema: Schema = {}
    for table in sorted(look.get_table_names()):
        if table == "alembic_version":
            continue
        parts = schema[table] = {}
        for column in look.get_columns(table):
            null = "" if column["nullable"] else " NOT NULL"
            parts[f"column `{table}.{column['name']}`"] = f"{column['type']}{null}"
        for index in look.get_indexes(table):
            names = ", ".join(map(str, index["column_names"]))
            parts[f"index `{index['name']}`"] = f"{table} ({names})"
    return schema


def compare(before: Schema, after: Schema) -> Iterator[str]:
    """Yield what was added, removed and altered, in words."""
    for table in sorted({*before, *after}):
        old, new = before.get(table, {}), after.get(table, {})
        if not old:
            yield f"added the table `{table}`"
        if not new:
            yield f"removed the table `{table}`"
        for part in dict.fromkeys([*old, *new]):
            if part not in old:
                yield f"added the {part}: {new[part]}"
            elif part not in new:
                yield f"removed the {part}"
            elif old[part] != new[part]:
                yield f"altered the {part}: {old[part]} → {new[part]}"


def mistakes() -> Iterator[tuple[str, str]]:
    """Yield what the tables do not say: the rule (B2 or B3), and what to do."""
    for table in tables():
        keys = {column.name for column in table.primary_key.columns}
        indexed = {column.name for one in table.indexes for column in one.columns}
        for column in table.columns:
            yield from _check_column(column, column.name in keys | indexed)
        for index in table.indexes:
            if not reason(index):
                info = {"reason": "…"}
                yield "B2", f"Give the index {index.name} its {info=}."
        records = RECORDS.get(table.name)
        if records is None or not all(records):
            yield "B3", f"RECORDS does not say what becomes of rows of {table.name}."


def _check_column(column: Column[Any], is_indexed: bool) -> Iterator[tuple[str, str]]:
    name = f"{column.table.name}.{column.name}"
    found = INDEXED.match(column.doc or "")
    if not found:
        what = f"End the doc of {name} with “Index: yes, because …” or “no, because …”."
        yield "B2", what
    elif (found["answer"] == "yes") != is_indexed:
        has = "an index has it" if is_indexed else "no index has it"
        yield "B2", f"The doc of {name} says “Index: {found['answer']}”, and {has}."


def reason(index: Index) -> str:
    """Return why there is an index; empty if it does not say."""
    return str(index.info.get("reason", ""))


def _names(index: Index) -> str:
    return ", ".join(f"`{column.name}`" for column in index.columns)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
