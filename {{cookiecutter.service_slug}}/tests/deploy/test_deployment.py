"""What is deployed is what the code is: each manifest is tied to it by a test."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from serving.container import usable_cpus
from tests.manifests import (
    ROOT,
    STAGES,
    Image,
    Manifest,
    container,
    only,
    pod_spec,
    render,
)

PROBES = ["startupProbe", "livenessProbe", "readinessProbe"]

# All that may differ between the stages; names and values of their own, no more.
MAY_DIFFER = [
    r".*/metadata/namespace",
    r"Namespace/metadata/name",
    r"ConfigMap/metadata/name",
    r"ConfigMap/data/LOG_LEVEL",
    r"Deployment/spec/template/spec/containers/0/envFrom/0/configMapRef/name",
    r"HorizontalPodAutoscaler/spec/(min|max)Replicas",
    r"HTTPRoute/spec/hostnames/0",
]


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> list[Manifest]:
    """The manifests of each stage in turn."""
    return render(request.param)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, object]]:
    """Every value in a manifest with its path."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{path}/{key}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from leaves(part, f"{path}/{number}")
    else:
        yield path, value


def test_there_are_the_three_stages() -> None:
    assert STAGES == ["dev", "prod", "stage"]


def test_a_probe_asks_for_a_path_that_is_a_route(
    stage: list[Manifest], client: TestClient
) -> None:
    paths = {probe: container(stage)[probe]["httpGet"]["path"] for probe in PROBES}

    assert paths == {
        "startupProbe": "/livez",
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
    }, "deploy/base/deployment.yaml"
    assert [client.get(path).status_code for path in paths.values()] == [200] * 3


def test_the_health_check_of_the_image_asks_for_readiness(client: TestClient) -> None:
    image = Image()
    (address,) = re.findall(r"http://[^']+", image.get("HEALTHCHECK"))

    assert address == f"http://127.0.0.1:{image.variables['PORT']}/readyz"
    assert client.get("/readyz").status_code == 200


def test_what_is_public_is_there(stage: list[Manifest], client: TestClient) -> None:
    (rule,) = only(stage, "HTTPRoute")["spec"]["rules"]
    paths = {match["path"]["value"]: match["path"]["type"] for match in rule["matches"]}
    documented = client.get("/openapi.json").json()["paths"]

    for path, kind in paths.items():
        if kind == "Exact":
            assert client.get(path).status_code == 200
        else:
            assert any(one.startswith(f"{path}/") for one in documented)


def test_everybody_names_the_port_that_the_service_listens_on(
    stage: list[Manifest],
) -> None:
    image = Image()
    (port,) = container(stage)["ports"]
    (service,) = only(stage, "Service")["spec"]["ports"]
    (route,) = only(stage, "HTTPRoute")["spec"]["rules"]
    (backend,) = route["backendRefs"]
    policies = [one for one in stage if one["kind"] == "NetworkPolicy"]
    allowed = [
        port["port"]
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    ]

    assert (
        str(port["containerPort"]) == image.variables["PORT"] == image.get("EXPOSE")
    ), "containerPort of deploy/base/deployment.yaml, PORT and EXPOSE of the Dockerfile"
    assert service["targetPort"] == port["name"]
    assert backend["port"] == service["port"]
    assert {container(stage)[probe]["httpGet"]["port"] for probe in PROBES} == {
        port["name"]
    }
    assert allowed == [port["name"]]


def test_the_pod_runs_as_the_user_of_the_image(stage: list[Manifest]) -> None:
    context = pod_spec(stage)["securityContext"]

    assert context["runAsNonRoot"] is True
    assert Image().get("USER") == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_every_variable_is_a_setting_and_every_setting_has_its_place(
    stage: list[Manifest],
) -> None:
    image, given = Image().variables, only(stage, "ConfigMap")["data"]
    secret = {
        name.upper()
        for name, field in Settings.model_fields.items()
        if "Secret" in str(field.annotation)
    }

    known = {name.upper() for name in Settings.model_fields}
    place = "deploy/base/settings.env (or ENV in the Dockerfile)"

    assert not {*image, *given} - known, f"{place} has what is no setting"
    assert not known - secret - {*image, *given}, f"{place} lacks settings"
    assert not set(image) & set(given), f"{place}: in both"
    assert not secret & {*image, *given}, "a secret belongs into the Secret"
    Settings(**{name.lower(): value for name, value in {**image, **given}.items()})


def test_a_pod_has_time_to_end(stage: list[Manifest]) -> None:
    data = only(stage, "ConfigMap")["data"]
    drain, graceful = float(data["DRAIN_SECONDS"]), float(data["GRACEFUL_SECONDS"])
    pre_stop = container(stage)["lifecycle"]["preStop"]["sleep"]["seconds"]
    takes = pre_stop + drain + graceful

    assert pre_stop > 0, "proxies need a moment to hear that the pod is leaving"
    assert drain > 0, "kept-alive connections need a last answer"
    given = pod_spec(stage)["terminationGracePeriodSeconds"]
    assert takes + 5 <= given, "terminationGracePeriodSeconds: drain, work, 5 to spare"


