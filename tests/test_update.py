"""A service follows its template: rehearsed with Git itself, from older commits.

`RELEASES` says, for each release that a service may come from, what a person has to do
after the update. Everything else has to come over by itself.
"""

import contextlib
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import (
    ENVIRONMENT,
    ROOT,
    Service,
    bake_into,
    run,
    without_the_engine,
)

BODY = "{{cookiecutter.service_slug}}"
PROGRAM = ROOT / BODY / "maintenance" / "update.py"
BACK = "git add --update . && git restore --source=HEAD --staged --worktree ."


@dataclass(frozen=True)
class Template:
    """A copy of the template with a history of its own."""

    path: Path

    def change(self, name: str, old: str, new: str) -> None:
        """Replace a text in a file of the service, and commit."""
        edit(self.path / BODY / name, old, new)
        self.commit()

    def commit(self) -> None:
        """Commit everything."""
        run("git", "add", "--all", cwd=self.path)
        run("git", "commit", "--quiet", "--message", "Change", cwd=self.path)

    def revision(self) -> str:
        """Its newest commit."""
        return run("git", "rev-parse", "HEAD", cwd=self.path).stdout.strip()


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that is there; an empty one means: put it in front."""
    text = path.read_text(encoding="utf-8")
    assert old in text, f"{path} lacks {old!r}"
    path.write_text(text.replace(old, new, 1) if old else new + text, encoding="utf-8")


def commit(service: Service) -> None:
    """Commit what the user has changed."""
    run("git", "add", "--all", cwd=service.path)
    run("git", "commit", "--quiet", "--message", "Work", cwd=service.path)


def status(service: Service) -> list[str]:
    """What Git says of its files, without those that it does not track."""
    command = ("git", "status", "--porcelain", "--untracked-files=no")
    return run(*command, cwd=service.path).stdout.splitlines()


def update(
    service: Service, answer: str = "y", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Call `make update` and give an answer."""
    command = f"echo {answer} | make --no-print-directory update"
    return run("sh", "-c", command, cwd=service.path, check=False, **variables)


def overlay(directory: Path) -> None:
    """Write the files of the template as they stand, committed or not."""
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in run(*listed, cwd=ROOT).stdout.split("\0"):
        if not (ROOT / name).is_file():
            continue
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, directory / name)


