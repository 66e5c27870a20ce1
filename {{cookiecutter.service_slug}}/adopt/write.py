"""Write what was inferred into the files of the service: contract, samples, configs.

Each function takes the text of a file and returns the new one. What a person has
written beside the fields, such as validators and methods, stays where it is: a
validator, if its field is of the kind that it was.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import yaml

from adopt.infer import Plan
from adopt.layout import Refusal
from serving.contract import Task
from serving.fields import FieldKind, Kind, read_kinds, read_task
from training.schema import LABEL

# Where the names come from that a field may use.
MODULES = {
    "Annotated": "typing",
    "Literal": "typing",
    "AfterValidator": "pydantic",
    "Field": "pydantic",
    "StringConstraints": "pydantic",
    "datetime": "datetime",
    "normalise": "serving.text",
}
# Longer texts are cut in the samples: a line of code has 88 characters, with indent and
# signs. So long are the name and the text together.
LONGEST_SAMPLE = 75

CONFIG = """\
# Your file as it came, as `make adopt` found it: how it is written, and which column is
# which field of app/contract.py. Again, for a file that has changed:
#   {command}
"""

Lines = list[str]


def write_contract(
    text: str, plan: Plan, kept: set[str], *, in_order: bool = False
) -> str:
    """Return app/contract.py with the fields of a plan, but those in `kept` as before.

    A field that was there keeps its place, unless all are to have the order of the
    plan. Raises Refusal if there are no classes Instance and LabelledInstance.
    """
    fields = {each.name: each.line for each in plan.fields}
    labelled = {each.name: each.line for each in plan.labelled}
    if "group" not in labelled:  # it has a default, and is empty then
        kept = kept | {"group"}
    wanted = {"Instance": fields, "LabelledInstance": labelled}
    known = kept | find_alike(text, plan) | {"group"}
    for name, lines in wanted.items():
        own = {} if name == "Instance" else fields
        anew = in_order and not own and [*read_fields(text, name)] != [*lines]
        text = _replace_fields(text, name, lines, kept, {*own}, anew)
        text = _remove_validators(text, name, known)
    if "MAX_TEXT_LENGTH" in text and not _assigned(text, "MAX_TEXT_LENGTH"):
        text = text.replace("MAX_TEXT_LENGTH", "10_000")
    return format_code(_update_imports(text))


def load_contract(text: str) -> ModuleType:
    """Return a contract as a module, without writing it. Raises Refusal."""
    module = ModuleType("contract")
    try:
        exec(compile(text, "app/contract.py", "exec"), module.__dict__)
    except Exception as error:  # whatever a person has written there
        raise Refusal(
            f"app/contract.py does not work with the new fields: {error}. Change what "
            "needs the old ones, or remove it."
        ) from None
    return module


def find_alike(text: str, plan: Plan) -> set[str]:
    """Return the fields that a contract has in the kind that a plan gives them.

    Raises Refusal.
    """
    kinds, task = _read_contract(text)
    alike = {
        each.name
        for each in plan.fields
        if each.name in kinds
        if kinds[each.name].kind is each.kind
        if kinds[each.name].optional is bool(each.default)
    }
    return alike | ({LABEL} if task is plan.task else set())


def find_kept(text: str, plan: Plan) -> set[str]:
    """Return the fields of a contract that may stay as a person has edited them.

    A value that may be missing is no other kind, and a number may be a category, unless
    an option says what the column is. Raises Refusal.
    """
    kinds, task = _read_contract(text)
    kept = {LABEL} if task is plan.task else set()
    for each in plan.fields:
        if each.name not in kinds:
            continue
        was_text = kinds[each.name].kind is Kind.TEXT
        if not each.is_named or was_text == (each.kind is Kind.TEXT):
            kept.add(each.name)
    return kept


def _read_contract(text: str) -> tuple[dict[str, FieldKind], Task | None]:
    """Return the fields and the task; none of a contract that has no such classes.

    Raises Refusal if it cannot be loaded.
    """
    module = load_contract(text)
    try:
        fields = {each.name: each for each in read_kinds(module.Instance)}
        return fields, read_task(module.LabelledInstance)
    except (AttributeError, ValueError):
        return {}, None


def read_fields(text: str, name: str) -> dict[str, ast.AnnAssign]:
    """Return the fields of a class as they are written. Raises Refusal."""
    body = _find_class(text, name).body
    return {
        each.target.id: each
        for each in body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        if "ClassVar" not in ast.unparse(each.annotation)
    }


def _find_class(text: str, name: str) -> ast.ClassDef:
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise Refusal(f"app/contract.py is no Python: {error}. Correct it.") from None
    for each in tree.body:
        if isinstance(each, ast.ClassDef) and each.name == name:
            return each
    raise Refusal(
        f"app/contract.py has no class {name}, which the fields are written into. "
        f"Add `class {name}({'Contract' if name == 'Instance' else 'Instance'}):`."
    )


def _replace_fields(
    text: str,
    name: str,
    wanted: Mapping[str, str],
    kept: set[str],
    inherited: set[str],
    anew: bool,
) -> str:
    """Return the text with the wanted fields in a class.

    A field stays at its place, unless all are written anew; new ones follow the last
    one. `inherited` fields are another class's; what is said of them here stays.
    """
    found = read_fields(text, name)
    lines = text.splitlines()
    body = _find_class(text, name).body
    edits: list[tuple[int, int, Lines]] = []
    for field, statement in found.items():
        if field in inherited or (
            field in kept and (field in wanted or field == "group")
        ):
            continue
        first, last = _span(statement, lines)
        if field in wanted and not anew:
            comment = lines[last - 1].encode()[statement.end_col_offset :].decode()
            line = f"    {wanted[field]}{comment}"
            edits.append((statement.lineno - 1, last, [line]))
        else:
            edits.append((first, last, []))
    added = [
        "    " + line for field, line in wanted.items() if anew or field not in found
    ]
    if found:
        place = max(each.end_lineno or 0 for each in found.values())
    else:
        heads = [each for each in body if isinstance(each, ast.Expr | ast.Assign)]
        place = heads[-1].end_lineno or 0 if heads else body[0].lineno - 1
    edits.append((place, place, added))
    return _apply(lines, edits)


def _span(statement: ast.stmt, lines: Lines) -> tuple[int, int]:
    """Return the lines of a statement, with its decorators and the comments above."""
    first = statement.lineno
    if (
        isinstance(statement, ast.FunctionDef | ast.ClassDef)
        and statement.decorator_list
    ):
        first = statement.decorator_list[0].lineno
    first -= 1
    while lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return first, statement.end_lineno or first + 1


def _apply(lines: Lines, edits: Sequence[tuple[int, int, Lines]]) -> str:
    lines = list(lines)
    for first, last, new in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        lines[first:last] = new
    return "\n".join(lines) + "\n"


def _remove_validators(text: str, name: str, known: set[str]) -> str:
    """Take fields that are gone, or of another kind, out of validators.

    One that has no others goes, too.
    """
    lines = text.splitlines()
    edits: list[tuple[int, int, Lines]] = []
    for function in _find_class(text, name).body:
        if not isinstance(function, ast.FunctionDef):
            continue
        for call in function.decorator_list:
            names = _validated(call)
            left = [each for each in names if each in known or each == "*"]
            if len(left) == len(names):
                continue
            if not left:
                edits.append((*_span(function, lines), []))
                break
            assert isinstance(call, ast.Call)
            call.args = [ast.Constant(each) for each in left]
            written = "    @" + ast.unparse(call)
            edits.append((call.lineno - 1, call.end_lineno or call.lineno, [written]))
    return _apply(lines, edits)


def _validated(call: ast.expr) -> list[str]:
    """Return the fields that a decorator names."""
    if not isinstance(call, ast.Call):
        return []
    if not ast.unparse(call.func).endswith(("field_validator", "field_serializer")):
        return []
    return [str(each.value) for each in call.args if isinstance(each, ast.Constant)]


def list_removed(old: str, new: str) -> list[str]:
    """Return the methods that only the old text has."""
    return sorted({*_methods(old)} - {*_methods(new)})


def _methods(text: str) -> Iterator[str]:
    for each in ast.walk(ast.parse(text)):
        if isinstance(each, ast.ClassDef):
            for inner in each.body:
                if isinstance(inner, ast.FunctionDef):
                    yield f"{each.name}.{inner.name}"


def _assigned(text: str, name: str) -> bool:
    return bool(re.search(rf"(?m)^{name}\b.*=", text))


def _names(tree: ast.AST) -> set[str]:
    """Return the names that code uses, also in annotations that are quoted."""
    names: set[str] = set()
    for each in ast.walk(tree):
        if isinstance(each, ast.Name):
            names.add(each.id)
        for part in (getattr(each, "annotation", None), getattr(each, "returns", None)):
            if isinstance(part, ast.AST):
                names |= set(re.findall(r"[^\W\d]\w*", ast.unparse(part)))
    return names


def _update_imports(text: str) -> str:
    """Import what the fields need, and no longer what only gone fields needed."""
    tree = ast.parse(text)
    used = _names(tree)
    lines = text.splitlines()
    edits: list[tuple[int, int, Lines]] = []
    bound: set[str] = set()
    removable = {*MODULES, "field_validator", "field_serializer"}
    last = 0
    for each in tree.body:
        if isinstance(each, ast.Import | ast.ImportFrom):
            last = each.end_lineno or each.lineno
            bound |= {alias.asname or alias.name for alias in each.names}
        if isinstance(each, ast.ImportFrom):
            left = [
                alias
                for alias in each.names
                if alias.name not in removable or (alias.asname or alias.name) in used
            ]
            if len(left) < len(each.names):
                new = [ast.unparse(ast.ImportFrom(each.module, left, each.level))]
                edits.append((each.lineno - 1, last, new if left else []))
    missing = sorted(name for name in MODULES if name in used - bound)
    added = [f"from {MODULES[name]} import {name}" for name in missing]
    edits.append((last, last, added))
    return _apply(lines, edits)


def write_examples(text: str, samples: Sequence[Mapping[str, Any]]) -> str:
    """Return app/examples.py with other samples. Raises Refusal if it has none."""
    for each in ast.parse(text).body:
        targets = getattr(each, "targets", [getattr(each, "target", None)])
        if any(isinstance(one, ast.Name) and one.id == "EXAMPLES" for one in targets):
            value = getattr(each, "value", None)
            assert isinstance(value, ast.expr)
            lines = text.splitlines()
            before = lines[value.lineno - 1].encode()[: value.col_offset].decode()
            last = value.end_lineno or value.lineno
            after = lines[last - 1].encode()[value.end_col_offset :].decode()
            written = f"{before}[{', '.join(map(_write_sample, samples))}]{after}"
            return format_code(_apply(lines, [(value.lineno - 1, last, [written])]))
    raise Refusal("app/examples.py has no list EXAMPLES. Add `EXAMPLES = []`.")


def _write_sample(sample: Mapping[str, Any]) -> str:
    """Return a sample as code. A choice that is too long for a line has one to itself.

    black breaks a line where there are parentheses, and adds none.
    """
    cells = []
    for name, value in sample.items():
        written = repr(value)
        if isinstance(value, str) and len(name) + len(written) > LONGEST_SAMPLE:
            written = f"({written})"
        cells.append(f"{name!r}: {written}")
    return "{" + ", ".join(cells) + "}"


def shorten(name: str, text: str) -> str:
    """Return a text as a sample has it: as long as a line of code can be."""
    room = max(LONGEST_SAMPLE - len(name), 16)
    text = " ".join(text.split())
    while len(repr(text)) > room:
        text = text[:-1].rstrip()
    return text


def write_source(plan: Plan, path: str, test_path: str | None, command: str) -> str:
    """Return training/conf/data/adopted.yaml."""
    dialect = plan.dialect
    content = {
        "_target_": "training.sources.adopted",
        "path": path,
        "test_path": test_path,
        "encoding": dialect.encoding,
        "separator": dialect.separator,
        "quote": dialect.quote,
        "columns": {**dialect.columns},
        "units": {**dialect.units},
        "comma": [*dialect.comma],
        "times": {**dialect.times},
    }
    escaped = _escape(content)
    return CONFIG.format(command=command) + yaml.safe_dump(
        escaped, sort_keys=False, allow_unicode=True, width=88
    )


def read_names(text: str) -> dict[str, str]:
    """Return the field of each column, as training/conf/data/adopted.yaml has them.

    There is none if a person has left no such lines there.
    """
    try:
        columns = yaml.safe_load(text)["columns"].items()
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return {}
    return {
        str(column).replace("\\${", "${"): name
        for name, column in columns
        if str(name).isidentifier()
    }


def _escape(value: Any) -> Any:
    """Return values in which ${ is no reference of Hydra's."""
    if isinstance(value, str):
        return value.replace("${", "\\${")
    if isinstance(value, dict):
        return {name: _escape(one) for name, one in value.items()}
    return [_escape(one) for one in value] if isinstance(value, list) else value


def write_config(text: str, model: str, gate: Mapping[str, float]) -> str:
    """Return training/conf/config.yaml with the data, a model and a gate.

    Without a model, the text's own stays.
    """
    text = choose_data(text)
    if model:
        text = re.sub(r"(?m)^( *- model: ).*$", rf"\g<1>{model}", text, count=1)
    return write_gate(text, gate)


def choose_data(text: str) -> str:
    """Return training/conf/config.yaml with the data, and all else as it was.

    Where the corrections of users are joined to the data, they still are.
    """
    pattern = r"(?m)^( *- data: )(?!feedback\b).*$"
    return re.sub(pattern, r"\g<1>adopted", text, count=1)


def choose_source(text: str) -> str:
    """Return training/conf/data/feedback.yaml, which joins corrections to the data."""
    return re.sub(r"(?m)^( *- )\w+@source$", r"\g<1>adopted@source", text, count=1)


def write_gate(text: str, gate: Mapping[str, float]) -> str:
    """Return a config with another gate."""
    block = "gate: {}\n"
    if gate:
        block = "gate:\n" + "".join(
            f"  {name}: {bound}\n" for name, bound in gate.items()
        )
    return re.sub(r"(?m)^gate:.*\n(?:[ \t]+\S.*\n)*", block, text, count=1)


def format_code(text: str) -> str:
    """Return code as black and isort write it. Raises Refusal."""
    for tool in (["isort", "--profile", "black", "-"], ["black", "--quiet", "-"]):
        done = subprocess.run(
            [sys.executable, "-m", *tool],
            input=text.encode(),
            capture_output=True,
        )
        if done.returncode:
            raise Refusal(
                f"{tool[0]} cannot format what would be written: "
                f"{done.stderr.decode(errors='replace').strip()}"
            )
        text = done.stdout.decode()
    return text
