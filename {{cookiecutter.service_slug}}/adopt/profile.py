"""Find out what a column holds: numbers, flags, times or texts, and which."""

import math
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as types

from adopt.layout import Refusal
from adopt.names import say
from training.dialect import (
    NO_NUMBER,
    NO_VALUE,
    drop_marks,
    to_number,
    to_numbers,
    to_texts,
    to_vectors,
)
from training.validation import DECIMAL

# A column has numbers with mistakes among them, and no codes such as "12a", if at least
# this share of its cells are numbers, and more than this many of them differ.
MOSTLY = 0.5
MANY_NUMBERS = 20
SHOWN = 3

# What stands beside a number: "%", "€", "kg", "USD", "years", "Rs.".
UNIT = re.compile(
    r"[(+\-−]?\s*(?P<before>(?:[^\d\s.,+\-−()'’]{1,4}\.?)?)\s*[+\-−]?[\d.,'’\s]*\d"
    r"[.,]?\s*(?P<after>(?:[^\d\s.,+\-−()'’]{1,12}\.?)?)\)?"
)
CURRENCIES = {"Rs", "Rs.", "Fr.", "kr", "kr.", "zł", "Kč", "Ft", "руб.", "руб"}
CURRENCIES |= {*"USD EUR GBP CHF JPY INR CNY SEK NOK DKK PLN CZK HUF RON BGN".split()}
CURRENCIES |= {*"CAD AUD NZD SGD HKD BRL MXN ARS CLP COP ZAR TRY RUB UAH KRW".split()}
CURRENCIES |= {*"THB IDR MYR PHP VND ILS AED SAR EGP NGN KES PKR BDT TWD".split()}
# A number as SAP writes it, if it is negative.
BEHIND = re.compile(r"[\d.,'’ ]*\d[.,]?-")
# If numbers have more different words beside them than these, the words are no units.
MOST_UNITS = 4

# 007 is not 7, and float64 holds no 16 digits.
CODE = re.compile(r"0[0-9]+|[0-9]{16,}")
# The number of a telephone with the code of its country: +34 612 345 678.
PHONE = re.compile(r"\+(?=(?:\D*\d){8,15}\D*$)\d[\d\s()/-]*")
# It may be 1234, where the decimal sign is a comma.
THOUSAND = r"^-?[1-9][0-9]{0,2}(?:\.[0-9]{3})+$"

# Numbers with signs between them, or the name of a month between two.
TIME = re.compile(
    r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}(?:[T ].*)?"
    r"|(?:\w{3,9},? )?\d{1,2}\.?[- ](?:de )?[^\W\d_]{3,10}\.?,?[- ](?:de )?\d{2,4}"
    r"(?: .*)?"
    r"|(?:\w{3,9},? )?[^\W\d_]{3,9}\.? \d{1,2},? (?:\d{4}|[\d:]{5,8})(?: .*)?"
    r"|(?:19|20)\d{2}-?(?:0[1-9]|1[0-2])(?:-?(?:0[1-9]|[12]\d|3[01]))?"
    r"|\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp][Mm])?"
    r"|\d{4} ?[年년] ?\d{1,2} ?[月월].*"
)
# As pandas, a clock or ISO 8601 write it.
DURATION = re.compile(
    r"-?(?:\d+ days? [+-]?\d{1,2}:[\d:.]+|\d{1,4}:\d{2}:\d{2}(?:\.\d+)?"
    r"|P(?=[\dT])(?:[\d.]+[YMWD])*(?:T(?:[\d.]+[HMS])+)?)"
)
# How months begin in other languages than English, which is read.
MONTHS = {
    *"jan feb mar apr may jun jul aug sep oct nov dec mär mai okt dez".split(),
    *"fév avr aoû jui déc ene abr ago dic gen mag giu lug set ott".split(),
    *"fev out maa mei mrt maj sty lut kwi cze lip sie wrz paź lis gru".split(),
    *"янв фев мар апр мая май июн июл авг сен окт ноя дек".split(),
    *"oca şub nis haz tem ağu eyl eki kas ara".split(),
}
DAYS = ["%Y/%m/%d", "%Y.%m.%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y"]
DAYS += ["%m-%d-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d %B %Y"]
DAYS += ["%d-%b-%Y", "%d-%b-%y", "%d. %B %Y", "%b %d, %Y", "%B %d, %Y", "%b %d %Y"]
DAYS += ["%a, %d %b %Y"]
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
FORMS = ["ISO8601", *(day + clock for day in DAYS for clock in CLOCKS)]
FORMS += ["%Y-%m", "%Y%m%d", "%a %b %d %H:%M:%S %Y"]
FORMS += [clock.strip() for clock in CLOCKS[1:]]
# The least share of times in a column of times; how many cells decide on the format.
MOSTLY_TIMES, SEEN = 0.8, 500
# An integer that is a day: 20260131. Fewer of them may be anything.
DAY = re.compile(r"(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])")
FIRST_DAY, LAST_DAY, MANY_DAYS = 19_000_101, 20_991_231, 5


