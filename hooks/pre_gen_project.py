"""Checks every answer before a file is written, and reports all mistakes at once.

cookiecutter renders this file and runs it in the directory of the service. It ends
with 0, or with 1 after it has said of each mistake what it is, why, and what to write
instead; then cookiecutter removes the directory if it is new. Where there are files
already, the service is made aside first: see overlay.py. Standard library only, no
network.
"""

import calendar
import importlib
import importlib.util
import json
import logging
import os
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

NEWER = "Nothing was written. {} `uvx cookiecutter …` runs the newest."
if sys.version_info < (3, 10):
    sys.exit(NEWER.format("Python 3.10 or later is needed to run cookiecutter."))

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
        """Return the default, which is in `__question` if it follows from answers."""
        default = self.values.get(f"__{question}", self.raw_defaults.get(question, ""))
        return str(default[0] if isinstance(default, list) else default)

    def must_be_given(self, question: str) -> bool:
        """Return whether the answer would be another one if it were left out."""
        if self[question] != self.default(question):
            return True
        # A configuration file may have a default of its own.
        raw = self.raw_defaults.get(question)
        return bool(self.typed) and self.typed.get(question, raw) != raw

    def was_rendered(self, question: str) -> bool:
        """Return whether cookiecutter ran Jinja that is not the template's own."""
        typed = self.typed.get(question)
        own = self.raw_defaults.get(question)
        return isinstance(typed, str) and typed != own and bool(JINJA.search(typed))


def find_template(values: dict[str, Any]) -> Path | None:
    """Return the template's directory; None where it cannot be told.

    cruft does not name it, but is in it while its hooks run, as cookiecutter is: Linux
    tells where that is. A relative path may lead elsewhere from the output directory.
    """
    here = Path(f"/proc/{os.getppid()}/cwd")
    is_absolute = os.path.isabs(values.get("_repo_dir", ""))
    places = [
        Path(start or ".", values["_repo_dir"])
        for start in (values.get("_output_dir"), os.environ.get("PWD"))
        if "_repo_dir" in values
    ]
    for place in (*places, here) if is_absolute else (here, *places):
        try:
            directory = place.resolve()
            if (directory / "cookiecutter.json").is_file():
                return directory
        except OSError:  # another user's process
            continue
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
    """Check free text: one line of any printable Unicode."""
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
    """Return the nearest text that can be used; empty if nothing is left."""
    fit = "".join(" " if is_unfit(character) else character for character in text)
    fit = JINJA.sub("{ ", fit).strip()
    shorter = CLOSING.sub("", BLOCK.sub("", fit)).strip()
    return fit if shorter == fit else fit_text(shorter)


def is_unfit(character: str) -> bool:
    """Return whether one line of text cannot hold the character."""
    return character in UNFIT or unicodedata.category(character) in UNFIT_CATEGORIES


# Dashes, quotation marks and blanks, as word processors, Markdown and chats write them;
# what nobody sees goes.
MARKS = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("`\u00b4\u2018\u2019\u201a\u2039\u203a", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"')
    | dict.fromkeys("\u00a0\u2007\u202f\u3000", " ")
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff", "")
)
# Letters that Unicode takes for no variant of others.
LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O"}
    | {"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "þ": "th", "ð": "d"}
)


def to_ascii(text: str) -> str:
    """Return a text in ASCII, without what is no variant of a letter in it."""
    plain = unicodedata.normalize("NFKD", text.translate(MARKS).translate(LETTERS))
    return plain.encode("ascii", "ignore").decode()


SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
SLUG_LENGTH = 40
# Directories of the service, and names of devices on Windows.
RESERVED = {"app", "checks", "con", "aux", "data", "demo", "deploy", "docs", "models"}
RESERVED |= {"monitoring", "nul", "prn", "reports", "tests", "training"}
RESERVED |= {f"{device}{number}" for device in ("com", "lpt") for number in range(10)}
RESERVED |= {name.strip("_").replace("_", "-") for name in sys.stdlib_module_names}
DEPENDENCY = re.compile(r'^\s+"([A-Za-z0-9][\w.-]*).*",', re.MULTILINE)


def check_slug(question: str, answers: Answers) -> Finding | None:
    """Check a Kubernetes name that is a directory and a distribution name as well."""
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
    """Return the nearest slug that can be used."""
    plain = to_ascii(text)
    slug = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    if not slug:
        return "ml-service"
    slug = slug if slug[0].isalpha() else f"service-{slug}"
    if slug in reserved_names(answers):
        slug = f"{slug}-service"
    return slug[:SLUG_LENGTH].strip("-")


def reserved_names(answers: Answers) -> set[str]:
    """Return the names that would shadow, or be shadowed by, what the service imports.

    Those of packages that it does not name itself are in hooks/packages.txt: uv gives
    no project the name of a package that it needs.
    """
    if not answers.template:
        return RESERVED
    (project,) = answers.template.glob("*cookiecutter.service_slug*/pyproject.toml")
    dependencies = DEPENDENCY.findall(project.read_text(encoding="utf-8"))
    packages = answers.template / "hooks" / "packages.txt"
    others = packages.read_text(encoding="utf-8").split()
    names = {re.sub(r"[._-]+", "-", name.lower()) for name in dependencies}
    return RESERVED | names | set(others)


HANDLE = r"@[A-Za-z0-9]([\w.-]*[\w-])?(/[A-Za-z0-9]([\w.-]*[\w-])?)*"
EMAIL = r"[A-Za-z0-9][\w.+-]*@([A-Za-z0-9-]+\.)+[A-Za-z]{2,}"
MAINTAINER = re.compile(f"{HANDLE}|{EMAIL}", re.ASCII)


