"""Checks every answer before a file is written, and reports all mistakes at once.

cookiecutter renders this file and runs it in the new, still empty directory. It ends
with 0, or with 1 after it has said of each mistake what it is, why, and what to write
instead; then cookiecutter removes the directory. Standard library only, no network.
"""

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# The answers come in as JSON inside a raw string in single quotes. `tojson` writes one
# line of ASCII, and every single quote as a \u escape: no answer can end the string.
CONTEXT: dict[str, Any] = json.loads(
    r'{"answers": {{ cookiecutter | tojson }}, '
    r'"typed": {{ _cookiecutter | default({}) | tojson }} }'
)


class Finding(NamedTuple):
    """Why an answer cannot be used, and what to write instead."""

    reason: str
    instead: str
    question: str = ""  # where it is another question whose answer should change


class Mistake(NamedTuple):
    """A finding and the answer it is about."""

    question: str
    answer: str
    finding: Finding


class Answers:
    """The answers, their defaults, and where they came from."""

    def __init__(self, context: dict[str, Any]) -> None:
        self.values: dict[str, Any] = dict(context["answers"])
        self.typed: dict[str, Any] = context["typed"]
        self.template = find_template(self.values)
        self.raw_defaults: dict[str, Any] = {}
        if self.template:
            text = (self.template / "cookiecutter.json").read_text(encoding="utf-8")
            self.raw_defaults = json.loads(text)
        for question in CHECKS:
            if self.was_rendered(question):  # judge what was typed, not what it became
                self.values[question] = self.typed[question]

    def __getitem__(self, question: str) -> str:
        return str(self.values[question])

    def default(self, question: str) -> str:
        """The default; one that follows from other answers is in a private twin."""
        default = self.values.get(f"__{question}", self.raw_defaults.get(question, ""))
        return str(default[0] if isinstance(default, list) else default)

    def was_rendered(self, question: str) -> bool:
        """Whether cookiecutter ran Jinja that is not the template's own."""
        typed = self.typed.get(question)
        own = self.raw_defaults.get(question)
        return isinstance(typed, str) and typed != own and bool(JINJA.search(typed))


def find_template(values: dict[str, Any]) -> Path | None:
    """The template's directory; None where only its address is known (cruft)."""
    for start in (values.get("_output_dir"), os.environ.get("PWD")):
        directory = Path(start or ".", values.get("_repo_dir") or "no such directory")
        if (directory / "cookiecutter.json").is_file():
            return directory
    return None


# What text in one line cannot hold: control characters, line breaks, halves of
# surrogate pairs, what YAML forbids, and marks that reverse the text around them.
UNFIT_CATEGORIES = {"Cc", "Cs", "Zl", "Zp"}
UNFIT = "\ufffe\uffff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
JINJA = re.compile(r"{(?=[%#{])")
# What Markdown takes for a heading, a quotation, a list or a rule.
BLOCK = re.compile(r"^(#{1,6}(?=\s|$)|>|[-+](?=\s|$)|[0-9]{1,9}[.)](?=\s|$)|[-=\s]+$)")
CLOSING = re.compile(r"(^|\s)#+$")


def check_text(question: str, answers: Answers) -> Finding | None:
    """Free text: one line of any printable Unicode."""
    text = answers[question]
    fit = fit_text(text)
    if fit == text and text:
        return None
    instead = fit or answers.default(question)
    if not text.strip():
        return Finding("It is empty.", instead)
    if JINJA.search(text):
        return Finding("It opens a Jinja expression, which would be run.", instead)
    if any(map(is_unfit, text)):
        return Finding("It holds a line break or an invisible character.", instead)
    if text != text.strip():
        return Finding("It begins or ends with white space.", instead)
    return Finding("It begins or ends with a mark that Markdown acts on.", instead)


def fit_text(text: str) -> str:
    """The nearest text that can be used; empty if nothing is left."""
    fit = "".join(" " if is_unfit(character) else character for character in text)
    fit = JINJA.sub("{ ", fit).strip()
    shorter = CLOSING.sub("", BLOCK.sub("", fit)).strip()
    return fit if shorter == fit else fit_text(shorter)


def is_unfit(character: str) -> bool:
    """Whether one line of text cannot hold the character."""
    return character in UNFIT or unicodedata.category(character) in UNFIT_CATEGORIES


SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
SLUG_LENGTH = 40
# Directories of the service, and names of devices on Windows.
RESERVED = {"app", "checks", "con", "aux", "data", "demo", "deploy", "docs", "models"}
RESERVED |= {"monitoring", "nul", "prn", "reports", "tests", "training"}
RESERVED |= {f"{device}{number}" for device in ("com", "lpt") for number in range(10)}
RESERVED |= {name.strip("_").replace("_", "-") for name in sys.stdlib_module_names}
DEPENDENCY = re.compile(r'^\s+"([A-Za-z0-9][\w.-]*).*",', re.MULTILINE)


