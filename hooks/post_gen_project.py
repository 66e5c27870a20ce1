"""Lays the last hand on a generated service.

cookiecutter runs it inside the new directory. Standard library only, no network, no
shell: what is missing on the machine is skipped with one clear line.
"""

import subprocess
import sys

NEXT_STEPS = """
{slug} is ready:

  cd {slug}
  make run      # set up, train, serve on http://127.0.0.1:8000
  make ask      # in another terminal: ask it
  make test     # run its tests
"""


def git(*arguments: str) -> bool:
    """Run git quietly; False if it is missing or refuses."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def make_repository() -> str:
    """Make a Git repository with a first commit; returns what to tell the user."""
    if git("rev-parse", "--git-dir") and not git("check-ignore", "--quiet", "."):
        return "It is part of a Git repository already: no new one was made."
    if not git("init", "--initial-branch", "main"):
        return "No Git repository was made (is git installed?): DVC needs `git init`."
    git("add", "--all")
    if not git("commit", "--message", "Generate the service from its template"):
        return "Nothing was committed: git knows no user.name and user.email yet."
    return "Its first commit is made."


if __name__ == "__main__":
    print(NEXT_STEPS.format(slug="{{ cookiecutter.service_slug }}"), file=sys.stderr)
    print(make_repository(), file=sys.stderr)