def check_maintainers(question: str, answers: Answers) -> Finding | None:
    """Check that there is a handle or an e-mail address, as CODEOWNERS reads them."""
    answer = answers[question]
    names = re.split("[, ]+", answer)
    if all(map(MAINTAINER.fullmatch, names)):
        return None
    plain = re.sub(
        r"[(\[]([^()\[\]]*@[^()\[\]]*\.[^()\[\]]*)[)\]]", r"<\1>", to_ascii(answer)
    )
    plain = re.sub(r"\([^)]*\)|\s(and|or|&)(?=\s)", " ", plain)  # @ada (lead) and @al
    # Ada <ada@example.com>, "Lovelace, Ada" <ada@example.com>
    addressed = re.sub(r'("[^"]*"|[^,;<>])*<([^<>]*)>', r"\2,", plain)
    found = map(fit_maintainer, re.split(r"[,;|\s]+|[/&+](?=@)", addressed))
    fit = dict.fromkeys(filter(MAINTAINER.fullmatch, found))
    return Finding(
        "Each is a handle (@name, @group/name) or an e-mail address.",
        ", ".join(fit) or answers.default(question),
    )


def fit_maintainer(name: str) -> str:
    """Return the name itself if it can be used, and otherwise as a handle."""
    name = re.sub(r"^mailto:", "", name, flags=re.IGNORECASE)
    if MAINTAINER.fullmatch(name):
        return name
    address = re.search(EMAIL, name, re.ASCII)  # in quotes, in a sentence
    if address:
        return address[0]
    profile = re.sub(r"^@?(\w+://)?([\w-]+\.)+[a-z]+/", "", name, flags=re.ASCII)
    profile = re.sub(r"^groups/|[?#].*$|/-/.*$", "", profile)
    profile = re.sub(r"^orgs/([^/]+)/teams/", r"\1/", profile)
    handle = "/".join(
        re.sub(r"[^\w.-]", "", part, flags=re.ASCII).strip("_.-")
        for part in profile.split("/")
    )
    return "@" + handle.strip("/")


WEEKS = re.compile(r"\d{1,3}(\.\d{1,2})?", re.ASCII)
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
NUMBERS += " thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty"
FIGURES = {"one hundred": "100"}
FIGURES |= {word: str(number) for number, word in enumerate(NUMBERS.split())}
FIGURES |= {"thirty": "30", "forty": "40", "fifty": "50", "sixty": "60"}
FIGURES |= {"seventy": "70", "eighty": "80", "ninety": "90", "hundred": "100"}
FIGURES |= {"couple of": "2", "couple": "2", "few": "3", "dozen": "12"}
# Weeks in one of each.
UNITS = {
    "h(ou)?r": 1 / 168,
    "(working|business|work) ?day": 1 / 5,
    "d(ay)?": 1 / 7,
    "w(ee)?k|w": 1,
    "fortnight": 2,
    "sprint": 2,
    "m(o(nth)?)?": 52 / 12,
    "quarter": 13,
    "y(ea)?r|y": 52,
}
UNIT = "|".join(UNITS)
FIGURE = r"(?:\d+(?:\.\d+)?|\.\d+)"
# A day, which no number of weeks follows from.
MONTHS = "|".join([*calendar.month_name[1:], *calendar.month_abbr[1:]])
NAMED = r"q[1-4]|h[12]|(week|wk|kw|cw)\s*\d+"  # a part of a year
DAY = r"\d{1,2}([./-])\d{1,2}\3\d{2}"
CALENDAR = re.compile(rf"\b((19|20)\d\d|{DAY}|{NAMED}|{MONTHS})\b", re.IGNORECASE)


def check_weeks(question: str, answers: Answers) -> Finding | None:
    """Check a positive number of weeks."""
    answer = answers[question]
    if WEEKS.fullmatch(answer) and float(answer) > 0:
        return None
    return Finding(
        "It is a number of weeks above zero, such as 3 or 0.5, and below 1000.",
        fit_weeks(answer) or answers.default(question),
    )


def fit_weeks(text: str) -> str:
    """Return the weeks that a text tells, in figures or words; empty if none."""
    if CALENDAR.search(text):
        return ""
    plain = in_figures(text)
    # Two (2) months; 2 months (8 weeks); 3 weeks +/- 1 week
    plain = re.sub(r"(?<=\d) ?\(\d+\)", "", plain)
    plain = re.sub(r"^(.*?\d.*?) ?(\(|\+/?-|\u00b1).*", r"\1", plain)
    spans = re.findall(rf"({FIGURE})(?:[\s-]*((?:{UNIT})s?)\b)?", plain)
    weeks = [float(span[0]) * unit_of(span[1]) for span in spans if span[1]]
    total = sum(weeks) if weeks else next((float(span[0]) for span in spans), 0)
    rounded = round(total) if total >= 1 and re.search(r"\d ?m", plain) else total
    fit = f"{round(rounded, 2):g}"
    return fit if WEEKS.fullmatch(fit) and float(fit) > 0 else ""


def unit_of(word: str) -> float:
    """Return the weeks in one of a unit."""
    fits = (n for unit, n in UNITS.items() if re.fullmatch(f"({unit})s?", word))
    return next(fits)


def in_figures(text: str) -> str:
    """Return a text in lower case with numbers in figures; of a range, only its end."""
    plain = "".join(map(figure, text.lower().translate(MARKS)))
    plain = re.sub(r"(?<=\d),(?=\d)", ".", plain)
    for word, number in FIGURES.items():
        plain = re.sub(rf"\b(a )?{word}\b", number, plain)
    plain = re.sub(
        r"\b([2-9]0)[ -]([1-9])\b", lambda m: str(int(m[1]) + int(m[2])), plain
    )
    plain = re.sub(r"\b(a )?half\b( an?\b)?|\b1/2\b", "0.5", plain)
    plain = re.sub(rf"\ban? (?=({UNIT})\b)", "1 ", plain)
    plain = re.sub(r"\b(\d+) (and )?0\.(\d+)", r"\1.\3", plain)
    plain = re.sub(rf"\b(\d+) ((?:{UNIT})s?) and 0\.5$", r"\1.5 \2", plain)
    # a week or two
    plain = re.sub(
        rf"{FIGURE} (?P<unit>(?:{UNIT})s?) (to|or) (?P<most>{FIGURE})$",
        r"\g<most> \g<unit>",
        plain,
    )
    return re.sub(rf"{FIGURE}\s*(-|to|or)\s*(?=\d)", "", plain)


