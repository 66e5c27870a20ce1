"""`make upgrade` takes newer releases, and the pipeline proposes them.

A small project stands for the service: its one dependency comes from an index on
loopback that has two releases of it. uv, Git and make are the real ones.
"""

import hashlib
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import BODY, Service, copy, run
from tests.questions import answer

UPLOADED = {"1.0": "2026-11-01T00:00:00Z", "2.0": "2026-11-10T00:00:00Z"}
START = "2026-11-02T00:00:00Z"  # between the two

PROJECT = """[project]
name = "small"
version = "0"
requires-python = ">=3.11"
dependencies = ["inhouse>=1"]

[tool.uv]
package = false
exclude-newer = "{start}"

[[tool.uv.index]]
name = "inhouse"
url = "{index}"
default = true
"""
MAKEFILE = """setup:
\t@uv sync --quiet
test:
\t@.venv/bin/python -c 'import inhouse, os; print("tested", inhouse.VERSION); \
assert inhouse.VERSION <= os.environ.get("LAST", "9")'
"""


TAG = "py3-none-any"


def wheel(version: str) -> bytes:
    """A release of the dependency."""
    about = f"inhouse-{version}.dist-info"
    head = f"Name: inhouse\nVersion: {version}\n"
    files = {
        # Python takes a source of the same size and time for the one it has compiled.
        "inhouse.py": f'VERSION = "{version}"\n' + "#" * int(float(version)),
        f"{about}/METADATA": f"Metadata-Version: 2.1\n{head}",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {TAG}\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in files)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return made.getvalue()


