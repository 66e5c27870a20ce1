"""docs/problems.md lists the problem types as they are."""

import json
import re
from typing import Any

import pytest
from fastapi import HTTPException

from serving.problems import TYPES, document_problems, documented, problem_response
from serving.testing import ROOT

PAGE = ROOT / "docs" / "problems.md"


def test_the_page_lists_every_type_of_the_engine() -> None:
    rows = re.findall(
        r"^\| `(urn:problem-type:[a-z-]+)` \| (\d{3}) \| (.+?) \|",
        PAGE.read_text(encoding="utf-8"),
        re.MULTILINE,
    )

    assert set(rows) >= {(each.uri, str(each.status), each.title) for each in TYPES}
    assert len(rows) == len({uri for uri, _, _ in rows})


def test_causes_that_differ_have_types_that_differ() -> None:
    assert len({each.uri for each in TYPES}) == len(TYPES)


@pytest.mark.parametrize(
    ("detail", "text"),
    [("gone", "gone"), ({"code": 7, "at": [None]}, '{"code":7,"at":[null]}')],
)
def test_a_detail_that_is_no_text_is_sent_as_json(detail: Any, text: str) -> None:
    answer = problem_response(HTTPException(410, detail))

    assert json.loads(bytes(answer.body))["detail"] == text


def test_any_status_can_be_documented() -> None:
    assert documented(401, 418, 499).keys() == {401, 418, 499}


def test_another_class_of_the_name_is_not_replaced_in_the_document() -> None:
    theirs = {"Problem": {"properties": {"patient": {"type": "string"}}}}

    with pytest.raises(ValueError, match="A class of yours is called Problem"):
        document_problems({"paths": {}, "components": {"schemas": theirs}})
