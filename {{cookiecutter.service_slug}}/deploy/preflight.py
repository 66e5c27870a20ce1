"""Check what a deployment needs, before it starts; report all that is missing."""

from dataclasses import dataclass

from deploy.kubectl import APPLY, DeployError, Kubectl, objects_in
from deploy.manifests import (
    NAME,
    Key,
    Manifest,
    key,
    least_replicas,
    of_kind,
    selector_differs,
    server,
)
from deploy.prune import PRUNED
from deploy.releases import LARGEST, as_json
from deploy.room import lack_of_room

# The label by which a namespace refuses pods.
ENFORCE = "pod-security.kubernetes.io/enforce"
# Rights that a deployment needs beside those to what it applies: verb, resource, group.
ALSO_NEEDED = [
    ("list", "pods", ""),
    ("get", "pods/log", ""),
    ("list", "events", ""),
    ("list", "resourcequotas", ""),
    ("create", "pods/portforward", ""),
]
WITHOUT = {
    "gateway.networking.k8s.io": (
        "install the Gateway API, or leave deploy/components/route out of the overlay"
    ),
    "monitoring.coreos.com": (
        "install the Prometheus operator, or leave monitoring/kubernetes out of the "
        "overlay"
    ),
}


@dataclass(frozen=True)
class Resource:
    """How the cluster names a kind."""

    name: str
    namespaced: bool


Resources = dict[tuple[str, str], Resource]  # by group and kind


def check(
    kubectl: Kubectl, manifests: list[Manifest], room: bool
) -> dict[Key, Manifest]:
    """Check that all can be applied and, if asked, that one more pod finds room.

    Returns what of it the cluster has already. Raises DeployError with all that is
    missing; prints what is a mere shortcoming.
    """
    resources = _known_resources(kubectl)
    namespace = server(manifests)["metadata"]["namespace"]
    looked = kubectl.attempt("get", "namespace", namespace, "--ignore-not-found")
    # If the right to look is missing, it is reported with the other rights.
    there = looked.returncode != 0 or bool(looked.stdout)
    _stop_for(
        _unfit(manifests),
        _unknown_kinds(manifests, resources),
        _no_namespace(manifests, namespace, there),
        _no_rights(kubectl, manifests, resources, there),
    )
    found = kubectl.items("--filename", "-", "--show-managed-fields", objects=manifests)
    live = {key(one): one for one in found}
    # Before there is a namespace, nothing can be tried in it.
    planned, refused = _dry_run(kubectl, manifests, live) if there else (manifests, [])
    others = _others(kubectl, manifests) if there else []
    _stop_for(
        refused,
        _left_behind(manifests, live),
        _cut_off(manifests, live, others),
        _no_room(kubectl, planned, live) if room else [],
    )
    for line in _shared_pods(manifests, others):
        print(line)
    scaled = of_kind(manifests, "HorizontalPodAutoscaler")
    if scaled and not any(group == "metrics.k8s.io" for group, _ in resources):
        print(
            "The cluster has no metrics server: the autoscaler keeps its minimum of "
            "pods, whatever the load. Install one, or see deploy/components/autoscaler."
        )
    return live


def _stop_for(*missing: list[str]) -> None:
    lines = [f"- {line}" for some in missing for line in some]
    if lines:
        raise DeployError("\n".join(["Nothing was applied. What is missing:", *lines]))


def _known_resources(kubectl: Kubectl) -> Resources:
    """Return the kinds that the cluster has. Raises DeployError without a cluster."""
    command = ("api-resources", "--no-headers")
    # If one API does not answer (metrics, say), kubectl fails, but prints all others:
    # name, short names or none, version, whether in a namespace, kind.
    lines = [line.split() for line in kubectl.attempt(*command).stdout.splitlines()]
    found = {
        (version.rpartition("/")[0], kind): Resource(name, namespaced == "true")
        for name, *_, version, namespaced, kind in lines
    }
    if not found:
        kubectl.run(*command)
    return found


