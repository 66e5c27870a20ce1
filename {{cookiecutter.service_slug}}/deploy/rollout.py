"""Wait until a Deployment runs what was applied."""

import time
from dataclasses import dataclass
from typing import Any

from deploy.kubectl import DeployError, Kubectl
from deploy.manifests import Manifest, key

PAUSE = 1.0  # seconds between two requests for the state of the Deployment
MARGIN = 30.0  # seconds that Kubernetes may be late to say that its deadline has passed


class RolloutError(DeployError):
    """The pods do not come to run what was applied."""


@dataclass(frozen=True)
class State:
    """How far a rollout has come."""

    seen: bool  # whether the controller has seen what was applied
    wanted: int
    total: int
    updated: int
    available: int

    @classmethod
    def of(cls, live: Manifest, least: int) -> "State":
        """Return the state of a Deployment that needs at least `least` replicas."""
        status = live.get("status", {})
        return cls(
            status.get("observedGeneration", 0) >= live["metadata"]["generation"],
            max(least, live["spec"].get("replicas", 1)),
            *(
                status.get(name, 0)
                for name in ("replicas", "updatedReplicas", "availableReplicas")
            ),
        )

    @property
    def done(self) -> bool:
        """Return whether all pods are new and available, and no old one is left."""
        return self.seen and (
            self.wanted == self.total == self.updated == self.available
        )

    def __str__(self) -> str:
        return (
            f"{self.updated} of {self.wanted} pods new, {self.available} available, "
            f"{max(0, self.total - self.updated)} old"
        )


def wait(kubectl: Kubectl, deployment: Manifest, least: int) -> None:
    """Wait until all pods of a Deployment are new and available, at least `least`.

    Raises RolloutError if it makes no progress within its progress deadline.
    """
    which = key(deployment)
    look = ("deployments.apps", which.name, "--namespace", which.namespace)
    patience = deployment["spec"].get("progressDeadlineSeconds", 600) + MARGIN
    state, stale, error = None, None, ""
    changed = time.monotonic()
    while True:
        try:
            found, error = kubectl.items(*look), ""
        except DeployError as refused:  # the API server may be gone for a moment
            found, error = [], str(refused)
        for live in found:
            # At the first look, the condition may still be that of the rollout before.
            stale = stale or [_late(live)]
            now = State.of(live, least)
            if now.done:
                print(f"{which}: {now}.")
                return
            if now.seen and (late := _late(live)) and late not in stale:
                raise RolloutError(f"{which}: {late['message']} {now}.")
            if now != state:
                print(f"{which}: {now} …", flush=True)
                state, changed = now, time.monotonic()
        if time.monotonic() - changed > patience:
            raise RolloutError(
                error or f"{which}: nothing has changed for {patience:.0f} s; {state}."
            )
        time.sleep(PAUSE)


def _late(live: Manifest) -> dict[str, Any] | None:
    """Return the condition that the progress deadline has passed, if there is one."""
    for condition in live.get("status", {}).get("conditions", []):
        if condition.get("reason") == "ProgressDeadlineExceeded":
            found: dict[str, Any] = condition
            return found
    return None
