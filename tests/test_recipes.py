"""What the emitted CONTRIBUTING.md tells a team to write works as it is written there.

All recipes are followed at once, in the service that shares no choice with the default.
"""

import json
import re
import shutil
import textwrap
from collections.abc import Iterator
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.conftest import Service, bake_into, copy, make_once, without_the_engine
from tests.test_feedback import has_postgresql
from tests.test_options import FACTORS
from tests.test_service import ask, edit, serving

pytestmark = pytest.mark.slow(seconds=100)

# What an editor imports for the names in the recipes.
IMPORTS = {
    "app/api.py": """
        from typing import Annotated
        from fastapi import Depends, Header
        from prometheus_client import Counter
        from serving.problems import ProblemError, ProblemType
    """,
    "app/contract.py": """
        from typing import Literal
    """,
    "app/main.py": """
        from starlette.middleware import Middleware
        from starlette.middleware.gzip import GZipMiddleware
    """,
}
ENDPOINTS = (
    *("An endpoint", "An endpoint with a dependency"),
    *("A problem type", "A metric"),
)


# From what is in bold to the block of code below it, if no other is in between.
BLOCK = re.compile(
    r"^\*\*([^*]+)\*\*(?:(?!```|^\*\*).)*```python\n(.*?)```", re.MULTILINE | re.DOTALL
)


def follow(service: Service) -> Service:
    """Do what the recipes say, to the letter, and format it as the hooks of Git do."""
    _, _, text = service.read("CONTRIBUTING.md").partition("## I want to …\n")
    text = text.partition("\n## ")[0]
    code: dict[str, str] = dict(BLOCK.findall(text))
    tried = {*ENDPOINTS, "A field", "A setting"}
    assert set(code) == tried, "a recipe that is not tried here"
    (middleware,) = re.findall(r"middleware=\[Middleware\(\w+\)\]", text)
    (model,) = re.findall(r"`(model: \w+)` in `training/conf/config.yaml`", text)

    endpoints = "\n".join(code[name] for name in ENDPOINTS)
    edit(service, "app/api.py", "    return api\n", f"{endpoints}\n    return api\n")
    edit(
        service,
        "app/main.py",
        "(service, routers)",
        f"(service, routers, {middleware})",
    )
    edit(service, "training/conf/config.yaml", "model: linear", model)
    append(service, "app/settings.py", code["A setting"])
    below = "\n\nclass LabelledInstance"
    edit(service, "app/contract.py", below, f"\n{code['A field']}{below}")
    for name, lines in IMPORTS.items():
        head, rest = service.read(name).split("\n\n", 1)
        text = f"{head}\n{textwrap.dedent(lines)}{rest}"
        (service.path / name).write_text(text, encoding="utf-8")

    # What the recipes name beside Python.
    (last,) = re.findall(
        r"^\| `LOG_TEXTS` .*\n", service.read("README.md"), re.MULTILINE
    )
    row = "| `GREETING` | `Hello` | What the service says first. |\n"
    edit(service, "README.md", last, last + row)
    append(service, "deploy/base/settings.env", "GREETING=Hello\n")
    (last,) = re.findall(r"^\| `urn:.*\n\n", service.read("docs/problems.md"), re.M)
    row = "| `urn:problem-type:quota-exceeded` | 429 | The quota is used up | Wait. |\n"
    edit(service, "docs/problems.md", last, last.rstrip("\n") + f"\n{row}\n")

    service.run("black", "--quiet", ".")
    service.run("isort", "--quiet", ".")
    return service


def append(service: Service, name: str, text: str) -> None:
    """Add lines at the end of a file."""
    with (service.path / name).open("a", encoding="utf-8") as file:
        file.write(text)


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """The service of the last choices, with everything that the recipes add."""

    def make(directory: Path) -> Service:
        bake_into(directory, {name: choices[-1] for name, choices in FACTORS.items()})
        return follow(Service(directory / "intent-service").install())

    return make_once(tmp_path_factory, "recipes", make)


@pytest.fixture(scope="module")
def url(followed: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where it serves the model that the recipe has chosen, in its small form."""
    service = copy(followed, tmp_path_factory.mktemp("served"))
    service.run("python", "-m", "training", "experiment=debug")
    fitted = service.path / "outputs" / "debug" / "models"
    show = f"import joblib; print(joblib.load('{fitted / 'pipeline.joblib'}'))"
    assert "ComplementNB" in service.run("python", "-c", show).stdout
    shutil.copytree(fitted, service.path / "models", dirs_exist_ok=True)
    with serving(service) as address:
        ask(address, "/readyz")
        yield address


def call(
    url: str, content: bytes | None = None, **headers: str
) -> tuple[int, Message, Any]:
    """Return status, headers and JSON of an answer."""
    json_headers = {"Content-Type": "application/json"} | headers
    try:
        with urlopen(Request(url, content, json_headers), timeout=10) as answer:
            return answer.status, answer.headers, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, error.headers, json.load(error)


GOOD = b'{"instances": [{"text": "mute the tv"}, {"text": "open the door"}]}'


def test_the_endpoints_of_the_recipes_answer(url: str) -> None:
    german = {"Accept-Language": "de-CH"}

    assert call(f"{url}/v1/count", GOOD)[::2] == (200, {"instances": 2})
    assert call(f"{url}/v1/greet", GOOD)[::2] == (200, {"language": "en"})
    assert call(f"{url}/v1/greet", GOOD, **german)[::2] == (200, {"language": "de"})
    status, headers, problem = call(f"{url}/v1/quota")
    assert status == 429
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["type"] == "urn:problem-type:quota-exceeded"
    assert problem["detail"] == "Come back tomorrow."
    assert call(f"{url}/v1/quote")[::2] == (200, {"quote": "Measure twice."})
    with urlopen(f"{url}/metrics", timeout=10) as answer:
        assert "\nquotes_total 1.0\n" in answer.read().decode()


def test_the_middleware_of_the_recipe_sees_every_request(url: str) -> None:
    for path in ("/openapi.json", "/metrics"):
        request = Request(url + path, headers={"Accept-Encoding": "gzip"})
        with urlopen(request, timeout=10) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"{", "application/json"),
        (b'{"instances": [{"text": 1}, {}], "x": 1}', "application/json"),
        (b'{"instances": []}', "application/json"),
        (b" " * 1_048_577, "application/json"),
        (GOOD, "text/plain"),
    ],
)
def test_a_bad_body_is_the_same_problem_as_at_predict(
    url: str, content: bytes, media_type: str
) -> None:
    declared = {"Content-Type": media_type}
    status, _, expected = call(f"{url}/v1/predict", content, **declared)

    assert 400 <= status < 500 and expected["type"].startswith("urn:problem-type:")
    for path in ("/v1/count", "/v1/greet"):
        answer = call(url + path, content, **declared)
        assert answer[::2] == (status, expected)
        assert answer[1]["X-Request-ID"]


def test_the_tools_accept_what_the_recipes_say(followed: Service) -> None:
    followed.run("flake8")
    followed.run("mypy")


@pytest.mark.alone
def test_a_service_of_other_choices_passes_its_own_tests(followed: Service) -> None:
    # test_service.py tests the default service; this one shares no choice with it.
    own = ("pytest", "--numprocesses", "2", "--dist", "worksteal")
    same = ("--ignore=tests/training", "--ignore=tests/adopt")  # whatever is chosen
    said = followed.run(*own, *same, *without_the_engine(followed)).stdout
    assert " passed" in said
    if has_postgresql():
        assert "PostgreSQL is not installed" not in said
