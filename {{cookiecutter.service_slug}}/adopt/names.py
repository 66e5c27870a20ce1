"""Make names of fields from those of columns; find and show columns by their names."""

import csv
import difflib
import keyword
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from adopt.layout import Refusal
from serving.contract import Contract
from serving.fields import OUTPUTS
from training.schema import GROUP, LABEL, TIME

LONGEST = 50
# What the lines of a contract use: a field of such a name that has a default would hide
# it from the fields and methods below.
TYPES = {"bool", "datetime", "float", "int", "list", "normalise", "str"}
DECORATORS = {"classmethod", "property", "staticmethod"}
# The options that take several columns, with commas between them.
LISTS = {"DROP", "TEXT", "KEEP"}
# What the German, Nordic and Slavic letters are without marks; NFKD knows the others.
LETTERS = str.maketrans(
    {"ß": "ss", "ä": "ae", "ö": "oe", "ü": "ue", "æ": "ae", "ø": "o", "ł": "l"}
)


def to_field(name: str) -> str:
    """Return a name in snake case, of ASCII letters; "" if it has none.

    to_field("Größe (m²)") == "groesse_m2"
    """
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    name = unicodedata.normalize("NFC", name).lower().translate(LETTERS)
    name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", name).strip("_")[:LONGEST].rstrip("_")


def name_fields(
    columns: Sequence[str], known: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return a name of a field for each column: all differ, and none is reserved.

    A column that has a field in `known` keeps it.
    """
    taken = {LABEL, GROUP, TIME, *OUTPUTS.values()}
    fields = {
        column: name
        for column, name in (known or {}).items()
        if column in columns and name not in taken
    }
    taken |= {*fields.values()}
    for place, column in enumerate(columns, start=1):
        if column in fields:
            continue
        name = to_field(column) or f"column_{place}"
        if name[0].isdigit():
            name = f"field_{name}"
        is_used = name in TYPES | DECORATORS | taken or hasattr(Contract, name)
        if keyword.iskeyword(name) or is_used:
            name = f"{name}_value" if name not in fields.values() else name
        free, number = name, 2
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        taken.add(free)
        fields[column] = free
    return fields


def find_column(wanted: str, columns: Sequence[str], option: str) -> str:
    """Return the column that an option names, whatever its case and signs.

    Raises Refusal, with the columns.
    """
    if wanted in columns:
        return wanted
    alike = [name for name in columns if to_field(name) == to_field(wanted) != ""]
    if len(alike) == 1:
        return alike[0]
    names = {name.lower(): name for name in columns}
    near = difflib.get_close_matches(wanted.lower(), names, n=1)
    meant = f" Did you mean {names[near[0]]!r}?" if near else ""
    hint = ""
    if any(re.fullmatch(r"[-+]?\d+([.,]\d+)?", name.strip()) for name in columns):
        hint = " The first line must name the columns, and looks like a row: add one."
    raise Refusal(
        f"{option}: there is no column {wanted!r}.{meant}{hint} The columns are: "
        f"{show(columns)}."
    )


def say(option: str, *columns: str) -> str:
    """Return an option as one types it: KEEP='Claim ID'.

    A name of several lines is shown as the field that it becomes, which `find_column`
    finds, too.
    """
    names = [name if name.isprintable() else to_field(name) or name for name in columns]
    value = ",".join(names)
    if option in LISTS:
        value = join_names(names)
    # make takes $ for the start of a variable.
    return f"{option}={shlex.quote(value.replace('$', '$$'))}"


def split_names(value: str) -> list[str]:
    """Return the names in the value of an option: a,b or "a, b",c."""
    (names,) = csv.reader([value.replace("\n", " ")], skipinitialspace=True)
    return [name.strip() for name in names if name.strip()]


def join_names(names: Iterable[str]) -> str:
    """Return names as `split_names` reads them."""
    return ",".join(
        '"' + name.replace('"', '""') + '"' if {*name} & {*',"'} else name
        for name in names
    )


def show(names: Iterable[str], most: int = 40) -> str:
    """Return names in a line, if need be the first ones."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