def check_slug(question: str, answers: Answers) -> Finding | None:
    """A Kubernetes name that is a directory and a distribution name as well."""
    slug = answers[question]
    instead = fit_slug(slug, answers)
    if instead == slug:
        return None
    if not SLUG.fullmatch(slug):
        return Finding(
            "A Kubernetes name begins with a lower-case letter and has only a-z, 0-9 "
            "and single hyphens between them.",
            instead,
        )
    if len(slug) > SLUG_LENGTH:
        return Finding(
            f"It has {len(slug)} characters: more than {SLUG_LENGTH} leave no room for "
            "what Kubernetes adds to a name.",
            instead,
        )
    return Finding("A package or directory that it needs has this name.", instead)


def fit_slug(text: str, answers: Answers) -> str:
    """The nearest slug that can be used."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    if not slug:
        return "ml-service"
    slug = slug if slug[0].isalpha() else f"service-{slug}"
    slug = slug if slug not in reserved_names(answers) else f"{slug}-service"
    return slug[:SLUG_LENGTH].strip("-")


def reserved_names(answers: Answers) -> set[str]:
    """Names that would shadow, or be shadowed by, what the service imports."""
    if not answers.template:
        return RESERVED
    (project,) = answers.template.glob("*cookiecutter.service_slug*/pyproject.toml")
    dependencies = DEPENDENCY.findall(project.read_text(encoding="utf-8"))
    return RESERVED | {re.sub(r"[._-]+", "-", name.lower()) for name in dependencies}


HANDLE = r"@[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*"
EMAIL = r"[A-Za-z0-9][\w.+-]*@([A-Za-z0-9-]+\.)+[A-Za-z]{2,}"
MAINTAINER = re.compile(f"{HANDLE}|{EMAIL}", re.ASCII)


def check_maintainers(question: str, answers: Answers) -> Finding | None:
    """At least one handle or e-mail address, as CODEOWNERS reads them."""
    answer = answers[question]
    names = re.split("[, ]+", answer)
    if all(map(MAINTAINER.fullmatch, names)):
        return None
    fit = filter(
        MAINTAINER.fullmatch, map(fit_maintainer, re.split(r"[,;\s]+", answer))
    )
    return Finding(
        "Each is a handle (@name, @group/name) or an e-mail address.",
        ", ".join(fit) or answers.default(question),
    )


def fit_maintainer(name: str) -> str:
    """The name itself if it can be used, and otherwise as a handle."""
    if MAINTAINER.fullmatch(name):
        return name
    return "@" + re.sub(r"[^\w.-]", "", name, flags=re.ASCII).strip("_.-")


WEEKS = re.compile(r"\d{1,3}(\.\d{1,2})?", re.ASCII)


def check_weeks(question: str, answers: Answers) -> Finding | None:
    """A positive number."""
    answer = answers[question]
    if WEEKS.fullmatch(answer) and float(answer) > 0:
        return None
    numbers = (n.group() for n in WEEKS.finditer(answer) if float(n.group()) > 0)
    instead = next(numbers, answers.default(question))
    return Finding("It is a number of weeks above zero.", instead)


LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# From 1 to 65535.
PORT = r"(:([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5]))?"
NUMBERED = re.compile(r"(\w+://)?[^/?#]*?(?P<port>:\d+)(?=[/?#]|$)", re.ASCII)
DOMAIN = re.compile(rf"({LABEL}\.)+[a-z]{LABEL}", re.ASCII)


def check_domain(question: str, answers: Answers) -> Finding | None:
    """A DNS name that has room for the slug in front of it."""
    domain = answers[question]
    room = 253 - SLUG_LENGTH - 1
    if DOMAIN.fullmatch(domain) and len(domain) <= room:
        return None
    near = re.sub(r"^\w+://|[:/?#].*$", "", domain.strip().lower()).strip(".")
    fits = DOMAIN.fullmatch(near) and len(near) <= room
    return Finding(
        "It is a domain in lower case, such as ml.example.com: no scheme, no path.",
        near if fits else answers.default(question),
    )


def without_bad_port(address: str) -> str:
    """The address itself, or without its port if no machine can have that one."""
    found = NUMBERED.match(address)
    if not found or re.fullmatch(PORT, found["port"], re.ASCII):
        return address
    return address[: found.start("port")] + address[found.end() :]


def has_bad_port(address: str) -> bool:
    """Whether the address has a port that no machine can have."""
    return without_bad_port(address) != address


PORT_REASON = "Its port is not from 1 to 65535."


PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
REGISTRY = re.compile(rf"(({LABEL}\.)+{LABEL}|localhost){PORT}(/{PART})*", re.ASCII)
# The registries whose credentials only one CI hands to its jobs.
REGISTRY_OF = {"ghcr.io": "github", "registry.gitlab.com": "gitlab"}


def check_registry(question: str, answers: Answers) -> Finding | None:
    """A registry as it stands in the name of an image, and one that the CI reaches."""
    registry = answers[question]
    default = answers.default(question)
    if not REGISTRY.fullmatch(registry) or len(registry) > 200:
        near = re.sub(r"^\w+://|[?#@].*$", "", registry.strip().lower()).strip("/")
        near = without_bad_port(near)
        fits = REGISTRY.fullmatch(near) and len(near) <= 200
        return Finding(
            (
                PORT_REASON
                if has_bad_port(registry)
                else "It is a host and a path in lower case, such as ghcr.io/your-org: "
                "no scheme, no tag."
            ),
            near if fits and allowed(near, answers) else default,
        )
    if not allowed(registry, answers):
        return Finding(
            f"With ci={answers['ci']}, jobs get no credentials for it.", default
        )
    return None


def allowed(registry: str, answers: Answers) -> bool:
    """Whether the chosen CI gives its jobs access to the registry."""
    return REGISTRY_OF.get(registry.split("/")[0], answers["ci"]) == answers["ci"]


# Nothing that Markdown, TOML or a shell acts on: such characters are %-encoded.
WEB = re.compile(
    rf"https?://(({LABEL}\.)*{LABEL}){PORT}(/[\w.~/%+=&?#!:,-]*)?",
    re.ASCII | re.IGNORECASE,
)
TRACKER_OF = {
    "github.com": "github",
    "gitlab.com": "gitlab",
    "app.asana.com": "asana",
    "atlassian.net": "jira",
}


def check_tracker_url(question: str, answers: Answers) -> Finding | None:
    """A web address, and one of the chosen tracker."""
    address, tracker = answers[question], answers["issue_tracker"]
    default = answers.default(question)
    if has_password(address):
        return Finding("It carries a password, which everybody would read.", default)
    if has_bad_port(address):
        near = answers.values[question] = without_bad_port(address)
        more = check_tracker_url(question, answers)
        return Finding(PORT_REASON, default if more else near)
    found = WEB.fullmatch(address)
    if not found:
        return Finding("It is a web address: https://…, without quotes.", default)
    domain = ".".join(found[1].lower().split(".")[-2:])
    owner = TRACKER_OF.get(found[1].lower()) or TRACKER_OF.get(domain, tracker)
    if owner != tracker:
        return Finding(f"It is an address of {owner}.", owner, "issue_tracker")
    if tracker == "asana" and found[1].lower() != "app.asana.com":
        return Finding("Asana is at https://app.asana.com.", default)
    return None


BUCKET = r"(?![^/]*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
PATH = r"(/[\w.=+-]+)*/?"
REMOTES = {
    "local": re.compile(r"([A-Za-z]:)?[\w./\\]([\w ./\\+@()-]*[\w./\\)-])?"),
    "s3": re.compile(
        rf"s3://(?!xn--|sthree-|[\d.]+(/|$)){BUCKET}(?<!-s3alias){PATH}", re.ASCII
    ),
    "gs": re.compile(rf"gs://(?!goog)(?![^/]*google){BUCKET}{PATH}", re.ASCII),
    "azure": re.compile(rf"azure://(?![^/]*(--|\.)){BUCKET}{PATH}", re.ASCII),
    "ssh": re.compile(
        rf"ssh://([\w.-]+@)?({LABEL}\.)*{LABEL}{PORT}(/[\w.=+-]+)+/?",
        re.ASCII,
    ),
}
EXPECTED = {
    "local": "a directory, without quotes, commas and the like",
    "s3": "s3://bucket/path, the bucket 3 to 63 of a-z, 0-9 and hyphens",
    "gs": "gs://bucket/path, the bucket 3 to 63 of a-z, 0-9 and hyphens, not Google's",
    "azure": "azure://container/path, 3 to 63 of a-z, 0-9 and single hyphens",
    "ssh": "ssh://user@host/path",
}


def check_remote_url(question: str, answers: Answers) -> Finding | None:
    """A URL of the chosen kind of remote, without credentials."""
    url, kind = answers[question], answers["dvc_remote"]
    if has_password(url):
        clean = re.sub(r"[?;#].*$|(?<=://).*@", "", url)
        fits = REMOTES[kind].fullmatch(clean)
        return Finding(
            "It carries credentials, and Git would keep them: they belong into the "
            "environment or into .dvc/config.local (docs/storage.md of the service).",
            clean if fits else answers.default(question),
        )
    if REMOTES[kind].fullmatch(url):
        return None
    if kind == "ssh" and has_bad_port(url):
        near = without_bad_port(url)
        fits = REMOTES[kind].fullmatch(near)
        return Finding(PORT_REASON, near if fits else answers.default(question))
    fitting = (other for other, form in REMOTES.items() if form.fullmatch(url))
    other = next(fitting, None)
    if other:
        return Finding(
            f"{kind} was chosen, and this is of {other}.", other, "dvc_remote"
        )
    return Finding(f"It is {EXPECTED[kind]}.", answers.default(question))


PASSWORD = re.compile(
    r"://[^@]*:[^@]*@|[?&;](sig|[\w-]*(key|token|secret|password))=", re.IGNORECASE
)


def has_password(url: str) -> bool:
    """Whether a URL carries a password, a key or a signature."""
    return bool(PASSWORD.search(url))


CHECKS: dict[str, Callable[[str, Answers], Finding | None]] = {
    "service_name": check_text,
    "service_slug": check_slug,
    "description": check_text,
    "team": check_text,
    "maintainers": check_maintainers,
    "product_manager": check_text,
    "weeks_to_ship": check_weeks,
    "issue_tracker_url": check_tracker_url,
    "container_registry": check_registry,
    "domain": check_domain,
    "dvc_remote_url": check_remote_url,
}


def mistakes(answers: Answers) -> Iterator[Mistake]:
    """All mistakes. What follows from a mistaken answer by default is not one more."""
    found = False
    for question, check in CHECKS.items():
        answer = answers[question]
        follows = answer == answers.values.get(f"__{question}")
        finding = check(question, answers)
        if not finding:
            continue
        answers.values[finding.question or question] = finding.instead
        if found and follows:
            continue
        found = True
        yield Mistake(question, answer, finding)


def corrected_command(answers: Answers) -> str:
    """The command that generates the service with the corrected answers."""
    import shlex  # here, as below: a generation that goes well need not wait for it
    import subprocess

    command = ["cookiecutter", str(answers.values.get("_template", "TEMPLATE"))]
    if answers.values.get("_checkout"):
        command += ["--checkout", str(answers.values["_checkout"])]
    if answers.values.get("_output_dir") != os.environ.get("PWD"):
        command += ["--output-dir", str(answers.values.get("_output_dir", "."))]
    command += ["--no-input"]
    for question in answers.raw_defaults or answers.values:
        if question.startswith("_") or answers[question] == answers.default(question):
            continue
        command += [f"{question}={answers[question]}"]
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)


INDENT = 6 * " "


def report(found: list[Mistake], answers: Answers) -> str:
    """What the user reads."""
    import textwrap

    lines = [f"{len(found)} of the answers cannot be used. Nothing was written.", ""]
    for question, answer, (reason, instead, other) in found:
        shown = re.sub(r"(?<=://)[^@]*:.*(?=@)|(?<=[?&;]).*=.*", "***", answer)
        lines += [f"  {question}: {shown[:200]!r}"]
        lines += textwrap.wrap(
            reason, 80, initial_indent=INDENT, subsequent_indent=INDENT
        )
        lines += [
            f"{INDENT}Did you mean {other + '=' if other else ''}{instead!r}?",
            "",
        ]
    lines += ["With the corrections:", "", f"  {corrected_command(answers)}", ""]
    lines += ["What cookiecutter reports below says only that it stopped here."]
    return "\n".join(lines)


def remove_parents(directory: Path, output: Path) -> None:
    """Remove the directories that a slug with slashes made: cookiecutter would not."""
    if not directory.is_relative_to(output) or any(directory.iterdir()):
        return
    parents = list(directory.relative_to(output).parents)[:-1]
    if not parents:
        return
    os.chdir(output)
    directory.rmdir()
    for parent in parents:
        if not any((output / parent).iterdir()):
            (output / parent).rmdir()


if __name__ == "__main__":
    ANSWERS = Answers(CONTEXT)
    FOUND = list(mistakes(ANSWERS))
    if not FOUND:
        sys.exit()
    # stderr never fails on what a terminal cannot show: it escapes it.
    print(f"\n{report(FOUND, ANSWERS)}\n", file=sys.stderr)
    remove_parents(Path.cwd(), Path(ANSWERS.values.get("_output_dir", ".")))
    sys.exit(1)