def _unfit(manifests: list[Manifest]) -> list[str]:
    """Return what is wrong with the manifests themselves."""
    lines = [
        f"{key(secret)} cannot be deployed: releases are kept in ConfigMaps, for "
        "all who read those. Make the Secret by hand, or by an operator for secrets."
        for secret in of_kind(manifests, "Secret")
    ]
    lines += [
        f"{key(deployment)}: nothing says how many pods there are. Give the overlay "
        "deploy/components/autoscaler or `replicas:`."
        for deployment in of_kind(manifests, "Deployment")
        if least_replicas(manifests, deployment) is None
    ]
    if (size := len(as_json(manifests).encode())) > LARGEST:
        lines.append(
            f"The manifests have {size:,} bytes; their record may have {LARGEST:,}. "
            "Large files belong into the image or a volume, not into a ConfigMap."
        )
    return lines


def _unknown_kinds(manifests: list[Manifest], resources: Resources) -> list[str]:
    unknown = dict.fromkeys(
        (manifest["apiVersion"], which.group, which.kind)
        for manifest in manifests
        if ((which := key(manifest)).group, which.kind) not in resources
    )
    return [
        f"The cluster has no kind {kind} of {version} (a CRD): "
        f"{WITHOUT.get(group, 'install what brings it, or leave it out')}."
        for version, group, kind in unknown
    ]


def _no_namespace(manifests: list[Manifest], name: str, there: bool) -> list[str]:
    rendered = {one["metadata"]["name"] for one in of_kind(manifests, "Namespace")}
    if there or name in rendered:
        return []
    return [f"There is no namespace {name}: kubectl create namespace {name}"]


def _no_rights(
    kubectl: Kubectl, manifests: list[Manifest], resources: Resources, there: bool
) -> list[str]:
    """Return the verbs that the cluster would refuse, asked about all at once."""
    namespace = server(manifests)["metadata"]["namespace"]
    reviews = [_review(*asked, namespace) for asked in ALSO_NEEDED]
    for which in [*map(key, manifests), Key("", "ConfigMap", namespace, "")]:
        resource = resources.get((which.group, which.kind))
        if resource is not None:
            own = _review_object(which, resource, there)
            reviews += [review for review in own if review not in reviews]
    create = ("create", "--validate=false", "--filename", "-", "--output", "json")
    answers = objects_in(kubectl.run(*create, objects=reviews))
    refused: dict[str, list[str]] = {}
    for review, answer in zip(reviews, answers, strict=True):
        if not answer["status"]["allowed"]:
            asked = review["spec"]["resourceAttributes"]
            name = f"{asked['resource']}.{asked['group']}".rstrip(".")
            name += f"/{asked['subresource']}" if asked["subresource"] else ""
            refused.setdefault(name, []).append(asked["verb"])
    lines = [f"No right to {', '.join(refused[name])} {name}" for name in refused]
    if lines:
        lines[-1] += (
            f" in {namespace}.\n  If deploy/pipeline-role.yaml lists them, somebody "
            "who administers the cluster runs\n  kubectl apply --namespace "
            f"{namespace} --filename deploy/pipeline-role.yaml\n  and binds the role "
            "to who deploys: step 3 of docs/deployment.md."
        )
    return lines


def _review_object(which: Key, resource: Resource, there: bool) -> list[Manifest]:
    """Return the questions whether an object may be read, applied and pruned.

    `there` tells whether the namespace exists.
    """
    verbs = ["get", "patch"]
    if which.kind != "Namespace" or not there:
        verbs.append("create")
    if (which.group, which.kind) in PRUNED:
        verbs += ["list", "delete"]
    reviews = []
    for verb in verbs:
        review = _review(verb, resource.name, which.group, which.namespace)
        if not resource.namespaced:
            review["spec"]["resourceAttributes"] |= {"name": which.name}
        if which.kind == "Namespace":  # a Role in it may grant the right
            review["spec"]["resourceAttributes"] |= {"namespace": which.name}
        reviews.append(review)
    return reviews


def _review(verb: str, resource: str, group: str, namespace: str) -> Manifest:
    """Return the question whether who asks may do something."""
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
                "namespace": namespace,
            }
        },
    }


