"""Texts are normalised the same way, once or twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.text import normalise


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("  A\n dent\t", "a dent"), ("ＤＥＮＴ\u00a0Ｉ", "dent i"), ("Straße", "strasse")],
)
def test_case_width_and_space_are_folded(text: str, expected: str) -> None:
    assert normalise(text) == expected
