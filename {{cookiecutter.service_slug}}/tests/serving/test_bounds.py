"""docs/bounds.md names settings, metrics and tests that exist."""

import re

import pytest

from app.settings import Settings
from serving.metrics import Metrics
from serving.testing import ROOT

PAGE = ROOT / "docs" / "bounds.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| Threat |")
]


def named(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_a_row_names_what_exists(row: list[str]) -> None:
    threat, bound, settings, defaults, metrics, tests = row
    assert threat and bound and defaults

    assert settings == "none" or named(settings)
    fields = Settings.model_fields
    values = [str(fields[name.lower()].default) for name in named(settings)]
    assert not values or named(defaults) == values

    assert metrics.startswith("none: ") or named(metrics)
    exposed, _ = Metrics(lambda: True, lambda: 0).scrape("")
    for name in named(metrics):
        family = name.removesuffix("_total")
        assert re.search(rf"^# TYPE {family}(_total)? ", exposed.decode(), re.MULTILINE)

    assert named(tests)
    for place in named(tests):
        file, _, name = place.partition("::")
        code = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert f"def {name}(" in code


def test_every_limit_among_the_settings_has_a_row() -> None:
    limits = {
        name.upper()
        for name in Settings.model_fields
        if re.search(r"^max_|_seconds$|_bytes$", name)
    }
    listed = {name for row in ROWS for name in named(row[2])}

    assert limits - {"DRAIN_SECONDS", "GRACEFUL_SECONDS"} <= listed