def figure(character: str) -> str:
    """Return a character, or its value in ASCII if it is a number of another script."""
    if character.isascii() or not character.isnumeric():
        return character
    value = f"{unicodedata.numeric(character):g}"
    return f" {value}" if "." in value else value


LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# From 1 to 65535.
PORT = r"(:([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5]))?"
NUMBERED = re.compile(r"(\w+://)?[^/?#]*?(?P<port>:\d+)(?=[/?#]|$)", re.ASCII)
DOMAIN = re.compile(rf"({LABEL}\.)+[a-z]{LABEL}", re.ASCII)


def check_domain(question: str, answers: Answers) -> Finding | None:
    """Check a DNS name that has room for the slug in front of it."""
    domain = answers[question]
    room = 253 - SLUG_LENGTH - 1
    if DOMAIN.fullmatch(domain) and len(domain) <= room:
        return None
    near = bare_host(domain)
    fits = DOMAIN.fullmatch(near) and len(near) <= room
    return Finding(
        "It is a domain in lower case, such as ml.example.com: no scheme, no path.",
        near if fits else answers.default(question),
    )


def bare_host(text: str) -> str:
    """Return the host of an address, in lower case and in ASCII."""
    words = re.split(r"[\s,;()'\"<>]+", text.translate(MARKS).lower())
    named = (one for one in words if re.search(r"\w\.\w\w", one))
    word = next(named, text)  # of a sentence
    host = re.sub(r"^\w*:?//|^https?:|[/?#].*$", "", word)
    host = host.rpartition("@")[2].partition(":")[0].removeprefix("*.")
    host = re.sub(r"\.{2,}", ".", host).strip(".-").replace("_", "-")
    return in_ascii(host)


def without_bad_port(address: str) -> str:
    """Return the address, without its port if no machine can have that one."""
    found = NUMBERED.match(address)
    if not found or re.fullmatch(PORT, found["port"], re.ASCII):
        return address
    return address[: found.start("port")] + address[found.end() :]


def has_bad_port(address: str) -> bool:
    """Return whether the address has a port that no machine can have."""
    return without_bad_port(address) != address


PORT_REASON = "Its port is not from 1 to 65535."


PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
# A host without a dot has a port: else it would be taken for a path at Docker Hub.
REGISTRY = re.compile(
    rf"(({LABEL}\.)+{LABEL}|localhost|{LABEL}(?=:)){PORT}(/{PART})*", re.ASCII
)
# The registries whose credentials only one CI hands to its jobs.
REGISTRY_OF = {"ghcr.io": "github", "registry.gitlab.com": "gitlab"}
# As people call them.
NAMED_REGISTRIES = {"ghcr": "ghcr.io", "github": "ghcr.io", "quay": "quay.io"}
NAMED_REGISTRIES |= {"docker": "docker.io", "dockerhub": "docker.io"}
NAMED_REGISTRIES |= {"gitlab": "registry.gitlab.com"}


def check_registry(question: str, answers: Answers) -> Finding | None:
    """Check a registry, as in the name of an image, and that the CI reaches it."""
    registry = answers[question]
    fits = REGISTRY.fullmatch(registry) and len(registry) <= 200
    fits = fits and registry.split("/")[0] not in PAGES  # which keep no images
    if fits and allowed(registry, answers):
        return None
    named = NAMED_REGISTRIES.get(re.sub(r"[\s._-]", "", registry.lower()))
    path = answers.default(question).partition("/")[2]
    near = fit_registry(f"{named}/{path}" if named else registry, answers["ci"])
    usable = REGISTRY.fullmatch(near) and len(near) <= 200
    usable = usable and registry.lower() not in NONE
    instead = near if usable else answers.default(question)
    if fits:
        reason = f"With ci={answers['ci']}, jobs get no credentials for it."
    elif has_bad_port(registry):
        reason = PORT_REASON
    else:
        reason = (
            "It is a host and a path in lower case, such as ghcr.io/your-org: "
            "no scheme, no tag."
        )
    return Finding(reason, instead)


def fit_registry(text: str, ci: str) -> str:
    """Return the nearest registry that the CI reaches."""
    plain = to_ascii(text).strip(" \t'\"<>").lower()
    words = re.sub(r"\s*/\s*", "/", plain).split()  # of a command
    hosts = [word for word in words if re.match(r"[^-/][^/]*[.:]\w", word)]
    paths = [word for word in words if re.match(r"[^-/]+/+\w", word)]
    plain = [*hosts, *paths[-1:], plain][0] if len(words) > 1 else plain
    plain = re.sub(r"^\w*:?//|[?#].*$|\s", "", plain)
    plain = without_bad_port(re.sub(r"^[^/]*@|@sha256:.*$", "", plain)).strip("/")
    host, _, path = re.sub(r"(?<=/)([^/:]*):[^/]*$", r"\1", plain).partition("/")
    own = next(name for name, owner in REGISTRY_OF.items() if owner == ci)
    if not re.search(r"[.:]|^localhost$", host):  # it began with the path
        host, path = own, f"{host}/{path}"
    if host == "hub.docker.com":
        path = re.sub(r"^(r|u|orgs|repositories|repository/docker)/", "", path)
    if host == "quay.io":
        path = re.sub(r"^(organization|user|repository)/", "", path)
    if host == "github.com":
        path = re.sub(r"^(?:orgs|users)/([^/]+).*", r"\1", path)
        path = re.sub(r"^([^/]+)/[^/]+/pkgs/.*", r"\1", path)
    if host == "gitlab.com":
        path = re.sub(r"^groups/|(/-)?/container_registry.*$", "", path)
    host = PAGES.get(host, host)
    host = own if host in REGISTRY_OF else host
    parts = (part.strip("._-") for part in re.split("[/:]+", path))
    return "/".join([host, *filter(None, parts)])


