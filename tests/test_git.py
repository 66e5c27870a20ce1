"""The user's Git and place: whatever they are, generation and set-up go on."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from covertable import make

from tests.conftest import BODY, ENVIRONMENT, ROOT, Service, run
from tests.test_service import stages_run

FACTORS: dict[str, list[str]] = {
    "hooks": ["no hooks", "hooksPath", "templateDir", "refusing hook"],
    "signing": ["unsigned", "gpgsign"],
    "lines": ["lf", "autocrlf"],
    "ignored": ["nothing", "*.lock"],
    "place": ["new", "monorepo", "existing"],
}
# Other tests run them. Here the question is whether hooks run, and where.
SLOW_HOOKS = "mypy,import-linter,flake8,black"
Cell = dict[str, str]
CELLS: list[Cell] = make(FACTORS)


def cell(*values: str) -> Cell:
    """One machine, by its values in the order of the factors."""
    return dict(zip(FACTORS, values, strict=True))


def named(machine: Cell) -> str:
    """What a machine is called in a report."""
    return ", ".join(machine.values())


def script(path: Path, text: str) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def configure(home: Path, machine: Cell) -> dict[str, str]:
    """Write the configuration of a user's Git; returns the variables that name it."""
    settings = {"user.name": "Ada", "user.email": "ada@example.com"}
    hook = "exit 0"
    if machine["hooks"] == "refusing hook":
        hook = 'echo "the ticket is missing" >&2; exit 1'
    if machine["hooks"] == "templateDir":
        settings["init.templateDir"] = str(home / "git")
        script(home / "git" / "hooks" / "commit-msg", hook)
    elif machine["hooks"] != "no hooks":
        settings["core.hooksPath"] = str(home / "hooks")
        script(home / "hooks" / "commit-msg", hook)
    if machine["signing"] == "gpgsign":
        settings |= {"commit.gpgsign": "true", "gpg.program": str(home / "gpg")}
        script(home / "gpg", 'echo "gpg: signing failed: No secret key" >&2; exit 2')
    if machine["lines"] == "autocrlf":
        settings["core.autocrlf"] = "true"
    if machine["ignored"] != "nothing":
        settings["core.excludesFile"] = str(home / "ignore")
        (home / "ignore").write_text(machine["ignored"] + "\n")
    for key, value in settings.items():
        run("git", "config", "--file", str(home / "config"), key, value, cwd=home)
    return {"GIT_CONFIG_GLOBAL": str(home / "config")}


def generate(
    directory: Path, *words: str, template: Path | str = ROOT, **variables: str
) -> str:
    """Call cookiecutter in a directory; returns what it said."""
    command = (sys.executable, "-m", "cookiecutter", str(template), "--no-input")
    variables.setdefault("PWD", str(directory))
    return run(*command, *words, cwd=directory, check=True, **variables).stdout


def settle(
    machine: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Service, str]:
    """Generate a service on a machine; returns it and what was said."""
    home = tmp_path / "home"
    home.mkdir()
    for name, value in configure(home, machine).items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
    directory = tmp_path / "work"
    repository = {
        "new": None,
        "monorepo": directory,
        "existing": directory / "intent-service",
    }[machine["place"]]
    (repository or directory).mkdir(parents=True)
    if repository:
        run("git", "init", "--quiet", cwd=repository)
    said = generate(directory, "-f" if machine["place"] == "existing" else "--verbose")
    return Service(directory / "intent-service"), said


def refusal(machine: Cell) -> str:
    """Why nothing can be committed there; empty if it can."""
    if machine["hooks"] == "refusing hook":
        return "the ticket is missing"
    return "gpg failed to sign" if machine["signing"] == "gpgsign" else ""


