"""The manifests, the Dockerfile and the pipelines pass their schemas and linters.

tests/test_releases.py runs the verbs of deployment against an API server.
"""

import base64
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

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


def rendered(service: Service, stage: str) -> str:
    """The manifests that `make deploy` would apply, if there were a cluster."""
    image = f"IMAGE={digest('a')}"
    nowhere = {"KUBECONFIG": os.devnull}
    service.make("deploy", f"ENV={stage}", image, check=False, **nowhere)
    return run("kubectl", "kustomize", "outputs/deploy", cwd=service.path).stdout


def watch(service: Service, stage: str) -> None:
    """Have the Prometheus operator watch a stage, as docs/deployment.md says."""
    text = service.read("docs/deployment.md")
    (line,) = re.findall("^ {6}(- .*monitoring/kubernetes)$", text, re.MULTILINE)
    overlay = f"deploy/overlays/{stage}/kustomization.yaml"
    edit(service, overlay, "components:\n", f"components:\n  {line}\n")


def show(service: Service, stage: str) -> None:
    """Deploy the page of the demo to a stage, as docs/deployment.md says."""
    line = "- ../../components/demo"
    assert f"{line}\n" in service.read("docs/deployment.md")
    overlay = f"deploy/overlays/{stage}/kustomization.yaml"
    edit(service, overlay, "components:\n", f"components:\n  {line}\n")


# The last two names would mean something else in YAML, if they stood without quotes.
@pytest.mark.parametrize(
    ("stage", "slug"), [("dev", "intent-service"), ("stage", "null"), ("prod", "true")]
)
def test_every_manifest_is_valid(bake: Bake, stage: str, slug: str) -> None:
    service = bake(service_slug=slug)
    watch(service, stage)
    show(service, stage)
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
def test_an_invalid_manifest_is_seen(bake: Bake, old: str, new: str) -> None:
    service = bake()
    edit(service, "deploy/base/deployment.yaml", old, new)

    with pytest.raises(kubernetes_validate.ValidationError):
        for manifest in yaml.safe_load_all(rendered(service, "prod")):
            if manifest["kind"] not in OWN_SCHEMAS:
                kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.slow
def test_names_and_labels_follow_the_recommendation(bake: Bake) -> None:
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