class Holds(StrEnum):
    """What the cells of a column are."""

    NOTHING = "no values"
    NUMBERS = "numbers"
    FLAGS = "true and false"
    TIMES = "times"
    TEXTS = "texts"
    VECTORS = "lists of numbers"
    OTHER = "objects, bytes, hours, or lists that are not all of as many numbers"


class Unclear(Refusal):
    """Some cells of a column fit in with no kind: `reason` says which, and the remedy.

    The message adds what else one can do with a column that is no label.
    """

    def __init__(self, reason: str, name: str) -> None:
        super().__init__(
            f"{reason}; or read the column as text ({say('TEXT', name)}), or leave it "
            f"out ({say('DROP', name)})."
        )
        self.reason = reason


@dataclass(frozen=True)
class Profile:
    """What a column holds.

    `cells` are its values: numbers as float64, all else as text; null is a gap. `unit`
    stands beside the numbers. `comma` tells whether their decimal sign is a comma; it
    is None if the cells could be read either way. `form` is the format of times; it is
    "" if they are not all written in one way.
    """

    name: str
    holds: Holds
    cells: pa.Array
    unit: str = ""
    comma: bool | None = False
    form: str = ""
    has_points: bool = False
    length: int = 1

    @cached_property
    def missing(self) -> int:
        """Return the number of gaps."""
        return int(self.cells.null_count)

    @cached_property
    def counts(self) -> dict[Any, int]:
        """Return the values and how often each occurs, the most frequent first."""
        counted = pc.value_counts(self.cells.drop_null())
        values, counts = counted.field(0).to_pylist(), counted.field(1).to_pylist()
        pairs = sorted(zip(values, counts, strict=True), key=lambda pair: -pair[1])
        return dict(pairs)

    @cached_property
    def numbers(self) -> npt.NDArray[np.float64]:
        """Return the values of numbers, without gaps."""
        return np.asarray(self.cells.drop_null().to_numpy(zero_copy_only=False))

    @property
    def is_whole(self) -> bool:
        """Return whether all numbers are integers that float64 holds."""
        numbers = self.numbers
        return bool((np.floor(numbers) == numbers).all() and _fits(numbers))


def _fits(numbers: npt.NDArray[np.float64]) -> bool:
    return bool((np.abs(numbers) < 2**53).all())


