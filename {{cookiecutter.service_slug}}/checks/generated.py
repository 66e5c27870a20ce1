"""`make docs`: write what follows from the code and from the trained model."""

import re
from datetime import date
from pathlib import Path
from typing import Any

from checks.api import openapi_text
from checks.data import CHANGES, feedback_tables, outs
from checks.repository import Repository

ROOT = Path(__file__).parent.parent
MODEL_CARD = "docs/model-card.md"
RULES_PAGE = "docs/rules.md"
OPENAPI = "docs/openapi.json"
MARK = "\n<!-- `make docs` writes all that follows. -->\n"

RULES_HEAD = """# The rules

The team's working rules, with what `make launch` looks at for each. A rule that does
not fit this service for now is waived in [waivers.toml](waivers.toml), with a reason,
an owner and an end. `make docs` writes this page from `checks/`."""

GROUPS = {
    "W": "Words first",
    "S": "Service docs",
    "D": "Every document",
    "B": "Database",
    "M": "Monitoring",
    "P": "Deployment",
    "C": "Code",
    "V": "Data",
    "E": "Experiments",
    "O": "The team",
}


def from_code(repository: Repository) -> dict[str, str]:
    """Return the documents that follow from the code, by their names."""
    texts = {RULES_PAGE: rules_page(), OPENAPI: openapi_text()}
    if document := feedback_tables():
        texts[CHANGES] = document.write(repository.read(CHANGES))
    return texts


def rules_page() -> str:
    """Return the list of rules as Markdown: the docstrings of the checks."""
    from checks.all import RULES  # which imports this module

    parts = [RULES_HEAD]
    for letter, group in GROUPS.items():
        parts.append(f"## {group}")
        for number, rule in RULES.items():
            if number[0] == letter:
                first, _, rest = rule.text.partition("\n")
                parts.append(f"### {number}\n\n**{first}**")
                parts += [rest.strip()] if rest else []
    return "\n\n".join(parts) + "\n"


def model_card(repository: Repository) -> str | None:
    """Return the model card with the figures of the trained model; None without one."""
    if not repository.has("reports/metrics.json") or not repository.has("dvc.lock"):
        return None
    head, mark, _ = repository.read(MODEL_CARD).partition(MARK)
    metrics = repository.json("reports/metrics.json")
    rows = [f"| {name} | {value} |" for name, value in flatten(metrics).items()]
    hashes = [
        f"| `{path}` | `{md5}` |"
        for path, md5 in sorted(outs(repository.yaml("dvc.lock")).items())
        if re.match(r"(models|data)/[^/]+\.(onnx|csv|parquet)$", path)
    ]
    lines = [
        *("", "## Figures", ""),
        "From `reports/metrics.json`: of rows that the model was not fitted on.",
        *("", "| Metric | Value |", "|---|---|", *rows, ""),
        *("## Files", "", "The hashes of `dvc.lock` (MD5).", ""),
        *("| File | Hash |", "|---|---|", *hashes),
    ]
    return head + mark + "\n".join(lines) + "\n"


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, object]:
    """Return the figures of nested objects by their dotted names."""
    found: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{prefix}{name}.")
        elif not isinstance(value, list):
            found[f"{prefix}{name}"] = value
    return found


def main() -> None:
    """Write the documents."""
    repository = Repository(ROOT, date.today())
    texts = from_code(repository)
    if card := model_card(repository):
        texts[MODEL_CARD] = card
    for name, text in texts.items():
        (ROOT / name).write_text(text, encoding="utf-8")
        print(f"{name} is up to date.")


if __name__ == "__main__":
    main()
