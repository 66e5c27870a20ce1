"""Data and experiments (V, E), and the database (B)."""

import configparser
import hashlib
import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from checks import markdown
from checks.repository import Repository
from checks.results import Finding, NotApplicable, NotChecked
from checks.rule import rule
from checks.stubs import is_stub

DATA = re.compile(r"data/.*\.(csv|parquet|jsonl|tsv|npy|npz|zip|gz)$")
CHANGES = "docs/database.md"


@rule("V1")
def data_is_versioned(repository: Repository) -> Iterator[Finding]:
    """Every dataset is versioned with DVC to a cloud bucket, and Git has DVC's files.

    dvc.lock is committed and names the data and the model that are here; no data is in
    Git itself; the remote is no directory. Whether the remote has them is checked where
    it is a directory: `dvc status --cloud` tells it of the others.
    """
    for name in repository.files:
        if DATA.match(name) and not name.endswith(".dvc"):
            what = "It is in Git: `git rm --cached` it, then `dvc add`."
            yield Finding(what, name)
    remote = remote_url(repository)
    if not remote:
        yield Finding("Name a remote: `dvc remote add --default`.", ".dvc/config")
    elif "://" not in remote:
        what = f"The remote {remote} is a directory: choose a bucket (docs/storage.md)."
        yield repository.find(".dvc/config", what, "url =")
    if "dvc.lock" not in repository.files:
        yield Finding("Run `make train` and commit dvc.lock.", "dvc.lock")
        return
    lock, pipeline = repository.yaml("dvc.lock"), repository.yaml("dvc.yaml")
    for name in sorted(set(pipeline["stages"]) - set(lock["stages"])):
        yield Finding(f"It lacks the stage {name}: `make train`.", "dvc.lock")
    for path, md5 in outs(lock).items():
        file = repository.root / path
        if file.is_file() and digest(file) != md5:
            what = f"{path} is not the one that dvc.lock names: `make train`."
            yield repository.find("dvc.lock", what, path)
    if remote and "://" in remote:
        raise NotChecked(f"Whether {remote} has the data: `dvc status --cloud`.")


def remote_url(repository: Repository) -> str:
    """Return the address of DVC's default remote; empty without one."""
    config = configparser.ConfigParser()
    config.read_string(repository.read(".dvc/config"))
    name = config.get("core", "remote", fallback="")
    return config.get(f"'remote \"{name}\"'", "url", fallback="")


def outs(lock: dict[str, Any]) -> dict[str, str]:
    """Return path and hash of what the stages write, directories aside."""
    return {
        out["path"]: out["md5"]
        for stage in lock["stages"].values()
        for out in stage.get("outs", [])
        if not out.get("md5", ".dir").endswith(".dir")
    }


def digest(file: Path) -> str:
    """Return the hash by which DVC knows a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "md5").hexdigest()


@rule("E1")
def experiments_can_be_repeated(repository: Repository) -> Iterator[Finding]:
    """Experiments can be repeated, and are built on maintained APIs: Hydra.

    Every stage reads the composed configuration, which has a seed; uv.lock pins the
    dependencies, and is committed with dvc.lock.
    """
    pyproject = repository.toml("pyproject.toml")
    groups = pyproject["dependency-groups"]
    named = [str(one) for group in groups.values() for one in group]
    if not any(one.startswith("hydra-core>") for one in named):
        yield Finding("hydra-core is not among the dependencies.", "pyproject.toml")
    config = "training/conf/config.yaml"
    if "seed" not in repository.yaml(config):
        yield Finding("Give it a seed: the same run gives the same model.", config)
    for name, stage in repository.yaml("dvc.yaml")["stages"].items():
        reads = str(stage.get("params", "")) + str(stage.get("outs", ""))
        if "reports/config.yaml" not in reads:
            what = f"The stage {name} does not read reports/config.yaml."
            yield repository.find("dvc.yaml", what, f"{name}:")
    for name in repository.files:
        if name.startswith("training/conf/experiment/"):
            if "# @package _global_" not in repository.read(name):
                what = "Without `# @package _global_` in its head, it changes nothing."
                yield Finding(what, name, 1)
    for name, verb in (("uv.lock", "make setup"), ("dvc.lock", "make train")):
        if not is_committed(repository, name):
            yield Finding(f"Run `{verb}` and commit {name}.", name)


def is_committed(repository: Repository, name: str) -> bool:
    """Return whether Git has a file."""
    return bool(repository.git("ls-files", name).strip())


def migrations(repository: Repository) -> dict[str, str]:
    """Return the migrations of the database. Raises NotApplicable without any."""
    found = {
        name: source
        for name, source in repository.sources.items()
        if "/versions/" in name and "op." in source
    }
    if not found:
        raise NotApplicable("The service has no database.")
    return found


def feedback_tables() -> Any:
    """Return the module that describes the tables of feedback; None without them."""
    if importlib.util.find_spec("feedback") is None:
        return None
    return importlib.import_module("feedback.document")


def open_points(rule_number: str) -> Iterator[Finding]:
    """Yield what the tables of feedback leave open."""
    document = feedback_tables()
    for number, what in document.mistakes() if document else ():
        if number == rule_number:
            yield Finding(what, "feedback/tables.py")


@rule("B1")
def changes_are_listed(repository: Repository) -> Iterator[Finding]:
    """Every database change is listed: columns and tables added or removed.

    docs/database.md names each table of the migrations. What it says of the tables of
    feedback follows from them (`make docs`).
    """
    if (document := feedback_tables()) and repository.has(CHANGES):
        page = repository.read(CHANGES)
        if page != document.write(page):
            yield Finding("It is not what the tables are now: `make docs`.", CHANGES)
    for name, source in migrations(repository).items():
        text = repository.read(CHANGES)
        for table in re.findall(r"(?:create|drop)_table\(\s*[\"'](\w+)", source):
            if f"`{table}`" not in text:
                yield Finding(f"{CHANGES} does not list the table {table}.", name)


@rule("B2")
def indexes_are_listed(repository: Repository) -> Iterator[Finding]:
    """The indexes are listed; each new column says whether it needs one, and why.

    docs/database.md has a section “Indexes”; each column and each index of feedback
    gives its reason.
    """
    yield from open_points("B2")
    yield from section_of_database(repository, "Indexes")


@rule("B3")
def changes_of_records_are_listed(repository: Repository) -> Iterator[Finding]:
    """Each table says whether its records are changed: deletes, updates, how often.

    docs/database.md has a section “Changes of records”; `RECORDS` has each table of
    feedback.
    """
    yield from open_points("B3")
    yield from section_of_database(repository, "Changes of records")


def section_of_database(repository: Repository, title: str) -> Iterator[Finding]:
    """Yield what docs/database.md lacks of a section."""
    migrations(repository)
    sections = {s.title: s for s in markdown.sections(repository.read(CHANGES))}
    if title not in sections:
        yield Finding(f"The section “{title}” is missing.", CHANGES)
    elif is_stub(sections[title].text):
        yield Finding(f"“{title}” is empty.", CHANGES, sections[title].line)
