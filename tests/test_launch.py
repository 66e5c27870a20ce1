"""`make launch` of a service: what is to do in a fresh one, and each rule broken.

A rule is broken in a service that follows them all: exactly its check goes red.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Forks, Service, bake_into, copy, make_once, run
from tests.test_service import edit

pytestmark = pytest.mark.slow(seconds=60)

TODAY = date.today()
SOON = TODAY + timedelta(days=60)
# One worker makes what they share; the others go on with other tests.
GUIDED = pytest.mark.xdist_group("guided")
PRESS_RELEASE = "docs/press-release.md"
EVIDENCE = "docs/evidence/evidence.json"
ANSWERS = {
    "repository": "https://github.com/the-team/intent-service",
    "maintainers": "@ada-l, @grace-h",
    "product_manager": "@mary-j",
    "domain": "ml.test",
    "dvc_remote": "s3",
    "dvc_remote_url": "s3://the-bucket/intent-service",
    "weeks_to_ship": "4",
}
HEAD = {
    "status: draft": "status: agreed",
    "\ndate: null": f"\ndate: {SOON}",
    "metric: null": "metric: Share of sentences that nobody corrects",
    "baseline: null": "baseline: 71",
    "target: null": "target: 90",
    "  date: null": f"  date: {SOON}",
}
WAIVER = """
[[waiver]]
rule = "{}"
reason = "Users are colleagues and tell us."
owner = "@ada-l"
expires = {}
"""
WAIVED = ("O3",)
SPEC = "docs/functional-spec.md"
EXCHANGES = "outputs/exchanges.json"
OPENAPI = "docs/openapi.json"
MIGRATION = '"""A migration."""\n\nop.create_table("answers")\n'
DATABASE = (
    "# Database\n\n`answers`\n\n## Indexes\n\nNone: a few rows.\n\n"
    "## Changes of records\n\nNone.\n"
)


def states(service: Service, forks: Forks) -> dict[str, str]:
    """The state of each rule."""
    return {rule: one["state"] for rule, one in results(service, forks).items()}


def results(service: Service, forks: Forks) -> dict[str, Any]:
    """The result of each rule, as `make launch` would have it."""
    return {one["rule"]: one for one in launch(service, forks)["rules"]}


def launch(service: Service, forks: Forks) -> dict[str, Any]:
    """What `make launch` finds: rules and score."""
    done = forks.run(service, "--json", module="checks")
    assert done.returncode == 0, done.stdout[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write(service: Service, name: str, text: str) -> None:
    """Write a file of the service."""
    file = service.path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def commit(service: Service, message: str, *words: str, **variables: str) -> None:
    """Commit all that has changed, without the hooks."""
    run("git", "add", "--all", cwd=service.path)
    command = ("git", "commit", "--quiet", "--allow-empty", "--no-verify", *words)
    run(*command, "--message", message, cwd=service.path, check=True, **variables)


def fill(service: Service) -> None:
    """Write what only people can write, and keep what only a deployment shows."""
    for name, old in todos(service):
        heading = service.read(name).split(f"\n\n{old}")[0].rpartition("\n")[2]
        edit(service, name, old, read_example(name, heading))
    for old, new in HEAD.items():
        edit(service, PRESS_RELEASE, old, new)
    waivers = "".join(WAIVER.format(rule, SOON) for rule in WAIVED)
    write(service, "docs/waivers.toml", waivers)
    alerts = re.findall(r"- alert: (\w+)", service.read("monitoring/alerts.yaml"))
    evidence = {
        "facts": {"Date": f"{TODAY} 08:00:00 UTC", "Prometheus": "3.5, https://p.test"},
        "missing": [],
        "alerts": [{"alert": alert} for alert in alerts],
        "panels": [{"picture": "01-rate.png"}],
    }
    write(service, EVIDENCE, json.dumps(evidence))
    write(service, "docs/evidence/01-rate.png", "")
    empty: dict[str, Any] = {"headers": [], "request": "", "answer": ""}
    exchanges = [
        empty | {"method": method, "path": path, "status": status}
        for method, path in (("POST", "/v1/predict"), ("GET", "/v1/model"))
        for status in (200, 401)
    ]
    write(service, EXCHANGES, json.dumps(exchanges))


def read_example(name: str, heading: str) -> str:
    """What the worked example of the template has below a heading of a document."""
    text = (ROOT / "docs" / "example" / Path(name).name).read_text(encoding="utf-8")
    _, found, rest = text.partition(f"\n{heading}\n\n")
    assert found, f"docs/example has no {heading!r} of {name}"
    return rest.partition("\n\n## ")[0].strip()


def todos(service: Service) -> Iterator[tuple[str, str]]:
    """File and text of each line that a person is to replace."""
    for name in service.texts():
        if name.startswith("docs/"):
            for line in re.findall(r"^TODO\(owner\): .*$", service.read(name), re.M):
                yield name, line


@pytest.fixture(scope="module")
def launched(trained: Service, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service of a team that follows all rules, waives one, and has no model here."""

    def make(directory: Path) -> Service:
        bake_into(directory, ANSWERS)
        service = Service(directory / "intent-service")
        (service.path / ".venv").symlink_to((trained.path / ".venv").resolve())
        for name in ("uv.lock", "dvc.lock"):
            shutil.copy(trained.path / name, service.path)
        for name in ("metrics.json", "config.yaml"):
            shutil.copy(trained.path / "reports" / name, service.path / "reports")
        fill(service)
        service.run("python", "-m", "checks.generated")
        commit(service, "Launch")
        return service

    return make_once(tmp_path_factory, "launched", make)


