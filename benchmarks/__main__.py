"""Measure and write the report: `python -m benchmarks [part ...]`.

Each part is a module with `measure()`. What a part gives is kept at once, so that one
that fails takes nothing from the others. Without names, all run but WHEN_NAMED.
"""

import argparse
import sys
import time
import traceback
from importlib import import_module

import pytest

from benchmarks import report, results

# Those that compare rates come first, while nothing has warmed the machine yet.
PARTS = (
    *("compare", "rate", "growth", "overload"),
    *("labels", "watched", "inference", "work", "table", "flights", "template"),
)
WHEN_NAMED = ("soak", "languages", "adoption", "suite")


def main() -> int:
    """Run the parts; the exit code is 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    named = parser.parse_args().parts or PARTS
    every = PARTS + WHEN_NAMED
    if unknown := sorted(set(named) - set(every)):
        parser.error(f"no part is called {', '.join(unknown)}: {', '.join(every)}")

    failed = [part for part in every if part in named and not measured(part)]
    if failed:
        print(f"Failed: {', '.join(failed)}. Why is above.", file=sys.stderr)
    return 1 if failed else 0


def measured(part: str) -> bool:
    """Run a part, keep what it gives and write the report; False if it fails."""
    print(f"{part} …", flush=True)
    start = time.monotonic()
    try:
        figures = import_module(f"benchmarks.{part}").measure()
        took = time.monotonic() - start
        results.keep(part, figures, took)
        report.write()
    # The helpers of the tests, which the parts use, fail in pytest's way.
    except (Exception, pytest.fail.Exception):
        traceback.print_exc()
        return False
    print(f"{part}: {took:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
