"""The lifecycle of the process (starting, ready, draining) and its probes.

Probes are answered from memory, without I/O.
"""

from typing import Literal

from fastapi import APIRouter, Request, Response

from serving.contract import Health
from serving.metrics import Metrics
from serving.problems import NOT_READY, documented, unavailable

Phase = Literal["starting", "ready", "draining"]


class Lifecycle:
    """The phase of the process, and the reason while it is not ready."""

    def __init__(self) -> None:
        self.phase: Phase = "starting"
        self.reason = "The model is being loaded."

    @property
    def ready(self) -> bool:
        """Return whether the service accepts traffic."""
        return self.phase == "ready"

    def fail(self, reason: str) -> None:
        """Stay unready until the process ends, and report the reason."""
        if self.phase == "starting":
            self.reason = reason

    def become_ready(self) -> None:
        """Accept traffic, unless the process is already draining."""
        if self.phase == "starting":
            self.phase = "ready"
            self.reason = ""

    def drain(self) -> None:
        """Become unready. Requests that still arrive are answered."""
        self.phase = "draining"
        self.reason = "The service is shutting down."


def router(lifecycle: Lifecycle, metrics: Metrics) -> APIRouter:
    """Return the routes of the probes and of Prometheus."""
    health = APIRouter(redirect_slashes=False)

    @health.get("/livez")
    async def livez() -> Health:
        """Liveness: the process runs. No I/O, no model needed."""
        return Health(status="alive")

    @health.get("/readyz", responses=documented(503))
    async def readyz() -> Health:
        """Readiness: the model is loaded and verified, and the service not draining."""
        if not lifecycle.ready:
            raise unavailable(NOT_READY, lifecycle.reason)
        return Health(status="ready")

    @health.get("/metrics", include_in_schema=False)
    async def scrape(request: Request) -> Response:
        """Return the metrics in the format that the Accept header asks for."""
        content, media_type = metrics.scrape(request.headers.get("accept", ""))
        return Response(content, media_type=media_type)

    return health
