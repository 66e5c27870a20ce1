"""The image: built by the Dockerfile, run as Kubernetes runs it, ended by SIGTERM."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.conftest import ENVIRONMENT, Service, copy, run
from tests.questions import CHOICES
from tests.test_remotes import free_port
from tests.test_service import ask, edit

# One worker builds the image, and has it.
pytestmark = [pytest.mark.slow(seconds=100), pytest.mark.xdist_group("image")]

REPOSITORY = "ghcr.io/your-org/intent-service"
BASE = "docker.io/library/python:{}-slim"
# What the build needs on this machine: certificates of a proxy, --network, --pull …
FLAGS: dict[str, Any] = {"IMAGE_FLAGS": os.environ.get("IMAGE_FLAGS", "")}
# As a pod runs that Pod Security `restricted` lets in.
HARDENED = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--memory", "512m", "--cpus", "1"),
)


def find_engine() -> str | None:
    """Docker where it runs, else Podman."""
    for engine in ("docker", "podman"):
        if shutil.which(engine):
            done = run(engine, "info", cwd=Path.cwd(), check=False)
            if done.returncode == 0:
                return engine
    return None


@pytest.fixture(scope="session")
def engine() -> str:
    """The container tool. Skips the tests where there is none."""
    found = find_engine()
    if found is None:
        pytest.skip("neither Docker nor Podman runs on this machine")
    return found


def find_base(engine: str) -> str:
    """The first Python whose image is here, else the default's, if it can be had."""
    versions = CHOICES["python_version"]
    for version in versions:
        name = BASE.format(version)
        inspected = run(engine, "image", "inspect", name, cwd=Path.cwd(), check=False)
        if inspected.returncode == 0:
            return version
    name = BASE.format(versions[0])
    pulled = run(engine, "pull", "--quiet", name, cwd=Path.cwd(), check=False)
    if pulled.returncode != 0:
        reason = " ".join(pulled.stdout.split())[-200:]
        pytest.skip(f"{name} is not on this machine and cannot be had: {reason}")
    return versions[0]


def tag(service: Service) -> str:
    """What `make image` calls the image of this commit."""
    revision = run("git", "rev-parse", "HEAD", cwd=service.path).stdout.strip()
    return f"{REPOSITORY}:{revision}"


