"""Write docs/reference: the pages of the documentation that follow from the code.

`make docs` writes them, Sphinx reads them (checks/conf.py), and Git ignores them.
"""

import ast
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from app.settings import Settings
from checks import generated
from checks.api import (
    Exchange,
    Operation,
    find_missing,
    openapi,
    operations,
    read_exchanges,
)
from checks.compatibility import alternatives, values
from checks.repository import Repository
from checks.results import NotChecked

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "reference"
PACKAGES = ("app", "feedback", "serving", "training")
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "pattern {}",
}


def pages(repository: Repository) -> dict[str, str]:
    """Return the pages by their names, without `.md`."""
    exchanges = read_exchanges(repository)
    return {
        "api": api_page(exchanges),
        "settings": settings_page(),
        "verbs": verbs_page(repository),
        **{
            package: code_page(repository, package)
            for package in PACKAGES
            if repository.has(package)
        },
    }


def api_page(exchanges: list[Exchange]) -> str:
    """Return the operations, with what the tests asked and were answered."""
    about = openapi()["info"]
    parts = [
        "# The API",
        f"{about['title']} {about['version']}. The examples are requests of the tests "
        "and the answers that they got. The OpenAPI document, from which clients can "
        "be generated: [openapi.json](../openapi.json). Errors: "
        "[problems](../problems.md).",
    ]
    for operation in operations():
        parts += [f"## {operation.name}", operation.description.get("description", "")]
        parts += describe_operation(operation)
        for exchange in exchanges:
            if exchange.is_of(operation):
                parts += show_exchange(exchange)
    return "\n\n".join(part for part in parts if part) + "\n"


def describe_operation(operation: Operation) -> Iterator[str]:
    """Yield tables of the parameters, the body and the answers of an operation."""
    rows = [
        (
            f"`{one['name']}` ({one['in']})",
            name_type(one["schema"]),
            one.get("required"),
        )
        for one in operation.description.get("parameters", [])
    ]
    body = operation.description.get("requestBody", {}).get("content", {})
    rows += list_fields(body.get("application/json", {}).get("schema", {}))
    if rows:
        yield table(
            ["Request", "Type", "Required"],
            [[name, kind, "yes" if needed else ""] for name, kind, needed in rows],
        )
    answers = operation.description["responses"]
    yield table(
        ["Answer", "Meaning"],
        [[status, answer["description"]] for status, answer in answers.items()],
    )
    for status, answer in answers.items():
        content = answer.get("content", {}).get("application/json", {})
        rows = list(list_fields(content.get("schema", {})))
        if status.startswith("2") and rows:
            yield table([f"In {status}", "Type"], [row[:2] for row in rows])


def list_fields(
    schema: dict[str, Any], at: str = "", above: tuple[str, ...] = ()
) -> Iterator[tuple[str, str, bool]]:
    """Yield each field, nested ones with their path: name, type, and if it is required.

    `above` are the titles of the schemas that hold this one: it may contain itself.
    """
    for one in alternatives(openapi(), schema):
        if "items" in one:
            yield from list_fields(one["items"], f"{at}[]", above)
        if one.get("title", "") in above:
            continue
        for name, field in one.get("properties", {}).items():
            path = f"{at}.{name}".lstrip(".")
            yield f"`{path}`", name_type(field), name in one.get("required", [])
            yield from list_fields(field, path, (*above, one.get("title", "")))


def name_type(schema: dict[str, Any]) -> str:
    """Return the type of a value and its bounds in words."""
    return " or ".join(map(name_alternative, alternatives(openapi(), schema)))


def name_alternative(schema: dict[str, Any]) -> str:
    """Return one of the types of a value and its bounds in words."""
    kind = str(schema.get("type", "any"))
    if listed := values(schema):
        kind = ", ".join(f"`{json.dumps(value)}`" for value in listed)
    elif kind == "array" and "properties" not in str(schema.get("items")):
        kind = f"array of {name_type(schema.get('items', {}))}"
    bounds = [
        text.format(f"`{schema[name]}`")
        for name, text in BOUNDS.items()
        if name in schema
    ]
    return ", ".join([kind, *bounds])


