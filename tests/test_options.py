"""Each choice changes just what it should, and every pair of choices works together."""

import hashlib
import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from covertable import make

from tests.conftest import BODY, ENVIRONMENT, MOST_FILES, ROOT, Service, bake_into
from tests.questions import CHOICES, QUESTIONS, answer
from tests.test_validation import REFUSED, assert_as_given

OPTIONS = BODY / "_options"
WEEKS = {"weeks_to_ship": ["2", "3"]}
FACTORS = CHOICES | WEEKS
PAIRWISE: list[dict[str, str]] = make(FACTORS)


def tree(path: Path) -> dict[str, bytes]:
    """The files of a service, without the record of its answers."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != ".cruft.json"
    }


def option_trees(answers: Mapping[str, str]) -> list[Path]:
    """The option folders of the answers."""
    over = "over-two-weeks" if answers["weeks_to_ship"] == "3" else "up-to-two-weeks"
    storage = f"{answers['ci']}-{answers['dvc_remote']}"
    chosen = {**answers, "__time_to_ship": over, "__ci_storage": storage}
    return [OPTIONS / question / name for question, name in chosen.items()]


def test_every_option_folder_is_the_answer_to_a_question() -> None:
    folders = {path.relative_to(OPTIONS).as_posix() for path in OPTIONS.glob("*/*")}
    chosen = {
        path.relative_to(OPTIONS).as_posix()
        for answers in PAIRWISE
        for path in option_trees(answers)
    }

    assert folders
    assert folders <= chosen


@pytest.mark.slow
@pytest.mark.parametrize(
    ("question", "choice"),
    [(question, name) for question in FACTORS for name in FACTORS[question][1:]],
)
def test_every_choice_has_an_effect(tmp_path: Path, question: str, choice: str) -> None:
    # Beside the default, and beside the choice before it.
    earlier = FACTORS[question][FACTORS[question].index(choice) - 1]
    trees = []
    for number, name in enumerate([FACTORS[question][0], earlier, choice]):
        directory = tmp_path / str(number)
        directory.mkdir()
        trees.append(tree(answer(directory, {question: name}).service.path))

    assert trees[2] not in trees[:2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "question", [question for question in QUESTIONS if question not in FACTORS]
)
def test_every_other_answer_has_an_effect(tmp_path: Path, question: str) -> None:
    other = {
        "maintainers": "@ada",
        "domain": "ml.example.com",
        "container_registry": "ghcr.io/another",
        "repository": "https://github.com/another/one",
        "issue_tracker_url": "https://github.com/another/one",
        "dvc_remote_url": "/srv/storage",
    }.get(question, "another")
    trees = []
    for number, answers in enumerate([{}, {question: other}]):
        directory = tmp_path / str(number)
        directory.mkdir()
        trees.append(tree(answer(directory, answers).service.path))

    assert trees[0] != trees[1]
    assert any(other.encode() in text for text in trees[1].values())


GIVEN: list[tuple[dict[str, str], dict[str, str]]] = [
    (
        {"container_registry": "ghcr.io/acme", "issue_tracker": "jira"},
        {"repository": "https://github.com/acme/intent-service"},
    ),
    (
        {"container_registry": "ghcr.io/acme"},
        {
            "repository": "https://github.com/acme/intent-service",
            "issues": "https://github.com/acme/intent-service/issues",
        },
    ),
    (
        {"repository": "https://github.com/Acme/claims"},
        {
            "repository": "https://github.com/Acme/claims",
            "issues": "https://github.com/Acme/claims/issues",
            "image": "ghcr.io/acme/intent-service",
            "owners": "@Acme",
        },
    ),
    (
        {
            "repository": "https://gitlab.com/acme/ml/claims",
            "ci": "gitlab",
            "issue_tracker": "gitlab",
        },
        {
            "repository": "https://gitlab.com/acme/ml/claims",
            "issues": "https://gitlab.com/acme/ml/claims/-/issues",
            "image": "registry.gitlab.com/acme/ml/intent-service",
            "owners": "@acme",
        },
    ),
    (
        {"issue_tracker_url": "https://github.com/acme/x/issues"},
        {
            "repository": "https://github.com/acme/x",
            "image": "ghcr.io/acme/intent-service",
        },
    ),
    (
        {"maintainers": "@ada, @acme/ml"},
        {
            "repository": "https://github.com/acme/intent-service",
            "issues": "https://github.com/acme/intent-service/issues",
            "image": "ghcr.io/acme/intent-service",
        },
    ),
]


@pytest.mark.parametrize(("answers", "expected"), GIVEN, ids=str)
def test_links_image_and_owners_follow_from_one_answer(
    tmp_path: Path, answers: dict[str, str], expected: dict[str, str]
) -> None:
    service = answer(tmp_path, answers).service

    urls = tomllib.loads(service.read("pyproject.toml"))["project"]["urls"]
    image = re.search(" image: (.*)", service.read("deploy/base/deployment.yaml"))
    assert image
    found = {
        "repository": urls["Repository"],
        "issues": urls["Issues"],
        "image": image[1],
        "owners": service.read("CODEOWNERS").splitlines()[-1].removeprefix("* "),
    }
    assert found.items() >= expected.items()
    for name in (
        "monitoring/alerts.yaml",
        "monitoring/kubernetes/prometheus-rule.yaml",
    ):
        links = re.findall('runbook_url: "(.*)/blob/main/', service.read(name))
        assert len(links) >= 15 and set(links) == {expected["repository"]}


def test_no_file_names_a_rule_number_or_an_address_of_grafana(tmp_path: Path) -> None:
    for answers in ({}, {question: names[-1] for question, names in FACTORS.items()}):
        path = answer(tmp_path, answers).service.path
        for file in path.rglob("*"):
            if file.is_file() and file.suffix not in {".svg", ".png"}:
                text = file.read_text(encoding="utf-8")
                assert not re.search(r"\brules? [WSBMPCVEO]\d", text), file
                assert "grafana." not in text, file
        shutil.rmtree(path)


def test_more_than_two_weeks_ask_for_a_functional_spec(tmp_path: Path) -> None:
    for weeks, expected in {"0.5": False, "2": False, "2.5": True, "52": True}.items():
        service = answer(tmp_path, {"weeks_to_ship": weeks}).service
        assert (service.path / "docs" / "functional-spec.md").exists() == expected
        shutil.rmtree(service.path)


def test_pairwise_covers_every_pair() -> None:
    for one, other in itertools.combinations(FACTORS, 2):
        seen = {(answers[one], answers[other]) for answers in PAIRWISE}
        assert seen == set(itertools.product(FACTORS[one], FACTORS[other]))


def digest(service: Service) -> str:
    """What black, isort, flake8 and mypy look at: Python and their settings."""
    look = hashlib.sha256()
    for name, content in tree(service.path).items():
        if name.endswith((".py", ".flake8")):
            look.update(name.encode() + content)
    tools = tomllib.loads(service.read("pyproject.toml"))["tool"]
    look.update(json.dumps(tools, sort_keys=True).encode())
    return look.hexdigest()


@pytest.mark.slow
def test_every_pair_of_choices_gives_a_service_that_is_whole(tmp_path: Path) -> None:
    common = {
        path.relative_to(BODY).as_posix()
        for path in BODY.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
        if OPTIONS not in path.parents
    }
    looks: set[str] = set()
    for answers in PAIRWISE:
        outcome = answer(tmp_path, answers)
        assert not outcome.refused, outcome.said
        assert_as_given(outcome, answers)
        own = {
            path.relative_to(option).as_posix()
            for option in option_trees(answers)
            for path in option.rglob("*")
            if path.is_file()
        }
        assert set(tree(outcome.service.path)) == common | own
        chosen = 40 if answers["feedback"] == "yes" else 0
        assert len(common | own) <= MOST_FILES + chosen
        # The tools are asked once for each set of Python files and settings that
        # differ: as long as no option owns Python, there is one.
        if digest(outcome.service) not in looks:
            lint(outcome.service)
            looks.add(digest(outcome.service))
        shutil.rmtree(outcome.service.path)
    print(f"{len(PAIRWISE)} combinations cover every pair; linted: {len(looks)}")


def lint(service: Service) -> None:
    """Ask the four tools, with the service's own settings."""
    service.install()
    service.run("black", "--check", "--quiet", ".")
    service.run("isort", "--check", "--quiet", ".")
    service.run("flake8")
    service.run("mypy")


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """A copy of what cookiecutter reads of the template, to be sabotaged."""
    copy = tmp_path / "template"
    for name in ("hooks", BODY.name):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    shutil.copy(ROOT / "cookiecutter.json", copy)
    return copy