JOB = """
apiVersion: batch/v1
kind: Job
metadata:
  name: migrate
  labels: &own
    app.kubernetes.io/name: intent-service
    app.kubernetes.io/component: migration
    app.kubernetes.io/part-of: platform
    app.kubernetes.io/managed-by: somebody
    app.kubernetes.io/version: "7"
spec:
  template:
    metadata:
      labels: *own
    spec:
      restartPolicy: Never
      containers: [{name: migrate, image: busybox}]
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", ["deploy/base", "deploy/overlays/prod"], ids=["base", "overlay"]
)
def test_other_workloads_keep_their_labels(bake: Bake, place: str) -> None:
    service = bake()
    (service.path / place / "job.yaml").write_text(JOB)
    kustomization = f"{place}/kustomization.yaml"
    edit(service, kustomization, "resources:\n", "resources:\n  - job.yaml\n")

    manifests = list(yaml.safe_load_all(rendered(service, "prod")))

    (job,) = (one for one in manifests if one["kind"] == "Job")
    own = yaml.safe_load(JOB)["metadata"]["labels"]
    assert job["metadata"]["labels"] == own
    assert job["spec"]["template"]["metadata"]["labels"] == own


def references(manifests: list[Any]) -> set[tuple[str, str]]:
    """The objects of the service that others name: kind and name."""
    found = set()
    for one in manifests:
        spec = one.get("spec", {})
        if one["kind"] == "HorizontalPodAutoscaler":
            found.add((spec["scaleTargetRef"]["kind"], spec["scaleTargetRef"]["name"]))
        if one["kind"] == "HTTPRoute":
            found |= {
                ("Service", backend["name"])
                for rule in spec["rules"]
                for backend in rule["backendRefs"]
            }
        if one["kind"] == "Deployment":
            pod = spec["template"]["spec"]
            found.add(("ServiceAccount", pod["serviceAccountName"]))
            found |= {
                ("ConfigMap", source["configMapRef"]["name"])
                for source in pod["containers"][0]["envFrom"]
            }
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["namePrefix: blue-", "nameSuffix: -blue", "namespace: elsewhere"]
)
def test_what_an_overlay_renames_is_renamed_everywhere(bake: Bake, line: str) -> None:
    service = bake()
    watch(service, "prod")
    path = service.path / "deploy/overlays/prod/kustomization.yaml"
    kept = [x for x in path.read_text().splitlines() if x[:9] != line[:9]]
    if line[:9] == "namespace":
        kept = [x for x in kept if not x.startswith("namespace:")]
    path.write_text("\n".join([*kept, line, ""]))

    manifests = list(yaml.safe_load_all(rendered(service, "prod")))

    there = {(one["kind"], one["metadata"]["name"]) for one in manifests}
    assert len(references(manifests)) == 4
    assert references(manifests) <= there
    spaces = {one["metadata"].get("namespace") for one in manifests}
    (name,) = (name for kind, name in there if kind == "Namespace")
    assert spaces == {name, None}
    assert line.split()[1].strip("-") in json.dumps(manifests)


def labelled(value: Any) -> Iterator[dict[str, str]]:
    """The labels and selectors that name a component, wherever they stand."""
    if isinstance(value, dict) and "app.kubernetes.io/component" in value:
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from labelled(part)


@pytest.mark.slow
def test_a_label_of_a_variant_reaches_every_selector(bake: Bake) -> None:
    service = bake()
    watch(service, "prod")
    show(service, "prod")
    text = service.read("docs/deployment.md").partition("**Variants in one")[2]
    lines = textwrap.dedent(text[text.index("    labels:\n") : text.index("\nA Depl")])
    overlay = "deploy/overlays/prod/kustomization.yaml"
    edit(service, overlay, "components:\n", f"{lines}components:\n")

    found = list(labelled(list(yaml.safe_load_all(rendered(service, "prod")))))

    assert len(found) > 25
    for labels in found:
        assert labels["app.kubernetes.io/instance"] == "blue"


@pytest.mark.slow
def test_feedback_keeps_the_variables_of_the_server(bake: Bake) -> None:
    service = bake(feedback="yes")
    mine = "          env: [{name: MINE, value: '1'}]\n          envFrom:\n"
    edit(service, "deploy/base/deployment.yaml", "          envFrom:\n", mine)

    manifests = list(yaml.safe_load_all(rendered(service, "prod")))

    (server,) = (one for one in manifests if one["kind"] == "Deployment")
    (app,) = server["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one["value"] for one in app["env"]}
    assert given == {"MINE": "1", "DATABASE_KIND": "postgresql"}
    assert server["metadata"]["name"] == "intent-service"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["route", "autoscaler"])
def test_a_component_can_be_left_out(bake: Bake, part: str) -> None:
    service = bake()
    overlay = "deploy/overlays/dev/kustomization.yaml"
    edit(service, overlay, f"  - ../../components/{part}\n", "")

    kinds = {one["kind"] for one in yaml.safe_load_all(rendered(service, "dev"))}

    optional = {"route": "HTTPRoute", "autoscaler": "HorizontalPodAutoscaler"}
    assert optional.pop(part) not in kinds
    assert set(optional.values()) <= kinds


@pytest.mark.slow
@pytest.mark.parametrize("part", ["dns", "database", "bucket"])
def test_a_component_lets_pods_with_its_label_out(bake: Bake, part: str) -> None:
    service = bake()
    overlay = "deploy/overlays/prod/kustomization.yaml"
    more = f"components:\n  - ../../components/{part}\n"
    edit(service, overlay, "components:\n", more)

    policies = [
        one
        for one in yaml.safe_load_all(rendered(service, "prod"))
        if one["kind"] == "NetworkPolicy"
    ]

    (policy,) = (one for one in policies if one["spec"].get("egress"))
    kubernetes_validate.validate(policy, KUBERNETES, strict=True)
    label = f'egress-{part}: "true"'
    assert policy["spec"]["podSelector"]["matchLabels"] == yaml.safe_load(label)
    assert policy["spec"]["policyTypes"] == ["Egress"]
    assert f"`{label}`" in service.read("docs/deployment.md")


@pytest.mark.slow
def test_the_operator_finds_monitors_and_rules_by_one_label(bake: Bake) -> None:
    service = bake()
    watch(service, "prod")
    edit(
        service,
        "monitoring/kubernetes/kustomization.yaml",
        "value: kube-prometheus-stack",
        "value: mine",
    )

    labelled = {
        one["kind"]
        for one in yaml.safe_load_all(rendered(service, "prod"))
        if one["metadata"]["labels"].get("release") == "mine"
    }

    assert labelled == {"PodMonitor", "PrometheusRule"}


def test_no_document_advises_what_the_next_deployment_undoes(bake: Bake) -> None:
    service = bake()
    documents = [path for path in service.files() if path.endswith(".md")]

    assert len(documents) > 5
    for path in documents:
        undone = (
            r"kubectl [^`\n]*\b(edit|patch|scale|set|autoscale|undo)\b(?! env|-context)"
        )
        told = [
            match[0]
            for match in re.finditer(undone, service.read(path))
            if "rollout undo" not in match[0]
        ]
        assert not told, f"{path}: {told}"


@pytest.mark.slow
def test_checkov_finds_nothing(bake: Bake, tmp_path: Path) -> None:
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
