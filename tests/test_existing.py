"""What is in a directory already: nothing of it is lost, changed or judged."""

import errno
import importlib.util
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import BODY, ROOT, run
from tests.questions import Outcome, answer

# Nobody's but the user's. Some of it the template could not read.
FOREIGN = {
    "app/mine.py": "mine = 1\n",
    "data/source/claims.csv": "text,label\r\n",
    "training/conf/experiment/mine.yaml": "a: 1\n",
    "tests/test_mine.py": "def test_mine() -> None: ...\n",
    "reports/mine.md": "mine\n",
    ".vscode/settings.json": '{ // with comments\n"a": 1,}\n',
    "charts/templates/d.yaml": "{{- if .Values.y }}\n- 'a\n",
    "docs/jinja.md": "{{ cookiecutter.team }}\n",
    "_options/license/MIT/mine": "mine\n",
    "_options/mine.txt": "mine\n",
    ".github/workflows/mine.yml": "on: push\n",
}
# The template has them, too: rendered, copied, laid as an option, written by the hook.
EDITED = {
    "README.md": "# Mine\n",
    "app/contract.py": "mine = 1\n",
    "Makefile": "mine:\n",
    "data/source/slots.yaml": "mine: 1\n",
    "LICENSE": "Mine.\n",
    ".github/workflows/ci.yml": "on: push\n",
    ".cruft.json": "{}\n",
}


def tree(path: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, rights and time of every file."""
    return {
        file.relative_to(path).as_posix(): (
            file.read_bytes(),
            file.stat().st_mode,
            file.stat().st_mtime_ns,
        )
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


def write(directory: Path, files: dict[str, str]) -> None:
    """Write files, with the directories above them."""
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(text.encode())


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service as it is generated; not to be changed."""
    return answer(tmp_path_factory.mktemp("fresh"), {}).service.path


@pytest.mark.parametrize("skip", [False, True])
def test_a_new_service_is_generated_on_a_slow_machine(
    tmp_path: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch, skip: bool
) -> None:
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start + 3600)

    outcome = answer(tmp_path, {}, skip=skip)

    assert not outcome.refused, outcome.said
    assert set(tree(outcome.service.path)) == set(tree(fresh))


@pytest.fixture
def service(tmp_path: Path, fresh: Path) -> Path:
    """A service with files of the user's, and without two of the template's."""
    path = shutil.copytree(fresh, tmp_path / "output" / fresh.name)
    write(path, FOREIGN | EDITED)
    (path / "docs" / "runbook.md").unlink()
    (path / "demo" / "smoke.py").unlink()
    return path


def test_skipping_leaves_every_file_and_adds_the_missing_ones(
    tmp_path: Path, service: Path
) -> None:
    before = tree(service)

    outcome = answer(tmp_path, {"team": "Other"}, overwrite=True, skip=True)

    assert not outcome.refused, outcome.said
    after = tree(service)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"docs/runbook.md", "demo/smoke.py"}


def test_overwriting_replaces_the_files_of_the_template_and_no_other(
    tmp_path: Path, service: Path
) -> None:
    before = tree(service)

    outcome = answer(tmp_path, {"team": "Other"}, overwrite=True)

    assert not outcome.refused, outcome.said
    after = tree(service)
    assert {name: after[name] for name in FOREIGN} == {
        name: before[name] for name in FOREIGN
    }
    (tmp_path / "fresh").mkdir()
    fresh = tree(answer(tmp_path / "fresh", {"team": "Other"}).service.path)
    assert set(after) == set(fresh) | set(FOREIGN)
    for name in fresh:
        assert after[name][:2] == fresh[name][:2], name


@pytest.mark.parametrize("skip", [False, True])
def test_a_directory_of_other_files_gets_a_service_beside_them(
    tmp_path: Path, skip: bool
) -> None:
    directory = tmp_path / "output" / "intent-service"
    write(directory, FOREIGN | {".env": "SECRET=1\n"})
    before = tree(directory)

    outcome = answer(tmp_path, {}, overwrite=True, skip=skip)

    assert not outcome.refused, outcome.said
    after = tree(directory)
    assert {name: after[name] for name in before} == before
    assert "app/api.py" in after and ".cruft.json" in after


