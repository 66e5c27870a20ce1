"""Take newer releases of the dependencies and test them: `make upgrade`.

It moves the date of `exclude-newer` in pyproject.toml, to today or to `DATE`, and
locks anew; only by `DATE` does it go back. What changed is printed, and written to
outputs/upgrade.md for the pipeline.
"""

import os
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

PROJECT, LOCK = Path("pyproject.toml"), Path("uv.lock")
NOTES = Path("outputs/upgrade.md")
DATED = re.compile(r'^exclude-newer\s*=\s*"(\d{4}-\d\d-\d\d).*$', re.MULTILINE)
BACK = f"git restore {PROJECT} {LOCK} && make setup"


def main() -> None:
    """Move the date, lock, run the tests, and write what changed.

    Raises:
        SystemExit: If it cannot be done (nothing is changed then) or the tests fail.
    """
    refuse_what_could_be_lost()
    newest = read_date()
    before = {path: path.read_bytes() for path in (PROJECT, LOCK)}
    NOTES.unlink(missing_ok=True)
    try:
        move_date(newest)
        locked = subprocess.run(["uv", "lock", "--upgrade"]).returncode == 0
    except KeyboardInterrupt:
        locked = False
    if not locked:
        for path, content in before.items():
            path.write_bytes(content)
        sys.exit("uv could not lock; its reason is above. Nothing was changed.")
    changes = [*compare(before[LOCK], LOCK.read_bytes())]
    if not changes:
        print(f"No package has a newer release up to {newest}. To go back: {BACK}")
        return
    print("\nWhat changed:\n")
    print("\n".join(f"  {name}: {old} → {new}" for name, old, new in changes))
    print("\nThe tests:\n", flush=True)
    if subprocess.run(["make", "--no-print-directory", "setup", "test"]).returncode:
        sys.exit(
            "\nWith these releases the set-up or the tests fail, as above. To go back:"
            f"\n\n  {BACK}\n\nTo hold one back, then give it an upper bound in "
            f"{PROJECT}, commit, and run make upgrade again."
        )
    write_notes(newest, changes)
    print(f"\nThe tests pass. Then: make lint, and commit. To go back: {BACK}")


def read_date() -> date:
    """Return the day up to which releases are taken."""
    text = os.environ.get("DATE")
    if not text:
        found = DATED.search(PROJECT.read_text(encoding="utf-8"))
        there = [date.fromisoformat(found[1])] if found else []
        return max([datetime.now(UTC).date(), *there])
    try:
        return date.fromisoformat(text)
    except ValueError:
        sys.exit(f"DATE={text} is no date, such as DATE=2027-01-31.")


def refuse_what_could_be_lost() -> None:
    """Check that both files are in Git as they are, so that there is a way back."""
    files = (str(PROJECT), str(LOCK))
    known = ("git", "ls-files", "--error-unmatch", *files)
    unchanged = ("git", "diff", "--quiet", "HEAD", "--", *files)
    for command in (known, unchanged):
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            sys.exit("git is not installed: there would be no way back.")
        if done.stderr.startswith("fatal:"):
            sys.exit(f"Git says: {' '.join(done.stderr.split())}")
        if done.returncode:
            sys.exit(f"Commit {PROJECT} and {LOCK} first, so that there is a way back.")


def move_date(newest: date) -> None:
    """Write the day, in UTC: a bare date means another moment in each time zone.

    Where a duration or `false` stands in place of a date, it stays.
    """
    text = PROJECT.read_text(encoding="utf-8")
    line = f'exclude-newer = "{newest}T00:00:00Z"'
    PROJECT.write_text(DATED.sub(line, text, count=1), encoding="utf-8")


def compare(old: bytes, new: bytes) -> Iterator[tuple[str, str, str]]:
    """Yield name, old and new version of each package that two locks differ in."""
    before, after = versions(old), versions(new)
    for name in sorted(before.keys() | after.keys()):
        pair = before.get(name, "(none)"), after.get(name, "(none)")
        if pair[0] != pair[1]:
            yield name, *pair


def versions(lock: bytes) -> Mapping[str, str]:
    """Return the version of each package; several if platform or Python decides."""
    found = defaultdict(list)
    for package in tomllib.loads(lock.decode())["package"]:
        found[package["name"]].append(package.get("version", "(none)"))
    return {name: ", ".join(sorted(several)) for name, several in found.items()}


def write_notes(newest: date, changes: list[tuple[str, str, str]]) -> None:
    """Write what the pipeline says of the change that it proposes."""
    head = f"Releases of the dependencies up to {newest}. The tests pass with them."
    rows = [f"| {name} | {old} | {new} |" for name, old, new in changes]
    lines = [head, "", "| Package | From | To |", "|---|---|---|", *rows, ""]
    NOTES.parent.mkdir(exist_ok=True)
    NOTES.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(f"\nStopped. To go back: {BACK}")
