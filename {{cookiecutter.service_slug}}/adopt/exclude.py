"""Find the columns that are no features: identifiers, personal data, leaked labels."""

import re

import numpy as np
import pandas as pd

from adopt.layout import Refusal
from adopt.names import say, show, to_field
from adopt.profile import Holds, Profile, find_odd_times
from serving.contract import Task

# The share of different texts from which on a column may be an identifier, and the rows
# that it takes: in a few rows, all values of a feature may differ.
UNIQUE_SHARE, FEW_ROWS = 0.9, 20
# Of a text, boosting reads up to 1,000 words, each as a column of its own. Where they
# are codes, such as those of products, they take most of the time of a fit.
MANY_CODES = 500
CODE = re.compile(r"(?=.*[0-9])[A-Za-z0-9_.:-]{1,40}")
# The different values of which the form is looked at.
SEEN = 200

IDENTIFIER = {"id", "ids", "uuid", "guid", "idx", "rowid"}
# The last word of an identifier, not the first: no_rooms is a number of rooms.
NUMBERED = {"nr", "no"}
# An identifier only if hardly any value is repeated: a key may be that of a song, and
# an index that of prices.
NUMBERED_ONCE = {"index", "key", "nr", "no"}
# What the reader calls a column without a name.
NO_NAME = re.compile(r"column \d+")
PERSON = {"customer", "patient", "client", "passenger", "employee", "user", "person"}
PERSONAL = {"surname", "forename", "firstname", "lastname", "fullname", "email", "mail"}
PERSONAL |= {"phone", "telephone", "mobile", "fax", "address", "street", "ssn", "iban"}
PERSONAL |= {"passport", "birthday", "birthdate", "dob", "username", "ip"}
MAIL, PHONES = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}"), "telephone numbers"
PERSONAL_TEXTS = {
    "e-mail addresses": MAIL,
    "IP addresses": re.compile(
        r"\d{1,3}(?:\.\d{1,3}){3}|[\da-fA-F]{0,4}(?::[\da-fA-F]{0,4}){4,7}"
    ),
    "numbers of bank accounts": re.compile(
        r"(?=.{15})[A-Z]{2}\d{2}(?: ?[A-Z\d]{4}){2,7}(?: ?[A-Z\d]{1,3})?"
    ),
    "numbers of cards": re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}"),
    PHONES: re.compile(r"(?=(?:\D*\d){7,15}\D*$)\+?[\d(][\d\s()/.-]{7,}\d"),
}
# A word of a name: Anna, O'Neill, Roth-Koch, J.
WORD, MOSTLY_NAMES = re.compile(r"(?:[^\W\d_]|['’.-])+"), 0.9
ADDRESS = re.compile(
    r"(?i)(?:str\.|stra(?:ss|ß)e\b|weg\b|platz\b"
    r"|\b(?:street|avenue|road|lane|rue|via|calle|st|ave|rd)\b).*\d"
    r"|\d.*\b(?:street|avenue|road|lane|rue|st|ave|rd)\b"
)
# So many different telephone numbers at least: fewer are classes, such as 10000-20000.
LEAST_PHONES = 20
# The number of a telephone, a passport or an insurance has seven digits at least.
LEAST_LONG = 10**6

# Integers that all have as many digits, so many at least, are no measures: a model
# reads seven digits of each.
LEAST_DIGITS = 9

# The correlation, of values or of ranks, from which on a number is the label itself.
SAME = 0.99999
# Values with fewer rows each say little: they may have one label by chance.
ROWS_PER_VALUE = 5


def find_reason(one: Profile, is_first: bool, is_named: bool) -> str:
    """Return why a column is no feature; "" if it is one.

    `is_first` tells whether it is the first of the table, `is_named` whether an option
    takes it as a feature.
    """
    if one.holds is Holds.NOTHING:
        return "it has no values"
    if one.holds is Holds.OTHER:
        return f"it holds {one.holds}"
    if one.holds is Holds.TIMES and not one.form:
        odd = show(map(repr, find_odd_times(list(one.counts))), 3)
        return f"a model reads no times; some are written in a way of their own: {odd}"
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
    return _find_identifier(one, is_first)


def _find_personal(one: Profile) -> str:
    """Return what a column says of a person; "" if it says nothing."""
    values = list(one.counts)
    if one.holds is Holds.TEXTS:
        sample = values[:SEEN]
        for kind, pattern in PERSONAL_TEXTS.items():
            if kind == PHONES and len(values) < LEAST_PHONES:
                continue
            if sum(map(bool, map(pattern.fullmatch, sample))) > len(sample) / 2:
                return f"personal data: {kind}"
    if one.holds is Holds.NUMBERS and not _are_long(one):
        return ""  # a count, a length or a duration: phone_minutes
    words = to_field(one.name).split("_")
    pairs = {first + second for first, second in zip(words, words[1:], strict=False)}
    is_name = words == ["name"] or "name" in words and bool(PERSON & {*words})
    if not (PERSONAL & ({*words} | pairs) or is_name):
        return ""
    if len(values) < max(2, len(one.cells) - one.missing) / 5:
        return ""
    return "it looks like personal data"


def find_persons(one: Profile) -> str:
    """Return what a text may have of persons; "" if it has nothing."""
    if one.holds is not Holds.TEXTS or len(one.counts) <= FEW_ROWS:
        return ""
    sample = list(one.counts)[:SEEN]
    if named := [text for text in sample if _is_name(text)]:
        if len(named) > len(sample) * MOSTLY_NAMES:
            return f"may have names of persons, such as {named[0]!r}"
    if any(map(MAIL.search, sample)):
        return "has e-mail addresses in its texts"
    if sum(map(bool, map(ADDRESS.search, sample))) > len(sample) / 2:
        return "may have addresses, such as " + repr(sample[0])
    return ""


