"""Service docs (S) and what every document owes its readers (D)."""

import fnmatch
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any
from urllib.parse import unquote

from checks import generated, markdown
from checks.api import openapi, operations
from checks.compatibility import find_breaks
from checks.repository import PRESS_RELEASE, Repository
from checks.results import Finding, NotApplicable, NotChecked
from checks.rule import rule
from monitoring.__main__ import expected_files

PLACEHOLDERS = re.compile(
    r"your-org\b|@your-handle\b|@your-product-manager\b|/your-project\b|/browse/YOUR\b"
)
PEOPLE = ("@your-handle", "@your-product-manager")  # which S3 and O4 look at
# Names of other programs, which no file of this repository defines.
OF_OTHERS = re.compile(
    r"(OTEL|AWS|AZURE|GOOGLE|CI|GITLAB|GITHUB|kube|process|python)_\w+|__\w+"
    r"|write_repository"
)
WRITTEN = ("docs/evidence", ".dvc/config.local", "data", "models", "reports", "outputs")
GENERATED = ("uv.lock", "dvc.lock", ".cruft.json")


@rule("S1")
def api_is_documented(repository: Repository) -> Iterator[Finding]:
    """The API is documented, from its definition.

    Each operation of the OpenAPI document says in a sentence what it does, what it
    answers with success and how it answers errors; each field of a request or a
    response has a type.
    """
    found = operations()
    if not found:
        yield Finding("The service has no operation.", "app/api.py")
    for operation in found:
        name = operation.name
        answers = operation.description["responses"]
        if not operation.description.get("description"):
            what = f"Say in a docstring of its handler what {name} does."
            yield Finding(what, "app/api.py")
        for kind, first in (("success", "2"), ("error", "45")):
            if not any(status[0] in first for status in answers):
                yield Finding(f"{name} documents no {kind}.", "app/api.py")
        for status, answer in answers.items():
            content = answer.get("content", {}).get("application/json", {})
            if status[0] == "2" and "content" in answer and not content.get("schema"):
                what = f"Give the handler of {name} a return type."
                yield Finding(what, "app/api.py")


@rule("S2")
def generated_documents_are_fresh(repository: Repository) -> Iterator[Finding]:
    """Engineering docs are generated from the code, and up to date.

    docs/rules.md follows from the checks, docs/openapi.json from the contract and the
    endpoints, docs/monitoring.md and the PrometheusRule from alerts and metrics.
    """
    for name, text in generated.from_code(repository).items():
        if not repository.has(name) or repository.read(name) != text:
            yield Finding("It is stale: `make docs`.", name)
    for path, text in expected_files().items():
        if path.read_text(encoding="utf-8") != text:
            name = path.relative_to(repository.root).as_posix()
            yield Finding("It is stale: `make monitoring`.", name)


@rule("S3")
def maintainers_are_listed(repository: Repository) -> Iterator[Finding]:
    """Maintainers are listed, and the README says how to set the repository up.

    CODEOWNERS, README.md, docs/handover.md, docs/monitoring.md and pyproject.toml name
    the same people. README.md has a section “Develop”.
    """
    owners = repository.read("CODEOWNERS")
    rows = [line.split() for line in owners.splitlines() if not line.startswith("#")]
    maintainers = {owner for row in rows for owner in row[1:]}
    for owner in sorted(maintainers & set(PEOPLE)):
        what = f"Replace {owner} by a maintainer, here and where else it stands."
        yield repository.find("CODEOWNERS", what, owner)
    if not maintainers:
        yield Finding("Name the maintainers.", "CODEOWNERS")
    project = repository.toml("pyproject.toml")["project"]
    named = {
        "pyproject.toml": {
            one.get(key)
            for one in project.get("maintainers", [])
            for key in ("name", "email")
        }
        - {None}
    }
    for document in ("README.md", "docs/handover.md", "docs/monitoring.md"):
        cell = repository.table(document).get("Maintainers", "")
        named[document] = set(re.split(r"[,\s]+", cell)) - {""}
    for document, people in named.items():
        if people != maintainers:
            what = (
                f"Name the maintainers of CODEOWNERS: {', '.join(sorted(maintainers))}."
            )
            yield repository.find(document, what, "aintainers")
    titles = {s.title for s in markdown.sections(repository.read("README.md"))}
    if "Develop" not in titles:
        what = "Say in a section “Develop” how to set the repository up."
        yield Finding(what, "README.md")


@rule("S4")
def released_api_keeps_its_clients(repository: Repository) -> Iterator[Finding]:
    """The clients of a released API can rely on it.

    What breaks them is named: against docs/openapi.json of the newest tag `v…`, an
    operation or a field is gone, a field is newly required, a type, a list of values or
    a bound takes less, an answer may be another. Serve the change under a new version
    of the path, beside the old one. Before the first tag, the contract is free.
    """
    tags = repository.git("tag", "--list", "v[0-9]*", "--sort=-v:refname").split()
    if not tags and repository.press_release.get("status") == "launched":
        what = "Tag what clients rely on: `git tag v1.0.0`, then `git push --tags`."
        yield repository.find(PRESS_RELEASE, what, "status:")
        return
    if not tags:
        raise NotApplicable("No version is released: there is no tag `v…`.")
    for operation, reason in find_breaks(released_api(repository, tags[0]), openapi()):
        what = (
            f"Since {tags[0]}, {operation}: {reason}. Serve it under a new version of "
            "the path, and the old one as it was."
        )
        path = operation.partition(" ")[2]
        yield repository.find(generated.OPENAPI, what, f'"{path}"')


