"""What is emitted for deployment holds before those who will read it.

The manifests before Kubernetes' own schemas and the linters of the field; the verbs
before an API server that real kubectl talks to; the pipelines before their linters.
"""

import base64
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.api_server import Cluster
from tests.api_server import serving as cluster_serving
from tests.conftest import ENVIRONMENT, Bake, Service, copy, run
from tests.questions import CHOICES, answer
from tests.test_service import edit, serving

BIN = Path(sys.executable).parent
KUBERNETES = "1.36"
STAGES = ("dev", "stage", "prod")
IMAGE = "ghcr.io/your-org/intent-service"

# The part of the Gateway API's HTTPRoute (v1) that the manifests use:
# gateway-api.sigs.k8s.io/reference/spec.
NAME = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"}


def strict(**properties: Any) -> dict[str, Any]:
    """An object that has all of these properties and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def array(items: Any) -> dict[str, Any]:
    """At least one of them."""
    return {"type": "array", "items": items, "minItems": 1}


HTTP_ROUTE = strict(
    apiVersion={"const": "gateway.networking.k8s.io/v1"},
    kind={"const": "HTTPRoute"},
    metadata={"type": "object"},
    spec=strict(
        parentRefs=array(strict(name=NAME, namespace=NAME)),
        hostnames=array({"type": "string", "pattern": r"^[a-z0-9-]+(\.[a-z0-9-]+)+$"}),
        rules=array(
            strict(
                matches=array(
                    strict(
                        path=strict(
                            type={"enum": ["Exact", "PathPrefix"]},
                            value={"type": "string", "pattern": "^/"},
                        )
                    )
                ),
                backendRefs=array(strict(name=NAME, port={"type": "integer"})),
            )
        ),
    ),
)

# The same of the Prometheus operator's API:
# prometheus-operator.dev/docs/api-reference/api.
POD_MONITOR = strict(
    apiVersion={"const": "monitoring.coreos.com/v1"},
    kind={"const": "PodMonitor"},
    metadata={"type": "object"},
    spec=strict(
        jobLabel={"type": "string"},
        selector=strict(matchLabels={"type": "object"}),
        podMetricsEndpoints=array(
            strict(
                port={"type": "string"},
                path={"type": "string", "pattern": "^/"},
                interval={"type": "string", "pattern": "^[0-9]+s$"},
            )
        ),
    ),
)
PROMETHEUS_RULE = strict(
    apiVersion={"const": "monitoring.coreos.com/v1"},
    kind={"const": "PrometheusRule"},
    metadata={"type": "object"},
    spec=strict(
        # promtool reads the rules themselves.
        groups=array({"type": "object", "required": ["name", "rules"]})
    ),
)
OWN_SCHEMAS = {
    "HTTPRoute": HTTP_ROUTE,
    "PodMonitor": POD_MONITOR,
    "PrometheusRule": PROMETHEUS_RULE,
}


def digest(letter: str) -> str:
    """The name of an image that is not there."""
    return f"{IMAGE}@sha256:{letter * 64}"


def pipeline(service: Service, ci: str) -> str:
    """The file in which the pipeline deploys a stage."""
    places = {"github": ".github/workflows/deploy.yml", "gitlab": ".gitlab-ci.yml"}
    return service.read(places[ci])


def rendered(service: Service, stage: str) -> str:
    """The manifests that `make deploy` would apply."""
    service.make("deploy", f"ENV={stage}", f"IMAGE={digest('a')}", check=False)
    return run("kubectl", "kustomize", "outputs/deploy", cwd=service.path).stdout


def watch(service: Service, stage: str) -> None:
    """Have the Prometheus operator watch a stage, as docs/deployment.md says."""
    (line,) = re.findall(
        "^    (components: .*)$", service.read("docs/deployment.md"), re.MULTILINE
    )
    overlay = service.path / "deploy" / "overlays" / stage / "kustomization.yaml"
    overlay.write_text(f"{overlay.read_text()}{line}\n")


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


@pytest.mark.parametrize("stage", STAGES)
def test_every_manifest_is_valid(bake: Bake, stage: str, cluster: Cluster) -> None:
    service = bake()
    watch(service, stage)
    manifests = list(yaml.safe_load_all(rendered(service, stage)))

    assert {manifest["kind"] for manifest in manifests} > set(OWN_SCHEMAS)
    for manifest in manifests:
        if schema := OWN_SCHEMAS.get(manifest["kind"]):
            jsonschema.validate(manifest, schema)
        else:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize(
    ("old", "new"), [("runAsNonRoot", "runAsNonroot"), ("sizeLimit: 64Mi", "size: 64")]
)
def test_an_invalid_manifest_is_seen(
    bake: Bake, cluster: Cluster, old: str, new: str
) -> None:
    service = bake()
    edit(service, "deploy/base/deployment.yaml", old, new)

    with pytest.raises(kubernetes_validate.ValidationError):
        for manifest in yaml.safe_load_all(rendered(service, "prod")):
            if manifest["kind"] not in OWN_SCHEMAS:
                kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_names_and_labels_follow_the_recommendation(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake(service_slug="a" * 40)
    manifests = list(yaml.safe_load_all(rendered(service, "stage")))

    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "a" * 40
        assert labels["app.kubernetes.io/version"] == "a" * 12
        assert {"component", "part-of", "managed-by"} <= {
            label.partition("/")[2] for label in labels
        }
        assert max(map(len, labels.values())) <= 63
        assert len(manifest["metadata"]["name"]) <= 63


@pytest.mark.slow
def test_checkov_finds_nothing(bake: Bake, cluster: Cluster, tmp_path: Path) -> None:
    service = bake()
    for stage in STAGES:
        (tmp_path / f"{stage}.yaml").write_text(rendered(service, stage))
    uv = str(BIN / "uv")
    checkov = (uv, "tool", "run", "--quiet", "--from", "checkov>=3.3,<4", "checkov")
    options = ("--quiet", "--compact", "--skip-download", "--output", "json")
    for framework, files in {
        "kubernetes": [tmp_path / f"{stage}.yaml" for stage in STAGES],
        "dockerfile": [service.path / "Dockerfile"],
    }.items():
        for file in files:
            command = (*checkov, "--framework", framework, "--file", str(file))
            output = run(*command, *options, cwd=tmp_path).stdout
            summary = json.loads(output)["summary"]
            assert summary["failed"] == 0
            assert summary["skipped"] == (framework == "kubernetes")  # with its reason
            assert summary["passed"] > 80, summary

    edit(service, "deploy/base/deployment.yaml", "drop: [ALL]", "add: [SYS_ADMIN]")
    (tmp_path / "bad.yaml").write_text(rendered(service, "prod"))
    command = (*checkov, "--framework", "kubernetes", "--file", "bad.yaml")
    assert run(*command, "--quiet", cwd=tmp_path, check=False).returncode == 1


def test_the_dockerfile_and_compose_file_have_no_faults(bake: Bake) -> None:
    service = bake()

    run(str(BIN / "hadolint"), "Dockerfile", cwd=service.path)
    schema = ("--builtin-schema", "vendor.compose-spec")
    run(str(BIN / "check-jsonschema"), *schema, "compose.yaml", cwd=service.path)


@pytest.mark.parametrize("remote", CHOICES["dvc_remote"])
def test_the_github_pipeline_has_no_faults(tmp_path: Path, remote: str) -> None:
    service = answer(tmp_path, {"dvc_remote": remote}).service
    run("git", "init", "--quiet", cwd=service.path)  # where actionlint looks

    run(str(BIN / "actionlint"), cwd=service.path)
    run(str(BIN / "zizmor"), "--offline", "--no-progress", ".", cwd=service.path)
    for schema, pattern in {
        "vendor.github-workflows": "workflows/*.yml",
        "vendor.github-actions": "actions/*/action.yml",
    }.items():
        files = [str(x) for x in (service.path / ".github").glob(pattern)]
        assert len(files) >= 2
        command = (str(BIN / "check-jsonschema"), "--builtin-schema", schema)
        run(*command, *files, cwd=service.path)


@pytest.mark.parametrize("remote", CHOICES["dvc_remote"])
def test_the_gitlab_pipeline_has_no_faults(tmp_path: Path, remote: str) -> None:
    service = answer(tmp_path, {"ci": "gitlab", "dvc_remote": remote}).service

    schema = ("--builtin-schema", "vendor.gitlab-ci")
    files = (".gitlab-ci.yml", ".gitlab/pull-model.yml")
    run(str(BIN / "check-jsonschema"), *schema, *files, cwd=service.path)


def test_the_pipeline_is_trunk_based_and_nobody_is_named(tmp_path: Path) -> None:
    service = answer(tmp_path, {}).service
    workflows = {
        path.name: path.read_text(encoding="utf-8")
        for path in (service.path / ".github" / "workflows").glob("*.yml")
    }
    jobs = yaml.safe_load(workflows["ci.yml"])["jobs"]

    assert jobs["image"]["needs"] == "check"
    assert jobs["dev"]["needs"] == "image"
    assert "dev" in jobs["stage"]["needs"] and "stage" in jobs["prod"]["needs"]
    for text in workflows.values():
        assert "github.actor" not in text and "reviewers" not in text
        for used in re.findall(r"uses: (\S+.*)", text):
            assert re.fullmatch(r"\$/\S+|[\w/-]+@[0-9a-f]{40} # v[\d.]+", used), used
        assert yaml.safe_load(text)["permissions"] == {}


def test_deploying_applies_everything_and_waits(bake: Bake, cluster: Cluster) -> None:
    service = bake()

    output = service.make("deploy", "ENV=dev", f"IMAGE={digest('a')}").stdout

    assert "successfully rolled out" in output
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


def test_a_rollout_that_fails_is_said_and_rolled_back(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    service.make("deploy", "ENV=prod", f"IMAGE={digest('a')}")
    cluster.becomes_ready = False

    done = service.make("deploy", "ENV=prod", f"IMAGE={digest('b')}", check=False)
    assert done.returncode != 0 and "exceeded its progress deadline" in done.stdout
    assert cluster.image == digest("b")

    cluster.becomes_ready = True
    (way_back,) = re.findall("test ! -s .*", pipeline(service, "github"))
    run("sh", "-c", way_back, cwd=service.path, STAGE="prod")
    assert cluster.image == digest("a")


@pytest.mark.parametrize("verb", ["get", "patch"])
@pytest.mark.parametrize("ci", CHOICES["ci"])
def test_what_was_never_applied_is_not_rolled_back(
    bake: Bake, cluster: Cluster, verb: str, ci: str
) -> None:
    service = bake(ci=ci)
    for letter in "ab":
        service.make("deploy", f"IMAGE={digest(letter)}")
    cluster.forbidden = {(verb, "deployments")}

    done = service.make("deploy", f"IMAGE={digest('c')}", check=False)
    assert done.returncode != 0
    cluster.forbidden = set()
    (way_back,) = re.findall("test ! -s .*", pipeline(service, ci))
    run("sh", "-c", way_back, cwd=service.path, STAGE="dev")

    assert cluster.image == digest("b")


def test_rolling_back_by_hand_goes_one_deployment_back(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    for letter in "ab":
        service.make("deploy", f"IMAGE={digest(letter)}")

    service.make("rollback")

    assert cluster.image == digest("a")


def test_the_role_of_the_pipeline_is_enough_and_no_more(
    bake: Bake, cluster: Cluster
) -> None:
    service = bake()
    watch(service, "dev")
    for letter in "ab":
        service.make("deploy", f"IMAGE={digest(letter)}")
    service.make("rollback")
    rules = yaml.safe_load(service.read("deploy/pipeline-role.yaml"))["rules"]
    allowed = {
        (verb, group, resource)
        for rule in rules
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }

    assert cluster.asked <= allowed
    assert not {resource for *_, resource in allowed} - {
        *(resource for *_, resource in cluster.asked),
        "pods",  # for make smoke
        "pods/portforward",
    }
    assert not {verb for verb, *_ in allowed} & {"*", "delete", "escalate", "bind"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["deploy", "ENV=prd"], "ENV=prd is no stage: dev prod stage."),
        (["smoke", "ENV=x"], "ENV=x is no stage"),
        (["deploy"], "Which image? Run make publish first, or give IMAGE="),
        (["deploy", f"IMAGE={IMAGE}:latest"], "@sha256:"),
        (["deploy", f"IMAGE={IMAGE}@sha256:…"], "its 64 digits"),
    ],
)
def test_a_mistake_is_said_before_anything_happens(
    bake: Bake, cluster: Cluster, words: list[str], says: str
) -> None:
    done = bake().make(*words, check=False)

    assert done.returncode != 0
    assert says in done.stdout
    assert not cluster.objects


@pytest.mark.slow
def test_a_model_that_no_commit_names_gets_into_no_image(
    trained: Service, tmp_path: Path
) -> None:
    service = copy(trained, tmp_path)
    with (service.path / "models" / "model.onnx").open("ab") as model:
        model.write(b"tried out")

    done = service.make("image", "ENGINE=false", check=False)
    assert "not the model that dvc.lock names" in done.stdout

    service.run("dvc", "checkout", "--force", "--quiet")
    done = service.make("image", "ENGINE=echo")
    assert "build" in done.stdout


@pytest.mark.slow
def test_the_smoke_test_asks_what_was_deployed(trained: Service) -> None:
    with serving(trained) as url:
        address = url.removeprefix("http://")
        # What kubectl prints once its tunnel stands.
        tunnel = f"echo 'Forwarding from {address} -> 8000'; exec sleep 60"
        smoke = ("python", "-m", "demo.smoke", "sh", "-c")
        good = trained.run(*smoke, tunnel)
        bad = trained.run(*smoke, "echo error: pods not found >&2", check=False)

    assert "HassStartTimer" in good.stdout
    assert bad.returncode == 1
    assert "Cannot reach the service: error: pods not found" in bad.stdout
    assert "Traceback" not in bad.stdout


def run_action(
    service: Service, name: str, tokens: str, temp: Path, **variables: str
) -> str:
    """Run the step of a composite action as GitHub's runner does."""
    text = service.read(f".github/actions/{name}/action.yml")
    (step,) = yaml.safe_load(text)["runs"]["steps"]
    given = {
        key: value.replace("${{ runner.temp }}", str(temp))
        for key, value in step["env"].items()
    } | variables
    assert not [value for value in given.values() if "${{" in value]
    return run(
        *("bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]),
        cwd=service.path,
        ACTIONS_ID_TOKEN_REQUEST_TOKEN="request-token",
        ACTIONS_ID_TOKEN_REQUEST_URL=tokens,
        RUNNER_TEMP=str(temp),
        **given,
    ).stdout


def test_a_job_logs_in_to_the_cluster_with_its_token(
    bake: Bake, tokens: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENVIRONMENT, "KUBECONFIG", str(tmp_path / "kubeconfig"))
    service = bake()

    output = run_action(
        service,
        "cluster",
        tokens,
        tmp_path,
        SERVER="https://kubernetes.example.com",
        CERTIFICATE="-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----",
    )

    config = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    assert config["users"][0]["user"] == {"token": "for-kubernetes"}
    assert config["clusters"][0]["cluster"]["server"].endswith("example.com")
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    assert base64.b64decode(authority).startswith(b"-----BEGIN CERTIFICATE-----\nabc")
    assert "::add-mask::for-kubernetes" in output