def test_what_only_people_can_write_is_to_do_in_a_fresh_service(
    default: Service, forks: Forks
) -> None:
    found = results(default, forks)
    open_rules = [rule for rule, one in found.items() if one["state"] == "to do"]
    places = {
        f"{one['file']}:{one['line']}"
        for result in found.values()
        for one in result["findings"]
    }

    assert open_rules == [
        *("W1", "S3", "D3", "D4", "M4", "V1", "E1", "O3", "O4", "O7", "O8")
    ]
    for name, line in todos(default):
        number = default.read(name).splitlines().index(line) + 1
        assert f"{name}:{number}" in places
    assert {r for r, one in found.items() if one["state"] == "not applicable"} == {
        *("W2", "S4", "B1", "B2", "B3", "O5")
    }


def test_a_service_that_follows_all_rules_has_nothing_to_do(
    launched: Service, forks: Forks
) -> None:
    found = states(launched, forks)
    others = {rule: state for rule, state in found.items() if state != "done"}

    assert others == {
        "B1": "not applicable",
        "B2": "not applicable",
        "B3": "not applicable",
        "S4": "not applicable",
        "C5": "not checked",
        "V1": "not checked",
        "O3": "waived",
        "O5": "not applicable",
    }
    assert forks.run(launched, "--strict", module="checks").returncode == 0


def test_strict_fails_while_anything_is_to_do(default: Service) -> None:
    done = default.make("launch", "STRICT=1", check=False)

    assert done.returncode == 2, done.stdout
    assert "docs/press-release.md:" in done.stdout
    rules = re.findall(r"^### ", default.read("docs/rules.md"), re.M)
    assert default.read("outputs/launch.html").count("<tr") == len(rules) + 28
    assert "ML Test Score" in done.stdout


@dataclass(frozen=True)
class Change:
    """A change of a file: a text, and what takes its place (None: it is added)."""

    file: str
    old: str | None
    new: str

    def __call__(self, service: Service) -> None:
        """Make it."""
        if self.old is None:
            file = service.path / self.file
            text = file.read_text(encoding="utf-8") if file.exists() else ""
            write(service, self.file, text + self.new)
        else:
            edit(service, self.file, self.old, self.new)


def change_alert(old: str, new: str) -> Callable[[Service], None]:
    """A change of the alerts, with all that follows from them."""

    def change(service: Service) -> None:
        text = service.read("monitoring/alerts.yaml")
        assert old in text
        write(service, "monitoring/alerts.yaml", text.replace(old, new))
        service.run("python", "-m", "monitoring")

    return change


def change_api(file: str, old: str, new: str) -> Callable[[Service], None]:
    """A change of the API, with all that follows from it."""

    def change(service: Service) -> None:
        edit(service, file, old, new)
        service.run("python", "-m", "checks.generated")

    return change


def release(change: Callable[[Service], None]) -> Callable[[Service], None]:
    """A change after a release."""

    def release_first(service: Service) -> None:
        run("git", "tag", "v1.0.0", cwd=service.path)
        change(service)

    return release_first


