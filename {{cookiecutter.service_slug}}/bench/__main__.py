"""Measure what one pod carries, and compare `deploy/` with it (`make bench`)."""

import argparse
import math
import sys

from bench import BenchError, report, rules
from bench.capacity import RESULT, SECONDS, measure


def positive(text: str) -> float:
    """Parse a time in seconds. Raises ValueError."""
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError
    return number


def main() -> int:
    """Measure, write the result and its document; return the exit code."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "seconds", nargs="?", type=positive, default=SECONDS, help="of each measurement"
    )
    seconds = parser.parse_args().seconds
    try:
        capacity = measure(seconds)
    except (BenchError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(capacity.model_dump_json(indent=2) + "\n", encoding="utf-8")
    report.DOCUMENT.write_text(report.render(capacity), encoding="utf-8")
    print(report.render(capacity))
    if seconds < SECONDS:
        print(
            f"Measurements of less than {SECONDS:g} s are a trial: deploy/ should not "
            "follow them.\n`git restore reports docs` brings the earlier result back."
        )
    differ = rules.differences(capacity)
    print("\n".join(differ) or "deploy/ has the values that follow.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