def profile(
    name: str, array: pa.Array, comma: bool | None = None, as_text: bool = False
) -> Profile:
    """Return what a column holds.

    `comma` is what the user says of the decimal sign. `as_text` takes the cells for
    texts. Raises Unclear if cells are neither numbers nor anything else.
    """
    kind = array.type
    if types.is_null(kind):
        return Profile(name, Holds.NOTHING, array)
    if types.is_boolean(kind):
        return Profile(name, Holds.FLAGS, array.cast(pa.large_string()))
    if types.is_integer(kind) and array.null_count < len(array):
        low, high = pc.min_max(array).as_py().values()
        if max(-low, high) >= 2**53:  # an identifier, as in a text file
            return Profile(name, Holds.TEXTS, to_texts(array))
        if not as_text and FIRST_DAY <= low and high <= LAST_DAY:
            texts = to_texts(array)
            if _are_days(pc.unique(texts.drop_null()).to_pylist()):
                return Profile(name, Holds.TIMES, texts, form="%Y%m%d")
    if types.is_integer(kind) or types.is_floating(kind):
        return _profile_numbers(name, array, as_text)
    if types.is_timestamp(kind) or types.is_date(kind):
        return Profile(name, Holds.TIMES, array, form="ISO8601")
    if types.is_large_string(kind):
        return _profile_texts(name, array, comma, as_text)
    length = _find_length(array)
    return Profile(
        name, Holds.VECTORS if length else Holds.OTHER, array, length=length or 1
    )


def _are_days(words: Sequence[str]) -> bool:
    """Return whether integers are days, such as 20260131."""
    if len(words) < MANY_DAYS or not all(map(DAY.fullmatch, words)):
        return False
    return fits(words, "%Y%m%d")


def _profile_numbers(name: str, array: pa.Array, as_text: bool) -> Profile:
    if as_text:
        return Profile(name, Holds.TEXTS, to_texts(array))
    cells = array.cast(pa.float64(), safe=False)
    cells = pc.if_else(pc.is_nan(cells), pa.scalar(None, pa.float64()), cells)
    if cells.null_count == len(cells):
        return Profile(name, Holds.NOTHING, cells)
    if pc.any(pc.is_inf(cells)).as_py():
        raise Unclear(f"{name!r} has infinite values. Remove them", name)
    # A file that knows integers keeps a float a float, except that a gap makes it one.
    return Profile(name, Holds.NUMBERS, cells, has_points=types.is_floating(array.type))


def _find_length(array: pa.Array) -> int:
    """Return how many numbers each list has; 0 if they differ, or some are none."""
    kind = array.type
    if not (types.is_list(kind) or types.is_large_list(kind)) and not (
        types.is_fixed_size_list(kind)
    ):
        return 0
    if not (types.is_integer(kind.value_type) or types.is_floating(kind.value_type)):
        return 0
    lengths = set(pc.list_value_length(array.drop_null()).to_pylist())
    numbers = array.drop_null().flatten().cast(pa.float64(), safe=False)
    if len(lengths) > 1 or not pc.all(pc.is_finite(numbers), skip_nulls=False).as_py():
        return 0
    return lengths.pop() if lengths else 0


def _profile_texts(
    name: str, array: pa.Array, comma: bool | None, as_text: bool
) -> Profile:
    cells = pc.utf8_trim_whitespace(array)
    marks = NO_VALUE
    if pc.any(pc.equal(cells, "+")).as_py() and len(pc.unique(cells)) <= MANY_NUMBERS:
        marks = marks - {"-"}  # the other of two
    cells = drop_marks(cells, marks)
    if cells.null_count == len(cells):
        return Profile(name, Holds.NOTHING, cells)
    texts = Profile(name, Holds.TEXTS, cells)
    if as_text:
        return texts
    if vectors := _read_vectors(name, cells):
        return vectors
    if times := _read_times(name, cells):
        return times
    if numbers := _read_plain(name, cells):
        return numbers
    written = pc.unique(cells.drop_null()).to_pylist()
    words = [text.lower() for text in written]
    if {*words} <= {"true", "false"}:
        return Profile(name, Holds.FLAGS, pc.utf8_lower(cells))
    if any(CODE.fullmatch(word) or PHONE.fullmatch(word) for word in words):
        return texts
    return _read_numbers(texts, words, comma) or texts


def _read_vectors(name: str, cells: pa.Array) -> Profile | None:
    """Return the profile of lists of numbers; None if some texts are none."""
    if not pc.all(pc.starts_with(cells, "[")).as_py():
        return None
    lists = to_vectors(cells)
    return profile(name, lists) if types.is_list(lists.type) else None


