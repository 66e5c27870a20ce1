"""What is deployed, as Kubernetes and Docker read it."""

import json
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from serving.testing import ROOT

STAGES = sorted(path.parent.name for path in ROOT.glob("deploy/overlays/*/kustom*"))

Manifest = dict[str, Any]


def render(stage: str) -> list[Manifest]:
    """The manifests of a stage. Skips the test where there is no kubectl."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl (1.27 or later) is not installed: it renders deploy/")
    done = subprocess.run(
        [kubectl, "kustomize", f"deploy/overlays/{stage}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


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
    """The one container of a pod."""
    (app,) = pod_spec(manifests)["containers"]
    assert isinstance(app, dict)
    return app


class Image:
    """What the last stage of the Dockerfile says."""

    def __init__(self) -> None:
        text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
        lines = text.replace("\\\n", " ").splitlines()
        words = [line.split(maxsplit=1) for line in lines if line[:1].isupper()]
        last = max(n for n, (name, _) in enumerate(words) if name == "FROM")
        self._instructions = words[last:]

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
