"""Delete what earlier releases had and a release has no longer, within bounds."""

from collections.abc import Iterable

from deploy.kubectl import DeployError, Kubectl
from deploy.manifests import COMPONENT, NAME, Key, Manifest, key

# Group and kind of what may be deleted. All others (volumes hold data, a namespace may
# have other users) are named and left.
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


def prune(
    kubectl: Kubectl, earlier: Iterable[list[Manifest]], manifests: list[Manifest]
) -> None:
    """Delete what is in the manifests of earlier releases and not in those given.

    It must still have the labels with which it was applied. What cannot be deleted is
    printed: it is no reason to go back.
    """
    kept = {key(manifest) for manifest in manifests}
    gone: dict[Key, Manifest] = {}
    for release in earlier:
        gone |= {key(one): one for one in release if key(one) not in kept}
    for which, manifest in gone.items():
        if which.kind != "Namespace":
            _delete(kubectl, which, manifest)


def _delete(kubectl: Kubectl, which: Key, manifest: Manifest) -> None:
    try:
        found = kubectl.items("--filename", "-", objects=[manifest])
    except DeployError as error:
        if "no matches for kind" not in str(error):
            print(f"{which} is no longer in deploy/: {error}")
        return
    if not found:
        return
    if (which.group, which.kind) not in PRUNED:
        print(f"{which} is no longer in deploy/. If it may go, delete it by hand.")
        return
    if _labels(found[0]) != _labels(manifest):
        print(f"{which} is no longer in deploy/, but somebody else has it now.")
        return
    delete = ("delete", "--wait=false", "--filename", "-")
    done = kubectl.attempt(*delete, objects=[manifest])
    said = (done.stdout or done.stderr).strip()
    print(f"{which} is no longer in deploy/: {said}")


def _labels(manifest: Manifest) -> list[str | None]:
    labels = manifest["metadata"].get("labels", {})
    return [labels.get(name) for name in (NAME, COMPONENT)]