def commit(service: Service) -> subprocess.CompletedProcess[str]:
    """Commit all there is."""
    run("git", "add", "--all", ".", cwd=service.path)
    command = ("git", "commit", "--quiet", "--message", "Work")
    return run(*command, cwd=service.path, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("machine", CELLS, ids=named)
def test_any_git_generates_sets_up_and_commits(
    machine: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, said = settle(machine, tmp_path, monkeypatch)

    reason = refusal(machine)
    if machine["place"] == "monorepo":
        assert "part of the Git repository" in said and "CONTRIBUTING.md" in said
    elif machine["place"] == "existing":
        assert "in the Git repository that was there" in said
    elif reason:
        (line,) = (x for x in said.splitlines() if "Nothing was committed" in x)
        assert reason in line and "all is staged" in line
        status = run("git", "status", "--porcelain", cwd=service.path).stdout
        assert {line[:2] for line in status.splitlines()} == {"A "}
    else:
        assert "Its first commit is made." in said

    service.install()
    hook = service.path / ".git" / "hooks" / "pre-commit"
    has_path = machine["hooks"] in ("hooksPath", "refusing hook")
    assert hook.exists() == (machine["place"] != "monorepo" and not has_path)

    monkeypatch.setitem(ENVIRONMENT, "SKIP", SLOW_HOOKS)
    done = commit(service)
    assert (done.returncode == 0) == (not reason), done.stdout
    assert reason in done.stdout
    listed = run("git", "ls-files", "--eol", cwd=service.path).stdout.splitlines()
    names = {line.split("\t")[1] for line in listed}
    assert {"uv.lock", "app/api.py", "data/source/slots.yaml"} <= names
    for line in (x for x in listed if not x.endswith(".png")):
        ends = line.split()[:2]
        assert ends in (["i/lf", "w/lf"], ["i/none", "w/none"]), line


@pytest.mark.slow
@pytest.mark.parametrize(
    "machine",
    [
        cell("templateDir", "unsigned", "autocrlf", "nothing", "new"),
        cell("no hooks", "unsigned", "lf", "*.lock", "monorepo"),
        cell("hooksPath", "unsigned", "autocrlf", "*.lock", "existing"),
    ],
    ids=lambda machine: ", ".join(machine.values()),
)
def test_a_clone_of_what_was_trained_is_up_to_date(
    machine: Cell, trained: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, _ = settle(machine, tmp_path, monkeypatch)
    service.install()
    # What a run of the same pipeline has left: `make train` finds nothing to run.
    for name in ("data", "models", "reports", ".dvc/cache"):
        target = service.path / name
        shutil.copytree(trained.path / name, target, dirs_exist_ok=True)
    for name in ("dvc.lock", "docs/model-card.md"):
        shutil.copy(trained.path / name, service.path / name)
    assert stages_run(service.make("train").stdout) == []
    monkeypatch.setitem(ENVIRONMENT, "SKIP", SLOW_HOOKS)
    done = commit(service)
    assert done.returncode == 0, done.stdout

    top = run("git", "rev-parse", "--show-toplevel", cwd=service.path).stdout.strip()
    run("git", "clone", "--quiet", top, "clone", cwd=tmp_path)
    clone = Service(tmp_path / "clone" / service.path.relative_to(top))
    cache = service.path / ".dvc" / "cache"
    shutil.copytree(cache, clone.path / ".dvc" / "cache")
    (clone.path / ".venv").symlink_to(service.path / ".venv")
    clone.run("dvc", "checkout", "--quiet")
    assert "up to date" in clone.run("dvc", "status").stdout
    assert run("git", "status", "--porcelain", cwd=clone.path).stdout == ""


def test_every_value_of_each_factor_is_in_a_cell() -> None:
    seen = {pair for machine in CELLS for pair in machine.items()}

    assert seen == {(name, value) for name in FACTORS for value in FACTORS[name]}


@pytest.mark.slow
def test_a_fresh_service_is_linted_in_a_directory_of_a_larger_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = cell("no hooks", "unsigned", "lf", "nothing", "monorepo")
    tmp_path /= "o'brien"
    tmp_path.mkdir()
    service, _ = settle(machine, tmp_path, monkeypatch)
    service.install()
    (tmp_path / "work" / "other.py").write_text("import  os\n")  # no business of it
    monkeypatch.setitem(ENVIRONMENT, "SKIP", "mypy,import-linter,flake8")

    assert service.make("lint").stdout.count("Passed") >= 10
    (service.path / "app" / "odd.py").write_text("import  os\n")
    done = service.make("lint", check=False)

    assert done.returncode != 0 and "app/odd.py" in done.stdout, done.stdout
    assert "other.py" not in done.stdout
    status = run("git", "status", "--porcelain", cwd=tmp_path / "work").stdout
    assert status == "?? intent-service/\n?? other.py\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}, "dubious ownership"),
        ({"GIT_DIR": "/nowhere"}, ""),
    ],
)
def test_what_git_says_of_the_place_is_repeated(
    tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    run("git", "init", "--quiet", cwd=tmp_path)

    said = generate(tmp_path, **variables)

    assert reason in said
    assert not (tmp_path / "intent-service" / ".git").exists()


def test_beside_a_bare_repository_and_at_a_terminal_a_new_one_is_made(
    tmp_path: Path,
) -> None:
    # Its worktrees stand beside it: where they do, there are no files of its own.
    run("git", "init", "--quiet", "--bare", "bare", cwd=tmp_path)
    (tmp_path / ".git").write_text("gitdir: ./bare\n")
    home = tmp_path / "home"
    home.mkdir()
    machine = cell("hooksPath", "unsigned", "lf", "nothing", "new")
    config = configure(home, machine)["GIT_CONFIG_GLOBAL"]
    # One that asks there would wait for ever, as its question is not seen.
    asks = 'if (: </dev/tty) 2>/dev/null; then echo "asked" >&2; exit 1; fi'
    script(home / "hooks" / "commit-msg", asks)
    terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]))"
    command = (sys.executable, "-m", "cookiecutter", str(ROOT), "--no-input")

    said = run(
        *(sys.executable, "-c", terminal, *command),
        cwd=tmp_path,
        GIT_CONFIG_GLOBAL=config,
    ).stdout

    assert "Its first commit is made." in said


