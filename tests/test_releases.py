"""`make deploy`, `make rollback` and such: real kubectl against tests/api_server.py."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.api_server import Cluster
from tests.api_server import serving as cluster_serving
from tests.conftest import ENVIRONMENT, Bake, Service, run
from tests.questions import CHOICES
from tests.test_deployment import digest, watch
from tests.test_service import edit

pytestmark = pytest.mark.slow

NAME = "intent-service"
OVERLAY = "deploy/overlays/prod/kustomization.yaml"
DEPLOYMENT = "deploy/base/deployment.yaml"

# A variable and a volume that a release has and the next one no longer.
OLD_VARIABLE = "          env: [{name: EXTRA_OLD, value: '1'}]\n          envFrom:\n"
OLD_VOLUME = (
    "        - {name: old, emptyDir: {}}\n        - name: tmp\n          emptyDir"
)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A cluster that kubectl talks to."""
    with cluster_serving() as made:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": made.url}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": ""}}],
            "current-context": "test",
        }
        (tmp_path / "kubeconfig").write_text(json.dumps(config))
        monkeypatch.setitem(ENVIRONMENT, "KUBECONFIG", str(tmp_path / "kubeconfig"))
        monkeypatch.setitem(ENVIRONMENT, "KUBECACHEDIR", str(tmp_path / "cache"))
        yield made


def deploy(service: Service, letter: str, *words: str, check: bool = True) -> str:
    """What `make deploy` to prod prints."""
    image = f"IMAGE={digest(letter)}"
    return service.make("deploy", "ENV=prod", image, *words, check=check).stdout


def pod_template(cluster: Cluster) -> Any:
    """What the Deployment says about its pods, without what the server has added."""
    template = json.loads(json.dumps(cluster.one("deployments")["spec"]["template"]))
    for port in template["spec"]["containers"][0]["ports"]:
        del port["protocol"]
    return template


def stated(service: Service, kind: str) -> Any:
    """What was applied last, as Git says it."""
    text = run("kubectl", "kustomize", "outputs/deploy", cwd=service.path).stdout
    (found,) = (one for one in yaml.safe_load_all(text) if one["kind"] == kind)
    return found


def kubectl(service: Service, *words: str) -> str:
    """kubectl in the namespace of prod."""
    command = ("kubectl", "--namespace", f"{NAME}-prod", *words)
    return run(*command, cwd=service.path).stdout


def add_leftovers(service: Service) -> tuple[str, str]:
    """Give the pods a variable and a volume; returns the file with them and without."""
    without = service.read(DEPLOYMENT)
    edit(service, DEPLOYMENT, "          envFrom:\n", OLD_VARIABLE)
    edit(service, DEPLOYMENT, "        - name: tmp\n          emptyDir", OLD_VOLUME)
    return service.read(DEPLOYMENT), without


def way_back(service: Service, ci: str) -> str:
    """What the pipeline does after a deployment that failed."""
    places = {"github": ".github/workflows/deploy.yml", "gitlab": ".gitlab-ci.yml"}
    (found,) = re.findall("test ! -s .*", service.read(places[ci]))
    return str(found)


def test_deploying_applies_everything_and_waits(bake: Bake, cluster: Cluster) -> None:
    service = bake()

    output = service.make("deploy", "ENV=dev", f"IMAGE={digest('a')}").stdout

    assert f"dev runs release 1: {digest('a')}" in output
    assert cluster.image == digest("a")
    assert {kind for kind, _ in cluster.objects} >= {
        "configmaps",
        "deployments",
        "horizontalpodautoscalers",
        "httproutes",
        "namespaces",
        "networkpolicies",
        "poddisruptionbudgets",
        "serviceaccounts",
        "services",
    }


