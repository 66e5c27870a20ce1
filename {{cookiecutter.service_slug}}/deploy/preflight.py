"""What a deployment needs, looked at before anything is applied: all that is missing, at once."""

import re
from dataclasses import dataclass

from deploy.kubectl import DeployError, Kubectl
from deploy.manifests import (
    Key,
    Manifest,
    documents,
    key,
    least_replicas,
    of_kind,
    server,
)
from deploy.releases import LARGEST, PRUNED, text
from deploy.room import lack_of_room

# What else `make deploy`, `make smoke` and `make rollback` ask for: verb, resource, group.
ALSO_ASKED = [
    ("list", "pods", ""),
    ("get", "pods/log", ""),
    ("list", "events", ""),
    ("create", "pods/portforward", ""),
]


@dataclass(frozen=True)
class Resource:
    """What the cluster calls a kind."""

    name: str
    namespaced: bool


def check(
    kubectl: Kubectl, manifests: list[Manifest], room: bool
) -> dict[Key, Manifest]:
    """See that all can be applied, and, if asked, that there is room for one more pod.

    Returns what of it is there already. Raises DeployError with everything that is missing.
    Prints what is only not as it should be.
    """
    resources = known_resources(kubectl)
    namespace = server(manifests)["metadata"]["namespace"]
    looked = kubectl.attempt("get", "namespace", namespace, "--ignore-not-found")
    # Who may not look is told so below.
    there = looked.returncode != 0 or bool(looked.stdout)
    _stop_for(
        _unfit(manifests),
        _unknown_kinds(manifests, resources),
        _no_namespace(manifests, namespace, there),
        _no_permission(kubectl, manifests, resources, there),
    )
    live = {key(one): one for one in kubectl.items("--filename", "-", objects=manifests)}
    # Before there is a namespace, nothing in it can be tried.
    planned, refused = _try(kubectl, manifests, live) if there else (manifests, [])
    _stop_for(refused, _no_room(kubectl, planned, live) if room else [])
    if of_kind(manifests, "HorizontalPodAutoscaler") and not any(
        group == "metrics.k8s.io" for group, _ in resources
    ):
        print(
            "The cluster has no metrics server: the autoscaler keeps its minimum of pods, "
            "whatever the load. Install one, or see deploy/components/autoscaler."
        )
    return live


def has_other_selector(manifest: Manifest, live: dict[Key, Manifest]) -> bool:
    """Whether it is a Deployment that is there with another selector, which cannot change."""
    there = live.get(key(manifest))
    return (
        manifest["kind"] == "Deployment"
        and there is not None
        and there["spec"]["selector"] != manifest["spec"]["selector"]
    )


def _stop_for(*missing: list[str]) -> None:
    lines = [f"- {line}" for some in missing for line in some]
    if lines:
        raise DeployError("\n".join(["Nothing was applied. What is missing:", *lines]))


def known_resources(kubectl: Kubectl) -> dict[tuple[str, str], Resource]:
    """The resources of the cluster by group and kind."""
    done = kubectl.attempt("api-resources", "--no-headers")
    lines = [line.split() for line in done.stdout.splitlines()]
    # Name, short names (or none), version, whether in a namespace, kind. One API that does
    # not answer (metrics, say) makes an error of it, with all others printed.
    found = {
        (words[-3].rpartition("/")[0], words[-1]): Resource(words[0], words[-2] == "true")
        for words in lines
        if len(words) >= 4
    }
    return found or _complain(kubectl)


def _complain(kubectl: Kubectl) -> dict[tuple[str, str], Resource]:
    kubectl.run("api-resources")
    raise DeployError("The cluster names no resources: is CONTEXT a cluster?")


def _unfit(manifests: list[Manifest]) -> list[str]:
    """What is wrong with the manifests themselves."""
    unfit = [
        f"{key(secret)}: a release is recorded in a ConfigMap, for all who may read those, so "
        "deploy/ may hold no Secret. Make it by hand, or by an operator for secrets."
        for secret in of_kind(manifests, "Secret")
    ]
    unfit += [
        f"{key(deployment)}: nothing says how many pods there are. Give it an autoscaler "
        "(deploy/components/autoscaler) or, in the overlay, `replicas:`."
        for deployment in of_kind(manifests, "Deployment")
        if least_replicas(manifests, deployment) is None
    ]
    if (size := len(text(manifests).encode())) > LARGEST:
        unfit.append(
            f"The manifests are {size:,} bytes; their record may have {LARGEST:,}. Large "
            "files belong into the image or a volume, not into a ConfigMap."
        )
    return unfit