def waive_another(service: Service) -> None:
    """Waive another rule than the one that is not followed."""
    edit(service, "docs/waivers.toml", 'rule = "O3"', 'rule = "O5"')


def fix_nothing(service: Service) -> None:
    """Commit a fix that says nothing."""
    edit(service, "demo/ask.py", "import sys\n", "import sys\n\n")
    commit(service, "Fix it")


def leave_a_branch(service: Service) -> None:
    """Leave work on a branch for ten days."""
    run("git", "switch", "--quiet", "--create", "old", cwd=service.path)
    day = f"{TODAY - timedelta(days=10)}T12:00:00"
    commit(service, "Begin", GIT_COMMITTER_DATE=day, GIT_AUTHOR_DATE=day)
    run("git", "switch", "--quiet", "main", cwd=service.path)


def add_database(listed: str) -> Callable[[Service], None]:
    """A migration, and what docs/database.md has."""

    def add(service: Service) -> None:
        write(service, "app/versions/one.py", MIGRATION)
        write(service, "docs/database.md", listed)

    return add


def track_data(service: Service) -> None:
    """Put data into Git."""
    write(service, "data/extra.csv", "text,label\n")
    run("git", "add", "--force", "data/extra.csv", cwd=service.path)


def untrack_lock(service: Service) -> None:
    """Forget to commit the lock of the dependencies."""
    run("git", "rm", "--quiet", "--cached", "uv.lock", cwd=service.path)


ELSE = """

def choose(left: bool) -> int:
    \"\"\"Choose.\"\"\"
    if left:
        return 1
    else:
        return 2
"""
DEEP = """

def look(rows: list[list[list[int]]]) -> None:
    \"\"\"Look.\"\"\"
    for row in rows:
        for cells in row:
            for cell in cells:
                while cell:
                    if cell:
                        print(cell)
"""
UNTYPED = '\n\ndef choose(left):\n    """Choose."""\n    return left\n'
ENDPOINT = """
    @api.get("/other", responses=documented(503))
    async def other() -> ModelInfo:
        \"\"\"Return the same.\"\"\"
        return service.model.info

    return api
"""


def add_endpoint(service: Service) -> None:
    """Add an endpoint to the code and to the spec, with no test."""
    edit(service, SPEC, "`GET /v1/model` says", "`GET /v1/model`, `GET /v1/other` say")
    change_api("app/api.py", "\n    return api\n", ENDPOINT)(service)


ACTION = "|---|---|---|---|\n| Ask users | {} | {} | {} |\n"
GATE = "if: github.ref == 'refs/heads/main'"

