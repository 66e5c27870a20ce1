"""Infer the contract from a table: the fields, their types and ranges, and the task."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from adopt.layout import Refusal, check_size, find_dialect, join, read_whole
from adopt.names import find_column, name_fields, say, show, to_field
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
from training.dialect import Dialect
from training.schema import GROUP, LABEL, TIME

from serving.contract import MAX_NUMBER, Task
from serving.fields import Kind

# A label of integers has classes if there are at most MOST_CLASSES of them, with at
# least ROWS_PER_CLASS rows each.
MOST_CLASSES, ROWS_PER_CLASS = 20, 5
# A text is a category if its values are few and short, with several rows each. Hardly
# any may occur once: otherwise there are probably others that the file does not have.
MOST_CHOICES, LONGEST_CHOICE, ROWS_PER_CHOICE, SINGLE_SHARE = 50, 60, 3, 0.01
# The share of different texts from which on a column may be an identifier.
UNIQUE_SHARE = 0.9
MAX_TEXT_LENGTH = 10_000  # as app/contract.py has it
FEWEST_ROWS = 20
# Of a text, boosting reads up to 1,000 words, each as a column of its own. Where they
# are codes, such as those of products, they take most of the time of a fit.
MANY_CODES = 500
CODE = re.compile(r"(?=.*[0-9])[A-Za-z0-9_.:-]{1,40}")
# A column is a field of the contract, an input of the model, and a name that each
# request has to have.
MOST_FIELDS = 1_000
# The share of repeated rows from which on the user is told.
REPEATED_SHARE = 0.01
# The correlation, of values or of ranks, from which on a number is the label itself.
SAME = 0.99999

IDENTIFIER = {"id", "ids", "uuid", "guid", "index", "idx", "rowid", "key", "nr", "no"}
PERSON = {"customer", "patient", "client", "passenger", "employee", "user", "person"}
PERSONAL = {"surname", "forename", "firstname", "lastname", "fullname", "email", "mail"}
PERSONAL |= {"phone", "telephone", "mobile", "fax", "address", "street", "ssn", "iban"}
PERSONAL |= {"passport", "birthday", "birthdate", "dob", "username", "ip"}
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
ADDRESS = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}|[\da-fA-F]{0,4}(?::[\da-fA-F]{0,4}){4,7}"
)
PHONE = re.compile(r"(?=(?:\D*\d){7,15}\D*$)\+?[\d(][\d\s()/.-]{7,}\d")


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
        words = {"list[": Kind.VECTOR, "Literal[": Kind.CATEGORY, "str": Kind.TEXT}
        words |= {"bool": Kind.FLAG}
        found = (kind for word, kind in words.items() if word in self.type)
        return next(found, Kind.NUMBER)

    @property
    def line(self) -> str:
        """Return the field as app/contract.py has it."""
        return f"{self.name}: {self.type}" + (
            f" = {self.default}" if self.default else ""
        )


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


def infer(options: Options) -> Plan:
    """Return what the table says. Raises Refusal, with the reason and what to do."""
    for path in filter(None, (options.data, options.test)):
        check_size(path)
    if options.test and options.test.name == options.data.name:
        raise Refusal(
            f"TEST and DATA are both called {options.data.name}, and are copied to one "
            "directory: rename one. Rows to learn from are none to test on."
        )
    dialect = find_dialect(options.data)
    table, _ = read_whole(options.data, dialect)
    if options.test:
        tested, _ = read_whole(options.test, dialect)
        if missing := set(table.column_names) - set(tested.column_names):
            hint, written = "", find_dialect(options.test).separator
            if written != dialect.separator:
                hint = (
                    f" Its columns are separated by {written!r}, those of DATA by "
                    f"{dialect.separator!r}: write both alike."
                )
            raise Refusal(
                f"TEST: {options.test} lacks the columns {show(sorted(missing))}. "
                f"It needs those of DATA.{hint}"
            )
        table = join(
            [table, tested.select(table.column_names)],
            f"TEST: {options.test} and DATA have",
        )
    options = _resolve(options, table.column_names)
    _check_width(options, table.column_names)
    notes = []
    if dialect.encoding == "cp1252":
        notes.append(
            f"{options.data} is not in UTF-8 and is read as Windows-1252. If letters "
            "look wrong, save it as UTF-8."
        )
    return _Inference(options, dialect, table, notes).run()


def _resolve(options: Options, columns: Sequence[str]) -> Options:
    """Return the options with the columns as the file has them.

    Raises Refusal with all mistakes at once.
    """
    mistakes: list[str] = []
    roles: dict[str, str] = {}

    def find(option: str, name: str) -> str:
        try:
            found = find_column(name, columns, option)
        except Refusal as error:
            mistakes.append(str(error))
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


def _check_width(options: Options, columns: Sequence[str]) -> None:
    """Raise Refusal if there are more columns than a contract can have fields."""
    others = {options.label, options.time, options.group, *options.drop}
    width = len({*columns} - others)
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
    ) -> None:
        self._options = options
        self._dialect = dialect
        self._table = table
        self._first = table.column_names[0]
        self._notes = notes
        self._left_out: dict[str, str] = {}

    def run(self) -> Plan:
        """Return the plan."""
        options = self._options
        label = self._profile_label()
        kept = label.cells.is_valid()
        if empty := label.missing:
            self._notes.append(
                f"{empty:,} rows have no {label.name} and are left out: nothing can "
                "be learned from them."
            )
            self._table = self._table.filter(kept)
            label = replace(label, cells=label.cells.filter(kept))
        self._note_repeated()
        task, label, label_field = self._read_label(label)
        profiles = self._settle_signs(self._profile_all())
        fields = name_fields([one.name for one in profiles])
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
        taken = {each.column for each in features}
        used = [one for one in profiles if one.name in taken]
        group = self._read_group()
        time, written = self._read_time()
        columns = {each.name: each.column for each in features}
        columns[LABEL] = options.label
        units = {fields[one.name]: one.unit for one in used if one.unit}
        comma = [fields[one.name] for one in used if one.comma]
        if label.holds is Holds.NUMBERS and task is Task.REGRESSION:
            units |= {LABEL: label.unit} if label.unit else {}
            comma += [LABEL] if label.comma else []
        times: dict[str, str] = {}
        if written:
            times = {TIME: written.form} if written.form else {}
            units |= {TIME: written.unit} if written.unit else {}
            comma += [TIME] if written.comma else []
        if group:
            columns[GROUP] = group.column
        if time:
            columns[TIME] = time.column
        dialect = replace(
            self._dialect, columns=columns, units=units, comma=comma, times=times
        )
        return Plan(
            dialect,
            task,
            len(self._table),
            features,
            label_field,
            group,
            time,
            self._left_out,
            self._notes,
        )

    # The columns.

    def _profile_all(self) -> list[Profile]:
        """Return the profiles of all columns that may be features.

        Raises Refusal with the mistakes of all of them.
        """
        options = self._options
        others = {options.label, options.time, options.group, *options.drop} - {""}
        said = {",": True, ".": False}.get(options.decimal)
        found: list[Profile] = []
        mistakes: list[str] = []
        for name in self._table.column_names:
            if name in others:
                continue
            try:
                found.append(
                    profile(name, self._column(name), said, name in options.text)
                )
            except Refusal as error:
                mistakes.append(str(error))
        if mistakes:
            raise Refusal("\n".join(mistakes))
        return found

    def _column(self, name: str) -> pa.Array:
        column = self._table[name].combine_chunks()
        return (
            column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        )

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
        return [
            (
                profile(one.name, self._column(one.name), sign)
                if one.comma is None
                else one
            )
            for one in found
        ]

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
        reason = self._find_reason(one, is_named)
        if reason:
            if is_named:
                raise Refusal(f"{one.name!r} cannot be a feature: {reason}.")
            self._left_out[one.name] = reason
            return None
        if one.name not in options.keep:
            _check_leak(one, label, task)
        optional = f"; {one.missing:,} missing" if one.missing else ""
        made = _write_type(one, name, one.name in options.text)
        if one.missing:
            made = replace(made, type=f"{made.type} | None", default="None")
        return replace(made, said=made.said + optional, is_named=is_named)

    def _find_reason(self, one: Profile, is_named: bool) -> str:
        """Return why a column is no feature; "" if it is one."""
        if one.holds is Holds.NOTHING:
            return "it has no values"
        if one.holds is Holds.OTHER:
            return f"it holds {one.holds}"
        if one.holds is Holds.TIMES and not one.form:
            odd = show(map(repr, find_odd_times(list(one.counts))), 3)
            return f"a model reads no times; not all are written in one way: {odd}"
        if one.holds is Holds.TIMES:
            return (
                f"a model reads no times; to split by it, {say('TIME', one.name)}; or "
                "add what matters of it as a number, such as the hour or the days since"
            )
        if one.holds is Holds.VECTORS:
            return ""
        if len(one.counts) == 1 and not one.missing:
            return "it has one value"
        if is_named:
            return ""
        if personal := _find_personal(one):
            named = f"{say('KEEP', one.name)} or {say('TEXT', one.name)}"
            return f"{personal}; as a feature: {named}"
        return _find_identifier(one, one.name == self._first)

    # The label, the group and the time.

    def _profile_label(self) -> Profile:
        options = self._options
        said = {",": True, ".": False}.get(options.decimal)
        as_text = options.task == Task.CLASSIFICATION
        try:
            label = profile(options.label, self._column(options.label), said)
        except Unclear as error:
            if not as_text:
                raise Refusal(
                    f"LABEL: {error.reason}; or name another column. "
                    "TASK=classification takes the cells for labels, as they are."
                ) from None
            label = profile(options.label, self._column(options.label), said, True)
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
        otherwise = "" if self._options.task else "; TASK=classification says otherwise"
        if not label.is_whole and not self._options.task:
            otherwise = ""
        said = (
            f"a number from {low:g} to {high:g}, mean {numbers.mean():g}, "
            f"{len(label.counts):,} values: regression{otherwise}"
        )
        return Field(LABEL, name, "float", said)

    def _read_classes(self, label: Profile, is_number: bool) -> Field:
        name, rows = label.name, len(label.cells)
        counts = {_write(value): count for value, count in label.counts.items()}
        if len(counts) == rows or len(counts) > max(2, rows / 2):
            instead = "TASK=regression predicts it as a number; else name"
            if not is_number:
                instead = "Name"
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
            instead = ", or TASK=regression predicts it as a number" * is_number
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
            type_ = _literal(sorted(counts))
        return Field(LABEL, name, type_, said)

    def _read_group(self) -> Field | None:
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
        """Return the time by which rows are split, and how it is written."""
        name = self._options.time
        if not name:
            return None, None
        said = {",": True, ".": False}.get(self._options.decimal)
        try:
            time = profile(name, self._column(name), said)
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
                f"TIME: the times of {name!r} are not all written in one way: {odd}. "
                "Write them as 2026-01-31 or 2026-01-31T12:00:00."
            )
        if time.form.startswith(("%d/%m", "%d-%m")):
            other = re.sub("^%d(.)%m", r"%m\1%d", time.form)
            if fits(list(time.counts), other):
                raise Refusal(
                    f"TIME: in {name!r}, nothing tells day from month. Write the times "
                    "as 2026-01-31."
                )
        return Field(TIME, name, "datetime", shown), time


def _is_single(kind: pa.DataType) -> bool:
    """Return whether values of a type can be told apart: they have no parts."""
    return not pa.types.is_nested(kind) and not isinstance(kind, pa.BaseExtensionType)


def _find_personal(one: Profile) -> str:
    """Return what a column says of a person; "" if it says nothing."""
    words = to_field(one.name).split("_")
    values = list(one.counts)
    sample = [str(value) for value in values[:200]]
    if one.holds is Holds.TEXTS:
        if sum(map(bool, map(EMAIL.fullmatch, sample))) > len(sample) / 2:
            return "personal data: e-mail addresses"
        if sum(map(bool, map(ADDRESS.fullmatch, sample))) > len(sample) / 2:
            return "personal data: IP addresses"
        if sum(map(bool, map(PHONE.fullmatch, sample))) > len(sample) / 2:
            return "personal data: telephone numbers"
    joined = {first + second for first, second in zip(words, words[1:], strict=False)}
    is_name = words == ["name"] or "name" in words and bool(PERSON & {*words})
    if not (PERSONAL & ({*words} | joined) or is_name):
        return ""
    if len(values) < max(2, len(one.cells) - one.missing) / 5:
        return ""
    return "it looks like personal data"


def _find_identifier(one: Profile, is_first: bool) -> str:
    """Return why a column identifies rows; "" if it does not."""
    words = to_field(one.name).split("_")
    given, different = len(one.cells) - one.missing, len(one.counts)
    named = bool(IDENTIFIER & {*words[:1], *words[-1:]}) or words[0] == "unnamed"
    hint = f"as a feature: {say('KEEP', one.name)}; to keep its rows together: "
    hint += say("GROUP", one.name)
    if one.holds is Holds.NUMBERS:
        if not one.is_whole:
            return ""
        is_sequence = different == given == one.numbers.max() - one.numbers.min() + 1
        if is_sequence and (named or is_first or given > FEWEST_ROWS):
            return f"it numbers the rows; as a feature: {say('KEEP', one.name)}"
        return f"an identifier; {hint}" if named and different > 2 else ""
    if one.holds is not Holds.TEXTS:
        return ""
    if named and different > 2:
        return f"an identifier, {different:,} values; {hint}"
    has_spaces = sum(" " in text for text in list(one.counts)[:200])
    if different >= given * UNIQUE_SHARE and not has_spaces and given > FEWEST_ROWS:
        return (
            f"an identifier, {different:,} values in {given:,} rows; "
            f"as a feature: {say('TEXT', one.name)}"
        )
    if different > MANY_CODES and all(map(CODE.fullmatch, list(one.counts)[:200])):
        return f"codes, {different:,} of them, each a column to the model; {hint}"
    return ""


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
        size = f"min_length={one.length}, max_length={one.length}"
        return Field(
            name,
            one.name,
            f"Annotated[list[float], Field({size})]",
            f"vector of {one.length}",
        )
    if one.holds is Holds.NUMBERS:
        return _write_number(one, name)
    texts = list(one.counts)
    single = sum(count == 1 for count in one.counts.values())
    given = len(one.cells) - one.missing
    is_category = (
        len(texts) <= min(MOST_CHOICES, given / ROWS_PER_CHOICE)
        and max(map(len, texts)) <= LONGEST_CHOICE
        and single <= given * SINGLE_SHARE
    )
    if is_category and not as_text:
        said = f"category: {show(texts, 6)}"
        if twice := _find_twice(texts):
            said += f"; {twice} differ only in case"
        return Field(name, one.name, _literal(sorted(texts)), said)
    longest = max(map(len, texts))
    most = "MAX_TEXT_LENGTH" if longest <= MAX_TEXT_LENGTH else str(longest * 2)
    return Field(
        name,
        one.name,
        f"Annotated[str, Field(min_length=1, max_length={most}), "
        "AfterValidator(normalise)]",
        f"text, {len(texts):,} values, {longest:,} characters at most",
    )


def _write_number(one: Profile, name: str) -> Field:
    numbers = one.numbers
    low, high = float(numbers.min()), float(numbers.max())
    if max(high, -low) > MAX_NUMBER:
        raise Unclear(
            f"{one.name!r} has numbers beyond {MAX_NUMBER:.2g}, which no model reads, "
            f"such as {high if high > MAX_NUMBER else low:g}. Correct them, or leave "
            "them empty",
            one.name,
        )
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
    room = max(high - low, abs(high) / 10, abs(low) / 10)
    lowest = 0.0 if low >= 0 and low - room < high / 2 else round_out(low - room, False)
    highest = 0.0 if high <= 0 else round_out(high + room, True)
    if low >= 0:
        lowest = max(lowest, 0.0)
    if unit == "%" and 0 <= low and high <= 100:
        return 0, 100
    return lowest, highest


def _write(value: object) -> str:
    """Return a value as text; a whole number has no point."""
    if isinstance(value, float):
        return (
            str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        )
    return str(value)


def _literal(choices: Sequence[str]) -> str:
    return f"Literal[{', '.join(map(_quote, choices))}]"


def _quote(text: str) -> str:
    """Return a string literal, in double quotes where it can be."""
    written = repr(text)
    return f'"{written[1:-1]}"' if '"' not in text and "\\" not in written else written


def _check_leak(one: Profile, label: Profile, task: Task) -> None:
    """Raise Refusal if a column is the label, or tells it perfectly."""
    how = (
        _find_leaked_value(one, label)
        if task is Task.REGRESSION
        else _find_leaked_class(one, label)
    )
    if how:
        raise Refusal(
            f"{one.name!r} {how}. If it is not known when one asks, leave it out: "
            f"{say('DROP', one.name)}. If it is, take it: {say('KEEP', one.name)}."
        )


def _find_leaked_value(one: Profile, label: Profile) -> str:
    if one.holds is not Holds.NUMBERS or len(one.counts) <= 10:
        return ""
    both = one.cells.is_valid().to_numpy(zero_copy_only=False)
    values = np.asarray(one.cells.drop_null().to_numpy(zero_copy_only=False))
    truth = np.asarray(label.cells.to_numpy(zero_copy_only=False))[both]
    if len(values) < len(both) / 2 or len(set(truth)) < 2:
        return ""
    if np.array_equal(values, truth):
        return f"is the label {label.name!r}"
    if abs(np.corrcoef(values, truth)[0, 1]) > SAME:
        return f"is the label {label.name!r} in other units"
    if abs(pd.Series(values).corr(pd.Series(truth), method="spearman")) > SAME:
        return f"tells the label {label.name!r} perfectly: both have the same order"
    return ""


def _find_leaked_class(one: Profile, label: Profile) -> str:
    if one.holds is Holds.VECTORS:
        return ""
    rows = pd.DataFrame(
        {
            "value": one.cells.to_pandas(),
            "label": label.cells.to_pandas().astype(str),
        }
    )
    texts = rows["value"].astype(str)
    if texts.equals(rows["label"]):
        return f"is the label {label.name!r}"
    # A gap is a value, too: a date of cancellation tells who has cancelled.
    codes = pd.factorize(rows["value"], use_na_sentinel=False)[0]
    truth = pd.factorize(rows["label"])[0]
    pairs = len(set(zip(codes.tolist(), truth.tolist(), strict=True)))
    different = codes.max() + 1
    if pairs > different:
        return ""  # a value with two labels
    if different <= len(rows) / ROWS_PER_CLASS:
        return f"tells the label {label.name!r} perfectly, alone"
    if one.holds is Holds.NUMBERS and not one.missing:
        order = rows.sort_values("value", kind="stable")["label"].to_numpy()
        changes = int((order[1:] != order[:-1]).sum())
        if changes < label_count(truth):
            return f"tells the label {label.name!r} perfectly, alone: by its size"
    return ""


def label_count(codes: npt.NDArray[np.intp]) -> int:
    """Return the number of labels."""
    return int(codes.max()) + 1


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
