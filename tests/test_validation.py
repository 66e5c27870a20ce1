"""No answer is executed, and none gives a broken service: it is right, or refused."""

import ast
import json
import os
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.conftest import BODY, ROOT, Service, bake_into, run
from tests.questions import QUESTIONS, Outcome, answer

TEXTS = ("service_name", "description", "team", "product_manager")

# What is refused: the answers, a part of the reason, and what is written instead.
REFUSED: list[tuple[dict[str, str], str, dict[str, str]]] = [
    (
        {"service_slug": "Fraud_Scoring"},
        "Kubernetes",
        {"service_slug": "fraud-scoring"},
    ),
    ({"service_slug": "a--b"}, "single hyphens", {"service_slug": "a-b"}),
    ({"service_slug": "3d"}, "begins", {"service_slug": "service-3d"}),
    ({"service_slug": "été"}, "a-z", {"service_slug": "ete"}),
    ({"service_slug": "Ω"}, "a-z", {"service_slug": "ml-service"}),
    ({"service_slug": "x-\n"}, "a-z", {"service_slug": "x"}),
    ({"service_slug": "a" * 41}, "41 characters", {"service_slug": "a" * 40}),
    ({"service_slug": "json"}, "has this name", {"service_slug": "json-service"}),
    ({"service_slug": "numpy"}, "has this name", {"service_slug": "numpy-service"}),
    ({"service_slug": "dvc"}, "has this name", {"service_slug": "dvc-service"}),
    ({"service_slug": "training"}, "has this name", {}),
    ({"service_slug": "aux"}, "has this name", {"service_slug": "aux-service"}),
    ({"service_slug": "team/scoring"}, "a-z", {"service_slug": "team-scoring"}),
    ({"service_name": ""}, "empty", {}),
    ({"description": "two\nlines"}, "line break", {"description": "two lines"}),
    ({"description": "a\u2028b"}, "line break", {"description": "a b"}),
    ({"description": "a\x00b"}, "invisible", {"description": "a b"}),
    ({"description": "\u202egnp.exe"}, "invisible", {"description": "gnp.exe"}),
    ({"description": "\udcff"}, "invisible", {}),
    ({"description": " x"}, "white space", {"description": "x"}),
    ({"description": "{{ 7*7 }}"}, "Jinja", {"description": "{ { 7*7 }}"}),
    ({"description": "{% raw %}"}, "Jinja", {"description": "{ % raw %}"}),
    ({"description": "{#x"}, "Jinja", {"description": "{ #x"}),
    ({"description": "# x"}, "Markdown", {"description": "x"}),
    ({"description": "1. x"}, "Markdown", {"description": "x"}),
    ({"description": "> - x"}, "Markdown", {"description": "x"}),
    ({"service_name": "C #"}, "Markdown", {"service_name": "C"}),
    ({"maintainers": ""}, "handle", {}),
    ({"maintainers": "bob; al"}, "handle", {"maintainers": "@bob, @al"}),
    ({"maintainers": "@a\n@b"}, "handle", {"maintainers": "@a, @b"}),
    ({"maintainers": "a@b"}, "e-mail", {"maintainers": "@ab"}),
    (
        {"maintainers": "Ada L <ada@example.com>; bob"},
        "e-mail",
        {"maintainers": "ada@example.com, @bob"},
    ),
    ({"maintainers": "https://github.com/ada"}, "handle", {"maintainers": "@ada"}),
    ({"weeks_to_ship": "0"}, "above zero", {}),
    ({"weeks_to_ship": "-3"}, "above zero", {"weeks_to_ship": "3"}),
    ({"weeks_to_ship": "nan"}, "above zero", {}),
    ({"weeks_to_ship": "1e9"}, "above zero", {"weeks_to_ship": "1"}),
    ({"weeks_to_ship": "٣"}, "above zero", {"weeks_to_ship": "3"}),
    ({"weeks_to_ship": "three weeks"}, "above zero", {"weeks_to_ship": "3"}),
    ({"weeks_to_ship": "1 month"}, "above zero", {"weeks_to_ship": "4"}),
    ({"weeks_to_ship": "10 days"}, "above zero", {"weeks_to_ship": "1.43"}),
    ({"weeks_to_ship": "15 working days"}, "above zero", {"weeks_to_ship": "3"}),
    (
        {"weeks_to_ship": "two and a half weeks"},
        "above zero",
        {"weeks_to_ship": "2.5"},
    ),
    ({"weeks_to_ship": "a fortnight"}, "above zero", {}),
    ({"weeks_to_ship": "2-3 weeks"}, "above zero", {"weeks_to_ship": "3"}),
    ({"weeks_to_ship": "three to four"}, "above zero", {"weeks_to_ship": "4"}),
    ({"weeks_to_ship": "1,5"}, "above zero", {"weeks_to_ship": "1.5"}),
    ({"weeks_to_ship": "½"}, "above zero", {"weeks_to_ship": "0.5"}),
    ({"weeks_to_ship": "twenty-six"}, "above zero", {"weeks_to_ship": "26"}),
    ({"weeks_to_ship": "forty two"}, "above zero", {"weeks_to_ship": "42"}),
    ({"weeks_to_ship": ".5"}, "above zero", {"weeks_to_ship": "0.5"}),
    ({"weeks_to_ship": "84 hours"}, "above zero", {"weeks_to_ship": "0.5"}),
    ({"weeks_to_ship": "a year and a half"}, "above zero", {"weeks_to_ship": "78"}),
    ({"repository": "acme/x"}, "web", {"repository": "https://github.com/acme/x"}),
    (
        {"repository": "git@github.com:acme/x.git"},
        "web address",
        {"repository": "https://github.com/acme/x"},
    ),
    (
        {"repository": "github.com/acme/x/issues/"},
        "web address",
        {"repository": "https://github.com/acme/x"},
    ),
    (
        {"repository": "https://secret@github.com/acme/x"},
        "password",
        {"repository": "https://github.com/acme/x"},
    ),
    (
        {"repository": "https://gitlab.com/acme/x"},
        "at gitlab",
        {
            "repository": "https://gitlab.com/acme/x",
            "ci": "gitlab",
            "issue_tracker": "gitlab",
        },
    ),
    *(
        ({"repository": typed}, "web", {"repository": f"https://{instead}"})
        for typed, instead in (
            ("ssh://git@git.acme.com:2222/a/x.git", "git.acme.com/a/x"),
            ("org-12@github.com:acme/x.git", "github.com/acme/x"),
            ("https://www.github.com/acme", "github.com/acme/intent-service"),
            ("gh:acme/x", "github.com/acme/x"),
        )
    ),
    ({"repository": "/srv/git/x.git"}, "web", {}),
    (
        {"repository": "git@gitlab.com:acme/x.git"},
        "at gitlab",
        {"repository": "https://gitlab.com/acme/x", "ci": "gitlab"},
    ),
    ({"domain": "https://A.example.com/x"}, "domain", {"domain": "a.example.com"}),
    ({"domain": "ftp://u:secret@a.ex.com:1"}, "domain", {"domain": "a.ex.com"}),
    ({"domain": "-a..ex.com"}, "domain", {"domain": "a.ex.com"}),
    ({"domain": "localhost"}, "domain", {}),
    ({"domain": "a..b"}, "domain", {}),
    ({"domain": "*.my_team.acme.com."}, "domain", {"domain": "my-team.acme.com"}),
    ({"domain": "münchen.de"}, "domain", {"domain": "xn--mnchen-3ya.de"}),
    ({"domain": ("a" * 60 + ".") * 4 + "com"}, "domain", {}),
    (
        {"container_registry": "https://GHCR.io/Org/"},
        "host",
        {"container_registry": "ghcr.io/org"},
    ),
    (
        {"container_registry": "ghcr.io/o:v1"},
        "no tag",
        {"container_registry": "ghcr.io/o"},
    ),
    (
        {"container_registry": "me:secret@ghcr.io/o"},
        "host",
        {"container_registry": "ghcr.io/o"},
    ),
    ({"container_registry": "acme"}, "host", {"container_registry": "ghcr.io/acme"}),
    (
        {"container_registry": "github.com/acme"},
        "host",
        {"container_registry": "ghcr.io/acme"},
    ),
    *(
        ({"container_registry": typed}, "host", {"container_registry": instead})
        for typed, instead in (
            ("http://registry:5000/", "registry:5000"),
            ("hub.docker.com/r/acme", "docker.io/acme"),
            ("ghcr.io//Äcme_/x", "ghcr.io/acme/x"),
            ("gcr.io/example.com:project/x", "gcr.io/example.com/project/x"),
        )
    ),
    (
        {"container_registry": "localhost:99999/x"},
        "port is not from 1 to 65535",
        {"container_registry": "localhost/x"},
    ),
    (
        {"container_registry": "ghcr.io:65536"},
        "65535",
        {"container_registry": "ghcr.io"},
    ),
    (
        {"container_registry": "ghcr.io:0/o"},
        "65535",
        {"container_registry": "ghcr.io/o"},
    ),
    (
        {"container_registry": "registry.gitlab.com/o"},
        "ci=github",
        {"container_registry": "ghcr.io/o"},
    ),
    (
        {"container_registry": "ghcr.io/o", "ci": "gitlab"},
        "ci=gitlab",
        {"ci": "gitlab", "container_registry": "registry.gitlab.com/o"},
    ),
    (
        {"issue_tracker_url": "example.com/x"},
        "web address",
        {"issue_tracker_url": "https://example.com/x"},
    ),
    (
        {"issue_tracker": "jira", "issue_tracker_url": "o.atlassian.net/browse/A"},
        "web address",
        {
            "issue_tracker": "jira",
            "issue_tracker_url": "https://o.atlassian.net/browse/A",
        },
    ),
    (
        {"issue_tracker": "jira", "issue_tracker_url": "acme"},
        "web address",
        {"issue_tracker": "jira", "issue_tracker_url": "https://acme.atlassian.net"},
    ),
    (
        {"issue_tracker": "asana", "issue_tracker_url": "app.asana.com/0/12/list"},
        "web address",
        {"issue_tracker_url": "https://app.asana.com/0/12/list"},
    ),
    (
        {"issue_tracker_url": "acme/x"},
        "web address",
        {"issue_tracker_url": "https://github.com/acme/x/issues"},
    ),
    (
        {"issue_tracker_url": "git@github.com:acme/x.git"},
        "web address",
        {"issue_tracker_url": "https://github.com/acme/x/issues"},
    ),
    (
        {"issue_tracker_url": "gitlab.com/acme/x"},
        "address of gitlab",
        {"issue_tracker": "gitlab", "issue_tracker_url": "https://gitlab.com/acme/x"},
    ),
    (
        {"issue_tracker_url": "https://u:secret@github.com/o/r"},
        "password",
        {"issue_tracker_url": "https://github.com/o/r"},
    ),
    (
        {"issue_tracker_url": "https://secret@github.com/o/r"},
        "password",
        {"issue_tracker_url": "https://github.com/o/r"},
    ),
    (
        {"issue_tracker_url": 'https://a.example/"x"'},
        "web address",
        {"issue_tracker_url": "https://a.example/x"},
    ),
    ({"issue_tracker_url": "javascript:alert(1)"}, "web address", {}),
    (
        {"issue_tracker_url": "https://example.com:70000/o"},
        "65535",
        {"issue_tracker_url": "https://example.com/o"},
    ),
    (
        {"issue_tracker_url": "https://gitlab.com:70000/o"},
        "65535",
        {"issue_tracker": "gitlab", "issue_tracker_url": "https://gitlab.com/o"},
    ),
    (
        {"issue_tracker_url": "https://gitlab.com/o/r"},
        "address of gitlab",
        {"issue_tracker": "gitlab", "issue_tracker_url": "https://gitlab.com/o/r"},
    ),
    (
        {"issue_tracker_url": "https://o.atlassian.net/browse/A"},
        "address of jira",
        {
            "issue_tracker": "jira",
            "issue_tracker_url": "https://o.atlassian.net/browse/A",
        },
    ),
    (
        {"issue_tracker": "asana", "issue_tracker_url": "https://example.com/"},
        "app.asana.com",
        {"issue_tracker": "asana"},
    ),
    (
        {"dvc_remote": "gs", "dvc_remote_url": "s3://bucket/x"},
        "this is of s3",
        {"dvc_remote": "s3", "dvc_remote_url": "s3://bucket/x"},
    ),
    (
        {"dvc_remote_url": "ssh://me@example.com/srv"},
        "this is of ssh",
        {"dvc_remote": "ssh", "dvc_remote_url": "ssh://me@example.com/srv"},
    ),
    (
        {"dvc_remote": "s3", "dvc_remote_url": "s3://id:secret@bucket/x"},
        "credentials",
        {"dvc_remote": "s3", "dvc_remote_url": "s3://bucket/x"},
    ),
    (
        {"dvc_remote": "azure", "dvc_remote_url": "azure://box/x?sig=abc"},
        "credentials",
        {"dvc_remote": "azure", "dvc_remote_url": "azure://box/x"},
    ),
    *(
        (
            {"dvc_remote": kind, "dvc_remote_url": typed},
            "It is ",
            {"dvc_remote": kind, "dvc_remote_url": instead},
        )
        for kind, typed, instead in (
            ("s3", "s3://Bucket", "s3://bucket"),
            ("s3", "acme-claims", "s3://acme-claims"),
            ("s3", "Acme_Claims/a", "s3://acme-claims/a"),
            ("s3", "https://acme.s3.eu-west-1.amazonaws.com/x", "s3://acme/x"),
            ("s3", "https://s3.amazonaws.com/acme/x", "s3://acme/x"),
            ("s3", "arn:aws:s3:::acme/x", "s3://acme/x"),
            ("gs", "acme-claims", "gs://acme-claims"),
            ("gs", "https://storage.googleapis.com/acme/x", "gs://acme/x"),
            ("s3", "https://minio.acme.com/acme/x", "s3://acme/x"),
            (
                "s3",
                "https://eu-west-1.console.aws.amazon.com/s3/buckets/acme?tab=x",
                "s3://acme",
            ),
            ("s3", "s3://acme//été", "s3://acme/ete"),
            (
                "gs",
                "https://console.cloud.google.com/storage/browser/acme_x;tab=y",
                "gs://acme_x",
            ),
            ("azure", "box", "azure://box"),
            ("azure", "https://a.blob.core.windows.net/box/x", "azure://box/x"),
            ("azure", "abfs://box@a.dfs.core.windows.net/x", "azure://box/x"),
            ("ssh", "me@example.com:/srv/x", "ssh://me@example.com/srv/x"),
            ("ssh", "example.com/srv/x", "ssh://example.com/srv/x"),
            ("ssh", "ssh://me@host:22/my data", "ssh://me@host:22/my-data"),
        )
    ),
    ({"dvc_remote": "s3", "dvc_remote_url": "s3://ab"}, "3 to 63", {}),
    ({"dvc_remote": "s3", "dvc_remote_url": "s3://a..b"}, "3 to 63", {}),
    ({"dvc_remote": "s3", "dvc_remote_url": "s3://10.0.0.1"}, "3 to 63", {}),
    ({"dvc_remote": "s3", "dvc_remote_url": "s3://xn--bucket"}, "3 to 63", {}),
    ({"dvc_remote": "gs", "dvc_remote_url": "gs://my-google-data"}, "Google", {}),
    ({"dvc_remote": "azure", "dvc_remote_url": "azure://a--b"}, "single", {}),
    ({"dvc_remote": "ssh", "dvc_remote_url": "ssh://host"}, "ssh://user@", {}),
    (
        {"dvc_remote": "ssh", "dvc_remote_url": "ssh://me@host:99999/srv"},
        "65535",
        {"dvc_remote": "ssh", "dvc_remote_url": "ssh://me@host/srv"},
    ),
    ({"dvc_remote_url": "a,b"}, "a directory", {"dvc_remote_url": "a-b"}),
    ({"dvc_remote_url": '"/srv/x"'}, "a directory", {"dvc_remote_url": "/srv/x"}),
    ({"dvc_remote_url": "file:///srv/x"}, "a directory", {"dvc_remote_url": "/srv/x"}),
    (
        {"dvc_remote_url": "s3://Bucket"},
        "this is of s3",
        {"dvc_remote": "s3", "dvc_remote_url": "s3://bucket"},
    ),
    ({"dvc_remote_url": 'x" # y'}, "a directory", {}),
    ({"dvc_remote_url": "~/data"}, "a directory", {}),
]

