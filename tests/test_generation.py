"""What is generated: complete, rendered, clean, and filled from the answers."""

import ast
import json
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from jinja2 import Environment

from tests.conftest import BODY, MOST_FILES, Bake, Service, run

# What Jinja's lexer finds in text that was not rendered.
UNRENDERED = {"variable_begin", "block_begin", "comment_begin"}


def text_files(service: Service) -> list[Path]:
    """All files that Git would track, but for pictures."""
    return [service.path / name for name in service.texts()]


def unrendered(path: Path) -> bool:
    """True if Jinja would still find something to do in the file."""
    # GitHub's expressions, ${{ … }}, and Prometheus's, {{ $… }}, are not Jinja's.
    text = path.read_text(encoding="utf-8").replace("${{", "").replace("{{ $", "")
    return any(kind in UNRENDERED for _, kind, _ in Environment().lex(text))


def test_nothing_is_left_unrendered(default: Service) -> None:
    left = [
        path.name
        for path in text_files(default)
        if path.suffix != ".py" and unrendered(path)
    ]

    assert not left


def test_python_is_emitted_byte_for_byte(default: Service) -> None:
    sources = [path for path in text_files(default) if path.suffix == ".py"]

    assert sources
    for path in sources:
        assert path.read_bytes() == (BODY / path.relative_to(default.path)).read_bytes()
        source = path.read_text(encoding="utf-8")
        assert not re.search(r"cookiecutter\.|\{\{|\{%", source), path
        ast.parse(path.read_bytes())


def test_every_file_can_be_parsed(default: Service) -> None:
    parsers: dict[str, Callable[[str], object]] = {
        ".toml": tomllib.loads,
        ".yaml": lambda text: list(yaml.safe_load_all(text)),
        ".yml": lambda text: list(yaml.safe_load_all(text)),
        ".json": json.loads,
    }
    parsed = 0
    for path in text_files(default):
        if path.suffix in parsers:
            parsers[path.suffix](path.read_text(encoding="utf-8"))
            parsed += 1

    assert parsed > 5


# YAML reads these as a truth value or as nothing, where they stand without quotes. No
# file of a service has them as words of its own.
@pytest.mark.parametrize(("slug", "ci"), [("off", "github"), ("yes", "gitlab")])
def test_a_name_is_a_string_in_yaml_whatever_it_is(
    bake: Bake, slug: str, ci: str
) -> None:
    service = bake(service_slug=slug, ci=ci, feedback="yes")

    read, quoted = 0, 0
    for name in service.texts():
        if not name.endswith((".yaml", ".yml")):
            continue
        read += 1
        for event in yaml.parse(service.read(name)):
            if isinstance(event, yaml.ScalarEvent) and event.value == slug:
                assert event.style, f"{name}: no quotes: {event.start_mark}"
                quoted += 1
    assert read > 30 and quoted > 50


def test_a_fresh_service_is_committed_and_clean(bake: Bake) -> None:
    service = bake()

    assert run("git", "status", "--porcelain", cwd=service.path).stdout == ""
    assert run("git", "branch", "--show-current", cwd=service.path).stdout == "main\n"


def test_a_service_inside_a_repository_joins_it(tmp_path: Path, bake: Bake) -> None:
    run("git", "init", "--quiet", cwd=tmp_path)

    assert not (bake().path / ".git").exists()


def test_the_answers_are_in_the_words(bake: Bake) -> None:
    service = bake(
        service_name="Fraud Scoring",
        description='Tells "good" from \\bad\\ payments 💸.',
        team="Payments",
        maintainers="@ada-l, @grace-h",
    )

    assert service.path.name == "fraud-scoring"
    project = tomllib.loads(service.read("pyproject.toml"))["project"]
    assert project["name"] == "fraud-scoring"
    assert project["description"] == 'Tells "good" from \\bad\\ payments 💸.'
    for document in ("README.md", "docs/press-release.md"):
        text = service.read(document).replace("\\\\", "\\")  # as Markdown shows it
        assert "Fraud Scoring" in text
        assert 'Tells "good" from \\bad\\ payments 💸.' in text
        assert "Payments" in text and "@ada-l, @grace-h" in text


def test_the_service_is_small_and_leaves_nothing_to_remove(default: Service) -> None:
    files = default.files()
    todo = [
        name
        for name in default.texts()
        # checks/ looks for them.
        if not name.startswith(("docs/", "checks/")) and "TODO" in default.read(name)
    ]

    assert len(files) <= MOST_FILES
    assert not todo
    assert not [name for name in files if name.startswith("_options")]


def test_the_verbs_of_the_readme_exist_and_are_explained(default: Service) -> None:
    named = set(re.findall(r"`?make ([a-z-]+)", default.read("README.md")))
    helped = set(re.findall(r"^  make ([a-z-]+)", default.make("help").stdout, re.M))

    assert {"run", "test", "help", "train", "ask"} <= named <= helped


def test_every_verb_that_a_document_names_is_in_the_makefile(default: Service) -> None:
    verbs = set(re.findall(r"^([a-z-]+):", default.read("Makefile"), re.M))
    for name in default.files():
        if name.endswith(".md"):
            text = default.read(name)
            named = set(re.findall(r"(?:^ +|`)make ([a-z-]+)", text, re.M))
            assert named <= verbs, name


def test_a_fresh_service_passes_its_own_checks_offline(default: Service) -> None:
    # A network namespace of its own has no network at all.
    offline = ["unshare", "--net"] if can_unshare(default.path) else []

    done = run(*offline, "make", "lint", cwd=default.path)

    assert "Failed" not in done.stdout
    assert done.stdout.count("Passed") >= 12, done.stdout


def test_the_documentation_takes_examples_from_the_tests_of_all_endpoints(
    bake: Bake,
) -> None:
    planned = bake(feedback="yes").make("--dry-run", "docs").stdout

    assert "tests/app tests/feedback/test_feedback.py" in planned


def test_the_contract_takes_a_text_in_any_case_and_spacing(default: Service) -> None:
    code = "from app.contract import Instance; print(Instance(text=' Turn  ON ').text)"

    assert default.run("python", "-c", code).stdout == "turn on\n"


def can_unshare(path: Path) -> bool:
    """True if this machine lets us take the network away from a command."""
    if shutil.which("unshare") is None:
        return False
    return run("unshare", "--net", "true", cwd=path, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("slug", ["intent-service", "a" * 40])
def test_a_long_name_breaks_no_formatting(
    bake: Bake, default: Service, slug: str
) -> None:
    service = bake(service_slug=slug)

    black = default.path / ".venv" / "bin" / "black"
    run(str(black), "--check", "--quiet", ".", cwd=service.path)