def broken(tmp_path: Path, name: str, text: str) -> Path:
    """A copy of the template with one more file."""
    copy = tmp_path / "template"
    for part in ("hooks", BODY.name):
        shutil.copytree(ROOT / part, copy / part)
    shutil.copy(ROOT / "cookiecutter.json", copy)
    write(copy / BODY.name, {name: text})
    return copy


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("zz.yaml", "- 'a\n", "zz.yaml: while scanning"),
        ("zz.md", "{{ cookiecutter.nothing }}\n", "nothing"),
        ("zz.md", "{{ cookiecutter.team | nothing }}\n", "No filter named 'nothing'"),
        ("zz.md", "{% if %}\n", "Expected an expression"),
        ("zz.md", "{{ 1 / 0 }}\n", "division by zero"),
    ],
)
def test_what_comes_out_wrong_leaves_every_file_as_it_was(
    tmp_path: Path, service: Path, name: str, text: str, reason: str, skip: bool
) -> None:
    template = broken(tmp_path, name, text)
    before = tree(service)

    outcome = answer(tmp_path, {}, template=template, overwrite=True, skip=skip)

    assert outcome.refused
    assert reason in outcome.said and "every file is as it was" in outcome.said
    assert "Traceback" not in outcome.said
    assert not [name for name in FOREIGN if name in outcome.said]
    assert tree(service) == before


def test_a_wrong_answer_leaves_every_file_as_it_was(
    tmp_path: Path, service: Path
) -> None:
    before = tree(service)

    assert answer(tmp_path, {"domain": "x"}, overwrite=True).refused
    assert tree(service) == before


def test_what_is_in_the_way_is_named_and_left(tmp_path: Path, service: Path) -> None:
    (service / "README.md").unlink()
    (service / "README.md").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("kept\n")
    assert_stopped(answer(tmp_path, {}, overwrite=True), service, "README.md is a link")
    (service / "README.md").unlink()

    (service / "README.md").mkdir()
    stopped = answer(tmp_path, {}, overwrite=True)
    assert_stopped(stopped, service, "README.md is a directory")
    (service / "README.md").rmdir()

    shutil.rmtree(service / "monitoring")
    (service / "monitoring").write_text("kept\n")
    stopped = answer(tmp_path, {}, overwrite=True)
    assert_stopped(stopped, service, "monitoring is a file")
    (service / "monitoring").unlink()
    for target in ("missing", "."):  # files would get lost, or overwrite others
        (service / "monitoring").symlink_to(tmp_path / target)
        stopped = answer(tmp_path, {}, overwrite=True)
        assert_stopped(stopped, service, "monitoring is a link")
        (service / "monitoring").unlink()

    shutil.rmtree(service / "_options")  # where cookiecutter writes for a moment
    (service / "_options").symlink_to(tmp_path)
    stopped = answer(tmp_path, {}, overwrite=True)
    assert_stopped(stopped, service, "_options is in the way")
    assert not (tmp_path / "license").exists()
    (service / "_options").unlink()

    os.mkfifo(service / "README.md")  # who opens it waits for ever
    stopped = answer(tmp_path, {}, overwrite=True)
    assert_stopped(stopped, service, "README.md is no ordinary file")
    assert (tmp_path / "elsewhere").read_text() == "kept\n"


def test_what_is_called_as_the_work_of_the_template_is_left(
    tmp_path: Path, service: Path
) -> None:
    write(service, {"README.md.generating": "kept\n", ".generating/mine": "kept\n"})
    before = tree(service)
    reason = ".generating is yours, and the service is made there for a moment"

    stopped = answer(tmp_path, {}, overwrite=True)
    assert stopped.refused and reason in stopped.said
    assert tree(service) == before

    (service / ".generating").rename(tmp_path / "mine")
    (service / ".generating").symlink_to(tmp_path / "mine")
    stopped = answer(tmp_path, {}, overwrite=True)
    assert stopped.refused and reason in stopped.said
    assert (tmp_path / "mine" / "mine").read_text() == "kept\n"

    (service / ".generating").unlink()
    assert not answer(tmp_path, {}, overwrite=True).refused
    assert (service / "README.md.generating").read_text() == "kept\n"