ACCEPTED: list[dict[str, str]] = [
    {"service_slug": "a"},
    {"service_slug": "a" * 40},
    {"weeks_to_ship": "0.5"},
    {"maintainers": "@a,@org/sub/team  ada@example.com"},
    {"repository": "https://git.example.com:8443/a/b/c.d"},
    {"repository": "https://github.com/Acme/x_y"},
    {"domain": "ml.example.co.uk"},
    {"container_registry": "localhost:5000"},
    {"container_registry": "localhost:65535/x"},
    {"container_registry": "registry:5000/team"},
    {"container_registry": "123.dkr.ecr.eu-west-1.amazonaws.com/ml/x_y"},
    {
        "issue_tracker": "jira",
        "issue_tracker_url": "http://jira.example.com:8080/b/A-1",
    },
    {"issue_tracker": "gitlab", "issue_tracker_url": "https://git.example.com/o/r"},
    {"dvc_remote_url": "/srv/data storage"},
    {"dvc_remote_url": "C:\\data\\dvc"},
    {"dvc_remote_url": "../../données"},
    {"dvc_remote": "s3", "dvc_remote_url": "s3://my.bucket/a/b=c/"},
    {"dvc_remote": "s3", "dvc_remote_url": "s3://acme-x1y2-s3alias/x"},
    {"dvc_remote": "gs", "dvc_remote_url": "gs://acme_claims.eu/x"},
    {"dvc_remote": "ssh", "dvc_remote_url": "ssh://me@host:2222/srv/x"},
    {"service_name": "日本語 サービス"},
    {"service_name": "🎉"},
    {"service_name": "שירות حكم"},
    {"description": 'Quotes " \' ` and \\ \\n \\" C:\\new\\table'},
    {"description": "'''\"\"\"'''); import os; os.system('touch pwned') #x"},
    {"description": "$(touch pwned) `touch pwned` ${x} %x% $$ !x"},
    {"description": "}} %} #} { } {x} {0} %(x)s"},
    {"description": "<b>*bold*</b> _x_ [x](y) &amp; ~~x~~ | a | <!-- x"},
    {"description": "x" * 500},
    {"description": "é" * 499 + "\\"},
    {"description": "&lt; &#60; \\& \\\\ 👩‍👩‍👧 e\u0301 \ufeff x"},
    {"team": 'R&D "|" \\', "product_manager": "Ada | Lovelace"},
]


