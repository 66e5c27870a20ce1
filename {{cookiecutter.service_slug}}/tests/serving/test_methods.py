"""HEAD and OPTIONS: on every route that does not declare them itself."""

from typing import Any

import pytest
from fastapi import APIRouter, Response
from fastapi.testclient import TestClient

from tests.conftest import Process
from tests.serving.conftest import PATH
from tests.serving.test_connection import connect, read_all


@pytest.mark.parametrize(
    "path",
    [
        *("/livez", "/readyz", "/metrics", "/v1/model"),
        *("/docs", "/docs/swagger-ui.css", "/openapi.json"),
    ],
)
def test_head_is_get_without_a_body(server: Process, path: str) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"HEAD %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode()
        )
        head, _, body = read_all(connection).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-length: 0" not in head
    assert body == b""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        (PATH, "OPTIONS, POST"),
        ("/livez", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_names_the_methods(client: TestClient, path: str, allowed: str) -> None:
    answer = client.options(path)

    assert (answer.status_code, answer.headers["allow"]) == (204, allowed)
    assert answer.headers["x-request-id"]


def test_options_of_the_server_names_all_methods(server: Process) -> None:
    with connect(server) as connection:
        connection.sendall(
            b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"allow: GET, HEAD, OPTIONS, POST\r\n" in answer


def test_a_method_that_no_route_has_is_still_an_error(client: TestClient) -> None:
    assert client.head(PATH).status_code == 405
    assert client.head("/nothing").status_code == 404
    assert client.options("/nothing").status_code == 404


def test_a_route_that_declares_head_and_options_keeps_them(subject: Any) -> None:
    router = APIRouter()

    @router.api_route("/own", methods=["HEAD", "OPTIONS"])
    async def own() -> Response:
        return Response(headers={"X-Own": "yes"})

    @router.get("/own")
    async def get() -> str:
        return "get"

    app = subject.build()
    app.include_router(router)
    with TestClient(app) as client:
        assert client.head("/own").headers["x-own"] == "yes"
        assert client.options("/own").headers["x-own"] == "yes"
        assert client.get("/own").json() == "get"
