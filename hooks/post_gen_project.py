"""Finishes a generated service: its options, a check, its record, Git.

cookiecutter renders this file and runs it inside the new directory. Standard library
only, no network, no shell: what is missing on the machine, or refuses, is one clear
line. It ends with 1, and nothing is left, if a file came out wrong.
"""

import importlib
import importlib.util
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# As in pre_gen_project.py: no answer can end this string.
ANSWERS: dict[str, Any] = json.loads(
    r'{"answers": {{ cookiecutter | tojson }} }',
)["answers"]

OPTIONS = Path("_options")
OVERLAY = Path(".generating/overlay.py")  # there if the directory had files already
# What `git rev-parse --local-env-vars` lists, but for settings.
OF_ANOTHER_REPOSITORY = """
DIR WORK_TREE INDEX_FILE OBJECT_DIRECTORY ALTERNATE_OBJECT_DIRECTORIES COMMON_DIR PREFIX
GRAFT_FILE SHALLOW_FILE NO_REPLACE_OBJECTS REPLACE_REF_BASE IMPLICIT_WORK_TREE
INTERNAL_SUPER_PREFIX NAMESPACE QUARANTINE_PATH
""".split()
# What Git says where no files are: a bare repository may have its worktrees beside.
NO_WORK_TREE = re.compile("not a git repository|in a work tree|use bare repository")
NEXT_STEPS = """
{slug} is ready:

  cd {directory}
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
    """Yield what came out wrong: an expression that is left, an unreadable file."""
    for path in sorted(Path().rglob("*")):
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        if UNRENDERED.search(text) or UNRENDERED.search(path.name):
            yield f"{path.as_posix()}: an expression of the template is left in it"
        error = reading_error(text, READERS.get(path.suffix))
        if error:
            yield f"{path.as_posix()}: {error}"


def reading_error(text: str, read: Callable[[str], None] | None) -> str:
    """Return why a text cannot be read; empty if it can, or if it has no reader."""
    try:
        if read:
            read(text)
    except ImportError:
        return ""
    except Exception as error:  # each reader has a kind of its own
        return " ".join(str(error).split())
    return ""


class Said(NamedTuple):
    """How a command ended and what it said."""

    succeeded: bool
    output: str
    reason: str  # in one line, where it failed


def command(*words: str, given: str = "") -> Said:
    """Run a command: in English, with nobody to ask."""
    import subprocess  # here: most of what it costs to start would be wasted

    environment = {**os.environ, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
    for name in OF_ANOTHER_REPOSITORY:
        environment.pop(f"GIT_{name}", None)
    try:
        done = subprocess.run(
            words,
            input=given.encode("utf-8", "surrogateescape"),
            capture_output=True,
            env=environment,
            start_new_session=True,  # no terminal, where a hook would ask and wait
        )
    except OSError as error:
        return Said(False, "", f"{words[0]}: {error.strerror}")
    output, errors = (
        text.decode("utf-8", errors="replace") for text in (done.stdout, done.stderr)
    )
    reason = " ".join((errors if errors.strip() else output).split())
    reason = reason or f"it ended with {done.returncode} and said nothing"
    return Said(done.returncode == 0, output.strip(), reason)


def find_path(typed: str, *inside: str) -> str:
    """Return the absolute path of what the user named; empty if it is not found."""
    for start in (ANSWERS.get("_output_dir"), os.environ.get("PWD")):
        path = os.path.join(start or ".", os.path.expanduser(typed))
        if os.path.exists(os.path.join(path, *inside)):
            return os.path.abspath(path)
    return ""


def find_template() -> str:
    """Return the directory of the template; empty if it is not found.

    cookiecutter is in it while its hooks run, as Linux tells: a relative path may lead
    elsewhere from the output directory.
    """
    found = find_path(ANSWERS["_repo_dir"], "cookiecutter.json")
    here = f"/proc/{os.getppid()}/cwd"
    if os.path.isabs(ANSWERS["_repo_dir"]) or not os.path.exists(
        os.path.join(here, "cookiecutter.json")
    ):
        return found
    same = found and os.path.samefile(found, here)
    return found if same else os.path.realpath(here)


def without_credentials(address: str) -> str:
    """Return an address without password and token: of SSH, the user stays."""
    if "://" not in address:
        return address
    if re.match(r"(git\+)?ssh:", address, re.IGNORECASE):
        return re.sub(r"^([^/]*//[^/@:]*):[^/]*@", r"\1@", address)
    return re.sub(r"^([^/]*//)[^/?#]*@", r"\1", re.sub(r"[?#].*$", "", address))


class Origin(NamedTuple):
    """Where the service comes from, as cruft reads it."""

    template: str
    commit: str | None
    directory: str | None
    no_updates: str  # why the template cannot be followed; empty if it can


def find_origin() -> Origin:
    """Tell template, commit and directory in it.

    cruft clones the template: it needs the root of a repository, or the address that
    Git knows, where the user may have given an abbreviation such as gh:org/name.
    """
    typed = str(ANSWERS["_template"])
    directory = find_template()
    is_here = ANSWERS["_repo_dir"].startswith(typed)  # not a clone of it
    plain = directory if is_here else find_path(typed) or without_credentials(typed)
    if typed.lower().partition("?")[0].endswith(".zip"):
        reason = "the template came as a zip, which has no history"
        return Origin(plain, None, None, reason)
    if not directory:
        return Origin(plain, None, None, "it is not known where the template is")
    git = ("git", "-C", directory)
    commit = command(*git, "rev-parse", "HEAD")
    if not commit.succeeded:
        return Origin(plain, None, None, f"git says of it: {commit.reason}")
    if not command(*git, "ls-files", "cookiecutter.json").output:
        return Origin(plain, None, None, f"Git does not track what is in {directory}")
    prefix = command(*git, "rev-parse", "--show-prefix").output.rstrip("/")
    root = command(*git, "rev-parse", "--show-toplevel").output if prefix else directory
    remote = command(*git, "remote").output.partition("\n")[0]  # it may be no origin
    # Not `remote get-url`, which shows it as this user's url.*.insteadOf has it.
    address = command(*git, "config", "--get", f"remote.{remote}.url")
    if not is_here and address.succeeded:
        root = without_credentials(address.output)
    return Origin(root, commit.output, prefix or None, "")


def record_origin(origin: Origin) -> None:
    """Write .cruft.json: the template, its commit and the answers."""
    answers = {
        question: answer
        for question, answer in ANSWERS.items()
        if question == "_template_version" or not question.startswith("_")
    }
    record = {
        "template": origin.template,
        "commit": origin.commit,
        "checkout": ANSWERS["_checkout"],
        "context": {"cookiecutter": answers},
        "directory": origin.directory,
    }
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    Path(".cruft.json").write_bytes(text.encode("utf-8"))


def make_repository(files: list[Path] | None) -> str:
    """Make a Git repository with a first commit; returns what to tell the user.

    Args:
        files: what to commit; all, if the directory is new.
    """
    if not shutil.which("git"):
        return "No Git repository was made: git is not installed, and DVC needs it."
    inside = command("git", "rev-parse", "--show-toplevel")
    if (
        inside.succeeded
        and not command("git", "check-ignore", "--quiet", ".").succeeded
    ):
        return joined(inside.output)
    if not inside.succeeded and not NO_WORK_TREE.search(inside.reason):
        return f"No Git repository was made. git said: {inside.reason}"
    # `git init --initial-branch` is younger than some Git that is in use.
    for words in (("init",), ("symbolic-ref", "HEAD", "refs/heads/main")):
        made = command("git", *words)
        if not made.succeeded:
            return f"No Git repository was made. git {words[0]} said: {made.reason}"
    # By force: what this machine ignores everywhere, the service needs all the same.
    paths = "\0".join(path.as_posix() for path in files or [Path(".")])
    from_stdin = ("--pathspec-from-file=-", "--pathspec-file-nul")
    added = command("git", "add", "--force", *from_stdin, given=paths)
    if not added.succeeded:  # as with a Git before 2.25
        added = command("git", "add", "--force", "--", *paths.split("\0"))
    if not added.succeeded:
        return f"Nothing was committed. git add said: {added.reason}"
    message = "Generate the service from its template"
    committed = command("git", "commit", "--message", message)
    if not committed.succeeded:
        return (
            "Nothing was committed; all is staged for `git commit`. "
            f"git said: {committed.reason}"
        )
    return "Its first commit is made."


def joined(root: str) -> str:
    """Return what to say of a repository that is there already."""
    if os.path.realpath(root) == os.path.realpath("."):
        return "It is in the Git repository that was there: commit it when you like."
    system, place = {
        "github": ("GitHub", ".github"),
        "gitlab": ("GitLab", ".gitlab-ci.yml"),
    }[ANSWERS["ci"]]
    return (
        f"It is part of the Git repository {root}: no new one was made. {system} reads "
        f"{place} at the root of a repository only, so its pipeline does not run from "
        "here; CONTRIBUTING.md says what to move."
    )


def load_overlay() -> Any:
    """Return the module that lays a service over a directory that has files already."""
    specification = importlib.util.spec_from_file_location("overlay", OVERLAY)
    assert specification and specification.loader
    sys.dont_write_bytecode = True
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def complete() -> None:
    """Finish the files of a service in a directory of its own.

    Raises:
        SystemExit: with what came out wrong, which is a mistake of the template.
    """
    lay_options()
    found = list(faults())
    if found:
        sys.exit("\n  ".join(["The template made files that are wrong:", *found]))
    if "_commit" not in ANSWERS:  # cruft keeps the record itself
        record_origin(find_origin())


def finish_over_files() -> list[Path]:
    """Put the service, which is complete aside, in its place; returns its files.

    Raises:
        SystemExit: with the reason, after everything was put back.
    """
    overlay = load_overlay()
    try:
        written: list[Path] = overlay.finish()
    except BaseException as error:
        overlay.undo()
        sys.exit(f"Every file is as it was. {type(error).__name__}: {error}")
    return written


def shown_directory() -> str:
    """Return the service's directory, as the user's shell gets there."""
    import shlex  # here, as above

    try:
        path = os.path.relpath(".", os.environ.get("PWD") or ANSWERS["_output_dir"])
    except ValueError:  # another drive of Windows
        path = ".."
    path = os.path.abspath(".") if path.startswith("..") else path
    path = os.path.join(".", path) if path.startswith("-") else path
    if os.name == "nt":
        return f'"{path}"' if " " in path else path
    return shlex.quote(path)


def main() -> None:
    """Finish the service, and print the next steps."""
    if "_aside" in ANSWERS:  # to be looked at: see hooks/overlay.py
        complete()
        return
    files = None
    if OVERLAY.exists():
        files = finish_over_files()
    else:
        complete()
    typed = str(ANSWERS["_template"])
    has_credentials = typed != without_credentials(typed)
    if "_commit" in ANSWERS:  # cruft makes it to compare, or says the rest itself
        if has_credentials:
            line = (
                "cruft writes the template's address into .cruft.json as it was given:"
            )
            print(line, "take the credentials out of it.", file=sys.stderr)
        return
    lines = [
        NEXT_STEPS.format(slug=ANSWERS["service_slug"], directory=shown_directory()),
        make_repository(files),
    ]
    reason = find_origin().no_updates
    if reason:
        lines.append(f"`make update` has nothing to follow: {reason}.")
    if has_credentials:
        lines.append(
            "The credentials in the template's address were written into no file: "
            "`make update` gets them from Git's credential helper."
        )
    if not shutil.which("uv"):
        lines.append("uv is not on the PATH: `make` installs it into .venv.")
    print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    main()