def make_template(directory: Path) -> Template:
    """Make the template as it stands, committed once."""
    overlay(directory)
    run("git", "init", "--quiet", "--initial-branch", "main", cwd=directory)
    template = Template(directory)
    template.commit()
    return template


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template, committed once, and a service of it, side by side."""
    directory = tmp_path_factory.mktemp("update")
    template = make_template(directory / "template")
    answers = {"service_name": 'Odd "names"', "dvc_remote": "s3", "weeks_to_ship": "4"}
    bake_into(directory, template=template.path, answers=answers)
    return directory


@pytest.fixture
def template(baked: Path, tmp_path: Path) -> Template:
    """The template as it stands, committed once."""
    shutil.copytree(baked / "template", tmp_path / "template")
    return Template(tmp_path / "template")


@pytest.fixture
def service(baked: Path, tmp_path: Path, template: Template) -> Service:
    """A service of that template."""
    shutil.copytree(baked / "odd-names", tmp_path / "odd-names")
    made = Service(tmp_path / "odd-names")
    record(made, template=str(template.path))
    run("git", "commit", "--quiet", "--all", "--amend", "--no-edit", cwd=made.path)
    return made


def record(service: Service, **values: object) -> None:
    """Write values into its .cruft.json."""
    path = service.path / ".cruft.json"
    text = json.dumps(json.loads(path.read_text()) | values, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def test_the_origin_is_recorded_as_cruft_reads_it(
    template: Template, service: Service
) -> None:
    origin = json.loads(service.read(".cruft.json"))

    assert origin["template"] == str(template.path)
    assert origin["commit"] == template.revision()
    answers = origin["context"]["cookiecutter"]
    assert answers["service_name"] == 'Odd "names"'
    assert answers["_template_version"]
    assert not [name for name in answers if name.endswith("_dir")]
    cruft = str(Path(sys.executable).with_name("cruft"))
    assert "up to date" in run(cruft, "check", cwd=service.path).stdout


def test_a_template_without_git_is_recorded_as_far_as_it_is_known(
    template: Template, tmp_path: Path
) -> None:
    shutil.rmtree(template.path / ".git")

    bake_into(tmp_path, template=template.path)

    origin = json.loads((tmp_path / "intent-service" / ".cruft.json").read_text())
    assert origin["template"] == str(template.path)
    assert origin["commit"] is None


@pytest.mark.slow
def test_an_update_brings_the_fixes_and_keeps_the_edits(
    template: Template, service: Service
) -> None:
    assert "Nothing new" in update(service).stdout
    edit(service.path / "app" / "contract.py", "", "# The user's own words.\n")
    edit(service.path / "training" / "conf" / "config.yaml", "", "# mine\n")
    edit(service.path / "README.md", "## Start", "## How to start")
    edit(service.path / "docs" / "press-release.md", "TODO", "Everybody is happier")
    (service.path / "mine.txt").write_text("mine\n")
    commit(service)
    template.change("README.md", "## Develop", "## Develop it")
    template.change(".flake8", "", "# fixed\n")
    template.change("docs/press-release.md", "TODO", "TO DO")
    (template.path / BODY / "new.txt").write_text("new {{ cookiecutter.team }}\n")
    edit(template.path / "CHANGELOG.md", "", "- What is new, in a line.\n")
    template.commit()

    unanswered = service.make("update", check=False)

    assert unanswered.returncode != 0 and "Nothing was changed" in unanswered.stdout
    assert "+# fixed" in unanswered.stdout
    assert "- What is new, in a line." in unanswered.stdout
    assert status(service) == []

    done = update(service)

    assert done.returncode == 0, done.stdout
    assert "needs a hand" not in done.stdout
    assert "# The user's own words." in service.read("app/contract.py")
    assert "# mine" in service.read("training/conf/config.yaml")
    assert "## How to start" in service.read("README.md")
    assert "Everybody is happier" in service.read("docs/press-release.md")
    assert service.read("mine.txt") == "mine\n"
    assert "## Develop it" in service.read("README.md")
    assert "# fixed" in service.read(".flake8")
    assert service.read("new.txt") == "new Machine learning\n"
    assert 'Odd "names"' in service.read("README.md")
    names = {line[3:] for line in status(service)}
    assert names == {".cruft.json", ".flake8", "README.md", "new.txt"}
    origin = json.loads(service.read(".cruft.json"))
    assert origin["commit"] == template.revision()
    assert origin["context"]["cookiecutter"]["weeks_to_ship"] == "4"
    commit(service)
    assert "Nothing new" in update(service).stdout


@pytest.mark.parametrize(
    "command", [("make", "--silent", "update"), (sys.executable, str(PROGRAM))]
)
def test_it_may_be_called_by_a_hook_of_git(
    service: Service, command: tuple[str, ...]
) -> None:
    git = service.path / ".git"
    variables = {"GIT_DIR": str(git), "GIT_INDEX_FILE": str(git / "index")}

    said = run(*command, cwd=service.path, check=False, **variables).stdout

    assert "Nothing new in the template: main" in said


# Ctrl-C while Git merges.
INTERRUPTED = """#!/bin/sh
case "$*" in *cherry-pick*) kill -INT $PPID $$;; esac
exec {git} "$@"
"""


@pytest.mark.slow
def test_a_conflict_is_one_of_git_and_the_next_update_goes_on_from_it(
    template: Template, service: Service, tmp_path: Path
) -> None:
    edit(service.path / "README.md", "## Start", "## Mine")
    commit(service)
    template.change("README.md", "## Start", "## Theirs")
    shim = tmp_path / "shim" / "git"
    shim.parent.mkdir()
    shim.write_text(INTERRUPTED.format(git=shutil.which("git")))
    shim.chmod(0o755)

    done = update(service, PATH=f"{shim.parent}:{ENVIRONMENT['PATH']}")

    assert done.returncode != 0
    assert "README.md: both sides changed the same lines" in done.stdout
    assert "UU README.md" in status(service)
    text = service.read("README.md")
    assert text.index("<<<<<<<") < text.index("## Mine") < text.index("## Theirs")
    assert f"go back to where you were: {BACK}" in done.stdout
    run("sh", "-c", BACK, cwd=service.path)
    assert status(service) == [] and "## Mine" in service.read("README.md")

    update(service)
    run("git", "checkout", "--quiet", "--ours", "README.md", cwd=service.path)
    commit(service)
    # No commit of the service has the README that this one now starts from.
    template.change("README.md", "## Develop", "## Develop it")
    assert update(service).returncode == 0
    assert "## Mine" in service.read("README.md")
    assert "## Develop it" in service.read("README.md")


@pytest.mark.slow
def test_files_that_the_template_moves_or_drops_keep_the_edits(
    template: Template, service: Service
) -> None:
    edit(service.path / "serving" / "server.py", "", "# My server.\n")
    edit(service.path / "serving" / "traces.py", "", "# My traces.\n")
    edit(service.path / "serving" / "problems.py", "", "# My problems.\n")
    (service.path / "app" / "mine.py").write_text(
        "from serving import server\nfrom serving.problems import unavailable\n"
    )
    (service.path / "bench" / "mine.py").write_text("A file of the user's own.\n")
    (service.path / "demo" / "ask.py").unlink()
    commit(service)
    body = template.path / BODY
    (body / "engine").mkdir()
    for name in ("server", "problems"):
        (body / "serving" / f"{name}.py").rename(body / "engine" / f"{name}.py")
    (body / "serving" / "traces.py").unlink()
    (body / "bench").rename(body / "measure")
    edit(body / "engine" / "server.py", "return 0", "return 0  # moved")
    edit(body / "engine" / "problems.py", "", "# Their problems.\n")
    edit(body / "demo" / "ask.py", '"""', '"""Changed. ')
    (body / "mine.txt").write_text("the template's\n")
    template.commit()
    (service.path / "mine.txt").write_text("mine, and in no commit\n")

    refused = update(service)

    assert refused.returncode != 0
    assert "Nothing was changed" in refused.stdout and "mine.txt" in refused.stdout
    assert status(service) == []
    assert service.read("mine.txt") == "mine, and in no commit\n"
    # Git overwrites what it ignores without a word.
    exclude = service.path / ".git" / "info" / "exclude"
    exclude.write_text("mine.txt\n")
    refused = update(service)
    assert refused.returncode != 0 and "yours are in no commit" in refused.stdout
    assert service.read("mine.txt") == "mine, and in no commit\n"
    (service.path / "mine.txt").unlink()

    done = update(service)

    assert done.returncode != 0
    moved = service.read("engine/server.py")
    assert moved.startswith("# My server.\n") and "0  # moved" in moved
    assert not (service.path / "serving" / "server.py").exists()
    assert service.read("serving/traces.py").startswith("# My traces.\n")
    assert (service.path / "app" / "mine.py").exists()
    assert (service.path / "bench" / "mine.py").exists()
    assert not (service.path / "demo" / "ask.py").exists()
    _, _, said = done.stdout.partition("Merged.")
    for line in (
        "serving/traces.py: the template no longer has it, and you changed it",
        "app/mine.py:1: serving.server is now engine.server",
        "app/mine.py:2: serving.problems is now engine.problems",
        "stay deleted as you left them:\n\n  demo/ask.py\n",
    ):
        assert line in said
    unmerged = [x for x in status(service) if "U" in x[:2]]
    assert unmerged == ["UU engine/problems.py", "UD serving/traces.py"]
    (service.path / "notes.txt").write_text("in no commit\n")
    run("sh", "-c", BACK, cwd=service.path)
    assert status(service) == [] and not (service.path / "engine").exists()
    assert service.read("serving/problems.py").startswith("# My problems.\n")
    assert service.read("notes.txt") == "in no commit\n"


@pytest.mark.slow
def test_in_a_larger_repository_only_the_service_is_changed(
    template: Template, service: Service, tmp_path: Path
) -> None:
    larger = tmp_path / "larger"
    (larger / "services").mkdir(parents=True)
    shutil.rmtree(service.path / ".git")
    for name in ("one", "two"):
        shutil.copytree(service.path, larger / "services" / name)
    one, two = (Service(larger / "services" / name) for name in ("one", "two"))
    # A twin must not be taken for what became of a file.
    (one.path / ".flake8").unlink()
    edit(one.path / "README.md", "## Start", "## Mine")
    run("git", "init", "--quiet", cwd=larger)
    commit(Service(larger))
    (two.path / "README.md").write_text("in work\n")
    template.change(".flake8", "", "# fixed\n")
    template.change("README.md", "## Start", "## Theirs")
    template.change("CODEOWNERS", "", "# new\n")

    done = update(one)

    assert "\n  README.md: both sides" in done.stdout, done.stdout
    assert "\n  .flake8\n" in done.stdout
    assert one.read("CODEOWNERS").startswith("# new")
    assert two.read("README.md") == "in work\n"
    changed = {line[3:] for line in status(Service(larger))}
    assert changed == {
        "services/one/.cruft.json",
        "services/one/CODEOWNERS",
        "services/one/README.md",
        "services/two/README.md",
    }
    run("sh", "-c", BACK, cwd=one.path)
    assert status(Service(larger)) == [" M services/two/README.md"]


@pytest.mark.slow
def test_an_answer_can_be_changed_later_on(
    template: Template, service: Service, tmp_path: Path
) -> None:
    action = ".github/actions/pull-model/action.yml"
    assert "AWS_ROLE_ARN" in service.read(action)
    # The template is in a directory of a repository, as --directory names it.
    larger = Template(tmp_path / "larger")
    ignore = shutil.ignore_patterns(".git")
    shutil.copytree(template.path, larger.path / "ml", ignore=ignore)
    run("git", "init", "--quiet", "--initial-branch", "main", cwd=larger.path)
    larger.commit()
    of_it = {"template": str(larger.path), "commit": larger.revision()}
    record(service, directory="ml", **of_it)
    commit(service)

    unknown = update(service, ANSWERS='{"dvc_remot": "gs"}')
    wrong = update(service, ANSWERS='{"domain": "x"}')
    answers = {"dvc_remote": "gs", "dvc_remote_url": "gs://my-bucket/intents"}
    done = update(service, ANSWERS=json.dumps(answers))

    assert unknown.returncode != 0
    assert "does not ask dvc_remot. It asks: ci, " in unknown.stdout
    assert wrong.returncode != 0 and "It is a domain in lower case" in wrong.stdout
    assert done.returncode == 0, done.stdout
    assert "AWS_ROLE_ARN" not in service.read(action)
    assert "url = gs://my-bucket/intents" in service.read(".dvc/config")
    assert "dvc[gs]" in service.read("pyproject.toml")
    assert "Google" in service.read("docs/storage.md")
    origin = json.loads(service.read(".cruft.json"))
    assert origin["context"]["cookiecutter"]["dvc_remote"] == "gs"


@pytest.mark.slow
def test_a_branch_is_followed_while_there_is_one(
    template: Template, service: Service
) -> None:
    run("git", "checkout", "--quiet", "-b", "next", cwd=template.path)
    template.change(".flake8", "", "# next\n")
    run("git", "checkout", "--quiet", "main", cwd=template.path)
    assert "Nothing new in the template: main" in update(service).stdout
    record(service, checkout="next")
    commit(service)

    refused = update(service, "n")
    assert refused.returncode == 0 and "Nothing was changed" in refused.stdout
    assert "+# next" in refused.stdout
    assert status(service) == []
    run("git", "branch", "--quiet", "-D", "next", cwd=template.path)
    assert "Nothing new in the template: main" in update(service).stdout
    run("git", "branch", "--quiet", "-m", "main", "trunk", cwd=template.path)
    assert "Nothing new in the template: trunk" in update(service).stdout
    template.change(".flake8", "", "# trunk\n")
    assert "+# trunk" in update(service, "n").stdout

    run("git", "symbolic-ref", "HEAD", "refs/heads/gone", cwd=template.path)
    done = update(service)
    assert done.returncode != 0
    assert "has no default branch: write one into .cruft.json" in done.stdout
    assert "It has: trunk." in done.stdout


@pytest.mark.parametrize(
    ("mine", "theirs", "merged"),
    [
        ('"2026-12-24T00:00:00Z"', '"2026-12-01T00:00:00Z"', '"2026-12-24T00:00:00Z"'),
        ('"2026-11-30"', '"2026-12-01T00:00:00Z"', '"2026-12-01T00:00:00Z"'),
        ("false", '"2026-12-01T00:00:00Z"', "false"),
    ],
)
def test_the_later_date_of_the_dependencies_is_merged(
    tmp_path: Path, mine: str, theirs: str, merged: str
) -> None:
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    given = '"2026-11-24T00:00:00Z"'
    texts = {tmp_path / "pyproject.toml": mine, old: given, new: theirs}
    for path, value in texts.items():
        path.write_text(f"[tool.uv]\nexclude-newer = {value}\n")

    with contextlib.chdir(tmp_path):
        runpy.run_path(str(PROGRAM))["keep_the_later_cutoff"](old, new)

    # What is before a merge is what the user has: the merge takes what is new.
    assert old.read_text() == f"[tool.uv]\nexclude-newer = {mine}\n"
    assert new.read_text() == f"[tool.uv]\nexclude-newer = {merged}\n"


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "a zip": ({"commit": None}, 'set "template" to its Git address'),
    "gone": ({"template": "/nowhere/at-all"}, 'change "template" in .cruft.json'),
    "another": ({"commit": 40 * "a"}, "its history was rewritten"),
    "broken": ({"context": None}, "cannot be read"),
    "private": (
        {"template": "https://oauth2:glpat-1@localhost:1/t.git"},
        "cannot be had from https://localhost:1/t.git. Git says: fatal: unable to",
    ),
}


def test_the_git_of_the_user_does_not_show_in_the_clone_of_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refusing = tmp_path / "hooks" / "post-checkout"
    refusing.parent.mkdir()
    refusing.write_text("#!/bin/sh\necho no >&2\nexit 1\n")
    refusing.chmod(0o755)
    config = tmp_path / "config"
    for key, value in {
        "clone.defaultRemoteName": "upstream",
        "core.hooksPath": str(refusing.parent),
        "color.ui": "always",
        "diff.external": "false",
    }.items():
        run("git", "config", "--file", str(config), key, value, cwd=tmp_path)
    template = Template(tmp_path / "template")
    template.path.mkdir()
    run("git", "init", "--quiet", "--initial-branch", "main", cwd=template.path)
    for text in ("old\n", "new\n"):
        (template.path / "CHANGELOG.md").write_text(text)
        template.commit()
    commits = tuple(
        run("git", "rev-parse", x, cwd=template.path).stdout.strip()
        for x in ("HEAD~1", "HEAD")
    )
    for name, value in (ENVIRONMENT | {"GIT_CONFIG_GLOBAL": str(config)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(template.path)

    program = runpy.run_path(str(PROGRAM))
    record = {"template": str(template.path), "commit": commits[0]}
    clone = tmp_path / "clone"
    assert program["clone_template"](record, clone) == (commits[1], "main")
    program["git"]("checkout", "--quiet", "--detach", commits[0], cwd=clone)
    program["show"](clone, commits, *commits)

    assert "What the template says of it:\n\n  new\n" in capfd.readouterr().out


def test_line_ends_of_the_user_are_no_conflict(tmp_path: Path) -> None:
    file, base = tmp_path / "file", "1\n2\n3\n4\n5\n"
    run("git", "init", "--quiet", cwd=tmp_path)
    for text in (base, base + "theirs\n"):
        file.write_text(text)
        Template(tmp_path).commit()
    theirs = Template(tmp_path).revision()
    run("git", "reset", "--quiet", "--hard", "HEAD~1", cwd=tmp_path)
    file.write_text(base.replace("1", "mine"), newline="\r\n")
    Template(tmp_path).commit()

    with contextlib.chdir(tmp_path):
        assert runpy.run_path(str(PROGRAM))["merge"](theirs) == ([], [])

    assert file.read_text().splitlines() == ["mine", "2", "3", "4", "5", "theirs"]


def test_without_uv_it_says_what_is_missing(service: Service, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(str(shutil.which("git")))
    variables = {"PATH": str(tmp_path / "bin"), "ANSWERS": '{"team": "x"}'}

    command = (sys.executable, str(PROGRAM))
    done = run(*command, cwd=service.path, check=False, **variables)

    assert done.returncode != 0
    assert done.stdout.startswith("uv is not installed"), done.stdout


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_updated_is_said_in_a_line(service: Service, case: str) -> None:
    values, reason = REFUSED[case]
    record(service, **values)
    commit(service)

    assert_refused(service, reason)


def test_nothing_uncommitted_is_risked(service: Service) -> None:
    assert_refused(service, "ANSWERS is no JSON", ANSWERS="{")
    assert_refused(service, "ANSWERS is no object", ANSWERS="[]")
    another = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}
    assert_refused(service, "git config --global --add safe.directory", **another)
    assert_refused(
        service, "answer to feedback in quotes", ANSWERS='{"feedback": true}'
    )
    edit(service.path / "README.md", "## Start", "## Mine")
    assert_refused(
        service, "Commit or stash first, so that there is a way back: README"
    )
    assert "## Mine" in service.read("README.md")
    run("git", "restore", ".", cwd=service.path)
    (service.path / ".cruft.json").rename(service.path / "away.json")
    assert_refused(service, ".cruft.json is missing")
    (service.path / "away.json").rename(service.path / ".cruft.json")
    shutil.rmtree(service.path / ".git")
    assert_refused(service, "Git says: fatal: not a git repository")
    run("git", "init", "--quiet", cwd=service.path)
    assert_refused(service, "Commit first, so that there is a way back")


def assert_refused(service: Service, reason: str, **variables: str) -> None:
    """See that `make update` gives the reason in one line, and changes nothing."""
    before = run("git", "status", "--porcelain", cwd=service.path, check=False).stdout
    done = update(service, **variables)

    line, last = done.stdout.splitlines()
    assert "glpat" not in line
    assert reason in line and "Error 1" in last, done.stdout
    assert done.returncode != 0
    after = run("git", "status", "--porcelain", cwd=service.path, check=False).stdout
    assert before == after


@dataclass(frozen=True)
class Hand:
    """What a person does to a file after an update."""

    edits: Mapping[str, str]  # on top of the template's version
    to: str = ""  # where the file is now, if the template no longer has it


@dataclass(frozen=True)
class Release:
    """A release that a service may come from."""

    commit: str
    hands: Mapping[str, Hand] = field(default_factory=dict)


LENGTH = '''
    async def length(text: str) -> int:  # mine: endpoint
        """Count the characters of a text."""
        return len(text)

    api.add_api_route("%s/length", length)
'''
PREDICT = '\n    api.add_api_route(\n        "/v1/predict",\n'
MODEL = '\n    @api.get("/model", responses=documented(503))\n'
PORT = '8000, description="Port to listen on; 0 takes a free one."\n'
NEEDS = "sys_platform != 'win32'\",\n"

# What 0.4.0 asks of those who come from before it: CHANGELOG.md names each file.
MOVED = {
    ".gitignore": Hand({"": "# mine: ignored\n/scratch/\n"}),
    "app/api.py": Hand({MODEL: LENGTH % "" + MODEL}),
    "app/contract.py": Hand({"LENGTH = 10_000": "LENGTH = 9_000  # mine: contract"}),
    "app/server.py": Hand({"": "# mine: server\n"}, to="serving/server.py"),
    "app/settings.py": Hand({"": "# mine: settings\n"}),
    "bench/deploy.py": Hand({"": "# mine: rules\n"}, to="bench/rules.py"),
    "monitoring/evidence.py": Hand({"": "# mine: evidence\n"}),
    "serving/server.py": Hand({"": "# mine: server\n"}),
    "tests/conftest.py": Hand({"": "# mine: fixtures\n"}),
    "tests/test_predict.py": Hand(
        {"": "# mine: tests\n"}, to="tests/app/test_predict.py"
    ),
    "training/conf/model/words.yaml": Hand(
        {"": "# mine: model\n"}, to="training/conf/model/linear.yaml"
    ),
    "training/prepare.py": Hand({"": "# mine: preparation\n"}),
}
RELEASES = {
    "0.1.0": Release("9019e62e1703", MOVED),
    "0.2.0": Release("7b6f2398a4cd", MOVED),
    "0.3.0": Release("73b9938e50a7", MOVED),
}

# What a user has changed by then, in every directory: a text (empty: the beginning) and
# what takes its place. Where a release lacks the file, nothing is changed.
EDITS: dict[str, tuple[str, str]] = {
    ".github/workflows/ci.yml": ("[main]\n", "[main] # mine: pipeline\n"),
    ".gitignore": ("", "# mine: ignored\n/scratch/\n"),
    ".pre-commit-config.yaml": ("", "# mine: hooks\n"),
    "CODEOWNERS": ("", "# mine: owners\n"),
    "CONTRIBUTING.md": ("# How to", "# mine: how to"),
    "Dockerfile": ("", "# mine: image\n"),
    "LICENSE": ("", "# mine: license\n\n"),
    "Makefile": ("", "# mine: verbs\n"),
    "README.md": ("## Start", "## mine: start"),
    "app/api.py": (PREDICT, LENGTH % "/v1" + PREDICT),
    "app/contract.py": ("LENGTH = 10_000", "LENGTH = 9_000  # mine: contract"),
    "app/server.py": ("", "# mine: server\n"),
    "app/settings.py": (PORT, f"8000,  # mine: settings\n        {PORT[6:-1]},\n"),
    "bench/deploy.py": ("", "# mine: rules\n"),
    "compose.yaml": ("", "# mine: compose\n"),
    "data/source/slots.yaml": ("", "# mine: data\n"),
    "demo/ask.py": ("", "# mine: demo\n"),
    "deploy/base/settings.env": ("", "# mine: settings\n"),
    "deploy/overlays/prod/kustomization.yaml": ("", "# mine: production\n"),
    "docs/press-release.md": ("TODO", "mine: press release"),
    "docs/runbook.md": ("# ", "# mine: runbook "),
    "docs/storage.md": ("# ", "# mine: storage "),
    "dvc.yaml": ("", "# mine: stages\n"),
    "monitoring/alerts.yaml": ("", "# mine: alerts\n"),
    "monitoring/evidence.py": ("", "# mine: evidence\n"),
    "pyproject.toml": (NEEDS, f'{NEEDS}    "idna>=3",  # mine: dependency\n'),
    "reports/capacity.md": ("# ", "# mine: measured "),
    "tests/conftest.py": ("", "# mine: fixtures\n"),
    "tests/test_predict.py": ("", "# mine: tests\n"),
    "training/conf/config.yaml": ("folds: 3", "folds: 4 # mine: config"),
    "training/conf/model/words.yaml": ("", "# mine: model\n"),
    "training/prepare.py": ("", "# mine: preparation\n"),
}
ADDED = {
    "app/mine.py": '"""mine: a module."""\n\nfrom app.contract import Instance\n\n'
    '__all__ = ["Instance"]\n',
    "docs/mine.md": "# mine: a document\n",
    "tests/test_mine.py": '"""mine: a test."""\n\n'
    "from fastapi.testclient import TestClient"
    "\n\n\ndef test_length(client: TestClient) -> None:\n"
    '    assert client.get("/v1/length?text=four").json() == 4\n',
}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The template with its whole history, and as it stands on top of that."""
    shallow = run("git", "rev-parse", "--is-shallow-repository", cwd=ROOT, check=False)
    if shallow.stdout.strip() != "false":
        pytest.skip("this clone of the template has no history: git fetch --unshallow")
    directory = tmp_path_factory.mktemp("history") / "template"
    run("git", "clone", "--quiet", str(ROOT), str(directory), cwd=ROOT)
    run("git", "checkout", "--quiet", "-B", "main", cwd=directory)
    for name in run("git", "ls-files", cwd=directory).stdout.splitlines():
        (directory / name).unlink()
    overlay(directory)
    run("git", "add", "--all", cwd=directory)
    run("git", "commit", "--quiet", "--allow-empty", "--message", "Now", cwd=directory)
    return Template(directory)