def allowed(registry: str, answers: Answers) -> bool:
    """Return whether the chosen CI gives its jobs access to the registry."""
    return REGISTRY_OF.get(registry.split("/")[0], answers["ci"]) == answers["ci"]


# Nothing that Markdown, TOML or a shell acts on: such characters are %-encoded.
WEB = re.compile(
    rf"https?://(({LABEL}\.)*{LABEL}){PORT}(/[\w.~/%+=&?#!:,-]*)?",
    re.ASCII | re.IGNORECASE,
)
# The parts above the last one may become part of the name of an image.
OWNER = r"[A-Za-z0-9]+((\.|_|__|-+)[A-Za-z0-9]+)*"
REPOSITORY = re.compile(
    rf"https?://(({LABEL}\.)*{LABEL}){PORT}(/{OWNER})*/(?!\.)[\w.-]*\w(?<!\.git)",
    re.ASCII | re.IGNORECASE,
)
FORGES = {"github.com": "github", "gitlab.com": "gitlab"}
TWO_PARTS = {"github.com", "bitbucket.org"}  # an owner and a name
NONE = {"none", "n/a", "na", "no", "tbd", "todo", "null"}
FORGE_OF = {"gh": "github", "gl": "gitlab"}  # as cookiecutter abbreviates them
# What people read of images, and where those are.
PAGES = {"github.com": "ghcr.io", "gitlab.com": "registry.gitlab.com"}
PAGES |= {"hub.docker.com": "docker.io"}


def check_repository(question: str, answers: Answers) -> Finding | None:
    """Check the web address of a repository, where the chosen CI runs."""
    address = answers[question]
    near = fit_repository(address, answers)
    if REPOSITORY.fullmatch(address) and near == address:
        forge = FORGES.get(address.split("/")[2].lower(), answers["ci"])
        if forge == answers["ci"] or address == answers.default(question):
            return None
        return Finding(f"It is at {forge}, which does not run this CI.", forge, "ci")
    reason = mistake_in(address) or (
        "It is the web address of a repository, such as "
        "https://github.com/your-org/your-service; each part of its path is of a-z, "
        "0-9 and single . _ - between them."
    )
    if near == address or not REPOSITORY.fullmatch(near):
        return Finding(reason, answers.default(question))
    return corrected(question, answers, reason, near, check_repository)


def mistake_in(address: str) -> str:
    """Return the reason why a web address cannot be used as it is; empty if none."""
    if has_password(address):
        return "It carries a password, which everybody would read."
    if re.search(r"[/@]\[", address):
        return "An IPv6 address is no name of a host."
    return PORT_REASON if has_bad_port(address) else ""


def corrected(
    question: str,
    answers: Answers,
    reason: str,
    near: str,
    check: Callable[[str, Answers], Finding | None],
) -> Finding:
    """Return a finding with the nearest answer, and with what is wrong with it."""
    answers.values[question] = near
    more = check(question, answers)
    if more and more.question:
        return Finding(f"{reason} {more.reason}", more.instead, more.question)
    return more or Finding(reason, near)


def fit_repository(text: str, answers: Answers) -> str:
    """Return the nearest address of a repository."""
    text = text.translate(MARKS)
    text = re.sub(r"^(git|gh repo) clone\s+", "", text.strip(" \t'\"<>"))
    path = text.rstrip("/").removesuffix(".git")
    abbreviated = re.match(r"(gh|gl):(?!/)", path)
    path = path.partition(":")[2] if abbreviated else path
    named = re.fullmatch(r"@?[\w-]+(/[\w.-]+)?", path, re.ASCII)
    if named and text.lower() not in NONE:
        name = path.removeprefix("@")
        whole = name if "/" in name else f"{name}/{answers['service_slug']}"
        forge = FORGE_OF[abbreviated[1]] if abbreviated else answers["ci"]
        return f"https://{forge}.com/{whole}"
    if re.match(r"/|\.\.?/|file:", text) or text.lower() in NONE:  # or a directory
        return text
    near = re.sub(r"[?#].*$", "", fit_web(text))
    host, slash, path = near.partition("://")[2].partition("/")
    host = re.sub(r"^(www|ssh|altssh)\.(?=git(hub|lab)\.com$)", "", host.lower())
    path = to_ascii(path)
    path = re.sub(r"(?<=\w)/(-|issues|tree|blob|pulls)(/.*)?$", "", path.rstrip("/"))
    group = re.fullmatch(r"groups/(.+)", path) if host == "gitlab.com" else None
    path = f"{group[1]}/{answers['service_slug']}" if group else path
    if host in TWO_PARTS:  # what follows the name is a page of the repository
        path = re.sub(r"^orgs/([^/]+).*", r"\1", path)
        path = "/".join(path.split("/")[:2])
    path = path.removesuffix(".git").rstrip("/.")
    if host in FORGES and re.fullmatch(r"[\w-]+", path, re.ASCII):  # an owner
        path += f"/{answers['service_slug']}"
    return f"{near.partition('://')[0]}://{host}{slash}{path}"


TRACKER_OF = {
    "github.com": "github",
    "gitlab.com": "gitlab",
    "app.asana.com": "asana",
    "atlassian.net": "jira",
}