def named(cases: list[tuple[dict[str, str], str, dict[str, str]]]) -> list[str]:
    """What a case is called in a report."""
    return [ascii(" ".join(answers.values()))[1:40] for answers, _, _ in cases]


@pytest.mark.parametrize(("answers", "reason", "instead"), REFUSED, ids=named(REFUSED))
def test_a_mistake_is_refused_with_its_reason_and_what_to_write_instead(
    tmp_path: Path, answers: dict[str, str], reason: str, instead: dict[str, str]
) -> None:
    outcome = answer(tmp_path, answers)

    assert outcome.refused
    assert reason in " ".join(outcome.said.split())
    assert "secret" not in outcome.said.lower() and "Traceback" not in outcome.said
    assert not any((tmp_path / "output").iterdir())
    assert outcome.correction.items() >= instead.items()


@pytest.mark.slow
@pytest.mark.parametrize(("answers", "_reason", "_"), REFUSED, ids=named(REFUSED))
def test_the_correction_of_a_refusal_is_accepted(
    tmp_path: Path, answers: dict[str, str], _reason: str, _: dict[str, str]
) -> None:
    correction = answer(tmp_path, answers).correction

    again = answer(tmp_path, correction, on_command_line=True, only_checked=True)
    assert not again.refused, again.said