def released_api(repository: Repository, tag: str) -> dict[str, Any]:
    """Return the OpenAPI document of a tag. Raises NotChecked if it has none."""
    try:
        text = repository.git("show", f"{tag}:./{generated.OPENAPI}")
    except NotChecked:
        what = f"{tag} has no {generated.OPENAPI}: the next tag will have it."
        raise NotChecked(what) from None
    found: dict[str, Any] = json.loads(text)
    return found


@rule("D1")
def links_lead_somewhere(repository: Repository) -> Iterator[Finding]:
    """Every link inside of the repository leads somewhere.

    The file exists, and the heading, if the link names one.
    """
    for name, text in repository.documents.items():
        for number, target in markdown.links(text):
            if re.match(r"[a-z]+:|//", target):
                continue
            path, _, anchor = unquote(target).partition("#")
            file = normpath(f"{PurePosixPath(name).parent}/{path}") if path else name
            if not repository.has(file):
                yield Finding(f"The link leads to no file: {target}", name, number)
            elif anchor and file in repository.documents:
                if anchor not in markdown.anchors(repository.documents[file]):
                    what = f"{file} has no heading “{anchor}”."
                    yield Finding(what, name, number)


@rule("D2")
def names_exist(repository: Repository) -> Iterator[Finding]:
    """What a document names exists: variables, metrics, alerts, verbs, paths.

    A name is what stands in `code`; verbs of make count in blocks of code, too.
    """
    written = "\n".join(
        repository.read(name)
        for name in repository.files
        if not name.endswith((".md", ".lock", ".png")) and name != ".cruft.json"
    )
    words = set(re.findall(r"\w+", written))
    roots = {name.partition("/")[0] for name in repository.files if "/" in name}
    for document, text in repository.documents.items():
        if document.startswith("docs/evidence/"):
            continue
        for number, line, code in markdown.lines(text):
            for verb in re.findall(r"(?:`|^ *(?:\$ )?)make ([a-z][a-z-]*)", line):
                if verb not in repository.verbs and (code or "`" in line):
                    yield Finding(f"There is no `make {verb}`.", document, number)
        for number, span in markdown.spans(text):
            if is_name(span) and not is_known(span, words):
                what = f"No file of the service has the name `{span}`."
                yield Finding(what, document, number)
            elif is_path(span, roots) and not path_exists(repository, span):
                yield Finding(f"There is no {span}.", document, number)
        if document == "docs/runbook.md":
            yield from unknown_alerts(repository, document, text)


def unknown_alerts(
    repository: Repository, document: str, text: str
) -> Iterator[Finding]:
    """Yield the references to alerts that there are not."""
    alerts = {alert["alert"] for alert in repository.alerts}
    for number, line, _ in markdown.lines(text):
        for name in re.findall(r"\bsee ((?:[A-Z][a-z]+){2,})\b", line):
            if name not in alerts:
                yield Finding(f"There is no alert {name}.", document, number)


def is_name(span: str) -> bool:
    """Return whether code is the name of a variable, a metric, an alert or a class."""
    patterns = r"[A-Z][A-Z0-9]*_[A-Z0-9_]+|[a-z]\w*_\w+|([A-Z][a-z]+){2,}"
    return bool(re.fullmatch(patterns, span)) and not OF_OTHERS.fullmatch(span)


def is_known(name: str, words: set[str]) -> bool:
    """Return whether a name is written somewhere, as Prometheus may extend it."""
    short = re.sub(r"_(total|bucket|sum|count)$", "", name)
    return bool({name, name.lower(), short} & words)


def is_path(span: str, roots: set[str]) -> bool:
    """Return whether code is the path of a file of the repository."""
    return span.partition("/")[0] in roots and bool(re.fullmatch(r"[\w./*-]+", span))


def path_exists(repository: Repository, path: str) -> bool:
    """Return whether a path exists, or is one that a program writes."""
    path = path.rstrip("/")
    if repository.has(path) or any(fnmatch.filter(repository.files, path)):
        return True
    return path in WRITTEN or path.partition("/")[0] in WRITTEN


@rule("D3")
def placeholders_are_replaced(repository: Repository) -> Iterator[Finding]:
    """No answer is a placeholder: organisation, tracker, domain.

    `make update ANSWERS='{"domain": "…"}'` changes an answer that was given at
    generation.
    """
    host = re.compile(rf"\b{re.escape(repository.slug)}[a-z0-9.-]*\.example\.com\b")
    for name in repository.files:
        if name in GENERATED or name.startswith(
            ("checks/", "tests/", "docs/evidence/")
        ):
            continue
        text = repository.read(name)
        if "your-" not in text and "example.com" not in text and "YOUR" not in text:
            continue
        lines: dict[str, list[int]] = {}
        for number, line in enumerate(text.splitlines(), 1):
            for found in (*host.finditer(line), *PLACEHOLDERS.finditer(line)):
                lines.setdefault(found[0], []).append(number)
        for placeholder, (first, *others) in lines.items():
            if placeholder not in PEOPLE:
                more = f", also in line {', '.join(map(str, others))}" if others else ""
                what = f"Replace the placeholder {placeholder}{more}."
                yield Finding(what, name, first)


@rule("D4")
def figures_are_those_of_the_source(repository: Repository) -> Iterator[Finding]:
    """The model card is written, and its figures are those of the trained model.

    `make docs` writes them from reports/metrics.json and dvc.lock.
    """
    yield from repository.unwritten(
        generated.MODEL_CARD, "Intended use", "Limits", "Data"
    )
    card = generated.model_card(repository)
    if card is None:
        raise NotChecked("No model has been trained: `make train`.")
    if repository.read(generated.MODEL_CARD) != card:
        what = "Its figures are not those of the trained model: `make docs`."
        yield repository.find(generated.MODEL_CARD, what, "## Figures")
