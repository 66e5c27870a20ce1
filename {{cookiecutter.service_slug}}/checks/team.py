"""The team around the service (O)."""

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from checks import markdown
from checks.api import required_settings
from checks.repository import PRESS_RELEASE, Repository
from checks.results import Finding, NotApplicable
from checks.rule import rule

CONFIG = "training/conf/config.yaml"
RUNBOOK = "docs/runbook.md"
RETROSPECTIVE = "docs/retrospective.md"
HANDOVER = "docs/handover.md"
FATES = ("open", "done", "dropped")
AFTER_LAUNCH = timedelta(days=60)
MAX_AGE = timedelta(days=120)  # of the dependencies
SUCCESS = {
    "metric": "what is counted, and where it can be read",
    "baseline": "its value today",
    "target": "its value on the date",
    "date": "when it is looked at",
}


@rule("O1")
def one_team_owns_it(repository: Repository) -> Iterator[Finding]:
    """One team owns data, model, deployment and pager.

    README.md, docs/runbook.md, docs/monitoring.md, docs/handover.md and the label
    `owner` of every alert name the same team.
    """
    team = repository.table("README.md").get("Team", "")
    if not team:
        yield Finding("Name the team that owns the service.", "README.md")
        return
    runbook = {what: who for who, what in repository.table(RUNBOOK).items()}
    stated = {
        RUNBOOK: next((who for what, who in runbook.items() if "owns" in what), ""),
        HANDOVER: repository.table(HANDOVER).get("Team", ""),
    }
    owner = repository.table("docs/monitoring.md").get("Owner", "")
    stated["docs/monitoring.md"] = team if owner.startswith(team) else owner
    for document, found in stated.items():
        if found != team:
            yield Finding(f"Name the team of README.md as the owner: {team}.", document)
    for alert in repository.alerts:
        if alert["labels"].get("owner") != team:
            what = (
                f"The owner of {alert['alert']} is not the team of README.md: {team}."
            )
            where = f"alert: {alert['alert']}"
            yield repository.find("monitoring/alerts.yaml", what, where)


@rule("O2")
def one_model_for_all(repository: Repository) -> Iterator[Finding]:
    """One model serves all tenants; no client has a model of its own.

    The pipeline exports one model, and tenants are known to the API keys only.
    """
    models = [
        out
        for stage in repository.yaml("dvc.yaml")["stages"].values()
        for one in stage.get("outs", [])
        for out in (one if isinstance(one, dict) else [one])
        if str(out).endswith(".onnx")
    ]
    for model in models[1:]:
        what = f"{model} is a second model: one for all tenants, told apart by a field."
        yield repository.find("dvc.yaml", what, str(model))
    for name, stage in repository.yaml("dvc.yaml")["stages"].items():
        if "foreach" in stage or "matrix" in stage:
            what = f"The stage {name} makes a model for each of a list."
            yield repository.find("dvc.yaml", what, f"{name}:")


@rule("O3")
def feedback_comes_back(repository: Repository) -> Iterator[Finding]:
    """What the end users correct comes back as training data.

    A package `feedback/` collects it, and training reads what it exports: the file that
    `corrections` in training/conf/config.yaml names.
    """
    if not repository.has("feedback"):
        yield Finding(
            "Nothing collects what users correct. Build it, or waive the rule with the "
            "way in which corrections come back.",
            "docs/waivers.toml",
        )
    elif not repository.yaml(CONFIG).get("corrections"):
        what = "Training does not read what users corrected: name the file."
        yield repository.find(CONFIG, what, "corrections:")


@rule("O4")
def product_manager_and_engineer_can_be_reached(
    repository: Repository,
) -> Iterator[Finding]:
    """Product manager and engineers work directly with each other, and can be reached.

    Head of the press release, README.md and docs/handover.md name the same product
    manager, by a handle or an address; the maintainers are S3's.
    """
    manager = str(repository.press_release.get("product_manager") or "")
    if not manager:
        what = 'Name the product manager: `product_manager: "@handle"`.'
        yield repository.find(PRESS_RELEASE, what, "---")
        return
    if manager == "@your-product-manager":
        what = f"Replace {manager}, here and where else it stands."
        yield repository.find(PRESS_RELEASE, what, manager)
    elif "@" not in manager and "://" not in manager:
        what = f"Say how {manager} can be reached: a handle or an address."
        yield repository.find(PRESS_RELEASE, what, "product_manager:")
    for document in ("README.md", HANDOVER):
        if repository.table(document).get("Product manager") != manager:
            what = f"Name the product manager of the press release: {manager}."
            yield repository.find(document, what, "roduct manager")


@rule("O5")
def actions_have_an_owner_and_a_fate(repository: Repository) -> Iterator[Finding]:
    """Retrospectives inform the future: every action has an owner and a fate.

    In the table of docs/retrospective.md, an action has an owner, a day, and a fate:
    `open`, `done` or `dropped`. None is open past its day. 60 days after the launch
    there is one.
    """
    rows = markdown.rows(repository.read(RETROSPECTIVE))
    actions = [(line, cells) for line, cells in rows if len(cells) == 4][1:]
    for line, (action, owner, until, fate) in actions:
        if not owner:
            yield Finding(f"Who does it: {action}", RETROSPECTIVE, line)
        if not fate.startswith(FATES):
            what = f"Its fate is none of {', '.join(FATES)}: {action}"
            yield Finding(what, RETROSPECTIVE, line)
        if not (day := read_date(until)):
            what = f"Until when, as 2027-01-31: {action}"
            yield Finding(what, RETROSPECTIVE, line)
        elif day < repository.today and fate.startswith("open"):
            yield Finding(f"It was due on {day}: {action}", RETROSPECTIVE, line)
    if actions:
        return
    head = repository.press_release
    launched, day = head.get("status") == "launched", read_date(head.get("date"))
    if not launched or not day or day + AFTER_LAUNCH > repository.today:
        raise NotApplicable("The launch is not 60 days ago.")
    yield Finding("Hold a retrospective: it has no action yet.", RETROSPECTIVE)


