"""The fast path is still FastAPI: it takes and refuses what FastAPI's own route does.

Both are sent the same bytes. They must agree on what is accepted, on what was
understood, and on every mistake: where it is and what is wrong. DIFFERENCES and WORDS
list where they differ, and why that is right.
"""

import codecs
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx2
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient

from serving.problems import MAX_LISTED
from serving.settings import ServingSettings
from tests.serving.toy import MAX_CLAIMS, MAX_NOTE, Claims, create_app

JSON = "application/json"
PATH = "/v1/echo"


class Sent(NamedTuple):
    """A body, and the media types that it is declared as: mostly one."""

    body: bytes
    declared: tuple[str, ...] = (JSON,)


class Verdict(NamedTuple):
    """The status of an answer, and what was understood.

    That is the parsed request (200), the mistakes as (pointer, message) (422), or
    nothing.
    """

    status: int
    understood: object = None


@dataclass(frozen=True)
class Difference:
    """Requests that the two rightly answer with different statuses."""

    why: str
    service: int
    fastapi: frozenset[int]
    concerns: Callable[[Sent], bool]
    examples: dict[str, Sent]


def with_note(note: str) -> bytes:
    """A request for one note, which is given as it stands in JSON."""
    return ('{"claims": [{"note": %s}]}' % note).encode()


def with_extra(value: str) -> bytes:
    """A request with a field too many, whose value is given as it stands in JSON."""
    return ('{"claims": [{"note": "dent"}], "extra": %s}' % value).encode()


VALID = with_note('"dent"')


def is_json(sent: Sent) -> bool:
    """Whether Python's json, which FastAPI parses with, takes the body."""
    try:
        json.loads(sent.body)
    except (ValueError, RecursionError):
        return False
    return True


def media_type(sent: Sent) -> str:
    """The first declared media type, without its parameters."""
    first = (*sent.declared, "")[0]
    return first.partition(";")[0].strip().lower()


_lone_surrogate = re.compile(
    rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]"
    rb"|\xed[\xa0-\xbf]"
).search

DIFFERENCES = {
    "a body that is no JSON": Difference(
        "Here 422 always points into a document; where there is none, it is 400."
        " FastAPI says 400 for bytes that it cannot decode, and 422 for the rest.",
        service=400,
        fastapi=frozenset({422}),
        concerns=lambda sent: not is_json(sent),
        examples={
            "nothing": Sent(b""),
            "a comma at the end": Sent(b'{"claims": [{"note": "dent"}],}'),
            "a zero byte at the end": Sent(VALID + b"\0"),
        },
    ),
    "another encoding than UTF-8": Difference(
        "RFC 8259 asks for UTF-8. Python's json guesses.",
        service=400,
        fastapi=frozenset({200, 422}),
        concerns=lambda sent: json.detect_encoding(sent.body) != "utf-8",
        examples={
            "UTF-16": Sent(VALID.decode().encode("utf-16")),
        },
    ),
    "half of a surrogate pair": Difference(
        "It is no Unicode, and no model could read it. Python's json lets it through,"
        " and FastAPI then fails to encode the error that repeats it.",
        service=400,
        fastapi=frozenset({200, 422}),
        concerns=lambda sent: _lone_surrogate(sent.body) is not None,
        examples={
            "the first half": Sent(with_note(r'"\ud83d"')),
            "as bytes": Sent(with_note('"?"').replace(b"?", b"\xed\xa0\x80")),
            "in a value that a later one replaces": Sent(
                with_note(r'"\ud83d", "note": "dent"')
            ),
        },
    ),
    "values in each other, over 200 deep": Difference(
        "Nothing in the contract is that deep, and a limit keeps the stack safe."
        " Python's json has one, too, which depends on the depth of its callers.",
        service=400,
        fastapi=frozenset({200, 422}),
        concerns=lambda sent: sent.body.count(b"[") + sent.body.count(b"{") > 200,
        examples={
            "lists": Sent(with_extra("[" * 201 + "]" * 201)),
        },
    ),
    "a media type that builds upon JSON": Difference(
        "FastAPI takes every application/*+json. The OpenAPI document names one type.",
        service=415,
        fastapi=frozenset({200, 400, 422}),
        concerns=lambda sent: media_type(sent).endswith("+json"),
        examples={
            "a problem": Sent(VALID, ("application/problem+json",)),
        },
    ),
    "a body that is not declared as JSON": Difference(
        "FastAPI reads it as a string and says that it is no object. 415 says what to"
        " change.",
        service=415,
        fastapi=frozenset({422}),
        concerns=lambda sent: media_type(sent) != JSON,
        examples={
            "nothing declared": Sent(VALID, ()),
            "two in one": Sent(VALID, ("application/json, text/plain",)),
        },
    ),
}