def show_exchange(exchange: Exchange) -> list[str]:
    """Return a request of the tests and its answer."""
    head = "\n".join([f"{exchange.method} {exchange.path}", *exchange.headers])
    return [
        f"**{exchange.status}**",
        fence("text", f"{head}\n\n{indent_json(exchange.request)}".strip()),
        fence("json", indent_json(exchange.answer)),
    ]


def indent_json(text: str) -> str:
    """Return JSON on several lines; any other text as it is."""
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except ValueError:
        return text


def settings_page() -> str:
    """Return the settings, with their types and bounds."""
    rows: dict[str, list[str]] = {}
    for model in settings():
        fields = model.model_json_schema(by_alias=False)["properties"]
        for name, field in fields.items():
            default = model.model_fields[name].get_default(call_default_factory=True)
            if isinstance(default, SecretStr):
                default = default.get_secret_value()
            shown = f"`{default}`" if str(default) else ""
            cells = [f"`{name.upper()}`", name_type(field), shown, field["description"]]
            rows.setdefault(name, cells)
    head = (
        "# Settings\n\nEach is an environment variable, or a file of its name in lower "
        "case in `/run/secrets`.\n\n"
    )
    columns = ["Variable", "Type", "Default", "Meaning"]
    return head + table(columns, [*rows.values()]) + "\n"


def settings() -> list[type[BaseModel]]:
    """Return the settings of the service, and of feedback where it was chosen."""
    if importlib.util.find_spec("feedback") is None:
        return [Settings]
    return [Settings, importlib.import_module("feedback.settings").FeedbackSettings]


def verbs_page(repository: Repository) -> str:
    """Return the verbs of make."""
    rows = [[f"`make {verb}`", text] for verb, text in repository.verbs.items() if text]
    return "# Verbs of make\n\n" + table(["Verb", "What it does"], rows) + "\n"


def code_page(repository: Repository, package: str) -> str:
    """Return the docstrings of a package: modules, classes, functions."""
    parts = [f"# The package {package}"]
    for name, source in repository.sources.items():
        if not name.startswith(f"{package}/"):
            continue
        tree = ast.parse(source)
        if text := ast.get_docstring(tree):
            parts += [f"## {name}", text]
            parts += list_members(tree)
    return "\n\n".join(parts) + "\n"


def list_members(tree: ast.Module | ast.ClassDef, prefix: str = "") -> Iterator[str]:
    """Yield signature and docstring of what a module or a class has in public.

    `prefix` stands before the names of functions, such as `Model.`.
    """
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node)
        if node.name.startswith("_") or not text:
            continue
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(map(ast.unparse, node.bases))
            yield fence(
                "python", f"class {node.name}" + (f"({bases})" if bases else "")
            )
            yield quote(text)
            yield from list_members(node, f"{node.name}.")
            continue
        word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        signature = f"{word} {prefix}{node.name}({ast.unparse(node.args)}){returns}"
        yield fence("python", signature)
        yield quote(text)


def quote(text: str) -> str:
    """Return a docstring as a quotation, below its signature."""
    return "\n".join(
        f"> {line}".rstrip() for line in inspect.cleandoc(text).split("\n")
    )


def fence(language: str, text: str) -> str:
    """Return a block of code, whatever back-ticks are in it."""
    longest = max((len(one) for one in re.findall("`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}{language}\n{text}\n{marks}"


def table(head: list[str], rows: list[Any]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([str(cell).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in escaped)


def main() -> int:
    """Update the documents, write the pages; return 1 if an example is missing."""
    generated.main()
    repository = Repository(ROOT, date.today())
    try:
        missing = list(find_missing(read_exchanges(repository)))
    except NotChecked as error:
        missing = [str(error)]
    if missing:
        print("\n".join(missing), file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages(repository).items():
        (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