def _read_plain(name: str, cells: pa.Array) -> Profile | None:
    """Return the profile of numbers as Python writes them, of which there may be many.

    None if some cells are no such numbers, or could be thousands, or codes.
    """
    given = drop_marks(cells, NO_NUMBER).drop_null()
    if not len(given) or not pc.all(pc.match_substring_regex(given, DECIMAL)).as_py():
        return None
    if pc.any(pc.match_substring_regex(given, f"^(?:{CODE.pattern})$")).as_py():
        return None
    points = given.filter(pc.match_substring(given, "."))
    if pc.all(pc.match_substring_regex(points, THOUSAND)).as_py() and len(points):
        return None
    numbers = to_numbers(cells).cast(pa.float64())
    return Profile(name, Holds.NUMBERS, numbers, has_points=bool(len(points)))


def _read_numbers(
    texts: Profile, words: list[str], comma: bool | None
) -> Profile | None:
    """Return the profile of numbers; None if the texts are none."""
    words = [word for word in words if word not in NO_NUMBER]
    if not any(character.isdecimal() for word in words for character in word):
        return None
    # Units are written as they are: € beside the number, kg and KG are two.
    cells = pc.unique(texts.cells.drop_null()).to_pylist()
    cells = [cell for cell in cells if cell.lower() not in NO_NUMBER]
    unit = _find_unit(texts, cells)
    sign = _find_sign(texts, cells, unit, comma)
    wrong = [cell for cell in cells if to_number(cell, unit, bool(sign)) is None]
    if wrong:
        _check_mixture(texts, cells, wrong)
        return None
    numbers = to_numbers(texts.cells, unit, bool(sign)).cast(pa.float64())
    if not pc.all(pc.is_finite(numbers)).as_py():
        raise Unclear(
            f"{texts.name!r} has numbers beyond 1e308, which no model reads. Correct "
            "them",
            texts.name,
        )
    points = any("." in cell or "," in cell and sign for cell in cells)
    return Profile(texts.name, Holds.NUMBERS, numbers, unit, sign, has_points=points)


def _find_unit(texts: Profile, cells: Sequence[str]) -> str:
    """Return what is written beside the numbers. Raises Unclear if that differs."""
    units: Counter[str] = Counter()
    for cell in cells:
        if to_number(cell) is not None or to_number(cell, comma=True) is not None:
            units[""] += 1
        elif match := UNIT.fullmatch(cell):
            before, after = match["before"], match["after"]
            if before and (after or not is_currency(before)):
                return ""  # a code, such as Q4
            units[before or after] += 1
    named = [unit for unit in units if unit]
    if len(named) == 1 and (not units[""] or is_currency(named[0])):
        return named[0]
    is_known = "%" in named or any(map(is_currency, named))
    is_measure = 0 < len(named) <= MOST_UNITS and len(cells) > MANY_NUMBERS
    if (is_known or is_measure) and sum(units.values()) > len(cells) * MOSTLY:
        shown = ", ".join(repr(unit) if unit else "none" for unit in sorted(+units))
        raise Unclear(
            f"{texts.name!r} mixes units beside its numbers ({shown}). Write all in "
            "one unit",
            texts.name,
        )
    return ""


def is_currency(unit: str) -> bool:
    """Return whether a unit is a currency: a sign, or a known name."""
    return unit in CURRENCIES or any(unicodedata.category(one) == "Sc" for one in unit)


def _find_sign(
    texts: Profile, cells: Sequence[str], unit: str, said: bool | None
) -> bool | None:
    """Return whether the decimal sign is a comma; None if both readings are possible.

    Raises Unclear if some numbers have a comma and others a point.
    """
    by_point, by_comma, differs = "", "", False
    for cell in cells:
        one, other = to_number(cell, unit), to_number(cell, unit, comma=True)
        if one is not None and other is None:
            by_point = by_point or cell
        elif other is not None and one is None:
            by_comma = by_comma or cell
        elif one != other:
            differs = True
    if by_point and by_comma:
        raise Unclear(
            f"{texts.name!r} has numbers with a decimal point ({by_point!r}) and with "
            f"a decimal comma ({by_comma!r}). Write all in one way",
            texts.name,
        )
    if by_point or by_comma:
        return bool(by_comma)
    return said if differs else False