def _is_name(text: str) -> bool:
    """Return whether a text is two to four words that are written as names are."""
    words = re.split(r"[\s,]+", text)
    is_word = (word[:1].isupper() and WORD.fullmatch(word) for word in words)
    return 2 <= len(words) <= 4 and all(is_word)


def _are_long(one: Profile) -> bool:
    """Return whether most numbers have as many digits as those that identify."""
    return one.is_whole and bool((one.numbers >= LEAST_LONG).mean() > 0.5)


def _count_digits(one: Profile) -> int:
    """Return how many digits all numbers have; 0 if they differ, or are few."""
    lowest, highest = one.numbers.min(), one.numbers.max()
    digits = len(f"{highest:.0f}")
    return digits if lowest >= 10 ** (max(digits, LEAST_DIGITS) - 1) else 0


def _find_identifier(one: Profile, is_first: bool) -> str:
    """Return why a column identifies rows, or is of codes; "" if it is neither."""
    given, different = len(one.cells) - one.missing, len(one.counts)
    is_unique = different >= given * UNIQUE_SHARE
    named_so = _is_named_as_identifier(one.name, is_unique)
    hint = f"as a feature: {say('KEEP', one.name)}; to keep its rows together: "
    hint += say("GROUP", one.name)
    if one.holds is Holds.NUMBERS:
        if not one.is_whole:
            return ""
        is_sequence = different == given == one.numbers.max() - one.numbers.min() + 1
        if is_sequence and (named_so or is_first or given > FEW_ROWS):
            return f"it numbers the rows; as a feature: {say('KEEP', one.name)}"
        if is_unique and given > FEW_ROWS and (digits := _count_digits(one)):
            return (
                f"numbers of {digits} digits each, such as those of telephones or "
                f"times; {hint}"
            )
        return f"an identifier; {hint}" if named_so and different > 2 else ""
    if one.holds is not Holds.TEXTS:
        return ""
    if named_so and different > 2:
        return f"an identifier, {different:,} values; {hint}"
    sample = list(one.counts)[:SEEN]
    has_spaces = any(" " in text for text in sample)
    if is_unique and not has_spaces and given > FEW_ROWS:
        return (
            f"an identifier, {different:,} values in {given:,} rows; "
            f"as a feature: {say('TEXT', one.name)}"
        )
    if different > MANY_CODES and all(map(CODE.fullmatch, sample)):
        return f"codes, {different:,} of them, each a column to the model; {hint}"
    return ""


def _is_named_as_identifier(name: str, is_unique: bool) -> bool:
    """Return whether a column has the name of an identifier."""
    words = to_field(name).split("_")
    ends = {words[0], words[-1]}
    if IDENTIFIER & ends or words[0] == "unnamed" or NUMBERED & {*words[1:][-1:]}:
        return True
    # An index without a name may lack the rows that were removed, as they had no label.
    return is_unique and bool(NUMBERED_ONCE & ends or NO_NAME.fullmatch(name))


def check_leakage(one: Profile, label: Profile, task: Task) -> None:
    """Raise Refusal if a column is the label, or tells it perfectly."""
    find = _find_leaked_value if task is Task.REGRESSION else _find_leaked_class
    if how := find(one, label):
        raise Refusal(
            f"{one.name!r} {how}. If it is not known when one asks, leave it out: "
            f"{say('DROP', one.name)}. If it is, take it: {say('KEEP', one.name)}."
        )


def _find_leaked_value(one: Profile, label: Profile) -> str:
    """Return how a column tells the number to predict; "" if it does not."""
    if one.holds is not Holds.NUMBERS or len(one.counts) <= 10:
        return ""
    given = one.cells.is_valid().to_numpy(zero_copy_only=False)
    values, truth = one.numbers, label.numbers[given]
    if len(values) < len(given) / 2 or len(set(truth)) < 2:
        return ""
    if np.array_equal(values, truth):
        return f"is the label {label.name!r}"
    if abs(np.corrcoef(values, truth)[0, 1]) > SAME:
        return f"is the label {label.name!r} in other units"
    if abs(pd.Series(values).corr(pd.Series(truth), method="spearman")) > SAME:
        return f"tells the label {label.name!r} perfectly: both have the same order"
    return ""


def _find_leaked_class(one: Profile, label: Profile) -> str:
    """Return how a column tells the class; "" if it does not.

    A gap is a value, too: a date of cancellation tells who has cancelled.
    """
    if one.holds is Holds.VECTORS:
        return ""
    rows = pd.DataFrame(
        {
            "value": one.cells.to_pandas(),
            "label": label.cells.to_pandas().astype(str),
        }
    )
    if rows["value"].astype(str).equals(rows["label"]):
        return f"is the label {label.name!r}"
    values = rows["value"].nunique(dropna=False)
    if len(rows.drop_duplicates()) > values:
        return ""  # some value has two labels
    if values <= len(rows) / ROWS_PER_VALUE:
        return f"tells the label {label.name!r} perfectly, alone"
    if one.holds is Holds.NUMBERS and not one.missing:
        order = rows.sort_values("value", kind="stable")["label"].to_numpy()
        changes = int((order[1:] != order[:-1]).sum())
        if changes < rows["label"].nunique():
            return f"tells the label {label.name!r} perfectly, alone: by its size"
    return ""
