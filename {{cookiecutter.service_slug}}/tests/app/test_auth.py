"""API keys: off by default; on, all paths but probes, metrics and docs ask for one."""

import asyncio
import hashlib
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends
from fastapi.security import APIKeyHeader
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app import auth
from app.main import create_app
from app.settings import Settings
from serving.build import read_project
from serving.settings import SettingsError, load_settings
from serving.testing import wait_until
from tests.conftest import BODY, Serve, Start

KEY, OTHER, OLD = "key-of-acme", "key-of-beta", "old-key-of-acme"


def entry(name: str, key: str) -> str:
    """Return what is stored of a key."""
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"


KEYS = "\n".join([entry("acme", KEY), entry("acme", OLD), entry("beta", OTHER)])


def bearer(key: str) -> dict[str, str]:
    """Return the header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def guarded(serve: Serve) -> TestClient:
    """A client of a service with keys."""
    client = serve(api_keys=KEYS)
    wait_until(lambda: client.get("/readyz").status_code == 200)
    return client


@pytest.mark.parametrize("key", [KEY, OLD, OTHER])
def test_a_known_key_is_let_in(guarded: TestClient, key: str) -> None:
    answer = guarded.post("/v1/predict", json=BODY, headers=bearer(key))

    assert answer.status_code == 200
    assert guarded.get("/v1/model", headers=bearer(key)).status_code == 200


def test_keys_guard_the_open_inference_protocol_but_its_probes(
    guarded: TestClient,
) -> None:
    path = f"/v2/models/{read_project().name}"

    assert guarded.get(path, headers=bearer(KEY)).status_code == 200
    for answer in (guarded.get(path), guarded.post(f"{path}/infer", json={})):
        assert answer.status_code == 401
        assert answer.json()["error"] == answer.json()["detail"]
    for probe in ("/v2/health/live", "/v2/health/ready"):
        assert guarded.get(probe).status_code == 200


@pytest.mark.parametrize(
    ("headers", "challenge"),
    [
        ({}, "Bearer"),
        ({"Authorization": "Basic YTpi"}, "Bearer"),
        ({"Authorization": "Bearer"}, 'Bearer error="invalid_token"'),
        ({"Authorization": "Bearer nonsense"}, 'Bearer error="invalid_token"'),
        (bearer(KEY + "x"), 'Bearer error="invalid_token"'),
        (bearer(entry("acme", KEY)), 'Bearer error="invalid_token"'),
    ],
)
def test_all_others_are_rejected(
    guarded: TestClient, headers: dict[str, str], challenge: str
) -> None:
    for answer in (
        guarded.post("/v1/predict", json=BODY, headers=headers),
        guarded.get("/v1/model", headers=headers),
        guarded.get("/v1/nothing", headers=headers),
    ):
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:problem-type:unauthorized"
        assert answer.headers["www-authenticate"] == challenge


def test_the_guard_does_not_read_the_body() -> None:
    sent: list[Any] = []

    async def fail(*_: object) -> None:
        raise AssertionError("nothing of the request may be read or handed on")

    async def send(message: Any) -> None:
        sent.append(message)

    layer = auth.ApiKeyLayer(fail, auth.read_keys(KEYS), create_app(Settings()))
    scope = {"type": "http", "path": "/v1/predict", "headers": []}
    asyncio.run(layer(scope, fail, send))  # type: ignore[arg-type]

    assert sent[0]["status"] == 401


def test_probes_metrics_and_docs_need_no_key(guarded: TestClient) -> None:
    for path in auth.PUBLIC | {"/docs/swagger-ui.css"}:
        assert guarded.get(path).status_code == 200, path


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("POST", "/"), ("POST", "/docs")]
)
def test_a_route_of_yours_asks_for_a_key_at_any_path(method: str, path: str) -> None:
    app = create_app(Settings(api_keys=SecretStr(KEYS)))
    app.add_api_route(path, lambda: "secret", methods=[method])

    with TestClient(app) as client:
        assert client.request(method, path).status_code == 401
        assert client.request(method, path, headers=bearer(KEY)).text == '"secret"'
        assert client.get("/docs").status_code == 200
        operation = client.get("/openapi.json").json()["paths"][path][method.lower()]
    assert operation["security"] == [{"ApiKey": []}]


def test_the_document_says_that_a_key_is_asked_for(guarded: TestClient) -> None:
    document = guarded.get("/openapi.json").json()

    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    assert document["paths"]["/v1/predict"]["post"]["security"] == [{"ApiKey": []}]
    assert "401" in document["paths"]["/v1/predict"]["post"]["responses"]
    assert "security" not in document["paths"]["/readyz"]["get"]


def test_a_scheme_of_a_route_is_documented_beside_the_key() -> None:
    app = create_app(Settings(api_keys=SecretStr(KEYS)))

    @app.get("/own")
    async def own(_: Annotated[str, Depends(APIKeyHeader(name="X-Own"))]) -> None:
        """Ask for a header as well."""

    operation = app.openapi()["paths"]["/own"]["get"]
    assert operation["security"] == [{"ApiKey": [], "APIKeyHeader": []}]


def test_the_name_of_the_key_is_the_tenant(guarded: TestClient) -> None:
    guarded.post("/v1/predict", json=BODY, headers=bearer(KEY))
    guarded.post("/v1/predict", json={}, headers=bearer(OLD))
    guarded.post("/v1/predict", json=BODY)

    metrics = guarded.get("/metrics").text
    counted = re.findall(r"^http_requests_by_tenant_total{.*$", metrics, re.MULTILINE)
    assert counted == ['http_requests_by_tenant_total{tenant="acme"} 2.0']


def test_the_log_carries_the_tenant_and_says_that_keys_are_on(start: Start) -> None:
    process = start(API_KEYS=KEYS).ready()
    process.ask(headers=bearer(OTHER))
    process.stop()

    assert '"message":"API keys are on, for: acme, beta."' in process.log()
    assert re.search(r'POST /v1/predict 200.*"tenant":"beta"', process.log())
    assert KEY not in process.log()


def test_without_keys_everybody_may_ask_and_the_log_says_so(start: Start) -> None:
    process = start().ready()

    assert process.ask().status_code == 200
    assert "API keys are off" in process.log()


@pytest.mark.parametrize("text", ["acme", "acme:1234", f"A:{'0' * 64}", "secret-key"])
def test_entries_that_cannot_be_used_are_refused_without_repeating_them(
    text: str,
) -> None:
    with pytest.raises(SettingsError, match="entry 2 is not name:hash") as caught:
        auth.read_keys(f"{entry('acme', KEY)}, {text}")

    assert "secret-key" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        (b"\xff", "is not UTF-8"),
        (b"# no key yet\n", "entry 1 is not name:hash"),
        (b",\n", "has no entry"),
        (None, "is no file"),
    ],
)
def test_a_file_without_keys_does_not_turn_them_off(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: bytes | None,
    reason: str,
) -> None:
    monkeypatch.setattr("serving.settings.SECRETS", tmp_path)
    monkeypatch.setitem(Settings.model_config, "secrets_dir", tmp_path)
    file = tmp_path / "api_keys"
    file.mkdir() if content is None else file.write_bytes(content)

    with pytest.raises(SettingsError, match=reason) as caught:
        create_app(load_settings(Settings))
    assert "/api_keys" in str(caught.value)


def test_a_directory_of_secrets_that_cannot_be_listed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("serving.settings.SECRETS", tmp_path)
    monkeypatch.setattr(Path, "iterdir", fail)

    with pytest.raises(SettingsError, match=f"{tmp_path} cannot be read: Permission"):
        load_settings(Settings)


def test_secrets_are_read_as_kubernetes_mounts_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = tmp_path / "..2026_11_27"
    version.mkdir()
    (version / "port").write_text("8123\n")
    (tmp_path / "..data").symlink_to(version.name)
    (tmp_path / "port").symlink_to("..data/port")
    (tmp_path / "kubernetes.io/serviceaccount").mkdir(parents=True)
    (tmp_path / "of-another-program").write_text("")
    monkeypatch.setattr("serving.settings.SECRETS", tmp_path)
    monkeypatch.setitem(Settings.model_config, "secrets_dir", tmp_path)
    monkeypatch.delenv("PORT", raising=False)

    assert load_settings(Settings).port == 8123


def test_a_new_key_fits_its_entry(capsys: pytest.CaptureFixture[str]) -> None:
    assert auth.main(["acme"]) == 0

    key, stored = re.findall(r"^  (\S+)$", capsys.readouterr().out, re.MULTILINE)
    assert auth.read_keys(stored) == [auth.ApiKey("acme", auth.hash_key(key.encode()))]
    assert auth.main(["No Name"]) == 2
