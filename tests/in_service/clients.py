"""Real clients see the answer to a body that is too large: a 413, not a broken pipe."""

import asyncio
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import aiohttp
import httpx2
import pytest
import requests

from tests.conftest import Process
from tests.serving.conftest import PATH

SIZES = [1_048_577, 30_000_000]
JSON = {"Content-Type": "application/json"}
Client = Callable[[str, Path], int]

FETCH = """
const fs = require("fs");
fetch(process.argv[1], {
  method: "POST",
  headers: {"Content-Type": "application/json"},
  body: fs.readFileSync(process.argv[2]),
}).then(async answer => {
  const problem = JSON.parse(await answer.text());
  console.log(problem.status);
});
"""


def run(*command: str) -> str:
    """Run a client and return what it printed."""
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def curl(*options: str) -> Client:
    """Return curl with these options."""

    def ask(url: str, file: Path) -> int:
        common = (
            "--silent",
            "--show-error",
            "--header",
            "Content-Type: application/json",
        )
        body = ("--data-binary", f"@{file}")
        return int(json.loads(run("curl", *common, *options, *body, url))["status"])

    return ask


def ask_fetch(url: str, file: Path) -> int:
    """Ask with node's fetch."""
    return int(run("node", "--eval", FETCH, url, str(file)))


def ask_requests(url: str, file: Path) -> int:
    """Ask with requests."""
    answer = requests.post(url, file.read_bytes(), headers=JSON, timeout=60)
    return int(answer.json()["status"])


def ask_httpx(url: str, file: Path) -> int:
    """Ask with httpx."""
    answer = httpx2.post(url, content=file.read_bytes(), headers=JSON, timeout=60)
    return int(answer.json()["status"])


def ask_aiohttp(url: str, file: Path) -> int:
    """Ask with aiohttp."""

    async def ask() -> int:
        content = io.BytesIO(file.read_bytes())
        async with aiohttp.ClientSession() as session:
            async with session.post(url, data=content, headers=JSON) as answer:
                problem = json.loads(await answer.read())
                return int(problem["status"])

    return asyncio.run(ask())


def ask_in_chunks(url: str, file: Path) -> int:
    """Ask with httpx, without a Content-Length."""

    def parts() -> Iterator[bytes]:
        with file.open("rb") as opened:
            while part := opened.read(65_536):
                yield part

    answer = httpx2.post(url, content=parts(), headers=JSON, timeout=60)
    return int(answer.json()["status"])


CLIENTS: dict[str, Client] = {
    "curl": curl("--http1.1", "--header", "Expect:"),
    "curl that asks first": curl("--http1.1", "--header", "Expect: 100-continue"),
    "curl that asks for HTTP/2": curl("--http2"),
    "curl in chunks": curl("--http1.1", "--header", "Transfer-Encoding: chunked"),
    "node": ask_fetch,
    "requests": ask_requests,
    "httpx": ask_httpx,
    "httpx in chunks": ask_in_chunks,
    "aiohttp": ask_aiohttp,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_sees_a_413(
    server: Process, tmp_path: Path, name: str, size: int
) -> None:
    file = tmp_path / "body"
    file.write_bytes(b" " * size)
    for _ in range(3):
        assert CLIENTS[name](f"{server.url}{PATH}", file) == 413
