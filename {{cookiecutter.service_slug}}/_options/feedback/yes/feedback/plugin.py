"""`POST /v1/feedback`, its metrics, and its place in the application."""

import logging
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import Counter, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import BaseModel
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from feedback import items, store
from feedback.database import Database, Unavailable, describe, is_behind
from feedback.items import make_request
from feedback.settings import FeedbackSettings
from serving.build import Application
from serving.contract import Contract
from serving.problems import (
    InvalidField,
    ProblemError,
    ProblemType,
    documented,
    unavailable,
)
from serving.requests import TENANT
from serving.service import Service
from serving.settings import load_settings

CONFLICT = ProblemType(
    "feedback-differs", 409, "The id is stored with another feedback"
)
UNAVAILABLE = ProblemType("feedback-unavailable", 503, "Feedback cannot be stored now")
REFRESH_SECONDS = 10.0  # between two queries for the state of the database

# The names of the metrics of that state, and what they mean.
UP = ("feedback_database_up", "1 if the database of feedback answered, else 0.")
BEHIND = (
    "feedback_schema_behind",
    "1 if the database lacks a migration of this release, else 0.",
)

logger = logging.getLogger(__name__)


class FeedbackResponse(Contract):
    """How many items were new, and how many were stored before."""

    stored: int
    known: int


def add(app: Application, instance: type[BaseModel], labelled: type[BaseModel]) -> None:
    """Add feedback to the application. Raises SettingsError."""
    settings = load_settings(FeedbackSettings)
    service: Service[Any] = app.state.service
    metrics = FeedbackMetrics(service, Database(settings))
    app.include_router(router(settings, metrics, instance, labelled))
    where = "a SQLite file" if settings.is_sqlite else "PostgreSQL"
    app.start_notes.append(f"Feedback is stored in {where}.")


class FeedbackMetrics(Collector):
    """The metrics of feedback, and the state of its database.

    A scrape never waits for the database: it shows the state that was last read, and
    has it read again in a thread.
    """

    def __init__(self, service: Service[Any], database: Database) -> None:
        self.database = database
        self._up: bool | None = None
        self._behind = False
        self._refresh_at = 0.0
        registry = service.metrics.registry
        self._items = Counter(
            "feedback_total",
            "Items of feedback stored, by whether they agree with the prediction.",
            ("agrees",),
            registry=registry,
        )
        for agrees in ("true", "false"):
            self._items.labels(agrees)
        self._failures = Counter(
            "feedback_failures_total",
            "Requests with feedback that the database did not store in time.",
            registry=registry,
        )
        registry.register(self)

    def record_item(self, agrees: bool) -> None:
        """Count an item that is stored."""
        self._items.labels(str(agrees).lower()).inc()

    def record_failure(self) -> None:
        """Count a request that was not stored."""
        self._failures.inc()

    def describe(self) -> Iterator[Metric]:
        """Name the metrics, without a query."""
        yield GaugeMetricFamily(*UP, value=0)
        yield GaugeMetricFamily(*BEHIND, value=0)

    def collect(self) -> Iterator[Metric]:
        """Yield the state of the database, once it is known."""
        if time.monotonic() >= self._refresh_at:
            self.refresh()
        if self._up is not None:
            yield GaugeMetricFamily(*UP, value=self._up)
            yield GaugeMetricFamily(*BEHIND, value=self._behind)

    def refresh(self) -> None:
        """Have the state of the database read, in a thread."""
        self._refresh_at = time.monotonic() + REFRESH_SECONDS
        self.database.submit(self._read_state)

    def _read_state(self, engine: Engine) -> None:
        try:
            self._behind = is_behind(engine)
            self._up = True
        except SQLAlchemyError as error:
            if self._up is not False:
                logger.warning("The database of feedback: %s", describe(error))
            self._up = False


def router(
    settings: FeedbackSettings,
    metrics: FeedbackMetrics,
    instance: type[BaseModel],
    labelled: type[BaseModel],
) -> APIRouter:
    """Return the endpoint, for a contract."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        metrics.refresh()
        yield
        metrics.database.close()

    api = APIRouter(prefix="/v1", redirect_slashes=False, lifespan=lifespan)
    request_type: Any = make_request(instance, labelled)
    version = items.contract_version(instance, labelled)

    async def feedback(body: Any, request: Request, response: Response) -> Any:
        """Store what is said of predictions: 201 if anything is new, else 200.

        A 503 may be sent again as it is: each item is stored once.
        """
        tenant = request.scope.get(TENANT, "")
        rows = [
            items.to_row(
                item, tenant, version, with_instance=settings.feedback_instances
            )
            for item in body.feedback
        ]
        try:
            new = await metrics.database.call(lambda engine: store.save(engine, rows))
        except store.Conflict as conflict:
            raise make_conflict(rows, conflict) from None
        except Unavailable as error:
            metrics.record_failure()
            logger.warning("Feedback was not stored: %s", error)
            raise unavailable(
                UNAVAILABLE, "The database does not answer. Send the same again."
            ) from None
        for row in {row["id"]: row for row in rows}.values():
            if row["id"] in new:
                metrics.record_item(items.agrees(row))
        response.status_code = 201 if new else 200
        known = len({row["id"] for row in rows}) - len(new)
        return FeedbackResponse(stored=len(new), known=known)

    feedback.__annotations__ |= {"body": request_type, "return": FeedbackResponse}
    responses = documented(409, 503)
    responses[201] = {"model": FeedbackResponse, "description": "Stored"}
    api.post("/feedback", responses=responses)(feedback)
    return api


def make_conflict(rows: list[items.Row], conflict: store.Conflict) -> ProblemError:
    """Return a 409 that points at the items whose ids are taken."""
    mistakes = [
        InvalidField(
            pointer=f"/feedback/{number}/id",
            detail="Is stored with another content: make a new id for each item",
        )
        for number, row in enumerate(rows)
        if row["id"] in conflict.ids
    ]
    return ProblemError(
        CONFLICT, "Nothing of this request was stored.", errors=mistakes
    )