def _unknown_kinds(
    manifests: list[Manifest], resources: dict[tuple[str, str], Resource]
) -> list[str]:
    remedies = {
        "gateway.networking.k8s.io": "install the Gateway API or leave out deploy/components/route",
        "monitoring.coreos.com": "install the Prometheus operator or leave out monitoring/kubernetes",
    }
    unknown = dict.fromkeys(
        (manifest["apiVersion"], which.group, which.kind)
        for manifest in manifests
        if ((which := key(manifest)).group, which.kind) not in resources
    )
    return [
        f'The cluster has no kind "{kind}" of {version} (a CRD): '
        f"{remedies.get(group, 'install what brings it, or leave it out')}."
        for version, group, kind in unknown
    ]


def _no_namespace(manifests: list[Manifest], namespace: str, there: bool) -> list[str]:
    rendered = {one["metadata"]["name"] for one in of_kind(manifests, "Namespace")}
    if there or namespace in rendered:
        return []
    return [f"The namespace {namespace}: kubectl create namespace {namespace}"]


def _no_permission(
    kubectl: Kubectl,
    manifests: list[Manifest],
    resources: dict[tuple[str, str], Resource],
    there: bool,
) -> list[str]:
    """Verbs that the cluster would refuse; it is asked for all of them at once."""
    namespace = server(manifests)["metadata"]["namespace"]
    asked: dict[tuple[str, str, str, str, str], None] = dict.fromkeys(
        (verb, resource, group, namespace, "") for verb, resource, group in ALSO_ASKED
    )
    for which in [*map(key, manifests), Key("", "ConfigMap", namespace, "")]:
        resource = resources.get((which.group, which.kind))
        if resource is None:
            continue
        verbs = ["get", "patch"]
        if which.kind == "Namespace":
            verbs += ["create"] * (not there)
        else:
            verbs += ["create"]
            verbs += ["list", "delete"] * ((which.group, which.kind) in PRUNED)
        place = which.namespace if resource.namespaced else which.name
        name = "" if resource.namespaced else which.name
        asked |= dict.fromkeys(
            (verb, resource.name, which.group, place, name) for verb in verbs
        )
    reviews = [_review(*what) for what in asked]
    output = kubectl.run(
        *("create", "--validate=false", "--filename", "-", "--output", "json"),
        objects=reviews,
    )
    answers = [
        answer
        for document in documents(output)
        for answer in document.get("items", [document])
    ]
    refused: dict[tuple[str, str, str], list[str]] = {}
    for (verb, resource_name, group, place, _), answer in zip(
        asked, answers, strict=True
    ):
        if not answer["status"]["allowed"]:
            refused.setdefault((resource_name, group, place), []).append(verb)
    lines = [
        f"The right to {', '.join(verbs)} {f'{name}.{group}'.rstrip('.')} in {place}"
        for (name, group, place), verbs in refused.items()
    ]
    if lines:
        lines[-1] += (
            "\n  See that deploy/pipeline-role.yaml lists them. Then somebody who administers "
            f"the cluster runs\n  kubectl apply --namespace {namespace} --filename "
            "deploy/pipeline-role.yaml\n  and binds the role to who deploys: step 3 of "
            "docs/deployment.md."
        )
    return lines


def _review(verb: str, resource: str, group: str, place: str, name: str) -> Manifest:
    resource, _, subresource = resource.partition("/")
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {
            "resourceAttributes": {
                "verb": verb,
                "group": group,
                "resource": resource,
                "subresource": subresource,
                "namespace": place,
                "name": name,
            }
        },
    }


def _try(
    kubectl: Kubectl, manifests: list[Manifest], live: dict[Key, Manifest]
) -> tuple[list[Manifest], list[str]]:
    """Have the cluster check all, admission included, and change nothing.

    Returns what would come of it, and what is refused.
    """
    # One that will be made anew is tried as one that is not there.
    tried = [
        one | {"metadata": one["metadata"] | {"name": f"{one['metadata']['name']}-new"}}
        if has_other_selector(one, live)
        else one
        for one in manifests
    ]
    try:
        output = kubectl.apply(tried, "--dry-run=server", "--output", "json")
    except DeployError as error:
        return manifests, [str(error).replace("\n", "\n  ")]
    return [x for one in documents(output) for x in one.get("items", [one])], []


def _no_room(
    kubectl: Kubectl, planned: list[Manifest], live: dict[Key, Manifest]
) -> list[str]:
    """Why the next pod of a Deployment would wait for ever; pods that stay need no room."""
    return [
        line
        for deployment in of_kind(planned, "Deployment")
        if (there := live.get(key(deployment))) is None
        or there["spec"]["template"] != deployment["spec"]["template"]
        for line in lack_of_room(kubectl, deployment)
    ]