@pytest.mark.parametrize("name", ["GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"])
def test_variables_of_another_repository_do_not_reach_in(
    tmp_path: Path, name: str
) -> None:
    run("git", "init", "--quiet", "other", cwd=tmp_path)
    other = tmp_path / "other" / ".git"
    before = sorted(other.rglob("*"))
    place = other / "objects" if name == "GIT_OBJECT_DIRECTORY" else other

    said = generate(tmp_path, **{name: str(place)})

    assert "Its first commit is made." in said
    assert sorted(other.rglob("*")) == before
    run("git", "show", "HEAD:README.md", cwd=tmp_path / "intent-service")


def test_an_old_git_will_do(tmp_path: Path) -> None:
    git = shutil.which("git")
    script(
        tmp_path / "bin" / "git",
        'for word; do case "$word" in --initial-branch|--pathspec-from-file*)\n'
        '  echo "error: unknown option $word" >&2; exit 129;; esac; done\n'
        f'exec {git} "$@"',
    )

    said = generate(tmp_path, PATH=f"{tmp_path / 'bin'}:{ENVIRONMENT['PATH']}")

    assert "Its first commit is made." in said
    service = Service(tmp_path / "intent-service")
    branch = run("git", "branch", "--show-current", cwd=service.path).stdout
    assert branch == "main\n" and "app/api.py" in service.files()


def test_new_files_are_seen_whatever_the_machine_ignores(tmp_path: Path) -> None:
    generate(tmp_path)
    service = Service(tmp_path / "intent-service")
    (tmp_path / "ignore").write_text("data\nreports/\n*.env\n*.lock\n")
    new = {
        "data/source/mine.yaml",
        "deploy/overlays/prod/mine.env",
        "dvc.lock",
        "reports/mine.md",
        "training/conf/data/mine.yaml",
        "uv.lock",
    }
    for name in new:
        (service.path / name).write_text("mine\n")

    ignoring = ("-c", f"core.excludesFile={tmp_path / 'ignore'}")
    status = ("status", "--porcelain", "--untracked-files=all")
    seen = run("git", *ignoring, *status, cwd=service.path).stdout

    assert {line[3:] for line in seen.splitlines()} == new


