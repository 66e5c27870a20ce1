"""From the fields of a contract to what a model takes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.fields import Fields, normalise
from tests.serving.toy import Claim

TYPES = {"note": "tensor(string)", "amount": "tensor(float)"}


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("  A\n dent\t", "a dent"), ("ＤＥＮＴ\u00a0Ｉ", "dent i"), ("Straße", "strasse")],
)
def test_case_width_and_space_are_folded(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_each_field_is_a_column_of_its_type() -> None:
    fields = Fields(Claim, TYPES)
    claims = [Claim(note="a", amount=1), Claim(note="bc", amount=2)]

    arrays = fields.arrays(claims)

    assert arrays["note"].tolist() == [["a"], ["bc"]]
    assert arrays["amount"].dtype == np.float32
    assert arrays["amount"].shape == (2, 1)
    assert fields.size(claims) == 5


@pytest.mark.parametrize(
    ("types", "says"),
    [
        ({"note": "tensor(string)"}, "only the contract has amount"),
        (TYPES | {"sum": "tensor(float)"}, "only the model takes sum"),
        (TYPES | {"amount": "tensor(string)"}, "'amount' is a number in the contract"),
        (TYPES | {"amount": "tensor(double)"}, r"the model takes tensor\(double\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(types: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Fields(Claim, types)
