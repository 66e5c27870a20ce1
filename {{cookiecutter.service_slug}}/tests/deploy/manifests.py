"""What is deployed, as Kubernetes and Docker read it."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.testing import ROOT

STAGES = sorted(path.parent.name for path in ROOT.glob("deploy/overlays/*/kustom*"))

Manifest = dict[str, Any]


def render(stage: str) -> list[Manifest]:
    """The manifests of the server in a stage, without those of other workloads."""
    return of_component(build(ROOT / "deploy" / "overlays" / stage), "server")


def build(kustomization: Path) -> list[Manifest]:
    """Render a directory. Skips the test where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl (1.27 or later) is not installed: it renders deploy/")
    done = subprocess.run(
        [kubectl, "kustomize", str(kustomization)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_component(manifests: list[Manifest], component: str) -> list[Manifest]:
    """The manifests with the label of a component."""
    name = "app.kubernetes.io/component"
    return [x for x in manifests if x["metadata"]["labels"][name] == component]


def find(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """The manifests of a kind: a stage may have left a component out."""
    return [one for one in manifests if one["kind"] == kind]


def only(manifests: list[Manifest], kind: str) -> Manifest:
    """The one manifest of its kind."""
    (manifest,) = find(manifests, kind)
    return manifest


def pod_spec(manifests: list[Manifest]) -> Manifest:
    """What the Deployment says about its pods."""
    spec: Manifest = only(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest]) -> Manifest:
    """The container of a pod that is the service's own."""
    containers = pod_spec(manifests)["containers"]
    (app,) = (one for one in containers if one["name"] in ("app", "demo"))
    assert isinstance(app, dict)
    return app


class Image:
    """What a stage of the Dockerfile says: that of a target, else the last."""

    def __init__(self, target: str = "") -> None:
        text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
        stages = re.split(r"^(?=FROM )", text.replace("\\\n", " "), flags=re.M)
        named = [one for one in stages if one.split("\n")[0].endswith(f" AS {target}")]
        (stage,) = named if target else stages[-1:]
        lines = [line for line in stage.splitlines() if line[:1].isupper()]
        self._instructions = [line.split(maxsplit=1) for line in lines]

    def get(self, instruction: str) -> str:
        """What an instruction that stands there once says."""
        (value,) = (rest for name, rest in self._instructions if name == instruction)
        return value

    @property
    def command(self) -> list[str]:
        """The words of the command."""
        command: list[str] = json.loads(self.get("CMD"))
        return command

    @property
    def variables(self) -> dict[str, str]:
        """The environment."""
        return dict(re.findall(r"(\w+)=(\S+)", self.get("ENV")))