def read_date(value: Any) -> date | None:
    """Return a date as YAML or a person writes it; None if it is none."""
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        return None


@rule("O6")
def people_can_see_it(repository: Repository) -> Iterator[Finding]:
    """A demo in Gradio or Streamlit lets people see the thing.

    A module of demo/ makes the page, and the Dockerfile has a target `demo`.
    """
    demos = [name for name in repository.sources if name.startswith("demo/")]
    if not any(
        re.search(
            r"^\s*(import|from) (gradio|streamlit)\b", repository.read(name), re.M
        )
        for name in demos
    ):
        what = "demo/ has no page for people, only `make ask`: build one, or waive it."
        yield Finding(what, "demo")
    if not re.search(r"^FROM .* AS demo$", repository.read("Dockerfile"), re.M):
        yield Finding("It has no target `demo`: the page has no image.", "Dockerfile")


@rule("O7")
def success_is_a_number(repository: Repository) -> Iterator[Finding]:
    """Success is a number with a target and a date, not an opinion.

    `success` in the head of docs/press-release.md; its section “Overall impact” names
    the target. After the date, `result` has what was reached.
    """
    success = repository.press_release.get("success") or {}
    for key, meaning in SUCCESS.items():
        value = success.get(key)
        is_right = {"metric": isinstance(value, str), "date": isinstance(value, date)}
        if not is_right.get(key, isinstance(value, int | float)):
            what = f"Write `{key}` of `success`: {meaning}."
            yield repository.find(PRESS_RELEASE, what, f"  {key}:")
    target, day = success.get("target"), success.get("date")
    sections = markdown.sections(repository.read(PRESS_RELEASE))
    impact = next((one for one in sections if one.title == "Overall impact"), None)
    if isinstance(target, int | float) and impact:
        numbers = re.findall(r"\d+(?:[.,]\d+)*", impact.text)
        if f"{target:g}" not in {number.replace(",", "") for number in numbers}:
            what = (
                f"“Overall impact” does not promise the target of `success`: {target}."
            )
            yield Finding(what, PRESS_RELEASE, impact.line)
    if isinstance(day, date) and day < repository.today and "result" not in success:
        what = f"{day} has passed: write what was reached, `result: …`."
        yield repository.find(PRESS_RELEASE, what, "success:")


@rule("O8")
def somebody_else_can_take_it_over(repository: Repository) -> Iterator[Finding]:
    """People leave: somebody new can take the service over from the repository.

    docs/handover.md is written, and README.md has sections on how to start, train, run,
    watch and deploy it and on whom to ask.
    """
    yield from repository.unwritten(
        HANDOVER, "Who", "What it depends on", "Where it is", "Who has access"
    )
    titles = {s.title for s in markdown.sections(repository.read("README.md"))}
    wanted = ("Train", "Run", "Watch", "Deploy", "Who maintains it")
    for title in wanted:
        if title not in titles:
            yield Finding(f"It has no section “{title}”.", "README.md")


@rule("O9")
def standards_are_kept_up(repository: Repository) -> Iterator[Finding]:
    """The same standards hold in every service, kept up as the template improves.

    .cruft.json names the template and the commit, so that `make update` can merge what
    is new in it. The dependencies are at most 120 days old (`make upgrade`).
    """
    record = repository.json(".cruft.json")
    if not record.get("template") or not record.get("commit"):
        what = "It lacks the commit of the template, from which `make update` starts."
        yield Finding(what, ".cruft.json")
    uv = repository.toml("pyproject.toml").get("tool", {}).get("uv", {})
    newest = uv.get("exclude-newer")
    if isinstance(newest, str):
        newest = datetime.fromisoformat(newest)
    if isinstance(newest, datetime) and newest.date() + MAX_AGE < repository.today:
        what = f"The dependencies are those of {newest:%Y-%m-%d}: `make upgrade`."
        yield repository.find("pyproject.toml", what, "exclude-newer")


@rule("O10")
def quick_start_needs_no_account(repository: Repository) -> Iterator[Finding]:
    """The quick start needs no account in a cloud.

    Every setting has a default, and no verb of the section “Start” of README.md but
    `make push` and `make pull` needs the DVC remote.
    """
    for name in required_settings():
        yield Finding(f"Give {name} a default.", "app/settings.py")
    makefile = repository.read("Makefile")
    for verb in ("setup", "train", "run", "ask", "demo", "test"):
        found = re.search(rf"^{verb}:.*\n(?:\t.*\n)*", makefile, re.M)
        recipe = found[0] if found else ""
        if re.search(r"\b(aws|gcloud|az|kubectl|dvc (pull|push|fetch))\b", recipe):
            what = f"`make {verb}` needs an account: leave that to other verbs."
            yield repository.find("Makefile", what, f"{verb}:")
