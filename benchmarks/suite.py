"""How long all tests of the template take: long, so it runs only when it is named."""

import sys
from pathlib import Path

from benchmarks.results import versions
from benchmarks.template import test
from tests.conftest import ROOT


def measure() -> dict[str, object]:
    """Run `make test`."""
    steps = {"make test, of the template": test(ROOT, "test")}
    return {"versions": versions(Path(sys.executable), "pytest"), "steps": steps}