@pytest.fixture(scope="session")
def built(
    trained: Service, engine: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A trained service whose image was built, of the first Python that is here."""
    version = find_base(engine)
    service = copy(trained, tmp_path_factory.mktemp("image"))
    default = CHOICES["python_version"][0]
    if version != default:
        edit(service, "Dockerfile", f"={default}\n", f"={version}\n")
    (service.path / ".env").write_text("PASSWORD=secret\n")
    run("git", "commit", "--all", "--allow-empty", "-qm", "Build", cwd=service.path)
    start = time.monotonic()
    service.make("image", **FLAGS)
    print(f"make image took {time.monotonic() - start:.0f} s")
    yield service
    run(engine, "image", "rm", "--force", tag(service), cwd=service.path, check=False)


@pytest.fixture
def image(built: Service) -> str:
    """The name of the image."""
    return tag(built)


class Container:
    """A container that runs until the test is over."""

    def __init__(self, engine: str, image: str, *options: str) -> None:
        self._engine = engine
        command = ("run", "--detach", "--publish", "127.0.0.1::8000", *options, image)
        output = run(engine, *command, cwd=Path.cwd()).stdout
        self.id = output.strip().splitlines()[-1]
        self.started = time.monotonic()
        port = self("port", self.id, "8000").strip().splitlines()[-1]
        self.url = f"http://{port}"

    def __call__(self, *command: str, check: bool = True) -> str:
        """Run a command of the container tool; returns what it prints."""
        return run(self._engine, *command, cwd=Path.cwd(), check=check).stdout

    def wait_for(self, status: int) -> float:
        """Wait until /readyz answers so; returns the seconds since its start."""
        while time.monotonic() < self.started + 60:
            try:
                with urlopen(f"{self.url}/readyz", timeout=5) as response:
                    found = response.status
            except HTTPError as error:
                found = error.code
            except OSError:
                found = 0
            if found == status:
                return time.monotonic() - self.started
            time.sleep(0.02)
        pytest.fail(f"/readyz never answers {status}:\n{self('logs', self.id)}")


Start = Callable[..., Container]


@pytest.fixture
def start(engine: str, image: str) -> Iterator[Start]:
    """`start("--env", "PORT=9000")`: a container with these options."""
    containers: list[Container] = []

    def run_container(*options: str) -> Container:
        containers.append(Container(engine, image, *HARDENED, *options))
        return containers[-1]

    yield run_container
    for container in containers:
        container("rm", "--force", container.id)


def inside(engine: str, image: str, code: str) -> Any:
    """What a few lines of Python print inside, as JSON."""
    python = ("--entrypoint", "/srv/.venv/bin/python", image, "-c", code)
    output = run(engine, "run", "--rm", *HARDENED, *python, cwd=Path.cwd()).stdout
    return json.loads(output.strip().splitlines()[-1])


def inspect(engine: str, image: str) -> dict[str, Any]:
    """What the container tool knows of an image."""
    output = run(engine, "image", "inspect", image, cwd=Path.cwd()).stdout
    facts: dict[str, Any] = json.loads(output)[0]
    return facts


def test_the_image_is_small_and_says_where_it_comes_from(
    built: Service, engine: str, image: str
) -> None:
    facts = inspect(engine, image)
    (version,) = re.findall("^ARG .*=(.*)$", built.read("Dockerfile"), re.M)[:1]
    added = facts["Size"] - inspect(engine, BASE.format(version))["Size"]
    labels = facts["Config"]["Labels"]

    assert added <= 220e6
    print(f"the image adds {added / 1e6:.0f} MB to its base")
    assert labels["org.opencontainers.image.version"] == "0.1.0"
    assert labels["org.opencontainers.image.revision"] == image.partition(":")[2]
    assert "org.opencontainers.image.source" in labels
    assert facts["Config"]["User"] == "10001:10001"
    assert facts["Config"]["Cmd"] == ["/srv/.venv/bin/python", "-m", "app"]


def test_the_image_holds_code_and_model_and_nothing_else(
    engine: str, image: str
) -> None:
    files = inside(
        engine,
        image,
        "import json, pathlib; root = pathlib.Path('/srv'); print(json.dumps(["
        "str(path.relative_to(root)) for path in root.rglob('*') if path.is_file()]))",
    )
    own = {name for name in files if not name.startswith(".venv")}
    source = {name for name in own if "__pycache__" not in name}

    assert {name.split("/")[0] for name in source} == {
        "app",
        "serving",
        "models",
        "pyproject.toml",
        "uv.lock",
    }
    assert {name for name in source if name.startswith("models")} == {
        "models/model.json",
        "models/model.onnx",
    }
    assert len([name for name in own if name.endswith(".pyc")]) >= 10  # compiled
    installed = {name.split("/")[4] for name in files if "site-packages/" in name}
    assert {"fastapi", "onnxruntime"} <= installed
    assert not installed & {"dvc", "sklearn", "hydra", "pytest", "pandas", "black"}


def test_the_sbom_lists_what_is_installed(
    built: Service, engine: str, image: str
) -> None:
    built.make("sbom")
    listed = json.loads(built.read("outputs/sbom.json"))["components"]
    installed = inside(
        engine,
        image,
        "import json; from importlib.metadata import distributions; "
        "print(json.dumps([[d.name, d.version] for d in distributions()]))",
    )

    def names(pairs: Any) -> set[str]:
        return {
            f"{re.sub('[-_.]+', '-', name).lower()} {version}"
            for name, version in pairs
        }

    # The lock holds what other systems would need, too.
    assert names(installed) <= names((x["name"], x["version"]) for x in listed)


def test_a_restricted_container_serves_and_ends(start: Start) -> None:
    container = start()

    took = container.wait_for(200)
    print(f"the container is ready {took:.1f} s after its start")
    body = {"instances": [{"text": "set a timer for 20 minutes"}]}
    answer = ask(container.url, "/v1/predict", body)
    assert answer["predictions"][0]["label"] == "HassStartTimer"
    status = container("exec", container.id, "cat", "/proc/1/status")
    (memory,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    print(f"it holds {int(memory) / 1000:.0f} MB of memory")
    assert re.search(r"^Uid:\s+10001\s", status, re.MULTILINE)

    container("stop", "--time", "30", container.id)
    code = container("inspect", "--format", "{{.State.ExitCode}}", container.id)
    assert code.strip() == "0"
    logs = container("logs", container.id)
    assert "telemetry" not in logs.lower() and "Traceback" not in logs


def test_the_health_check_follows_readiness(
    start: Start, built: Service, engine: str, tmp_path: Path
) -> None:
    if engine == "docker":
        pytest.skip("Docker runs health checks by itself only")
    good = start()
    shutil.copytree(built.path / "models", tmp_path / "models")
    (tmp_path / "models" / "model.json").write_text("{}")
    bad = start("--volume", f"{tmp_path / 'models'}:/srv/models:ro")
    good.wait_for(200)
    bad.wait_for(503)

    check = (engine, "healthcheck", "run")
    assert run(*check, good.id, cwd=tmp_path, check=False).returncode == 0
    assert run(*check, bad.id, cwd=tmp_path, check=False).returncode != 0
    assert "model.json is not what training writes" in bad("logs", bad.id)


def test_a_secret_file_is_a_setting(start: Start, tmp_path: Path) -> None:
    # As Kubernetes mounts a Secret: each key is a link to a link.
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "max_concurrency").write_text("zero\n")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "max_concurrency").symlink_to("..data/max_concurrency")
    tmp_path.chmod(0o755)

    container = start("--volume", f"{tmp_path}:/run/secrets:ro")

    container("wait", container.id)
    code = container("inspect", "--format", "{{.State.ExitCode}}", container.id)
    assert code.strip() == "78"
    assert "MAX_CONCURRENCY='zero'" in container("logs", container.id)


def test_onnx_runtime_takes_the_cpus_of_the_container(engine: str, image: str) -> None:
    code = "from serving.container import usable_cpus; print(usable_cpus())"

    assert inside(engine, image, code) == 1


def test_compose_runs_the_image(built: Service, engine: str, tmp_path: Path) -> None:
    service = copy(built, tmp_path)
    compose: tuple[str, ...] = ("docker", "compose")
    build: tuple[str, ...] = ("build",)
    if engine == "podman":
        tool = ("tool", "run", "--quiet", "--from", "podman-compose>=1.5,<2")
        compose = (str(Path(sys.executable).with_name("uv")), *tool, "podman-compose")
        build = (f"--podman-build-args={FLAGS['IMAGE_FLAGS']}", "build")
    port = str(free_port())

    run(*compose, *build, cwd=service.path)
    try:
        run(*compose, "up", "--detach", cwd=service.path, PORT=port)
        assert ask(f"http://127.0.0.1:{port}", "/readyz") == {"status": "ready"}
    finally:
        run(*compose, "down", cwd=service.path, PORT=port)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """A registry of images on loopback."""
    if shutil.which("docker-registry") is None:
        pytest.skip("docker-registry is not installed (a package of Debian)")
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}\n"
        f"http: {{addr: {address}}}\n"
    )
    process = subprocess.Popen(
        ["docker-registry", "serve", str(tmp_path / "registry.yml")],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield address
    process.terminate()
    process.wait()


def test_what_is_published_is_named_by_the_digest_it_has_in_the_registry(
    built: Service, engine: str, registry: str, tmp_path: Path
) -> None:
    service = copy(built, tmp_path)
    edit(service, "deploy/base/deployment.yaml", "ghcr.io/your-org", registry)
    (tmp_path / "registries.conf").write_text(
        f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n'
    )
    insecure: dict[str, Any] = {
        "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf")
    }
    done = service.make("publish", check=False)
    assert done.returncode != 0 and "run make image" in done.stdout
    service.make("image", **FLAGS)

    service.make("publish", **insecure)

    published = service.read("outputs/image").strip()
    assert re.fullmatch(rf"{registry}/intent-service@sha256:[0-9a-f]{{64}}", published)
    run(engine, "pull", published, cwd=tmp_path, **insecure)
    run(engine, "image", "rm", "--force", published, cwd=tmp_path, check=False)
