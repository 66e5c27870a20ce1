"""Load above what the service can carry is turned away when it comes, not queued."""

from starlette.types import ASGIApp, Receive, Scope, Send

from app.metrics import Metrics
from app.problems import problem_response, unavailable

# Probes and scrapes are answered however busy the service is.
EXEMPT = frozenset({"/livez", "/readyz", "/metrics"})

# In the scope of a request that was turned away: app.protocol looks for it.
REFUSED = "app.refused"


class LoadShedding:
    """ASGI middleware: at most `limit` requests in work, the rest get 503."""

    def __init__(self, app: ASGIApp, limit: int, metrics: Metrics) -> None:
        self._app = app
        self._limit = limit
        self._metrics = metrics
        # Made once: the busier the service, the cheaper a refusal must be.
        self._refusal = problem_response(
            unavailable(f"The service is at its limit of {limit} requests at once.")
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in EXEMPT:
            await self._app(scope, receive, send)
            return
        if self._metrics.in_flight >= self._limit:
            self._metrics.shed()
            scope[REFUSED] = True
            await self._refusal(scope, receive, send)
            return

        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._metrics.in_flight -= 1