WHEELS = {f"inhouse-{x}-{TAG}.whl": wheel(x) for x in UPLOADED}


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    """The address of an index; below /bare, one that tells no upload times."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            if name in WHEELS:
                return self.send("application/octet-stream", WHEELS[name])
            files: list[dict[str, Any]] = [
                {
                    "filename": name,
                    "url": f"/files/{name}",
                    "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
                    "upload-time": UPLOADED[name.split("-")[1]],
                }
                for name, content in WHEELS.items()
            ]
            if self.path.startswith("/bare/"):
                for file in files:
                    del file["upload-time"]
            page = {"meta": {"api-version": "1.1"}, "name": "inhouse", "files": files}
            kind = "application/vnd.pypi.simple.v1+json"
            return self.send(kind, json.dumps(page).encode())

        def send(self, kind: str, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass(frozen=True)
class Small(Service):
    """A project with one dependency, whose first release is locked and committed."""

    def upgrade(self, check: bool = True, **variables: str) -> str:
        """Run what `make upgrade` runs."""
        command = ("python", "-m", "maintenance.upgrade")
        return run(*command, cwd=self.path, check=check, **variables).stdout

    def commit(self) -> None:
        """Commit everything."""
        run("git", "add", "--all", cwd=self.path)
        run("git", "commit", "--quiet", "--message", "Work", cwd=self.path)

    def status(self) -> str:
        """What Git says of it."""
        return run("git", "status", "--porcelain", cwd=self.path).stdout


@pytest.fixture
def small(tmp_path: Path, index: str) -> Small:
    """The project."""
    shutil.copytree(BODY / "maintenance", tmp_path / "maintenance")
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(start=START, index=index))
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / ".gitignore").write_text(".venv\n/outputs/\n__pycache__/\n")
    run("git", "init", "--quiet", cwd=tmp_path)
    run("uv", "lock", "--quiet", cwd=tmp_path)
    made = Small(tmp_path)
    made.commit()
    assert '"1.0"' in made.read("uv.lock")
    return made


def test_newer_releases_are_locked_tested_and_named(small: Small) -> None:
    said = small.upgrade()

    today = datetime.now(UTC).date()
    assert "inhouse: 1.0 → 2.0" in said
    assert "tested 2.0" in said
    assert "The tests pass." in said
    assert f'\nexclude-newer = "{today}T00:00:00Z"\n' in small.read("pyproject.toml")
    assert '"2.0"' in small.read("uv.lock")
    assert "| inhouse | 1.0 | 2.0 |" in small.read("outputs/upgrade.md")
    assert small.status() == " M pyproject.toml\n M uv.lock\n"

    small.commit()
    said = small.upgrade(DATE="2030-01-31")
    assert "No package has a newer release up to 2030-01-31" in said
    assert "tested" not in said
    assert 'exclude-newer = "2030-01-31T00:00:00Z"' in small.read("pyproject.toml")
    assert not (small.path / "outputs" / "upgrade.md").exists()

    small.commit()  # it does not go back by itself
    assert "up to 2030-01-31" in small.upgrade()
    assert small.status() == ""


def test_where_the_tests_fail_the_way_back_is_said_and_works(small: Small) -> None:
    said = small.upgrade(check=False, LAST="1.0")

    assert "inhouse: 1.0 → 2.0" in said
    assert "the set-up or the tests fail" in said
    assert not (small.path / "outputs" / "upgrade.md").exists()
    (back,) = re.findall(r"To go back:\n\n  (.+)\n", said)
    assert run("make", "test", cwd=small.path, check=False, LAST="1.0").returncode
    run("sh", "-c", back, cwd=small.path)
    assert small.status() == ""
    assert "tested 1.0" in run("make", "test", cwd=small.path, LAST="1.0").stdout


def test_an_interruption_says_the_way_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    with pytest.raises(SystemExit, match="Stopped. To go back: git restore"):
        program = BODY / "maintenance" / "upgrade.py"
        runpy.run_path(str(program), run_name="__main__")


def test_what_is_not_committed_is_not_touched(small: Small) -> None:
    assert "is no date" in small.upgrade(check=False, DATE="tomorrow")
    another = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    said = small.upgrade(check=False, **another)
    assert "Commit" not in said and "--add safe.directory" in said
    mine = small.read("pyproject.toml") + "# mine\n"
    (small.path / "pyproject.toml").write_text(mine)

    assert "Commit pyproject.toml and uv.lock first" in small.upgrade(check=False)
    assert small.read("pyproject.toml") == mine

    run("git", "rm", "--quiet", "--cached", "uv.lock", cwd=small.path)
    run("git", "commit", "--quiet", "--all", "--message", "None", cwd=small.path)
    assert "Commit pyproject.toml and uv.lock first" in small.upgrade(check=False)


def test_an_index_that_tells_no_upload_times_can_be_used(small: Small) -> None:
    project = small.path / "pyproject.toml"
    hint = "`exclude-newer-package = { its-package = false }`"
    assert hint in (BODY / "pyproject.toml").read_text(encoding="utf-8")
    edited = project.read_text().replace('"\ndefault', '/bare/"\ndefault')
    project.write_text(edited)
    small.commit()
    before = small.read("pyproject.toml")

    said = small.upgrade(check=False)

    assert "is missing an upload date" in said
    assert "uv could not lock" in said and "Nothing was changed" in said
    assert small.status() == "" and small.read("pyproject.toml") == before

    setting = hint.strip("`").replace("its-package", "inhouse")
    project.write_text(before.replace("\n\n[[", f"\n{setting}\n\n[["))
    small.commit()
    assert "inhouse: 1.0 → 2.0" in small.upgrade()

    project.write_text(re.sub("exclude-newer = .*", "exclude-newer = false", before))
    run("git", "restore", "--source=HEAD~1", "uv.lock", cwd=small.path)
    small.commit()
    assert "inhouse: 1.0 → 2.0" in small.upgrade()
    assert "exclude-newer = false\n" in small.read("pyproject.toml")


@pytest.mark.slow
def test_make_upgrade_of_a_service_finds_nothing_on_the_day_it_was_proven(
    default: Service, tmp_path: Path
) -> None:
    service = copy(default, tmp_path)
    service.run("uv", "lock", "--upgrade", "--quiet")  # a lock of its own
    run("git", "add", "--all", cwd=service.path)
    run("git", "commit", "--quiet", "--message", "Lock", cwd=service.path)
    (date,) = re.findall('exclude-newer = "(.*)T', service.read("pyproject.toml"))

    assert "No package has a newer" in service.make("upgrade", DATE=date).stdout
    assert run("git", "status", "--porcelain", cwd=service.path).stdout == ""


@pytest.fixture
def origin(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that the project is pushed to, and that takes push options."""
    path = tmp_path_factory.mktemp("origin")
    run("git", "init", "--quiet", "--bare", cwd=path)
    run("git", "config", "receive.advertisePushOptions", "true", cwd=path)
    hook = path / "hooks" / "post-receive"
    hook.write_text("#!/bin/sh\nenv | grep ^GIT_PUSH_OPTION_ >options\n")
    hook.chmod(0o755)
    run("git", "remote", "add", "origin", str(path), cwd=small.path)
    run("git", "push", "--quiet", "origin", "HEAD:main", cwd=small.path)
    small.upgrade()
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(small.path / name, small.path / "outputs" / name)
    run("git", "restore", ".", cwd=small.path)
    return path


