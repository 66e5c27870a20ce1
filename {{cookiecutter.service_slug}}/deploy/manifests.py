"""Render the manifests of a stage, and read images, selectors and replicas of them."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from deploy.kubectl import DeployError, Kubectl, objects_in

ROOT = Path(__file__).parent.parent
OVERLAYS = ROOT / "deploy" / "overlays"
OUTPUT = ROOT / "outputs" / "deploy"

NAME = "app.kubernetes.io/name"
COMPONENT = "app.kubernetes.io/component"
MANAGED_BY = "app.kubernetes.io/managed-by"
RELEASE = "release"  # annotation of the Deployments: which release they are
OWN = ("app", "demo")  # containers of this service; any other in a pod is a helper

IMAGE = """\
  - name: {repository}
    newName: {name}
    digest: "{digest}"
"""

# The overlay of a stage with its images. Only the objects of the server get the labels.
KUSTOMIZATION = """\
resources: [../../deploy/overlays/{stage}]
images:
{images}patches:
  - target:
      labelSelector: app.kubernetes.io/component=server
    patch: |
      - op: add
        path: /metadata/labels/app.kubernetes.io~1version
        value: "{version}"
      - op: add
        path: /metadata/labels/app.kubernetes.io~1managed-by
        value: kustomize
      - op: add
        path: /metadata/labels/app.kubernetes.io~1part-of
        value: "{part_of}"
  - target:
      kind: Deployment
      labelSelector: app.kubernetes.io/component=server
    patch: |
      - op: add
        path: /spec/template/metadata/labels/app.kubernetes.io~1version
        value: "{version}"
"""

BY_DIGEST = re.compile(r"[^@ ]+@sha256:[0-9a-f]{64}")

Manifest = dict[str, Any]


class Key(NamedTuple):
    """What identifies an object in a cluster."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def resource(self) -> str:
        """Return the kind, as kubectl takes it."""
        return f"{self.kind}.{self.group}".rstrip(".").lower()

    @property
    def words(self) -> tuple[str, ...]:
        """Return the arguments by which kubectl finds the object."""
        return (self.resource, self.name, "--namespace", self.namespace)


def key(manifest: Manifest) -> Key:
    """Return the key of an object."""
    group, _, _ = manifest["apiVersion"].rpartition("/")
    metadata = manifest["metadata"]
    return Key(group, manifest["kind"], metadata.get("namespace", ""), metadata["name"])


def find(kubectl: Kubectl, which: Key) -> Manifest | None:
    """Return an object of the cluster; None if it is not there. Raises DeployError."""
    found = kubectl.items(*which.words)
    return found[0] if found else None


def select(labels: dict[str, str]) -> tuple[str, str]:
    """Return the option by which kubectl selects the objects with these labels."""
    return "--selector", ",".join(f"{name}={value}" for name, value in labels.items())


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Return the manifests of one kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def check_stage(stage: str) -> Path:
    """Return the overlay of a stage. Raises DeployError if there is none."""
    stages = sorted(path.name for path in OVERLAYS.iterdir())
    if stage not in stages:
        raise DeployError(f"ENV={stage} is no stage: {' '.join(stages)}.")
    return OVERLAYS / stage


def render(kubectl: Kubectl, kustomization: Path) -> list[Manifest]:
    """Render a kustomization. Raises DeployError if kubectl cannot."""
    path = OUTPUT / "rendered.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(kubectl.run("kustomize", str(kustomization)), encoding="utf-8")
    # kubectl reads YAML, which Python alone cannot.
    as_json = ("patch", "--local", "--type", "merge", "--patch", "{}")
    output = kubectl.run(*as_json, "--filename", str(path), "--output", "json")
    return objects_in(output)