def _dry_run(
    kubectl: Kubectl, manifests: list[Manifest], live: dict[Key, Manifest]
) -> tuple[list[Manifest], list[str]]:
    """Have the cluster check all, admission included, and change nothing.

    Returns what would come of it, and what is refused.
    """
    # A Deployment that will be replaced is tried under a name that is free.
    tried = [
        (
            one | {"metadata": one["metadata"] | {"name": f"{key(one).name}-new"}}
            if selector_differs(one, live)
            else one
        )
        for one in manifests
    ]
    try:
        output = kubectl.run(
            *APPLY, "--dry-run=server", "--output", "json", objects=tried
        )
    except DeployError as error:
        return manifests, [str(error).replace("\n", "\n  ")]
    return objects_in(output), []


def _left_behind(manifests: list[Manifest], live: dict[Key, Manifest]) -> list[str]:
    """Return which Deployments would not find their pods by their new selectors."""
    lines = []
    for one in of_kind(manifests, "Deployment"):
        if not selector_differs(one, live):
            continue
        running = live[key(one)]["spec"]["template"]["metadata"].get("labels", {})
        wanted = one["spec"]["selector"].get("matchLabels", {})
        lacking = sorted(f"{k}={v}" for k, v in wanted.items() if running.get(k) != v)
        if lacking:
            lines.append(
                f"{key(one)}: its new selector has {', '.join(lacking)}, which the "
                "pods that run have not: they would run on for ever. Deploy twice: "
                "first give the label to the pods only (in `labels:` of the overlay, "
                "`includeTemplates: true`), then to the selectors "
                "(`includeSelectors: true`)."
            )
    return lines


def _others(kubectl: Kubectl, manifests: list[Manifest]) -> list[Manifest]:
    """Return the Deployments in the namespace that are not in the manifests."""
    own = {key(one) for one in of_kind(manifests, "Deployment")}
    where = ("--namespace", server(manifests)["metadata"]["namespace"])
    found = kubectl.items("deployments.apps", *where)
    return [one for one in found if key(one) not in own]


def _cut_off(
    manifests: list[Manifest], live: dict[Key, Manifest], others: list[Manifest]
) -> list[str]:
    """Return which rules for all of a namespace would reach what others have there."""
    name = server(manifests)["metadata"]["labels"].get(NAME)
    strangers = [
        str(key(one))
        for one in others
        if one["metadata"].get("labels", {}).get(NAME) != name
    ]
    rules = [
        str(key(one))
        for one in of_kind(manifests, "NetworkPolicy")
        if not one["spec"].get("podSelector") and key(one) not in live
    ]
    for one in of_kind(manifests, "Namespace"):
        has = live.get(key(one), {}).get("metadata", {}).get("labels", {})
        given = one["metadata"].get("labels", {})
        if given.get(ENFORCE) != has.get(ENFORCE):
            rules.append(f"{key(one)} ({ENFORCE})")
    if not (strangers and rules):
        return []
    return [
        f"A namespace of its own: {', '.join(strangers)} would be cut off by "
        f"{' and '.join(rules)}, which hold for all pods there. Give the overlay "
        "another `namespace:`, or take these out of deploy/base/kustomization.yaml."
    ]


def _shared_pods(manifests: list[Manifest], others: list[Manifest]) -> list[str]:
    """Return which other Deployments have pods that are taken for those of this one."""
    deployment = server(manifests)
    selector = deployment["spec"]["selector"].get("matchLabels", {}).items()
    shared = [
        str(key(one))
        for one in others
        if selector <= one["spec"]["template"]["metadata"].get("labels", {}).items()
    ]
    if not shared:
        return []
    return [
        f"The pods of {', '.join(shared)} have the labels of {key(deployment)}, too: "
        "the Service sends them requests, and neither the autoscaler nor the "
        "PodDisruptionBudget tells them apart. Delete what is no longer needed, or "
        "give each variant a label: docs/deployment.md, Variants in one namespace."
    ]


def _no_room(
    kubectl: Kubectl, planned: list[Manifest], live: dict[Key, Manifest]
) -> list[str]:
    """Return why the next pod of a Deployment would wait; unchanged ones need none."""
    return [
        line
        for deployment in of_kind(planned, "Deployment")
        if (there := live.get(key(deployment))) is None
        or there["spec"]["template"] != deployment["spec"]["template"]
        for line in lack_of_room(kubectl, deployment)
    ]
