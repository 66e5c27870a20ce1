"""The option `feedback`: chosen at the start or later, and the loop through it."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

import pytest
from playwright.sync_api import expect

from tests.conftest import Forks, Service, copy, make_once
from tests.test_demo import browser, demo
from tests.test_launch import commit, results
from tests.test_service import serving, stages_run
from tests.test_update import (
    LENGTH,
    MODEL,
    edit,
    make_template,
    record,
    status,
    update,
)

# One worker makes what they share; the others go on with other tests.
pytestmark = [pytest.mark.slow(seconds=60), pytest.mark.xdist_group("feedback")]

HERE = Path(__file__).parent / "in_service"
OPENAPI = "docs/openapi.json"
# What the owner of a service has changed before it gets the option.
MINE = {
    "README.md": ("## Start", "## How to start"),
    "app/api.py": (MODEL, LENGTH % "" + MODEL),
    "deploy/overlays/prod/kustomization.yaml": ("", "# mine: production\n"),
    "training/conf/config.yaml": ("", "# mine: configuration\n"),
}


@pytest.fixture(scope="module")
def updated(trained: Service, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service that has lived for a while, before `make update` adds the option."""

    def make(directory: Path) -> Service:
        service = copy(trained, directory)
        template = make_template(directory / "template")
        record(service, template=str(template.path), commit=template.revision())
        for name, (old, new) in MINE.items():
            edit(service.path / name, old, new)
        service.run("python", "-m", "checks.generated")
        commit(service, "Live")

        done = update(service, ANSWERS='{"feedback": "yes"}')

        (directory / "said").write_text(done.stdout, encoding="utf-8")
        assert done.returncode == 0, done.stdout
        (service.path / ".venv").unlink()
        service.install()
        # The model is what it was: nothing of it is trained again.
        assert set(stages_run(service.make("train").stdout)) <= {"compose"}
        commit(service, "Collect feedback")
        return service

    return make_once(tmp_path_factory, "updated", make)


def test_an_update_adds_what_a_generation_gives_and_keeps_the_edits(
    updated: Service, with_feedback: Service
) -> None:
    said = (updated.path.parent / "said").read_text(encoding="utf-8")
    given = with_feedback.files()
    theirs = {*MINE, OPENAPI, ".cruft.json", "uv.lock"}
    results_of_training = ("reports/", "docs/model-card.md", "dvc.lock")

    assert "needs a hand" not in said
    assert "make setup train monitoring docs lint test" in said
    assert given <= updated.files()
    for name in sorted(given - theirs):
        if not name.startswith(results_of_training):
            before, after = (
                (one.path / name).read_bytes() for one in (with_feedback, updated)
            )
            assert before == after, name
    for name, (_, new) in MINE.items():
        assert new in updated.read(name)
    assert "components/feedback" in updated.read(
        "deploy/overlays/prod/kustomization.yaml"
    )


def test_generated_documents_are_fresh_with_feedback(
    with_feedback: Service, forks: Forks, tmp_path: Path
) -> None:
    service = copy(with_feedback, tmp_path)

    assert forks.run(service, module="checks.generated").returncode == 0

    assert status(service) == []


def test_make_docs_writes_what_an_update_cannot_know(
    updated: Service, forks: Forks, tmp_path: Path
) -> None:
    service = copy(updated, tmp_path)

    assert forks.run(service, module="checks.generated").returncode == 0

    assert {line[3:] for line in status(service)} == {OPENAPI}
    paths = json.loads(service.read(OPENAPI))["paths"]
    assert {"/v1/feedback", "/v1/length"} <= set(paths)


def test_a_service_with_feedback_has_no_more_to_do_than_another(
    default: Service, with_feedback: Service, forks: Forks
) -> None:
    before, after = (
        {rule for rule, one in results(service, forks).items() if is_open(one)}
        for service in (default, with_feedback)
    )

    assert after == before - {"O3"}


def is_open(result: dict[str, object]) -> bool:
    """Whether a rule has something to do."""
    return result["state"] == "to do"


def test_some_of_its_tests_give_the_documentation_its_examples(
    updated: Service,
) -> None:
    # test_recipes.py runs all of them.
    needed = updated.make("--dry-run", "--always-make", "outputs/exchanges.json").stdout
    tests = re.findall(r"tests/feedback/\w+\.py::\w+", needed)

    done = updated.run("pytest", "--exchanges", "outputs/all.json", *tests)

    assert len(tests) <= int(re.findall(r"(\d+) passed", done.stdout)[0])
    statuses = {
        one["status"]
        for one in json.loads(updated.read("outputs/all.json"))
        if one["path"] == "/v1/feedback"
    }
    assert {200, 201, 409} <= statuses
    assert "0 broken" in updated.run("lint-imports").stdout


def has_postgresql() -> bool:
    """Whether PostgreSQL is installed, as the tests of a service look for it."""
    return any(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.mark.skipif(not has_postgresql(), reason="PostgreSQL is not installed")
def test_what_users_correct_makes_a_better_model(
    updated: Service, tmp_path: Path
) -> None:
    service = copy(updated, tmp_path)
    test = service.path / "tests" / "feedback" / "test_loop.py"
    test.write_bytes((HERE / "loop.py").read_bytes())

    done = service.run("pytest", "-s", f"{test}")

    print(re.findall(r"(accuracy \d.*|memory with .*)$", done.stdout, re.MULTILINE))
    decision = json.loads(service.read("reports/promotion.json"))
    assert decision["promoted"], done.stdout
    slices = (service.path / "reports" / "plots" / "slices.json").read_text("utf-8")
    assert "tenant: acme" in slices and "tenant: beta" in slices


@contextmanager
def postgresql(service: Service) -> Iterator[tuple[str, Callable[[str], str]]]:
    """A database, as an address and a function that runs a statement in it."""
    (service.path / "database.py").write_bytes((HERE / "database.py").read_bytes())
    process = subprocess.Popen(
        [str(service.path / ".venv" / "bin" / "python"), "-m", "database"],
        cwd=service.path,
        env=service.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout
    into, out = process.stdin, process.stdout

    def run_sql(statement: str) -> str:
        print(statement, file=into, flush=True)
        return out.readline().strip()

    try:
        yield out.readline().strip(), run_sql
    finally:
        process.communicate()


@pytest.mark.skipif(
    not (has_postgresql() and which("chromium")),
    reason="PostgreSQL or chromium is not installed",
)
def test_what_a_person_corrects_on_the_page_is_in_the_database(
    updated: Service, tmp_path: Path
) -> None:
    service = copy(updated, tmp_path)
    text = "gimme some glow in the attic"
    with postgresql(service) as (address, run_sql):
        service.make("migrate", DATABASE_URL=address)
        with serving(service, DATABASE_URL=address) as url, demo(service, url) as at:
            with browser([]) as page:
                # All labels fit into the page.
                page.set_viewport_size({"width": 700, "height": 2_000})
                page.goto(at)
                page.get_by_label("text").fill(text)
                page.get_by_role("button", name="Predict").click()
                truth = page.get_by_role("combobox", name="Wrong, it is …")
                truth.fill("HassTurnOn")
                page.get_by_role("option", name="HassTurnOn", exact=True).click()
                expect(truth).to_have_value("HassTurnOn")
                page.get_by_role("button", name="Wrong").click()
                page.get_by_text("Your feedback is stored").wait_for()
        stored = run_sql("SELECT label, instance->>'text' FROM feedback")

    assert stored == f"HassTurnOn|{text}"