RULES = {question for answers, _, _ in REFUSED for question in answers} - set(CHOICES)


@pytest.mark.parametrize("question", sorted(RULES))
def test_without_its_rule_a_mistake_passes(
    template: Path, tmp_path: Path, question: str
) -> None:
    hook = template / "hooks" / "pre_gen_project.py"
    text = hook.read_text(encoding="utf-8")
    mistake = next(
        answers for answers, *_ in REFUSED if question in answers and answers[question]
    )
    assert answer(tmp_path, mistake, template=template, only_checked=True).refused

    without = re.sub(rf'    "{question}": check_\w+,\n', "", text)
    assert without != text
    hook.write_text(without, encoding="utf-8")

    assert not answer(tmp_path, mistake, template=template, only_checked=True).refused


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("left.py", "TEAM = '{{ cookiecutter.team }}'\n"),
        ("left.txt", "{% raw %}{% if cookiecutter.ci %}{% endraw %}\n"),
        ("left.yaml", "- 'a\n"),
        ("left.toml", 'team = "{{ cookiecutter.team }}\n'),
        ("left.json", "{\n"),
    ],
)
def test_a_file_that_came_out_wrong_leaves_no_service(
    template: Path, tmp_path: Path, name: str, text: str
) -> None:
    assert not answer(tmp_path, {"service_slug": "whole"}, template=template).refused
    (template / BODY.name / name).write_text(text)

    outcome = answer(tmp_path, {}, template=template)

    assert outcome.refused
    assert name in outcome.said and "Traceback" not in outcome.said
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["whole"]