BROKEN: list[tuple[str, Callable[[Service], None]]] = [
    ("W1", Change(PRESS_RELEASE, "## How to get it", "## How")),
    ("W1", Change(PRESS_RELEASE, "status: agreed", "status: draft")),
    (
        "W1",
        Change(
            PRESS_RELEASE,
            "## Feature overview\n\n",
            "## Feature overview\n\n"
            "What can they do that they could not do before?\n"
            "Three things at most.\n\n",
        ),
    ),
    ("W1", Change("README.md", "## Start\n", "## Begin\n")),
    ("W2", Change(SPEC, None, "\n## More\n")),
    ("W2", Change(SPEC, None, "\nSee `GET /v1/nothing`.\n")),
    ("W2", Change(SPEC, "`GET /v1/model` says", "something says")),
    (
        "W3",
        Change(".pre-commit-config.yaml", "[pre-commit, commit-msg]", "[pre-commit]"),
    ),
    ("W3", fix_nothing),
    (
        "W4",
        Change(".github/workflows/ci.yml", GATE, f"{GATE} && github.actor == 'ada'"),
    ),
    ("W4", leave_a_branch),
    (
        "S1",
        change_api(
            "app/api.py", '        """Predict for one or more instances."""\n', ""
        ),
    ),
    ("S2", Change("docs/rules.md", "### W1", "### W0")),
    ("S2", Change("docs/monitoring.md", "| 0.995 |", "| 0.999 |")),
    ("S2", Change(OPENAPI, '"maxItems": 1000', '"maxItems": 999')),
    ("S4", Change(PRESS_RELEASE, "status: agreed", "status: launched")),
    (
        "S4",
        release(change_api("app/contract.py", "INSTANCES = 1_000", "INSTANCES = 999")),
    ),
    ("S3", Change("CODEOWNERS", "@grace-h", "@grace-h @john-d")),
    ("S3", Change("README.md", "## Develop\n", "## Change\n")),
    ("D1", Change("README.md", "(docs/problems.md)", "(docs/problem.md)")),
    ("D1", Change("docs/model-card.md", "#labeldrift", "#labelsdrift")),
    ("D2", Change("docs/problems.md", "raise `MAX_BODY_BYTES`", "raise `MAX_BODY`_")),
    ("D2", Change("README.md", "`make evidence`", "`make evidences`")),
    ("D2", Change("README.md", "`http_requests_shed_total`", "`http_shed_total`")),
    ("D2", Change("docs/runbook.md", "limit: see CpuSaturated", "limit: see CpuBusy")),
    ("D2", Change("README.md", "`app/contract.py`", "`app/contracts.py`")),
    ("D3", Change("README.md", "intent-service.ml.test", "intent-service.example.com")),
    ("D3", Change("README.md", "`ghcr.io/the-team", "`ghcr.io/your-org")),
    ("D4", Change("docs/model-card.md", "| accuracy | 0.", "| accuracy | 1.")),
    ("D4", Change("docs/model-card.md", "## Limits", "## No limits")),
    ("B1", add_database(DATABASE.replace("`answers`", "Nothing."))),
    ("B2", add_database(DATABASE.replace("Indexes", "Tables"))),
    ("B3", add_database(DATABASE.replace("\n\nNone.\n", "\n"))),
    ("M1", Change("docs/monitoring.md", "| Monitored |", "| Watched |")),
    ("M2", change_alert("slow_predictions", "late_predictions")),
    ("M3", change_alert("disk_", "room_")),
    ("M4", Change(EVIDENCE, f"{TODAY} 08", f"{TODAY - timedelta(days=91)} 08")),
    ("M4", Change(EVIDENCE, "01-rate.png", "02-rate.png")),
    ("M4", Change(EVIDENCE, "3.5, https://p.test", "3.5, run on this machine")),
    ("P1", Change("docs/first-service.md", "`make rollback ENV=prod`", "Git")),
    ("C1", Change(".pre-commit-config.yaml", "id: isort", "id: sort")),
    ("C2", Change("demo/ask.py", None, ELSE)),
    ("C2", Change("demo/ask.py", None, DEEP)),
    ("C3", Change("demo/ask.py", None, UNTYPED)),
    ("C3", Change("pyproject.toml", "strict = true", "strict = false")),
    ("C4", add_endpoint),
    ("C4", Change(EXCHANGES, '/v1/model", "status": 401', '/v1/model", "status": 200')),
    ("C5", Change("deploy/base/deployment.yaml", "path: /readyz", "path: /livez")),
    ("V1", track_data),
    ("V1", Change("dvc.lock", "  ingest:\n", "  inject:\n")),
    ("V1", Change(".dvc/config", "s3://the-bucket", "/mnt")),
    ("E1", Change("training/conf/config.yaml", "\nseed: 0", "\nseeds: 0")),
    ("E1", untrack_lock),
    ("O1", Change("docs/handover.md", "| Team | Machine", "| Team | No machine")),
    (
        "O2",
        Change("dvc.yaml", "models/model.onnx:", "models/b.onnx: {}\n      - m.onnx:"),
    ),
    ("O3", waive_another),
    ("O4", Change("README.md", "@mary-j", "@mary-k")),
    (
        "O5",
        Change(
            "docs/retrospective.md",
            "|---|---|---|---|\n",
            ACTION.format("@a", SOON, "?"),
        ),
    ),
    (
        "O5",
        Change(
            "docs/retrospective.md",
            "|---|---|---|---|\n",
            ACTION.format("@ada-l", TODAY - timedelta(days=1), "open"),
        ),
    ),
    ("O6", Change("demo/page.py", "import streamlit as st\n", "")),
    ("O6", Change("Dockerfile", " AS demo\n", "\n")),
    ("O7", Change(PRESS_RELEASE, "target: 90", "target: much")),
    ("O7", Change(PRESS_RELEASE, "target: 90", "target: 95")),
    (
        "O7",
        Change(
            PRESS_RELEASE, f"  date: {SOON}", f"  date: {TODAY - timedelta(days=1)}"
        ),
    ),
    ("O8", Change("docs/handover.md", "## Who has access", "## Access")),
    ("O9", Change(".cruft.json", '"template": "', '"template": "", "was": "')),
    ("O9", Change("pyproject.toml", 'exclude-newer = "2026', 'exclude-newer = "2025')),
    (
        "O10",
        Change(
            "Makefile",
            "pipeline: data, model, evaluation, export\n\tdvc repro",
            "pipeline\n\tdvc pull",
        ),
    ),
]


