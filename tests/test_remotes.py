"""What one person pushes, another pulls: over a real server for each kind of remote."""

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ENVIRONMENT, ROOT, Service, bake_into, locked, run
from tests.questions import CHOICES
from tests.test_deployment import run_action

pytestmark = pytest.mark.slow

BUILD = ROOT / "build"
TOOLS = BUILD / "remotes"  # DVC with what each remote needs, and the servers
AZURITE = BUILD / "azurite"
BIN = TOOLS / "bin"
HOST = "127.0.0.1"
SECRET = base64.b64encode(b"known to this test only").decode()

SSH_SERVER = """
import asyncio, sys, asyncssh

async def serve(host, port, key):
    await asyncssh.listen(
        host, int(port), server_host_keys=[key], authorized_client_keys=key + ".pub",
        sftp_factory=True,
    )
    await asyncio.Event().wait()

asyncio.run(serve(*sys.argv[1:]))
"""


@dataclass(frozen=True)
class Remote:
    """A server that runs, and how DVC reaches it."""

    url: str
    local: dict[str, str] = field(default_factory=dict)  # for .dvc/config.local
    variables: dict[str, Any] = field(default_factory=dict)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


@contextmanager
def serving(port: int, *command: str, **variables: str) -> Iterator[None]:
    """Run a server until its port answers, and end it after use."""
    log = BUILD / f"{Path(command[0]).name}.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            cwd=BUILD,
            env=ENVIRONMENT | variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        until = time.monotonic() + 60
        while socket.socket().connect_ex((HOST, port)) != 0:
            if server.poll() is not None or time.monotonic() > until:
                pytest.fail(f"{command[0]} does not listen:\n{log.read_text()[-4000:]}")
            time.sleep(0.1)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def python(code: str, **variables: Any) -> None:
    """Run a few lines with the tools' Python."""
    run(str(BIN / "python"), "-c", code, cwd=BUILD, **variables)


@contextmanager
def local(directory: Path) -> Iterator[Remote]:
    """A directory beside the service."""
    yield Remote(f"../../{directory.name}-storage")


@contextmanager
def s3(_: Path) -> Iterator[Remote]:
    """S3, as moto speaks it."""
    port = free_port()
    address = f"http://{HOST}:{port}"
    keys = {"access_key_id": "somebody", "secret_access_key": SECRET}
    with serving(port, str(BIN / "moto_server"), "-H", HOST, "-p", str(port)):
        python(
            f"import boto3; boto3.client('s3', endpoint_url='{address}', "
            f"region_name='us-east-1', aws_access_key_id='somebody', "
            f"aws_secret_access_key='{SECRET}').create_bucket(Bucket='my-bucket')"
        )
        yield Remote("s3://my-bucket/intents", {"endpointurl": address} | keys)


