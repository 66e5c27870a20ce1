"""`make monitoring`: write again what follows from the alerts and the metrics.

In docs/monitoring.md and in the PrometheusRule, what stands above the mark is yours.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from serving.metrics import Metrics

ROOT = Path(__file__).parent.parent
ALERTS = ROOT / "monitoring" / "alerts.yaml"
MANIFEST = ROOT / "monitoring" / "kubernetes" / "prometheus-rule.yaml"
DOCUMENT = ROOT / "docs" / "monitoring.md"

# The name of the service, which is the job of its series.
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SLUG: str = PROJECT["project"]["name"]

MARKS = {
    MANIFEST: "\nspec:\n",
    DOCUMENT: "\n<!-- `make monitoring` writes all that follows. -->\n",
}

SUFFIXES = {"counter": "_total"}  # which prometheus_client keeps to itself

Rule = dict[str, Any]


def load_rules() -> list[Rule]:
    """Return the recording rules and alerts, in the order of their file."""
    document = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def expected_files() -> dict[Path, str]:
    """Return what the files that follow from alerts and metrics should hold."""
    written = {MANIFEST: indent(ALERTS), DOCUMENT: describe(load_rules())}
    return {path: _head(path) + text for path, text in written.items()}


def indent(path: Path) -> str:
    """Return the text of a file as the value of a YAML key."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return "".join(f"  {line}".rstrip() + "\n" for line in lines)


def describe(rules: list[Rule]) -> str:
    """Return objectives, alerts, expressions and metrics in Markdown."""
    objectives = [rule for rule in rules if rule.get("record", "").startswith("slo:")]
    alerts = [rule for rule in rules if "alert" in rule]
    tables: dict[str, tuple[list[str], list[list[str]]]] = {
        "Objectives": (
            ["Objective", "Value"],
            [[f"`{rule['record']}`", _constant(rule)] for rule in objectives],
        ),
        "Alerts": (
            ["Alert", "Severity", "Triggered when", "For"],
            [
                [
                    f"[{rule['alert']}](runbook.md#{rule['alert'].lower()})",
                    rule["labels"]["severity"],
                    rule["annotations"]["threshold"],
                    rule["for"],
                ]
                for rule in alerts
            ],
        ),
        "Metrics": (["Metric", "Type", "Meaning"], metrics()),
    }
    sections = [f"\n## {title}\n\n{table(*parts)}" for title, parts in tables.items()]
    sections.append(
        "\n## Expressions\n\nEach series is selected by the job of this service, "
        "which is left out here.\n\n"
    )
    sections += [
        f"    # {rule.get('alert') or rule['record']}\n{_expression(rule)}\n"
        for rule in rules
    ]
    return "".join(sections).rstrip("\n") + "\n"


def metrics() -> list[list[str]]:
    """Return name, type and meaning of each metric, as the service registers it."""
    registry = Metrics(lambda: True, lambda: 0).registry
    return [
        [
            f"`{family.name}{SUFFIXES.get(family.type, '')}`",
            family.type,
            family.documentation,
        ]
        for family in registry.collect()
    ]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _head(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    head, mark, _ = text.partition(MARKS[path])
    return head + mark


def _constant(rule: Rule) -> str:
    return re.sub(r"vector\((.*)\)", r"\1", rule["expr"])


def _expression(rule: Rule) -> str:
    """Return the expression as indented code, without the selection of the job."""
    without = re.sub(r'job="[^"]*"(, )?', "", rule["expr"]).replace("{}", "")
    return "".join(f"    {line}\n" for line in without.splitlines())


def main() -> None:
    """Write the files."""
    for path, text in expected_files().items():
        path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)} is up to date.")


if __name__ == "__main__":
    main()
