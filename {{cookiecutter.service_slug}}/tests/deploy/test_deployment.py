"""What is deployed is what the code is: each manifest is tied to it by a test."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.settings import Settings
from serving.container import usable_cpus
from serving.server import EXIT_SECONDS
from serving.testing import ROOT
from tests.deploy.manifests import (
    STAGES,
    Image,
    Manifest,
    container,
    find,
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


RENAMED = {"ConfigMap", "Namespace"}


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


def test_every_public_path_is_a_route(
    stage: list[Manifest], client: TestClient
) -> None:
    matches = [
        match["path"]
        for route in find(stage, "HTTPRoute")
        for rule in route["spec"]["rules"]
        for match in rule["matches"]
    ]
    documented = client.get("/openapi.json").json()["paths"]

    for match in matches:
        path = match["value"]
        if match["type"] == "Exact":
            assert client.get(path).status_code == 200
        else:
            assert any(one.startswith(f"{path}/") for one in documented)


def test_all_manifests_name_the_port_that_the_service_listens_on(
    stage: list[Manifest],
) -> None:
    image = Image()
    (port,) = container(stage)["ports"]
    (service,) = only(stage, "Service")["spec"]["ports"]
    backends = [
        backend["port"]
        for route in find(stage, "HTTPRoute")
        for rule in route["spec"]["rules"]
        for backend in rule["backendRefs"]
    ]
    allowed = [
        port["port"]
        for policy in find(stage, "NetworkPolicy")
        for rule in policy["spec"].get("ingress", [])
        for port in rule["ports"]
    ]

    assert (
        str(port["containerPort"]) == image.variables["PORT"] == image.get("EXPOSE")
    ), "containerPort of deploy/base/deployment.yaml, PORT and EXPOSE of the Dockerfile"
    assert service["targetPort"] == port["name"]
    assert set(backends) <= {service["port"]}
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

    unknown = sorted({*image, *given} - known)
    missing = sorted(known - secret - {*image, *given})
    twice = sorted(set(image) & set(given))
    assert not unknown, f"{place} has what is no setting: {', '.join(unknown)}"
    assert not missing, f"{place} lacks {', '.join(missing)}"
    assert not twice, f"{place}: in both are {', '.join(twice)}"
    assert not secret & {*image, *given}, "a secret belongs into the Secret"
    Settings(**{name.lower(): value for name, value in {**image, **given}.items()})


def test_a_pod_has_time_to_end(stage: list[Manifest]) -> None:
    data = only(stage, "ConfigMap")["data"]
    drain, graceful = float(data["DRAIN_SECONDS"]), float(data["GRACEFUL_SECONDS"])
    pre_stop = container(stage)["lifecycle"]["preStop"]["sleep"]["seconds"]
    takes = pre_stop + drain + graceful + EXIT_SECONDS

    assert pre_stop > 0, "proxies need a moment to hear that the pod is leaving"
    assert drain > 0, "kept-alive connections need a last answer"
    given = pod_spec(stage)["terminationGracePeriodSeconds"]
    assert takes + 5 <= given, (
        "terminationGracePeriodSeconds of deploy/base/deployment.yaml is too short "
        f"for preStop, DRAIN_SECONDS, GRACEFUL_SECONDS, {EXIT_SECONDS:g} s to flush "
        f"and 5 s to spare: {takes + 5:g}"
    )


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
    yield "Deployment", deployment["selector"]["matchLabels"]
    yield "Service", only(manifests, "Service")["spec"]["selector"]
    yield "PodDisruptionBudget", budget["spec"]["selector"]["matchLabels"]
    yield "topologySpreadConstraints", spread["labelSelector"]["matchLabels"]
    for policy in find(manifests, "NetworkPolicy"):
        if policy["spec"].get("ingress"):
            yield "NetworkPolicy", policy["spec"]["podSelector"]["matchLabels"]


def test_selectors_find_the_pods_of_the_server_and_no_others(
    stage: list[Manifest],
) -> None:
    deployment = only(stage, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    job = labels | {"app.kubernetes.io/component": "migration"}

    assert len({kind for kind, _ in selectors(stage)}) == 5
    for kind, selector in selectors(stage):
        assert selector.items() <= labels.items(), kind
        assert not selector.items() <= job.items(), f"{kind} takes the pods of a Job"
    for scaler in find(stage, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]["name"]
        assert target == deployment["metadata"]["name"]
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


def test_a_variable_wins_over_a_key_of_the_secret(
    stage: list[Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/deployment.md says."""
    (tmp_path / "max_body_bytes").write_text("7")
    (tmp_path / "log_texts").write_text("true")
    given = only(stage, "ConfigMap")["data"]
    monkeypatch.setenv("MAX_BODY_BYTES", given["MAX_BODY_BYTES"])
    monkeypatch.delenv("LOG_TEXTS", raising=False)

    settings = Settings(_secrets_dir=tmp_path)

    assert settings.max_body_bytes == int(given["MAX_BODY_BYTES"])
    assert settings.log_texts is True


def test_stages_differ_only_in_what_must_differ() -> None:
    first, *others = (
        {
            (manifest["kind"], name_of(manifest)): set(leaves(manifest))
            for manifest in render(stage)
        }
        for stage in STAGES
    )
    for other in others:
        for key in first.keys() & other.keys():  # a stage may leave components out
            differ = {f"{key[0]}{path}" for path, _ in first[key] ^ other[key]}
            assert not {
                path
                for path in differ
                if not any(re.fullmatch(one, path) for one in MAY_DIFFER)
            }


def name_of(manifest: Manifest) -> str:
    """Its name, without what differs by stage: a hash of values, the stage."""
    name: str = manifest["metadata"]["name"]
    return name.split("-")[0] if manifest["kind"] in RENAMED else name


def test_dockerignore_lets_through_what_the_image_copies_and_no_more() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    copied = {
        name
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
        for name in line.split()
    }
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    assert "*" in ignore, "only what is named reaches a build"
    assert copied == {line[1:] for line in ignore if line.startswith("!")}


def test_every_verb_of_the_pipelines_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pipelines = [*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob(".gitlab-ci.yml")]
    for pipeline in pipelines:
        text = pipeline.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^ +|run: |- )make ([a-z-]+)", text, re.M))
        assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.M)), pipeline.name