@pytest.mark.parametrize("name", [".", "README.md", "app", "docs"])
def test_what_may_not_be_written_to_is_named(
    service: Path, overlay: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = tree(service)

    def may(path: Path, _: int) -> bool:  # root, who runs tests, may do everything
        return Path(path) != Path(name)

    def make(aside: Path) -> Path:
        names = ("README.md", "app/contract.py", "docs/runbook.md")
        write(aside / "made", dict.fromkeys(names, "new\n"))
        return aside / "made"

    monkeypatch.setattr(os, "access", may)
    shown = str(service) if name == "." else name
    with pytest.raises(overlay.Obstacle, match=f"{shown} may not be written to: chmod"):
        overlay.prepare(make)
    assert tree(service) == before


def test_a_file_is_replaced_from_its_own_directory(
    service: Path, overlay: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def replace_in_one_directory(source: Path, target: Path) -> None:
        if Path(source).parent != Path(target).parent:  # as where one is a mount
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    overlay.prepare(make)
    overlay.WITNESS.write_text("written")
    monkeypatch.setattr(os, "replace", replace_in_one_directory)
    overlay.finish()

    assert (service / "new" / "file").read_text() == "x\n"
    assert not [*service.rglob("*.generating"), *service.glob(".generating")]


def assert_stopped(outcome: Outcome, service: Path, reason: str) -> None:
    """Nothing was generated, and the reason was said."""
    assert outcome.refused and reason in outcome.said
    assert not (service / ".generating").exists()
    assert (service / "LICENSE").read_text() == "Mine.\n"


@pytest.fixture
def overlay(service: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module that does it, prepared in the service as the first hook leaves it."""
    monkeypatch.chdir(service)
    path = ROOT / "hooks" / "overlay.py"
    specification = importlib.util.spec_from_file_location("overlay", path)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module


def make(aside: Path) -> Path:
    """A service of three files, as `prepare` wants it made."""
    write(aside / "made", {"README.md": "new\n", "LICENSE": "new\n", "new/file": "x\n"})
    return aside / "made"


def test_an_interruption_is_undone_by_the_next_run(
    tmp_path: Path, service: Path, overlay: ModuleType
) -> None:
    before = tree(service)
    overlay.prepare(make)
    Path("README.md").write_text("ne")  # cookiecutter was in the middle of it
    Path("new").mkdir()
    Path("new/file").write_text("x\n")
    Path("LICENSE").write_text("edited since\n")

    assert not answer(tmp_path, {}, overwrite=True, skip=True).refused

    after = tree(service)
    assert after["README.md"] == before["README.md"]
    assert after["LICENSE"][0] == b"edited since\n"
    assert not (service / "new").exists() and not (service / ".generating").exists()


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
def test_a_failure_while_files_are_replaced_is_undone(
    service: Path,
    overlay: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    before = tree(service)
    overlay.prepare(make)
    overlay.WITNESS.write_text("written")
    put, calls = overlay.put, []

    def put_two(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 3:
            raise error
        put(source, target)

    monkeypatch.setattr(overlay, "put", put_two)
    with pytest.raises(type(error)):
        overlay.finish()
    overlay.undo()

    assert tree(service) == before


def test_a_failure_while_it_is_prepared_leaves_nothing(
    service: Path, overlay: ModuleType
) -> None:
    before = tree(service)

    def interrupted(aside: Path) -> Path:
        make(aside)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        overlay.prepare(interrupted)
    assert tree(service) == before


def test_no_directory_is_copied_unrendered() -> None:
    # cookiecutter removes such a directory before it copies it.
    from cookiecutter.generate import is_copy_only_path

    context = {"cookiecutter": json.loads((ROOT / "cookiecutter.json").read_text())}
    directories = [path for path in BODY.rglob("*") if path.is_dir()]

    assert len(directories) > 20
    for path in directories:
        name = str(path.relative_to(BODY))
        assert not is_copy_only_path(name, context), name


def cookiecutter(directory: Path, *words: str) -> str:
    """Call the real command in a directory."""
    command = (sys.executable, "-m", "cookiecutter", str(ROOT), "--no-input", *words)
    return run(*command, cwd=directory).stdout


@pytest.mark.slow
def test_the_repository_that_is_there_is_left_alone(tmp_path: Path) -> None:
    cookiecutter(tmp_path)
    path = tmp_path / "intent-service"
    write(path, FOREIGN)
    run("git", "add", "app/mine.py", cwd=path)
    git = tree(path / ".git")

    for words in (("-f",), ("-f", "-s")):
        said = cookiecutter(tmp_path, *words)
        assert "in the Git repository that was there" in said
        assert tree(path / ".git") == git


@pytest.mark.slow
def test_the_first_commit_has_the_files_of_the_service_only(tmp_path: Path) -> None:
    path = tmp_path / "intent-service"
    write(path, {".env": "SECRET=1\n", "notes/a.txt": "mine\n"})

    cookiecutter(tmp_path, "-f")

    committed = run("git", "ls-files", cwd=path).stdout.splitlines()
    assert "app/api.py" in committed and ".cruft.json" in committed
    assert not [name for name in committed if name in (".env", "notes/a.txt")]
    status = run("git", "status", "--porcelain", cwd=path).stdout
    assert status == "?? .env\n?? notes/\n"
