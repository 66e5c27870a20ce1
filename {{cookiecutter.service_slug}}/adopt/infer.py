"""Infer the contract from a table: the fields, their types and ranges, and the task."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean

import pyarrow as pa
import pyarrow.compute as pc

from adopt.exclude import check_leakage, find_persons, find_reason
from adopt.layout import Refusal, check_size, find_dialect, join, read_whole
from adopt.names import find_column, name_fields, say, show
from adopt.profile import (
    Holds,
    Profile,
    Unclear,
    find_odd_times,
    fits,
    is_currency,
    profile,
    round_out,
)
from serving.contract import MAX_NUMBER, Task
from serving.fields import Kind
from training.dialect import NO_VALUE, Dialect
from training.schema import GROUP, LABEL, TIME

# A label of integers has classes if there are at most MOST_CLASSES of them, with at
# least ROWS_PER_CLASS rows each.
MOST_CLASSES, ROWS_PER_CLASS = 20, 5
# A text is a category if its values are few and short, with several rows each. Hardly
# any may occur once: otherwise there are probably others that the file does not have.
MOST_CHOICES, LONGEST_CHOICE, ROWS_PER_CHOICE, SINGLE_SHARE = 50, 60, 3, 0.01
MAX_TEXT_LENGTH = 10_000  # as app/contract.py has it
FEWEST_ROWS = 20
# Each column is a field of the contract and an input of the model, and its name stands
# in each request.
MOST_FIELDS = 1_000
# What people write in a row below the others, in lower case; how many such there are.
TOTALS = {*"total totals totale sum sums summe suma soma somme razem итого".split()}
TOTALS |= {*"gesamt insgesamt gesamtsumme gesamtergebnis subtotal".split()}
TOTALS |= {*"всего 合計 合计 总计 總計".split()}
TOTALS |= {*"average mean durchschnitt mittelwert moyenne media promedio".split()}
TOTALS |= {"grand total", "total general", "total général"}
FOOTER = 5
# Rows among which the names of the columns may be, below titles.
HEADER = 10
# The share of repeated rows from which on the user is told.
REPEATED_SHARE = 0.01


@dataclass(frozen=True)
class Options:
    """What the user says: columns by their names in the file."""

    data: Path
    label: str
    task: str = ""
    time: str = ""
    group: str = ""
    drop: Sequence[str] = ()
    text: Sequence[str] = ()
    keep: Sequence[str] = ()
    test: Path | None = None
    decimal: str = ""

    @property
    def comma(self) -> bool | None:
        """Return whether the decimal sign is a comma; None if nothing was said."""
        return {",": True, ".": False}.get(self.decimal)

    @property
    def no_features(self) -> set[str]:
        """Return the columns that are named as something else than features."""
        return {self.label, self.time, self.group, *self.drop} - {""}


@dataclass(frozen=True)
class Field:
    """A field of the contract: its name, its type as Python, and where it comes from.

    `said` is for the user. `is_named` tells whether an option named the column.
    """

    name: str
    column: str
    type: str
    said: str
    default: str = ""
    is_named: bool = False

    @property
    def kind(self) -> Kind:
        """Return what it holds, as a model reads it."""
        words = {
            "Literal[": Kind.CATEGORY,  # first, as a choice may hold the other words
            "list[": Kind.VECTOR,
            "str": Kind.TEXT,
            "bool": Kind.FLAG,
        }
        found = (kind for word, kind in words.items() if word in self.type)
        return next(found, Kind.NUMBER)

    @property
    def line(self) -> str:
        """Return the field as app/contract.py has it."""
        default = f" = {self.default}" if self.default else ""
        return f"{self.name}: {self.type}{default}"


@dataclass(frozen=True)
class Plan:
    """What a table says: the fields, the task, what is left out, and what to note."""

    dialect: Dialect
    task: Task
    rows: int
    fields: Sequence[Field]
    label: Field
    group: Field | None = None
    time: Field | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def labelled(self) -> list[Field]:
        """Return the fields that training data has, and requests do not."""
        return [each for each in (self.label, self.group, self.time) if each]


def infer(options: Options, known: Mapping[str, str] | None = None) -> Plan:
    """Return what the table says. Raises Refusal, with the reason and what to do.

    `known` holds the field of each column that was adopted before.
    """
    for path in filter(None, (options.data, options.test)):
        check_size(path)
    if options.test and options.test.name == options.data.name:
        raise Refusal(
            f"TEST and DATA are both called {options.data.name}, and are copied to one "
            "directory: rename one. Rows to learn from are none to test on."
        )
    dialect = find_dialect(options.data)
    table = read_whole(options.data, dialect)
    options = _resolve(options, table)
    _check_last(table, options.label, options.data)
    if options.test:
        table = _add_test_rows(table, options.test, options.drop, dialect)
    _check_width(options, table.column_names)
    notes = []
    if dialect.encoding == "cp1252":
        notes.append(
            f"{options.data} is not in UTF-8 and is read as Windows-1252. If letters "
            "look wrong, save it as UTF-8."
        )
    return _Inference(options, dialect, table, notes, known or {}).run()


def _check_last(table: pa.Table, label: str, path: Path) -> None:
    """Raise Refusal if the last row with a label sums up the others.

    One of its texts says so; another cell is empty, or the sum or mean of those above.
    """
    rows = table.slice(max(0, len(table) - FOOTER)).to_pylist()
    labelled = [row for row in rows if _is_given(row[label])]
    last = labelled[-1] if labelled else {}
    has_gaps = not all(map(_is_given, last.values()))
    for name, cell in last.items():
        if not isinstance(cell, str) or name == label:
            continue
        if " ".join(cell.lower().split()).strip(" :*") not in TOTALS:
            continue
        is_single = pc.sum(pc.equal(table[name], cell)).as_py() == 1
        if is_single and (has_gaps or any(_ends_in_sum(table, name) for name in last)):
            raise Refusal(
                f"{path}: the last row, with {cell!r} in {name!r}, sums up the others. "
                "It is none of them to learn from: remove it."
            )


def _is_given(cell: object) -> bool:
    return cell is not None and str(cell).strip().lower() not in NO_VALUE


def _ends_in_sum(table: pa.Table, name: str) -> bool:
    """Return whether the last number is the sum or the mean of the others."""
    try:
        one = profile(name, table[name].combine_chunks())
    except Unclear:
        return False
    if one.holds is not Holds.NUMBERS or len(one.numbers) < 3:
        return False
    *above, last = one.numbers.tolist()
    return any(math.isclose(last, x, rel_tol=1e-4) for x in (sum(above), fmean(above)))


def _add_test_rows(
    table: pa.Table, path: Path, dropped: Sequence[str], dialect: Dialect
) -> pa.Table:
    """Return a table with the rows to test on behind its own. Raises Refusal."""
    tested = read_whole(path, dialect)
    if missing := {*table.column_names} - {*tested.column_names, *dropped}:
        hint, written = "", find_dialect(path).separator
        if written != dialect.separator:
            hint = (
                f" Its columns are separated by {written!r}, those of DATA by "
                f"{dialect.separator!r}: write both alike."
            )
        raise Refusal(
            f"TEST: {path} lacks the columns {show(sorted(missing))}. "
            f"It needs those of DATA, but for what DROP leaves out.{hint}"
        )
    known = [name for name in table.column_names if name in tested.column_names]
    parts = [table, tested.select(known)]
    return join(parts, f"TEST: {path} and DATA have")


def _resolve(options: Options, table: pa.Table) -> Options:
    """Return the options with the columns as the file has them.

    Raises Refusal with all mistakes at once.
    """
    columns = table.column_names
    mistakes: list[str] = []
    roles: dict[str, str] = {}

    def find(option: str, name: str) -> str:
        try:
            found = find_column(name, columns, option)
        except Refusal as error:
            mistakes.append(f"{error}{_find_below(name, table)}")
            return name
        if roles.setdefault(found, option) != option and {roles[found], option} != {
            "TEXT",
            "KEEP",
        }:
            mistakes.append(
                f"{found!r} is named by {roles[found]} and by {option}: name it once."
            )
        return found

    def find_all(option: str, names: Sequence[str]) -> list[str]:
        return [find(option, name) for name in names]

    if options.task not in ("", *Task):
        mistakes.append(
            f"TASK: {options.task!r} is none. Write TASK=classification or "
            "TASK=regression."
        )
    if options.decimal not in ("", ",", "."):
        mistakes.append("DECIMAL: write DECIMAL=, or DECIMAL=.")
    resolved = replace(
        options,
        label=find("LABEL", options.label),
        time=options.time and find("TIME", options.time),
        group=options.group and find("GROUP", options.group),
        drop=find_all("DROP", options.drop),
        text=find_all("TEXT", options.text),
        keep=find_all("KEEP", options.keep),
    )
    if mistakes:
        raise Refusal("\n".join(mistakes))
    return resolved


def _find_below(name: str, table: pa.Table) -> str:
    """Return what to do if a row has the names that the first line should have."""
    for row in table.slice(0, HEADER).to_pylist():
        if name.lower() in (str(cell).strip().lower() for cell in row.values()):
            return (
                f" A row below the first line has {name!r}: if it names the columns, "
                "remove the lines above it."
            )
    return ""


def _check_width(options: Options, columns: Sequence[str]) -> None:
    """Raise Refusal if there are more columns than a contract can have fields."""
    width = len({*columns} - options.no_features)
    if width > MOST_FIELDS:
        raise Refusal(
            f"{options.data} has {width:,} columns to predict from; {MOST_FIELDS:,} at "
            "most can be fields of a contract. Leave some out (DROP=…), or write the "
            "numbers that belong together, such as those of a spectrum, as one column "
            'of lists in a Parquet file: table["spectrum"] = '
            "table[columns].to_numpy().tolist()"
        )


class _Inference:
    """The work of `infer` on one table."""

    def __init__(
        self,
        options: Options,
        dialect: Dialect,
        table: pa.Table,
        notes: list[str],
        known: Mapping[str, str],
    ) -> None:
        self._options = options
        self._dialect = dialect
        self._table = table
        self._first = table.column_names[0]
        self._notes = notes
        self._known = known
        self._left_out: dict[str, str] = {}

    def run(self) -> Plan:
        """Return the plan."""
        label = self._drop_unlabelled(self._profile_label())
        self._note_repeated()
        task, label, label_field = self._read_label(label)
        profiles = self._settle_signs(self._profile_all())
        fields = name_fields([one.name for one in profiles], self._known)
        features = [
            made
            for one in profiles
            if (made := self._read_feature(one, fields[one.name], label, task))
        ]
        if not features:
            reasons = "; ".join(
                f"{name}: {why}" for name, why in self._left_out.items()
            )
            raise Refusal(
                "No column is left to predict from. Take some of them with KEEP=…: "
                f"{reasons or 'the file has the label only'}."
            )
        group = self._read_group()
        time, written = self._read_time()
        plan = Plan(
            self._dialect,
            task,
            len(self._table),
            features,
            label_field,
            group,
            time,
            self._left_out,
            self._notes,
        )
        # The labels of classes are taken as they are written.
        profile_of = {one.name: one for one in profiles}
        read = {each.name: profile_of[each.column] for each in features}
        if task is Task.REGRESSION:
            read[LABEL] = label
        if written:
            read[TIME] = written
        return replace(plan, dialect=_complete_dialect(plan, read))

    def _drop_unlabelled(self, label: Profile) -> Profile:
        """Leave out the rows without a label; return the label without its gaps."""
        if not label.missing:
            return label
        self._notes.append(
            f"{label.missing:,} rows have no {label.name} and are left out: nothing "
            "can be learned from them."
        )
        given = label.cells.is_valid()
        self._table = self._table.filter(given)
        return replace(label, cells=label.cells.filter(given))

    # The columns.

    def _profile_all(self) -> list[Profile]:
        """Return the profiles of all columns that may be features.

        Raises Refusal with the mistakes of all of them.
        """
        options = self._options
        found: list[Profile] = []
        mistakes: list[str] = []
        for name in self._table.column_names:
            if name in options.no_features:
                continue
            column, as_text = self._column(name), name in options.text
            try:
                found.append(profile(name, column, options.comma, as_text))
            except Refusal as error:
                mistakes.append(str(error))
        if mistakes:
            raise Refusal("\n".join(mistakes))
        return found

    def _column(self, name: str) -> pa.Array:
        return self._table[name].combine_chunks()

    def _settle_signs(self, found: list[Profile]) -> list[Profile]:
        """Read numbers such as 1.234 and 1,234 as the other columns of the file are.

        Raises Refusal if nothing tells which is meant.
        """
        open_ones = [one for one in found if one.comma is None]
        if not open_ones:
            return found
        signs = {
            bool(one.comma)
            for one in found
            if one.holds is Holds.NUMBERS and one.comma is not None and one.has_points
        }
        has_comma = [
            one.name
            for one in open_ones
            if pc.any(pc.match_substring(self._column(one.name), ",")).as_py()
        ]
        is_money = any(is_currency(one.unit) for one in open_ones)
        names = show(one.name for one in open_ones)
        if len(signs) == 1:
            sign = signs.pop()
        elif has_comma and self._dialect.separator == ",":
            sign = False  # quoted, as it is no separator
        elif not has_comma and self._dialect.separator != ";" and not is_money:
            sign = False
        else:
            raise Refusal(
                f"The numbers of {names} can be read in two ways: "
                f"{self._find_example(open_ones[0].name)} as thousands or with a "
                "fraction. Say which is the decimal sign: DECIMAL=, or DECIMAL=."
            )
        written, example = (
            ("comma", "1.234 is 1234") if sign else ("point", "1,234 is 1234")
        )
        note = (
            f"The decimal sign of {names} is read as a {written}: {example}. "
            f"DECIMAL={'.' if sign else ','} says otherwise."
        )
        if (has_comma or sign) and note not in self._notes:
            self._notes.append(note)
        settled = {
            one.name: profile(one.name, self._column(one.name), sign)
            for one in open_ones
        }
        return [settled.get(one.name, one) for one in found]

    def _find_example(self, name: str) -> str:
        """Return a number that can be read in two ways."""
        cells = pc.unique(self._column(name).drop_null()).to_pylist()
        return next(repr(cell) for cell in cells if re.search(r"\d[.,]\d", cell))

    def _read_feature(
        self, one: Profile, name: str, label: Profile, task: Task
    ) -> Field | None:
        """Return the field of a column, or None if it is left out. Raises Refusal."""
        options = self._options
        is_named = one.name in (*options.text, *options.keep)
        if reason := find_reason(one, one.name == self._first, is_named):
            if is_named:
                raise Refusal(f"{one.name!r} cannot be a feature: {reason}.")
            self._left_out[one.name] = reason
            return None
        if one.name not in options.keep:
            check_leakage(one, label, task)
        if not is_named and (persons := find_persons(one)):
            self._notes.append(
                f"{one.name} {persons}. Leave it out ({say('DROP', one.name)}), or say "
                f"that it is wanted ({say('TEXT', one.name)})."
            )
        optional = f"; {one.missing:,} missing" if one.missing else ""
        made = _write_type(one, name, one.name in options.text)
        if one.missing:
            made = replace(made, type=f"{made.type} | None", default="None")
        return replace(made, said=made.said + optional, is_named=is_named)

    # The label, the group and the time.

    def _profile_label(self) -> Profile:
        """Return the profile of the label. Raises Refusal if it cannot be one."""
        options, column = self._options, self._column(self._options.label)
        try:
            label = profile(options.label, column, options.comma)
        except Unclear as error:
            if options.task != Task.CLASSIFICATION:
                raise Refusal(
                    f"LABEL: {error.reason}; or name another column. "
                    "TASK=classification takes the cells for labels, as they are."
                ) from None
            label = profile(options.label, column, as_text=True)
        if label.comma is None:
            *_, label = self._settle_signs([*self._profile_all(), label])
        if label.holds is Holds.NOTHING:
            raise Refusal(
                f"LABEL: {options.label!r} has no values. Name another column, or "
                "fill it."
            )
        if label.holds in (Holds.TIMES, Holds.VECTORS, Holds.OTHER):
            raise Refusal(
                f"LABEL: {options.label!r} holds {label.holds}; a model predicts a "
                "label or a number. Name another column, or write it as one of these."
            )
        return label

    def _note_repeated(self) -> None:
        """Say how many rows are the same as another."""
        simple = [
            each.name
            for each in self._table.schema
            if _is_single(each.type) and not pa.types.is_null(each.type)
        ]
        different = len(self._table.select(simple).group_by(simple).aggregate([]))
        repeated = len(self._table) - different
        if repeated > len(self._table) * REPEATED_SHARE:
            self._notes.append(
                f"{repeated:,} rows repeat another. Where one is learned from and the "
                "other tested on, the score is too good: remove them, or keep them "
                "together by GROUP=…."
            )

    def _read_label(self, label: Profile) -> tuple[Task, Profile, Field]:
        """Return the task, the label as the task has it, and the field.

        Raises Refusal.
        """
        options, counts, rows = self._options, label.counts, len(label.cells)
        name = label.name
        if len(counts) == 1:
            raise Refusal(
                f"LABEL: all {rows:,} rows have the {name} {next(iter(counts))!r}: "
                "there is nothing to tell apart. Add rows of another, or name another "
                "column."
            )
        if rows < FEWEST_ROWS:
            raise Refusal(
                f"{options.data} has {rows} rows with a {name}: too few to learn from "
                f"and to test on. Add some: {FEWEST_ROWS} at least."
            )
        is_number = label.holds is Holds.NUMBERS
        is_few = len(counts) <= min(MOST_CLASSES, rows / ROWS_PER_CLASS)
        guess = Task.REGRESSION
        if not is_number or label.is_whole and is_few:
            guess = Task.CLASSIFICATION
        task = Task(options.task or guess)
        if task is Task.REGRESSION:
            return task, label, self._read_value(label)
        if is_number and (label.unit or label.comma or not label.is_whole):
            label = profile(name, self._column(name), None, True)  # as they are written
        return task, label, self._read_classes(label, is_number)

    def _read_value(self, label: Profile) -> Field:
        """Return the field of a number to predict. Raises Refusal."""
        name, rows = label.name, len(label.cells)
        if label.holds is not Holds.NUMBERS:
            shown = ", ".join(map(repr, list(label.counts)[:3]))
            raise Refusal(
                f"TASK=regression predicts a number, but {name!r} has texts ({shown}). "
                "Write TASK=classification, or name another column."
            )
        numbers = label.numbers
        low, high = numbers.min(), numbers.max()
        is_sequence = label.is_whole and len(label.counts) == rows == high - low + 1
        if is_sequence and not self._options.task:
            raise Refusal(
                f"LABEL: {name!r} has as many values as rows ({rows:,}), one after the "
                "other: it numbers the rows, and cannot be predicted. Name another "
                "column; if it is a measure, TASK=regression."
            )
        otherwise = ""
        if label.is_whole and not self._options.task:
            otherwise = "; TASK=classification says otherwise"
        said = (
            f"a number from {low:g} to {high:g}, mean {numbers.mean():g}, "
            f"{len(label.counts):,} values: regression{otherwise}"
        )
        return Field(LABEL, name, "float", said)

    def _read_classes(self, label: Profile, is_number: bool) -> Field:
        """Return the field of a label with classes. Raises Refusal."""
        name, rows = label.name, len(label.cells)
        counts = {_write(value): count for value, count in label.counts.items()}
        if len(counts) == rows or len(counts) > max(2, rows / 2):
            instead = "Name"
            if is_number:
                instead = "TASK=regression predicts it as a number; else name"
            raise Refusal(
                f"LABEL: {name!r} has {len(counts):,} values in {rows:,} rows: too "
                f"many to be classes. {instead} another column."
            )
        if twice := _find_twice(counts):
            raise Refusal(
                f"LABEL: {name!r} has labels that differ only in case or white "
                f"space: {twice}. Write each in one way."
            )
        few = sorted(text for text, count in counts.items() if count < 2)
        if few:
            instead = ""
            if is_number:
                instead = ", or TASK=regression predicts it as a number"
            raise Refusal(
                f"LABEL: {len(few)} of {len(counts)} labels of {name!r} occur once: "
                f"{show(few, 10)}. Each needs two rows at least, to learn it and to "
                f"test it. Add rows, or remove these{instead}."
            )
        shares = [f"{text} {count / rows:.1%}" for text, count in counts.items()]
        said = f"{len(counts)} labels ({show(shares, 6)}): classification"
        if is_number and not self._options.task:
            said += "; TASK=regression predicts it as a number"
        type_ = "Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]"
        if len(counts) <= MOST_CHOICES and max(map(len, counts)) <= LONGEST_CHOICE:
            type_ = write_choices(sorted(counts))
        return Field(LABEL, name, type_, said)

    def _read_group(self) -> Field | None:
        """Return the group by which rows are split, if there is one. Raises Refusal."""
        if not self._options.group:
            return None
        groups = profile(
            self._options.group, self._column(self._options.group), None, True
        )
        if not _is_single(groups.cells.type):
            raise Refusal(
                f"GROUP: {groups.name!r} holds {groups.holds}, which are no names of "
                "groups. Name another column."
            )
        if len(groups.counts) < 3:
            raise Refusal(
                f"GROUP: {groups.name!r} has {len(groups.counts)} values; rows are "
                "split by it, which takes three at least. Name another column."
            )
        said = f"{len(groups.counts):,} groups: rows of one are never split"
        return Field(GROUP, groups.name, "str", said, '""')

    def _read_time(self) -> tuple[Field | None, Profile | None]:
        """Return the time by which rows are split, and its profile. Raises Refusal."""
        name = self._options.time
        if not name:
            return None, None
        try:
            time = profile(name, self._column(name), self._options.comma)
        except Unclear as error:
            raise Refusal(f"TIME: {error.reason}.") from None
        if time.comma is None:
            *_, time = self._settle_signs([*self._profile_all(), time])
        if time.missing:
            raise Refusal(
                f"TIME: {time.missing:,} rows have no {name!r}. Fill it, or remove "
                "them."
            )
        shown = "the latest rows are the test"
        if time.holds is Holds.NUMBERS:
            return Field(TIME, name, "int" if time.is_whole else "float", shown), time
        if time.holds is not Holds.TIMES:
            raise Refusal(
                f"TIME: {name!r} holds {time.holds}, no times that can be read. Write "
                "them as 2026-01-31 or 2026-01-31T12:00:00."
            )
        if not time.form:
            odd = show(map(repr, find_odd_times(list(time.counts))), 3)
            raise Refusal(
                f"TIME: some times of {name!r} are written in a way of their own: "
                f"{odd}. Write all as 2026-01-31 or 2026-01-31T12:00:00."
            )
        if time.form.startswith(("%d/%m", "%d-%m")):
            other = re.sub("^%d(.)%m", r"%m\1%d", time.form)
            if fits(list(time.counts), other):
                raise Refusal(
                    f"TIME: in {name!r}, nothing tells day from month. Write the times "
                    "as 2026-01-31."
                )
        return Field(TIME, name, "datetime", shown), time


def _complete_dialect(plan: Plan, read: Mapping[str, Profile]) -> Dialect:
    """Return the dialect with the column of each field, and how its cells are written.

    `read` has the fields that are written in some way of their own, or could be.
    """
    time = read.get(TIME)
    return replace(
        plan.dialect,
        columns={each.name: each.column for each in (*plan.fields, *plan.labelled)},
        units={name: one.unit for name, one in read.items() if one.unit},
        comma=[name for name, one in read.items() if one.comma],
        times={TIME: time.form} if time and time.form else {},
    )


def _is_single(kind: pa.DataType) -> bool:
    """Return whether values of a type can be told apart: they have no parts."""
    return not pa.types.is_nested(kind) and not isinstance(kind, pa.BaseExtensionType)


def _find_twice(texts: Iterable[str]) -> str:
    """Return the texts that differ only in case or white space; "" if none do."""
    folded: dict[str, list[str]] = {}
    for text in texts:
        folded.setdefault(" ".join(text.lower().split()), []).append(text)
    twice = [alike for alike in folded.values() if len(alike) > 1]
    return "; ".join(" and ".join(map(repr, alike)) for alike in twice)


def _write_type(one: Profile, name: str, as_text: bool) -> Field:
    """Return the field of a column: its type, and what to say of it."""
    if one.holds is Holds.FLAGS:
        return Field(name, one.name, "bool", "flag")
    if one.holds is Holds.VECTORS:
        return _write_vector(one, name)
    if one.holds is Holds.NUMBERS:
        return _write_number(one, name)
    texts = list(one.counts)
    single = sum(count == 1 for count in one.counts.values())
    given = len(one.cells) - one.missing
    longest = max(map(len, texts))
    is_category = (
        len(texts) <= min(MOST_CHOICES, given / ROWS_PER_CHOICE)
        and longest <= LONGEST_CHOICE
        and single <= given * SINGLE_SHARE
    )
    if is_category and not as_text:
        said = f"category: {show(texts, 6)}"
        if twice := _find_twice(texts):
            said += f"; {twice} differ only in case"
        return Field(name, one.name, write_choices(sorted(texts)), said)
    most = "MAX_TEXT_LENGTH" if longest <= MAX_TEXT_LENGTH else str(longest * 2)
    return Field(
        name,
        one.name,
        f"Annotated[str, Field(min_length=1, max_length={most}), "
        "AfterValidator(normalise)]",
        f"text, {len(texts):,} values, {longest:,} characters at most",
    )


def _write_vector(one: Profile, name: str) -> Field:
    """Return the field of a column of vectors. Raises Unclear if a number is too large.

    All numbers have bounds, as a linear model overflows with those near float32's.
    """
    flat = one.cells.drop_null().flatten().cast(pa.float64(), safe=False)
    low, high = _find_range(one, flat)
    lowest, highest = _widen(low, high, False, "")
    bounds = f"ge={_write(lowest)}, le={_write(highest)}"
    size = f"min_length={one.length}, max_length={one.length}"
    item = f"Annotated[float, Field({bounds})]" if low < high else "float"
    type_ = f"Annotated[list[{item}], Field({size})]"
    said = f"vector of {one.length}, numbers from {low:g} to {high:g}"
    return Field(name, one.name, type_, said)


def _find_range(one: Profile, numbers: pa.Array) -> tuple[float, float]:
    """Return the least and the largest number. Raises Unclear if one is too large."""
    low, high = pc.min_max(numbers).as_py().values()
    if max(high, -low) > MAX_NUMBER:
        raise Unclear(
            f"{one.name!r} has numbers beyond {MAX_NUMBER:.2g}, which no model reads, "
            f"such as {high if high > MAX_NUMBER else low:g}. Correct them, or leave "
            "them empty",
            one.name,
        )
    return low, high


def _write_number(one: Profile, name: str) -> Field:
    """Return the field of a column of numbers. Raises Unclear if one is too large."""
    low, high = _find_range(one, one.cells)
    is_whole = one.is_whole
    # JSON made of a table with gaps has 3.0 for 3, which no `int` takes.
    is_int = is_whole and not one.missing and not one.has_points
    lowest, highest = _widen(low, high, is_whole, one.unit)
    bounds = [
        f"{rule}={_write(bound)}"
        for rule, bound in (("ge", lowest), ("le", highest))
        if abs(bound) < MAX_NUMBER and low < high
    ]
    kind = "int" if is_int else "float"
    type_ = f"Annotated[{kind}, Field({', '.join(bounds)})]" if bounds else kind
    unit = f" {one.unit}" if one.unit else ""
    written = ", written with a decimal comma" if one.comma else ""
    said = f"number from {low:g} to {high:g}{unit}{written}"
    return Field(name, one.name, type_, said)


def _widen(low: float, high: float, is_whole: bool, unit: str) -> tuple[float, float]:
    """Return bounds of a number: the range, as wide again on both sides.

    The next rows may go beyond it; a value far out is a mistake. What was never
    negative stays so, 0 and 1 are all that there is, and so is a percentage up to 100.
    """
    if is_whole and low == 0 and high == 1:
        return 0, 1
    if unit == "%" and 0 <= low and high <= 100:
        return 0, 100
    room = max(high - low, abs(high) / 10, abs(low) / 10)
    lowest = 0.0 if low >= 0 and low - room < high / 2 else round_out(low - room, False)
    highest = 0.0 if high <= 0 else round_out(high + room, True)
    return lowest, highest


def _write(value: object) -> str:
    """Return a value as text; a whole number has no point."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)


def write_choices(choices: Sequence[str]) -> str:
    """Return the type of a text that is one of these."""
    return f"Literal[{', '.join(map(repr, choices))}]"


def describe(plan: Plan) -> Iterator[str]:
    """Yield lines that say what was found."""
    yield f"{plan.rows:,} rows. {plan.label.column} is the label: {plan.label.said}."
    for each in (*plan.fields, *plan.labelled[1:]):
        source = "" if each.column == each.name else f" (from {each.column!r})"
        yield f"  {each.name}{source}: {each.said}"
    if plan.left_out:
        yield "Left out:"
        for name, reason in plan.left_out.items():
            yield f"  {name}: {reason}"
    yield from plan.notes