Broken = list[tuple[str, Callable[[Service], None]]]


def gather(broken: Broken, most: int = 8) -> list[Broken]:
    """Break a few rules at a time where that is a text of a file, others one by one.

    Most of the time of a test goes into copying a service and starting its checks.
    """
    batches: list[Broken] = []
    alone: list[Broken] = []
    for rule, change in broken:
        if not isinstance(change, Change):
            alone.append([(rule, change)])
            continue
        for batch in batches:
            if len(batch) < most and rule not in dict(batch):
                batch.append((rule, change))
                break
        else:
            batches.append([(rule, change)])
    return batches + alone


@pytest.mark.parametrize(
    "broken", gather(BROKEN), ids=lambda broken: " ".join(rule for rule, _ in broken)
)
def test_rules_that_are_broken_are_to_do_and_no_others(
    launched: Service, forks: Forks, tmp_path: Path, broken: Broken
) -> None:
    service = copy(launched, tmp_path)

    for _, change in broken:
        change(service)

    found = results(service, forks)
    red = [rule for rule, one in found.items() if one["state"] == "to do"]
    assert sorted(red) == sorted(rule for rule, _ in broken)
    for rule in red:
        assert "The check failed" not in found[rule]["findings"][0]["what"]


def test_every_rule_is_broken_once(launched: Service) -> None:
    rules = re.findall(r"^### (\w+)$", launched.read("docs/rules.md"), re.M)

    assert {rule for rule, _ in BROKEN} == set(rules)


def test_a_waiver_ends(launched: Service, forks: Forks, tmp_path: Path) -> None:
    service = copy(launched, tmp_path)
    ended = TODAY - timedelta(days=1)

    text = service.read("docs/waivers.toml")
    text = text.replace(f"expires = {SOON}", f"expires = {ended}", 1)
    write(service, "docs/waivers.toml", text)

    found = results(service, forks)
    assert found["O3"]["state"] == "to do"
    last = found["O3"]["findings"][-1]
    assert (last["file"], last["line"]) == ("docs/waivers.toml", 3)


def test_readiness_is_asked_of_a_real_process(
    trained: Service, forks: Forks, tmp_path: Path
) -> None:
    service = copy(trained, tmp_path)
    assert results(service, forks)["C5"]["state"] == "done"

    edit(service, "serving/health.py", "if not lifecycle.ready:", "if False:")

    assert results(service, forks)["C5"]["findings"][0]["what"] == (
        "/readyz answers 200 without a model, not 503."
    )