def pushed(origin: Path, what: str) -> str:
    """Something of the branch that was pushed."""
    return run("git", "show", f"upgrade{what}", cwd=origin).stdout


def test_github_pushes_a_branch_and_opens_one_pull_request(
    small: Small, origin: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = answer(tmp_path_factory.mktemp("service"), {"ci": "github"}).service
    workflow = yaml.safe_load(made.read(".github/workflows/upgrade.yml"))
    jobs = workflow["jobs"]
    assert workflow["permissions"] == {}
    assert jobs["test"]["permissions"] == {"contents": "read"}
    proposed = jobs["propose"]["permissions"]
    assert proposed == {"contents": "write", "pull-requests": "write"}
    # A job that may write runs nothing that was installed.
    scripts = [step.get("run", "") for step in jobs["propose"]["steps"]]
    assert not re.search(r"\b(make|python|uv) ", "".join(scripts))
    tools = tmp_path_factory.mktemp("tools")
    calls = tools / "calls"
    gh = tools / "gh"
    listed = f'[ "$1 $2" != "pr list" ] || cat {tools}/open'
    gh.write_text(f'#!/bin/sh\necho "$@" >>{calls}\n{listed}\n')
    gh.chmod(0o755)
    variables = {"BASE": "main", "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}

    for number in ("", "7\n"):
        (tools / "open").write_text(number)
        run("bash", "-e", "-c", scripts[-1], cwd=small.path, check=True, **variables)
        run("git", "reset", "--quiet", "--hard", "origin/main", cwd=small.path)

    heard = [line for line in calls.read_text().splitlines() if " list " not in line]
    assert [line.split(" --")[0] for line in heard] == [
        "auth setup-git",
        "pr create",
        "auth setup-git",
        "pr edit 7",
    ]
    assert '"2.0"' in pushed(origin, ":uv.lock")
    changed = pushed(origin, "").partition("diff --git")[2]
    assert "a/pyproject.toml" in changed and "a/uv.lock" in changed


def test_gitlab_pushes_a_branch_with_a_merge_request(
    small: Small, origin: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = answer(tmp_path_factory.mktemp("service"), {"ci": "gitlab"}).service
    pipeline = yaml.safe_load(made.read(".gitlab-ci.yml"))
    (script,) = pipeline["propose upgrade"]["script"]
    variables = {
        "GITLAB_USER_NAME": "Ada",
        "GITLAB_USER_EMAIL": "ada@localhost",
        "CI_DEFAULT_BRANCH": "main",
        "CI_SERVER_HOST": "gitlab.invalid",
        "CI_PROJECT_PATH": "org/small",
        "UPGRADE_TOKEN": "secret",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{origin}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://upgrade:secret@gitlab.invalid/org/small.git",
    }

    run("bash", "-e", "-c", script, cwd=small.path, check=True, **variables)

    assert '"2.0"' in pushed(origin, ":uv.lock")
    assert "| inhouse | 1.0 | 2.0 |" in pushed(origin, "")
    options = (origin / "options").read_text()
    for option in ("create", "target=main", "remove_source_branch", "title=Take newer"):
        assert f"=merge_request.{option}" in options
    assert "secret" not in run("git", "log", "-p", "--all", cwd=origin).stdout


def test_gitlab_does_nothing_else_on_a_schedule(tmp_path: Path) -> None:
    service = answer(tmp_path, {"ci": "gitlab"}).service
    pipeline = yaml.safe_load(service.read(".gitlab-ci.yml"))
    not_jobs = {"stages", "workflow", "default", "include"}

    def conditions(job: dict[str, Any]) -> list[str]:
        parents = job.get("extends", [])
        for parent in [parents] if isinstance(parents, str) else parents:
            if parent in pipeline and "rules" not in job:
                job = {**pipeline[parent], **{k: job[k] for k in job if k != "extends"}}
                return conditions(job)
        return [rule["if"] for rule in job["rules"]]

    scheduled: dict[str, list[str]] = {"== null": [], "": []}
    for name, job in pipeline.items():
        if name in not_jobs or name.startswith("."):
            continue
        first, *_ = rules = conditions(job)
        if first.startswith('$CI_PIPELINE_SOURCE == "schedule" && $PROMOTE'):
            assert len(rules) == 1
            scheduled[first.partition("$PROMOTE")[2].strip()].append(name)
        else:
            assert all('!= "schedule"' in rule for rule in rules), name
    assert scheduled["== null"] == ["upgrade", "propose upgrade"]
    assert scheduled[""] == ["promote", "propose promotion"]