def _check_mixture(texts: Profile, cells: Sequence[str], wrong: Sequence[str]) -> None:
    """Raise Unclear if most cells are numbers: then the others are mistakes.

    Also if the minus signs of the others are behind them.
    """
    if len(cells) > MANY_NUMBERS and all(map(BEHIND.fullmatch, wrong)):
        raise Unclear(
            f"{texts.name!r} has minus signs behind its numbers ({wrong[0]!r}). Write "
            "them in front",
            texts.name,
        )
    counts = texts.counts
    bad = sum(counts[cell] for cell in wrong)
    total = sum(counts[cell] for cell in cells)
    if len(cells) - len(wrong) <= MANY_NUMBERS or total - bad < total * MOSTLY:
        return
    shown = ", ".join(map(repr, sorted(wrong)[:SHOWN]))
    more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    raise Unclear(
        f"{texts.name!r} has {total - bad} numbers, and {bad} cells that are none: "
        f"{shown}{more}. Correct them, or leave them empty",
        texts.name,
    )


def _read_times(name: str, cells: pa.Array) -> Profile | None:
    """Return the profile of times; None if the texts are none.

    A few may be none: nobody wants the others read as text.
    """
    cells = drop_marks(cells, NO_NUMBER)
    given = cells.drop_null()
    if not len(given) or not _are_times(given[:SEEN].to_pylist()):
        return None
    written = pc.unique(given).to_pylist()
    if all(DAY.fullmatch(cell) for cell in written):
        if not _are_days(written):
            return None
        return Profile(name, Holds.TIMES, cells, form="%Y%m%d")
    sample = written[:SEEN]
    for form in FORMS:
        if fits(sample, form) and fits(written, form):
            return Profile(name, Holds.TIMES, cells, form=form)
    read = np.any([_parse(sample, form) for form in FORMS], axis=0)
    is_time = read | [_is_other_time(cell) for cell in sample]
    return Profile(name, Holds.TIMES, cells) if is_time.mean() >= MOSTLY_TIMES else None


def _are_times(cells: Sequence[str]) -> bool:
    matches = sum(bool(TIME.fullmatch(x) or DURATION.fullmatch(x)) for x in cells)
    return matches >= len(cells) * MOSTLY_TIMES


def _is_other_time(cell: str) -> bool:
    """Return whether a cell is a duration, or names a month in some language."""
    if DURATION.fullmatch(cell):
        return True
    words = re.findall(r"[^\W\d_]+", cell.lower())
    return any(word[:3] in MONTHS or word[:1] in "年년" for word in words)


def _parse(cells: Sequence[str], form: str) -> npt.NDArray[np.bool_]:
    """Return which cells are times in a format."""
    texts = pd.Series(list(cells), dtype=object)
    times = pd.to_datetime(texts, format=form, errors="coerce", utc=True)
    return np.asarray(times.notna())


def fits(cells: Sequence[str], form: str) -> bool:
    """Return whether all cells are times in a format."""
    return bool(_parse(cells, form).all())


def find_odd_times(cells: Sequence[str]) -> list[str]:
    """Return the cells that are not in the format that most are in."""
    best = max(FORMS, key=lambda form: int(_parse(cells[:SEEN], form).sum()))
    read = _parse(cells, best)
    return [cell for cell, is_read in zip(cells, read, strict=True) if not is_read]


def round_out(number: float, up: bool) -> float:
    """Return the next number above or below that has two digits."""
    if abs(number) < sys.float_info.min:  # too small for digits
        return number
    step = 10.0 ** (math.floor(math.log10(abs(number))) - 1)
    rounded = (math.ceil if up else math.floor)(round(number / step, 9)) * step
    return float(f"{rounded:.2g}")
