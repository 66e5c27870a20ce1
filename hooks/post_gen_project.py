"""Finishes a generated service: its options, a check, its record, Git.

cookiecutter renders this file and runs it inside the new directory. Standard library
only, no network, no shell: what is missing on the machine is skipped with one clear
line. It ends with 1, and cookiecutter removes the directory, if a file came out wrong.
"""

import importlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# As in pre_gen_project.py: no answer can end this string.
ANSWERS: dict[str, Any] = json.loads(
    r'{"answers": {{ cookiecutter | tojson }} }',
)["answers"]

OPTIONS = Path("_options")
NOT_OURS = {".git", ".venv"}  # there when an existing directory is written over
NEXT_STEPS = """
{slug} is ready:

  cd {slug}
  make run      # set up, train, serve on http://127.0.0.1:8000
  make ask      # in another terminal: ask it
  make test     # run its tests
"""


def lay_options() -> None:
    """Lay _options/<question>/<answer> of each answer over the service."""
    for option in sorted(OPTIONS.glob("*/*")):
        if ANSWERS[option.parent.name] == option.name:
            shutil.copytree(option, ".", dirs_exist_ok=True)
    shutil.rmtree(OPTIONS, ignore_errors=True)


def read_json(text: str) -> None:
    """Read JSON."""
    json.loads(text)


def read_toml(text: str) -> None:
    """Read TOML, from Python 3.11 on."""
    importlib.import_module("tomllib").loads(text)


def read_yaml(text: str) -> None:
    """Read YAML with the library that comes with cookiecutter."""
    yaml = importlib.import_module("yaml")
    for _ in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        pass


READERS: dict[str, Callable[[str], None]] = {
    ".json": read_json,
    ".toml": read_toml,
    ".yaml": read_yaml,
    ".yml": read_yaml,
}
UNRENDERED = re.compile(r"{[%{][^}\n]*\bcookiecutter\b")


def faults() -> Iterator[str]:
    """What came out wrong: an expression left as it was, a file that cannot be read."""
    for path in sorted(Path().rglob("*")):
        if not path.is_file() or path.parts[0] in NOT_OURS:
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        if UNRENDERED.search(text) or UNRENDERED.search(path.name):
            yield f"{path.as_posix()}: an expression of the template is left in it"
        error = reading_error(text, READERS.get(path.suffix))
        if error:
            yield f"{path.as_posix()}: {error}"


def reading_error(text: str, read: Callable[[str], None] | None) -> str:
    """Why a text cannot be read; empty if it can, or if there is no reader for it."""
    try:
        if read:
            read(text)
    except ImportError:
        return ""
    except Exception as error:  # each reader has a kind of its own
        return " ".join(str(error).split())
    return ""


def command(*words: str) -> str | None:
    """What a command prints; None if it is missing or refuses."""
    import subprocess  # here: most of what it costs to start would be wasted

    try:
        done = subprocess.run(words, capture_output=True, encoding="utf-8")
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def template_directory() -> str | None:
    """Where the template is on this machine."""
    for start in (ANSWERS.get("_output_dir"), os.environ.get("PWD")):
        directory = os.path.join(start or ".", ANSWERS.get("_repo_dir", ""))
        if os.path.isfile(os.path.join(directory, "cookiecutter.json")):
            return os.path.abspath(directory)
    return None


def record_origin() -> None:
    """Write .cruft.json: the template, its commit and the answers, as cruft reads them.

    cruft clones the template: it needs a directory, or the address that Git knows,
    where the user may have given an abbreviation such as gh:org/name.
    """
    directory = template_directory() or ""
    in_template = ("git", "-C", directory)
    address = commit = None
    if directory and command(*in_template, "rev-parse", "--show-prefix") == "":
        address = command(*in_template, "remote", "get-url", "origin")
        commit = command(*in_template, "rev-parse", "HEAD")
    if ANSWERS["_repo_dir"] == ANSWERS["_template"]:
        address = directory
    answers = {
        question: answer
        for question, answer in ANSWERS.items()
        if question == "_template_version" or not question.startswith("_")
    }
    origin = {
        "template": address or ANSWERS["_template"],
        "commit": commit,
        "checkout": ANSWERS["_checkout"],
        "context": {"cookiecutter": answers},
        "directory": None,
    }
    text = json.dumps(origin, indent=2, ensure_ascii=False) + "\n"
    Path(".cruft.json").write_text(text, encoding="utf-8")


def make_repository() -> str:
    """Make a Git repository with a first commit; returns what to tell the user."""
    if not shutil.which("git"):
        return "No Git repository was made: git is not installed, and DVC needs it."
    inside = command("git", "rev-parse", "--git-dir")
    if inside and command("git", "check-ignore", "--quiet", ".") is None:
        return "It is part of a Git repository already: no new one was made."
    if command("git", "init", "--initial-branch", "main") is None:
        return "No Git repository was made: `git init --initial-branch main` failed."
    command("git", "add", "--all")
    message = "Generate the service from its template"
    if command("git", "commit", "--message", message) is None:
        return "Nothing was committed: git knows no user.name and user.email yet."
    return "Its first commit is made."


def main() -> None:
    """Do all of it.

    Raises:
        SystemExit: with what came out wrong, which is a mistake of the template.
    """
    lay_options()
    found = list(faults())
    if found:
        sys.exit("\n  ".join(["The template made files that are wrong:", *found]))
    if "_commit" in ANSWERS:  # cruft generates it to compare, and keeps the record
        return
    record_origin()
    print(NEXT_STEPS.format(slug=ANSWERS["service_slug"]), file=sys.stderr)
    print(make_repository(), file=sys.stderr)
    if not shutil.which("uv"):
        print("uv is not on the PATH: `make` installs it into .venv.", file=sys.stderr)


if __name__ == "__main__":
    main()
