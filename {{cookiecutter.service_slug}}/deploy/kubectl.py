"""Run kubectl, the only way to the cluster; add a remedy to its errors."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Objects = Sequence[dict[str, Any]]

MANAGER = "kubectl"  # the field manager of all that is applied

# With force: the fields that Git states are taken from whoever else owns them.
APPLY = ("apply", "--server-side", "--force-conflicts", "--filename", "-")

# Patterns of kubectl's errors, and the remedies.
REMEDIES = {
    r"was refused|connection refused|no such host|i/o timeout|Unable to connect": (
        "kubectl does not reach the cluster. `kubectl config get-contexts` lists those "
        "that it knows: add CONTEXT=…"
    ),
    r"context .* does not exist|context was not found": (
        "`kubectl config get-contexts` lists the contexts."
    ),
    r"Unauthorized|must be logged in|provide credentials": (
        "The cluster does not know you: log in to it again. For the pipeline, see step "
        "2 of docs/deployment.md."
    ),
    r"\(Forbidden\)|is forbidden: User": (
        "Who deploys needs the rights in deploy/pipeline-role.yaml: step 3 of "
        "docs/deployment.md."
    ),
    r'namespaces ".*" not found': "Make it: kubectl create namespace …",
    r'-release-\d+" already exists': (
        "Another deployment is under way. Wait for it, then start again."
    ),
    r"no matches for kind": (
        "The cluster lacks a CRD: install it, or leave its component out."
    ),
}


class DeployError(Exception):
    """Why it cannot go on, and what helps."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the options that lead to one cluster."""

    options: tuple[str, ...] = ()

    def run(self, *words: str, objects: Objects = ()) -> str:
        """Run a command, with objects on its standard input (`--filename -`).

        Raises DeployError with kubectl's own words and what helps.
        """
        return _output(self.attempt(*words, objects=objects))

    def attempt(
        self, *words: str, objects: Objects = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail. Raises DeployError if there is no kubectl."""
        try:
            return subprocess.run(
                ["kubectl", *self.options, *words],
                input="\n".join(map(json.dumps, objects)),
                capture_output=True,
                text=True,
                encoding="utf-8",
            )
        except FileNotFoundError:
            raise DeployError(
                "kubectl is not installed: https://kubernetes.io/docs/tasks/tools"
            ) from None

    def apply(self, objects: Objects, *options: str) -> None:
        """Apply objects and show what kubectl says, with the warnings of the cluster.

        Raises DeployError.
        """
        if not objects:
            return
        done = self.attempt(*APPLY, *options, objects=objects)
        print(_output(done), end="", flush=True)
        print(done.stderr, end="", file=sys.stderr, flush=True)

    def items(self, *words: str, objects: Objects = ()) -> list[dict[str, Any]]:
        """Return the objects that `kubectl get` finds. Raises DeployError."""
        command = ("get", *words, "--ignore-not-found", "--output", "json")
        return objects_in(self.run(*command, objects=objects))


def _output(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode == 0:
        return done.stdout
    # The lines of its own log (E1126 12:00:00 …) repeat the others.
    said = re.sub(r"^[EWI]\d{4} .*\n", "", done.stderr, flags=re.MULTILINE).strip()
    helps = [help_ for text, help_ in REMEDIES.items() if re.search(text, said)]
    raise DeployError("\n".join([said or done.stdout.strip(), *helps[:1]]))


def objects_in(output: str) -> list[dict[str, Any]]:
    """Return the objects that kubectl printed as JSON: one, a list, or one by one."""
    decoder, place, found = json.JSONDecoder(), 0, []
    while match := re.compile(r"\s*(?=\{)").match(output, place):
        document, place = decoder.raw_decode(output, match.end())
        found += document.get("items", [document])
    return found
