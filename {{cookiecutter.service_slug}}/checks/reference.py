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
from checks.api import Operation, openapi, operations
from checks.compatibility import alternatives
from checks.exchanges import Exchange, find_missing, read_exchanges
from checks.repository import Repository

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
        "verbs": verbs_page(),
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
        parts += described(operation)
        for exchange in exchanges:
            if exchange.is_of(operation):
                parts += shown(exchange)
    return "\n\n".join(part for part in parts if part) + "\n"


def described(operation: Operation) -> Iterator[str]:
    """Yield tables of the parameters, the body and the answers of an operation."""
    rows = [
        (f"`{one['name']}` ({one['in']})", kind_of(one["schema"]), one.get("required"))
        for one in operation.description.get("parameters", [])
    ]
    body = operation.description.get("requestBody", {}).get("content", {})
    rows += fields_of(body.get("application/json", {}).get("schema", {}))
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
        rows = list(fields_of(content.get("schema", {})))
        if status.startswith("2") and rows:
            yield table([f"In {status}", "Type"], [row[:2] for row in rows])


def fields_of(
    schema: dict[str, Any], at: str = "", above: tuple[str, ...] = ()
) -> Iterator[tuple[str, str, bool]]:
    """Yield name, type and necessity of each field, nested ones with their path."""
    for one in alternatives(openapi(), schema):
        if "items" in one:
            yield from fields_of(one["items"], f"{at}[]", above)
        if one.get("title", "") in above:
            continue
        for name, field in one.get("properties", {}).items():
            path = f"{at}.{name}".lstrip(".")
            yield f"`{path}`", kind_of(field), name in one.get("required", [])
            yield from fields_of(field, path, (*above, one.get("title", "")))


def kind_of(schema: dict[str, Any]) -> str:
    """Return the type of a value and its bounds in words."""
    return " or ".join(map(kind_of_one, alternatives(openapi(), schema)))


def kind_of_one(schema: dict[str, Any]) -> str:
    """Return the type of one alternative in words."""
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    kind = str(schema.get("type", "any"))
    if values is not None:
        kind = ", ".join(f"`{json.dumps(value)}`" for value in values)
    elif kind == "array" and "properties" not in str(schema.get("items")):
        kind = f"array of {kind_of(schema.get('items', {}))}"
    bounds = [
        text.format(f"`{schema[name]}`")
        for name, text in BOUNDS.items()
        if name in schema
    ]
    return ", ".join([kind, *bounds])


def shown(exchange: Exchange) -> list[str]:
    """Return a request of the tests and its answer."""
    asked = "\n".join([f"{exchange.method} {exchange.path}", *exchange.headers])
    return [
        f"**{exchange.status}**",
        fence("text", f"{asked}\n\n{pretty(exchange.request)}".strip()),
        fence("json", pretty(exchange.answer)),
    ]


def pretty(text: str) -> str:
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
            cells = [f"`{name.upper()}`", kind_of(field), shown, field["description"]]
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


def verbs_page() -> str:
    """Return the verbs of the Makefile and of the options."""
    files = [ROOT / "Makefile", *sorted(ROOT.glob("*/verbs.mk"))]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    found = re.findall(r"^([a-z][a-z-]*):.*?## (.*)$", text, re.M)
    rows = [[f"`make {verb}`", text] for verb, text in found]
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
            parts += members(tree, "")
    return "\n\n".join(parts) + "\n"


def members(tree: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
    """Yield signature and docstring of what a module or a class has in public."""
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
            yield quoted(text)
            yield from members(node, f"{node.name}.")
            continue
        word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        signature = f"{word} {prefix}{node.name}({ast.unparse(node.args)}){returns}"
        yield fence("python", signature)
        yield quoted(text)


def quoted(text: str) -> str:
    """Return a docstring as a quotation, below its signature."""
    return "\n".join(
        f"> {line}".rstrip() for line in inspect.cleandoc(text).split("\n")
    )


def fence(language: str, text: str) -> str:
    """Return a block of code, whatever back-ticks are in it."""
    marks = "`" * max(3, *(len(one) + 1 for one in re.findall("`+", text) or [""]))
    return f"{marks}{language}\n{text}\n{marks}"


def table(head: list[str], rows: list[Any]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |"
        for line in lines
    )


def main() -> int:
    """Update the documents, write the pages; return 1 if an example is missing."""
    generated.main()
    repository = Repository(ROOT, date.today())
    if missing := list(find_missing(read_exchanges(repository))):
        print("\n".join(missing), file=sys.stderr)
        return 1
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages(repository).items():
        (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
