"""From the names of columns to the names of fields."""

import difflib
import keyword
import re
import unicodedata
from collections.abc import Iterable, Sequence

from adopt.layout import Refusal
from serving.contract import Contract
from training.schema import GROUP, LABEL, TIME

LONGEST = 50
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


def name_fields(columns: Sequence[str]) -> dict[str, str]:
    """Return a field for each column: the names are different, and free to use."""
    fields: dict[str, str] = {}
    taken = {LABEL, GROUP, TIME}
    for place, column in enumerate(columns, start=1):
        name = to_field(column) or f"column_{place}"
        if name[0].isdigit():
            name = f"field_{name}"
        if keyword.iskeyword(name) or hasattr(Contract, name) or name in taken:
            name = f"{name}_value" if name not in fields.values() else name
        free, number = name, 2
        while free in taken:
            free, number = f"{name}_{number}", number + 1
        taken.add(free)
        fields[column] = free
    return fields


def find_column(wanted: str, columns: Sequence[str], option: str) -> str:
    """Return the column that a name of an option means, however it is written.

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


def show(names: Iterable[str], most: int = 40) -> str:
    """Return names in a line, if need be the first ones."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