@pytest.mark.slow
def test_a_worktree_gets_the_hooks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "main").mkdir()
    generate(tmp_path / "main")
    path = tmp_path / "main" / "intent-service"
    run("git", "worktree", "add", "--quiet", str(tmp_path / "tree"), cwd=path)

    # As where a hook of another repository calls make.
    run("git", "init", "--quiet", "other", cwd=tmp_path)
    other = tmp_path / "other" / ".git"
    with monkeypatch.context() as there:
        there.setitem(ENVIRONMENT, "GIT_DIR", str(other))
        Service(tmp_path / "tree").install()

    assert not (other / "hooks" / "pre-commit").exists()
    assert (path / ".git" / "hooks" / "pre-commit").exists()


def test_without_its_python_another_is_taken_and_that_is_said(tmp_path: Path) -> None:
    generate(tmp_path, "python_version=3.14")
    service = Service(tmp_path / "intent-service")
    assert service.read(".python-version") == "3.14\n"
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    variables = {"PATH": path, "UV_PYTHON_DOWNLOADS": "never"}
    found = run("uv", "python", "find", "3.14", cwd=tmp_path, check=False, **variables)
    if found.returncode == 0:
        pytest.skip("this machine has Python 3.14")

    said = service.make(".venv/bin/python", check=True, **variables).stdout

    assert "Python 3.14 cannot be had" in said and "No interpreter found" in said
    run(".venv/bin/python", "--version", cwd=service.path)
    # Nor does the update, which may bring another .python-version, need it.
    said = service.make("update", check=False, **variables).stdout
    assert "No interpreter" not in said and "template" in said


