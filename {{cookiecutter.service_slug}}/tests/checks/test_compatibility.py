"""Two OpenAPI documents: what breaks clients is named, and nothing else is."""

from typing import Annotated, Any, Literal

import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field, create_model

from checks.compatibility import find_breaks

Schema = dict[str, Any]
BEFORE: dict[str, Any] = {
    "text": (Annotated[str, Field(max_length=10)], ...),
    "room": (Literal["kitchen", "bath"] | None, None),
    "sizes": (list[float], []),
}
ANSWER: dict[str, Any] = {
    "label": (str, ...),
    "score": (float | None, None),
    "kind": (Literal["a", "b"], "a"),
}
STRICT = ConfigDict(extra="forbid")


def document(
    request: dict[str, Any] = BEFORE, answer: dict[str, Any] = ANSWER, **operation: Any
) -> Schema:
    """The document of an API with one operation."""
    app = FastAPI()
    taken = create_model("Request", __config__=STRICT, **request)
    given: type[BaseModel] = create_model("Answer", **answer)

    def predict(body: Any) -> Any: ...

    predict.__annotations__.update(body=taken)
    path = operation.pop("path", "/v1/predict")
    app.add_api_route(
        path, predict, methods=["POST"], response_model=given, **operation
    )
    return app.openapi()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (document(path="/v2/predict"), "it is gone"),
        (
            document({**BEFORE, "house": (str, ...)}),
            "of the request, `house` is now required",
        ),
        (
            document({**BEFORE, "sizes": (list[float], ...)}),
            "of the request, `sizes` is now required",
        ),
        (
            document({name: BEFORE[name] for name in ("text", "room")}),
            "of the request, `sizes` is no longer taken",
        ),
        (
            document({**BEFORE, "text": (int, ...)}),
            "of the request, `text` was string and is integer",
        ),
        (
            document({**BEFORE, "sizes": (list[int], [])}),
            "of the request, `sizes[]` was number and is integer",
        ),
        (
            document({**BEFORE, "room": (Literal["kitchen"] | None, None)}),
            "of the request, `room` never takes 'bath'",
        ),
        (
            document({**BEFORE, "room": (Literal["kitchen", "bath"], "bath")}),
            "of the request, `room` was null and is string",
        ),
        (
            document({**BEFORE, "text": (Annotated[str, Field(max_length=9)], ...)}),
            "of the request, `text` had the maxLength 10 and has 9",
        ),
        (
            document({**BEFORE, "text": (Annotated[str, Field(pattern="a")], ...)}),
            "of the request, `text` had the pattern None and has a",
        ),
        (
            document(answer={**ANSWER, "label": (str | None, None)}),
            "of the answer 200, `label` may be missing",
        ),
        (
            document(answer={name: ANSWER[name] for name in ("label", "kind")}),
            "of the answer 200, `score` is gone",
        ),
        (
            document(answer={**ANSWER, "kind": (Literal["a", "b", "c"], "a")}),
            "of the answer 200, `kind` may be 'c'",
        ),
        (
            document(answer={**ANSWER, "score": (str | None, None)}),
            "of the answer 200, `score` was number and is string",
        ),
        (document(status_code=202), "it no longer answers 200"),
    ],
)
def test_what_breaks_clients_is_named(changed: Schema, reason: str) -> None:
    assert ("POST /v1/predict", reason) in list(find_breaks(document(), changed))


@pytest.mark.parametrize(
    "changed",
    [
        document(),
        document({**BEFORE, "house": (str | None, None)}),
        document({**BEFORE, "text": (Annotated[str, Field(max_length=11)], ...)}),
        document({**BEFORE, "text": (str | int, ...)}),
        document({**BEFORE, "room": (Literal["kitchen", "bath", "hall"] | None, None)}),
        document(answer={**ANSWER, "more": (str, "")}),
        document(answer={**ANSWER, "kind": (Literal["a"], "a")}),
        document(answer={**ANSWER, "score": (float, ...)}),
    ],
)
def test_what_breaks_nobody_is_not_named(changed: Schema) -> None:
    assert list(find_breaks(document(), changed)) == []


def test_a_new_version_beside_the_old_one_breaks_nobody() -> None:
    old, new = document(), document(path="/v2/predict")
    new["paths"] |= old["paths"]

    assert list(find_breaks(old, new)) == []


def test_a_schema_that_contains_itself_is_compared() -> None:
    tree = {"type": "object", "properties": {"next": {"$ref": "#/components/tree"}}}
    old = document()
    old["components"]["tree"] = tree
    schemas = old["components"]["schemas"]
    schemas["Request"]["properties"]["tree"] = {"$ref": "#/components/tree"}

    assert list(find_breaks(old, old)) == []


def test_schemas_that_contain_each_other_are_compared() -> None:
    # Each has three fields of two kinds: followed to a fixed depth, that never ends.
    old, new = document(), document()
    for one, most in ((old, 9), (new, 5)):
        both = {"anyOf": [{"$ref": "#/components/a"}, {"$ref": "#/components/b"}]}
        for name in ("a", "b"):
            places = {f"{name}{place}": dict(both) for place in range(3)}
            size = {"type": "integer", "maximum": most}
            tree = {"type": "object", "properties": {"size": size, **places}}
            one["components"][name] = tree
        one["components"]["schemas"]["Request"]["properties"]["tree"] = both

    assert "of the request, `tree.size` had the maximum 9 and has 5" in [
        reason for _, reason in find_breaks(old, new)
    ]


def test_a_key_that_is_asked_for_breaks_clients() -> None:
    old, new = document(), document()
    new["paths"]["/v1/predict"]["post"]["security"] = [{"ApiKey": []}]

    assert list(find_breaks(old, new)) == [("POST /v1/predict", "it asks for a key")]


def test_parameters_that_take_less_are_named() -> None:
    old, new = document(), document()
    for one, most in ((old, 9), (new, 5)):
        schema = {"type": "integer", "maximum": most}
        known = {"in": "query", "name": "top", "schema": schema}
        one["paths"]["/v1/predict"]["post"]["parameters"] = [known]
    added = {"in": "header", "name": "room", "required": True, "schema": {}}
    new["paths"]["/v1/predict"]["post"]["parameters"].append(added)

    assert [reason for _, reason in find_breaks(old, new)] == [
        "of the query parameter `top`, the whole had the maximum 9 and has 5",
        "the header parameter `room` is now required",
    ]
