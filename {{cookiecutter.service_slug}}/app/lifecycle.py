"""The life of the process: starting, ready, draining.

Liveness and readiness are answered from here, without I/O.
"""

from typing import Literal

Phase = Literal["starting", "ready", "draining"]


class Lifecycle:
    """Where the process stands, and why it takes no traffic if it takes none."""

    def __init__(self) -> None:
        self.phase: Phase = "starting"
        self.reason = "The model is being loaded."

    @property
    def ready(self) -> bool:
        """True while Kubernetes may send traffic."""
        return self.phase == "ready"

    def fail(self, reason: str) -> None:
        """Stay unready for good, with the reason."""
        if self.phase == "starting":
            self.reason = reason

    def become_ready(self) -> None:
        """Take traffic, unless the process is already going down."""
        if self.phase == "starting":
            self.phase = "ready"
            self.reason = ""

    def drain(self) -> None:
        """Ask for no more traffic; what still comes is answered."""
        self.phase = "draining"
        self.reason = "The service is shutting down."