# FastAPI validates Python objects and says so, the service validates JSON.
WORDS = {
    "Input should be a valid list": "Input should be a valid array",
    "Input should be a valid dictionary or object to extract fields from": (
        "Input should be an object"
    ),
}


class Sides:
    """The same endpoint twice: as the engine serves it, and as FastAPI's own route."""

    def __init__(self, service: TestClient, fastapi: TestClient) -> None:
        self.service = service
        self.fastapi = fastapi

    def compare(self, sent: Sent) -> Verdict:
        """What the service says; the test fails if FastAPI's route has no such answer.

        A difference that the table above allows is no failure.
        """
        ours, theirs = self.verdicts(sent)
        if ours == theirs:
            return ours
        assert any(
            row.concerns(sent)
            and row.service == ours.status
            and theirs.status in row.fastapi
            for row in DIFFERENCES.values()
        ), f"{sent}\nthe service: {ours}\nFastAPI: {theirs}"
        return ours

    def verdicts(self, sent: Sent) -> tuple[Verdict, Verdict]:
        """What the service says, and what FastAPI says."""
        return (
            read(post(self.service, sent), lambda answer: answer["errors"]),
            read(post(self.fastapi, sent), as_errors),
        )


def read(response: Any, errors: Callable[[Any], list[dict[str, str]]]) -> Verdict:
    """Read an answer of the endpoint."""
    if response.status_code == 200:
        return Verdict(200, response.json())
    if response.status_code != 422:
        return Verdict(response.status_code)
    found = {(each["pointer"], each["detail"]) for each in errors(response.json())}
    return Verdict(422, found)


def as_errors(mistakes: list[tuple[list[str | int], str]]) -> list[dict[str, str]]:
    """The first mistakes that FastAPI found, in the form of the service."""
    return [
        {"pointer": pointer(location), "detail": WORDS.get(message, message)}
        for location, message in mistakes[:MAX_LISTED]
    ]


def post(client: TestClient, sent: Sent) -> Any:
    """The answer to a request."""
    headers = [(b"Content-Type", each.encode("latin-1")) for each in sent.declared]
    return client.post(PATH, content=sent.body, headers=headers)


def pointer(location: list[str | int]) -> str:
    """A location of FastAPI's, which begins with "body", as a JSON Pointer."""
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in location[1:]]
    return "".join(f"/{part}" for part in parts)


def fastapis_own() -> FastAPI:
    """An application whose one route reads the contract as FastAPI does by itself."""
    app = FastAPI()

    @app.post(PATH)
    async def echo(request: Claims) -> Claims:
        return request

    # FastAPI's own answer repeats the input and fails where that is no valid JSON.
    @app.exception_handler(RequestValidationError)
    async def refuse(request: Request, error: RequestValidationError) -> Response:
        mistakes = [(mistake["loc"], mistake["msg"]) for mistake in error.errors()]
        return Response(json.dumps(mistakes), 422)

    return app


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    """Both, for all tests of this file: they change neither and need no model."""
    settings = ServingSettings(log_level="critical")
    with (
        TestClient(create_app(settings), raise_server_exceptions=False) as ours,
        TestClient(fastapis_own(), raise_server_exceptions=False) as theirs,
    ):
        yield Sides(ours, theirs)


def notes(*given: str) -> bytes:
    """A request for some notes."""
    return json.dumps({"claims": [{"note": note} for note in given]}).encode()


ACCEPTED = {
    "a byte order mark": codecs.BOM_UTF8 + VALID,
    "white space around all": b" \t\r\n" + VALID.replace(b" ", b"\r\n\t ") + b"\n",
    "the later of two values": with_note('1, "note": "dent"'),
    "a note with every escape": with_note(r'"\"\\\/\b\f\n\r\tA"'),
    "a surrogate pair": with_note(r'"\ud83d\ude00"'),
    "letters that grow in lower case": notes("İ", "ß", "ŉ", "ﬃ", "ﷺ"),
    "the longest note": notes("x" * MAX_NOTE),
    "the most claims": notes(*["dent"] * MAX_CLAIMS),
}