def test_a_first_deployment_has_the_minimum_of_pods_at_once(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    cluster.autoscaler_looks = 1000

    output = deploy(service, "a")

    assert "2 of 2 pods new, 2 available" in output
    # And the next apply, which states no number, leaves it to the autoscaler.
    cluster.one("deployments")["spec"]["replicas"] = 5
    assert "5 of 5 pods new" in deploy(service, "b")


def test_what_was_scaled_to_none_gets_its_pods_again(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    deploy(service, "a")
    edit(service, DEPLOYMENT, "Seconds: 120", "Seconds: 1")
    edit(service, "deploy/rollout.py", "MARGIN = 30.0", "MARGIN = 1.0")
    cluster.one("deployments")["spec"]["replicas"] = 0

    assert "2 of 2 pods new, 2 available" in deploy(service, "b", check=False)


def test_a_deployment_waits_for_a_minimum_that_was_raised(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    deploy(service, "a")
    scaling = "deploy/components/autoscaler/scaling.yaml"
    edit(service, scaling, "minReplicas: 2", "minReplicas: 4")

    assert "4 of 4 pods new, 4 available" in deploy(service, "b")


def test_after_a_rollback_a_deployment_leaves_what_git_says(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    with_old, without = add_leftovers(service)
    deploy(service, "a")
    old = pod_template(cluster)
    (service.path / DEPLOYMENT).write_text(without)
    deploy(service, "b")

    service.make("rollback", "ENV=prod")
    assert pod_template(cluster) == old

    deploy(service, "c")
    assert pod_template(cluster) == stated(service, "Deployment")["spec"]["template"]
    assert "EXTRA_OLD" in with_old
    assert "EXTRA_OLD" not in json.dumps(cluster.one("deployments"))


def test_what_other_verbs_of_kubectl_wrote_goes_with_the_next_deployment(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    edit(service, DEPLOYMENT, "revisionHistoryLimit: 0", "revisionHistoryLimit: 5")
    _, without = add_leftovers(service)
    edit_history = ("revisionHistoryLimit: 0", "revisionHistoryLimit: 5")
    deploy(service, "a")
    (service.path / DEPLOYMENT).write_text(without.replace(*edit_history))
    deploy(service, "b")
    apply = ("apply", "--server-side", "--force-conflicts", "--kustomize")

    # What a later apply alone would leave: the fault that is guarded against.
    kubectl(service, "rollout", "undo", f"deployment/{NAME}")
    kubectl(service, *apply, "outputs/deploy")
    assert "EXTRA_OLD" in json.dumps(pod_template(cluster))
    assert '"old"' in json.dumps(pod_template(cluster))

    kubectl(service, "set", "env", f"deployment/{NAME}", "BY_HAND=1")
    output = deploy(service, "c")
    assert "kubectl-set wrote by hand is removed" in output
    assert pod_template(cluster) == stated(service, "Deployment")["spec"]["template"]
    assert "2 of 2 pods new" in output


def test_what_a_release_no_longer_has_is_deleted_within_bounds(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    overlay = service.read(OVERLAY)
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"]},
    }
    for name, thing in {"mine": {}, "moved": {}, "volume": volume}.items():
        thing = thing or {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "labels": {"app.kubernetes.io/component": "server"},
            },
        }
        path = service.path / f"deploy/overlays/prod/{name}.yaml"
        path.write_text(yaml.safe_dump(thing))
    both = "  - mine.yaml\n  - moved.yaml\n  - volume.yaml\n"
    edit(service, OVERLAY, "  - ../../base\n", f"  - ../../base\n{both}")
    settings = "deploy/base/settings.env"
    deploy(service, "a")
    (first,) = (x for x in cluster.names("configmaps") if x.startswith("settings-"))
    labels = cluster.objects["configmaps", "moved"]["metadata"]["labels"]
    labels["app.kubernetes.io/component"] = "somebody-else"
    stranger = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}
    cluster.add("configmaps", stranger)

    # While pods of the release before may start again, nothing is deleted.
    (service.path / OVERLAY).write_text(overlay)
    edit(service, settings, "LOG_LEVEL=info", "LOG_LEVEL=error")
    cluster.becomes_ready = False
    deploy(service, "b", check=False)
    assert {first, "mine"} <= cluster.names("configmaps")

    cluster.becomes_ready = True
    output = deploy(service, "c")
    left = {x for x in cluster.names("configmaps") if "-release-" not in x}
    (second,) = (x for x in left if x.startswith("settings-"))
    assert second != first
    assert left == {second, "moved", "other"}
    assert "ConfigMap/moved is no longer in deploy/, but somebody else has it" in output
    assert cluster.names("persistentvolumeclaims") == {"data"}
    assert "PersistentVolumeClaim/data is no longer in deploy/. If it may go" in output
    assert f"{NAME}-prod" in cluster.names("namespaces")

    # A rollback brings back what it needs, and takes what it does not.
    service.make("rollback", "ENV=prod")
    assert {first, "mine"} <= cluster.names("configmaps")
    assert second not in cluster.names("configmaps")


def test_the_last_releases_are_kept(bake: Bake, cluster: Cluster) -> None:
    service = bake()
    edit(service, "deploy/releases.py", "KEPT = 10", "KEPT = 2")

    for letter in "abcd":
        deploy(service, letter)

    records = {x for x in cluster.names("configmaps") if "-release-" in x}
    assert records == {f"{NAME}-release-{number}" for number in (3, 4)}
    for name in records:
        assert cluster.objects["configmaps", name]["immutable"] is True
    listed = service.make("releases", "ENV=prod").stdout
    assert re.search(rf"3  deployed .*{digest('c')}\n", listed)
    assert re.search(rf"4  runs .*{digest('d')}\n +commit [0-9a-f]{{40}}", listed)
    done = service.make("rollback", "ENV=prod", "TO=1", check=False)
    assert "TO=1 is not recorded; these releases are: 3, 4." in done.stdout


def test_rolling_back_goes_one_release_back_each_time(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    for letter in "abc":
        deploy(service, letter)
    cluster.becomes_ready = False
    deploy(service, "d", check=False)
    cluster.becomes_ready = True

    for letter in "cba":  # past the one that failed
        service.make("rollback", "ENV=prod")
        assert cluster.image == digest(letter)

    done = service.make("rollback", "ENV=prod", check=False)
    assert done.returncode != 0 and "no earlier release to go back to" in done.stdout
    # What was rolled back from is not gone back to.
    deploy(service, "e")
    service.make("rollback", "ENV=prod")
    assert cluster.image == digest("a")


def test_a_rollback_ignores_the_failure_that_the_status_still_shows(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    deploy(service, "a")
    cluster.becomes_ready = False
    deploy(service, "b", check=False)
    cluster.becomes_ready, cluster.stale_looks = True, 3

    output = service.make("rollback", "ENV=prod").stdout

    assert f"prod is back at release 1: {digest('a')}" in output
    assert cluster.stale_looks == 0


def pod(name: str, **status: Any) -> Any:
    """A pod of the Deployment."""
    labels = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/component": "server"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Pending"} | status,
    }


def event(reason: str, message: str) -> Any:
    """An event about that pod."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": reason},
        "involvedObject": {"kind": "Pod", "name": f"{NAME}-x"},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-01-01T00:00:00Z",
    }


CRASHED = {
    "name": "app",
    "restartCount": 3,
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}},
    "lastState": {"terminated": {"reason": "Error", "exitCode": 78}},
}


@pytest.mark.parametrize(
    ("status", "happened", "says"),
    [
        pytest.param(
            {
                "containerStatuses": [
                    {
                        "name": "app",
                        "state": {"waiting": {"reason": "ImagePullBackOff"}},
                    }
                ]
            },
            event("Failed", "Failed to pull image: not found"),
            ["app waits: ImagePullBackOff", "pull image: not found", "Is it published"],
            id="image",
        ),
        pytest.param(
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/2 nodes are available: 2 Insufficient cpu.",
                    }
                ]
            },
            event("FailedScheduling", "0/2 nodes are available"),
            ["Unschedulable: 0/2 nodes", "FailedScheduling pod/", "No node has room"],
            id="room",
        ),
        pytest.param(
            {"phase": "Running", "containerStatuses": [CRASHED]},
            event("BackOff", "Back-off restarting failed container"),
            [
                "CrashLoopBackOff back-off 40s",
                "exit code 78, 3 restarts",
                "LOG_LEVEL='loud': not allowed",  # of the container that crashed
                "A setting is refused",
            ],
            id="setting",
        ),
        pytest.param(
            {
                "initContainerStatuses": [CRASHED | {"name": "wait"}],
                "containerStatuses": [
                    {"name": "app", "state": {"waiting": {"reason": "PodInitializing"}}}
                ],
            },
            event("BackOff", "Back-off restarting failed container"),
            [
                "wait waits: CrashLoopBackOff",
                "Log of the container that crashed wait in intent-service-x:",
            ],
            id="init container",
        ),
    ],
)
def test_a_rollout_that_fails_says_why(
    bake: Bake, cluster: Cluster, status: Any, happened: Any, says: list[str]
) -> None:
    service = bake()
    deploy(service, "a")
    cluster.becomes_ready = False
    cluster.add("pods", pod(f"{NAME}-x", **status))
    cluster.add("events", happened)
    cluster.logs = {
        f"{NAME}-x": "starting\n",
        f"{NAME}-x/previous": "LOG_LEVEL='loud': not allowed\n",
    }

    done = service.make(
        *("deploy", "ENV=prod", f"IMAGE={digest('b')}", "ROOM=unchecked"), check=False
    )

    assert done.returncode != 0
    for words in [*says, "timed out progressing", "make rollback ENV=prod"]:
        assert words in done.stdout
    role_is_enough(service, cluster)


@pytest.mark.parametrize("ci", CHOICES["ci"])
def test_the_pipeline_goes_back_to_what_was_there(
    bake: Bake, cluster: Cluster, ci: str
) -> None:
    service = bake(ci=ci)
    deploy(service, "a")
    cluster.becomes_ready = False
    deploy(service, "b", check=False)
    assert cluster.image == digest("b")
    cluster.becomes_ready = True
    run("sh", "-c", way_back(service, ci), cwd=service.path, STAGE="prod")
    assert cluster.image == digest("a")

    # What was never applied is not rolled back.
    cluster.forbidden = {("patch", "deployments")}
    deploy(service, "c", check=False)
    cluster.forbidden = set()
    run("sh", "-c", way_back(service, ci), cwd=service.path, STAGE="prod")
    assert cluster.image == digest("a")


def allowed(service: Service) -> set[tuple[str, str, str]]:
    """What the pipeline's Role allows: verb, group, resource."""
    rules = yaml.safe_load(service.read("deploy/pipeline-role.yaml"))["rules"]
    return {
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def role_is_enough(service: Service, cluster: Cluster) -> None:
    """Nothing was asked for that the Role has not, but for what is optional."""
    optional = {("list", "", "nodes"), ("create", "", "namespaces")}
    assert cluster.asked - optional <= allowed(service)


def test_the_role_of_the_pipeline_is_enough_and_no_more(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    watch(service, "prod")
    for letter in "ab":
        deploy(service, letter)
    service.make("rollback", "ENV=prod")
    role = allowed(service)

    role_is_enough(service, cluster)
    assert not {resource for *_, resource in role} - {
        *(resource for *_, resource in cluster.asked),
        "events",  # after a rollout that failed
        "pods/log",
        "pods/portforward",  # for make smoke
    }
    assert not {verb for verb, *_ in role} & {"*", "escalate", "bind"}
    assert not {r for verb, _, r in role if verb == "delete"} & {
        *("namespaces", "persistentvolumeclaims", "pods", "secrets")
    }
    assert "secrets" not in {resource for *_, resource in role}


def test_all_that_is_missing_is_named_and_nothing_is_applied(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    watch(service, "prod")
    secret = "secretGenerator:\n  - name: mine\n    literals: [a=b]\n"
    overlay = service.read(OVERLAY).replace("  - ../../components/autoscaler\n", "")
    (service.path / OVERLAY).write_text(overlay + secret)
    cluster.without = {"gateway.networking.k8s.io/v1", "monitoring.coreos.com/v1"}
    cluster.forbidden = {("patch", "deployments"), ("get", "pods/log")}
    cluster.forbidden |= {("create", "namespaces")}

    done = service.make("deploy", "ENV=prod", f"IMAGE={digest('a')}", check=False)

    assert done.returncode != 0
    for words in [
        "Nothing was applied. What is missing:",
        "no kind HTTPRoute of gateway.networking.k8s.io/v1 (a CRD): install the",
        "no kind PodMonitor of monitoring.coreos.com/v1",
        "Secret/mine-",
        "nothing says how many pods there are",
        "No right to create namespaces",
        "No right to patch deployments.apps",
        "kubectl apply --namespace intent-service-prod --filename deploy/pipeline-role",
    ]:
        assert words in done.stdout, done.stdout
    assert not cluster.objects
    assert not (service.path / "outputs/deploy/earlier").exists()


def test_without_a_namespace_that_may_be_made_it_is_said(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    edit(service, "deploy/base/kustomization.yaml", "  - namespace.yaml\n", "")

    output = deploy(service, "a", check=False)

    assert "There is no namespace intent-service-prod: kubectl create names" in output
    assert not cluster.objects


def test_what_admission_refuses_is_said_before_anything_is_applied(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    deploy(service, "a")
    cluster.refused = {"default-deny"}

    output = deploy(service, "b", check=False)

    assert "Nothing was applied" in output
    assert 'admission webhook "policy" denied "default-deny"' in output
    assert cluster.image == digest("a")
    assert not (service.path / "outputs/deploy/earlier").exists()


def node(cpu: str, **spec: Any) -> Any:
    """A node with so much CPU."""
    sizes = {"cpu": cpu, "memory": "4Gi", "ephemeral-storage": "20Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{cpu}"},
        "spec": spec,
        "status": {"allocatable": sizes},
    }


def quota(used: str, *scopes: str) -> Any:
    """A quota of two CPUs."""
    return {
        "spec": {"scopes": list(scopes)},
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "team"},
        "status": {"hard": {"requests.cpu": "2"}, "used": {"requests.cpu": used}},
    }


def waiting(cpu: str) -> Any:
    """A pod of the Deployment that finds no room."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/2 nodes are available: 2 Insufficient cpu.",
    }
    made = pod(f"{NAME}-x", conditions=[condition])
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return made


def running(cpu: str, where: str) -> Any:
    """A pod of somebody else on a node."""
    made = pod("other", phase="Running")
    made["metadata"]["labels"] = {}
    made["spec"]["nodeName"] = where
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return made


# It runs on beside the containers that come after it.
SIDECAR = """\
        - name: proxy
          image: docker.io/acme/proxy:1
          restartPolicy: Always
          resources: {requests: {cpu: 50m}}
"""


@pytest.mark.parametrize(
    ("there", "says"),
    [
        pytest.param(
            {"nodes": [node("2")], "pods": [running("1500m", "node-2")]},
            "node-2 has 500m of CPU, 4096Mi of memory left",
            id="nodes",
        ),
        pytest.param(
            {"nodes": [node("2"), node("4")], "pods": [running("1500m", "node-2")]},
            "",
            id="one node",
        ),
        pytest.param(
            {"nodes": [node("2", taints=[{"key": "gpu", "effect": "NoSchedule"}])]},
            "no node takes it",
            id="taint",
        ),
        pytest.param(
            {"resourcequotas": [quota("1400m")]},
            "quota team has requests.cpu=2, of which 1400m are used",
            id="quota",
        ),
        pytest.param({"resourcequotas": [quota("1300m")]}, "", id="quota with room"),
        pytest.param(
            {"resourcequotas": [quota("2", "Terminating")]}, "", id="quota of jobs"
        ),
        pytest.param(
            {"resourcequotas": [quota("1275m", "NotTerminating")], "sidecar": []},
            "of which 1275m are used",
            id="quota and a sidecar",
        ),
        pytest.param(
            {"pods": [waiting("700m")]},
            "intent-service-x waits for some already: 0/2 nodes are available",
            id="pending",
        ),
        # One that asks for more is mended by what asks for less.
        pytest.param({"pods": [waiting("4")]}, "", id="pending of more"),
    ],
)
def test_room_for_one_more_pod_is_looked_for(
    bake: Bake, cluster: Cluster, there: dict[str, list[Any]], says: str
) -> None:
    service = bake()
    for resource, things in there.items():
        for thing in things:
            cluster.add(resource, thing)
    if "sidecar" in there:
        before = "      initContainers:\n" + SIDECAR + "      containers:\n"
        edit(service, DEPLOYMENT, "      containers:\n", before)

    output = deploy(service, "a", check=False)

    if not says:
        assert "prod runs release 1" in output
        return
    assert "Room for one more pod of Deployment/intent-service (7" in output
    assert says in output
    assert not cluster.names("deployments")
    # It is no deployment of pods that stay, nor of who knows better.
    assert "prod runs release 1" in deploy(service, "a", "ROOM=unchecked")
    scaling = "deploy/components/autoscaler/scaling.yaml"
    edit(service, scaling, "maxReplicas: 10", "maxReplicas: 3")
    assert "prod runs release 2" in deploy(service, "a")


def test_a_service_of_template_0_3_goes_over_without_losing_a_pod(
    bake: Bake, cluster: Cluster, tmp_path: Path
) -> None:
    service = bake()
    component = "      app.kubernetes.io/component: server\n"
    now = service.read(DEPLOYMENT)
    # As 0.3 applied it: a selector without the component, no record, three settings.
    selector = f'app.kubernetes.io/name: "{NAME}"\n{component}  # `make'
    assert now.count(selector) == 1
    (service.path / DEPLOYMENT).write_text(
        now.replace(selector, selector.replace(component, ""))
    )
    apply = ("apply", "--server-side", "--force-conflicts", "--kustomize")
    service.make(
        "deploy",
        "ENV=prod",
        f"IMAGE={digest('0')}",
        KUBECONFIG="/dev/null",
        check=False,
    )
    for level in ("error", "warning", "info"):
        edit(service, "deploy/base/settings.env", "LOG_LEVEL=", f"LOG_LEVEL={level}#")
        if level == "error":
            namespace = {"name": f"{NAME}-prod"}
            thing = {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace}
            cluster.store("namespaces", f"{NAME}-prod", thing)
        kubectl(service, *apply, "outputs/deploy")
    cluster.one("deployments")["spec"]["replicas"] = 5
    cluster.fewest_pods = 1000
    before = pod_template(cluster)
    (old,) = cluster.names("replicasets")
    (service.path / DEPLOYMENT).write_text(now)

    output = deploy(service, "a")

    assert "its selector changes, so it is made anew; its pods serve on" in output
    assert "What runs has no record yet: it becomes release 1" in output
    deployment = cluster.one("deployments")
    assert (
        "app.kubernetes.io/component" in deployment["spec"]["selector"]["matchLabels"]
    )
    assert cluster.fewest_pods == 5
    assert old not in cluster.names("replicasets")  # taken over, and rolled
    assert len([x for x in cluster.names("configmaps") if "settings-" in x]) == 1

    service.make("rollback", "ENV=prod")
    assert pod_template(cluster) == before
    assert cluster.fewest_pods == 5
    assert "prod runs release 3" in deploy(service, "b")
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)


def label_all(service: Service, pairs: str, reach: str) -> None:
    """Give all objects of prod a label by Kustomize."""
    label = f"labels: [{{pairs: {{{pairs}}}, {reach}}}]\n"
    kept = re.sub("(?m)^labels:.*\n", "", service.read(OVERLAY))
    (service.path / OVERLAY).write_text(kept + label)


def test_a_selector_that_would_lose_its_pods_is_refused(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    deploy(service, "a")
    (old,) = cluster.names("replicasets")
    instance = "app.kubernetes.io/instance: blue"

    label_all(service, instance, "includeSelectors: true")
    output = deploy(service, "b", check=False)
    assert "selector has app.kubernetes.io/instance=blue, which the pods" in output
    assert cluster.image == digest("a") and old in cluster.names("replicasets")

    label_all(service, instance, "includeTemplates: true")
    deploy(service, "b")
    label_all(service, instance, "includeSelectors: true")
    assert "made anew; its pods serve on" in deploy(service, "c")
    assert cluster.image == digest("c")


def test_what_others_have_in_the_namespace_is_not_cut_off(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    labels = {"app.kubernetes.io/name": "shop"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": []}}
    other = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    namespace = {"name": f"{NAME}-prod"}
    thing = {"apiVersion": "v1", "kind": "Namespace", "metadata": namespace}
    cluster.store("namespaces", f"{NAME}-prod", thing)
    cluster.add("deployments", other)

    output = deploy(service, "a", check=False)

    assert (
        "Deployment/shop would be cut off by NetworkPolicy/default-deny and" in output
    )
    assert "(pod-security.kubernetes.io/enforce)" in output
    assert cluster.names("deployments") == {"shop"}

    # What came later was made under these rules.
    del cluster.objects["deployments", "shop"]
    deploy(service, "a")
    cluster.add("deployments", other)
    assert "prod runs release 2" in deploy(service, "b")


def test_no_pods_may_be_what_git_says(bake: Bake, cluster: Cluster) -> None:
    service = bake()
    edit(service, DEPLOYMENT, "Seconds: 120", "Seconds: 1")
    edit(service, "deploy/rollout.py", "MARGIN = 30.0", "MARGIN = 1.0")
    edit(service, OVERLAY, "  - ../../components/autoscaler\n", "")
    none = f"replicas: [{{name: {NAME}, count: 0}}]\n"
    (service.path / OVERLAY).write_text(service.read(OVERLAY) + none)

    assert "0 of 0 pods new" in deploy(service, "a", check=False)


def test_what_shares_its_pods_is_named(bake: Bake, cluster: Cluster) -> None:
    service = bake()
    assert "have the labels of" not in deploy(service, "a")
    # Its earlier releases are found although it is labelled anew.
    label_all(service, "app.kubernetes.io/name: other", "includeSelectors: false")
    assert "prod runs release 2" in deploy(service, "b")
    overlay = service.path / OVERLAY
    overlay.write_text(f"{overlay.read_text()}namePrefix: blue-\n")

    output = deploy(service, "c")

    assert (
        f"The pods of Deployment/{NAME} have the labels of Deployment/blue-{NAME}, too"
        in output
    )
    assert "prod runs release 1" in output


def test_a_cluster_without_gateway_and_metrics_gets_the_rest(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    cluster.without = {"gateway.networking.k8s.io/v1", "metrics.k8s.io/v1"}
    edit(service, OVERLAY, "  - ../../components/route\n", "")
    assert "has no metrics server: the autoscaler keeps its" in deploy(service, "a")

    (replicas,) = re.findall(
        r"`(replicas: \[.*\])`", service.read("docs/deployment.md")
    )
    overlay = service.read(OVERLAY)
    overlay = overlay.replace("components:\n  - ../../components/autoscaler\n", "")
    (service.path / OVERLAY).write_text(f"{overlay}{replicas}\n")

    output = deploy(service, "b")

    assert "2 of 2 pods new" in output
    assert not cluster.names("horizontalpodautoscalers")
    assert "metrics" not in output


def test_the_image_that_runs_may_be_kept(bake: Bake, cluster: Cluster) -> None:
    service = bake()
    done = service.make("deploy", "ENV=prod", "IMAGE=live", check=False)
    assert "IMAGE=live: nothing runs there yet." in done.stdout
    deploy(service, "a")

    assert digest("a") in service.make("deploy", "ENV=prod", "IMAGE=live").stdout


def test_a_release_has_the_image_of_the_demo_beside_that_of_the_server(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    tunnel = ("python3", "-m", "deploy", "tunnel", "prod", "--component", "demo")
    assert service.run(*tunnel).stdout == ""
    edit(service, OVERLAY, "components:\n", "components:\n  - ../../components/demo\n")
    assert f"service/{NAME}-demo :http" in service.run(*tunnel).stdout

    output = deploy(service, "a", check=False)
    assert f"Deployment/{NAME}-demo needs the image" in output
    assert not cluster.names("deployments"), "nothing is applied without its image"

    def both(letter: str) -> str:
        image = digest(letter)
        return f"{image} {image.replace(NAME, f'{NAME}-demo')}"

    def running() -> set[str]:
        return {
            cluster.objects["deployments", name]["spec"]["template"]["spec"][
                "containers"
            ][0]["image"]
            for name in cluster.names("deployments")
        }

    for letter in "ab":
        words = ("deploy", "ENV=prod", f"IMAGE={both(letter)}")
        assert both(letter) in service.make(*words).stdout
        assert running() == set(both(letter).split())
    assert both("b") in service.make("deploy", "ENV=prod", "IMAGE=live").stdout

    service.make("rollback", "ENV=prod", "TO=1")

    assert running() == set(both("a").split())
    assert f"with {both('b').split()[1]}" in service.make("releases", "ENV=prod").stdout

    edit(service, OVERLAY, "  - ../../components/demo\n", "")
    deploy(service, "c")
    assert cluster.names("deployments") == {NAME}


HELPER = "        - image: docker.io/acme/proxy:1\n          name: proxy\n"
MOVED = "images: [{name: %s, newName: registry.acme.com:5000/ml, newTag: latest}]\n"


@pytest.mark.parametrize("place", ["base", "init", "last", "overlay"])
def test_the_image_is_that_of_the_container_of_the_server(
    bake: Bake, cluster: Cluster, place: str
) -> None:
    service = bake()
    mine = digest("a").partition("@")[0]
    if place == "overlay":
        overlay = service.path / OVERLAY
        overlay.write_text(overlay.read_text() + MOVED % mine)
    elif place == "init":
        before = "      initContainers:\n" + HELPER + "      containers:\n"
        edit(service, DEPLOYMENT, "      containers:\n", before)
    elif place == "base":  # and the image in front of the name, as many write it
        edit(service, DEPLOYMENT, f"          image: {mine}\n", "")
        turned = HELPER + f"        - image: {mine}\n          name: app\n"
        edit(service, DEPLOYMENT, "        - name: app\n", turned)
    else:
        edit(service, DEPLOYMENT, "      volumes:\n", HELPER + "      volumes:\n")

    output = deploy(service, "a")

    assert f"prod runs release 1: {digest('a')}\n" in output
    spec = cluster.one("deployments")["spec"]["template"]["spec"]
    images = {x["name"]: x["image"] for x in spec["containers"]}
    assert images["app"] == digest("a")
    assert images.get("proxy", "docker.io/acme/proxy:1") == "docker.io/acme/proxy:1"
    assert digest("a") in service.make("deploy", "ENV=prod", "IMAGE=live").stdout
    # The image is built under this name.
    done = service.make("publish", check=False)
    assert re.search(rf"no image {re.escape(mine)}:[0-9a-f]{{40}}", done.stdout)


def test_an_interruption_says_what_goes_on(bake: Bake, cluster: Cluster) -> None:
    service = bake()
    deploy(service, "a")
    cluster.stale_looks = 1000
    command = ("python3", "-m", "deploy", "apply", "prod", "--image", digest("b"))

    with subprocess.Popen(
        command,
        cwd=service.path,
        env=service.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A job in the background of a shell ignores it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if line.endswith("…\n"):
                process.send_signal(signal.SIGINT)
                break
        said = process.stdout.read()

    assert process.returncode == 130
    assert "Stopped waiting." in said and "make rollback ENV=prod goes back" in said
    assert "Traceback" not in said


def test_the_way_to_the_service_has_the_names_of_the_stage(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    overlay = service.path / OVERLAY
    overlay.write_text(f"{overlay.read_text()}namePrefix: blue-\n")

    output = service.run(
        "python3", "-m", "deploy", "tunnel", "prod", "--context", "test"
    )

    assert (
        output.stdout.split()
        == (
            f"kubectl --context test --namespace {NAME}-prod port-forward "
            f"service/blue-{NAME} :http"
        ).split()
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["deploy", "ENV=prd"], "ENV=prd is no stage: dev prod stage."),
        (["smoke", "ENV=x"], "ENV=x is no stage"),
        (["rollback", "ENV="], "ENV= is no stage"),
        (["deploy"], "Which image? Run make publish first, or give IMAGE="),
        (["deploy", f"IMAGE={digest('a')[:-70]}:latest"], "@sha256:"),
        (["deploy", f"IMAGE={digest('a')[:-64]}…"], "its 64 digits"),
        (
            ["deploy", f"IMAGE={digest('a')}", "CONTEXT=nowhere"],
            "`kubectl config get-contexts` lists",
        ),
    ],
)
def test_a_mistake_is_said_before_anything_happens(
    bake: Bake, cluster: Cluster, words: list[str], says: str
) -> None:
    done = bake().make(*words, check=False)

    assert done.returncode != 0
    assert says in done.stdout
    assert "Traceback" not in done.stdout
    assert not cluster.objects
