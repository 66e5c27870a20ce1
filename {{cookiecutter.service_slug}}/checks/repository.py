"""Read what the checks share: files, documents, Git."""

import ast
import fnmatch
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml

from checks import markdown
from checks.results import Finding, Missing, NotChecked
from checks.stubs import is_stub

IGNORED = {".git", ".venv", "__pycache__", "outputs", ".mypy_cache", ".pytest_cache"}
PRESS_RELEASE = "docs/press-release.md"
HOOKS = ".pre-commit-config.yaml"
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C, where PyYAML has it


class Repository:
    """A service's repository on a certain day."""

    def __init__(self, root: Path, today: date) -> None:
        self.root = root
        self.today = today
        self.read = cache(self._read)

    @cached_property
    def files(self) -> list[str]:
        """Return the files that Git tracks or would track; without Git, all. Sorted."""
        try:
            listed = self.git(
                "ls-files", "--cached", "--others", "--exclude-standard"
            ).splitlines()
        except NotChecked:
            listed = [
                path.relative_to(self.root).as_posix()
                for path in self.root.rglob("*")
                if not IGNORED & set(path.relative_to(self.root).parts)
            ]
        return sorted({name for name in listed if (self.root / name).is_file()})

    @cached_property
    def documents(self) -> dict[str, str]:
        """Return the text of each Markdown file."""
        return {name: self.read(name) for name in self.files if name.endswith(".md")}

    @cached_property
    def sources(self) -> dict[str, str]:
        """Return the text of each Python file."""
        return {name: self.read(name) for name in self.files if name.endswith(".py")}

    @cached_property
    def statements(self) -> dict[str, list[ast.stmt]]:
        """Return all statements of each Python file, inner ones included."""
        parsed = ((name, ast.parse(source)) for name, source in self.sources.items())
        return {name: list(walk_statements(tree)) for name, tree in parsed}

    def has(self, name: str) -> bool:
        """Return whether there is such a file or directory."""
        return (self.root / name).exists()

    def _read(self, name: str) -> str:
        """Return the text of a file. Raises Missing."""
        try:
            return (self.root / name).read_bytes().decode("utf-8", errors="replace")
        except OSError:
            raise Missing(name) from None

    def yaml(self, name: str) -> Any:
        """Return the data of a YAML file. Raises Missing."""
        return yaml.load(self.read(name), YAML)

    def toml(self, name: str) -> dict[str, Any]:
        """Return the data of a TOML file. Raises Missing."""
        return tomllib.loads(self.read(name))

    def json(self, name: str) -> Any:
        """Return the data of a JSON file. Raises Missing."""
        return json.loads(self.read(name))

    def git(self, *arguments: str) -> str:
        """Return what Git prints. Raises NotChecked where Git cannot tell."""
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=self.root, capture_output=True, text=True
            )
        except OSError:
            raise NotChecked("There is no git on this machine.") from None
        if done.returncode:
            raise NotChecked(f"git {arguments[0]} said: {done.stderr.strip()}")
        return done.stdout

    def find(self, name: str, what: str, part: str) -> Finding:
        """Return a finding at the first line of a file that contains a text."""
        line = markdown.line_of(self.read(name), part) if self.has(name) else 0
        return Finding(what, name, line)

    @cached_property
    def slug(self) -> str:
        """Return the name of the service in its address, its image and its metrics."""
        return str(self.toml("pyproject.toml")["project"]["name"])

    @cached_property
    def press_release(self) -> dict[str, Any]:
        """Return the front matter of the press release."""
        return markdown.front_matter(self.read(PRESS_RELEASE))

    def table(self, name: str) -> dict[str, str]:
        """Return the rows of all tables of a document: first cell to second cell."""
        rows = markdown.rows(self.read(name))
        return {cells[0]: cells[1] for _, cells in rows if len(cells) > 1}

    @cached_property
    def verbs(self) -> dict[str, str]:
        """Return the verbs of make, with what `make help` says of them, or "".

        The Makefile includes those of the options: `*/verbs.mk`.
        """
        names = ["Makefile", *fnmatch.filter(self.files, "*/verbs.mk")]
        text = "\n".join(map(self.read, names))
        verbs: dict[str, str] = {}
        for verb, meaning in re.findall(r"^([a-z][a-z-]*):(?:.*## (.*))?", text, re.M):
            verbs[verb] = meaning or verbs.get(verb, "")
        return verbs

    @cached_property
    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts of monitoring/alerts.yaml."""
        groups = self.yaml("monitoring/alerts.yaml")["groups"]
        return [r for group in groups for r in group["rules"] if "alert" in r]

    @cached_property
    def hooks(self) -> set[str]:
        """Return the ids of the hooks that pre-commit runs."""
        config = self.yaml(HOOKS)
        return {hook["id"] for repo in config["repos"] for hook in repo["hooks"]}

    @cached_property
    def pipelines(self) -> dict[str, Any]:
        """Return the files of the CI, by their names."""
        return {
            name: self.yaml(name)
            for name in self.files
            if re.fullmatch(
                r"\.github/workflows/[^/]+\.ya?ml|\.gitlab-ci\.yml|\.gitlab/.*\.yml",
                name,
            )
        }

    def unwritten(self, name: str, *titles: str) -> Iterator[Finding]:
        """Yield the lines and sections of a document that wait for a person.

        `titles` are the sections that there must be.
        """
        found = markdown.sections(self.read(name))
        for title in sorted(set(titles) - {section.title for section in found}):
            yield Finding(f"The section “{title}” is missing.", name)
        for section, following in zip(found, [*found[1:], None], strict=True):
            lines = enumerate(section.text.splitlines(), section.line + 1)
            where = [number for number, line in lines if "TODO" in line]
            for number in where:
                what = f"Write “{section.title}” in place of the TODO."
                yield Finding(what, name, number)
            is_parent = following is not None and following.level > section.level
            if not where and not (is_parent and not section.text.strip()):
                if is_stub(section.text):
                    what = f"“{section.title}” is empty or has the template's words."
                    yield Finding(what, name, section.line)


def walk_statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements in a node, at any depth; what is in expressions is not."""
    for child in inner_statements(node):
        yield child
        yield from walk_statements(child)


def inner_statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements in the blocks of a node, one level deep."""
    yield from getattr(node, "body", ())
    for handler in getattr(node, "handlers", ()):
        yield from handler.body
    for case in getattr(node, "cases", ()):
        yield from case.body
    yield from getattr(node, "orelse", ())
    yield from getattr(node, "finalbody", ())