@pytest.mark.slow
@pytest.mark.parametrize("answers", ACCEPTED, ids=lambda x: ascii(x)[1:60])
def test_an_odd_answer_comes_out_as_it_was_given(
    tmp_path: Path, answers: dict[str, str]
) -> None:
    outcome = answer(tmp_path, answers)

    assert not outcome.refused, outcome.said
    assert_as_given(outcome, answers)
    assert not [path for path in tmp_path.rglob("*") if path.name == "pwned"]


def assert_as_given(outcome: Outcome, typed: dict[str, str]) -> None:
    """Every file can be read, and each answer reads as it was given."""
    service = outcome.service
    given = json.loads(service.read(".cruft.json"))["context"]["cookiecutter"]
    assert given.items() >= typed.items()
    for path in sorted(service.path.rglob("*")):
        if path.suffix in {".yaml", ".yml"}:
            load_yaml(path.read_bytes())
        if path.suffix == ".py":  # so it can be imported as the default service can
            name = path.relative_to(service.path)
            sources = (BODY / name, BODY / "_options" / "feedback" / "yes" / name)
            source = next(source for source in sources if source.exists())
            assert path.read_bytes() == source.read_bytes()
    project = tomllib.loads(service.read("pyproject.toml"))["project"]
    assert project["name"] == given["service_slug"] == service.path.name
    assert project["description"] == given["description"]
    assert project["license"] == given["license"]
    assert project["urls"]["Repository"].startswith("http")
    if given["issue_tracker_url"] == typed.get("issue_tracker_url"):
        assert project["urls"]["Issues"] == given["issue_tracker_url"]
    handles = [maintainer["name"] for maintainer in project["maintainers"]]
    assert handles == re.split("[, ]+", given["maintainers"])
    assert service.read("CODEOWNERS").splitlines()[-1] == " ".join(["*", *handles])
    assert f"    url = {given['dvc_remote_url']}\n" in service.read(".dvc/config")
    seen = seen_texts(service.read("README.md"))
    assert seen[:2] == [given["service_name"], given["description"]]
    assert {given["team"], given["product_manager"]} <= set(seen)
    press_release = service.read("docs/press-release.md")
    assert given["service_name"] in seen_texts(press_release)[0]
    head = yaml.safe_load(press_release.split("---\n")[1])
    assert head["product_manager"] == given["product_manager"]
    if given["license"] in {"MIT", "LicenseRef-Proprietary"}:
        assert given["team"] in service.read("LICENSE")


