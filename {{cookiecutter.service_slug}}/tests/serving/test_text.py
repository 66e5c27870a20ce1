"""Texts are normalised alike, once or twice, and in bounded time."""

import unicodedata
from itertools import groupby

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serving.text import MAX_MARKS, normalise

MARKS = [
    character
    for character in map(chr, range(0x300, 0x20000))
    if unicodedata.combining(unicodedata.normalize("NFKD", character)[0])
]
FOLDED = "ßİŉΐǅẞΣςﬃﷺ㌖ªﾊé¨\u0345\u1e9b\u03f4"


def longest_run_of_marks(text: str) -> int:
    """Return how many non-starters follow each other at most."""
    decomposed = unicodedata.normalize("NFKD", text)
    runs = groupby(decomposed, key=lambda one: unicodedata.combining(one) > 0)
    return max((len(list(run)) for marks, run in runs if marks), default=0)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.text() | st.text(st.sampled_from([*MARKS, *FOLDED, " ", "a"])))
@example("ß\u0301")
@example("\u0344" * MAX_MARKS + "\u0301")
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.text(st.sampled_from(MARKS), max_size=50), max_size=3))
@example(["".join(reversed(MARKS))])
@example(["\u0344" * 100, "\uff9e" * 100])
def test_a_run_of_marks_is_broken_where_unicode_breaks_it(runs: list[str]) -> None:
    """A run is sorted in time that grows with the square of its length."""
    assert longest_run_of_marks(normalise("é".join(runs))) <= MAX_MARKS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  A\n dent\t", "a dent"),
        ("ＤＥＮＴ\u00a0Ｉ", "dent i"),
        ("Straße", "strasse"),
        ("e" + "\u0301" * MAX_MARKS, "é" + "\u0301" * (MAX_MARKS - 1)),
        ("-" * 100, "-" * 100),
    ],
)
def test_case_width_and_space_are_folded(text: str, expected: str) -> None:
    assert normalise(text) == expected
