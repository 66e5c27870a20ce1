"""The life of the process (starting, ready, draining), and its probes.

Liveness and readiness are answered from memory, without I/O.
"""

from typing import Literal

from fastapi import APIRouter, Request, Response

from serving.contract import Health
from serving.metrics import Metrics
from serving.problems import NOT_READY, documented, unavailable

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


def router(lifecycle: Lifecycle, metrics: Metrics) -> APIRouter:
    """Return the routes for those who watch the service."""
    health = APIRouter(redirect_slashes=False)

    @health.get("/livez")
    async def livez() -> Health:
        """Liveness: the process runs. It does no I/O and needs no model."""
        return Health(status="alive")

    @health.get("/readyz", responses=documented(503))
    async def readyz() -> Health:
        """Readiness: the model is loaded and proven, the service does not drain."""
        if not lifecycle.ready:
            raise unavailable(NOT_READY, lifecycle.reason)
        return Health(status="ready")

    @health.get("/metrics", include_in_schema=False)
    async def scrape(request: Request) -> Response:
        """What Prometheus scrapes."""
        content, media_type = metrics.scrape(request.headers.get("accept", ""))
        return Response(content, media_type=media_type)

    return health
