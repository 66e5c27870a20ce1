"""Bring the cluster to a release: apply it, wait for its pods, delete what it lacks."""

import time

from deploy.diagnosis import explain
from deploy.fields import take_over
from deploy.kubectl import DeployError, Kubectl
from deploy.manifests import (
    Key,
    Manifest,
    find,
    key,
    least_replicas,
    of_kind,
    selector_differs,
)
from deploy.migration import migrate, migrations
from deploy.prune import prune
from deploy.releases import Release
from deploy.rollout import RolloutError, wait

# The field manager of the number of pods, until the autoscaler changes it.
FIRST_REPLICAS = "first-replicas"


def install(
    kubectl: Kubectl,
    release: Release,
    known: dict[int, Release],
    live: dict[Key, Manifest],
    *,
    with_migrations: bool = True,
) -> None:
    """Bring the cluster to what the release says.

    `known` are the recorded releases, `live` what the cluster has of this one. A
    rollback is without migrations: the older release works with the newer schema.
    Raises DeployError; nothing is deleted then, and pods that were ready serve on.
    """
    manifests = release.manifests
    deployments = of_kind(manifests, "Deployment")
    take_over(kubectl, list(live.values()))
    apart = [*deployments, *migrations(manifests)]
    kubectl.apply([one for one in manifests if one not in apart])
    if with_migrations:
        migrate(kubectl, manifests)
    for deployment in deployments:
        there = live.get(key(deployment))
        if selector_differs(deployment, live):
            _let_go(kubectl, deployment)
            _begin(kubectl, manifests, deployment, there)
        elif there is None or there["spec"].get("replicas") == 0:
            # The autoscaler leaves alone what somebody has scaled to 0.
            _begin(kubectl, manifests, deployment, None)
    kubectl.apply(deployments)
    for deployment in deployments:
        try:
            least = least_replicas(manifests, deployment)
            wait(kubectl, deployment, 1 if least is None else least)
        except RolloutError as error:
            raise DeployError(
                f"{explain(kubectl, deployment)}\nRelease {release.number} does not "
                f"get ready. {error} Pods that were ready before serve on."
            ) from None
    prune(kubectl, [one.manifests for one in known.values()], manifests)


def _let_go(kubectl: Kubectl, deployment: Manifest) -> None:
    """Delete a Deployment but not its pods: the next takes them over by their labels.

    A selector can never change, and that of template 0.3 did not name the component.
    """
    which = key(deployment)
    print(f"{which}: its selector changes, so it is made anew; its pods serve on.")
    kubectl.run("delete", *which.words, "--cascade=orphan", "--wait=false")
    for _ in range(60):
        if not find(kubectl, which):
            return
        time.sleep(1)
    raise DeployError(f"{which} is still there after a minute: kubectl describe it.")


def _begin(
    kubectl: Kubectl,
    manifests: list[Manifest],
    deployment: Manifest,
    before: Manifest | None,
) -> None:
    """Make a Deployment that will be scaled with as many pods as there should be.

    Without a number it would begin with one. The number is handed to another manager,
    so that the next apply, which states none, leaves it: in Kubernetes' guide to
    server-side apply, "transferring ownership".
    """
    if "replicas" in deployment["spec"]:
        return
    least = least_replicas(manifests, deployment) or 1
    replicas = max(least, before["spec"].get("replicas", 1) if before else 1)
    spec = deployment["spec"] | {"replicas": replicas}
    kubectl.apply([deployment | {"spec": spec}])
    which = key(deployment)
    only = {
        "apiVersion": deployment["apiVersion"],
        "kind": which.kind,
        "metadata": {"name": which.name, "namespace": which.namespace},
        "spec": {"replicas": replicas},
    }
    kubectl.apply([only], "--field-manager", FIRST_REPLICAS, "--validate=false")
