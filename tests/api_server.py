"""A Kubernetes API server with what `make deploy`, `make rollback` and such need.

It holds objects and who owns their fields, lets a Deployment roll its ReplicaSets and
an autoscaler raise its replicas, and writes down each request as the verb and the
resource that RBAC would be asked about.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from tests import field_ownership as ownership

Object = dict[str, Any]

RESOURCES = {
    "v1": {
        "ConfigMap": "configmaps",
        "Event": "events",
        "Namespace": "namespaces",
        "Node": "nodes",
        "PersistentVolumeClaim": "persistentvolumeclaims",
        "Pod": "pods",
        "ResourceQuota": "resourcequotas",
        "Secret": "secrets",
        "Service": "services",
        "ServiceAccount": "serviceaccounts",
    },
    "apps/v1": {"Deployment": "deployments", "ReplicaSet": "replicasets"},
    "authorization.k8s.io/v1": {"SelfSubjectAccessReview": "selfsubjectaccessreviews"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "batch/v1": {"Job": "jobs"},
    "gateway.networking.k8s.io/v1": {"HTTPRoute": "httproutes"},
    "metrics.k8s.io/v1": {"PodMetrics": "pods"},
    "monitoring.coreos.com/v1": {
        "PodMonitor": "podmonitors",
        "PrometheusRule": "prometheusrules",
    },
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
}
KINDS = {name: kind for kinds in RESOURCES.values() for kind, name in kinds.items()}
KINDS["pods"] = "Pod"
WITHOUT_NAMESPACE = {"Namespace", "Node", "SelfSubjectAccessReview"}
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v\d)"
    r"(?:/namespaces/(?P<namespace>[^/]+))?"
    r"(?:/(?P<resource>[a-z]+))?(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[a-z]+))?"
)
REVISION = "deployment.kubernetes.io/revision"


@dataclass
class Cluster:
    """What is in the cluster, and how it behaves."""

    url: str = ""
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    # Verb, group and resource of each request.
    asked: set[tuple[str, str, str]] = field(default_factory=set)
    # Verb and resource of what it refuses.
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    # Versions of APIs that are not installed.
    without: set[str] = field(default_factory=set)
    # Names of objects that admission refuses.
    refused: set[str] = field(default_factory=set)
    # Whether a new revision of the Deployment does.
    becomes_ready: bool = True
    # How often a status is read that is still of the revision before.
    stale_looks: int = 0
    # How often a Deployment is read before the autoscaler has raised its replicas.
    autoscaler_looks: int = 2
    # The fewest pods of the Deployment that there have been at a time.
    fewest_pods: int = 1000
    # Logs by pod, and by pod with /previous.
    logs: dict[str, str] = field(default_factory=dict)
    _clock: int = 0
    # How often a rollout that fails is read before its deadline has passed.
    _patience: int = 0

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """What is installed."""
        return {v: kinds for v, kinds in RESOURCES.items() if v not in self.without}

    def one(self, resource: str) -> Object:
        """The one object of its kind."""
        (found,) = (x for (kind, _), x in self.objects.items() if kind == resource)
        return found

    def names(self, resource: str) -> set[str]:
        """The names of the objects of a kind."""
        return {name for kind, name in self.objects if kind == resource}

    def add(self, resource: str, thing: Object) -> None:
        """Put an object there that nobody has applied."""
        self.objects[resource, thing["metadata"]["name"]] = thing

    @property
    def image(self) -> str:
        """The image that the Deployment asks for."""
        (app,) = self.one("deployments")["spec"]["template"]["spec"]["containers"]
        return str(app["image"])

    def apply(self, resource: str, name: str, stated: Object, manager: str) -> Object:
        """What server-side apply makes of an object."""
        live = self.objects.get((resource, name))
        managers = (
            ownership.load(live["metadata"].get("managedFields", [])) if live else {}
        )
        made = ownership.apply(live, stated, managers, manager)
        made["metadata"]["managedFields"] = ownership.dump(managers, made["apiVersion"])
        return made

    def change(
        self, resource: str, name: str, changed: Object, manager: str, sub: str
    ) -> Object:
        """What any other change makes of an object."""
        live = self.objects[resource, name]
        given = changed["metadata"].get("managedFields", [])
        managers = ownership.load(given)
        ownership.update(live, changed, managers, (manager, sub))
        changed["metadata"]["managedFields"] = ownership.dump(
            managers, live["apiVersion"]
        )
        return changed

    def store(self, resource: str, name: str, given: Object) -> Object:
        """Keep an object; a changed Deployment rolls its ReplicaSets."""
        earlier = self.objects.get((resource, name), {})
        before = earlier.get("metadata", {"generation": 0})
        self._clock += 1
        changed = given.get("spec") != earlier.get("spec")
        given["metadata"] |= {
            "uid": before.get("uid", f"uid-{self._clock}"),
            "generation": before["generation"] + changed if earlier else 1,
            "resourceVersion": str(self._clock),
            "creationTimestamp": before.get("creationTimestamp", self._now()),
        }
        if resource == "deployments":
            given["spec"].setdefault("replicas", 1)
            for container in given["spec"]["template"]["spec"]["containers"]:
                for port in container.get("ports", []):
                    port.setdefault("protocol", "TCP")
            if earlier and given["spec"]["selector"] != earlier["spec"]["selector"]:
                raise ValueError("spec.selector: Invalid value: field is immutable")
        self.objects[resource, name] = given
        if resource == "deployments" and changed:
            self._roll(given, earlier)
        return given

    def delete(self, resource: str, name: str, orphan: bool) -> Object | None:
        """Remove an object, and what it owns."""
        thing = self.objects.pop((resource, name), None)
        if thing and resource == "deployments":
            for owned in self._replica_sets():
                owners = owned["metadata"]["ownerReferences"]
                if owners and owners[0]["uid"] == thing["metadata"]["uid"]:
                    owned["metadata"]["ownerReferences"] = []
                    if not orphan:
                        del self.objects["replicasets", owned["metadata"]["name"]]
            if not orphan:
                self.fewest_pods = 0
        return thing

    def look(self, deployment: Object) -> Object:
        """A Deployment as it is read now: controllers take their time."""
        for (kind, _), scaler in self.objects.items():
            target = scaler.get("spec", {}).get("scaleTargetRef", {})
            if kind != "horizontalpodautoscalers" or target["name"] != (
                deployment["metadata"]["name"]
            ):
                continue
            # It leaves alone what somebody has scaled to 0.
            if 0 < deployment["spec"]["replicas"] < scaler["spec"]["minReplicas"]:
                self.autoscaler_looks -= 1
                if self.autoscaler_looks < 0:
                    scaled = deepcopy(deployment)
                    scaled["spec"]["replicas"] = scaler["spec"]["minReplicas"]
                    name = deployment["metadata"]["name"]
                    by = ("kube-controller-manager", "scale")
                    changed = self.change("deployments", name, scaled, *by)
                    deployment = self.store("deployments", name, changed)
        if not self.becomes_ready and self._patience > 0:
            self._patience -= 1
            status = {"replicas": 3, "updatedReplicas": 1, "observedGeneration": 10**6}
            return deployment | {"status": status}
        if self.stale_looks > 0:
            self.stale_looks -= 1
            late = self._status(deployment, ready=False, when="2026-01-01T00:00:00Z")
            return deployment | {"status": late}
        return deployment

    def _now(self) -> str:
        return f"2026-01-01T00:{self._clock // 60:02}:{self._clock % 60:02}Z"

    def _replica_sets(self) -> list[Object]:
        return [
            x for (kind, _), x in list(self.objects.items()) if kind == "replicasets"
        ]

    def _roll(self, deployment: Object, earlier: Object) -> None:
        metadata, spec = deployment["metadata"], deployment["spec"]
        selector = spec["selector"]["matchLabels"].items()
        owner = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
        }
        adopted = [
            x
            for x in self._replica_sets()
            if selector <= x["metadata"]["labels"].items()
        ]
        for one in adopted:
            one["metadata"]["ownerReferences"] = [owner]
        mine = {int(x["metadata"]["annotations"][REVISION]): x for x in adopted}
        same = [n for n, x in mine.items() if x["spec"]["template"] == spec["template"]]
        now = max(mine, default=0)
        revision = now if now in same else now + 1
        metadata.setdefault("annotations", {})[REVISION] = str(revision)
        name = f"{metadata['name']}-{revision}"
        self.objects["replicasets", name] = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "uid": name,
                "annotations": {REVISION: str(revision)},
                "labels": spec["template"]["metadata"]["labels"],
                "ownerReferences": [owner],
            },
            "spec": {
                "replicas": spec["replicas"],
                "template": deepcopy(spec["template"]),
            },
        }
        for number in sorted(set(mine) - {revision})[
            : -spec["revisionHistoryLimit"] or None
        ]:
            del self.objects["replicasets", mine[number]["metadata"]["name"]]
        if mine:
            self.fewest_pods = min(self.fewest_pods, spec["replicas"])
        self._patience = 2
        deployment["status"] = self._status(deployment, self.becomes_ready, self._now())

    def _status(self, deployment: Object, ready: bool, when: str) -> Object:
        number = deployment["spec"]["replicas"]
        late = {
            "type": "Progressing",
            "status": "False",
            "reason": "ProgressDeadlineExceeded",
            "message": "ReplicaSet has timed out progressing.",
            "lastUpdateTime": when,
        }
        counts = ("replicas", "updatedReplicas", "availableReplicas")
        return {"observedGeneration": deployment["metadata"]["generation"]} | (
            dict.fromkeys(counts, number)
            if ready
            else {"replicas": number + 1, "updatedReplicas": 1, "conditions": [late]}
        )


def selected(thing: Object, selector: str) -> bool:
    """Whether an object has all labels of a selector (`a=b,c=d`)."""
    labels = thing["metadata"].get("labels", {})
    wanted = [part.split("=") for part in selector.split(",") if part]
    return all(labels.get(name) == value for name, value in wanted)


@contextmanager
def serving() -> Iterator[Cluster]:
    """A cluster on loopback."""
    cluster = Cluster()

    class Handler(BaseHTTPRequestHandler):
        """Answers kubectl."""

        def do_GET(self) -> None:
            """Discovery, schemas, objects, lists, logs and watches."""
            path, query = self._split()
            if path in {"/api", "/apis", "/version"} or path.startswith("/openapi"):
                self._answer(about(path, cluster.resources))
                return
            found = PATH.fullmatch(path)
            assert found, path
            version = "/".join(filter(None, (found["group"], found["version"])))
            if not found["resource"] and not found["namespace"]:
                known = version in cluster.resources
                self._answer(resource_list(version) if known else None)
                return
            resource, name = found["resource"] or "namespaces", found["name"]
            name = name if found["resource"] else found["namespace"]
            verb = "watch" if "watch" in query else "get" if name else "list"
            self._note(verb)
            if (verb, resource) in cluster.forbidden:
                self._refuse(
                    403, "Forbidden", f"{resource} is forbidden: User cannot {verb} it"
                )
                return
            if found["subresource"] == "log":
                previous = "/previous" if "previous" in query else ""
                self._send(cluster.logs[f"{name}{previous}"].encode(), "text/plain")
                return
            if name:
                thing = cluster.objects.get((resource, name))
                looks = thing and resource == "deployments"
                self._answer(cluster.look(thing) if looks and thing else thing)
                return
            (selector,) = query.get("labelSelector", [""])
            items = [
                thing
                for (kind, _), thing in cluster.objects.items()
                if kind == resource and selected(thing, selector)
            ]
            if "watch" in query:
                self._watch(items)
                return
            self._answer(
                {
                    "kind": f"{KINDS[resource]}List",
                    "apiVersion": version,
                    "metadata": {},
                    "items": items,
                }
            )

        def do_POST(self) -> None:
            """Reviews of access, and what is created."""
            found = PATH.fullmatch(self._split()[0])
            assert found
            thing, resource = self._body(), found["resource"]
            if resource == "selfsubjectaccessreviews":
                asked = thing["spec"]["resourceAttributes"]
                what = (asked["verb"], asked["resource"])
                allowed = what not in cluster.forbidden
                self._answer(
                    thing | {"metadata": {}, "status": {"allowed": allowed}}, 201
                )
                return
            self._note("create")
            name = thing["metadata"]["name"]
            if (resource, name) in cluster.objects:
                self._refuse(
                    409, "AlreadyExists", f'{resource} "{name}" already exists'
                )
                return
            self._answer(cluster.store(resource, name, thing), 201)

        def do_PATCH(self) -> None:
            """Server-side apply, and patches of other verbs."""
            path, query = self._split()
            found = PATH.fullmatch(path)
            assert found, path
            body = self._body()
            resource, name = found["resource"] or "namespaces", found["name"]
            name = name or found["namespace"]
            self._note("patch")
            if ("patch", resource) in cluster.forbidden:
                self._refuse(
                    403, "Forbidden", f"{resource} is forbidden: User cannot patch it"
                )
                return
            if name in cluster.refused:
                self._refuse(
                    400, "BadRequest", f'admission webhook "policy" denied "{name}"'
                )
                return
            if resource != "namespaces" and (
                ("namespaces", found["namespace"]) not in cluster.objects
            ):
                self._refuse(
                    404, "NotFound", f'namespaces "{found["namespace"]}" not found'
                )
                return
            (manager,) = query.get("fieldManager", ["kubectl"])
            if "apply-patch" in self.headers["Content-Type"]:
                if (resource, name) not in cluster.objects:
                    self._note("create")
                made = cluster.apply(resource, name, body, manager)
            else:
                made = deepcopy(cluster.objects[resource, name])
                if "json-patch" in self.headers["Content-Type"]:
                    json_patch(made, body)
                else:
                    merge_patch(made, body)
                sub = found["subresource"] or ""
                made = cluster.change(resource, name, made, manager, sub)
            kept = deepcopy(cluster) if "dryRun" in query else cluster
            try:
                self._answer(kept.store(resource, name, made))
            except ValueError as error:
                self._refuse(422, "Invalid", f'{resource} "{name}" is invalid: {error}')

        def do_DELETE(self) -> None:
            """Delete one object."""
            found = PATH.fullmatch(self._split()[0])
            assert found
            options = self._body()
            self._note("delete")
            orphan = options.get("propagationPolicy") == "Orphan"
            self._answer(cluster.delete(found["resource"], found["name"], orphan))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _split(self) -> tuple[str, dict[str, list[str]]]:
            parts = urlsplit(self.path)
            return parts.path, parse_qs(parts.query, keep_blank_values=True)

        def _body(self) -> Any:
            return yaml.safe_load(self.rfile.read(int(self.headers["Content-Length"])))

        def _note(self, verb: str) -> None:
            path, query = self._split()
            found = PATH.fullmatch(path)
            assert found
            resource = found["resource"] or "namespaces"
            if found["subresource"]:
                resource += f"/{found['subresource']}"
            cluster.asked.add((verb, found["group"] or "", resource))

        def _refuse(self, status: int, reason: str, message: str) -> None:
            self._answer(
                {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Failure",
                    "reason": reason,
                    "message": message,
                    "code": status,
                },
                status,
            )

        def _answer(self, content: Object | None, status: int = 200) -> None:
            if content is None:
                self._refuse(404, "NotFound", f"{self.path} not found")
                return
            self._send(json.dumps(content).encode(), "application/json", status)

        def _send(self, text: bytes, kind: str, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def _watch(self, items: list[Object]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            seen = {"annotations": {"k8s.io/initial-events-end": "true"}}
            seen_all = {
                "kind": items[0]["kind"],
                "apiVersion": items[0]["apiVersion"],
                "metadata": seen | {"resourceVersion": "1"},
            }
            events = [{"type": "ADDED", "object": item} for item in items]
            for event in [*events, {"type": "BOOKMARK", "object": seen_all}]:
                self.wfile.write(json.dumps(event).encode() + b"\n")
            self.rfile.read(1)  # until kubectl has seen enough

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield cluster
    server.shutdown()
    server.server_close()


def json_patch(thing: Object, steps: list[Object]) -> None:
    """Change an object as `kubectl patch --type json` and `rollout undo` do."""
    for step in steps:
        *parents, last = [
            part.replace("~1", "/").replace("~0", "~")
            for part in step["path"].strip("/").split("/")
        ]
        target = thing
        for parent in parents:
            target = target[parent]
        target[last] = step["value"]


def merge_patch(thing: Object, patch: Object) -> None:
    """Change an object as `kubectl label`, `annotate` and `set env` do.

    Lists of named items (containers, env) are merged by name, as a strategic patch is.
    """
    for name, value in patch.items():
        there = thing.get(name)
        if value is None:
            thing.pop(name, None)
        elif isinstance(value, dict) and isinstance(there, dict):
            merge_patch(there, value)
        elif name.startswith("$"):
            continue
        elif isinstance(value, list) and name in ownership.KEYS and there is not None:
            key, *_ = ownership.KEYS[name]
            for item in value:
                same = [x for x in there if x.get(key) == item.get(key)]
                if same:
                    merge_patch(same[0], item)
                else:
                    there.append(item)
        else:
            thing[name] = value


def about(path: str, resources: dict[str, dict[str, str]]) -> Object:
    """What the server says about itself."""
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    groups = [version.split("/") for version in resources if "/" in version]
    if path == "/apis":
        return {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {"name": group, "versions": [named], "preferredVersion": named}
                for group, version in groups
                for named in [
                    {"groupVersion": f"{group}/{version}", "version": version}
                ]
            ],
        }
    places = {v: f"apis/{v}" if "/" in v else f"api/{v}" for v in resources}
    if path == "/openapi/v3":
        return {
            "paths": {
                place: {"serverRelativeURL": f"/openapi/v3/{place}"}
                for place in places.values()
            }
        }
    (version,) = (v for v, place in places.items() if path == f"/openapi/v3/{place}")
    group, _, short = version.rpartition("/")
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": {
            f"/{places[version]}/{resource}/{{name}}".replace("{{", "{"): {
                "patch": {
                    "parameters": [{"name": "fieldValidation", "in": "query"}],
                    "x-kubernetes-group-version-kind": {
                        "group": group,
                        "version": short,
                        "kind": kind,
                    },
                    "responses": {},
                }
            }
            for kind, resource in resources[version].items()
        },
    }


def resource_list(version: str) -> Object:
    """What one version of an API has."""
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": version,
        "resources": [
            {
                "name": resource,
                "kind": kind,
                "namespaced": kind not in WITHOUT_NAMESPACE,
                "singularName": kind.lower(),
                "verbs": ["create", "delete", "get", "list", "patch", "watch"],
            }
            for kind, resource in RESOURCES[version].items()
        ],
    }