def test_onnx_runtime_has_as_many_threads_as_the_limit_has_cpus(
    stage: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = container(stage)["resources"]["limits"]["cpu"]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    # As the container runtime writes the limit down.
    (tmp_path / "cpu.max").write_text(f"{float(limit) * 100_000:.0f} 100000")

    assert usable_cpus(tmp_path) == float(limit)


def selectors(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, str]]]:
    """What chooses the pods of the server, by kind."""
    deployment = only(manifests, "Deployment")["spec"]
    (spread,) = pod_spec(manifests)["topologySpreadConstraints"]
    budget = only(manifests, "PodDisruptionBudget")
    policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
    yield "Deployment", deployment["selector"]["matchLabels"]
    yield "Service", only(manifests, "Service")["spec"]["selector"]
    yield "PodDisruptionBudget", budget["spec"]["selector"]["matchLabels"]
    yield "topologySpreadConstraints", spread["labelSelector"]["matchLabels"]
    for policy in policies:
        if policy["spec"].get("ingress"):
            yield "NetworkPolicy", policy["spec"]["podSelector"]["matchLabels"]


def test_selectors_find_the_pods_of_the_server_and_no_others(
    stage: list[Manifest],
) -> None:
    deployment = only(stage, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    job = labels | {"app.kubernetes.io/component": "migration"}
    scaler = only(stage, "HorizontalPodAutoscaler")

    assert len({kind for kind, _ in selectors(stage)}) == 5
    for kind, selector in selectors(stage):
        assert selector.items() <= labels.items(), kind
        assert not selector.items() <= job.items(), f"{kind} takes the pods of a Job"
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "every deployment would undo scaling"


def test_pods_are_spread_by_what_every_node_has(stage: list[Manifest]) -> None:
    constraints = pod_spec(stage)["topologySpreadConstraints"]

    # A scheduler ignores nodes that lack the key of any of them.
    assert [one["topologyKey"] for one in constraints] == ["kubernetes.io/hostname"]


def test_the_disk_of_a_pod_has_room_for_its_logs(stage: list[Manifest]) -> None:
    limit = container(stage)["resources"]["limits"]["ephemeral-storage"]
    (tmp,) = (x["emptyDir"] for x in pod_spec(stage)["volumes"] if "emptyDir" in x)
    logs = 5 * 50  # files and MiB of a kubelet that keeps many

    assert mebibytes(limit) >= 1.1 * (logs + mebibytes(tmp["sizeLimit"]))


def mebibytes(quantity: str) -> int:
    """The number before `Mi`."""
    return int(quantity.removesuffix("Mi"))


def test_of_secret_and_settings_the_settings_win(
    stage: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/deployment.md says: a variable wins over a key of the Secret."""
    (tmp_path / "max_body_bytes").write_text("7")
    (tmp_path / "log_texts").write_text("true")
    given = only(stage, "ConfigMap")["data"]
    monkeypatch.setenv("MAX_BODY_BYTES", given["MAX_BODY_BYTES"])
    monkeypatch.delenv("LOG_TEXTS", raising=False)

    settings = Settings(_secrets_dir=tmp_path)

    assert settings.max_body_bytes == int(given["MAX_BODY_BYTES"])
    assert settings.log_texts is True


def test_stages_differ_only_in_what_must_differ() -> None:
    def values(stage: str) -> set[tuple[str, object]]:
        return {
            (f"{manifest['kind']}{path}", value)
            for manifest in render(stage)
            for path, value in leaves(manifest)
        }

    prod = values("prod")
    for stage in STAGES:
        differ = {path for path, _ in values(stage) ^ prod}
        allowed = {
            path for path in differ for one in MAY_DIFFER if re.fullmatch(one, path)
        }
        assert differ == allowed


def test_what_the_image_copies_is_let_through() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
        for name in line.split()
    }
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert "*" in ignore, "only what is named reaches a build"
    assert copied == {line[1:] for line in ignore if line.startswith("!")}


def documents() -> Iterator[Path]:
    """Where verbs of the Makefile are named."""
    yield from ROOT.glob("*.md")
    yield from ROOT.glob("docs/*.md")
    yield from ROOT.glob(".github/workflows/*.yml")
    yield from ROOT.glob(".gitlab-ci.yml")


def test_every_verb_that_is_named_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    verbs = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        verb: document.name
        for document in documents()
        for verb in re.findall(
            r"(?:^ +|`|run: |- )make ([a-z-]+)", document.read_text("utf-8"), re.M
        )
    }

    assert {"lint", "test", "image", "deploy", "smoke", "rollback"} <= set(named)
    assert not {verb: name for verb, name in named.items() if verb not in verbs}