@pytest.fixture(scope="module")
def guided(trained: Service, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service after the steps of docs/first-service.md."""

    def make(directory: Path) -> Service:
        service = copy(trained, directory)
        blocks = re.findall(
            r"^```sh\n(.*?)^```", service.read("docs/first-service.md"), re.M | re.S
        )
        # tests/test_service.py and tests/test_generation.py run these.
        steps = re.sub(r"^make (lint|test)\n", "", "".join(blocks), flags=re.M)
        for verb in ("setup", "train", "demo", "docs", "launch"):
            assert f"make {verb}\n" in steps
        done = service.run("sh", "-e", "-c", steps)
        assert "rules: " in done.stdout
        return service

    return make_once(tmp_path_factory, "guided", make)


@GUIDED
def test_the_tests_begin_where_the_documentation_was_built(
    guided: Service, tmp_path: Path
) -> None:
    service = copy(guided, tmp_path)
    assert (service.path / EXCHANGES).exists()

    done = service.make("test", PYTEST_ADDOPTS="--collect-only --quiet")

    assert "tests/app/test_predict.py" in done.stdout


@GUIDED
def test_the_steps_of_the_first_service_work(guided: Service, forks: Forks) -> None:
    assert run("git", "status", "--porcelain", cwd=guided.path).stdout == ""
    found = results(guided, forks)
    assert found["E1"]["state"] == found["C4"]["state"] == "done"
    places = [one["line"] for one in found["D4"]["findings"]]
    lines = guided.read("docs/model-card.md").splitlines()
    assert all(lines[line - 1].startswith("TODO(owner)") for line in places)


@GUIDED
def test_the_documentation_has_what_the_tests_asked_and_loads_nothing_foreign(
    guided: Service,
) -> None:
    pages = {page.name: page for page in (guided.path / "outputs/docs").rglob("*.html")}
    api = pages["api.html"].read_text(encoding="utf-8")
    settings = pages["settings.html"].read_text(encoding="utf-8")

    assert "in the kitchen" in api and "urn:problem-type:contract-violation" in api
    assert "MAX_BODY_BYTES" in settings
    assert {"README.html", "rules.html", "verbs.html", "serving.html"} <= set(pages)
    for page in pages.values():
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|link)\b[^>]+(?:src|href)=\"([^\"]+)", text)
        assert not [one for one in loaded if "//" in one], page


@GUIDED
def test_a_dead_link_ends_the_build_of_the_documentation(
    guided: Service, tmp_path: Path
) -> None:
    service = copy(guided, tmp_path)
    edit(service, "README.md", "(docs/problems.md)", "(docs/problem.md)")

    done = service.make("docs", check=False)

    assert done.returncode == 2
    assert "README.md" in done.stdout and "problem.md" in done.stdout


@GUIDED
def test_an_operation_without_an_example_ends_the_build_of_the_documentation(
    guided: Service, tmp_path: Path
) -> None:
    service = copy(guided, tmp_path)
    kept = json.loads(service.read(EXCHANGES))
    successes = [one for one in kept if one["status"] < 400]
    write(service, EXCHANGES, json.dumps(successes))

    done = service.make("docs", check=False)

    assert done.returncode == 2
    assert "POST /v1/predict has no example of error" in done.stdout


def test_the_score_falls_with_what_it_looks_at(
    launched: Service, forks: Forks, tmp_path: Path
) -> None:
    before = launch(launched, forks)["score"]
    service = copy(launched, tmp_path)
    edit(service, "training/conf/config.yaml", "gate:\n  macro_f1: 0.85", "gate: {}")
    edit(service, "docs/model-card.md", "## Limits\n\n", "## Limits\n\nTODO: write.\n")
    untrack_lock(service)

    after = launch(service, forks)["score"]

    was, now = (
        {one["question"]: one["points"] for one in found["answers"]}
        for found in (before, after)
    )
    assert {text: (was[text], now[text]) for text in was if was[text] != now[text]} == {
        "The configuration of each model is in Git": (1, 0.5),
        "A simpler model is worse": (1, 0),
        "Unfair treatment of groups of people was looked for": (0.5, 0),
        "The same data and seed give the same model": (1, 0.5),
        "A weak model is not served": (1, 0),
    }
    assert before["score"] == min(before["parts"].values()) > after["score"]


def test_every_stub_of_the_template_is_known(launched: Service, tmp_path: Path) -> None:
    bake_into(tmp_path, ANSWERS)
    fresh = Service(tmp_path / "intent-service")
    script = "import sys; from checks.stubs import is_stub; print(is_stub(sys.argv[1]))"

    for name, line in todos(fresh):
        text = line.removeprefix("TODO(owner): ")
        done = launched.run("python", "-c", script, f"Words.\n\n{text}")
        assert done.stdout.strip() == "True", f"{name}: {line}"


def test_the_hook_refuses_a_fix_without_details(
    launched: Service, tmp_path: Path
) -> None:
    service = copy(launched, tmp_path)
    message = tmp_path / "message"
    hook = ("python", "-m", "checks.commit_message", str(message))
    edit(service, "demo/ask.py", "import sys\n", "import sys\n\n")
    run("git", "add", "--all", cwd=service.path)

    message.write_text(
        "Fix it\n\n# Please enter the commit message.\n", encoding="utf-8"
    )
    refused = service.run(*hook, check=False)
    message.write_text("Add a line\n", encoding="utf-8")
    taken = service.run(*hook, check=False)

    assert refused.returncode == 1
    assert "link to the tracker" in refused.stdout and "no test" in refused.stdout
    assert taken.returncode == 0
