"""The Git hook commit-msg: a fix says what was wrong, and changes a test.

`python -m checks.commit_message FILE`, standard library only.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

FIX = re.compile(r"(bug|hot)?fix(es|ed|ing)?\b", re.IGNORECASE)
LINK = re.compile(
    r"https?://\S+|(?<!\w)#\d+|^(fixes|closes|refs)\b.*\b[A-Z][A-Z0-9]*-\d+",
    re.IGNORECASE | re.MULTILINE,
)
DETAILS = 12  # words below the subject


def is_fix(message: str) -> bool:
    """Return whether the subject says that the commit fixes a bug."""
    return bool(FIX.match(message))


def faults(message: str, changed: Sequence[str]) -> Iterator[str]:
    """Yield what the message or the change of a fix lacks.

    A commit that changes documents only fixes no bug, so it lacks nothing.
    """
    code = [name for name in changed if name and not name.endswith(".md")]
    if not is_fix(message) or (changed and not code):
        return
    _, _, body = message.partition("\n")
    if not LINK.search(message) and len(body.split()) < DETAILS:
        yield (
            "it fixes something without a link to the tracker or details: what was "
            "seen, why it happened, which test would have found it."
        )
    is_tested = any("tests/" in name for name in code)
    if not is_tested and any(name.endswith(".py") for name in code):
        yield "it fixes code and changes no test: add one that fails without the fix."


def main(file: str) -> int:
    """Check the message in a file against what is staged; return the exit code."""
    text = Path(file).read_text(encoding="utf-8", errors="replace")
    text = text.partition("# ------------------------ >8 ---")[0]
    message = "\n".join(
        line for line in text.splitlines() if not re.match(r"#(\s|$)", line)
    ).strip()
    staged = ["git", "diff", "--cached", "--name-only"]
    done = subprocess.run(staged, capture_output=True, text=True)
    found = list(faults(message, done.stdout.splitlines()))
    for fault in found:
        print(f"This commit is not made: {fault}", file=sys.stderr)
    if found:
        print(
            f"Your message is in {file}; git commit --edit --file={file} takes it up. "
            "git commit --no-verify skips this check.",
            file=sys.stderr,
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
