"""Check that one more pod finds room: a rollout starts new pods beside the old."""

import re
from typing import Any

from deploy.kubectl import DeployError, Kubectl
from deploy.manifests import Manifest, key

Amounts = dict[str, float]

UNITS = {
    **{"n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3},
    **{letter: 1000.0**power for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)},
}
COUNTED = ("cpu", "memory", "ephemeral-storage")
ANYWAY = "If there will be room in time (nodes are added on demand): ROOM=unchecked."


def lack_of_room(kubectl: Kubectl, deployment: Manifest) -> list[str]:
    """Return why one more pod of it finds no place, in one line; [] if it finds one.

    Quotas and waiting pods of its namespace count. Nodes count for who may list them;
    the pipeline may not.
    """
    spec, namespace = deployment["spec"]["template"]["spec"], key(deployment).namespace
    wanted = requests(spec)
    why = (
        _quota(kubectl.items("resourcequotas", "--namespace", namespace), spec)
        or _waiting(kubectl.items("pods", "--namespace", namespace), deployment, wanted)
        or _full_nodes(kubectl, spec, wanted)
    )
    if not why:
        return []
    return [
        f"Room for one more pod of {key(deployment)} ({_say(wanted)}): {why} {ANYWAY}"
    ]


def amount(quantity: object) -> float:
    """Return a quantity as a number: "700m" is 0.7. Raises ValueError if it is none."""
    match = re.fullmatch(r"([\d.]+(?:[eE][-+]?\d+)?)([a-zA-Z]*)", str(quantity))
    if not match or match[2] not in UNITS:
        raise ValueError(f"{quantity!r} is no quantity")
    return float(match[1]) * UNITS[match[2]]


def requests(spec: Manifest, kind: str = "requests") -> Amounts:
    """Return what a pod asks for, or may use at most (`limits`)."""
    running = most = dict.fromkeys(COUNTED, 0.0)
    # Init containers run before the others, one by one; those that are always started
    # again (sidecars) run on beside what follows.
    for container in spec.get("initContainers", []):
        at_once = _sum(running, _needs(container, kind))
        most = {name: max(most[name], at_once[name]) for name in COUNTED}
        running = at_once if container.get("restartPolicy") == "Always" else running
    for container in spec["containers"]:
        running = _sum(running, _needs(container, kind))
    return {name: max(most[name], running[name]) for name in COUNTED}


def _needs(container: Manifest, kind: str) -> Amounts:
    resources = container.get("resources", {}).get(kind, {})
    return {name: amount(resources.get(name, "0")) for name in COUNTED}


def _sum(one: Amounts, other: Amounts) -> Amounts:
    return {name: one[name] + other[name] for name in COUNTED}


def _say(amounts: Amounts) -> str:
    """Return amounts as people read them."""
    cpu = f"{amounts['cpu'] * 1000:.0f}m of CPU"
    return f"{cpu}, {amounts['memory'] / 2**20:.0f}Mi of memory"


def _quota(quotas: list[Manifest], spec: Manifest) -> str:
    """Return which quota of the namespace one more pod would exceed; "" if none."""
    needed = {"pods": 1.0, "count/pods": 1.0}
    for kind in ("requests", "limits"):
        asked = requests(spec, kind)
        needed |= {f"{kind}.{name}": value for name, value in asked.items()}
        needed |= asked if kind == "requests" else {}
    for quota in quotas:
        if not _counts(quota.get("spec", {})):
            continue
        status = quota.get("status", {})
        for name, hard in status.get("hard", {}).items():
            used = amount(status.get("used", {}).get(name, "0"))
            if name in needed and used + needed[name] > amount(hard) + 1e-9:
                return (
                    f"quota {quota['metadata']['name']} has {name}={hard}, of which "
                    f"{status['used'][name]} are used. Have it raised."
                )
    return ""


def _counts(quota: Manifest) -> bool:
    """Return whether a quota counts pods of a Deployment, as far as its scopes tell."""
    scopes = set(quota.get("scopes", []))
    others = quota.get("scopeSelector", {}).get("matchExpressions", [])
    return scopes <= {"NotTerminating", "NotBestEffort"} and not others


def _waiting(pods: list[Manifest], deployment: Manifest, wanted: Amounts) -> str:
    """Return which pod of it, asking for no more, waits for room; "" if none."""
    labels = deployment["spec"]["selector"]["matchLabels"].items()
    for pod in pods:
        if not labels <= pod["metadata"].get("labels", {}).items():
            continue
        asks = requests(pod["spec"])
        for condition in pod.get("status", {}).get("conditions", []):
            if condition.get("reason") == "Unschedulable" and all(
                asks[name] <= wanted[name] for name in COUNTED
            ):
                return (
                    f"{pod['metadata']['name']} waits for some already: "
                    f"{condition.get('message', 'Unschedulable')} Add a node, or free "
                    "room on one."
                )
    return ""


def _full_nodes(kubectl: Kubectl, spec: Manifest, wanted: Amounts) -> str:
    """Return that no node has room, if nodes and pods may be listed; else ""."""
    try:
        nodes = kubectl.items("nodes")
        pods = kubectl.items("pods", "--all-namespaces")
    except DeployError:
        return ""
    free = {
        node["metadata"]["name"]: _free(node, pods)
        for node in nodes
        if _takes(node, spec)
    }
    if not nodes or any(
        left["pods"] >= 1 and all(left[name] >= wanted[name] for name in COUNTED)
        for left in free.values()
    ):
        return ""
    lefts = ", ".join(f"{name} has {_say(left)} left" for name, left in free.items())
    return (
        f"{lefts or 'no node takes it (unready, cordoned or tainted)'}. Add a node, or "
        "free room on one."
    )


def _free(node: Manifest, pods: list[Manifest]) -> Amounts:
    allocatable = node["status"]["allocatable"]
    # A node that does not report its disk counts as one with enough.
    free = {name: amount(allocatable.get(name, "1P")) for name in (*COUNTED, "pods")}
    for pod in pods:
        done = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
        if done or pod["spec"].get("nodeName") != node["metadata"]["name"]:
            continue
        asks = requests(pod["spec"]) | {"pods": 1.0}
        free = {name: left - asks[name] for name, left in free.items()}
    return free


def _takes(node: Manifest, spec: Manifest) -> bool:
    """Return whether the node is ready and takes such a pod at all."""
    labels = node["metadata"].get("labels", {})
    conditions = node["status"].get("conditions", [])
    ready = all(x["status"] == "True" for x in conditions if x["type"] == "Ready")
    return (
        ready
        and spec.get("nodeSelector", {}).items() <= labels.items()
        and all(
            taint["effect"] == "PreferNoSchedule" or _tolerates(spec, taint)
            for taint in node["spec"].get("taints", [])
        )
    )


def _tolerates(spec: Manifest, taint: dict[str, Any]) -> bool:
    return any(
        one.get("key") in (None, taint["key"])
        and one.get("effect") in (None, taint["effect"])
        and (one.get("operator") == "Exists" or one.get("value") == taint.get("value"))
        for one in spec.get("tolerations", [])
    )