def test_without_git_and_uv_a_service_is_made_and_told_so(tmp_path: Path) -> None:
    done = bake_into(tmp_path, PATH="")

    assert "git is not installed" in done.stdout
    assert "uv is not on the PATH" in done.stdout
    assert "make run" in done.stdout
    assert not (tmp_path / "intent-service" / ".git").exists()


def test_without_an_identity_nothing_is_committed_and_that_is_said(
    tmp_path: Path,
) -> None:
    done = bake_into(tmp_path, GIT_AUTHOR_NAME="", GIT_COMMITTER_NAME="")

    assert "Nothing was committed" in done.stdout
    assert (tmp_path / "intent-service" / ".git").is_dir()


@pytest.mark.parametrize("python", ["python3.10", "python3.13"])
def test_the_hooks_run_on_other_pythons(tmp_path: Path, python: str) -> None:
    found = interpreter(python)
    if found is None:
        pytest.skip(f"there is no {python} on this machine")
    service = tmp_path / "intent-service"

    for typed, expected in (({}, 0), ({"domain": "x"}, 1)):
        scripts = rendered_hooks(tmp_path, typed)
        service.mkdir()
        for script in scripts:
            done = subprocess.run(
                [found, "-I", "-W", "error", str(script)],
                cwd=service,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                break
        assert done.returncode == expected, done.stderr
        assert "Traceback" not in done.stderr
        shutil.rmtree(service)


def interpreter(python: str) -> str | None:
    """A Python of that version, wherever uv finds one."""
    uv = str(Path(sys.executable).with_name("uv"))
    found = subprocess.run(
        [uv, "python", "find", "--no-python-downloads", python.removeprefix("python")],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    return found.stdout.strip() or None


def rendered_hooks(directory: Path, typed: dict[str, str]) -> list[Path]:
    """The two hooks as cookiecutter renders them, with no options to lay."""
    values: dict[str, Any] = {
        question: default[0] if isinstance(default, list) else default
        for question, default in QUESTIONS.items()
    }
    values |= {"repository": "https://github.com/a/b", "maintainers": "@a"}
    values |= {"service_slug": "a", "issue_tracker_url": "https://github.com/a/b"}
    values |= {"dvc_remote_url": "/srv", "container_registry": "ghcr.io/a"}
    values |= {
        "_template": "t",
        "_repo_dir": "t",
        "_output_dir": ".",
        "_checkout": None,
    }
    values |= typed
    scripts = []
    for name in ("pre_gen_project.py", "post_gen_project.py"):
        text = (ROOT / "hooks" / name).read_text(encoding="utf-8")
        text = text.replace("{{ cookiecutter | tojson }}", json.dumps(values))
        text = text.replace("{{ _cookiecutter | default({}) | tojson }}", "{}")
        scripts.append(directory / name)
        scripts[-1].write_text(text, encoding="utf-8")
    return scripts


def test_the_hooks_hold_no_jinja_but_the_context() -> None:
    for hook in (ROOT / "hooks").glob("*.py"):
        text = hook.read_text(encoding="utf-8")
        for context in (
            "cookiecutter | tojson",
            "_cookiecutter | default({}) | tojson",
        ):
            text = text.replace("{{ " + context + " }}", "")
        assert not re.search("{[{%#]", text), hook.name


def test_nothing_in_the_template_offends_windows(tmp_path: Path) -> None:
    outcome = answer(tmp_path, {"dvc_remote_url": "C:\\data\\new"})
    paths = list(outcome.service.path.rglob("*"))

    assert paths
    for path in paths:
        assert not path.is_symlink()
        assert not set(path.name) & set('<>:"|?*\\') and path.name[-1] not in ". "
    names = [path.as_posix().lower() for path in paths]
    assert len(names) == len(set(names))
    assert max(len(str(path.relative_to(tmp_path))) for path in paths) < 150
    for hook in (ROOT / "hooks").glob("*.py"):
        text = hook.read_text(encoding="utf-8")
        assert "shell=True" not in text and "os.system" not in text
        assert "symlink_to" not in text and "os.symlink" not in text  # makes one
        assert text.count("read_text(") == text.count('read_text(encoding="utf-8")')