def check_tracker_url(question: str, answers: Answers) -> Finding | None:
    """Check a web address of the chosen tracker."""
    address, tracker = answers[question], answers["issue_tracker"]
    forge = FORGES.get("".join(answers["repository"].lower().split("/")[2:3]), tracker)
    is_default = address == answers.default(question)
    if answers["repository"] != answers.default("repository") and is_default:
        if tracker in FORGES.values() and forge != tracker:
            return Finding(f"The repository is at {forge}.", forge, "issue_tracker")
    found = WEB.fullmatch(address)
    if not found:
        near = fit_tracker_url(address, answers)
        reason = mistake_in(address) or (
            "It is a web address: https://…, without quotes."
        )
        usable = near != address and WEB.fullmatch(near)
        if not usable or has_password(near):
            return Finding(reason, answers.default(question))
        return corrected(question, answers, reason, near, check_tracker_url)
    if has_password(address):
        return Finding(mistake_in(address), re.sub(r"[?&#].*$", "", address))
    if address.endswith(".git") and tracker in FORGES.values():
        near = fit_tracker_url(address, answers)
        reason = "It is where the repository is cloned from."
        return corrected(question, answers, reason, near, check_tracker_url)
    domain = ".".join(found[1].lower().split(".")[-2:])
    owner = TRACKER_OF.get(found[1].lower()) or TRACKER_OF.get(domain, tracker)
    if owner != tracker:
        return Finding(f"It is an address of {owner}.", owner, "issue_tracker")
    if tracker == "asana" and found[1].lower() != "app.asana.com":
        return Finding("Asana is at https://app.asana.com.", answers.default(question))
    return None


# Where a name stands for an address: of a repository, a project, a site.
SHORT = {
    "github": (r"[\w.-]+/[\w.-]+", "https://github.com/{}/issues"),
    "gitlab": (r"[\w.-]+(/[\w.-]+)+", "https://gitlab.com/{}/-/issues"),
    "asana": (r"\d+(/[\w-]+)*", "https://app.asana.com/0/{}"),
    "jira": (r"[\w-]+", "https://{}.atlassian.net"),
}


def fit_tracker_url(text: str, answers: Answers) -> str:
    """Return the nearest web address."""
    if text.lower() in NONE:
        return text
    text = text.translate(MARKS)
    plain = fit_web(text)
    short, whole = SHORT[answers["issue_tracker"]]
    bare = re.sub(r"#\d*$", "", text.strip(" \t'\"<>/"))
    key = re.fullmatch(r"([A-Z][A-Z0-9]+)(-\d+)?", bare, re.ASCII)
    if key and answers["issue_tracker"] == "jira":  # of a project, or of an issue in it
        return f"https://your-org.atlassian.net/browse/{key[1]}"
    is_host = re.match(rf"({LABEL}\.)+[a-z][a-z]+(/|$)", bare, re.IGNORECASE)
    if re.fullmatch(short, bare, re.ASCII) and not is_host:
        return whole.format(bare)
    if plain.endswith(".git"):
        path = whole.partition("{}")[2]
        return plain.removesuffix(".git") + path
    has_host = "://" in text or re.match(r"https?://[^/]*[.:]", plain)
    return plain if has_host else text


def fit_web(text: str) -> str:
    """Return the nearest web address without credentials; the text if there is none."""
    plain = re.sub(r"^.*[\s(](?=https?://)|[\s).,;]+$", "", text)  # in a sentence
    plain = re.sub(r"^(\w+)[;,](?=//)", r"\1:", plain)
    plain = re.sub(r"^(https?:/+)+(?=https?:/)", "", plain, flags=re.IGNORECASE)
    plain = re.sub(r"\s*/\s*", "/", plain)
    plain = re.sub(r"^(https?://\S+)[ \t].*|(?<=[\w/]) \(.*", r"\1", plain)  # a remark
    plain = re.sub(r"[\s\"'<>\\`]", "", plain)
    # Of SSH; its port is none of the web's.
    clone = re.fullmatch(
        r"(?:(?:git\+)?ssh://)?[\w.-]+@([^:/]+)(?::\d+(?=/))?[:/](.*?)/?", plain
    ) or re.fullmatch(r"([\w-]+(?:\.[\w-]+)+):(?!\d+(?:/|$))([^/].*?)/?", plain)
    if clone:
        plain = f"https://{clone[1]}/{clone[2]}"
    other = re.match(r"(?!https?:)[a-z][\w+.-]*:(?!\d)", plain, re.IGNORECASE)
    if other and not plain.startswith(other[0] + "//"):  # javascript:
        return text
    secure = "http" if re.match(r"http:", plain, re.IGNORECASE) else "https"
    rest = re.sub(r"^(https?:|[a-z+]*:?/)/*", "", plain, flags=re.IGNORECASE)
    rest = re.sub(r"^[^/?#]*@", "", rest)
    if has_password(f"https://{rest}"):
        rest = re.sub(r"[?&#].*$", "", rest)
    rest = re.sub(r"^[^/?#]+", lambda found: in_ascii(found[0]), rest)
    rest = re.sub(r"^([^/?#]*):443(?=[/?#]|$)", r"\1", rest)
    return without_bad_port(f"{secure}://{rest}")


def in_ascii(host: str) -> str:
    """Return a host as the DNS has it; unchanged if the DNS cannot have it."""
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


BUCKET = r"(?![^/]*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
PATH = r"(/[\w.=+-]+)*/?"
REMOTES = {
    "local": re.compile(r"([A-Za-z]:)?[\w./\\]([\w ./\\+@()-]*[\w./\\)-])?"),
    "s3": re.compile(rf"s3://(?!xn--|sthree-|[\d.]+(/|$)){BUCKET}{PATH}", re.ASCII),
    "gs": re.compile(
        rf"gs://(?!goog)(?![^/]*google){BUCKET.replace('.-]', '._-]')}{PATH}", re.ASCII
    ),
    "azure": re.compile(rf"azure://(?![^/]*(--|\.)){BUCKET}{PATH}", re.ASCII),
    "ssh": re.compile(
        rf"ssh://([\w.-]+@)?({LABEL}\.)*{LABEL}{PORT}(/[\w.=+-]+)+/?",
        re.ASCII,
    ),
}
EXPECTED = {
    "local": "a directory, without quotes, commas and the like",
    "s3": "s3://bucket/path, the bucket or the alias of an access point 3 to 63 of "
    "a-z, 0-9 and hyphens",
    "gs": "gs://bucket/path, the bucket 3 to 63 of a-z, 0-9 and hyphens, not Google's",
    "azure": "azure://container/path, 3 to 63 of a-z, 0-9 and single hyphens",
    "ssh": "ssh://user@host/path",
}