REJECTED = {
    "no object": b"[]",
    "an empty object": b"{}",
    "no claim": notes(),
    "a claim of each wrong type": b'{"claims": [null, 1, true, "a", [], {}]}',
    "a note that is a number": with_note("1"),
    "a note that is not a number": with_note("NaN"),
    "an empty note": with_note('""'),
    "a note that is too long": notes("x" * (MAX_NOTE + 1)),
    "a claim too many, and all wrong": notes(*[""] * (MAX_CLAIMS + 1)),
    "urgency that is a string": VALID[:-1] + b', "urgent": "true"}',
    "extra fields that must be escaped": with_extra('1, "": 1, "a/b~c": 1, "é\\n": 1'),
    "mistakes everywhere": b'{"claims": [{"note": ""}, {"txt": 1}], "x": 1}',
}

UNREADABLE = {
    "a byte that UTF-8 has not": with_note('"?"').replace(b"?", b"\xff"),
    "a number of too many digits": with_note("9" * 4301),
    "brackets without end": b"[" * 100_000,
}


@pytest.mark.parametrize("body", ACCEPTED.values(), ids=ACCEPTED)
def test_both_accept_a_valid_body(sides: Sides, body: bytes) -> None:
    assert sides.compare(Sent(body)).status == 200


@pytest.mark.parametrize("body", REJECTED.values(), ids=REJECTED)
def test_both_refuse_and_name_the_same_mistakes(sides: Sides, body: bytes) -> None:
    assert sides.compare(Sent(body)).status == 422


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_both_answer_400_to_an_unreadable_body(sides: Sides, body: bytes) -> None:
    assert sides.verdicts(Sent(body)) == (Verdict(400), Verdict(400))


@pytest.mark.parametrize(
    "declared",
    [
        "Application/JSON",
        'application/json; charset="utf-8"',
        "application/json; charset=latin-1",
        "application/json ; x",
    ],
)
def test_both_read_a_media_type_of_json_as_utf_8(sides: Sides, declared: str) -> None:
    sent = Sent(with_note('"éü"'), (declared,))

    assert sides.compare(sent).status == 200


def test_the_first_of_two_media_types_counts(sides: Sides) -> None:
    assert sides.compare(Sent(VALID, (JSON, "text/plain"))).status == 200
    assert sides.compare(Sent(VALID, ("text/plain", JSON))).status == 415


@pytest.mark.parametrize("name", DIFFERENCES)
def test_each_difference_is_as_the_table_says(sides: Sides, name: str) -> None:
    row = DIFFERENCES[name]

    for example, sent in row.examples.items():
        ours, theirs = sides.verdicts(sent)

        assert row.concerns(sent), example
        assert ours.status == row.service, example
        assert theirs.status in row.fastapi, example
        assert ours != theirs, f"{example}: this is no difference any more"


async def send_in_parts(app: Any, parts: list[bytes]) -> Any:
    """The answer to a body that arrives in these parts."""

    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.post(PATH, content=body(), headers={"Content-Type": JSON})
        return answer.json()


def test_a_body_in_parts_is_the_same_body(sides: Sides) -> None:
    body = with_note('"é\U0001f600"')
    portal = sides.service.portal
    assert portal is not None

    for part in range(len(body)):
        parts = [body[:part], b"", body[part:]]
        answer = portal.call(send_in_parts, sides.service.app, parts)
        assert answer["claims"] == [{"note": "é\U0001f600", "amount": 0.0}]


def test_the_openapi_document_says_what_fastapis_own_says(sides: Sides) -> None:
    ours = sides.service.get("/openapi.json").json()
    theirs = sides.fastapi.get("/openapi.json").json()
    operations = [each["paths"][PATH]["post"] for each in (ours, theirs)]

    assert operations[0]["requestBody"] == operations[1]["requestBody"]
    answers = [each["responses"]["200"] for each in operations]
    assert answers[0] == answers[1]
    for name in ("Claims", "Claim"):
        schemas = [each["components"]["schemas"][name] for each in (ours, theirs)]
        assert schemas[0] == schemas[1]