@contextmanager
def gs(_: Path) -> Iterator[Remote]:
    """Google Cloud Storage, from an emulator in memory."""
    port = free_port()
    command = (
        f"start --host={HOST} --port={port} --in-memory --default-bucket=my-bucket"
    )
    settings = {
        "endpointurl": f"http://{HOST}:{port}",
        "allow_anonymous_login": "true",
    }
    with serving(port, str(BIN / "gcp-storage-emulator"), *command.split()):
        # The emulator does not know the newest kind of bucket, and is asked for it.
        hns = {"GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        yield Remote("gs://my-bucket/intents", settings, hns)


@contextmanager
def azure(_: Path) -> Iterator[Remote]:
    """Azure Blob Storage, as Azurite speaks it."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: Azurite comes from the npm registry")
    if not AZURITE.exists():
        AZURITE.mkdir(parents=True)
        run(*"npm install --no-audit --no-fund azurite@3".split(), cwd=AZURITE)
    port = free_port()
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName=somebody;AccountKey={SECRET};"
        f"BlobEndpoint=http://{HOST}:{port}/somebody;"
    )
    variables: dict[str, Any] = {"AZURE_STORAGE_CONNECTION_STRING": connection}
    command = (
        str(AZURITE / "node_modules" / ".bin" / "azurite-blob"),
        *("--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"),
        *("--silent", "--blobPort", str(port)),
    )
    with serving(port, *command, AZURITE_ACCOUNTS=f"somebody:{SECRET}"):
        python(
            "import os; from azure.storage.blob import BlobServiceClient; "
            "address = os.environ['AZURE_STORAGE_CONNECTION_STRING']; "
            "client = BlobServiceClient.from_connection_string(address); "
            "client.create_container('my-box')",
            **variables,
        )
        yield Remote("azure://my-box/intents", variables=variables)


@contextmanager
def ssh(directory: Path) -> Iterator[Remote]:
    """A server with SFTP that takes one key."""
    port, key = free_port(), directory / "key"
    python(
        "import asyncssh; key = asyncssh.generate_private_key('ssh-ed25519'); "
        f"key.write_private_key('{key}'); key.write_public_key('{key}.pub')"
    )
    key.chmod(0o600)
    storage = directory / "storage"
    command = (str(BIN / "python"), "-c", SSH_SERVER, HOST, str(port), str(key))
    with serving(port, *command):
        yield Remote(f"ssh://somebody@{HOST}:{port}{storage}", {"keyfile": str(key)})


REMOTES = {"local": local, "s3": s3, "gs": gs, "azure": azure, "ssh": ssh}


def requirement(service: Service) -> str:
    """What the service asks of DVC."""
    groups = tomllib.loads(service.read("pyproject.toml"))["dependency-groups"]
    (dvc,) = (name for name in groups["training"] if name.startswith("dvc"))
    return str(dvc)


@pytest.fixture(scope="session")
def dvc(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A DVC that has just the extras which the services ask for, and the servers."""
    wanted = set()
    for kind in CHOICES["dvc_remote"]:
        directory = tmp_path_factory.mktemp(kind)
        bake_into(directory, answers={"dvc_remote": kind})
        wanted.add(requirement(Service(directory / "intent-service")))
    uv = str(Path(sys.executable).with_name("uv"))
    servers = ("moto[server]>=5.2,<6", "gcp-storage-emulator>=2026.7", "asyncssh>=2,<3")
    install = (uv, "pip", "install", "--quiet", "--python", str(BIN / "python"))
    with locked(TOOLS.with_name("tools.lock")):
        if not BIN.exists():
            run(uv, "venv", "--quiet", "--python", sys.executable, str(TOOLS), cwd=ROOT)
        run(*install, *sorted(wanted), *servers, cwd=ROOT)
    return str(BIN / "dvc")


def test_each_kind_of_remote_has_a_server() -> None:
    assert list(REMOTES) == CHOICES["dvc_remote"]


@pytest.mark.parametrize("kind", REMOTES)
def test_what_is_pushed_can_be_pulled_into_a_fresh_clone(
    kind: str, tmp_path: Path, dvc: str
) -> None:
    with REMOTES[kind](tmp_path) as remote:
        answers = {"dvc_remote": kind, "dvc_remote_url": remote.url}
        bake_into(tmp_path, answers=answers)
        service = Service(tmp_path / "intent-service")
        mine = service.path / "data" / "source" / "mine.csv"
        # The emulator of Google's loses a carriage return at the end of a file.
        mine.write_bytes(os.urandom(200_000) + b".")
        for name, value in remote.local.items():
            modify = (dvc, "remote", "modify", "--local", "storage", name, value)
            run(*modify, cwd=service.path)
        run(dvc, "add", "--quiet", str(mine), cwd=service.path)
        run("git", "add", "--all", cwd=service.path)
        run("git", "commit", "--quiet", "--message", "Add data", cwd=service.path)

        named = "data/source/mine.csv.dvc"  # the pipeline has not run yet
        run(dvc, "push", named, cwd=service.path, **remote.variables)
        clone = tmp_path / "clone"
        run("git", "clone", "--quiet", str(service.path), str(clone), cwd=tmp_path)
        for config in service.path.glob(".dvc/config.local"):
            shutil.copy(config, clone / ".dvc")
        run(dvc, "pull", named, cwd=clone, **remote.variables)

    assert (clone / "data" / "source" / "mine.csv").read_bytes() == mine.read_bytes()
    assert SECRET not in run("git", "log", "--patch", cwd=service.path).stdout


def test_a_job_of_the_pipeline_pulls_the_model_with_its_token(
    trained: Service, tokens: str, tmp_path: Path, dvc: str
) -> None:
    with s3(tmp_path) as remote:
        answers = {"dvc_remote": "s3", "dvc_remote_url": remote.url}
        bake_into(tmp_path, answers=answers)
        service = Service(tmp_path / "intent-service")
        (service.path / ".venv").symlink_to(TOOLS, target_is_directory=True)
        (TOOLS / ".ready").touch()
        shutil.copy(trained.path / "dvc.lock", service.path)
        cache = service.path / ".dvc" / "cache"
        shutil.copytree(trained.path / ".dvc" / "cache", cache)
        address = remote.local["endpointurl"]
        modify = (dvc, "remote", "modify", "storage", "endpointurl", address)
        run(*modify, cwd=service.path)
        keys: dict[str, Any] = {
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }
        service.make("push", **keys)
        shutil.rmtree(cache)

        run_action(
            service,
            "pull-model",
            tokens,
            tmp_path,
            AWS_ENDPOINT_URL_STS=address,
            AWS_REGION="us-east-1",
            AWS_ROLE_ARN="arn:aws:iam::123456789012:role/pipeline",
        )

    assert (tmp_path / "token").read_text() == "for-sts.amazonaws.com\n"
    for name in ("model.onnx", "model.json"):
        pulled = (service.path / "models" / name).read_bytes()
        assert pulled == (trained.path / "models" / name).read_bytes()
    assert not (service.path / "data" / "raw.parquet").exists()