def check_remote_url(question: str, answers: Answers) -> Finding | None:
    """Check a URL of the chosen kind of remote, without credentials."""
    url, kind = answers[question], answers["dvc_remote"]
    if not has_password(url) and REMOTES[kind].fullmatch(url):
        return None
    secret = (
        "It carries credentials, and Git would keep them: they belong into the "
        "environment or into .dvc/config.local (docs/storage.md of the service)."
    )
    other = kind_of(url)
    if other and other != kind:
        near = fit_remote_url(url, other)
        if REMOTES[other].fullmatch(near):
            answers.values[question] = near
            reason = f"{kind} was chosen, and this is of {other}."
            reason = f"{secret} {reason}" if has_password(url) else reason
            return Finding(reason, other, "dvc_remote")
    near = fit_remote_url(url, kind, answers.default(question))
    instead = near if REMOTES[kind].fullmatch(near) else answers.default(question)
    if has_password(url):
        return Finding(secret, instead)
    if kind == "ssh" and has_bad_port(url):
        return Finding(PORT_REASON, instead)
    if kind == "ssh" and re.search(r"[/@]\[", url):
        return Finding("An IPv6 address is no name of a host.", instead)
    return Finding(f"It is {EXPECTED[kind]}.", instead)


def kind_of(url: str) -> str:
    """Return the kind that the form of a URL tells; empty for a mere name."""
    if re.match(r"[./\\~]|[A-Za-z]:[\\/]", url):
        return "local"
    for kind, forms in ALIASES.items():
        if any(matches(form, url) for form in forms if form != OTHER_S3):
            return kind
    return "ssh" if re.match(r"(ssh|sftp)://|[\w.-]+@[\w.-]+:", url) else ""


def matches(form: str, url: str) -> "re.Match[str] | None":
    """Return the match of a URL with a form, or None."""
    return re.fullmatch(form, url, re.IGNORECASE | re.DOTALL)


# What else buckets are called, and what is a bucket and a path in it.
OTHER_S3 = r"https?://[^/]+/(.+)"  # its endpoint is no part of the URL
ALIASES = {
    "s3": [
        r"s3[an]?:/*([^/]+.*)",
        r"arn:aws[\w-]*:s3:::(.+)",
        r"(?:https?://)?s3[\w.-]*\.amazonaws\.com/(.+)",
        r"(?:https?://)?([^/]+)\.s3[\w.-]*\.amazonaws\.com(/.*)?",
        r"https?://[\w.-]*console\.aws\.amazon\.com/s3/buckets/([^?]+).*",
        OTHER_S3,
    ],
    "gs": [
        r"gc?s:/*([^/]+.*)",
        r"(?:https?://)?storage\.(?:googleapis|cloud\.google)\.com/(.+)",
        r"(?:https?://)?([^/]+)\.storage\.googleapis\.com(/.*)?",
        r"https?://console\.cloud\.google\.com/storage/browser/([^;?]+).*",
    ],
    "azure": [
        r"abfss?://([^@/]+)@[^/]+(/.*)?",
        r"wasbs?://([^@/]+)@[^/]+(/.*)?",
        r"(?:\w+://)?[\w-]+\.(?:blob|dfs)\.core\.windows\.net/(.+)",
        r"az(?:ure)?:/*([^/]+.*)",
    ],
}


# An account, or an access point, whose alias only S3 knows.
NO_BUCKET = re.compile(r"AccountName=|\.s3-accesspoint\.|:accesspoint[/:]")


def fit_remote_url(text: str, kind: str, default: str = "") -> str:
    """Return the nearest URL of a kind; without a path it gets that of the default."""
    marked = text.translate(MARKS).strip(" \t\n'\"<>")
    plain = re.sub(r"^.*\s(?=\w+://)", "", marked)  # of a command
    if kind == "local":
        return fit_directory(plain)
    if kind == "ssh":
        return fit_server(plain, default)
    if NO_BUCKET.search(plain) or plain.lower() in NONE:
        return text
    if kind in ("s3", "gs"):  # a bucket has no user: it is a key
        plain = re.sub(r"(?<=://)[^/@]*@", "", plain)
    if has_password(plain):
        plain = re.sub(r"[?;#].*$|(?<=://).*@", "", plain)
    for form in ALIASES[kind]:
        found = matches(form, plain)
        if found:
            plain = "".join(filter(None, found.groups()))
            break
    if re.match(r"\w+://", plain) or plain.endswith(".core.windows.net"):
        return text  # of another service, or an account
    plain = re.sub(r"[?#].*$", "", plain)
    plain = re.sub("/{2,}", "/", re.sub(r"^([\w+]*:)?//", "", plain))
    bucket, slash, path = plain.partition("/")
    allowed_marks = {"azure": "-", "gs": "_.-"}.get(kind, ".-")
    bucket = re.sub(rf"[^a-z0-9{allowed_marks}]+", "-", bucket.lower())
    bucket = re.sub(r"\.{2,}", ".", bucket)
    bucket = re.sub("-{2,}", "-", bucket) if kind == "azure" else bucket
    return f"{kind}://{bucket.strip('._-')}{slash}{fit_path(path)}"


def fit_path(text: str) -> str:
    """Return the nearest path of a remote."""
    plain = to_ascii(text)
    return re.sub(r"/{2,}", "/", re.sub(r"[^\w.=+/-]+", "-", plain, flags=re.ASCII))


def fit_directory(text: str) -> str:
    """Return the nearest directory that DVC can be told of in its configuration."""
    if re.match(r"(?!file:)[\w+]+://", text):  # a URL of no kind that is known
        return text
    path = re.sub(r"^file:/+(?=[A-Za-z]:)|^file:(//(localhost)?(?=/))?", "", text)
    path = os.path.expandvars(path.rstrip(" ,;"))
    path = os.path.expanduser(path) if path.startswith("~") else path
    path = re.sub(r"[^\w ./\\:+@()-]+", "-", path)
    return path[:2] + path[2:].replace(":", "-").rstrip(" +@(")


