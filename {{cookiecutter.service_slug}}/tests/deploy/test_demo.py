"""The page of the demo in a cluster: deploy/components/demo."""

import os
import re
from pathlib import Path

import pytest

from demo.smoke import HEALTH
from serving.testing import ROOT
from tests.deploy.manifests import (
    Image,
    Manifest,
    build,
    container,
    find,
    of_component,
    only,
    pod_spec,
)

PROBES = ["startupProbe", "livenessProbe", "readinessProbe"]


@pytest.fixture
def everything(tmp_path: Path) -> list[Manifest]:
    """The base with the component, under another name."""
    place = tmp_path.resolve()
    base, component = (
        os.path.relpath(ROOT / "deploy" / name, place)
        for name in ("base", "components/demo")
    )
    lines = (f"resources: [{base}]", f"components: [{component}]")
    content = "\n".join((*lines, "namePrefix: x-", "namespace: other"))
    (place / "kustomization.yaml").write_text(content)
    return build(place)


@pytest.fixture
def demo(everything: list[Manifest]) -> list[Manifest]:
    """The manifests of the page."""
    return of_component(everything, "demo")


def test_nothing_of_the_server_takes_the_pods_of_the_page(
    everything: list[Manifest], demo: list[Manifest]
) -> None:
    labels = only(demo, "Deployment")["spec"]["template"]["metadata"]["labels"]
    server = of_component(everything, "server")
    selectors = [
        only(server, "Deployment")["spec"]["selector"]["matchLabels"],
        only(server, "Service")["spec"]["selector"],
        only(server, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]

    assert not [one for one in selectors if one.items() <= labels.items()]
    assert only(demo, "Service")["spec"]["selector"].items() <= labels.items()


def test_the_page_asks_the_service_by_its_name(
    everything: list[Manifest], demo: list[Manifest]
) -> None:
    service = only(of_component(everything, "server"), "Service")
    given = {one["name"]: one.get("value") for one in container(demo)["env"]}

    assert given["SERVER"] == service["metadata"]["name"]
    assert given["URL"] == "http://$(SERVER)"
    assert [one["port"] for one in service["spec"]["ports"]] == [80]


def test_the_page_reaches_the_server_and_the_server_lets_it_in(
    everything: list[Manifest], demo: list[Manifest]
) -> None:
    server = only(of_component(everything, "server"), "Deployment")
    pods = {
        name: one["spec"]["template"]["metadata"]["labels"]
        for name, one in (("server", server), ("demo", only(demo, "Deployment")))
    }
    outgoing, incoming = (one["spec"] for one in find(demo, "NetworkPolicy"))
    (way_out, *_), (way_in,) = outgoing["egress"], incoming["ingress"]

    assert outgoing["podSelector"]["matchLabels"] == pods["demo"]
    assert way_out["to"][0]["podSelector"]["matchLabels"] == pods["server"]
    assert incoming["podSelector"]["matchLabels"] == pods["server"]
    assert way_in["from"][0]["podSelector"]["matchLabels"] == pods["demo"]


def test_the_pod_is_restricted_and_runs_what_the_image_says(
    demo: list[Manifest],
) -> None:
    image, pod, app = Image("demo"), pod_spec(demo), container(demo)
    context = pod["securityContext"]
    paths = {app[probe]["httpGet"]["path"] for probe in PROBES}
    (port,) = app["ports"]

    assert image.get("USER") == f"{context['runAsUser']}:{context['runAsGroup']}"
    assert context["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert app["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert str(port["containerPort"]) == image.get("EXPOSE")
    assert image.variables["DEMO_PORT"] == image.get("EXPOSE")
    assert paths == {HEALTH}
    assert re.search(rf"http://[^']+{HEALTH}", image.get("HEALTHCHECK"))
    assert image.command[-2:] == ["-m", "demo"]