@lru_cache(maxsize=1024)  # as most files are the same each time
def load_yaml(content: bytes) -> None:
    """Load all documents of a file; the loader in C is the same, ten times as fast."""
    list(yaml.load_all(content, yaml.CSafeLoader))


def seen_texts(markdown: str) -> list[str]:
    """What a reader sees of each heading, paragraph and cell."""
    text = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.DOTALL)  # front matter
    blocks = MarkdownIt("commonmark").enable("table").parse(text)
    return [
        "".join(part.content for part in block.children or [])
        for block in blocks
        if block.type == "inline"
    ]


# What is suggested for what people paste: as much of it as can be used. Where that is
# nothing, it is the default.
SUGGESTED: dict[str, dict[str, str]] = {
    "repository": {
        "https://github.com/acme/x/": "https://github.com/acme/x",
        "https://github.com/acme/x/pull/12": "https://github.com/acme/x",
        "https://github.com/acme/x/actions/runs/1": "https://github.com/acme/x",
        "https://github.com/acme/x,": "https://github.com/acme/x",
        "https://GitHub.com:443/acme/x": "https://github.com/acme/x",
        "https:github.com/acme/x": "https://github.com/acme/x",
        "[x](https://github.com/acme/x)": "https://github.com/acme/x",
        "git clone https://github.com/acme/x.git": "https://github.com/acme/x",
        "gh repo clone acme/x": "https://github.com/acme/x",
        "github.com:acme/x.git": "https://github.com/acme/x",
        "ssh://git@ssh.github.com:443/acme/x.git": "https://github.com/acme/x",
        "\u201chttps://github.com/acme/x\u2013y\u201d": "https://github.com/acme/x-y",
        "https://github.com/orgs/acme/teams": "https://github.com/acme/intent-service",
        "https://bitbucket.org/acme/x/src/main/": "https://bitbucket.org/acme/x",
        "https://git.acme.com/a/b/x/-/pipelines": "https://git.acme.com/a/b/x",
        "https://münchen.de/a/été": "https://xn--mnchen-3ya.de/a/ete",
        "https://[2001:db8::1]/a/x": "",
        "none": "",
        "`acme/x`": "https://github.com/acme/x",
        "acme/x\u200b": "https://github.com/acme/x",
        "\u00a0https://github.com/acme/x\ufeff": "https://github.com/acme/x",
        "https://github.com/acme/x (private)": "https://github.com/acme/x",
        "https://github.com/acme/x is the repository": "https://github.com/acme/x",
        "https://github.com / acme / x": "https://github.com/acme/x",
        "https;//github.com/acme/x": "https://github.com/acme/x",
        "https://https://github.com/acme/x": "https://github.com/acme/x",
        "https://gitlab.com/groups/acme": "https://gitlab.com/acme/intent-service",
    },
    "issue_tracker_url": {
        "https://github.com/acme/x.git": "https://github.com/acme/x/issues",
        "github.com:acme/x": "https://github.com/acme/x",
        "(https://github.com/acme/x/issues).": "https://github.com/acme/x/issues",
        "\u201chttps://github.com/acme/x\u201d": "https://github.com/acme/x",
        "n/a": "",
        "https://münchen.de/x": "https://xn--mnchen-3ya.de/x",
        "acme/x#12": "https://github.com/acme/x/issues",
        "https://acme.com/x\u200b": "https://acme.com/x",
    },
    "jira": {
        "ACME": "https://your-org.atlassian.net/browse/ACME",
        "ACME-12": "https://your-org.atlassian.net/browse/ACME",
        "acme": "https://acme.atlassian.net",
    },
    "container_registry": {
        "docker pull ghcr.io/acme/x:latest": "ghcr.io/acme/x",
        "docker pull --platform linux/amd64 ghcr.io/acme/x": "ghcr.io/acme/x",
        "podman push ghcr.io/acme/x": "ghcr.io/acme/x",
        "ghcr.io/acme\u2013ml": "ghcr.io/acme-ml",
        "https://github.com/orgs/acme/packages": "ghcr.io/acme",
        "none": "",
        "docker login ghcr.io -u ada": "ghcr.io",
        "image: ghcr.io/acme": "ghcr.io/acme",
        "ghcr.io / acme": "ghcr.io/acme",
        "docker push acme/x": "ghcr.io/acme/x",
        "`quay.io/acme`": "quay.io/acme",
        "https://quay.io/organization/acme": "quay.io/acme",
        "https://hub.docker.com/repositories/acme": "docker.io/acme",
        "https://github.com/acme/x/pkgs/container/x": "ghcr.io/acme",
        "https://github.com/users/ada/packages": "ghcr.io/ada",
        "Docker Hub": "docker.io/your-org",
    },
    "domain": {
        "http:ml.acme.com": "ml.acme.com",
        "\u201cml.acme.com\u201d": "ml.acme.com",
        "ml\u2013x.acme.com": "ml-x.acme.com",
        "ml.acme.com\n": "ml.acme.com",
        "ml.acme.com, ml.acme.org": "ml.acme.com",
        "`ml.acme.com`": "ml.acme.com",
        "ml.acme.com\u200b": "ml.acme.com",
        "e.g. ml.acme.com": "ml.acme.com",
    },
    "maintainers": {
        "@ada and @grace": "@ada, @grace",
        "Ada (ada@acme.com)": "ada@acme.com",
        "[ada@acme.com]": "ada@acme.com",
        "[Ada](mailto:ada@acme.com)": "ada@acme.com",
        "ada@acme.com.": "ada@acme.com",
        "@ada\u2013x": "@ada-x",
        "@ada/@grace": "@ada, @grace",
        "@ada (lead), @josé.": "@ada, @jose",
        '"Lovelace, Ada" <ada@acme.com>': "ada@acme.com",
        "ada\uff20acme.com": "ada@acme.com",
        "https://github.com/orgs/acme/teams/ml": "@acme/ml",
        "https://gitlab.com/groups/acme/ml/-/issues": "@acme/ml",
        "https://github.com/ada?tab=repositories": "@ada",
        "@ada|@grace": "@ada, @grace",
        "@ada&@grace+@al": "@ada, @grace, @al",
        "`@ada`": "@ada",
    },
    "weeks_to_ship": {
        "2 sprints": "4",
        "3 \u2014 4": "4",
        "ninety nine": "99",
        "one hundred": "100",
        "week 12": "",
        "KW 12": "",
        "H1": "",
        "P1M": "4",
        "a week or three": "3",
        "maybe 3 weeks": "3",
        "2027-01-31": "",
        "by 15 March": "",
        "15.03.27": "",
        "3/15/27": "",
        "two (2) months": "9",
        "2 months (8 weeks)": "9",
        "maybe (3) weeks": "3",
        "3 weeks \u00b1 1 week": "3",
        "3\u00a0weeks": "3",
        "Q1 2027": "",
    },
    "service_slug": {
        "starlette": "starlette-service",
        "Stra\u00dfe\u2013X": "strasse-x",
        "botocore": "botocore-service",
    },
    "local": {
        "az://box/x": "azure://box/x",
        "gcs://acme/x": "gs://acme/x",
        "s3a://acme/x": "s3://acme/x",
        "https://a.blob.core.windows.net/box/x": "azure://box/x",
        "me@acme.com:/srv/x": "ssh://me@acme.com/srv/x",
        "$HOME/x": os.path.expandvars("$HOME/x"),
        "/srv/x,": "/srv/x",
        "`/srv/x`": "/srv/x",
        "webdav://acme.com/x": "",
    },
    "s3": {
        "aws s3 ls s3://acme-x": "s3://acme-x",
        "acme.s3.amazonaws.com/x": "s3://acme/x",
        "s3n://acme/x": "s3://acme/x",
        "\u201cs3://acme\u201d": "s3://acme",
        "s3://AKIAIOSFODNN7EXAMPLE@acme/x": "s3://acme/x",
        "none": "",
        "s3://acme?region=eu": "s3://acme",
        "arn:aws:s3:eu-west-1:1:accesspoint/x": "",
        "https://a.blob.core.windows.net/box/x": "azure://box/x",
        "gdrive://acme": "",
        "`s3://acme/x`": "s3://acme/x",
        "s3://acme/x\u200b": "s3://acme/x",
    },
    "gs": {
        "https://acme.storage.googleapis.com/x": "gs://acme/x",
        "storage.googleapis.com/acme/x": "gs://acme/x",
    },
    "azure": {
        "azure://a.blob.core.windows.net/box": "azure://box",
        "https://a.blob.core.windows.net": "",
        "a=b;AccountName=c;AccountKey=d": "",
    },
    "ssh": {
        "ssh://me@host//srv//x": "ssh://me@host/srv/x",
        "scp -r me@host:/srv/x .": "ssh://me@host/srv/x",
        "ssh me@host": "ssh://me@host/srv/intent-service-storage",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("question", SUGGESTED)
def test_a_correction_keeps_what_was_typed(tmp_path: Path, question: str) -> None:
    kind = {} if question in QUESTIONS else {"dvc_remote": question}
    asked = "dvc_remote_url" if kind else question
    if question == "jira":
        kind, asked = {"issue_tracker": "jira"}, "issue_tracker_url"

    for typed, instead in SUGGESTED[question].items():
        outcome = answer(tmp_path, {**kind, asked: typed})
        assert outcome.refused, typed
        assert outcome.correction.get(asked, "") == instead, typed


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    answers = {
        "service_name": "",
        "service_slug": "A B",
        "description": "x\n",
        "team": "{{",
        "maintainers": "!",
        "product_manager": "> x",
        "weeks_to_ship": "two",
        "issue_tracker_url": "x",
        "container_registry": "X",
        "domain": "x",
        "dvc_remote_url": "s3://x",
    }

    outcome = answer(tmp_path, answers)

    assert "11 of the answers cannot be used" in outcome.said
    for question in answers:
        assert f"\n  {question}: " in outcome.said


def test_every_question_without_choices_has_a_rule() -> None:
    refused = {question for answers, _, _ in REFUSED for question in answers}

    assert refused >= {
        question
        for question, default in QUESTIONS.items()
        if not isinstance(default, list)
    } - {
        "team",
        "product_manager",
    }  # as the description: see the test above


def test_a_refusal_ends_with_one_and_leaves_a_directory_as_it_was(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("kept")

    for slug in ("Mine", "a/b/c", "mine/b", "-"):
        done = bake_into(tmp_path, check=False, answers={"service_slug": slug})
        assert done.returncode == 1
        assert "Did you mean" in done.stdout
    done = run(
        *(sys.executable, "-m", "cookiecutter", str(ROOT), "--no-input", "-f"),
        *("service_slug=mine", "weeks_to_ship=two"),
        cwd=tmp_path,
        check=False,
    )

    assert done.returncode == 1 and "above zero" in done.stdout
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "file"]


def test_the_command_of_a_refusal_can_be_pasted(tmp_path: Path) -> None:
    odd = 'It\'s "odd" & $HOME `x` \\ 🎉; #x'
    template = tmp_path / "a=b"  # which is no answer
    template.symlink_to(ROOT)
    start = (sys.executable, "-X", "utf8", "-Wignore", "-m", "cookiecutter")
    answers = ("service_slug=Odd", f"description={odd}", "team=A=b")
    words = (*start, "--no-input", "--", "a=b", *answers, "ci=github")
    done = run(*words, cwd=tmp_path, check=False)
    command = correction_in(done.stdout)

    first = [*start, "--no-input", "--", "a=b", "service_slug=odd"]
    assert command.startswith(shlex.join(first))
    assert "team=A=b" in command and "ci=github" in command
    run("sh", "-c", command, cwd=tmp_path)

    project = tomllib.loads((tmp_path / "odd" / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["description"] == odd


def test_an_old_python_or_cookiecutter_is_told_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (ROOT / "hooks" / "pre_gen_project.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))  # else it would be a SyntaxError
    rendered = tmp_path / "hook.py"
    expression = "{{ cookiecutter | tojson }}"

    def said(values: dict[str, str]) -> str:
        text = source.replace(expression, json.dumps(values))
        text = re.sub(r"\{\{ _cookiecutter .*?\}\}", "{}", text)
        rendered.write_text(text, encoding="utf-8")
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(rendered), run_name="__main__")
        return str(stopped.value)

    wanted = "cookiecutter 2.6 or later is needed. `uvx cookiecutter …` runs"
    assert wanted in said({"__service_slug": "{{ cookiecutter.x }}", "_checkout": ""})
    assert wanted in said({"__service_slug": "x"})
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    assert "Python 3.10 or later is needed" in said({})


def correction_in(said: str) -> str:
    """The command to paste."""
    return said.split("With the corrections:\n\n  ")[1].split("\n")[0]


def launcher(path: Path, words: int, name: str = "cookiecutter") -> Path:
    """A program that runs cookiecutter as others do; `words` of it stand in front."""
    path.parent.mkdir(exist_ok=True)
    program = Path(sys.executable).with_name(name)
    path.write_text(
        f"#!{sys.executable}\nimport subprocess, sys\n"
        f"sys.exit(subprocess.call([{str(program)!r}, *sys.argv[{words}:]]))\n"
    )
    path.chmod(0o755)
    return path


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
@pytest.mark.parametrize(
    "start", [["uvx", "cookiecutter"], ["uv", "tool", "run", "cookiecutter@2"]]
)
def test_the_command_begins_as_the_user_began_and_keeps_the_options(
    tmp_path: Path, start: list[str]
) -> None:
    program = launcher(tmp_path / "bin" / start[0], len(start))
    (tmp_path / "work").mkdir()
    (tmp_path / "config.yaml").write_text(
        "default_context: {team: Blue, domain: x, ci: gitlab}\n"
    )
    typed = [str(ROOT.parent), "--directory", ROOT.name, "-f", "-s", "-o", "work"]
    typed += ["--config-file=config.yaml", "--no-input"]

    done = run(
        *(str(program), *start[1:], *typed, "weeks_to_ship=three weeks", "ci=github"),
        cwd=tmp_path,
        check=False,
    )

    words = shlex.split(correction_in(done.stdout))
    assert words[: len(start) + len(typed)] == [*start, *typed]
    answers = dict(word.split("=", 1) for word in words[len(start) + len(typed) :])
    # What the configuration says is said again where it was corrected.
    assert answers["weeks_to_ship"] == "3" and answers["domain"] == "example.com"
    assert answers["team"] == "Blue"
    assert answers["ci"] == "github"  # the default, but not by the configuration
    command = shlex.join([str(program), *words[1:]])
    run("sh", "-c", command, cwd=tmp_path)
    assert (tmp_path / "work" / "intent-service" / "docs/functional-spec.md").exists()


@pytest.mark.slow
def test_cruft_is_told_the_corrections_as_it_takes_them(tmp_path: Path) -> None:
    template = tmp_path / "template"
    shutil.copytree(BODY, template / BODY.name)
    shutil.copytree(ROOT / "hooks", template / "hooks")
    shutil.copy(ROOT / "cookiecutter.json", template)
    run("git", "init", "--quiet", cwd=template)
    run("git", "add", "--all", cwd=template)
    run("git", "commit", "--quiet", "--message", "Template", cwd=template)
    (tmp_path / "work").mkdir()
    uvx = str(launcher(tmp_path / "bin" / "uvx", 2, "cruft"))
    cruft = (uvx, "cruft@2", "create", str(template), "--no-input")

    wrong = json.dumps({"domain": "ML.example.org", "team": "It's"})
    done = run(*cruft, "--extra-context", wrong, cwd=tmp_path / "work", check=False)

    command = correction_in(done.stdout)
    assert command.startswith(f"uvx cruft@2 create {template} --no-input")
    run("sh", "-c", command.replace("uvx", uvx, 1), cwd=tmp_path / "work")
    text = (tmp_path / "work" / "intent-service" / ".cruft.json").read_text()
    answers = json.loads(text)["context"]["cookiecutter"]
    assert (answers["domain"], answers["team"]) == ("ml.example.org", "It's")


@pytest.mark.parametrize("opening", ["{{ 7*7 }}", "{{ ''.join(['a']) }}", "{% if 1 %}"])
def test_what_cookiecutter_runs_on_the_command_line_is_refused(
    tmp_path: Path, opening: str
) -> None:
    done = bake_into(tmp_path, check=False, answers={"team": opening})

    assert done.returncode == 1
    assert not any(tmp_path.iterdir())


def test_a_name_that_cannot_be_rendered_leaves_nothing(tmp_path: Path) -> None:
    # cookiecutter stops by itself, before the template is asked.
    for broken in ("{{", "{{ nothing.at.all }}", "{% x", "{#"):
        done = bake_into(tmp_path, check=False, answers={"service_name": broken})
        assert done.returncode == 1
    assert not any(tmp_path.iterdir())


def test_every_dependency_is_refused_as_a_slug(tmp_path: Path) -> None:
    text = (BODY / "pyproject.toml").read_text(encoding="utf-8")
    names = set(re.findall(r'^    "([a-z0-9-]+)[^"]*[<>=]', text, re.MULTILINE))

    assert {"dvc", "fastapi", "mypy"} <= names
    assert answer(tmp_path, {"service_slug": "fastapi"}).refused
    (hook,) = (ROOT / "hooks").glob("pre_gen_project.py")
    (pattern,) = re.findall(r"DEPENDENCY = re.compile\(r'(.*?)', ", hook.read_text())
    assert names <= set(re.findall(pattern, text, re.MULTILINE))


@pytest.mark.slow
def test_every_package_that_is_installed_is_refused_as_a_slug(default: Service) -> None:
    # uv gives no project the name of a package that it needs, directly or not.
    installed = set(
        re.findall(r'^name = "(.*)"', default.read("uv.lock"), re.MULTILINE)
    )
    packages = (ROOT / "hooks" / "packages.txt").read_text(encoding="utf-8").split()

    assert installed - {"intent-service"} <= set(packages)


# Hostile: what breaks out of a quotation, a template, a line, a field or a name.
PIECES = st.sampled_from(
    ["'''", '"""', "'", '"', "\\", "\\\\", "\n", "\r", "\t", "\x00", "\x1b[31m", "\x85"]
    + ["{{", "}}", "{%", "%}", "{#", "{{ cookiecutter._template }}", "${{ x }}", "$(x)"]
    + ["`", "<!--", "-->", "<script>", "&amp;", "[x](y)", "| x |", "---", "# ", "- "]
    + [
        "\u202e",
        "\u2028",
        "\ufeff",
        "\uffff",
        "\udcff",
        "🎉",
        "👩‍👩‍👧",
        "שלום",
        "é",
        "日本",
    ]
    + ["../", "C:\\Users\\new", "a/b", "://", "@", ":", ";", ",", "=", "%s", "%41", "~"]
    + [
        "s3://",
        "gs://bucket",
        "https://",
        "ghcr.io/",
        "user:pass@",
        "?sig=x",
        "#x",
        "-",
    ]
    + ["import os; os.system('touch pwned')", "null", "true", "1e9", "0x10", "!!python"]
    + ["*", "_", "**", "__", "1. ", "> ", "~~~", "[", "]", "(", ")", "\u0301", " ", "x"]
)
HOSTILE = st.one_of(
    st.lists(PIECES, min_size=1, max_size=6).map("".join),
    st.text(max_size=40),
    st.text(st.characters(categories=["L", "M", "N", "P", "S"]), min_size=1),
    st.text(st.characters(codec="utf-8"), max_size=500),
)
FREE = [question for question, x in QUESTIONS.items() if not isinstance(x, list)]


def without_nul(text: str) -> str:
    """No keyboard and no command line can give a NUL in the name of a directory."""
    return text.replace("\x00", "")[:60]


PARTS = 4  # so that every worker has some


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, if there is such a file system: it is twice as fast."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=shared) as directory:
        yield Path(directory)


@pytest.fixture
def rendered(memory: Path) -> Path:
    """The template without its Python, which is copied whatever the answers are."""
    template = memory / "template"
    for name in ("hooks", BODY.name):
        ignored = shutil.ignore_patterns("*.py") if name == BODY.name else None
        shutil.copytree(ROOT / name, template / name, ignore=ignored)
    for directory in sorted(template.rglob("*"), reverse=True):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    shutil.copy(ROOT / "cookiecutter.json", template)
    return template


@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_hostile_answer_is_refused_cleanly_or_comes_out_right(
    memory: Path, rendered: Path, part: int
) -> None:
    count = {"refused": 0, "right": 0}

    @seed(part)
    @settings(
        max_examples=300 // PARTS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.dictionaries(st.sampled_from(FREE), HOSTILE, min_size=1, max_size=2),
        st.sampled_from(["local", "s3", "gs", "azure", "ssh"]),
    )
    def hostile(answers: dict[str, str], remote: str) -> None:
        if "service_slug" in answers:
            answers["service_slug"] = without_nul(answers["service_slug"]) or "x"
        answers["dvc_remote"] = remote
        outcome = answer(memory, answers, template=rendered)
        count["refused" if outcome.refused else "right"] += 1
        assert "Traceback" not in outcome.said
        if outcome.refused:
            assert not any((memory / "output").iterdir())
            answers = outcome.correction
            outcome = answer(memory, answers, template=rendered)
        assert not outcome.refused, outcome.said
        assert_as_given(outcome, answers)
        shutil.rmtree(outcome.service.path)

    hostile()
    assert not list(memory.rglob("pwned"))
    assert min(count.values()) > 15 / PARTS
    print(f"{sum(count.values())} hostile answers: {count}")