@dataclass(frozen=True)
class Old:
    """A service of an earlier release, with what its user has made of it."""

    service: Service
    marks: frozenset[str]  # what must not be lost


@pytest.fixture
def old(history: Template, tmp_path: Path, release: str) -> Iterator[Old]:
    """A service of that release, in use."""
    found = run("git", "rev-parse", RELEASES[release].commit, cwd=history.path)
    run(
        "git", "checkout", "--quiet", "--detach", found.stdout.strip(), cwd=history.path
    )
    try:
        bake_into(tmp_path, {"license": "MIT"}, template=history.path)
    finally:
        run("git", "checkout", "--quiet", "main", cwd=history.path)
    service = Service(tmp_path / "intent-service")
    for name, (before, after) in EDITS.items():
        if (service.path / name).exists():
            edit(service.path / name, before, after)
    for name, text in ADDED.items():
        (service.path / name).write_text(text, encoding="utf-8")
    commit(service)
    yield Old(service, frozenset(marks(service)))


def marks(service: Service) -> Iterator[str]:
    """What the user wrote, wherever it stands now."""
    command = ("git", "grep", "--untracked", "-oh", "mine: [a-z]*")
    yield from run(*command, cwd=service.path).stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_a_service_of_an_earlier_release_comes_over(old: Old, release: str) -> None:
    service, hands = old.service, RELEASES[release].hands
    directories = {Path(name).parts[0] for name in EDITS if "/" in name}
    here = {path.name for path in service.path.iterdir() if path.is_dir()}
    assert here - directories <= {".git", ".dvc"}

    # As CHANGELOG.md says: its own `make update` knows no way yet to follow moves.
    command = f"echo y | {sys.executable} '{PROGRAM}'"
    done = run("sh", "-c", command, cwd=service.path, check=False)

    _, merged, said = done.stdout.partition("\nMerged.\n")
    assert merged, done.stdout
    assert set(marks(service)) == old.marks
    conflicts = {line[3:] for line in status(service) if "U" in line[:2]}
    assert conflicts <= set(hands), said
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for name, hand in [(name, hands[name]) for name in sorted(conflicts)]:
        assert f"  {name}: " in said
        assert f"`{name}`" in changelog
        take(service, name, hand)
    assert set(marks(service)) == old.marks, said

    service.install()
    lint = service.make("lint", check=False)
    assert lint.returncode == 0, f"{said}\n{lint.stdout}"
    if release == "0.3.0":
        service.make("monitoring")  # as the user has edited the alerts
        # The user's edits of the engine and of the pipeline are comments.
        same = ["--ignore=tests/training", "--ignore=tests/adopt"]
        some = " ".join(without_the_engine(service) + same)
        assert " passed" in service.make("test", PYTEST_ADDOPTS=some).stdout
    commit(service)
    assert "Nothing new" in update(service).stdout


def take(service: Service, name: str, hand: Hand) -> None:
    """Take the template's version of a file, and put the user's edits into it."""
    if hand.to:
        run("git", "rm", "--quiet", "--", name, cwd=service.path)
    else:
        run("git", "checkout", "--quiet", "--theirs", "--", name, cwd=service.path)
    target = hand.to or name
    for before, after in hand.edits.items():
        edit(service.path / target, before, after)
    run("git", "add", "--", target, cwd=service.path)


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_make_update_of_an_earlier_release_loses_nothing(
    old: Old, release: str
) -> None:
    done = update(old.service)

    assert set(marks(old.service)) == old.marks
    # It says which files need a hand; those with *.rej beside them did not come over.
    conflicts = [line[3:] for line in status(old.service) if "U" in line[:2]]
    rejected = [path.name for path in old.service.path.rglob("*.rej")]
    for name in conflicts + rejected:
        assert name.removesuffix(".rej") in done.stdout
    commit(old.service)
    assert "Nothing new" in update(old.service).stdout