def write_kustomization(stage: str, images: list[str], deployment: Manifest) -> None:
    """Write outputs/deploy: the overlay of a stage with its images by digest.

    The first image is that of the server, whose Deployment is given as the overlay has
    it. Each other one replaces the image in the manifests whose name ends alike, such
    as `…/intent-service-demo`. Raises DeployError if one is not named by its digest.
    """
    repository = _without_tag(image_of(deployment))
    part_of = deployment["metadata"]["labels"][NAME]
    if not images or not all(map(BY_DIGEST.fullmatch, images)):
        raise DeployError(
            f"Which image? Run make publish first, or give IMAGE={repository}@sha256: "
            "and its 64 digits."
        )
    named = [image.split("@") for image in images]
    replaced = [repository]
    for name, _ in named[1:]:
        replaced.append(f"{repository.rpartition('/')[0]}/{name.rpartition('/')[2]}")
    entries = [
        IMAGE.format(repository=old, name=name, digest=digest)
        for old, (name, digest) in zip(replaced, named, strict=True)
    ]
    OUTPUT.mkdir(parents=True, exist_ok=True)
    text = KUSTOMIZATION.format(
        stage=stage,
        part_of=part_of,
        images="".join(entries),
        version=named[0][1].removeprefix("sha256:")[:12],
    )
    (OUTPUT / "kustomization.yaml").write_text(text, encoding="utf-8")


def check_images(manifests: list[Manifest]) -> None:
    """Raise DeployError if an image of this service is not named by a digest."""
    own = _without_tag(image_of(server(manifests))).rpartition("/")[2]
    for deployment in of_kind(manifests, "Deployment"):
        image = image_of(deployment)
        last = _without_tag(image).rpartition("/")[2]
        if last.startswith(f"{own}-") and not BY_DIGEST.fullmatch(image):
            raise DeployError(
                f"{key(deployment)} needs the image {image}, which was not published: "
                "make image publish does it for all that the overlays have, or give "
                f'both: IMAGE="{own}@sha256:… {last}@sha256:…"'
            )


def server(manifests: list[Manifest]) -> Manifest:
    """Return the Deployment of the server. Raises DeployError unless there is one."""
    found = [
        manifest
        for manifest in of_kind(manifests, "Deployment")
        if manifest["metadata"].get("labels", {}).get(COMPONENT) == "server"
    ]
    if len(found) != 1:
        raise DeployError(
            f"There must be one Deployment with the label {COMPONENT}: server, and "
            f"there are {len(found)}."
        )
    (deployment,) = found
    if "namespace" not in deployment["metadata"]:
        raise DeployError("The kustomization.yaml of the stage names no `namespace:`.")
    return deployment


def image_of(deployment: Manifest) -> str:
    """Return the image of the service's own container, or else of the first."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    own = [one for one in containers if one["name"] in OWN]
    return str((own or containers)[0]["image"])


def _without_tag(image: str) -> str:
    """Return the name of an image, which may have a port, without tag and digest."""
    place, slash, last = image.partition("@")[0].rpartition("/")
    return f"{place}{slash}{last.partition(':')[0]}"


def images_of(manifests: list[Manifest]) -> list[str]:
    """Return the images of all Deployments, that of the server first."""
    first = image_of(server(manifests))
    others = {image_of(one) for one in of_kind(manifests, "Deployment")} - {first}
    return [first, *sorted(others)]


def selector_differs(manifest: Manifest, live: dict[Key, Manifest]) -> bool:
    """Return whether it is a Deployment that is there with another selector."""
    there = live.get(key(manifest))
    return (
        manifest["kind"] == "Deployment"
        and there is not None
        and there["spec"]["selector"] != manifest["spec"]["selector"]
    )


def least_replicas(manifests: list[Manifest], deployment: Manifest) -> int | None:
    """Return the least number of pods of a Deployment; None if nothing says so."""
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if (target["kind"], target["name"]) == (
            "Deployment",
            deployment["metadata"]["name"],
        ):
            return int(scaler["spec"].get("minReplicas", 1))
    replicas = deployment["spec"].get("replicas")
    return None if replicas is None else int(replicas)
