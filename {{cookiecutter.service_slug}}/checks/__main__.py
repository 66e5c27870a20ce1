"""`make launch`: which rules are followed, and what is to do."""

import argparse
import sys
from datetime import date
from pathlib import Path

from checks import report, rubric
from checks.all import RULES, check_all
from checks.repository import Repository
from checks.results import State
from checks.waivers import WaiverError

ROOT = Path(__file__).parent.parent


def main(arguments: list[str] | None = None) -> int:
    """Check the rules; return the exit code: 1 if strict and anything is to do."""
    parser = argparse.ArgumentParser(prog="python -m checks", description=__doc__)
    parser.add_argument("rules", nargs="*", metavar="RULE", help="such as W1; else all")
    parser.add_argument(
        "--strict", action="store_true", help="end with 1 if any is to do"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--html", type=Path, help="write a page, too")
    given = parser.parse_args(arguments)
    if unknown := [one for one in given.rules if one not in RULES]:
        parser.error(f"there is no rule {', '.join(unknown)}: docs/rules.md lists them")
    repository = Repository(ROOT, date.today())
    try:
        results = list(check_all(repository, given.rules))
    except WaiverError as error:
        print(error, file=sys.stderr)
        return 2
    answers = [] if given.rules else rubric.answer_all(repository, results)
    if given.json:
        print(report.as_json(results, answers))
    else:
        print(report.terminal(results, answers))
    if given.html:
        given.html.parent.mkdir(parents=True, exist_ok=True)
        page = report.page(results, answers, f"Launch of {repository.slug}")
        given.html.write_text(page, encoding="utf-8")
    is_open = any(one.state is State.TO_DO for one in results)
    return 1 if given.strict and is_open else 0


if __name__ == "__main__":
    sys.exit(main())
