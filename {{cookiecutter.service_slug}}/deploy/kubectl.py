"""kubectl: the only way to the cluster. Its words come with what helps, where that is known."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Objects = Sequence[dict[str, Any]]

MANAGER = "kubectl"  # the field manager of all that `make deploy` applies

# What kubectl says, and what helps.
REMEDIES = {
    r"connection refused|was refused|no such host|i/o timeout|Unable to connect|context deadline": (
        "kubectl does not reach the cluster. `kubectl config get-contexts` lists those that "
        "it knows: add CONTEXT=…"
    ),
    r"context .* does not exist": "`kubectl config get-contexts` lists the contexts.",
    r"Unauthorized|must be logged in|provide credentials|no Auth Provider": (
        "The cluster does not know you: log in to it again; in the pipeline, see step 2 of "
        "docs/deployment.md."
    ),
    r"\(Forbidden\)|is forbidden: User|cannot (get|list|create|patch|delete) ": (
        "What the pipeline needs is in deploy/pipeline-role.yaml: somebody who administers "
        "the cluster applies it, as docs/deployment.md says."
    ),
    r'namespaces ".*" not found': "Make the namespace: kubectl create namespace …",
    r'-release-\d+" already exists': (
        "Another deployment is under way. Wait for it, then start again."
    ),
    r"no matches for kind|resource mapping not found": (
        "The cluster lacks a CRD: install it, or take the component out of the overlay."
    ),
}


# With force: what Git states is taken from whoever else has written it.
APPLY = ("apply", "--server-side", "--force-conflicts", "--filename", "-")


class DeployError(Exception):
    """Why it cannot go on, and what helps."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the options that lead to one cluster."""

    options: tuple[str, ...] = ()

    def run(self, *words: str, objects: Objects = ()) -> str:
        """Run a command, with objects on its standard input (`--filename -`).

        Raises DeployError with kubectl's own words and a remedy.
        """
        done = self.attempt(*words, objects=objects)
        if done.returncode == 0:
            return done.stdout
        raise DeployError(_with_remedy(done))

    def attempt(
        self, *words: str, objects: Objects = ()
    ) -> subprocess.CompletedProcess[str]:
        """The same, for what may fail. Raises DeployError if there is no kubectl."""
        try:
            return subprocess.run(
                ["kubectl", *self.options, *words],
                input="\n---\n".join(map(json.dumps, objects)),
                capture_output=True,
                text=True,
                encoding="utf-8",
            )
        except FileNotFoundError:
            raise DeployError(
                "kubectl is not installed: https://kubernetes.io/docs/tasks/tools"
            ) from None

    def apply(self, manifests: Objects, *options: str) -> str:
        """Apply objects; returns what kubectl prints, and shows the cluster's warnings.

        Raises DeployError.
        """
        done = self.attempt(*APPLY, *options, objects=manifests)
        if done.returncode != 0:
            raise DeployError(_with_remedy(done))
        if "--dry-run=server" not in options:
            print(done.stderr, file=sys.stderr, end="", flush=True)
        return done.stdout

    def read(self, *words: str, objects: Objects = ()) -> Any:
        """What a command prints as JSON; None if it prints nothing."""
        output = self.run(*words, "--output", "json", objects=objects)
        return json.loads(output) if output.strip() else None

    def items(self, *words: str, objects: Objects = ()) -> list[dict[str, Any]]:
        """The objects that `kubectl get` finds: none, one or a list of them."""
        found = self.read(
            "get", *words, "--ignore-not-found", "--show-managed-fields", objects=objects
        )
        if found is None:
            return []
        items: list[dict[str, Any]] = found.get("items", [found])
        return items


def _with_remedy(done: subprocess.CompletedProcess[str]) -> str:
    """kubectl's own words, and what helps."""
    said = done.stderr.strip() or done.stdout.strip()
    remedies = (help_ for text, help_ in REMEDIES.items() if re.search(text, said))
    return "\n".join(filter(None, (said, next(remedies, ""))))
