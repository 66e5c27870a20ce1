"""Answers the questions as a user does who types.

All in this process, hooks included: fast enough for thousands of services. What needs
the real command goes through `bake_into`.
"""

import contextlib
import io
import json
import logging
import os
import runpy
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

from binaryornot.check import is_binary
from cookiecutter import generate, hooks, prompt
from cookiecutter.exceptions import FailedHookException
from cookiecutter.main import cookiecutter
from jinja2 import Environment

from tests.conftest import ROOT, Service

QUESTIONS: dict[str, Any] = {
    question: default
    for question, default in json.loads(
        (ROOT / "cookiecutter.json").read_text(encoding="utf-8")
    ).items()
    if not question.startswith("_")
}
CHOICES: dict[str, list[str]] = {
    question: default
    for question, default in QUESTIONS.items()
    if isinstance(default, list)
}


@dataclass(frozen=True)
class Outcome:
    """What became of the answers."""

    code: int  # of the last hook
    said: str  # by the hooks
    service: Service

    @property
    def refused(self) -> bool:
        """Whether no service was made."""
        return self.code != 0

    @property
    def command(self) -> str:
        """The command that a refusal ends with."""
        return self.said.split("With the corrections:\n\n  ")[1].split("\n\n")[0]

    @property
    def correction(self) -> dict[str, str]:
        """The answers of the command that a refusal ends with."""
        words = shlex.split(self.command)
        return dict(word.split("=", 1) for word in words if "=" in word)


COMPILE = Environment.compile


CODE: dict[str, Any] = {}


def compile_once(environment: Environment, source: str, *names: Any) -> Any:
    """Take the place of Environment.compile: most templates are the same each time."""
    if source not in CODE:
        CODE[source] = COMPILE(environment, source, *names)
    return CODE[source]


# Cookiecutter reads each file of the template to tell whether it is text.
is_binary_once = cache(is_binary)


class Checked(Exception):
    """Ends a generation once the answers are accepted."""


def answer(
    directory: Path,
    typed: Mapping[str, str],
    *,
    on_command_line: bool = False,
    only_checked: bool = False,
    template: Path = ROOT,
    overwrite: bool = False,
    skip: bool = False,
) -> Outcome:
    """Generate a service without Git; what is not typed is left at its default.

    On the command line, cookiecutter itself renders what is typed; at a prompt it does
    not. `overwrite` is its -f, `skip` its -s.
    """
    said: list[str] = []
    codes: list[int] = []

    def run_script(script: str, cwd: Path | str = ".") -> None:
        heard = io.StringIO()
        code: object = 0
        with contextlib.chdir(cwd), contextlib.redirect_stderr(heard):
            try:
                runpy.run_path(script, run_name="__main__")
            except SystemExit as end:
                code = end.code
        Path(script).unlink()
        said.append(heard.getvalue() + (code if isinstance(code, str) else ""))
        codes.append(1 if code else 0)
        if code:
            raise FailedHookException("Hook script failed")
        if only_checked:
            raise Checked

    def read_variable(question: str, default: Any, *_: Any) -> Any:
        return typed.get(question, default)

    def read_choice(question: str, choices: list[str], *_: Any) -> str:
        return typed.get(question, choices[0])

    configuration = directory / "cookiecutter.yaml"
    configuration.write_text(f"replay_dir: {json.dumps(str(directory / 'replay'))}\n")
    output = directory / "output"
    output.mkdir(exist_ok=True)
    logging.getLogger("cookiecutter").setLevel(logging.CRITICAL)
    with (
        patch.dict(os.environ, {"PATH": ""}),
        patch.object(hooks, "run_script", run_script),
        patch.object(Environment, "compile", compile_once),
        patch.object(generate, "is_binary", is_binary_once),
        patch.object(prompt, "read_user_variable", read_variable),
        patch.object(prompt, "read_user_choice", read_choice),
    ):
        try:
            made = cookiecutter(
                str(template),
                no_input=on_command_line,
                extra_context=dict(typed) if on_command_line else None,
                config_file=str(configuration),
                output_dir=str(output),
                overwrite_if_exists=overwrite,
                skip_if_file_exists=skip,
            )
        except (FailedHookException, FileNotFoundError, Checked):
            made = str(output / "none")
        finally:
            logging.disable(logging.NOTSET)
    return Outcome(codes[-1], "".join(said), Service(Path(made)))
