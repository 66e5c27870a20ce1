"""Releases: what was applied, kept in the cluster so that it can be applied again.

Each is a ConfigMap that nobody can change, with the manifests as they were rendered.
They hold no Secret, so that all who read ConfigMaps may read them. The newest are kept.
The Deployments say in an annotation which release they are.
"""

import json
from dataclasses import dataclass

from deploy.fields import applied_part
from deploy.kubectl import Kubectl
from deploy.manifests import (
    COMPONENT,
    MANAGED_BY,
    NAME,
    RELEASE,
    Manifest,
    image_of,
    images_of,
    key,
    of_kind,
    select,
    server,
)
from deploy.prune import PRUNED

KEPT = 10
LARGEST = 1_000_000  # bytes; Kubernetes takes ConfigMaps of up to 1 MiB
DATA = "manifests.json"
OUTCOME = "outcome"  # label of a record: pending, deployed, failed


@dataclass(frozen=True)
class Release:
    """A release that was applied, or was to be."""

    number: int
    outcome: str
    earlier: int | None  # to which a rollback goes
    commit: str
    created: str
    manifests: list[Manifest]

    @property
    def images(self) -> list[str]:
        """Return the images of the Deployments, that of the server first."""
        return images_of(self.manifests)


def as_json(manifests: list[Manifest]) -> str:
    """Return manifests as a record holds them: a List that kubectl can apply."""
    whole = {"apiVersion": "v1", "kind": "List", "items": manifests}
    return json.dumps(whole, indent=1)


class Releases:
    """The releases of one Deployment."""

    def __init__(self, kubectl: Kubectl, deployment: Manifest) -> None:
        self._kubectl = kubectl
        self._which = key(deployment)
        self._labels = {
            NAME: deployment["metadata"]["labels"][NAME],
            COMPONENT: "release",
            "app.kubernetes.io/instance": self._which.name,
        }
        # Without the name of the service: an overlay may label it anew.
        self._selected = {
            label: value for label, value in self._labels.items() if label != NAME
        }
        self._where = ("--namespace", self._which.namespace)

    def read(self) -> dict[int, Release]:
        """Return the recorded releases by their numbers, the oldest first."""
        selected = select(self._selected)
        records = self._kubectl.items("configmaps", *self._where, *selected)
        found = {release.number: release for release in map(_release, records)}
        return dict(sorted(found.items()))

    def record(
        self,
        number: int,
        manifests: list[Manifest],
        earlier: int | None,
        outcome: str = "pending",
        commit: str = "",
    ) -> Release:
        """Keep a release. Raises DeployError if somebody else has taken the number."""
        for deployment in of_kind(manifests, "Deployment"):
            metadata = deployment["metadata"]
            metadata.setdefault("annotations", {})[RELEASE] = str(number)
        notes = {
            "commit": commit,
            "earlier": "" if earlier is None else str(earlier),
            "image": image_of(server(manifests)),
        }
        record = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self._name(number),
                "namespace": self._which.namespace,
                "labels": self._labels | {RELEASE: str(number), OUTCOME: outcome},
                "annotations": notes,
            },
            "immutable": True,
            "data": {DATA: as_json(manifests)},
        }
        create = ("create", "--validate=false", "--filename", "-")
        self._kubectl.run(*create, objects=[record])
        return Release(number, outcome, earlier, commit, "", manifests)

    def mark(self, number: int, outcome: str) -> None:
        """Note what became of a release."""
        label = ("label", "--overwrite", "configmap", self._name(number))
        self._kubectl.run(*label, f"{OUTCOME}={outcome}", *self._where)

    def finish(self, number: int) -> None:
        """Note that a release is deployed, and drop the oldest records."""
        self.mark(number, "deployed")
        known = self.read()
        needed = {number, known[number].earlier}
        old = [self._name(one) for one in list(known)[:-KEPT] if one not in needed]
        if old:
            delete = ("delete", "--wait=false", "configmaps", *old)
            self._kubectl.run(*delete, *self._where)

    def find_unrecorded(self, manifests: list[Manifest]) -> list[Manifest]:
        """Return what an older `make deploy` has applied and not recorded."""
        labels = {
            NAME: self._labels[NAME],
            COMPONENT: "server",
            MANAGED_BY: "kustomize",
        }
        kinds = {
            which.resource
            for which in map(key, manifests)
            if (which.group, which.kind) in PRUNED
        }
        live = self._kubectl.items(
            ",".join(sorted(kinds)),
            *self._where,
            *select(labels),
            "--show-managed-fields",
        )
        return [part for part in map(applied_part, live) if part is not None]

    def _name(self, number: int) -> str:
        return f"{self._which.name}-release-{number}"


def release_of(
    deployment: Manifest | None, known: dict[int, Release]
) -> Release | None:
    """Return which release a Deployment in the cluster is; None if no record has it."""
    if deployment is None:
        return None
    number = deployment["metadata"].get("annotations", {}).get(RELEASE, "")
    return known.get(int(number)) if number.isdigit() else None


def _release(record: Manifest) -> Release:
    metadata = record["metadata"]
    labels, notes = metadata["labels"], metadata.get("annotations", {})
    return Release(
        int(labels[RELEASE]),
        labels[OUTCOME],
        int(notes["earlier"]) if notes.get("earlier") else None,
        notes.get("commit", ""),
        metadata.get("creationTimestamp", ""),
        json.loads(record["data"][DATA])["items"],
    )