def test_without_a_cache_uv_works_on_and_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    generate(tmp_path)
    service = Service(tmp_path / "intent-service").install()
    (service.path / "pyproject.toml").touch()

    nowhere = str(tmp_path / "file" / "cache")
    another = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    said = service.make("setup", check=True, UV_CACHE_DIR=nowhere, **another).stdout

    assert f"uv works without a cache: {nowhere} cannot be written to." in said
    # Nor does pre-commit need a home that can be written to.
    hooks = re.findall(r"- id: (.*)", service.read(".pre-commit-config.yaml"))
    home = {"HOME": str(tmp_path / "file"), "XDG_CACHE_HOME": ""} | another
    assert "git config --global --add safe.directory" in said
    skip = ",".join(hooks)
    assert "Skipped" in service.make("lint", check=True, SKIP=skip, **home).stdout


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template in a repository of its own, on a branch of an unusual name."""
    directory = tmp_path_factory.mktemp("history") / "git-template"
    directory.mkdir()
    for name in ("hooks", BODY.name):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, directory / name, ignore=ignore)
    for name in ("cookiecutter.json", ".gitattributes"):
        shutil.copy(ROOT / name, directory)
    run("git", "init", "--quiet", cwd=directory)
    run("git", "symbolic-ref", "HEAD", "refs/heads/trunk", cwd=directory)
    run("git", "add", "--all", cwd=directory)
    run("git", "commit", "--quiet", "--message", "Template", cwd=directory)
    return directory


def origin(directory: Path) -> dict[str, str | None]:
    """What a service knows of its template."""
    text = (directory / "intent-service" / ".cruft.json").read_text(encoding="utf-8")
    return {
        name: value for name, value in json.loads(text).items() if name != "context"
    }


SECRET = "glpat-0123456789"


@pytest.mark.parametrize(
    ("address", "written"),
    [
        (f"https://oauth2:{SECRET}@git.example.com/t.git", "git.example.com/t.git"),
        (f"https://{SECRET}@git.example.com/t.git", "git.example.com/t.git"),
        (f"ssh://git:{SECRET}@git.example.com/t.git", "git@git.example.com/t.git"),
        ("git@git.example.com:t.git", "git@git.example.com:t.git"),
    ],
)
def test_credentials_of_the_templates_address_are_in_no_file(
    tmp_path: Path, history: Path, address: str, written: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    config = home / "config"
    for key, value in {f"url.{history}.insteadOf": address}.items():
        run("git", "config", "--file", str(config), key, value, cwd=home)
    work = tmp_path / "work"
    work.mkdir()

    said = generate(
        work,
        *("--config-file", configuration(home)),
        template=address,
        GIT_CONFIG_GLOBAL=str(config),
    )

    assert str(origin(work)["template"]).endswith(written)
    assert ("credentials" in said) == (SECRET in address)
    for path in work.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def configuration(home: Path) -> str:
    """A configuration of cookiecutter that keeps everything in a directory."""
    path = home / "cookiecutter.yaml"
    path.write_text(
        f"cookiecutters_dir: {home / 'clones'}\nreplay_dir: {home / 'replay'}\n"
    )
    return str(path)


def test_the_template_is_known_wherever_it_lies(tmp_path: Path, history: Path) -> None:
    def git(*words: str) -> str:
        return run("git", *words, cwd=history).stdout.strip()

    generate(tmp_path, template=history)

    commit = git("rev-parse", "HEAD")
    expected = {"template": str(history), "commit": commit, "checkout": None}
    assert origin(tmp_path) == expected | {"directory": None}

    # By a path that leads to another one from the output directory.
    (tmp_path / "out" / history.name).mkdir(parents=True)
    other = tmp_path / "out" / history.name / "cookiecutter.json"
    other.write_text("{}")
    out = ("--output-dir", str(tmp_path / "out"))
    generate(history.parent, *out, template=history.name)
    assert origin(tmp_path / "out") == expected | {"directory": None}

    # In a directory of a larger repository, given by --directory.
    larger = tmp_path / "larger"
    run("git", "clone", "--quiet", str(history), "larger/ml", cwd=tmp_path)
    shutil.rmtree(larger / "ml" / ".git")
    run("git", "init", "--quiet", cwd=larger)
    run("git", "add", "--all", cwd=larger)
    run("git", "commit", "--quiet", "--message", "All", cwd=larger)
    generate(tmp_path, "-f", "--directory", "ml", template=larger)
    commit = run("git", "rev-parse", "HEAD", cwd=larger).stdout.strip()
    expected = {"template": str(larger), "commit": commit, "checkout": None}
    assert origin(tmp_path) == expected | {"directory": "ml"}


def test_the_template_is_known_whatever_git_calls_its_remote(
    tmp_path: Path, history: Path
) -> None:
    config = tmp_path / "config"
    run(
        *("git", "config", "--file", str(config)),
        *("clone.defaultRemoteName", "upstream"),
        cwd=tmp_path,
    )
    place = tmp_path / "-my work"

    said = generate(
        tmp_path,
        *("--config-file", configuration(tmp_path), "--output-dir=./-my work"),
        template=history.as_uri(),
        GIT_CONFIG_GLOBAL=str(config),
    )

    assert origin(place)["template"] == history.as_uri()
    # What the next steps begin with is pasted into a shell.
    (way,) = (line.strip() for line in said.splitlines() if "  cd " in line)
    there = run("sh", "-c", f"{way} && pwd", cwd=tmp_path).stdout.strip()
    assert there == str(place / "intent-service")


def test_a_zip_is_no_template_to_follow_and_that_is_said(
    tmp_path: Path, history: Path
) -> None:
    (tmp_path / "work").mkdir()
    archive = tmp_path / "work" / "template.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("t/", "")
        for path in sorted(history.rglob("*")):
            if ".git" not in path.parts:
                file.write(path, Path("t") / path.relative_to(history))

    said = generate(
        tmp_path / "work",
        *("--config-file", configuration(tmp_path)),
        template=archive.name,
    )

    assert "`make update` has nothing to follow: the template came as a zip" in said
    record = origin(tmp_path / "work")
    assert record["template"] == str(archive) and record["commit"] is None


def test_line_ends_of_a_clone_of_the_template_do_not_show(
    tmp_path: Path, history: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    machine = cell("no hooks", "unsigned", "autocrlf", "nothing", "new")

    generate(
        tmp_path,
        *("--config-file", configuration(home)),
        template=history.as_uri(),
        GIT_CONFIG_GLOBAL=configure(home, machine)["GIT_CONFIG_GLOBAL"],
    )

    for name in Service(tmp_path / "intent-service").texts():
        content = (tmp_path / "intent-service" / name).read_bytes()
        assert b"\r\n" not in content, name
