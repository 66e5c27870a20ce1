"""Explain why pods do not get ready, from their states, events and logs."""

import re
from collections.abc import Iterator

from deploy.kubectl import DeployError, Kubectl
from deploy.manifests import Manifest, key, select

EVENTS = 15
LINES = 20
PODS_WITH_LOGS = 2

# Patterns of states and events, and the remedies.
REMEDIES = {
    r"ImagePull|ErrImage|InvalidImageName|pull image": (
        "The image cannot be pulled. Is it published (make publish)? May the cluster "
        "read the registry? Else give the ServiceAccount in deploy/base "
        "`imagePullSecrets`."
    ),
    r"FailedScheduling|Unschedulable": (
        "No node has room: add one, free room on one, or ask for less in "
        "deploy/base/deployment.yaml."
    ),
    r"exceeded quota": "The quota of the namespace is used up: have it raised.",
    r"violates PodSecurity": (
        "Something that `restricted` forbids was added to the pod."
    ),
    r"CreateContainer\w*Error": (
        "The container cannot be made: are the ConfigMaps and Secrets there?"
    ),
    r"OOMKilled": "It needs more memory than its limit: make bench says how much.",
    r"exit code 78": (
        "A setting is refused, and the log names it: deploy/base/settings.env, or the "
        "overlay."
    ),
    r"Evicted": "It took more than its limit in deploy/base/deployment.yaml.",
    r"Readiness probe failed": (
        "`/readyz` says why it is not ready, and so does the log."
    ),
}


def explain(kubectl: Kubectl, deployment: Manifest) -> str:
    """Return what the cluster says about the pods of a Deployment, and what helps."""
    which = key(deployment)
    where = ("--namespace", which.namespace)
    labels = deployment["spec"]["selector"]["matchLabels"]
    parts: list[str] = []
    try:
        pods = kubectl.items("pods", *where, *select(labels))
        events = kubectl.items("events", *where)
    except DeployError as error:
        return f"Pods and events cannot be read: {error}"
    waiting = [pod for pod in pods if not _is_ready(pod)]
    states = [f"  {pod['metadata']['name']}: {_state(pod)}" for pod in pods]
    parts += ["Pods:", *(states or ["  none"])]
    lines = list(_events(events, which.name))[-EVENTS:]
    parts += ["Last events:", *(lines or ["  none"])]
    for pod in _with_logs(waiting):
        parts += _log(kubectl, pod, where)
    said = "\n".join(parts)
    helps = [help_ for text, help_ in REMEDIES.items() if re.search(text, said)]
    return "\n".join([said, *helps])


def _is_ready(pod: Manifest) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions", [])
    )


def _state(pod: Manifest) -> str:
    """Return the phase of a pod, and what keeps it from being ready."""
    status = pod.get("status", {})
    if _is_ready(pod):
        return "ready"
    words = [
        status.get("phase", "Pending"),
        status.get("reason", ""),
        status.get("message", ""),
    ]
    words += [
        f"{condition['reason']}: {condition.get('message', '')}"
        for condition in status.get("conditions", [])
        if condition["status"] == "False" and condition.get("reason") == "Unschedulable"
    ]
    for container in _containers(pod):
        words += _container(container)
    return ", ".join(filter(None, words))


def _containers(pod: Manifest) -> list[Manifest]:
    """Return the states of the containers of a pod in the order of their start."""
    status = pod.get("status", {})
    kinds = ("initContainerStatuses", "containerStatuses")
    return [one for kind in kinds for one in status.get(kind, [])]


def _has_log(container: Manifest) -> bool:
    """Return whether a container has begun and has not ended with 0."""
    ended = container.get("state", {}).get("terminated", {}).get("exitCode")
    return ended != 0 and bool(
        container.get("containerID") or container.get("restartCount")
    )


def _container(status: Manifest) -> Iterator[str]:
    """Yield what keeps a container from running, and how it ended before."""
    waiting = status.get("state", {}).get("waiting", {})
    if waiting:
        why = f"{waiting.get('reason', '')} {waiting.get('message', '')}".strip()
        yield f"{status['name']} waits: {why}"
    for ended in (
        status.get("state", {}).get("terminated"),
        status.get("lastState", {}).get("terminated"),
    ):
        if ended:
            yield (
                f"{status['name']} ended: {ended.get('reason', '')}, exit code "
                f"{ended.get('exitCode')}, {status.get('restartCount', 0)} restarts"
            )
    if status.get("state", {}).get("running") and not status.get("ready"):
        yield f"{status['name']} runs and is not ready"


def _events(events: list[Manifest], name: str) -> Iterator[str]:
    """Yield the events about a Deployment and what it has made, the newest last."""
    about = [
        event
        for event in events
        if re.match(rf"{re.escape(name)}(-|$)", event["involvedObject"].get("name", ""))
    ]
    for event in sorted(about, key=_time):
        where = event["involvedObject"]
        yield (
            f"  {event.get('type', '')} {event.get('reason', '')} "
            f"{where['kind'].lower()}/{where['name']}: "
            f"{event.get('message', '').strip()}"
        )


def _time(event: Manifest) -> str:
    times = (event.get("lastTimestamp"), event.get("eventTime"))
    return (
        next(filter(None, times), None)
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def _with_logs(pods: list[Manifest]) -> list[Manifest]:
    """Return the newest pods that have logs, the newest first."""
    found = [pod for pod in pods if any(map(_has_log, _containers(pod)))]
    found.sort(key=lambda pod: pod["metadata"].get("creationTimestamp") or "")
    return found[::-1][:PODS_WITH_LOGS]


def _log(kubectl: Kubectl, pod: Manifest, where: tuple[str, ...]) -> list[str]:
    """Return the last lines of each container, and of the one that crashed before."""
    parts = []
    for status in filter(_has_log, _containers(pod)):
        options = ["--container", status["name"], "--tail", str(LINES)]
        crashed = ["--previous"] if status.get("restartCount") else []
        for previous in ([], crashed) if crashed else ([],):
            done = kubectl.attempt(
                "logs", pod["metadata"]["name"], *where, *options, *previous
            )
            lines = (done.stdout or done.stderr).strip().splitlines()
            title = "of the container that crashed" if previous else "of the container"
            parts += [f"Log {title} {status['name']} in {pod['metadata']['name']}:"]
            parts += [f"  {line}" for line in lines] or ["  (empty)"]
    return parts
