"""Merge what is new in the template into the service: `make update`.

The template is generated twice with the answers in .cruft.json: as of the commit that
is recorded there, and as of its newest one. Git merges the difference as it merges a
branch: a file that the template moved keeps the edits that were made to it, and a
conflict is an ordinary one. `ANSWERS`, a JSON object, changes answers.

Standard library only, and no other module of the service: it also updates a service of
an earlier version, which has no such program.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

RECORD = Path(".cruft.json")
# In a separate environment, as it is needed a few times a year.
COOKIECUTTER = ("tool", "run", "--quiet", "--from", "cookiecutter>=2.7,<3")
# `git restore` refuses conflicts of files that HEAD does not have; `git add` ends them.
BACK = "git add --update . && git restore --source=HEAD --staged --worktree ."

# The two generations become commits that no branch names; they need some author.
AUTHOR = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "Template"), ("EMAIL", "template@localhost"))
}
# What `git rev-parse --local-env-vars` lists, but for settings. Git sets some for its
# hooks: by them, commands in the clone would reach into the user's repository.
OF_ANOTHER_REPOSITORY = """
DIR WORK_TREE INDEX_FILE OBJECT_DIRECTORY ALTERNATE_OBJECT_DIRECTORIES COMMON_DIR PREFIX
GRAFT_FILE SHALLOW_FILE NO_REPLACE_OBJECTS REPLACE_REF_BASE IMPLICIT_WORK_TREE
INTERNAL_SUPER_PREFIX NAMESPACE QUARANTINE_PATH
""".split()
# What is generated has the line ends of the template, whatever Git is told here.
ADD_OPTIONS = ("-c", "core.autocrlf=input", "-c", "core.safecrlf=false")
# A file that the user adds to a directory stays where it is if others move.
MERGE_OPTIONS = (
    *("-c", "merge.directoryRenames=false"),
    *("-c", "merge.renameLimit=9999", "-c", "merge.renames=true"),
)
# A file that the user keeps with CRLF is no conflict in all of its lines.
PICK = ("cherry-pick", "--no-commit", "--strategy-option", "ignore-cr-at-eol")
# The clone has none of the hooks that the user has for all repositories, and its remote
# is `origin`, whatever the user's Git calls it.
CLONE_OPTIONS = ("--origin", "origin", "--config", f"core.hooksPath={os.devnull}")

# By what Git has of a file after a merge: 1 is before, 2 the user's, 3 the template's.
CONFLICTS = {
    "123": "both sides changed the same lines: look for <<<<<<<",
    "23": "both sides added it: look for <<<<<<<",
    "12": "the template no longer has it, and you changed it: yours was kept",
    "1": "both sides moved it",
    "2": "you moved here what the template moved or deleted",
    "3": "the template moved here what you moved or deleted",
}


class Failed(Exception):
    """A command failed; the message is what it printed."""


def run(
    *command: str,
    cwd: Path | None = None,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Run a command and return what it prints.

    Raises:
        Failed: If it ends with another code than 0.
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | extra,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip()
        raise Failed(without_credentials(said)[-4000:])
    return done.stdout


def without_credentials(text: str) -> str:
    """Return a text with no user, password or token in the addresses in it."""
    return re.sub(r"(?<=://)[^/\s'\"]*@|\?\w+=[^\s'\"]*", "", text)


def git(
    *words: str,
    cwd: Path | None = None,
    extra: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Run Git and return what it prints, without white space at its ends."""
    return run("git", *words, cwd=cwd, extra=extra).strip()


def reason(error: Failed) -> str:
    """Return the line of Git's words that gives the reason."""
    if "safe.directory" in str(error):  # the remedy is in other lines
        return " ".join(str(error).split())
    lines = str(error).splitlines() or ["nothing"]
    return next((x for x in lines if x.startswith(("fatal:", "error:"))), lines[-1])


