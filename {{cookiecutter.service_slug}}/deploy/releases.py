"""Releases: what was applied, kept in the cluster, so that it can be applied again.

Each is a ConfigMap that nobody can change, with the manifests as they were rendered; they
hold no Secret, so who may read ConfigMaps may read them. The newest are kept. The
Deployments say in an annotation which release they are.
"""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from deploy.fields import applied
from deploy.kubectl import DeployError, Kubectl
from deploy.manifests import (
    COMPONENT,
    NAME,
    RELEASE,
    ROOT,
    Key,
    Manifest,
    image_of,
    key,
    of_kind,
    server,
)

KEPT = 10
LARGEST = 1_000_000  # bytes; Kubernetes takes ConfigMaps of up to 1 MiB
DATA = "manifests.json"
OUTCOME = "outcome"  # label of a record: pending, deployed, failed

# What is deleted when a release no longer has it; group and kind. Of other kinds, with
# data (volumes) or of others' concern (namespaces), `make deploy` only says so.
PRUNED = {
    ("", "ConfigMap"),
    ("", "Service"),
    ("", "ServiceAccount"),
    ("apps", "Deployment"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("batch", "CronJob"),
    ("batch", "Job"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
    ("monitoring.coreos.com", "PodMonitor"),
    ("monitoring.coreos.com", "PrometheusRule"),
    ("networking.k8s.io", "Ingress"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("policy", "PodDisruptionBudget"),
}


@dataclass(frozen=True)
class Release:
    """One that was applied, or that was to be."""

    number: int
    outcome: str
    earlier: int | None  # to which a rollback goes
    commit: str
    created: str
    manifests: list[Manifest]

    @property
    def image(self) -> str:
        """The image of the server."""
        return image_of(server(self.manifests))


def text(manifests: list[Manifest]) -> str:
    """Manifests as a record has them."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}, indent=1)


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
        self._namespace = ("--namespace", self._which.namespace)

    def read(self) -> dict[int, Release]:
        """The recorded releases by their numbers, the oldest first."""
        selector = ",".join(f"{name}={value}" for name, value in self._labels.items())
        found = [
            _release(record)
            for record in self._kubectl.items(
                "configmaps", *self._namespace, "--selector", selector
            )
        ]
        return {one.number: one for one in sorted(found, key=lambda one: one.number)}

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
            annotations = deployment["metadata"].setdefault("annotations", {})
            annotations[RELEASE] = str(number)
        self._kubectl.run(
            *("create", "--validate=false", "--filename", "-"),
            objects=[{
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": self._name(number),
                    "namespace": self._which.namespace,
                    "labels": self._labels | {RELEASE: str(number), OUTCOME: outcome},
                    "annotations": {
                        "commit": commit,
                        "earlier": "" if earlier is None else str(earlier),
                        "image": image_of(server(manifests)),
                    },
                },
                "immutable": True,
                "data": {DATA: text(manifests)},
            }],
        )
        return Release(number, outcome, earlier, commit, "", manifests)

    def mark(self, number: int, outcome: str) -> None:
        """Note what became of a release."""
        self._kubectl.run(
            *("label", "configmap", self._name(number), *self._namespace),
            *("--overwrite", f"{OUTCOME}={outcome}"),
        )

    def finish(self, number: int) -> None:
        """Note that a release is deployed, and drop the oldest records."""
        self.mark(number, "deployed")
        known = self.read()
        needed = {number, known[number].earlier}
        old = [one for one in list(known)[:-KEPT] if one not in needed]
        if old:
            names = [self._name(one) for one in old]
            delete = ("delete", "configmaps", "--wait=false", *self._namespace)
            self._kubectl.run(*delete, *names)

    def live(self, deployment: Manifest | None, known: dict[int, Release]) -> Release | None:
        """The release that a Deployment in the cluster is; None if no record has it."""
        if deployment is None:
            return None
        number = deployment["metadata"].get("annotations", {}).get(RELEASE, "")
        return known.get(int(number)) if number.isdigit() else None

    def found(self, kinds: Iterable[str]) -> list[Manifest]:
        """What is there without a record, as it was applied: of an older `make deploy`."""
        labels = {
            NAME: self._labels[NAME],
            COMPONENT: "server",
            "app.kubernetes.io/managed-by": "kustomize",
        }
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        live = self._kubectl.items(
            ",".join(kinds), *self._namespace, "--selector", selector
        )
        parts = [applied(one) for one in live]
        return [part for part in parts if part is not None]

    def _name(self, number: int) -> str:
        return f"{self._which.name}-release-{number}"


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


def prune(kubectl: Kubectl, known: Iterable[Release], manifests: list[Manifest]) -> None:
    """Delete what earlier releases had and this one has no longer.

    Only what is of a kind in `PRUNED` and still has the labels with which it was applied.
    """
    kept = {key(manifest) for manifest in manifests}
    gone: dict[Key, Manifest] = {}
    for release in known:
        gone |= {key(one): one for one in release.manifests if key(one) not in kept}
    for which, manifest in gone.items():
        if which.kind == "Namespace":
            continue
        for live in _there(kubectl, manifest):
            if (which.group, which.kind) not in PRUNED:
                print(f"{which} is no longer in deploy/; if it may go, delete it by hand.")
            elif not _is_ours(live, manifest):
                print(f"{which} is no longer in deploy/, but somebody else's now: it stays.")
            else:
                done = kubectl.attempt(
                    *("delete", "--wait=false", "--filename", "-"), objects=[manifest]
                )
                # What is left over is no reason to go back.
                said = (done.stdout or done.stderr).strip()
                print(f"{which} is no longer in deploy/: {said}")


def _there(kubectl: Kubectl, manifest: Manifest) -> list[Manifest]:
    """The object itself; nothing if it is gone, or if its whole kind is."""
    try:
        return kubectl.items("--filename", "-", objects=[manifest])
    except DeployError as error:
        if "no matches for kind" in str(error):
            return []
        raise


def _is_ours(live: Manifest, manifest: Manifest) -> bool:
    labels = live["metadata"].get("labels", {})
    recorded = manifest["metadata"].get("labels", {})
    return all(labels.get(name) == recorded.get(name) for name in (NAME, COMPONENT))


def commit() -> str:
    """The commit of the working tree, for the record; nothing without Git."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude", "*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