def fit_server(text: str, default: str) -> str:
    """Return the nearest address of a directory that SSH reaches."""
    program, *words = text.split() or [""]
    if program in ("ssh", "scp", "sftp", "rsync"):  # a command
        text = next((word for word in words if re.match(r"[\w.-]*[@:]", word)), text)
    rest = re.sub(r"^(ssh|sftp|scp|rsync)?:?//", "", text, flags=re.IGNORECASE)
    user, at, place = rest.rpartition("@")
    user = user.partition(":")[0]
    host, _, path = place.partition("/")
    host, colon, more = host.partition(":")
    if colon and not more.isdigit():  # as scp and Git write it: host:path
        path, colon, more = f"{more}/{path}".strip("/"), "", ""
    path = path if "~" in path else fit_path(path).lstrip("/")  # no home is known
    if not path and host.lower() not in NONE:
        path = "/".join(default.split("/")[3:])
    place = f"{host.lower()}{colon}{more}/{path}"
    return without_bad_port(f"ssh://{user}{at}{place}")


PASSWORD = re.compile(
    r"://[^@/]*:[^@]*@|^https?://[^/@]+@"
    r"|[?&;](sig|[\w-]*(key|token|secret|password))=",
    re.IGNORECASE,
)


def has_password(url: str) -> bool:
    """Return whether a URL carries a password, a key or a signature."""
    return bool(PASSWORD.search(url))