def read_record() -> dict[str, Any]:
    """Read .cruft.json.

    Raises:
        SystemExit: If it does not say which commit of which template this is.
    """
    try:
        record = json.loads(RECORD.read_text(encoding="utf-8"))
        record["template"], record["commit"], record["context"]["cookiecutter"]
    except FileNotFoundError:
        sys.exit(f"{RECORD} is missing: it names the template. Restore it from Git.")
    except (ValueError, KeyError, TypeError) as error:
        sys.exit(f"{RECORD} cannot be read ({error}): restore it from Git.")
    if not record["commit"]:
        answers = record["context"]["cookiecutter"]
        sys.exit(
            "The commit of the template is not known, as this was not generated from a "
            f'Git repository: in {RECORD}, set "template" to its Git address and '
            '"commit" to the commit (version '
            f"{answers.get('_template_version', 'unknown')})."
        )
    return dict(record)


def read_answers(record: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the answers so far, and those that `ANSWERS` changes.

    Raises:
        SystemExit: If `ANSWERS` is no JSON object of texts.
    """
    answers = {
        question: answer
        for question, answer in record["context"]["cookiecutter"].items()
        if not question.startswith("_")
    }
    text = os.environ.get("ANSWERS") or "{}"
    try:
        changed = json.loads(text)
    except ValueError as error:
        sys.exit(f"ANSWERS is no JSON ({error}): {text}")
    if not isinstance(changed, dict):
        sys.exit('ANSWERS is no object, such as {"dvc_remote": "s3"}: ' + text)
    for question, answer in changed.items():
        if isinstance(answer, bool) or not isinstance(answer, str | int | float):
            sys.exit(f'ANSWERS: write the answer to {question} in quotes, as "yes".')
    return answers, {question: str(answer) for question, answer in changed.items()}


def refuse_what_is_not_asked(
    changed: Mapping[str, str], asked: Mapping[str, Any]
) -> None:
    """Check that the template asks what `ANSWERS` answers: cookiecutter does not.

    Raises:
        SystemExit: If it does not.
    """
    if unknown := sorted(changed.keys() - asked.keys()):
        known = ", ".join(name for name in asked if not name.startswith("_"))
        sys.exit(
            "Nothing was changed. ANSWERS: the template does not ask "
            f"{', '.join(unknown)}. It asks: {known}."
        )


def refuse_what_could_be_lost() -> None:
    """Check that everything is committed, so that there is a way back.

    Raises:
        SystemExit: If something is not.
    """
    if not shutil.which("git"):
        sys.exit("git is not installed, and it does the merging.")
    try:
        git("rev-parse", "--verify", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        git("ls-files", "--error-unmatch", str(RECORD))
    except Failed as error:
        sys.exit(
            f"Commit first, so that there is a way back. Git says: {reason(error)}"
        )
    if changed:
        names = ", ".join(line[2:].strip() for line in changed.splitlines()[:5])
        sys.exit(f"Commit or stash first, so that there is a way back: {names}")


def refuse_what_is_in_the_way(old: str, new: str) -> None:
    """Check that no file outside of Git has the name of one that is merged.

    Git would overwrite it without a word if it ignores it.

    Raises:
        SystemExit: If there is one.
    """
    merged = ("--no-renames", "--diff-filter=d", "--name-only", "-z", "--relative")
    known = set(git("ls-files", "-z").split("\0"))
    known |= {str(parent) for name in known for parent in Path(name).parents}
    names = git("diff", *merged, old, new).split("\0")
    above = [str(parent) for name in names for parent in Path(name).parents]
    lost = [name for name in names if name not in known and os.path.lexists(name)]
    lost += [name for name in above if name not in known and os.path.isfile(name)]
    if lost:
        sys.exit(
            "Nothing was changed: the template has files of these names now, and yours "
            "are in no commit. Move or commit (git add --force) them first: "
            + ", ".join(sorted(set(lost)))
        )


def clone_template(record: Mapping[str, Any], clone: Path) -> tuple[str, str]:
    """Clone the template; return its newest commit and the branch that has it.

    The branch that was asked for at generation is followed while there is one of the
    name; else the branch that is the default now, whatever its name.

    Raises:
        SystemExit: If it cannot be had, or lacks the commit of the record.
    """
    commit = record["commit"]
    address = without_credentials(record["template"])
    try:
        git("clone", "--quiet", *CLONE_OPTIONS, record["template"], str(clone))
    except Failed as error:
        sys.exit(
            f"The template cannot be had from {address}. Git says: {reason(error)} "
            f'(If it has moved, change "template" in {RECORD}.)'
        )
    # Each line: a branch, and for HEAD the branch that it stands for.
    form = "--format=%(refname:lstrip=3) %(symref:lstrip=3)"
    listed = git("for-each-ref", form, "refs/remotes/origin", cwd=clone).splitlines()
    branches = {
        name: default for name, _, default in (x.partition(" ") for x in listed)
    }
    default = branches.pop("HEAD", "")
    branch = next((x for x in (record.get("checkout"), default) if x in branches), None)
    if not branch:
        sys.exit(
            f"The template at {address} has no default branch: write one into {RECORD} "
            f'as "checkout". It has: {", ".join(branches) or "none"}.'
        )
    try:
        git("fetch", "--quiet", "origin", commit, cwd=clone)  # it may be on no branch
    except Failed:
        pass
    try:
        git("rev-parse", "--verify", f"{commit}^0", cwd=clone)
    except Failed:
        sys.exit(
            f"The template at {address} has no commit {commit}, which {RECORD} names: "
            "its history was rewritten, or the address is of another template."
        )
    return git("rev-parse", f"origin/{branch}", cwd=clone), branch


def generate(
    clone: Path,
    directory: str,
    commit: str,
    answers: Mapping[str, str],
    skip: list[str],
    place: Path,
) -> dict[str, Any]:
    """Generate a service into a place; return its record.

    `directory` is where in the clone the template is, "" for the whole of it.

    Raises:
        SystemExit: If the template refuses an answer, with its words.
    """
    git("checkout", "--quiet", "--force", "--detach", commit, cwd=clone)
    scratch = Path(tempfile.mkdtemp(dir=clone.parent))
    git("init", "--quiet", cwd=scratch)  # so that hooks make no repository
    output, configuration = scratch / "output", scratch / "settings.yaml"
    configuration.write_text(f"replay_dir: {json.dumps(str(scratch))}\n")
    uv = shutil.which(os.environ.get("UV") or "uv") or shutil.which(".venv/bin/uv")
    if not uv:
        sys.exit("uv is not installed, and it runs cookiecutter: pip install uv")
    template = str(clone / directory)
    command = (uv, *COOKIECUTTER, "cookiecutter", template, "--no-input")
    places = ("--config-file", str(configuration), "--output-dir", str(output))
    given = [f"{question}={answer}" for question, answer in answers.items()]
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    try:
        run(*command, *places, *given, extra=quiet)
    except Failed as error:
        sys.exit(
            f"Commit {commit[:12]} of the template cannot be generated:\n\n{error}\n\n"
            "If it refuses an answer, give another: make update "
            """ANSWERS='{"question": "answer"}'"""
        )
    (service,) = output.iterdir()
    record: dict[str, Any] = json.loads((service / RECORD).read_text(encoding="utf-8"))
    (service / RECORD).unlink()
    shutil.rmtree(service / ".git", ignore_errors=True)
    for pattern in skip:
        for path in list(service.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    place.parent.mkdir(parents=True, exist_ok=True)
    service.rename(place)
    return record


def read_skipped(record: Mapping[str, Any]) -> list[str]:
    """Return the patterns of what is never updated, from where cruft reads them, too.

    Raises:
        SystemExit: If pyproject.toml cannot be read.
    """
    try:
        project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"pyproject.toml cannot be read: {error}")
    settings = project.get("tool", {}).get("cruft", {})
    return [*record.get("skip", []), *settings.get("skip", [])]


CUTOFF = re.compile(r"^exclude-newer\s*=.*$", re.MULTILINE)


def keep_the_later_cutoff(old: Path, new: Path) -> None:
    """Let what `make upgrade` wrote, or the user, be no conflict with the template."""
    mine, was, now = (
        found.group() if (found := CUTOFF.search(path.read_text("utf-8"))) else ""
        for path in (Path("pyproject.toml"), old, new)
    )
    if not (was and now):
        return
    dated = all(re.search(r'"\d{4}-\d\d-\d\d', line) for line in (mine, now))
    for path, line in (
        (old, mine or was),
        (new, max(mine, now) if dated else mine or was),
    ):
        text = path.read_text("utf-8")
        path.write_text(CUTOFF.sub(lambda _: line, text, count=1), "utf-8")


def commit_of(root: Path, prefix: str, *parent: str) -> str:
    """Make a commit of HEAD with what stands below `root` in place of the service."""
    repository = git("rev-parse", "--absolute-git-dir")
    index = {"GIT_DIR": repository, "GIT_INDEX_FILE": f"{root}.index"}
    git("read-tree", "HEAD", extra=index)
    place = {"GIT_WORK_TREE": str(root), **index}
    add = (*ADD_OPTIONS, "add", "--all", "--force", "--", prefix or ".")
    git(*add, cwd=root, extra=place)
    tree = git("write-tree", extra=index)
    parents = [word for commit in parent for word in ("-p", commit)]
    return git(
        "commit-tree",
        tree,
        *parents,
        "-m",
        "Merge what is new in the template",
        extra=AUTHOR,
    )


def show(template: Path, commits: tuple[str, str], old: str, new: str) -> None:
    """Show the difference (page by page in a terminal), then what the template says."""
    sys.stdout.flush()
    subprocess.run(["git", "diff", "--find-renames", "--relative", old, new])
    print(git("diff", "--find-renames", "--relative", "--shortstat", old, new))
    plain = ("--unified=0", "--no-color", "--no-ext-diff")
    changes = git("diff", *plain, *commits, "--", "CHANGELOG.md", cwd=template)
    added = [x[1:] for x in changes.splitlines() if re.match(r"\+(?!\+\+ )", x)]
    if added:
        print("\nWhat the template says of it:\n")
        print("\n".join(f"  {line}".rstrip() for line in added))


def is_wanted() -> bool:
    """Ask, and return whether the answer is yes.

    Raises:
        SystemExit: If there is no answer.
    """
    try:
        return input("\nMerge it? [y/N] ").strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        sys.exit("\nNothing was changed: nobody answered (echo y | make update).")


def merge(update: str) -> tuple[list[str], list[str]]:
    """Merge; return what needs a hand, and which files stay deleted.

    Raises:
        SystemExit: If Git refuses, and then nothing was changed.
    """
    refused = ""
    try:
        git(*MERGE_OPTIONS, *PICK, update)
    except Failed as error:
        refused = str(error)
    stages: dict[str, str] = {}
    for entry in git("ls-files", "--unmerged", "-z").split("\0")[:-1]:
        about, name = entry.split("\t", 1)
        stages[name] = stages.get(name, "") + about[-1]
    if refused and not stages:
        sys.exit(f"Nothing was changed. Git says:\n{refused}")
    deleted = [name for name, sides in stages.items() if sides == "13"]
    for name in deleted:
        git("rm", "--quiet", "--force", "--", name)
    hand = [f"{x}: {CONFLICTS[y]}" for x, y in stages.items() if y in CONFLICTS]
    return hand, deleted


def moves(old: str, new: str) -> Iterator[tuple[str, str]]:
    """Yield what the template moved (from, to) or deleted (from, nothing)."""
    listed = git("diff", "--find-renames", "--relative", "--name-status", old, new)
    for status, name, *to in (line.split("\t") for line in listed.splitlines()):
        if status[0] in "RD":
            yield name, to[0] if to else ""


def mentions(new: str, moved: Mapping[str, str]) -> Iterator[str]:
    """Yield the user's own lines that name a file or module as it was called before."""
    modules = {module(x): module(to) for x, to in moved.items() if x.endswith(".py")}
    names = {**moved, **modules}
    if not names:
        return
    known = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    name_of = re.compile(rf"(?<![\w./])({known})(?![\w/])")
    imported = re.compile(r"\bfrom ([\w.]+) import ([\w, ]+)")
    for place, line in lines_of_the_user(new):
        found = set(name_of.findall(line))
        for package, what in imported.findall(line):
            found |= {f"{package}.{x.strip()}" for x in what.split(",")} & set(names)
        for name in sorted(found):
            now = f"is now {names[name]}" if names[name] else "is gone"
            yield f"{place}: {name} {now}"


def lines_of_the_user(new: str) -> Iterator[tuple[str, str]]:
    """Yield each line that is not the template's, with its file and number."""
    form = ("--unified=0", "--no-color", "--no-ext-diff", "--no-prefix", "--relative")
    path, number = "", 0
    command = ("-c", "core.quotePath=false", "diff", *form, new, "--", ".", ":!*.lock")
    for line in git(*command).splitlines():
        if line.startswith("+++ "):
            path = line[4:].rstrip("\t")
        elif hunk := re.match(r"@@ \S+ \+(\d+)", line):
            number = int(hunk[1])
        elif line.startswith("+"):
            yield f"{path}:{number}", line[1:]
            number += 1


def module(name: str) -> str:
    """Return how Python names a file."""
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def report(hand: list[str], deleted: list[str], asked: list[str]) -> None:
    """Say what was done, what is left to do, and how to go back."""
    print("\nMerged.")
    if deleted:
        print(
            "\nThe template changed these files, which stay deleted as you left them:\n"
        )
        print("\n".join(f"  {name}" for name in deleted))
    if asked:
        print("\nNew questions, answered by default (ANSWERS changes them):\n")
        print("\n".join(f"  {question}" for question in asked))
    if hand:
        print("\nThis needs a hand:\n")
        print("\n".join(f"  {line}" for line in hand))
        print("\n`git add` each file that is done (`git rm` what is to go).", end="")
    print("\nThen: make setup train monitoring docs lint test, and commit.")
    print(f"To go back to where you were: {BACK}")


def main() -> None:
    """Update the service; exit with 1 if there are conflicts, as `git merge` does."""
    for name in OF_ANOTHER_REPOSITORY:
        os.environ.pop(f"GIT_{name}", None)
    record = read_record()
    answers, changed = read_answers(record)
    refuse_what_could_be_lost()
    skip = read_skipped(record)
    prefix = git("rev-parse", "--show-prefix")
    with tempfile.TemporaryDirectory() as directory:
        clone, before, after = (Path(directory, x) for x in ("clone", "old", "new"))
        commit = record["commit"]
        newest, branch = clone_template(record, clone)
        count = git("rev-list", "--count", f"{commit}..{newest}", cwd=clone)
        is_current = count == "0"
        if is_current and not changed:
            print(f"Nothing new in the template: {branch} is at {newest[:12]}.")
            return
        newest = commit if is_current else newest  # the branch may be behind
        where = (clone, record.get("directory") or "")
        generate(*where, commit, answers, skip, before / prefix)
        made = generate(*where, newest, answers | changed, skip, after / prefix)
        refuse_what_is_not_asked(changed, made["context"]["cookiecutter"])
        project = Path(prefix, "pyproject.toml")
        keep_the_later_cutoff(before / project, after / project)
        old = commit_of(before, prefix)
        new = commit_of(after, prefix, old)
        if not git("diff", "--name-only", old, new):
            print(f"Nothing new in the template for this service: {branch} changed.")
            return
        refuse_what_is_in_the_way(old, new)
        show(clone.joinpath(where[1]), (commit, newest), old, new)
    if not is_wanted():
        print("Nothing was changed.")
        return
    # Half of a merge has no way back: neither this program nor Git is interrupted.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    hand, deleted = merge(new)
    asked = [
        f"{question}: {answer}"
        for question, answer in made["context"]["cookiecutter"].items()
        if not question.startswith("_") and question not in answers | changed
    ]
    record |= {"commit": newest, "context": made["context"]}
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    RECORD.write_text(text, encoding="utf-8")
    git("add", "--", str(RECORD))
    report(hand + [*mentions(new, dict(moves(old, new)))], deleted, asked)
    sys.exit(1 if hand else 0)


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"Git says: {error}")
    except KeyboardInterrupt:
        sys.exit("\nStopped.")
