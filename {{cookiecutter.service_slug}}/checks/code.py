"""The code (C)."""

import ast
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from checks.api import find_missing, operations, read_exchanges
from checks.repository import HOOKS, Repository, inner_statements
from checks.results import Finding, NotChecked
from checks.rule import rule
from serving.testing import ServiceProcess

STYLE = ("black", "isort", "flake8")
MAX_DEPTH = 4  # of blocks in a function
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.Match)
LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
DEFINITIONS = (*FUNCTIONS, ast.ClassDef)


@rule("C1")
def style_is_checked_on_every_commit(repository: Repository) -> Iterator[Finding]:
    """pre-commit runs black, isort and flake8.

    Also in the pipeline: `make lint`.
    """
    for hook in sorted(set(STYLE) - repository.hooks):
        yield Finding(f"Put the hook {hook} back.", HOOKS)
    groups = repository.toml("pyproject.toml")["dependency-groups"]
    for tool in (*STYLE, "pre-commit"):
        if not any(str(one).startswith(f"{tool}>") for one in groups["dev"]):
            what = f"Put {tool} back into the group dev."
            yield repository.find("pyproject.toml", what, "dev = [")
    for name, pipeline in repository.pipelines.items():
        if "test" in repository.read(name) and "make test" in str(pipeline):
            if "make lint" not in str(pipeline):
                yield Finding("It does not run `make lint`.", name)


@rule("C2")
def main_path_is_unindented(repository: Repository) -> Iterator[Finding]:
    """Guard clauses leave early, and the main path stays unindented.

    No `else` follows a branch that always leaves, where that branch is the guard, and
    no function nests more than 4 blocks (of if, for, while, try, match).
    """
    for name, nodes in repository.statements.items():
        for node in nodes:
            if isinstance(node, FUNCTIONS):
                depth, line = deepest(node)
                if depth > MAX_DEPTH:
                    what = (
                        f"{node.name} nests {depth} blocks: leave early, or split it."
                    )
                    yield Finding(what, name, line)
            if isinstance(node, ast.If) and is_superfluous(node):
                what = "The branch leaves, so take the `else` away and unindent it."
                yield Finding(what, name, node.orelse[0].lineno)


def deepest(node: ast.AST) -> tuple[int, int]:
    """Return how many blocks nest in a function, and the line of the innermost."""
    found = [(0, getattr(node, "lineno", 0))]
    for child in inner_statements(node):
        if isinstance(child, DEFINITIONS):
            continue
        depth, line = deepest(child)
        is_elif = isinstance(node, ast.If) and node.orelse == [child]
        if isinstance(child, BLOCKS) and not is_elif:
            found.append((depth + 1, line if depth else child.lineno))
        else:
            found.append((depth, line))
    return max(found)


def is_superfluous(node: ast.If) -> bool:
    """Return whether an `else` stands after a branch that always leaves."""
    is_chain = len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If)
    return bool(node.orelse) and not is_chain and isinstance(node.body[-1], LEAVES)


@rule("C3")
def types_are_checked(repository: Repository) -> Iterator[Finding]:
    """All code has type hints.

    mypy checks every package strictly, on each commit and in `make lint`; every
    function has the types of its arguments and of what it returns.
    """
    mypy = repository.toml("pyproject.toml")["tool"].get("mypy", {})
    if not mypy.get("strict"):
        what = "Set `strict = true`."
        yield repository.find("pyproject.toml", what, "[tool.mypy]")
    if "mypy" not in repository.hooks:
        yield Finding("Put the hook mypy back.", HOOKS)
    packages = {name.partition("/")[0] for name in repository.sources if "/" in name}
    for package in sorted(packages - set(mypy.get("packages", []))):
        what = f"Add {package} to `packages`."
        yield repository.find("pyproject.toml", what, "[tool.mypy]")
    for name, nodes in repository.statements.items():
        lines = repository.read(name).splitlines()
        for node in nodes:
            if isinstance(node, FUNCTIONS) and (lacks := untyped(node)):
                what = f"{node.name} lacks the type of {', '.join(lacks)}."
                if "type: ignore[no-untyped-def]" not in lines[node.lineno - 1]:
                    yield Finding(what, name, node.lineno)


def untyped(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Return what of a function has no type."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    named += [one for one in (given.vararg, given.kwarg) if one]
    lacks = [
        one.arg
        for one in named
        if one.annotation is None and one.arg not in ("self", "cls")
    ]
    return lacks if function.returns else [*lacks, "its answer"]


@rule("C4")
def tests_document_the_api(repository: Repository) -> Iterator[Finding]:
    """The API comes first, then the tests, then the code; tests serve as documentation.

    A test asks for each operation by its path. What the tests ask and are answered are
    the examples of the API documentation (`make docs`): each operation has one of a
    success and one of an error.
    """
    tests = "".join(
        source
        for name, source in repository.sources.items()
        if name.startswith("tests/") and not name.startswith("tests/serving/")
    )
    lacks_test = False
    for operation in operations():
        if f'{operation.path}"' not in tests:
            lacks_test = True
            yield Finding(f"No test asks for {operation.name}.", "tests/app")
    if not lacks_test:
        for missing in find_missing(read_exchanges(repository)):
            yield Finding(missing, "tests/app")


@rule("C5")
def readiness_is_honest(repository: Repository) -> Iterator[Finding]:
    """Liveness tells that the process runs; readiness, that it is ready for traffic.

    A process without a model answers 200 at `/livez` and 503 at `/readyz`; one with the
    model of `models/` answers 200 at both. The probes of the Deployment ask for them.
    """
    deployment = "deploy/base/deployment.yaml"
    pod = repository.yaml(deployment)["spec"]["template"]["spec"]
    for container in pod["containers"]:
        for probe, path in (("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            if container.get(probe, {}).get("httpGet", {}).get("path") != path:
                what = f"Let {probe} ask for {path}."
                yield repository.find(deployment, what, "containers:")
    if not repository.has("models/model.onnx"):
        raise NotChecked("There is no model to start a service with: `make train`.")
    yield from probe_processes(repository)


def probe_processes(repository: Repository) -> Iterator[Finding]:
    """Start the service without and with its model, and ask for its probes."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as processes:
        empty = Path(directory, "empty")
        empty.mkdir()
        without = ServiceProcess(Path(directory, "without"), MODEL_DIR=str(empty))
        processes.callback(without.end)
        models = str(repository.root / "models")
        ready = ServiceProcess(Path(directory, "with"), MODEL_DIR=models)
        processes.callback(ready.end)
        try:
            ready.wait_until_ready(seconds=10)
        except RuntimeError as error:
            yield Finding(f"The service does not become ready: {error}", "models")
        for url, path, wanted, what in (
            (without.url, "/livez", 200, "without a model"),
            (without.url, "/readyz", 503, "without a model"),
            (ready.url, "/livez", 200, "with its model"),
        ):
            status = ask(f"{url}{path}")
            if status != wanted:
                text = f"{path} answers {status} {what}, not {wanted}."
                yield Finding(text, "serving/health.py")


def ask(url: str) -> int:
    """Return the status that an address answers with."""
    try:
        with urlopen(url, timeout=5) as response:
            return int(response.status)
    except HTTPError as error:
        return error.code
