"""A service follows its template: rehearsed with cruft itself, from an older commit."""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, Service, bake_into, run

BODY = "{{cookiecutter.service_slug}}"
CRUFT = str(Path(sys.executable).with_name("cruft"))


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
    """Replace a text that is there; an empty one means: append."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    changed = text.replace(old, new, 1) if old else text + new
    path.write_text(changed, encoding="utf-8")


@pytest.fixture
def template(tmp_path: Path) -> Template:
    """The template as it stands, committed once."""
    directory = tmp_path / "template"
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in run(*listed, cwd=ROOT).stdout.split("\0"):
        if not (ROOT / name).is_file():
            continue
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, directory / name)
    run("git", "init", "--quiet", cwd=directory)
    made = Template(directory)
    made.commit()
    return made


@pytest.fixture
def service(tmp_path: Path, template: Template) -> Service:
    """A service of that template."""
    answers = {"service_name": 'Odd "names"', "dvc_remote": "s3", "weeks_to_ship": "4"}
    bake_into(tmp_path, template=template.path, answers=answers)
    return Service(tmp_path / "odd-names")


def commit(service: Service) -> None:
    """Commit what the user has changed."""
    run("git", "add", "--all", cwd=service.path)
    run("git", "commit", "--quiet", "--message", "Work", cwd=service.path)


def up_to_date(service: Service) -> bool:
    """What `cruft check` says."""
    return run(CRUFT, "check", cwd=service.path, check=False).returncode == 0


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
    assert up_to_date(service)
    edit(service.path / "app" / "contract.py", "", "\n# The user's own words.\n")
    edit(service.path / "training" / "conf" / "config.yaml", "", "\n# mine\n")
    edit(service.path / "README.md", "## Start", "## How to start")
    edit(service.path / "docs" / "press-release.md", "TODO", "Everybody is happier")
    (service.path / "mine.txt").write_text("mine\n")
    commit(service)
    template.change("README.md", "## Develop", "## Develop it")
    template.change(".flake8", "", "# fixed\n")
    template.change("docs/press-release.md", "TODO", "TO DO")
    (template.path / BODY / "new.txt").write_text("new {{ cookiecutter.team }}\n")
    template.commit()
    assert not up_to_date(service)

    run(CRUFT, "update", "--skip-apply-ask", cwd=service.path)

    assert up_to_date(service)
    assert "# The user's own words." in service.read("app/contract.py")
    assert "# mine" in service.read("training/conf/config.yaml")
    assert "## How to start" in service.read("README.md")
    assert "Everybody is happier" in service.read("docs/press-release.md")
    assert service.read("mine.txt") == "mine\n"
    assert "## Develop it" in service.read("README.md")
    assert "# fixed" in service.read(".flake8")
    assert service.read("new.txt") == "new Machine learning\n"
    assert 'Odd "names"' in service.read("README.md")
    changed = run("git", "status", "--porcelain", cwd=service.path).stdout
    names = {line[3:] for line in changed.splitlines()}
    assert names == {".cruft.json", ".flake8", "README.md", "new.txt"}
    origin = json.loads(service.read(".cruft.json"))
    assert origin["commit"] == template.revision()
    assert origin["context"]["cookiecutter"]["weeks_to_ship"] == "4"


@pytest.mark.slow
def test_a_conflict_is_shown_as_a_conflict(
    template: Template, service: Service
) -> None:
    edit(service.path / "README.md", "## Start", "## Mine")
    commit(service)
    template.change("README.md", "## Start", "## Theirs")

    run(CRUFT, "update", "--skip-apply-ask", cwd=service.path, check=False)

    status = run("git", "status", "--porcelain", cwd=service.path).stdout
    assert "UU README.md" in status
    text = service.read("README.md")
    assert text.index("<<<<<<<") < text.index("## Mine") < text.index("## Theirs")


@pytest.mark.slow
def test_make_update_shows_what_is_new_asks_and_takes_it_over(
    template: Template, service: Service
) -> None:
    assert "Nothing new" in service.make("update").stdout
    template.change(".flake8", "", "# fixed\n")

    unanswered = service.make("update", check=False)

    assert unanswered.returncode != 0
    assert "# fixed" not in service.read(".flake8")
    refused = run("sh", "-c", "echo n | make update", cwd=service.path)
    assert "+# fixed" in refused.stdout
    assert "# fixed" not in service.read(".flake8")
    accepted = run("sh", "-c", "echo y | make update", cwd=service.path)
    assert "+# fixed" in accepted.stdout
    assert "# fixed" in service.read(".flake8")
    assert "Nothing new" in service.make("update").stdout


@pytest.mark.slow
def test_an_answer_can_be_changed_later_on(template: Template, tmp_path: Path) -> None:
    bake_into(tmp_path, template=template.path)
    service = Service(tmp_path / "intent-service")
    action = ".github/actions/pull-model/action.yml"
    assert "out of reach" in service.read(action)

    answers = {"dvc_remote": "s3", "dvc_remote_url": "s3://my-bucket/intents"}
    command = "echo y | make update ANSWERS='" + json.dumps(answers) + "'"
    run("sh", "-c", command, cwd=service.path)

    assert "AWS_ROLE_ARN" in service.read(action)
    assert "url = s3://my-bucket/intents" in service.read(".dvc/config")
    assert "dvc[s3]" in service.read("pyproject.toml")
    assert "S3" in service.read("docs/storage.md")