CHECKS: dict[str, Callable[[str, Answers], Finding | None]] = {
    "service_name": check_text,
    "service_slug": check_slug,
    "repository": check_repository,
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
    """Yield all mistakes; a default that follows from a mistaken answer is none."""
    found = False
    for question, check in CHECKS.items():
        answer = answers[question]
        follows = answer == answers.values.get(f"__{question}")
        finding = check(question, answers)
        if not finding:
            continue
        if found and follows and not finding.question:
            # It will follow from the corrections; a corrected name may give no slug.
            usable = question == "service_slug"
            answers.values[question] = finding.instead if usable else answer
            continue
        answers.values[finding.question or question] = finding.instead
        found = True
        yield Mistake(question, answer, finding)


def started_with() -> tuple[list[str], list[str]] | None:
    """Return the program, as typed, and arguments of the call of cookiecutter or cruft.

    None where the system does not tell; Linux does, in /proc.
    """
    pid, arguments, program = os.getppid(), [""], [""]
    for generation in range(4):
        try:
            words = (
                Path(f"/proc/{pid}/cmdline")
                .read_text(encoding="utf-8")
                .split("\0")[:-1]
            )
            status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except (OSError, UnicodeError):
            break
        if generation == 0:
            found = split_program(words)
            if not found:
                return None
            program, arguments = found
        elif is_launcher(words) and words[-len(arguments) :] == arguments:
            return shown_launcher(words[: -len(arguments)]), arguments
        pid = int(status.rpartition(")")[2].split()[1])
    return (program, arguments) if program[0] else None


def split_program(words: list[str]) -> tuple[list[str], list[str]] | None:
    """Return the program of a process of cookiecutter or cruft, and its arguments."""
    import shutil

    rest = words
    if re.match(r"(python|pypy)[\d.]*(\.exe)?$", os.path.basename(words[0])):
        rest = rest[1:]
        while rest and rest[0].startswith("-") and rest[0] != "-m":
            rest = rest[2 if rest[0] in ("-X", "-W") else 1 :]
    is_module = rest[:1] == ["-m"]
    rest = rest[is_module:]
    name = os.path.basename(rest[0]) if rest else ""
    if name not in ("cookiecutter", "cruft"):
        return None
    if is_module:
        return words[: len(words) - len(rest) + 1], rest[1:]
    if re.search(r"pipx/(\.cache|cache)/|pipx\.cache|\.cache/pipx/", rest[0]):
        return ["pipx", "run", name], rest[1:]
    on_path = shutil.which(name)
    same = on_path and os.path.realpath(on_path) == os.path.realpath(rest[0])
    return [name if same else rest[0]], rest[1:]


def is_launcher(words: list[str]) -> bool:
    """Return whether a process is a program that runs others, such as uvx."""
    names = {os.path.basename(word) for word in words[:2]}
    return bool(names & {"uv", "uvx", "pipx", "hatch", "pdm", "poetry", "pixi"})


def shown_launcher(words: list[str]) -> list[str]:
    """Return a launcher as it is typed: uvx calls itself `uv tool uvx`."""
    if os.path.basename(words[0]).startswith("python"):
        words = words[1:]
    words = [os.path.basename(words[0]), *words[1:]]
    return words[2:] if words[:3] == ["uv", "tool", "uvx"] else words


# Options with a value, and those that the corrections take the place of.
VALUED = {"-c", "--checkout", "--directory", "--replay-file", "-o", "--output-dir"}
VALUED |= {"--config-file", "--debug-file", "--accept-hooks"}
VALUED |= {"--extra-context", "-E", "--extra-context-file", "--skip"}
REPLACED = {"--no-input", "-y", "--replay", "--replay-file"}
REPLACED |= {"--extra-context", "-E", "--extra-context-file"}


def split_arguments(arguments: list[str]) -> tuple[list[str], set[str]]:
    """Return what was typed without the answers, and the questions of the answers."""
    kept: list[str] = []
    questions: set[str] = set()
    has_template = False
    rest = iter(arguments)
    for word in rest:
        name = word.partition("=")[0] if word.startswith("--") else word
        value = [next(rest, "")] if name in VALUED and name == word else []
        is_option = word.startswith("-") and "--" not in kept
        if has_template and not is_option and re.match(r"\w+=", word):
            questions.add(word.partition("=")[0])
        elif name not in REPLACED:
            kept += [word, *value]
            has_template |= not is_option and word != "create"  # of cruft
        if name == "--extra-context":
            questions |= set(json.loads("".join(value) or word.partition("=")[2]))
    return kept, questions


def known_arguments(answers: Answers) -> list[str]:
    """Return what is known of the call where the system does not tell it."""
    values = answers.values
    arguments = [str(values.get("_template", "TEMPLATE"))]
    if values.get("_checkout"):
        arguments += ["--checkout", str(values["_checkout"])]
    if values.get("_output_dir") != os.environ.get("PWD"):
        arguments += ["--output-dir", str(values.get("_output_dir", "."))]
    return arguments


def corrected_command(answers: Answers) -> str:
    """Return the command that generates the service with the corrected answers."""
    started = started_with()
    program, arguments = started or (["cookiecutter"], known_arguments(answers))
    kept, typed = split_arguments(arguments)
    changed = {
        question: answers[question]
        for question in answers.raw_defaults or answers.values
        if not question.startswith("_")
        # Where a configuration file has another answer, a default must be said again.
        and (question in typed or answers.must_be_given(question))
    }
    end = kept.index("--") if "--" in kept else len(kept)
    command = [*program, *kept[:end], "--no-input", *kept[end:]]
    # Of a version, too: uvx cruft@2.16
    if any(os.path.basename(word).partition("@")[0] == "cruft" for word in program):
        if changed:
            command += ["--extra-context", json.dumps(changed, ensure_ascii=False)]
    else:
        command += [f"{question}={answer}" for question, answer in changed.items()]
    return quoted(command)


def quoted(words: list[str]) -> str:
    """Return the words as the user's shell reads them."""
    import shlex  # here, as below: a generation that goes well need not wait for it
    import subprocess

    if os.name == "nt" and "MSYSTEM" not in os.environ:  # and not Git's bash
        if "PROMPT" in os.environ:  # cmd
            return subprocess.list2cmdline(words)
        plain = re.compile(r"[\w./\\:=@+-]+")
        return " ".join(
            word if plain.fullmatch(word) else "'" + word.replace("'", "''") + "'"
            for word in words
        )
    if os.path.basename(os.environ.get("SHELL", "")) == "fish":
        return shlex.join(words).replace("\\", "\\\\")
    return shlex.join(words)


INDENT = 6 * " "


def report(found: list[Mistake], answers: Answers) -> str:
    """Return the message about the mistakes, with the corrected command."""
    import textwrap

    lines = [f"{len(found)} of the answers cannot be used. Nothing was written.", ""]
    for question, answer, (reason, instead, other) in found:
        shown = re.sub(r"(?<=://)[^@]*:.*(?=@)|(?<=[?&;]).*=.*", "***", answer)
        shown = re.sub(r"(?<=https://).*(?=@)|^[^/@]*:[^/@]*(?=@)", "***", shown)
        lines += [f"  {question}: {shown[:200]!r}"]
        lines += textwrap.wrap(
            reason,
            80,
            initial_indent=INDENT,
            subsequent_indent=INDENT,
            break_on_hyphens=False,
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


def has_files() -> bool:
    """Return whether the directory was there before cookiecutter made it."""
    return any(Path().iterdir()) or time.time() - Path().stat().st_mtime > 2


def prepare_over_files(answers: Answers) -> None:
    """Make the service aside, so that a failure finds every file as it was.

    Raises:
        SystemExit: with the reason, if it cannot be made, or not be put here.
    """
    if not answers.template:
        sys.exit(
            "Nothing was written: the template cannot be found, so what is here "
            "could not be put back. Run `cookiecutter -f`, which says where it is."
        )
    overlay = load_overlay(answers.template)
    logging.disable()  # cookiecutter's log would repeat what is said here
    try:
        overlay.prepare(lambda aside: make_aside(answers.template, aside))
    except KeyboardInterrupt:
        sys.exit("Nothing was written.")
    except Exception as error:  # of Jinja, of a hook, of the disk: all the same here
        kind = type(error).__name__
        reason = {"FailedHookException": "", "Obstacle": str(error)}.get(
            kind, f"{kind}: {error}"
        )
        sys.exit(f"\nNothing was written, every file is as it was. {reason}\n")


def load_overlay(template: Path) -> Any:
    """Return the module that lays a service over a directory that has files already."""
    path = template / "hooks" / "overlay.py"
    specification = importlib.util.spec_from_file_location("overlay", path)
    assert specification and specification.loader
    sys.dont_write_bytecode = True
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def make_aside(template: Path | None, aside: Path) -> Path:
    """Generate the service into another directory, by this very cookiecutter."""
    generate = importlib.import_module("cookiecutter.generate").generate_files
    context = {
        "cookiecutter": {**CONTEXT["answers"], "_aside": True},
        "_cookiecutter": CONTEXT["typed"],
    }
    return Path(generate(template, context, str(aside.resolve())))


def is_new_enough(values: dict[str, Any]) -> bool:
    """Return whether this cookiecutter, or cruft with it, tells the hooks enough."""
    has_rendered = not JINJA.search(str(values["__service_slug"]))
    return has_rendered and ("_checkout" in values or "_commit" in values)


def main() -> None:
    """Check the answers and, over files that exist, prepare the service aside.

    Raises:
        SystemExit: with 1 if an answer cannot be used, or with another reason.
    """
    if "_aside" in CONTEXT["answers"]:  # which were checked already
        return
    if not is_new_enough(CONTEXT["answers"]):
        sys.exit(NEWER.format("cookiecutter 2.6 or later is needed."))
    answers = Answers(CONTEXT)
    found = list(mistakes(answers))
    if found:
        # stderr never fails on what a terminal cannot show: it escapes it.
        print(f"\n{report(found, answers)}\n", file=sys.stderr)
        remove_parents(Path.cwd(), Path(answers.values.get("_output_dir", ".")))
        sys.exit(1)
    if has_files():
        prepare_over_files(answers)


if __name__ == "__main__":
    main()
