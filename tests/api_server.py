"""As much of a Kubernetes API server as kubectl needs to apply, watch and undo.

It holds objects, gives a Deployment its revisions, and writes down each request as the
verb and the resource that RBAC would be asked about.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]

RESOURCES = {
    "v1": {
        "ConfigMap": "configmaps",
        "Namespace": "namespaces",
        "Service": "services",
        "ServiceAccount": "serviceaccounts",
    },
    "apps/v1": {"Deployment": "deployments", "ReplicaSet": "replicasets"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "gateway.networking.k8s.io/v1": {"HTTPRoute": "httproutes"},
    "monitoring.coreos.com/v1": {
        "PodMonitor": "podmonitors",
        "PrometheusRule": "prometheusrules",
    },
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
}
KINDS = {name: kind for kinds in RESOURCES.values() for kind, name in kinds.items()}
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v\d)"
    r"(?:/namespaces/(?P<namespace>[^/]+))?"
    r"(?:/(?P<resource>[a-z]+))?(?:/(?P<name>[^/]+))?"
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
    # Whether a new revision of the Deployment does.
    becomes_ready: bool = True

    def one(self, resource: str) -> Object:
        """The one object of its kind."""
        (found,) = (x for (kind, _), x in self.objects.items() if kind == resource)
        return found

    @property
    def image(self) -> str:
        """The image that the Deployment asks for."""
        (app,) = self.one("deployments")["spec"]["template"]["spec"]["containers"]
        return str(app["image"])

    def store(self, resource: str, name: str, given: Object) -> Object:
        """Keep an object; a changed Deployment gets a revision and a ReplicaSet."""
        earlier = self.objects.get((resource, name), {})
        given["metadata"] |= {"uid": name, "generation": 1, "resourceVersion": "1"}
        self.objects[resource, name] = given
        if resource == "deployments":
            self._roll(given, earlier)
        return given

    def _roll(self, deployment: Object, earlier: Object) -> None:
        annotations = deployment["metadata"].setdefault("annotations", {})
        old = earlier.get("metadata", {}).get("annotations", {}).get(REVISION, "0")
        template = deployment["spec"]["template"]
        same = template == earlier.get("spec", {}).get("template")
        annotations[REVISION] = old if same else str(int(old) + 1)
        name = f"revision-{annotations[REVISION]}"
        self.objects["replicasets", name] = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "uid": name,
                "annotations": {REVISION: annotations[REVISION]},
                "labels": template["metadata"]["labels"],
                "ownerReferences": [
                    {
                        "apiVersion": "apps/v1",
                        "kind": "Deployment",
                        "name": deployment["metadata"]["name"],
                        "uid": deployment["metadata"]["uid"],
                        "controller": True,
                    }
                ],
            },
            "spec": {"replicas": 1, "template": json.loads(json.dumps(template))},
        }
        ready = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
        late = {"type": "Progressing", "reason": "ProgressDeadlineExceeded"}
        deployment["status"] = {"observedGeneration": 1} | (
            ready
            if self.becomes_ready
            else {"conditions": [late | {"status": "False"}]}
        )


@contextmanager
def serving() -> Iterator[Cluster]:
    """A cluster on loopback."""
    cluster = Cluster()

    class Handler(BaseHTTPRequestHandler):
        """Answers kubectl."""

        def do_GET(self) -> None:
            """Discovery, schemas, objects, lists and watches."""
            path, query = self._split()
            if path in {"/api", "/apis", "/version"} or path.startswith("/openapi"):
                self._answer(about(path))
                return
            found = PATH.fullmatch(path)
            assert found, path
            version = "/".join(filter(None, (found["group"], found["version"])))
            if not found["resource"]:
                self._answer(resource_list(version))
                return
            resource, name = found["resource"], found["name"]
            self._note("watch" if "watch" in query else "list" if not name else "get")
            if name and ("get", resource) in cluster.forbidden:
                self._answer(None, 403)
                return
            if name:
                self._answer(cluster.objects.get((resource, name)))
                return
            items = [x for (kind, _), x in cluster.objects.items() if kind == resource]
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

        def do_PATCH(self) -> None:
            """Server-side apply, and the JSON patch of an undo."""
            path, _ = self._split()
            found = PATH.fullmatch(path)
            assert found, path
            body = self.rfile.read(int(self.headers["Content-Length"]))
            resource, name = found["resource"] or "namespaces", found["name"]
            name = name or found["namespace"]
            self._note("patch")
            if ("patch", resource) in cluster.forbidden:
                self._answer(None, 403)
                return
            if "json-patch" in self.headers["Content-Type"]:
                changed = json.loads(json.dumps(cluster.objects[resource, name]))
                for step in json.loads(body):
                    *parents, last = step["path"].strip("/").split("/")
                    target = changed
                    for parent in parents:
                        target = target[parent]
                    target[last] = step["value"]
            else:
                changed = yaml.safe_load(body)
            self._answer(cluster.store(resource, name, changed))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _split(self) -> tuple[str, dict[str, list[str]]]:
            parts = urlsplit(self.path)
            return parts.path, parse_qs(parts.query)

        def _note(self, verb: str) -> None:
            found = PATH.fullmatch(self._split()[0])
            assert found
            resource = found["resource"] or "namespaces"
            cluster.asked.add((verb, found["group"] or "", resource))

        def _answer(self, content: Object | None, status: int = 200) -> None:
            if content is None:
                status = 404 if status == 200 else status
                content = {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Failure",
                    "reason": {404: "NotFound", 403: "Forbidden"}[status],
                    "message": f"refused with {status}",
                    "code": status,
                }
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
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


def about(path: str) -> Object:
    """What the server says about itself."""
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    groups = [version.split("/") for version in RESOURCES if "/" in version]
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
    places = {v: f"apis/{v}" if "/" in v else f"api/{v}" for v in RESOURCES}
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
            for kind, resource in RESOURCES[version].items()
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
                "namespaced": kind != "Namespace",
                "singularName": kind.lower(),
                "verbs": ["create", "get", "list", "patch", "watch"],
            }
            for kind, resource in RESOURCES[version].items()
        ],
    }
