"""GET /docs: the page and all that it loads come from the service."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import cast
from urllib.parse import quote

import httpx2
import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from starlette.staticfiles import StaticFiles

from serving.build import Application
from serving.model import SIDECAR_FILE
from serving.settings import ServingSettings
from serving.testing import wait_until
from tests.conftest import Start, Subject
from tests.serving.toy import create_app


class Loaded(HTMLParser):
    """Collects the addresses of what a page loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down the addresses of a tag."""
        self.addresses += [
            value for name, value in attrs if name in ("src", "href") and value
        ]


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    loaded = Loaded(page).addresses

    assert not re.findall(r"https?://|[\"'(]//", page)
    assert len(loaded) == 3
    for address in [*loaded, *re.findall(r"url: '(.+?)'", page)]:
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert len(answer.content) > 100
    # Nor does Swagger UI: by default, it would ask a validator about the document.
    assert '"validatorUrl": null' in page


def test_the_files_have_their_types_and_may_be_cached(client: TestClient) -> None:
    script = client.get("/docs/swagger-ui-bundle.js")
    style = client.get("/docs/swagger-ui.css")

    assert "javascript" in script.headers["content-type"]
    assert style.headers["content-type"].startswith("text/css")
    assert script.headers["etag"] and style.headers["etag"]


def test_the_root_leads_to_the_page(client: TestClient) -> None:
    answer = client.get("/", follow_redirects=False)

    assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
    assert answer.headers["x-request-id"]
    assert 'route="/",' in client.get("/metrics").text


def test_behind_a_proxy_that_strips_a_prefix_it_is_found_as_well(start: Start) -> None:
    process = start(ROOT_PATH="/claims").ready()

    page = httpx2.get(f"{process.url}/docs").text
    root = httpx2.get(f"{process.url}/", follow_redirects=False)

    assert all(one.startswith("/claims/docs/") for one in Loaded(page).addresses)
    assert root.headers["location"] == "/claims/docs"


@pytest.mark.parametrize("prefix", ["/v1", "/v2", "/docs", "/livez", "/\xe4"])
@pytest.mark.parametrize("removed", [True, False], ids=["removed", "kept"])
def test_every_path_is_found_whatever_the_prefix(
    subject: Subject, model_dir: Path, prefix: str, removed: bool
) -> None:
    app = cast(Application, subject.build(model_dir=model_dir, root_path=prefix))
    app.mount("/files", StaticFiles(directory=model_dir))
    sent = "" if removed else quote(prefix)
    paths = ["/v1/model", "/docs", "/docs/swagger-ui.css", "/openapi.json", "/livez"]
    with TestClient(app) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        for path in [*paths, "/v2/health/live", f"/files/{SIDECAR_FILE}"]:
            assert client.get(sent + path).status_code == 200, path
            assert client.head(sent + path).status_code == 200, path
        assert client.post(sent + subject.path, json=subject.body).status_code == 200
        assert client.get(f"{sent}/v2/models/nothing").json()["error"]
        assert client.get(f"{sent}/files/nothing").status_code == 404
        assert 'route="/files",' in client.get("/metrics").text


@pytest.mark.parametrize("path", ["/", "/{rest:path}"])
@pytest.mark.parametrize("sent", ["", "/a"], ids=["removed", "kept"])
def test_a_prefix_is_removed_where_a_route_matches_every_path(
    tmp_path: Path, path: str, sent: str
) -> None:
    (tmp_path / "index.html").write_text("hello")
    app = create_app(ServingSettings(root_path="/a"))
    if path == "/":
        app.mount(path, StaticFiles(directory=tmp_path))
    else:
        app.add_api_route(path, lambda: "hello")
    with TestClient(app) as client:
        assert client.get(f"{sent}/livez").status_code == 200
        assert "hello" in client.get(f"{sent}/index.html").text
        assert f'route="{path}",status="200"' in client.get(f"{sent}/metrics").text


@pytest.mark.parametrize("prefix", ["/a", "/a/b", "/\xe4"])
@pytest.mark.parametrize("rest", ["/x%2Fy", "/", ""])
def test_a_route_sees_the_raw_path_with_the_prefix(prefix: str, rest: str) -> None:
    app = create_app(ServingSettings(root_path=prefix))
    seen = []

    def show(request: Request) -> None:
        seen.append(request.scope["raw_path"])

    app.add_api_route("/x/y", show)
    app.add_api_route("/", show)
    client = TestClient(app)
    encoded = prefix.replace("a", "%61").replace("\xe4", "%C3%A4")
    assert client.get(encoded + rest).status_code == 200
    assert seen == [(quote(prefix) + (rest or "/")).encode("ascii")]


def test_a_root_of_your_own_comes_first() -> None:
    app = create_app(ServingSettings())

    @app.get("/")
    async def greet() -> dict[str, str]:
        return {"hello": "you"}

    with TestClient(app) as client:
        assert client.get("/").json() == {"hello": "you"}
