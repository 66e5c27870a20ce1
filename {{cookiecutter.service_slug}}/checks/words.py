"""Words first: press release, functional spec, bugs, trunk."""

import re
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from checks import markdown
from checks.api import operations
from checks.commit_message import faults, is_fix
from checks.repository import HOOKS, PRESS_RELEASE, Repository
from checks.results import Finding, NotApplicable
from checks.rule import rule

STATUSES = ("draft", "agreed", "launched")
SPEC = "docs/functional-spec.md"
COMMITS = 20  # of the past that are looked at
MAX_DAYS = 7  # of a branch
MAX_BRANCHES = 5


@rule("W1")
def press_release_and_readme(repository: Repository) -> Iterator[Finding]:
    """Work on a service starts with its press release and its README.

    All sections of docs/press-release.md are written, and its head has a status other
    than `draft` and the day of the launch. README.md says what the service does and how
    to start it.
    """
    yield from repository.unwritten(
        PRESS_RELEASE,
        "Overall impact",
        "Feature overview",
        "What a user says about it",
        "How to get it",
        "Questions and answers",
    )
    head = repository.press_release
    status = head.get("status")
    if status not in STATUSES:
        what = f"Give the press release a status: {', '.join(STATUSES)}."
        yield repository.find(PRESS_RELEASE, what, "status:")
    if status == "draft":
        what = "Agree on the press release with the product manager: `status: agreed`."
        yield repository.find(PRESS_RELEASE, what, "status:")
    if not isinstance(head.get("date"), date):
        what = "Name the day of the launch: `date: 2027-01-31`."
        yield repository.find(PRESS_RELEASE, what, "date:")
    sections = markdown.sections(repository.read("README.md"))
    if not sections or not sections[0].text.strip():
        yield Finding("Say under the title what the service does.", "README.md")
    if "Start" not in {section.title for section in sections}:
        yield Finding("Say in a section “Start” how to run it.", "README.md")


@rule("W2")
def functional_spec(repository: Repository) -> Iterator[Finding]:
    """Above two weeks to ship, a functional spec is written.

    `weeks_to_ship` in the head of docs/press-release.md decides. All sections of
    docs/functional-spec.md are written, every path it names is one of the API, and it
    names every path of the API.
    """
    weeks = repository.press_release.get("weeks_to_ship", 0)
    if not isinstance(weeks, int | float):
        what = f"`weeks_to_ship: {weeks}` is no number."
        yield repository.find(PRESS_RELEASE, what, "weeks_to_ship:")
        return
    if weeks <= 2 and not repository.has(SPEC):
        raise NotApplicable(f"It ships in {weeks:g} weeks.")
    unwritten = list(repository.unwritten(SPEC))
    yield from unwritten
    paths = {operation.path for operation in operations()}
    named = set()
    for number, span in markdown.spans(repository.read(SPEC)):
        for path in re.findall(r"(?:^|\s)(/v\d[\w/{}-]*)", span):
            named.add(path)
            if path not in paths:
                yield Finding(f"The API has no path {path}.", SPEC, number)
    for path in sorted(paths - named) if not unwritten else ():
        yield Finding(f"It does not say what `{path}` is for.", SPEC)


@rule("W3")
def bugs_have_details(repository: Repository) -> Iterator[Finding]:
    """A bug fix carries the bug's details or a link to the tracker.

    A Git hook reads the message of each commit: a subject that begins with “Fix” needs
    a link (https://…, #123, `Fixes: KEY-123`) or a few sentences, and a change of a
    test if it changes code. The hook can be skipped (`git commit --no-verify`), so the
    last 20 commits are read here, too.
    """
    if "commit-message" not in repository.hooks:
        yield Finding("Put the hook `commit-message` back.", HOOKS)
    kinds = repository.yaml(HOOKS).get("default_install_hook_types", [])
    if "commit-msg" not in kinds:
        what = "Add `commit-msg` to `default_install_hook_types`, then `make setup`."
        yield Finding(what, HOOKS)
    log = repository.git("log", f"-{COMMITS}", "--no-merges", "--format=%h%x00%B%x01")
    for entry in log.split("\x01"):
        commit, _, message = entry.strip().partition("\0")
        if not is_fix(message):
            continue
        changed = repository.git("show", "--name-only", "--format=", commit)
        for fault in faults(message, changed.split("\n")):
            yield Finding(f"Commit {commit} ({message.splitlines()[0]}): {fault}")


@rule("W4")
def trunk_based(repository: Repository) -> Iterator[Finding]:
    """Work is trunk-based, and everybody may deploy.

    No more than 5 branches beside main, none with work older than 7 days. The pipeline
    deploys each push to the trunk, names no person and waits for nobody's approval.
    """
    if not repository.pipelines:
        yield Finding("There is no pipeline that deploys.", ".")
    for name, pipeline in repository.pipelines.items():
        for what, part in restrictions(pipeline):
            yield repository.find(name, what, part)
    yield from old_branches(repository)


def restrictions(pipeline: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield what holds a deployment back, and a text by which its line is found."""
    actor = r"(github\.(triggering_)?actor|event\.sender|GITLAB_USER_\w+)"
    if isinstance(pipeline, list):
        for value in pipeline:
            yield from restrictions(value, key)
    elif isinstance(pipeline, dict):
        if "approval" in str(pipeline.get("uses", "")):
            yield "It waits for an approval: let whoever pushes deploy.", "approval"
        deploys = "environment" in pipeline or ".deploy" in str(pipeline.get("extends"))
        if deploys and pipeline.get("when") == "manual":
            yield "A deployment waits for a click: take `when: manual` out.", "manual"
        for name, value in pipeline.items():
            yield from restrictions(value, str(name))
    elif key in ("if", "only", "except"):
        if found := re.search(actor, str(pipeline)):
            yield "It names a person: whoever pushes may deploy.", found[0]


def old_branches(repository: Repository) -> Iterator[Finding]:
    """Yield the branches that are too many or too old, as far as Git knows them."""
    names = repository.git(
        *("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes")
    ).split()
    trunks = [name for name in names if re.fullmatch(r"(origin/)?(main|master)", name)]
    if not trunks:
        return
    branches = []
    for name in names:
        log = repository.git("log", "--format=%ct", name, "--not", *trunks).split()
        if name not in trunks and log:
            branches.append(name)
            begun = datetime.fromtimestamp(int(log[-1])).date()
            days = (repository.today - begun).days
            if days > MAX_DAYS:
                what = f"The branch {name} has work of {days} days ago: merge it."
                yield Finding(what)
    if len(branches) > MAX_BRANCHES:
        yield Finding(f"There are {len(branches)} branches: merge or delete some.")
